"""Clocks: functions timed in turns, ratios within a round, what the machine can do, and a process's peak memory."""
from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from paperlib.datasets.files import REPOSITORY


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch, BLAS and OpenMP with n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before)


def in_turns(functions: Mapping[str, Callable], rounds: int, warm: int = 1) -> dict[str, np.ndarray]:
    """Seconds of each function in each round, (rounds,); the first of a round changes, and `warm` rounds do not count.

    In turns, so that whatever else the machine does meanwhile hits all of them alike.
    """
    names, found = list(functions), {name: [] for name in functions}
    for turn in range(-warm, rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            start = perf_counter()
            functions[name]()
            if turn >= 0:
                found[name].append(perf_counter() - start)
    return {name: np.array(seconds) for name, seconds in found.items()}


def spread(values: np.ndarray) -> list[float]:
    """[median, lower quartile, upper quartile]"""
    return [float(x) for x in np.quantile(values, [0.5, 0.25, 0.75])]


def machine(n: int, size: int = 2048, megabytes: int = 256) -> dict[str, float]:
    """What n threads of this machine do at best: bytes moved by a copy, operations of a matrix product, a second."""
    source = torch.ones(megabytes * 2**18)
    target, found = torch.empty_like(source), {}
    with threads(n):
        copied = in_turns({"copy": lambda: target.copy_(source)}, 5)["copy"].min()
        found["bytes a second"] = float(2 * source.nbytes / copied)  # each is read and written
        for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            a = torch.randn(size, size).to(kind)
            took = in_turns({name: lambda a=a: a @ a}, 3)[name].min()
            found[f"{name} operations a second"] = float(2 * size**3 / took)
    return found


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status")  # Linux's rusage begins with the peak of the process that started this one
    if status.is_file():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def python(code: str) -> str:
    """What this code prints in a new process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return done.stdout
