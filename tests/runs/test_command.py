"""The headless run: what it is told is checked, what fails is named, and what has finished is not run again."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import pytest

import paperlib
from paperlib.datasets import files
from paperlib.runs import command as reproduce
from paperlib.runs.command import UsageError, main

PARAMETERS = '''# %% tags=["parameters"]
out: str = ""
data_root: str = ""
backbone: str = "resnet18"
epochs: int = 3
rate: float = 0.5
fast: bool = False
'''
# Each notebook adds its name to <out>/ran, so that a test can count what was run.
RAN = '''
# %%
from pathlib import Path
with (Path(out) / "ran").open("a") as file:
    file.write("{name}\\n")
'''
HEADLINE = '''
# %% tags=["headline"]
print("epochs", epochs, "rate", rate)
'''
FAILS = '''
# %%
# the cell that fails
numbers = [1, 2]
numbers[7]
'''


def write(folder: Path, name: str, text: str = "", parameters: str = PARAMETERS) -> None:
    (folder / f"{name}.py").write_text(parameters + RAN.format(name=name) + text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three notebooks and a profile; paperlib's own files are out of the way, for somebody may be editing them."""
    folder, code = tmp_path / "notebooks", tmp_path / "code"
    (folder / "profiles").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    code.mkdir()
    monkeypatch.setattr("paperlib.__file__", str(code / "__init__.py"))
    monkeypatch.setattr("paperlib.runs.jobs.cpu_count", lambda: 1)  # one notebook at a time
    (folder / "profiles" / "quick.yaml").write_text("epochs: 1  # one\n")
    (folder / "profiles" / "slow.yaml").write_text("epochs: 9\nrate: 1\nfast: true\n")
    write(folder, "00_first", HEADLINE)
    write(folder, "01_second", parameters='# %% tags=["parameters"]\nout: str = ""\n')
    write(folder, "10_third", HEADLINE, PARAMETERS + "depth: int = 2\n")
    (folder / "notes.py").write_text("# no notebook\n")
    return folder


class Runs:
    """The command on the notebooks of `folder`, and what it left."""

    def __init__(self, folder: Path, capsys):
        self.folder, self.out, self.capsys = folder, folder.parent / "out", capsys

    def __call__(self, *argv: str) -> int:
        self.status = main(["reproduce", "--out", str(self.out), *argv], folder=self.folder)
        self.said = self.capsys.readouterr()
        return self.status

    def ran(self) -> list[str]:
        """The notebooks that ran since the last question, in order."""
        path = self.out / "ran"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def left(self) -> list[str]:
        return sorted(p.name for p in (self.out / "executed").iterdir())


@pytest.fixture
def run(folder, capsys):
    return Runs(folder, capsys)


@pytest.fixture
def quick_kernel(monkeypatch):
    """papermill's place is taken by a few lines: the parameters cell, the parameters, then the other cells."""
    def execute(source, target, parameters, **_):
        notebook, names = nbformat.read(source, as_version=4), {}
        code = [c for c in notebook.cells if c.cell_type == "code"]
        exec(code[0].source, names)
        names.update(parameters)
        for cell in code[1:]:
            exec(cell.source.replace("print(", "print_("), {**names, "print_": lambda *_: None})
        nbformat.write(notebook, target)
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return execute


# The whole run, with kernels

