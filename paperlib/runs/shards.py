"""Classes as shards: each class's prototypes are fitted by a worker of a Dask scheduler, which reads its pictures.

To the workers go settings, the trained network and the numbers of pictures; back come prototypes, sources and shares.
What a class comes to is kept as soon as it is there: whatever stops, the next call goes on with the other classes.
"""
from __future__ import annotations

import hashlib
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from queue import Empty, SimpleQueue

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from paperlib.concepts import ConceptExplainer
from paperlib.datasets.downloads import DataError
from paperlib.datasets.pictures import PictureFiles, Pictures
from paperlib.runs import explanations, jobs, kernels, results, store
from paperlib.runs.settings import Settings

WAIT = 120  # seconds for workers to come: from a shared disk they import for long
PARTS = ("prototypes", "sources", "resolution", "share", "seconds")  # of what `fitting` finds of a class


class OtherCode(RuntimeError):
    """A worker runs other code than the process that gives it work."""


@dataclass(frozen=True)
class Asked:
    """What a worker is told with each class: the study, and the code, pictures and surroundings that it must have."""

    study: Settings
    code: tuple[tuple[str, str], ...]
    listing: str
    weights: str
    cache: str


def explainers(study: Settings, choices: Sequence[Mapping], scheduler: str) -> list[ConceptExplainer]:
    """As `explanations.explainers`, with what is not kept fitted by the workers of the scheduler at that address.

    They read the pictures under the same path as this process. Raises OSError where no scheduler or no worker is to be
    had, OtherCode for a worker that runs other code, DataError for one that does not see the same pictures, and
    RuntimeError for a class that several workers did not survive.
    """
    done: list[dict] = []
    with ExitStack() as stack:
        def engine_of(keys):
            client = stack.enter_context(jobs.connected(scheduler))
            return partial(_by_class, client, study, keys, done)
        found = explanations.explainers(study, choices, engine_of)
    for key in done:  # now that the explainers are kept
        store.forget("shard", key)
    return found


