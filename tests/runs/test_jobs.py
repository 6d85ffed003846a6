"""Jobs: done after what they need, in any number and order with the same results; stopped, and gone on with.

Workers import this file, so it imports nothing heavy.
"""
from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import sleep

import pytest

from paperlib.progress import Bar
from paperlib.runs import jobs, kernels
from paperlib.runs.jobs import Job


@dataclass(frozen=True)
class Pretended:
    """A study whose stages are files in a folder."""

    folder: str
    dataset: str = "digits"
    seed: int = 0
    STAGES = {"network": (), "prototypes": ("network",), "kmex": ("prototypes", "network")}

    def _path(self, stage: str) -> Path:
        return Path(self.folder, f"{self.dataset}{self.seed}-{stage}")

    def needs(self, stage: str) -> list:
        return [(self, each) for each in self.STAGES[stage]]

    def computed(self, stage: str) -> bool:
        return self._path(stage).exists()

    def compute(self, stage: str) -> None:
        assert all(self.computed(need) for need in self.STAGES[stage])
        self._path(stage).write_text(str(os.getpid()))

    def cost(self, stage: str) -> float:
        return {"network": 10.0, "prototypes": 2.0, "kmex": 1.0}[stage]


@dataclass(frozen=True)
class Drawn(Pretended):
    """A study whose stages draw numbers: by its seed, and by the number of threads, as sums in floating point do."""

    def _path(self, stage: str) -> Path:
        return Path(os.environ["PAPERLIB_CACHE"], f"{self.seed}-{stage}")

    def compute(self, stage: str) -> None:
        before = [self._path(need).read_text() for need in self.STAGES[stage]]
        drawn = Random(f"{self.seed} {stage} {before} {os.environ['OMP_NUM_THREADS']}").random()
        self._path(stage).write_text(str(drawn))


def nothing():
    return None


def notebook(name: str) -> Job:
    return Job(name, name, (), 1.0, nothing)


# The graph

def test_a_job_for_each_stage_that_is_not_computed_and_once_for_all_notebooks(tmp_path):
    study, other = Pretended(str(tmp_path)), Pretended(str(tmp_path), seed=1)
    other.compute("network")
    graph = jobs.graph([(notebook("01"), [(study, "prototypes")]), (notebook("02"), [(study, "kmex"), (other, "kmex")]),
                        (notebook("03"), [(other, "network")])])
    titles = {name: job.title for name, job in graph.items()}
    assert list(titles.values()) == [
        "digits, seed 0, network", "digits, seed 0, prototypes", "01", "digits, seed 0, kmex",
        "digits, seed 1, prototypes", "digits, seed 1, kmex", "02", "03"]
    needs = {job.title: [titles[need] for need in job.needs] for job in graph.values()}
    assert needs["digits, seed 0, kmex"] == ["digits, seed 0, prototypes", "digits, seed 0, network"]
    assert needs["digits, seed 1, prototypes"] == [], "its network is computed"
    assert needs["01"] == ["digits, seed 0, prototypes"] and needs["03"] == []


def test_a_stage_comes_after_the_one_that_leaves_it_less_to_do_where_a_run_has_that(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "AFTER", {"prototypes": ("kmex",), "network": ("no such",)})
    monkeypatch.setattr(Pretended, "STAGES", {"network": (), "prototypes": ("network",), "kmex": ("network",)})
    study = Pretended(str(tmp_path))
    for stages in (["prototypes"], ["prototypes", "kmex"]):
        graph = jobs.graph([(notebook("01"), [(study, stage) for stage in stages])])
        titles = {name: job.title for name, job in graph.items()}
        needs = {job.title: [titles[need].split()[-1] for need in job.needs] for job in graph.values()}
        assert needs["digits, seed 0, prototypes"] == ["network", *stages[1:]]


def test_the_longest_chain_comes_first_and_equals_in_order():
    graph = {name: Job(name, name, needs, cost, nothing) for name, needs, cost in [
        ("a", (), 5), ("b", (), 1), ("c", ("b",), 9), ("d", (), 5)]}
    urgency = jobs._urgency(graph, ["a", "b", "d", "c"])
    assert sorted(graph, key=lambda name: -urgency[name]) == ["b", "c", "a", "d"]


def test_share_and_time_left_are_by_cost():
    graph = {"a": Job("a", "a", (), 30.0, nothing), "b": Job("b", "b", (), 10.0, nothing)}
    assert jobs._time_left(graph, {"a": 0.5, "b": 1.0}, 50.0) == (25 / 40, pytest.approx(30.0))
    assert jobs._time_left(graph, {"a": 0.0, "b": 0.0}, 5.0) == (0.0, float("inf"))


def test_how_many(monkeypatch):
    import torch
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    monkeypatch.setattr("paperlib.networks.training.device", lambda: torch.device("cpu"))
    assert jobs.how_many() == 4 and jobs.how_many(9) == 9
    monkeypatch.setattr("paperlib.networks.training.device", lambda: torch.device("cuda"))
    assert jobs.how_many() == 1 and jobs.how_many(3) == 3
    with pytest.raises(ValueError, match="jobs is -1; give a positive number, or 0"):
        jobs.how_many(-1)


# On a scheduler that is there

