"""The bird's shapes: side view, facing right, y down, in units of which a sparrow is about 960 long.

A shape is a closed smooth curve through its control points; a point named twice is a corner. The rows of shapes.txt,
which says how it is written, are all shapes of all birds.
"""
from functools import lru_cache
from math import isqrt
from pathlib import Path

import numpy as np

from paperlib.datasets.birds.species import COLOURS, COLUMNS, PARTS, Species, look

FINE = 16  # control points are kept in sixteenths of a unit
FEET = (560, 846)
LAYERS = ("under", "body", "wing", "over")
SHAPES = [row for row in Path(__file__).with_suffix(".txt").read_text().splitlines() if row[0] != "#"]


def mix(a: tuple, b: tuple, eighths: int) -> tuple:
    """Colour a with `eighths` of b in it."""
    return tuple((p * (8 - eighths) + q * eighths + 4) // 8 for p, q in zip(a, b, strict=True))


def darker(c: tuple) -> tuple:
    return mix(c, (24, 16, 14), 3)


def curve(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points]


def stroke(x: int, y: int, u: int, v: int, start: int, end: int) -> list:
    """A straight stroke from (x, y) to (u, v), `start` and `end` units wide: four corners, each named twice."""
    dx, dy = (u - x) * FINE, (v - y) * FINE
    length = isqrt(dx * dx + dy * dy) or 1
    nx, ny = -dy * FINE, dx * FINE
    corners = [(a * FINE + w * nx // (2 * length), b * FINE + w * ny // (2 * length))
               for a, b, w in ((x, y, start), (u, v, end), (u, v, -end), (x, y, -start))]
    return [c for c in corners for _ in (0, 1)]


def _disc(x: int, y: int, r: int) -> list:
    """A circle of radius r as a smooth curve through eight points."""
    d = r * 181 // 256
    return curve(*((x + a, y + b) for a, b in ((r, 0), (d, d), (0, r), (-d, d), (-r, 0), (-d, -d), (0, -r), (d, -d))))


FORMS = {
    "stroke": stroke, "disc": _disc,
    "streak": lambda x, y: curve((x + 12, y - 40), (x + 12, y - 40), (x + 14, y + 4), (x - 4, y + 34), (x - 16, y + 8)),
    "spot": lambda x, y: _disc(x, y, 18),
    "bar": lambda x, y: stroke(x - 40, y - 60, x + 50, y + 60, 22, 22),
}


def _rings(outline: str) -> list[list]:
    """The rings of control points that an outline of SHAPES stands for."""
    form, *places = outline.split()
    if form in FORMS:
        return [FORMS[form](*map(int, place.split(","))) for place in places]
    return [curve(*(map(int, point.split(",")) for point in (form, *places)))]


def _colours(bird: Species, column: str) -> dict[str, tuple]:
    """The colours that a row of SHAPES may name, for one part of a bird: those of the table, and mixtures."""
    (colour, style), face = look(bird, column), COLOURS[look(bird, "face")[0]]
    own, dark, white, buff = (COLOURS[name] for name in (colour, "dark", "white", "buff"))
    line = {"brow": dark, "line": own, "mask": own}.get(style, face)  # through the eye
    return COLOURS | {
        "own": own, "shade": darker(own), "edge": mix(own, darker(own), 3), "quill": mix(own, buff, 3),
        "mark": dark if sum(own) > 330 else mix(own, white, 4),  # dark on a pale ground, pale on a dark one
        "brow": own if style in ("brow", "mask") else face, "line": line,
        "lid": buff if sum(own if style == "ring" else line) < 200 else mix(face, white, 4),
        "pupil": (18, 14, 14), "glint": (250, 250, 250),
    }


def _rows(bird: Species) -> list[tuple]:
    """The bird's own rows of SHAPES as (layer, part, colour, ring), in painting order."""
    found = []
    for row in SHAPES:
        layer, column, styles, shapes = row.split(maxsplit=3)
        if styles == "-" or look(bird, column)[1] in styles.split(","):
            for colour, outline in (shape.split(": ") for shape in shapes.split(" | ")):
                found += [(LAYERS.index(layer), 1 + COLUMNS.index(column), _colours(bird, column)[colour], ring)
                          for ring in _rings(outline)]
    return sorted(found, key=lambda shape: shape[0])  # stable: within a layer the order stays


BUILDS = {"sparrow": (16, 16), "slim": (14, 15), "big-headed": (16, 18), "heavy": (17, 15)}  # body and head in 16ths


@lru_cache(maxsize=256)
def shapes_of(bird: Species) -> dict[str, np.ndarray]:
    """All shapes of a bird in painting order, as flat arrays: control points (N, 2) and, for each shape, its number of
    points, layer, part and colour."""
    layer, part, rgb, rings = zip(*_rows(bird), strict=True)
    points, count = np.concatenate([np.array(ring, dtype=np.int64) for ring in rings]), np.array([*map(len, rings)])
    legs = np.repeat(np.array(part) == PARTS.index("legs"), count)
    # The weight with which a point follows the head: 0 on the body, rising along the neck, to 16.
    head = np.clip(((points[:, 0] - 620 * FINE) * 4 + (470 * FINE - points[:, 1]) * 5) // (50 * FINE), 0, 16)
    depth, large = BUILDS[bird.build]
    neck, middle = np.array([690, 370]) * FINE, np.array([540, 560]) * FINE
    points += (points - neck) * (large - 16) * head[:, None] // 256
    points[:, 1] += np.where(legs, 0, (points[:, 1] - middle[1]) * (depth - 16) * (16 - head) // 256)
    return {"points": points, "count": count, "layer": np.array(layer), "part": np.array(part),
            "rgb": np.array(rgb, dtype=np.int64), "head": head, "legs": legs}
