"""A folder of one's own: train/ and test/ or a split by seed, pictures of any size and mode, and what is refused."""
from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from paperlib.datasets import folders
from paperlib.datasets import load as data

COLOURS = {"apple": (200, 30, 30), "leaf": (30, 200, 30), "sky": (30, 30, 200)}


def fill(folder, n: int = 6, start: int = 0) -> None:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(start, start + n):
            Image.new("RGB", (40 + 3 * i, 50), tuple(v + i for v in colour)).save(folder / name / f"{i:02}.png")


@pytest.fixture
def split_root(tmp_path):
    """train/ and test/, six and two pictures a class."""
    fill(tmp_path / "fruit" / "train")
    fill(tmp_path / "fruit" / "test", 2, start=20)
    return tmp_path / "fruit"


@pytest.fixture
def plain_root(tmp_path):
    """Class folders only, ten pictures each."""
    fill(tmp_path / "fruit", 10)
    return tmp_path / "fruit"


def load(root, size: int = 28, **options):
    return data.load("folder", root, size=size, **options)


# Splits

def test_train_and_test(split_root):
    found = load(split_root)
    assert (found.title, found.classes) == ("fruit", ("apple", "leaf", "sky"))
    assert (found.train.split, found.test.split) == ("train", "test")
    assert found.describe().endswith("  apple: 6 + 2, leaf: 6 + 2, sky: 6 + 2")
    assert found.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for i, c in enumerate(found.test.labels.tolist()):
        assert found.test.pixels(i).shape == (3, 28, 28) and found.test.pixels(i).float().mean((1, 2)).argmax() == c
    assert data.load("folder", split_root).size == 224
    assert len(load(split_root, train_per_class=2).train) == 6


def test_split_by_seed_is_stratified_and_the_seeds_own(plain_root):
    first, same, other = (load(plain_root, seed=seed) for seed in (0, 0, 1))
    assert first.test.labels.bincount().tolist() == [2, 2, 2] and first.train.labels.bincount().tolist() == [8, 8, 8]
    every = sorted(plain_root.rglob("*.png"))
    assert sorted([*first.train.raw, *first.test.raw]) == every, "no picture in both, none left out"
    assert list(first.test.raw) == list(same.test.raw) != list(other.test.raw)
    for path, c in zip(first.train.raw, first.train.labels.tolist(), strict=True):
        assert path.parent.name == first.classes[c]


def test_fewest_pictures_that_can_be_split(tmp_path):
    fill(tmp_path, 2)
    found = load(tmp_path)
    assert len(found.train) == len(found.test) == 3
    (tmp_path / "sky" / "00.png").unlink()
    with pytest.raises(data.DataError, match="class folder sky has one picture; training and testing take one each"):
        load(tmp_path)


def test_what_is_left_aside(split_root):
    before = load(split_root)
    (split_root / "train" / "apple" / "notes.txt").write_text("no picture")
    (split_root / "train" / "apple" / ".hidden.png").write_text("no picture")
    (split_root / "train" / ".cache").mkdir()
    (split_root / "train" / "apple" / ".thumbs").mkdir()
    (split_root / "train" / "apple" / ".thumbs" / "t.png").write_text("no picture")
    (split_root / "other").mkdir()
    assert load(split_root).fingerprint == before.fingerprint


def test_pictures_in_folders_below_and_endings_in_capitals(split_root):
    (split_root / "train" / "sky" / "more").mkdir()
    Image.new("RGB", (30, 30)).save(split_root / "train" / "sky" / "more" / "X.JPG", "JPEG")
    assert load(split_root).train.labels.tolist().count(2) == 7


def test_fingerprint_follows_the_files(split_root, tmp_path):
    before = load(split_root).fingerprint
    shutil.copytree(split_root, tmp_path / "moved")
    assert load(tmp_path / "moved").fingerprint == before
    path = split_root / "train" / "apple" / "00.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    changed = load(split_root).fingerprint
    assert changed != before, "one byte, the same length and name"
    shutil.copy(path, split_root / "train" / "apple" / "zz.png")
    assert load(split_root).fingerprint not in (before, changed), "one picture more"


def test_a_file_is_read_once_for_its_fingerprint(split_root, monkeypatch):
    for path in split_root.rglob("*.png"):
        os.utime(path, (1, 1))  # long ago: what changed just now may change again within a tick of the clock
    before = load(split_root).fingerprint
    monkeypatch.setattr(type(split_root), "read_bytes", None)
    assert load(split_root).fingerprint == before


