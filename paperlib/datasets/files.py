"""Tensors on disk with a JSON manifest: whole under their final name, or not there at all.
"""
from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import paperlib

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = "PAPERLIB_NOTEBOOK"  # the variable by which a run tells a kernel which notebook it executes
Tensors = dict[str, torch.Tensor]
version = cache(metadata.version)  # which reads a file, and every key asks for seven


class DamagedFile(RuntimeError):
    """Raised where a stored file is not what its manifest says it is."""


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that a number may depend on, by name."""
    packages = ("torch", "torchvision", "scikit-learn", "umap-learn", "numpy", "scipy", "opencv-python-headless")
    return {"paperlib": paperlib.__version__, "python": platform.python_version(),
            **{name: version(name) for name in packages}}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, this thread's own: renamed to `path` when the block ends well, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(path: Path, tensors: Tensors, manifest: dict) -> None:
    """Write `tensors` to `path` (safetensors) and `manifest` to the .json beside it.

    The manifest comes last and holds the checksum: a stop between the two leaves nothing that `load` would take.
    """
    path = Path(path)
    with written_whole(path) as temporary:
        # Cloned, for safetensors refuses tensors that share memory, as tied weights do.
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, temporary)
        checksum = sha256(temporary)
    with written_whole(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({**manifest, "sha256": checksum, "versions": versions()}, indent=1) + "\n")


def load(path: Path) -> tuple[Tensors, dict]:
    """(tensors, manifest) as `save` wrote them.

    Raises FileNotFoundError where either file is missing and DamagedFile where they do not fit each other.
    """
    path = Path(path)
    if not (path.is_file() and path.with_suffix(".json").is_file()):
        raise FileNotFoundError(f"{path} and the .json beside it are not both there; run what makes them again.")
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        if sha256(path) != manifest["sha256"]:
            raise DamagedFile(f"{path} does not have the checksum in its .json; delete both and run again.")
        return load_file(path), manifest
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # ValueError: no JSON, or no text at all
        raise DamagedFile(f"{path} or its .json cannot be read; delete both and run again.") from error


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
