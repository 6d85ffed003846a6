"""Pictures as they were resized, in one file that is mapped into memory: each is decoded once, not at every pass.

A picture's slot holds its pixels and a seal, a checksum of them and of the file that they were made from. What was half
written, or made from a file that has changed since, has no right seal and is made again: so any number of processes
share the file without a lock, and a picture is there whole or not at all.
"""
from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

SEAL = 16  # bytes
ENDING = ".pixels"

_digests: dict[tuple, bytes] = {}


def digest(path: Path) -> bytes:
    """SHA-256 of a file, read once per process as long as its length and its time of change stay."""
    found = path.stat()
    key = path, found.st_size, found.st_mtime_ns
    fresh = time.time_ns() - found.st_mtime_ns < 2 * 10**9  # two changes within a tick of the clock bear the same time
    if fresh or key not in _digests:
        _digests[key] = hashlib.sha256(path.read_bytes()).digest()
    return _digests[key]


class Resized:
    """n pictures of (3, size, size) uint8, kept in a file of `folder` that `of` and the code that makes them name.

    The file takes room as it is filled. Where the disk has less than twice the room of all, nothing is kept.
    """

    def __init__(self, folder: Path, of: str, n: int, size: int):
        self.path = Path(folder) / f"pictures-{hashlib.sha256(of.encode()).hexdigest()[:12]}-{made_by()}{ENDING}"
        self.n, self.shape = n, (3, size, size)

    def picture(self, i: int, source: Path, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The i-th picture, made of the file `source` by `make()`: (3, size, size) uint8."""
        if self._slots is None:
            return make()
        try:
            of = digest(source)
        except OSError:
            return make()  # which says what is wrong
        slot = self._slots[i].copy()
        if slot[:SEAL].tobytes() != _seal(of, slot[SEAL:]):
            slot[SEAL:] = make().numpy().ravel()
            slot[:SEAL] = np.frombuffer(_seal(of, slot[SEAL:]), np.uint8)
            self._write(i, slot)
        return torch.from_numpy(slot[SEAL:].reshape(self.shape))

    @cached_property
    def _slots(self) -> np.ndarray | None:
        """(n, seal and pixels) uint8 as the file has them, read only; None where there can be no file."""
        shape = self.n, SEAL + int(np.prod(self.shape))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists() and shutil.disk_usage(self.path.parent).free < 2 * int(np.prod(shape)):
                return None
            with self.path.open("ab") as file:
                file.truncate(int(np.prod(shape)))
            return np.memmap(self.path, np.uint8, "r", shape=shape)
        except OSError:
            return None

    def _write(self, i: int, slot: np.ndarray) -> None:
        try:
            with self.path.open("r+b") as file:  # not through the map: on a full disk that would end the process
                file.seek(i * len(slot))
                file.write(slot.tobytes())
        except OSError:
            pass  # it is made again at the next pass

    def __reduce__(self):
        return _again, (self.path, self.n, self.shape)


def _again(path: Path, n: int, shape: tuple) -> Resized:
    found = object.__new__(Resized)
    found.path, found.n, found.shape = path, n, shape
    return found


def _seal(of: bytes, pixels: np.ndarray) -> bytes:
    return hashlib.sha256(of + pixels.tobytes()).digest()[:SEAL]


def made_by() -> str:
    """Eight hex digits of the code and the libraries that resize: of another code's pictures none is taken."""
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in ("pictures.py", "resized.py"))
    libraries = " ".join(version(name) for name in ("pillow", "torch", "torchvision"))
    return hashlib.sha256(code + libraries.encode()).hexdigest()[:8]
