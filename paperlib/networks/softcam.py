"""Soft-CAM (Djoumessi and Berens, arXiv 2505.17748): pooling and classifier become a class evidence layer.

The layer is a 1x1 convolution that turns each pixel of the last block into evidence for each class. The maps, averaged,
are the logits, and they are the explanation. By Theorem 1 (eq. 4) every backbone's classifier is such a layer already;
what Soft-CAM adds is to train it, with a penalty on the maps, so that evidence becomes sparse.
"""
from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from paperlib.attribution import check_target
from paperlib.backbone import Backbone, extractor
from paperlib.datasets.pictures import Pictures
from paperlib.networks import training


class SoftCAM(nn.Module):
    """Blocks f_1..f_B, class evidence layer, average: A = h . C + bias at each pixel, y = avg.pool(A).

    Taken over from a Backbone: the layer's weights are the classifier's columns, so that the predictions are the
    Backbone's (right side of eq. 4). The network is copied, and training this one leaves the Backbone as it is.
    """

    def __init__(self, net: Backbone):
        super().__init__()
        layer = nn.Conv2d(*net.C.shape, 1, bias=net.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(net.C.T[:, :, None, None])
            if net.bias is not None:
                layer.bias.copy_(net.bias)
        # The evidence maps A (n, n_classes, H, W) of pictures (n, 3, H, W), as a module of its own that can be trained.
        self.maps = nn.Sequential(_Last(deepcopy(net.model), net.blocks[-1]), layer.to(net.device))
        self.eval()

    @property
    def n_classes(self) -> int:
        return self.maps[1].out_channels

    @property
    def device(self) -> torch.device:
        return self.maps[1].weight.device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """y, the logits (n, n_classes): the mean of each evidence map."""
        return self.maps(x).mean((2, 3))

    @torch.no_grad()
    def evidence(self, x: torch.Tensor, target=None) -> torch.Tensor:
        """The evidence maps, in logits: A (n, n_classes, H, W), or those of `target` alone, (n, H, W).

        target: a class for each picture (n,), or one for all. Raises ValueError for one that there is not.
        """
        self.eval()
        A = self.maps(x.to(self.device))
        return A if target is None else A[torch.arange(len(A)), check_target(target, len(A), self.n_classes)]


class _Last(nn.Module):
    """The output of one block, (n, D, H, W)."""

    def __init__(self, model: nn.Module, block: str):
        super().__init__()
        self.encoder = extractor(model, (block,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[0]


def penalty(A: torch.Tensor, l1: float, l2: float) -> torch.Tensor:
    """l1 ||A||_1 + l2 ||A||_2, the norms of one picture's evidence for all classes, averaged over pictures.

    A (n, n_classes, H, W). The authors' code takes the norms of a whole batch at once; ours do not depend on its size.
    """
    flat = A.flatten(1)
    return l1 * flat.abs().sum(1).mean() + l2 * flat.norm(dim=1).mean()


def loss(A: torch.Tensor, target: torch.Tensor, l1: float = 0.0, l2: float = 0.0) -> torch.Tensor:
    """Cross-entropy of the averaged evidence, and the penalty on the maps: A (n, n_classes, H, W), target (n,)."""
    return nn.functional.cross_entropy(A.mean((2, 3)), target) + penalty(A, l1, l2)


def finetune(soft: SoftCAM, pictures: Pictures, recipe: training.Recipe, l1: float = 0.0, l2: float = 0.0,
             seed: int = 0, unfinished: Path | None = None, progress: bool = True) -> dict:
    """Train blocks and evidence layer together, in place; returns what `training.train` reports, and l1 and l2.

    Raises ValueError for a negative l1 or l2, and for a network that cannot learn: frozen, or in inference mode.
    """
    if l1 < 0 or l2 < 0:
        raise ValueError(f"l1 is {l1} and l2 is {l2}: a penalty cannot be negative, give 0 or more.")
    if torch.is_inference_mode_enabled() or not any(p.requires_grad for p in soft.parameters()):
        raise ValueError("the network cannot be trained: all its weights are frozen, or torch.inference_mode is on; "
                         "set requires_grad_(True) and train outside of inference mode.")
    report = training.train(soft.maps, pictures, recipe, seed, unfinished, progress, partial(loss, l1=l1, l2=l2))
    return {**report, "l1": l1, "l2": l2}
