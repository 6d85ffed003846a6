"""A notebook as a job: what it shows of a study, whether it has finished, and how it is executed without a screen.

Its text is its .py; it is converted, given its parameters and executed by papermill. What has finished with the same
text, code, pictures and parameters is not run again.
"""
from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import paperlib
from paperlib.runs.parameters import NOTEBOOKS

HEADLINE = "headline"  # the tag of the cell whose printed line is the notebook's main numbers
MEANS = "n_runs("  # a notebook that says so shows means over runs
# What a notebook that says `study.<name>` shows of a study, by stage; all that do so show its network.
SHOWN = {"prototypes": ("explainer", "explainers", "compare", "explain"), "embeddings": ("embeddings", "manifest"),
         "readings": ("evaluate",),
         "kmex": ("kmex",), "protopnet": ("protopnet", "protopnet_manifest", "protopnet_patches", "patch_embeddings"),
         "softcam": ("softcam", "softcam_accuracy")}


@dataclass
class Result:
    """What became of one notebook: its status is "done", "kept" (finished before) or "failed"; `wrote` names the .json
    files of its numbers."""

    name: str
    status: str
    seconds: float = 0.0
    headline: str = ""
    slowest: str = ""
    error: str = ""
    wrote: list[str] = field(default_factory=list)


# What they need, and whether they have finished


def shows(text: str, studies: Collection, runs: Collection) -> list[tuple[object, str]]:
    """The (study, stage) pairs that a notebook shows: of all `runs` if it shows means over them."""
    words = set(re.findall(r"\.(\w+)", text))
    stages = ["network", *(stage for stage, names in SHOWN.items() if words & set(names))]
    return [(study, stage) for study in (runs if MEANS in text else studies) for stage in stages]


def fingerprint(text: str, parameters: Mapping, values: Mapping, pictures: Collection[str], folder: Path) -> str:
    """Changes with all that a finished notebook depends on: then it is stale.

    That is its text, its parameters, the settings (`values`) that they come to, the fingerprints of its data sets'
    `pictures`, the package's code and tables, the ledger of claims, the networks that ship, the versions of libraries,
    the folder it writes to, and each file that is named.
    """
    from paperlib.datasets import files
    from paperlib.runs import shipped

    code = [path for path in Path(paperlib.__file__).parent.rglob("*") if path.suffix in (".py", ".csv", ".txt")]
    code += [NOTEBOOKS / "claims.yaml"]  # which a notebook opens and closes with
    code += shipped.folder().glob("*-*.*")  # cards and weights: which networks there are, and whether one was damaged
    texts = [value for value in values.values() if isinstance(value, str)]
    named = [Path(path).expanduser() for value in texts for path in (value, value.rsplit(":", 1)[0])]
    sums = [files.sha256(path) for path in named if path.is_file()]
    cells = text[text.find("# %%"):]  # JupyterLab writes the lines above anew
    facts = [cells, dict(parameters), dict(values), list(pictures), sums, files.versions(), str(folder)]
    facts += [shipped.together(sorted(code))]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def finished(name: str, mark: str, folder: Path) -> Result | None:
    """What finished in `folder` with this fingerprint; None if nothing did."""
    record = folder / f"{name}.json"
    if not (record.is_file() and (folder / f"{name}.ipynb").is_file()):
        return None
    before = json.loads(record.read_text())
    return Result(**{**before, "status": "kept"}) if before.pop("fingerprint") == mark else None


# One notebook


def run_one(name: str, text: str, parameters: Mapping, mark: str, folder: Path) -> Result:
    """Execute one notebook into `folder`: as .ipynb and .html, with a .json that holds its fingerprint `mark`.

    One that has finished with that fingerprint is not executed again.
    """
    import jupytext
    import nbformat
    import papermill

    from paperlib.datasets import files
    from paperlib.runs import kernels

    if before := finished(name, mark, folder):
        return before
    logging.getLogger("papermill").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    final, failed, start = folder / f"{name}.ipynb", folder / f"{name}.failed.ipynb", time.perf_counter()
    begun = time.time()
    for old in (final, failed, folder / f"{name}.html"):
        old.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch, kernels.environment(
            **{"TQDM_DISABLE": "1", files.NOTEBOOK: name}):
        source, running = Path(scratch, "source.ipynb"), Path(scratch, f"{name}.ipynb")
        nbformat.write(jupytext.reads(text, fmt="py:percent"), source)
        try:
            # The kernel's own warnings are not the reader's concern.
            papermill.execute_notebook(
                source, running, dict(parameters), kernel_name="python3", language="python", cwd=str(NOTEBOOKS),
                progress_bar=False, start_timeout=300, kernel_manager_class=kernels.manager(),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"])
        except papermill.PapermillExecutionError as error:
            _move(running, failed)
            what = (f"cell [{error.exec_count}] `{_first_line(error.source)}`: {error.ename}: "
                    f"{_first_line(error.evalue)}; see {failed}")
            return Result(name, "failed", time.perf_counter() - start, error=what)
        except Exception as error:  # noqa: BLE001 - a kernel may die of anything
            what = f"{type(error).__name__}: {_first_line(str(error))}"
            return Result(name, "failed", time.perf_counter() - start, error=what)
        executed = nbformat.read(running, as_version=4)
        _move(running, final)
    _write_page(executed, folder / f"{name}.html")
    result = Result(name, "done", time.perf_counter() - start, headline(executed), slowest(executed),
                    wrote=wrote(name, parameters.get("out", ""), begun))
    with files.written_whole(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps({**result.__dict__, "fingerprint": mark}, indent=1))
    return result


def _move(path: Path, final: Path) -> None:
    """Moves a file to another disk, perhaps, and never leaves half of it under its final name."""
    from paperlib.datasets import files

    with files.written_whole(final) as temporary:
        temporary.write_bytes(path.read_bytes())


def _write_page(notebook, path: Path) -> None:
    """Writes an executed notebook as a page for a browser; a notebook is none the worse if that fails."""
    from nbconvert import HTMLExporter

    from paperlib.datasets import files

    try:
        page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
        with files.written_whole(path) as temporary:
            temporary.write_text(re.sub(r'(href="[\w./-]+)\.ipynb"', r'\1.html"', page), encoding="utf-8")
    except Exception as error:  # noqa: BLE001 - templates may be missing from an installation
        warnings.warn(f"{path.name} was not written: {_first_line(str(error))}", stacklevel=2)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[0][:200]


def wrote(name: str, out: str, since: float) -> list[str]:
    """The .json files in `out` that this notebook has written since then, by name."""
    new = [path for path in Path(out).glob("*_*.json") if path.stat().st_mtime >= since - 1] if out else []
    return sorted(path.stem for path in new if json.loads(path.read_text()).get("notebook") == name)


def headline(notebook) -> str:
    """The text that the cell tagged `headline` printed: the notebook's main numbers."""
    lines = [output.text.strip() for cell in notebook.cells if HEADLINE in cell.metadata.get("tags", [])
             for output in cell.get("outputs", []) if output.output_type == "stream" and output.name == "stdout"]
    return "\n".join(lines)


def slowest(notebook) -> str:
    """The cell that took longest, by the number that stands before it, and its seconds; "" for none of a second."""
    cells = [(cell.metadata.get("papermill", {}).get("duration") or 0.0, cell.execution_count)
             for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count]
    seconds, number = max(cells, default=(0.0, 0))
    return f"{seconds:.0f} s in cell [{number}]" if seconds >= 1 else ""
