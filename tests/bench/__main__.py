"""`make bench`: measures what explaining and clustering cost, and keeps figures/bench.json and figures/bench.md."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from joblib import cpu_count

from paperlib.datasets.files import REPOSITORY

from . import clustering, explaining, memory, others, page, starting, timing

RUNS = [("fp32", 16, 7), ("fp32", 1, 15), ("bf16", 16, 5), ("bf16", 1, 15)]  # precision, batch, rounds


def parts(threads: int, report: Path) -> dict[str, Callable]:
    """What is measured, by name, each a function without arguments that gives plain numbers."""
    return {"machine": lambda: {"one thread": timing.machine(1), "all threads": timing.machine(cpu_count())},
            "explain": lambda: {f"{kind}, batch {batch}": explaining.ratios(kind, batch, rounds)
                                for kind, batch, rounds in RUNS},
            "fit": lambda: clustering.fits(clustering.rows(), cpu_count()),
            "others": others.passes,
            "memory": memory.growths,
            "imports": starting.imports,
            "jobs": lambda: page.jobs(report)}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="some parts; the files then hold no others")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "figures", help="folder for bench.json and bench.md")
    parser.add_argument("--threads", type=int, default=1, help="of the network and of explaining (default: 1)")
    parser.add_argument("--report", type=Path, default=REPOSITORY / "figures" / "run" / "report.json",
                        help="report of a run whose jobs are listed, if it is there")
    options = parser.parse_args(words)
    measured, found = parts(options.threads, options.report), {}
    if unknown := sorted(set(options.only) - set(measured)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(measured)}")
    start = perf_counter()
    with timing.threads(options.threads):
        for name in options.only or measured:
            begun = perf_counter()
            found[name] = measured[name]()
            print(f"{name:<10} {perf_counter() - begun:5.0f} s", flush=True)
    seconds = perf_counter() - start
    print(f"{'all':<10} {seconds:5.0f} s: {page.keep(found, options.threads, seconds, options.out)} and bench.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
