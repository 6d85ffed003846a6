"""Section 3.3, eq. 7 to 9: the rows of composite features, and each row's nearest prototype.

`composite` and `assign` are the equations as printed. `scaling.factored` gives the same without making the rows, at a
fraction of the cost. Letters as in `paperlib.concepts`.
"""
from __future__ import annotations

from functools import partial
from numbers import Real

import torch
import torch.nn.functional as F

from paperlib.guards import check_option, check_shapes, check_size

# The choices that the paper leaves. Eq. 7: how a block's output is brought to another size.
MODES = {mode: partial(F.interpolate, mode=mode, align_corners=False) for mode in ("bilinear", "bicubic")}
MODES["nearest"] = partial(F.interpolate, mode="nearest")
NORMS = {  # eq. 8: what a block is divided by, from its cells' norms (n, 1, H', W')
    "row": lambda norms: norms,
    "tensor": lambda norms: torch.linalg.vector_norm(norms, dim=(2, 3), keepdim=True),
    "none": torch.ones_like,
}
TINY = 1e-12  # the least that eq. 8 divides by, so that a row of zeros, as a ReLU can leave, stays zero
BLOCK_WEIGHTS = {  # eq. 8: the factor of a block with D channels
    "inv_dim": lambda D: 1 / D,  # as printed
    "inv_dim_plus_one": lambda D: 1 / (1 + D),
    "inv_sqrt_dim": lambda D: D**-0.5,
    "none": lambda D: 1.0,
    "dim": lambda D: float(D),
}


def check_choices(norm, block_weight, mode) -> None:
    """Raise ValueError for an option that `composite` does not know."""
    check_option("norm", norm, NORMS)
    check_option("mode", mode, MODES)
    if not isinstance(block_weight, Real) or isinstance(block_weight, bool):
        check_option("block_weight", block_weight, BLOCK_WEIGHTS)


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
    check_choices(norm, block_weight, mode)
    size = features[0].shape[-2:] if resolution is None else check_size("resolution", resolution)
    u = [resize(x, size, mode) for x in features]
    q = [x * factor(x, norm, block_weight)[0] for x in u]
    return torch.cat([x.permute(0, 2, 3, 1) for x in q], dim=-1)


def factor(u: torch.Tensor, norm="row", block_weight="inv_dim") -> tuple[torch.Tensor, torch.Tensor]:
    """What eq. 8 multiplies each cell of a block by, and the norms that its cells have then: (n, 1, H', W') both.

    u (n, D_b, H', W'), the block after eq. 7; norm and block_weight as in `composite`.
    """
    weight = BLOCK_WEIGHTS.get(block_weight, lambda D: float(D) ** float(block_weight))
    norms = torch.linalg.vector_norm(u, dim=1, keepdim=True)
    by = (weight(u.shape[1]) / NORMS[norm](norms).clamp_min(TINY)).expand_as(norms)
    return by, by * norms


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
