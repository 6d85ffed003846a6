"""Simonyan's saliency map by hand, class pictures that raise the score, and boxes."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from small import backbone, batch

from paperlib.comparison.saliency import localise, saliency_map, visualise


def test_saliency_map_by_finite_differences():
    net, x = backbone(), batch(2)
    net.double()
    x, target = x.double(), torch.tensor([1, 2])
    found = saliency_map(net, x, target)
    for n, i, j in [(0, 3, 4), (1, 8, 8), (1, 15, 0)]:
        slopes = []
        for channel in range(3):
            step = torch.zeros_like(x)
            step[n, channel, i, j] = 1e-6
            slopes.append((net(x + step) - net(x - step))[n, target[n]].item() / 2e-6)
        assert found[n, i, j].item() == pytest.approx(max(map(abs, slopes)), rel=1e-4, abs=1e-9)


def test_visualisation_raises_the_score_from_zero_and_the_penalty_holds_it_back():
    net = backbone()
    picture, scores = visualise(net, [0, 2], 16, steps=30, lr=0.5, l2=0.0, progress=False)
    assert picture.shape == (2, 3, 16, 16) and scores.shape == (30, 2)
    torch.testing.assert_close(scores[0], net(torch.zeros(1, 3, 16, 16))[0, [0, 2]])
    assert (scores[-1] > scores[0]).all() and (scores.diff(dim=0) > -1e-3).all()
    penalised, _ = visualise(net, [0, 2], 16, steps=30, lr=0.5, l2=0.02, progress=False)
    assert (penalised.flatten(1).norm(dim=1) < picture.flatten(1).norm(dim=1)).all()


def test_one_step_of_ascent_by_hand():
    net = backbone()
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    net.model(x)[0, 1].backward()
    picture, _ = visualise(net, [1], 16, steps=1, lr=0.5, l2=0.3, progress=False)
    torch.testing.assert_close(picture, 0.5 * x.grad / x.grad.norm())  # the penalty of the zero picture has no slope


def test_visualisation_is_the_same_beside_others():
    net = backbone()
    alone, _ = visualise(net, [2], 16, steps=5, progress=False)
    beside, _ = visualise(net, [0, 2], 16, steps=5, progress=False)
    torch.testing.assert_close(alone[0], beside[1])


@pytest.mark.parametrize("options, message", [
    ({"target": [3]}, "in 0..2"), ({"size": 3}, "smaller than the network's stride, 4"),
    ({"steps": 0}, "at least 1 step"), ({"l2": -1.0}, "a penalty of 0 or more")])
def test_visualisation_refused(options, message):
    options = {"target": [0], "size": 16, "steps": 2, "progress": False, **options}
    with pytest.raises(ValueError, match=message):
        visualise(backbone(), options.pop("target"), options.pop("size"), **options)


def scene():
    """A red square on green, with a saliency that is high in its middle and has a stray pixel."""
    picture = np.zeros((3, 40, 40), dtype=np.uint8)
    picture[1] = 180
    picture[:, 8:20, 10:26] = np.array([200, 20, 20])[:, None, None]
    saliency = np.random.default_rng(0).random((40, 40))
    saliency[8:20, 10:26] += 1.0
    saliency[11:17, 14:22] += 1.0
    return picture, saliency


def test_localise_grows_to_the_whole_object():
    box, mask = localise(*scene(), high=98)
    assert box.tolist() == [10, 8, 26, 20]
    assert mask[8:20, 10:26].all() and not mask[:6].any()


def test_localise_takes_the_largest_piece():
    picture, saliency = scene()
    picture[:, 34:36, 34:36] = np.array([200, 20, 20])[:, None, None]
    saliency[34:36, 34:36] = 2.0
    assert localise(picture, saliency, high=97)[0].tolist() == [10, 8, 26, 20]


def test_localise_a_flat_map_is_the_whole_picture():
    box, mask = localise(scene()[0], np.zeros((40, 40)))
    assert box.tolist() == [0, 0, 40, 40] and mask.all()


@pytest.mark.parametrize("saliency, options, message", [
    (np.zeros((20, 20)), {}, r"saliency is \(20, 20\) for a picture \(3, 40, 40\)"),
    (np.full((40, 40), np.nan), {}, "without NaN"),
    (np.ones((40, 40)), {"low": 96}, "0 < low < high < 100"),
    (np.ones((40, 40)), {"high": 100}, "0 < low < high < 100")])
def test_localise_refused(saliency, options, message):
    with pytest.raises(ValueError, match=message):
        localise(scene()[0], saliency, **options)
