"""All attribution methods on the same pictures and the same network: their maps, scores and costs.

The truth that maps are scored against is in `truth`. Pictures without truth get the scores that need none. `study` is a
`runs.study.Study` throughout.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from paperlib.attribution import upsample, upstream
from paperlib.backbone import Backbone
from paperlib.comparison import methods as baselines
from paperlib.comparison import scores
from paperlib.comparison.pairs import sign_of_difference
from paperlib.comparison.saliency import saliency_map
from paperlib.comparison.truth import Task, falls, has_truth, is_drawn, oracle, part_labels, task, true_boxes
from paperlib.theorem1 import predicted_class

__all__ = ["SCORES", "Task", "concept_contest", "contest", "costs", "has_truth", "leading", "methods",
           "part_labels", "pooled", "scored", "sign_of_difference", "table", "task", "true_boxes"]

CLASS, LEAD = "", ", lead"  # what a map explains: the class's logit, or its lead over the rival's
OF_TRUTH = ("pointing, object", "pointing, parts", "mass, object", "mass, parts", "mass above mean, object",
            "mass above mean, parts")
OF_LEAD = ("pointing, parts, lead", "mass above mean, parts, lead", "swap, lead")
FREE = ("deletion", "insertion", "verdict changes", "Gini")  # of truth
SCORES = (*OF_TRUTH, "swap", *OF_LEAD, *FREE)
FLAT = "flat map"
BATCH = 24  # pictures that a method sees together: eight, where it sees every third
EVERY = 3  # what costs dozens of forward passes is done of every third picture
DEAR = ("integrated gradients", "occlusion", "RISE")
LINEAR = ("Soft-CAM", "occlusion")  # whose map of a lead is that of the target less that of the rival
NO_CLASS = ("RISE", "edges", "centre", FLAT)  # what cannot explain a lead: RISE weighs probabilities, not logits


def scored(study) -> tuple[str, ...]:
    """Those of SCORES that these pictures can be given: without truth, the four that need none; swaps, if drawn."""
    if not has_truth(study):
        return FREE
    return tuple(score for score in SCORES if is_drawn(study) or "swap" not in score)


def methods(study) -> dict[str, Callable]:
    """name -> function of (net, x, target) that gives one map (n, H, W) of the pictures' size."""
    found = {e.name: partial(_paper, study.explainers()[:depth]) for depth, e in enumerate(study.explainers(), 1)}
    found["Soft-CAM"] = lambda net, x, target: upsample(study.softcam.evidence(x, target), x.shape[-2:])
    return {**found, "saliency": saliency_map, **baselines.methods(study.trained)}


def _paper(explainers, net, x, target):
    """Eq. 11 and its way upstream to the last of the explainers."""
    att = upstream(net.features(x), net.C, explainers, target)[explainers[-1].name]
    # A refined map is constant on segments, and stays so; B4's is brought to the picture as Grad-CAM is.
    return upsample(att, x.shape[-2:], "bilinear" if len(explainers) == 1 else "nearest")


def floors_and_ceilings(study, todo: Task) -> dict[str, torch.Tensor]:
    """name -> maps (n, H, W) that look at no network: a flat one, and the oracles of the cells of B4, B34 and B234."""
    found = {FLAT: torch.ones(len(todo.numbers), study.data.size, study.data.size)}
    if todo.parts is not None:
        for e in study.explainers():
            mode = "bilinear" if len(e.blocks) == 1 else "nearest"  # as the map of these cells
            found["oracle, {} x {}".format(*e.resolution_)] = oracle(todo.parts, e.resolution_, mode)
    return found


@contextmanager
def leading(net: Backbone, target: int, rival: int) -> Iterator[Backbone]:
    """The network, whose logit of `target` is, as long as this lasts, the lead y_target - y_rival."""
    before = [(p, p.detach().clone()) for p in (net.classifier.weight, net.classifier.bias) if p is not None]
    with torch.no_grad():
        for parameter, own in before:
            parameter[target] = own[target] - own[rival]
    try:
        yield net
    finally:
        with torch.no_grad():
            for parameter, own in before:
                parameter.copy_(own)


def lead_maps(net: Backbone, name: str, method: Callable, x: torch.Tensor, target, rival,
              att: torch.Tensor | None = None) -> torch.Tensor:
    """The maps of y_target - y_rival, (n, H, W), by a method that explains y_target (see `methods`).

    att: its maps of y_target, where they are known.
    """
    if name in LINEAR:
        return (method(net, x, target) if att is None else att).cpu() - method(net, x, rival).cpu()
    found = []
    for i, (j, k) in enumerate(zip(target.tolist(), rival.tolist(), strict=True)):
        with leading(net, j, k):
            found.append(method(net, x[i:i + 1], j).detach())
    return torch.cat(found)


