"""CUB-200-2011: its lists, its pictures, and boxes and parts that lie where the bird is in the prepared picture."""
from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from small import CUB_PARTS, CUB_SIDES

from paperlib.datasets import cub
from paperlib.datasets import load as data
from paperlib.datasets.downloads import Archive

SIZE = 56


# Boxes and parts

def load(root, **options):
    return data.load("cub200", root, size=SIZE, allow_subset=True, **options)


def centre(channel: torch.Tensor) -> tuple[float, float]:
    """The slow way: the mean place of what is bright, in pixels from the upper left corner."""
    rows, columns = torch.nonzero(channel > 127, as_tuple=True)
    return columns.float().mean().item() + 0.5, rows.float().mean().item() + 0.5


def test_parts_lie_on_their_dots(dotted_cub):
    found = {"on the dot": 0, "cropped away": 0}
    for split in (load(dotted_cub).train, load(dotted_cub).test):
        assert split.part_names == tuple(CUB_PARTS) and split.parts.shape == (len(CUB_SIDES), 3, 3)
        assert split.parts.dtype == torch.float32
        for i in range(len(split)):
            for part in range(3):
                x, y, seen = split.parts[i, part].tolist()
                channel = split.pixels(i)[part]
                if seen:
                    if 4 < x < SIZE - 4 and 4 < y < SIZE - 4:  # a dot at the edge is cut
                        assert centre(channel) == pytest.approx((x, y), abs=1.2)
                        found["on the dot"] += 1
                else:
                    assert (x, y) == (0, 0)
                    assert channel.max() < 128 or (channel > 127).sum() < 40, "at most the rim of a dot beside the cut"
                    found["cropped away"] += 1
    assert found["on the dot"] > 10 and found["cropped away"] > 4


def test_parts_against_the_crop_by_hand(dotted_cub):
    """A file of 200 x 30, size 56: resized to 64 high, 426 wide; columns 185 to 240 and rows 4 to 59 are kept."""
    train, rows = load(dotted_cub).train, np.loadtxt(dotted_cub / "CUB_200_2011" / "parts" / "part_locs.txt")
    assert CUB_SIDES[3] == (200, 30)
    for part in range(3):
        _, _, x, y, seen = rows[3 * 3 + part]
        x, y = x * 426 / 200 - 185, y * 64 / 30 - 4
        seen = seen and 0 <= x < 56 and 0 <= y < 56
        expected = (x, y, 1) if seen else (0, 0, 0)
        assert train.parts[3, part].tolist() == pytest.approx(expected, abs=1e-4)
    box = (max(0, 50 * 426 / 200 - 185), 30 * 0.125 * 64 / 30 - 4, 56, 30 * 0.75 * 64 / 30)
    assert train.boxes[3].tolist() == pytest.approx(box, abs=1e-4)


def test_boxes_are_cut_at_the_edge(dotted_cub):
    boxes = load(dotted_cub).train.boxes
    assert boxes.shape == (len(CUB_SIDES), 4) and boxes.dtype == torch.float32
    assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= SIZE).all()
    assert boxes[2].tolist() == pytest.approx([64 * 0.25 - 4, 64 * 0.125 - 4, 32, 48])  # 64 x 64 is not resized


def test_subset_takes_boxes_and_parts_along(dotted_cub):
    whole, few = load(dotted_cub).train, load(dotted_cub, train_per_class=1).train
    assert len(few) == 2 and torch.equal(few.boxes, whole.boxes[:2]) and torch.equal(few.parts, whole.parts[:2])
    late = whole.subset(1)  # after the whole's were computed
    assert torch.equal(late.parts, whole.parts[:2]) and len(late.boxes) == 2


def test_other_data_sets_have_none():
    digits = data.load("digits", size=8).train
    assert digits.boxes is None and digits.parts is None and digits.part_names == ()


def test_pictures_are_there_without_boxes_and_parts(dotted_cub):
    for name in ("bounding_boxes.txt", "parts/part_locs.txt"):
        (dotted_cub / "CUB_200_2011" / name).unlink()
    train = load(dotted_cub).train
    assert train[0].shape == (3, SIZE, SIZE)
    with pytest.raises(data.DataError, match="bounding_boxes.txt is missing, damaged or does not fit images.txt;"):
        train.boxes  # noqa: B018 - computed when asked for
    with pytest.raises(data.DataError, match="part_locs.txt is missing, damaged"):
        train.parts  # noqa: B018


@pytest.mark.parametrize("name, text", [("bounding_boxes.txt", "1 2 3\n"), ("bounding_boxes.txt", "1 0 0 9 9\n"),
                                        ("bounding_boxes.txt", "one\n"), ("parts/part_locs.txt", "1 1 0 0 0\n"),
                                        ("parts/part_locs.txt", "1 1 0 0 0\n1 1 0 0 0\n1 3 0 0 0\n")])
def test_damaged_lists_of_boxes_and_parts(dotted_cub, name, text):
    (dotted_cub / "CUB_200_2011" / name).write_text(text)
    with pytest.raises(data.DataError, match=f"{name} is missing, damaged or does not fit"):
        getattr(load(dotted_cub).train, "boxes" if "box" in name else "parts")


def test_unreadable_pictures_are_found(dotted_cub):
    split = load(dotted_cub).test
    assert split.unreadable(progress=False) == []
    path = split.raw[4]
    path.write_bytes(path.read_bytes()[:-30])
    split.raw[1].write_text("no picture")
    assert split.unreadable(progress=False) == [split.raw[1], path]


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
    with pytest.raises(data.DataError, match=r"118.House_Sparrow/Bird_0.jpg cannot be read as a picture; replace it"):
        load_part(cub_root, size=28).train[0]
