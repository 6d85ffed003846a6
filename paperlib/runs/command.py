"""Runs the notebooks headless, in order, and says what came out: `python -m paperlib reproduce`.

First what they need and what takes long, the networks and prototypes of each run, as jobs side by side; then the
notebooks, of which those that show one run only begin as soon as a worker is idle. A notebook's text is its .py; it is
converted, given its parameters and executed by papermill. What has finished with the same text, module and parameters
is not run again.
"""
from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from joblib import cpu_count

import paperlib
from paperlib.datasets import files, inventory
from paperlib.runs import jobs, report
from paperlib.runs.study import Study, article, checksum, open_studies

NOTEBOOKS = files.REPOSITORY / "notebooks"
HEADLINE = "headline"  # the tag of the cell whose printed line is the notebook's main numbers


class UsageError(ValueError):
    """The command cannot be run as it was typed; the sentence says why."""


@dataclass
class Result:
    """What became of one notebook: its status is "done", "kept" (finished before) or "failed"."""

    name: str
    status: str
    seconds: float = 0.0
    headline: str = ""
    slowest: str = ""
    error: str = ""


def declared(notebook: nbformat.NotebookNode) -> dict[str, object]:
    """The parameters of a notebook and their defaults: the annotated scalars of its cell tagged `parameters`."""
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    found = {}
    for node in ast.parse(cells[0].source).body if cells else []:
        if isinstance(node, ast.AnnAssign):
            found[node.target.id] = ast.literal_eval(node.value)
        elif isinstance(node, ast.Assign):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def read_profile(name: str, folder: Path = NOTEBOOKS / "profiles") -> dict:
    """The settings of a profile, by name or by the path of a YAML file. Raises UsageError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise UsageError(f"There is no profile {name!r}; use one of {known}, or the path of a YAML file.")
    try:
        settings = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{path} is not a list of `name: value` lines.")
    return settings


def typed(name: str, value: object, default: object) -> object:
    """`value` as the type of the parameter's default; a text, as `--set` gives it, is read. Raises UsageError."""
    kind = type(default)
    try:
        if isinstance(value, str) and kind is not str:
            value = float(value) if kind is float else yaml.safe_load(value)  # to YAML, 1e-3 is a text
        if kind is float and type(value) is int:
            value = float(value)
    except (yaml.YAMLError, ValueError):
        pass
    if type(value) is not kind:
        raise UsageError(f"The parameter {name} is {value!r}; give {article(kind)}, such as {default!r}.")
    return value


def pairs(items: list[str]) -> dict[str, str]:
    """["name=value", ...] of --set as a dictionary. Raises UsageError."""
    for item in items:
        if not item.partition("=")[0] or "=" not in item:
            raise UsageError(f"--set takes NAME=VALUE, not {item!r}.")
    return dict(item.split("=", 1) for item in items)


def choose(settings: dict, notebooks: dict[str, nbformat.NotebookNode]) -> dict[str, dict]:
    """Each notebook's own share of `settings`, typed. Raises UsageError for a name that none of them declares."""
    known = {name: declared(notebook) for name, notebook in notebooks.items()}
    everyone = {parameter for parameters in known.values() for parameter in parameters}
    for name in settings:
        if name not in everyone:
            near = difflib.get_close_matches(str(name), everyone, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(everyone))}."
            raise UsageError(f"No notebook has a parameter {name!r}; {hint}")
    return {notebook: {name: typed(name, value, parameters[name])
                       for name, value in settings.items() if name in parameters}
            for notebook, parameters in known.items()}


def select(only: list[str], folder: Path = NOTEBOOKS) -> dict[str, nbformat.NotebookNode]:
    """The notebooks to run, by name, in order; `only` holds numbers or beginnings of names, empty for all."""
    paths = sorted(folder.glob("[0-9][0-9]_*.py"))
    names = [path.stem for path in paths]
    for word in only:
        if not any(name.startswith(word) for name in names):
            raise UsageError(f"There is no notebook {word!r}; there are {', '.join(names)}.")
    return {path.stem: jupytext.read(path) for path in paths if not only or any(path.stem.startswith(w) for w in only)}


