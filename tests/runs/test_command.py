"""The command line: what it is told is checked, what fails is told in a sentence, and what has finished is kept."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest
from PIL import Image

from paperlib.datasets import files
from paperlib.runs import command, jobs, kernels, store, summary
from paperlib.runs.command import main
from paperlib.runs.jobs import Done
from paperlib.runs.notebooks import Result
from paperlib.runs.study import Study

PARAMETERS = '''# %% tags=["parameters"]
profile: str = "quick"
settings: dict = {}
out: str = ""
'''
STUDY = PARAMETERS + 'dataset: str = ""\ndata_root: str = ""\n'
# Each notebook adds its name to <out>/ran, so that a test can count what was run.
RAN = '''
# %% tags=["headline"]
from pathlib import Path
with (Path(out) / "ran").open("a") as file:
    file.write("{name}\\n")
print(settings)
'''
FAILS = "\n# %%\n1 / 0\n"


def write(folder: Path, name: str, text: str = "", parameters: str = PARAMETERS) -> None:
    (folder / f"{name}.py").write_text(parameters + RAN.format(name=name) + text)


@pytest.fixture
def folder(tmp_path):
    """Three notebooks and a profile."""
    folder = tmp_path / "notebooks"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "quick.yaml").write_text("dataset: digits\nepochs: 1\n")
    write(folder, "00_first")
    write(folder, "01_second", parameters=PARAMETERS + "depth: int = 2\n")
    write(folder, "10_third")
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


@pytest.fixture
def run(folder, capsys):
    return Runs(folder, capsys)


@pytest.fixture
def here(monkeypatch):
    """Jobs are done here and now, one after the other, and without a kernel."""
    def execute(source, target, parameters, **_):
        import nbformat
        notebook, names = nbformat.read(source, as_version=4), {}
        for i, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
            exec(cell.source.replace("print(", "str("), names)
            names.update(parameters if i == 0 else {})
        nbformat.write(notebook, target)

    def do(graph, at_a_time, threads, scheduler, told):
        asked.append((dict(graph), at_a_time, threads, scheduler))
        done: dict[str, Done] = {}
        for name, job in graph.items():
            done[name] = jobs.do(job, [done[need] for need in job.needs])
            told(len(done) / len(graph), 1.0)
            yield done[name]
    asked = []
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr("nbconvert.HTMLExporter.from_notebook_node", lambda *_: ("", {}))
    monkeypatch.setattr(jobs, "run", do)
    monkeypatch.setattr(kernels, "start", lambda threads: None)
    return asked


def test_a_run_with_processes_and_kernels_and_a_failure(run, folder, monkeypatch):
    monkeypatch.setattr(kernels, "READY", "light")  # these notebooks need no more
    write(folder, "01_second", FAILS)
    assert run("--jobs", "2") == 1
    assert sorted(run.ran()) == ["00_first", "01_second", "10_third"]
    lines, table = run.said.out.split("\nnotebook ")
    failure = "FAILED: cell [4] `1 / 0`: ZeroDivisionError: division by zero; see "
    assert "[3/3] " in lines and f"] 01_second: {failure}" in lines and failure in table
    assert table.index("00_first") < table.index("01_second") < table.index("10_third")
    assert re.search(r"\nall +\d+  at most \d+\.\d GiB of memory\n", table)
    assert "Traceback" not in run.said.err
    assert sorted(path.name for path in (run.out / "executed").iterdir()) == sorted(
        [f"{name}.{end}" for name in ("00_first", "10_third") for end in ("html", "ipynb", "json")] +
        ["01_second.failed.ipynb"])


def test_the_paper_alone_unless_all_or_a_number_beyond_is_asked_for(run, folder, here):
    (folder / "beyond").mkdir()
    write(folder / "beyond", "11_further", parameters=PARAMETERS + "breadth: int = 2\n")
    assert run() == 0 and run.ran() == ["00_first", "01_second", "10_third"]
    assert run("--set", "breadth=3") == 2 and "which this run leaves out; --only names the" in run.said.err
    assert run("--only", "11", "00") == 0 and run.ran() == ["11_further"], "00 was kept"
    assert run("--all", "--again") == 0 and run.ran() == ["00_first", "01_second", "10_third", "11_further"]
    assert (run.out / "executed" / "beyond" / "11_further.ipynb").is_file(), "links between notebooks hold there, too"


# What has finished

def test_what_failed_or_changed_runs_again_and_the_rest_does_not(run, folder, here):
    write(folder, "01_second", FAILS)
    for expected in (["00_first", "01_second", "10_third"], ["01_second"]):
        assert run() == 1 and run.ran() == expected
    assert "FAILED: ZeroDivisionError: division by zero" in run.said.out
    assert run.said.out.count("finished before, kept") == 2 and "* finished before" in run.said.out
    write(folder, "01_second", parameters=PARAMETERS + "depth: int = 2\n")
    assert run() == 0 and run.ran() == ["01_second"]
    assert run("--set", "depth=5") == 0 and run.ran() == ["01_second"]
    assert run("--set", "depth=5", "epochs=2") == 0 and run.ran() == ["00_first", "01_second", "10_third"]
    assert run("--set", "depth=5", "epochs=2") == 0 and run.ran() == []
    assert run("--set", "epochs=2", "--again", "--only", "10") == 0 and run.ran() == ["10_third"]
    (run.out / "executed" / "00_first.ipynb").unlink()
    assert run("--set", "depth=5", "epochs=2") == 0 and run.ran() == ["00_first"]


def test_the_report_is_of_this_run_alone(run, folder, here):
    """Not of what failed, of a notebook that was not asked for, or of numbers that an earlier run left."""
    kept = files.REPOSITORY / "figures" / "theorem1_birds.json"
    writes = f"""
