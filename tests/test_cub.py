"""Boxes and parts of CUB-200-2011: they lie where the bird is in the prepared picture, whatever the file's shape."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from paperlib import cub, data

SIZE = 56
SIDES = [(90, 60), (61, 97), (64, 64), (200, 30), (31, 150), (250, 188)] * 2  # width, height
PART_NAMES = ["back", "beak", "left eye"]


@pytest.fixture
def drawn(tmp_path):
    """Pictures of two classes: black, with a red, a green and a blue dot for the parts; box and parts in the lists."""
    rng, folder = np.random.default_rng(0), tmp_path / "CUB_200_2011"
    (folder / "images" / "001.A").mkdir(parents=True)
    (folder / "images" / "002.B").mkdir()
    (folder / "parts").mkdir()
    lines = {name: [] for name in (*cub.LISTS, "bounding_boxes.txt", "parts/part_locs.txt")}
    for number, (w, h) in enumerate(SIDES * 2, start=1):
        name = f"{'001.A' if number % 2 else '002.B'}/{number}.png"
        picture = Image.new("RGB", (w, h))
        radius = max(2, min(w, h) // 20)
        for part in range(3):
            x, y = (float(rng.integers(radius, side - radius)) for side in (w, h))
            seen = int(part < 2 or number % 3 > 0)
            if seen:
                channel = Image.new("L", (w, h))
                ImageDraw.Draw(channel).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
                bands = list(picture.split())
                bands[part] = channel
                picture = Image.merge("RGB", bands)
            lines["parts/part_locs.txt"].append(f"{number} {part + 1} {x * seen} {y * seen} {seen}")
        picture.save(folder / "images" / name)
        lines["bounding_boxes.txt"].append(f"{number} {w * 0.25} {h * 0.125} {w * 0.5} {h * 0.75}")
        lines["images.txt"].append(f"{number} {name}")
        lines["image_class_labels.txt"].append(f"{number} {2 - number % 2}")
        lines["train_test_split.txt"].append(f"{number} {int(number <= len(SIDES))}")
    lines["classes.txt"] = ["1 001.A", "2 002.B"]
    lines["parts/parts.txt"] = [f"{k} {name}" for k, name in enumerate(PART_NAMES, start=1)]
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    return tmp_path


def load(root, **options):
    return data.load("cub200", root, size=SIZE, allow_subset=True, **options)


def centre(channel: torch.Tensor) -> tuple[float, float]:
    """The slow way: the mean place of what is bright, in pixels from the upper left corner."""
    rows, columns = torch.nonzero(channel > 127, as_tuple=True)
    return columns.float().mean().item() + 0.5, rows.float().mean().item() + 0.5


def test_parts_lie_on_their_dots(drawn):
    found = {"on the dot": 0, "cropped away": 0}
    for split in (load(drawn).train, load(drawn).test):
        assert split.part_names == tuple(PART_NAMES) and split.parts.shape == (len(SIDES), 3, 3)
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


def test_parts_against_the_crop_by_hand(drawn):
    """A file of 200 x 30, size 56: resized to 64 high, 426 wide; columns 185 to 240 and rows 4 to 59 are kept."""
    train, rows = load(drawn).train, np.loadtxt(drawn / "CUB_200_2011" / "parts" / "part_locs.txt")
    assert SIDES[3] == (200, 30)
    for part in range(3):
        _, _, x, y, seen = rows[3 * 3 + part]
        x, y = x * 426 / 200 - 185, y * 64 / 30 - 4
        seen = seen and 0 <= x < 56 and 0 <= y < 56
        expected = (x, y, 1) if seen else (0, 0, 0)
        assert train.parts[3, part].tolist() == pytest.approx(expected, abs=1e-4)
    box = (max(0, 50 * 426 / 200 - 185), 30 * 0.125 * 64 / 30 - 4, 56, 30 * 0.75 * 64 / 30)
    assert train.boxes[3].tolist() == pytest.approx(box, abs=1e-4)


def test_boxes_are_cut_at_the_edge(drawn):
    boxes = load(drawn).train.boxes
    assert boxes.shape == (len(SIDES), 4) and boxes.dtype == torch.float32
    assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= SIZE).all()
    assert boxes[2].tolist() == pytest.approx([64 * 0.25 - 4, 64 * 0.125 - 4, 32, 48])  # 64 x 64 is not resized


def test_subset_takes_boxes_and_parts_along(drawn):
    whole, few = load(drawn).train, load(drawn, train_per_class=1).train
    assert len(few) == 2 and torch.equal(few.boxes, whole.boxes[:2]) and torch.equal(few.parts, whole.parts[:2])
    late = whole.subset(1)  # after the whole's were computed
    assert torch.equal(late.parts, whole.parts[:2]) and len(late.boxes) == 2


def test_other_data_sets_have_none():
    digits = data.load("digits", size=8).train
    assert digits.boxes is None and digits.parts is None and digits.part_names == ()


def test_pictures_are_there_without_boxes_and_parts(drawn):
    for name in ("bounding_boxes.txt", "parts/part_locs.txt"):
        (drawn / "CUB_200_2011" / name).unlink()
    train = load(drawn).train
    assert train[0].shape == (3, SIZE, SIZE)
    with pytest.raises(data.DataError, match="bounding_boxes.txt is missing, damaged or does not fit images.txt;"):
        train.boxes  # noqa: B018 - computed when asked for
    with pytest.raises(data.DataError, match="part_locs.txt is missing, damaged"):
        train.parts  # noqa: B018


@pytest.mark.parametrize("name, text", [("bounding_boxes.txt", "1 2 3\n"), ("bounding_boxes.txt", "1 0 0 9 9\n"),
                                        ("bounding_boxes.txt", "one\n"), ("parts/part_locs.txt", "1 1 0 0 0\n"),
                                        ("parts/part_locs.txt", "1 1 0 0 0\n1 1 0 0 0\n1 3 0 0 0\n")])
def test_damaged_lists_of_boxes_and_parts(drawn, name, text):
    (drawn / "CUB_200_2011" / name).write_text(text)
    with pytest.raises(data.DataError, match=f"{name} is missing, damaged or does not fit"):
        getattr(load(drawn).train, "boxes" if "box" in name else "parts")


def test_unreadable_pictures_are_found(drawn):
    split = load(drawn).test
    assert split.unreadable(progress=False) == []
    path = split.raw[4]
    path.write_bytes(path.read_bytes()[:-30])
    split.raw[1].write_text("no picture")
    assert split.unreadable(progress=False) == [split.raw[1], path]
