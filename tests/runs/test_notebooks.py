"""Notebooks as jobs: executed without a screen, named where they fail, and not run again when they have finished."""
from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from paperlib.runs import kernels, notebooks
from paperlib.runs.notebooks import run_one

PARAMETERS = '# %% tags=["parameters"]\nepochs: int = 3\n'
HEADLINE = '\n# %% tags=["headline"]\nimport os\nprint("epochs", epochs, os.environ["TQDM_DISABLE"])\n'


@pytest.fixture
def quick_kernel(monkeypatch):
    """papermill's place is taken by a few lines: the parameters cell, the parameters, then the other cells."""
    def execute(source, target, parameters, **_):
        notebook, names = nbformat.read(source, as_version=4), {}
        code = [c for c in notebook.cells if c.cell_type == "code"]
        exec(code[0].source, names)
        names.update(parameters)
        for cell in code[1:]:
            exec(cell.source.replace("print(", "str("), names)
        nbformat.write(notebook, target)
    monkeypatch.setattr(papermill, "execute_notebook", execute)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# One notebook

def test_executed_with_a_kernel_into_notebook_page_and_record(tmp_path):
    result = run_one("00_a", PARAMETERS + HEADLINE, {"epochs": 5}, "mark", tmp_path)
    assert (result.status, result.headline, result.error) == ("done", "epochs 5 1", "")
    assert left(tmp_path) == ["00_a.html", "00_a.ipynb", "00_a.json"] and "TQDM_DISABLE" not in os.environ
    kept = nbformat.read(tmp_path / "00_a.ipynb", as_version=4)
    assert [c.execution_count for c in kept.cells if c.cell_type == "code"] == [1, 2, 3]
    assert "epochs 5 1" in (tmp_path / "00_a.html").read_text()
    assert json.loads((tmp_path / "00_a.json").read_text())["fingerprint"] == "mark"


