"""Data sets by name (section 4): `load("digits")`, `load("mnist", data_root=...)`.

`digits` and `birds` need no download. Every data set comes as two `Pictures`, train and test, which are indexable and
give one normalised (3, H, W) tensor at a time, so that no data set need fit in memory as floats.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from paperlib import birds, files

DATA = files.REPOSITORY / "data"
# Mean and standard deviation of each channel, for pictures in [0, 1].
NORMALISATIONS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": ((0.5,) * 3, (0.5,) * 3)}
AUGMENTS = ("none", "flip", "flip+crop")
MNIST_BYTES = {"train-images-idx3-ubyte": 47_040_016, "train-labels-idx1-ubyte": 60_008,
               "t10k-images-idx3-ubyte": 7_840_016, "t10k-labels-idx1-ubyte": 10_008}
CUB_SIZES = {"classes": 200, "train": 5_994, "test": 5_794}


class DataError(RuntimeError):
    """A data set is unknown, missing or damaged; the sentence says which, where and what to do."""


class Pictures:
    """n pictures of one split, of size x size pixels.

    `pictures[i]` is the i-th, normalised, (3, size, size) float32; `pixels(i)` the same as uint8 for the eye;
    `batch(indices)` several, (n, 3, size, size). `labels` is (n,) int64; `masks` is None or (n, size, size) uint8.
    """

    def __init__(self, raw: torch.Tensor, labels: Sequence[int], normalisation: str = "imagenet", masks=None,
                 pad: int = 2):
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation is {normalisation!r}; use one of {', '.join(NORMALISATIONS)}.")
        if len(raw) != len(labels):
            raise ValueError(f"{len(raw)} pictures have {len(labels)} labels; give one label for each picture.")
        self.raw, self.labels, self.masks, self.pad = raw, torch.as_tensor(labels, dtype=torch.int64), masks, pad
        self.size = raw.shape[-1]
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in NORMALISATIONS[normalisation])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.normalise(self.pixels(int(i)))

    def pixels(self, i: int) -> torch.Tensor:
        """The i-th picture as it is looked at: (3, size, size) uint8."""
        return self.raw[i].expand(3, -1, -1)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, H, W) to what the network takes: float32, mean and deviation of each channel removed."""
        return (pixels.float() / 255 - self.mean) / self.std

    def batch(self, indices: Sequence[int], augment: str = "none",
              rng: np.random.Generator | None = None) -> torch.Tensor:
        """Pictures `indices`, normalised, (n, 3, size, size); flipped and cropped at random from `rng` for training."""
        if augment not in AUGMENTS:
            raise ValueError(f"augment is {augment!r}; use one of {', '.join(AUGMENTS)}.")
        if augment != "none" and rng is None:
            raise ValueError(f"augment is {augment!r} and there is no rng; give a numpy.random.Generator.")
        if augment == "none":
            return self.normalise(torch.stack([self.pixels(int(i)) for i in indices]))
        return self.normalise(torch.stack([self._augmented(int(i), "crop" in augment, rng) for i in indices]))

    def _augmented(self, i: int, crop: bool, rng: np.random.Generator) -> torch.Tensor:
        picture = self._larger(i) if crop else self.pixels(i)
        if crop:
            top, left = (int(rng.integers(0, side - self.size + 1)) for side in picture.shape[-2:])
            picture = picture[..., top:top + self.size, left:left + self.size]
        return picture.flip(-1) if rng.random() < 0.5 else picture

    def _larger(self, i: int) -> torch.Tensor:
        return TF.pad(self.pixels(i), self.pad)

    def content(self) -> bytes:
        """A checksum of the pixels before normalisation, and the labels."""
        pixels = np.ascontiguousarray(self.raw.numpy())
        return hashlib.sha256(pixels).digest() + self.labels.numpy().tobytes()

    def subset(self, per_class: int) -> Pictures:
        """The first `per_class` pictures of each class, in their order; all of them for 0."""
        if per_class == 0:
            return self
        keep = torch.cat([torch.nonzero(self.labels == c).flatten()[:per_class] for c in self.labels.unique()])
        return self._take(keep.sort().values)

    def _take(self, keep: torch.Tensor) -> Pictures:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.raw, other.labels = self.raw[keep.numpy()], self.labels[keep]
        other.masks = None if self.masks is None else self.masks[keep]
        return other