def test_run_from_a_failure_to_the_end(run, folder):
    write(folder, "01_second", FAILS + "\n# %%\nprint('never')\n", '# %% tags=["parameters"]\nout: str = ""\n')
    assert run() == 1
    assert run.ran() == ["00_first", "01_second", "10_third"], "in order, and the one after the failure too"
    lines, table = run.said.out.split("\nnotebook ")
    failure = "FAILED in cell [4] `# the cell that fails`: IndexError: list index out of range; see "
    assert [line.split(" ...")[0] for line in lines.splitlines()] == [
        "[1/3] 00_first", "[2/3] 01_second", "[3/3] 10_third"]
    assert failure in lines.splitlines()[1] and failure in table
    assert table.count("epochs 1 rate 0.5") == 2, "the profile's epochs, the notebook's own rate"
    assert "longest: " in table and "\nall " in table and "Traceback" not in run.said.err
    assert run.left() == ["00_first.ipynb", "00_first.json", "01_second.failed.ipynb", "10_third.ipynb",
                          "10_third.json"]
    kept = nbformat.read(run.out / "executed" / "00_first.ipynb", as_version=4)
    assert [c.execution_count for c in kept.cells if c.cell_type == "code"] == [1, 2, 3, 4]
    shown = nbformat.read(run.out / "executed" / "01_second.failed.ipynb", as_version=4)
    cell, = (c for c in shown.cells if c.cell_type == "code" and c.execution_count == 4)
    assert cell.outputs[0].ename == "IndexError" and "numbers[7]" in cell.source

    write(folder, "01_second", parameters='# %% tags=["parameters"]\nout: str = ""\n')
    assert run() == 0
    assert run.ran() == ["01_second"], "only what was mended"
    assert run.said.out.count("finished before, kept") == 2 and "* finished before" in run.said.out
    assert run.said.out.count("epochs 1 rate 0.5") == 2, "numbers of what is kept are in the table too"
    assert "01_second.failed.ipynb" not in run.left()

    assert run() == 0
    assert run.ran() == []


def test_kernel_that_dies_does_not_take_the_others_with_it(run, folder):
    write(folder, "00_first", "\n# %%\nimport os\nos._exit(3)\n")
    assert run("--only", "00", "01") == 1
    assert run.ran() == ["00_first", "01_second"]
    assert "FAILED in DeadKernelError" in run.said.out
    assert run.left() == ["01_second.ipynb", "01_second.json"]


