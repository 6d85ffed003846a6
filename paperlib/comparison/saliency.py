"""Saliency (Simonyan, Vedaldi and Zisserman 2013, arXiv 1312.6034): what the gradient of a class score shows."""
from __future__ import annotations

import captum.attr
import cv2
import numpy as np
import torch
from skimage.measure import label, regionprops

from paperlib.backbone import Backbone
from paperlib.comparison.methods import prepared, with_gradients
from paperlib.guards import check_target
from paperlib.progress import Bar


@torch.enable_grad()
def saliency_map(net: Backbone, x: torch.Tensor, target) -> torch.Tensor:
    """The class saliency map, M_ij = max over channels of |dS_c / dI| (section 3): (n, 3, H, W) -> (n, H, W) >= 0.

    target: a class for each picture, or one for all; S_c is its logit. Raises ValueError for a network that gives no
    gradients, pictures smaller than its stride, or a class out of range.
    """
    x, target = prepared(net, x, target)
    return captum.attr.Saliency(net.model).attribute(x, target).amax(1).detach()


@torch.enable_grad()
def visualise(net: Backbone, target, size: int, steps: int = 100, lr: float = 3.0, l2: float = 1e-3,
              progress: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Class model visualisation: the picture that maximises S_c(I) - l2 ||I||_2^2 (section 2), for each of `target`.

    Gradient ascent from the zero picture, which is the mean colour, in the network's normalised units. Each step is lr
    long, whatever the gradient's length: near the zero picture it differs by orders from class to class. target (k,)
    classes. Returns the pictures (k, 3, size, size), not clipped to colours that exist, and S_c before each step
    (steps, k). Raises ValueError as `saliency_map`, and for steps below 1 or a negative l2.
    """
    if steps < 1 or l2 < 0:
        raise ValueError(f"steps is {steps} and l2 is {l2}; give at least 1 step and a penalty of 0 or more.")
    target = torch.as_tensor(target).reshape(-1)
    target = check_target(target, len(target), net.n_classes).to(net.device)
    net.eval()
    picture, scores = with_gradients(net, torch.zeros(len(target), 3, size, size)), []
    for _ in Bar(range(steps), "ascent", show=progress):
        score = net.model(picture).gather(1, target[:, None])[:, 0]
        slope, = torch.autograd.grad((score - l2 * picture.square().sum((1, 2, 3))).sum(), picture)
        with torch.no_grad():
            picture += lr * slope / slope.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        scores.append(score.detach())
    return picture.detach(), torch.stack(scores).cpu()


def localise(picture, saliency, high: float = 95, low: float = 30) -> tuple[torch.Tensor, np.ndarray]:
    """Weakly supervised localisation (section 3.2): the object's box (x1, y1, x2, y2) in pixels, and its mask (H, W).

    picture (3, H, W) uint8, saliency (H, W). Pixels above the percentile `high` are foreground, those below `low`
    background, and a graph cut on colours (OpenCV's GrabCut) decides on the others, as in the paper. The box holds the
    largest connected piece of foreground. Where no pixel stands out, it is the whole picture. Raises ValueError for
    shapes that differ, NaN, or percentiles that are not 0 < low < high < 100.
    """
    picture, saliency = np.asarray(picture), np.asarray(saliency, dtype=float)
    if picture.shape[1:] != saliency.shape or not np.isfinite(saliency).all():
        raise ValueError(f"saliency is {saliency.shape} for a picture {picture.shape}: give a map of the picture's "
                         f"size without NaN.")
    if not 0 < low < high < 100:
        raise ValueError(f"low is {low} and high is {high}: percentiles must be 0 < low < high < 100.")
    bottom, top = np.percentile(saliency, [low, high])
    if bottom == top:
        return torch.tensor([0, 0, *saliency.shape[::-1]], dtype=torch.float32), np.ones(saliency.shape, bool)
    seeds = np.full(saliency.shape, cv2.GC_PR_BGD, dtype=np.uint8)
    seeds[saliency <= bottom], seeds[saliency >= top] = cv2.GC_BGD, cv2.GC_FGD
    cv2.setRNGSeed(0)  # GrabCut begins with k-means on colours
    colours = np.ascontiguousarray(picture.transpose(1, 2, 0)[..., ::-1])
    cv2.grabCut(colours, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    mask = np.isin(seeds, (cv2.GC_FGD, cv2.GC_PR_FGD))
    piece = max(regionprops(label(mask)), key=lambda region: region.area)
    y1, x1, y2, x2 = piece.bbox
    return torch.tensor([x1, y1, x2, y2], dtype=torch.float32), mask
