"""Quantities: numbers that the .json files beside the figures hold, by pointers, and what formulas make of them.

A pointer is file.json:path.to.number, its path the keys with dots between. One to [mean, low, high] gives `x`, `x_low`
and `x_high`; one through `*` gives all values there. A text that begins with = is a formula over names above it.
"""
from __future__ import annotations

import ast
import json
import operator
import re
import string
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from paperlib.measures import TABLE1, TABLE2

# The paper's own tables, for pointers such as "paper:table1.CNN.mnist.0".
PAPER = {"paper": {"numbers": {"table1": TABLE1, "table2": TABLE2}}}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: np.divide,
             ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
FUNCTIONS = {"abs": np.abs, "min": lambda *x: np.min(np.hstack(x)), "max": lambda *x: np.max(np.hstack(x)),
             "mean": lambda *x: np.mean(np.hstack(x))}
POINTER = re.compile(r"[\w{}]+(\.json)?:.+")

Records = Mapping[str, dict]  # a file's name, without .json -> {"numbers", "settings", ...}


class ClaimError(ValueError):
    """The ledger says something that cannot be judged; the sentence says what, and what to do."""


class Missing(Exception):
    """A pointer leads to a number that is not there."""


def records(folder: Path | str, checkpoints: Collection[str] = ()) -> dict[str, dict]:
    """The .json files that a run (or `make bench`) left in `folder`, by name; with `checkpoints`, of these networks
    alone."""
    paths = sorted([*Path(folder).glob("*_*.json"), *Path(folder).glob("bench.json")])
    found = {path.stem: json.loads(path.read_text()) for path in paths}
    return {name: record for name, record in found.items()
            if not checkpoints or record.get("settings", {}).get("checkpoint") in checkpoints}


def look(found: Records, pointer: str):
    """What a pointer leads to: a number, text, or an array. Raises Missing. Paths start in `numbers` or above it."""
    name, _, path = pointer.partition(":")
    record = {**PAPER, **found}.get(name.removesuffix(".json"))
    if record is None:
        raise Missing(f"{name} is not there")
    numbers = record.get("numbers")
    try:
        value = _at({**record, **(numbers if isinstance(numbers, dict) else {})}, path)
        value = np.array(value, dtype=float) if isinstance(value, list | tuple) else value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Missing(f"{pointer} leads nowhere ({error})") from error
    return _finite(value, pointer)


def _finite(value, pointer: str):
    """The value, if it is text or a number. Raises Missing."""
    if value is None or isinstance(value, dict) or not (isinstance(value, str) or np.all(np.isfinite(value))):
        raise Missing(f"{pointer} is no number")
    return value


def _at(value, path: str):
    """The value at a path of keys with dots between. Of keys that hold dots, too, the longest that fits is taken."""
    if not path:
        return value
    head, _, rest = path.partition(".")
    if head == "*":
        return [_at(each, rest) for each in (value.values() if isinstance(value, dict) else value)]
    if isinstance(value, list | tuple):
        return _at(value[int(head)], rest)
    keys = [key for key in value if path == key or path.startswith(f"{key}.")]
    if not keys:
        raise KeyError(path)
    key = max(keys, key=len)
    return _at(value[key], path[len(key) + 1:])


def values(quantity: Mapping[str, str], found: Records, dataset: str = "") -> dict[str, object]:
    """The named quantities of an entry, and `data`, the title of its data set. Raises Missing."""
    titles = [r["settings"]["title"] for r in found.values() if r.get("settings", {}).get("dataset") == dataset]
    names = {"data": titles[0] if titles else dataset}
    for name, pointer in quantity.items():
        if pointer.startswith("="):
            names[name] = _finite(formula(pointer[1:], names), pointer)
            continue
        value = look(found, pointer.replace("{on}", dataset))
        if isinstance(value, np.ndarray) and value.shape == (3,) and "*" not in pointer:
            value, names[f"{name}_low"], names[f"{name}_high"] = value
        names[name] = value
    return names


class Filled(string.Formatter):
    """Fills a sentence's braces: 68 % and not 68%, no minus before a zero, and 0 for 0e+00."""

    def format_field(self, value, spec):
        if spec.endswith("e") and not value:
            return "0"
        return re.sub(r"^[-+](0(\.0+)?)(?![\d.e])", r"\1", super().format_field(value, spec)).replace("%", " %")


def fill(sentence: str, names: Mapping) -> str:
    """The sentence with numbers in place of its braces."""
    return Filled().vformat(sentence, (), names)


def check(quantity: Mapping[str, str]) -> set[str]:
    """The names that a sentence or a relation may use. Raises ClaimError for what is no pointer and no formula."""
    names = {"data"}
    for name, pointer in quantity.items():
        if str(pointer).startswith("="):
            check_formula(pointer[1:], names)
        elif not POINTER.fullmatch(str(pointer)):
            raise ClaimError(f"points nowhere with {name}: {pointer!r}; a pointer is file.json:path.to.number")
        names |= {name, f"{name}_low", f"{name}_high"}
    return names


def check_formula(text: str, names: Collection[str]) -> None:
    """Raises ClaimError for a formula that is none, or that has names without a pointer."""
    try:
        formula(text, dict.fromkeys(names, 1.0))
    except (SyntaxError, ClaimError) as error:
        raise ClaimError(f"cannot be judged by `{str(text).strip()}` ({error}); use names of its quantities, numbers, "
                         f"+ - * /, comparisons, and, or, {', '.join(FUNCTIONS)}") from error


def formula(text: str, names: Mapping):
    """What a formula or a relation comes to. Raises ClaimError."""
    with np.errstate(all="ignore"):
        return _value(ast.parse(str(text).strip(), mode="eval").body, names)


def _value(node: ast.expr, names: Mapping):
    """What a formula or a relation comes to: sums and comparisons of names and numbers, and nothing else."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, names)
        case ast.BinOp() if type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](_value(node.left, names), _value(node.right, names))
        case ast.BoolOp():
            return (all if isinstance(node.op, ast.And) else any)([_value(each, names) for each in node.values])
        case ast.Compare() if all(type(op) in OPERATORS for op in node.ops):
            sides = [_value(each, names) for each in (node.left, *node.comparators)]
            return all(bool(np.all(OPERATORS[type(op)](a, b)))
                       for op, a, b in zip(node.ops, sides, sides[1:], strict=False))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_value(each, names) for each in node.args))
    raise ClaimError(f"{ast.unparse(node)!r} is not understood")