def test_notebooks_side_by_side_share_the_processors(run, quick_kernel, monkeypatch):
    seen, both = [], threading.Barrier(2, timeout=60)

    def together(source, target, parameters, **options):
        seen.append(os.environ.get("OMP_NUM_THREADS"))
        if len(seen) < 3:
            both.wait()  # two must be here at the same time
        quick_kernel(source, target, parameters, **options)
    monkeypatch.setattr(papermill, "execute_notebook", together)
    monkeypatch.setattr(reproduce, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run("--jobs", "2") == 0
    assert sorted(run.ran()) == ["00_first", "01_second", "10_third"] and seen == ["3", "3", "3"]
    assert "OMP_NUM_THREADS" not in os.environ
    table = run.said.out.split("\nnotebook ")[1]
    assert table.index("00_first") < table.index("01_second") < table.index("10_third"), "in order, whoever was first"


def test_notebooks_that_end_together_are_not_mistaken_for_one_another(run, folder, quick_kernel, monkeypatch):
    near, both = reproduce._near, threading.Barrier(2, timeout=60)

    def together(path, folder):
        copied = near(path, folder)
        both.wait()  # two copies lie side by side now
        return copied
    monkeypatch.setattr(reproduce, "_near", together)
    (folder / "10_third.py").unlink()
    assert run("--jobs", "2") == 0
    for name in ("00_first", "01_second"):
        kept = nbformat.read(run.out / "executed" / f"{name}.ipynb", as_version=4)
        assert f'file.write("{name}' in kept.cells[1].source


# What has finished

def test_what_failed_before_runs_again_and_the_rest_does_not(run, folder, quick_kernel):
    write(folder, "01_second", "\n# %%\n1 / 0\n")
    for expected in (["00_first", "01_second", "10_third"], ["01_second"], ["01_second"]):
        assert run() == 1
        assert run.ran() == expected
    assert "FAILED in ZeroDivisionError: division by zero" in run.said.out


def test_changed_parameter_runs_again_where_it_counts(run, quick_kernel):
    run()
    run.ran()
    assert run("--set", "depth=5") == 0
    assert run.ran() == ["10_third"]
    assert run("--set", "epochs=2", "depth=5") == 0
    assert run.ran() == ["00_first", "10_third"]
    assert run("--set", "epochs=2", "depth=5") == 0
    assert run.ran() == []


def test_changed_text_module_or_own_network_runs_again(run, folder, quick_kernel, tmp_path):
    own = tmp_path / "nets.py"
    own.write_text("one")
    argv = ["--set", f"backbone={own}:net"]
    run(*argv)
    run.ran()
    write(folder, "00_first", "\n# %%\n1 + 1\n")
    run(*argv)
    assert run.ran() == ["00_first"]
    own.write_text("two")
    run(*argv)
    assert run.ran() == ["00_first", "10_third"]
    (Path(paperlib.__file__).parent / "reproduce.py").write_text("changed")
    run(*argv)
    assert run.ran() == ["00_first", "01_second", "10_third"]


def test_again_runs_what_has_finished(run, quick_kernel):
    run()
    run.ran()
    run("--again", "--only", "10")
    assert run.ran() == ["10_third"]
    run()
    assert run.ran() == []


def test_executed_notebook_that_was_deleted_is_made_again(run, quick_kernel):
    run()
    run.ran()
    for name in ("00_first.ipynb", "10_third.json"):
        (run.out / "executed" / name).unlink()
    run()
    assert run.ran() == ["00_first", "10_third"]


def test_stopped_midway_leaves_nothing_under_the_final_name(run, monkeypatch, quick_kernel):
    def stopped(source, target, parameters, **options):
        if "10_third" in Path(source).read_text():
            Path(target).write_text("half a notebook")
            raise KeyboardInterrupt
        quick_kernel(source, target, parameters, **options)
    with monkeypatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", stopped)
        assert run() == 130
    assert "the same command goes on from there" in run.said.err
    assert run.left() == ["00_first.ipynb", "00_first.json", "01_second.ipynb", "01_second.json"]
    run.ran()
    assert run() == 0
    assert run.ran() == ["10_third"]


def test_stopped_between_notebook_and_record_runs_again(run, monkeypatch, quick_kernel):
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(reproduce, "slowest", lambda notebook: os.stat("/no/such/file"))
        run("--only", "00")
    run.ran()
    assert run("--only", "00") == 0
    assert run.ran() == ["00_first"]


# What is chosen

def test_only_takes_numbers_or_beginnings_and_keeps_the_order(run, quick_kernel):
    assert run("--only", "10", "00_fi") == 0
    assert run.ran() == ["00_first", "10_third"]


def test_profile_may_name_what_only_other_notebooks_have(run, quick_kernel):
    assert run("--only", "01") == 0, "the profile has epochs, which 01 does not"
    assert run("--only", "01", "--set", "epochs=2") == 2
    assert "No notebook has a parameter 'epochs'; " in run.said.err


def test_profile_by_path_and_parameters_over_it(run, tmp_path, quick_kernel):
    seen = []

    def look(source, target, parameters, **options):
        seen.append(parameters)
        quick_kernel(source, target, parameters, **options)
    (tmp_path / "mine.yaml").write_text("epochs: 7\nrate: 2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papermill, "execute_notebook", look)
        run("--profile", "slow", "--only", "00", "--set", "epochs=4")
        run("--profile", str(tmp_path / "mine.yaml"), "--only", "01", "10")
    out = {"out": str(run.out)}
    assert seen == [{"epochs": 4, "rate": 1.0, "fast": True, **out}, out, {"epochs": 7, "rate": 2.0, **out}]
    assert isinstance(seen[0]["rate"], float)


def test_paths_typed_here_are_whole_in_the_notebook(run, tmp_path, monkeypatch, quick_kernel):
    seen = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda source, target, parameters, **_: (
        seen.append(parameters), shutil.copy(source, target)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "nets.py").write_text("")
    assert run("--only", "00", "--data-root", "sets", "--set", "backbone=nets.py:net") == 0
    assert run("--only", "00", "--set", "backbone=resnet34") == 0
    assert seen[0]["data_root"] == str(tmp_path / "sets") and seen[0]["backbone"] == f"{tmp_path / 'nets.py'}:net"
    assert seen[1]["backbone"] == "resnet34"


REFUSED = {
    "unknown parameter": (["--set", "epoch=3"], "No notebook has a parameter 'epoch'; did you mean epochs?"),
    "unlike any": (["--set", "zzz=3"], "No notebook has a parameter 'zzz'; there are backbone, data_root, depth"),
    "int given a text": (["--set", "epochs=many"], "The parameter epochs is 'many'; give a whole number, such as 3."),
    "int given a float": (["--set", "epochs=2.5"], "The parameter epochs is 2.5; give a whole number, such as 3."),
    "int given a bool": (["--set", "epochs=true"], "The parameter epochs is True; give a whole number, such as 3."),
    "int given nothing": (["--set", "epochs="], "The parameter epochs is None; give a whole number, such as 3."),
    "float given a text": (["--set", "rate=fast"], "The parameter rate is 'fast'; give a number, such as 0.5."),
    "bool given a number": (["--set", "fast=1"], "The parameter fast is 1; give true or false, such as False."),
    "no equals sign": (["--set", "epochs"], "--set takes NAME=VALUE, not 'epochs'."),
    "no name": (["--set", "=3"], "--set takes NAME=VALUE, not '=3'."),
    "profile unknown": (["--profile", "nope"], "There is no profile 'nope'; use one of quick, slow, or the path"),
    "profile's path unknown": (["--profile", "no/such.yaml"], "There is no profile 'no/such.yaml'; use one of quick, "),
    "only unknown": (["--only", "07"], "There is no notebook '07'; there are 00_first, 01_second, 10_third."),
    "data root unknown": (["--data-root", "no/such"], "There is no folder no/such; give the one that holds the data"),
}


@pytest.mark.parametrize("argv, sentence", REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(run, argv, sentence):
    assert run(*argv) == 2
    assert run.said.err.startswith(f"error: {sentence}") and run.said.err.count("\n") == 1
    assert run.said.out == "" and not (run.out / "executed").exists()


PROFILES = {
    "not YAML": (b"epochs: [1, 2\nrate: }", "profiles/bad.yaml is not YAML: "),
    "no text": (b"\xff\xfe\x00epochs", "profiles/bad.yaml is not YAML: "),
    "a list": (b"- epochs\n- rate\n", "profiles/bad.yaml is not a list of `name: value` lines."),
    "unknown parameter": (b"epcohs: 3\n", "No notebook has a parameter 'epcohs'; did you mean epochs?"),
    "a number as name": (b"3: 3\n", "No notebook has a parameter 3; there are "),
    "text given a number": (b"backbone: 18\n", "The parameter backbone is 18; give a text, such as 'resnet18'."),
    "int given nothing": (b"epochs:\n", "The parameter epochs is None; give a whole number"),
    "int given a list": (b"epochs: [1]\n", "The parameter epochs is [1]; give a whole number"),
}


@pytest.mark.parametrize("content, sentence", PROFILES.values(), ids=PROFILES)
def test_profile_that_is_wrong(run, content, sentence):
    (run.folder / "profiles" / "bad.yaml").write_bytes(content)
    assert run("--profile", "bad") == 2
    assert sentence in run.said.err and run.said.err.count("\n") == 1


def test_empty_profile_leaves_the_notebooks_own(run):
    (run.folder / "profiles" / "empty.yaml").write_text("# nothing\n")
    assert reproduce.read_profile("empty", run.folder / "profiles") == {}


@pytest.mark.parametrize("value, default, expected", [
    ("3", 1, 3), (3, 1, 3), ("-3", 1, -3), ("2", 0.5, 2.0), (2, 0.5, 2.0), ("1e-3", 0.5, 0.001), (0.1, 0.5, 0.1),
    ("true", False, True), ("False", True, False), (True, False, True), ("18", "resnet18", "18"), ("", "digits", ""),
    ("a=b", "", "a=b"), ("no", "", "no")])
def test_typed(value, default, expected):
    found = reproduce.typed("x", value, default)
    assert found == expected and type(found) is type(default)


@pytest.mark.parametrize("value, default", [("x: [", 1), ("[1]", 1), (None, ""), (True, 0.5), (1, ""), ("", 0.5),
                                            ("", False), (1.0, 1)])
def test_not_typed(value, default):
    with pytest.raises(UsageError, match="The parameter x is .*; give "):
        reproduce.typed("x", value, default)


def test_value_may_hold_an_equals_sign():
    assert reproduce.pairs(["backbone=a=b.py:net", "epochs=3"]) == {"backbone": "a=b.py:net", "epochs": "3"}


def test_parameters_are_those_of_the_tagged_cell(folder):
    found = reproduce.declared(reproduce.select(["00"], folder)["00_first"])
    assert found == {"out": "", "data_root": "", "backbone": "resnet18", "epochs": 3, "rate": 0.5, "fast": False}
    assert reproduce.declared(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("epochs = 3")])) == {}


# What is told at the end

def test_headline_is_what_the_tagged_cell_printed():
    def cell(tags, *outputs):
        return nbformat.v4.new_code_cell("x", outputs=list(outputs), metadata={"tags": tags})

    def stream(text, name="stdout"):
        return nbformat.v4.new_output("stream", name=name, text=text)
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A"), cell([], stream("not this")),
        cell(["headline"], stream("accuracy 0.9\n"), stream("warning", "stderr"), stream("cosine 0.4\n"))])
    assert reproduce.headline(notebook) == "accuracy 0.9\ncosine 0.4"
    assert reproduce.headline(nbformat.v4.new_notebook()) == ""


