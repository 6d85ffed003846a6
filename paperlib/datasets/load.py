"""Data sets by name (section 4): `load("digits")`, `load("mnist", data_root=...)`.

`digits`, `birds`, `sparrows` and `shortcut` need no download; `mnist`, `stl10` and `cub200` are fetched at the first
use; `folder` is one's own. Every data set comes as two `Pictures`, train and test, which are indexable and give one
normalised (3, H, W) tensor at a time, so that no data set need fit in memory as floats.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets.utils import check_integrity
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from paperlib import guards
from paperlib.datasets import birds, cub, files, folders
from paperlib.datasets.downloads import Archive, DataError, obtain
from paperlib.datasets.pictures import AUGMENTS, NORMALISATIONS, Dataset, PictureFiles, Pictures, listed

__all__ = ["AUGMENTS", "NORMALISATIONS", "DataError", "Dataset", "PictureFiles", "Pictures", "find", "load", "unknown"]

DATA = files.REPOSITORY / "data"
SMALLEST = 8  # pixels of a picture's side
MNIST_BYTES = {"train-images-idx3-ubyte": 47_040_016, "train-labels-idx1-ubyte": 60_008,
               "t10k-images-idx3-ubyte": 7_840_016, "t10k-labels-idx1-ubyte": 10_008}
STL10_ARCHIVE = Archive("STL10", torchvision.datasets.STL10.url, torchvision.datasets.STL10.tgz_md5, "stl10_binary")


@dataclass(frozen=True)
class Request:
    """What is asked of a data set: as `load` takes it, checked."""

    root: Path
    size: int
    normalisation: str
    counts: dict[str, int]
    seed: int
    allow_subset: bool
    kept: Callable | None
    cache: Path | None


def load(name: str, data_root: str | Path = "", size: int = 0, normalisation: str = "imagenet",
         train_per_class: int = 0, test_per_class: int = 0, seed: int = 0, allow_subset: bool = False,
         kept: Callable | None = None, cache: Path | None = None) -> Dataset:
    """The data set `name`, its pictures `size` pixels wide and high (0: their own size).

    data_root: the folder of downloaded data (empty: data/ of this repository), or, for "folder", one's own pictures.
    *_per_class: keep the first so many pictures of each class (0: all). seed: draws the birds, and splits a folder
    that is not. allow_subset: a part of CUB-200-2011 will do, and the title then says so. kept: gives the tensors of
    drawn pictures from before, as paperlib.runs.store.kept does; None draws anew. cache: the folder in which pictures
    from files are kept as they were resized (see `resized`); None decodes them at every pass.
    Raises DataError, in one sentence, for an unknown name and for files that are missing, damaged or out of the
    network's reach, and ValueError for settings that no data set can have.
    """
    counts = {"train": train_per_class, "test": test_per_class}
    for word, value in {"size": size, "seed": seed, **{f"{k}_per_class": n for k, n in counts.items()}}.items():
        guards.check_count(word, value, least=0)
    if 0 < size < SMALLEST:
        raise ValueError(f"size={size} is too small; give at least {SMALLEST} pixels, or 0 for the data set's own.")
    guards.check_option("normalisation", normalisation, NORMALISATIONS)
    find(name, data_root)
    request = Request(_root(name, data_root), int(size) or SIZES[name], normalisation,
                      {word: int(n) for word, n in counts.items()}, int(seed), allow_subset, kept, cache)
    title, classes, splits = LOADERS[name](request)
    for word, pictures in splits.items():
        pictures.split = word
        if cache is not None and isinstance(pictures, PictureFiles):
            pictures.keep_in(cache)
    unseen = sorted(set(range(len(classes))) - set(splits["train"].labels.tolist()))
    if unseen:
        raise DataError(f"{title} has no training picture of {listed([classes[c] for c in unseen])}; add some, or take "
                        f"the class out.")
    return Dataset(name, title, tuple(classes), splits["train"].subset(train_per_class),
                   splits["test"].subset(test_per_class), request.size)


def find(name: str, data_root: str | Path = "", fetch: bool = True) -> Path:
    """The file or folder that the data set lies in; for drawn ones, the code that draws them.

    What is not there is fetched first. Raises DataError where it cannot be, or is not there and `fetch` is False.
    """
    if name not in LOADERS:
        raise DataError(unknown(name))
    root = _root(name, data_root)
    if name == "digits":
        return Path(sklearn.__file__).parent / "datasets" / "data" / "digits.csv.gz"
    if name in DRAWN:
        return Path(birds.__file__).parent
    place = root / PLACES[name]
    if not (fetch or place.is_dir()):
        raise DataError(f"{name} is not in {place}; `python -m paperlib data {name}` fetches it.")
    if name == "mnist":
        _find_mnist(root, fetch)
    elif name in ARCHIVES:
        obtain(ARCHIVES[name], root)
    return place


def _root(name: str, data_root: str | Path) -> Path:
    root = Path(data_root).expanduser() if data_root else DATA
    if name == "folder" and not data_root:
        raise DataError("The data set 'folder' is one's own; give the folder that holds train/ and test/, or the class "
                        "folders, as data_root.")
    if name not in EMBEDDED and not root.is_dir():
        raise DataError(f"There is no folder {root}; give one that is there as data_root.")
    return root


def unknown(name: str) -> str:
    """The sentence for the name of a data set that is unknown."""
    return f"There is no data set named {name!r}; the known ones are {', '.join(LOADERS)}."


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """(n, c, size, size) uint8 from (n, c, h, w) levels in 0..255, bilinear."""
    parts = [TF.resize(part.float(), [size, size], InterpolationMode.BILINEAR, antialias=True)
             for part in images.split(4096)]
    return torch.cat(parts).round().clamp(0, 255).byte()


def _digits(request):
    bunch = load_digits()
    raw = _resized(torch.as_tensor(bunch.images * 255 / 16)[:, None], request.size)
    # The split is part of the data set: the same for every seed.
    split = train_test_split(np.arange(len(raw)), test_size=0.2, stratify=bunch.target, random_state=0)
    pictures = {word: Pictures(raw[np.sort(i)], bunch.target[np.sort(i)], request.normalisation)
                for word, i in zip(("train", "test"), split, strict=True)}
    return "digits", [str(c) for c in bunch.target_names], pictures


BIRDS_PER_CLASS = {"train": 40, "test": 20}
FIRST_TEST_BIRD = 100_000  # pictures are drawn from (seed, species, number): test numbers never meet training numbers
# The lesson of notebook 10: eight sparrows, near to one another, and the same with a shortcut, which ties the
# background to the species in 95 of 100 training pictures and in no test picture.
SPARROWS, SPARROWS_PER_CLASS, SHORTCUT = 8, {"train": 60, "test": 30}, 0.95


def _birds(request, name="birds", title="drawn birds", counts=None, species=None, shortcut=0.0):
    pictures, counts = {}, counts or BIRDS_PER_CLASS
    for word, start in {"train": 0, "test": FIRST_TEST_BIRD}.items():
        inputs = {"per_class": request.counts[word] or counts[word], "seed": request.seed, "size": request.size,
                  "species": species, "shortcut": shortcut if word == "train" else 0.0, "n_start": start}
        tensors = _drawn(f"{name}-{word}", inputs, request.kept)
        pictures[word] = Pictures(tensors["images"], tensors["labels"], request.normalisation, tensors["masks"])
        pictures[word].backgrounds = tensors["backgrounds"]
        pictures[word].numbers = start + torch.arange(len(tensors["labels"])) % inputs["per_class"]
        pictures[word].draw = partial(birds.draw, seed=request.seed, size=request.size)
    return title, [s.name for s in birds.SPECIES[:species]], pictures


def _drawn(name: str, inputs: dict, kept: Callable | None) -> files.Tensors:
    """Tensors of birds.draw_set(**inputs) by name; from before if `kept` has them."""
    def draw() -> files.Tensors:
        names = ("images", "masks", "labels", "backgrounds")
        drawn = dict(zip(names, map(torch.as_tensor, birds.draw_set(**inputs, progress=True)), strict=True))
        # Kept as networks take them: a process then maps them into its memory and copies nothing.
        return {**drawn, "images": drawn["images"].permute(0, 3, 1, 2).contiguous()}
    return kept("drawn", {"dataset": name, **inputs}, draw).tensors if kept else draw()


def _mnist(request):
    pictures = {}
    for word in ("train", "test"):
        try:
            split = torchvision.datasets.MNIST(request.root, train=word == "train", download=False)
        except (ValueError, AssertionError, RuntimeError, KeyError) as error:
            raise DataError(f"MNIST is damaged in {request.root / 'MNIST' / 'raw'}; delete the folder and run again to "
                            f"fetch it.") from error
        pictures[word] = Pictures(_resized(split.data[:, None], request.size), split.targets, request.normalisation)
    return "MNIST", [str(c) for c in range(10)], pictures


def _find_mnist(root: Path, fetch: bool) -> None:
    """The four files, of the right length: as they are, or fetched by torchvision, which checks each archive's md5."""
    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_BYTES):
        _download_mnist(root, fetch)
    wrong = [f"{name} ({(raw / name).stat().st_size} bytes, {bytes_} expected)" for name, bytes_ in MNIST_BYTES.items()
             if (raw / name).stat().st_size != bytes_]
    if wrong:
        raise DataError(f"MNIST is damaged in {raw}: {', '.join(wrong)}; delete these files and run again to fetch "
                        f"them.")


