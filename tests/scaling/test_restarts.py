import tracemalloc

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from paperlib.guards import count_different
from paperlib.scaling import restarts
from paperlib.scaling.restarts import RestartKMeans, Rows, lloyd, means, nearest, plus_plus


@pytest.fixture(scope="module")
def X():
    """Rows (600, 200) like those of a class: positive, of few directions and some noise, far from zero."""
    rng = np.random.default_rng(0)
    mixed = rng.dirichlet(np.full(12, 0.2), size=600) @ rng.gamma(0.5, size=(12, 200))
    return np.maximum(mixed + 0.1 * rng.normal(size=mixed.shape), 0) + 5


@parametrize_with_checks([RestartKMeans(n_init=2)])
def test_scikit_learn_accepts_it_as_an_estimator(estimator, check):
    check(estimator)


def direct_seeds(X, uniform):
    """Greedy k-means++ of one restart, one candidate at a time, from random numbers (K, trials)."""
    centres = [X[int(uniform[0, 0] * len(X))]]
    for u in uniform[1:]:
        closest = ((X[:, None] - np.array(centres)) ** 2).sum(axis=2).min(axis=1)
        cumulated = closest.cumsum()
        tried = [X[np.flatnonzero(cumulated > x * cumulated[-1])[0]] for x in u]
        left = [np.minimum(closest, ((X - c) ** 2).sum(axis=1)).sum() for c in tried]
        centres.append(tried[int(np.argmin(left))])
    return np.array(centres)


def direct_lloyd(X, centres, threshold):
    for passes in range(1, 300):
        labels = np.array([((x - centres) ** 2).sum(axis=1).argmin() for x in X])
        moved = np.array([X[labels == k].mean(axis=0) for k in range(len(centres))])
        moves, centres = ((moved - centres) ** 2).sum(), moved
        if moves <= threshold:
            return centres, passes


def test_seeds_and_iterations_against_one_restart_at_a_time(X):
    X = X[::4, :20]
    rows, uniform = Rows(X, X.mean(axis=0)), np.random.default_rng(1).random((4, 5, 3))
    seeds = plus_plus(rows, uniform)
    np.testing.assert_allclose(seeds + rows.shift, [direct_seeds(X, u) for u in uniform])
    centres, gain, passes = lloyd(rows, seeds, threshold=1e-3, max_iter=300)
    assert len(set(passes)) > 1, "a restart that has ended must not move while others go on"
    for found, least, steps, first in zip(centres + rows.shift, gain, passes, seeds + rows.shift, strict=True):
        wanted, needed = direct_lloyd(X, first, 1e-3)
        np.testing.assert_allclose(found, wanted)
        assert steps == needed
        within = sum(((x - wanted) ** 2).sum(axis=1).min() for x in X)
        assert within <= ((X - X.mean(axis=0)) ** 2).sum() - least <= 1.001 * within


@pytest.mark.parametrize("dtype, projection", [(np.float32, "auto"), (np.float64, "auto"), (np.float64, None)])
def test_ends_where_centres_are_the_means_of_their_nearest_rows(X, dtype, projection):
    X = X.astype(dtype)
    model = RestartKMeans(6, tol=0, random_state=0, projection=projection).fit(X)
    assert model.cluster_centers_.dtype == model.transform(X).dtype == dtype
    distance = ((X[:, None].astype(float) - model.cluster_centers_) ** 2).sum(axis=2)
    np.testing.assert_array_equal(model.labels_, distance.argmin(axis=1))
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    of_labels = [X[model.labels_ == k].mean(axis=0, dtype=float) for k in range(6)]
    np.testing.assert_allclose(model.cluster_centers_, of_labels, rtol=1e-6)
    assert model.inertia_ == pytest.approx(distance.min(axis=1).sum(), rel=1e-5)
    np.testing.assert_allclose(model.transform(X) ** 2, distance, rtol=1e-2 if dtype == np.float32 else 1e-6)


def test_as_good_as_scikit_learns_over_seeds(X):
    X = X[:300].astype(np.float32)
    theirs = [KMeans(8, n_init=10, random_state=seed).fit(X).inertia_ for seed in range(8)]
    for projection in ("auto", 20, None):
        ours = [RestartKMeans(8, random_state=seed, projection=projection).fit(X).inertia_ for seed in range(8)]
        assert np.mean(ours) <= 1.001 * np.mean(theirs)


