"""Section 3.3, feature importance: attribution maps (eq. 11) and their way upstream."""
from __future__ import annotations

import torch

from paperlib.composite import MODES, resize
from paperlib.guards import check_option, check_shapes, check_size, check_target

UPSAMPLING = {name: MODES[name] for name in ("bilinear", "nearest")}
SEGMENTS = {"predicted": lambda target: target, "all": lambda target: None}  # among whose prototypes; None: all
BASES = ("raw", "averaged")


def attribute(h: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """Attribution of each row to each class, h_r . c_j / ||c_j||^2 (eq. 11).

    h (n, R, D), C (D, n_classes) -> (n, R, n_classes), without unit: a row equal to c_j scores 1. The mean over rows
    times ||c_j||^2 is the logit without bias. Errors as in `theorem1.pool_then_classify`; ValueError for a zero c_j.
    """
    check_shapes(h=(h, "n R D"), C=(C, "D n_classes"))
    squares = C.square().sum(dim=0)
    if not squares.all():
        zero = (squares == 0).nonzero().flatten().tolist()
        raise ValueError(f"the classifier's columns {zero} are zero: eq. 11 is not defined for these classes.")
    return h @ C / squares


def upsample(att: torch.Tensor, size, mode: str = "bilinear") -> torch.Tensor:
    """Step 2 of the way upstream: att (n, h, w) -> (n, H, W). size (H, W) or one number; mode "bilinear" or "nearest".

    "nearest" conserves the mean exactly if H and W are multiples of h and w. Raises ValueError for wrong shapes.
    """
    check_option("mode", mode, UPSAMPLING)
    check_shapes(att=(att, "n H W"))
    return resize(att[:, None], check_size("size", size), mode)[:, 0]


def refine(att: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Step 3 of the way upstream: segment-wise average, so that the cells of one segment share a score.

    att (n, H, W), segments (n, H, W) whole numbers -> (n, H, W). A segment is all cells of one image with the same
    number, connected or not. Conserves each image's mean. Raises ValueError for wrong or unequal shapes, or NaN.
    """
    check_shapes(att=(att, "n H W"))
    if segments.shape != att.shape or segments.is_floating_point():
        raise ValueError(f"segments must be whole numbers shaped as att, {tuple(att.shape)}, but are "
                         f"{tuple(segments.shape)} of {segments.dtype}.")
    numbers, key = segments.unique(return_inverse=True)
    key = key.flatten(1)
    means = att.new_zeros(len(att), len(numbers)).scatter_reduce_(1, key, att.flatten(1), "mean", include_self=False)
    return means.gather(1, key).view_as(att)


def shares(att: torch.Tensor, segments: torch.Tensor) -> dict[int, float]:
    """Each segment's share of the evidence, cells times mean score: {number: share}, their sum is 1.

    att (H, W) of one image, segments (H, W) whole numbers. It is the segment's share of the logit (without bias), and
    negative where it speaks against the class.
    """
    total = att.double().sum()
    return {int(k): float(att.double()[segments == k].sum() / total) for k in segments.unique()}


def upstream(features, C, explainers, target, segments="predicted", base="raw", mode="bilinear", return_segments=False):
    """Attribution maps from depth B upstream (steps 1 to 3 after eq. 11): {"B4": (n, H, W), "B34": ..., "B234": ...}.

    features    list of B tensors (n, D_b, H_b, W_b), as `backbone.features` gives
    C           (D, n_classes), the backbone's classifier
    explainers  fitted `ConceptExplainer`s of every suffix, deepest first: B4, B34, B234, ...
    target      class of each image (n,), or one class for all
    segments    "predicted": maps among the target class's prototypes; "all": maps among all K (eq. 9)
    base        the map at depth B: "raw" eq. 11, or "averaged" over the deepest explainer's segments
    mode        upsampling, "bilinear" or "nearest"

    With return_segments also the concept maps (n, H, W), by name, so that both come from one pass. Raises ValueError
    for an unknown option, explainers that are not growing suffixes, or a target that does not fit.
    """
    for option in (("segments", segments, SEGMENTS), ("base", base, BASES), ("mode", mode, UPSAMPLING)):
        check_option(*option)
    _check_suffixes(explainers, len(features))
    target = check_target(target, len(features[0]), C.shape[1]).to(C.device)
    att, maps, concepts = _of_target(features[-1], C, target), {}, {}
    for depth, explainer in enumerate(explainers):
        refined = depth > 0 or base == "averaged"
        if refined or return_segments:
            s = concepts[explainer.name] = explainer.maps_from_features(features, SEGMENTS[segments](target))
        if refined:
            att = refine(upsample(att, s.shape[-2:], mode), s)
        maps[explainer.name] = att
    return (maps, concepts) if return_segments else maps


def _of_target(x, C, target):
    """Eq. 11 at depth B for the target classes: x (n, D, H, W) -> (n, H, W)."""
    att = attribute(x.flatten(2).transpose(1, 2), C)
    return att[torch.arange(len(x), device=x.device), :, target].view(len(x), *x.shape[-2:])


def _check_suffixes(explainers, B):
    wanted = [tuple(range(B - d, B + 1)) for d in range(len(explainers))]
    if not explainers or [tuple(e.blocks) for e in explainers] != wanted:
        names = ", ".join(e.name for e in explainers) or "none"
        raise ValueError(f"explainers must be of every suffix, deepest first: B{B}, B{B - 1}{B}, ...; given: {names}.")
