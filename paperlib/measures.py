"""Section 4: the numbers of Table 1 (cosines), Table 2 (accuracies), and those behind Figure 2 (distances)."""

from __future__ import annotations

import numpy as np

from paperlib.guards import as_array, check_option

# The published numbers. Table 1: (class, out) cosines. Table 2: (train, test) accuracies in percent, of five runs.
TABLE1 = {
    "CNN": {"mnist": (0.48, -0.05), "stl10": (0.46, -0.04), "cub200": (0.51, 0.00)},
    "KMEx (K/C=1)": {"mnist": (0.88, 0.32), "stl10": (0.79, 0.42), "cub200": (0.93, 0.47)},
    "KMEx (K/C=5)": {"mnist": (0.83, 0.30), "stl10": (0.84, 0.34), "cub200": (0.87, 0.45)},
    "ProtoPNet": {"mnist": (1.00, 1.00), "stl10": (0.95, 0.92), "cub200": (0.98, 0.97)},
}
TABLE2 = {
    "CNN": {"mnist": (100.0, 99.4), "stl10": (95.6, 86.1), "cub200": (100.0, 79.1)},
    "KMEx": {"mnist": (100.0, 99.4), "stl10": (94.9, 85.6), "cub200": (100.0, 78.6)},
    "ProtoPNet": {"mnist": (100.0, 99.4), "stl10": (74.2, 72.7), "cub200": (99.4, 66.4)},
    "B4": {"mnist": (100.0, 99.4), "stl10": (94.0, 85.5), "cub200": (100.0, 75.2)},
    "B234": {"mnist": (98.9, 98.5), "stl10": (83.5, 77.9), "cub200": (85.5, 52.8)},
}


# Table 1: the cosines (n, m) that count, of points Z (n, D) with one class's prototypes P (m, D).
PAIRINGS = {
    "all": lambda cosine, Z, P: cosine,
    "nearest": lambda cosine, Z, P: np.take_along_axis(cosine, _nearest(Z, P), axis=1),
}


def per_class_cosines(prototypes, prototype_labels, Z, y, pairing="all") -> tuple[np.ndarray, np.ndarray]:
    """Average cosine of each class's prototypes with embeddings of that class, and of the others (Table 1).

    prototypes (K, D) with labels (K,), embeddings Z (n, D) with labels y (n,) -> (class (C,), out (C,)), ordered by
    label. "class" pairs the prototypes of c with the points of c, "out" with those of all other classes. pairing "all"
    averages over every pair; "nearest" keeps, for each point, only its nearest prototype of c (l2 distance).
    Raises ValueError for wrong shapes, NaN, a zero vector (it has no direction), a single class, or prototypes and
    points whose labels differ.
    """
    from sklearn.preprocessing import normalize  # here, for to import scikit-learn takes as long as torch
    check_option("pairing", pairing, PAIRINGS)
    P, labels, Z, y = _check(prototypes, prototype_labels, Z, y)
    _check_directions(P, labels, Z, y)
    unit_P, unit_Z = normalize(P), normalize(Z)
    own, out = [], []
    for c in np.unique(y):
        cosine = PAIRINGS[pairing](unit_Z @ unit_P[labels == c].T, Z, P[labels == c])
        own.append(cosine[y == c].mean())
        out.append(cosine[y != c].mean())
    return np.array(own), np.array(out)


def prototype_cosines(prototypes, prototype_labels, Z, y, pairing="all") -> tuple[float, float]:
    """One model's pair of numbers in Table 1: means over classes of `per_class_cosines` -> (class, out).

    For the CNN, prototypes are the classifier's columns, C.T, and prototype_labels their classes.
    """
    own, out = per_class_cosines(prototypes, prototype_labels, Z, y, pairing)
    return float(own.mean()), float(out.mean())


