"""The settings of a study: their types and defaults, and how a notebook's parameters and a profile make them."""
from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral

import numpy as np

from paperlib.datasets import load as data
from paperlib.networks import architectures, training
from paperlib.networks.protopnet import SCHEDULES, Schedule
from paperlib.runs import profiles

# Prototypes per class in the paper (page 6): five, and ten for CUB-200. The drawn birds have fewer pictures than CUB.
PROTOTYPES_PER_CLASS = {**dict.fromkeys(data.LOADERS, 5), "cub200": 10, "birds": 10}
MOST = 2**31 - 1  # the largest whole number that every generator takes as its seed


@dataclass(frozen=True)
class Settings:
    """What is asked for. A field that is 0 or empty is the data set's own or the paper's.

    choosing: the study has no test pictures; instead, a fifth of the training pictures is set aside for choosing.
    train_anew: networks are trained also where `data/networks/` holds them.
    Raises TypeError or ValueError, in one sentence, for a setting of the wrong type or out of range.
    """

    dataset: str = "digits"
    data_root: str = ""
    backbone: str = "resnet18"
    blocks: str = ""
    classifier: str = ""
    weights: str = "none"
    normalisation: str = "imagenet"
    size: int = 0
    train_per_class: int = 0
    test_per_class: int = 0
    epochs: int = 0
    prototypes_per_class: int = 0
    n_init: int = 10
    protopnet_epochs: int = 0
    seed: int = 0
    allow_subset: bool = False
    choosing: bool = False
    train_anew: bool = False

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.dataset not in data.LOADERS:
            raise data.DataError(data.unknown(self.dataset))
        if not isinstance(self.normalisation, str) or self.normalisation not in data.NORMALISATIONS:
            raise ValueError(f"normalisation is {self.normalisation!r}; use one of {', '.join(data.NORMALISATIONS)}.")

    @property
    def k(self) -> int:
        """K/C, the number of prototypes per class."""
        return self.prototypes_per_class or PROTOTYPES_PER_CLASS[self.dataset]

    @property
    def network(self) -> str:
        """The backbone's name in words."""
        return architectures.in_words(self.backbone)

    @cached_property
    def recipe(self) -> training.Recipe:
        recipe = training.RECIPES[self.dataset]
        return replace(recipe, epochs=self.epochs or recipe.epochs)

    @cached_property
    def schedule(self) -> Schedule:
        """ProtoPNet's, on the CNN's own loader: its batches and its augmentation. At most half of it is warm."""
        schedule = SCHEDULES[self.dataset]
        epochs = self.protopnet_epochs or schedule.epochs
        return replace(schedule, epochs=epochs, warm=min(schedule.warm, epochs // 2))

    def for_choosing(self) -> Settings:
        """The same study for making a choice: trained on 80 % of the training pictures, tested on the other 20 %."""
        return replace(self, choosing=True)

    def runs(self, n: int) -> list[Settings]:
        """n studies that differ in the seed alone, this one first: the paper's tables are means over five such runs."""
        if n < 1:
            raise ValueError(f"runs is {n}; give 1 or more.")
        return [self, *(replace(self, seed=self.seed + i) for i in range(1, n))]

    @classmethod
    def of_profile(cls, name: str = "quick", **settings) -> Settings:
        """The study that `reproduce` runs with this profile, one data set of it; `settings` replace the profile's.

        Raises ValueError for an unknown profile, and where the data set is not named and the profile has several.
        """
        names = {field.name for field in fields(cls)}
        given = {key: value for key, value in profiles.read(name).items() if key in names} | settings
        if "," in str(given.get("dataset", "")):
            raise ValueError(f"The profile {name!r} has the data sets {given['dataset']}; name one, as in "
                             f"dataset={given['dataset'].split(',')[0]!r}.")
        return cls(**given)


def _checked(field, value):
    """A setting as its field's type. Raises TypeError or ValueError."""
    wanted = {"int": int, "str": str, "bool": bool}[field.type]
    if wanted is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, np.bool_) or (isinstance(value, Integral) and not isinstance(value, bool)):
        value = bool(value) if isinstance(value, np.bool_) else int(value)
    if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
        raise TypeError(f"{field.name} is {value!r}, of type {type(value).__name__}; give {article(wanted)}.")
    least = int(field.name == "n_init")
    if wanted is int and value < least:
        raise ValueError(f"{field.name} is {value}; give {least} or more.")
    if wanted is int and value > MOST:
        raise ValueError(f"{field.name} is {value}; give at most {MOST}.")
    return value


def n_runs(parameters: Mapping) -> int:
    """The number of runs behind a mean, as the notebook's parameters or their profile have it."""
    return resolved(parameters).get("runs", 1)


def resolved(parameters: Mapping) -> dict:
    """The settings that a notebook's parameters stand for: the profile's, then `settings`, then what is not empty.

    Raises ValueError for a name in `settings` that is no setting.
    """
    names = {field.name for field in fields(Settings)} | {"runs"}
    more = parameters.get("settings") or {}
    unknown = [name for name in more if name not in names]
    if unknown:
        raise ValueError(f"settings names {', '.join(map(repr, unknown))}; there are {', '.join(sorted(names))}.")
    given = {name: parameters[name] for name in names if parameters.get(name) not in (None, "", 0)}
    return {**profiles.read(parameters.get("profile") or "quick"), **more, **given}


def article(kind: type) -> str:
    """What a parameter of this type is, in words."""
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false", list: "a list",
            dict: "names with values"}[kind]
