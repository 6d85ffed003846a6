"""Ten restarts of k-means on the rows of one class: ours, scikit-learn's, faiss's, and all distances at once."""
from __future__ import annotations

from importlib.util import find_spec
from time import perf_counter

import numpy as np
import torch
from sklearn.cluster import KMeans

from paperlib.datasets import birds
from paperlib.datasets.pictures import Pictures

from . import explaining
from .fit import fit_ratios

PER_CLASS, RESTARTS, PICTURES = 10, 10, 8


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
    """The inertia of faiss's k-means; the lock has no faiss, so it is measured where somebody has installed it."""
    import faiss
    model = faiss.Kmeans(X.shape[1], k, niter=iterations, nredo=restarts, seed=1, max_points_per_centroid=len(X))
    model.train(X)
    return float(np.square(X - model.centroids[model.index.search(X, 1)[1][:, 0]]).sum())


def fits(X: np.ndarray, n: int, seeds: int = 3) -> dict[str, dict[str, float]]:
    """name -> of ten restarts seconds, times ours, rows a second, and inertia over scikit-learn's in percent.

    Ours and scikit-learn, with the better of one thread and n, are medians over seeds, in turns: see `fit_ratios`. One
    start of all distances at once is timed, on one thread, times ten. A row counts each time that scikit-learn's best
    start visits it, times ten starts.
    """
    measured = fit_ratios(X, PER_CLASS, RESTARTS, seeds, sorted({1, n}))
    seconds = {"ours": measured["seconds"]["ours"], "scikit-learn": measured["seconds"][measured["against"]]}
    inertia = {"ours": float(np.median(measured["inertia"])), "scikit-learn": 0.0}
    best = KMeans(PER_CLASS, n_init=RESTARTS, random_state=0).fit(X)
    if find_spec("faiss"):
        start = perf_counter()
        inertia["faiss"] = 100 * (faiss_kmeans(X, PER_CLASS, RESTARTS) / best.inertia_ - 1)
        seconds["faiss"] = perf_counter() - start
    start = perf_counter()
    all_distances_at_once(X, PER_CLASS, best.n_iter_)
    seconds["all distances at once"] = RESTARTS * (perf_counter() - start)
    visits = RESTARTS * best.n_iter_ * len(X)
    return {name: {"seconds": took, "times ours": took / seconds["ours"], "rows a second": visits / took,
                   "inertia, %": inertia.get(name)} for name, took in seconds.items()}
