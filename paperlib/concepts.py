"""Section 3.3: explaining the encoder. Composite features, class prototypes, explanation maps, votes (eq. 6-10).

Letters: n images, B blocks, D_b channels of block b, R' = H' W' cells of the shared resolution, D = sum of the D_b,
C classes, K prototypes ordered by class, K/C of them per class.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import repeat
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from paperlib.backbone import count, features_of
from paperlib.fitting import fit_together, grouped
from paperlib.guards import check_count, check_option, check_shapes, check_size, check_target, plain
from paperlib.progress import Bar
from paperlib.rows import BEYOND, bytes_of
from paperlib.theorem1 import predicted_class

# The choices that the paper leaves. Eq. 7: how a block's output is brought to another size.
MODES = {mode: partial(F.interpolate, mode=mode, align_corners=False) for mode in ("bilinear", "bicubic")}
MODES["nearest"] = partial(F.interpolate, mode="nearest")
NORMS = {  # eq. 8; F.normalize divides by max(norm, 1e-12), so that a row of zeros, as a ReLU can leave, stays zero
    "row": lambda u: F.normalize(u, dim=1),
    "tensor": lambda u: F.normalize(u.flatten(1), dim=1).view_as(u),
    "none": lambda u: u,
}
BLOCK_WEIGHTS = {  # eq. 8: the factor of a block with D channels
    "inv_dim": lambda D: 1 / D,  # as printed
    "inv_dim_plus_one": lambda D: 1 / (1 + D),
    "inv_sqrt_dim": lambda D: D**-0.5,
    "none": lambda D: 1.0,
    "dim": lambda D: float(D),
}
VOTES = {  # before eq. 10: the score of each candidate (n, m), and each cell's candidate (n, R')
    "class": lambda y, s, per_class: (y, s // per_class),
    "cluster": lambda y, s, per_class: (_tally(s, y.shape[1] * per_class), s),
}
AMONG = {"all": lambda reading: None, "predicted": lambda reading: reading.predicted}  # of which classes; None: all


def composite(features, resolution=None, norm="row", block_weight="inv_dim", mode="bilinear") -> torch.Tensor:
    """Composite features q_h: blocks brought to one resolution (eq. 7), then normalised, scaled, concatenated (eq. 8).

    features      list of (n, D_b, H_b, W_b), shallowest first -> (n, H', W', sum D_b)
    resolution    None for that of the first block given; or (H', W'); or one number for both
    norm          whose norm eq. 8 divides by: "row" (a cell's D_b channels), "tensor" (an image's D_b H' W'), "none"
    block_weight  factor of a block: "inv_dim" 1/D_b (eq. 8), "inv_dim_plus_one" 1/(1+D_b), "inv_sqrt_dim" D_b^-1/2,
                  "none" 1, "dim" D_b; or a number e for D_b^e, so that "inv_dim" is -1
    mode          interpolation: "bilinear" or "bicubic" (corners not aligned), "nearest"

    Raises TypeError unless features are float tensors, ValueError for wrong shapes, NaN or an unknown option.
    """
    if isinstance(features, torch.Tensor) or len(features) == 0:
        raise ValueError("features must be a list with the output (n, D_b, H_b, W_b) of at least one block.")
    check_shapes(**{f"features[{b}]": (x, f"n D{b} H{b} W{b}") for b, x in enumerate(features)})
    _check_choices(norm, block_weight, mode)
    size = features[0].shape[-2:] if resolution is None else check_size("resolution", resolution)
    u = [resize(x, size, mode) for x in features]
    weight = BLOCK_WEIGHTS.get(block_weight, lambda D: float(D) ** float(block_weight))
    q = [weight(x.shape[1]) * NORMS[norm](x) for x in u]
    return torch.cat([x.permute(0, 2, 3, 1) for x in q], dim=-1)


def resize(x: torch.Tensor, size, mode="bilinear") -> torch.Tensor:
    """Eq. 7 for one block: (n, D, h, w) -> (n, D, H', W'); size (H', W'), mode one of MODES."""
    return x if tuple(x.shape[-2:]) == tuple(size) else MODES[mode](x, size=tuple(size))


def assign(q: torch.Tensor, prototypes: torch.Tensor, return_distance=False):
    """Nearest prototype of each row by l2 distance (eq. 9; the one-hot matrix q_s is kept as indices).

    q (..., D), prototypes (K, D) -> indices (...) long; with `return_distance` also the distances (...).
    The lowest index wins a tie. Rows go in chunks, so that the (rows, K) matrix never takes more than 64 MB.
    Raises TypeError unless both are float tensors of one type, ValueError for wrong shapes, no prototype, or NaN.
    """
    check_shapes(q=(q, "... D"), prototypes=(prototypes, "K D"))
    dtype = torch.promote_types(q.dtype, torch.float32)
    rows, p = q.reshape(-1, q.shape[-1]).to(dtype), prototypes.to(q.device, dtype)
    # argmin_k ||q - p_k||^2 = argmin_k ||p_k||^2 - 2 q.p_k: one matrix product. A common shift and scale change
    # nothing but keep float32's digits: without them, rows far from zero or as tiny as eq. 8's lose them.
    shift = p.mean(dim=0)
    scale = (p - shift).abs().amax()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    centred = (p - shift) / scale
    norms = centred.square().sum(dim=1)
    s, distance = [], []
    for r in rows.split(max(1, 2**24 // max(p.shape))):
        s.append(torch.addmm(norms, (r - shift) / scale, centred.T, alpha=-2).argmin(dim=1))
        distance.append(torch.linalg.vector_norm(r - p[s[-1]], dim=1))  # exact where the matrix product would round
    s, distance = (torch.cat(x).view(q.shape[:-1]) for x in (s, distance))
    return (s, distance) if return_distance else s


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
        """All that the fitted state depends on but backbone and images, as plain values (`guards.plain`), for a key."""
        other = ("vote", "n_jobs", "progress", "memory", "beyond")
        share = {} if self.beyond == "map" else {"share_of": bytes_of(self.memory)}
        return {name: plain(x) for name, x in self.get_params(deep=False).items() if name not in other} | share

    def fit(self, backbone, images, labels):
        """The explainer, fitted on the images with labels (n,) in 0..n_classes-1: `fit_together` with one explainer."""
        return fit_together([self], backbone, images, labels, self.n_jobs, self.progress)[0]

    def compose(self, features) -> torch.Tensor:
        """The composite features q_h of eq. 8, (n, H', W', D), with this explainer's choices, from all B blocks."""
        B, n = len(features), len(self.blocks)
        if n > B or list(self.blocks) != list(range(B - n + 1, B + 1)):
            raise ValueError(f"blocks={self.blocks!r} must count up, without gap, to the last block, which is {B}.")
        return composite(features[-n:], self.resolution, self.norm, self.block_weight, self.mode)

    def nearest(self, q, classes=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Each cell's nearest prototype and its distance, (n, H', W') both; q (n, H', W', D) as `compose` gives it.

        classes None: among all K prototypes (eq. 9). classes (n,): among the K/C of each image's class.
        """
        if classes is None:
            return assign(q, self.prototypes_, True)
        s, distance = q.new_empty(q.shape[:-1], dtype=torch.long), q.new_empty(q.shape[:-1])
        for c in classes.unique().tolist():
            mine = (classes == c).to(q.device)
            nearest, distance[mine] = assign(q[mine], self.prototypes_[self.prototype_labels_ == c], True)
            s[mine] = nearest + c * self.prototypes_per_class
        return s, distance

    def read(self, q, classes=None) -> Explained:
        """What q (n, H', W', D) of eq. 8 explains and decides; classes (n,): also the map among their prototypes."""
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
        n, size = len(features[0]), self.batch_size
        given = repeat(None) if classes is None else check_target(classes, n, self.n_classes_).cpu().split(size)
        batches = zip(*(x.split(size) for x in features), strict=True)
        return torch.cat([self.nearest(self.compose(x), c)[0] for x, c in zip(batches, given, strict=False)])

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
        _check_choices(self.norm, self.block_weight, self.mode)
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
    for index in Bar(torch.arange(count(images)).split(batch_size), "maps", unit="batch", show=progress):
        features, explained = features_of(backbone, images, index), dict.fromkeys(explainers)
        predicted = predicted_class(backbone, features).cpu()
        for same in groups:
            q = explainers[same[0]].compose(features)
            for name in same:
                read = explainers[name].read(q, predicted if shown else None)
                explained[name] = Explained(*(x if x is None else x.cpu() for x in read))
            del q  # before the next kind comes
        yield Reading(index, features, predicted, explained)


def _check_choices(norm, block_weight, mode):
    check_option("norm", norm, NORMS)
    check_option("mode", mode, MODES)
    if not isinstance(block_weight, Real) or isinstance(block_weight, bool):
        check_option("block_weight", block_weight, BLOCK_WEIGHTS)
