"""Soft-CAM (Djoumessi and Berens, arXiv 2505.17748): pooling and classifier become a class evidence layer.

The layer is a 1x1 convolution that turns each cell of the last block into evidence for each class. The maps, averaged,
are the logits, and they are the explanation. By Theorem 1 (eq. 4) every backbone's classifier is such a layer already;
what Soft-CAM adds is to train it, with a penalty on the maps, so that evidence becomes sparse.
"""
from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from paperlib.backbone import Backbone, extractor
from paperlib.datasets.pictures import Pictures
from paperlib.guards import check_target
from paperlib.networks import training


class SoftCAM(nn.Module):
    """Blocks f_1..f_B, class evidence layer, average: A = h . C + bias at each cell, y = avg.pool(A).

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

        target: a class for each picture (n,), or one for all. Raises ValueError for a class that does not exist.
        """
        self.eval()
        A = self.maps(x.to(self.device))
        return A if target is None else A[torch.arange(len(A)), check_target(target, len(A), self.n_classes)]

    def difference(self, net: Backbone) -> dict[str, torch.Tensor]:
        """The tensors, by name, in which this network differs from SoftCAM(net), by so much as a bit."""
        first = SoftCAM(net).state_dict()
        return {name: tensor for name, tensor in self.state_dict().items() if not _same_bits(tensor, first[name])}

    def load_difference(self, tensors: dict[str, torch.Tensor]) -> SoftCAM:
        """This network, which must be SoftCAM(net) of the same net, after `tensors` of `difference(net)` are put in.

        Raises ValueError for tensors that are not of this network.
        """
        own = self.state_dict()
        wrong = [name for name, tensor in tensors.items() if name not in own or own[name].shape != tensor.shape]
        if wrong:
            raise ValueError(f"The difference does not belong to this network: it has no {wrong[0]} of that shape; "
                             f"start from SoftCAM of the network that it was taken from.")
        self.load_state_dict({**own, **tensors})
        return self


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if the values are the same to the last bit: NaN equals NaN, 0.0 does not equal -0.0."""
    return torch.equal(*(x.detach().cpu().reshape(-1).view(torch.uint8) for x in (a, b)))


class _Last(nn.Module):
    """The output of one block, (n, D, H, W)."""

    def __init__(self, model: nn.Module, block: str):
        super().__init__()
        self.encoder = extractor(model, (block,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[0]


def penalty(A: torch.Tensor, l1: float, l2: float) -> torch.Tensor:
    """l1 ||A||_1 + l2 ||A||_2, the norms of one picture's evidence for all classes, averaged over pictures.

    A (n, n_classes, H, W). The authors' loop takes the norms of `activations[0]`, which is the first picture's alone;
    in expectation over batches that is our mean. The same l1 still weighs differently here, for norms grow with the
    map's cells and the number of classes, and our fine-tuning is shorter than theirs.
    """
    flat = A.flatten(1)
    return l1 * flat.abs().sum(1).mean() + l2 * flat.norm(dim=1).mean()


def loss(A: torch.Tensor, target: torch.Tensor, l1: float = 0.0, l2: float = 0.0) -> torch.Tensor:
    """Cross-entropy of the averaged evidence, and the penalty on the maps: A (n, n_classes, H, W), target (n,)."""
    return nn.functional.cross_entropy(A.mean((2, 3)), target) + penalty(A, l1, l2)


def finetune(soft: SoftCAM, pictures: Pictures, recipe: training.Recipe, l1: float = 0.0, l2: float = 0.0,
             seed: int = 0, unfinished: Path | None = None, progress: bool = True) -> dict:
    """Train blocks and evidence layer together, in place; returns what `training.train` reports, and l1 and l2.

    Raises ValueError for a negative l1 or l2, and where `training.train` does.
    """
    training.check_not_negative(l1=l1, l2=l2)
    report = training.train(soft.maps, pictures, recipe, seed, unfinished, progress, partial(loss, l1=l1, l2=l2),
                            name="Soft-CAM")
    return {**report, "l1": l1, "l2": l2}