def test_slowest_names_the_cell_that_took_longest():
    cells = [nbformat.v4.new_code_cell(source, metadata={"papermill": {"duration": seconds}})
             for source, seconds in [("import a", 1.0), ("train()\nmore()", 12.4), ("", 50.0), ("plot()", None)]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), *cells])
    assert reproduce.slowest(notebook) == "12 s in `train()`"
    assert reproduce.slowest(nbformat.v4.new_notebook()) == ""


def test_table_says_what_ran_and_how_long_the_whole_took():
    results = [reproduce.Result("00_a", "done", 12.0, "one\ntwo", "9 s in `x`"),
               reproduce.Result("01_b", "kept", 30.0, "three"),
               reproduce.Result("02_c", "failed", 5.0, error="cell [2]: KeyError: 1")]
    lines = reproduce.table(results, 14.4).splitlines()
    assert [line.split() for line in lines] == [
        ["notebook", "seconds", "main", "numbers"], ["00_a", "12", "one"], ["two"], "(longest: 9 s in `x`)".split(),
        ["01_b", "30", "*three"], ["02_c", "5", *"FAILED in cell [2]: KeyError: 1".split()], ["all", "14"],
        "* finished before with the same text and parameters; --again runs it anew".split()]


def test_record_says_what_ran(run, quick_kernel):
    run("--only", "00")
    record = json.loads((run.out / "executed" / "00_first.json").read_text())
    assert record["name"] == "00_first" and record["status"] == "done" and len(record["fingerprint"]) == 64


