"""Checks that several rooms share: each refuses bad input with a sentence that says what is wrong and what to do."""
from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import torch


class LeakError(ValueError):
    """Pictures of the test split, or their embeddings, were about to reach a fit or a choice."""


class Embeddings(np.ndarray):
    """A numpy array that knows from which split it comes, through slicing, indexing and arithmetic."""
    split = ""

    def __array_finalize__(self, source):
        self.split = getattr(source, "split", "")


def marked(Z, split: str) -> Embeddings:
    """Z as a numpy array whose `.split` is `split`: `KMEx.fit` refuses one of the test split."""
    found = np.asarray(as_array(Z)).view(Embeddings)
    found.split = split
    return found


def refuse_test(pictures, what: str) -> None:
    """Raise LeakError if `pictures`, or a data set that they are taken from, are of the test split.

    pictures: anything; those with `.split == "test"` are refused, as are torch's Subset and ConcatDataset of such.
    what: what they are wanted for, as "fitting prototypes".
    """
    if getattr(pictures, "split", "") == "test":
        raise LeakError(f"The test split must not be used for {what}: give training pictures, or what is measured on "
                        f"the test split afterwards says nothing.")
    for part in (getattr(pictures, "dataset", None), *getattr(pictures, "datasets", ())):
        if part is not None:
            refuse_test(part, what)


def as_array(x):
    """A tensor (on any device, with gradient or not) as a numpy array; anything else as it is."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x


def check_option(name: str, value, known: Iterable[str]) -> None:
    """Raise ValueError, listing the known options, unless `value` is one of them."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")


def check_count(name: str, value, least: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")


def check_size(name: str, value) -> tuple[int, int]:
    """(H, W) of a pair of whole numbers, or of one for both. Raises ValueError for anything else."""
    size = (value, value) if isinstance(value, Integral) else tuple(value)
    if len(size) != 2 or not all(isinstance(s, Integral) and s > 0 for s in size):
        raise ValueError(f"{name}={value!r} must be a positive whole number or a pair of them.")
    return int(size[0]), int(size[1])


def check_floats(**tensors) -> None:
    """Raise TypeError unless all are tensors of floats, of one type."""
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats; convert it with torch.as_tensor(...).float().")
    if len({x.dtype for x in tensors.values()}) > 1:
        types = ", ".join(f"{name} is {x.dtype}" for name, x in tensors.items())
        raise TypeError(f"{types}: give all of them the same type.")


def finite(x: torch.Tensor) -> bool:
    """True if x holds neither NaN nor infinite values. Its extremes tell, in a fraction of the time of isfinite."""
    return not x.is_floating_point() or x.numel() == 0 or bool(torch.stack(x.detach().aminmax()).isfinite().all())


def check_finite(**tensors) -> None:
    """Raise ValueError, by the argument's name, if a tensor holds NaN or infinite values."""
    for name in (name for name, x in tensors.items() if not finite(x)):
        raise ValueError(f"{name} holds NaN or infinite values: check the network and its input.")


def check_shapes(**given) -> None:
    """Raise unless all are finite tensors of floats, of one type, not empty, and of the shapes that are asked for.

    given: name=(tensor or None, "n R D"): a word is one length in all the shapes, "..." any number of first ones.
    Raises TypeError as `check_floats`, ValueError for the rest.
    """
    given = {name: (x, shape.split()) for name, (x, shape) in given.items() if x is not None}
    tensors, lengths = {name: x for name, (x, _) in given.items()}, {}
    check_floats(**tensors)
    for x, words in given.values():
        fixed = [word for word in words if word != "..."]
        last = x.shape[max(0, x.ndim - len(fixed)):]
        fits = x.ndim == len(words) or (len(fixed) < len(words) and x.ndim >= len(fixed))
        if not fits or 0 in x.shape or any(lengths.setdefault(w, n) != n for w, n in zip(fixed, last, strict=True)):
            wanted = ", ".join(f"{name} ({', '.join(words)})" for name, (_, words) in given.items())
            found = ", ".join(str(tuple(x.shape)) for x in tensors.values())
            raise ValueError(f"Needed are {wanted}, none of them empty, but the shapes are {found}.")
    check_finite(**tensors)


def check_target(target, n: int, n_classes: int, name: str = "target") -> torch.Tensor:
    """`target`, a class for each of n images or one for all, as (n,) long. Raises ValueError if it is neither."""
    target = torch.as_tensor(target)
    target = target.expand(n) if target.ndim == 0 else target
    whole = not target.is_floating_point() and target.dtype != torch.bool
    if target.shape != (n,) or not whole or target.min() < 0 or target.max() >= n_classes:
        raise ValueError(f"{name} must be one class, or one for each of the {n} images, in 0..{n_classes - 1}.")
    return target.long()


def count_different(rows, enough):
    """How many of the rows (m, D) differ; it stops counting at `enough`."""
    found, start, size = rows[:1], 0, enough
    while start < len(rows) and len(found) < enough:
        new = rows[start : start + size]
        for known in found:
            new = new[(new != known).any(axis=1)]
        while len(new) and len(found) < enough:
            found, new = np.concatenate([found, new[:1]]), new[(new != new[0]).any(axis=1)]
        start, size = start + size, min(2 * size, 1024)
    return len(found)
