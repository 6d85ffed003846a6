"""How a check runs an answer: on copies, with a time limit, and with one sentence for whatever goes wrong."""
from __future__ import annotations

import ctypes
import inspect
import io
import linecache
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from copy import deepcopy
from functools import wraps

import numpy as np
import torch

LIMIT = 10.0  # seconds that one call of an answer may take
_printed: list[str] = []  # what each call of the check at work has printed


class Wrong(Exception):
    """One sentence, or two, for the student: what is wrong, and where to look."""


class _Stopped(BaseException):
    """Ends an answer that runs too long; no `except Exception` of the answer's own holds it up."""


def check(examine: Callable) -> Callable:
    """`examine(*answers)` as a check, which prints "Correct" with what it returns, or "Not yet" with what it raises.

    It returns True or False, and shows a traceback only for mistakes of its own. Its parameters have the names that
    the answers have in the notebook.
    """
    @wraps(examine)
    def run(*answers) -> bool:
        try:
            inspect.signature(examine).bind(*answers)
        except TypeError:
            print(f"Not yet. This check takes {', '.join(inspect.signature(examine).parameters)}; you gave "
                  f"{len(answers)} of them.")
            return False
        _printed.clear()
        try:
            praise = examine(*answers)
        except Wrong as wrong:
            print(f"Not yet. {wrong}")
            if _printed and _printed[-1]:
                print(f"In its last call it printed:\n{_printed[-1][:1000]}")
            return False
        print(f"Correct. {praise}")
        return True
    return run


def call(function, **inputs):
    """What `function` returns for the inputs, which it gets as copies, by position and in this order.

    Raises Wrong if it is no function, is still the stub, raises, takes longer than LIMIT, prints instead of returning,
    returns nothing, or changes what it is given.
    """
    if not callable(function):
        raise Wrong(f"The check was given {_a(function)}: give it the function itself, by its name without brackets.")
    name, given = getattr(function, "__name__", "your function"), deepcopy(inputs)
    result, printed, error = _limited(function, list(given.values()))
    _printed.append(printed * (result is not None or error is not None))
    if isinstance(error, _Stopped):
        raise Wrong(f"{name} was stopped after {LIMIT:g} seconds: look for a loop that never ends, or one over cells "
                    f"that a single product could take at once.")
    if isinstance(error, NotImplementedError) or result is ...:
        raise Wrong(f"{name} is still the stub: write your lines in its place, run its cell, then this one.")
    if error is not None:
        raise Wrong(f"{name} raises {type(error).__name__} for {shapes(inputs)}: {_one_line(error)}{_where(error)}")
    if result is None:
        raise Wrong(f"{name} prints its result and returns nothing: end it with return." if printed else
                    f"{name} returns nothing: end it with return.")
    changed = [key for key in inputs if not _equal(inputs[key], given[key])]
    if changed:
        raise Wrong(f"{name} changes its input {changed[0]}: work on a copy, and write nothing into the input.")
    return result


def tensor(function, shape: tuple, **inputs) -> torch.Tensor:
    """What `function` returns for the inputs, as a tensor of float64 of this shape; raises Wrong for anything else."""
    return as_tensor(call(function, **inputs), shape, _name(function), inputs)


def as_tensor(found, shape: tuple, name: str, inputs: Mapping) -> torch.Tensor:
    """`found`, called `name` in sentences, as a tensor of float64; raises Wrong unless finite and of this shape."""
    if isinstance(found, bool | int | float | np.ndarray | np.generic):
        found = torch.as_tensor(found)
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"{name} returns {_a(found)}: return one tensor, of shape {shape}.")
    if tuple(found.shape) != tuple(shape):
        turned = " It looks transposed." if tuple(reversed(found.shape)) == tuple(shape) else ""
        raise Wrong(f"{name} returns shape {tuple(found.shape)} for {shapes(inputs)}: {tuple(shape)} is needed."
                    f"{turned}")
    found = found.detach().cpu().double()
    if not torch.isfinite(found).all():
        raise Wrong(f"{name} returns NaN or infinite numbers for {shapes(inputs)}: look for a division by zero, or a "
                    f"logarithm of zero.")
    return found


def equal(found: torch.Tensor, wanted: torch.Tensor, what: str, mistakes: Mapping[str, object], look: str) -> None:
    """Raise Wrong unless found is wanted, up to rounding.

    mistakes: sentence -> what one would get by that mistake, or a function that makes it. look: where to look if it is
    none of them.
    """
    wanted = torch.as_tensor(wanted).double()
    if _close(found, wanted):
        return
    for sentence, value in mistakes.items():
        value = torch.as_tensor(value() if callable(value) else value).double()
        if value.shape == found.shape and _close(found, value):
            raise Wrong(sentence)
    at = np.unravel_index(int((found - wanted).abs().argmax()), tuple(found.shape)) if found.ndim else ()
    place = f" at {[int(i) for i in at]}" if at else ""
    raise Wrong(f"{what}{place} is {found[tuple(at)]:.4g} and should be {wanted[tuple(at)]:.4g}. {look}")


def shapes(inputs: Mapping) -> str:
    """The inputs in words: names, and shapes of tensors."""
    return ", ".join(f"{name} {_short(value)}" for name, value in inputs.items())


def _short(x) -> str:
    if isinstance(x, torch.Tensor | np.ndarray):
        return str(tuple(x.shape))
    if isinstance(x, list | tuple) and any(isinstance(part, torch.Tensor) for part in x):
        return f"[{', '.join(_short(part) for part in x)}]"
    if isinstance(x, bool | int | float | str | tuple | list | dict | None):
        return repr(x)
    return f"a {type(x).__name__}"


def _a(x) -> str:
    return "nothing (None)" if x is None else f"a value of type {type(x).__name__}"


def _name(function) -> str:
    return getattr(function, "__name__", "your function")


def _one_line(error) -> str:
    text = " ".join(str(error).split())
    return (text if len(text) < 200 else text[:197] + "...").rstrip(".") or "it says nothing more"


def _where(error) -> str:
    """The answer's line that raised, if it can be told."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    if not frames:
        return "."
    line = linecache.getline(frames[0].filename, frames[0].lineno).strip()
    return f", in: {line}" if line else f" (line {frames[0].lineno} of its cell)."


def _limited(function, given):
    """(result, what it printed, what it raised) of function(*given), stopped after LIMIT seconds."""
    found, printed = {}, io.StringIO()

    def work():
        try:
            found["result"] = function(*given)
        except BaseException as error:  # noqa: BLE001 - whatever an answer raises is told in words
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    with redirect_stdout(printed):
        thread.start()
        thread.join(LIMIT)
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Stopped))
            thread.join(1)
            found["error"] = _Stopped()
    return found.get("result"), printed.getvalue().strip(), found.get("error")


def _equal(a, b) -> bool:
    if isinstance(a, torch.Tensor | np.ndarray):
        return a.shape == b.shape and bool((torch.as_tensor(a) == torch.as_tensor(b)).all())
    if isinstance(a, torch.nn.Module):
        return a.training == b.training and _equal(a.state_dict(), b.state_dict())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(_equal, a.values(), b.values()))
    return not isinstance(a, bool | int | float | str) or a == b


def _close(a, b) -> bool:
    scale = float(b.abs().max()) if b.numel() else 1.0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * (scale or 1.0))
