"""The command line, `python -m paperlib`: runs the notebooks headless, and looks after data sets and the cache.

`reproduce` first works out what the notebooks need that is not computed yet, and then does all of it as jobs (see
`paperlib.runs.jobs`). Whatever is heavy to import is imported once it is needed: `--help` is instant.
"""
from __future__ import annotations

import argparse
import sys
import textwrap
import time
from contextlib import closing
from functools import partial
from operator import call
from pathlib import Path

from paperlib.runs import parameters, plans, upkeep
from paperlib.runs.notebooks import Result
from paperlib.runs.parameters import NOTEBOOKS, UsageError
from paperlib.runs.summary import Teller, failed, table


def main(argv: list[str] | None = None, folder: Path = NOTEBOOKS) -> int:
    """Run the command; the exit status is 0, 1 where something failed, 2 where it cannot be run as typed, or 130."""
    options = parser(folder).parse_args(argv)
    try:
        return {"reproduce": partial(reproduce, folder=folder), "networks": networks, "fit": upkeep.fit,
                "data": upkeep.data, "cache": upkeep.cache}[options.command](options)
    except UsageError as error:
        return _say(f"error: {error}", 2)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        return _say(f"error: {_sentence(error)}", 1)
    except KeyboardInterrupt:
        return _say("\nstopped; what is done is kept, the same command goes on from there", 130)


def _say(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def parser(folder: Path = NOTEBOOKS) -> argparse.ArgumentParser:
    """The five commands and their options."""
    top = argparse.ArgumentParser(prog="python -m paperlib", description=__doc__.splitlines()[0])
    sub = top.add_subparsers(dest="command", required=True)
    p = sub.add_parser("reproduce", help="run the notebooks and print their main numbers", epilog=_listed(folder),
                       formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--profile", default="quick", help="a profile by name, or the path of a YAML file (default: quick)")
    p.add_argument("--all", action="store_true", help="run also the notebooks that go beyond the paper")
    p.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers of the notebooks to run, of any")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="settings",
                   help="parameters that differ from the profile's; lists with commas between")
    p.add_argument("--out", default="", metavar="DIR", help="folder for figures and notebooks (default: figures/run)")
    p.add_argument("--data-root", default="", metavar="DIR",
                   help="folder of downloaded data, or of your own class folders (default: data/)")
    p.add_argument("--again", action="store_true", help="run also notebooks that have finished before")
    p.add_argument("--train", action="store_true", help="train the networks in place of loading those that ship")
    p.add_argument("--jobs", type=int, default=0, metavar="N",
                   help="jobs at a time (default: one per processor, at most 4; with an accelerator, 1)")
    p.add_argument("--threads", type=int, default=1, metavar="N",
                   help="threads of each job (default 1; numbers depend a little on it, and not on --jobs)")
    p.add_argument("--scheduler", default="", metavar="ADDRESS",
                   help="a Dask scheduler (tcp://host:port) whose workers share this disk and have one thread each")
    p = sub.add_parser("networks", help="train the networks that ship anew, and say how near they come to them")
    p.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names or their beginnings: birds-cnn-0")
    p.add_argument("--out", default="", metavar="DIR",
                   help="folder for weights and cards; data/networks replaces those (default: figures/run/networks)")
    p.add_argument("--jobs", type=int, default=0, metavar="N", help="networks at a time (default: as of reproduce)")
    p = sub.add_parser("fit", help="fit prototypes on a cluster, class by class; notebooks then find them in the cache")
    p.add_argument("--scheduler", required=True, metavar="ADDRESS", help="a Dask scheduler (tcp://host:port)")
    p.add_argument("--profile", default="quick", help="as of reproduce")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="settings",
                   help="settings that differ from the profile's, as dataset=folder")
    p.add_argument("--data-root", default="", metavar="DIR", help="as of reproduce; the same path on all machines")
    p.add_argument("--memory", default="4GB", metavar="BYTES",
                   help="the most that a worker holds of a class's rows (default: 4GB)")
    p.add_argument("--beyond", default="map", choices=("map", "share"),
                   help="rows that take more: map them from a file (default), or fit a class on a share of them")
    p = sub.add_parser("data", help="fetch or check one data set; print where it lies, its size and its terms")
    p.add_argument("name", metavar="NAME", help="a data set, as the parameter dataset has it: digits, birds, ...")
    p.add_argument("--data-root", default="", metavar="DIR", help="folder of downloaded data (default: data/)")
    p.add_argument("--check", action="store_true", help="only check what is there; download nothing")
    p.add_argument("--allow-subset", action="store_true", help="cub200: a part of the classes will do")
    p.add_argument("--segmentations", action="store_true", help="cub200: fetch the birds' outlines as well")
    p = sub.add_parser("cache", help="list what is kept of earlier runs, or remove what is of no use any more")
    p.add_argument("--prune", action="store_true", help="remove what today's code and libraries would not find")
    p.add_argument("--keep-days", type=float, default=1, metavar="N",
                   help="with --prune: leave what is younger than N days (default 1: a run may be under way)")
    p.add_argument("--older", type=float, metavar="N", help="with --prune: remove also all that is older than N days")
    return top


