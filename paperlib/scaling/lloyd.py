"""Lloyd's algorithm for several restarts in each pass over the rows; within bounds, a pass looks at few of them."""
from __future__ import annotations

import numpy as np

PIECE = 256  # rows that are looked at together, so that they stay in a core's own cache
ROUNDING = 16  # a squared distance by a product is off by so many times the type's precision, at most


def lloyd(rows, centres, threshold, max_iter, bounded=False):
    """Lloyd's iteration of R restarts together, each until its centres' squared moves add up to `threshold` at most.

    centres (R, K, D) -> centres, gain (R,) as in `means`, passes (R,). bounded: with `Bounds`, which pays where rows
    are wide and most stay in their cluster. A restart's last pass works everything out, so that no bit changes.
    """
    centres, gain, steps = centres.copy(), np.zeros(len(centres)), np.zeros(len(centres), int)
    active, bounds = np.arange(len(centres)), Bounds(rows, len(centres)) if bounded else None
    for left in range(max_iter, 0, -1):
        before = centres[active]
        moved = bounds.means(before) if bounded and left > 1 else None
        if moved is None or (_squares(moved - before) <= threshold).any():
            moved, gain[active] = means(rows, before, bounds=bounds)
        centres[active] = moved
        steps[active] += 1
        stays = _squares(moved - before) <= threshold
        active = active[~stays]
        if len(active) == 0:
            break
        if bounded:
            bounds.follow((moved - before)[~stays], ~stays)
    return centres, gain, steps


def _squares(moves):
    return np.square(moves).sum(axis=(1, 2))


def means(rows, centres, of=None, bounds=None):
    """Means of the rows nearest to each centre, of R restarts in one pass: (R, K, D) -> means, gain (R,).

    gain: sum of n_k ||mean_k||^2, by which the inertia is less than the sum of all rows' squares. of: other rows, with
    as many, whose means are wanted. bounds: `Bounds` to begin here. An empty cluster takes the row that is farthest
    from its centre, as scikit-learn's.
    """
    R, K, _ = centres.shape
    of = rows if of is None else of
    product = scores(centres, rows.X.dtype).reshape(R * K, -1)
    totals = np.zeros((R * K, of.width))
    for some, x in rows.chunks(R * K):
        near = rows.times(product, some, x).reshape(R, K, -1)
        first = np.equal(near, near.min(axis=1, keepdims=True)).astype(x.dtype)
        if first.sum() > R * len(x):  # a tie: the first centre of them has the row
            first = np.equal(near.argmin(axis=1)[:, None], np.arange(K)[:, None]).astype(x.dtype)
        totals += first.reshape(R * K, -1) @ (x if of is rows else of.take(some))
        if bounds is not None:
            bounds.note(some, near, first)
    totals = totals.reshape(R, K, -1)
    if bounds is not None:
        bounds.begin(centres, totals)
    for r in np.flatnonzero((totals[..., -1] == 0).any(axis=1)):
        _relocate(rows, of, centres[r], totals[r])
    sums, counts = totals[..., :-1], totals[..., -1:].clip(min=1)
    return sums / counts, (np.square(sums) / counts).sum(axis=(1, 2))


def _relocate(rows, of, centres, totals):
    """Each centre without rows takes the row that is farthest from its own centre: totals (K, width) are changed."""
    empty = np.flatnonzero(totals[:, -1] == 0)
    label, distance = np.empty(len(rows.X), int), rows.squares()
    for some, x in rows.chunks(len(centres)):
        near = scores(centres, x.dtype) @ x.T
        label[some] = near.argmin(axis=0)
        distance[some] += near.min(axis=0)
    for k, i in zip(empty, distance.argsort(kind="stable")[::-1], strict=False):
        row = of.take(np.array([i]))[0]
        totals[label[i]] -= row
        totals[k] += row