# %%
import json
kept = json.loads(Path("{kept}").read_text())
(Path(out) / "theorem1_birds.json").write_text(json.dumps({{**kept, "notebook": "01_second"}}))
"""

    def counted(*argv: str) -> int:
        run(*argv)
        return (run.out / "report.html").read_text().count("The two orders on")
    write(folder, "01_second", writes)
    assert counted() == 1 and run.status == 0 and counted() == 1
    left = json.loads((run.out / "theorem1_birds.json").read_text())
    left["settings"] |= {"dataset": "sparrows"}
    (run.out / "theorem1_sparrows.json").write_text(json.dumps(left))
    assert counted() == 1 and counted("--only", "00") == 0
    write(folder, "01_second", writes + FAILS)
    assert counted() == 0 and run.status == 1 and "01_second failed" in (run.out / "report.html").read_text()


def test_the_end_of_a_run_trains_nothing(run, folder, here, monkeypatch):
    """What has finished may be looked at again when the network, which was trained here, is kept no more."""
    monkeypatch.setattr("paperlib.runs.study.Study.computed", lambda *_: False)
    def compute(study, stage):
        """The name that a job knows it by."""
    monkeypatch.setattr("paperlib.runs.study.Study.compute", compute)
    monkeypatch.setattr("paperlib.runs.study.Study.settings", lambda _: 1 / 0)
    write(folder, "01_second", parameters=STUDY)
    assert run() == 0 and run() == 0 and run.ran() == ["00_first", "01_second", "10_third"]


def pets(root: Path) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (30, 30), (i, 50, 50)).save(root / name / f"{i}.png")
    return root


def test_picture_added_to_a_folder_of_ones_own_runs_again_what_shows_it(run, folder, here, tmp_path, monkeypatch):
    monkeypatch.setattr("paperlib.runs.study.Study.computed", lambda *_: True)
    root = pets(tmp_path / "pets")
    write(folder, "01_second", parameters=STUDY)
    argv = ["--data-root", str(root), "--set", "dataset=folder", "prototypes_per_class=2"]
    assert run(*argv) == 0 and len(run.ran()) == 3
    assert run(*argv) == 0 and run.ran() == []
    Image.new("RGB", (30, 30), (99, 9, 9)).save(root / "cat" / "new.png")
    assert run(*argv) == 0 and run.ran() == ["01_second"]


def test_stopped(run, here, monkeypatch):
    def stopped(source, target, parameters, **_):
        if "10_third" in Path(source).read_text():
            raise KeyboardInterrupt
        shutil.copy(source, target)
    monkeypatch.setattr(papermill, "execute_notebook", stopped)
    assert run() == 130 and "the same command goes on from there" in run.said.err
    assert sorted(path.stem for path in (run.out / "executed").glob("*.ipynb")) == ["00_first", "01_second"]


# What is needed first

def test_networks_come_first_and_a_failure_stops_only_what_needs_it(run, folder, here, monkeypatch):
    asked = []

    def compute(study, stage):
        asked.append((study.dataset, study.seed, stage))
        if (study.seed, stage) == (1, "network"):
            raise ValueError("no")
    for name, what in {"computed": lambda *_: False, "problems": lambda _: [], "cost": lambda *_: 1.0,
                       "compute": compute, "data": property(lambda _: SimpleNamespace(fingerprint="x")),
                       "settings": lambda _: {"checkpoint": "x"}}.items():
        monkeypatch.setattr(f"paperlib.runs.study.Study.{name}", what)
    words = "'study.explain study.evaluate study.embeddings study.kmex study.protopnet study.softcam'"
    write(folder, "01_second", f"\n# %%\nn_runs = len\nn_runs(settings)\n{words}\n", STUDY)
    write(folder, "10_third", "\n# %%\n'study.kmex'\n", STUDY)
    options = ["--jobs", "3", "--threads", "2", "--scheduler", "tcp://x"]
    assert run("--set", "dataset=digits,birds", "runs=2", *options) == 1
    graph, *options = here[0]
    assert options == [3, 2, "tcp://x"]
    stages = len(Study.STAGES)
    assert len(graph) == 2 * 2 * stages + 3 and len(asked) == 2 * stages + 2, "those that need what failed are not done"
    assert run.ran() == ["00_first", "10_third"], "a notebook without means needs the first run of each data set"
    assert "01_second: FAILED: not run, for it needs what failed: digits, seed 1, network" in run.said.out
    assert "\njob " in run.said.out.split("\n[")[-1]
    assert "- 01_second failed; nothing here is of it." in (run.out / "report.md").read_text()
    assert "- 01_second failed; nothing here is of it." in run.said.out
    asked.clear()
    assert run("--only", "10", "--again") == 0
    assert asked == [("digits", 0, "network"), ("digits", 0, "embeddings"), ("digits", 0, "kmex")]


def test_predictions_by_file_name_for_a_folder_of_ones_own(run, folder, here, tmp_path, monkeypatch):
    import pandas as pd
    monkeypatch.setattr("paperlib.runs.study.Study.computed", lambda *_: True)
    monkeypatch.setattr("paperlib.runs.study.Study.settings", lambda _: {"checkpoint": "x"})
    monkeypatch.setattr("paperlib.runs.study.Study.predictions_table", lambda _: pd.DataFrame({"picture": ["a.png"]}))
    write(folder, "04_table", parameters=STUDY)
    argv = ["--data-root", str(pets(tmp_path / "pets")), "--set", "dataset=folder", "prototypes_per_class=2"]
    assert run(*argv) == 0 and (run.out / "predictions_folder.csv").read_text() == "picture\na.png\n"


def test_what_is_lacking_stops_the_run_before_it_starts(run, folder, here, tmp_path):
    for name in ("00_first", "10_third"):
        write(folder, name, parameters=STUDY)
    root = tmp_path / "empty"
    (root / "CUB_200_2011").mkdir(parents=True)
    assert run("--data-root", str(root), "--set", "dataset=folder,cub200", f"weights={tmp_path / 'w.pth'}") == 1
    assert run.ran() == [] and not run.said.out
    lines = run.said.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines), "each once, whoever wants it"
    assert f"There is no file of weights {tmp_path / 'w.pth'}" in run.said.err and "CUB-200-2011 is not" in run.said.err


# What is refused

REFUSED = {
    "unknown parameter": (["--set", "epoch=3"], "No notebook has a parameter 'epoch'; did you mean epochs?"),
    "parameter left out": (["--only", "00", "--set", "depth=3"], "depth is a parameter of 01_second, which this run"),
    "no equals sign": (["--set", "epochs"], "--set takes NAME=VALUE, not 'epochs'."),
    "profile unknown": (["--profile", "nope"], "There is no profile 'nope'; use one of quick, or the path"),
    "notebook unknown": (["--only", ""], "There is no notebook ''; there are 00_first, 01_second, 10_third."),
    "data root unknown": (["--data-root", "no/such"], "There is no folder no/such; give the one that holds the data"),
    "data set unknown": (["--set", "dataset=cub"], "There is no data set named 'cub'; the known"),
    "runs": (["--set", "runs=0"], "runs is 0; give 1 or more."),
    "many runs": (["--set", "runs=100000"], "runs is 100000; give at most 1000."),
    "epochs": (["--set", "epochs=-1"], "epochs is -1; give 0 or more."),
    "huge": (["--set", f"epochs={'9' * 30}"], "The parameter epochs is 99999"),
    "jobs": (["--jobs", "-1"], "--jobs is -1; give 0 or more."),
    "threads": (["--threads", "0"], "--threads is 0; give 1 or more."),
}


@pytest.mark.parametrize("argv, sentence", REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(run, folder, here, argv, sentence):
    write(folder, "00_first", parameters=STUDY)
    assert run(*argv) == 2 and not here
    assert run.said.err.startswith(f"error: {sentence}") and run.said.err.count("\n") == 1 and run.said.out == ""


def test_out_that_is_a_file_or_cannot_be_made(run, here, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert run("--out", str(out)) == 2
        assert run.said.err.startswith(f"error: There can be no folder {out} (") and run.said.err.count("\n") == 1


def test_figures_go_to_figures_run():
    assert command._folder_for("") == files.REPOSITORY / "figures" / "run"


def test_trouble_is_a_sentence(run, here, monkeypatch):
    for error in (OSError("no\n space"), RuntimeError("no\n space"), ValueError("no\n space")):
        monkeypatch.setattr(jobs, "run", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert run("--again") == 1 and run.said.err == "error: no space\n"


def test_command_line_ends_with_status_2_and_help_is_instant():
    env = {**os.environ, "PAPERLIB_CACHE": "/no/such"}
    done = subprocess.run([sys.executable, "-m", "paperlib", "reproduce", "--help"], capture_output=True, text=True,
                          cwd=files.REPOSITORY, env=env)
    assert done.returncode == 0 and "paper        The paper: its three data sets" in done.stdout
    assert "prototypes_per_class=0" in done.stdout and "parameters of 06_choices:" in done.stdout
    done = subprocess.run([sys.executable, "-m", "paperlib", "reproduce", "--only", ""], capture_output=True, text=True,
                          cwd=files.REPOSITORY)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: There is no notebook '';") and done.stderr.count("\n") == 1


# What is told

def test_table_says_what_ran_and_how_long_the_whole_took():
    results = [Result("00_a", "done", 12.0, "one\ntwo", "9 s in cell [3]"), Result("01_b", "kept", 30.0, "three"),
               Result("02_c", "failed", 5.0, error="cell [2]: KeyError: 1")]
    lines = summary.table(results, [Done("n", "birds, seed 0, network", 70.0)], 14.4, 3 * 2**29).splitlines()
    assert [line.split() for line in lines] == [
        ["job", "seconds"], "birds, seed 0, network 70".split(),
        ["notebook", "seconds", "main", "numbers"], ["00_a", "12", "one"], ["two"], "(9 s in cell [3])".split(),
        ["01_b", "30", "*three"], ["02_c", "5", *"FAILED: cell [2]: KeyError: 1".split()],
        "all 14 at most 1.5 GiB of memory".split(),
        "* finished before with the same text and parameters; --again runs it anew".split()]


def test_lines_between_and_warnings_once(capsys, monkeypatch):
    clock = iter([0.0, 4.0, 11.0, 12.0, 400.0])
    monkeypatch.setattr(summary.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(summary.Teller, "remember_memory", lambda self, elapsed: None)
    teller = summary.Teller(3)
    teller.share(0.001, 1.0)  # too soon to say
    teller.share(0.005, 1.0)
    teller.job(Done("a", "birds, seed 0", 3.2, warnings=("UserWarning: careful",)))
    teller.share(0.2, 10.0)
    teller.job(Done("b", "birds, seed 1", 3.2, warnings=("UserWarning: careful",)))
    teller.share(0.5, 400.0)
    teller.job(Done("c", "birds, seed 2", error="ValueError: no"))
    assert capsys.readouterr().out.splitlines() == [
        "0% done", "[1/3] birds, seed 0: 3 s", "    UserWarning: careful", "[2/3] birds, seed 1: 3 s",
        "50% done, about 7 min left", "[3/3] birds, seed 2: FAILED: ValueError: no"]
    assert [summary.duration(s) for s in (5, 27, 60, 120, 9000)] == [
        "about 10 s", "about 30 s", "about a minute", "about 2 min", "about 2.5 h"]


# The cache

@pytest.fixture
def filled(fresh_cache, monkeypatch):
    """A cache with a result of today's code, one of older code, and half a file; all are ten days old."""
    import torch
    store.kept("kmex", {"n": 1}, lambda: {"x": torch.ones(3)})
    with monkeypatch.context() as patch:
        patch.setattr(store, "code", lambda kind: "older")
        store.kept("kmex", {"n": 2}, lambda: {"x": torch.ones(3)})
    (fresh_cache / ".kmex.1.part").write_text("half")
    for path in fresh_cache.iterdir():
        os.utime(path, (time.time() - 864_000,) * 2)
    return fresh_cache


def test_cache_is_listed_and_pruned(filled, capsys):
    assert main(["cache"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{filled}: ") and len(said) == 3
    assert said[1].split()[:2] == ["kmex", "2"] and said[1].endswith("  1 of no use any more")
    assert main(["cache", "--prune", "--keep-days", "20"]) == 0 and "removed 0 of 3" in capsys.readouterr().out
    assert main(["cache", "--prune"]) == 0 and "removed 2 of 3" in capsys.readouterr().out
    assert json.loads(next(filled.glob("*.json")).read_text())["inputs"] == {"n": 1}
    assert main(["cache", "--prune", "--older", "11"]) == 0 and "removed 0 of 1" in capsys.readouterr().out
    assert main(["cache", "--prune", "--older", "9"]) == 0 and "removed 1 of 1" in capsys.readouterr().out
    assert not list(filled.glob("*.safetensors"))
