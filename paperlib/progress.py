"""How far work has come: a line in a terminal, a line in a notebook that leaves nothing behind, or a listener."""
from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import contextmanager

from tqdm import tqdm

_listeners: list[Callable[[str, float], None]] = []


@contextmanager
def heard_by(listener: Callable[[str, float], None]):
    """Meanwhile no bar is drawn; each tells `listener` its name and the share done, 0 to 1, at most twice a second."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Bar(tqdm):
    """tqdm's bar. In a notebook it is one output that is emptied at the end: none is saved with the notebook."""

    def __init__(self, iterable=None, desc: str = "", show: bool = True, **more):
        self._heard, self._output = bool(_listeners), None
        seen = show and (_in_notebook() or sys.stderr.isatty())  # a log file would keep every step of a bar
        if self._heard or _in_notebook():
            more["file"] = io.StringIO()
        super().__init__(iterable, desc, disable=not seen and not self._heard, leave=False,
                         mininterval=0.5 if self._heard else 2, **more)

    def display(self, msg=None, pos=None):
        if self._heard:
            for listener in _listeners:
                listener(self.desc.rstrip(": "), self.n / self.total if self.total else 0.0)
        elif _in_notebook():
            _write(self, str(self) if msg is None else msg)
        else:
            return super().display(msg, pos)  # True: tqdm then puts the cursor back where the bar began


def _write(bar: Bar, text: str) -> None:
    from IPython.display import display  # here, for only a notebook has it loaded
    shown = {"text/plain": text}
    if bar._output is None:
        bar._output = display(shown, raw=True, display_id=True)
    else:
        bar._output.update(shown, raw=True)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return hasattr(shell, "kernel")
