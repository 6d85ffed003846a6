"""Section 3.3: explaining the encoder. Composite features, class prototypes, explanation maps, votes (eq. 6-10).

Letters: n images, B blocks, D_b channels of block b, R' = H' W' cells of the shared resolution, D = sum of the D_b,
C classes, K prototypes ordered by class, K/C of them per class.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch

from paperlib.backbone import count, features_in_turn
from paperlib.composite import assign, check_choices, composite
from paperlib.guards import check_count, check_finite, check_option, check_size, check_target
from paperlib.progress import Bar
from paperlib.scaling.factored import Factored
from paperlib.scaling.fitting import fit_together, grouped
from paperlib.scaling.rows import BEYOND, bytes_of
from paperlib.theorem1 import predicted_class

# The choices that the paper leaves.
VOTES = {  # before eq. 10: the score of each candidate (n, m), and each cell's candidate (n, R')
    "class": lambda y, s, per_class: (y, s // per_class),
    "cluster": lambda y, s, per_class: (_tally(s, y.shape[1] * per_class), s),
}
AMONG = {"all": lambda reading: None, "predicted": lambda reading: reading.predicted}  # of which classes; None: all


def vote(s: torch.Tensor, n_classes: int, prototypes_per_class: int) -> torch.Tensor:
    """Share of the cells that each class's prototypes hold (eq. 10): s (n, R') -> y (n, n_classes), rows sum to 1.

    Eq. 10 pools over "K/C non-overlapping windows"; only C windows of K/C prototypes each give a y in R^C, so that is
    what this computes. Raises ValueError for wrong shapes, or an index outside 0..K-1.
    """
    K = n_classes * prototypes_per_class
    if s.ndim != 2 or s.is_floating_point() or s.numel() == 0 or s.min() < 0 or s.max() >= K:
        raise ValueError(f"s must be whole numbers (n, R') in 0..{K - 1}, but it is {tuple(s.shape)} of {s.dtype}.")
    return _tally(s // prototypes_per_class, n_classes) / s.shape[1]


def decide(y, s, distance=None, vote="class", *, prototypes_per_class):
    """Predicted class of each image (the sentence before eq. 10) -> (predicted (n,) long, tied (n,) bool).

    y (n, n_classes) from `vote`, s (n, R') indices, distance (n, R') of each row to its prototype, or None.
    vote "class": the class with most rows. vote "cluster": the class of the single most frequent prototype.
    A tie (between classes; two prototypes of one class are none) goes to the candidate whose rows lie nearer to their
    prototypes on average; without `distance`, or if that is equal too, to the lowest class.
    Raises ValueError for wrong shapes or an unknown vote.
    """
    check_option("vote", vote, VOTES)
    if y.ndim != 2 or s.ndim != 2 or len(y) != len(s) or (distance is not None and distance.shape != s.shape):
        raise ValueError("decide needs y (n, n_classes), s (n, R') and distance None or shaped as s.")
    score, candidate = VOTES[vote](y, s, prototypes_per_class)
    best, m = score == score.amax(dim=1, keepdim=True), score.shape[1]
    mean = 0 * score if distance is None else _tally(candidate, m, distance) / _tally(candidate, m).clamp_min(1)
    predicted = mean.masked_fill(~best, torch.inf).argmin(dim=1) // (m // y.shape[1])
    return predicted, best.unflatten(1, (y.shape[1], -1)).any(dim=2).sum(dim=1) > 1


def _tally(index, size, weights=None):
    """Sums of `weights` (or counts) by index, for each image: (n, R') -> (n, size)."""
    weights = torch.ones(index.shape, device=index.device) if weights is None else weights
    return weights.new_zeros(len(index), size).scatter_add_(1, index, weights)


def concepts_per_map(s: torch.Tensor) -> torch.Tensor:
    """Number of different prototypes on each explanation map: s (n, ...) -> (n,) long."""
    return 1 + (s.flatten(1).sort(dim=1).values.diff(dim=1) != 0).sum(dim=1)


@dataclass(eq=False)
class ConceptExplainer:
    """Prototypes of the cells of a frozen backbone, and what they explain (section 3.3; rows B4, B234 of Table 2).

    After fit: prototypes_ (K, D) float32, prototype_labels_ (K,), classes_, n_classes_, resolution_ (H', W'), seconds_,
    prototype_sources_ (K, 3): image (index in `images`), row, column of the training cell nearest to each prototype;
    shares_ (C,): the share of each class's rows that it was fitted on, 1 but for beyond="share".
    `images` are a tensor or a data set, which need not fit in memory, as in `backbone.features_of`. The backbone is a
    `paperlib.backbone.Backbone`, or any object with its members features, C, bias, n_classes.
    """

    blocks: Sequence[int] = (2, 3, 4)  # numbers, from 1, of the blocks used: growing and ending in the last
    prototypes_per_class: int = 5  # K/C
    n_init: int = 10  # restarts of the default k-means
    random_state: int | np.random.RandomState | None = 0  # each class has the same seed
    norm: str = "row"  # this and the next three as in `composite`
    block_weight: str | float = "inv_dim"
    resolution: int | Sequence[int] | None = None
    mode: str = "bilinear"
    vote: str = "class"  # or "cluster", as in `decide`
    clusterer: object = None  # as in `kmex.KMEx`
    batch_size: int = 32  # images per forward pass
    n_jobs: int = 1  # classes fitted at the same time, in threads; any number gives equal prototypes
    progress: bool = False
    memory: str | int = "4GB"  # or bytes: the most that each of the n_jobs holds of a class's rows and features
    beyond: str = "map"  # rows that take more lie in a mapped file; or "share": as many as fit, drawn by random_state

    @property
    def name(self) -> str:
        """The paper's name of this choice of blocks, as "B234"."""
        return "B" + "".join(str(b) for b in self.blocks)

    @property
    def kind(self) -> tuple:
        """Equal for explainers whose rows of eq. 8 are equal."""
        size = None if self.resolution is None else check_size("resolution", self.resolution)
        return tuple(self.blocks), self.norm, self.block_weight, size, self.mode

    def fitting(self) -> dict:
        """All that the fitted state depends on but backbone and images, by name: what a cache's key needs."""
        other = ("vote", "n_jobs", "progress", "memory", "beyond")
        share = {} if self.beyond == "map" else {"share_of": bytes_of(self.memory)}
        return {name: x for name, x in self.get_params(deep=False).items() if name not in other} | share

    def fit(self, backbone, images, labels):
        """The explainer, fitted on the images with labels (n,) in 0..n_classes-1: `fit_together` with one explainer."""
        return fit_together([self], backbone, images, labels, self.n_jobs, self.progress)[0]

    def compose(self, features) -> torch.Tensor:
        """The composite features q_h of eq. 8, (n, H', W', D), with this explainer's choices, from all B blocks."""
        return composite(self._suffix(features), self.resolution, self.norm, self.block_weight, self.mode)

    def rows(self, features) -> Factored | torch.Tensor:
        """The same rows, for `nearest` and `read`: left as what they are made of where eq. 8 has the norm of a row."""
        check_choices(self.norm, self.block_weight, self.mode)
        if self.norm != "row":  # rows may lie far from zero, where `Factored` would lose digits that `assign` keeps
            return self.compose(features)
        return Factored.of(self._suffix(features), self.resolution, self.norm, self.block_weight, self.mode)

    def _suffix(self, features):
        B, n = len(features), len(self.blocks)
        if n > B or list(self.blocks) != list(range(B - n + 1, B + 1)):
            raise ValueError(f"blocks={self.blocks!r} must count up, without gap, to the last block, which is {B}.")
        return features[-n:]

    def nearest(self, q: Factored | torch.Tensor, classes=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Each cell's nearest prototype and its distance, (n, H', W') both; q as `rows` or `compose` gives it.

        classes None: among all K prototypes (eq. 9). classes (n,): among the K/C of each image's class. Rows that are
        `Factored` give what `assign` gives on composed ones, but for ties within what float32 rounds.
        Raises ValueError for NaN, or prototypes of other blocks.
        """
        if classes is None:
            return self._nearest(q, slice(None))
        per, found, images = self.prototypes_per_class, [], []
        for c in classes.unique().tolist():
            images.append((classes == c).nonzero()[:, 0])
            s, distance = self._nearest(q[images[-1]], slice(c * per, (c + 1) * per))
            found.append((s + c * per, distance))
        order = torch.cat(images).argsort()
        return tuple(torch.cat(x)[order] for x in zip(*found, strict=True))

    def _nearest(self, q, own):
        """Among the prototypes `own`, a slice."""
        if isinstance(q, torch.Tensor):
            return assign(q, self.prototypes_[own], True)
        p, squares = self._prepared(q)
        s, distance = q.nearest([x[own] for x in p], squares[own])
        check_finite(features=distance)
        return s, distance

    def _prepared(self, q):
        """-2 p_k by block, [(K, D_b)], and ||p_k||^2 (K,), as `Factored` takes them: made once per device."""
        key = id(self.prototypes_), q.squares.device, q.squares.dtype
        if self.__dict__.get("_made", (None,))[0] != key:
            self._made = key, *q.prepared(self.prototypes_)
        return self._made[1:]

    def read(self, q: Factored | torch.Tensor, classes=None) -> Explained:
        """What the rows q of eq. 8 explain and decide; classes (n,): also the map among their prototypes."""
        (s, distance), per = self.nearest(q), self.prototypes_per_class
        y = vote(s.flatten(1), self.n_classes_, per)
        predicted, tied = decide(y, s.flatten(1), distance.flatten(1), self.vote, prototypes_per_class=per)
        shown = None if classes is None else self.nearest(q, classes)[0] % per
        return Explained(s, distance, y, predicted, tied, concepts_per_map(s), shown)

    @torch.no_grad()
    def maps_from_features(self, features, classes=None) -> torch.Tensor:
        """Explanation maps from all B blocks' features (`backbone.features`), so that callers share one forward pass.

        features list of (n, D_b, H_b, W_b) -> (n, H', W') long, on the features' device; classes as in `nearest`.
        Raises ValueError for wrong shapes or classes.
        """
        given = None if classes is None else check_target(classes, len(features[0]), self.n_classes_).cpu()
        return self.nearest(self.rows(features), given)[0]

    def explanation_map(self, backbone, images, among="all") -> torch.Tensor:
        """Explanation map of each image (Figure 1): prototype indices (n, H', W') long.

        among "all": the nearest of all K prototypes (eq. 9). "predicted": the nearest of the K/C prototypes of the
        class that the backbone predicts, which gives few, large segments. classes (n,): those of the class given.
        Raises ValueError for empty images, an unknown `among`, or classes that do not fit.
        """
        named = isinstance(among, str)
        if named:
            check_option("among", among, AMONG)
        given = None if named else check_target(among, count(images), self.n_classes_, "among").cpu()
        classes = AMONG[among] if named else lambda reading: given[reading.index]
        read = readings(backbone, images, {}, self.batch_size, progress=self.progress)
        return torch.cat([self.maps_from_features(r.features, classes(r)).cpu() for r in read])

    def votes(self, backbone, images) -> torch.Tensor:
        """Prediction scores y of eq. 10: (n, n_classes), each image's sum to 1."""
        return torch.cat([read.y for read in self._explained(backbone, images)])

    def predict(self, backbone, images) -> torch.Tensor:
        """Predicted classes (n,) long, by `decide`."""
        return torch.cat([read.predicted for read in self._explained(backbone, images)])

    def score(self, backbone, images, labels) -> float:
        """Accuracy, a fraction (Table 2). `labels` (n,) as in fit, but not every class need occur."""
        return self.evaluate(backbone, images, labels)["accuracy"]

    def evaluate(self, backbone, images, labels) -> dict[str, float]:
        """accuracy and tie_rate, fractions, and concepts_per_map, the mean number of different prototypes of eq. 9."""
        labels = check_target(labels, count(images), self.n_classes_, "labels").cpu()
        read = [(r.predicted, r.tied, r.concepts) for r in self._explained(backbone, images)]
        predicted, tied, concepts = (torch.cat(x) for x in zip(*read, strict=True))
        found = {"accuracy": predicted == labels, "tie_rate": tied, "concepts_per_map": concepts}
        return {name: x.double().mean().item() for name, x in found.items()}

    def _explained(self, backbone, images):
        for reading in readings(backbone, images, {self.name: self}, self.batch_size, progress=self.progress):
            yield reading.explained[self.name]

    def state(self) -> dict[str, torch.Tensor]:
        """What fit learned, as tensors to save; `get_params()` are the rest."""
        return {"prototypes": self.prototypes_, "prototype_sources": self.prototype_sources_,
                "resolution": torch.tensor(self.resolution_), "shares": self.shares_}

    @classmethod
    def from_state(cls, params: dict, tensors: dict[str, torch.Tensor]) -> ConceptExplainer:
        """The fitted explainer of these `get_params()` and this `state()`. Raises ValueError if they do not fit."""
        explainer, names = cls(**params), ("prototypes", "prototype_sources", "resolution", "shares")
        if not set(names) <= set(tensors):
            raise ValueError(f"the state has {', '.join(tensors)}; it needs {', '.join(names)}, as state() gives them.")
        prototypes, sources, size, shares = (tensors[name] for name in names)
        if len(prototypes) % explainer.prototypes_per_class or sources.shape != (len(prototypes), 3):
            raise ValueError("the state does not fit prototypes_per_class: it was saved with other parameters.")
        return explainer._take(prototypes, sources, size.tolist(), shares)

    def get_params(self, deep: bool = True) -> dict:
        """The parameters by name, as scikit-learn's estimators give them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params) -> ConceptExplainer:
        """The explainer, with these parameters. Raises ValueError for a name that is none."""
        for name, value in params.items():
            check_option("parameter", name, self.get_params())
            setattr(self, name, value)
        return self

    def __getattr__(self, name):
        if name.endswith("_") and not name.startswith("_"):
            from sklearn.exceptions import NotFittedError
            raise NotFittedError(f"this {self.name} has no {name} yet: call fit(backbone, images, labels) first.")
        raise AttributeError(f"ConceptExplainer has no {name!r}.")

    def _take(self, prototypes, sources, size, shares):
        self.prototypes_, self.prototype_sources_, self.resolution_ = prototypes, sources, tuple(size)
        self.shares_ = shares
        self.n_classes_ = len(prototypes) // self.prototypes_per_class
        self.classes_ = torch.arange(self.n_classes_)
        self.prototype_labels_ = self.classes_.repeat_interleave(self.prototypes_per_class)
        return self

    def _check_params(self):
        if not isinstance(self.blocks, tuple | list) or len(self.blocks) == 0:
            raise ValueError(f"blocks={self.blocks!r} must be a tuple of block numbers, such as (2, 3, 4).")
        check_count("prototypes_per_class", self.prototypes_per_class)
        check_count("batch_size", self.batch_size)
        check_choices(self.norm, self.block_weight, self.mode)
        check_option("vote", self.vote, VOTES)
        check_option("beyond", self.beyond, BEYOND)
        bytes_of(self.memory)
        from paperlib.kmex import make_clusterer
        make_clusterer(self.clusterer, self.n_init)


def _by_kind(explainers):
    """The explainers' names, in groups whose rows of eq. 8 are equal."""
    return grouped({name: explainer.kind for name, explainer in explainers.items()})


class Explained(NamedTuple):
    """Of n pictures, what one explainer says."""
    s: torch.Tensor  # (n, H', W') long: each cell's nearest prototype of all K (eq. 9)
    distance: torch.Tensor  # (n, H', W'): and how far it is
    y: torch.Tensor  # (n, n_classes): eq. 10
    predicted: torch.Tensor  # (n,) long
    tied: torch.Tensor  # (n,) bool
    concepts: torch.Tensor  # (n,) long: how many different prototypes the map s holds
    shown: torch.Tensor | None  # (n, H', W') long: the nearest of the K/C of the network's class, as 0..K/C-1


class Reading(NamedTuple):
    """Of a batch of n pictures, what the network and the explainers say."""
    index: torch.Tensor  # (n,) long: the pictures' numbers
    features: list[torch.Tensor]  # eq. 6: of each block (n, D_b, H_b, W_b), on the network's device
    predicted: torch.Tensor  # (n,) long, on the CPU: the network's class
    explained: dict[str, Explained]  # by the explainer's name


@torch.no_grad()
def readings(backbone, images, explainers: Mapping[str, ConceptExplainer], batch_size: int = 32, shown: bool = False,
             progress: bool = False) -> Iterator[Reading]:
    """Read the images, batch by batch: the network's features and class, and what each fitted explainer says of them.

    shown: also the maps among the predicted class's prototypes. Rows of eq. 8 are made once for explainers of one kind,
    and one kind is held at a time. Raises ValueError for no images, or NaN; NotFittedError before fit.
    """
    groups = _by_kind(explainers)
    batches = torch.arange(count(images)).split(batch_size)
    seen = features_in_turn(backbone, images, batches)
    for index in Bar(batches, "maps", unit="batch", show=progress):
        features, explained = next(seen), dict.fromkeys(explainers)
        predicted = predicted_class(backbone, features).cpu()
        for same in groups:
            q = explainers[same[0]].rows(features)
            for name in same:
                read = explainers[name].read(q, predicted if shown else None)
                explained[name] = Explained(*(x if x is None else x.cpu() for x in read))
            del q  # before the next kind comes
        yield Reading(index, features, predicted, explained)
