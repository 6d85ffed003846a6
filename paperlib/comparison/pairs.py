"""Two explainers or methods on the same pictures, as notebooks 06 and 07 compare them: scores, maps, prototypes."""
from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.utils import check_array
from sklearn.utils.validation import column_or_1d

from paperlib.comparison.scores import interval
from paperlib.guards import as_array

MANY = 2**16  # kinds of cells of which each may have a counter
LIMIT = 3  # errors: a difference of less cannot be seen

def paired_difference(first, other) -> tuple[float, float]:
    """Mean of other - first on the same pictures, and its standard error: (difference, error).

    first, other (n,): 1 where an explainer's prediction is correct, else 0 (or any score of each picture). The error
    is that of the mean of the differences, picture by picture: where both are correct or both wrong nothing varies, so
    it is smaller than that of two accuracies on pictures of their own. It is what another draw of pictures changes.
    Raises ValueError for unequal lengths or fewer than two pictures.
    """
    first, other = np.asarray(as_array(first), dtype=np.float64), np.asarray(as_array(other), dtype=np.float64)
    if first.shape != other.shape or first.ndim != 1 or len(first) < 2:
        shapes = f"first {first.shape} and other {other.shape}"
        raise ValueError(f"{shapes} must be scores of the same two or more pictures.")
    difference = other - first
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def at_least_one_picture(error: float, n: int) -> float:
    """The error of a difference of two accuracies on n pictures, in points, but no less than one picture's, 100 / n.

    Where no picture tells two explainers apart the error is zero, and yet others may: with a chance of 95 % fewer than
    3 / n of all pictures do (the "rule of three"), which is `LIMIT` times 1 / n.
    """
    return max(error, 100 / n)


def compared(gaps: Mapping[Hashable, np.ndarray], flips: int = 20_000, seed: int = 0) -> dict[Hashable, dict]:
    """Many comparisons at once. gaps: name -> differences of two scores, picture by picture, (n,), NaN left out.

    Returns name -> {difference: their mean; limit: `LIMIT` standard errors, less cannot be seen on these pictures by
    this comparison alone; p: that of so large a mean if each picture's difference had its sign by chance (`flips`
    drawings), by Holm's method corrected for the number of comparisons; pictures: n}. Raises ValueError for fewer
    than two pictures.
    """
    found, signs = {}, {}
    for name, gap in gaps.items():
        gap = np.asarray(gap, dtype=float)[np.isfinite(gap)]
        if len(gap) < 2:
            raise ValueError(f"{name} has {len(gap)} pictures with both scores: a comparison needs two or more.")
        n = len(gap)
        if n not in signs:
            signs[n] = np.random.default_rng(seed).integers(0, 2, (flips, n), dtype=np.int8).astype(np.float32) * 2 - 1
        as_far = np.abs(signs[n] @ gap) >= np.abs(gap.sum()) * (1 - 1e-9)
        found[name] = {"difference": gap.mean(), "limit": LIMIT * gap.std(ddof=1) / np.sqrt(n),
                       "p": (1 + as_far.sum()) / (1 + flips), "pictures": n}
    for row, p in zip(found.values(), holm([row["p"] for row in found.values()]), strict=True):
        row["p"] = float(p)
    return found


def holm(p) -> np.ndarray:
    """Holm's (1979) correction of p-values (m,) for their number: the smallest times m, the next times m - 1, ..."""
    p = np.asarray(p, dtype=float)
    order = p.argsort()
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected


def sign_of_difference(a, b, seed: int = 0) -> int:
    """1 if score a is above b on the same pictures, -1 if it is below, 0 if the two cannot be told apart.

    a, b (n,): told apart are those whose mean difference has a 95 % bootstrap interval without zero.
    """
    gap = np.asarray(a) - np.asarray(b)
    if not np.nanmax(np.abs(gap)) > 0:
        return 0
    low, high = interval(gap, seed)
    return int(low > 0) - int(high < 0)


