"""One data set as it lies on disk: fetched or checked, read to its end, and described for `python -m paperlib data`."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paperlib.datasets import load as data

# A line each; data/README.md says more.
TERMS = {
    "digits": "scikit-learn: BSD 3-Clause; the pictures: CC BY 4.0 as UCI states it",
    **dict.fromkeys(data.DRAWN, "ours, MIT like the code"),
    "mnist": "Yann LeCun and Corinna Cortes; CC BY-SA 3.0 as usually stated",
    "stl10": "none stated; its pictures come from ImageNet, whose terms allow non-commercial research",
    "cub200": "non-commercial research and education only",
    "folder": "yours to know",
}


@dataclass(frozen=True)
class Entry:
    """A data set that is there and whole, where it lies, how large it is, and on which terms it may be used."""

    dataset: data.Dataset
    place: Path
    bytes: int
    terms: str

    def __str__(self) -> str:
        return "\n".join([self.dataset.describe(), f"  where     {self.place}", f"  size      {human(self.bytes)}",
                          f"  terms     {self.terms}"])


def take(name: str, data_root: str | Path = "", allow_subset: bool = False, fetch: bool = True,
         kept: Callable | None = None) -> Entry:
    """The data set `name`, fetched where it is not there and `fetch`, and read picture by picture.

    The size is that of its files, or of the pictures and masks that are drawn; `kept` is load's. Raises DataError, in
    one sentence, for what is missing, damaged or out of the network's reach.
    """
    place = data.find(name, data_root, fetch)
    found = data.load(name, data_root, allow_subset=allow_subset, kept=kept)
    splits = (found.train, found.test)
    wrong = [path for split in splits if isinstance(split, data.PictureFiles) for path in split.unreadable()]
    if wrong:
        raise data.DataError(f"Pictures of {found.title} that cannot be read to their end: "
                             f"{', '.join(map(str, wrong))}; replace them.")
    drawn = sum(split.raw.nbytes + split.masks.nbytes for split in splits) if name in data.DRAWN else 0
    return Entry(found, place.resolve(), drawn or size_on_disk(place), TERMS[name])


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def human(n: int) -> str:
    """A number of bytes as words: "58 kB"."""
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.2f} GB"