class PictureFiles(Pictures):
    """Pictures that stay in their files until asked for: short side to size * 8/7 (256 for 224), then the middle."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], size: int, normalisation: str = "imagenet"):
        super().__init__(np.asarray(paths, dtype=object), labels, normalisation)
        self.size = size

    def content(self) -> bytes:
        names = [f"{path.name} {path.stat().st_size}" for path in self.raw]
        return "\n".join(names).encode() + self.labels.numpy().tobytes()

    def pixels(self, i: int) -> torch.Tensor:
        return TF.center_crop(self._larger(i), self.size)

    def _larger(self, i: int) -> torch.Tensor:
        try:
            with Image.open(self.raw[i]) as image:
                return TF.resize(TF.pil_to_tensor(image.convert("RGB")), round(self.size * 8 / 7), antialias=True)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{self.raw[i]} cannot be read as a picture; fetch it again.") from error


@dataclass(frozen=True)
class Dataset:
    """A data set: its name, what tables call it, its classes' names (C of them), and its two splits."""

    name: str
    title: str
    classes: tuple[str, ...]
    train: Pictures
    test: Pictures
    size: int

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any pixel or label (for pictures in files: with any name, length or label)."""
        return hashlib.sha256(b"".join([self.train.content(), self.test.content()])).hexdigest()[:16]


def load(name: str, data_root: str | Path = "", size: int = 0, normalisation: str = "imagenet",
         train_per_class: int = 0, test_per_class: int = 0, seed: int = 0) -> Dataset:
    """The data set `name`, at `size` pixels (0: its own size).

    `data_root` is the folder of downloaded data (empty: data/ of this repository); `*_per_class` keep the first so many
    pictures of each class (0: all); `seed` draws the birds. Raises DataError, in one sentence, for an unknown name and
    for files that are missing, damaged or out of the network's reach.
    """
    if name not in LOADERS:
        raise DataError(unknown(name))
    for word, value in {"size": size, "train_per_class": train_per_class, "test_per_class": test_per_class}.items():
        if value < 0:
            raise ValueError(f"{word} is {value}; give a positive number, or 0 for the data set's own.")
    root = Path(data_root).expanduser() if data_root else DATA
    counts = {"train": train_per_class, "test": test_per_class}
    title, classes, splits, size = LOADERS[name](root, size, normalisation, counts, seed)
    return Dataset(name, title, tuple(classes), splits["train"].subset(train_per_class),
                   splits["test"].subset(test_per_class), size)


def unknown(name: str) -> str:
    """The sentence for a data set that is not there."""
    return f"There is no data set named {name!r}; the known ones are {', '.join(LOADERS)}."


def _resized(grey: torch.Tensor, size: int) -> torch.Tensor:
    """(n, h, w) grey levels in 0..255 to (n, 1, size, size) uint8, bilinear."""
    parts = [TF.resize(part[:, None].float(), [size, size], InterpolationMode.BILINEAR, antialias=True)
             for part in grey.split(4096)]
    return torch.cat(parts).round().clamp(0, 255).byte()


def _digits(root, size, normalisation, counts, seed):
    size = size or 32
    bunch = load_digits()
    raw = _resized(torch.as_tensor(bunch.images * 255 / 16), size)
    # The split is part of the data set: the same for every seed.
    split = train_test_split(np.arange(len(raw)), test_size=0.2, stratify=bunch.target, random_state=0)
    pictures = {word: Pictures(raw[np.sort(i)], bunch.target[np.sort(i)], normalisation)
                for word, i in zip(("train", "test"), split, strict=True)}
    return "digits", [str(c) for c in bunch.target_names], pictures, size


BIRDS_PER_CLASS = {"train": 60, "test": 20}
FIRST_TEST_BIRD = 100_000  # pictures are drawn from (seed, species, number): test numbers never meet training numbers


def _birds(root, size, normalisation, counts, seed):
    size = size or 96
    pictures = {}
    for word, start in {"train": 0, "test": FIRST_TEST_BIRD}.items():
        per_class = counts[word] or BIRDS_PER_CLASS[word]
        parameters = {"dataset": f"birds-{word}", "per_class": per_class, "seed": seed, "size": size,
                      "code": files.sha256(Path(birds.__file__))[:16]}

        def compute(path, per_class=per_class, start=start):
            images, masks, labels, backgrounds = birds.draw_set(per_class, seed, size, n_start=start, progress=True)
            return {"images": torch.as_tensor(images).permute(0, 3, 1, 2), "masks": torch.as_tensor(masks),
                    "labels": torch.as_tensor(labels), "backgrounds": torch.as_tensor(backgrounds)}, {}

        # Drawn pictures are a cache of this program's own: they lie in data/ even where data_root is a shared folder.
        tensors, _ = files.cached("drawn", parameters, compute)
        pictures[word] = Pictures(tensors["images"], tensors["labels"], normalisation, tensors["masks"])
    return "drawn birds", [s.name for s in birds.SPECIES], pictures, size


def _mnist(root, size, normalisation, counts, seed):
    size = size or 32
    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_BYTES):
        _download_mnist(root)
    wrong = [f"{name} ({(raw / name).stat().st_size} bytes, {bytes_} expected)" for name, bytes_ in MNIST_BYTES.items()
             if (raw / name).stat().st_size != bytes_]
    if wrong:
        raise DataError(f"MNIST is damaged in {raw}: {', '.join(wrong)}; delete these files and run again to fetch "
                        f"them.")
    pictures = {}
    for word in ("train", "test"):
        try:
            split = torchvision.datasets.MNIST(root, train=word == "train", download=False)
        except (ValueError, AssertionError, RuntimeError, KeyError) as error:
            raise DataError(f"MNIST is damaged in {raw}; delete the folder and run again to fetch it.") from error
        pictures[word] = Pictures(_resized(split.data, size), split.targets, normalisation)
    return "MNIST", [str(c) for c in range(10)], pictures, size


def _download_mnist(root: Path) -> None:
    """torchvision's own download, which checks each archive's md5."""
    try:
        torchvision.datasets.MNIST(root, download=True)
    except (RuntimeError, OSError) as error:
        missing = [name for name in MNIST_BYTES if not (root / "MNIST" / "raw" / name).is_file()]
        raise DataError(f"MNIST is not whole in {root / 'MNIST' / 'raw'} (missing: {', '.join(missing) or 'nothing'}) "
                        f"and could not be downloaded; put the four uncompressed files there, or give the folder that "
                        f"holds MNIST/raw as data_root.") from error


def _cub200(root, size, normalisation, counts, seed):
    size, folder = size or 224, root / "CUB_200_2011"
    names = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"CUB-200-2011 is not in {folder} (missing: {', '.join(missing)}); unpack CUB_200_2011.tgz so "
                        f"that this folder holds them, or give the folder above it as data_root.")
    try:
        paths, classes, label_of, in_train = (
            dict(line.strip().split(maxsplit=1) for line in (folder / name).read_text().splitlines() if line.strip())
            for name in names)
        number = {class_id: c for c, class_id in enumerate(classes)}
        label = {i: number[label_of[i]] for i in paths}
        rows = {word: [i for i in paths if in_train[i] == flag] for word, flag in {"train": "1", "test": "0"}.items()}
    except (ValueError, KeyError) as error:
        raise DataError(f"The lists of CUB-200-2011 in {folder} ({', '.join(names)}) are damaged or do not fit one "
                        f"another; unpack the archive again.") from error
    lost = [path for path in paths.values() if not (folder / "images" / path).is_file()]
    if lost:
        more = " and more" if len(lost) > 5 else ""
        raise DataError(f"{len(lost)} pictures of CUB-200-2011 are missing under {folder / 'images'}: "
                        f"{', '.join(lost[:5])}{more}; unpack the archive again.")
    pictures = {word: PictureFiles([folder / "images" / paths[i] for i in chosen], [label[i] for i in chosen], size,
                                   normalisation) for word, chosen in rows.items()}
    readable = [name.split(".")[-1].replace("_", " ") for name in classes.values()]
    return _cub_title(len(classes), pictures), readable, pictures, size


def _cub_title(n_classes: int, pictures: dict[str, Pictures]) -> str:
    """A part of the data set never passes for the whole."""
    if n_classes != CUB_SIZES["classes"]:
        return f"CUB, {n_classes} of {CUB_SIZES['classes']} classes"
    sizes = {word: len(split) for word, split in pictures.items()}
    whole = sizes["train"] == CUB_SIZES["train"] and sizes["test"] == CUB_SIZES["test"]
    return "CUB-200" if whole else f"CUB-200, {sizes['train']} + {sizes['test']} pictures"


LOADERS = {"digits": _digits, "birds": _birds, "mnist": _mnist, "cub200": _cub200}