def connectedness(s) -> np.ndarray:
    """Share of a map's cells that lie in the largest piece of their concept: s (n, H, W) whole numbers -> (n,).

    A piece is a connected component: cells of one concept that touch along an edge. At 1 each concept is one piece;
    scattered ones bring it down. A concept of one cell is one piece, so compare maps with about as many concepts.
    Raises ValueError for another shape.
    """
    s = _maps(s, "s")
    pixel = np.arange(s.size).reshape(s.shape)
    down, right = s[:, 1:] == s[:, :-1], s[:, :, 1:] == s[:, :, :-1]
    a = np.concatenate([pixel[:, :-1][down], pixel[:, :, :-1][right]])
    b = np.concatenate([pixel[:, 1:][down], pixel[:, :, 1:][right]])
    n_pieces, piece = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(s.size, s.size)), directed=False)
    first = np.unique(piece, return_index=True)[1]  # a cell of each piece: its map and concept are the piece's
    ids, place = np.unique(s.ravel()[first], return_inverse=True)
    largest = np.zeros((len(s), len(ids)))
    np.maximum.at(largest, (first // s[0].size, place), np.bincount(piece, minlength=n_pieces))
    return largest.sum(axis=1) / s[0].size


def framed(s) -> np.ndarray:
    """How far a concept is but the map's frame: s (n, H, W) whole numbers -> (n,), the largest overlap, as IoU, of a
    concept with the outermost cells. At 1 a concept is the frame."""
    return np.max(_on_the_frame(_maps(s, "s")), axis=0)


def frame_concept(s) -> np.ndarray:
    """Where on each map the concept is that fits the outermost cells best: s (n, H, W) whole numbers -> bool."""
    s = _maps(s, "s")
    return s == np.unique(s)[np.argmax(_on_the_frame(s), axis=0)][:, None, None]


def _on_the_frame(s) -> list[np.ndarray]:
    """For each concept its overlap, as IoU, with the outermost cells of each map, (n,)."""
    outer = np.ones(s.shape[1:], dtype=bool)
    outer[1:-1, 1:-1] = False
    mine = [(s == k) for k in np.unique(s)]
    return [(m & outer).sum((1, 2)) / (m | outer).sum((1, 2)) for m in mine]


def map_agreement(s, other) -> np.ndarray:
    """Adjusted Rand index of two maps of each picture: s (n, H, W), other (n, h, w) whole numbers -> (n,).

    It counts the pairs of cells on whose sharing a concept both maps agree, and subtracts what chance gives: 1 for
    equal segments, whatever their numbers; about 0 for unrelated ones. The coarser map is stretched, nearest cell, to
    the finer one's size. Raises ValueError for another shape, or maps of which neither is the finer both ways.
    """
    s, other = _maps(s, "s"), _maps(other, "other")
    if len(s) != len(other):
        raise ValueError(f"s has maps of {len(s)} pictures and other of {len(other)}: give the same pictures' maps.")
    size = max(s.shape[1:], other.shape[1:])
    a, b = (_stretched(x, size).reshape(len(s), -1) for x in (s, other))
    both, first, second = _pairs(a, b), _pairs(a), _pairs(b)
    chance = first * second / np.maximum(_pairs(np.zeros_like(a)), 1)
    scale = (first + second) / 2 - chance
    return np.where(scale == 0, 1.0, (both - chance) / np.where(scale == 0, 1.0, scale))


def _pairs(*maps):
    """Number of pairs of cells of one picture that share their concept in each of the maps (n, R) -> (n,)."""
    key = 0
    for m in maps:
        few = np.ptp(m) < MANY
        ids = m.astype(np.int64) - m.min() if few else np.unique(m, return_inverse=True)[1].reshape(m.shape)
        key = key * (ids.max() + 1) + ids
    counts = [np.bincount(row) if key.max() < MANY else np.unique(row, return_counts=True)[1] for row in key]
    return np.array([(count * (count - 1)).sum() / 2 for count in counts])


def _maps(s, name):
    s = np.asarray(as_array(s))
    if s.ndim != 3 or s.size == 0 or s.dtype.kind not in "iu":
        raise ValueError(f"{name} must be non-empty maps (n, H, W) of whole numbers, but is {s.shape} of {s.dtype}.")
    return s


def _stretched(s, size):
    """Maps (n, h, w) at a size (H, W), by the cell that lies there."""
    if s.shape[1] > size[0] or s.shape[2] > size[1]:
        raise ValueError(f"maps of {s.shape[1:]} and {size}: one must be at least as fine as the other both ways.")
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, s.shape[1:], strict=True))
    return s[:, rows][:, :, columns]


def prototype_shift(prototypes, others, prototype_labels) -> np.ndarray:
    """Distance of each prototype to its counterpart in another fit, (K,), in units of its class's spacing.

    prototypes, others (K, D), both with the classes prototype_labels (K,). Within a class the two sets are matched one
    to one so that the sum of l2 distances is least. The unit is the mean distance of the class's prototypes to their
    nearest fellow: at 0.5 a prototype has gone half the way to a neighbour's place, if it went straight there.
    Raises ValueError for wrong shapes, or a class with one prototype, or with prototypes that coincide (no unit).
    """
    P, Q, labels = _prototypes(prototypes, others, prototype_labels)
    shift = np.empty(len(P))
    for c in np.unique(labels):
        mine = labels == c
        apart = cdist(P[mine], P[mine]) + np.diag(np.full(mine.sum(), np.inf))
        unit = apart.min(axis=1).mean()
        if not 0 < unit < np.inf:
            raise ValueError(f"class {c} needs two or more different prototypes: there is no distance to compare with.")
        away = cdist(P[mine], Q[mine])
        shift[mine] = away[linear_sum_assignment(away)] / unit
    return shift


def counterparts(prototypes, others, prototype_labels) -> np.ndarray:
    """The number of the prototype that each of `others` is matched with, (K,): as `prototype_shift` matches them.

    With s and t the maps of two explainers of one network, cells where s == counterparts[t] show the same concept.
    Raises ValueError for wrong shapes.
    """
    P, Q, labels = _prototypes(prototypes, others, prototype_labels)
    found = np.empty(len(P), dtype=int)
    for c in np.unique(labels):
        mine = np.flatnonzero(labels == c)
        first, second = linear_sum_assignment(cdist(P[mine], Q[mine]))
        found[mine[second]] = mine[first]
    return found


def _prototypes(prototypes, others, prototype_labels):
    P = check_array(as_array(prototypes), dtype=np.float64, input_name="prototypes")
    Q = check_array(as_array(others), dtype=np.float64, input_name="others")
    labels = column_or_1d(as_array(prototype_labels))
    if P.shape != Q.shape or len(labels) != len(P):
        raise ValueError(f"prototypes {P.shape}, others {Q.shape} and labels ({len(labels)},) do not fit one another.")
    return P, Q, labels


def contrast(m: torch.Tensor) -> torch.Tensor:
    """A map's standard deviation as a share of its mean: (n, pixels) -> (n,)."""
    return m.std(1) / m.mean(1).abs()


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two maps of each picture, (n, pixels) -> (n,); not a number where one is flat."""
    together = ((a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))).mean(1)
    flat = torch.minimum(contrast(a), contrast(b)) < 1e-4
    return torch.where(flat, torch.nan, together / (a.std(1, False) * b.std(1, False)))
