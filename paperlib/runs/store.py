"""The one cache: a result is kept under a key that holds all it depends on, the code that computes it included.

Results are tensors (safetensors) with a JSON manifest; nothing is unpickled. A key holds the kind of result, its
inputs, the versions of the libraries, and a digest of the source of the modules that compute this kind (`MADE_BY`), of
all that these import from paperlib, and of CALLERS, which call them. So no result outlives its code.
"""
from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

import paperlib
from paperlib.datasets import files, resized
from paperlib.guards import as_array

PACKAGE = Path(paperlib.__file__).parent
# What pictures pass through on their way to any result that a network has a part in.
SEEN = ("backbone", "datasets.load")
# What calls them, for a study; these two files are in every key.
CALLERS = ("runs.results", "runs.explanations")
# The modules that compute each kind. A test traces each kind and fails where it runs a module that its key lacks.
MADE_BY = {
    "drawn": ("datasets.load",),
    "checkpoint": ("networks.training", "networks.architectures", *SEEN),
    "protopnet": ("networks.protopnet", "networks.training", "networks.architectures", *SEEN),
    "softcam": ("networks.softcam", "networks.training", *SEEN),
    "embeddings": SEEN,
    "patch-embeddings": ("networks.protopnet", *SEEN),
    "accuracy": ("networks.training", "networks.softcam", "measures", *SEEN),
    "kmex": ("kmex", *SEEN),  # it computes the embeddings that it is fitted on
    "explainer": ("concepts", *SEEN),
    "shard": ("concepts", *SEEN),
    "evaluation": ("concepts", *SEEN),
    "comparison": ("concepts", *SEEN),
    "contest": ("comparison.contest", *SEEN),
    "projection": ("figures.paper", *SEEN),
    "stage": ("runs.stages", *CALLERS),
    "share": ("runs.shares", *CALLERS),
}


class Kept(NamedTuple):
    """A result: its tensors by name, and the manifest that says what made them."""

    tensors: files.Tensors
    manifest: dict


def folder() -> Path:
    """The cache's folder: data/cache of this repository, or the one that the variable PAPERLIB_CACHE names."""
    return Path(os.environ.get("PAPERLIB_CACHE") or files.REPOSITORY / "data" / "cache")


def code(kind: str) -> str:
    """First 16 hex digits of the SHA-256 of the sources, with their tables, that results of this kind depend on.

    Raises KeyError for a kind that MADE_BY does not name.
    """
    names = {*CALLERS, *(name for start in MADE_BY[kind] for name in reached(start))}
    return hashlib.sha256(b"\0".join(source(name) + _tables(name) for name in sorted(names))).hexdigest()[:16]


def reached(start: str) -> set[str]:
    """The modules of paperlib that `start` imports, directly or through others, and itself: {"concepts", ...}."""
    found, left = set(), [start]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _imported(name, source(name))
    return found


def source(name: str) -> bytes:
    """The source of a module of paperlib ("concepts") or, of a package, of its __init__ ("datasets.birds")."""
    path = PACKAGE.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_bytes()


def _tables(name: str) -> bytes:
    """What a package reads from its folder: of "datasets.birds" the species, colours and shapes."""
    there = PACKAGE.joinpath(*name.split(".")).glob("*")
    return b"\0".join(path.read_bytes() for path in sorted(there) if path.suffix in (".csv", ".txt"))


