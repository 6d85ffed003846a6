"""Parameters: declared in notebooks, given by a profile and by hand, refused in one sentence where they are wrong."""
from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from paperlib.runs import parameters
from paperlib.runs.parameters import UsageError, choose

COMMON = '''# %% tags=["parameters"]
profile: str = "quick"    # a profile
dataset: str = ""
data_root: str = ""
settings: dict = {}
out: str = ""
'''
OWN = '''rate: float = 0.5
fast: bool = False
ks: list = [1, 3]    # several
penalties: list = [0.0, 1e-4]
'''


@pytest.fixture
def folder(tmp_path):
    """Three notebooks and two profiles."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "quick.yaml").write_text("epochs: 1  # one\nn_init: 1\ndataset: digits,birds\n")
    (tmp_path / "profiles" / "slow.yaml").write_text("epochs: 9\nrate: 1\nks: [2]\nruns: 5\n")
    (tmp_path / "00_first.py").write_text(f"# ---\n# ---\n\n{COMMON}{OWN}\n# %%\nother: int = 3\n")
    (tmp_path / "01_second.py").write_text(COMMON)
    (tmp_path / "10_third.py").write_text(COMMON.replace('dataset: str = ""', 'dataset: str = "shortcut"') +
                                          "depth: int = 2\n")
    (tmp_path / "notes.py").write_text("# no notebook\n")
    return tmp_path


def test_declared_are_those_of_the_tagged_cell(folder):
    assert parameters.declared(parameters.select(["00"], folder)["00_first"].read_text()) == {
        "profile": "quick", "dataset": "", "data_root": "", "settings": {}, "out": "", "rate": 0.5, "fast": False,
        "ks": [1, 3], "penalties": [0.0, 1e-4]}
    assert parameters.declared("# %%\nepochs: int = 3\n") == {}


def test_settings_are_those_of_a_study():
    from paperlib.runs.study import Study
    assert parameters.settings() == {**{field.name: field.default for field in fields(Study)}, "runs": 1}


def test_the_command_itself_imports_no_torch():
    code = ("import sys, paperlib.runs.command as c; c.parser().format_help(); import paperlib.runs.jobs as jobs; "
            "c._shares(c.parser().parse_args(['reproduce', '--set', 'epochs=3']), c.NOTEBOOKS); jobs.cache_folder(); "
            "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("only, expected", [
    ([], "00 01 10"), (["10", "00_fi"], "00 10"), (["1"], "01"), (["0", "10"], "00 10"), (["01"], "01")])
def test_only_takes_numbers_or_beginnings_and_keeps_the_order(folder, only, expected):
    assert [name[:2] for name in parameters.select(only, folder)] == expected.split()


def test_what_is_declared_goes_there_and_the_rest_into_settings(folder):
    found = choose({"epochs": "4", "rate": "2", "dataset": "digits", "runs": "2", "ks": "7,8"}, "slow", (), folder)
    slow, settings = str(folder / "profiles" / "slow.yaml"), {"epochs": 4, "runs": 2}
    assert found == {
        "00_first": {"profile": slow, "dataset": "digits", "settings": settings, "rate": 2.0, "ks": [7, 8]},
        "01_second": {"profile": slow, "dataset": "digits", "settings": settings},
        "10_third": {"profile": slow, "settings": settings}}, "10 has a data set of its own"
    assert choose({}, "slow", ["00"], folder) == {"00_first": {"profile": slow, "rate": 1.0, "ks": [2]}}


def test_profile_of_the_repository_is_given_by_name():
    assert choose({}, "quick", ["05"]) == {"05_figure1_interpretation": {"profile": "quick"}}


@pytest.mark.parametrize("profile", [path.stem for path in (parameters.NOTEBOOKS / "profiles").glob("*.yaml")])
def test_each_profile_names_what_there_is(profile):
    assert choose({}, profile)


def test_profile_may_name_what_only_other_notebooks_have(folder):
    assert choose({}, "slow", ["01"], folder)


def test_paths_typed_here_are_whole_in_the_notebook(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "nets.py").write_text("")
    (tmp_path / "mine.yaml").write_text("weights: nets.py\n")
    found = choose({"data_root": "sets", "backbone": "nets.py:net"}, "mine.yaml", ["01"], folder)["01_second"]
    assert found == {"profile": str(tmp_path / "mine.yaml"), "data_root": str(tmp_path / "sets"),
                     "settings": {"backbone": f"{tmp_path / 'nets.py'}:net", "weights": str(tmp_path / "nets.py")}}
    assert choose({"backbone": "resnet34"}, "quick", ["01"], folder)["01_second"]["settings"] == {
        "backbone": "resnet34"}


REFUSED = {
    "unknown": ({"epoch": "3"}, [], "No notebook has a parameter 'epoch'; did you mean epochs?"),
    "unlike any": ({"zzz": "3"}, [], "No notebook has a parameter 'zzz'; there are allow_subset, backbone, "),
    "left out": ({"rate": "3"}, ["01", "10"], "rate is a parameter of 00_first, which this run leaves out"),
    "common": ({"settings": "{}"}, [], "settings is not for --set: settings are given one by one"),
    "data sets of its own": ({"dataset": "digits"}, ["10"], "10_third has its own data sets, shortcut."),
    "text for an int": ({"epochs": "many"}, [], "The parameter epochs is 'many'; give a whole number, such as 0."),
    "float for an int": ({"epochs": "2.5"}, [], "The parameter epochs is 2.5; give a whole number, such as 0."),
    "bool for an int": ({"epochs": "true"}, [], "The parameter epochs is True; give a whole number, such as 0."),
    "nothing for an int": ({"epochs": ""}, [], "The parameter epochs is None; give a whole number, such as 0."),
    "huge": ({"epochs": "9" * 100}, [], "The parameter epochs is 9999999"),
    "too many digits": ({"seed": "9" * 5000}, [], "The parameter seed is '999999999"),
    "text for a float": ({"rate": "fast"}, [], "The parameter rate is 'fast'; give a number, such as 0.5."),
    "no number": ({"rate": "nan"}, [], "The parameter rate is nan; give a number, such as 0.5."),
    "number for a bool": ({"fast": "1"}, [], "The parameter fast is 1; give true or false, such as False."),
    "texts for a list": ({"ks": "a,b"}, [], "The parameter ks is 'a,b'; give a list such as 1,3."),
    "floats for a list": ({"ks": "1,2.5"}, [], "The parameter ks is '1,2.5'; give a list such as 1,3."),
    "nothing for a list": ({"ks": ""}, [], "The parameter ks is ''; give a list such as 1,3."),
    "notebook unknown": ({}, ["07"], "There is no notebook '07'; there are 00_first, 01_second, 10_third."),
    "no notebook": ({}, [""], "There is no notebook ''; there are 00_first, 01_second, 10_third."),
}


@pytest.mark.parametrize("given, only, sentence", REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence(folder, given, only, sentence):
    with pytest.raises(UsageError) as caught:
        choose(given, "quick", only, folder)
    assert str(caught.value).startswith(sentence) and len(str(caught.value)) < 400


PROFILES = {
    "not YAML": (b"epochs: [1, 2\nrate: }", "is not YAML: "),
    "no text": (b"\xff\xfe\x00epochs", "is not YAML: "),
    "a list": (b"- epochs\n- rate\n", "is not a list of `name: value` lines."),
    "unknown parameter": (b"epcohs: 3\n", "No notebook has a parameter 'epcohs'; did you mean epochs?"),
    "a number as name": (b"3: 3\n", "No notebook has a parameter 3; there are "),
    "number for a text": (b"backbone: 18\n", "The parameter backbone is 18; give a text, such as 'resnet18'."),
    "nothing for an int": (b"epochs:\n", "The parameter epochs is None; give a whole number"),
    "list for an int": (b"epochs: [1]\n", "The parameter epochs is [1]; give a whole number"),
    "number for a list": (b"ks: 3\n", "The parameter ks is 3; give a list such as 1,3."),
}


@pytest.mark.parametrize("content, sentence", PROFILES.values(), ids=PROFILES)
def test_profile_that_is_wrong(folder, content, sentence):
    (folder / "profiles" / "bad.yaml").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        choose({}, "bad", (), folder)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("value, default, expected", [
    ("3", 1, 3), (3, 1, 3), ("-3", 1, -3), ("2", 0.5, 2.0), (2, 0.5, 2.0), ("1e-3", 0.5, 0.001), (0.1, 0.5, 0.1),
    ("true", False, True), ("False", True, False), (True, False, True), ("18", "resnet18", "18"), ("", "digits", ""),
    ("a=b", "", "a=b"), ("no", "", "no"), ("1, 2", [3], [1, 2]), ("[1,2]", [3], [1, 2]), ([1, 2], [0.5], [1.0, 2.0]),
    ("0,1e-3", [0.0], [0.0, 0.001]), ("a,b", ["c"], ["a", "b"])])
def test_typed(value, default, expected):
    found = parameters.typed("x", value, default)
    assert found == expected and type(found) is type(default)


def test_value_may_hold_an_equals_sign():
    assert parameters.pairs(["backbone=a=b.py:net", "epochs=3"]) == {"backbone": "a=b.py:net", "epochs": "3"}
    for wrong in ("epochs", "=3"):
        with pytest.raises(UsageError, match=f"--set takes NAME=VALUE, not '{wrong}'."):
            parameters.pairs([wrong])


def test_notebooks_lie_beside_the_package():
    assert (parameters.NOTEBOOKS / "00_tour.py").is_file() and Path(parameters.NOTEBOOKS, "profiles").is_dir()
