"""Boxes and parts of CUB-200-2011: they lie where the bird is in the prepared picture, whatever the file's shape."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from small import CUB_PARTS, CUB_SIDES

from paperlib.datasets import load as data

SIZE = 56


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