def scores(centres, dtype):
    """The matrix whose product with a row and its 1 is ||x - c||^2 - ||x||^2: (..., D) -> (..., D + 1)."""
    norms = np.square(centres).sum(axis=-1, keepdims=True)
    return np.concatenate([-2 * centres, norms], axis=-1).astype(dtype)


class Bounds:
    """Hamerly's bounds (2010), of R restarts: how far each row is from its centre at most, from the others at least.

    They follow the centres as these move. While the one is below the other, a row need not be looked at.
    """

    def __init__(self, rows, R):
        self.rows, self.squares, self.totals = rows, rows.squares(), None
        self.label = np.empty((R, len(rows.X)), np.int32)
        self.own, self.others = np.empty(self.label.shape), np.empty(self.label.shape)

    def note(self, some, near, first):
        """Keep what is needed of the scores (R, K, n) of the rows `some`; first is 1 at the least score of each row."""
        self.label[:, some] = first.argmax(axis=1)
        self.own[:, some] = near.min(axis=1)
        near[first > 0] = np.inf
        self.others[:, some] = near.min(axis=1)

    def begin(self, centres, totals):
        """Begin with the scores that were noted and with the clusters' totals (R, K, width), where none is empty."""
        self.totals = totals.copy() if totals[..., -1].all() else None
        self.own, self.others = _bounds(self.own, self.others, self.squares, self._error(self.squares, centres))

    def follow(self, moves, go):
        """Widen the bounds by the moves (R', K, D) of the R' restarts that go on, of all R."""
        self.label, self.own, self.others = self.label[go], self.own[go], self.others[go]
        if self.totals is not None:
            self.totals = self.totals[go]
        for label, own, others, far in zip(self.label, self.own, self.others,
                                           np.sqrt(np.square(moves).sum(axis=2)), strict=True):
            most = np.full(len(far), far.max())
            most[far.argmax()] = np.partition(far, -2)[-2]  # of all but a row's own
            own += far[label]
            others -= most[label]

    def means(self, centres):
        """Means (R, K, D) of the rows nearest to each centre; None where a cluster is empty, or was."""
        if self.totals is None:
            return None
        product = scores(centres, self.rows.X.dtype)
        for r, (own, others) in enumerate(zip(self.own, self.others, strict=True)):
            loose = np.flatnonzero(own >= others)
            for index in np.array_split(loose, 1 + len(loose) // PIECE):
                self._look(r, index, product, self._error(self.squares[index], centres))
        counts = self.totals[..., -1:]
        return self.totals[..., :-1] / counts if counts.all() else None

    def _look(self, r, index, product, error):
        """Find anew the nearest centre of the rows `index`, and their bounds."""
        x, label, columns = self.rows.take(index), self.label[r], np.arange(len(index))
        near = product[r] @ x.T
        found = near.argmin(axis=0)
        own = near[found, columns]
        near[found, columns] = np.inf
        others = near.min(axis=0)
        self.own[r, index], self.others[r, index] = _bounds(own, others, self.squares[index], error)
        for i in np.flatnonzero(others - own <= error):  # so near that rounding decides: it has to be that of `means`
            some = next(some for some in self.rows.slices(product[..., 0].size) if index[i] < some.stop)
            near = product.reshape(-1, product.shape[-1]) @ self.rows.take(some).T
            found[i] = near.reshape(*product.shape[:2], -1)[r, :, index[i] - some.start].argmin()
            self.own[r, index[i]] = np.inf
        for i in np.flatnonzero(found != label[index]):
            self.totals[r, label[index[i]]] -= x[i]
            self.totals[r, found[i]] += x[i]
        label[index] = found

    def _error(self, squares, centres):
        """How far off a squared distance may be that was worked out by a product: (m,) for rows of these squares."""
        return ROUNDING * np.finfo(self.rows.X.dtype).eps * (squares + np.square(centres).sum(axis=-1).max())


def _bounds(own, others, squares, error):
    """The most and the least that distances are, from scores (..., m)."""
    return tuple(np.sqrt(np.maximum(x + squares + by, 0)) for x, by in ((own, error), (others, -error)))
