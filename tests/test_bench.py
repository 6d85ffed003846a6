"""The benchmark without its clocks: what it times agrees with the paper's way, and its page says what was measured."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bench import __main__ as command
from bench import clustering, page, timing
from sklearn.cluster import KMeans

MACHINE = {"bytes a second": 4e9, "float32 operations a second": 8e9, "bfloat16 operations a second": 1e10}
EXPLAIN = {"forward, seconds": [0.5, 0.4, 0.6], "ratios": {"B234, K = 2000": [1.1, 1.05, 1.2]},
           "explanation, seconds": {"B234, K = 2000": 0.05}}
NUMBERS = {"machine": {"one thread": MACHINE, "all threads": MACHINE},
           "explain": {"fp32, batch 16": EXPLAIN},
           "fit": {"ours": {"seconds": 2.0, "times ours": 1.0, "rows a second": 1e6, "inertia, %": -0.01},
                   "all distances at once": {"seconds": 30.0, "times ours": 15.0, "rows a second": 1e5,
                                             "inertia, %": None}},
           "imports": {"to explain": 1.25}}


def test_turns_start_with_another_function_each_round_and_leave_the_first_out():
    called = []
    found = timing.in_turns({name: lambda name=name: called.append(name) for name in "abc"}, 2)
    assert "".join(called) == "cab" + "abc" + "bca"
    assert {name: seconds.shape for name, seconds in found.items()} == dict.fromkeys("abc", (2,))


def test_all_distances_at_once_is_lloyds_algorithm():
    X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    start = X[np.random.default_rng(0).choice(200, 3, replace=False)]
    theirs = KMeans(3, init=start, n_init=1, max_iter=4, tol=0, algorithm="lloyd").fit(X)
    np.testing.assert_allclose(clustering.all_distances_at_once(X, 3, 4), theirs.cluster_centers_, rtol=1e-4, atol=1e-5)


def test_page_is_written_with_its_conditions_and_leaves_out_what_was_not_measured(tmp_path):
    path = page.keep(NUMBERS, 1, 12.0, tmp_path)
    record, text = json.loads((tmp_path / "bench.json").read_text()), path.read_text()
    assert set(record["settings"]) >= {"threads", "processor", "commit"} and record["versions"]["torch"]
    # 16 pictures of 784 rows in 0.05 s, each 896 wide and compared with 2,000 prototypes.
    limits = record["numbers"]["limits"]
    assert limits["explaining"]["rows a second"] == pytest.approx(16 * 784 / 0.05)
    assert limits["clustering, ours"]["of the bandwidth"] == pytest.approx(1e6 * 896 * 4 / 4e9)
    assert limits["clustering, ours"]["of the arithmetic"] == pytest.approx(1e6 * 896 * 2 * 10 / 8e9)
    assert "| B234, K = 2000 | 1.10 (1.05 to 1.20) |" in text and "| to explain | 1.25 |" in text
    assert "| all distances at once | 30.0 | 15.0 |  |" in text
    assert "Peak memory" not in text and max(map(len, text.splitlines())) < 150
    assert f"torch {torch.__version__.split('+')[0]}" in text


def test_jobs_of_a_run_the_longest_first_and_none_without_a_run(tmp_path):
    assert page.jobs(tmp_path / "report.json") == {}
    (tmp_path / "report.json").write_text(json.dumps({"seconds": {"00_tour": 3.0, "birds, seed 0, prototypes": 50.0}}))
    assert list(page.jobs(tmp_path / "report.json").items()) == [("birds, seed 0, prototypes", 50.0), ("00_tour", 3.0)]


def test_an_unknown_part_is_refused_and_a_known_one_is_kept(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "speed", "--out", str(tmp_path)])
    assert "there is no part speed; there are machine, explain" in capsys.readouterr().err
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"seconds": {"00_tour": 3.0}}))
    assert command.main(["--only", "jobs", "--out", str(tmp_path), "--report", str(report)]) == 0
    assert json.loads((tmp_path / "bench.json").read_text())["numbers"] == {"jobs": {"00_tour": 3.0}}