@lru_cache(maxsize=256)
def _imported(name: str, text: bytes) -> tuple[str, ...]:
    """Names of paperlib's modules that this source imports, wherever in it the statement stands."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paperlib":
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("paperlib.")]
    names = (full.partition(".")[2] for full in found)
    return tuple(name for name in names if name and _is_module(name))


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def plain(value):
    """`value` as JSON holds it, equal only for what is equal, so that it can stand in the key of a cache.

    Arrays and tensors become the SHA-256 of their bytes, estimators their class and parameters. Raises TypeError for
    what has no such form, as a function.
    """
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, tuple | list):
        return [plain(x) for x in value]
    if isinstance(value, Mapping):
        return {str(name): plain(x) for name, x in sorted(value.items())}
    if isinstance(value, np.random.RandomState):
        return plain(value.get_state())
    if hasattr(value, "get_params"):
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **plain(value.get_params(deep=False))}
    x = np.asarray(as_array(value))
    if x.dtype.hasobject:
        raise TypeError(f"{value!r} cannot stand in the key of a cache: give numbers, texts or arrays.")
    content = {"sha256": hashlib.sha256(x.tobytes()).hexdigest(), "shape": list(x.shape), "type": str(x.dtype)}
    return content if x.ndim else x.item()


def address(kind: str, inputs: Mapping) -> Path:
    """The file of a result: readable words, then twelve digits that tell any two keys apart.

    Raises TypeError for inputs that are not plain values: a shortened text of an array would not tell two apart.
    """
    text = json.dumps([kind, inputs, code(kind), libraries()], sort_keys=True)
    words = "-".join(str(inputs[key]) for key in ("dataset", "backbone") if key in inputs)
    readable = re.sub(r"[^\w.-]+", "_", f"{kind}-{words}")[-60:].strip("-_")
    return folder() / f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors"


def libraries() -> dict[str, str]:
    """Versions of this package and of the libraries that results depend on."""
    return {name: version for name, version in files.versions().items() if name not in ("python", "umap-learn")}


def half_done(kind: str, inputs: Mapping) -> Path:
    """Where the work towards a result may keep its state; what lies there goes once the result is kept."""
    path = address(kind, inputs)
    return path.with_name(f"{path.stem}-unfinished.safetensors")


def has(kind: str, inputs: Mapping) -> bool:
    """True if the result is kept; it is not read."""
    path = address(kind, inputs)
    return path.is_file() and path.with_suffix(".json").is_file()


def kept(kind: str, inputs: Mapping, compute: Callable) -> Kept:
    """The result of `compute()`, from the cache where it is kept.

    compute: gives tensors by name, or (tensors, facts for the manifest). inputs: plain values, all that it depends on
    but code. A second process that wants the same waits for the first. Raises TypeError for inputs that are no JSON.
    """
    return kept_together(kind, [inputs], lambda missing: [compute()])[0]


def kept_together(kind: str, inputs: Sequence[Mapping], compute: Callable[[list[int]], list]) -> list[Kept]:
    """Several results of one kind, those that are not kept computed in one go: `compute(numbers of the missing)`."""
    paths = [address(kind, each) for each in inputs]
    folder().mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for path in sorted(set(paths)):  # in one order for all processes: none waits for another in a circle
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        found = [_read(path) for path in paths]
        missing = [i for i, each in enumerate(found) if each is None]
        start = time.perf_counter()
        results = compute(missing) if missing else []
        seconds = round((time.perf_counter() - start) / max(1, len(missing)), 2)
        for i, result in zip(missing, results, strict=True):
            tensors, facts = result if isinstance(result, tuple) else (result, {})
            manifest = {"kind": kind, "inputs": dict(inputs[i]), "code": code(kind), "seconds": seconds, **facts}
            files.save(paths[i], tensors, manifest)
            for half in (half_done(kind, inputs[i]), half_done(kind, inputs[i]).with_suffix(".json")):
                half.unlink(missing_ok=True)
            found[i] = _read(paths[i])
        return found


def _read(path: Path) -> Kept | None:
    try:
        return Kept(*files.load(path))
    except FileNotFoundError:
        return None
    except files.DamagedFile as error:
        warnings.warn(f"{error} It is made again now.", stacklevel=4)
        return None


@dataclass(frozen=True)
class Entry:
    """A kept result, or the remains of one. current: today's code and libraries would find it."""

    kind: str
    path: Path
    bytes: int
    made: float
    current: bool


def entries() -> list[Entry]:
    """All that lies in the cache, oldest first; what has no manifest that can be read is of kind "remains"."""
    found = []
    for path in sorted(folder().glob("*.safetensors")) + sorted(folder().glob(".*.part")):
        record, manifest = path.with_suffix(".json"), {}
        try:
            manifest = json.loads(record.read_text())
        except (OSError, ValueError):
            pass
        kind = manifest.get("kind", "remains")
        kind = "unfinished" if path.stem.endswith("-unfinished") else kind
        current = kind in MADE_BY and address(kind, manifest["inputs"]) == path
        size = sum(p.stat().st_size for p in (path, record) if p.is_file())
        found.append(Entry(kind, path, size, path.stat().st_mtime, current))
    for path in folder().glob(f"*{resized.ENDING}"):
        state, current = path.stat(), path.stem.endswith(resized.made_by())
        filled = 512 * getattr(state, "st_blocks", state.st_size // 512)  # it takes room as it is filled
        found.append(Entry("resized", path, filled, state.st_mtime, current))
    return sorted(found, key=lambda entry: entry.made)


def remove(entry: Entry) -> None:
    """Delete a result, its manifest and its lock."""
    _unlink(entry.path)


def forget(kind: str, inputs: Mapping) -> None:
    """Delete a result that is of no more use, if it is kept."""
    _unlink(address(kind, inputs))


def _unlink(path: Path) -> None:
    for name in (path, *(path.with_suffix(suffix) for suffix in (".safetensors", ".json", ".lock"))):
        name.unlink(missing_ok=True)
