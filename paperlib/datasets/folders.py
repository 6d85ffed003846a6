"""A folder of one's own: class folders of pictures, in train/ and test/, or split by a seed."""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from paperlib.datasets.downloads import DataError
from paperlib.datasets.pictures import UNREADABLE, PictureFiles, Pictures, listed

# Files with another ending, and all whose name begins with a dot, are left aside: notes, lists, thumbnails.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_SHARE = 0.2


class OwnPictures(PictureFiles):
    """Pictures of any size and mode; they stand as the camera was held."""

    upright = True

    def content(self) -> bytes:
        """Follows the files: every byte of every picture counts, and its class, but not where the folder lies."""
        sums = [hashlib.sha256(path.read_bytes()).digest() for path in self.raw]
        return b"".join(sums) + self.labels.numpy().tobytes()


def read(root: Path, size: int, normalisation: str, seed: int) -> tuple[list[str], dict[str, Pictures]]:
    """The classes' names and the two splits of the pictures in `root`.

    root/train/CLASS/... and root/test/CLASS/...; or root/CLASS/..., of which a fifth of each class, at least one
    picture, is drawn for testing from `seed`. Raises DataError where there are no class folders, one is empty, the two
    splits' differ, or a file is no picture.
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
        raise DataError(f"train/ and test/ of {root} have not the same class folders; these are in one of them only: "
                        f"{listed(odd)}.")
    _refuse_no_pictures([path for kinds in found.values() for paths in kinds.values() for path in paths])
    if not splits:
        found = _split(found[""], seed)
    pairs = {word: [(path, c) for c, paths in enumerate(kinds.values()) for path in paths]
             for word, kinds in found.items()}
    return classes, {word: OwnPictures(*zip(*rows, strict=True), size, normalisation) for word, rows in pairs.items()}


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Each class folder's pictures, at any depth, in the order of their names."""
    kinds = {sub.name: sorted(p for p in sub.rglob("*") if _is_named_as_picture(p, sub))
             for sub in sorted(folder.iterdir()) if sub.is_dir() and not sub.name.startswith(".")}
    if len(kinds) < 2:
        raise DataError(f"{folder} holds {len(kinds) or 'no'} class folder{'s' * (not kinds)}; make one for each "
                        f"class, at least two, and put its pictures there.")
    empty = [name for name, paths in kinds.items() if not paths]
    if empty:
        raise DataError(f"Class folders of {folder} without a picture ({', '.join(ENDINGS)}): {listed(empty)}; fill or "
                        f"remove them.")
    return kinds


def _is_named_as_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in ENDINGS and not hidden and path.is_file()


def _refuse_no_pictures(paths: list[Path]) -> None:
    """By the files' headers, which is quick; a picture that is damaged further on is named when it is read."""
    wrong = []
    for path in paths:
        try:
            Image.open(path).close()
        except UNREADABLE:
            wrong.append(path)
    if wrong:
        raise DataError(f"Files that cannot be read as pictures: {listed(wrong)}; replace or remove them.")


def _split(kinds: dict[str, list[Path]], seed: int) -> dict[str, dict[str, list[Path]]]:
    """A fifth of each class for testing, drawn from (seed, class): the same files whatever the other classes hold."""
    found = {"train": {}, "test": {}}
    for c, (name, paths) in enumerate(kinds.items()):
        if len(paths) < 2:
            raise DataError(f"The class folder {name} has one picture; training and testing take one each, add more.")
        n = max(1, round(TEST_SHARE * len(paths)))
        order = np.random.default_rng([seed, c]).permutation(len(paths))
        found["test"][name] = [paths[i] for i in sorted(order[:n])]
        found["train"][name] = [paths[i] for i in sorted(order[n:])]
    return found
