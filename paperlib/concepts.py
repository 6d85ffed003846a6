"""Section 3.3: explaining the encoder. Composite features, class prototypes, explanation maps, votes (eq. 6-10).

Letters: n images, B blocks, D_b channels of block b, R' = H' W' pixels of the shared resolution, D = sum of the D_b,
C classes, K prototypes ordered by class, K/C of them a class.
"""

from __future__ import annotations

from numbers import Integral, Real
from threading import Lock
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from paperlib.kmex import as_array, check_count, class_prototypes, make_clusterer
from paperlib.progress import Bar
from paperlib.theorem1 import pool_then_classify

# One forward pass at a time. A network with hooks, or a data set that reads from one open file, does not bear several
# threads at once: they would mix up their outputs without an error. The workers' gain is in the clustering.
FORWARD = Lock()

NORMS = ("row", "tensor", "none")
MODES = ("bilinear", "bicubic", "nearest")
BLOCK_WEIGHTS = {
    "inv_dim": lambda D: 1 / D,  # eq. 8 as printed
    "inv_dim_plus_one": lambda D: 1 / (1 + D),
    "inv_sqrt_dim": lambda D: D**-0.5,
    "none": lambda D: 1.0,
    "dim": lambda D: float(D),
}


# Eq. 7 and 8: composite features


def composite(features, resolution=None, norm="row", block_weight="inv_dim", mode="bilinear") -> torch.Tensor:
    """Composite features q_h: blocks brought to one resolution (eq. 7), then normalised, scaled, concatenated (eq. 8).

    features      list of (n, D_b, H_b, W_b), shallowest first -> (n, H', W', sum D_b)
    resolution    None for that of the first block given; or (H', W'); or one number for both
    norm          whose norm eq. 8 divides by: "row" (the D_b channels of one pixel; an all-zero row stays zero),
                  "tensor" (a block's whole output for one image), "none"
    block_weight  factor of a block: "inv_dim" 1/D_b (eq. 8), "inv_dim_plus_one" 1/(1+D_b), "inv_sqrt_dim" D_b^-1/2,
                  "none" 1, "dim" D_b; or a number e for D_b^e, so that "inv_dim" is -1
    mode          interpolation: "bilinear" or "bicubic" (corners not aligned), "nearest"

    Raises TypeError for other than float tensors, ValueError for wrong shapes or an unknown option.
    """
    _check_features(features)
    size = tuple(features[0].shape[-2:]) if resolution is None else _size(resolution)
    parts = [_weight(block_weight, x.shape[1]) * _normalise(resize(x, size, mode), norm) for x in features]
    return torch.cat([u.permute(0, 2, 3, 1) for u in parts], dim=-1)


def resize(x: torch.Tensor, size, mode="bilinear") -> torch.Tensor:
    """Eq. 7 for one block: (n, D, h, w) -> (n, D, H', W'). Raises ValueError for an unknown mode."""
    check_option("mode", mode, MODES)
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=None if mode == "nearest" else False)


def _normalise(u, norm):
    """The norm in eq. 8; F.normalize divides by max(norm, 1e-12), so a ReLU row of zeros stays zero."""
    check_option("norm", norm, NORMS)
    if norm == "row":
        return F.normalize(u, dim=1)
    return F.normalize(u.flatten(1), dim=1).view_as(u) if norm == "tensor" else u


def _weight(block_weight, D):
    if isinstance(block_weight, Real) and not isinstance(block_weight, bool):
        return float(D) ** float(block_weight)
    check_option("block_weight", block_weight, tuple(BLOCK_WEIGHTS))
    return BLOCK_WEIGHTS[block_weight](D)


def _size(resolution):
    size = (resolution, resolution) if isinstance(resolution, Integral) else tuple(resolution)
    if len(size) != 2 or not all(isinstance(s, Integral) and s > 0 for s in size):
        raise ValueError(f"resolution={resolution!r} must be None, a positive whole number or a pair of them.")
    return size


