"""Data sets by name: what they hold, and one sentence for whatever is missing, damaged or out of reach."""
from __future__ import annotations

import hashlib
import json
import struct
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from paperlib.datasets import birds
from paperlib.datasets import load as data
from paperlib.datasets.downloads import Archive

MEAN, STD = np.array(data.NORMALISATIONS["imagenet"])[:, :, None, None]  # each (3, 1, 1)


@pytest.fixture
def no_network(monkeypatch):
    """torchvision's download as it is without a network; gives the list of attempts."""
    attempts = []

    def download(self):
        attempts.append(self.raw_folder)
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz") from URLError("no route to host")
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    return attempts


# Any data set

def test_unknown_name_lists_the_known():
    with pytest.raises(data.DataError, match=r"no data set named 'cifar'.*digits, birds, sparrows, shortcut, "
                                             "mnist, stl10, cub200, folder"):
        data.load("cifar")


@pytest.mark.parametrize("settings, message", [
    ({"size": -1}, "size=-1 must be a whole number of at least 0"),
    ({"size": 1}, "size=1 is too small; give at least 8 pixels, or 0 for the data set's own"),
    ({"train_per_class": -1}, "train_per_class=-1 must be"),
    ({"test_per_class": 1.5}, "test_per_class=1.5 must be a whole number"),
    ({"seed": -1}, "seed=-1 must be"),
    ({"normalisation": "none"}, "'none' is unknown; choose one of imagenet, half")])
def test_settings_that_no_data_set_can_have(settings, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", **settings)


def test_paths_and_numpy_integers_are_taken(tmp_path):
    n = np.int64(1)
    found = data.load("birds", tmp_path, np.int32(32), train_per_class=n, test_per_class=n, seed=n, kept=json_only)
    assert len(found.train) == len(birds.SPECIES) and found.size == 32


def json_only(kind, inputs, compute):
    """A cache that keeps nothing, but whose keys are JSON."""
    json.dumps([kind, inputs])
    return SimpleNamespace(tensors=compute())


# Digits

@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_digits_sizes_and_stratified_split(digits):
    target = load_digits().target
    assert (digits.name, digits.size, len(digits.classes)) == ("digits", 32, 10)
    assert (digits.train.split, digits.test.split) == ("train", "test")
    assert len(digits.train) + len(digits.test) == len(target) == 1797 and len(digits.test) == 360
    for c in range(10):
        n_all, n_test = (target == c).sum(), int((digits.test.labels == c).sum())
        assert abs(n_test - 0.2 * n_all) < 1
        assert int((digits.train.labels == c).sum()) == n_all - n_test


def test_digits_split_is_the_same_for_every_call_and_seed(digits):
    again = data.load("digits", seed=7)
    for split in ("train", "test"):
        assert torch.equal(getattr(again, split).raw, getattr(digits, split).raw)
        assert torch.equal(getattr(again, split).labels, getattr(digits, split).labels)


def test_digits_train_and_test_are_disjoint_and_whole():
    same_size = data.load("digits", size=8)  # the size they come in: nothing is resized
    found = [p.numpy().tobytes() for split in (same_size.train, same_size.test) for p in split.raw]
    expected = [np.round(i * 255 / 16).astype(np.uint8).tobytes() for i in load_digits().images]
    assert sorted(found) == sorted(expected)


def test_digits_have_three_equal_channels_and_are_normalised(digits):
    x, pixels = digits.train[3], digits.train.pixels(3)
    assert x.shape == (3, 32, 32) and x.dtype == torch.float32 and pixels.dtype == torch.uint8
    assert torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])
    np.testing.assert_allclose(x, (pixels.numpy() / 255 - MEAN) / STD, atol=1e-6)
    assert pixels.max() > 200 and pixels.min() == 0


def test_half_normalisation_is_minus_one_to_one():
    x = data.load("digits", normalisation="half").train.batch(range(20))
    assert x.min() == -1 and 0.9 < x.max() <= 1


@pytest.mark.parametrize("size", [16, 48])
def test_size_is_what_was_asked_for(size):
    dataset = data.load("digits", size=size)
    assert dataset.size == dataset.test.size == size and dataset.test[0].shape == (3, size, size)


