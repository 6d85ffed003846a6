"""All attribution methods on the same pictures and the same network: their maps, scores and costs.

The truth is the drawn birds' masks, and, for each pair of species, the parts that tell the two apart; for CUB-200-2011
the birds' boxes, and discs around their parts' locations. Pictures without either get the scores that need no truth.
`study` is a `runs.study.Study` throughout.
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
from torchvision.ops import masks_to_boxes

from paperlib.attribution import upsample, upstream
from paperlib.comparison import methods as baselines
from paperlib.comparison import scores
from paperlib.comparison.saliency import saliency_map
from paperlib.datasets import birds
from paperlib.datasets import load as data
from paperlib.theorem1 import predicted_class

OF_TRUTH = ("pointing, object", "pointing, parts", "mass, object", "mass, parts", "mass above mean, object",
            "mass above mean, parts")
SCORES = (*OF_TRUTH, "deletion", "insertion", "verdict changes", "Gini")
BATCH = 8  # pictures that a method sees together
DISC = 15 / 224  # radius of a part's disc in sides of a picture: the pointing game's usual tolerance of 15 pixels


@dataclass(frozen=True)
class Task:
    """Pictures to explain, and what a map of the predicted class should find there.

    numbers (n,): the pictures', in the test set; target, rival (n,): the class predicted and the runner-up; object,
    parts (n, H, W) bool: where the object is, and where its parts are (for the drawn birds those alone that tell
    target and rival apart). A mask may be empty; both are None for pictures without truth.
    """

    numbers: torch.Tensor
    target: torch.Tensor
    rival: torch.Tensor
    object: torch.Tensor | None = None
    parts: torch.Tensor | None = None


def task(study, per_class: int = 0, most: int = 0, only_correct: bool = True) -> Task:
    """The task on the first per_class test pictures of each class (0: all), thinned evenly to `most` (0: all).

    only_correct leaves out the pictures that the network classifies wrongly. Raises ValueError where fewer than two
    pictures are left.
    """
    Z, y = (torch.as_tensor(a) for a in study.embeddings("test"))
    best = study.trained.classify(Z.to(study.trained.device)).topk(2).indices.cpu()
    few = study.data.test.first(per_class)
    few = few[best[few, 0] == y[few]] if only_correct else few
    few = few[np.linspace(0, len(few) - 1, min(most or len(few), len(few))).round().astype(int)]
    if len(few) < 2:
        raise ValueError(f"{len(few)} of these pictures of {study.data.title} are classified correctly, too few to "
                         f"score maps on: train the network longer, or set only_correct=False.")
    target, rival = best[few].T
    return Task(few, target, rival, *_truth(study, few, target, rival))


def _truth(study, numbers, target, rival) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Where the object and the parts to be found are: bool masks (n, H, W), None for pictures without truth."""
    if not has_truth(study):
        return None, None
    labels = part_labels(study, numbers)
    if study.dataset not in data.DRAWN:
        return labels != 0, labels > 0
    pairs = zip(target.tolist(), rival.tolist(), strict=True)
    names = [[birds.PARTS.index(part) for part in birds.distinguishing_parts(*pair)] for pair in pairs]
    return labels != 0, torch.stack([torch.isin(m, torch.tensor(n)) for m, n in zip(labels, names, strict=True)])


def has_truth(study) -> bool:
    """True if the data set says where objects and their parts are."""
    return study.data.test.masks is not None or study.dataset == "cub200"


def scored(study) -> tuple[str, ...]:
    """Those of SCORES that these pictures can be given: without truth, the four that need none."""
    return SCORES if has_truth(study) else SCORES[len(OF_TRUTH):]


def true_boxes(study, todo: Task) -> torch.Tensor | None:
    """The objects' boxes (n, 4) as x1, y1, x2, y2 in pixels; None for pictures without truth."""
    if study.dataset == "cub200":
        corner, extent = study.data.test.boxes[todo.numbers].split(2, 1)
        return torch.cat([corner, corner + extent], 1)
    return None if todo.object is None else masks_to_boxes(todo.object) + torch.tensor([0, 0, 1, 1])


def part_labels(study, index) -> torch.Tensor:
    """The number of the part at each pixel of test pictures `index`: (n, H, W), 0 for background, -1 for unknown.

    Of CUB-200-2011: parts are discs around their locations, the rest of the bird's box is unknown. Raises ValueError
    for pictures without truth.
    """
    if not has_truth(study):
        raise ValueError(f"{study.data.title} has no masks or boxes: take the birds or CUB-200.")
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


