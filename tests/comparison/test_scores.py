"""Scores by hand, against Quantus and scikit-learn on the same input, and on maps that say nothing."""
from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score
from small import backbone, batch

from paperlib.comparison import scores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import quantus

N, SIDE = 12, 16


def maps(seed=0, n=N):
    """Maps without ties, of both signs."""
    return torch.randn(n, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(seed=1, n=N):
    return torch.rand(n, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) < 0.3


def by_quantus(metric, a, s=None):
    """Quantus's score of each map, which needs no network."""
    made = metric(disable_warnings=True, normalise=False)
    found = made(model=None, x_batch=np.zeros((len(a), 1, *a.shape[1:])), y_batch=np.zeros(len(a), dtype=int),
                 a_batch=a[:, None].numpy().copy(), s_batch=None if s is None else s[:, None].numpy(), device="cpu")
    return np.array(found, dtype=float)


# Agreement with Quantus

def test_pointing_game_agrees_where_no_pixels_tie():
    expected = by_quantus(quantus.PointingGame, maps(), masks())
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(scores.pointing_game(maps(), masks()), expected)


def test_relevance_mass_agrees_on_the_positive_part():
    expected = by_quantus(quantus.RelevanceMassAccuracy, maps().clamp_min(0), masks())
    np.testing.assert_allclose(scores.relevance_mass(maps(), masks()), expected)


def test_gini_agrees():
    expected = by_quantus(quantus.Sparseness, maps().abs())
    np.testing.assert_allclose(scores.gini(maps()), expected, atol=1e-5)  # Quantus adds 1e-7 to each pixel


def test_deletion_agrees_with_pixel_flipping():
    # Quantus orders the channels' values one by one; with one map for all three, the same pixels go at each step.
    net, x, target, steps = backbone(), batch(N, 12), torch.arange(N) % 3, 9
    a = maps()[:, :12, :12]
    made = quantus.PixelFlipping(features_in_step=3 * 144 // steps, perturb_baseline=0.25, normalise=False,
                                 disable_warnings=True)
    expected = made(model=net.model.eval(), x_batch=x.numpy(), y_batch=target.numpy(), a_batch=a[:, None].numpy(),
                    device="cpu", softmax=True)
    found = scores.flipping(net, x, a, target, steps, blank=torch.full_like(x, 0.25))
    assert len(expected[0]) == steps and found.std(1).min() > 1e-4
    np.testing.assert_allclose(found[:, 1:], expected, atol=1e-5)


# By hand

def test_pixels_that_share_the_maximum_share_the_hit():
    att, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    att[0, 0], mask[0, 0, :1] = 1.0, True
    assert scores.pointing_game(att, mask).tolist() == [0.25]
    assert by_quantus(quantus.PointingGame, att, mask).tolist() == [1.0]  # one of the four is enough there


@pytest.mark.parametrize("score", [scores.pointing_game, scores.relevance_mass])
def test_a_map_that_says_nothing_scores_the_area_and_an_empty_mask_nothing(score):
    area = masks().double().mean((1, 2))
    for flat in (torch.zeros(N, SIDE, SIDE), torch.full((N, SIDE, SIDE), 3.0)):
        torch.testing.assert_close(score(flat, masks()), area)
    assert score(maps(), torch.zeros(N, SIDE, SIDE)).isnan().all()


def test_mass_of_a_map_against_everything_is_the_area():
    torch.testing.assert_close(scores.relevance_mass(-maps().abs(), masks()), masks().double().mean((1, 2)))


def test_gini_of_flat_single_and_zero_maps():
    one = torch.zeros(1, 10, 10)
    one[0, 3, 3] = -5.0
    found = scores.gini(torch.cat([torch.full((1, 10, 10), 2.0), one, torch.zeros(1, 10, 10)]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.99, 0.0], dtype=torch.float64), atol=1e-12, rtol=0)


def test_shifted_moves_and_repeats_the_edge():
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    moved = scores.shifted(x, 1)
    assert moved.shape == x.shape and torch.equal(moved[..., 1:, 1:], x[..., :3, :3])
    assert torch.equal(moved[..., 0, 1:], x[..., 0, :3]) and moved[0, 0, 0, 0] == x[0, 0, 0, 0]
    assert torch.equal(scores.shifted(x, 0), x)


