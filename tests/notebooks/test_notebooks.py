"""The notebooks: pairs in step, committed as executed, parameters alike, and each runs from first to last cell."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields

import jupytext
import nbformat
import papermill
import pytest

from paperlib.runs import command as reproduce
from paperlib.runs.study import Study

SCRIPTS = sorted(reproduce.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
NAMES = [path.stem for path in SCRIPTS]
SETTINGS = {field.name for field in fields(Study)} | {"out"}


def read(name: str, suffix: str) -> nbformat.NotebookNode:
    path = reproduce.NOTEBOOKS / f"{name}{suffix}"
    return jupytext.read(path) if suffix == ".py" else nbformat.read(path, as_version=4)


def cells(notebook: nbformat.NotebookNode) -> list[tuple]:
    return [(c.cell_type, c.source.strip(), tuple(c.metadata.get("tags", []))) for c in notebook.cells]


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_the_five_and_the_tour_are_there():
    assert [name[:2] for name in NAMES][:6] == ["00", "01", "02", "03", "04", "05"]


@pytest.mark.parametrize("name", NAMES)
def test_pair_is_in_step(name):
    assert cells(read(name, ".py")) == cells(read(name, ".ipynb")), "run: make pairs, then make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook_was_executed_to_its_end(name):
    notebook = read(name, ".ipynb")
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not [o for o in outputs(notebook) if o.output_type == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_name_no_folder_of_a_machine(name):
    text = nbformat.writes(read(name, ".ipynb"))
    assert not re.search(r"(?<![\w.])/(home|Users|root|tmp|work|private)/", text)


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    code = [c.source.splitlines() for c in read(name, ".py").cells
            if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
    assert not [lines[0] for lines in code if len(lines) > 15]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_flat_typed_commented_and_the_quick_profile(name):
    notebook = read(name, ".py")
    source = next(c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    for line in source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool) = .+?  # .+", line), line
    declared = reproduce.declared(notebook)
    assert SETTINGS <= set(declared)
    quick = reproduce.read_profile("quick")
    assert {n: v for n, v in declared.items() if n in quick} == {n: v for n, v in quick.items() if n in declared}


@pytest.mark.parametrize("path", sorted((reproduce.NOTEBOOKS / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_profile_names_parameters_that_notebooks_have(path):
    assert reproduce.choose(reproduce.read_profile(path.stem), reproduce.select([]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all notebooks, whichever worker runs them: they share their networks, as a reader's do."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache-of-the-notebooks"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_in_the_smoke_profile(name, cache, tmp_path):
    source, target = tmp_path / "source.ipynb", tmp_path / f"{name}.ipynb"
    notebook = read(name, ".py")
    nbformat.write(notebook, source)
    smoke = reproduce.choose(reproduce.read_profile("smoke"), reproduce.select([]))[name]
    papermill.execute_notebook(source, target, {**smoke, "out": str(tmp_path / "figures")}, prepare_only=True,
                               kernel_name="python3", progress_bar=False)
    run = subprocess.run([sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:xdist", "-p",
                          "no:cacheprovider", "-q", str(target)], env={**os.environ, "PAPERLIB_CACHE": str(cache)},
                         capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-4000:]
    assert list((tmp_path / "figures").glob("*.json")), "the notebook keeps no numbers"
