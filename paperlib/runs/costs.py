"""What it costs to fit prototypes of any number of pictures and classes, on any number of workers: a model.

For n pictures of C classes, R' cells of D channels each, on N workers that each take whole classes (section 3.3):

    seconds = ceil(C / N) n / C (read + forward + R' (compose + K/C cluster))
    bytes   = 4 R' D n / C for the rows of one class, which a worker holds; 4 R' D n for all of them
    travels = (4 D + 24) K, prototypes and their sources, back from the workers; no picture and no row does

`read` and `forward` are seconds a picture, `compose` seconds a row, `cluster` seconds a row and prototype: `rates`
measures them on a few pictures. The model assumes that a row costs the same in a large class as in a small one.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import process_time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from paperlib.backbone import count, features_of
from paperlib.guards import check_count
from paperlib.kmex import class_prototypes, make_clusterer


@dataclass(frozen=True)
class Rates:
    """Seconds of one thread: of `read` and `forward` for a picture, of `compose` (eq. 7 and 8) for a row, of `cluster`
    for a row and prototype."""

    read: float
    forward: float
    compose: float
    cluster: float


@dataclass(frozen=True)
class Task:
    """Prototypes to be fitted: n pictures, C classes, R' cells a picture, D channels a row, K/C.

    Raises ValueError for a number below one, or more classes than pictures.
    """

    pictures: int
    classes: int
    cells: int
    channels: int
    prototypes_per_class: int

    def __post_init__(self):
        for name, value in vars(self).items():
            check_count(name, value)
        if self.classes > self.pictures:
            raise ValueError(f"{self.classes} classes cannot share {self.pictures} pictures: every class needs some.")

    def seconds(self, rates: Rates, workers: int = 1) -> dict[str, float]:
        """Seconds of each step on the busiest of `workers`, and in "all" their sum: the time that the fit takes."""
        check_count("workers", workers)
        n = ceil(self.classes / workers) * self.pictures / self.classes
        found = {"read": n * rates.read, "forward": n * rates.forward, "compose": n * self.cells * rates.compose,
                 "cluster": n * self.cells * self.prototypes_per_class * rates.cluster}
        return {**found, "all": sum(found.values())}

    def bytes(self) -> dict[str, float]:
        """Bytes of the rows of one class, of the rows of all, and of what comes back from the workers."""
        row, K = 4 * self.channels, self.classes * self.prototypes_per_class
        return {"rows, one class": row * self.cells * self.pictures / self.classes,
                "rows, all": row * self.cells * self.pictures, "travels": (row + 24) * K}

    def operations(self, forward: float, visits: float) -> dict[str, float]:
        """Floating-point operations; forward: of one pass, visits: passes of k-means over a row, over all restarts."""
        rows = self.pictures * self.cells
        return {"forward": self.pictures * forward,
                "cluster": 2.0 * rows * self.channels * self.prototypes_per_class * visits}


def operations(backbone, x: torch.Tensor) -> float:
    """Floating-point operations of the network's pass over one picture of the batch x (n, 3, H, W)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.features(x)
    return counter.get_total_flops() / len(x)


@torch.no_grad()
def rates(backbone, images, explainer, clock: Callable[[], float] = process_time) -> Rates:
    """The rates at which these pictures, of one class, are read, passed through the backbone, composed and clustered.

    images as in `ConceptExplainer.fit`; explainer: an unfitted one, whose blocks, K/C and clusterer are those of the
    task. clock: seconds; by default this process's on the processor, which other processes do not disturb. Raises
    ValueError for fewer rows than K/C.
    """
    n, ticks = count(images), [clock()]
    x = torch.stack([torch.as_tensor(images[i]) for i in range(n)])
    ticks.append(clock())
    features = features_of(backbone, x, range(n))
    ticks.append(clock())
    q = explainer.compose(features).cpu().float().flatten(0, 2).numpy()
    ticks.append(clock())
    clusterer = make_clusterer(explainer.clusterer, explainer.n_init)
    class_prototypes(q, explainer.prototypes_per_class, clusterer, explainer.random_state)
    ticks.append(clock())
    return Rates(*(np.diff(ticks) / [n, n, len(q), len(q) * explainer.prototypes_per_class]).tolist())
