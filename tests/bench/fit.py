"""What ten restarts of k-means cost: ours, which share each pass over the rows, beside scikit-learn's and faiss's.

    PYTHONPATH=. python tests/bench/fit.py ROWS.npy [SEEDS]     prints the numbers as JSON
"""
from __future__ import annotations

import json
import sys
import tracemalloc
from functools import partial
from importlib.util import find_spec
from time import perf_counter

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from paperlib.scaling.restarts import RestartKMeans, nearest


def faiss_centres(X: np.ndarray, k: int, restarts: int, iterations: int, seed: int = 0) -> np.ndarray:
    """The best restart's centres (k, D) by faiss's k-means, of all rows and not of 256 a cluster, its default."""
    import faiss
    model = faiss.Kmeans(X.shape[1], k, niter=iterations, nredo=restarts, seed=seed, max_points_per_centroid=len(X))
    model.train(X)
    return model.centroids


def fit_ratios(X: np.ndarray, k: int = 10, n_init: int = 10, seeds: int = 20, threads=(1, 2)) -> dict[str, dict]:
    """Of rows X (m, D), in turns, seed after seed, what each library takes and finds beside ours on one thread.

    seconds: medians over seeds, by number of threads. speedup: the library's seconds over ours, the median over seeds,
    with the threads that suit it best. inertia: over scikit-learn's less 1, in percent, by seed. Of ours extra_bytes,
    too: the most that it took beside the rows, over the rows' own. faiss, where it is installed, makes as many
    iterations as ours passes.
    """
    ours = RestartKMeans(k, n_init=n_init)

    def fit(model, seed):
        return model.set_params(random_state=seed).fit(X).cluster_centers_

    ways = {"ours": partial(fit, ours), "scikit-learn": partial(fit, KMeans(k, n_init=n_init))}
    if find_spec("faiss"):
        ways["faiss"] = lambda seed: faiss_centres(X, k, n_init, ours.n_iter_, seed)
    seconds = {(name, n): [] for name in ways for n in ((1,) if name == "ours" else threads)}
    inertia = {name: np.empty(seeds) for name in ways}
    for seed in range(seeds):
        for name, n in seconds:
            with threadpool_limits(n):
                start = perf_counter()
                centres = ways[name](seed)
                seconds[name, n].append(perf_counter() - start)
            inertia[name][seed] = nearest(X, centres)[1]
    found = {}
    for name in ways:
        took = {n: float(np.median(each)) for (library, n), each in seconds.items() if library == name}
        best = np.array(seconds[name, min(took, key=took.get)])
        found[name] = {"seconds": took, "speedup": float(np.median(best / seconds["ours", 1])),
                       "inertia": [float(x) for x in 100 * (inertia[name] / inertia["scikit-learn"] - 1)]}
    tracemalloc.start()
    ours.fit(X)
    found["ours"]["extra_bytes"] = tracemalloc.get_traced_memory()[1] / X.nbytes
    tracemalloc.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(fit_ratios(np.load(sys.argv[1]), seeds=int((sys.argv[2:] or [3])[0])), indent=1))
