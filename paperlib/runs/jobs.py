"""Runs (one data set, one seed) as jobs: independent, spread over processes, and each kept as soon as it is done."""
from __future__ import annotations

import io
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from time import perf_counter

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from paperlib.networks.training import device
from paperlib.runs.study import Study

MOST_JOBS = 4  # each holds a network, a data set and PyTorch: a gigabyte or more


def how_many(jobs: int = 0) -> int:
    """The number of jobs at a time: `jobs`, or for 0 as many as processors, at most 4; one with an accelerator.

    Raises ValueError for a negative number.
    """
    if jobs < 0:
        raise ValueError(f"jobs is {jobs}; give a positive number, or 0 for one a processor.")
    return jobs or (1 if device().type != "cpu" else min(cpu_count(), MOST_JOBS))


def waiting(studies: Iterable[Study], tables: bool) -> list[Study]:
    """The studies whose run is not on disk yet, the longest first, so that no worker is left with one at the end.

    tables: as in `Study.prepare`.
    """
    left = [study for study in studies if not study.prepared(tables)]
    return sorted(left, key=lambda study: -len(study.data.train) * study.data.size**2)


def spread(studies: list[Study], tables: bool, jobs: int = 0, threads: int = 1) -> Iterator[tuple[Study, float, str]]:
    """Prepare each study (see `Study.prepare`), `jobs` at a time; gives (study, seconds, error), as each is done.

    Sums in floating point depend on the number of threads. So each job has `threads` of them, whatever the number of
    jobs and processors: results depend on neither, nor on the order. error is "" or the sentence of what went wrong;
    one job's failure leaves the others alone.
    """
    numbered = list(enumerate(studies))
    with warnings.catch_warnings(), parallel_config("loky", n_jobs=how_many(jobs), inner_max_num_threads=threads):
        # A clean copy each: a study that has looked at its data would carry all of it to the worker.
        work = (delayed(_one)(i, replace(study), tables, threads) for i, study in numbered)
        warnings.filterwarnings("ignore", ".*have been cancelled")  # joblib's word for Ctrl-C
        # A worker that has grown is replaced between two jobs, which loses nothing.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")
        try:
            with _deaf_to_ctrl_c():
                results = Parallel(return_as="generator_unordered", batch_size=1)(work)
            for i, seconds, error in results:
                yield studies[i], seconds, error
        finally:
            # Workers would wait for more for minutes, each with a network and a data set in memory.
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Workers that start here never hear Ctrl-C, which a terminal sends to all: stopping them is for this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _one(i: int, study: Study, tables: bool, threads: int) -> tuple[int, float, str]:
    torch.set_num_threads(threads)
    start, error = perf_counter(), ""
    try:
        # Progress bars of several jobs at a time would overwrite one another.
        with redirect_stderr(io.StringIO()):
            study.prepare(tables)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the other jobs go on
        error = f"{type(problem).__name__}: {' '.join(str(problem).split()) or 'no message'}"
    return i, perf_counter() - start, error

