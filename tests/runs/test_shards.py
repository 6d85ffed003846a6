"""Classes fitted by workers of a scheduler: what they give, what they survive, and what they are refused for."""
from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import tracemalloc
from collections import Counter
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import small
import torch
from PIL import Image
from sklearn.cluster import KMeans

from paperlib import progress
from paperlib.concepts import fit_together
from paperlib.datasets.downloads import DataError
from paperlib.runs import explanations, jobs, kernels, shards, store
from paperlib.runs.command import main, parser
from paperlib.runs.study import Study

NETWORK = {"size": 32, "epochs": 1, "prototypes_per_class": 2, "n_init": 2, "backbone": f"{small.__file__}:tiny",
           "blocks": "one,two,three,four", "classifier": "fc"}
STUDY = Study(dataset="digits", train_per_class=6, test_per_class=1, **NETWORK)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler with three worker processes, which have imported what a study needs."""
    import dask
    from distributed import LocalCluster
    with dask.config.set(jobs.SETTINGS), pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "READY", "paperlib.runs.study")
        if kernels.FORKS:
            forkserver._forkserver._stop()  # that of other tests has imported less, and each worker would by itself
        kernels.start(1)
        with LocalCluster(n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                          memory_limit=0, silence_logs=logging.CRITICAL) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def scheduler(cluster):
    return cluster.scheduler_address


class Told(KMeans):
    """k-means that writes down which process ran it; some do not come back, or not for long."""

    def __init__(self, folder: str = "", trouble: str = "", n_clusters: int = 8, n_init: int = 1, random_state=None):
        super().__init__(n_clusters=n_clusters, n_init=n_init, random_state=random_state)
        self.folder, self.trouble = folder, trouble

    def fit(self, X, y=None):
        if self.folder:
            with Path(self.folder, "ran").open("a") as file:
                file.write(f"{os.getpid()}\n")
            getattr(self, self.trouble)()
        return super().fit(X)

    def slow(self):
        """The first to come waits until all other classes were begun; the others take their time, too."""
        sleep(0.1)
        try:
            Path(self.folder, "slow").touch(exist_ok=False)
        except FileExistsError:
            return
        Path(self.folder, "slow").write_text(str(os.getpid()))
        start = monotonic()
        while len(ran(self.folder)) < 1 + 3 * 9:
            assert monotonic() - start < 100, "the others were held up"
            sleep(0.05)

    def fails(self):
        if len(ran(self.folder)) == 16:
            raise ValueError("this class cannot be clustered")


def ran(folder) -> list[str]:
    path = Path(folder, "ran")
    return path.read_text().split() if path.exists() else []


def here(study: Study, **choices):
    """What one process finds."""
    explainers = [explanations.unfitted(study, depth, **choices) for depth in (1, 2, 3)]
    return fit_together(explainers, study.trained, study.data.train, study.data.train.labels)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.prototypes_, other.prototypes_) and one.resolution_ == other.resolution_
        assert torch.equal(one.prototype_sources_, other.prototype_sources_)


def test_the_command_keeps_what_notebooks_then_find(scheduler, capsys):
    settings = [f"{name}={value}" for name, value in {"dataset": "digits", "train_per_class": 6, "test_per_class": 1,
                                                      **NETWORK}.items()]
    assert main(["fit", "--scheduler", scheduler, "--memory", "100KB", "--set", *settings]) == 0
    assert "digits: B4, B34, B234 of 10 classes, " in capsys.readouterr().out
    found = replace(STUDY).explainers(scheduler="tcp://nobody.is:1")  # all are kept: nobody is asked
    assert_equal(found, here(STUDY))
    assert [e.shares_.tolist() for e in found] == [[1.0] * 10] * 3
    assert not [entry for entry in store.entries() if entry.kind == "shard"], "they went with the explainers"


def test_one_is_killed_and_one_is_slow(scheduler, tmp_path):
    heard, killed = [], []

    def told(what, share):
        if what != "prototypes":  # on a busy machine the network's training is heard, too
            return
        heard.append(share)
        if 0.1 < share and not killed:
            killed.append([pid for pid in ran(tmp_path) if pid != (tmp_path / "slow").read_text()][-1])
            os.kill(int(killed[0]), signal.SIGKILL)
    with progress.heard_by(told):
        found = replace(STUDY).explainers(scheduler, clusterer=Told(str(tmp_path), "slow"))
    assert_equal(found, here(STUDY, clusterer=Told()))
    by = Counter(ran(tmp_path))
    assert killed and 30 <= sum(by.values()) <= 33, "of what was done nothing is done twice"
    assert by[(tmp_path / "slow").read_text()] <= 6, "the others do the rest"
    assert heard == sorted(heard) and len(heard) > 2 and heard[-1] == 1


def test_what_was_done_before_it_failed_is_not_done_again(scheduler, tmp_path):
    clusterer = Told(str(tmp_path), "fails")
    with pytest.raises(ValueError, match="this class cannot be clustered"):
        replace(STUDY).explainers(scheduler, clusterer=clusterer)
    sleep(0.5)  # those that were at work end
    before = len(ran(tmp_path))
    found = replace(STUDY).explainers(scheduler, clusterer=clusterer)
    assert len(ran(tmp_path)) - before < 27, "at least two classes were kept"
    assert_equal(found, here(STUDY, clusterer=Told()))


class FirstRows(KMeans):
    def fit(self, X, y=None):
        self.cluster_centers_ = np.array(X[: self.n_clusters])
        return self


def test_a_worker_stays_in_its_memory(scheduler):
    rows = 6 * 48**2 * 60 * 4  # bytes of B234's rows of one class
    with jobs.connected(scheduler) as client:
        replace(STUDY).explainers(scheduler, clusterer=FirstRows(), prototypes_per_class=1)  # all have opened the study
        client.run(tracemalloc.start)
        peaks = []
        for memory, k in (("4GB", 2), ("300KB", 3)):
            client.run(tracemalloc.reset_peak)
            replace(STUDY).explainers(scheduler, clusterer=FirstRows(), memory=memory, resolution=48,
                                      prototypes_per_class=k)
            peaks.append(max(peak for _, peak in client.run(tracemalloc.get_traced_memory).values()))
        client.run(tracemalloc.stop)
    assert peaks[0] > rows and peaks[1] < 0.6 * rows, "to check the rows takes a quarter of them"


# Bad input

def test_no_scheduler_and_no_worker(monkeypatch, cluster, capsys):
    from distributed import LocalCluster
    monkeypatch.setattr(jobs, "PATIENCE", 1)
    monkeypatch.setattr(shards, "WAIT", 0.3)
    with pytest.raises(OSError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9 within 1 seconds; start one"):
        replace(STUDY).explainers("tcp://127.0.0.1:9", n_init=3)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                      silence_logs=logging.CRITICAL) as empty:
        with pytest.raises(OSError, match=r"The scheduler tcp://.* has no worker left; start some with `dask work"):
            replace(STUDY).explainers(empty.scheduler_address, n_init=3)
    with jobs.connected(cluster.scheduler_address) as client:
        monkeypatch.setattr(type(client), "nthreads", lambda self: (_ for _ in ()).throw(OSError("closed")))
        with pytest.raises(OSError, match=r"The scheduler tcp://.* does not answer any more; start it and its workers"):
            shards._workers(client)
    assert main(["fit", "--scheduler", "tcp://127.0.0.1:9", "--set", "size_=3"]) == 2
    assert capsys.readouterr().err.startswith("error: size_ is no setting of a study; there are dataset, ")
    assert main(["fit", "--scheduler", "tcp://127.0.0.1:9", "--memory", "lots"]) == 1
    assert capsys.readouterr().err.startswith("error: memory='lots' is no amount of memory; give one such as '512MB'")


def test_workers_with_other_code(scheduler, monkeypatch):
    real = shards.code()
    for i, name in ((0, "paperlib"), (-1, "paperlib's sources")):
        other = list(real)
        other[i] = (name, "0.0.1")
        monkeypatch.setattr(shards, "code", lambda other=other: tuple(other))
        with pytest.raises(shards.OtherCode, match=rf"The worker tcp://.* on \S+ has {name} .* and the process that "
                                                   rf"asks it 0.0.1; install the same on both"):
            replace(STUDY).explainers(scheduler, n_init=4)


def test_a_worker_without_the_pictures(scheduler, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            noise = np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{i}.png")
    study = Study(dataset="folder", data_root=str(tmp_path / "pets"), **NETWORK)
    assert study.trained.n_classes == 2
    shutil.move(tmp_path / "pets", tmp_path / "gone")
    with pytest.raises(DataError, match=r"The worker tcp://.* does not see the pictures of this study: There is no"):
        study.explainers(scheduler)
    shutil.copytree(tmp_path / "gone", tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "0.png").rename(tmp_path / "pets" / "cat" / "7.png")
    with pytest.raises(DataError, match=r"does not see the pictures of this study: others lie there; let all machines"):
        study.explainers(scheduler)


def test_the_page_on_clusters_says_what_the_commands_take():
    from distributed.cli import dask_scheduler, dask_worker
    text = (Path(store.PACKAGE).parent / "notebooks" / "beyond" / "cluster.md").read_text()
    kinds = {"python -m paperlib": lambda words: parser().parse_args(words),
             "dask scheduler": lambda words: dask_scheduler.main.make_context("dask", words),
             "dask worker": lambda words: dask_worker.main.make_context("dask", words)}
    for start, check in kinds.items():
        (line,) = re.findall(rf"^{start} (.*)$", text, re.MULTILINE)
        check(shlex.split(line))
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(script, "page", "exec")