def test_subset_keeps_the_first_of_each_class(digits):
    few = data.load("digits", train_per_class=4, test_per_class=2)
    assert len(few.train) == 40 and len(few.test) == 20
    expected = sorted(i for c in range(10) for i in np.flatnonzero(digits.train.labels == c)[:4])
    assert torch.equal(few.train.raw, digits.train.raw[expected]) and few.test.split == "test"
    assert few.train.labels.tolist() == digits.train.labels[expected].tolist()
    assert len(digits.train.subset(0)) == len(digits.train)
    assert len(digits.train.subset(10_000)) == len(digits.train)


# Birds

def test_birds_have_masks_and_labels_and_are_drawn_once(monkeypatch):
    stored, n = {}, len(birds.SPECIES)

    def kept(kind, inputs, compute):
        assert kind == "drawn"
        key = json.dumps(inputs, sort_keys=True)
        if key not in stored:
            stored[key] = SimpleNamespace(tensors=compute())
        return stored[key]
    options = {"size": 32, "train_per_class": 2, "test_per_class": 1, "kept": kept}
    first = data.load("birds", **options)
    assert (len(first.train), len(first.test), len(first.classes)) == (2 * n, n, n)
    assert first.train.labels.bincount().tolist() == [2] * n and first.test.labels.tolist() == list(range(n))
    assert first.train.masks.shape == (2 * n, 32, 32) and first.train.masks.dtype == torch.uint8
    assert first.train[0].shape == (3, 32, 32) and first.test.split == "test"
    image, mask, _ = birds.draw(1, 0, 0, 32)  # labels are in runs: the third picture is the first of species 1
    assert np.array_equal(first.train.pixels(2).permute(1, 2, 0), image) and np.array_equal(first.train.masks[2], mask)
    image, _, _ = birds.draw(1, data.FIRST_TEST_BIRD, 0, 32)
    assert np.array_equal(first.test.pixels(1).permute(1, 2, 0), image)
    without = data.load("birds", **options | {"kept": None})
    assert without.fingerprint == first.fingerprint

    def drawn_again(*_, **__):
        raise AssertionError("drawn a second time")
    monkeypatch.setattr(birds, "draw_set", drawn_again)
    second = data.load("birds", **options)
    assert torch.equal(first.train.raw, second.train.raw) and torch.equal(first.test.masks, second.test.masks)
    with pytest.raises(AssertionError, match="a second time"):
        data.load("birds", **options, seed=1)  # other pictures


def test_drawn_pictures_are_drawn_again_with_changes():
    options = {"size": 32, "train_per_class": 5, "test_per_class": 1, "seed": 3}
    shortcut = data.load("shortcut", **options)
    chosen = shortcut.for_choosing(seed=1)
    for pictures in (shortcut.train, shortcut.test, shortcut.train.subset(2), chosen.train, chosen.test):
        for i in (0, 3, -1):
            assert torch.equal(pictures.redrawn(i), pictures[i])
            assert torch.equal(pictures.redrawn_pixels(i), pictures.pixels(i))
    pictures, i = chosen.test, 2
    wanted, _, _ = birds.draw(2, int(pictures.numbers[i]), 3, 32, background=1, without="tail")
    assert np.array_equal(pictures.redrawn_pixels(i, background=1, without="tail").permute(1, 2, 0), wanted)
    with pytest.raises(ValueError, match="Only drawn pictures can be drawn again"):
        data.load("digits").test.redrawn(0)


# MNIST

COUNTS = {"train": 60, "t10k": 20}


