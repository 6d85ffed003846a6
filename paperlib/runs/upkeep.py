"""The commands that look after data sets and the cache, and the one that fills it with prototypes from a cluster."""
from __future__ import annotations

import time
from argparse import Namespace

from paperlib import progress
from paperlib.runs.parameters import UsageError, check_folder, pairs, settings, typed
from paperlib.runs.summary import Teller


def data(options: Namespace) -> int:
    """Fetch or check one data set, and print what it is. Raises UsageError, or DataError where it cannot be had."""
    from paperlib.datasets import cub, downloads, inventory, load
    from paperlib.runs import store

    if options.name not in load.LOADERS:
        raise UsageError(load.unknown(options.name))
    for flag in ("allow_subset", "segmentations"):
        if getattr(options, flag) and options.name != "cub200":
            raise UsageError(f"--{flag.replace('_', '-')} goes with cub200 only.")
    if options.check and options.segmentations:
        raise UsageError("--check downloads nothing; leave it out to fetch the segmentations.")
    if options.data_root:
        check_folder(options.data_root)
    print(inventory.take(options.name, options.data_root, options.allow_subset, not options.check, kept=store.kept))
    if options.segmentations:
        place = load.find("cub200", options.data_root)
        print(f"  outlines  {downloads.obtain(cub.SEGMENTATIONS, place)}")
    return 0


def cache(options: Namespace) -> int:
    """List what the cache holds by kind; with --prune, remove what is of no use any more."""
    from paperlib.datasets.inventory import human
    from paperlib.runs import store

    found, now = store.entries(), time.time()
    if options.prune:
        gone = [entry for entry in found if _of_no_use(entry, (now - entry.made) / 86_400, options)]
        for entry in gone:
            store.remove(entry)
        print(f"removed {len(gone)} of {len(found)}, {human(sum(entry.bytes for entry in gone))}")
        found = [entry for entry in found if entry not in gone]
    print(f"{store.folder()}: {human(sum(entry.bytes for entry in found))}")
    for kind in sorted({entry.kind for entry in found}):
        mine = [entry for entry in found if entry.kind == kind]
        newest = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(entry.made for entry in mine)))
        print(f"  {kind:<18} {len(mine):>5}  {human(sum(entry.bytes for entry in mine)):>9}  newest {newest}"
              f"  {sum(not entry.current for entry in mine)} of no use any more")
    return 0


def _of_no_use(entry, days: float, options: Namespace) -> bool:
    return (not entry.current and days >= options.keep_days) or (options.older is not None and days > options.older)


def fit(options: Namespace) -> int:
    """Fit B4, B34 and B234 of each data set on a scheduler's workers; prints a line for each data set.

    Raises UsageError for what is no setting, and ValueError, OSError or RuntimeError where a study or a worker fails.
    """
    from paperlib.runs.study import open_studies
    from paperlib.scaling.rows import bytes_of

    known, given = settings(), pairs(options.settings)
    if unknown := ", ".join(sorted(set(given) - set(known))):
        raise UsageError(f"{unknown} is no setting of a study; there are {', '.join(known)}.")
    given = {name: typed(name, value, known[name]) for name, value in given.items()}
    if options.data_root:
        given["data_root"] = check_folder(options.data_root)
    bytes_of(options.memory)
    studies = open_studies({"profile": options.profile, **given})
    if lacks := [sentence for study in studies for sentence in study.problems()]:
        raise ValueError(" ".join(lacks))
    for study in studies:
        teller = Teller(1)
        with progress.heard_by(teller.heard):
            found = study.explainers(options.scheduler, memory=options.memory, beyond=options.beyond)
        print(f"{study.data.title}: {', '.join(each.name for each in found)} of {found[0].n_classes_} classes, "
              f"{time.perf_counter() - teller.start:.0f} s")
    return 0