def test_command_line_ends_with_status_2():
    done = subprocess.run([sys.executable, "-m", "paperlib", "reproduce", "--profile", "nope"], capture_output=True,
                          text=True, cwd=files.REPOSITORY)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: There is no profile 'nope'; use one of ") and done.stderr.count("\n") == 1


# What a run would lack

STUDY = PARAMETERS + 'dataset: str = "digits"\nweights: str = "none"\nprototypes_per_class: int = 0\n'


def test_missing_data_and_weights_stop_the_run_before_it_starts(run, folder, quick_kernel, tmp_path):
    for name in ("00_first", "10_third"):
        write(folder, name, HEADLINE, STUDY)
    root = tmp_path / "empty"
    (root / "CUB_200_2011").mkdir(parents=True)
    assert run("--data-root", str(root), "--set", "dataset=folder,cub200", f"weights={tmp_path / 'w.pth'}") == 1
    assert run.ran() == [] and not run.said.out
    lines = run.said.err.splitlines()
    assert len(lines) == 3, "each once, whichever notebooks want it"
    assert lines[0].startswith(f"error: {root} holds 1 class folder; make one for each class")
    assert lines[1].startswith(f"error: There is no file of weights {tmp_path / 'w.pth'}; give")
    assert lines[2].startswith("error: CUB-200-2011 is not whole in ")


def test_k_larger_than_a_class_stops_the_run_before_it_starts(run, folder, quick_kernel, tmp_path):
    from PIL import Image
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (30, 30)).save(tmp_path / "pets" / name / f"{i}.png")
    write(folder, "00_first", HEADLINE, STUDY)
    given = ["--data-root", str(tmp_path / "pets"), "--set", "dataset=folder", "epochs=1"]
    assert run(*given) == 1 and run.ran() == []
    assert run.said.err == ("error: prototypes_per_class is 5 and class cat of pets has 4 training pictures; give at "
                            "most 4, or more pictures.\n")
    assert run(*given, "prototypes_per_class=4") == 0 and len(run.ran()) == 3


