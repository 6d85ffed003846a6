"""Birds that are drawn, not photographed: a stand-in for CUB-200 (paper, section 4) that needs no download.

A species is a row of species.csv: an attribute for each part of the bird (`table()` shows them all). Twenty of them are
sparrows: they share a palette, and the nearest ones differ in one to three parts, as real sparrows do. All birds are
invented. Pose, size, place, mirror, light and background are drawn from the seed without a look at the species.

Every picture comes with an integer mask of its parts (`PARTS`), and every pair of species knows the parts that tell it
apart (`distinguishing_parts`). So we can check whether an explanation points at what differs.

`draw` also redraws a picture without a part, with parts of another species, or on another background: what a network
then answers shows what it looks at, better than a mask can (the idea of FunnyBirds, Hesse et al. 2023).

The same seed gives the same pixels on every machine: random numbers are the raw 64-bit words of PCG64, which NumPy
keeps stable; all geometry and colour is whole numbers; and of OpenCV we use what rounds nothing: `fillPoly` without
anti-aliasing (fixed point), `LUT`, and sums by `boxFilter` (of whole numbers below 2^53, so exact in float64). Its
`resize` and its means may break ties otherwise elsewhere. Tried: x86-64 with and without its vector code; no ARM yet.
"""
from paperlib.datasets.birds.painting import draw, draw_set
from paperlib.datasets.birds.scenes import BACKGROUNDS, SCENE
from paperlib.datasets.birds.species import COLOURS, COLUMNS, PARTS, SPECIES, Species, distinguishing_parts, table

__all__ = ["BACKGROUNDS", "COLOURS", "COLUMNS", "PARTS", "SCENE", "SPECIES", "Species", "distinguishing_parts", "draw",
           "draw_set", "table"]