@pytest.fixture
def mnist_root(tmp_path, monkeypatch):
    """A small MNIST in the official layout: picture i holds i in every pixel, label i % 10."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for word, n in COUNTS.items():
        pixels = np.repeat(np.arange(n, dtype=np.uint8), 28 * 28)
        (raw / f"{word}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, 28, 28) + pixels.tobytes())
        (raw / f"{word}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n)))
    monkeypatch.setattr(data, "MNIST_BYTES", {p.name: p.stat().st_size for p in raw.iterdir()})
    return tmp_path


def test_mnist_official_sizes():
    for name, size in data.MNIST_BYTES.items():
        n = 60_000 if name.startswith("train") else 10_000
        assert size == (16 + n * 28 * 28 if "images" in name else 8 + n)


def test_mnist_that_is_there_is_used_as_it_is(mnist_root, no_network):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (mnist_root / "MNIST" / "raw").iterdir()}
    dataset = data.load("mnist", mnist_root)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in mnist_root.rglob("*") if p.is_file()} == before
    assert not no_network
    assert (dataset.title, dataset.size, len(dataset.train), len(dataset.test)) == ("MNIST", 32, 60, 20)
    assert dataset.classes == tuple("0123456789")
    assert (dataset.train.pixels(37) == 37).all() and dataset.train[37].shape == (3, 32, 32)
    assert dataset.train.labels.tolist() == [i % 10 for i in range(60)]


def test_mnist_in_a_folder_that_cannot_be_written(mnist_root, no_network):
    folders = [mnist_root, mnist_root / "MNIST", mnist_root / "MNIST" / "raw"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert len(data.load("mnist", mnist_root, test_per_class=1).test) == 10
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_mnist_missing_and_no_network(mnist_root, no_network):
    lost = mnist_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    lost.unlink()
    with pytest.raises(data.DataError) as caught:
        data.load("mnist", mnist_root)
    sentence = str(caught.value)
    assert "missing: t10k-labels-idx1-ubyte)" in sentence and str(lost.parent) in sentence
    assert "was not downloaded; put the four" in sentence and "data_root" in sentence and "\n" not in sentence
    assert no_network


@pytest.mark.parametrize("name", ["mnist", "stl10", "cub200", "folder"])
def test_root_that_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    for root in (tmp_path / "file", tmp_path / "gone"):
        with pytest.raises(data.DataError, match=f"There is no folder {root}; give one that is there as data_root"):
            data.load(name, root)
    assert not (tmp_path / "gone").exists()


def test_mnist_is_not_fetched_when_it_is_only_looked_for(mnist_root, no_network):
    (mnist_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataError, match="missing: t10k-labels-idx1-ubyte.*and was not downloaded"):
        data.find("mnist", mnist_root, fetch=False)
    assert not no_network


def test_mnist_cut_short(mnist_root, no_network):
    path = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(data.DataError, match=r"damaged in .*raw: train-images-idx3-ubyte \(1000 bytes, 47056 expected"):
        data.load("mnist", mnist_root)


@pytest.mark.parametrize("start", [b"\0\0\0\0", b"\0\0\x0a\x03", b"\x7f\x7f\x7f\x02", b"\0\0\x08\x02"])
def test_mnist_of_the_right_length_but_damaged(mnist_root, no_network, start):
    path = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(start + path.read_bytes()[4:])
    with pytest.raises(data.DataError, match="MNIST is damaged in .*delete the folder and run again"):
        data.load("mnist", mnist_root)


# STL10

@pytest.fixture
def stl10_root(tmp_path, monkeypatch):
    """A small STL10 in its binary layout: 20 and 30 pictures, labels 1 to 10; a picture's columns one after another.

    In picture i, red is the row, green the column and blue i.
    """
    folder, sums = tmp_path / "stl10_binary", {}
    folder.mkdir()
    rows, columns = np.mgrid[:96, :96].astype(np.uint8)
    for word, n in {"train": 20, "test": 30}.items():
        pictures = np.stack([[rows.T, columns.T, np.full((96, 96), i, np.uint8)] for i in range(n)])
        for name, content in {"X": pictures.tobytes(), "y": bytes(i % 10 + 1 for i in range(n))}.items():
            (folder / f"{word}_{name}.bin").write_bytes(content)
            sums[f"{word}_{name}.bin"] = hashlib.md5(content).hexdigest()
    (folder / "class_names.txt").write_text("airplane bird car cat deer dog horse monkey ship truck".replace(" ", "\n"))
    for words in ("train", "test"):
        names = [[name, md5] for name, md5 in sums.items() if name.startswith(words)]
        monkeypatch.setattr(data.LabelledSTL10, f"{words}_list", names)
    return tmp_path


def test_stl10_is_read_in_its_binary_layout(stl10_root):
    dataset = data.load("stl10", stl10_root)
    assert (dataset.title, dataset.size, len(dataset.train), len(dataset.test)) == ("STL10", 96, 20, 30)
    assert dataset.classes[:2] == ("airplane", "bird") and len(dataset.classes) == 10
    assert dataset.test.labels.tolist() == [i % 10 for i in range(30)], "from 0, not from 1"
    pixels = dataset.train.pixels(7)
    assert pixels[0, 40, 3] == 40 and pixels[1, 40, 3] == 3 and (pixels[2] == 7).all(), "rows are rows"
    assert dataset.train[7].shape == (3, 96, 96) and dataset.train.pad == 2
    assert dataset.train.batch([0], "flip+crop", np.random.default_rng(0)).shape == (1, 3, 96, 96)


def test_stl10_of_another_size_and_subset(stl10_root):
    few = data.load("stl10", stl10_root, size=48, train_per_class=1)
    assert len(few.train) == 10 and few.train.pixels(3).shape == (3, 48, 48)
    assert int(few.train.pixels(3)[2].min()) == 3 == int(few.train.pixels(3)[2].max())


def test_stl10_asks_for_the_real_checksums_but_not_for_unlabelled_pictures():
    names = [name for name, _ in [*data.LabelledSTL10.train_list, *data.LabelledSTL10.test_list]]
    assert names == ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"]
    assert data.LabelledSTL10.train_list == torchvision.datasets.STL10.train_list[:2]


def test_stl10_damaged_files_are_named(stl10_root):
    folder = stl10_root / "stl10_binary"
    (folder / "train_y.bin").write_bytes(bytes(20))
    (folder / "test_X.bin").unlink()
    with pytest.raises(data.DataError, match=r"STL10 is damaged in .*: train_y.bin, test_X.bin\); delete the folder"):
        data.load("stl10", stl10_root)


def test_stl10_without_its_names(stl10_root):
    (stl10_root / "stl10_binary" / "class_names.txt").unlink()
    with pytest.raises(data.DataError, match=r"checksum: class_names.txt\); delete the folder"):
        data.load("stl10", stl10_root)


def test_stl10_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(data.ARCHIVES, "stl10", Archive("STL10", "http://127.0.0.1:9/s.tar.gz", "0", "stl10_binary"))
    with pytest.raises(data.DataError, match="STL10 is not in .*stl10_binary and could not be downloaded from"):
        data.load("stl10", tmp_path)


# Sparrows, and the shortcut

@pytest.fixture(scope="module")
def sparrows():
    return {name: data.load(name, size=32, train_per_class=24, test_per_class=16) for name in ("sparrows", "shortcut")}


def test_what_the_shortcut_is_drawn_from():
    asked = []

    def kept(kind, inputs, compute):
        asked.append(inputs)
        n = inputs["species"] * inputs["per_class"]
        return SimpleNamespace(tensors={"images": torch.zeros(n, 224, 224, 3, dtype=torch.uint8), "masks": None,
                                        "labels": torch.arange(n) % 8, "backgrounds": torch.zeros(n)})
    data.load("shortcut", seed=5, kept=kept)
    both = {"seed": 5, "size": 224, "species": 8}
    assert asked == [{"dataset": "shortcut-train", "per_class": 60, "shortcut": 0.95, "n_start": 0, **both},
                     {"dataset": "shortcut-test", "per_class": 30, "shortcut": 0.0, "n_start": 100_000, **both}]


def test_a_shortcut_ties_backgrounds_in_training_only(sparrows):
    for name, low, high in (("sparrows", 0.15, 0.35), ("shortcut", 0.9, 1.0)):
        train, test = sparrows[name].train, sparrows[name].test
        assert low < (train.backgrounds == train.labels % 4).double().mean() < high
        assert 0.15 < (test.backgrounds == test.labels % 4).double().mean() < 0.35
        assert len(train) == 8 * 24 and len(test) == 8 * 16 and len(sparrows[name].classes) == 8
        assert (train.masks > 0).any((1, 2)).all()
    assert torch.equal(sparrows["sparrows"].test.raw, sparrows["shortcut"].test.raw)
    assert not torch.equal(sparrows["sparrows"].train.raw, sparrows["shortcut"].train.raw)
    assert sparrows["sparrows"].fingerprint != sparrows["shortcut"].fingerprint


def test_sparrows_are_the_birds_own_pictures(sparrows):
    few = data.load("birds", size=32, train_per_class=2, test_per_class=1).train
    assert torch.equal(sparrows["sparrows"].train.subset(2).raw, few.raw[:16])
