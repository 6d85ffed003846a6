from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp
from sklearn.metrics import adjusted_rand_score

from paperlib.comparison.pairs import (
    LIMIT,
    at_least_one_picture,
    compared,
    connectedness,
    contrast,
    correlation,
    counterparts,
    frame_concept,
    framed,
    holm,
    map_agreement,
    paired_difference,
    prototype_shift,
    sign_of_difference,
)


def test_paired_difference_against_loops():
    right, other = [1, 1, 0, 0, 1, 0], [1, 0, 1, 1, 1, 0]
    differences = [b - a for a, b in zip(right, other, strict=True)]
    mean = sum(differences) / 6
    error = (sum((d - mean) ** 2 for d in differences) / 5 / 6) ** 0.5
    assert paired_difference(torch.tensor(right), np.array(other)) == pytest.approx((mean, error))
    assert paired_difference(right, right) == (0.0, 0.0)
    for pair in (([1], [0]), ([1, 0], [1, 0, 1]), ([[1, 0]], [[0, 1]])):
        with pytest.raises(ValueError, match="must be scores of the same two or more pictures"):
            paired_difference(*pair)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.2]).tolist() == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0] and len(holm([])) == 0


def test_compared_knows_chance_and_corrects_for_the_number_of_comparisons():
    rng = np.random.default_rng(0)
    gap = rng.normal(0.4, 1.0, 40)
    one = compared({"a": gap})["a"]
    wanted = ttest_1samp(gap, 0).pvalue
    assert one["p"] == pytest.approx(wanted, rel=0.15) and one["difference"] == pytest.approx(gap.mean())
    assert one["limit"] == pytest.approx(3 * paired_difference(0 * gap, gap)[1]) and one["pictures"] == 40
    many = compared({"a": gap, **{str(i): rng.normal(0, 1, 40) for i in range(9)}})
    assert many["a"]["p"] == pytest.approx(10 * one["p"], rel=1e-6)
    assert compared({"a": [*gap, np.nan]})["a"] == one
    assert compared({"flat": np.zeros(5)})["flat"]["p"] == 1.0
    with pytest.raises(ValueError, match="a has 1 pictures with both scores"):
        compared({"a": [1.0, np.nan]})


def test_sign_of_difference_needs_an_interval_without_zero():
    x = np.random.default_rng(0).normal(size=200)
    sign = sign_of_difference
    assert sign(x + 1, x) == 1 and sign(x - 1, x) == -1 and sign(x, x) == 0 and sign(x, x[::-1]) == 0


def test_framed_is_the_overlap_of_a_concept_with_the_border():
    frame = np.ones((2, 5, 5), dtype=int)
    frame[:, 1:-1, 1:-1] = 0
    frame[1, 2:] = 3
    assert framed(frame).tolist() == pytest.approx([1.0, 7 / 16])
    assert framed(np.zeros((1, 5, 5), dtype=int)).tolist() == pytest.approx([16 / 25])
    assert (frame_concept(frame) == (frame == 1)).all()


def test_no_picture_that_differs_does_not_mean_no_difference():
    gap, error = paired_difference(np.full(360, 100.0), np.full(360, 100.0))
    assert gap == error == 0 and LIMIT * at_least_one_picture(error, 360) == pytest.approx(100 * 3 / 360)
    one = np.full(360, 100.0)
    one[0] = 0
    assert paired_difference(one, np.full(360, 100.0))[1] == pytest.approx(at_least_one_picture(0, 360), rel=0.01)
    assert at_least_one_picture(2.0, 360) == 2


def pieces_by_flood(s):
    """id -> sizes of its pieces, pixel by pixel"""
    left, found = {(i, j) for i in range(s.shape[0]) for j in range(s.shape[1])}, {}
    while left:
        start = left.pop()
        piece, front = {start}, [start]
        while front:
            i, j = front.pop()
            near = {(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)} & left
            near = {at for at in near if s[at] == s[start]}
            left, piece, front = left - near, piece | near, front + list(near)
        found.setdefault(int(s[start]), []).append(len(piece))
    return found


def test_connectedness_against_flooding():
    s = np.random.default_rng(0).integers(0, 4, (6, 9, 7)) * 3
    s[0] = 5
    expected = [sum(max(sizes) for sizes in pieces_by_flood(one).values()) / one.size for one in s]
    np.testing.assert_allclose(connectedness(torch.tensor(s)), expected)
    assert expected[0] == 1 and expected[1] < 0.9


def test_connectedness_by_hand():
    # Corners do not connect; the id 0 is an id like any other.
    assert connectedness(np.array([[[0, 1], [1, 0]], [[0, 0], [1, 1]]])).tolist() == [0.5, 1.0]


