"""The notebooks: pairs in step, committed as executed, short cells, and each runs from its first to its last cell."""
from __future__ import annotations

import os
import re
from functools import cache

import jupytext
import nbformat
import pytest
import small
from jupyter_client import KernelManager
from nbclient import NotebookClient

from paperlib.runs import claims, parameters

PATHS = parameters.select()
NAMES = list(PATHS)
# Seconds of training instead of minutes, and a network of one's own in every notebook.
TINY = {"backbone": f"{small.__file__}:tiny", "blocks": "one,two,three,four", "classifier": "fc", "runs": 1}
BAR = re.compile(r"\d+%\|")
HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---
"""


@cache
def read(name: str, suffix: str) -> nbformat.NotebookNode:
    path = PATHS[name].with_suffix(suffix)
    return jupytext.read(path) if suffix == ".py" else nbformat.read(path, as_version=4)


def cells(notebook: nbformat.NotebookNode) -> list[tuple]:
    return [(c.cell_type, c.source.strip(), tuple(c.metadata.get("tags", []))) for c in notebook.cells]


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """The lines that cells printed or displayed as text alone; a table is shown as HTML, a warning has a path in it."""
    streams = [o.text for o in outputs(notebook) if o.output_type == "stream" and o.name == "stdout"]
    shown = [o.data["text/plain"] for o in outputs(notebook) if "data" in o and list(o.data) == ["text/plain"]]
    return "\n".join(streams + shown).splitlines()


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    """A saved notebook holds no error and no progress bar, and its lines fit a window of 1,400 pixels."""
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output for output in outputs(notebook) if BAR.search(output.get("text", ""))]
    assert not [output for output in outputs(notebook) if BAR.search(output.get("data", {}).get("text/plain", ""))]
    assert not [output for output in outputs(notebook) if any("widget" in kind for kind in output.get("data", {}))]
    assert not [line for line in printed(notebook) if len(line) > 92]


def test_the_paper_comes_first_and_links_lead_to_notebooks():
    paper = [name[:2] for name, path in PATHS.items() if path.parent == parameters.NOTEBOOKS]
    assert paper == [name[:2] for name in NAMES][:6] == ["00", "01", "02", "03", "04", "05"]
    for path in PATHS.values():
        for link in re.findall(r"\]\(([^)]+\.ipynb)\)", path.read_text()):
            assert (path.parent / link).is_file(), f"{path.name} links to {link}"


@pytest.mark.parametrize("name", NAMES)
def test_pair_is_in_step(name):
    assert cells(read(name, ".py")) == cells(read(name, ".ipynb")), "run: make pairs, then make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook_was_executed_to_its_end(name):
    notebook = read(name, ".ipynb")
    counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    check_outputs(notebook)
    assert not re.search(r"(?<![\w.])/(home|Users|root|tmp|work|private)/", nbformat.writes(notebook))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_notebook_opens_and_closes_with_what_the_saved_numbers_say(name):
    number, figures = name[:2], str(parameters.NOTEBOOKS.parent / "figures")
    found = [cell for cell in read(name, ".ipynb").cells if re.search(r"^(opening|closing)\(", cell.source, re.M)]
    shown = {cell.source.splitlines()[-1].split("(")[0]: cell.outputs[-1].data["text/html"] for cell in found}
    assert shown == {"opening": claims.opening(number)._repr_html_(),
                     "closing": claims.closing(number, figures)._repr_html_()}


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    text, code = PATHS[name].read_text(), [c for c in read(name, ".py").cells if c.cell_type == "code"]
    assert text.startswith(HEADER), "the header is not the one that jupytext writes when JupyterLab saves the notebook"
    assert not [line for line in text.splitlines() if len(line) > 120]
    assert not [c.source.splitlines()[0] for c in code if len(c.source.splitlines()) > 15]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_eight_lines_at_most_of_which_all_notebooks_share_five(name):
    text = PATHS[name].read_text()
    lines = parameters.parameters_cell(text).splitlines()
    assert len(lines) <= 8
    for line in lines:
        assert re.fullmatch(r"\w+: (str|int|float|bool|list|dict) = .+?  # .+", line), line
    declared = parameters.declared(text)
    assert tuple(declared)[:5] == parameters.COMMON
    defaults = {name: declared[name] for name in parameters.COMMON if name != "dataset"}
    assert defaults == {"profile": "quick", "data_root": "", "settings": {}, "out": ""}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel and one cache for all notebooks: they share what they import and train."""
    manager = KernelManager(kernel_name="python3")
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}  # bars are to be seen
    environment |= {"PAPERLIB_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1",
                    "NUMBA_OPT": "0",  # UMAP is small here
                    "MPLBACKEND": "agg"}  # a figure is drawn where it is kept, and not once more to be shown
    manager.start_kernel(env=environment)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_in_the_smoke_profile(name, kernel, tmp_path):
    given = {**parameters.choose(TINY, "smoke")[name], "out": str(tmp_path)}
    notebook = jupytext.reads(PATHS[name].read_text(), fmt="py:percent")
    place = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
    told = "\n".join(f"{key} = {value!r}" for key, value in given.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(told))
    # Nothing is left of the notebook before.
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import matplotlib.pyplot\n"
                                                       "matplotlib.pyplot.close('all')\n%reset -f"))
    NotebookClient(notebook, km=kernel, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check_outputs(notebook)
    assert list(tmp_path.glob("*.json")), "the notebook keeps no numbers"
