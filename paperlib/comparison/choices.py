"""The paper's open choices, one at a time: explainers that differ from the default in one option (notebook 06).

A `Board` fits them on the same few training pictures and compares them on the same test pictures. `study` is a
`runs.study.Study`. `choose` chooses a penalty on validation pictures (notebook 08).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import Subset

from paperlib import guards
from paperlib.attribution import upstream
from paperlib.comparison.pairs import connectedness, map_agreement, paired_difference, prototype_shift
from paperlib.concepts import vote

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
    test_per_class: int = 8

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
        exponents = {e: {} if weight == "inv_dim" else {"block_weight": weight} for e, weight in EXPONENTS.items()}
        return {**_switches(self), "exponent": exponents, "depth": _depths(self), **first, **second}

    @cached_property
    def keys(self) -> dict[str, dict[str, str]]:
        """row -> option -> the explainer's `key`."""
        return {row: {option: key(d) for option, d in options.items()} for row, options in self.rows.items()}

    @cached_property
    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """What `Study.compare` reads of each explainer, by its `key`, and of "CNN". Explainers are fitted first."""
        distinct = {key(d): {**self.default, **d} for options in self.rows.values() for d in options.values()}
        return self.study.compare(distinct, self.test_per_class)

    @cached_property
    def pictures(self) -> dict[str, dict[str, np.ndarray]]:
        """key -> measure -> (n,): the four measures of each picture."""
        default = self.read[DEFAULT]["map"]
        return {name: {ACCURACY: 100 * each["correct"], CONCEPTS: each["concepts"],
                       CONNECTED: connectedness(each["map"]), SAME: map_agreement(default, each["map"])}
                for name, each in self.read.items() if name != "CNN"}

    @cached_property
    def means(self) -> dict[str, dict[str, float]]:
        """key -> measure -> mean over pictures."""
        return {name: {what: float(x.mean()) for what, x in each.items()} for name, each in self.pictures.items()}

    def row(self, row: str) -> dict[str, dict[str, float]]:
        """option -> measure -> mean."""
        return {option: self.means[name] for option, name in self.keys[row].items()}

    @property
    def seeds(self) -> list[str]:
        """Keys of the explainers that differ from the default in k-means's seed."""
        return [name for name in self.keys["seed of k-means"].values() if name != DEFAULT]

    @cached_property
    def luck(self) -> dict[str, float]:
        """Standard deviation over seeds of k-means: of the accuracy, and of the maps' agreement with the default's."""
        names = {ACCURACY: self.keys["seed of k-means"].values(), SAME: self.seeds}
        return {what: np.std([self.means[s][what] for s in names[what]], ddof=1) for what in names}

    def difference(self, name: str, reference: str = DEFAULT) -> tuple[float, float]:
        """Accuracy less the reference's in points, and its error: of these pictures, and of k-means's luck."""
        gap, error = paired_difference(*(self.pictures[n][ACCURACY] for n in (reference, name)))
        return gap, 0.0 if name == reference else float(np.hypot(error, np.sqrt(2) * self.luck[ACCURACY]))

    def map_change(self, name: str) -> tuple[float, float]:
        """Agreement of the maps with the default's, less that of other seeds, and its error."""
        floor = np.mean([self.pictures[n][SAME] for n in self.seeds], axis=0)
        gap, error = paired_difference(floor, self.pictures[name][SAME])
        return gap, float(np.hypot(error, self.luck[SAME]))

    def changed(self, row: str, change: Callable) -> list[str]:
        """Options of the row whose change is more than three errors. Of a map, only less agreement counts."""
        beyond = {option: change(name) for option, name in self.keys[row].items() if name != DEFAULT}
        either = change == self.difference
        return [option for option, (gap, error) in beyond.items() if gap < -3 * error or either and gap > 3 * error]


# The rows


def _numbered(name, default, values):
    """{value: what differs from the default} for a choice that is a number."""
    return {str(v): {} if v == default else {name: v} for v in sorted({*values, default})}


def _switches(board):
    study, (fine, coarse) = board.study, board.grids
    few = [k for k in (1, 3, 5, 10) if 2 * k < board.fitted_on * np.prod(fine)]  # k-means needs rows enough
    return {"seed of k-means": _numbered("random_state", study.seed, range(study.seed, study.seed + 5)),
            "restarts of k-means": _numbered("n_init", study.n_init, (1, 3, 10)),
            **SWITCHES, "K/C": _numbered("prototypes_per_class", study.k, few),
            "resolution (eq. 7)": {"first kept block's": {}, "last block's": {"resolution": coarse}}}


