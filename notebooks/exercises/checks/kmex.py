"""Checks of notebook 2: section 3.2, Table 1, Figure 2."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize

from checks.running import Wrong, as_tensor, call, check, equal, tensor
from paperlib.kmex import KMEx


def _classes(seed, sizes, D):
    """Points Z (n, D) of classes of these sizes, in random order, and their labels y (n,)."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    y = y[torch.randperm(len(y), generator=rng)]
    middles = 3 * torch.randn(len(sizes), D, generator=rng)
    return middles[y] + torch.randn(len(y), D, generator=rng), y


@check
def cosines(cosines):
    """2.1: cosines(P, Z, y) -> (class, out), the pair of numbers of Table 1."""
    for seed, (sizes, D) in enumerate([((4, 30, 9), 5), ((12, 3), 4), ((7, 2, 20, 3), 8)]):
        Z, y = _classes(seed, sizes, D)
        P = 2 * torch.randn(len(sizes), D, generator=torch.Generator().manual_seed(seed + 9))
        found = call(cosines, P=P, Z=Z, y=y)
        if isinstance(found, tuple | list) and not _two(found):
            raise Wrong("cosines must return two numbers, class and out: average over the classes before you return.")
        found = torch.stack([torch.as_tensor(x) for x in found]) if isinstance(found, tuple | list) else found
        found = as_tensor(found, (2,), "cosines", {"P": P, "Z": Z, "y": y})
        own = y[:, None] == torch.arange(len(P))
        cos = normalize(Z, dim=1) @ normalize(P, dim=1).T
        right = _table1(cos, own)
        equal(found, right, "The pair (class, out)", {
            "These are dot products: a cosine divides by both norms.": _table1(Z @ P.T, own),
            "The points are not brought to unit norm.": _table1(Z @ normalize(P, dim=1).T, own),
            "The prototypes are not brought to unit norm.": _table1(normalize(Z, dim=1) @ P.T, own),
            "The two numbers are swapped: the own class comes first.": right.flip(0),
            "Your mean is over all pairs, so large classes weigh more. Take each class's mean, then the mean over the "
            "classes.": torch.stack([cos[own].mean(), cos[~own].mean()]),
            "The second number holds the own class's points too: it is over all other points.":
                torch.stack([right[0], cos.mean(0).mean()]),
            "The other classes are averaged one by one, so small classes weigh more: take all points of the other "
            "classes together.": torch.stack([right[0], _apart(cos, own)]),
            "You take the points as if they came in the order of their classes: use y.":
                _table1(cos, y.sort().values[:, None] == torch.arange(len(P)))},
              "For each class c: the mean cosine of P[c] with the points of c, and with all others; then means over c.")
    return "The own class comes first, and each class weighs the same, as in Table 1."


def _two(found) -> bool:
    return isinstance(found, tuple | list) and len(found) == 2 and all(
        isinstance(x, int | float | np.generic) or (isinstance(x, torch.Tensor) and x.ndim == 0) for x in found)


def _apart(cos, own):
    """The mean cosine of a class's points with another class's prototype, over all pairs of two classes."""
    pairs = torch.stack([cos[mine].mean(0) for mine in own.T])
    return pairs[~torch.eye(len(pairs), dtype=torch.bool)].mean()


def _table1(cos, own):
    each = [(cos[mine, c].mean(), cos[~mine, c].mean()) for c, mine in enumerate(own.T)]
    return torch.tensor(each).mean(0)


@check
def predict(predict):
    """2.2: predict(Z, P, labels) -> (n,) the class of each point's nearest prototype."""
    for seed, (n, D, labels) in enumerate([(20, 4, [3, 7, 3, 7]), (15, 6, [5, 1, 1, 2, 5, 2]), (9, 3, [0, 1, 2])]):
        rng = torch.Generator().manual_seed(seed)
        labels = torch.tensor(labels)
        P = torch.randn(len(labels), D, generator=rng) * torch.linspace(0.3, 3, len(labels))[:, None]
        Z = torch.randn(n, D, generator=rng)
        found, d = tensor(predict, (n,), Z=Z, P=P, labels=labels), torch.cdist(Z, P)
        classes = labels.unique()
        mean_d = torch.stack([d[:, labels == c].mean(1) for c in classes], 1)
        equal(found, labels[d.argmin(1)], "The class of the point", {
            "This is the class of the farthest prototype: take the smallest distance, not the largest.":
                labels[d.argmax(1)],
            "These are the prototypes' numbers: look up their classes in labels.": d.argmin(1),
            "This takes the prototypes to be ordered by class: use labels, which need not be.":
                labels.sort().values[d.argmin(1)],
            "This is the largest dot product: KMEx takes the smallest l2 distance.": labels[(Z @ P.T).argmax(1)],
            "This is the largest cosine: KMEx takes the smallest l2 distance.":
                labels[(normalize(Z, dim=1) @ normalize(P, dim=1).T).argmax(1)],
            "This takes the class whose prototypes are near on average: one near prototype is enough.":
                classes[mean_d.argmin(1)]},
              "Section 3.2, step 3: the class of the prototype at the smallest distance.")
    return "The nearest prototype decides, whatever the order of the prototypes."


