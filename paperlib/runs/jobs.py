"""A run as data: jobs that say what they need, and Dask's scheduler that runs them, each kept as soon as it is done.

A job is a stage of a study (its network, its prototypes) that is not computed yet, or a notebook. Sums in floating
point depend on the number of threads, so each job has the same number of them, whatever the number of jobs and
processors: results depend on neither, nor on the order.
"""
from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from zlib import crc32

from paperlib import progress
from paperlib.runs import kernels
from paperlib.runs.parameters import NOTEBOOKS

MOST_JOBS = 4  # each holds a network, a data set and PyTorch: a gigabyte or more
PATIENCE = 20  # seconds to wait for a scheduler's answer
AFTER = {"embeddings": ("readings",)}  # stages that leave less to do where a run has them, too, and they come first
ATTEMPTS = 2  # a job whose process dies is begun once more
DIED = "its process died, as it does when memory runs out; fewer --jobs need less of it"
# Of Dask. A job may keep its process busy for long. Jobs wait with the scheduler until a process is free. It never
# gives up a job: those that merely waited beside one that dies are not to blame.
SETTINGS = {"distributed.scheduler.worker-ttl": None, "distributed.scheduler.allowed-failures": 10**6,
            "distributed.scheduler.worker-saturation": 1.0, "distributed.scheduler.rootish-taskgroup": 10**6,
            "distributed.scheduler.rootish-taskgroup-dependencies": 10**6, "distributed.worker.profile.enabled": False,
            "distributed.worker.multiprocessing-method": "forkserver" if kernels.FORKS else "spawn",
            "distributed.worker.daemon": False,  # a daemon may not fork kernels
            # Dask's processes give freed memory back at once, and torch asks for it again at every step.
            "distributed.nanny.pre-spawn-environ": {}}
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # what a process does first


@dataclass(frozen=True)
class Job:
    """Work to be done once all that it `needs` (names of jobs) is done. cost: about how many seconds it takes.

    work: a function without arguments that can be pickled; it keeps on disk what it computes. after: jobs that `graph`
    adds to its needs where there are such.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    cost: float
    work: Callable[[], object]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a job: what its work returned, or in `error` the sentence of what went wrong."""

    name: str
    title: str
    seconds: float = 0.0
    result: object = None
    error: str = ""
    warnings: tuple[str, ...] = ()


def how_many(jobs: int = 0) -> int:
    """The number of jobs at a time: `jobs`, or for 0 one per processor, at most 4; one with an accelerator.

    Raises ValueError for a negative number.
    """
    from joblib import cpu_count  # of those that a container or a batch system grants

    from paperlib.networks.training import device

    if jobs < 0:
        raise ValueError(f"jobs is {jobs}; give a positive number, or 0 for one per processor.")
    return jobs or (1 if device().type != "cpu" else min(cpu_count(), MOST_JOBS))


def graph(notebooks: Iterable[tuple[Job, Iterable[tuple[object, str]]]]) -> dict[str, Job]:
    """All jobs that these notebooks' jobs come to, by name, each after those that it needs.

    notebooks: a notebook's job, and the (study, stage) pairs that it shows. A stage that is computed already is no job.
    """
    found: dict[str, Job] = {}
    computed = cache(lambda study, stage: study.computed(stage))  # which looks at all pictures
    for job, shown in notebooks:
        needs = {name: None for study, stage in shown for name in _stage(found, study, stage, computed)}
        found[job.name] = replace(job, needs=(*job.needs, *needs))
    return _in_order({name: replace(job, needs=(*job.needs, *(each for each in job.after if each in found)), after=())
                      for name, job in found.items()})


def _in_order(found: Mapping[str, Job]) -> dict[str, Job]:
    """The jobs as they come, but each after those that it needs."""
    placed: dict[str, Job] = {}

    def place(name):
        for need in found[name].needs:
            if need in found and need not in placed:
                place(need)
        placed[name] = found[name]
    for name in found:
        place(name)
    return placed


