"""Checks of notebook 3: section 3.3, eq. 7 to 10."""
from __future__ import annotations

import torch
from torch.nn.functional import interpolate, normalize, one_hot

from checks.running import Wrong, check, equal, tensor


def _blocks(seed, n, widths, sides):
    """Outputs (n, D_b, H_b, W_b) of some blocks, as after a ReLU; one cell of the first is all zero."""
    rng = torch.Generator().manual_seed(seed)
    sizes = [(n, D, side, side + 1) for D, side in zip(widths, sides, strict=True)]
    found = [(torch.randn(size, generator=rng) + 0.5).relu() + 0.05 for size in sizes]
    found[0][0, :, 0, 0] = 0
    return found


def _compose(features, divide=lambda u: normalize(u, dim=1), weight=lambda D: 1 / D, **mode):
    """Eq. 7 and 8, with other ways to divide, to weigh and to interpolate for the mistakes."""
    size, mode = features[0].shape[2:], {"mode": "bilinear"} | mode
    u = [interpolate(x, size=size, **mode) for x in features]
    return torch.cat([divide(x) * weight(x.shape[1]) for x in u], 1).movedim(1, -1)


@check
def composite(composite):
    """3.1: composite(features) -> q (n, H', W', sum of D_b): eq. 7 and 8."""
    for seed, (n, widths, sides) in enumerate([(2, (4, 6, 8), (6, 3, 2)), (1, (5,), (3,)), (3, (3, 6), (4, 4))]):
        features = _blocks(seed, n, widths, sides)
        H, W = features[0].shape[2:]
        found = tensor(composite, (n, H, W, sum(widths)), features=features)
        right = _compose(features)
        again = [normalize(x, dim=1) for x in features]
        slips = {
            "The norm is taken first and the interpolation second: eq. 7 comes before eq. 8.":
                _compose(again, divide=lambda u: u),
            "The corners are aligned: leave align_corners at False.": _compose(features, align_corners=True),
            "Cells are copied, not interpolated: take mode='bilinear' (eq. 7).": _compose(features, mode="nearest"),
            "You divide by the norm of a picture's whole block: eq. 8 divides by the norm of each cell's channels.":
                _compose(features, divide=lambda u: normalize(u.flatten(1), dim=1).view_as(u)),
            "You divide by the norm over the cells: eq. 8 divides by the norm over the channels, dimension 1.":
                _compose(features, divide=lambda u: normalize(u.flatten(2), dim=2).view_as(u)),
            "The blocks come deepest first: keep the order in which they are given.":
                torch.cat(_compose(features).split(widths, -1)[::-1], -1)}
        for sentence, value in slips.items():
            if value.shape == found.shape and torch.allclose(found, value.double(), atol=1e-6) \
                    and not torch.allclose(right, value, atol=1e-6):
                raise Wrong(sentence)
        _norms(found, widths)
        equal(found, right, "q", {}, "Interpolate each block to the first one's size, divide by the norm of each "
              "cell's channels and by D_b, and join the channels.")
    return "Each block's part of a row has norm 1/D_b, at the resolution of the first block."


def _norms(q, widths):
    """Say which block's rows do not have norm 1/D_b (rows of zeros excepted)."""
    for b, (part, D) in enumerate(zip(q.split(list(widths), -1), widths, strict=True), start=1):
        norms = part.norm(dim=-1).flatten()
        norms = norms[norms > 0]
        if len(norms) == 0:
            raise Wrong(f"Block {b} is all zero in q.")
        if float(norms.std(unbiased=False)) > 1e-3 * float(norms.mean()):
            raise Wrong(f"Rows not normalised: block {b} has a row of norm {norms.max():.3g} and one of "
                        f"{norms.min():.3g}; eq. 8 divides by the norm of each row.")
        if abs(float(norms.mean()) * D - 1) > 1e-3:
            raise Wrong(f"Rows of block {b} have norm {norms.mean():.3g}, and it should be 1/D_b = {1 / D:.3g} (its "
                        f"{D} channels): eq. 8 divides by D_b, too.")