def prototype_distances(prototypes, prototype_labels, Z, y) -> tuple[np.ndarray, np.ndarray]:
    """How near prototypes lie to their class, without a projection (Figure 2) -> (relative (K,), own (K,) bool).

    prototypes (K, D) with labels (K,), points Z (n, D) with labels y (n,). relative: l2 distance of a prototype to the
    nearest point of its class, in units of that class's median distance from a point to its nearest fellow: at 1 the
    prototype is as near as points are to one another. own: True where the nearest of all points is of its class.
    Raises ValueError for wrong shapes, NaN, a label that no point has, or a class with a single point or whose points
    mostly coincide (it has no unit of distance).
    """
    from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min
    P, labels, Z, y = _check(prototypes, prototype_labels, Z, y)
    relative = np.empty(len(P))
    for c in np.unique(labels):
        points, mine = Z[y == c], labels == c
        unit = _spacing(points, c)
        relative[mine] = pairwise_distances_argmin_min(P[mine], points)[1] / unit
    return relative, y[pairwise_distances_argmin(P, Z)] == labels


def _spacing(points, c):
    """Median l2 distance of a point (n, D) of class c to its nearest fellow."""
    from sklearn.neighbors import NearestNeighbors
    if len(points) < 2:
        raise ValueError(f"class {c} has {len(points)} points in Z: it needs two or more to measure with.")
    spacing = np.median(NearestNeighbors(n_neighbors=1).fit(points).kneighbors()[0])
    if spacing == 0:
        raise ValueError(f"class {c}: most of its points coincide with another: there is no distance to compare with.")
    return spacing


def over_runs(runs) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation over runs (Table 2: five) of the numbers of each row.

    runs: one dict per run, row -> m numbers. Gives row -> (mean (m,), sd (m,)); the sd is that of a sample (n - 1),
    and 0 for one run. Raises ValueError for no runs, and for runs with different rows.
    """
    if not runs or any(list(run) != list(runs[0]) for run in runs):
        raise ValueError("runs must be one or more dicts with the same rows: a mean needs each row in every run.")
    numbers = {row: np.array([run[row] for run in runs], dtype=float) for row in runs[0]}
    return {row: (x.mean(0), x.std(0, ddof=1) if len(x) > 1 else np.zeros_like(x[0])) for row, x in numbers.items()}


def accuracy(y_true, y_pred) -> float:
    """Fraction of correct predictions (Table 2), labels not matched. Raises ValueError for empty or unequal input."""
    y_true, y_pred = np.asarray(as_array(y_true)), np.asarray(as_array(y_pred))
    if y_true.shape != y_pred.shape or y_true.ndim != 1 or y_true.size == 0:
        raise ValueError(f"labels {y_true.shape} and predictions {y_pred.shape} must be one each of the same images.")
    return float((y_true == y_pred).mean())


def _nearest(Z, P):
    """Index (n, 1) of each point's nearest prototype; ||z||^2 is the same for all of them and left out."""
    return ((P**2).sum(axis=1) - 2 * Z @ P.T).argmin(axis=1)[:, None]


def _check(P, labels, Z, y):
    """All as arrays, P and Z as float64: the nearest prototype is found by a difference of squares."""
    from sklearn.utils import check_array, check_consistent_length, column_or_1d
    P, Z = (check_array(as_array(x), dtype=np.float64, input_name=n) for x, n in ((P, "prototypes"), (Z, "Z")))
    labels, y = column_or_1d(as_array(labels)), column_or_1d(as_array(y))
    check_consistent_length(P, labels)
    check_consistent_length(Z, y)
    if P.shape[1] != Z.shape[1]:
        raise ValueError(f"prototypes have {P.shape[1]} dimensions and Z has {Z.shape[1]}: they must share one space.")
    return P, labels, Z, y


def _check_directions(P, labels, Z, y):
    for name, x in (("prototypes", P), ("Z", Z)):
        if not x.any(axis=1).all():
            raise ValueError(f"{name} holds a zero vector, whose cosine is not defined: remove it first.")
    if set(labels.tolist()) != set(y.tolist()):
        raise ValueError("prototype_labels and y must name the same classes: select the prototypes of those in y.")
    if len(set(y.tolist())) < 2:
        raise ValueError("y has one class only: cosines with points of other classes need at least two.")