@check
def similarities(exp_similarity, log_similarity):
    """2.3: exp_similarity(d) and log_similarity(d), shaped as the distances d."""
    for seed, shape in enumerate([(6, 4), (3, 9), (1, 2)]):
        d = 3 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
        d[0, 0] = 0
        equal(tensor(exp_similarity, shape, d=d), (-d).exp(), "exp_similarity", {
            "The sign is missing: it grows with the distance.": d.exp(),
            "You square the distance: section 3.2 does not.": (-d**2).exp(),
            "This is the distance's negative; take its exponential.": -d}, "Section 3.2, step 2: exp(-d).")
        equal(tensor(log_similarity, shape, d=d), ((d + 1) / (d + 1e-4)).log(), "log_similarity", {
            "The fraction is upside down: the similarity must fall with the distance.":
                ((d + 1e-4) / (d + 1)).log(),
            "You square the distance: KMEx's code does not.": ((d**2 + 1) / (d**2 + 1e-4)).log(),
            "The logarithm is missing.": (d + 1) / (d + 1e-4)}, "log((d + 1) / (d + 0.0001)).")
    return "Both fall as the distance grows, so both are largest at the nearest prototype."


@check
def confused(confused):
    """2.3: two distances that exp(-d) cannot tell apart in float32, and the logarithm can."""
    if confused is ... or (isinstance(confused, tuple | list) and ... in confused):
        raise Wrong("confused is still the stub: write two distances, as (1.0, 2.0).")
    if not _two(confused):
        raise Wrong("Write two numbers, as (1.0, 2.0).")
    d = torch.tensor([float(x) for x in confused])
    if d[0] == d[1] or d.min() < 0 or not torch.isfinite(d).all():
        raise Wrong("Take two distances that are different in float32, finite and not negative.")
    exp, log = (-d).exp(), ((d + 1) / (d + 1e-4)).log()
    if exp[0] != exp[1]:
        raise Wrong(f"exp(-d) still tells them apart: it is {exp[0]:.8g} and {exp[1]:.8g}. Go farther out.")
    if log[0] == log[1]:
        raise Wrong("The logarithm cannot tell them apart either: do not go so far out, or take them less close.")
    return "exp(-d) is one number for both, so argmax would name whichever comes first: compare distances instead."


@check
def class_means(class_means):
    """2.4: class_means(Z, y) -> (classes, D), ordered by class."""
    for seed, (sizes, D) in enumerate([((4, 11, 6), 5), ((3, 3), 2), ((9, 2, 5, 7), 4)]):
        Z, y = _classes(seed, sizes, D)
        found = tensor(class_means, (len(sizes), D), Z=Z, y=y)
        right = torch.stack([Z[y == c].mean(0) for c in range(len(sizes))])
        seen = list(dict.fromkeys(y.tolist()))
        blocks = torch.stack([part.mean(0) for part in Z.split(list(sizes))])
        equal(found, right, "The mean", {
            "These are sums: divide by the number of points of each class.":
                torch.stack([Z[y == c].sum(0) for c in range(len(sizes))]),
            "The classes come in the order in which they are met: order them by label.": right[seen],
            "You take the points as if they came in the order of their classes: use y.": blocks,
            "These are medians.": torch.stack([Z[y == c].median(0).values for c in range(len(sizes))]),
            "Each row is the mean of all points.": Z.mean(0).expand(len(sizes), D)},
              "For each class c: Z[y == c].mean(0).")
        if not np.allclose(KMEx(1, n_init=1).fit(Z, y).prototypes_, found, atol=1e-4):
            raise Wrong("KMEx with one prototype per class finds other prototypes.")
    return "KMEx with K/C = 1 finds the same: the mean is the point with the smallest sum of squared distances."


