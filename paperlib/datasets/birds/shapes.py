"""The bird's shapes: side view, facing right, y down, in units of which a sparrow is about 960 long.

A shape is a closed smooth curve through its control points; a point named twice is a corner.
"""
from __future__ import annotations

from functools import lru_cache
from math import isqrt

import numpy as np

from paperlib.datasets.birds.species import COLOURS, PARTS, Species, look

FINE = 16  # control points are kept in sixteenths of a unit
FEET = (560, 846)
LAYERS = ("under", "body", "wing", "over")


def mix(a: tuple, b: tuple, eighths: int) -> tuple:
    """Colour a with `eighths` of b in it."""
    return tuple((p * (8 - eighths) + q * eighths + 4) // 8 for p, q in zip(a, b, strict=True))


def darker(c: tuple) -> tuple:
    return mix(c, (24, 16, 14), 3)


def _mark(c: tuple) -> tuple:
    """Streaks and spots: dark on a pale ground, pale on a dark one."""
    return COLOURS["dark"] if sum(c) > 330 else mix(c, COLOURS["white"], 4)


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
    ring = ((r, 0), (d, d), (0, r), (-d, d), (-r, 0), (-d, -d), (0, -r), (d, -d))
    return [((x + a) * FINE, (y + b) * FINE) for a, b in ring]


def curve(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points]


def _corners(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points for _ in (0, 1)]


OUTLINE = curve((862, 300), (830, 226), (752, 182), (662, 190), (594, 244), (548, 326), (470, 404), (370, 476),
                 (275, 546), (236, 596), (270, 644), (360, 696), (480, 738), (600, 744), (706, 704), (786, 628),
                 (828, 535), (838, 456), (852, 404), (876, 358))
WING = curve((640, 428), (690, 470), (694, 540), (640, 606), (540, 642), (400, 652), (280, 650), (150, 662),
              (150, 662), (250, 596), (350, 520), (470, 440), (570, 408))
TAILS = {
    "notched": _corners((350, 520), (62, 690), (104, 716), (88, 752), (340, 664)),
    "long": _corners((350, 520), (-70, 748), (-66, 806), (-20, 822), (340, 664)),
    "short": _corners((350, 520), (168, 622), (160, 668), (190, 696), (340, 664)),
    "forked": _corners((350, 520), (46, 640), (30, 682), (190, 690), (58, 768), (86, 806), (340, 664)),
}
TAILS |= {"edged": TAILS["notched"], "barred": TAILS["notched"]}
BEAKS = {
    "conical": curve((840, 282), (840, 282), (915, 300), (972, 352), (972, 352), (915, 386), (848, 398), (848, 398)),
    "thin": curve((850, 316), (850, 316), (920, 326), (1000, 360), (1000, 360), (920, 366), (850, 372), (850, 372)),
    "hooked": curve((842, 282), (842, 282), (920, 286), (972, 330), (962, 400), (962, 400), (930, 366), (850, 400),
                     (850, 400)),
    "dagger": curve((842, 288), (842, 288), (920, 302), (1050, 352), (1050, 352), (920, 376), (848, 396), (848, 396)),
    "stout": curve((838, 274), (838, 274), (940, 288), (1016, 364), (1016, 364), (930, 392), (846, 404), (846, 404)),
}


def _tail(bird: Species, add) -> None:
    colour, style = look(bird, "tail")
    rgb = COLOURS[colour]
    add("under", "tail", rgb, TAILS[style])
    if style == "edged":
        add("under", "tail", COLOURS["white"], stroke((300, 668), (90, 744), 26, 40))
    elif style == "barred":
        for x in (110, 165, 220, 275):
            y = 664 - (x - 110) // 2
            add("under", "tail", darker(rgb), stroke((x - 12, y), (x + 22, y + 78), 22, 22))
    else:
        far = {"long": -50, "short": 175}.get(style, 105)
        add("under", "tail", darker(rgb), stroke((330, 590), (far, 720 - (far + 50) * 2 // 7), 8, 12))


def _legs(bird: Species, add) -> None:
    rgb, thigh = COLOURS[look(bird, "legs")[0]], COLOURS[look(bird, "belly")[0]]
    for x, c in ((500, darker(rgb)), (600, rgb)):
        add("under", "legs", c, stroke((x + 4, 730), (x - 22, 782), 34, 28))
        add("under", "legs", c, stroke((x - 24, 774), (x, 842), 28, 26))
        for toe in (-46, 48, 76):
            add("under", "legs", c, stroke((x, 834), (x + toe, 850), 26, 16))
        add("under", "belly", thigh, curve((x + 50, 700), (x + 34, 744), (x - 4, 770), (x - 34, 750), (x - 50, 700)))


def _pattern(style: str, ground: tuple, spots, add, layer: str, part: str) -> None:
    """Streaks, spots, bars or bands over the ground colour."""
    ink = _mark(ground)
    if style == "streaked":
        for x, y in spots:
            add(layer, part, ink, curve((x + 12, y - 40), (x + 12, y - 40), (x + 14, y + 4), (x - 4, y + 34),
                                         (x - 16, y + 8)))
    if style == "spotted":
        for x, y in spots:
            add(layer, part, ink, _disc(x, y, 18))
    if style == "barred":
        for x, y in spots:
            add(layer, part, ink, stroke((x - 40, y - 60), (x + 50, y + 60), 22, 22))


def _torso(bird: Species, add) -> None:
    """The body's outline is the stencil; belly, breast, back are painted inside it and may overshoot it."""
    back, how = look(bird, "back")
    add("body", "back", COLOURS[back], OUTLINE)
    _pattern(how, COLOURS[back], ((585, 330), (540, 400), (480, 420), (430, 470), (380, 500)), add, "body", "back")
    belly, how = look(bird, "belly")
    add("body", "belly", COLOURS[belly], curve((200, 640), (330, 610), (480, 590), (600, 555), (650, 500), (720, 475),
                                                (930, 465), (900, 800), (600, 860), (300, 800)))
    _pattern(how, COLOURS[belly], ((420, 690), (480, 705), (540, 715), (600, 715)), add, "body", "belly")
    breast, how = look(bird, "breast")
    rgb = COLOURS[breast]
    add("body", "breast", rgb, curve((900, 440), (790, 470), (690, 450), (600, 520), (560, 620), (620, 680),
                                      (700, 716), (800, 740), (900, 640)))
    _pattern(how, rgb, ((806, 512), (756, 520), (712, 540), (782, 590), (734, 606), (686, 620), (640, 640), (736, 684),
                        (680, 694)), add, "body", "breast")
    if how == "button":
        add("body", "breast", COLOURS["dark"], _disc(756, 560, 44))
    if how == "banded":
        add("body", "breast", COLOURS["black"], curve((880, 500), (790, 528), (690, 500), (640, 540), (700, 572),
                                                       (790, 590), (880, 560)))


def _head(bird: Species, add) -> None:
    face = COLOURS[look(bird, "face")[0]]
    add("body", "face", face, curve((920, 280), (700, 180), (580, 300), (600, 420), (690, 476), (790, 470),
                                     (920, 420)))
    throat, how = look(bird, "throat")
    add("body", "throat", COLOURS[throat], curve((930, 372), (850, 392), (770, 420), (722, 470), (720, 522),
                                                  (770, 552), (850, 556), (930, 520)))
    if how == "whiskered":
        add("body", "throat", COLOURS["black"], curve((890, 378), (800, 404), (730, 450), (706, 526), (706, 526),
                                                       (750, 530), (782, 466), (890, 414)))
    crown, how = look(bird, "crown")
    rgb = COLOURS[crown]
    if how == "crested":
        add("under", "crown", rgb, curve((850, 262), (780, 172), (690, 134), (580, 112), (580, 112), (600, 190),
                                          (600, 300)))
    add("body", "crown", rgb, curve((900, 276), (800, 248), (730, 244), (650, 282), (596, 366), (556, 400), (500, 330),
                                     (560, 160), (760, 100), (900, 180)))
    if how == "striped":
        add("body", "crown", COLOURS["white"], curve((880, 232), (780, 198), (700, 204), (630, 250), (590, 320),
                                                      (540, 300), (600, 190), (700, 140), (800, 140), (880, 200)))
    _eye(bird, add)


def _eye(bird: Species, add) -> None:
    """The stripe above the eye, the line through it, and the eye itself."""
    face = COLOURS[look(bird, "face")[0]]
    colour, style = look(bird, "eye")
    rgb = COLOURS[colour]
    brow = rgb if style in ("brow", "mask") else face
    line = {"brow": COLOURS["dark"], "line": rgb, "mask": rgb}.get(style, face)
    add("body", "eye", brow, curve((890, 262), (800, 232), (730, 230), (650, 266), (584, 350), (584, 350), (600, 374),
                                    (660, 318), (736, 284), (810, 284), (890, 300)))
    add("body", "eye", line, curve((890, 296), (800, 280), (736, 284), (660, 322), (604, 376), (604, 376), (670, 356),
                                    (740, 322), (810, 322), (890, 326)))
    if style == "mask":
        add("body", "eye", rgb, curve((890, 280), (770, 250), (660, 290), (604, 370), (604, 370), (690, 362),
                                       (770, 352), (890, 350)))
    if style == "ring":
        add("over", "eye", rgb, _disc(770, 298, 40))
    pale = sum(line if style != "ring" else rgb) < 200
    add("over", "eye", COLOURS["buff"] if pale else mix(face, COLOURS["white"], 4), _disc(770, 298, 29))
    add("over", "eye", (18, 14, 14), _disc(771, 298, 24))
    add("over", "eye", (250, 250, 250), _disc(779, 289, 8))


def _wing(bird: Species, add) -> None:
    rgb = COLOURS[look(bird, "wing")[0]]
    dark = darker(rgb)
    line = mix(rgb, COLOURS["buff"], 3)
    add("wing", "wing", mix(rgb, dark, 3), WING)
    add("wing", "wing", rgb, curve((720, 400), (520, 380), (430, 440), (480, 560), (560, 640), (720, 620)))
    for p, q in (((440, 480), (230, 622)), ((470, 540), (210, 640)), ((490, 590), (250, 652)),
                 ((500, 624), (330, 656))):
        add("wing", "wing", line, stroke(p, q, 14, 7))
        add("wing", "wing", dark, stroke((p[0], p[1] + 16), (q[0], q[1] + 10), 14, 7))
    _wing_bars(bird, add)


def _wing_bars(bird: Species, add) -> None:
    """Two bands across the folded wing, or a patch at the shoulder; without bars the bands have the wing's colour."""
    colour, style = look(bird, "wing_bars")
    rgb = COLOURS[colour]
    bar = curve((556, 390), (600, 390), (586, 460), (606, 540), (660, 640), (604, 668), (556, 560), (540, 470))
    if style == "patch":
        add("wing", "wing bars", rgb, curve((610, 410), (672, 420), (720, 490), (690, 548), (610, 538), (566, 480)))
    if style in ("plain", "double"):
        add("wing", "wing bars", rgb, bar)
    if style in ("plain", "double", "single"):
        add("wing", "wing bars", rgb, [(x - 104 * FINE, y + 22 * FINE) for x, y in bar])


def _beak(bird: Species, add) -> None:
    colour, style = look(bird, "beak")
    rgb = COLOURS[colour]
    add("over", "beak", rgb, BEAKS[style])
    tip = {"thin": 960, "dagger": 1020, "stout": 985}.get(style, 945)
    add("over", "beak", darker(rgb), stroke((842, 350), (tip, 354), 12, 4))


BUILDS = {"sparrow": (16, 16), "slim": (14, 15), "big-headed": (16, 18), "heavy": (17, 15)}  # body and head in 16ths


@lru_cache(maxsize=256)
def shapes_of(bird: Species) -> dict[str, np.ndarray]:
    """All shapes of a bird in painting order, as flat arrays: control points (N, 2) and, for each shape, its number of
    points, layer, part and colour."""
    found: list = []
    for paint in (_tail, _legs, _torso, _head, _wing, _beak):
        paint(bird, lambda *shape: found.append(shape))
    found.sort(key=lambda shape: LAYERS.index(shape[0]))  # stable: within a layer the order stays
    points = np.array([p for shape in found for p in shape[3]], dtype=np.int64)
    count = np.array([len(shape[3]) for shape in found], dtype=np.int64)
    layer = np.array([LAYERS.index(shape[0]) for shape in found])
    part = np.array([PARTS.index(shape[1]) for shape in found])
    rgb = np.array([shape[2] for shape in found], dtype=np.int64)
    legs = np.repeat(part == PARTS.index("legs"), count)
    head = _head_weight(points)
    depth, large = BUILDS[bird.build]
    neck, middle = np.array([690, 370]) * FINE, np.array([540, 560]) * FINE
    points += (points - neck) * (large - 16) * head[:, None] // 256
    across = np.where(legs, 0, (points[:, 1] - middle[1]) * (depth - 16) * (16 - head) // 256)
    points[:, 1] += across
    return {"points": points, "count": count, "layer": layer, "part": part, "rgb": rgb, "head": head, "legs": legs}


def _head_weight(points: np.ndarray) -> np.ndarray:
    """Weight with which a point follows the head's nod: 0 on the body, rising along the neck, to 16. (N, 2) -> (N,)"""
    along = (points[:, 0] - 620 * FINE) * 4 + (470 * FINE - points[:, 1]) * 5
    return np.clip(along // (50 * FINE), 0, 16)