@check
def block_shares(block_shares):
    """3.2: block_shares(widths, exponent) -> each block's share of a row's squared norm, with factor D_b^exponent."""
    for widths, exponent in [((64, 128, 256), -1), ((4, 6), 0), ((3, 9, 27), 1), ((2, 8), -0.5)]:
        D = torch.tensor(widths, dtype=torch.float64)
        found = tensor(block_shares, (len(D),), widths=list(widths), exponent=exponent)
        squares = D ** (2 * exponent)
        equal(found, squares / squares.sum(), "The share of the block", {
            "The squares are missing: a block of norm w adds w squared to the squared norm of the row.":
                D**exponent / (D**exponent).sum(),
            "The shares do not add up to 1: divide by their sum.": squares,
            "The sign of the exponent is lost: 1/D_b is the exponent -1.": 1 / squares / (1 / squares).sum(),
            "These are roots of the shares: leave the squared norm squared.": (squares / squares.sum()).sqrt(),
            "The last block comes first: keep the order of widths.": (squares / squares.sum()).flip(0)},
              "A block with D_b channels has norm D_b ** exponent; its share is the square of that by the sum of all "
              "squares.")
    return "With 1/D_b, twice the channels is a quarter of the say."


def _rows(seed, n, R, K, D):
    rng = torch.Generator().manual_seed(seed)
    q, P = torch.randn(n, R, D, generator=rng), torch.randn(K, D, generator=rng)
    P[:, 0] *= torch.linspace(0.2, 3, K)
    P[-1] = P[0]  # two prototypes at one place: a tie
    q[0, 0] = P[0]
    return q, P


@check
def assign_one_hot(assign_one_hot):
    """3.3: assign_one_hot(q, P) -> (n, R, K), a 1 at each row's nearest prototype: eq. 9."""
    for seed, (n, R, K, D) in enumerate([(2, 7, 5, 3), (1, 4, 4, 6), (3, 9, 3, 2)]):
        q, P = _rows(seed, n, R, K, D)
        found, d = tensor(assign_one_hot, (n, R, K), q=q, P=P), torch.cdist(q, P.expand(n, K, D))
        ones = found.sum(-1)
        if bool(((found == 0) | (found == 1)).all()) and float(ones.max()) > 1:
            if torch.equal(found, one_hot(d.argmin(1), R).movedim(1, 2).double()):
                raise Wrong("Each prototype takes its nearest row; eq. 9 gives each row its nearest prototype. Take "
                            "the smallest distance over the prototypes, the last dimension.")
            raise Wrong("A row holds more than one 1, where two prototypes are equally near: take argmin, which gives "
                        "the first, not every distance that equals the smallest.")
        equal(found, one_hot(d.argmin(-1), K).double(), "The assignment", {
            "These are the farthest prototypes: take argmin, not argmax.": one_hot(d.argmax(-1), K),
            "These are the prototypes with the largest dot product: eq. 9 takes the smallest distance.":
                one_hot((q @ P.T).argmax(-1), K),
            "These are the prototypes with the largest cosine: eq. 9 takes the smallest distance.":
                one_hot((normalize(q, dim=-1) @ normalize(P, dim=-1).T).argmax(-1), K),
            "These are nearest by the sum of absolute differences: eq. 9 takes the l2 distance.":
                one_hot(torch.cdist(q, P.expand(n, K, D), p=1).argmin(-1), K),
            "Of two prototypes that are equally near, the last takes the row: give it to the first.":
                one_hot(K - 1 - d.flip(-1).argmin(-1), K),
            "Each prototype takes its nearest row; eq. 9 gives each row its nearest prototype. Take the smallest "
            "distance over the prototypes, the last dimension.":
                one_hot(d.argmin(1), R).movedim(1, 2),
            "These are weights between 0 and 1: eq. 9 gives a 1 to the nearest and 0 to the others.":
                (-d).softmax(-1)},
              "torch.cdist, then argmin over the prototypes, then one_hot.")
    return "Each row has one 1; at a tie it stands at the first of the equally near."