def fingerprint(notebook: nbformat.NotebookNode, parameters: dict, folder: Path) -> str:
    """Changes with the notebook's text, its parameters, the module or a package: what finished before is then stale.

    Where a parameter names a file, as a network of one's own does, what the file holds counts too.
    """
    code = [p.read_bytes() for p in sorted(Path(paperlib.__file__).parent.rglob("*.py"))]
    texts = [value for value in parameters.values() if isinstance(value, str)]
    named = [checksum(path) for value in texts for path in (value, value.rsplit(":", 1)[0])]
    text = json.dumps([[c.source for c in notebook.cells], parameters, named, files.versions(), str(folder)],
                      sort_keys=True)
    return hashlib.sha256(b"".join([text.encode(), *code])).hexdigest()


def run_one(name: str, notebook: nbformat.NotebookNode, parameters: dict, folder: Path, again: bool = False) -> Result:
    """Execute one notebook into `folder`, or take what finished there before."""
    final, record = folder / f"{name}.ipynb", folder / f"{name}.json"
    mark = fingerprint(notebook, parameters, folder)
    if not again and final.is_file() and record.is_file():
        before = json.loads(record.read_text())
        if before.pop("fingerprint") == mark:
            return Result(**{**before, "status": "kept"})
    final.unlink(missing_ok=True)
    failed, start = folder / f"{name}.failed.ipynb", time.perf_counter()
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source, running = Path(scratch, "source.ipynb"), Path(scratch, f"{name}.ipynb")
        nbformat.write(notebook, source)
        try:
            # The kernel's own warnings are not the reader's concern.
            papermill.execute_notebook(
                source, running, parameters, kernel_name="python3", language="python", cwd=str(NOTEBOOKS),
                progress_bar=False, extra_arguments=["--IPKernelApp.log_level=CRITICAL"])
        except papermill.PapermillExecutionError as error:
            os.replace(_near(running, folder), failed)
            what = (f"cell [{error.exec_count}] `{_first_line(error.source)}`: {error.ename}: "
                    f"{_first_line(error.evalue)}; see {failed}")
            return Result(name, "failed", time.perf_counter() - start, error=what)
        except Exception as error:  # noqa: BLE001 - a kernel that dies must not take the other notebooks with it
            what = f"{type(error).__name__}: {_first_line(str(error))}"
            return Result(name, "failed", time.perf_counter() - start, error=what)
        executed = nbformat.read(running, as_version=4)
        os.replace(_near(running, folder), final)
    result = Result(name, "done", time.perf_counter() - start, headline(executed), slowest(executed))
    with files.written_whole(record) as temporary:
        temporary.write_text(json.dumps({**result.__dict__, "fingerprint": mark}, indent=1))
    return result


def _near(path: Path, folder: Path) -> Path:
    """`path` copied beside its final place, so that the rename that follows cannot leave half a file."""
    with files.written_whole(folder / f".{path.name}") as temporary:
        temporary.write_bytes(path.read_bytes())
    return folder / f".{path.name}"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[0][:200]


def headline(notebook: nbformat.NotebookNode) -> str:
    """What the cell tagged `headline` printed: the notebook's main numbers."""
    lines = [output.text.strip() for cell in notebook.cells if HEADLINE in cell.metadata.get("tags", [])
             for output in cell.get("outputs", []) if output.output_type == "stream" and output.name == "stdout"]
    return "\n".join(lines)


def slowest(notebook: nbformat.NotebookNode) -> str:
    """Where the time went: the cell that took longest, by its first line."""
    def seconds(cell):
        return cell.metadata.get("papermill", {}).get("duration") or 0.0
    cells = (c for c in notebook.cells if c.cell_type == "code" and c.source.strip())
    cell = max(cells, key=seconds, default=None)
    return f"{seconds(cell):.0f} s in `{cell.source.strip().splitlines()[0][:60]}`" if cell else ""


def wanted(notebooks: dict[str, nbformat.NotebookNode], shares: dict[str, dict]) -> tuple[list[Study], bool]:
    """The runs that these notebooks look at, and whether they show the tables (then the parameter `runs` counts).

    Raises UsageError for a setting of the wrong type or out of range.
    """
    given = {name: {**declared(notebook), **shares[name]} for name, notebook in notebooks.items()}
    given = [parameters for parameters in given.values() if "dataset" in parameters]
    if not given:
        return [], False
    runs = [parameters["runs"] for parameters in given if "runs" in parameters]
    try:
        found = [study for each in open_studies(given[0]) for study in each.runs(max(runs, default=1))]
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    return found, bool(runs)


