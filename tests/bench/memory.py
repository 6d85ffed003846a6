"""Peak memory of fitting and explaining, for few and for many classes: each count in a process of its own.

The growth of the peak over what was there before is what the fit, or the maps, need by themselves. Pictures are noise
and the network is a ResNet18 with random weights: memory depends on neither.
"""
from __future__ import annotations

import json

from . import timing

CLASSES, PER_CLASS, SIZE = (4, 16), 60, 96


def growth(classes: int, per_class: int = PER_CLASS) -> dict[str, float]:
    """In MiB: rows of eq. 8 of one class and of all, what fitting B234 adds to the peak, and what its maps add."""
    import torch

    from paperlib.concepts import ConceptExplainer
    from paperlib.networks.architectures import build

    net, draw = build("resnet18", classes), torch.Generator().manual_seed(0)
    x = torch.randn(classes * per_class, 3, SIZE, SIZE, generator=draw)
    labels = torch.arange(classes).repeat_interleave(per_class)
    # What stays whatever the number of classes: the network, its work space, the libraries of one small fit.
    few = torch.arange(classes).repeat_interleave(2)
    ConceptExplainer((2, 3, 4), 1, 1).fit(net, x[few * per_class], few)
    before = timing.peak_mib()
    explainer = ConceptExplainer((2, 3, 4), 5, 1).fit(net, x, labels)
    fitted = timing.peak_mib()
    explainer.explanation_map(net, x)
    cells, channels = explainer.resolution_[0] * explainer.resolution_[1], explainer.prototypes_.shape[1]
    rows = per_class * cells * channels * 4 / 2**20
    return {"rows, one class": rows, "rows, all": classes * rows, "fit adds": fitted - before,
            "maps add": timing.peak_mib() - fitted}


def growths(counts=CLASSES, per_class: int = PER_CLASS) -> dict[str, dict[str, float]]:
    """"16 classes" -> `growth`"""
    code = "import json; from tests.bench import memory; print(json.dumps(memory.growth({}, {})))"
    return {f"{n} classes": json.loads(timing.python(code.format(n, per_class)).splitlines()[-1]) for n in counts}
