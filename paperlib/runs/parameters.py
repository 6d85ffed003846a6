"""The notebooks' parameters: which there are, what may be given, and what each notebook is told.

Light to import: `--help` lists them all.
"""
from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from paperlib.runs.profiles import NOTEBOOKS

# Parameters that all notebooks have; any other is the notebook's own.
COMMON = ("profile", "dataset", "data_root", "settings", "out")
PATHS = ("data_root", "backbone", "weights")  # settings that may name a file or a folder
MOST = 2**31


class UsageError(ValueError):
    """The command cannot be run as it was typed; the sentence says why."""


def select(only: Collection[str] = (), folder: Path = NOTEBOOKS, beyond: bool = True) -> dict[str, Path]:
    """The .py of each notebook to run, by name, in order: the paper's lie in `folder`, the others in its beyond/.

    only: numbers, with their zero or without, or beginnings of names, wherever they lie; none of them for all, or for
    the paper's alone where `beyond` is False. Raises UsageError.
    """
    paths = {path.stem: path for where in (folder, folder / "beyond") for path in sorted(where.glob("[0-9][0-9]_*.py"))}
    wanted = [f"{word:0>2}_" if word.isdigit() else word for word in only]
    for word, start in zip(only, wanted, strict=True):
        if not word or not any(name.startswith(start) for name in paths):
            raise UsageError(f"There is no notebook {word!r}; there are {', '.join(paths)}.")
    if not wanted:
        return {name: path for name, path in paths.items() if beyond or path.parent == folder}
    return {name: path for name, path in paths.items() if any(name.startswith(start) for start in wanted)}


def parameters_cell(text: str) -> str:
    """The source of the cell tagged `parameters` in a notebook's .py; "" if it has none."""
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)
    found = [cell.split("\n", 1)[1].strip() for cell in cells if '"parameters"' in cell.split("\n", 1)[0]]
    return found[0] if found else ""


def declared(text: str) -> dict[str, object]:
    """The parameters of a notebook's .py and their defaults: the annotated names of its cell tagged `parameters`."""
    return annotated(ast.parse(parameters_cell(text)).body)


def annotated(statements: list[ast.stmt]) -> dict[str, object]:
    """The names that `name: type = value` statements declare, and their values."""
    return {node.target.id: ast.literal_eval(node.value) for node in statements
            if isinstance(node, ast.AnnAssign) and node.value is not None}


