"""CUB-200-2011 (section 4) in its official layout: pictures of 200 species, with boxes and 15 parts of each bird."""
from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paperlib.datasets.downloads import Archive, DataError
from paperlib.datasets.pictures import UNREADABLE, PictureFiles, Pictures, listed

SIZES = {"classes": 200, "train": 5_994, "test": 5_794}
RECORD = "https://data.caltech.edu/records/65de6-vp158/files"
ARCHIVE = Archive("CUB-200-2011", f"{RECORD}/CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78", "CUB_200_2011",
                  1_150_585_339)
SEGMENTATIONS = Archive("The segmentations of CUB-200-2011", f"{RECORD}/segmentations.tgz",
                        "4d47ba1228eae64f2fa547c47bc65255", "segmentations")
LISTS = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")


class CubPictures(PictureFiles):
    """Pictures with boxes and parts, in pixels of the prepared picture: what `pixels(i)` shows, size x size.

    x runs to the right and y down from the upper left corner, so that x in [0, 1) lies in the first column.
    """

    def __init__(self, folder: Path, ids: list[str], paths: list[str], labels: list[int], size: int,
                 normalisation: str = "imagenet"):
        super().__init__([folder / "images" / path for path in paths], labels, size, normalisation)
        self.folder, self.ids = folder, np.array([int(i) for i in ids])

    def take(self, keep: torch.Tensor) -> Pictures:
        other = super().take(keep)
        other.ids = self.ids[keep.numpy()]
        for computed in ("boxes", "parts", "frames"):
            other.__dict__.pop(computed, None)
        return other

    @cached_property
    def frames(self) -> np.ndarray:
        """(n, 4): factors of x and y, then left and top, that turn a file's coordinates into the prepared picture's.

        Only the files' headers are read.
        """
        return np.array([self._frame(path) for path in self.raw])

    def _frame(self, path: Path) -> tuple[float, float, int, int]:
        try:
            with Image.open(path) as image:
                sides = image.size
        except UNREADABLE as error:
            raise DataError(f"{path} cannot be read as a picture; replace it.") from error
        # As torchvision resizes and cuts: the long side is rounded down, half a pixel of margin to the even one.
        w, h = (int(self.short_side * side / min(sides)) for side in sides)
        return w / sides[0], h / sides[1], round((w - self.size) / 2), round((h - self.size) / 2)

    @cached_property
    def boxes(self) -> torch.Tensor:
        """The birds' boxes, (n, 4) float32: x, y of the upper left corner, width, height; cut at the picture's edge.

        Raises DataError where bounding_boxes.txt is missing or does not fit.
        """
        rows = self._table("bounding_boxes.txt", 5)
        rows = self._rows(rows[:, 0], rows[:, 1:], "bounding_boxes.txt")
        scale, corner = self.frames[:, :2], self.frames[:, 2:]
        low = (rows[:, :2] * scale - corner).clip(0, self.size)
        high = ((rows[:, :2] + rows[:, 2:]) * scale - corner).clip(0, self.size)
        return torch.as_tensor(np.hstack([low, high - low]), dtype=torch.float32)

    @cached_property
    def parts(self) -> torch.Tensor:
        """The birds' parts, (n, 15, 3) float32: x, y, and 1 where the part is seen.

        All three are 0 where the part is hidden or lies outside of what is cut out; `part_names` names them. Raises
        DataError where parts/part_locs.txt is missing or does not fit.
        """
        rows, n = self._table("parts/part_locs.txt", 5), len(self.part_names)
        ids = np.unique(rows[:, 0])
        rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
        if len(rows) != len(ids) * n or (rows[:, 1].reshape(-1, n) != np.arange(1, n + 1)).any():
            raise DataError(self._damaged("parts/part_locs.txt"))
        parts = self._rows(ids, rows[:, 2:].reshape(-1, n, 3), "parts/part_locs.txt")
        at = parts[..., :2] * self.frames[:, None, :2] - self.frames[:, None, 2:]
        seen = (parts[..., 2:] == 1) & ((at >= 0) & (at < self.size)).all(-1, keepdims=True)
        return torch.as_tensor(np.concatenate([at, np.ones_like(seen)], -1) * seen, dtype=torch.float32)

    @property
    def part_names(self) -> tuple[str, ...]:
        try:
            lines = (self.folder / "parts" / "parts.txt").read_text().splitlines()
        except OSError as error:
            raise DataError(self._damaged("parts/parts.txt")) from error
        return tuple(line.strip().partition(" ")[2] for line in lines if line.strip())

    def _table(self, name: str, columns: int) -> np.ndarray:
        try:
            table = np.loadtxt(self.folder / name, ndmin=2)
        except (OSError, ValueError) as error:
            raise DataError(self._damaged(name)) from error
        if table.shape[1] != columns:
            raise DataError(self._damaged(name))
        return table

    def _rows(self, ids: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
        """The rows of this split's pictures, in their order."""
        row = {int(i): k for k, i in enumerate(ids)}
        if not all(int(i) in row for i in self.ids):
            raise DataError(self._damaged(name))
        return values[[row[int(i)] for i in self.ids]]

    def _damaged(self, name: str) -> str:
        return f"{self.folder / name} is missing, damaged or does not fit images.txt; unpack the archive again."


def read(folder: Path, size: int, normalisation: str, allow_subset: bool) -> tuple[str, list[str], dict[str, Pictures]]:
    """Title, the classes' names and the two splits of the data set in `folder`. Raises DataError."""
    missing = [name for name in LISTS if not (folder / name).is_file()]
    if missing:
        raise DataError(f"CUB-200-2011 is not whole in {folder} (missing: {', '.join(missing)}); unpack "
                        f"CUB_200_2011.tgz so that this folder holds them, or move it away and run again to fetch it.")
    try:
        paths, classes, label_of, in_train = (
            dict(line.strip().split(maxsplit=1) for line in (folder / name).read_text().splitlines() if line.strip())
            for name in LISTS)
        number = {class_id: c for c, class_id in enumerate(classes)}
        label = {i: number[label_of[i]] for i in paths}
        rows = {word: [i for i in paths if in_train[i] == flag] for word, flag in {"train": "1", "test": "0"}.items()}
        splits = {word: CubPictures(folder, chosen, [paths[i] for i in chosen], [label[i] for i in chosen], size,
                                    normalisation) for word, chosen in rows.items()}
    except (ValueError, KeyError) as error:
        raise DataError(f"The lists of CUB-200-2011 in {folder} ({', '.join(LISTS)}) are damaged or do not fit one "
                        f"another; unpack the archive again.") from error
    lost = [path for path in paths.values() if not (folder / "images" / path).is_file()]
    if lost:
        raise DataError(f"{len(lost)} pictures of CUB-200-2011 are missing under {folder / 'images'}: {listed(lost)}; "
                        f"unpack the archive again.")
    found = {"classes": len(classes)} | {word: len(split) for word, split in splits.items()}
    if found != SIZES and not allow_subset:
        raise DataError(f"{folder} holds {_counts(found)} of CUB-200-2011 instead of {_counts(SIZES)}; fetch the "
                        f"whole, or set allow_subset if a part is meant.")
    return title(found), [name.split(".")[-1].replace("_", " ") for name in classes.values()], splits


def _counts(found: dict[str, int]) -> str:
    return f"{found['classes']:,} classes, {found['train']:,} train and {found['test']:,} test pictures"


def title(found: dict[str, int]) -> str:
    """The title in tables: a part of the data set never passes for the whole."""
    if found["classes"] != SIZES["classes"]:
        return f"CUB, {found['classes']} of {SIZES['classes']} classes"
    return "CUB-200" if found == SIZES else f"CUB-200, {found['train']} + {found['test']} pictures"
