"""Attribution maps by other methods, to compare the paper's with: gradients and occlusion by captum, RISE by xaitk.

Each is a function of (net, x, target) that gives one map (n, H, W) of the pictures' size, signed where the method is;
`methods` lists them. Saliency (Simonyan et al. 2013) has a module of its own, and so has Soft-CAM. All raise ValueError
for pictures with NaN or smaller than the network's stride, and for a class that does not exist; those that take
gradients, also where there are none.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import captum.attr
import numpy as np
import torch
from skimage.filters import sobel
from torch import nn
from xaitk_saliency.impls.gen_classifier_conf_sal.rise_scoring import RISEScoring
from xaitk_saliency.impls.perturb_image.rise import RISEGrid

from paperlib.attribution import upsample
from paperlib.backbone import Backbone, StructureError
from paperlib.guards import check_target, finite

IG_STEPS = 16  # points on the way from the mean colour to the picture
WINDOW, STRIDE = 4, 8  # occlusion: a window of a quarter of the side, moved by an eighth
RISE_MASKS, RISE_CELLS, RISE_KEPT = 128, 7, 0.5  # the authors use 4,000 to 8,000 masks


def constants() -> dict[str, float]:
    """The constants that the maps depend on, by name."""
    return {"IG_STEPS": IG_STEPS, "WINDOW": WINDOW, "STRIDE": STRIDE, "RISE_MASKS": RISE_MASKS,
            "RISE_CELLS": RISE_CELLS, "RISE_KEPT": RISE_KEPT}


def check_pictures(net: Backbone, x: torch.Tensor) -> None:
    """Raise ValueError unless x is a batch (n, 3, H, W) of finite numbers, no picture smaller than the stride."""
    if x.ndim != 4 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"pictures must be a non-empty float batch (n, 3, H, W), but x is {tuple(x.shape)} of "
                         f"{x.dtype}.")
    if not finite(x):
        bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"pictures {bad} of the batch hold NaN or infinite numbers: no map means anything for them; "
                         f"leave them out or check how they were normalised.")
    if min(x.shape[-2:]) < net.stride:
        raise ValueError(f"pictures of {x.shape[-2]} x {x.shape[-1]} pixels are smaller than the network's stride, "
                         f"{net.stride}: its last block has not one whole cell for them; give larger ones.")


def with_gradients(net: Backbone, x: torch.Tensor) -> torch.Tensor:
    """A copy of x, on the network's device, whose gradient can be asked for.

    Raises ValueError as `check_pictures`, and where the network gives no gradient: under torch.inference_mode, with
    weights made there, or with a forward pass that runs without gradients. Frozen weights are no hindrance.
    """
    check_pictures(net, x)
    why = "torch.inference_mode is on"
    if not torch.is_inference_mode_enabled():
        x = x.detach().clone().to(net.device).requires_grad_()
        try:
            if net.model(x[:1]).requires_grad:
                return x
            why = "its forward pass runs without gradients"
        except RuntimeError as error:
            if "nference" not in str(error):
                raise
            why = "its weights were made in torch.inference_mode"
    raise ValueError(f"the network gives no gradients ({why}): run it with them, or take B4, B34, B234, occlusion or "
                     f"RISE, which need none.")


def prepared(net: Backbone, x: torch.Tensor, target) -> tuple[torch.Tensor, torch.Tensor]:
    """x `with_gradients`, and its classes (n,), on the network's device; the network in eval mode."""
    net.eval()
    x = with_gradients(net, x)
    return x, check_target(target, len(x), net.n_classes).to(net.device)


def _layer(net: Backbone, block: int) -> nn.Module:
    """The module of block f_b, counted from the last: -1 is f_B."""
    name = net.blocks[block]
    try:
        return net.model.get_submodule(name)
    except AttributeError as error:
        raise StructureError(f"Grad-CAM hooks modules, and block '{name}' is not one; B4 (eq. 11) is the same map at "
                             f"the last block.") from error


