"""Numbers in prose, and what each is bound to: run as a script, it lists those that are bound to nothing or are wrong.

A number of README.md or of a notebook's text is a name (B4, eq. 4, 224 px), or stands in a fragment that
notebooks/claims.yaml binds: to a pointer into figures/, or to where it was taken from.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paperlib.runs import claims, quantities

ROOT = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)")
# What holds digits without being a measurement.
CODE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|\\tag\{\d+\}|## Exercises.*", re.DOTALL)
OTHER = re.compile(r"arXiv[: ][\d.]+|\b(?:19|20)\d\d\b|\[\d\d\b|^\| \d\d,|^\s*\d+\. |"
                   r"\b(?:[Ee]xercises?|page|[Bb]locks?|Python)\s[\d.]+(?:(?:,|\sand|\sto)\s\d+)*|"
                   r"\b\d+ px|\b\d+ x \d+|95 % (?:bootstrap )?interval|"
                   r"(?<![\d.,])-?[01](?![\d.]| ?%| points?)", re.MULTILINE)


@dataclass(frozen=True)
class Text:
    """The prose of a file, and the line that each of its characters stands on."""

    name: str
    text: str
    lines: tuple[int, ...]

    def line(self, place: int) -> int:
        return self.lines[self.text[:place].count("\n")]


def prose(name: str, source: str) -> Text:
    """The prose of a Markdown file, or of the Markdown cells of a notebook's .py."""
    lines, markdown = [], not name.endswith(".py")
    for n, line in enumerate(source.splitlines(), 1):
        if name.endswith(".py"):
            markdown = "[markdown]" in line if line.startswith("# %%") else markdown
            keep, line = markdown and line.startswith("#") and "%%" not in line, line[2:]
        else:
            keep = True
        lines += [(n, line)] if keep else []
    return Text(name, "\n".join(line for _, line in lines), tuple(n for n, _ in lines))


def sources(root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """What is bound: the key of its block in the ledger -> (the file's name, its text)."""
    paths = {path.name[:2]: path for path in sorted((root / "notebooks").rglob("[0-9][0-9]_*.py"))}
    paths |= {"lecture": root / "notebooks" / "exercises" / "lecture.py", "README.md": root / "README.md"}
    return {key: (str(path.relative_to(root)), path.read_text()) for key, path in paths.items()}


def problems(name: str, source: str, entries: list[Mapping], found: quantities.Records) -> list[str]:
    """One line for each number of a text that is bound to nothing, or is not what its pointer leads to."""
    text, told, bound = prose(name, source), [], []
    for entry in entries:
        spans, wrong = bind(text, entry, found)
        bound, told = bound + spans, told + wrong
    blank = text.text
    for pattern in (CODE, claims.NAMES, OTHER):
        blank = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), blank)
    for match in NUMBER.finditer(blank):
        if not any(start <= match.start() < end for start, end in bound):
            told.append(f"{name}:{text.line(match.start())}: {match[0]} is bound to nothing")
    return told


def bind(text: Text, entry: Mapping, found: quantities.Records) -> tuple[list[tuple[int, int]], list[str]]:
    """Where an entry's fragment stands in the text, as (start, end), and what is wrong with it."""
    says, pointers = entry["says"], {key: value for key, value in entry.items() if key not in ("says", "from")}
    if not pointers and not entry.get("from"):
        return [], [f"{text.name}: {says!r} has neither a pointer nor `from`"]
    try:
        wanted = claims.fill(says, quantities.values(pointers, found))
    except quantities.Missing as error:
        return [], [f"{text.name}: {says!r} is bound to nothing: {error}"]
    spans = [match.span() for match in re.finditer(spaced(re.escape(wanted)), text.text)]
    if spans:
        return spans, []
    loose = re.sub(r"\\\{(\w+)[^}]*\\\}", r"(?P<\1>[-+]?[\\d.,e-]*\\d(?: ?%)?)", re.escape(says))
    match = re.search(spaced(loose), text.text)
    if match is None:
        return [], [f"{text.name}: the text does not say {says!r}"]
    wanted = {key: re.fullmatch(spaced(loose), wanted, re.DOTALL)[key] for key in match.groupdict()}
    return [match.span()], [
        f"{text.name}:{text.line(match.start(key))}: {match[key]} must be {wanted[key]} ({pointers.get(key, key)})"
        for key in wanted if match[key] != wanted[key]]


def spaced(pattern: str) -> str:
    """A pattern whose blanks match line breaks, too."""
    return re.sub(r"(\\ |\s)+", r"\\s+", pattern)


def all_problems(root: Path = ROOT) -> list[str]:
    """The problems of every text that is bound."""
    found, blocks = quantities.records(root / "figures"), claims.blocks(root / "notebooks" / "claims.yaml")
    return [line for key, (name, source) in sources(root).items()
            for line in problems(name, source, blocks.get(key, {}).get("numbers") or [], found)]


if __name__ == "__main__":
    told = all_problems()
    print("\n".join(told) or "Every number in prose is bound.")
    sys.exit(bool(told))
