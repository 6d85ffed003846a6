"""The figures: one function each, which draws what it is given and returns the matplotlib figure.

`paper` holds the paper's Figures 1 and 2, `maps` what lies over pictures, `charts` what draws numbers alone; `keep`
saves a figure beside a .json of its numbers, settings and versions.
"""
from paperlib.figures.charts import (
    bars,
    curves,
    differences,
    dots,
    forest,
    log_dots,
    options,
    plane,
    prediction,
    scatter,
)
from paperlib.figures.maps import (
    CONCEPTS,
    PALETTE,
    about_mean,
    beside,
    concept_rows,
    evidence,
    ladder,
    overlay,
    panel,
    parts,
    segments,
    sheet,
    show,
)
from paperlib.figures.paper import concepts, figure1, figure2, project, votes
from paperlib.figures.record import keep

__all__ = ["CONCEPTS", "PALETTE", "about_mean", "bars", "beside", "concept_rows", "concepts", "curves", "differences",
           "dots", "evidence", "figure1", "figure2", "forest", "keep", "ladder", "log_dots", "options", "overlay",
           "panel", "parts", "plane", "prediction", "project", "scatter", "segments", "sheet", "show", "votes"]
