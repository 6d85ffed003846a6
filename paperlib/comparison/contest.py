"""All attribution methods on the same pictures and the same network: their maps, scores and costs.

The truth is the drawn birds' masks, and, for each pair of species, the parts that tell the two apart; for CUB-200-2011
the birds' boxes, and discs around their parts' locations.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from paperlib.attribution import upsample, upstream
from paperlib.comparison import methods as baselines
from paperlib.comparison import scores
from paperlib.comparison.saliency import saliency_map
from paperlib.concepts import predicted_class
from paperlib.datasets import birds
from paperlib.datasets import load as data
from paperlib.runs.study import Study

SCORES = ("pointing, object", "pointing, parts", "mass, object", "mass, parts", "mass above mean, object",
          "mass above mean, parts", "deletion", "insertion", "verdict changes", "Gini")
DISC = 15 / 224  # radius of a part's disc in sides of a picture: the pointing game's usual tolerance of 15 pixels


@dataclass(frozen=True)
class Task:
    """Pictures, by default those that the network gets right, and what a map of the predicted class should find there.

    numbers (n,): the pictures', in the test set; target, rival (n,): the class predicted and the runner-up; object,
    parts (n, H, W) bool: where the object is, and where its parts are (for the drawn birds those alone that tell
    target and rival apart). A mask may be empty.
    """

    numbers: torch.Tensor
    target: torch.Tensor
    rival: torch.Tensor
    object: torch.Tensor
    parts: torch.Tensor


def task(study: Study, per_class: int = 0, most: int = 0, only_right: bool = True) -> Task:
    """The task on the first per_class test pictures of each class (0: all), thinned evenly to `most` (0: all).

    only_right leaves out what the network gets wrong. Raises ValueError where there is no truth: it is masks of the
    parts (birds), or boxes and parts (CUB-200-2011); and where fewer than two pictures are left.
    """
    if not known(study):
        raise ValueError(f"{study.data.title} has no masks or boxes: take the birds or CUB-200.")
    Z, y = (torch.as_tensor(a) for a in study.embeddings("test"))
    best = study.trained.classify(Z.to(study.trained.device)).topk(2).indices.cpu()
    few = study.data.test.first(per_class)
    few = few[best[few, 0] == y[few]] if only_right else few
    few = few[np.linspace(0, len(few) - 1, min(most or len(few), len(few))).round().astype(int)]
    if len(few) < 2:
        raise ValueError(f"the network gets {len(few)} of these pictures of {study.data.title} right, too few to score "
                         f"maps on: train it longer, or set only_right=False.")
    (target, rival), labels = best[few].T, part_labels(study, few)
    parts = labels > 0
    if study.dataset in data.DRAWN:
        pairs = zip(target.tolist(), rival.tolist(), strict=True)
        names = [[birds.PARTS.index(part) for part in birds.distinguishing_parts(*pair)] for pair in pairs]
        parts = torch.stack([torch.isin(m, torch.tensor(n)) for m, n in zip(labels, names, strict=True)])
    return Task(few, target, rival, labels != 0, parts)


def known(study: Study) -> bool:
    """Whether the data set says where objects and their parts are."""
    return study.data.test.masks is not None or study.dataset == "cub200"


def part_labels(study: Study, index) -> torch.Tensor:
    """The number of the part at each pixel of test pictures `index`: (n, H, W), 0 for background, -1 for unknown.

    Of CUB-200-2011: parts are discs around their locations, the rest of the bird's box is unknown.
    """
    test, index = study.data.test, torch.as_tensor(index)
    if test.masks is not None:
        return test.masks[index].long()
    side = torch.arange(test.size) + 0.5
    x1, y1, w, h = test.boxes[index].T[:, :, None, None]
    inside = (side >= x1) & (side < x1 + w) & (side[:, None] >= y1) & (side[:, None] < y1 + h)
    x, y, seen = test.parts[index].permute(2, 0, 1)[..., None, None]
    away = torch.where(seen > 0, (side - x).square() + (side[:, None] - y).square(), torch.inf)
    nearest = away.min(1)
    return torch.where(nearest.values <= (DISC * test.size) ** 2, nearest.indices + 1, -1 * inside.long())


def methods(study: Study) -> dict[str, Callable]:
    """name -> function of (net, x, target) that gives one map (n, H, W) of the pictures' size."""
    found = {e.name: partial(_paper, study.explainers()[:depth]) for depth, e in enumerate(study.explainers(), 1)}
    found["Soft-CAM"] = lambda net, x, target: upsample(study.softcam.evidence(x, target), x.shape[-2:])
    return {**found, "saliency": saliency_map, **baselines.methods(study.trained)}


