"""Scores of attribution and concept maps, with the truth and without. Each is one number per picture.

Quantus has the pointing game, relevance mass, sparseness and pixel flipping; tests hold ours to its numbers. Ours
differ where maps are flat or constant on segments, as the paper's are: pixels that share the maximum share the hit
(Quantus counts one if any of them lies on the mask), a map without positive part says nothing of place and scores the
mask's area, and an empty mask gives "not a number" (Quantus: a hit).
"""
from __future__ import annotations

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr
from skimage.segmentation import slic
from sklearn.metrics import adjusted_rand_score, auc
from sklearn.metrics.cluster import contingency_matrix
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from paperlib.backbone import Backbone
from paperlib.guards import check_target, finite


def pointing_game(att: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 where a map's highest pixel lies on the mask, else 0 (Zhang et al. 2016): att, mask (n, H, W) -> (n,).

    Of several highest pixels, the share that lies on it. Not a number where the mask is empty. Raises ValueError for
    shapes that differ, or NaN.
    """
    att, mask = _checked(att, mask)
    highest = (att == att.amax(1, keepdim=True)).double()
    return _nan_where_empty((highest * mask).sum(1) / highest.sum(1), mask)


def relevance_mass(att: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Share of a map's positive part that lies on the mask (Arras et al. 2022): att, mask (n, H, W) -> (n,) in 0..1.

    The mask's area where the map has no positive part. Not a number where the mask is empty. Errors as
    `pointing_game`.
    """
    att, mask = _checked(att, mask)
    positive = att.clamp_min(0)
    positive = torch.where(positive.sum(1, keepdim=True) > 0, positive, 1.0)
    return _nan_where_empty((positive * mask).sum(1) / positive.sum(1), mask)


def gini(att: torch.Tensor) -> torch.Tensor:
    """Sparseness: the Gini index of |att| (Chalasani et al. 2020), 0 for a flat map, near 1 for a single pixel.

    att (n, H, W) -> (n,); 0 for a map that is zero.
    """
    a = att.flatten(1).double().abs().sort(1).values
    n = a.shape[1]
    total = a.sum(1)
    index = ((2 * torch.arange(1, n + 1, device=a.device) - n - 1) * a).sum(1) / (n * total)
    return torch.where(total > 0, index, 0.0)


def about_mean(att: torch.Tensor) -> torch.Tensor:
    """Maps (n, H, W) less their means, as eq. 11 is read, whose zero is arbitrary; 0 where that is but rounding."""
    mean = att.mean((1, 2), keepdim=True)
    flat = att.std((1, 2), keepdim=True) < 1e-3 * att.abs().mean((1, 2), keepdim=True)
    return torch.where(flat, 0.0, att - mean)


def capped(att: torch.Tensor, share: float = 0.02) -> torch.Tensor:
    """Maps (n, H, W) whose largest absolute values are cut at the one that a `share` of the places exceed.

    So that a few pixels far above all others do not make the rest of a drawn map blank.
    """
    most = att.flatten(1).abs().quantile(1 - share, dim=1)[:, None, None]
    return att.clamp(-most, most)


def shifted(x: torch.Tensor, pixels: int) -> torch.Tensor:
    """Pictures (n, 3, H, W) moved right and down by `pixels`; the edge's colours fill what comes in."""
    return nn.functional.pad(x, (pixels, 0, pixels, 0), mode="replicate")[..., : x.shape[-2], : x.shape[-1]]


def verdict_changes(att: torch.Tensor, moved: torch.Tensor, pixels: int) -> torch.Tensor:
    """Share of pixels whose verdict, above or below the map's mean, is another once the picture is `shifted`.

    att, moved (n, H, W): the maps of a picture and of the same picture moved -> (n,). Compared is what both show.
    Chance is one half for maps that are as often above as below. Raises ValueError for shapes that differ.
    """
    if att.shape != moved.shape or not 0 <= pixels < min(att.shape[1:]):
        raise ValueError(f"maps of {tuple(att.shape)} and {tuple(moved.shape)}, moved by {pixels} pixels, do not fit.")
    h, w = att.shape[1] - pixels, att.shape[2] - pixels
    before, after = att[:, :h, :w].flatten(1), moved[:, pixels:, pixels:].flatten(1)
    above = [a > a.mean(1, keepdim=True) for a in (before.double(), after.double())]
    return (above[0] != above[1]).double().mean(1)


def part_order(att: torch.Tensor, labels: torch.Tensor, falls: torch.Tensor) -> torch.Tensor:
    """Spearman's correlation, over a picture's parts, of a map's sum on the part with what swapping the part does.

    att, labels (n, H, W), falls (n, parts) as `truth.falls` gives them: column p - 1 belongs to the part that `labels`
    calls p. Returns (n,): 1 where the map ranks the parts as the network's logits do, about 0 where it does not know.
    Not a number where no part was swapped, or the map gives all parts the same. FunnyBirds (Hesse et al. 2023) removes
    parts and correlates likewise.
    """
    n, parts = falls.shape
    sums = att.new_zeros(n, parts + 1, dtype=torch.double)
    sums.scatter_add_(1, labels.flatten(1).long(), att.flatten(1).double())
    found = []
    for e, f in zip(sums[:, 1:].numpy(), falls.numpy(), strict=True):
        seen = ~np.isnan(f)
        varies = seen.sum() > 2 and np.ptp(e[seen]) > 0 and np.ptp(f[seen]) > 0
        found.append(spearmanr(e[seen], f[seen]).statistic if varies else np.nan)
    return torch.tensor(found, dtype=torch.float64)


@torch.no_grad()
def flipping(net: Backbone, x: torch.Tensor, att: torch.Tensor, target, steps: int = 8, insert: bool = False,
             blank: torch.Tensor | None = None, seed: int = 0, blobs: torch.Tensor | None = None) -> torch.Tensor:
    """Deletion curve (Petsiuk et al. 2018): the probability of `target` as pixels go, the map's highest first.

    x (n, 3, H, W), att (n, H, W) -> (n, steps + 1), from all pixels to none. What goes is replaced by `blank`
    (n, 3, H, W), by default the picture blurred, so that no new edge appears. insert: the insertion curve, from the
    blank picture to the whole. blobs (n, H, W), whole numbers: pieces that go as a whole, by the map's mean on them, so
    that a smooth map and one that is constant on segments delete alike; by default each pixel is one. Equals go in an
    order drawn from the seed. Raises ValueError for shapes that differ, NaN, fewer than one step, or a class that does
    not exist.
    """
    _check_maps(att)
    if att.shape != (len(x), *x.shape[-2:]) or steps < 1 or (blobs is not None and blobs.shape != att.shape):
        raise ValueError(f"att is {tuple(att.shape)} for pictures {tuple(x.shape)} and {steps} steps: give one map of "
                         f"each picture's size (blobs too), and at least one step.")
    x, target = x.to(net.device), check_target(target, len(x), net.n_classes).to(net.device)
    blank = blurred(x) if blank is None else blank.to(net.device)
    rank, pixels, curve = ranks(att, seed, blobs).to(net.device), att[0].numel(), []
    for step in range(steps + 1):
        gone = (rank < round(pixels * step / steps)).view(len(x), 1, *x.shape[-2:])
        seen = torch.where(gone, *((x, blank) if insert else (blank, x)))
        curve.append(net(seen).softmax(1).gather(1, target[:, None])[:, 0].cpu())
    return torch.stack(curve, 1)


def ranks(att: torch.Tensor, seed: int = 0, blobs: torch.Tensor | None = None) -> torch.Tensor:
    """How many pixels go before each one, (n, H, W) -> (n, H W); equal ones in an order drawn from the seed.

    blobs: as in `flipping`; the pixels of a blob go together, with those that go before the blob counted.
    """
    flat = att.detach().cpu().flatten(1).double().numpy()
    ids = np.tile(np.arange(flat.shape[1]), (len(flat), 1)) if blobs is None else blobs.flatten(1).numpy()
    drawn, found = np.random.default_rng(seed).permutation(flat.shape[1]), []
    for row, own in zip(flat, ids, strict=True):
        _, place, size = np.unique(own, return_inverse=True, return_counts=True)
        order = np.lexsort((drawn[: len(size)], -np.bincount(place, row) / size))
        before = np.empty_like(size)
        before[order] = np.cumsum(size[order]) - size[order]
        found.append(before[place])
    return torch.as_tensor(np.stack(found))


def blobs(pixels: torch.Tensor, n: int = 64) -> torch.Tensor:
    """About n pieces of each picture that follow its edges and no method's map (SLIC superpixels).

    pixels (m, 3, H, W) uint8 -> (m, H, W) whole numbers.
    """
    cut = [slic(np.moveaxis(picture.numpy(), 0, -1), n, compactness=10, start_label=0) for picture in pixels]
    return torch.as_tensor(np.stack(cut))


def blurred(x: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, H, W) out of focus: a Gaussian whose deviation is a tenth of the side."""
    sigma = min(x.shape[-2:]) / 10
    kernel = min(2 * round(2 * sigma) + 1, 2 * ((min(x.shape[-2:]) - 1) // 2) + 1)
    across = gaussian_blur(x, [kernel, 1], [sigma, sigma])  # one direction after the other: a Gaussian is a product
    return gaussian_blur(across, [1, kernel], [sigma, sigma])


def area_under(curves: torch.Tensor) -> torch.Tensor:
    """Area under curves (n, steps + 1) over a fraction from 0 to 1 -> (n,)."""
    place = np.linspace(0, 1, curves.shape[1])
    return torch.tensor([auc(place, curve) for curve in curves.double().numpy()], dtype=torch.float64)


def part_match(segments, parts) -> dict[str, float]:
    """Agreement of one picture's segments with its parts: adjusted Rand index, purity, and mean best IoU of the parts.

    segments (h, w): the number of the concept in each cell of a map; parts (H, W): that of the part at each pixel, 0
    for the background, negative for unknown, which is left out; H and W are multiples of h and w. Purity: the share of
    pixels whose part is the commonest of their segment. IoU: of each part but the background with the segment that fits
    it best. Raises ValueError for sizes that do not fit, or a picture without a part.
    """
    segments, parts = np.asarray(segments), np.asarray(parts)
    times = [n // m for n, m in zip(parts.shape, segments.shape, strict=True)]
    if [n * t for n, t in zip(segments.shape, times, strict=True)] != list(parts.shape):
        raise ValueError(f"segments {segments.shape} and parts {parts.shape} do not fit: the parts' sides must be "
                         f"multiples of the segments'.")
    known = parts >= 0
    s, p = np.kron(segments, np.ones(times, dtype=segments.dtype))[known], parts[known]
    if not (p > 0).any():
        raise ValueError("parts has no part but the background: leave such a picture out.")
    table = contingency_matrix(p, s)
    union = table.sum(1, keepdims=True) + table.sum(0) - table
    iou = (table / union).max(1)[np.unique(p) > 0]
    return {"ARI": adjusted_rand_score(p, s), "purity": table.max(0).sum() / len(p), "IoU": float(iou.mean())}


def interval(values, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of a mean over pictures: values (n,), "not a number" left out -> (low, high), percentiles.

    Raises ValueError for fewer than two numbers.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        raise ValueError(f"values holds {len(values)} numbers: an interval needs two or more.")
    found = bootstrap((values,), np.mean, n_resamples=2000, confidence_level=level, method="percentile",
                      rng=np.random.default_rng(seed)).confidence_interval
    return float(found.low), float(found.high)


def _check_maps(att):
    if att.ndim != 3 or 0 in att.shape or not finite(att):
        raise ValueError(f"maps must be (n, H, W) without NaN, but they are {tuple(att.shape)}: check the network and "
                         f"the pictures.")


def _checked(att, mask):
    """Both as (n, H W), double and bool."""
    att, mask = torch.as_tensor(att).cpu(), torch.as_tensor(mask).cpu()
    _check_maps(att)
    if mask.shape != att.shape:
        raise ValueError(f"mask is {tuple(mask.shape)} and the maps are {tuple(att.shape)}: bring them to one size "
                         f"first (attribution.upsample).")
    return att.flatten(1).double(), mask.flatten(1).bool()


def _nan_where_empty(score, mask):
    return torch.where(mask.any(1), score, torch.nan)
