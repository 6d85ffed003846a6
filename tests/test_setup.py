"""The set-up files agree with one another, and `make` installs wholly or not at all."""
from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from jupytext.cli import jupytext
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from torchvision.ops import nms

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"],
                                         *PROJECT["build-system"]["requires"])]
PUBLIC = ("help", "setup", "reproduce", "test", "lab", "notebooks", "pairs", "lock", "clean")


def locked() -> list[Requirement]:
    """Each requirement of the lock, its hashes cut off."""
    return [Requirement(line.removesuffix("\\")) for line in LOCK.splitlines() if not line.startswith((" ", "#"))]


def pins(name: str) -> list[str]:
    """The versions the lock gives to `name`: more than one where they depend on the Python."""
    return [str(r.specifier).removeprefix("==") for r in locked() if r.name == canonicalize_name(name)]


# The lock

@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_direct_dependency_is_locked_within_its_bounds(requirement):
    assert pins(requirement.name), f"{requirement.name} is not in requirements.lock: run make lock"
    assert all(requirement.specifier.contains(pin) for pin in pins(requirement.name))


def test_lock_pins_exactly_and_by_hash():
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        head, *hashes = block.split("\n")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*( ; .+)? \\", head), head
        assert hashes and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), head


@pytest.mark.parametrize("word", ["http:", "https:", "file:", "index-url", "find-links", "-e ", " @ ", "/", "#"])
def test_lock_names_no_address_and_no_path(word):
    assert word not in LOCK


def test_torch_and_torchvision_are_a_pair_pinned_in_both():
    exact = {r.name: str(r.specifier) for r in DIRECT if r.name in ("torch", "torchvision")}
    for name, specifier in exact.items():
        assert [specifier] == [f"=={pin}" for pin in pins(name)]
        assert Version(importlib.metadata.version(name)) in SpecifierSet(specifier)
    wanted = [Requirement(line) for line in importlib.metadata.requires("torchvision")]
    wanted = {r.name: r.specifier for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})}
    assert exact["torch"].removeprefix("==") in wanted["torch"]


def test_torchvision_runs_its_compiled_part_on_this_torch():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9], [2.0, 2.0, 3.0, 3.0]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


# environment.yml

def conda() -> list:
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_conda_brings_python_and_pip_and_nothing_else():
    names = [re.split(r"[<>=]", line)[0] for line in conda() if isinstance(line, str)]
    assert names == ["python", "pip"]


