"""Pictures of one split, in memory or in their files, one normalised (3, H, W) tensor at a time."""
from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import functional as TF

from paperlib import guards
from paperlib.datasets.downloads import DataError
from paperlib.datasets.resized import Resized
from paperlib.progress import Bar

# Mean and standard deviation of each channel, for pictures in [0, 1]. They are constants, never measured on
# the pictures at hand: no test picture can reach a network through its normalisation.
NORMALISATIONS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "half": ((0.5,) * 3, (0.5,) * 3)}
AUGMENTS = ("none", "flip", "flip+crop")
# What Pillow raises for a file that it cannot read to its end.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Pictures:
    """n pictures of one split, of size x size pixels.

    `pictures[i]` is the i-th, normalised, (3, size, size) float32; `pixels(i)` the same as uint8 for the eye;
    `batch(indices)` several, (n, 3, size, size). `labels` is (n,) int64; `masks` is None or (n, size, size) uint8.
    `split` is "train", "test", "validation" (see Dataset.for_choosing) or "" where it is not known; whatever is taken
    from the pictures keeps it, and what fits refuses "test" (see paperlib.guards.refuse_test).
    `boxes` and `parts` are None but for CUB-200-2011: see datasets.cub.CubPictures. `backgrounds` is (n,) numbers of
    paperlib.datasets.birds.BACKGROUNDS for drawn birds, else None; drawn birds can also be `redrawn`, since they know
    how (`draw`, paperlib.datasets.birds.draw with its seed and size) and their `numbers`, (n,), within the species.
    """

    split: str = ""
    backgrounds: torch.Tensor | None = None
    numbers: torch.Tensor | None = None
    draw: Callable | None = None
    boxes: torch.Tensor | None = None
    parts: torch.Tensor | None = None
    part_names: tuple[str, ...] = ()

    def __init__(self, raw: torch.Tensor, labels: Sequence[int], normalisation: str = "imagenet", masks=None,
                 pad: int = 2):
        guards.check_option("normalisation", normalisation, NORMALISATIONS)
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

    def redrawn(self, i: int, **interventions) -> torch.Tensor:
        """`pictures[i]` with a part, a look or the background changed, as paperlib.datasets.birds.draw has it: without,
        like, parts, background. The rest of the picture stays as it is. (3, size, size) float32, normalised.

        Raises ValueError for pictures that are not drawn, and as `draw` does.
        """
        return self.normalise(self.redrawn_pixels(i, **interventions))

    def redrawn_pixels(self, i: int, **interventions) -> torch.Tensor:
        """`redrawn` before normalisation: (3, size, size) uint8."""
        if self.draw is None:
            raise ValueError("Only drawn pictures can be drawn again with changes; take birds, sparrows or shortcut.")
        interventions = {"background": int(self.backgrounds[i])} | interventions
        image, _, _ = self.draw(int(self.labels[i]), int(self.numbers[i]), **interventions)
        return torch.from_numpy(image).permute(2, 0, 1)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, H, W) to what the network takes: float32, mean and deviation of each channel removed."""
        return (pixels.float() / 255 - self.mean) / self.std

    def batch(self, indices: Sequence[int], augment: str = "none",
              rng: np.random.Generator | None = None) -> torch.Tensor:
        """Pictures `indices`, normalised, (n, 3, size, size); flipped and cropped at random from `rng` for training."""
        guards.check_option("augment", augment, AUGMENTS)
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
        """Checksum of the pixels before normalisation, then the labels."""
        pixels = np.ascontiguousarray(self.raw.numpy())
        return hashlib.sha256(pixels).digest() + self.labels.numpy().tobytes()

    def subset(self, per_class: int) -> Pictures:
        """The first `per_class` pictures of each class, in their order; all of them for 0."""
        return self if per_class == 0 else self.take(self.first(per_class))

    def first(self, per_class: int) -> torch.Tensor:
        """The numbers of the first `per_class` pictures of each class, in their order; of all pictures for 0."""
        if per_class == 0:
            return torch.arange(len(self))
        keep = [torch.nonzero(self.labels == c).flatten()[:per_class] for c in self.labels.unique()]
        return torch.cat(keep).sort().values

    def take(self, keep: torch.Tensor) -> Pictures:
        """Pictures `keep`, (m,) int64, in that order, of the same split, with all that is known of them."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.raw, other.labels = self.raw[keep.numpy()], self.labels[keep]
        for known in ("masks", "backgrounds", "numbers"):
            all_of_them = getattr(self, known)
            setattr(other, known, None if all_of_them is None else all_of_them[keep])
        return other


