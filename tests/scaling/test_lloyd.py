import numpy as np
import pytest

from paperlib.scaling import lloyd as module
from paperlib.scaling.lloyd import lloyd
from paperlib.scaling.restarts import Rows, plus_plus


@pytest.fixture(params=[np.float32, np.float64])
def rows(request):
    """Rows (3000, 64) of a few directions and some noise, about their mean."""
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.full(8, 0.3), size=3000) @ rng.gamma(0.5, size=(8, 64)) + 0.05 * rng.normal(size=(3000, 64))
    return Rows(X.astype(request.param), X.mean(axis=0))


@pytest.fixture
def looked(monkeypatch):
    """Numbers of rows at which bounds had to look, call by call."""
    found, look = [], module.Bounds._look
    monkeypatch.setattr(module.Bounds, "_look", lambda self, r, index, *rest: (found.append(len(index)),
                                                                               look(self, r, index, *rest)))
    return found


def assert_bounds_change_nothing(rows, centres, threshold=1e-6, max_iter=300):
    plain, within = (lloyd(rows, centres, threshold, max_iter, bounded) for bounded in (False, True))
    for a, b in zip(plain, within, strict=True):
        np.testing.assert_array_equal(a, b)
    return plain[2]


@pytest.mark.parametrize("seed", range(4))
def test_bounds_spare_most_rows_and_change_no_bit(rows, looked, seed):
    centres = plus_plus(rows, np.random.default_rng(seed).random((3, 6, 3)))
    passes = assert_bounds_change_nothing(rows, centres)
    assert len(set(passes)) > 1 and passes.min() > 5, "restarts must end one by one, and take some passes"
    assert 0 < sum(looked) < 0.5 * passes.sum() * len(rows.X)


@pytest.mark.parametrize("max_iter", [1, 2, 7])
def test_passes_that_run_out_end_as_others(rows, max_iter):
    centres = plus_plus(rows, np.random.default_rng(0).random((2, 6, 3)))
    assert (assert_bounds_change_nothing(rows, centres, 0.0, max_iter) == max_iter).all()


def test_rows_between_two_centres_go_where_they_would(rows, looked):
    """Rows on a grid have as near a second centre in many passes: which has them is for rounding to decide."""
    grid = np.stack(np.meshgrid(*[np.arange(12.0)] * 3), axis=-1).reshape(-1, 3) @ np.eye(3, 20) / 7
    grid = Rows(grid.astype(rows.X.dtype), grid.mean(axis=0))
    for seed in range(6):
        assert_bounds_change_nothing(grid, plus_plus(grid, np.random.default_rng(seed).random((2, 8, 4))))
    assert sum(looked)


def test_a_cluster_that_empties_takes_a_row_as_without_bounds(rows):
    far = plus_plus(rows, np.random.default_rng(0).random((2, 6, 3)))
    far[0, 2] = far[1, 3:] = 1e3
    assert_bounds_change_nothing(rows, far)
