"""What a map should find: where the object and its parts are, and what happens when a part is swapped.

The truth is the drawn birds' masks, for each pair of species the parts that tell the two apart, and the same scene
redrawn with such a part as in the other species; for CUB-200-2011 the birds' boxes, and discs around their parts'
locations. Pictures without either have no truth. `study` is a `runs.study.Study` throughout.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import masks_to_boxes

from paperlib.attribution import upsample
from paperlib.datasets import birds
from paperlib.datasets import load as data

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


def task(study, per_class: int = 0, most: int = 0, only_correct: bool = True, skip: int = 0) -> Task:
    """The task on per_class test pictures of each class (0: all), after the first `skip`, thinned to `most` (0: all).

    A class that has not so many gives its first ones. only_correct leaves out the pictures that the network classifies
    wrongly. Raises ValueError where fewer than two pictures are left.
    """
    Z, y = (torch.as_tensor(a) for a in study.embeddings("test"))
    best = study.trained.classify(Z.to(study.trained.device)).topk(2).indices.cpu()
    few = study.data.test.first(skip + per_class if per_class else 0)
    few = torch.cat([few[y[few] == c][-per_class:] for c in y.unique()]).sort().values
    few = few[best[few, 0] == y[few]] if only_correct else few
    few = few[np.linspace(0, len(few) - 1, min(most or len(few), len(few))).round().astype(int)]
    if len(few) < 2:
        raise ValueError(f"{len(few)} of these pictures of {study.data.title} are classified correctly, too few to "
                         f"score maps on: train the network longer, or set only_correct=False.")
    target, rival = best[few].T
    return Task(few, target, rival, *_masks(study, few, target, rival))


def per_class(study, pictures: int, networks: int) -> int:
    """Test pictures of each class that each network is asked about: `pictures` over all networks, 0: one."""
    return max(1, ceil(pictures / networks / len(study.data.classes)))


def tasks(runs: Sequence, pictures: int = 0) -> list[Task]:
    """A task for each network, on pictures of its own: `pictures` over all of them, 0: one of each class and network.

    Those that a network gets wrong are left out, unless one of them gets most of all test pictures wrong.
    """
    right, few = min(run.accuracy() for run in runs) > 0.5, per_class(runs[0], pictures, len(runs))
    return [task(run, few, ceil(pictures / len(runs)), right, skip=i * few) for i, run in enumerate(runs)]


def _masks(study, numbers, target, rival) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Where the object and the parts to be found are: bool masks (n, H, W), None for pictures without truth."""
    if not has_truth(study):
        return None, None
    labels = part_labels(study, numbers)
    if not is_drawn(study):
        return labels != 0, labels > 0
    numbers_of = [torch.tensor(distinguishing(*pair)) for pair in zip(target.tolist(), rival.tolist(), strict=True)]
    return labels != 0, torch.stack([torch.isin(m, n) for m, n in zip(labels, numbers_of, strict=True)])


def has_truth(study) -> bool:
    """True if the data set says where objects and their parts are."""
    return study.data.test.masks is not None or study.dataset == "cub200"


def is_drawn(study) -> bool:
    """True for birds that are drawn, whose parts can be swapped."""
    return study.dataset in data.DRAWN


def distinguishing(target: int, rival: int) -> list[int]:
    """The numbers in `birds.PARTS` of the parts that tell two species apart."""
    return [birds.PARTS.index(part) for part in birds.distinguishing_parts(target, rival)]


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
        return test.masks[index]
    side = torch.arange(test.size) + 0.5
    x1, y1, w, h = test.boxes[index].T[:, :, None, None]
    inside = (side >= x1) & (side < x1 + w) & (side[:, None] >= y1) & (side[:, None] < y1 + h)
    x, y, seen = test.parts[index].permute(2, 0, 1)[..., None, None]
    away = torch.where(seen > 0, (side - x).square() + (side[:, None] - y).square(), torch.inf)
    nearest = away.min(1)
    return torch.where(nearest.values <= (DISC * test.size) ** 2, nearest.indices + 1, -1 * inside.long())


def oracle(mask: torch.Tensor, cells: tuple[int, int], mode: str) -> torch.Tensor:
    """The best that a map of so many cells can know: the true mask (n, H, W), averaged over each cell, and upsampled.

    mode: how a map of these cells is brought to the picture's size, "bilinear" or "nearest". Returns (n, H, W).
    """
    return upsample(F.adaptive_avg_pool2d(mask[:, None].float(), cells)[:, 0], mask.shape[-2:], mode)


def leads(study, todo: Task, changes: Sequence[Sequence[Mapping]]) -> list[torch.Tensor]:
    """y_target - y_rival of each picture after each of its changes, the arguments of `pictures.redrawn`; {}: as it is.

    changes: for each of the n pictures, a list of m_i changes. Returns n tensors (m_i,), in logits.
    """
    test, found = study.data.test, []
    for i, j, k, own in zip(*(x.tolist() for x in (todo.numbers, todo.target, todo.rival)), changes, strict=True):
        y = study.trained(torch.stack([test.redrawn(i, **change) if change else test[i] for change in own])).cpu()
        found.append(y[:, j] - y[:, k])
    return found


def falls(study, todo: Task) -> torch.Tensor:
    """How far the lead y_target - y_rival falls when one part is drawn as the rival has it: (n, parts), in logits.

    A column for each of `birds.PARTS` but the background: 0 for what the two species share, "not a number" for a part
    that cannot be seen in the picture. So a picture says which parts make it the one class and not the other, and how
    much; no method has to be believed for it.
    """
    labels = part_labels(study, todo.numbers).flatten(1)
    seen = torch.stack([(labels == p).any(1) for p in range(1, len(birds.PARTS))], 1)
    apart = [[p for p in distinguishing(int(j), int(k)) if seen[row, p - 1]]
             for row, (j, k) in enumerate(zip(todo.target, todo.rival, strict=True))]
    changes = [[{}, *({"like": int(k), "parts": (birds.PARTS[p],)} for p in own)]
               for k, own in zip(todo.rival, apart, strict=True)]
    found = torch.where(seen, 0.0, torch.nan).double()
    for row, (own, lead) in enumerate(zip(apart, leads(study, todo, changes), strict=True)):
        found[row, [p - 1 for p in own]] = (lead[0] - lead[1:]).double()
    return found