def _depths(board):
    """Up to four last blocks, with the factor 1/D_b and, if several, without."""
    found = {}
    for depth in range(1, min(4, len(board.study.trained.blocks)) + 1):
        deep, name = {} if depth == board.default["depth"] else {"depth": depth}, board.name(depth)
        found |= {name: deep} | ({f"{name}, no factor": {**deep, "block_weight": "none"}} if depth > 1 else {})
    return found


def ends(board: Board) -> dict[str, dict]:
    """name -> what differs from the default: the last block alone, the default, and the default without the factor."""
    depth = board.default["depth"]
    whole = {board.name(depth): {}, f"{board.name(depth)}, no factor": {"block_weight": "none"}}
    return ({board.name(1): {"depth": 1}} if depth > 1 else {}) | whole


def parts(board: Board, differs: Mapping, other: bool = False) -> dict[int, dict]:
    """Pictures of each class -> what differs from the default; other: as many pictures again, none in both."""
    m, rows = board.fitted_on, np.prod(board.grids[1 if "depth" in differs else 0])
    found = sorted({max(1, m // 4), max(1, m // 2), m, max(m, min(30, board.smallest))})  # 30: more would take long
    found = [n for n in found if n * rows > 1.5 * board.study.k and (not other or n <= min(m, board.smallest // 2))]
    return {n: {**differs} if n == m and not other else {**differs, "part": (n, n if other else 0)} for n in found}


# What a row does not show


def stability(board: Board) -> dict[str, dict[str, float]]:
    """How alike two explainers are: fitted on pictures without a common one, and with another seed on the same.

    name -> "same map", the agreement of their maps, and "prototypes apart", `prototype_shift`, both means.
    """
    first, again = parts(board, {}), parts(board, {}, True)
    rows = {f"{n}, other pictures": _moved(board, first[n], again[n]) for n in again}
    seeds = [_moved(board, {}, {"random_state": board.study.seed + s}) for s in range(1, 5)]
    return {**rows, "same pictures, other seed": {what: float(np.mean([s[what] for s in seeds])) for what in seeds[0]}}


def _moved(board, one, other):
    alike = map_agreement(*(board.read[key(d)]["map"] for d in (one, other)))
    a, b = (board.explainer(d) for d in (one, other))
    apart = np.nan
    if board.study.k > 1:
        apart = prototype_shift(a.prototypes_, b.prototypes_, a.prototype_labels_).mean()
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


# Readers of the distribution of concepts


def readers(board: Board) -> dict[str, dict[str, np.ndarray]]:
    """explainer -> reader -> 100 where its prediction is correct, for each test picture.

    "vote" is eq. 10. "reader of concepts" is a logistic regression on the share of each of the K prototypes, fitted on
    training pictures that the explainers have not seen (if there are enough); "reader of classes" sees the shares of
    the classes only.
    """
    study, m, least = board.study, board.fitted_on, board.smallest
    learn = study.sample(min(2 * m, least - m), m) if least > m else study.sample(m)
    ways = {name: board.explainer(d) for name, d in ends(board).items()}
    y, k, target = study.data.train.labels[learn].numpy(), study.k, board.tests.labels.numpy()
    seen = _shares(study.trained, ways, Subset(study.data.train, learn.tolist()))
    asked = _shares(study.trained, ways, board.tests)
    predicted = {name: {"vote": _by_class(b, k).argmax(1), "reader of concepts": _regression(a, y, b),
                        "reader of classes": _regression(_by_class(a, k), y, _by_class(b, k))}
                 for name, a, b in ((name, seen[name], asked[name]) for name in ways)}
    return {name: {reader: 100 * (c == target) for reader, c in each.items()} for name, each in predicted.items()}


def _shares(net, explainers, pictures):
    """name -> share of each prototype's cells on the map of eq. 9, (n, K), in one pass through the network."""
    found = {name: [] for name in explainers}
    for batch in torch.arange(len(pictures)).split(64):
        features = net.features(torch.stack([pictures[int(i)] for i in batch]))
        for name, explainer in explainers.items():
            s = explainer.maps_from_features(features).flatten(1)
            found[name].append(vote(s, len(explainer.prototypes_), 1).cpu())
    return {name: torch.cat(each).double().numpy() for name, each in found.items()}


def _by_class(x, k):
    """Eq. 10: shares of the classes, (n, K) -> (n, C)."""
    return x.reshape(len(x), -1, k).sum(2)


def _regression(seen, y, asked):
    return LogisticRegression(C=100, max_iter=2000).fit(seen, y).predict(asked)


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