@check
def hard_for_one(hard_for_one):
    """2.4: hard_for_one(n, seed) -> Z (2n, 2), y (2n,): KMEx with K/C = 1 fails there, with 5 it does not."""
    scores = {1: [], 5: []}
    for seed in range(3):
        n, sets = 100, []
        for part in (seed, seed + 100):
            found = call(hard_for_one, n=n, seed=part)
            if not isinstance(found, tuple | list) or len(found) != 2:
                raise Wrong("hard_for_one must return two things, points and labels: return Z, y.")
            inputs = {"n": n, "seed": part}
            Z = as_tensor(found[0], (2 * n, 2), "hard_for_one, as its first,", inputs)
            y = as_tensor(found[1], (2 * n,), "hard_for_one, as its second,", inputs)
            if sorted(y.tolist()) != [0] * n + [1] * n:
                raise Wrong("The labels must be 0 and 1, n of each.")
            sets.append((Z.numpy(), y.long().numpy()))
        again = as_tensor(call(hard_for_one, n=n, seed=seed)[0], (2 * n, 2), "hard_for_one, as its first,",
                          {"n": n, "seed": seed})
        if not np.array_equal(sets[0][0], again.numpy()):
            raise Wrong("Two calls with one seed give different points: draw all of them from that seed.")
        if np.array_equal(sets[0][0], sets[1][0]):
            raise Wrong("Two seeds give the same points: draw them from the seed, or new points are no test.")
        for k in scores:
            scores[k].append(KMEx(k, n_init=3).fit(*sets[0]).score(*sets[1]))
    one, five = (100 * float(np.mean(scores[k])) for k in (1, 5))
    if one > 75:
        raise Wrong(f"One prototype per class already names {one:.0f} % of new points correctly; it should be under "
                    f"75 %. Put one class on both sides of the other: its mean then lies where the other class is.")
    if five < 95:
        raise Wrong(f"Five prototypes per class name only {five:.0f} % of new points correctly; it should be over "
                    f"95 %. Leave more room between the clumps.")
    return f"New points named correctly: {one:.0f} % with one prototype per class, {five:.0f} % with five."


@check
def nearness(nearness):
    """2.5: nearness(p, Z) -> distance of p to its nearest point, in units of the points' spacing."""
    for seed, (n, D) in enumerate([(12, 3), (7, 5), (24, 2)]):
        rng = torch.Generator().manual_seed(seed)
        Z, p = torch.randn(n, D, generator=rng) ** 3, 2 * torch.randn(D, generator=rng)
        if seed:
            Z[1] = Z[0]  # two points at one place: each is the other's nearest, at distance 0
        d = (Z - p).norm(dim=1)
        found = call(nearness, p=p, Z=Z)
        if isinstance(found, float | np.generic | torch.Tensor) and bool(torch.isinf(torch.as_tensor(found)).any()):
            raise Wrong("The spacing is 0: each point is its own nearest. Remove the diagonal before the minimum.")
        found = as_tensor(found, (), "nearness", {"p": p, "Z": Z})
        between = torch.cdist(Z, Z, compute_mode="donot_use_mm_for_euclid_dist")
        fellow = between.clone().fill_diagonal_(torch.inf).min(1).values
        unit = np.median(fellow.numpy())
        equal(found, d.min() / unit, "The nearness", {
            "The unit is missing: divide by the spacing of the points.": d.min(),
            "The unit is a mean; one far point moves it. Take the median.": d.min() / fellow.mean(),
            "This is the distance to the mean of the points, or the mean distance: take that to the nearest point.":
                d.mean() / unit,
            "This is the distance to the points' centroid: take that to the nearest point.":
                (Z.mean(0) - p).norm() / unit,
            "The unit is the median of all distances: take each point's distance to its nearest fellow first.":
                d.min() / np.median(between[~torch.eye(n, dtype=torch.bool)].numpy()),
            "For an even number of points torch's median is the lower of the two in the middle. Take numpy's, or "
            "torch.quantile(fellow, 0.5).": d.min() / fellow.median(),
            "Remove the diagonal alone: a distance of 0 between two different points counts, too.":
                d.min() / np.median(between.masked_fill(between == 0, torch.inf).min(1).values.numpy())},
              "The smallest distance from p to a row of Z, divided by the median distance of a row to its nearest "
              "other row.")
    return "At 1, p lies as near to the class as its points lie to one another."
