"""The truth of drawn birds: oracles of a grid, and what swapping a part does to the network's lead."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from paperlib.comparison import truth
from paperlib.datasets import birds


def test_an_oracle_is_the_share_of_the_mask_in_each_cell():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :3, :4] = True
    found = truth.oracle(mask, (2, 2), "nearest")
    assert found.shape == (1, 8, 8) and found[0, 0, 0] == 0.75 and found[0, 7, 7] == 0
    torch.testing.assert_close(found.mean(), mask.float().mean())


class Scenes:
    """Two drawn birds of 4 x 4 pixels: the parts of species 0 and 2 differ; redrawing writes down what was asked."""

    def __init__(self):
        apart = truth.distinguishing(0, 2)
        self.masks = torch.zeros(2, 4, 4, dtype=torch.uint8)
        self.masks[:, 0, 0], self.masks[0, 1, 1], self.masks[:, 2, 2] = apart[0], apart[1], 12
        self.asked = []

    def __getitem__(self, i):
        return torch.zeros(3, 4, 4)

    def redrawn(self, i, like, parts):
        self.asked.append((i, like, parts))
        return torch.full((3, 4, 4), 1.0 + birds.PARTS.index(parts[0]))


def test_falls_are_of_the_parts_that_differ_and_can_be_seen():
    scenes = Scenes()
    study = SimpleNamespace(dataset="birds", data=SimpleNamespace(test=scenes, title="birds"),
                            trained=lambda x: -x.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 0.0, 0.0]))
    todo = truth.Task(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([2, 2]))
    found, (first, second) = truth.falls(study, todo).numpy(), truth.distinguishing(0, 2)
    assert scenes.asked == [(i, 2, (birds.PARTS[part],)) for i, part in ((0, first), (0, second), (1, first))]
    expected = np.full((2, 12), np.nan)
    expected[:, 11] = 0  # the legs, which both share
    expected[:, first - 1], expected[0, second - 1] = 1 + first, 1 + second
    np.testing.assert_allclose(found, expected)


def test_pictures_without_truth():
    study = SimpleNamespace(dataset="digits", data=SimpleNamespace(test=SimpleNamespace(masks=None), title="digits"))
    assert not truth.has_truth(study) and not truth.is_drawn(study)
    with pytest.raises(ValueError, match="digits has no masks or boxes: take the birds or CUB-200"):
        truth.part_labels(study, [0])
