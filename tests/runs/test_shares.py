"""Shares: jobs that compute what a notebook shows, by the calls that the notebook makes."""
from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from paperlib.comparison import choices
from paperlib.runs import explanations, jobs, parameters, results, shares, store
from paperlib.runs.jobs import Job
from paperlib.runs.study import Study

TINY = Study(dataset="digits", train_per_class=4, test_per_class=1, epochs=1, size=32, prototypes_per_class=2, n_init=1,
             backbone=f"{Path(__file__).parents[1] / 'small.py'}:tiny", blocks="one,two,three,four", classifier="fc")
CHOICES = {"choices_train_per_class": 2, "choices_test_per_class": 1, "settings": {"runs": 2}}


def nothing():
    return None


def test_notebooks_with_shares_declare_what_these_depend_on():
    declared = {name: parameters.declared(path.read_text()) for name, path in parameters.select().items()}
    shown = {name[:2]: shares.of([TINY], given) for name, given in declared.items()}
    assert {number for number, pairs in shown.items() if pairs} == {"04", "06", "07", "08", "10"}
    assert [stage for _, stage in shown["04"]] == ["free", "half"]
    assert {stage for _, stage in shown["06"]} == {"options", "depths"} and len(shown["07"]) == 3
    assert [(run.dataset, run.seed) for run, _ in shown["10"]][::2] == [
        (side, seed) for side in ("sparrows", "shortcut") for seed in range(3)]
    assert all(share.study.choosing == (share.given != (0.0, 0.0) or share.seed == 0) for share, _ in shown["08"][:5])


def test_a_share_is_a_job_after_the_stages_that_it_needs_and_leaves_the_notebook_nothing_to_compute(fresh_cache):
    study = replace(TINY)
    assert len(study.data.train), "it has looked at its pictures"
    graph = jobs.graph([(Job("06", "06", (), 1.0, nothing), shares.of([study], CHOICES))])
    titles = [job.title for job in graph.values()]
    assert titles == ["digits, seed 0, network", *["digits, seed 0, options"] * 2, "digits, seed 1, network",
                      "digits, seed 1, depths", "06"]
    assert all(len(pickle.dumps(job.work)) < 2000 for job in graph.values()), "no pictures travel with a job"
    for job in graph.values():
        done = jobs.do(job)
        assert not done.error, done.error
    assert not [job for job in jobs.graph([(graph["06"], shares.of([study], CHOICES))]).values() if job.name != "06"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explanations, "fit_together", lambda *_, **__: pytest.fail("fitted once more"))
        board = choices.Board(study, 2, 1)
        assert len(board.read) > 20
        choices.depths(replace(board, study=study.runs(2)[1]))


def test_a_contest_comes_after_its_own_network_s_maps_and_all_networks_embeddings():
    share = shares.Share(TINY, "contest", 1, (3, 6))
    runs = TINY.runs(3)
    assert share.needs("contest") == [*((run, "embeddings") for run in runs), (runs[1], "prototypes"),
                                      (runs[1], "softcam")]
    assert shares.Share(TINY, "sweep", 0, (0.0, 0.0)).needs("sweep") == [(TINY, "network")]


def test_another_parameter_is_another_share(fresh_cache):
    *_, (one, stage) = shares.of([replace(TINY)], CHOICES)
    *_, (other, _) = shares.of([replace(TINY)], {**CHOICES, "choices_train_per_class": 1})
    results.checkpoint(one.study)
    one.compute(stage)
    assert one.computed(stage) and not other.computed(stage)
    assert {entry.kind for entry in store.entries()} >= {"share", "explainer"}
    assert pickle.loads(pickle.dumps(one)) == one