def _stage(found: dict[str, Job], study, stage: str, computed: Callable) -> tuple[str, ...]:
    """Adds to `found` the job of a study's stage, after those of the stages it needs; () where it is computed."""
    if computed(study, stage):
        return ()
    mark = f"{crc32(repr(study).encode()):08x}"
    name = f"{stage}-{mark}"
    if name not in found:
        needs = tuple(need for other, each in study.needs(stage) for need in _stage(found, other, each, computed))
        title = f"{study.dataset}, seed {study.seed}, {stage}"
        found[name] = Job(name, title, needs, study.cost(stage), partial(study.compute, stage),
                          tuple(f"{each}-{mark}" for each in AFTER.get(stage, ())))
    return (name,)


def run(graph: Mapping[str, Job], jobs: int = 1, threads: int = 1, scheduler: str = "",
        told: Callable[[float, float], None] = lambda share, left: None) -> Iterator[Done]:
    """Do the jobs, `jobs` at a time with `threads` threads each; gives a Done for each, as it ends.

    scheduler: address of a Dask scheduler, whose workers share this machine's storage and have one thread each; empty:
    processes of this machine. told: hears the share of the work that is done, 0 to 1, and the seconds that are left.
    A job that fails stops only those that need it. Raises OSError where the scheduler cannot be reached, and
    graphlib.CycleError where jobs need one another in a circle.
    """
    order = list(TopologicalSorter({name: job.needs for name, job in graph.items()}).static_order())
    if not order:
        return
    with _client(min(jobs, len(order)), threads, scheduler) as (client, attempts):
        heard, futures, urgency, topic = SimpleQueue(), {}, _urgency(graph, order), f"shares-{client.id}"
        client.subscribe_topic(topic, lambda event: heard.put(event[1]))
        for name in order:
            needed = [futures[need] for need in graph[name].needs]
            futures[name] = client.submit(_on_a_worker, graph[name], threads, cache_folder(), topic, attempts, *needed,
                                          key=(topic, name), priority=urgency[name])
            futures[name].add_done_callback(partial(lambda name, future: heard.put(name), name))
        shares, begun, left, start = dict.fromkeys(order, 0.0), {}, len(order), perf_counter()
        while left:
            word, now = _next(heard), perf_counter()
            for name in begun:  # between the words of a job, and in those that have none, the clock goes on
                shares[name] = max(shares[name], min(0.9, (now - begun[name]) / graph[name].cost))
            if isinstance(word, str):
                shares[word], left = 1.0, left - 1
                yield _outcome(graph[word], futures[word])
            elif word:
                shares[word[0]] = max(shares[word[0]], word[1])
                begun.setdefault(word[0], now)
            told(*_time_left(graph, shares, now - start))


def _next(heard: SimpleQueue) -> str | tuple[str, float] | None:
    """The next word: the name of a job that is done, or (name, share) of one at work; None after a silent second."""
    try:
        return heard.get(timeout=1)
    except Empty:
        return None


def _urgency(graph: Mapping[str, Job], order: list[str]) -> dict[str, int]:
    """Higher for the job whose longest chain of waiting jobs costs more: no worker is left with one at the end."""
    chain, after = {}, dict.fromkeys(order, 0.0)
    for name in reversed(order):
        chain[name] = graph[name].cost + after[name]
        for need in graph[name].needs:
            after[need] = max(after[need], chain[name])
    ranked = sorted(graph, key=lambda name: -chain[name])  # those that are equal in the order in which they were given
    return {name: -rank for rank, name in enumerate(ranked)}


def _time_left(graph: Mapping[str, Job], shares: Mapping[str, float], elapsed: float) -> tuple[float, float]:
    done = sum(graph[name].cost * share for name, share in shares.items())
    share = done / (sum(job.cost for job in graph.values()) or 1.0)
    return share, elapsed * (1 - share) / share if share else float("inf")


def _outcome(job: Job, future) -> Done:
    """A future's Done; a scheduler of somebody else's gives up a job by itself when workers die."""
    return Done(job.name, job.title, error=DIED) if future.status in ("error", "cancelled") else future.result()


