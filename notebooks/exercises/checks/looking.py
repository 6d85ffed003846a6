"""Checks of notebook 5: choices without the test set, and what a network looks at."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from checks.attribution import _truths
from checks.running import Wrong, call, check, equal, tensor
from paperlib.guards import marked
from paperlib.kmex import KMEx

CANDIDATES = (1, 2, 50)


def _noisy(n, seed):
    """Two classes of two clumps each, crosswise, a fifth of the labels wrong: 1 prototype is too few, 50 too many."""
    rng = np.random.default_rng(seed)
    clump = rng.integers(4, size=n)
    Z = np.array([[0, 0], [5, 5], [0, 5], [5, 0]])[clump] + rng.normal(size=(n, 2))
    return Z, np.where(rng.random(n) < 0.2, clump < 2, clump >= 2).astype(int)


@check
def choose_k(choose_k):
    """5.1: choose_k(Z, y, Z_test, y_test, candidates) -> the K/C that does best on held-out training points."""
    for seed in (0, 1):
        (Z, y), (Z_test, y_test) = _noisy(240, seed), _noisy(240, seed + 50)
        Z, Z_test = marked(Z, "train"), marked(Z_test, "test")
        given = {"Z": Z, "y": y, "Z_test": Z_test, "candidates": CANDIDATES}
        order = ("Z", "y", "Z_test", "y_test", "candidates")
        found = []
        for labels in (y_test, 1 - y_test):  # with wrong labels of the test points: whoever does not look sees nothing
            now = {**given, "y_test": labels}
            found.append(call(choose_k, **{name: now[name] for name in order}))
        for k in found:
            if isinstance(k, bool) or not isinstance(k, int | np.integer) or k not in CANDIDATES:
                raise Wrong(f"choose_k returns {k!r}: return one of the candidates {CANDIDATES}, the number itself.")
        if found[0] != found[1]:
            raise Wrong("The choice changes when the labels of the test points change, so it was made on the test set: "
                        "hold out a part of the training points and choose on that.")
        models = {k: KMEx(k, n_init=3).fit(Z, y) for k in CANDIDATES}
        train, fresh = ({k: model.score(*points) for k, model in models.items()}
                        for points in ((Z, y), _noisy(600, seed + 99)))
        if fresh[found[0]] < max(fresh.values()) - 0.03:
            raise Wrong(_poor(found[0], train, fresh))
    return "The same K/C whatever the test labels say, and it does well on points that nobody has seen."


def _poor(k, train, fresh):
    score = f"K/C = {k} names {fresh[k]:.0%} of new points correctly, K/C = {max(fresh, key=fresh.get)} " \
            f"{max(fresh.values()):.0%}."
    if k == max(train, key=train.get):
        return f"{score} It is the best on the points that it was fitted on: score it on points that were held out."
    return f"{score} Fit on one part of the training points, score on the other, and take the best."


class _Scenes:
    """Stands in for drawn pictures: a picture holds the bird's number and the background's."""

    def redrawn(self, i, background=0):
        return torch.stack([torch.full((4, 4), float(x)) for x in (i, background, 0)])


def _network(says):
    """A network whose class is says(bird, background); how sure it is of that depends on the background, too."""
    def net(x):
        rows = [says(int(bird), int(background)) for bird, background in x[:, :2, 0, 0].tolist()]
        return torch.nn.functional.one_hot(torch.tensor(rows), 8) * (1 + x[:, 1, :1, 0])
    return net


NETWORKS = {"wavers before two backgrounds": lambda bird, ground: bird % 3 + 3 * (ground > 1 and bird % 4 == 1),
            "wavers before the last": lambda bird, ground: bird % 3 + 3 * (ground == 3 and bird % 2),
            "wavers before the first": lambda bird, ground: bird % 3 + 3 * (ground == 0 and bird % 2),
            "looks at the bird": lambda bird, ground: bird % 5, "looks at the background": lambda bird, ground: ground}


SLIPS = {  # sentence -> the share that this mistake gives, from classes (birds, 4) and whether each is not the first
    "This is the share of pictures, not of birds: a bird counts once, if any background changes its class.":
        lambda said, differs: differs.double().mean(),
    "The background before the last is the last that you try: there are four, 0 to 3.":
        lambda said, differs: differs[:, :3].any(1).double().mean(),
    "Background 1 is the first that you try: there are four, 0 to 3.":
        lambda said, differs: (said[:, 1:] != said[:, 1:2]).any(1).double().mean(),
    "You compare two backgrounds only: try all four.":
        lambda said, differs: differs[:, 1].double().mean(),
    "This is the share of birds that keep their class: take one less that.":
        lambda said, differs: 1 - differs.any(1).double().mean(),
    "These are birds, not their share: divide by their number.":
        lambda said, differs: differs.any(1).double().sum(),
    "This counts birds that change before every other background: any one is enough.":
        lambda said, differs: differs[:, 1:].all(1).double().mean(),
}


@check
def changes(changes):
    """5.2: changes(net, test, birds) -> the share of birds that get another class before another background."""
    cases, found = [], []
    for name, says in NETWORKS.items():
        for birds in ([0, 1, 2, 3, 4, 5, 6], [1, 3, 8, 9]):
            said = torch.tensor([[says(bird, ground) for ground in range(4)] for bird in birds])
            cases.append((name, said, said != said[:, :1]))
            found.append(tensor(changes, (), net=_network(says), test=_Scenes(), birds=birds))
    right = torch.stack([differs.any(1).double().mean() for _, _, differs in cases])
    for sentence, share in SLIPS.items():  # a mistake must explain all answers, not one
        if torch.allclose(torch.stack(found), torch.stack([share(said, differs) for _, said, differs in cases])):
            raise Wrong(sentence)
    for (name, *_), one, wanted in zip(cases, found, right, strict=True):
        equal(one, wanted, f"The share for a network that {name}", {},
              "For each bird: the network's classes before backgrounds 0 to 3; does any differ from the others?")
    return "An experiment: the bird stays, the background changes, and the network is asked again."


def two_networks() -> dict:
    """Two networks for the same eight sparrows, under names that tell nothing."""
    from paperlib.runs.study import Study
    return {"north": Study.of_profile("quick", dataset="sparrows").trained,
            "south": Study.of_profile("quick", dataset="shortcut").trained}


@check
def shortcut(shortcut):
    """5.2: the name of the network that learnt the planted shortcut."""
    if shortcut is ...:
        raise Wrong("The answer is still the stub: write the name of one network, in quotes.")
    if not isinstance(shortcut, str) or shortcut not in ("north", "south"):
        raise Wrong("Write \"north\" or \"south\".")
    if shortcut == "north":
        raise Wrong("This network keeps its classes when the background changes: it looks at the bird.")
    return "It learnt from pictures in which 95 of 100 birds had the background of their species."


@check
def share_beside(share_beside):
    """5.3: share_beside(change, part) -> (n,) share of |change| in cells that hold no pixel of the part."""
    for seed, (n, side, scale) in enumerate([(2, 4, 3), (1, 7, 2), (3, 3, 5)]):
        rng = torch.Generator().manual_seed(seed)
        change = torch.randn(n, side, side, generator=rng)
        part = torch.rand(n, side * scale, side * scale, generator=rng) < 0.9 / scale**2
        part[:, 0, 1] = True
        pooled = torch.nn.functional.avg_pool2d(part.float()[:, None], scale)[:, 0]
        on, size = max_pool2d(part.float()[:, None], scale)[:, 0] > 0, change.abs()

        def share(value, off, change=change):
            return (value * off).sum((1, 2)) / value.sum((1, 2))
        right = share(size, ~on)
        equal(tensor(share_beside, (n,), change=change, part=part), right, "The share", {
            "This is the share on the part: take the cells beside it.": 1 - right,
            "Plus and minus cancel in your sums: take the absolute value of the change.": share(change, ~on),
            "This counts cells, whatever happens in them: weigh each by its |change|.":
                (~on).double().mean((1, 2)),
            "A cell counts as on the part if any of its pixels is; you ask for more, or look at one pixel only.":
                share(size, ~part[:, ::scale, ::scale]),
            "A cell counts as on the part if any of its pixels is; you ask for half of them.":
                share(size, pooled <= 0.5),
            "A cell is on the part or not: you weigh it by the share of its pixels.": share(size, 1 - pooled)},
              "max_pool2d of the part gives the cells on it; then |change| beside them, divided by all |change|.")
    return "Much of the change may lie beside the part: a cell of the last block sees far more than its square."


WHY = {  # the truth about each sentence of exercise 5.3, and why
    "a": (True, "The logit is the mean of the cells' evidence before and after, by Theorem 1."),
    "b": (False, "A cell of the last block sees far more of the picture than its square."),
    "c": (True, "Refining conserves the mean, and the mean of eq. 11 times the squared norm is the logit."),
    "d": (False, "Each cell takes the nearest of the prototypes that there are, and the map need not lose one."),
    "e": (False, "A part may speak against the class; then the probability rises without it."),
}


@check
def must(must):
    """5.3: which sentences hold for every network, when a part is taken away: sentence's letter -> True or False."""
    _truths(must, WHY)
    return "What follows from an equation must hold; what a network makes of the part is to be measured."