def test_a_map_that_moves_with_the_picture_keeps_its_verdict():
    att = maps()
    assert scores.verdict_changes(att, scores.shifted(att[:, None], 3)[:, 0], 3).max() == 0
    other = scores.verdict_changes(att, maps(seed=5), 3)
    assert 0.4 < other.mean() < 0.6
    halves = torch.cat([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)], 2)
    torch.testing.assert_close(scores.verdict_changes(halves, 1 - halves, 0), torch.ones(1, dtype=torch.float64))


def test_flipping_by_loops():
    net, x, target = backbone(), batch(3), torch.tensor([0, 2, 1])
    att, blank = maps(n=3), torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    for insert in (False, True):
        found = scores.flipping(net, x, att, target, 4, insert, blank)
        for i in range(3):
            order = sorted(range(SIDE * SIDE), key=lambda r, i=i: -att[i].flatten()[r].item())
            for step in range(5):
                seen = (blank if insert else x)[i].flatten(1).clone()
                first = order[: SIDE * SIDE * step // 4]
                seen[:, first] = (x if insert else blank)[i].flatten(1)[:, first]
                p = net(seen.view(1, 3, SIDE, SIDE)).softmax(1)[0, target[i]]
                assert found[i, step].item() == pytest.approx(p.item(), abs=1e-5)


def test_equal_pixels_go_in_a_seeded_random_order():
    flat = torch.zeros(2, 4, 4)
    rank = scores.ranks(flat)
    assert sorted(rank[0].tolist()) == list(range(16)) and rank[0].tolist() != list(range(16))
    assert torch.equal(rank, scores.ranks(flat)) and not torch.equal(rank, scores.ranks(flat, seed=1))
    cut = torch.arange(16).view(1, 4, 4) // 4  # four rows of four
    assert sorted(scores.ranks(flat[:1], blobs=cut)[0].tolist()) == [0] * 4 + [4] * 4 + [8] * 4 + [12] * 4
    assert scores.ranks(torch.arange(16.0).view(1, 4, 4))[0].tolist() == list(range(15, -1, -1))


def test_blobs_go_whole_by_their_mean():
    att = torch.tensor([[[9.0, 0.0, 1.0], [0.0, 2.0, 2.0]]])
    cut = torch.tensor([[[5, 5, 5], [5, 2, 2]]])  # means 2.5 and 2
    assert scores.ranks(att, blobs=cut)[0].tolist() == [0, 0, 0, 0, 4, 4]
    assert scores.ranks(-att, blobs=cut)[0].tolist() == [2, 2, 2, 2, 0, 0]


def test_blobs_follow_the_picture():
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, :, 13:] = 255
    cut = scores.blobs(pixels, 16)[0]
    assert not set(cut[:, :13].flatten().tolist()) & set(cut[:, 13:].flatten().tolist())
    assert 8 <= len(cut.unique()) <= 24


def test_part_order_is_spearman_over_the_parts_that_can_be_seen():
    labels = torch.tensor([[[0, 1, 2], [3, 3, 4]]]).expand(3, -1, -1)
    att = torch.tensor([[9.0, 1, 2], [1, 2, 4]]).expand(3, -1, -1).clone()  # 1, 2, 3 and 4 on the parts
    att[2] = labels[2] * 0 + 1.0 * (labels[2] != 3) + 0.5 * (labels[2] == 3)  # the same on each
    nan = math.nan
    falls = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.3, nan, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    assert scores.part_order(att, labels, falls).tolist() == pytest.approx([1.0, -1.0, nan], nan_ok=True)
    assert scores.part_order(att, labels, 0 * falls).isnan().all()  # nothing was swapped


def test_blurred_keeps_the_mean_colour_and_loses_the_detail():
    x = batch(2, 32)
    out = scores.blurred(x)
    assert out.std() < 0.2 * x.std() and out.shape == x.shape
    torch.testing.assert_close(scores.blurred(torch.full((1, 3, 8, 8), 2.0)), torch.full((1, 3, 8, 8), 2.0))


