"""What it costs to explain a picture once the network has seen it, in forward passes of the same batch."""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torchvision.models import resnet34

from paperlib.attribution import upstream
from paperlib.backbone import Backbone
from paperlib.concepts import ConceptExplainer, readings
from paperlib.theorem1 import predicted_class

from . import timing

SIZE = 224
PER_CLASS, PROTOTYPES = 10, (50, 200, 2000)  # K/C and K; the last is the paper's CUB, of 200 classes
BLOCKS = {"B4": (4,), "B34": (3, 4), "B234": (2, 3, 4)}
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
FEATURES, WITHIN = "features alone", "B234 within the class"


class Seen(torch.nn.Module):
    """A backbone that has seen its pictures: it gives the features that it was given, for nothing.

    Random weights give all pictures one class. Here the columns of the first `classes` classes are at a right angle to
    the mean embedding, so that pictures have several, as those of a trained network, and maps of several are made.
    """

    def __init__(self, net: Backbone, features: list[torch.Tensor], classes: int):
        super().__init__()
        C, mean = net.C.float()[:, :classes], features[-1].float().mean(dim=(0, 2, 3))
        self.C, self.bias = C - torch.outer(mean, mean @ C) / (mean @ mean), torch.zeros(classes)
        self.n_classes, self._features = classes, features

    def features(self, x):
        return self._features


def network(kind: torch.dtype = torch.float32, seed: int = 0) -> Backbone:
    """A ResNet34 with random weights, as its cost does not depend on them; kept as a study keeps its network."""
    torch.manual_seed(seed)
    net = Backbone(resnet34(num_classes=max(PROTOTYPES) // PER_CLASS).eval(), probe=(3, 64, 64))
    return net.to(dtype=kind, memory_format=torch.channels_last)


def pictures(n: int, kind: torch.dtype = torch.float32, size: int = SIZE) -> torch.Tensor:
    """n pictures (n, 3, size, size) of noise with the colours of a smooth background."""
    made = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(made[..., ::16, ::16], size=size, mode="bilinear")
    return (smooth + 0.3 * made).to(kind, memory_format=torch.channels_last)


@lru_cache
@torch.no_grad()
def rows(name: str, most: int = 2400) -> tuple[torch.Tensor, tuple[int, int]]:
    """Rows of eq. 8 of the network itself, `most` or a few more, and (H', W') of their maps."""
    choice, side = ConceptExplainer(BLOCKS[name]), SIZE // 2 ** (BLOCKS[name][0] + 1)
    q = choice.compose(network().features(pictures(-(-most // side**2))))
    return q.flatten(0, 2), q.shape[1:3]


def explainer(name: str, K: int) -> ConceptExplainer:
    """An explainer with K prototypes: rows drawn from the network's own, moved by a tenth of their spread."""
    (own, size), draw = rows(name), torch.Generator().manual_seed(2)
    drawn = own[torch.randperm(len(own), generator=draw)[:K]]
    drawn = drawn + 0.1 * own.std(0) * torch.randn(drawn.shape, generator=draw)
    state = {"prototypes": drawn, "prototype_sources": torch.zeros(K, 3, dtype=torch.long),
             "resolution": torch.tensor(size), "shares": torch.ones(K // PER_CLASS)}
    return ConceptExplainer.from_state({"blocks": BLOCKS[name], "prototypes_per_class": PER_CLASS}, state)


@torch.no_grad()
def explain(seen: Seen, x: torch.Tensor, explainers: list[ConceptExplainer], everyone: bool = True):
    """Prediction, concept map and attribution of the deepest of `explainers`, whose suffixes come first.

    everyone: the map among all K prototypes (eq. 9) and its vote (eq. 10), too; else only among the predicted class's.
    """
    if not everyone:
        c = predicted_class(seen, seen.features(x))
        return c, upstream(seen.features(x), seen.C, explainers, c, return_segments=True)
    deepest = explainers[-1]
    (reading,) = readings(seen, x, {deepest.name: deepest}, len(x))
    return reading, upstream(reading.features, seen.C, explainers, reading.predicted)


@torch.no_grad()
def ratios(kind: str, batch: int, rounds: int, prototypes=PROTOTYPES, size: int = SIZE) -> dict[str, dict]:
    """(features + explanation) / forward, by "B4, K = 50": [median, lower and upper quartile] over the rounds.

    forward: the network's own pass, as it predicts; features: the pass that keeps x^(1)..x^(B), which explains.
    """
    net, x = network(KINDS[kind]), pictures(batch, KINDS[kind], size)
    features, found = net.features(x), {FEATURES: partial(net.features, x)}
    for K in prototypes:
        seen = Seen(net, features, K // PER_CLASS)
        b4, b34, b234 = (explainer(name, K) for name in BLOCKS)
        found |= {f"B4, K = {K}": partial(explain, seen, x, [b4]),
                  f"B234, K = {K}": partial(explain, seen, x, [b4, b34, b234]),
                  f"{WITHIN}, K = {K}": partial(explain, seen, x, [b4, b34, b234], False)}
    steps = {f"{step}, K = {K}": function for step, function in parts(b234, features).items()}
    found |= steps
    seconds = timing.in_turns({"forward": partial(net, x), **found}, rounds)
    forward, kept = seconds.pop("forward"), seconds.pop(FEATURES)
    profile = {name: timing.spread(seconds.pop(name) / forward) for name in steps}
    return {"forward, seconds": timing.spread(forward),
            "ratios": {FEATURES: timing.spread(kept / forward),
                       **{name: timing.spread((kept + took) / forward) for name, took in seconds.items()}, **profile},
            "explanation, seconds": {name: float(np.median(took)) for name, took in seconds.items()}}


@torch.no_grad()
def parts(explainer: ConceptExplainer, features: list[torch.Tensor]) -> dict[str, Callable]:
    """What B234's explanation is made of, as functions: its rows, the products alone, all of eq. 9 (with them)."""
    q = explainer.rows(features)
    p, squares = q.prepared(explainer.prototypes_)
    return {"of it, eq. 8's rows": partial(explainer.rows, features),
            "of it, the products of eq. 9": lambda: [x @ columns.T for x, columns in zip(q.blocks, p, strict=True)],
            "of it, all of eq. 9": partial(q.nearest, p, squares)}