def settings() -> dict[str, object]:
    """The settings of a study, which every notebook takes, and `runs`, by name with their defaults; imports nothing."""
    tree = ast.parse((Path(__file__).parent / "settings.py").read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return {**annotated(body), "runs": 1}


def pairs(items: Collection[str]) -> dict[str, str]:
    """["name=value", ...] of --set as a dictionary. Raises UsageError."""
    for item in items:
        if not item.partition("=")[0] or "=" not in item:
            raise UsageError(f"--set takes NAME=VALUE, not {item!r}.")
    return dict(item.split("=", 1) for item in items)


def check_folder(root: str) -> str:
    """The folder given as --data-root. Raises UsageError where there is none."""
    if not Path(root).expanduser().is_dir():
        raise UsageError(f"There is no folder {root}; give the one that holds the data as --data-root.")
    return root


def typed(name: str, value: object, default: object) -> object:
    """`value` as the type of the parameter's default; a text, as `--set` gives it, is read. Raises UsageError."""
    kind = type(default)
    if kind is list:
        return _typed_list(name, value, default)
    try:
        if isinstance(value, str) and kind is not str:
            value = float(value) if kind is float else yaml.safe_load(value)  # to YAML, 1e-3 is a text
        if kind is float and type(value) is int:
            value = float(value)
    except (yaml.YAMLError, ValueError, OverflowError):
        pass
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        from paperlib.runs.settings import article
        raise UsageError(f"The parameter {name} is {_short(value)}; give {article(kind)}, such as {default!r}.")
    if kind is int and abs(value) > MOST:
        raise UsageError(f"The parameter {name} is {_short(value)}; give a number between -{MOST:,} and {MOST:,}.")
    return value


def _typed_list(name, value, default):
    """A list whose elements have the type of the default's first; from --set: with commas between."""
    items = value.strip("[] ").split(",") if isinstance(value, str) else value
    try:
        return [typed(name, item.strip() if isinstance(item, str) else item, default[0]) for item in items]
    except (UsageError, TypeError):
        example = ",".join(map(str, default))
        raise UsageError(f"The parameter {name} is {_short(value)}; give a list such as {example}.") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def choose(given: Mapping[str, object], profile: str = "quick", only: Collection[str] = (),
           folder: Path = NOTEBOOKS, beyond: bool = True) -> dict[str, dict]:
    """The parameters to give to each notebook that `select` finds for `only` and `beyond`, typed and checked.

    given: what replaces the profile's, as --set has it. A name that a notebook declares goes there, one that is a
    study's setting into the notebook's `settings`. Raises UsageError, or ValueError for a profile that is wrong.
    """
    from paperlib.runs import profiles

    values, known = profiles.read(profile, folder / "profiles"), settings()
    takes = {name: declared(path.read_text()) for name, path in select((), folder).items()}
    chosen = select(only, folder, beyond)
    for name in values:
        _refuse_unknown(name, known, takes, takes)
    for name in given:
        _refuse_unknown(name, known, takes, chosen)
    values = {name: typed(name, value, known[name]) if name in known else value for name, value in values.items()}
    common = {name: _absolute(name, typed(name, value, known[name])) for name, value in given.items() if name in known}
    # Notebooks read the profile themselves, in their own folder: they are told where a path in it leads.
    paths = {name: _absolute(name, values[name]) for name in PATHS if name in values and name not in given}
    common |= {name: path for name, path in paths.items() if path != values[name]}
    if folder != NOTEBOOKS or profile not in profiles.names():
        path = Path(profile) if profile.endswith((".yaml", ".yml")) else folder / "profiles" / f"{profile}.yaml"
        profile = str(path.resolve())
    extra = {**{name: value for name, value in values.items() if name not in known}, **given}
    if "dataset" in given and all(takes[name].get("dataset") for name in chosen):
        raise UsageError(f"{', '.join(chosen)} has its own data sets, {takes[min(chosen)]['dataset']}.")
    return {name: _share(takes[name], profile, common, extra) for name in chosen}


def _share(takes: Mapping, profile: str, common: Mapping, extra: Mapping) -> dict:
    """One notebook's parameters. takes: those that it declares."""
    own = {name: typed(name, extra[name], default) for name, default in takes.items()
           if name in extra and name not in COMMON}
    found = {"profile": profile, **{name: common[name] for name in ("dataset", "data_root") if name in common},
             "settings": {name: value for name, value in common.items() if name not in ("dataset", "data_root", *own)}}
    if takes.get("dataset"):
        found.pop("dataset", None)  # it has data sets of its own
    return {**{name: value for name, value in found.items() if name in takes and value != {}}, **own}


def _refuse_unknown(name: str, known: Collection, takes: Mapping[str, Collection], chosen: Collection) -> None:
    """Raise UsageError for a name that is no setting and no parameter of a chosen notebook."""
    having = [notebook for notebook, parameters in takes.items() if name in parameters]
    if name in known or (name not in COMMON and any(notebook in chosen for notebook in having)):
        return
    if name in COMMON:
        raise UsageError(f"{name} is not for --set: settings are given one by one, and there are --profile and --out.")
    if having:
        raise UsageError(f"{name} is a parameter of {', '.join(having)}, which this run leaves out; --only names the "
                         f"notebooks to run, --all takes every one.")
    everyone = sorted({*known, *(parameter for parameters in takes.values() for parameter in parameters)} - {*COMMON})
    near = difflib.get_close_matches(str(name), everyone, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(everyone)}."
    raise UsageError(f"No notebook has a parameter {name!r}; {hint}")


def _absolute(name: str, value: object) -> object:
    """Notebooks run in their own folder, so a path that was typed in another one is made whole first."""
    if name not in PATHS or not value:
        return value
    path, colon, function = value.partition(":") if name == "backbone" else (value, "", "")
    path = Path(path).expanduser()
    return f"{path.resolve()}{colon}{function}" if path.exists() and (colon or name != "backbone") else value
