"""Runs as jobs: the same results in any number and order, kept one by one, stopped and gone on with."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from paperlib.datasets import files
from paperlib.runs import jobs
from paperlib.runs.study import Study

TINY = Study(dataset="digits", train_per_class=6, test_per_class=2, epochs=1, n_init=1, prototypes_per_class=2,
             protopnet_epochs=1)


def results(studies: list[Study]) -> list[np.ndarray]:
    """What each run put into the tables, as numbers."""
    found = []
    for study in map(replace, studies):
        kept = [study.trained.C, study.kmex().prototypes_, study.embeddings("test")[0], study.protopnet.prototypes_,
                study.patch_embeddings()[0], [study.evaluate(depth)["accuracy"] for depth in (1, 2, 3)]]
        found.append(np.concatenate([np.ravel(each) for each in kept]))
    return found


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache by name: each an empty one the first time."""
    return lambda name: monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path / name))


def test_results_depend_neither_on_the_number_of_jobs_nor_on_the_order(cache):
    studies = TINY.runs(2)
    cache("two at a time")
    said = list(jobs.spread(studies, True, jobs=2))
    assert sorted(study.seed for study, _, _ in said) == [0, 1] and not any(error for _, _, error in said)
    assert jobs.waiting(studies, True) == []
    both = results(studies)
    cache("one at a time, the last first")
    assert jobs.waiting(studies, True) == studies
    assert [study.seed for study, _, _ in jobs.spread(studies[::-1], True, jobs=1)] == [1, 0]
    for one, other in zip(both, results(studies), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(both[0], both[1]), "another seed, another network"


def test_the_longest_run_comes_first(cache):
    cache("empty")
    larger = replace(TINY, size=48)
    assert jobs.waiting([TINY, larger, *larger.runs(2)[1:]], False) == [*larger.runs(2), TINY]


def test_one_failure_leaves_the_others_alone(cache, tmp_path):
    cache("cache")
    lost = replace(TINY, weights=str(tmp_path / "lost.pth"))
    found = {study: error for study, _, error in jobs.spread([lost, TINY], False, jobs=1)}
    assert found[lost].startswith("ValueError: There is no file of weights") and found[TINY] == ""
    assert jobs.waiting([lost, TINY], False) == [lost], "what had failed is still to be done"
    assert jobs.waiting([TINY], True) == [TINY], "a network is not yet all that the tables need"


def test_how_many(monkeypatch):
    monkeypatch.setattr(jobs, "cpu_count", lambda: 64)
    monkeypatch.setattr(jobs, "device", lambda: torch.device("cpu"))
    assert jobs.how_many() == 4 and jobs.how_many(9) == 9
    monkeypatch.setattr(jobs, "device", lambda: torch.device("cuda"))
    assert jobs.how_many() == 1 and jobs.how_many(3) == 3
    with pytest.raises(ValueError, match="jobs is -1; give a positive number, or 0"):
        jobs.how_many(-1)


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
from paperlib.runs import jobs
from paperlib.runs.study import Study
runs = Study(dataset="digits", train_per_class=6, test_per_class=2, epochs=20, prototypes_per_class=2).runs(3)
try:
    for study, *_ in jobs.spread(runs, False, jobs=1):
        print("done", study.seed, flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a terminal does, to a group of processes")
def test_ctrl_c_between_runs_keeps_what_is_done(cache, tmp_path):
    cache("cache")
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, cwd=files.REPOSITORY, start_new_session=True)
    assert process.stdout.readline() == "done 0\n"
    os.killpg(process.pid, signal.SIGINT)
    said, trouble = process.communicate(timeout=120)
    assert said == "stopped\n" and "Traceback" not in trouble
    assert not list(tmp_path.rglob("*.part"))
    runs = replace(TINY, n_init=10, protopnet_epochs=0, epochs=20).runs(3)
    left = jobs.waiting(runs, False)
    assert runs[0] not in left and runs[2] in left, "nothing finished is done twice, and the rest goes on"
