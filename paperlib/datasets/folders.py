"""A folder of one's own: class folders of pictures, in train/ and test/, or split by a seed."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from paperlib.datasets.downloads import DataError
from paperlib.datasets.pictures import UNREADABLE, PictureFiles, Pictures, held_out, listed
from paperlib.datasets.resized import digest

# Files with another ending, and all whose name begins with a dot, are left aside: notes, lists, thumbnails.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Names that a data set's own folders bear, and no class does.
NO_CLASSES = ("annotation", "annotations", "bounding_boxes", "images", "imgs", "segmentations", "trimaps")
ONE_CHANNEL = ("1", "L", "P", "I", "F")  # modes of Pillow
TEST_SHARE = 0.2
LAYOUT = ("The pictures of a class lie in a folder of its name: FOLDER/CLASS/..., or FOLDER/train/CLASS/... and "
          "FOLDER/test/CLASS/...; give FOLDER as data_root")

Kinds = dict[str, list[Path]]  # each class's pictures, by its name


class OwnPictures(PictureFiles):
    """Pictures of any size and mode; they stand as the camera was held."""

    upright = True

    def content(self) -> bytes:
        """Follows the files: every byte of every picture counts, and its class, but not where the folder lies."""
        return b"".join(digest(path) for path in self.raw) + self.labels.numpy().tobytes()


def read(root: Path, size: int, normalisation: str, seed: int) -> tuple[list[str], dict[str, Pictures]]:
    """The classes' names and the two splits of the pictures in `root`.

    root/train/CLASS/... and root/test/CLASS/...; or root/CLASS/..., of which a fifth of each class, at least one
    picture, is drawn for testing from `seed`. Raises DataError where there are no class folders, one is empty or no
    class, the two splits' differ, or a file is no picture.
    """
    splits = {word: root / word for word in ("train", "test") if (root / word).is_dir()}
    if len(splits) == 1:
        (word,) = splits
        other = "test" if word == "train" else "train"
        raise DataError(f"{root} has {word}/ and no {other}/; give it both, or put the class folders right into it.")
    found = {word: _classes(folder) for word, folder in (splits or {"": root}).items()}
    classes = list(next(iter(found.values())))
    if splits and classes != list(found["test"]):
        odd = sorted(set(classes) ^ set(found["test"]))
        raise DataError(f"train/ and test/ of {root} do not have the same class folders; these are in one of them "
                        f"only: {listed(odd)}.")
    headers = _headers([path for kinds in found.values() for paths in kinds.values() for path in paths])
    for word, kinds in found.items():
        _refuse_label_maps(root / word, kinds, headers)
    if not splits:
        found = _split(found[""], seed)
    pairs = {word: [(path, c) for c, paths in enumerate(kinds.values()) for path in paths]
             for word, kinds in found.items()}
    return classes, {word: OwnPictures(*zip(*rows, strict=True), size, normalisation) for word, rows in pairs.items()}


def _classes(folder: Path) -> Kinds:
    """Each class folder's pictures, at any depth, in the order of their names."""
    kinds = {sub.name: sorted(p for p in sub.rglob("*") if _is_named_as_picture(p, sub)) for sub in _folders(folder)}
    if no_classes := [name for name in kinds if name.lower() in NO_CLASSES]:
        raise DataError(f"{folder} holds {listed(no_classes)}, by their names no classes. {LAYOUT}{_hint(folder)}.")
    if len(kinds) < 2:
        raise DataError(f"{folder} holds {len(kinds) or 'no'} class folder{'s' * (not kinds)}; make one for each "
                        f"class, at least two. {LAYOUT}{_hint(folder)}.")
    if empty := [name for name, paths in kinds.items() if not paths]:
        raise DataError(f"Class folders of {folder} without a picture ({', '.join(ENDINGS)}): {listed(empty)}; fill or "
                        f"remove them.")
    if not any(path.parent == folder / name for name, paths in kinds.items() for path in paths):
        raise DataError(f"The folders of {folder} ({listed(list(kinds))}) hold further folders and no pictures of "
                        f"their own. {LAYOUT}{_hint(folder)}.")
    return kinds


def _folders(folder: Path) -> list[Path]:
    return [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and not sub.name.startswith(".")]


def _hint(folder: Path) -> str:
    """Words that name the folder below that looks as if it were meant; "" where none does."""
    for sub in _folders(folder):
        if sum(any(_is_named_as_picture(p, below) for p in below.iterdir()) for below in _folders(sub)) > 1:
            return f", perhaps {sub}"
    return ""


def _is_named_as_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in ENDINGS and not hidden and path.is_file()


class Header(NamedTuple):
    """What a picture's file says of it before its pixels: Pillow's mode, and (width, height)."""

    mode: str
    size: tuple[int, int]


def _headers(paths: list[Path]) -> dict[Path, Header]:
    """Each file's header. Raises DataError; a picture that is damaged further on is named when it is read."""
    found, wrong = {}, []
    for path in paths:
        try:
            with Image.open(path) as image:
                found[path] = Header(image.mode, image.size)
        except UNREADABLE:
            wrong.append(path)
    if wrong:
        raise DataError(f"Files that cannot be read as pictures: {listed(wrong)}; replace or remove them.")
    return found


def _refuse_label_maps(folder: Path, kinds: Kinds, headers: dict[Path, Header]) -> None:
    """Raise DataError where a folder holds the masks of another's pictures: of one channel, paired by name and size."""
    sizes = {name: {path.stem: headers[path].size for path in paths} for name, paths in kinds.items()}
    grey = {name: {headers[path].mode.split(";")[0] in ONE_CHANNEL for path in paths} for name, paths in kinds.items()}
    for name in kinds:
        for other in kinds:
            if grey[name] == {True} and grey[other] == {False} and sizes[name] == sizes[other]:
                raise DataError(f"The files of {folder / name} pair one to one with those of {folder / other}, by name "
                                f"and size, and have one channel: they look like its masks, not like a class; move "
                                f"them elsewhere, or rename them if they are a class.")


def _split(kinds: Kinds, seed: int) -> dict[str, Kinds]:
    """A fifth of each class for testing, drawn from (seed, class): the same files whatever the other classes hold."""
    found = {"train": {}, "test": {}}
    for c, (name, paths) in enumerate(kinds.items()):
        if len(paths) < 2:
            raise DataError(f"The class folder {name} has one picture; training and testing take one each, add more.")
        held = held_out(len(paths), TEST_SHARE, seed, c)
        found["test"][name] = [paths[i] for i in held]
        found["train"][name] = [paths[i] for i in np.setdiff1d(range(len(paths)), held)]
    return found
