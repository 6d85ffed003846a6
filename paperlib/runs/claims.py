"""The ledger of claims, notebooks/claims.yaml: what the paper and we say, and whether the numbers of a run bear it out.

A claim points into the .json files beside the figures and says what must hold between the numbers found there. Its
sentences are written by a person; from here come the numbers in them and the verdict.

    "04":                                       # the notebook's number
      claims:
      - id: kmex-keeps-accuracy
        paper: {where: "section 4, Table 2", says: "KMEx does not affect the performance", number: "79.1 to 78.6"}
        on: any                                 # a data set, several, any that the run has, or "any but digits"
        quantity:                               # names for pointers and formulas: see `quantities`
          cnn: "table2_{on}.json:table2.CNN.test"
          kmex: "table2_{on}.json:table2.KMEx (K/C=5).test"
          change: "= kmex - cnn"
        holds: change >= -1
        when: "the accuracy falls by 1 point at most"
        here: "KMEx changes the accuracy on {data} by {change:+.1f} points."
        why: "One human sentence: why it may not hold."

In place of `paper`, `ours: "..."` holds a claim of our own.

claims-cli 0.6 was tried in place of this module: it holds numbers, which its manifest repeats, against files that it
pins; it has no relations between numbers and cannot judge another run's files.
"""
from __future__ import annotations

import html
import os
import re
import string
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from paperlib.runs.quantities import ClaimError, Missing, Records, check, check_formula, fill, formula, records, values

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LEDGER = NOTEBOOKS / "claims.yaml"
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # all is text: other loaders take a bare `on` for true
ANY = "any"
HOLDS, FAILS, UNMEASURED = "holds", "does not hold here", "not measured in this run"
# What may hold a digit in a sentence without being a measurement: names, and places in the paper.
NAMES = re.compile(r"\bB[1-4]+\b|\bK/C\s?=\s?\d+|\b(?:[Ee]q\.|Tables?|Figures?|[Ss]ections?|[Nn]otebooks?|Theorem)"
                   r"\s[\d.]*\d(?:(?:,|\sand|\sto)\s[\d.]*\d)*|\b(?:ResNet|CUB-|STL|VGG|DenseNet)\d+|1/D_b|\bL[12]\b|"
                   r"95 % interval")


@dataclass(frozen=True)
class Claim:
    """A claim as the ledger has it; `where` is "" for one of our own."""

    id: str
    notebook: str
    says: str
    on: tuple[str, ...]
    quantity: Mapping[str, str] = field(hash=False)
    holds: str
    here: str
    why: str
    when: str
    where: str = ""
    number: str = ""

    @property
    def cited(self) -> str:
        """The claim's words, and where they stand with which number."""
        return f"{self.says} ({': '.join(filter(None, (self.where or 'ours', self.number)))})"


@dataclass(frozen=True)
class Judged:
    """A claim on one data set: its verdict, its sentence with the numbers found there, and what there is not."""

    claim: Claim
    dataset: str
    verdict: str
    here: str = ""
    lacks: str = ""

    @property
    def why(self) -> str:
        """Why not, where the claim does not hold or was not measured."""
        return self.claim.why if self.verdict == FAILS else self.lacks


# Reading the ledger


def read(path: Path = LEDGER) -> list[Claim]:
    """All claims of the ledger, in its order. Raises ClaimError, one sentence, for an entry that cannot be judged."""
    claims = [_claim(number, entry) for number, block in blocks(path).items() for entry in block.get("claims") or []]
    known = {claim.id: claim.notebook for claim in claims}
    for claim in claims:
        if known.pop(claim.id, None) is None:
            raise ClaimError(f"There are two claims {claim.id!r}; give each an id of its own.")
    return claims


def blocks(path: Path = LEDGER) -> dict[str, dict]:
    """The ledger's blocks {"claims": [...], "numbers": [...]}, by notebook or by file. Raises ClaimError."""
    try:
        keys = [key.value for key, _ in yaml.compose(path.read_text(), LOADER).value]
        found = yaml.load(path.read_text(), LOADER)
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        raise ClaimError(f"{path.name} is not a ledger in YAML: {' '.join(str(error).split())}.") from error
    for key in keys:
        if keys.count(key) > 1:
            raise ClaimError(f"{path.name} has two blocks {key!r}; put their entries into one.")
        if str(key).isdigit() and not list(path.parent.rglob(f"{key}_*.py")):
            raise ClaimError(f"{path.name} has a block for notebook {key!r}, and there is no such notebook.")
    return found


def _claim(notebook: str, entry: Mapping) -> Claim:
    """One entry of the ledger as a Claim. Raises ClaimError."""
    who, given = f"Claim {entry.get('id', entry)!r} of notebook {notebook}", dict(entry)
    paper, ours = given.pop("paper", None), given.pop("ours", "")
    if isinstance(paper, dict) == bool(ours):
        raise ClaimError(f"{who} must have either `paper` (where, says, number) or `ours` (a sentence).")
    on = given.pop("on", None)
    try:
        claim = Claim(notebook=notebook, on=(on,) if isinstance(on, str) else tuple(on),
                      **({"says": ours} if ours else paper), **given)
    except TypeError as error:
        raise ClaimError(f"{who} has other fields than it must: {error}.") from error
    try:
        names = check(claim.quantity)
        check_formula(claim.holds, names)
    except ClaimError as error:
        raise ClaimError(f"{who} {error}.") from error
    for _, name, _, _ in string.Formatter().parse(claim.here):
        if name is not None and name not in names:
            raise ClaimError(f"{who} has {{{name}}} in its sentence; there are {', '.join(claim.quantity)}.")
    if found := re.search(r"\d[\d.]*", NAMES.sub("", re.sub(r"\{.*?\}", "", claim.here))):
        raise ClaimError(f"{who} has {found[0]} in its sentence; put it there by a pointer, in braces.")
    return claim


