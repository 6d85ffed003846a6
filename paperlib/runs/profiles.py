"""Profiles: named settings, a YAML file each, in notebooks/profiles. Light to import, as `parameters`."""
from __future__ import annotations

from pathlib import Path

import yaml

import paperlib

NOTEBOOKS = Path(paperlib.__file__).resolve().parents[1] / "notebooks"
PROFILES = NOTEBOOKS / "profiles"


def read(name: str, folder: Path = PROFILES) -> dict:
    """The settings of a profile, by name or by the path of a YAML file. Raises ValueError, in one sentence."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"There is no profile {name!r}; use one of {', '.join(names(folder))}, or the path of a YAML "
                         f"file.")
    try:
        settings = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a list of `name: value` lines.")
    return settings


def names(folder: Path = PROFILES) -> list[str]:
    """The profiles that there are, by name."""
    return sorted(path.stem for path in folder.glob("*.yaml"))
