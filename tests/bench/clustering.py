"""Ten restarts of k-means on the rows of one class: ours, scikit-learn's, faiss's, and all distances at once."""
from __future__ import annotations

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


def fits(X: np.ndarray, n: int, seeds: int = 3) -> dict[str, dict[str, float]]:
    """name -> of ten restarts seconds, times ours, rows a second, and inertia over scikit-learn's in percent.

    Medians over seeds, in turns, of scikit-learn and faiss with the better of one thread and n: see `fit_ratios`. One
    start of all distances at once is timed, on one thread, times ten. A row counts each time that scikit-learn's best
    start visits it, times ten starts.
    """
    measured = fit_ratios(X, PER_CLASS, RESTARTS, seeds, sorted({1, n}))
    found = {name: (min(each["seconds"].values()), float(np.median(each["inertia"])))
             for name, each in measured.items()}
    iterations = KMeans(PER_CLASS, n_init=RESTARTS, random_state=0).fit(X).n_iter_
    start = perf_counter()
    all_distances_at_once(X, PER_CLASS, iterations)
    found["all distances at once"] = RESTARTS * (perf_counter() - start), None
    visits, ours = RESTARTS * iterations * len(X), found["ours"][0]
    return {name: {"seconds": took, "times ours": took / ours, "rows a second": visits / took, "inertia, %": inertia}
            for name, (took, inertia) in found.items()}
