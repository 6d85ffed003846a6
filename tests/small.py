"""Small networks and pictures that several tests share."""
from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from paperlib.backbone import Backbone

CUB_SIDES = [(90, 60), (61, 97), (64, 64), (200, 30), (31, 150), (250, 188)] * 2  # width, height
CUB_PARTS = ["back", "beak", "left eye"]


class Net(nn.Module):
    """Two blocks of stride 2, average pooling, linear classifier: 16 px to 4 x 4 pixels."""

    def __init__(self, n_classes: int = 3, bias: bool = True):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.BatchNorm2d(7), nn.ReLU())
        self.fc = nn.Linear(7, n_classes, bias=bias)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))


def backbone(kind=Net, seed: int = 0, **more) -> Backbone:
    torch.manual_seed(seed)
    return Backbone(kind(**more), ("one", "two"), "fc", (3, 16, 16))


def batch(n: int = 4, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def tiny(n_classes: int) -> nn.Module:
    """A network of one's own for the notebooks: four blocks that divide a picture's side by 32, as a ResNet does."""
    def block(i, o, stride):
        return nn.Sequential(nn.Conv2d(i, o, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

    return nn.Sequential(OrderedDict(
        one=block(3, 8, 4), two=block(8, 12, 2), three=block(12, 16, 2), four=block(16, 32, 2),
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(32, n_classes, bias=False)))