def missing(studies: list[Study]) -> list[str]:
    """One sentence for each thing that the runs would lack: data, pictures for K/C, weights. Nothing is trained."""
    return list(dict.fromkeys(sentence for study in studies for sentence in study.problems()))


def run_jobs(studies: list[Study], tables: bool, options: argparse.Namespace,
             idle: Callable[[int], None] = lambda workers: None) -> bool:
    """Prepare the runs that are not on disk yet, a line for each; says whether all went well.

    idle: told the number of workers that have nothing left to do, once every data set's first run is done.
    """
    left, fine, workers = jobs.waiting(studies, tables), True, jobs.how_many(options.jobs)
    if not left:
        return True
    print(f"{len(left)} runs to train, {min(workers, len(left))} at a time; this takes longest", flush=True)
    first = {study for study in left if study.seed == studies[0].seed}
    for i, (study, seconds, error) in enumerate(jobs.spread(left, tables, options.jobs, options.threads), 1):
        what = f"FAILED: {error}" if error else f"{seconds:.0f} s"
        print(f"[run {i}/{len(left)}] {study.data.title}, seed {study.seed}: {what}", flush=True)
        first, fine = first - {study}, fine and not error
        if not first:
            idle(max(0, workers - (len(left) - i)))
    return fine


def run(notebooks: dict[str, nbformat.NotebookNode], shares: dict[str, dict], folder: Path, again: bool = False,
        at_a_time: int = 1, before: Callable[[Callable[[int], None]], bool] = lambda idle: True,
        ) -> tuple[list[Result], bool]:
    """Execute the notebooks, begun in order, a line for each that is done; one that fails does not stop the others.

    before: what comes before them (`run_jobs`); its answer is given back. Notebooks that show no mean over runs need
    the first run alone: they begin meanwhile, on the workers that `before` calls idle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    results, lock = {}, threading.Lock()

    def work(name):
        result = run_one(name, notebooks[name], shares[name], folder, again)
        words = {"kept": "finished before, kept", "done": f"{result.seconds:.0f} s",
                 "failed": f"FAILED in {result.error}"}
        with lock:
            results[name] = result
            print(f"[{len(results)}/{len(notebooks)}] {name} ... {words[result.status]}", flush=True)

    if at_a_time == 1:
        fine = before(lambda workers: None)
        for name in notebooks:
            work(name)
    else:
        fine = _side_by_side(work, list(notebooks), at_a_time, before,
                             [name for name in notebooks if "runs" not in declared(notebooks[name])])
    return [results[name] for name in notebooks], fine


def _side_by_side(work, names, at_a_time, before, early) -> bool:
    """before(idle), and work(name) for each name in threads: a notebook's kernel is a process of its own."""
    turns, given = threading.Semaphore(0), 0

    def idle(workers):
        nonlocal given
        for _ in range(workers - given):
            turns.release()
        given = max(given, workers)

    def in_turn(name):
        with turns:
            work(name)

    # Processors are shared out: kernels that each took all of them would only be in one another's way.
    with _environment(OMP_NUM_THREADS=str(max(1, cpu_count() // at_a_time))):
        pool = ThreadPool(at_a_time)  # of daemons: after Ctrl-C nobody waits for them, and kernels end by themselves
        meanwhile = pool.map_async(in_turn, early, chunksize=1)
        fine = before(idle)
        idle(at_a_time)
        pool.map(work, [name for name in names if name not in early], chunksize=1)
        meanwhile.get()
    return fine


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile; what the user has set stays."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def table(results: list[Result], seconds: float) -> str:
    """The end of a run: notebook, seconds, main numbers, and the slowest cell of each; `seconds`: of the whole."""
    width = max([len(r.name) for r in results] + [8])
    lines = [f"{'notebook':<{width}}  seconds  main numbers"]
    for r in results:
        main = (r.error and f"FAILED in {r.error}") or r.headline or "-"
        rows = main.splitlines() + ([f"(longest: {r.slowest})"] if r.slowest else [])
        note = " *" if r.status == "kept" else ""
        lines.append(f"{r.name:<{width}}  {r.seconds:>7.0f}{note or '  '}{rows[0]}")
        lines += [" " * (width + 11) + row for row in rows[1:]]
    lines.append(f"{'all':<{width}}  {seconds:>7.0f}")
    if any(r.status == "kept" for r in results):
        lines.append("* finished before with the same text and parameters; --again runs it anew")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m paperlib", description=__doc__.splitlines()[0])
    sub = top.add_subparsers(dest="command", required=True)
    p = sub.add_parser("reproduce", help="run the notebooks in order and print their main numbers")
    p.add_argument("--profile", default="quick",
                   help="a file of notebooks/profiles without .yaml, or a path (default: quick)")
    p.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers of the notebooks to run")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="settings",
                   help="parameters that differ from the profile")
    p.add_argument("--out", default="", metavar="DIR",
                   help="where figures and executed notebooks go (default: figures/)")
    p.add_argument("--data-root", default="", metavar="DIR", help="folder of downloaded data (default: data/)")
    p.add_argument("--again", action="store_true", help="run also notebooks that have finished before")
    p.add_argument("--jobs", type=int, default=0, metavar="N",
                   help="runs, then notebooks, at a time (default: one a processor, at most 4; with an accelerator, 1)")
    p.add_argument("--threads", type=int, default=1, metavar="N",
                   help="threads of each job (default 1: numbers depend a little on it, and not on --jobs)")
    inventory.add_parser(sub)
    return top


def main(argv: list[str] | None = None, folder: Path = NOTEBOOKS) -> int:
    """The command; returns the exit status: 0, 1 where a notebook failed, 2 where the command cannot be run."""
    options = parser().parse_args(argv)
    if options.command == "data":
        return inventory.run(options)
    try:
        settings = {**read_profile(options.profile, folder / "profiles"), **pairs(options.settings)}
        out = Path(options.out or files.REPOSITORY / "figures").expanduser().resolve()
        settings["out"] = str(out)
        if options.data_root:
            if not Path(options.data_root).expanduser().is_dir():
                raise UsageError(f"There is no folder {options.data_root}; give the one that holds the data as "
                                 f"--data-root.")
            settings["data_root"] = str(Path(options.data_root).expanduser().resolve())
        settings = {name: _absolute(name, value) for name, value in settings.items()}
        # A profile may speak of parameters that only the notebooks left out have; what is typed by hand may not.
        shares, notebooks = choose(settings, select([], folder)), select(options.only, folder)
        choose(pairs(options.settings), notebooks)
        for word, value, least in (("--jobs", options.jobs, 0), ("--threads", options.threads, 1)):
            if value < least:
                raise UsageError(f"{word} is {value}; give {least} or more.")
        studies, tables = wanted(notebooks, {name: shares[name] for name in notebooks})
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        lacks = missing([study for study in studies if study.seed == studies[0].seed])
        if lacks:
            print("\n".join(f"error: {sentence}" for sentence in lacks), file=sys.stderr)
            return 1
        results, fine = run(notebooks, shares, out / "executed", options.again, jobs.how_many(options.jobs),
                            partial(run_jobs, studies, tables, options))
    except KeyboardInterrupt:
        print("\nstopped; what had finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    seconds = time.perf_counter() - start
    print(f"\n{table(results, seconds)}\n\nfigures: {out}\nexecuted notebooks: {out / 'executed'}")
    if tables and fine:
        first = [study for study in studies if study.seed == studies[0].seed]
        checkpoints = {study.dataset: study.manifest["sha256"][:16] for study in first}
        path = report.write(out, checkpoints, {**{r.name: r.seconds for r in results}, "this call": seconds})
        print(f"the paper's numbers beside these: {path} (and .html, .json)")
    return int(not fine or any(r.status == "failed" for r in results))


def _absolute(name: str, value: object) -> object:
    """Notebooks run in their own folder, so a path that was typed in another one is made whole first."""
    if name not in ("data_root", "backbone", "weights") or not isinstance(value, str) or not value:
        return value
    path, colon, function = value.partition(":") if name == "backbone" else (value, "", "")
    path = Path(path).expanduser()
    return f"{path.resolve()}{colon}{function}" if path.exists() and (colon or name != "backbone") else value
