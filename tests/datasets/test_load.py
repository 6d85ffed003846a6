"""Data sets by name: what they hold, and one sentence for whatever is missing, damaged or out of reach."""
from __future__ import annotations

import hashlib
import struct
from io import BytesIO
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from paperlib.datasets import birds, cub
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


@pytest.mark.parametrize("setting", ["size", "train_per_class", "test_per_class"])
def test_negative_setting_is_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} is -1"):
        data.load("digits", **{setting: -1})


def test_unknown_normalisation_lists_the_known():
    with pytest.raises(ValueError, match="'none'; use one of imagenet, half"):
        data.load("digits", normalisation="none")


def test_labels_must_be_as_many_as_pictures():
    with pytest.raises(ValueError, match="3 pictures have 2 labels"):
        data.Pictures(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), [0, 1])


# Digits

@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_digits_sizes_and_stratified_split(digits):
    target = load_digits().target
    assert (digits.name, digits.size, len(digits.classes)) == ("digits", 32, 10)
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
    assert torch.equal(few.train.raw, digits.train.raw[expected])
    assert few.train.labels.tolist() == digits.train.labels[expected].tolist()
    assert len(digits.train.subset(0)) == len(digits.train)
    assert len(digits.train.subset(10_000)) == len(digits.train)


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
    with pytest.raises(ValueError, match="'rotate'; use one of none, flip, flip\\+crop"):
        digits.train.batch([0], "rotate")
    with pytest.raises(ValueError, match="there is no rng; give a numpy.random.Generator"):
        digits.train.batch([0], "flip")


# Birds

def test_birds_have_masks_and_labels_and_are_drawn_once(fresh_cache, monkeypatch):
    options = {"size": 32, "train_per_class": 2, "test_per_class": 1}
    first = data.load("birds", **options)
    n = len(birds.SPECIES)
    assert (len(first.train), len(first.test), len(first.classes)) == (2 * n, n, n)
    assert first.train.labels.bincount().tolist() == [2] * n and first.test.labels.tolist() == list(range(n))
    assert first.train.masks.shape == (2 * n, 32, 32) and first.train.masks.dtype == torch.uint8
    assert first.train[0].shape == (3, 32, 32)
    image, mask, _ = birds.draw(1, 0, 0, 32)  # labels are in runs: the third picture is the first of species 1
    assert np.array_equal(first.train.pixels(2).permute(1, 2, 0), image) and np.array_equal(first.train.masks[2], mask)
    image, _, _ = birds.draw(1, data.FIRST_TEST_BIRD, 0, 32)
    assert np.array_equal(first.test.pixels(1).permute(1, 2, 0), image)

    def drawn_again(*_, **__):
        raise AssertionError("drawn a second time")
    monkeypatch.setattr(birds, "draw_set", drawn_again)
    second = data.load("birds", **options)
    assert torch.equal(first.train.raw, second.train.raw) and torch.equal(first.test.masks, second.test.masks)
    with pytest.raises(AssertionError, match="a second time"):
        data.load("birds", **options, seed=1)  # other pictures