def contest(study, todo: Task, steps: int = 6) -> dict[str, dict[str, np.ndarray]]:
    """Each method's scores on the task's pictures: method -> score -> (n,). Kept, for it takes minutes.

    The scores are those of `scored`, "not a number" where there is none: of DEAR methods, of curves and of verdicts,
    every third picture has one. Mass above mean is that of the map less its mean, for zero is arbitrary: one vector
    added to all columns changes every map and no prediction (notebook 01). Swap is `scores.part_order`. What ends in
    "lead" is of the map of y_target - y_rival. Deletion and insertion are areas under the curves of `scores.flipping`,
    blob by blob, of the network that is explained (Soft-CAM's is its own); verdicts are compared after a shift of a
    24th of the picture's side.
    """
    given, wanted, found = floors_and_ceilings(study, todo), scored(study), {}
    known = _known(study, todo)
    depends_on = {"task": _task_digest(todo), "steps": steps, "every": EVERY, **baselines.constants()}
    for name, method in {**methods(study), **dict.fromkeys(given)}.items():
        def compute(name=name, method=method):
            chunks = [_scored(study, name, method, todo, known, given.get(name), where, steps)
                      for where in torch.arange(len(todo.numbers)).split(BATCH)]
            return {score: torch.cat([chunk.get(score, torch.full((len(chunk["Gini"]),), torch.nan).double())
                                      for chunk in chunks]) for score in wanted}
        weights = _digest(*study.softcam.state_dict().values()) if name == "Soft-CAM" else ""
        kept = study.kept("contest", {"method": name, "weights": weights, **depends_on}, compute)
        found[name] = {score: kept[score].numpy() for score in wanted}
    return found


def _known(study, todo) -> dict[str, torch.Tensor]:
    """What the scores of all methods share: each picture's blobs, and, if drawn, its parts and what swaps do."""
    def compute():
        found = {"blobs": scores.blobs(torch.stack([study.data.test.pixels(int(i)) for i in todo.numbers])).short()}
        return found | ({"falls": falls(study, todo)} if is_drawn(study) else {})
    return study.kept("contest", {"known of": _task_digest(todo)}, compute)


def _task_digest(todo):
    """First 16 hex digits of a SHA-256 of the pictures' numbers, the classes and the masks."""
    masks = [mask for mask in (todo.object, todo.parts) if mask is not None]
    return _digest(todo.numbers, todo.target, todo.rival, *masks)