def _download_mnist(root: Path, fetch: bool) -> None:
    try:
        torchvision.datasets.MNIST(root, download=fetch)
    except (RuntimeError, OSError) as error:
        missing = [name for name in MNIST_BYTES if not (root / "MNIST" / "raw" / name).is_file()]
        raise DataError(f"MNIST is not whole in {root / 'MNIST' / 'raw'} (missing: {', '.join(missing) or 'nothing'}) "
                        f"and was not downloaded; put the four uncompressed files there, or give the folder that holds "
                        f"MNIST/raw as data_root.") from error


class LabelledSTL10(torchvision.datasets.STL10):
    """torchvision's reader, which checks each file's md5, without the unlabelled pictures: they may be missing."""

    train_list = torchvision.datasets.STL10.train_list[:2]


def _stl10(request):
    folder, pictures = request.root / "stl10_binary", {}
    for word in ("train", "test"):
        try:
            split = LabelledSTL10(request.root, word)
            classes, images = split.classes, torch.as_tensor(np.ascontiguousarray(split.data))
        except (RuntimeError, OSError, ValueError, AttributeError) as error:  # AttributeError: no class_names.txt
            expected = [*LabelledSTL10.train_list, *LabelledSTL10.test_list, (LabelledSTL10.class_names_file, None)]
            wrong = [name for name, md5 in expected if not check_integrity(folder / name, md5)]
            raise DataError(f"STL10 is damaged in {folder} (missing or with another checksum: {', '.join(wrong)}); "
                            f"delete the folder and run again to fetch it.") from error
        raw = images if request.size == images.shape[-1] else _resized(images, request.size)
        pictures[word] = Pictures(raw, split.labels, request.normalisation)
    return "STL10", classes, pictures


