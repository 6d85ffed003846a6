"""Birds that are drawn, not photographed: a stand-in for CUB-200 (paper, section 4) that needs no download.

A species is a row of attributes, one for each part of the bird (`table()` shows them all). Twenty of the species are
sparrows: they share a palette, and the nearest ones differ in one to three parts, as real sparrows do. The names and
the birds are invented. Pose, size, place, mirror, light and background are drawn from the seed without a look at the
species.

Every picture comes with an integer mask of its parts (`PARTS`), and every pair of species knows the parts that tell it
apart (`distinguishing_parts`). So we can check whether an explanation points at what differs.

The same seed gives the same pixels on every machine. Therefore all geometry and all colour is integer arithmetic,
polygons are filled by our own scan conversion, and random numbers are the raw 64-bit words of PCG64, which NumPy keeps
stable.
"""
from __future__ import annotations

from paperlib.datasets.birds.painting import draw, draw_set
from paperlib.datasets.birds.scenes import BACKGROUNDS, SCENE
from paperlib.datasets.birds.species import COLOURS, COLUMNS, PARTS, SPECIES, Species, distinguishing_parts, table

__all__ = ["BACKGROUNDS", "COLOURS", "COLUMNS", "PARTS", "SCENE", "SPECIES", "Species", "distinguishing_parts", "draw",
           "draw_set", "table"]