def _digest(*tensors) -> str:
    whole = hashlib.sha256()
    for x in tensors:
        whole.update(f"{tuple(x.shape)} {x.dtype}".encode() + x.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def _scored(study, name, method, todo, known, given, where, steps):
    """One method's scores on the pictures `where`: score -> (n,)."""
    third = where % EVERY == 0
    mine = third if name in DEAR else torch.ones_like(third)
    if not mine.any():
        return {"Gini": torch.full((len(where),), torch.nan, dtype=torch.float64)}
    here, x = where[mine], study.data.test.batch(todo.numbers[where[mine]])
    target = todo.target[here]
    att = given[here] if method is None else method(study.trained, x, target).cpu()
    found = _of_truth(study, todo, known, here, att)
    if method is not None and name not in NO_CLASS and todo.parts is not None:
        lead = lead_maps(study.trained, name, method, x, target, todo.rival[here], att).cpu()
        lead = _of_truth(study, todo, known, here, lead)
        found |= {score: lead[score.removesuffix(LEAD)] for score in OF_LEAD if score.removesuffix(LEAD) in lead}
    some = third[mine]
    explained = study.softcam if name == "Soft-CAM" else study.trained
    curves = [scores.flipping(explained, x[some], att[some], target[some], steps, insert,
                              blobs=known["blobs"][here[some]]) if some.any() else None for insert in (False, True)]
    found |= {score: _spread(scores.area_under(curve), some) for score, curve in
              zip(("deletion", "insertion"), curves, strict=True) if curve is not None}
    if some.any() and method is not None:
        found["verdict changes"] = _spread(_verdicts(study, method, x[some], target[some], att[some]), some)
    return {score: _spread(value, mine) for score, value in (found | {"Gini": scores.gini(att)}).items()}


def _spread(values, where):
    """values in their places (n,) bool, "not a number" elsewhere."""
    found = torch.full((len(where),), torch.nan, dtype=torch.float64)
    found[where] = values.double()
    return found


def _of_truth(study, todo, known, here, att) -> dict[str, torch.Tensor]:
    if todo.object is None:
        return {}
    above, masks = att - att.mean((1, 2), keepdim=True), (todo.object[here], todo.parts[here])
    found = [scores.pointing_game(att, m) for m in masks]
    found = dict(zip(OF_TRUTH, found + [scores.relevance_mass(a, m) for a in (att, above) for m in masks], strict=True))
    swap = {"swap": scores.part_order(att, part_labels(study, todo.numbers[here]), known["falls"][here])
            } if "falls" in known else {}
    return found | swap


def _verdicts(study, method, x, target, att):
    by = max(1, study.data.size // 24)
    return scores.verdict_changes(att, method(study.trained, scores.shifted(x, by), target).cpu(), by)


def pooled(networks: Sequence[tuple[Task, Mapping]]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of several networks as one number for each picture: the mean over the networks that it was scored on.

    networks: the task and the `contest` of each. Returns method -> score -> (pictures,), as `contest`.
    """
    frames = [pd.DataFrame({(method, score): x for method, row in found.items() for score, x in row.items()},
                           index=todo.numbers.numpy()) for todo, found in networks]
    mean = pd.concat(frames).groupby(level=0).mean()
    return {method: {score: mean[method, score].to_numpy() for score in row} for method, row in networks[0][1].items()}


def table(found: Mapping[str, Mapping[str, np.ndarray]], seed: int = 0) -> dict[str, dict[str, tuple]]:
    """method -> score -> (mean, low, high): bootstrap intervals of 95 % over pictures. NaN alone is left out."""
    return {name: {score: (float(np.nanmean(x)), *scores.interval(x, seed)) for score, x in row.items()
                   if np.isfinite(x).sum() > 1} for name, row in found.items()}


# What maps cost, and what concept maps find


def costs(study, n: int = 8, repeats: int = 5) -> dict[str, float]:
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


def concept_contest(study, ks=(3, 10), per_class: int = 0, part=(0, 0)) -> dict[tuple, dict[str, np.ndarray]]:
    """How well concept maps match parts: (explainer, K/C) -> score of `scores.part_match` -> (n,).

    For B4, B34 and B234 and each K/C, the maps among the predicted class's prototypes, fitted on `part` of the training
    pictures (see `Study.explainer`). The floor, ("colours", k), is k-means on the colours of each picture by itself;
    the ceiling, ("oracle, H x W", 0), the commonest part of each cell. Pictures without a known part are left out.
    Raises ValueError for pictures without truth.
    """
    numbers = study.data.test.first(per_class)
    labels = part_labels(study, numbers).numpy()
    choices = {(e.name, k): {"depth": depth, "prototypes_per_class": k, "part": part}
               for depth, e in enumerate(study.explainers(), 1) for k in ks}
    read = study.compare({_words(name): options for name, options in choices.items()}, per_class)
    maps = {name: read[_words(name)]["map"] for name in choices}
    maps |= {("colours", k): _colour_maps(study, numbers, k) for k in ks}
    maps |= {("oracle, {} x {}".format(*e.resolution_), 0): _commonest(labels, *e.resolution_)
             for e in study.explainers()}
    kept = np.flatnonzero((labels > 0).any((1, 2)))
    found = {name: [scores.part_match(each[i], labels[i]) for i in kept] for name, each in maps.items()}
    return {name: {score: np.array([row[score] for row in rows]) for score in rows[0]} for name, rows in found.items()}


def _words(name: tuple) -> str:
    return " ".join(map(str, name))


def _commonest(labels, h, w):
    """The commonest label of each cell: (n, H, W) -> (n, h, w). Among equals the lowest."""
    n, height, width = labels.shape
    cells = labels.reshape(n, h, height // h, w, width // w).swapaxes(2, 3).reshape(n, h, w, -1)
    numbers = np.unique(labels)
    return numbers[np.argmax([(cells == number).sum(-1) for number in numbers], axis=0)]


def _colour_maps(study, numbers, k):
    """k-means on the colours of each picture by itself, at an eighth of its side: (n, H / 8, W / 8) numbers."""
    found = []
    for i in numbers.tolist():
        small = torch.nn.functional.avg_pool2d(study.data.test.pixels(i).float()[None], 8)[0]
        ids = KMeans(k, n_init=1, random_state=0).fit(small.flatten(1).T.numpy()).labels_
        found.append(ids.reshape(small.shape[1:]))
    return np.stack(found)
