"""What ten restarts of k-means cost: ours, which share each pass over the rows, beside scikit-learn's.

    PYTHONPATH=. python tests/bench/fit.py ROWS.npy [SEEDS]     prints the numbers as JSON
"""
from __future__ import annotations

import json
import sys
import tracemalloc
from time import perf_counter

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from paperlib.scaling.restarts import RestartKMeans


def fit_ratios(X: np.ndarray, k: int = 10, n_init: int = 10, seeds: int = 20, threads=(1, 2)) -> dict:
    """Of rows X (m, D), in turns, seed after seed: what ours takes and finds in units of scikit-learn's.

    seconds: medians, by name. speedup: scikit-learn's seconds over ours, the median over seeds, with the number of
    threads that suits it best. inertia: ours over theirs less 1, in percent, by seed. extra_bytes: the most that ours
    took beside the rows, over the rows' own.
    """
    ours, theirs = RestartKMeans(k, n_init=n_init), KMeans(k, n_init=n_init)
    ways = {"ours": (ours, 1), **{f"scikit-learn, threads={n}": (theirs, n) for n in threads}}
    seconds, inertia = {name: [] for name in ways}, {name: [] for name in ways}
    for seed in range(seeds):
        for name, (model, n) in ways.items():
            with threadpool_limits(n):
                start = perf_counter()
                inertia[name].append(model.set_params(random_state=seed).fit(X).inertia_)
                seconds[name].append(perf_counter() - start)
    tracemalloc.start()
    ours.fit(X)
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    best = min(list(ways)[1:], key=lambda name: np.median(seconds[name]))
    ratio = np.array(inertia["ours"]) / inertia[best] - 1
    return {"rows": list(X.shape), "seconds": {name: float(np.median(took)) for name, took in seconds.items()},
            "speedup": float(np.median(np.array(seconds[best]) / seconds["ours"])), "against": best,
            "inertia": [float(x) for x in 100 * ratio], "extra_bytes": extra / X.nbytes}


if __name__ == "__main__":
    print(json.dumps(fit_ratios(np.load(sys.argv[1]), seeds=int((sys.argv[2:] or [3])[0])), indent=1))
