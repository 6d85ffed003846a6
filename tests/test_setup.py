"""The set-up files agree with one another, and `make` installs wholly or not at all."""
from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [Requirement(line) for line in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"],
                                         *PROJECT["build-system"]["requires"])]


def pins(name: str) -> list[str]:
    """The versions that the lock gives to `name`: more than one where they depend on the Python."""
    return re.findall(rf"^{canonicalize_name(name)}==([\w.+]+)", LOCK, flags=re.M)


def test_direct_dependencies_are_locked_within_their_bounds():
    for wanted in DIRECT:
        assert pins(wanted.name), f"{wanted.name} is not in requirements.lock: run make lock"
        assert all(wanted.specifier.contains(pin) for pin in pins(wanted.name)), wanted


def test_lock_pins_exactly_by_hash_and_names_no_address_or_path():
    for block in re.split(r"\n(?=\S)", LOCK.strip()):
        head, *hashes = block.split("\n")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*( ; [^/@]+)? \\", head), head
        assert hashes and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), head


def test_torch_and_torchvision_are_a_pair_pinned_in_both():
    exact = {r.name: str(r.specifier) for r in DIRECT if r.name in ("torch", "torchvision")}
    assert exact == {name: f"=={pins(name)[0]}" for name in exact} and len(exact) == 2
    wanted = [Requirement(line) for line in importlib.metadata.requires("torchvision")]
    assert exact["torch"].removeprefix("==") in next(r.specifier for r in wanted if r.name == "torch")


def test_conda_brings_python_and_pip_and_takes_the_rest_from_the_lock():
    python, pip, rest = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    bounds = SpecifierSet(PROJECT["project"]["requires-python"])
    assert SpecifierSet(python.removeprefix("python")) == bounds and pip == "pip"
    # Nothing beside it: pip refuses a line without a hash as soon as one line has one.
    assert rest == {"pip": ["-r requirements.lock"]}
    lowest = re.search(r"sys\.version_info\[:3\] < \((\d+), (\d+), (\d+)\)", (ROOT / "Makefile").read_text())
    assert bounds == SpecifierSet(">=" + ".".join(lowest.groups()))


def test_the_package_holds_every_folder_of_the_module():
    found = find_packages(ROOT, include=PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])
    folders = {path.parent for path in (ROOT / "paperlib").rglob("*.py")}
    assert {ROOT / name.replace(".", "/") for name in found} == folders


def test_git_keeps_what_ships_and_no_run_of_a_reader(tmp_path):
    kept = {"data/README.md", "data/networks/birds-cnn-0.safetensors", "figures/README.md", "figures/real_data.json",
            "figures/bench.json", "figures/bench.md", "figures/figure1_birds.png", "figures/table1_digits.json",
            "notebooks/00_tour.ipynb"}
    ignored = {"data/MNIST/raw/a", "data/cache/x.safetensors", "figures/figure1_cub200.png",
               "figures/table1_mnist.json", "figures/run/figure1_birds.png", "figures/run/README.md"}
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    found = subprocess.run(["git", "check-ignore", "--no-index", *kept, *ignored], cwd=tmp_path, capture_output=True)
    assert set(found.stdout.decode().split()) == ignored


# A false Python stands in for the real one, so that nothing is fetched: it notes what it is asked to do in a log, and
# fails at the step that the file `fail` names.
FALSE_PYTHON = """
case "$*" in *sys.version_info*) echo "$folder/python"; exit;; esac
echo "$@" >> "$folder/log"
test -e "$folder/fail" && case "$*" in *"$(cat "$folder/fail")"*) exit 1;; esac
case "$*" in *"-m venv"*) mkdir -p .venv/bin; for name in python uv; do cp "$0" .venv/bin/$name; done;; esac
"""
WHOLE = ["venv", "uv", "sync", "paperlib"]


@pytest.fixture
def make(tmp_path):
    """make(target) in a clone with a false Python: the steps that it took, its exit status, and the log of both."""
    home, python = tmp_path / "a clone", tmp_path / "python"
    home.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, home)
    python.write_text(f"#!/bin/sh\nfolder='{tmp_path}'\n{FALSE_PYTHON}")
    python.chmod(0o755)
    words = {"-m venv": "venv", "pip install --quiet": "uv", "pip sync": "sync", "--editable": "paperlib"}

    def run(*targets):
        (tmp_path / "log").write_text("")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON", "ARGS"))}
        done = subprocess.run(["make", f"PYTHON={python}", *targets], cwd=home, env=clean, capture_output=True)
        log = (tmp_path / "log").read_text()
        return [name for line in log.splitlines() for part, name in words.items() if part in line], done.returncode, log
    run.home, run.fail = home, tmp_path / "fail"
    return run


def test_make_installs_once_and_again_after_a_change(make):
    assert make("setup")[:2] == (WHOLE, 0)
    assert make("setup")[:2] == ([], 0)
    for name, steps in (("pyproject.toml", ["paperlib"]), ("requirements.lock", WHOLE)):
        with (make.home / name).open("a") as file:
            file.write("# changed\n")
        assert make("setup")[:2] == (steps, 0)


@pytest.mark.parametrize("step", ["-m venv", "pip install --quiet", "pip sync", "--editable"])
def test_an_interrupted_install_leaves_no_stamp(make, step):
    make.fail.write_text(step)
    assert make("setup")[1] != 0
    make.fail.unlink()
    assert make("setup")[:2] == (["paperlib"] if step == "--editable" else WHOLE, 0)


def test_each_command_installs_first_and_passes_its_arguments_on(make):
    make("setup")
    for target, last in {"reproduce": "-m paperlib reproduce --flag", "lab": "notebooks --flag",
                         "test": "--no-loadscope-reorder --flag"}.items():
        assert make(target, "ARGS=--flag")[2].splitlines()[-1].endswith(last)
    steps = make("notebooks", "ARGS=notebooks/02_a.ipynb")[2].splitlines()
    for name in ("notebooks/00_a.py", "notebooks/beyond/06_b.py"):
        (make.home / name).parent.mkdir(exist_ok=True)
        (make.home / name).write_text("")
    assert all(line.endswith(f"notebooks/00_a.{end} notebooks/beyond/06_b.{end}")
               for line, end in zip(make("notebooks")[2].splitlines(), ("py", "ipynb"), strict=False))
    assert steps[-2].endswith("notebooks/02_a.ipynb") and "write_tables" in steps[-1]
    shutil.rmtree(make.home / ".venv")
    assert make("reproduce")[0] == WHOLE