# Verdicts


def judge(claims: Iterable[Claim], found: Records) -> list[Judged]:
    """A verdict for each claim on each of its data sets."""
    return [_judged(claim, dataset, found) for claim in claims for dataset in _data_sets(claim, found)]


def _data_sets(claim: Claim, found: Records) -> tuple[str, ...]:
    """The data sets that a claim speaks of; of `any`, those for which its first file is there, but those it leaves out.
    """
    if not claim.on[0].startswith(ANY):
        return claim.on
    file = next(iter(claim.quantity.values())).partition(":")[0].removesuffix(".json")
    settings = [record.get("settings", {}) for record in found.values()]  # those of make bench have no data set
    out = claim.on[0].removeprefix(ANY).removeprefix(" but ")
    present = {each["dataset"]: None for each in settings if "dataset" in each}
    return tuple(name for name in present if name != out and file.replace("{on}", name) in found) or (ANY,)


def _judged(claim: Claim, dataset: str, found: Records) -> Judged:
    try:
        names = values(claim.quantity, found, dataset)
    except Missing as error:
        return Judged(claim, dataset, UNMEASURED, lacks=f"{error}.")
    return Judged(claim, dataset, HOLDS if formula(claim.holds, names) else FAILS, fill(claim.here, names))


def changed(judged: Iterable[Judged], before: Iterable[Judged]) -> list[Judged]:
    """Of this run's verdicts those that are others than before, where both were measured."""
    was = {(each.claim.id, each.dataset): each.verdict for each in before}
    return [each for each in judged
            if {was.get((each.claim.id, each.dataset), UNMEASURED), each.verdict} == {HOLDS, FAILS}]


def summary(judged: Collection[Judged]) -> str:
    """How many claims hold, in one line."""
    count = Counter(each.verdict for each in judged)
    return f"{count[HOLDS]} of {count[HOLDS] + count[FAILS]} claims hold here" + (
        f"; not measured in this run: {count[UNMEASURED]}" * bool(count[UNMEASURED]))


# What a notebook shows


class Table:
    """A table that a notebook shows as HTML, and a terminal as text."""

    def __init__(self, columns: list[str], rows: list[list[str]]):
        self.columns, self.rows = columns, rows

    def _repr_html_(self) -> str:
        def cells(kind, words):
            return "".join(f'<{kind} style="text-align:left;vertical-align:top">{_as_html(word)}</{kind}>'
                           for word in words)
        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        return (f'<table style="white-space:normal"><thead><tr>{cells("th", self.columns)}</tr></thead>'
                f"<tbody>{body}</tbody></table>")

    def __repr__(self) -> str:
        lines = []
        for row in self.rows:
            for column, word in zip(self.columns, row, strict=True):
                lines += textwrap.wrap(f"{column}: {word}", 90, subsequent_indent="    ") if word else []
            lines.append("")
        return "\n".join(lines).rstrip()


def _as_html(text: str) -> str:
    return html.escape(text).replace(" %", "\N{NO-BREAK SPACE}%")  # a number and its % stay on one line


def opening(notebook: str) -> Table:
    """The claims of a notebook before anything is measured: who says so and where, the number, and what must hold."""
    rows = [[claim.where or "ours", claim.says, claim.number, claim.when] for claim in _of(notebook)]
    return Table(["where", "claim", "published number", "holds if"], rows)


def closing(notebook: str, out: str = "", studies: Collection = ()) -> Table:
    """The claims of a notebook beside what this run has found, read from the .json files that it wrote to `out`.

    studies: take the numbers of their networks alone; else all that lies there.
    """
    folder = Path(out or os.environ.get("PAPERLIB_OUT") or NOTEBOOKS.parent / "figures" / "run").expanduser()
    found = records(folder, {study.settings()["checkpoint"] for study in studies})
    return ledger(judge(_of(notebook), found))


def ledger(judged: Iterable[Judged]) -> Table:
    """The verdicts as a table: the claim, once for all its data sets; what was found; whether it holds; why not."""
    rows, last = [], None
    for each in judged:
        rows.append(["" if each.claim is last else each.claim.cited, each.here, each.verdict, each.why])
        last = each.claim
    return Table(["claim", "here", "holds?", "why not"], rows)


def _of(notebook: str) -> list[Claim]:
    """The claims of one notebook. Raises ClaimError where there is none."""
    found = [claim for claim in read() if claim.notebook == notebook]
    if not found:
        raise ClaimError(f"{LEDGER.name} has no claim of notebook {notebook!r}; give a number such as \"04\".")
    return found