def test_restarts_on_some_rows_are_finished_on_all(X, monkeypatch):
    rows = np.repeat(X, 3, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((3 * len(X), X.shape[1]))
    whole = [RestartKMeans(8, random_state=seed).fit(rows) for seed in range(6)]
    monkeypatch.setattr(restarts, "FEWER", len(rows) // 4)
    some = [RestartKMeans(8, random_state=seed).fit(rows) for seed in range(6)]
    one = [RestartKMeans(8, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(6)]
    mean = np.mean([each.inertia_ for each in some])
    assert mean < np.mean(one) and mean < 1.02 * np.mean([each.inertia_ for each in whole])
    assert [each.inertia_ for each in some] != [each.inertia_ for each in whole]
    for each in some:  # Lloyd's fixed point on all rows, to within tol
        means_ = [rows[each.labels_ == k].mean(axis=0) for k in range(8)]
        assert np.abs(each.cluster_centers_ - means_).max() < 0.05 * rows.std()


def test_restarts_never_hurt(X):
    one, ten = (np.array([RestartKMeans(8, n_init=n, random_state=seed).fit(X).inertia_ for seed in range(8)])
                for n in (1, 10))
    assert (ten <= 1.001 * one).all()
    assert (ten < 0.99 * one).any()


def test_threads_and_memory_order_change_nothing(X):
    first = RestartKMeans(5, random_state=3).fit(X)
    with threadpool_limits(2):
        again = RestartKMeans(5, random_state=3).fit(np.asfortranarray(X))
    for name in ("cluster_centers_", "labels_", "inertia_", "n_iter_"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_one_cluster_is_the_mean_and_one_restart_suffices(X):
    mean = X.astype(np.float32).mean(axis=0, dtype=float)
    np.testing.assert_array_equal(RestartKMeans(1).fit(X.astype(np.float32)).cluster_centers_[0],
                                  mean.astype(np.float32))
    each = RestartKMeans(7, n_init=1).fit(X[:7])
    np.testing.assert_allclose(np.sort(each.cluster_centers_, axis=0), np.sort(X[:7], axis=0))
    assert each.inertia_ == pytest.approx(0, abs=1e-9)


def test_an_empty_cluster_takes_the_farthest_row_as_scikit_learns_does():
    X = np.array([[0.0, 0], [0, 1], [10, 0], [10, 1], [50, 50]])
    first = np.array([[0, 0.5], [10, 0.5], [1000, 1000], [2000, 1000]])
    rows = Rows(X, X.mean(axis=0))
    found = means(rows, first[None, :3] - rows.shift)[0][0] + rows.shift
    np.testing.assert_allclose(found, KMeans(3, init=first[:3], n_init=1, max_iter=1).fit(X).cluster_centers_)
    two = means(rows, first[None] - rows.shift)[0][0] + rows.shift
    assert two[2].tolist() == [50, 50] and two[3].tolist() in X.tolist()


def test_equal_rows_and_ties():
    X = np.repeat(np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]]), 30, axis=0)
    model = RestartKMeans(4, random_state=0).fit(X)
    assert model.inertia_ < 1e-12 and len(set(model.labels_)) == 4
    same = means(Rows(X, X.mean(axis=0)), np.zeros((1, 2, 2)))[1]  # all rows go to the first, the second takes one
    assert np.isfinite(same).all()
    labels, inertia = nearest(X, np.zeros((2, 2)))
    assert not labels.any() and inertia == pytest.approx((X**2).sum())


def test_rows_that_differ_are_counted_up_to_what_is_needed():
    X = np.repeat(np.arange(5.0), 2000)[:, None] * [1, 0]
    X[7] = -0.0
    assert [count_different(X, n) for n in (1, 3, 5, 9)] == [1, 3, 5, 5]


def test_rows_are_not_copied():
    X = np.random.default_rng(0).random((12000, 450), dtype=np.float32)
    tracemalloc.start()
    RestartKMeans(10, max_iter=2, random_state=0).fit(X)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 0.3 * X.nbytes


@pytest.mark.parametrize("given, message", [
    ({"n_clusters": 0}, "n_clusters=0 must be a whole number"), ({"n_init": 1.5}, "n_init=1.5 must be a whole"),
    ({"max_iter": 0}, "max_iter=0 must be a whole"), ({"tol": -1}, "tol=-1 must be a number of at least 0"),
    ({"projection": 201}, "projection=201 is wider than the rows, which have 200 dimensions: give at most"),
    ({"projection": "wide"}, "projection='wide' must be a whole number"),
    ({"n_clusters": 601}, "n_samples=600 of which 600 differ cannot give n_clusters=601")])
def test_bad_parameters(X, given, message):
    with pytest.raises(ValueError, match=message):
        RestartKMeans(**given).fit(X)


def test_bad_rows(X):
    with pytest.raises(ValueError, match="contains NaN"):
        RestartKMeans().fit(np.where(X > 5.5, np.nan, X))
    with pytest.raises(ValueError, match="n_samples=50 of which 2 differ cannot give n_clusters=3 clusters: lower"):
        RestartKMeans(3).fit(np.repeat(X[:2], 25, axis=0))
