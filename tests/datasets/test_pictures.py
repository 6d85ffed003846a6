"""Pictures of one split: batches, augmentation, what is taken from them; and the data set of two of them."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from paperlib import guards
from paperlib.datasets import load as data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_labels_must_be_as_many_as_pictures():
    with pytest.raises(ValueError, match="3 pictures have 2 labels"):
        data.Pictures(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), [0, 1])


# Batches and augmentation

def test_batch_is_the_pictures_one_by_one(digits):
    index = [5, 0, 5, 9]
    x = digits.train.batch(index)
    assert x.shape == (4, 3, 32, 32)
    for picture, i in zip(x, index, strict=True):
        assert torch.equal(picture, digits.train[i])
    assert torch.equal(digits.train.batch(torch.tensor(index)), x)


@pytest.mark.parametrize("augment", ["flip", "flip+crop"])
def test_augmentation_depends_on_the_generator_alone(digits, augment):
    first, same, other = (digits.train.batch(range(16), augment, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (16, 3, 32, 32)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_flip_gives_the_picture_or_its_mirror(digits):
    x, flipped = digits.train.batch(range(40), "flip", np.random.default_rng(0)), 0
    for i in range(40):
        mirrored = torch.equal(x[i], digits.train[i].flip(-1))
        assert mirrored or torch.equal(x[i], digits.train[i])
        flipped += mirrored
    assert 8 < flipped < 32


def test_crop_is_a_window_of_the_padded_picture(digits):
    x = digits.train.batch([0] * 30, "flip+crop", np.random.default_rng(0))
    pad, original = digits.train.pad, digits.train.pixels(0)
    padded = torch.zeros(3, 32 + 2 * pad, 32 + 2 * pad, dtype=torch.uint8)
    padded[:, pad:-pad, pad:-pad] = original
    windows = [padded[:, t:t + 32, left:left + 32] for t in range(2 * pad + 1) for left in range(2 * pad + 1)]
    windows = torch.stack([digits.train.normalise(w) for window in windows for w in (window, window.flip(-1))])
    hits = [(windows == picture).flatten(1).all(1).nonzero().flatten().tolist() for picture in x]
    assert all(hits) and len({hit[0] for hit in hits}) > 10


def test_augment_unknown_or_without_generator(digits):
    with pytest.raises(ValueError, match="'rotate' is unknown; choose one of none, flip, flip\\+crop"):
        digits.train.batch([0], "rotate")
    with pytest.raises(ValueError, match="there is no rng; give a numpy.random.Generator"):
        digits.train.batch([0], "flip")


def pictures(labels, split="train") -> data.Pictures:
    """2 x 2 pixels; picture i holds i in every pixel and every place of its mask, and lies before background i."""
    raw = torch.arange(len(labels), dtype=torch.uint8)[:, None, None].expand(-1, 2, 2)
    found = data.Pictures(raw[:, None].expand(-1, 3, 2, 2), labels, masks=raw)
    found.split, found.backgrounds = split, torch.arange(len(labels))
    return found


def numbers(some: data.Pictures) -> list[int]:
    return some.raw[:, 0, 0, 0].tolist()


def test_subset_takes_along_what_is_known_of_its_pictures():
    whole = pictures([1, 0, 1, 0, 1, 0], "test")
    few = whole.subset(2)
    assert few.labels.tolist() == [1, 0, 1, 0] and few.split == "test"
    assert few.masks[:, 0, 0].tolist() == few.backgrounds.tolist() == numbers(few) == [0, 1, 2, 3]
    assert len(whole) == 6


def test_normalisation_is_the_same_whatever_pictures_there_are():
    whole = pictures([0, 0, 1, 1])
    assert torch.equal(whole.subset(1)[1], whole[2]) and torch.equal(pictures([0], "test")[0], whole[0])


# Two splits

@pytest.fixture
def dataset():
    """Ten, five and two training pictures of three classes, in no order; three test pictures."""
    labels = np.random.default_rng(0).permutation([0] * 10 + [1] * 5 + [2] * 2).tolist()
    return data.Dataset("own", "Own", ("ant", "bee", "cat"), pictures(labels), pictures([0, 1, 2], "test"), 2)


def test_choosing_leaves_the_test_split_alone(dataset):
    choosing = dataset.for_choosing(seed=3)
    train, validation = choosing.train, choosing.test
    assert (train.split, validation.split) == ("train", "validation")
    assert validation.labels.bincount().tolist() == [2, 1, 1] and train.labels.bincount().tolist() == [8, 4, 1]
    assert sorted(numbers(train) + numbers(validation)) == list(range(17)), "the training pictures, each once"
    for part in (train, validation):
        assert part.labels.tolist() == dataset.train.labels[numbers(part)].tolist()
        assert part.masks[:, 0, 0].tolist() == part.backgrounds.tolist() == numbers(part)
    assert dataset.train.split == "train" and len(dataset.train) == 17
    assert choosing.fingerprint not in ("", dataset.fingerprint) and "training pictures only" in choosing.title


def test_choosing_follows_its_seed_and_share(dataset):
    drawn = [numbers(dataset.for_choosing(seed).test) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1] and len({tuple(some) for some in drawn}) > 1
    assert dataset.for_choosing(share=0.5).test.labels.bincount().tolist() == [5, 2, 1]
    assert dataset.for_choosing(share=0.99).train.labels.bincount().tolist() == [1, 1, 1]


def test_choosing_needs_a_share_and_two_pictures_per_class(dataset):
    for share in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="give the validation pictures' share"):
            dataset.for_choosing(share=share)
    one = replace(dataset, train=pictures([0, 0, 1, 2, 2]))
    with pytest.raises(data.DataError, match="Own has one training picture of bee; .* add more"):
        one.for_choosing()


def test_a_test_picture_reaches_no_fit(dataset):
    guards.refuse_test(dataset.for_choosing().test, "choosing a penalty")
    for leak in (dataset.test, dataset.test.subset(1), Subset(dataset.test, [0])):
        with pytest.raises(guards.LeakError, match="test split must not be used for choosing a penalty"):
            guards.refuse_test(leak, "choosing a penalty")


def test_description_counts_each_class(dataset):
    assert dataset.describe() == ("Own: 17 training and 3 test pictures of 3 classes\n"
                                  "  ant: 10 + 1, bee: 5 + 1, cat: 2 + 1")
    assert "13 training and 4 validation pictures" in dataset.for_choosing().describe()