def contest(study, todo: Task, steps: int = 8) -> dict[str, dict[str, np.ndarray]]:
    """Each method's scores on the task's pictures: method -> score -> (n,). Kept, for it takes minutes.

    The scores are SCORES; of a task without masks, those that need no truth. Mass above mean is that of the map less
    its mean, for zero is arbitrary: one vector added to all columns changes every map and no prediction (notebook 01).
    Deletion and insertion are areas under the curves of `scores.flipping`, of the network that is explained
    (Soft-CAM's is its own); verdicts are compared after a shift of a 24th of the picture's side, of every third
    picture (not a number for the others).
    """
    found, depends_on = {}, {"task": _task_digest(todo), "steps": steps, **baselines.constants()}
    for name, method in methods(study).items():
        def compute(name=name, method=method):
            parts = [_scored(study, name, method, todo, where, steps) for where in
                     torch.arange(len(todo.numbers)).split(BATCH)]
            return {score: torch.cat([part[score] for part in parts]) for score in parts[0]}
        weights = _digest(*study.softcam.state_dict().values()) if name == "Soft-CAM" else ""
        kept = study.kept("contest", {"method": name, "weights": weights, **depends_on}, compute)
        found[name] = {score: kept[score].numpy() for score in SCORES if score in kept}
    return found


def _task_digest(todo):
    """First 16 hex digits of a SHA-256 of the pictures' numbers, the classes and the masks."""
    masks = [mask for mask in (todo.object, todo.parts) if mask is not None]
    return _digest(todo.numbers, todo.target, todo.rival, *masks)


def _digest(*tensors) -> str:
    whole = hashlib.sha256()
    for x in tensors:
        whole.update(f"{tuple(x.shape)} {x.dtype}".encode() + x.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def _scored(study, name, method, todo, where, steps):
    x, target = study.data.test.batch(todo.numbers[where]), todo.target[where]
    explained = study.softcam if name == "Soft-CAM" else study.trained
    att = method(study.trained, x, target).cpu()
    curves = [scores.area_under(scores.flipping(explained, x, att, target, steps, insert)) for insert in (False, True)]
    without = (*curves, _verdicts(study, method, x, target, att, where % 3 == 0), scores.gini(att))
    found = {} if todo.object is None else _of_truth(att, (todo.object[where], todo.parts[where]))
    return found | dict(zip(SCORES[len(OF_TRUTH):], without, strict=True))


def _of_truth(att, masks):
    above = att - att.mean((1, 2), keepdim=True)
    found = [scores.pointing_game(att, m) for m in masks]
    found += [scores.relevance_mass(a, m) for a in (att, above) for m in masks]
    return dict(zip(OF_TRUTH, found, strict=True))


def _verdicts(study, method, x, target, att, some):
    """`scores.verdict_changes` for the pictures `some` (n,) bool; not a number for the others."""
    by, found = max(1, study.data.size // 24), torch.full((len(x),), torch.nan, dtype=torch.float64)
    if some.any():
        moved = method(study.trained, scores.shifted(x[some], by), target[some]).cpu()
        found[some] = scores.verdict_changes(att[some], moved, by)
    return found


def pooled(networks: Sequence[tuple[Task, Mapping]]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of several networks as one number for each picture: the mean over the networks that it was scored on.

    networks: the task and the `contest` of each. Returns method -> score -> (pictures,), as `contest`.
    """
    frames = [pd.DataFrame({(method, score): x for method, row in found.items() for score, x in row.items()},
                           index=todo.numbers.numpy()) for todo, found in networks]
    mean = pd.concat(frames).groupby(level=0).mean()
    return {method: {score: mean[method, score].to_numpy() for score in row} for method, row in networks[0][1].items()}


def sign_of_difference(a, b, seed: int = 0) -> int:
    """1 if score a is above b on the same pictures, -1 if it is below, 0 if the two cannot be told apart.

    a, b (n,): told apart are those whose mean difference has a 95 % bootstrap interval without zero.
    """
    gap = np.asarray(a) - np.asarray(b)
    if not np.nanmax(np.abs(gap)) > 0:
        return 0
    low, high = scores.interval(gap, seed)
    return int(low > 0) - int(high < 0)


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


def concept_contest(study, ks=(1, 3, 5, 10), per_class: int = 0) -> dict[tuple, dict[str, np.ndarray]]:
    """How well concept maps match parts: (explainer, K/C) -> score of `scores.part_match` -> (n,).

    For B4, B34 and B234 and each K/C, the maps among the predicted class's prototypes; and, as a floor, k-means on the
    colours of each picture by itself ("colours", k). Pictures without a known part are left out. Raises ValueError for
    pictures without truth.
    """
    numbers = study.data.test.first(per_class)
    labels = part_labels(study, numbers).numpy()
    choices = {(e.name, k): {"depth": depth, "prototypes_per_class": k}
               for depth, e in enumerate(study.explainers(), 1) for k in ks}
    read = study.compare({_words(name): options for name, options in choices.items()}, per_class)
    maps = {name: read[_words(name)]["map"] for name in choices}
    maps |= {("colours", k): _colour_maps(study, numbers, k) for k in ks}
    kept = np.flatnonzero((labels > 0).any((1, 2)))
    found = {name: [scores.part_match(each[i], labels[i]) for i in kept] for name, each in maps.items()}
    return {name: {score: np.array([row[score] for row in rows]) for score in rows[0]} for name, rows in found.items()}


def _words(name: tuple) -> str:
    return " ".join(map(str, name))


def _colour_maps(study, numbers, k):
    """k-means on the colours of each picture by itself, at an eighth of its side: (n, H / 8, W / 8) numbers."""
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