@pytest.mark.skipif(not kernels.FORKS, reason="this system's kernels are not forked")
def test_kernel_that_is_forked_has_its_own_folder_and_environment_and_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "READY", "ipykernel.kernelapp")
    monkeypatch.setenv("OF_OURS", "1")
    kernels.start(1)
    code = "import os, sys\nprint(os.getcwd(), os.environ['OF_OURS'], 'ipykernel.kernelapp' in sys.modules)"
    for source, said in ((code, f"{tmp_path} 1 True"), ("print(os)", "NameError"), ("import os; os._exit(3)", "died")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        client = NotebookClient(notebook, kernel_manager_class=kernels.ForkedKernel, allow_errors=True,
                                resources={"metadata": {"path": str(tmp_path)}})
        try:
            client.execute()
            assert said in str(notebook.cells[0].outputs)
        except DeadKernelError as error:
            assert said in str(error)
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_cell_that_fails_is_named_and_what_had_finished_before_goes(tmp_path):
    (tmp_path / "00_a.html").write_text("of another run")
    text = PARAMETERS + "\n# %%\n# the cell that fails\nnumbers = [1, 2]\nnumbers[7]\n\n# %%\nprint('never')\n"
    result = run_one("00_a", text, {}, "mark", tmp_path)
    assert result.status == "failed" and left(tmp_path) == ["00_a.failed.ipynb"]
    assert result.error == (f"cell [2] `# the cell that fails`: IndexError: list index out of range; "
                            f"see {tmp_path / '00_a.failed.ipynb'}")
    shown = nbformat.read(tmp_path / "00_a.failed.ipynb", as_version=4)
    cell, = (c for c in shown.cells if c.get("execution_count") == 2)
    assert cell.outputs[0].ename == "IndexError"


def test_kernel_that_dies_is_a_failure_like_others(tmp_path):
    result = run_one("00_a", PARAMETERS + "\n# %%\nimport os\nos._exit(3)\n", {}, "mark", tmp_path)
    assert result.status == "failed" and result.error.startswith("DeadKernelError: ") and left(tmp_path) == []


# What has finished

def test_what_finished_with_the_same_fingerprint_is_kept(tmp_path, quick_kernel):
    def run(mark, text=PARAMETERS + f"\n# %%\nopen({str(tmp_path / 'ran')!r}, 'a').write('x')\n"):
        return run_one("00_a", text, {}, mark, tmp_path / "out").status, (tmp_path / "ran").read_text()
    assert [run("one"), run("one"), run("two")] == [("done", "x"), ("kept", "x"), ("done", "xx")]
    assert notebooks.finished("00_a", "two", tmp_path / "out").status == "kept"
    assert run("two", PARAMETERS + "\n# %%\n1 / 0\n") == ("kept", "xx")
    assert run("three", PARAMETERS + "\n# %%\n1 / 0\n") == ("failed", "xx")
    assert notebooks.finished("00_a", "two", tmp_path / "out") is None, "it is not there any more"


def test_stopped_midway_leaves_nothing_that_passes_for_finished(tmp_path, quick_kernel, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(notebooks, "slowest", lambda notebook: os.stat("/no/such/file"))
        run_one("00_a", PARAMETERS, {}, "mark", tmp_path)
    assert notebooks.finished("00_a", "mark", tmp_path) is None

    def stopped(source, target, parameters, **options):
        Path(target).write_text("half a notebook")
        raise KeyboardInterrupt
    monkeypatch.setattr(papermill, "execute_notebook", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_one("00_a", PARAMETERS, {}, "mark", tmp_path)
    assert left(tmp_path) == []


def test_page_that_cannot_be_written_is_a_warning(tmp_path, quick_kernel, monkeypatch):
    monkeypatch.setattr("nbconvert.HTMLExporter.from_notebook_node", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="00_a.html was not written: division by zero"):
        assert run_one("00_a", PARAMETERS, {}, "mark", tmp_path).status == "done"


def test_fingerprint_changes_with_all_that_counts(tmp_path, monkeypatch):
    code, own = tmp_path / "code", tmp_path / "nets.py"
    (code / "deeper").mkdir(parents=True)
    (code / "deeper" / "module.py").write_text("one")
    own.write_text("one")
    monkeypatch.setattr("paperlib.__file__", str(code / "__init__.py"))
    given = {"text": "# ---\n# %%\n1", "parameters": {"epochs": 1}, "values": {"backbone": f"{own}:net"},
             "pictures": ["ab"], "folder": tmp_path}
    seen = [notebooks.fingerprint(**given)]
    assert notebooks.fingerprint(**{**given, "text": "# %%\n1"}) == seen[0], "JupyterLab rewrites what is above"
    for change in ({"text": "# %%\n2"}, {"parameters": {"epochs": 2}}, {"values": {"epochs": 2}}, {"pictures": ["ac"]},
                   {"folder": code}):
        seen.append(notebooks.fingerprint(**{**given, **change}))
    own.write_text("two")
    seen.append(notebooks.fingerprint(**given))
    (code / "deeper" / "module.py").write_text("two")
    seen.append(notebooks.fingerprint(**given))
    assert len(set(seen)) == len(seen) == 8


# What a notebook shows

def test_stages_that_a_notebook_shows():
    from paperlib.runs.study import Study
    study = Study("digits")
    assert notebooks.shows("study.trained", [study], study.runs(3)) == [(study, "network")]
    assert notebooks.shows("study.explain(3), study.kmex(1)", [study], study.runs(3)) == [
        (study, "network"), (study, "prototypes"), (study, "kmex")]
    assert notebooks.shows("n_runs(globals()); run.kmex(1)", [study], study.runs(2)) == [
        (run, stage) for run in study.runs(2) for stage in ("network", "kmex")]
    assert set(notebooks.SHOWN) < set(Study.STAGES)
    assert all(hasattr(Study, name) for names in notebooks.SHOWN.values() for name in names)


def test_headline_is_what_the_tagged_cell_printed():
    def cell(tags, *outputs):
        return nbformat.v4.new_code_cell("x", outputs=list(outputs), metadata={"tags": tags})

    def stream(text, name="stdout"):
        return nbformat.v4.new_output("stream", name=name, text=text)
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A"), cell([], stream("not this")),
        cell(["headline"], stream("accuracy 0.9\n"), stream("warning", "stderr"), stream("cosine 0.4\n"))])
    assert notebooks.headline(notebook) == "accuracy 0.9\ncosine 0.4"
    assert notebooks.headline(nbformat.v4.new_notebook()) == ""


def test_slowest_names_the_cell_that_took_longest():
    def notebook(*cells):
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), *(
            nbformat.v4.new_code_cell("x", execution_count=count, metadata={"papermill": {"duration": seconds}})
            for count, seconds in cells)])
    assert notebooks.slowest(notebook((1, 1.0), (2, 12.4), (None, 50.0), (3, None))) == "12 s in cell [2]"
    assert notebooks.slowest(notebook((1, 0.4))) == notebooks.slowest(notebook()) == "", "nothing to tell"
