"""The paper's open choices, one at a time: explainers that differ from the default in one option (notebook 06).

A `Board` fits them on the same few training pictures and compares them on the same test pictures. `study` is a
`runs.study.Study`. `choose` chooses a penalty on validation pictures (notebook 08).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from paperlib import guards
from paperlib.attribution import upstream
from paperlib.comparison import pairs

ACCURACY, CONCEPTS, CONNECTED, SAME = "accuracy, %", "concepts among all K", "connected", "same map"
SWITCHES = {  # row -> option -> arguments of the explainer that differ from the default
    "norm (eq. 8)": {"row": {}, "tensor": {"norm": "tensor"}, "none": {"norm": "none"}},
    "block weight (eq. 8)": {
        "$1/D_b$": {}, "$1/(1+D_b)$": {"block_weight": "inv_dim_plus_one"},
        "$1/\\sqrt{D_b}$": {"block_weight": "inv_sqrt_dim"}, "none": {"block_weight": "none"},
        "$D_b$": {"block_weight": "dim"}},
    "interpolation (eq. 7)": {"bilinear": {}, "bicubic": {"mode": "bicubic"}},
    "vote (eq. 10)": {"class": {}, "cluster": {"vote": "cluster"}},
}
EXPONENTS = {"-1.5": -1.5, "-1": "inv_dim", "-0.5": "inv_sqrt_dim", "0": "none", "0.5": 0.5, "1": "dim"}


def key(differs: Mapping) -> str:
    """One name for an explainer, whichever row it stands in."""
    return str(sorted(differs.items()))


DEFAULT = key({})


@dataclass(frozen=True)
class Board:
    """Explainers that differ from the default in one option each, and what they say about the same test pictures.

    train_per_class, test_per_class: pictures of each class that they are fitted on and compared on; 0: all.
    """

    study: object
    train_per_class: int = 8
    test_per_class: int = 0

    @property
    def title(self) -> str:
        return self.study.data.title

    @property
    def smallest(self) -> int:
        """The number of training pictures of the smallest class."""
        return int(self.study.data.train.labels.bincount().min())

    @property
    def fitted_on(self) -> int:
        """The number of training pictures of each class that explainers are fitted on."""
        return min(self.train_per_class or self.smallest, self.smallest)

    @property
    def tests(self):
        """The test pictures that explainers are compared on."""
        return self.study.data.test.subset(self.test_per_class)

    @property
    def default(self) -> dict:
        """The arguments of `study.explainer`; part (m, 0) is the first m of each class in a drawn order."""
        part = (self.fitted_on, 0) if self.train_per_class else (0, 0)
        return {"depth": min(3, len(self.study.trained.blocks)), "part": part}

    def name(self, depth: int) -> str:
        """B4, B34, B234, ... as the paper calls the last `depth` blocks."""
        last = len(self.study.trained.blocks)
        return "B" + "".join(str(b) for b in range(last - depth + 1, last + 1))

    def explainer(self, differs: Mapping):
        """The fitted explainer that differs from the default in these arguments."""
        return self.study.explainer(**{**self.default, **differs})

    @cached_property
    def grids(self) -> list[tuple[int, int]]:
        """Sizes (H', W') of the default's map, and of the last block's."""
        features = self.study.trained.features(self.study.data.test.batch([0]))
        return [tuple(features[-depth].shape[-2:]) for depth in (self.default["depth"], 1)]

    @cached_property
    def rows(self) -> dict[str, dict[str, dict]]:
        """All that is compared: row -> option -> what differs from the default."""
        first = {f"pictures, {name}": parts(self, differs) for name, differs in ends(self).items()}
        second = {f"other pictures, {name}": {} if "factor" in name else parts(self, differs, True)
                  for name, differs in ends(self).items()}
        again = {f"seed, {name}": {seed: {**differs, **each} for seed, each in seeds(self.study.seed).items()}
                 for name, differs in ends(self, all_depths=True).items()}
        exponents = {e: {} if weight == "inv_dim" else {"block_weight": weight} for e, weight in EXPONENTS.items()}
        return {**_switches(self), "exponent": exponents, "depth": _depths(self), **first, **second, **again}

    @cached_property
    def differs(self) -> dict[str, dict]:
        """The explainer's `key` -> what differs from the default."""
        return {key(d): d for options in self.rows.values() for d in options.values()}

    @cached_property
    def keys(self) -> dict[str, dict[str, str]]:
        """row -> option -> the explainer's `key`."""
        return {row: {option: key(d) for option, d in options.items()} for row, options in self.rows.items()}

    @cached_property
    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """What `Study.compare` reads of each explainer, by its `key`, and of "CNN". Explainers are fitted first."""
        distinct = {name: {**self.default, **d} for name, d in self.differs.items()}
        return self.study.compare(distinct, self.test_per_class)

    @cached_property
    def pictures(self) -> dict[str, dict[str, np.ndarray]]:
        """key -> measure -> (n,): the four measures of each picture."""
        default = self.read[DEFAULT]["map"]
        return {name: {ACCURACY: 100 * each["correct"], CONCEPTS: each["concepts"],
                       CONNECTED: pairs.connectedness(each["map"]), SAME: pairs.map_agreement(default, each["map"])}
                for name, each in self.read.items() if name != "CNN"}

    @cached_property
    def means(self) -> dict[str, dict[str, float]]:
        """key -> measure -> mean over pictures."""
        return {name: {what: float(x.mean()) for what, x in each.items()} for name, each in self.pictures.items()}

    def row(self, row: str) -> dict[str, dict[str, float]]:
        """option -> measure -> mean."""
        return {option: self.means[name] for option, name in self.keys[row].items()}

    @cached_property
    def luck(self) -> dict[str, dict[str, float]]:
        """depth, as `ends` names it -> the standard deviation over seeds of k-means of accuracy and of the same map."""
        found = {}
        for name in ends(self, all_depths=True):
            first, *other = self.keys[f"seed, {name}"].values()
            found[name] = {ACCURACY: np.std([self.means[s][ACCURACY] for s in (first, *other)], ddof=1),
                           SAME: np.std([self.alike(first, s).mean() for s in other], ddof=1)}
        return found

    def alike(self, one: str, other: str) -> np.ndarray:
        """Agreement of two explainers' maps, (n,)."""
        return pairs.map_agreement(self.read[one]["map"], self.read[other]["map"])

    def depth_of(self, name: str) -> str:
        """The depth, as `ends` names it, whose luck is this explainer's: the last that it shares all choices with."""
        own = self.differs[name].items()
        every = {word: d.items() for word, d in ends(self, all_depths=True).items()}
        return max((word for word in every if every[word] <= own), key=lambda word: len(every[word]))

    def difference(self, name: str, reference: str = DEFAULT) -> tuple[float, float]:
        """Accuracy less the reference's in points, and its error: the pictures', and the luck of both."""
        gap, error = pairs.paired_difference(*(self.pictures[n][ACCURACY] for n in (reference, name)))
        error = pairs.at_least_one_picture(error, len(self.pictures[name][ACCURACY]))
        luck = [self.luck[self.depth_of(n)][ACCURACY] for n in (reference, name)]
        return gap, 0.0 if name == reference else float(np.hypot(error, np.hypot(*luck)))

    def map_change(self, name: str) -> tuple[float, float]:
        """Agreement of the maps with the default's, less that of other seeds, and its error."""
        usual = self.depth_of(DEFAULT)
        seeds_of = list(self.keys[f"seed, {usual}"].values())[1:]
        gap, error = pairs.paired_difference(np.mean([self.pictures[s][SAME] for s in seeds_of], axis=0),
                                             self.pictures[name][SAME])
        return gap, float(np.hypot(error, self.luck[usual][SAME]))

    def summary(self, rows) -> dict[tuple[str, str], dict[str, float]]:
        """(row, option) -> what it changes: "points" and "map" with their "limit"s, `LIMIT` errors; not the default."""
        found = {(row, option): name for row in rows for option, name in self.keys[row].items() if name != DEFAULT}
        words = ("points", "points, limit", "map", "map, limit")
        return {at: dict(zip(words, (gap, pairs.LIMIT * error, change, pairs.LIMIT * its_error), strict=True))
                for at, name in found.items()
                for (gap, error), (change, its_error) in [(self.difference(name), self.map_change(name))]}