@contextmanager
def workers(n: int) -> Iterator[str]:
    """The address of a scheduler of this process's own, with n processes of one thread, forked where that can be."""
    import dask
    from distributed import LocalCluster

    if not kernels.forked():
        kernels.start(1)
    with (dask.config.set(jobs.SETTINGS),
          LocalCluster(n_workers=n, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster):
        yield cluster.scheduler_address


def _by_class(client, study: Settings, keys: list[dict], done: list[dict], fit_class: Callable,
              members: Sequence[np.ndarray]) -> Iterator[tuple[int, list]]:
    """The engine of `fit_together` that has the classes fitted by workers, the largest first.

    Each thread of a worker is given one class at a time, so that no class waits for a worker that is slow or gone.
    """
    told = hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()
    key = {c: {"dataset": study.dataset, "explainers": told, "class": c} for c in range(len(members))}
    done += key.values()
    kept = [c for c in key if store.has("shard", key[c])]
    left, at_work, heard = deque(sorted(set(key) - set(kept), key=lambda c: -len(members[c]))), {}, SimpleQueue()
    asked = Asked(study, code(), _listing(study.data.train), study.checkpoint.manifest["sha256"],
                  jobs.cache_folder())
    state = {name: tensor.cpu() for name, tensor in study.trained.model.state_dict().items()}
    # hash=False: under a name of its own, for the same network of a call before may be on its way out.
    network = client.scatter([state], broadcast=True, hash=False)[0] if left and _workers(client) else None
    for c in kept:
        yield c, _unpacked(store.kept("shard", key[c], dict).tensors)
    while left or at_work:
        for _ in range(min(_workers(client) - len(at_work), len(left))):
            c = left.popleft()
            at_work[c] = client.submit(_fit_here, asked, network, fit_class, members[c], c, pure=False)
            at_work[c].add_done_callback(lambda future, c=c: heard.put(c))
        try:
            c = heard.get(timeout=1)
        except Empty:
            continue
        found = store.kept("shard", key[c], lambda c=c: _packed(_result(at_work[c], c)))
        del at_work[c]
        yield c, _unpacked(found.tensors)


def _workers(client) -> int:
    """The number of the workers' threads. Raises OSError where for a while there are none, or no scheduler."""
    start, lost, again = time.monotonic(), "", "run again: the classes that were done are kept."
    while time.monotonic() - start <= WAIT:
        try:
            if found := sum(client.nthreads().values()):
                return found
            lost = f"has no worker left; start some with `dask worker {client.scheduler.address}` and {again}"
        except OSError:
            lost = f"does not answer any more; start it and its workers, and {again}"
        time.sleep(0.2)
    raise OSError(f"The scheduler {client.scheduler.address} {lost}")


def _result(future, c: int) -> list:
    """What a worker found of class c. Raises what it raised, or RuntimeError where it did not come back."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except (KilledWorker, CancelledError) as error:
        raise RuntimeError(f"Class {c} was lost with the workers that took it, as happens where memory runs out: give "
                           f"them more, or lower `memory`.") from error
    except (ImportError, AttributeError) as error:
        raise OtherCode(f"A worker has another paperlib than this process ({error}); install the same on "
                        f"both.") from error


def _packed(found: list) -> dict[str, torch.Tensor]:
    return {f"{i}/{part}": torch.as_tensor(np.asarray(x)) for i, each in enumerate(found)
            for part, x in zip(PARTS, each, strict=True)}


def _unpacked(tensors: Mapping[str, torch.Tensor]) -> list[tuple]:
    found = []
    for i in range(len(tensors) // len(PARTS)):
        p, sources, size, share, seconds = (tensors[f"{i}/{part}"].numpy() for part in PARTS)
        found.append((p, sources, tuple(size.tolist()), share.item(), seconds.item()))
    return found


# On a worker


def _fit_here(asked: Asked, network: Mapping, fit_class: Callable, index: np.ndarray, c: int) -> list:
    from distributed import get_worker

    who = f"The worker {get_worker().address} on {socket.gethostname()}"
    for (name, theirs), (_, mine) in zip(asked.code, code(), strict=True):
        if theirs != mine:
            raise OtherCode(f"{who} has {name} {mine} and the process that asks it {theirs}; install the same on both.")
    jobs.settle(1, asked.cache)  # as many as a job of `reproduce` has, so that prototypes are the same
    try:
        pictures, net = _opened(asked, network)
        with threadpool_limits(1, user_api="blas"):  # as `fitting` does for threads
            return fit_class(net, pictures, index, c)
    except DataError as error:
        raise DataError(f"{who} does not see the pictures of this study: {error}") from error


_open: dict[Asked, tuple] = {}  # the study at work, for all of its classes


def _opened(asked: Asked, network: Mapping):
    """The study's training pictures, and its network with these weights."""
    if asked not in _open:
        study = asked.study
        if _listing(study.data.train) != asked.listing:
            raise DataError("others lie there; let all machines mount the same folder under the same path.")
        net = results.untrained(study, load_weights=False)
        net.model.load_state_dict(network)
        _open.clear()
        _open[asked] = study.data.train, results.ready(net)
    return _open[asked]


def _listing(pictures: Pictures) -> str:
    """Changes with the pictures' number, order, labels and, where they lie in files, names. No pixel is read."""
    names = "\n".join(path.name for path in pictures.raw) if isinstance(pictures, PictureFiles) else ""
    return hashlib.sha256(pictures.labels.numpy().tobytes() + names.encode()).hexdigest()


@lru_cache(maxsize=1)
def code() -> tuple[tuple[str, str], ...]:
    """What a worker must have in common with the process that gives it work: versions, and the digest of paperlib."""
    paths = sorted(store.PACKAGE.rglob("*.py"))
    sources = hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:12]
    return (*store.libraries().items(), ("paperlib's sources", sources))