class PictureFiles(Pictures):
    """Pictures that stay in their files until asked for: short side to size * 8/7 (256 for 224), then the middle."""

    upright = False  # True: turned as the camera's note says that it was held
    resized: Resized | None = None  # where `keep_in` keeps what was made of the files, and each picture's number there
    slots: np.ndarray | None = None

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], size: int, normalisation: str = "imagenet"):
        super().__init__(np.asarray(paths, dtype=object), labels, normalisation)
        self.size = size

    def keep_in(self, folder: Path) -> None:
        """Keep each picture in `folder` as it was resized, for the passes that follow: see `datasets.resized`."""
        names = "\n".join("/".join(path.parts[-2:]) for path in self.raw)
        self.resized = Resized(folder, f"{self.size} {self.upright} {names}", len(self), self.size)
        self.slots = np.arange(len(self))

    def take(self, keep: torch.Tensor) -> Pictures:
        other = super().take(keep)
        other.slots = None if self.slots is None else self.slots[keep.numpy()]
        return other

    @property
    def short_side(self) -> int:
        """Pixels of the short side before the middle is cut out."""
        return round(self.size * 8 / 7)

    def content(self) -> bytes:
        names = [f"{path.name} {path.stat().st_size}" for path in self.raw]
        return "\n".join(names).encode() + self.labels.numpy().tobytes()

    def pixels(self, i: int) -> torch.Tensor:
        if self.resized is None:
            return self._resized(i)
        return self.resized.picture(int(self.slots[i]), self.raw[i], lambda: self._resized(i))

    def _resized(self, i: int) -> torch.Tensor:
        return TF.center_crop(self._larger(i), self.size)

    def _larger(self, i: int) -> torch.Tensor:
        return TF.resize(TF.pil_to_tensor(self.image(i)), self.short_side, antialias=True)

    def image(self, i: int) -> Image.Image:
        """The i-th picture as its file has it, in RGB. Raises DataError where the file cannot be read as a picture."""
        try:
            with Image.open(self.raw[i]) as image:
                return as_rgb(ImageOps.exif_transpose(image) if self.upright else image)
        except UNREADABLE as error:
            why = f" ({error})" if isinstance(error, ValueError) else ""
            raise DataError(f"{self.raw[i]} cannot be read as a picture{why}; replace it.") from error

    def unreadable(self, progress: bool = True) -> list[Path]:
        """The files that cannot be read to their end: each is read here."""
        found = []
        for i in Bar(range(len(self)), desc="reading pictures", show=progress):
            try:
                self.image(i)
            except DataError:
                found.append(self.raw[i])
        return found


@dataclass(frozen=True)
class Dataset:
    """A data set: its name, its title in tables, its classes' names (C of them), its two splits, its pictures' side."""

    name: str
    title: str
    classes: tuple[str, ...]
    train: Pictures
    test: Pictures
    size: int

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any pixel or label (CUB-200-2011: with any file's name, length or label)."""
        return hashlib.sha256(b"".join([self.train.content(), self.test.content()])).hexdigest()[:16]

    def for_choosing(self, seed: int = 0, share: float = 0.2) -> Dataset:
        """A data set to choose settings on: `share` of each class's training pictures stand in for the test split.

        They are drawn by `seed`, at least one per class; their split is "validation". The others remain for training.
        No test picture is in it. Raises ValueError for a share outside (0, 1) and DataError for a class with one
        training picture.
        """
        if not 0 < share < 1:
            raise ValueError(f"share is {share}; give the validation pictures' share of the training pictures, as 0.2.")
        labels, held = self.train.labels.numpy(), []
        for c, name in enumerate(self.classes):
            mine = np.flatnonzero(labels == c)
            if len(mine) == 1:
                raise DataError(f"{self.title} has one training picture of {name}; training and choosing take one "
                                f"each, add more.")
            held += mine[held_out(len(mine), share, seed, c)].tolist()
        for_validation = np.isin(np.arange(len(labels)), held)
        train, validation = (self.train.take(torch.from_numpy(np.flatnonzero(keep)))
                             for keep in (~for_validation, for_validation))
        validation.split = "validation"
        return replace(self, title=f"{self.title} (training pictures only)", train=train, test=validation)

    def describe(self) -> str:
        """Title and totals; then the classes with their pictures in training and test: "cat: 8 + 2"."""
        train, test = (split.labels.bincount(minlength=len(self.classes)).tolist() for split in (self.train, self.test))
        each = [f"{name}: {n} + {m}".replace(" ", "\xa0")  # no line breaks there
                for name, n, m in zip(self.classes, train, test, strict=True)]
        total = (f"{self.title}: {len(self.train):,} training and {len(self.test):,} {self.test.split or 'test'} "
                 f"pictures of {len(self.classes)} classes")
        lines = textwrap.wrap(listed(each, 40), 92, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join([total, *lines]).replace("\xa0", " ")


def held_out(n: int, share: float, seed: int, c: int) -> np.ndarray:
    """Numbers, ascending, of about `share` of the n pictures of class c, drawn by `seed`: at least one, not all."""
    count = max(1, min(n - 1, round(share * n)))
    return np.sort(np.random.default_rng([seed, c]).permutation(n)[:count])


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB: 16 bits are scaled, not clipped; what is transparent lies on white.

    Raises ValueError for grey levels that are no 16-bit numbers.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """(h, w) grey levels in 0..65535 to uint8."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("the grey levels are no 16-bit numbers")
    return np.round(grey / 257).astype(np.uint8)


def listed(names: Sequence, limit: int = 5) -> str:
    """The first few of `names`, in words."""
    return ", ".join(str(name) for name in names[:limit]) + (" and more" if len(names) > limit else "")


def window(side: int, row: int, column: int, resolution: tuple[int, int], share: float = 1 / 3) -> tuple:
    """The square around one cell of a feature map, in a picture of side x side: (left, top, width, height) in pixels.

    Its width is `share` of the picture's, or all that the cell covers where that is more. It lies in the picture.
    """
    cell = side / resolution[0], side / resolution[1]
    width = min(round(max(share * side, *cell, 1)), side)
    top, left = (int(np.clip(round((place + 0.5) * length - width / 2), 0, side - width))
                 for place, length in zip((row, column), cell, strict=True))
    return left, top, width, width
