"""The cost model: its arithmetic by hand, what it measures, and what it refuses. No test reads a clock's time."""
from __future__ import annotations

from itertools import count

import pytest
import torch
from small import backbone, batch

from paperlib.concepts import ConceptExplainer
from paperlib.runs.costs import Rates, Task, operations, rates

# 10 pictures of 5 classes, 4 cells of 3 channels, two prototypes a class; rates that keep the steps apart.
TASK, RATES = Task(10, 5, 4, 3, 2), Rates(read=1.0, forward=10.0, compose=100.0, cluster=1000.0)


@pytest.mark.parametrize("workers, classes", [(1, 5), (2, 3), (4, 2), (5, 1), (100, 1)])
def test_the_busiest_worker_takes_its_classes_pictures(workers, classes):
    found = TASK.seconds(RATES, workers)
    pictures = classes * 2
    assert found == {"read": pictures, "forward": 10 * pictures, "compose": 400 * pictures,
                     "cluster": 8000 * pictures, "all": 8411 * pictures}


def test_bytes_are_those_of_float32_rows_and_of_prototypes_with_their_sources():
    rows = torch.zeros(10 * 4, 3)
    sources = torch.zeros(10, 3, dtype=torch.long)
    assert TASK.bytes() == {"rows, all": rows.nbytes, "rows, one class": rows.nbytes / 5,
                            "travels": torch.zeros(10, 3).nbytes + sources.nbytes}


def test_operations_of_a_pass_and_of_clustering():
    net = backbone()
    # Two convolutions of 3 x 3, 3 to 5 channels on 8 x 8 cells and 5 to 7 on 4 x 4; an addition for each product.
    assert operations(net, batch(2)) == 2 * (9 * 3 * 5 * 64 + 9 * 5 * 7 * 16)
    assert TASK.operations(7, visits=3) == {"forward": 70, "cluster": 2 * 40 * 3 * 2 * 3}


def test_rates_share_each_step_among_its_pictures_or_rows():
    ticks = (t * t for t in count())  # steps of 1, 3, 5 and 7
    explainer = ConceptExplainer((1, 2), 2, 1)
    found = rates(backbone(), batch(6), explainer, clock=lambda: next(ticks))
    rows = 6 * 8 * 8
    assert found == pytest.approx(Rates(1 / 6, 3 / 6, 5 / rows, 7 / rows / 2))
    assert not hasattr(explainer, "prototypes_")


@pytest.mark.parametrize("wrong, message", [
    (lambda: Task(0, 1, 1, 1, 1), "pictures=0 must be a whole number"),
    (lambda: Task(3, 4, 1, 1, 1), "4 classes cannot share 3 pictures"),
    (lambda: TASK.seconds(RATES, 0), "workers=0 must be a whole number"),
    (lambda: rates(backbone(), batch(1), ConceptExplainer((2,), 100, 1)), "16 rows cannot give 100 prototypes")])
def test_wrong_tasks_are_refused_in_a_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
