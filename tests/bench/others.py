"""Other explanations beside ours, in forward passes of the same picture."""
from __future__ import annotations

from functools import partial

import numpy as np
import torch

from paperlib.comparison import methods

from . import explaining, timing

SLOW = ("integrated gradients", "occlusion", "RISE")  # dozens of passes each: one round tells
OURS = 200  # prototypes: twenty classes with ten each


def passes(rounds: int = 5, size: int = explaining.SIZE) -> dict[str, float]:
    """name -> forward passes that one picture's explanation takes, the network's own pass included; medians."""
    net, x = explaining.network(), explaining.pictures(1, size=size)
    with torch.no_grad():
        seen, c = explaining.Seen(net, net.features(x), OURS // explaining.PER_CLASS), net(x).argmax(1)
    all_three = [explaining.explainer(name, OURS) for name in explaining.BLOCKS]
    ours = {f"{e.name}: concepts and attribution": partial(explaining.explain, seen, x, all_three[:i + 1])
            for i, e in enumerate(all_three) if e.name != "B34"}
    theirs = {"Grad-CAM": partial(methods.grad_cam, net, x, c),
              "integrated gradients": partial(methods.integrated_gradients, net, x, c),
              "occlusion": partial(methods.occlusion, net, x, c), "RISE": partial(methods.rise, net, x, c)}
    fast = {name: function for name, function in theirs.items() if name not in SLOW}
    forward = partial(torch.no_grad()(net), x)
    quick = timing.in_turns({"forward": forward, **ours, **fast}, rounds)
    slow = timing.in_turns({"forward": forward, **{name: theirs[name] for name in SLOW}}, 1, warm=0)
    one = np.median(quick["forward"])
    found = {name: 1 + float(np.median(quick[name]) / one) for name in ours}
    found |= {name: float(np.median(quick[name]) / one) for name in fast}
    return found | {name: float(slow[name][0] / slow["forward"][0]) for name in SLOW}