# The rows


def _numbered(name, default, values):
    """{value: what differs from the default} for a choice that is a number."""
    return {str(v): {} if v == default else {name: v} for v in sorted({*values, default})}


def seeds(first: int, n: int = 4) -> dict[str, dict]:
    """n seeds of k-means: seed -> what differs from the default."""
    return {str(s): {} if s == first else {"random_state": s} for s in range(first, first + n)}


def _switches(board):
    study, (fine, coarse) = board.study, board.grids
    few = [k for k in (1, 3, 5, 10) if 2 * k < board.fitted_on * np.prod(fine)]  # k-means needs rows enough
    return {"restarts of k-means": _numbered("n_init", study.n_init, (1, 3)),
            **SWITCHES, "K/C": _numbered("prototypes_per_class", study.k, few),
            "resolution (eq. 7)": {"first kept block's": {}, "last block's": {"resolution": coarse}}}


def _depths(board):
    """Up to three last blocks, with the factor 1/D_b and, if several, without."""
    found = {}
    for depth in range(1, board.default["depth"] + 1):
        deep, name = {} if depth == board.default["depth"] else {"depth": depth}, board.name(depth)
        found |= {name: deep} | ({f"{name}, no factor": {**deep, "block_weight": "none"}} if depth > 1 else {})
    return found


