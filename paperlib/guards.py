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
    if str(getattr(pictures, "split", "")) == "test":
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


def check_floats(**tensors) -> None:
    """Raise TypeError, by the argument's name, unless each is a tensor of floats."""
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats; convert it with torch.as_tensor(...).float().")


def check_finite(**tensors) -> None:
    """Raise ValueError, by the argument's name, if a tensor holds NaN or infinite values."""
    for name, x in tensors.items():
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinite values: check the network and its input.")


def check_target(target, n: int, n_classes: int) -> torch.Tensor:
    """`target`, a class for each of n images or one for all, as (n,) long.

    Raises ValueError if it is neither, or lies outside 0..n_classes-1.
    """
    target = torch.as_tensor(target)
    target = target.expand(n) if target.ndim == 0 else target
    if target.shape != (n,) or target.is_floating_point() or target.min() < 0 or target.max() >= n_classes:
        raise ValueError(f"target must be one class, or one for each of the {n} images, in 0..{n_classes - 1}.")
    return target.long()