def _votes(seed, n, R, C, per):
    rng = torch.Generator().manual_seed(seed)
    k = torch.randint(C * per, (n, R), generator=rng)
    return one_hot(k, C * per), torch.rand(n, R, generator=rng)


@check
def vote(vote):
    """3.4: vote(s, n_classes) -> y (n, n_classes), the share of the rows that each class's prototypes hold: eq. 10."""
    for seed, (n, R, C, per) in enumerate([(2, 12, 3, 2), (1, 9, 4, 5), (3, 8, 2, 3)]):
        s, _ = _votes(seed, n, R, C, per)
        found, counts = tensor(vote, (n, C), s=s, n_classes=C), s.double().sum(1)
        right = counts.view(n, C, per).sum(2) / R
        equal(found, right, "The vote", {
            "These are counts of rows: divide by their number R.": right * R,
            "Your windows take every C-th prototype; those of one class stand side by side. Reshape the prototypes to "
            "(C, K/C), not (K/C, C).": counts.view(n, per, C).sum(1) / R,
            "This is a mean over the window: it is smaller than the share by the factor K/C, and does not add up to 1.":
                counts.view(n, C, per).mean(2) / R,
            "This counts each class's most frequent prototype alone: eq. 10 adds up the window.":
                counts.view(n, C, per).amax(2) / R},
              "Count the rows of each prototype, add up each class's K/C neighbouring prototypes, divide by R.")
    return "Shares of the rows: they add up to 1."


@check
def decide(decide):
    """3.4: decide(y, s, distance) -> (n,) the class; a tie goes to the class whose rows are nearer on average."""
    cases = [[0, 0, 2, 2, 4, 5], [1, 1, 3, 3, 5, 5], [0, 3, 3, 3, 4, 4], [2, 4, 2, 4, 0, 1], [5, 0, 5, 0, 2, 3],
             [0, 0, 1, 5, 4, 4]]
    for seed in range(4):
        k = torch.tensor(cases)[torch.randperm(6, generator=torch.Generator().manual_seed(seed))]
        s, distance = one_hot(k, 6), torch.rand(k.shape, generator=torch.Generator().manual_seed(seed))
        distance[(k == torch.tensor(cases[-1])).all(1)] = torch.tensor([0.1, 0.1, 0.9, 0.4, 0.4, 0.4])
        of = one_hot(k // 2, 3).double()
        y, mean = of.mean(1), (of * distance[..., None]).sum(1) / of.sum(1).clamp_min(1)
        found = tensor(decide, (6,), y=y.float(), s=s, distance=distance)
        best, held = y == y.amax(1, keepdim=True), s.sum(1)
        each = (s * distance[..., None]).sum(1) / held.clamp_min(1)  # (n, 6), the mean distance to each prototype
        twice = each.view(6, 3, 2).sum(2) / (held > 0).view(6, 3, 2).sum(2).clamp_min(1)
        equal(found, mean.masked_fill(~best, torch.inf).argmin(1), "The class of the picture", {
            "A tie goes to the lowest class, whatever the distances: of those with most rows take the one whose rows "
            "are nearer.": y.argmax(1),
            "A tie goes to the class whose rows are farther: take the smaller mean distance.":
                mean.masked_fill(~best, -1).argmax(1),
            "This looks at distances alone: first come the votes, and distances decide only between classes with "
            "equally many.": mean.masked_fill(of.sum(1) == 0, torch.inf).argmin(1),
            "This is the class of the most frequent prototype: eq. 10 counts a class's prototypes together.":
                s.sum(1).argmax(1) // 2,
            "You average over each prototype's rows first, and then over prototypes: each row of a class weighs the "
            "same.":
                twice.masked_fill(~best, torch.inf).argmin(1),
            "This is the class with the fewest rows.": y.argmin(1)},
              "The class with the largest y; of several, the one with the smallest mean distance of its own rows.")
    return "Most rows win; a tie goes to the class whose rows are nearer to their prototypes."