def _paper(explainers, net, x, target):
    """Eq. 11 and its way upstream to the last of the explainers."""
    att = upstream(net.features(x), net.C, explainers, target)[explainers[-1].name]
    # A refined map is constant on segments, and stays so; B4's is brought to the picture as Grad-CAM is.
    return upsample(att, x.shape[-2:], "bilinear" if len(explainers) == 1 else "nearest")


def contest(study: Study, todo: Task, steps: int = 8, batch: int = 8) -> dict[str, dict[str, np.ndarray]]:
    """Each method's SCORES on the task's pictures: method -> score -> (n,). Kept, for it takes minutes.

    Mass above mean is that of the map less its mean, for zero is arbitrary: one vector added to all columns changes
    every map and no prediction (notebook 01). Deletion and insertion are areas under the curves of `scores.flipping`,
    of the network that is explained (Soft-CAM's is its own); verdicts are compared after a shift of a 24th of the
    picture's side, of every third picture (not a number for the others).
    """
    found, which = {}, hashlib.sha256(torch.stack([todo.numbers, todo.target, todo.rival]).numpy().tobytes())
    for name, method in methods(study).items():
        def compute(name=name, method=method):
            parts = [_scored(study, name, method, todo, where, steps) for where in
                     torch.arange(len(todo.numbers)).split(batch)]
            return {score: torch.cat([part[score] for part in parts]) for score in SCORES}
        kept = study.kept("contest", {"method": name, "pictures": which.hexdigest()[:16], "steps": steps}, compute)
        found[name] = {score: x.numpy() for score, x in kept.items()}
    return found


