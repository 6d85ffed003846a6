"""A run beside the published one: cell by cell over the .json files of both, each kind of number in its tolerance."""
from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paperlib.runs.claims import NOTEBOOKS
from paperlib.runs.quantities import Records, records

FOLDER = NOTEBOOKS.parent / "figures"
# A number's kind is the first whose pattern is in "file:path". It may be off by a share of the published number, or by
# `least` if that is more; and a mean with a 95 % interval by a quarter of the interval, one error, if that is more.
KINDS = (
    ("accuracies", r"^table2_[a-z0-9]+:(?!voting.*cells$)|accuracy|readers|factor|%", 0.0, 1.0, "a point"),
    ("cosines", r"^table1|^choices.*:table1|cosine", 0.0, 0.01, "0.01"),
    ("distances", r"distance", 0.05, 0.0, "5 %"),
    ("rounding errors, double", r"float64", 9.0, 1e-12, "tenfold, or 1e-12"),
    ("rounding errors", r"error float|relative float|mean changes|mended", 9.0, 1e-5, "tenfold, or 0.00001"),
    ("counts", r"concepts(\.B\d+\.| among|$)|values,|networks$|pictures$|(?<!correct )cells$", 0.1, 0.5,
     "10 %, or 0.5"),
    ("logits and norms", r"logit|\|\|A\|\||^tour_|broken", 0.02, 0.001, "2 %"),
    ("maps beside another k-means'", r"same map|prototypes apart|connected", 0.0, 0.1, "0.1"),
    ("Gini indices", r"Gini", 0.1, 0.003, "10 %, or 0.003"),
    ("shares and scores", r"", 0.0, 0.03, "0.03, or one error where an interval is given"))
# Not compared: times, places on a UMAP, which two machines draw differently, and what stands in another file, too.
LEFT_OUT = (("times", r"cost|seconds|\bMB\b"), ("places on a UMAP", r"^figure2_[a-z0-9]+:"),
            ("numbers that are compared in another file", r"^attribution_contest_\w+:differences|"
             r"^choices_[a-z]+:summary|^shortcut_shortcut:readings"))
MANY = "maps and numbers of single pictures"
LONGEST = 3  # a longer list holds numbers of single pictures or cells
NOT_SETTINGS = ("checkpoint", "data_root", "train_anew")  # what may differ between two runs with the same settings


@dataclass(frozen=True)
class Number:
    """One number of both runs; `here` is None where this run has none."""

    place: str
    kind: str
    published: float
    here: float | None
    tolerance: float

    @property
    def within(self) -> bool:
        return self.here is not None and abs(self.here - self.published) <= self.tolerance

    def __str__(self) -> str:
        here = "not there" if self.here is None else f"{self.here:.4g}, {self.here - self.published:+.2g}"
        return f"{self.place}: {self.published:.4g} published, here {here} (within ± {self.tolerance:.2g})"


@dataclass
class Comparison:
    """What came of it. left_out: how many numbers of a kind were not compared; other_settings, not_written (where the
    notebook ran with the same settings): files, by name; versions: those that differ, here and there."""

    numbers: list[Number] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    other_settings: list[str] = field(default_factory=list)
    not_written: list[str] = field(default_factory=list)
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def off(self) -> list[Number]:
        return [number for number in self.numbers if not number.within]

    def summary(self) -> str:
        """How many numbers are as in the published run, in one line."""
        close = len(self.numbers) - len(self.off)
        return f"{close} of {len(self.numbers)} numbers within tolerance of the published run"

    def lines(self) -> list[str]:
        """What is off and by how much, what was not compared, and which versions differ: a line each."""
        left = [f"{kind} ({n})" for kind, n in self.left_out.items()]
        return [*map(str, self.off),
                *(f"{name} {here}; the published run had {there}. Numbers were compared all the same."
                  for name, (here, there) in self.versions.items()),
                *(f"{name}.json was not written." for name in self.not_written),
                *[f"Other settings than the published run's, not compared: {', '.join(self.other_settings)}."
                  for _ in self.other_settings[:1]],
                *[f"Not compared: {', '.join(left)}." for _ in left[:1]]]


def published(folder: Path = FOLDER) -> dict[str, dict]:
    """The published run's .json files, by name; empty where they do not lie beside the notebooks."""
    return records(folder) if folder.is_dir() else {}


def compare(run: Records, before: Records) -> Comparison:
    """Every number of a run beside the published run's, in the files that both have."""
    found = Comparison()
    asked = {(record.get("notebook"), _frozen(record)) for record in run.values() if "settings" in record}
    for name, other in before.items():
        if "settings" not in other or "settings" not in (record := run.get(name, other)):
            continue
        if name not in run:
            found.not_written += [name] * ((other.get("notebook"), _frozen(other)) in asked)
            continue
        found.versions |= _other_versions(record["versions"], other["versions"])
        if _settings(record) != _settings(other):
            found.other_settings.append(name)
            continue
        here = {place: value for place, value, _ in cells(name, record["numbers"])}
        for place, value, width in cells(name, other["numbers"]):
            out = MANY if value is None else next((kind for kind, what in LEFT_OUT if re.search(what, place)), "")
            if out:
                found.left_out[out] += 1
            else:
                kind, share, least = kind_of(place)
                tolerance = max(share * abs(value), least, width / 4)
                found.numbers.append(Number(place, kind, value, here.get(place), tolerance))
    return found


def _other_versions(here: dict, there: dict) -> dict[str, tuple[str, str]]:
    """Versions that differ, by name: (here, there), "none" for what only one of the runs had."""
    pairs = {name: (here.get(name, "none"), there.get(name, "none")) for name in here | there}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def kind_of(place: str) -> tuple[str, float, float]:
    """The kind of the number at "file:path", the share of it that it may be off by, and the least that it may."""
    return next((kind, share, least) for kind, pattern, share, least, _ in KINDS if re.search(pattern, place))


def cells(name: str, numbers) -> Iterator[tuple[str, float | None, float]]:
    """(place, number, width of its 95 % interval or 0) of all numbers of a record; None stands for a list of many."""
    stack = [(f"{name}:", numbers)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}{'' if place.endswith(':') else '.'}{key}", each) for key, each in value.items()][::-1]
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            stack += [(f"{place}.{i}", each) for i, each in enumerate(value)][::-1]
        elif isinstance(value, list) and (len(value) > LONGEST or any(isinstance(each, list) for each in value)):
            yield place, None, 0.0
        elif isinstance(value, list) and len(value) == 3 and _interval(value):
            yield place, value[0], value[2] - value[1]
        elif isinstance(value, list):
            stack += [(f"{place}.{i}", each) for i, each in enumerate(value)][::-1]
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield place, value, 0.0


def _interval(value: list) -> bool:
    """True for [mean, low, high]."""
    return all(isinstance(each, int | float) for each in value) and value[1] <= value[0] <= value[2]


def _settings(record: dict) -> dict:
    return {key: value for key, value in record["settings"].items() if key not in NOT_SETTINGS}


def _frozen(record: dict) -> str:
    return json.dumps(_settings(record), sort_keys=True)


def tolerances() -> str:
    """How much each kind of number may be off."""
    return "; ".join(f"{kind}: {words}" for kind, *_, words in KINDS)
