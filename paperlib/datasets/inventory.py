"""One data set as it lies on disk: `python -m paperlib data NAME` fetches or checks it and prints what it is."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paperlib.datasets import cub, downloads
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


def add_parser(sub: argparse._SubParsersAction) -> None:
    p = sub.add_parser("data", help="fetch or check one data set; print where it lies, its size and its terms")
    p.add_argument("name", metavar="NAME", help=f"one of {', '.join(data.LOADERS)}")
    p.add_argument("--data-root", default="", metavar="DIR", help="folder of downloaded data (default: data/)")
    p.add_argument("--check", action="store_true", help="only check what is there; download nothing")
    p.add_argument("--allow-subset", action="store_true", help="cub200: a part of the classes will do")
    p.add_argument("--segmentations", action="store_true", help="cub200: fetch the birds' outlines as well")


def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status: 0, 1 where the data set cannot be had, 2 where it cannot be run."""
    if options.name not in data.LOADERS:
        return _say(data.unknown(options.name), 2)
    for flag in ("allow_subset", "segmentations"):
        if getattr(options, flag) and options.name != "cub200":
            return _say(f"--{flag.replace('_', '-')} goes with cub200 only.", 2)
    if options.check and options.segmentations:
        return _say("--check downloads nothing; leave it out to fetch the segmentations.", 2)
    if options.data_root and not Path(options.data_root).expanduser().is_dir():
        return _say(f"There is no folder {options.data_root}; give the one that holds the data as --data-root.", 2)
    try:
        print(take(options.name, options.data_root, options.allow_subset, not options.check))
        if options.segmentations:
            place = data.find("cub200", options.data_root)
            print(f"  outlines  {downloads.obtain(cub.SEGMENTATIONS, place)}")
    except data.DataError as error:
        return _say(str(error), 1)
    except KeyboardInterrupt:
        return _say("stopped; what was downloaded is kept, the same command goes on from there", 130)
    return 0


def _say(sentence: str, status: int) -> int:
    print(f"error: {sentence}" if status != 130 else f"\n{sentence}", file=sys.stderr)
    return status