# Modes

def shown(tmp_path, image: Image.Image, name: str, **options) -> torch.Tensor:
    """What becomes of `image`, saved under `name`: (3, 28, 28)."""
    fill(tmp_path / "set")
    image.save(tmp_path / "set" / "apple" / f"00_{name}", **options)
    (tmp_path / "set" / "apple" / "00.png").unlink()
    found = load(tmp_path / "set")
    for split in (found.train, found.test):
        for i, path in enumerate(split.raw):
            if path.name == f"00_{name}":
                return split.pixels(i)
    raise AssertionError("the picture is in neither split")


@pytest.mark.parametrize("kind, name", [("I;16", "x.png"), ("I;16", "x.tif"), ("I", "x.tif"), ("I;16B", "x.tif")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, kind, name):
    levels = np.linspace(0, 65535, 32).round()
    grey = np.repeat(levels[None], 32, 0).astype({"I;16": "<u2", "I": "<i4", "I;16B": ">u2"}[kind])
    pixels = shown(tmp_path, Image.fromarray(grey), name)
    row = pixels[0, 14].float()
    assert torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])
    np.testing.assert_allclose(row, levels[2:30] / 257, atol=1.01)  # 28 of 32 columns: nothing is resized


def test_sixteen_bit_colour_too(tmp_path):
    """Pillow writes no such PNG, so it is put together here: 32 x 32 pixels of red 65535, green 32768, blue 0."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    rows = (b"\0" + struct.pack(">3H", 65535, 32768, 0) * 32) * 32
    fill(tmp_path)
    (tmp_path / "apple" / "00.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 32, 32, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    found = load(tmp_path)
    pictures = [s.pixels(i) for s in (found.train, found.test) for i, p in enumerate(s.raw)
                if p == tmp_path / "apple" / "00.png"]
    assert pictures[0][:, 5, 5].tolist() == [255, 128, 0]


@pytest.mark.parametrize("mode, name", [("L", "x.png"), ("1", "x.png"), ("P", "x.png"), ("P", "x.gif"), ("LA", "x.png"),
                                        ("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("YCbCr", "x.jpg"), ("RGBA", "x.webp")])
def test_modes_of_a_picture(tmp_path, mode, name):
    image = Image.new("RGB", (32, 32), (220, 220, 220))
    image.paste((20, 20, 20), (0, 0, 16, 32))
    image = image.quantize(2) if mode == "P" else image.convert(mode, dither=Image.Dither.NONE)
    pixels = shown(tmp_path, image, name).float()
    light, dark = (255, 0) if mode == "1" else (220, 20)
    assert pixels[:, :, :10].mean((1, 2)).tolist() == pytest.approx([dark] * 3, abs=6)
    assert pixels[:, :, -10:].mean((1, 2)).tolist() == pytest.approx([light] * 3, abs=6)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path, mode):
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 32))
    options = {}
    if mode == "P":
        image = Image.new("P", (32, 32), 1)
        image.putpalette([0, 0, 0, 90, 90, 90])
        image.paste(0, (0, 0, 16, 32))
        options["transparency"] = 1
    pixels = shown(tmp_path, image if mode == "P" else image.convert(mode), "x.png", **options)
    assert pixels[:, 14, 3].tolist() == [0, 0, 0] and pixels[:, 14, -3].tolist() == [255] * 3


def test_picture_stands_as_the_camera_was_held(tmp_path):
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 16))  # light above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: light on the right
    pixels = shown(tmp_path, image, "x.jpg", exif=exif)
    assert pixels[:, 14, -4].min() > 200 and pixels[:, 14, 3].max() < 50


def test_pictures_of_any_size(tmp_path):
    for name, sides in {"one.png": (1, 1), "thin.png": (3, 400), "wide.png": (500, 20)}.items():
        assert shown(tmp_path, Image.new("RGB", sides, (9, 9, 9)), name).unique().tolist() == [9]
        (tmp_path / "set" / "apple" / f"00_{name}").unlink()


@pytest.mark.parametrize("level", [-1.0, 0.5, 70000])
def test_grey_levels_that_are_no_sixteen_bits(tmp_path, level):
    grey = np.full((32, 32), level, dtype=np.float32 if level == 0.5 else np.int32)
    with pytest.raises(data.DataError, match=r"x.tif cannot be read as a picture \(the grey levels are no 16-bit"):
        shown(tmp_path, Image.fromarray(grey), "x.tif")


# What is refused

def test_no_data_root():
    with pytest.raises(data.DataError, match="'folder' is one's own; give the folder that holds .* as data_root"):
        data.load("folder")


@pytest.mark.parametrize("names, message", [([], "holds no class folders; make one for each class"),
                                            (["one"], "holds 1 class folder; make one for each class, at least two")])
def test_too_few_class_folders(tmp_path, names, message):
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "loose.png")
    with pytest.raises(data.DataError, match=message):
        load(tmp_path)


def test_a_downloaded_data_sets_own_folders_are_no_classes(tmp_path):
    for name in ("annotations/trimaps", "images", "trimaps"):
        fill_one(tmp_path / name, mode="RGB" if name == "images" else "L")
    with pytest.raises(data.DataError, match="holds annotations, images, trimaps, by their names no classes. The "
                                             "pictures of a class lie in a folder of its name: FOLDER/CLASS/.*root.$"):
        load(tmp_path)


def test_the_folder_that_is_meant_is_named(tmp_path):
    for name in ("images/cat", "images/dog", "lists"):
        fill_one(tmp_path / "pets" / name)
    with pytest.raises(data.DataError, match=f"give FOLDER as data_root, perhaps {tmp_path / 'pets' / 'images'}.$"):
        load(tmp_path / "pets")
    with pytest.raises(data.DataError, match="holds 1 class folder; make one .* give FOLDER as data_root"):
        load(tmp_path)
    assert load(tmp_path / "pets" / "images").classes == ("cat", "dog")


def test_folders_of_folders_are_no_classes(tmp_path):
    for name in ("training/cat", "training/dog", "validation/cat", "validation/dog"):
        fill_one(tmp_path / name)
    with pytest.raises(data.DataError, match=r"\(training, validation\) hold further folders and no pictures of their "
                                             rf"own. .*, perhaps {tmp_path / 'training'}.$"):
        load(tmp_path)


def test_masks_are_no_class_of_their_own(tmp_path):
    fill_one(tmp_path / "photo")
    fill_one(tmp_path / "truth", mode="L")
    with pytest.raises(data.DataError, match=".*truth pair one to one with those of .*photo, by name and size, and "
                                             "have one channel: they look like its masks"):
        load(tmp_path)
    (tmp_path / "truth" / "0.png").rename(tmp_path / "truth" / "grey.png")
    assert load(tmp_path).classes == ("photo", "truth"), "a class of grey pictures"


def fill_one(folder, mode: str = "RGB") -> None:
    folder.mkdir(parents=True)
    for i in range(3):
        Image.new(mode, (20 + i, 30)).save(folder / f"{i}.png")


def test_class_folder_is_empty(split_root):
    for path in (split_root / "test" / "leaf").iterdir():
        path.unlink()
    (split_root / "test" / "leaf" / "notes.txt").write_text("soon")
    with pytest.raises(data.DataError, match=r"Class folders of .*test without a picture \(.bmp, .*\): leaf; fill or"):
        load(split_root)


@pytest.mark.parametrize("word, other", [("train", "test"), ("test", "train")])
def test_only_one_split(split_root, word, other):
    shutil.rmtree(split_root / other)
    with pytest.raises(data.DataError, match=f"has {word}/ and no {other}/; give it both"):
        load(split_root)


def test_splits_of_different_classes(split_root):
    (split_root / "test" / "sky").rename(split_root / "test" / "sea")
    with pytest.raises(data.DataError, match="do not have the same class folders; these are in one .*: sea, sky"):
        load(split_root)


def test_files_that_are_no_pictures_are_listed(split_root):
    (split_root / "train" / "apple" / "zz.png").write_text("no picture")
    (split_root / "test" / "sky" / "a.JPG").write_bytes(b"")
    with pytest.raises(data.DataError, match="cannot be read as pictures: .*apple/zz.png, .*sky/a.JPG; replace"):
        load(split_root)


def test_picture_that_breaks_off_is_named(split_root):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = split_root / "train" / "apple" / "00.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    train = load(split_root).train
    assert train.unreadable(progress=False) == [path]
    with pytest.raises(data.DataError, match="apple/00.png cannot be read as a picture; replace it"):
        train[0]


def test_endings_are_those_that_pillow_opens():
    assert set(folders.ENDINGS) <= set(Image.registered_extensions())
