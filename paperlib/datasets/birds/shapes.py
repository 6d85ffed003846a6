"""The bird's shapes: side view, facing right, y down, in units of which a sparrow is about 960 long.

A shape is a closed smooth curve through its control points; a point named twice is a corner.
"""
from __future__ import annotations

import re
from functools import lru_cache
from math import isqrt

import numpy as np

from paperlib.datasets.birds.species import COLOURS, COLUMNS, PARTS, Species, look

FINE = 16  # control points are kept in sixteenths of a unit
FEET = (560, 846)
LAYERS = ("under", "body", "wing", "over")
# In the order of painting within a layer: layer, column of the species' table, the styles that have it (- for all),
# colour (see `_colours`) and outline; | and more of these two may follow. An outline is a curve x,y x,y*, where * is a
# corner, or one of FORMS at each place. The first of "body" and "wing" are stencils: what follows is cut by them.
SHAPES = """
under tail notched,edged,barred own: 350,520* 62,690* 104,716* 88,752* 340,664*
under tail forked own: 350,520* 46,640* 30,682* 190,690* 58,768* 86,806* 340,664*
under tail notched,forked shade: stroke 330,590,105,676,8,12
under tail edged white: stroke 300,668,90,744,26,40
under tail barred shade: stroke 98,664,132,742,22,22 153,637,187,715,22,22 208,609,242,687,22,22 263,582,297,660,22,22
under tail long own: 350,520* -70,748* -66,806* -20,822* 340,664* | shade: stroke 330,590,-50,720,8,12
under tail short own: 350,520* 168,622* 160,668* 190,696* 340,664* | shade: stroke 330,590,175,656,8,12
under legs - shade: stroke 504,730,478,782,34,28 476,774,500,842,28,26
    500,834,454,850,26,16 500,834,548,850,26,16 500,834,576,850,26,16
under belly - own: 550,700 534,744 496,770 466,750 450,700
under legs - own: stroke 604,730,578,782,34,28 576,774,600,842,28,26
    600,834,554,850,26,16 600,834,648,850,26,16 600,834,676,850,26,16
under belly - own: 650,700 634,744 596,770 566,750 550,700
under crown crested own: 850,262 780,172 690,134 580,112* 600,190 600,300
body back - own: 862,300 830,226 752,182 662,190 594,244 548,326 470,404 370,476 275,546 236,596 270,644 360,696
    480,738 600,744 706,704 786,628 828,535 838,456 852,404 876,358
body back streaked mark: streak 585,330 540,400 480,420 430,470 380,500
body back barred mark: bar 585,330 540,400 480,420 430,470 380,500
body belly - own: 200,640 330,610 480,590 600,555 650,500 720,475 930,465 900,800 600,860 300,800
body belly streaked mark: streak 420,690 480,705 540,715 600,715
body breast - own: 900,440 790,470 690,450 600,520 560,620 620,680 700,716 800,740 900,640
body breast streaked mark: streak 806,512 756,520 712,540 782,590 734,606 686,620 640,640 736,684 680,694
body breast spotted mark: spot 806,512 756,520 712,540 782,590 734,606 686,620 640,640 736,684 680,694
body breast button dark: disc 756,560,44
body breast banded black: 880,500 790,528 690,500 640,540 700,572 790,590 880,560
body face - own: 920,280 700,180 580,300 600,420 690,476 790,470 920,420
body throat - own: 930,372 850,392 770,420 722,470 720,522 770,552 850,556 930,520
body throat whiskered black: 890,378 800,404 730,450 706,526* 750,530 782,466 890,414
body crown - own: 900,276 800,248 730,244 650,282 596,366 556,400 500,330 560,160 760,100 900,180
body crown striped white: 880,232 780,198 700,204 630,250 590,320 540,300 600,190 700,140 800,140 880,200
body eye - brow: 890,262 800,232 730,230 650,266 584,350* 600,374 660,318 736,284 810,284 890,300
body eye - line: 890,296 800,280 736,284 660,322 604,376* 670,356 740,322 810,322 890,326
body eye mask own: 890,280 770,250 660,290 604,370* 690,362 770,352 890,350
over eye ring own: disc 770,298,40
over eye - lid: disc 770,298,29 | pupil: disc 771,298,24 | glint: disc 779,289,8
wing wing - edge: 640,428 690,470 694,540 640,606 540,642 400,652 280,650 150,662* 250,596 350,520 470,440 570,408
wing wing - own: 720,400 520,380 430,440 480,560 560,640 720,620
wing wing - quill: stroke 440,480,230,622,14,7 | shade: stroke 440,496,230,632,14,7
wing wing - quill: stroke 470,540,210,640,14,7 | shade: stroke 470,556,210,650,14,7
wing wing - quill: stroke 490,590,250,652,14,7 | shade: stroke 490,606,250,662,14,7
wing wing - quill: stroke 500,624,330,656,14,7 | shade: stroke 500,640,330,666,14,7
wing wing_bars patch own: 610,410 672,420 720,490 690,548 610,538 566,480
wing wing_bars plain,double own: 556,390 600,390 586,460 606,540 660,640 604,668 556,560 540,470
wing wing_bars plain,double,single own: 452,412 496,412 482,482 502,562 556,662 500,690 452,582 436,492
over beak conical own: 840,282* 915,300 972,352* 915,386 848,398*
over beak thin own: 850,316* 920,326 1000,360* 920,366 850,372* | shade: stroke 842,350,960,354,12,4
over beak hooked own: 842,282* 920,286 972,330 962,400* 930,366 850,400*
over beak dagger own: 842,288* 920,302 1050,352* 920,376 848,396* | shade: stroke 842,350,1020,354,12,4
over beak stout own: 838,274* 940,288 1016,364* 930,392 846,404* | shade: stroke 842,350,985,354,12,4
over beak conical,hooked shade: stroke 842,350,945,354,12,4
"""


