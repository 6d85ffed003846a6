"""Eq. 9 without making the rows against the equations as printed."""
from __future__ import annotations

import pytest
import torch

from paperlib.composite import composite
from paperlib.scaling import factored
from paperlib.scaling.factored import Factored


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("resolution", "mode"), [(None, "bilinear"), (None, "nearest"), (9, "bicubic"),
                                                  (3, "bilinear"), ((5, 2), "nearest")])
@pytest.mark.parametrize("block_weight", ["inv_dim", "none", "dim", 0.5])
def test_factored_rows_have_the_nearest_prototype_of_composed_ones(resolution, mode, block_weight, monkeypatch):
    features = [normal(3, D, h, h, seed=h).relu() for D, h in ((8, 8), (16, 4), (32, 2))]
    features[1][0, :, :2] = 0  # rows of zeros
    q = composite(features, resolution, "row", block_weight, mode)
    p = q.flatten(0, 2)[::5] + 0.1 * q.std() * normal(*q.flatten(0, 2)[::5].shape)
    distances = torch.cdist(q.double().flatten(0, 2), p.double()).view(*q.shape[:3], len(p))
    rows = Factored.of(features, resolution, "row", block_weight, mode)
    torch.testing.assert_close(rows.squares, q.square().sum(dim=-1))
    for scores in (7, 50, 2**18):  # tiles of one prototype, of some, of all
        monkeypatch.setitem(factored.ROOM, "cpu", scores)
        s, distance = rows.nearest(*rows.prepared(p))
        chosen, least = distances.gather(3, s[..., None])[..., 0], distances.amin(dim=-1)
        torch.testing.assert_close(chosen, least, rtol=1e-5, atol=0)  # but for ties within rounding
        torch.testing.assert_close(distance.double(), least, rtol=1e-4, atol=1e-6 * float(rows.squares.max().sqrt()))
        assert (s == distances.argmin(dim=-1)).double().mean() > 0.99


def test_factored_rows_take_the_lowest_index_of_a_tie(monkeypatch):
    monkeypatch.setitem(factored.ROOM, "cpu", 2)
    rows = Factored.of([normal(2, 4, 1, 2)])
    p = normal(1, 4, seed=1).expand(5, 4)
    assert not rows.nearest(*rows.prepared(p))[0].any()


def test_factored_rows_of_some_images():
    features = [normal(4, 8, 4, 4), normal(4, 16, 2, 2)]
    rows, some = Factored.of(features), torch.tensor([2, 0])
    p = normal(6, 24, seed=2) / 16
    for whole, part in zip(rows.nearest(*rows.prepared(p)), rows[some].nearest(*rows.prepared(p)), strict=True):
        torch.testing.assert_close(whole[some], part)
    with pytest.raises(ValueError, match="prototypes of 25 numbers do not fit rows of 24"):
        rows.prepared(normal(6, 25))
