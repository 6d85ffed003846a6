"""A figure and its numbers on disk, so that each figure knows what made it."""
from __future__ import annotations

import json
import os
from pathlib import Path

from matplotlib.figure import Figure

from paperlib.datasets import files

# A run of one's own leaves what the repository holds alone; `make notebooks` sets PAPERLIB_OUT to refresh it.
OUT = files.REPOSITORY / "figures" / "run"


def keep(figure: Figure | None, name: str, numbers: dict, study, out: str = "") -> Path:
    """Save `figure` as <out>/<name>_<data set>.png, and its numbers, settings, versions and notebook as the .json
    beside it.

    study: a `Study`, or its settings as a dict. figure may be None where there are only numbers. out: a folder; empty:
    the environment's PAPERLIB_OUT, or else figures/run of this repository. Both files are written whole or not at all.
    Returns the path of the .json.
    """
    settings = study.settings() if hasattr(study, "settings") else study
    stem = Path(out or os.environ.get("PAPERLIB_OUT") or OUT).expanduser() / f"{name}_{settings['dataset']}"
    if figure is not None:
        with files.written_whole(stem.with_suffix(".png")) as temporary:
            # No creation date: the same figure is the same file.
            figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
        figure.set_layout_engine("none")  # what is shown in the notebook stands as it was saved, and is sooner there
    record = {"notebook": notebook(), "numbers": numbers, "settings": settings, "versions": files.versions()}
    with files.written_whole(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=_plain) + "\n")
    return stem.with_suffix(".json")


def notebook() -> str:
    """The notebook that is being executed, as "04_table2_accuracies": a run names it, and so does JupyterLab."""
    return os.environ.get(files.NOTEBOOK) or Path(os.environ.get("JPY_SESSION_NAME", "")).stem


def _plain(value):
    """numpy's and torch's numbers as JSON's own."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
