"""How long it takes to import the front rooms of the package, beside torch and torchvision, which they need."""
from __future__ import annotations

import numpy as np

from . import timing

ROOMS = {"torch, torchvision": "import torch, torchvision",
         "to explain": "from paperlib import attribution, backbone, concepts, theorem1",
         "to fit": "from paperlib import concepts, kmex",
         "a study": "from paperlib.runs.study import Study"}
CLOCK = "from time import perf_counter as now; start = now(); {}; print(now() - start)"


def imports(rounds: int = 3) -> dict[str, float]:
    """name -> seconds in a new process: medians over `rounds`, in turns, after one that fills the disk's cache."""
    found = {name: [] for name in ROOMS}
    for turn in range(rounds + 1):
        for name, code in ROOMS.items():
            seconds = float(timing.python(CLOCK.format(code)))
            found[name] += [seconds] if turn else []
    return {name: float(np.median(seconds)) for name, seconds in found.items()}
