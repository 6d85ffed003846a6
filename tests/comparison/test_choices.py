"""The board of notebook 06 on numbers put in by hand, and the choice on validation pictures with a leak planted."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import batch

from paperlib import guards
from paperlib.comparison import choices
from paperlib.comparison.choices import ACCURACY, SAME, Board, key


def study(train=(9, 7), grids=((4, 4), (2, 2), (1, 1))):
    """As much of a Study as the rows need: labels, blocks and the sizes of their feature maps."""
    labels = torch.repeat_interleave(torch.arange(len(train)), torch.tensor(train))
    features = [torch.zeros(1, 3, *size) for size in grids]
    return SimpleNamespace(
        seed=3, k=2, n_init=1, data=SimpleNamespace(train=SimpleNamespace(labels=labels),
                                                    test=SimpleNamespace(batch=lambda numbers: batch(1))),
        trained=SimpleNamespace(blocks=("a", "b", "c"), features=lambda x: features))


def scored(accuracies: dict, agreements: dict) -> Board:
    """A board on which each seed and option has these numbers, picture by picture."""
    board = Board(study())
    board.__dict__["pictures"] = {name: {ACCURACY: np.array(accuracies[name], float),
                                         SAME: np.array(agreements.get(name, accuracies[name]), float)}
                                  for name in accuracies}
    seeds = {str(s): key({} if s == 3 else {"random_state": s}) for s in range(3, 6)}
    board.__dict__["keys"] = {**{f"seed, {name}": seeds for name in choices.ends(board, all_depths=True)},
                              "row": {"usual": key({}), "other": "other"}}
    board.__dict__["differs"] = {key({}): {}, "other": {"norm": "none"}}
    board.__dict__["read"] = {name: {"map": np.zeros((4, 2, 2), int)} for name in accuracies}
    return board


def test_rows_differ_from_the_default_in_one_option_and_hold_it():
    board = Board(study())
    assert board.default == {"depth": 3, "part": (7, 0)} and board.name(2) == "B23"
    assert board.grids == [(4, 4), (1, 1)]
    for row in [row for row in board.rows if "pictures" not in row and "seed" not in row and row != "depth"]:
        assert sorted(map(len, board.rows[row].values())) == [0] + [1] * (len(board.rows[row]) - 1), row
    assert list(board.rows["seed, B23"]) == ["3", "4", "5", "6"]
    assert board.rows["seed, B3"]["4"] == {"depth": 1, "random_state": 4}
    assert board.rows["resolution (eq. 7)"]["last block's"] == {"resolution": (1, 1)}
    lucks = [{"norm": "none"}, {"block_weight": "none"}, {"depth": 2, "block_weight": "none"}, {"depth": 1}]
    assert [board.depth_of(key(d)) for d in lucks if key(d) in board.differs] == [
        "B123", "B123, no factor", "B23", "B3"]
    assert list(board.rows["depth"]) == ["B3", "B23", "B23, no factor", "B123", "B123, no factor"]


def test_parts_of_one_size_have_no_picture_in_common():
    board = Board(study(train=(9, 8)), train_per_class=4)
    assert choices.parts(board, {}) == {2: {"part": (2, 0)}, 4: {}, 8: {"part": (8, 0)}}
    assert choices.parts(board, {}, other=True) == {n: {"part": (n, n)} for n in (2, 4)}
    assert list(choices.parts(board, {"depth": 1})) == [4, 8]  # one cell per picture: too few for k-means


def test_difference_adds_the_luck_of_both_explainers_to_the_error():
    board = scored({"[]": [0, 100, 100, 0], "[('random_state', 4)]": [100, 100, 100, 0],
                    "[('random_state', 5)]": [0, 100, 0, 0], "other": [100, 100, 100, 100]}, {})
    assert board.luck["B123"][ACCURACY] == pytest.approx(25)  # of 50, 75 and 25
    gap, error = board.difference("other")
    assert gap == 50
    assert error == pytest.approx(np.hypot(np.std([100, 0, 0, 100], ddof=1) / 2, 25 * 2**0.5))
    board.__dict__["luck"] = {**board.luck, "B123, no factor": {ACCURACY: 60.0, SAME: 0.0}}
    board.differs["other"] = {"block_weight": "none"}
    assert board.difference("other")[1] == pytest.approx(np.hypot(np.std([100, 0, 0, 100], ddof=1) / 2, 65))
    assert board.difference("[]") == (0.0, 0.0)


def test_summary_holds_differences_and_limits_and_of_a_map_the_seeds_agreement():
    seeds = {f"[('random_state', {s})]": [50, 50, 50, 50 + s] for s in (4, 5)}
    board = scored({"[]": [50, 50, 50, 50], **seeds, "other": [100, 100, 100, 96]},
                   {"[]": [1] * 4, **{name: [0.9, 0.9, 0.8, 0.9] for name in seeds}, "other": [0.1, 0.2, 0.1, 0.1]})
    found = board.summary(["row"])["row", "other"]
    assert found["points"] == 49 and found["map"] == pytest.approx(0.125 - 0.875)
    assert found["points, limit"] == pytest.approx(3 * board.difference("other")[1])
    assert 0 < found["map, limit"] < 0.75


def test_choose_takes_the_largest_penalty_within_an_error_of_the_best():
    pictures = type("Validation", (list,), {"split": "validation"})(range(100))  # sqrt(.8 x .2 / 100) = .04
    accuracies = {0.0: 0.78, 1e-4: 0.80, 1e-3: 0.77, 1e-2: 0.75, 1e-1: 0.1}
    assert choices.choose(accuracies, pictures) == 1e-3
    assert choices.choose(accuracies, pictures, allowed=0) == 1e-4
    assert choices.choose(accuracies, pictures, allowed=2) == 1e-2
    for bad in ({}, {0.0: 78.0}, {0.0: float("nan")}):
        with pytest.raises(ValueError, match="give each penalty's, as a fraction"):
            choices.choose(bad, pictures)


def test_a_choice_on_test_pictures_is_refused():
    test = type("Test", (list,), {"split": "test"})(range(100))
    with pytest.raises(guards.LeakError, match="must not be used for choosing a penalty"):
        choices.choose({0.0: 0.78, 1e-3: 0.77}, test)
    with pytest.raises(guards.LeakError):
        choices.choose({0.0: 0.78, 1e-3: 0.77}, torch.utils.data.Subset(test, range(10)))