def test_area_under():
    curves = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
    torch.testing.assert_close(scores.area_under(curves), torch.tensor([1.0, 0.25, 0.5], dtype=torch.float64))


# Concept maps and parts

def test_part_match_by_hand():
    parts = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, -1, 2]])
    segments = np.array([[7, 9], [7, 7]])  # of two pixels each way
    s = [7, 7, 9, 9, 7, 7, 9, 9, 7, 7, 7, 7, 7, 7, 7]
    p = [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 2, 2, 0, 0, 2]
    found = scores.part_match(segments, parts)
    assert found["ARI"] == pytest.approx(adjusted_rand_score(p, s))
    assert found["purity"] == pytest.approx((8 + 4) / 15)
    assert found["IoU"] == pytest.approx((1.0 + 3 / 11) / 2)


def test_part_match_of_the_parts_themselves_is_perfect_and_of_one_segment_chance():
    parts = np.arange(16).reshape(4, 4) % 3
    assert scores.part_match(parts + 5, parts) == {"ARI": 1.0, "purity": 1.0, "IoU": 1.0}
    assert scores.part_match(np.zeros((4, 4), int), parts)["ARI"] == 0


@pytest.mark.parametrize("segments, parts, message", [
    (np.zeros((3, 3), int), np.ones((4, 4), int), "must be multiples"),
    (np.zeros((8, 8), int), np.ones((4, 4), int), "must be multiples"),
    (np.zeros((2, 2), int), np.zeros((4, 4), int), "no part but the background"),
    (np.zeros((2, 2), int), np.full((4, 4), -1), "no part but the background")])
def test_part_match_refused(segments, parts, message):
    with pytest.raises(ValueError, match=message):
        scores.part_match(segments, parts)


# Intervals

def test_interval_of_a_mean_is_about_two_standard_errors_wide():
    x = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = scores.interval(x)
    reach = norm.ppf(0.975) * x.std(ddof=1) / 20
    assert low == pytest.approx(x.mean() - reach, abs=0.03) and high == pytest.approx(x.mean() + reach, abs=0.03)
    assert scores.interval(x) == (low, high)
    assert scores.interval([*x, math.nan]) == (low, high)


def test_interval_of_too_few():
    with pytest.raises(ValueError, match="values holds 1 numbers"):
        scores.interval([1.0, math.nan])


# Bad input

@pytest.mark.parametrize("score", [scores.pointing_game, scores.relevance_mass])
def test_a_mask_of_another_size(score):
    with pytest.raises(ValueError, match=r"mask is \(12, 8, 8\) and the maps are \(12, 16, 16\): bring them to one"):
        score(maps(), masks()[:, :8, :8])
    with pytest.raises(ValueError, match="without NaN"):
        score(maps() * math.nan, masks())


def test_flipping_and_verdicts_of_another_size():
    net = backbone()
    with pytest.raises(ValueError, match=r"att is \(12, 16, 16\) for pictures \(4, 3, 16, 16\)"):
        scores.flipping(net, batch(4), maps(), 0)
    with pytest.raises(ValueError, match="at least one step"):
        scores.flipping(net, batch(N), maps(), 0, steps=0)
    with pytest.raises(ValueError, match="in 0..2"):
        scores.flipping(net, batch(N), maps(), 3)
    with pytest.raises(ValueError, match="do not fit"):
        scores.verdict_changes(maps(), maps()[:, :8], 2)
    with pytest.raises(ValueError, match="moved by 16 pixels"):
        scores.verdict_changes(maps(), maps(), 16)


def test_maps_about_their_mean_and_capped():
    m = torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]])
    assert scores.about_mean(m).tolist() == [[[-1.0, 1.0]], [[0.0, 0.0]]]
    m = torch.zeros(1, 10, 10)
    m[0, 0, 0], m[0, 1] = -90.0, 2.0
    assert scores.capped(m).abs().max() == 2.0 and scores.capped(m)[0, 0, 0] == -2.0
    assert scores.capped(m)[0, 1].tolist() == [2.0] * 10