def rand_by_pairs(a, b):
    pairs = [(a[i] == a[j], b[i] == b[j]) for i in range(len(a)) for j in range(i)]
    both, first, second = (sum(x) for x in zip(*[(x and y, x, y) for x, y in pairs], strict=True))
    chance = first * second / len(pairs)
    return (both - chance) / ((first + second) / 2 - chance)


def test_map_agreement_against_pairs_of_pixels():
    rng = np.random.default_rng(1)
    s, t = rng.integers(0, 3, (4, 4, 6)), rng.integers(0, 3, (4, 2, 3))
    stretched = t.repeat(2, axis=1).repeat(2, axis=2)
    expected = [rand_by_pairs(a.ravel(), b.ravel()) for a, b in zip(s, stretched, strict=True)]
    np.testing.assert_allclose(map_agreement(s, t), expected)
    np.testing.assert_allclose(map_agreement(t, s), expected)
    np.testing.assert_allclose(map_agreement(s, 7 - s), 1)  # names do not matter


@pytest.mark.parametrize("ids", [1, 2, 30])
def test_map_agreement_is_the_adjusted_rand_score(ids):
    s, t = np.random.default_rng(3).integers(0, ids, (2, 5, 6, 4))
    t[0], t[1], s[2] = s[0], 0, 4
    s[3], t[3] = np.arange(24).reshape(6, 4), np.arange(24).reshape(6, 4)
    expected = [adjusted_rand_score(a.ravel(), b.ravel()) for a, b in zip(s, t, strict=True)]
    np.testing.assert_allclose(map_agreement(s, t), expected)
    np.testing.assert_allclose(map_agreement(s * 2**40 - 7, t.astype(np.int16)), expected)  # whatever their numbers
    assert map_agreement(s[:, :1, :1], t[:, :1, :1]).tolist() == [1.0] * 5  # one pixel, one segment


def test_maps_bad_input():
    maps = np.zeros((2, 4, 4), dtype=int)
    for bad in (maps[0], maps[:0], maps * 0.5):
        with pytest.raises(ValueError, match=r"must be non-empty maps \(n, H, W\) of whole numbers"):
            connectedness(bad)
    with pytest.raises(ValueError, match="give the same pictures' maps"):
        map_agreement(maps, maps[:1])
    with pytest.raises(ValueError, match="one must be at least as fine as the other both ways"):
        map_agreement(maps, np.zeros((2, 8, 2), dtype=int))


def test_prototype_shift_against_all_matchings():
    labels = np.array([0, 0, 1, 1, 2, 2] * 2)  # four per class
    P = np.random.default_rng(0).normal(size=(12, 5)) + 2 * np.eye(5)[labels]
    Q = P + np.random.default_rng(2).normal(size=P.shape)
    shift = prototype_shift(torch.tensor(P), Q, labels)
    for c in (0, 1, 2):
        p, q = P[labels == c], Q[labels == c]
        unit = np.mean([min(np.linalg.norm(p[i] - p[j]) for j in range(4) if j != i) for i in range(4)])
        ways = [[np.linalg.norm(a - q[j]) for a, j in zip(p, order, strict=True)] for order in permutations(range(4))]
        np.testing.assert_allclose(shift[labels == c], np.array(min(ways, key=sum)) / unit)


def test_prototype_shift_knows_no_order_and_needs_two():
    P = np.array([[0.0, 0], [2, 0], [0, 5], [0, 9]])
    assert prototype_shift(P, P[[1, 0, 3, 2]], [0, 0, 1, 1]).tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(prototype_shift(P, P + [0, 1], [0, 0, 1, 1]), [0.5, 0.5, 0.25, 0.25])
    for labels, message in [([0, 0, 0, 1], "class 1 needs two"), ([0, 0], "do not fit one another")]:
        with pytest.raises(ValueError, match=message):
            prototype_shift(P, P, labels)
    with pytest.raises(ValueError, match="class 0 needs two or more different"):
        prototype_shift(P * 0, P, [0, 0, 0, 0])


def test_counterparts_find_each_prototype_again_among_its_class():
    P = np.random.default_rng(0).normal(size=(6, 3))
    order = [2, 0, 1, 5, 4, 3]  # within the two classes
    labels = [0, 0, 0, 1, 1, 1]
    assert counterparts(P, torch.tensor(P[order]) + 1e-3, labels).tolist() == order
    assert sorted(counterparts(P, P[::-1], labels)[:3]) == [0, 1, 2]  # one of another class, however near, is none
    with pytest.raises(ValueError, match="do not fit one another"):
        counterparts(P, P[:4], labels)


def test_correlation_and_contrast_of_maps():
    a, b = torch.rand(2, 5, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(correlation(a, b), [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(contrast(a), a.numpy().std(1, ddof=1) / a.numpy().mean(1))
    assert correlation(a, torch.ones(5, 30)).isnan().all()