def _scored(study, name, method, todo, where, steps):
    x, target = study.data.test.batch(todo.numbers[where]), todo.target[where]
    net, by = study.trained, max(1, study.data.size // 24)
    explained = study.softcam if name == "Soft-CAM" else net
    att, third = method(net, x, target).cpu(), where % 3 == 0
    verdicts = torch.full((len(x),), torch.nan, dtype=torch.float64)
    if third.any():
        moved = method(net, scores.shifted(x[third], by), target[third]).cpu()
        verdicts[third] = scores.verdict_changes(att[third], moved, by)
    curves = [scores.area_under(scores.flipping(explained, x, att, target, steps, insert)) for insert in (False, True)]
    masks = (todo.object[where], todo.parts[where])
    above = att - att.mean((1, 2), keepdim=True)
    found = [scores.pointing_game(att, m) for m in masks]
    found += [scores.relevance_mass(a, m) for a in (att, above) for m in masks]
    return dict(zip(SCORES, (*found, *curves, verdicts, scores.gini(att)), strict=True))


def pooled(networks: Sequence[tuple[Task, Mapping]]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of several networks as one number for each picture: the mean over the networks that it was scored on.

    networks: the task and the `contest` of each. Returns method -> score -> (pictures,), as `contest`.
    """
    frames = [pd.DataFrame({(method, score): x for method, row in found.items() for score, x in row.items()},
                           index=todo.numbers.numpy()) for todo, found in networks]
    mean = pd.concat(frames).groupby(level=0).mean()
    return {method: {score: mean[method, score].to_numpy() for score in row} for method, row in networks[0][1].items()}


def unlike(a, b, seed: int = 0) -> int:
    """Whether score a is above b on the same pictures, 1, below, -1, or cannot be told from it, 0.

    a, b (n,): told apart are those whose mean difference has a 95 % interval without zero.
    """
    gap = np.asarray(a) - np.asarray(b)
    if not np.nanmax(np.abs(gap)) > 0:
        return 0
    low, high = scores.interval(gap, seed)
    return int(low > 0) - int(high < 0)


def costs(study: Study, n: int = 8, repeats: int = 5) -> dict[str, float]:
    """Seconds of each method in forward passes of the same batch of n pictures, medians of `repeats` in one run.

    B4, B34 and B234 come with their concept map among the predicted class's prototypes. The forward pass is timed
    before each call anew, so that a machine that slows down slows both. What costs ten passes or more is timed once.
    """
    net, x = study.trained, study.data.test.batch(range(min(n, len(study.data.test))))
    x = x.to(net.device, memory_format=torch.channels_last)
    target, explainers = predicted_class(net, net.features(x)), study.explainers()
    timed = methods(study) | {e.name: partial(_with_concepts, explainers[:d]) for d, e in enumerate(explainers, 1)}
    found = {}
    for name, method in timed.items():
        net(x)  # warm again, whatever ran before
        ratios = []
        while not ratios or (ratios[0] < 10 and len(ratios) < repeats):
            alone = _seconds(net, x)
            ratios.append(_seconds(method, net, x, target) / alone)
        found[name] = median(ratios)
    return found


def _with_concepts(explainers, net, x, target):
    features = net.features(x)
    return upstream(features, net.C, explainers, predicted_class(net, features), return_segments=True)


def _seconds(f, *arguments) -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    start = perf_counter()
    f(*arguments)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return perf_counter() - start


def concept_contest(study: Study, ks=(1, 3, 5, 10), per_class: int = 0) -> dict[tuple, dict[str, np.ndarray]]:
    """How well concept maps match parts: (explainer, K/C) -> score of `scores.part_match` -> (n,).

    For B4, B34 and B234 and each K/C, the maps among the predicted class's prototypes; and, as a floor, k-means on the
    colours of each picture by itself ("colours", k). Pictures without a known part are left out.
    """
    choices = {(e.name, k): {"depth": depth, "prototypes_per_class": k}
               for depth, e in enumerate(study.explainers(), 1) for k in ks}
    read = study.compare({_words(name): options for name, options in choices.items()}, per_class)
    numbers = study.data.test.first(per_class)
    labels = part_labels(study, numbers).numpy()
    maps = {name: read[_words(name)]["map"] for name in choices}
    maps |= {("colours", k): _colour_maps(study, numbers, k) for k in ks}
    kept = np.flatnonzero((labels > 0).any((1, 2)))
    found = {name: [scores.part_match(each[i], labels[i]) for i in kept] for name, each in maps.items()}
    return {name: {score: np.array([row[score] for row in rows]) for score in rows[0]} for name, rows in found.items()}


def _words(name: tuple) -> str:
    return " ".join(map(str, name))


def _colour_maps(study, numbers, k):
    """k-means on the colours of each picture by itself, at an eighth of its side: (n, H / 8, W / 8) ids."""
    found = []
    for i in numbers.tolist():
        small = torch.nn.functional.avg_pool2d(study.data.test.pixels(i).float()[None], 8)[0]
        ids = KMeans(k, n_init=1, random_state=0).fit(small.flatten(1).T.numpy()).labels_
        found.append(ids.reshape(small.shape[1:]))
    return np.stack(found)


def table(found: Mapping[str, Mapping[str, np.ndarray]], seed: int = 0) -> dict[str, dict[str, tuple]]:
    """method -> score -> (mean, low, high): bootstrap intervals of 95 % over pictures."""
    return {name: {score: (float(np.nanmean(x)), *scores.interval(x, seed)) for score, x in row.items()}
            for name, row in found.items()}