def test_conda_and_make_want_the_python_of_pyproject():
    python, = (line for line in conda() if str(line).startswith("python"))
    bounds = PROJECT["project"]["requires-python"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(bounds)
    lowest = re.search(r"sys\.version_info\[:2\] < \((\d+), (\d+)\)", (ROOT / "Makefile").read_text())
    assert SpecifierSet(bounds) == SpecifierSet(">=" + ".".join(lowest.groups()))


def test_conda_takes_everything_else_from_the_lock():
    # Nothing beside it: pip refuses a line without a hash as soon as one line has one.
    assert [line["pip"] for line in conda() if isinstance(line, dict)] == [["-r requirements.lock"]]


# What git keeps, citation, continuous integration

@pytest.fixture
def repository(tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


@pytest.mark.parametrize("path, kept", [
    ("data/README.md", True), ("data/MNIST/raw/train-images-idx3-ubyte", False), ("data/cache/x.safetensors", False),
    ("figures/figure1_birds.png", True), ("figures/figure1_birds.json", True), ("figures/table1_digits.json", True),
    ("figures/figure2_digits.png", True), ("figures/figure2_mnist.png", False),
    ("figures/table1_mnist.json", False), ("figures/figure1_cub200.png", False),
    ("figures/figure1_birds.pdf", False), ("figures/executed/00_tour_birds.png", False),
    (".venv/bin/python", False), ("notebooks/.ipynb_checkpoints/a.ipynb", False), ("notebooks/00_tour.ipynb", True),
    ("paperlib/__pycache__/a.pyc", False), ("paperlib.egg-info/PKG-INFO", False), ("requirements.lock", True)])
def test_git_keeps(repository, path, kept):
    status = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=repository).returncode
    assert status == (1 if kept else 0)


def test_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert [a["family-names"] for a in paper["authors"]] == ["Boubekki", "Clemmensen"]
    assert paper["identifiers"][0]["value"] == "arXiv:2603.28466"


def test_workflow_runs_the_two_commands_and_pins_actions():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["test"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands.index("make test") < commands.index("make reproduce")
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert "secrets" not in text


def test_ci_run_is_executable_and_calls_make_test():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()


# make. A false Python stands in for the real one, so that nothing is fetched: it notes what it is asked to do in a log,
# and fails at the step that the file `fail` names.

FALSE_PYTHON = """#!{python}
import os, pathlib, sys
log, fail = pathlib.Path("{folder}/log"), pathlib.Path("{folder}/fail")
step = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
if "-c" in sys.argv:
    sys.argv = sys.argv[1:]
    sys.executable = sys._base_executable = "{folder}/python"
    exec(sys.argv[1])
    raise SystemExit
with log.open("a") as file:
    print(step, file=file)
if fail.exists() and fail.read_text() in step:
    raise SystemExit("cut short")
if "venv" in sys.argv:
    home = pathlib.Path(".venv/bin")
    home.mkdir(parents=True)
    for name in ("python", "uv"):
        (home / name).write_text(pathlib.Path("{folder}/python").read_text())
        (home / name).chmod(0o755)
"""


class Made:
    """A folder with the set-up files and a false Python beside it, both under a name with a space."""

    def __init__(self, folder: Path):
        self.folder, self.home = folder / "a place", folder / "a place" / "clone"
        self.home.mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.home)
        python = self.folder / "python"
        python.write_text(FALSE_PYTHON.format(python=sys.executable, folder=self.folder))
        python.chmod(0o755)

    def make(self, *words: str, python: str = "") -> subprocess.CompletedProcess:
        (self.folder / "log").unlink(missing_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON", "ARGS"))}
        return subprocess.run(["make", f"PYTHON={python or self.folder / 'python'}", *words], cwd=self.home,
                              env=environment, capture_output=True, text=True)

    def steps(self) -> list[str]:
        """What the last `make` did, by the words that matter."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        words = {"-m venv": "venv", "pip install --quiet": "uv", "uv pip sync": "sync", "--editable": "paperlib"}
        return [name for line in lines for part, name in words.items() if part in line]

    def fail_at(self, step: str) -> None:
        (self.folder / "fail").write_text(step)

    def recover(self) -> None:
        (self.folder / "fail").unlink()


WHOLE = ["venv", "uv", "sync", "paperlib"]


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def test_make_setup_installs_once(made):
    assert made.make("setup").returncode == 0
    assert made.steps() == WHOLE
    assert made.make("setup").returncode == 0
    assert made.steps() == []


def test_pip_fetches_uv_alone_by_its_hashes(made):
    made.make("setup")
    text = (made.home / ".venv" / "uv.txt").read_text()
    assert text.startswith("uv==") and text.count("==") == 1
    assert text in LOCK and text.count("--hash=sha256:") == len(text.splitlines()) - 1
    assert not text.rstrip().endswith("\\")


@pytest.mark.parametrize("step", ["-m venv", "pip install --quiet", "uv pip sync", "--editable"])
def test_an_install_cut_short_is_made_again(made, step):
    made.fail_at(step)
    assert made.make("setup").returncode != 0
    made.recover()
    assert made.make("setup").returncode == 0
    assert made.steps() == (["paperlib"] if step == "--editable" else WHOLE)


def test_an_old_whole_install_does_not_vouch_for_a_new_one_cut_short(made):
    made.make("setup")
    lock = made.home / "requirements.lock"
    old = lock.read_text()
    lock.write_text(old + "# changed\n")
    made.fail_at("uv pip sync")
    assert made.make("setup").returncode != 0
    made.recover()
    lock.write_text(old)
    made.make("setup")
    assert made.steps() == WHOLE


def test_a_changed_lock_is_installed_afresh(made):
    made.make("setup")
    (made.home / ".venv" / "left-over").touch()
    with (made.home / "requirements.lock").open("a") as file:
        file.write("# changed\n")
    made.make("setup")
    assert made.steps() == WHOLE
    assert not (made.home / ".venv" / "left-over").exists()


def test_a_changed_pyproject_and_a_moved_folder_install_paperlib_alone(made):
    made.make("setup")
    with (made.home / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    made.make("setup")
    assert made.steps() == ["paperlib"]
    made.home = made.home.rename(made.folder / "elsewhere")
    made.make("setup")
    assert made.steps() == ["paperlib"]


def test_new_dates_on_old_files_install_nothing(made):
    made.make("setup")
    for name in ("pyproject.toml", "requirements.lock", "Makefile"):
        os.utime(made.home / name)
    made.make("setup")
    assert made.steps() == []


def test_a_venv_whose_python_has_gone_is_made_again(made):
    made.make("setup")
    (made.home / ".venv" / "bin" / "python").unlink()
    made.make("setup")
    assert made.steps() == WHOLE


@pytest.mark.parametrize("target", ["reproduce", "test", "lab", "pairs"])
def test_each_command_alone_installs_first(made, target):
    subprocess.run(["git", "init", "-q", made.home], check=True)
    assert made.make(target, "ARGS=--flag").returncode == 0
    assert made.steps() == WHOLE
    last = (made.folder / "log").read_text().splitlines()[-1]
    wanted = {"reproduce": "paperlib reproduce --flag", "test": "--dist loadgroup --no-loadscope-reorder --flag",
              "lab": "notebooks --flag", "pairs": "--to ipynb --update"}
    assert wanted[target] in last


def test_make_refuses_an_old_python_in_one_sentence(made):
    python = made.folder / "python"
    python.write_text(python.read_text().replace("    exec(", "    sys.version_info = (3, 10, 1)\n    exec("))
    done = made.make("test")
    assert done.returncode != 0 and made.steps() == []
    assert re.match(r"Python 3\.11 or newer is needed and .+ is 3\.10; name another.*\nmake", done.stderr)


def test_make_refuses_a_missing_python_in_one_sentence(made):
    done = made.make("setup", python="no-such-python")
    assert done.returncode != 0
    assert re.match(r"There is no no-such-python here; install Python 3\.11 or newer.*\nmake", done.stderr)


def test_make_help_is_the_default_and_lists_every_target(made):
    done = made.make()
    assert done.stdout == made.make("help").stdout
    assert tuple(re.findall(r"^  (\w+) +\S", done.stdout, flags=re.M)) == PUBLIC
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.M).group(1)
    assert set(phony.split()) == set(PUBLIC)


@pytest.mark.parametrize("target", PUBLIC)
def test_make_knows_each_target(made, target):
    assert made.make("--dry-run", target).returncode == 0


# Pairs

NOTEBOOK = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A title

# %% tags=["parameters"]
dataset: str = "digits"

# %%
print(dataset)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with this project's pairing settings."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pair_keeps_its_outputs_and_both_files_their_bytes(folder):
    (folder / "notebooks").mkdir()
    script, notebook = folder / "notebooks" / "a.py", folder / "notebooks" / "a.ipynb"
    script.write_text(NOTEBOOK)
    jupytext(["--quiet", "--to", "ipynb", str(script)])
    content = json.loads(notebook.read_text())
    output = {"name": "stdout", "output_type": "stream", "text": ["digits\n"]}
    content["cells"][2].update(execution_count=2, outputs=[output])
    content["metadata"]["language_info"] = {"name": "python", "version": "3.11.7"}
    notebook.write_text(json.dumps(content, indent=1) + "\n")
    executed = notebook.read_bytes()

    jupytext(["--quiet", "--to", "ipynb", "--update", str(script)])
    assert notebook.read_bytes() == executed
    jupytext(["--quiet", "--to", "py:percent", str(notebook)])
    assert script.read_text() == NOTEBOOK

    script.write_text(NOTEBOOK.replace("A title", "Another title"))
    jupytext(["--quiet", "--to", "ipynb", "--update", str(script)])
    changed = json.loads(notebook.read_text())
    assert changed["cells"][0]["source"] == ["# Another title"]
    assert changed["cells"][2] == content["cells"][2]


@pytest.mark.parametrize("path, paired", [("notebooks/a.py", True), ("paperlib/a.py", False)])
def test_only_notebooks_are_paired(folder, path, paired, capsys):
    (folder / path).parent.mkdir()
    (folder / path).write_text(NOTEBOOK)
    jupytext(["--paired-paths", path])
    assert capsys.readouterr().out.split() == ([str(Path(path).with_suffix(".ipynb"))] if paired else [])