def _listed(folder: Path) -> str:
    """The end of the help: profiles, settings, and each notebook's own parameters."""
    lines = ["profiles:"]
    for path in sorted((folder / "profiles").glob("*.yaml")):
        first = path.read_text(errors="replace").splitlines()[:1]
        lines.append(f"  {path.stem:<12} {first[0].lstrip('# ') if first and first[0].startswith('#') else ''}")
    defaults = " ".join(f"{name}={str(value) or chr(39) * 2}" for name, value in parameters.settings().items())
    lines += ["", "parameters of all notebooks, for --set; 0 or '' stands for the data set's or the paper's own:",
              textwrap.fill(defaults, 100, initial_indent="  ", subsequent_indent="  "), ""]
    for name, path in parameters.select((), folder).items():
        own = [line for line in parameters.parameters_cell(path.read_text()).splitlines()
               if line.split(":")[0] not in parameters.COMMON and ":" in line]
        lines += [f"parameters of {name}:", *(f"  {line}" for line in own)] if own else []
    return "\n".join(lines)


# reproduce


def reproduce(options: argparse.Namespace, folder: Path = NOTEBOOKS) -> int:
    """Run the notebooks; prints a line for each job that is done, and at the end their main numbers."""
    start, shares, out = time.perf_counter(), _shares(options, folder), _folder_for(options.out)
    from paperlib.runs import jobs, kernels

    forks = not options.scheduler and kernels.start(options.threads)
    aside = kernels.aside if forks else call  # PyTorch and pictures take this process no memory while jobs run
    asked = aside(partial(plans.asked, shares, folder, out, options.again, options.jobs))
    if asked.lacks:
        return _say("\n".join(f"error: {sentence}" for sentence in asked.lacks), 1)
    teller, done = Teller(len(asked.graph)), {}
    for name in asked.kept:
        print(f"{name}: finished before, kept")
    with closing(jobs.run(asked.graph, asked.at_a_time, options.threads, options.scheduler, teller.share)) as run:
        for each in run:
            done[each.name] = each
            teller.job(each)
    results = [asked.kept.get(name) or _result(done[name]) for name in asked.names]
    seconds, fine = time.perf_counter() - start, not any(failed(each) for each in done.values())
    lost = [result.name for result in results if result.status == "failed"]
    others = [each for name, each in done.items() if name not in asked.names]
    print("", table(results, others, seconds, teller.memory), "",
          f"figures: {out}", f"executed notebooks: {out / 'executed'} (.ipynb and .html)", sep="\n")
    each = {**{job.title: job.seconds for job in others}, **{result.name: result.seconds for result in results}}
    print(aside(partial(asked.report, {**each, "this call": seconds}, lost)))
    return int(not fine)


def _folder_for(out: str) -> Path:
    """The folder for figures and notebooks, made if need be. Raises UsageError where that cannot be."""
    path = Path(out).expanduser().resolve() if out else NOTEBOOKS.parent / "figures" / "run"
    try:
        (path / "executed").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"There can be no folder {path} ({error.strerror}); give another one as --out.") from error
    return path


def _shares(options: argparse.Namespace, folder: Path) -> dict[Path, dict]:
    """The .py of each notebook that was asked for and the parameters to give to it, checked. Raises UsageError."""
    given = parameters.pairs(["train_anew=true"] * options.train + options.settings)
    if options.data_root:
        given["data_root"] = parameters.check_folder(options.data_root)
    for word, value, least in (("--jobs", options.jobs, 0), ("--threads", options.threads, 1)):
        if not least <= value <= 10_000:
            raise UsageError(f"{word} is {value}; give {least} or more.")
    try:
        shares = parameters.choose(given, options.profile, options.only, folder, options.all)
    except ValueError as error:  # a profile that is wrong
        raise UsageError(_sentence(error)) from error
    return {path: shares[name] for name, path in parameters.select(options.only, folder, options.all).items()}


def _result(done) -> Result:
    return Result(done.name, "failed", done.seconds, error=done.error) if done.error else done.result


def networks(options: argparse.Namespace) -> int:
    """Train the networks that ship anew."""
    from paperlib.runs import retrain

    return retrain.main(options)