def ends(board: Board, all_depths: bool = False) -> dict[str, dict]:
    """name -> what differs from the default: the last block alone, the default, and the default without the factor.

    all_depths: also those between.
    """
    depth = board.default["depth"]
    between = range(1, depth if all_depths else min(depth, 2))
    whole = {board.name(depth): {}, f"{board.name(depth)}, no factor": {"block_weight": "none"}}
    return {board.name(d): {"depth": d} for d in between} | whole


def parts(board: Board, differs: Mapping, other: bool = False) -> dict[int, dict]:
    """Pictures of each class -> what differs from the default; other: as many pictures again, none in both.

    The largest number is all training pictures, on which notebooks 04 and 05 fit (at most 40, which would take long).
    """
    m, rows = board.fitted_on, np.prod(board.grids[1 if "depth" in differs else 0])
    found = sorted({max(1, m // 2), m, max(m, min(40, board.smallest))})
    found = [n for n in found if n * rows > 1.5 * board.study.k and (not other or n <= min(m, board.smallest // 2))]
    return {n: {**differs} if n == m and not other else {**differs, "part": (n, n if other else 0)} for n in found}


# What a row does not show


def depths(board: Board) -> dict[str, dict[str, np.ndarray]]:
    """What `Study.compare` reads of the row "depth" alone: for networks of which no more is asked."""
    every = {option: {**board.default, **differs} for option, differs in board.rows["depth"].items()}
    return board.study.compare(every, board.test_per_class)


def stability(board: Board) -> dict[str, dict[str, float]]:
    """How alike two explainers are: fitted on pictures without a common one, and with another seed on the same.

    name -> "same map", the agreement of their maps, and "prototypes apart", `prototype_shift`, both means.
    """
    first, again = parts(board, {}), parts(board, {}, True)
    rows = {f"{n}, other pictures": _moved(board, first[n], again[n]) for n in again}
    other = [_moved(board, {}, seed) for seed in list(seeds(board.study.seed).values())[1:]]
    return {**rows, "same pictures, other seed": {what: float(np.mean([s[what] for s in other])) for what in other[0]}}


def _moved(board, one, other):
    alike = pairs.map_agreement(*(board.read[key(d)]["map"] for d in (one, other)))
    a, b = (board.explainer(d) for d in (one, other))
    apart = np.nan
    if board.study.k > 1:
        apart = pairs.prototype_shift(a.prototypes_, b.prototypes_, a.prototype_labels_).mean()
    return {SAME: float(alike.mean()), "prototypes apart": float(apart)}


def attributed(board: Board, most: int = 100) -> tuple[dict[str, torch.Tensor], float]:
    """Attribution to other classes and from another base (eq. 11), of up to `most` test pictures.

    Gives option -> the finest map of each picture, (n, pixels), and the share of pictures predicted wrongly.
    """
    study, tests, depth = board.study, board.tests, board.default["depth"]
    some = np.linspace(0, len(tests) - 1, min(most, len(tests))).round().astype(int)
    features = study.trained.features(tests.batch(some))
    ways = [study.explainer(d, part=board.default["part"]) for d in range(1, depth + 1)]
    first, second = study.trained.classify(features[-1].mean((2, 3))).topk(2).indices.T
    label = tests.labels[some].to(first.device)
    options = {"prediction": (first, "raw"), "label": (label, "raw"), "runner-up": (second, "raw"),
               "prediction, averaged base": (first, "averaged")}
    maps = {option: upstream(features, study.trained.C, ways, c, base=start)[board.name(depth)]
            for option, (c, start) in options.items()}
    maps = {option: m.flatten(1).cpu().double() for option, m in maps.items()}
    return maps, float((label != first).double().mean())


# A choice that is made


def choose(accuracies: Mapping[float, float], pictures, allowed: float = 1.0) -> float:
    """The largest penalty whose accuracy is at most `allowed` standard errors below the best one's.

    accuracies: penalty -> accuracy (a fraction) on `pictures`, which have been set aside from the training pictures;
    the error is the best accuracy's, sqrt(p (1 - p) / n). Raises LeakError for pictures of the test split, ValueError
    for no accuracies, or one that is not a fraction.
    """
    guards.refuse_test(pictures, "choosing a penalty")
    if not accuracies or not all(0 <= p <= 1 for p in accuracies.values()):
        raise ValueError(f"accuracies is {dict(accuracies)}: give each penalty's, as a fraction between 0 and 1.")
    best = max(accuracies.values())
    error = float(np.sqrt(best * (1 - best) / len(pictures)))
    return max(penalty for penalty, p in accuracies.items() if p >= best - allowed * error)
