"""Bars and Figure 2: what is drawn is what was given."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from paperlib import figures


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def drawn_texts(axis):
    return [text.get_text() for text in axis.texts]


def test_bars_carry_their_numbers_and_errors():
    values = {"CNN": {"digits": 97.5, "birds": 87.04}, "B4": {"digits": 98.6, "birds": np.nan}}
    errors = {"CNN": {"digits": 1.0, "birds": 2.0}, "B4": {"digits": 3.0, "birds": np.nan}}
    (axis,) = figures.bars(values, "percent", decimals=1, errors=errors).axes
    assert sorted(text for text in drawn_texts(axis) if text[:1].isdigit()) == ["87.0", "97.5", "98.6"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["CNN", "B4"]
    drawn = [c for c in axis.containers if hasattr(c, "has_yerr")]
    reach = drawn[0].lines[2][0].get_segments()
    assert [round(float(np.ptp(s[:, 1])), 6) for s in reach] == [2.0, 6.0]


@pytest.mark.parametrize("names", [("0", "1"), ("Meadow Sparrow", "Brook Sparrow")])
def test_figure2_joins_each_prototype_to_the_middle_of_its_class(names):
    train, y = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0]]), np.array([0, 0, 1, 1])
    crosses, triangles, squares = np.array([[5.0, 5], [5, 6]]), np.array([[1.0, 1], [11, 1]]), [np.zeros((3, 2))] * 2
    figure = figures.figure2(train, y, train, y, crosses, triangles, squares, names)
    left, right = figure.axes
    ends = {tuple(map(tuple, line.get_xydata().tolist())) for line in left.lines}
    assert ends == {((5, 5), (1, 0)), ((5, 6), (11, 0)), ((1, 1), (1, 0)), ((11, 1), (11, 0))}
    assert len(right.lines) == 6
    assert drawn_texts(left) == (["0", "1"] if names[0] == "0" else ["1", "2"])
    assert bool(figure.legends) == (names[0] != "0")