def mix(a: tuple, b: tuple, eighths: int) -> tuple:
    """Colour a with `eighths` of b in it."""
    return tuple((p * (8 - eighths) + q * eighths + 4) // 8 for p, q in zip(a, b, strict=True))


def darker(c: tuple) -> tuple:
    return mix(c, (24, 16, 14), 3)


def curve(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points]


def stroke(p, q, start: int, end: int) -> list:
    """A straight stroke from p to q, `start` and `end` units wide: four corners, each named twice."""
    dx, dy = (q[0] - p[0]) * FINE, (q[1] - p[1]) * FINE
    length = isqrt(dx * dx + dy * dy) or 1
    nx, ny = -dy * FINE, dx * FINE
    corners = [(x * FINE + s * w * nx // (2 * length), y * FINE + s * w * ny // (2 * length))
               for (x, y), w, s in ((p, start, 1), (q, end, 1), (q, end, -1), (p, start, -1))]
    return [c for c in corners for _ in (0, 1)]


def _disc(x: int, y: int, r: int) -> list:
    """A circle of radius r as a smooth curve through eight points."""
    d = r * 181 // 256
    return curve(*((x + a, y + b) for a, b in ((r, 0), (d, d), (0, r), (-d, d), (-r, 0), (-d, -d), (0, -r), (d, -d))))


FORMS = {
    "stroke": lambda x, y, u, v, start, end: stroke((x, y), (u, v), start, end),
    "disc": _disc,
    "streak": lambda x, y: curve((x + 12, y - 40), (x + 12, y - 40), (x + 14, y + 4), (x - 4, y + 34), (x - 16, y + 8)),
    "spot": lambda x, y: _disc(x, y, 18),
    "bar": lambda x, y: stroke((x - 40, y - 60), (x + 50, y + 60), 22, 22),
}


def _rings(outline: str) -> list[list]:
    """The rings of control points that an outline of SHAPES stands for."""
    form, *places = outline.split()
    if form in FORMS:
        return [FORMS[form](*map(int, place.split(","))) for place in places]
    ring = [(tuple(map(int, point.rstrip("*").split(","))), 1 + point.endswith("*")) for point in (form, *places)]
    return [curve(*(point for point, times in ring for _ in range(times)))]


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
    for row in re.sub(r"\n +", " ", SHAPES.strip()).splitlines():
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