@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two processes."""
    import dask
    from distributed import LocalCluster
    with dask.config.set(jobs.SETTINGS), pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "READY", "distributed.nanny")  # these jobs need no more
        kernels.start(1)
        with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                          memory_limit=0, silence_logs=logging.CRITICAL) as cluster:
            yield cluster.scheduler_address


def works(folder: str, name: str) -> str:
    """Writes down that it ran, halfway through a bar."""
    for i in Bar(range(4), "training"):
        sleep(0.3)
        if i == 1:
            with open(Path(folder, "ran"), "a") as file:
                file.write(f"{name}\n")
    return name


def fails():
    raise ValueError("no\n  good")


def warns():
    for _ in range(2):
        warnings.warn("careful", stacklevel=1)
    return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_each_after_what_it_needs_and_a_failure_stops_only_those_that_need_it(scheduler, tmp_path):
    graph = {name: Job(name, name.upper(), needs, 1.0, work) for name, needs, work in [
        ("last", ("first", "warned"), partial(works, str(tmp_path), "last")),
        ("first", (), partial(works, str(tmp_path), "first")), ("bad", (), fails), ("after", ("bad",), nothing),
        ("long after", ("after", "first"), nothing), ("warned", (), warns)]}
    heard = []
    found = {done.name: done for done in jobs.run(graph, threads=3, scheduler=scheduler,
                                                  told=lambda share, left: heard.append(share))}
    assert list(found) != list(graph) and set(found) == set(graph)
    assert (tmp_path / "ran").read_text().split() == ["first", "last"]
    assert found["last"].result == "last" and found["last"].seconds > 1 and found["last"].title == "LAST"
    assert found["bad"].error == "ValueError: no good"
    assert found["after"].error == "not run, for it needs what failed: BAD"
    assert found["long after"].error == "not run, for it needs what failed: AFTER"
    assert found["warned"].warnings == ("UserWarning: careful",) and not found["first"].warnings
    assert found["warned"].result[0] == "3"
    assert heard == sorted(heard) and heard[-1] == pytest.approx(1)
    assert any(share * 6 % 1 > 0.01 for share in heard), "shares of a job are heard, too"


def test_share_grows_while_a_job_says_nothing(scheduler):
    heard = []
    silent = Job("a", "a", (), 5.0, partial(sleep, 2.5))
    assert not any(done.error for done in jobs.run({"a": silent}, scheduler=scheduler,
                                                   told=lambda share, left: heard.append(share)))
    assert any(0.1 < share < 0.9 for share in heard) and heard == sorted(heard)


def test_jobs_that_need_one_another_are_refused(scheduler):
    import graphlib
    graph = {a: Job(a, a, (b,), 1.0, nothing) for a, b in ("xy", "yx")}
    with pytest.raises(graphlib.CycleError):
        list(jobs.run(graph, scheduler=scheduler))
    assert list(jobs.run({}, scheduler="tcp://127.0.0.1:9")) == [], "nothing to do: nobody is asked"


def test_results_depend_neither_on_the_number_of_jobs_nor_on_the_order(scheduler, tmp_path, monkeypatch):
    runs, found = [Drawn("", seed=seed) for seed in (0, 1)], {}
    for name, order in {"two at a time": [], "another order, here": [0, 3, 4, 1, 2, 5, 6]}.items():
        (tmp_path / name).mkdir()
        monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path / name))  # which jobs are told
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        graph = jobs.graph([(notebook("00"), [(study, "kmex") for study in runs])])
        assert len(graph) == 7
        here = [jobs.do(list(graph.values())[i]) for i in order]
        assert not any(done.error for done in here or jobs.run(graph, scheduler=scheduler))
        assert list(jobs.graph([(notebook("00"), [(study, "kmex") for study in runs])])) == ["00"], "none is done twice"
        found[name] = [study._path(stage).read_text() for study in runs for stage in study.STAGES]
    one, other = found.values()
    assert one == other and len(set(one)) == 6, "another seed, other results"


def test_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 1)
    with pytest.raises(OSError, match="127.0.0.1:9"):
        list(jobs.run({"a": notebook("a")}, scheduler="tcp://127.0.0.1:9"))


# In processes of its own

def dies():
    os._exit(3)


def test_processes_of_its_own_are_deaf_to_ctrl_c_and_one_that_dies_is_told(tmp_path):
    graph = {name: Job(name, name, needs, 1.0, work) for name, needs, work in [
        ("dies", (), dies), ("needs it", ("dies",), nothing), ("other", (), warns), ("another", (), warns),
        ("a third", (), warns)]}
    found = {done.name: done for done in jobs.run(graph, jobs=2, threads=2)}
    assert found["dies"].error.startswith("its process died")
    assert found["needs it"].error == "not run, for it needs what failed: dies"
    assert all(found[name].result == ("2", True) for name in ("other", "another", "a third"))


SCRIPT = """
import signal, sys
sys.path[:0] = {paths!r}
from test_jobs import Pretended, lasting
from paperlib.runs import jobs, kernels
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    kernels.READY = "distributed.nanny"
    study = Pretended({folder!r})
    graph = jobs.graph([(jobs.Job("01", "01", (), 1.0, lasting), [(study, "kmex")])])
    try:
        for done in jobs.run(graph, jobs=2):
            print("done", done.title, flush=True)
            assert not done.error
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def lasting():
    sleep(300)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a terminal does, to a group of processes")
def test_ctrl_c_keeps_what_is_done(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(paths=[str(Path(__file__).parent)], folder=str(tmp_path)))
    process = subprocess.Popen([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)
    said = [process.stdout.readline() for _ in range(3)]
    os.killpg(process.pid, signal.SIGINT)
    rest, trouble = process.communicate(timeout=120)  # the job at work would go on for longer
    assert (said, rest) == ([f"done digits, seed 0, {stage}\n" for stage in Pretended.STAGES], "stopped\n"), trouble
    assert not trouble
    study = Pretended(str(tmp_path))
    assert list(jobs.graph([(notebook("01"), [(study, "kmex")])])) == ["01"], "nothing finished is done twice"
