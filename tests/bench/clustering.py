"""Ten restarts of k-means on the rows of one class: ours, scikit-learn's, faiss's, and all distances at once."""
from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.cluster import KMeans

from paperlib.datasets import birds
from paperlib.datasets.pictures import Pictures
from paperlib.kmex import make_clusterer

from . import explaining, timing

PER_CLASS, RESTARTS, PICTURES = 10, 10, 8
NO_FAISS = "faiss is not installed, so it was not measured; `pip install faiss-cpu` beside the locked packages adds it."


def rows(pictures: int = PICTURES, size: int = explaining.SIZE) -> np.ndarray:
    """Rows of eq. 8 of drawn birds of one species, B234 of a ResNet34: (pictures R', 896) float32."""
    images, _, labels, _ = birds.draw_set(pictures, size=size, species=1)
    x = Pictures(torch.as_tensor(images).permute(0, 3, 1, 2), labels).batch(range(pictures))
    net = explaining.network()
    with torch.no_grad():
        q = explaining.ConceptExplainer((2, 3, 4)).compose(net.features(x))
    return q.flatten(0, 2).numpy()


def all_distances_at_once(X: np.ndarray, k: int, iterations: int, seed: int = 0) -> np.ndarray:
    """Centres of Lloyd's algorithm as it is often published: all (m, k, D) differences in one array."""
    centres = X[np.random.default_rng(seed).choice(len(X), k, replace=False)]
    for _ in range(iterations):
        s = np.square(X[:, None] - centres[None]).sum(axis=2).argmin(axis=1)
        centres = np.stack([X[s == j].mean(axis=0) if (s == j).any() else centres[j] for j in range(k)])
    return centres


def faiss_kmeans(X: np.ndarray, k: int, restarts: int, iterations: int = 25) -> float:
    """faiss's k-means; its inertia."""
    import faiss
    model = faiss.Kmeans(X.shape[1], k, niter=iterations, nredo=restarts, seed=1, max_points_per_centroid=len(X))
    model.train(X)
    return float(np.square(X - model.centroids[model.index.search(X, 1)[1][:, 0]]).sum())


def fits(X: np.ndarray, n: int, rounds: int = 1) -> dict[str, dict[str, float]]:
    """name -> of ten restarts seconds, times ours, rows a second, and inertia less scikit-learn's in percent of it.

    Each takes the better of one thread and n. One start of all distances at once is timed, on one thread, times ten.
    A row counts each time that scikit-learn's best start visits it, times ten starts.
    """
    inertia = {}

    def fit(name, make, threads):
        with timing.threads(threads):
            inertia[name] = make()
    reference = partial(KMeans, PER_CLASS, n_init=RESTARTS)
    ours = make_clusterer(None, RESTARTS).set_params(n_clusters=PER_CLASS)
    methods = {"scikit-learn": lambda: reference(random_state=0).fit(X).inertia_,
               "ours": lambda: ours.set_params(random_state=0).fit(X).inertia_}
    if find_spec("faiss"):
        methods["faiss"] = lambda: faiss_kmeans(X, PER_CLASS, RESTARTS)
    timed = {(name, t): partial(fit, name, make, t) for name, make in methods.items() for t in sorted({1, n})}
    found = {key: float(np.median(took)) for key, took in timing.in_turns(timed, rounds, warm=0).items()}
    seconds = {name: min(found[name, t] for t in {1, n}) for name in methods}
    turns = int(reference(random_state=0).fit(X).n_iter_)
    once = timing.in_turns({"": partial(all_distances_at_once, X, PER_CLASS, turns)}, 1, warm=0)[""][0]
    seconds["all distances at once"] = RESTARTS * float(once)
    visited = RESTARTS * turns * len(X)
    return {name: {"seconds": took, "times ours": took / seconds["ours"], "rows a second": visited / took,
                   "inertia, %": 100 * (inertia[name] / inertia["scikit-learn"] - 1) if name in inertia else None}
            for name, took in seconds.items()}