@torch.enable_grad()
def grad_cam(net: Backbone, x: torch.Tensor, target, block: int = -1) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017): channels weighted by their mean gradient, positive part; (n, H, W) >= 0.

    At the last block it is the positive part of h . c_j / R, and so of eq. 11 times a number: average pooling and a
    linear classifier make the gradient the same c_j / R at each cell. block -2 is the one before.
    """
    x, target = prepared(net, x, target)
    att = captum.attr.LayerGradCam(net.model, _layer(net, block)).attribute(x, target, relu_attributions=True)
    return upsample(att[:, 0].detach(), x.shape[-2:])


@torch.enable_grad()
def hires_cam(net: Backbone, x: torch.Tensor, target, block: int = -2) -> torch.Tensor:
    """HiResCAM (Draelos and Carin 2020): activation times gradient, cell by cell, summed over channels; (n, H, W).

    At the last block it is Grad-CAM before its positive part is taken; hence the one before.
    """
    x, target = prepared(net, x, target)
    att = captum.attr.LayerGradientXActivation(net.model, _layer(net, block)).attribute(x, target)
    return upsample(att.sum(1).detach(), x.shape[-2:])


@torch.enable_grad()
def integrated_gradients(net: Backbone, x: torch.Tensor, target, steps: int = 0) -> torch.Tensor:
    """Integrated gradients (Sundararajan et al. 2017) from the mean colour, summed over the channels; (n, H, W).

    steps: points on the way, 0 for IG_STEPS.
    """
    x, target = prepared(net, x, target)
    found = captum.attr.IntegratedGradients(net.model).attribute(x, 0.0, target, n_steps=steps or IG_STEPS,
                                                                 internal_batch_size=max(16, len(x)))
    return found.sum(1).detach().float()


@torch.no_grad()
def occlusion(net: Backbone, x: torch.Tensor, target) -> torch.Tensor:
    """Occlusion (Zeiler and Fergus 2014): how far the logit falls when a window takes the mean colour; (n, H, W)."""
    check_pictures(net, x)
    net.eval()
    target = check_target(target, len(x), net.n_classes).to(net.device)
    window, stride = (max(1, min(x.shape[-2:]) // part) for part in (WINDOW, STRIDE))
    found = captum.attr.Occlusion(net.model).attribute(x.to(net.device), (x.shape[1], window, window),
                                                       (x.shape[1], stride, stride), 0.0, target)
    return found.mean(1)


@torch.no_grad()
def rise(net: Backbone, x: torch.Tensor, target, masks: int = 0, seed: int = 0) -> torch.Tensor:
    """RISE (Petsiuk et al. 2018): masks weighted by the probability of what they leave to be seen; (n, H, W), signed.

    All pictures share the same seeded masks, RISE_MASKS of them where `masks` is 0; what they hide takes the mean
    colour.
    """
    check_pictures(net, x)
    net.eval()
    target = check_target(target, len(x), net.n_classes).tolist()
    grid = _masks(masks or RISE_MASKS, x.shape[-2:], seed)
    seen, found = torch.as_tensor(grid, dtype=x.dtype, device=net.device)[:, None], []
    for picture, c in zip(x.to(net.device), target, strict=True):
        p = torch.cat([net.model(picture * part).softmax(1)[:, c] for part in seen.split(16)]).cpu().double().numpy()
        found.append(RISEScoring(RISE_KEPT).generate(p[:1, None], p[:, None], grid)[0])
    return torch.as_tensor(np.stack(found), dtype=x.dtype)


@lru_cache(maxsize=4)
def _masks(n: int, size, seed: int) -> np.ndarray:
    return RISEGrid(n, RISE_CELLS, RISE_KEPT, seed, threads=0).perturb(np.zeros(tuple(size))).astype(np.float32)


def centre(net: Backbone, x: torch.Tensor, target) -> torch.Tensor:
    """No method but a floor: a bump in the middle of the picture, whatever it shows; (n, H, W) > 0."""
    rows, columns = (torch.linspace(-1, 1, n).square() for n in x.shape[-2:])
    return torch.exp(-2 * (rows[:, None] + columns)).expand(len(x), -1, -1)


def edges(net: Backbone, x: torch.Tensor, target) -> torch.Tensor:
    """No method but a floor: the picture's edges (Sobel), whatever the network; (n, H, W) >= 0."""
    check_pictures(net, x)
    return torch.as_tensor(np.stack([sobel(picture) for picture in x.mean(1).cpu().numpy()]), dtype=x.dtype)


def methods(net: Backbone) -> dict[str, Callable]:
    """name -> method; Grad-CAM and HiResCAM also at the block before the last, where there is one."""
    found, before = {"Grad-CAM": grad_cam}, len(net.blocks) - 1
    if before:
        found |= {f"Grad-CAM, block {before}": partial(grad_cam, block=-2), f"HiResCAM, block {before}": hires_cam}
    return found | {"integrated gradients": integrated_gradients, "occlusion": occlusion, "RISE": rise, "edges": edges,
                    "centre": centre}
