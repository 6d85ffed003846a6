"""The rows of eq. 8 of one class, within a bound: in memory, in a file that is mapped into it, or a seeded share."""
from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BEYOND = ("map", "share")  # what becomes of rows that take more than the bound


class Rows(NamedTuple):
    """Rows of eq. 8 of one class: m of the n R' cells of its n images."""
    values: np.ndarray  # (m, D) float32
    resolution: tuple[int, int]  # (H', W')
    share: float  # m / (n R')
    numbers: np.ndarray | None  # (m,) the cells' numbers, in order; None: all n R'

    def cells(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(image, row, column) of the rows k, images counted from 0 within the class."""
        image, cell = np.divmod(k if self.numbers is None else self.numbers[k], self.resolution[0] * self.resolution[1])
        return image, *np.divmod(cell, self.resolution[1])


def bytes_of(memory: str | int) -> int:
    """Bytes: `memory` itself, or as a text such as "512MB" or "4GB" says. Raises ValueError for anything else."""
    if isinstance(memory, Integral) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B)", memory.strip().upper()) if isinstance(memory, str) else None
    if found is None or float(found[1]) == 0:
        raise ValueError(f"memory={memory!r} is no amount of memory; give one such as '512MB' or '4GB', or a number of "
                         f"bytes.")
    return int(float(found[1]) * UNITS[found[2]])


def rows_of(compose: Callable, batches: Iterable, n: int, room: int, most: int | None = None, seed: int = 0) -> Rows:
    """The rows that `compose` makes of n images' features, which come in batches.

    Rows of more than `room` bytes lie in a mapped file. most: the bytes beyond which only a share of the rows is kept,
    drawn by the seed; None keeps all. Raises ValueError for maps of several sizes, OSError where the disk is full.
    """
    values, numbers, start = None, None, 0
    for features in batches:
        q = compose(features).cpu().float()
        del features  # gone before the next batch comes
        if values is None:
            (H, W, D), m = q.shape[1:], n * q.shape[1] * q.shape[2]
            if most is not None and 4 * m * D > most:
                numbers = drawn(m, max(1, most // (4 * D)), seed)
            values = array((m if numbers is None else len(numbers), D), room)
        _check_size(q.shape[1:3], (H, W))
        flat = q.flatten(0, 2).numpy()
        if numbers is None:
            values[start : start + len(flat)] = flat
        else:
            first, last = np.searchsorted(numbers, (start, start + len(flat)))
            values[first:last] = flat[numbers[first:last] - start]
        start += len(flat)
    return Rows(values, (H, W), len(values) / m, numbers)


def drawn(n: int, m: int, seed: int) -> np.ndarray:
    """m of the numbers 0..n-1 in order, drawn by the seed."""
    return np.sort(np.random.default_rng(seed).choice(n, m, replace=False, shuffle=False))


def kept_features(batches: Iterable, n: int, blocks: int, room: int) -> list[list[torch.Tensor | None]]:
    """Features of n images, of the last `blocks` blocks, to go through more than once: beyond `room` bytes, mapped.

    Those of other blocks are None. Raises as `rows_of`.
    """
    found, places, start = [], None, 0
    for features in batches:
        used = features[-blocks:]
        if places is None:
            fits = sum(x[0].nbytes for x in used) * n <= room
            places = [None if fits else _place(n, x) for x in used]
        for b, place in enumerate(places):
            if place is not None:
                _check_size(used[b].shape[2:], place.shape[2:])
                used[b] = place[start : start + len(used[b])].copy_(used[b])
        found.append([None] * (len(features) - len(used)) + used)
        start += len(used[0])
    return found


def _place(n: int, x: torch.Tensor) -> torch.Tensor:
    """A mapped (n, D, H, W), laid out as x is: sums over channels add in the order of the layout, to the last bit."""
    _, D, H, W = x.shape
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.from_numpy(array((n, H, W, D), 0)).permute(0, 3, 1, 2)
    return torch.from_numpy(array((n, D, H, W), 0))


def array(shape: tuple[int, ...], room: int) -> np.ndarray:
    """An empty float32 array: in memory where it takes at most `room` bytes, else in a file without a name.

    The file lies in the folder for temporary files (TMPDIR) and goes with the array, or with the process that dies.
    Raises OSError where that disk has no room for it.
    """
    size = 4 * int(np.prod(shape))
    if size <= room:
        return np.empty(shape, np.float32)
    folder = tempfile.gettempdir()
    if (free := shutil.disk_usage(folder).free) < size:
        raise OSError(f"A class takes {size / 1e9:.1f} GB beyond memory and {folder} has {free / 1e9:.1f} GB left; let "
                      f"TMPDIR name a larger disk, allow more memory, or give beyond='share'.")
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up meanwhile would end the process
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float32, "w+", shape=shape)


def _check_size(*sizes: Iterable[int]) -> None:
    if len(found := {tuple(size) for size in sizes}) > 1:
        raise ValueError(f"feature maps of several sizes {sorted(found)}: give resolution, or equal images.")