def check_option(name: str, value, known) -> None:
    """Raise ValueError, listing the known options, unless `value` is one of them."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")


def _check_features(features):
    if isinstance(features, torch.Tensor) or len(features) == 0:
        raise ValueError("features must be a list with the output (n, D_b, H_b, W_b) of at least one block.")
    for x in features:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError("features must be float tensors; convert them with torch.as_tensor(...).float().")
        if x.ndim != 4 or 0 in x.shape or len(x) != len(features[0]):
            shapes = [tuple(x.shape) for x in features]
            raise ValueError(f"features must be non-empty (n, D_b, H_b, W_b) with the same n, but are {shapes}.")


# Eq. 9: assignment


def assign(q: torch.Tensor, prototypes: torch.Tensor, return_distance=False):
    """Nearest prototype of each row by l2 distance (eq. 9; the one-hot matrix q_s is kept as indices).

    q (..., D), prototypes (K, D) -> indices (...) long; with `return_distance` also the distances (...).
    The lowest index wins a tie. Rows go in chunks, so that the (rows, K) matrix never takes more than 64 MB.
    Raises TypeError for other than float tensors, ValueError for wrong shapes, no prototype, or NaN.
    """
    _check_assign(q, prototypes)
    dtype = torch.promote_types(torch.promote_types(q.dtype, prototypes.dtype), torch.float32)
    rows, p = q.reshape(-1, q.shape[-1]).to(dtype), prototypes.to(q.device, dtype)
    # argmin_k ||q - p_k||^2 = argmin_k ||p_k||^2 - 2 q.p_k: one matrix product. A common shift and scale change
    # nothing but keep float32's digits: without them, rows far from zero or as tiny as eq. 8's lose them.
    shift = p.mean(dim=0)
    scale = (p - shift).abs().amax()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    centred = (p - shift) / scale
    norms = centred.square().sum(dim=1)
    chunk = max(1, 2**24 // max(p.shape))
    s = [torch.addmm(norms, (r - shift) / scale, centred.T, alpha=-2).argmin(dim=1) for r in rows.split(chunk)]
    s = torch.cat(s).view(q.shape[:-1])
    return (s, _distance(rows, p, s.flatten(), chunk).view(s.shape)) if return_distance else s


def _distance(rows, p, s, chunk):
    """Distance of each row to its prototype, by differences: exact where the matrix product would round."""
    pairs = zip(rows.split(chunk), s.split(chunk), strict=True)
    return torch.cat([torch.linalg.vector_norm(r - p[k], dim=1) for r, k in pairs])


def _check_assign(q, prototypes):
    for name, x in (("q", q), ("prototypes", prototypes)):
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats; convert it with torch.as_tensor(...).float().")
    if prototypes.ndim != 2 or q.ndim < 1 or q.shape[-1] != prototypes.shape[1] or 0 in prototypes.shape:
        shapes = f"{tuple(q.shape)} and {tuple(prototypes.shape)}"
        raise ValueError(f"q must be (..., D) and prototypes (K, D) with K, D > 0, but they are {shapes}.")
    if q.numel() == 0:
        raise ValueError(f"q {tuple(q.shape)} is empty: give at least one row.")
    if not (torch.isfinite(q).all() and torch.isfinite(prototypes).all()):
        raise ValueError("q or prototypes holds NaN or infinite values: check the network and its input.")


# Eq. 10: votes and decision


def vote(s: torch.Tensor, n_classes: int, prototypes_per_class: int) -> torch.Tensor:
    """Share of the pixels that each class's prototypes hold (eq. 10): s (n, R') -> y (n, n_classes), rows sum to 1.

    Eq. 10 pools over "K/C non-overlapping windows"; only C windows of K/C prototypes each give a y in R^C, so that is
    what this computes. Raises ValueError for wrong shapes, or an index outside 0..K-1.
    """
    K = n_classes * prototypes_per_class
    if s.ndim != 2 or s.is_floating_point() or s.numel() == 0:
        raise ValueError(f"s must be non-empty whole-number indices (n, R'), but it is {tuple(s.shape)} of {s.dtype}.")
    if s.min() < 0 or s.max() >= K:
        raise ValueError(f"s must lie in 0..{K - 1} ({n_classes} classes of {prototypes_per_class} prototypes).")
    return _tally(s // prototypes_per_class, n_classes) / s.shape[1]


def decide(y, s, distance=None, vote="class", *, prototypes_per_class):
    """Predicted class of each image (the sentence before eq. 10) -> (predicted (n,) long, tied (n,) bool).

    y (n, n_classes) from `vote`, s (n, R') indices, distance (n, R') of each row to its prototype, or None.
    vote "class": the class with most rows. vote "cluster": the class of the single most frequent prototype.
    A tie (between classes; two prototypes of one class are none) goes to the candidate whose rows lie nearer to their
    prototypes on average; without `distance`, or if that is equal too, to the lowest class.
    Raises ValueError for wrong shapes or an unknown vote.
    """
    check_option("vote", vote, ("class", "cluster"))
    if y.ndim != 2 or s.ndim != 2 or len(y) != len(s) or (distance is not None and distance.shape != s.shape):
        raise ValueError("decide needs y (n, n_classes), s (n, R') and distance None or shaped as s.")
    per = 1 if vote == "class" else prototypes_per_class  # candidates of one class
    size = y.shape[1] * per
    candidate = s // prototypes_per_class if vote == "class" else s
    count = _tally(candidate, size)
    score = y if vote == "class" else count
    best = score == score.amax(dim=1, keepdim=True)
    mean = torch.zeros_like(count) if distance is None else _tally(candidate, size, distance) / count.clamp_min(1)
    predicted = mean.masked_fill(~best, torch.inf).argmin(dim=1) // per
    return predicted, best.view(len(y), -1, per).any(dim=2).sum(dim=1) > 1


def _tally(index, size, weights=None):
    """Sums of `weights` (or counts) by index, for each image: (n, R') -> (n, size)."""
    weights = torch.ones(index.shape, device=index.device) if weights is None else weights
    return weights.new_zeros(len(index), size).scatter_add_(1, index, weights)


def ids_per_map(s: torch.Tensor) -> torch.Tensor:
    """Number of different prototypes on each explanation map: s (n, ...) -> (n,) long."""
    return 1 + (s.flatten(1).sort(dim=1).values.diff(dim=1) != 0).sum(dim=1)


# The explainer


class ConceptExplainer(BaseEstimator):
    """Prototypes of a frozen backbone's pixels, and the explanations they give (section 3.3; rows B4, B234 of Table 2).

    blocks                numbers, from 1, of the blocks used: growing and ending in the last, as (4,) or (2, 3, 4)
    prototypes_per_class  K/C
    n_init, random_state, clusterer     of the clustering, as in `kmex.KMEx`; each class has the same seed
    norm, block_weight, resolution, mode    as in `composite`
    vote                  "class" or "cluster", as in `decide`
    batch_size            images a forward pass
    n_jobs                classes fitted at the same time, in threads; any number gives equal prototypes. Pictures are
                          read and passed through the backbone by one thread at a time
    max_images_per_class  fit on so many images of each class, drawn with the seed; None for all
    progress              show a progress bar

    After fit: prototypes_ (K, D) float32, prototype_labels_ (K,), classes_, n_classes_, resolution_ (H', W'), and
    prototype_sources_ (K, 3): image (index in `images`), row, column of the training pixel nearest to each prototype.
    `images` is everywhere a tensor (n, 3, H, W) or anything with a length that gives one (3, H, W), or a tuple that
    begins with it, for an index: a data set need not fit in memory. The backbone is a `paperlib.backbone.Backbone`, or
    any object with its members features, C, bias, n_classes.
    """

    def __init__(
        self,
        blocks=(2, 3, 4),
        prototypes_per_class=5,
        n_init=10,
        random_state=0,
        norm="row",
        block_weight="inv_dim",
        resolution=None,
        mode="bilinear",
        vote="class",
        clusterer=None,
        batch_size=32,
        n_jobs=1,
        max_images_per_class=None,
        progress=False,
    ):
        self.blocks = blocks
        self.prototypes_per_class = prototypes_per_class
        self.n_init = n_init
        self.random_state = random_state
        self.norm = norm
        self.block_weight = block_weight
        self.resolution = resolution
        self.mode = mode
        self.vote = vote
        self.clusterer = clusterer
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.max_images_per_class = max_images_per_class
        self.progress = progress

    @property
    def name(self) -> str:
        """The paper's name of this choice of blocks, as "B234"."""
        return "B" + "".join(str(b) for b in self.blocks)

    @property
    def kind(self) -> str:
        """Equal for explainers whose rows of eq. 8 are equal."""
        return str([self.blocks, self.norm, self.block_weight, self.resolution, self.mode])

    def fit(self, backbone, images, labels):
        """Cluster the composite rows of each class (labels (n,) in 0..n_classes-1), one class at a time.

        A worker holds the rows of one class, (n_c R', D) float32, and drops them before the next: memory is bounded by
        the largest class, not by the data set (k-means itself makes one copy of the rows). Batches never mix classes,
        so no class's result depends on another.
        Raises ValueError for empty data, labels that do not fit, a class without images, or with fewer different rows
        than K/C, NaN features, blocks that are no suffix, or an unknown option.
        """
        self._check_params()
        labels = _check_labels(labels, _count(images), backbone.n_classes)
        seed = _seed(self.random_state)
        members = [np.flatnonzero(labels == c) for c in range(backbone.n_classes)]
        # A BLAS library has one limit for the whole process: were each worker to set and restore it, they would
        # undo one another's. An OpenMP limit belongs to a thread, and `class_prototypes` sets it.
        with threadpool_limits(1, user_api="blas"):
            work = (delayed(self._fit_class)(backbone, images, index, c, seed) for c, index in enumerate(members))
            done = Parallel(n_jobs=self.n_jobs, backend="threading", return_as="generator")(work)
            done = list(Bar(done, f"{self.name} prototypes", total=len(members), unit="class", show=self.progress))
        return self._set_fitted(done, backbone.n_classes)

    def _set_fitted(self, done, n_classes):
        """The explainer, with what `_fit_class` gave for each class."""
        prototypes, sources, sizes = zip(*done, strict=True)
        if len(set(sizes)) > 1:
            raise ValueError(f"feature maps of several sizes {sorted(set(sizes))}: give resolution, or equal images.")
        self.prototypes_ = torch.from_numpy(np.concatenate(prototypes))
        self.prototype_sources_ = torch.from_numpy(np.concatenate(sources))
        self._set_classes(n_classes, sizes[0])
        return self

    @torch.no_grad()  # gradient mode belongs to a thread, so it is set here, in the worker
    def _fit_class(self, backbone, images, index, c, seed):
        """Prototypes (K/C, D), their sources (K/C, 3) and the resolution, of the class with images `index`."""
        m = self.max_images_per_class
        if m is not None and len(index) > m:
            index = np.sort(np.random.default_rng(seed).permutation(index)[:m])
        rows, size = self._rows(self._batches(backbone, images, index), len(index))
        return self._cluster(rows, size, index, c, seed)

    def _cluster(self, rows, size, index, c, seed):
        """What `_fit_class` returns, from the class's rows of eq. 8."""
        H, W = size
        clusterer = make_clusterer(self.clusterer, self.n_init)
        p = class_prototypes(rows, self.prototypes_per_class, clusterer, seed, label=c)
        # Distances by differences, not by the matrix product: few prototypes, and no copy of the rows.
        d = torch.cdist(torch.from_numpy(p), torch.from_numpy(rows), compute_mode="donot_use_mm_for_euclid_dist")
        image, pixel = np.divmod(d.argmin(dim=1).numpy(), H * W)
        return p, np.stack([index[image], pixel // W, pixel % W], axis=1), (H, W)

    def _batches(self, backbone, images, index):
        """All blocks' features of the images `index`, a batch at a time."""
        for start in range(0, len(index), self.batch_size):
            yield self._features(backbone, images, index[start : start + self.batch_size])

    def _rows(self, batches, n):
        """Composite rows of n images, from batches of features: (n R', D) float32, and (H', W')."""
        rows, start = None, 0
        for features in batches:
            q = self.compose(features).cpu().float()
            del features  # gone before the next batch comes
            if not torch.isfinite(q).all():
                raise ValueError("the backbone gives NaN or infinite features: check its weights and the images.")
            if rows is None:
                rows = np.empty((n, *q.shape[1:]), dtype=np.float32)
            rows[start : start + len(q)] = q.numpy()
            start += len(q)
        return rows.reshape(-1, rows.shape[-1]), rows.shape[1:3]

    def _features(self, backbone, images, index):
        """All blocks' features of the images `index`, on the backbone's device."""
        with FORWARD:
            x = images[torch.as_tensor(index)] if isinstance(images, torch.Tensor) else _stack(images, index)
            if x.ndim != 4:
                raise ValueError(f"an image must be (3, H, W), but a batch of them is {tuple(x.shape)}.")
            return backbone.features(x.to(backbone.C.device))

    def compose(self, features) -> torch.Tensor:
        """The composite features q_h of eq. 8 with this explainer's choices, from all B blocks' features."""
        B = len(features)
        if len(self.blocks) > B or tuple(self.blocks) != tuple(range(B - len(self.blocks) + 1, B + 1)):
            raise ValueError(f"blocks={self.blocks!r} must count up, without gap, to the last block, which is {B}.")
        chosen = [features[b - 1] for b in self.blocks]
        return composite(chosen, self.resolution, self.norm, self.block_weight, self.mode)

    # Explanations

    @torch.no_grad()
    def maps_from_features(self, features, classes=None, return_distance=False):
        """Explanation maps from all B blocks' features (`backbone.features`), so that callers share one forward pass.

        features list of (n, D_b, H_b, W_b) -> (n, H', W') long, on the features' device; with `return_distance` also
        each pixel's distance to its prototype. classes None: the nearest of all K prototypes (eq. 9). classes (n,): the
        nearest of the K/C prototypes of each image's class. Raises ValueError for wrong shapes or classes.
        """
        check_is_fitted(self)
        _check_features(features)
        classes = self._check_classes(classes, len(features[0]))
        parts = []
        for start in range(0, len(features[0]), self.batch_size):
            batch = slice(start, start + self.batch_size)
            q = self.compose([x[batch] for x in features])
            parts.append(self.nearest(q, None if classes is None else classes[batch]))
        s, distance = (torch.cat(x) for x in zip(*parts, strict=True))
        return (s, distance) if return_distance else s

    def nearest(self, q, classes=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Each pixel's nearest prototype and its distance, (n, H', W') both; q (n, H', W', D) as `compose` gives it.

        classes None: among all K prototypes (eq. 9). classes (n,): among the K/C of each image's class.
        """
        return assign(q, self.prototypes_, True) if classes is None else self._assign_within(q, classes)

    def _assign_within(self, q, classes):
        """Nearest among the prototypes of each image's class, and the distances: q (n, H', W', D), classes (n,)."""
        per = self.prototypes_per_class
        s, distance = torch.empty(q.shape[:-1], dtype=torch.long, device=q.device), q.new_empty(q.shape[:-1])
        for c in classes.unique().tolist():
            mine = (classes == c).to(q.device)
            nearest, distance[mine] = assign(q[mine], self.prototypes_[c * per : (c + 1) * per], True)
            s[mine] = nearest + c * per
        return s, distance

    @torch.no_grad()
    def explanation_map(self, backbone, images, among="all") -> torch.Tensor:
        """Explanation map of each image (Figure 1): prototype indices (n, H', W') long.

        among "all": the nearest of all K prototypes (eq. 9). "predicted": the nearest of the K/C prototypes of the
        class that the backbone predicts, which gives few, large segments. classes (n,): those of the class given.
        Raises ValueError for empty images, an unknown `among`, or classes that do not fit.
        """
        check_is_fitted(self)
        named = isinstance(among, str)
        if named:
            check_option("among", among, ("all", "predicted"))
        given = None if named else self._check_classes(among, _count(images)).split(self.batch_size)
        maps = []
        for i, features in enumerate(self._stream(backbone, images)):
            classes = given if given is None else given[i]
            if named and among == "predicted":
                classes = predicted_class(backbone, features)
            maps.append(self.maps_from_features(features, classes).cpu())
        return torch.cat(maps)

    def votes(self, backbone, images) -> torch.Tensor:
        """Prediction scores y of eq. 10: (n, n_classes), each image's sum to 1."""
        return self._pass(backbone, images)[0]

    def predict(self, backbone, images) -> torch.Tensor:
        """Predicted classes (n,) long, by `decide`."""
        return self._pass(backbone, images)[1]

    def score(self, backbone, images, labels) -> float:
        """Accuracy, a fraction (Table 2). `labels` (n,) as in fit, but not every class need occur."""
        return self.evaluate(backbone, images, labels)["accuracy"]

    def evaluate(self, backbone, images, labels) -> dict[str, float]:
        """One pass over the images: accuracy and tie_rate, fractions, and ids_per_map, different prototypes on a map.

        The maps are those of eq. 9. Raises ValueError for empty images or labels that do not fit.
        """
        check_is_fitted(self)
        labels = self._check_classes(labels, _count(images))
        _, predicted, tied, ids = self._pass(backbone, images)
        parts = {"accuracy": predicted == labels, "tie_rate": tied, "ids_per_map": ids}
        return {name: x.double().mean().item() for name, x in parts.items()}

    @torch.no_grad()
    def _pass(self, backbone, images):
        """y, predicted class, tied or not, number of ids, of every image."""
        parts = []
        for features in self._stream(backbone, images):
            s, distance = self.maps_from_features(features, return_distance=True)
            parts.append([x.cpu() for x in self.decision(s, distance)])
        return [torch.cat(x) for x in zip(*parts, strict=True)]

    def decision(self, s, distance) -> tuple[torch.Tensor, ...]:
        """What maps of eq. 9 decide (eq. 10): s (n, H', W') and distance, as `nearest` gives them, among all K.

        Returns y (n, n_classes), the predicted class (n,), whether it was a tie (n,), the number of ids (n,).
        """
        s, distance = s.flatten(1), distance.flatten(1)
        y = vote(s, self.n_classes_, self.prototypes_per_class)
        decision = decide(y, s, distance, self.vote, prototypes_per_class=self.prototypes_per_class)
        return y, *decision, ids_per_map(s)

    def _stream(self, backbone, images):
        check_is_fitted(self)
        index = np.arange(_count(images))
        batches = np.split(index, range(self.batch_size, len(index), self.batch_size))
        for batch in Bar(batches, self.name, unit="batch", show=self.progress):
            yield self._features(backbone, images, batch)

    # Keeping a fitted explainer

    def state(self) -> dict[str, torch.Tensor]:
        """What fit learned, as tensors to save; `get_params()` are the rest."""
        check_is_fitted(self)
        size = torch.tensor(self.resolution_)
        return {"prototypes": self.prototypes_, "prototype_sources": self.prototype_sources_, "resolution": size}

    @classmethod
    def from_state(cls, params: dict, tensors: dict[str, torch.Tensor]) -> ConceptExplainer:
        """The fitted explainer of these `get_params()` and this `state()`. Raises ValueError if they do not fit."""
        explainer = cls(**params)
        missing = {"prototypes", "prototype_sources", "resolution"} - set(tensors)
        if missing:
            raise ValueError(f"the state lacks {', '.join(sorted(missing))}: give what ConceptExplainer.state() gave.")
        explainer.prototypes_, explainer.prototype_sources_ = tensors["prototypes"], tensors["prototype_sources"]
        n_classes, rest = divmod(len(explainer.prototypes_), explainer.prototypes_per_class)
        if rest or explainer.prototype_sources_.shape != (len(explainer.prototypes_), 3):
            raise ValueError("the state does not fit prototypes_per_class: it was saved with other parameters.")
        explainer._set_classes(n_classes, tensors["resolution"].tolist())
        return explainer

    def _set_classes(self, n_classes, size):
        self.classes_, self.n_classes_ = torch.arange(n_classes), n_classes
        self.prototype_labels_ = self.classes_.repeat_interleave(self.prototypes_per_class)
        self.resolution_ = tuple(size)

    # Checks

    def _check_params(self):
        if not isinstance(self.blocks, tuple | list) or len(self.blocks) == 0:
            raise ValueError(f"blocks={self.blocks!r} must be a tuple of block numbers, such as (2, 3, 4).")
        check_count("prototypes_per_class", self.prototypes_per_class)
        check_count("batch_size", self.batch_size)
        if self.max_images_per_class is not None:
            check_count("max_images_per_class", self.max_images_per_class)
        check_option("vote", self.vote, ("class", "cluster"))
        make_clusterer(self.clusterer, self.n_init)

    def _check_classes(self, classes, n):
        """Classes (n,) long on the CPU, or None."""
        return None if classes is None else torch.from_numpy(_check_labels(classes, n, self.n_classes_, complete=False))


def fit_together(explainers, backbone, images, labels, n_jobs=1, progress=False):
    """Fit several explainers on the same images, each of which passes through the backbone once: as `fit` of each does.

    One class at a time: memory holds its features, and its rows of each kind that the explainers differ in. Returns
    them; the seconds_ of each are what it would have taken alone: the way through the backbone and its own clustering.
    Raises ValueError as `fit` does, and for an explainer with max_images_per_class: its images are not the others'.
    """
    for explainer in explainers:
        explainer._check_params()
        if explainer.max_images_per_class is not None:
            raise ValueError("max_images_per_class must be None in fit_together: give it the images to be fitted on.")
    labels, done = _check_labels(labels, _count(images), backbone.n_classes), []
    seeds = [_seed(e.random_state) for e in explainers]
    with threadpool_limits(1, user_api="blas"):
        for c in Bar(range(backbone.n_classes), "prototypes", unit="class", show=progress):
            seen = _Seen(explainers[0], backbone, images, np.flatnonzero(labels == c))
            work = (delayed(seen.fit_class)(e, c, seed) for e, seed in zip(explainers, seeds, strict=True))
            done.append(Parallel(n_jobs=n_jobs, backend="threading")(work))
    for e, parts in zip(explainers, zip(*done, strict=True), strict=True):
        *parts, seconds = zip(*parts, strict=True)
        e._set_fitted(list(zip(*parts, strict=True)), backbone.n_classes).seconds_ = round(sum(seconds), 2)
    return explainers


class _Seen:
    """The pictures `index` of a class after their pass through the backbone, and each kind of rows made of them."""

    def __init__(self, explainer, backbone, images, index):
        start = perf_counter()
        self.index, self.kinds = index, {}
        self.batches = list(explainer._batches(backbone, images, index))
        self.seconds = perf_counter() - start

    @torch.no_grad()
    def fit_class(self, explainer, c, seed):
        """What `_fit_class` gives for these pictures, of class c, and the seconds that it would take alone."""
        start = perf_counter()
        if explainer.kind not in self.kinds:
            self.kinds[explainer.kind] = explainer._rows(self.batches, len(self.index)), perf_counter() - start
        (rows, size), seconds = self.kinds[explainer.kind]
        start = perf_counter()
        fitted = explainer._cluster(rows, size, self.index, c, seed)
        return *fitted, self.seconds + seconds + perf_counter() - start


def predicted_class(backbone, features) -> torch.Tensor:
    """The backbone's predicted class (n,), from features that it has already computed (eq. 2)."""
    h = features[-1].flatten(2).transpose(1, 2)
    return pool_then_classify(h, backbone.C, backbone.bias).argmax(dim=1)


def _count(images) -> int:
    if not hasattr(images, "__len__") or len(images) == 0:
        raise ValueError("images is empty or has no length: give a tensor (n, 3, H, W) or an indexable of (3, H, W).")
    return len(images)


def _stack(images, index):
    items = (images[int(i)] for i in index)
    return torch.stack([torch.as_tensor(x[0] if isinstance(x, tuple | list) else x) for x in items])


def _seed(random_state) -> int:
    """One whole number, so that every class starts from the same seed in whatever order workers take them."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _check_labels(labels, n, n_classes, complete=True) -> np.ndarray:
    """Labels (n,) as int64. Raises ValueError for another shape, values outside 0..n_classes-1, or a missing class."""
    labels = np.asarray(as_array(labels))
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {n} whole numbers, one an image, but are {labels.shape} of {labels.dtype}.")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}, but go from {labels.min()} to {labels.max()}.")
    missing = sorted(set(range(n_classes)) - set(labels.tolist()))
    if complete and missing:
        raise ValueError(f"no image of class {', '.join(map(str, missing))}: every class needs images to be clustered.")
    return labels.astype(np.int64)
