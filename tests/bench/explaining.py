"""What it costs to explain a picture once the network has seen it, in forward passes of the same batch."""
from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import torch
from torchvision.models import resnet34

from paperlib.attribution import upstream
from paperlib.backbone import Backbone
from paperlib.concepts import ConceptExplainer, readings
from paperlib.theorem1 import predicted_class

from . import timing

CLASSES, SIZE = 10, 224  # K = 10 K/C
PROTOTYPES = (50, 200, 2000)
BLOCKS = {"B4": (4,), "B34": (3, 4), "B234": (2, 3, 4)}
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
FEATURES, WITHIN = "features alone", "B234 within the class"


class Seen(torch.nn.Module):
    """A backbone that has seen its pictures: it gives the features that it was given, for nothing."""

    def __init__(self, net: Backbone, features: list[torch.Tensor]):
        super().__init__()
        self.C, self.bias = net.C.float(), net.bias.float()  # as its features, which are float32 in any case
        self.n_classes, self._features = net.n_classes, features

    def features(self, x):
        return self._features


def network(kind: torch.dtype = torch.float32, seed: int = 0) -> Backbone:
    """A ResNet34 with random weights, as its cost does not depend on them; kept as a study keeps its network."""
    torch.manual_seed(seed)
    net = Backbone(resnet34(num_classes=CLASSES).eval(), probe=(3, 64, 64))
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
             "resolution": torch.tensor(size), "shares": torch.ones(CLASSES)}
    return ConceptExplainer.from_state({"blocks": BLOCKS[name], "prototypes_per_class": K // CLASSES}, state)


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
    seen = Seen(net, net.features(x))
    found = {FEATURES: partial(net.features, x)}
    for K in prototypes:
        b4, b34, b234 = (explainer(name, K) for name in BLOCKS)
        found |= {f"B4, K = {K}": partial(explain, seen, x, [b4]),
                  f"B234, K = {K}": partial(explain, seen, x, [b4, b34, b234]),
                  f"{WITHIN}, K = {K}": partial(explain, seen, x, [b4, b34, b234], False)}
    seconds = timing.in_turns({"forward": partial(net, x), **found}, rounds)
    forward, features = seconds.pop("forward"), seconds.pop(FEATURES)
    return {"forward, seconds": timing.spread(forward),
            "ratios": {FEATURES: timing.spread(features / forward),
                       **{name: timing.spread((features + took) / forward) for name, took in seconds.items()}},
            "explanation, seconds": {name: float(np.median(took)) for name, took in seconds.items()}}