def test_subset_takes_the_masks_along():
    raw, masks = (torch.arange(6, dtype=torch.uint8)[:, None, None] for _ in range(2))
    pictures = data.Pictures(raw[:, None].expand(6, 3, 2, 2), [1, 0, 1, 0, 1, 0], masks=masks.expand(6, 2, 2))
    few = pictures.subset(2)
    assert few.labels.tolist() == [1, 0, 1, 0]
    assert few.masks[:, 0, 0].tolist() == few.raw[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert len(pictures) == 6


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
    assert "could not be downloaded; put the four" in sentence and "data_root" in sentence and "\n" not in sentence
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
    with pytest.raises(data.DataError, match="missing: t10k-labels-idx1-ubyte.*and was to not be downloaded"):
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


# CUB-200

CLASSES = {"1": "118.House_Sparrow", "2": "200.Common_Yellowthroat", "3": "021.Eastern_Towhee"}
COLOURS = {"1": (255, 0, 0), "2": (0, 255, 0), "3": (0, 0, 255)}
PER_CLASS = 4


def picture_of(class_id: str, k: int):
    """(file ending, picture): JPEGs, but for one grey, one CMYK and one RGBA PNG under the name of a JPEG."""
    picture = Image.new("RGB", (60, 40), COLOURS[class_id])
    kind = {("1", 1): "L", ("2", 1): "CMYK", ("3", 1): "RGBA"}.get((class_id, k), "RGB")
    return picture.convert(kind), "PNG" if kind == "RGBA" else "JPEG"


@pytest.fixture
def cub_root(tmp_path):
    """A small CUB-200 in the official layout: three classes of four pictures, two of them for training."""
    folder = tmp_path / "CUB_200_2011"
    rows = [(c, k) for c in CLASSES for k in range(PER_CLASS)]
    images, labels, split = [], [], []
    for number, (c, k) in enumerate(rows, start=1):
        name = f"{CLASSES[c]}/Bird_{k}.jpg"
        (folder / "images" / CLASSES[c]).mkdir(parents=True, exist_ok=True)
        picture, kind = picture_of(c, k)
        picture.save(folder / "images" / name, kind)
        images.append(f"{number} {name}")
        labels.append(f"{number} {c}")
        split.append(f"{number} {int(k < 2)}")
    lists = {"images": images, "image_class_labels": labels, "train_test_split": split,
             "classes": [f"{c} {name}" for c, name in CLASSES.items()]}
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def load_part(root, **options):
    return data.load("cub200", root, allow_subset=True, **options)


def test_cub_part_is_taken_only_when_asked_for(cub_root):
    with pytest.raises(data.DataError, match=r"holds 3 classes, 6 train and 6 test pictures of CUB-200-2011 instead of "
                                             r"200 classes, 5,994 train and 5,794 test pictures; .*set allow_subset"):
        data.load("cub200", cub_root)


def test_cub_part_says_so_in_its_title(cub_root):
    dataset = load_part(cub_root)
    assert dataset.title == "CUB, 3 of 200 classes" and dataset.size == 224
    assert dataset.classes == ("House Sparrow", "Common Yellowthroat", "Eastern Towhee")
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_cub_title_of_a_part_by_pictures(cub_root, monkeypatch):
    monkeypatch.setitem(cub.SIZES, "classes", 3)
    assert load_part(cub_root).title == "CUB-200, 6 + 6 pictures"
    with pytest.raises(data.DataError, match="holds 3 classes, 6 train .* instead of 3 classes, 5,994 train"):
        data.load("cub200", cub_root)
    monkeypatch.setattr(cub, "SIZES", {"classes": 3, "train": 6, "test": 6})
    assert data.load("cub200", cub_root).title == "CUB-200"


def test_official_sizes_of_cub():
    assert cub.SIZES == {"classes": 200, "train": 5_994, "test": 5_794}
    assert (cub.ARCHIVE.bytes, cub.ARCHIVE.md5) == (1_150_585_339, "97eceeb196236b17998738112f37df78")


def test_cub_class_without_a_training_picture(cub_root):
    classes = cub_root / "CUB_200_2011" / "classes.txt"
    classes.write_text(classes.read_text() + "4 004.Groove_billed_Ani\n")
    with pytest.raises(data.DataError, match="CUB, 4 of 200 classes has no training picture of Groove billed Ani; add"):
        load_part(cub_root)


def test_cub_pictures_of_every_mode_come_as_rgb(cub_root):
    train = load_part(cub_root, size=28).train
    for i, label in enumerate(train.labels.tolist()):
        pixels = train.pixels(i)
        assert pixels.shape == (3, 28, 28) and pixels.dtype == torch.uint8
        if i != 1:  # the grey one
            assert pixels.float().mean((1, 2)).argmax() == label
    grey = train.pixels(1).float().mean((1, 2))
    assert grey.max() - grey.min() < 2
    assert train.batch(range(6)).shape == (6, 3, 28, 28)


def test_cub_crop_is_the_middle_of_the_resized_picture(cub_root):
    path = cub_root / "CUB_200_2011" / "images" / CLASSES["1"] / "Bird_0.jpg"
    # Column j holds the value j; the height is 28 * 8/7, so that nothing is resized.
    Image.fromarray(np.arange(96, dtype=np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2)).save(path, "PNG")
    train = load_part(cub_root, size=28).train
    assert train.pixels(0)[0, 0].tolist() == list(range(34, 62))
    rng, lefts = np.random.default_rng(0), set()
    for _ in range(40):
        x = train.batch([0], "flip+crop", rng)[0]
        row = ((x * train.std + train.mean) * 255).round()[0, 0]
        assert abs(row[-1] - row[0]) == 27 and x.shape == (3, 28, 28)
        lefts.add(int(row.min()))
    assert len(lefts) > 20 and min(lefts) < 15 and max(lefts) > 54


def test_cub_augmentation_depends_on_the_generator_alone(cub_root):
    train = load_part(cub_root, size=28).train
    first, same = (train.batch(range(6), "flip+crop", np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, same) and first.shape == (6, 3, 28, 28)


def test_cub_subset_of_each_class(cub_root):
    dataset = load_part(cub_root, size=28, train_per_class=1)
    assert dataset.train.labels.tolist() == [0, 1, 2] and len(dataset.test) == 6
    assert [path.name for path in dataset.train.raw] == ["Bird_0.jpg"] * 3


def test_cub_that_is_not_there(tmp_path, monkeypatch):
    nowhere = Archive("CUB-200-2011", "http://127.0.0.1:9/CUB_200_2011.tgz", "0" * 32, "CUB_200_2011")
    monkeypatch.setitem(data.ARCHIVES, "cub200", nowhere)
    with pytest.raises(data.DataError) as caught:
        data.load("cub200", tmp_path)
    assert str(caught.value) == (
        f"CUB-200-2011 is not in {tmp_path / 'CUB_200_2011'} and could not be downloaded from {nowhere.url} (no "
        f"connection); put CUB_200_2011.tgz into {tmp_path}, or give the folder that holds CUB_200_2011 as data_root.")


def test_cub_that_lacks_its_lists_is_not_fetched_over(tmp_path):
    (tmp_path / "CUB_200_2011").mkdir()
    with pytest.raises(data.DataError, match=r"not whole in .*CUB_200_2011 \(missing: images.txt, classes.*move it"):
        data.load("cub200", tmp_path)


def test_cub_missing_pictures_are_listed(cub_root):
    for k in (0, 2):
        (cub_root / "CUB_200_2011" / "images" / CLASSES["2"] / f"Bird_{k}.jpg").unlink()
    with pytest.raises(data.DataError, match=r"^2 pictures .* missing under .*images: 200.*Bird_0.jpg, 200.*Bird_2"):
        load_part(cub_root)
    for path in (cub_root / "CUB_200_2011" / "images").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(data.DataError, match=r"^12 pictures .*and more; unpack"):
        load_part(cub_root)


@pytest.mark.parametrize("name, text", [("images", "1\n"), ("image_class_labels", "1 1\n"), ("classes", "7 007.Bird\n"),
                                        ("train_test_split", "")])
def test_cub_lists_that_are_damaged(cub_root, name, text):
    (cub_root / "CUB_200_2011" / f"{name}.txt").write_text(text)
    with pytest.raises(data.DataError, match="lists of CUB-200-2011 in .* damaged or do not fit one another"):
        load_part(cub_root)


def damaged_png() -> bytes:
    """A PNG whose second half of pixels is damaged."""
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(buffer, "PNG")
    raw = bytearray(buffer.getvalue())
    raw[len(raw) // 2:] = bytes(len(raw) - len(raw) // 2)
    return bytes(raw)


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: b"no picture", lambda raw: raw[:len(raw) // 2],
                                    lambda raw: damaged_png(), lambda raw: damaged_png()[:200]],
                         ids=["empty", "text", "half a JPEG", "damaged PNG", "PNG cut short"])
def test_cub_unreadable_picture_is_named(cub_root, damage):
    path = cub_root / "CUB_200_2011" / "images" / CLASSES["1"] / "Bird_0.jpg"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(data.DataError, match=r"118.House_Sparrow/Bird_0.jpg cannot be read as a picture; fetch it"):
        load_part(cub_root, size=28).train[0]


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

def test_a_shortcut_ties_backgrounds_in_training_only():
    found = {name: data.load(name, size=32) for name in ("sparrows", "shortcut")}
    for name, low, high in (("sparrows", 0.15, 0.35), ("shortcut", 0.9, 1.0)):
        train, test = found[name].train, found[name].test
        assert low < (train.backgrounds == train.labels % 4).double().mean() < high
        assert 0.15 < (test.backgrounds == test.labels % 4).double().mean() < 0.35
        assert len(train) == 8 * 60 and len(test) == 8 * 30 and len(found[name].classes) == 8
        assert (train.masks > 0).any((1, 2)).all()
    assert torch.equal(found["sparrows"].test.raw, found["shortcut"].test.raw)
    assert not torch.equal(found["sparrows"].train.raw, found["shortcut"].train.raw)
    assert found["sparrows"].fingerprint != found["shortcut"].fingerprint


def test_backgrounds_go_with_their_pictures():
    whole, part = (data.load("sparrows", size=32, test_per_class=n).test for n in (0, 2))
    keep = whole.first(2)
    assert torch.equal(part.backgrounds, whole.backgrounds[keep]) and torch.equal(part.raw, whole.raw[keep])
    assert data.load("digits").test.backgrounds is None


def test_sparrows_are_the_birds_own_pictures():
    assert torch.equal(data.load("sparrows", size=32, train_per_class=2).train.raw,
                       data.load("birds", size=32, train_per_class=2).train.raw[:16])
