"""k-means for one class's rows of eq. 8: all restarts share each pass over the rows, most passes in few dimensions."""
from __future__ import annotations

from functools import cache, cached_property
from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.metrics import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController

from paperlib.guards import check_count, count_different
from paperlib.scaling.lloyd import lloyd, means, scores

AUTO = 48  # dimensions of the projection; it pays where rows are more, and wider, than twice as many
SAMPLE = 1024  # rows from which the projection is found
FEWER = 8192  # rows on which the restarts run, where there are more than twice as many
FINALISTS = 3, 2  # restarts that go on, on all rows, and that are finished in all dimensions
CACHED = 2**19  # bytes of a chunk of rows and its distances, so that they stay in a core's own cache


class RestartKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """k-means with many restarts for little more than the price of one; to be used as scikit-learn's KMeans.

    n_clusters    K, or K/C for the rows of one class
    n_init        restarts: all are seeded by greedy k-means++, and run together
    tol           a restart ends when its centres' squared moves add up to at most this share of a feature's variance
    max_iter      passes of a restart over the rows, at most, in each of these stages
    random_state  seed; with equal seeds, more restarts add to the first ones
    projection    dimensions in which the restarts run before the two best are finished in all: at most the rows' own;
                  "auto" for 48 where rows are wider and more than 96, None for all dimensions from the first.
                  Projected, they run on 8,192 of more than twice as many rows; the three best go on with all

    After fit: cluster_centers_ (K, D) of the rows' type, labels_ (m,), inertia_, n_iter_, n_features_in_. Results are
    equal on any number of threads. Rows (m, D), C-contiguous, are neither copied nor changed: with a projection, fit
    takes about 100 numbers a row beside them.
    """

    def __init__(self, n_clusters=8, *, n_init=10, tol=1e-4, max_iter=300, random_state=None, projection="auto"):
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.projection = projection

    def fit(self, X, y=None):
        """Cluster the rows X (m, D). Raises ValueError for NaN, fewer different rows than clusters, or a parameter."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        self._check_params(X)
        # One thread: on small data a team of threads costs more than it saves; and BLAS adds in another order with two.
        with threads().limit(limits=1, user_api="blas"):
            self._fit(X)
        return self

    def _fit(self, X):
        rng = check_random_state(self.random_state)
        seeds, rows = rng.randint(2**31 - 1, size=self.n_init), Rows(X, X.mean(axis=0, dtype=np.float64))
        centres, self.n_iter_ = np.zeros((1, X.shape[1])), 1  # one cluster: the mean, about which the rows are
        if self.n_clusters > 1:
            centres, self.n_iter_ = self._restarts(rows, seeds, rng)
        self.cluster_centers_ = (centres + rows.shift).astype(X.dtype)
        self.labels_, self.inertia_ = nearest(X, self.cluster_centers_)
        self._n_features_out = self.n_clusters

    def _restarts(self, rows, seeds, rng):
        """The best restart's centres (K, D) about the rows' mean, and how many passes it took."""
        m, D = rows.X.shape
        stop = {"threshold": self.tol * rows.squares().mean(dtype=np.float64) / D, "max_iter": self.max_iter}
        draws = self.n_clusters, 2 + int(np.log(self.n_clusters))  # as many trials as scikit-learn's
        uniform = np.stack([np.random.RandomState(seed).random_sample(draws) for seed in seeds])
        widths = {"auto": AUTO if min(m, D) > 2 * AUTO else D, None: D}
        few = rows.project(widths.get(self.projection, self.projection), rng)
        some = few.sample(FEWER, rng)
        centres, gain, steps = lloyd(some, plus_plus(some, uniform), **stop)
        if some is not few:
            centres, gain, steps = _best(FINALISTS[0], centres, gain, steps, few, stop)
        if few is not rows:
            centres, gain = means(few, centres, rows)
            del some, few  # before bounds take room
            centres, gain, steps = _best(FINALISTS[1], centres, gain, steps, rows, stop, bounded=True)
        return centres[gain.argmax()], int(steps[gain.argmax()])

    def predict(self, X):
        """Number of the nearest centre of each row: (m, D) -> (m,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        with threads().limit(limits=1, user_api="blas"):
            return nearest(X, self.cluster_centers_.astype(X.dtype))[0]

    def transform(self, X):
        """Distances of rows to centres: (m, D) -> (m, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return euclidean_distances(X, self.cluster_centers_.astype(X.dtype))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_params(self, X):
        for name in ("n_clusters", "n_init", "max_iter"):
            check_count(name, getattr(self, name))
        if isinstance(self.tol, bool) or not isinstance(self.tol, Real) or not self.tol >= 0:
            raise ValueError(f"tol={self.tol!r} must be a number of at least 0.")
        if self.projection not in ("auto", None):
            check_count("projection", self.projection)
            if self.projection > X.shape[1]:
                raise ValueError(f"projection={self.projection} is wider than the rows, which have {X.shape[1]} "
                                 f"dimensions: give at most these, or None.")
        if (different := count_different(X, self.n_clusters)) < self.n_clusters:
            raise ValueError(f"n_samples={len(X)} of which {different} differ cannot give n_clusters={self.n_clusters} "
                             f"clusters: lower n_clusters.")


@cache
def threads() -> ThreadpoolController:
    """What limits the threads of BLAS and OpenMP. To find the libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()


class Rows:
    """Rows (m, D) about `shift` (D,), read in chunks with a last column of ones: so one product gives sums and counts.

    shift None: X already is (m, D + 1) with its ones.
    """

    def __init__(self, X, shift=None):
        self.X, self.shift = X, shift
        self.width = X.shape[1] + (shift is not None)

    def slices(self, columns=0):
        """Slices of the rows, such that there is room in the cache for `columns` numbers beside each row."""
        size = max(64, CACHED // (self.X.itemsize * (self.width + columns)))
        return [slice(start, min(start + size, len(self.X))) for start in range(0, len(self.X), size)]

    def chunks(self, columns=0):
        """(slice, (n, width)) of all rows, in `slices`."""
        slices = self.slices(columns)
        if self.shift is not None:
            shift, buffer = self.shift.astype(self.X.dtype), np.ones((slices[0].stop, self.width), self.X.dtype)
        for some in slices:
            chunk = self.X[some]
            if self.shift is not None:
                np.subtract(chunk, shift, out=buffer[: len(chunk), :-1])
                chunk = buffer[: len(chunk)]
            yield some, chunk

    @cached_property
    def _columns(self):
        small = self.shift is None and self.X.nbytes <= 4 * CACHED  # a copy of such may be, and saves a quarter
        return np.ascontiguousarray(self.X.T) if small else None

    def times(self, product, some, x):
        """product (k, width) @ x.T, of the rows x (n, width) which are those of the slice `some`."""
        return product @ (x.T if self._columns is None else self._columns[:, some])

    def take(self, index):
        """The rows of these numbers, (..., width)."""
        chosen = self.X[index]
        if self.shift is None:
            return chosen
        found = np.ones((*chosen.shape[:-1], self.width), chosen.dtype)
        np.subtract(chosen, self.shift.astype(chosen.dtype), out=found[..., :-1])
        return found

    def squares(self):
        """||x||^2 of each row, (m,)."""
        found = np.empty(len(self.X), self.X.dtype)
        for some, x in self.chunks():
            found[some] = np.einsum("nd,nd->n", x[:, :-1], x[:, :-1])
        return found

    def project(self, width, rng):
        """These rows in the `width` dimensions in which a sample of them varies most (Halko et al. 2011)."""
        D = self.width - 1
        if width >= D:
            return self
        sample = self.X[rng.permutation(len(self.X))[:SAMPLE]]
        sample -= self.shift.astype(sample.dtype)
        basis = rng.standard_normal((D, min(width + 8, D))).astype(sample.dtype)
        for _ in range(3):
            basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
        axes = np.linalg.eigh(np.cov(sample @ basis, rowvar=False))[1]  # growing variance
        basis = (basis @ axes[:, ::-1][:, :width]).astype(sample.dtype)
        projected = np.ones((len(self.X), width + 1), sample.dtype)
        for some, x in self.chunks():
            np.matmul(x[:, :-1], basis, out=projected[some, :-1])
        return Rows(projected)

    def sample(self, n, rng):
        """n of these rows, drawn without replacement; all of them where they are not projected, or at most 2 n."""
        if self.shift is not None or len(self.X) <= 2 * n:
            return self
        return Rows(self.X[np.sort(rng.permutation(len(self.X))[:n])])


def plus_plus(rows, uniform):
    """Greedy k-means++ of all restarts at once: random numbers (R, K, trials) in 0..1 -> centres (R, K, D).

    Each next centre is, of some rows drawn in proportion to their squared distance from the nearest centre so far, the
    one that leaves the least sum of them.
    """
    restarts, K, trials = uniform.shape
    squares, centres = rows.squares(), []
    closest = np.full((restarts, len(rows.X)), np.inf, rows.X.dtype)
    for k in range(K):
        if k == 0:
            drawn = (uniform[:, 0, :1] * len(rows.X)).astype(int)
        else:
            drawn = np.stack([_draw(c, u[k]) for c, u in zip(closest, uniform, strict=True)])
        x = rows.take(drawn)[..., :-1].astype(np.float64)
        product, left = scores(x, rows.X.dtype), 0
        if k:
            for some, distance in _distances(rows, squares, product):
                left = left + np.minimum(distance, closest[:, None, some]).sum(axis=2, dtype=np.float64)
            best = np.argmin(left, axis=1)
            x, product = (np.take_along_axis(a, best[:, None, None], axis=1) for a in (x, product))
        for some, distance in _distances(rows, squares, product):
            np.minimum(closest[:, some], distance[:, 0], out=closest[:, some])
        centres.append(x[:, 0])
    return np.stack(centres, axis=1)


def _distances(rows, squares, product):
    for some, x in rows.chunks(product.shape[0] * product.shape[1]):
        distance = rows.times(product.reshape(-1, product.shape[-1]), some, x).reshape(*product.shape[:2], -1)
        distance += squares[some]
        yield some, np.maximum(distance, 0, out=distance)


def _draw(weights, uniform):
    total = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(total, uniform * total[-1], side="right").clip(max=len(weights) - 1)


def _best(n, centres, gain, steps, rows, stop, bounded=False):
    """The n restarts that gain most, gone on with on these rows: as `lloyd`."""
    last = gain.argsort(kind="stable")[::-1][:n]
    centres, gain, more = lloyd(rows, centres[last], **stop, bounded=bounded)
    return centres, gain, steps[last] + more


def nearest(X, centres):
    """Number of each row's nearest centre, (m,) int32, and the sum of the squared distances to them."""
    shift = centres.mean(axis=0, dtype=np.float64)
    labels, inertia, product = np.empty(len(X), np.int32), 0.0, scores(centres - shift, X.dtype)
    for some, x in Rows(X, shift).chunks(len(centres)):
        labels[some] = (product @ x.T).argmin(axis=0)
        apart = X[some] - centres[labels[some]]
        inertia += float(np.vdot(apart, apart))
    return labels, inertia