def _cub200(request):
    return cub.read(request.root / cub.ARCHIVE.folder, request.size, request.normalisation, request.allow_subset)


def _folder(request):
    classes, pictures = folders.read(request.root, request.size, request.normalisation, request.seed)
    return request.root.resolve().name, classes, pictures


_sparrows = partial(_birds, counts=SPARROWS_PER_CLASS, species=SPARROWS)
LOADERS = {"digits": _digits, "birds": _birds, "sparrows": partial(_sparrows, name="sparrows", title="eight sparrows"),
           "shortcut": partial(_sparrows, name="shortcut", title="eight sparrows with a shortcut",
                               shortcut=SHORTCUT),
           "mnist": _mnist, "stl10": _stl10, "cub200": _cub200, "folder": _folder}
DRAWN = ("birds", "sparrows", "shortcut")
EMBEDDED = ("digits", *DRAWN)
SIZES = {"digits": 32, **dict.fromkeys(DRAWN, 224), "mnist": 32, "stl10": 96, "cub200": 224, "folder": 224}  # pixels
PLACES = {"mnist": "MNIST", "stl10": "stl10_binary", "cub200": "CUB_200_2011", "folder": "."}
ARCHIVES = {"stl10": STL10_ARCHIVE, "cub200": cub.ARCHIVE}