def settle(threads: int, cache: str) -> None:
    """What a worker does before it works: it takes over the number of threads and the cache's folder."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is stopped would leave behind
    os.environ.update(kernels.numbers(threads), PAPERLIB_CACHE=cache)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _on_a_worker(job: Job, threads: int, cache: str, topic: str, attempts: str, *needed: Done) -> Done:
    from distributed import get_worker

    worker = get_worker()
    settle(threads, cache)
    with _attempt(attempts, job.name) as before:
        if before == ATTEMPTS:
            return Done(job.name, job.title, error=DIED)
        worker.log_event(topic, (job.name, 0.0))
        done = do(job, needed, lambda share: worker.log_event(topic, (job.name, share)))
    kernels.tidy()  # a notebook's worker waits beside its kernel
    return done


@contextmanager
def _attempt(folder: str, name: str) -> Iterator[int]:
    """Gives how often this job was begun before and its process died: the marks that it left in the folder."""
    if not folder:
        yield 0
        return
    Path(folder, name).mkdir(exist_ok=True)
    mark, before = Path(folder, name, str(os.getpid())), len(os.listdir(Path(folder, name)))
    mark.touch()
    yield before
    mark.unlink()


def do(job: Job, needed: Iterable[Done] = (), heard: Callable[[float], None] = lambda share: None) -> Done:
    """Do one job, here and now, unless one that it needs failed. heard: told the share of it that is done."""
    for each in needed:
        if each.error:
            return Done(job.name, job.title, error=f"not run, for it needs what failed: {each.title}")
    start, result, error = perf_counter(), None, ""
    with warnings.catch_warnings(record=True) as caught, progress.heard_by(lambda _, share: heard(share)):
        try:
            result = job.work()
        except Exception as problem:  # noqa: BLE001 - whatever it is, the other jobs go on
            error = f"{type(problem).__name__}: {' '.join(str(problem).split()) or 'no message'}"
    said = dict.fromkeys(f"{each.category.__name__}: {' '.join(str(each.message).split())}" for each in caught)
    return Done(job.name, job.title, perf_counter() - start, result, error, tuple(said))


def cache_folder() -> str:
    """The cache's folder, for processes that start elsewhere: `store.folder()`, which imports torch."""
    return str(Path(os.environ.get("PAPERLIB_CACHE") or NOTEBOOKS.parent / "data" / "cache").resolve())


@contextmanager
def connected(scheduler: str) -> Iterator:
    """A client of the Dask scheduler at that address. Raises OSError where none answers."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in a line of our own
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise OSError(f"No Dask scheduler answers at {scheduler} within {PATIENCE} seconds; start one there with `dask "
                      f"scheduler`, or give another address.") from error
    with client:
        yield client


@contextmanager
def _client(jobs: int, threads: int, scheduler: str) -> Iterator[tuple]:
    """A client of the scheduler at that address, or of one of our own with `jobs` processes on this machine alone.

    Beside it, the folder in which the latter's processes mark what they begin.
    """
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        with connected(scheduler) as client:
            yield client, ""
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is said in a line for the job
    with tempfile.TemporaryDirectory() as scratch, dask.config.set(SETTINGS):
        with kernels.ignoring_ctrl_c():  # which a terminal sends to all processes; stopping them is for this one
            cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, host="127.0.0.1", memory_limit=0,
                                   dashboard_address="127.0.0.1:0", local_directory=scratch, preload=[DEAF],
                                   silence_logs=logging.CRITICAL, env=kernels.numbers(threads))
        try:
            with Client(cluster) as client:
                yield client, scratch
        finally:
            with kernels.ignoring_ctrl_c():
                cluster.sync(_stop, list(cluster.workers.values()))
                cluster.close()


async def _stop(nannies: list) -> None:
    """Ends the processes, two seconds after they are asked to if they are busy."""
    await asyncio.gather(*(nanny.close(timeout=2) for nanny in nannies), return_exceptions=True)  # such as TimeoutError