def test_wrong_settings_stop_the_run(run, folder, quick_kernel):
    write(folder, "00_first", HEADLINE, STUDY + "runs: int = 1\n")
    for setting, sentence in {"runs=0": "runs is 0; give 1 or more.", "epochs=-1": "epochs is -1; give 0 or"}.items():
        assert run("--set", setting) == 2 and f"error: {sentence}" in run.said.err
    assert run("--jobs", "-1") == 2 and "error: --jobs is -1; give 0 or more." in run.said.err
    assert run("--threads", "0") == 2 and "error: --threads is 0; give 1 or more." in run.said.err
    assert run.ran() == []


def test_runs_are_prepared_before_the_notebooks_and_a_failure_is_told(run, folder, quick_kernel, monkeypatch):
    asked = []

    def spread(studies, tables, jobs, threads):
        asked.append(([(study.dataset, study.seed) for study in studies], tables, jobs, threads))
        return ((study, 1.0, "ValueError: no" if study.seed == 1 else "") for study in studies)
    monkeypatch.setattr("paperlib.runs.jobs.spread", spread)
    monkeypatch.setattr("paperlib.runs.jobs.waiting", lambda studies, tables: studies)
    monkeypatch.setattr("paperlib.runs.study.Study.problems", lambda _: [])
    monkeypatch.setattr("paperlib.runs.study.Study.data", property(lambda study: SimpleNamespace(title=study.dataset)))
    write(folder, "00_first", HEADLINE, STUDY + "runs: int = 2\n")
    assert run("--set", "dataset=digits,birds", "train_per_class=5", "--jobs", "3") == 2, "no such parameter"
    assert run("--set", "dataset=digits,birds", "--jobs", "3") == 1, "a run failed"
    assert asked == [([("digits", 0), ("digits", 1), ("birds", 0), ("birds", 1)], True, 3, 1)]
    assert "[run 2/4] digits, seed 1: FAILED: ValueError: no" in run.said.out
    assert len(run.ran()) == 3, "the notebooks run all the same"
    assert not (run.out / "report.md").exists()
    assert run("--only", "01") == 0 and len(asked) == 1, "01 names no data set"


def test_notebooks_without_a_mean_over_runs_begin_as_soon_as_the_first_runs_leave_a_worker(
        run, folder, quick_kernel, monkeypatch):
    early = threading.Event()

    def spread(studies, tables, jobs, threads):
        for study in sorted(studies, key=lambda study: study.seed):
            assert run.ran() == [], "a run is left for each of the two workers"
            yield study, 1.0, ""
            if study.seed == 1 and study.dataset == "digits":
                break
        assert early.wait(60), "the first notebook ran while the last run was still going on"
        yield studies[-1], 1.0, "ValueError: no"  # a report would train

    def execute(source, target, parameters, **options):
        quick_kernel(source, target, parameters, **options)
        if "runs" not in nbformat.read(source, as_version=4).cells[0].source:
            early.set()
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr("paperlib.runs.jobs.spread", spread)
    monkeypatch.setattr("paperlib.runs.jobs.waiting", lambda studies, tables: studies)
    monkeypatch.setattr("paperlib.runs.study.Study.problems", lambda _: [])
    monkeypatch.setattr("paperlib.runs.study.Study.data", property(lambda study: SimpleNamespace(title=study.dataset)))
    (folder / "01_second.py").unlink()
    write(folder, "00_first", HEADLINE, STUDY + "runs: int = 2\n")
    write(folder, "10_third", HEADLINE, STUDY)
    run("--set", "dataset=digits,birds", "--jobs", "2")
    assert run.ran() == ["10_third", "00_first"], "the one with a mean waited for the last run"


def test_unknown_data_set_stops_the_run(run, folder, quick_kernel):
    write(folder, "00_first", HEADLINE, STUDY)
    assert run("--set", "dataset=cub") == 2 and "error: There is no data set named 'cub'; the known" in run.said.err
