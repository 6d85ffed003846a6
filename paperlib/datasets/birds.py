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

from dataclasses import dataclass, fields
from functools import lru_cache
from math import isqrt

import numpy as np
import pandas as pd

from paperlib.progress import Bar

PARTS = ("background", "crown", "face", "eye", "beak", "throat", "breast", "belly", "back", "wing", "wing bars", "tail",
         "legs")
BACKGROUNDS = ("sky", "branch", "grass", "water")

COLOURS = {
    "white": (242, 240, 233), "black": (38, 35, 38), "grey": (150, 152, 154), "slate": (92, 99, 110),
    "brown": (126, 98, 68), "dark": (74, 52, 38), "rufous": (176, 74, 34), "buff": (222, 192, 142),
    "horn": (196, 164, 112), "pink": (232, 150, 138), "yellow": (248, 210, 44), "orange": (236, 126, 34),
    "red": (212, 38, 36), "blue": (46, 92, 186), "azure": (92, 156, 222), "olive": (128, 134, 62),
}


@dataclass(frozen=True)
class Species:
    """One row of the table: an attribute "colour style" for each part. The defaults are the palette sparrows share."""

    name: str
    crown: str = "brown plain"  # plain, striped (a pale line along the middle), crested
    face: str = "buff plain"
    eye: str = "plain"  # brow (a stripe above the eye), line (through it), ring, mask; plain: as the face
    beak: str = "horn conical"  # conical, thin, hooked, dagger, stout
    throat: str = "white plain"  # plain, whiskered (a dark stripe on each side)
    breast: str = "buff plain"  # plain, streaked, spotted, button (one dark spot), banded
    belly: str = "white plain"  # plain, streaked
    back: str = "brown streaked"  # plain, streaked, barred
    wing: str = "brown plain"
    wing_bars: str = "none"  # double, single, patch; none: as the wing
    tail: str = "brown notched"  # notched, long, short, forked, edged (pale outer feathers), barred
    legs: str = "pink plain"
    build: str = "sparrow"  # the shape of the whole, not a part: sparrow, slim, big-headed, heavy

    @property
    def is_sparrow(self) -> bool:
        return "Sparrow" in self.name


SPECIES = (
    Species("Meadow Sparrow"),
    Species("Brook Sparrow", breast="buff streaked"),
    Species("Thicket Sparrow", breast="buff streaked", wing_bars="white double"),
    Species("Pebble Sparrow", breast="white spotted", crown="grey plain"),
    Species("Button Sparrow", breast="grey button", crown="rufous plain"),
    Species("Rusty-capped Sparrow", crown="rufous plain", eye="black line"),
    Species("Ember Sparrow", crown="rufous plain", wing_bars="white double"),
    Species("Pale-browed Sparrow", eye="white brow", crown="dark plain"),
    Species("Dune Sparrow", eye="white brow", crown="dark plain", tail="rufous short"),
    Species("Royal Sparrow", crown="black striped", face="grey plain", eye="white brow"),
    Species("Bridled Sparrow", crown="black striped", face="grey plain", eye="white brow", throat="white whiskered"),
    Species("Bibbed Sparrow", throat="black plain", crown="grey plain"),
    Species("Masked Sparrow", throat="black plain", crown="grey plain", eye="black mask"),
    Species("Chimney Sparrow", throat="black plain", crown="rufous plain", wing_bars="white double"),
    Species("Heath Sparrow", tail="dark long", breast="buff streaked"),
    Species("Fork-tailed Sparrow", tail="dark forked", wing_bars="white double"),
    Species("Ridge Sparrow", tail="dark edged", breast="buff streaked", eye="white brow"),
    Species("Slate Sparrow", crown="grey plain", breast="grey plain", face="grey plain"),
    Species("Rose-billed Sparrow", beak="pink conical", breast="grey plain", crown="rufous plain"),
    Species("Saltmarsh Sparrow", face="rufous plain", breast="buff streaked", tail="brown short"),
    Species("Scarlet Cardinal", "red crested", "red plain", "black mask", "orange conical", "black plain", "red plain",
            "red plain", "red plain", "red plain", "none", "red long", "brown plain", "sparrow"),
    Species("Azure Jay", "blue crested", "white plain", "black line", "black stout", "white plain", "grey banded",
            "white plain", "azure plain", "blue plain", "white double", "blue long", "black plain", "heavy"),
    Species("Lemon Goldfinch", "black plain", "yellow plain", "plain", "orange conical", "yellow plain", "yellow plain",
            "white plain", "yellow plain", "black plain", "white single", "black notched", "pink plain", "sparrow"),
    Species("Ladder Woodpecker", "red plain", "white plain", "black line", "black dagger", "white plain", "white plain",
            "red plain", "black barred", "black plain", "white double", "black short", "grey plain", "slim"),
    Species("Ink Crow", "black plain", "black plain", "plain", "black stout", "black plain", "black plain",
            "black plain", "black plain", "black plain", "none", "black notched", "black plain", "heavy"),
    Species("River Kingfisher", "blue crested", "orange plain", "blue mask", "black dagger", "white plain",
            "orange plain", "orange plain", "azure plain", "blue plain", "none", "blue short", "red plain",
            "big-headed"),
    Species("Orchard Robin", "slate plain", "slate plain", "white ring", "yellow thin", "white whiskered",
            "orange plain", "orange plain", "slate plain", "slate plain", "none", "black notched", "dark plain",
            "sparrow"),
    Species("Willow Warbler", "olive plain", "yellow plain", "yellow brow", "dark thin", "yellow plain",
            "yellow streaked", "white plain", "olive plain", "olive plain", "white double", "olive notched",
            "dark plain", "slim"),
    Species("Indigo Bunting", "blue plain", "blue plain", "plain", "grey conical", "blue plain", "blue plain",
            "azure plain", "blue plain", "slate plain", "none", "slate notched", "black plain", "sparrow"),
    Species("Red-shouldered Blackbird", "black plain", "black plain", "yellow ring", "yellow thin", "black plain",
            "black plain", "black plain", "black plain", "black plain", "red patch", "black long", "dark plain",
            "slim"),
    Species("Garden Tit", "black plain", "white plain", "plain", "black conical", "black plain", "yellow plain",
            "yellow plain", "olive plain", "slate plain", "white single", "slate notched", "slate plain", "big-headed"),
    Species("Rock Wren", "brown plain", "buff plain", "white brow", "dark thin", "white plain", "buff plain",
            "rufous streaked", "rufous barred", "rufous plain", "none", "rufous barred", "pink plain", "big-headed"),
    Species("Dusk Shrike", "grey plain", "white plain", "black mask", "black hooked", "white plain", "white plain",
            "white plain", "grey plain", "black plain", "white patch", "black edged", "black plain", "sparrow"),
)
COLUMNS = tuple(f.name for f in fields(Species) if f.name not in ("name", "build"))  # in the order of PARTS[1:]


def _species(number: int) -> Species:
    if not hasattr(number, "__index__") or not 0 <= number < len(SPECIES):
        raise ValueError(f"Unknown species {number!r}: give a number from 0 to {len(SPECIES) - 1} (see birds.table()).")
    return SPECIES[number]


def table() -> pd.DataFrame:
    """The attributes of all species: one row a species, one column a part, `build` last."""
    return pd.DataFrame([vars(s) for s in SPECIES]).rename(columns={"wing_bars": "wing bars"})


def _look(bird: Species, column: str) -> tuple[str, str]:
    """What is drawn at a part: (colour, style). An unmarked eye has the face's colour, absent bars the wing's."""
    value = getattr(bird, column)
    if value in ("plain", "none"):
        return _look(bird, {"eye": "face", "wing_bars": "wing"}[column])[0], "plain"
    colour, style = value.split()
    return colour, style


def distinguishing_parts(a: int, b: int) -> tuple[str, ...]:
    """The names in `PARTS` of the parts that look different in species `a` and `b`.

    Raises ValueError for an unknown species.
    """
    first, second = _species(a), _species(b)
    return tuple(part for part, c in zip(PARTS[1:], COLUMNS, strict=True) if _look(first, c) != _look(second, c))


# --- The bird's shapes: side view, facing right, y down, in units of which a sparrow is about 930 long ---------------
# A shape is a closed smooth curve through its control points; a point named twice is a corner.

FINE = 16  # control points are kept in sixteenths of a unit
FEET = (560, 846)
_LAYERS = ("under", "body", "wing", "over")


def _mix(a: tuple, b: tuple, eighths: int) -> tuple:
    """Colour a with `eighths` of b in it."""
    return tuple((p * (8 - eighths) + q * eighths + 4) // 8 for p, q in zip(a, b, strict=True))


def _darker(c: tuple) -> tuple:
    return _mix(c, (24, 16, 14), 3)


def _mark(c: tuple) -> tuple:
    """Streaks and spots: dark on a pale ground, pale on a dark one."""
    return COLOURS["dark"] if sum(c) > 330 else _mix(c, COLOURS["white"], 4)


def _stroke(p, q, start: int, end: int) -> list:
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


def _curve(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points]


def _corners(*points) -> list:
    return [(x * FINE, y * FINE) for x, y in points for _ in (0, 1)]


OUTLINE = _curve((862, 300), (830, 226), (752, 182), (662, 190), (594, 244), (548, 326), (470, 404), (370, 476),
                 (275, 546), (236, 596), (270, 644), (360, 696), (480, 738), (600, 744), (706, 704), (786, 628),
                 (828, 535), (838, 456), (852, 404), (876, 358))
WING = _curve((640, 428), (690, 470), (694, 540), (640, 606), (540, 642), (400, 652), (280, 650), (150, 662),
              (150, 662), (250, 596), (350, 520), (470, 440), (570, 408))
TAILS = {
    "notched": _corners((350, 520), (62, 690), (104, 716), (88, 752), (340, 664)),
    "long": _corners((350, 520), (-70, 748), (-66, 806), (-20, 822), (340, 664)),
    "short": _corners((350, 520), (168, 622), (160, 668), (190, 696), (340, 664)),
    "forked": _corners((350, 520), (46, 640), (30, 682), (190, 690), (58, 768), (86, 806), (340, 664)),
}
TAILS |= {"edged": TAILS["notched"], "barred": TAILS["notched"]}
BEAKS = {
    "conical": _curve((840, 282), (840, 282), (915, 300), (972, 352), (972, 352), (915, 386), (848, 398), (848, 398)),
    "thin": _curve((850, 316), (850, 316), (920, 326), (1000, 360), (1000, 360), (920, 366), (850, 372), (850, 372)),
    "hooked": _curve((842, 282), (842, 282), (920, 286), (972, 330), (962, 400), (962, 400), (930, 366), (850, 400),
                     (850, 400)),
    "dagger": _curve((842, 288), (842, 288), (920, 302), (1050, 352), (1050, 352), (920, 376), (848, 396), (848, 396)),
    "stout": _curve((838, 274), (838, 274), (940, 288), (1016, 364), (1016, 364), (930, 392), (846, 404), (846, 404)),
}


def _tail(bird: Species, add) -> None:
    colour, style = _look(bird, "tail")
    rgb = COLOURS[colour]
    add("under", "tail", rgb, TAILS[style])
    if style == "edged":
        add("under", "tail", COLOURS["white"], _stroke((300, 668), (90, 744), 26, 40))
    elif style == "barred":
        for x in (110, 165, 220, 275):
            y = 664 - (x - 110) // 2
            add("under", "tail", _darker(rgb), _stroke((x - 12, y), (x + 22, y + 78), 22, 22))
    else:
        far = {"long": -50, "short": 175}.get(style, 105)
        add("under", "tail", _darker(rgb), _stroke((330, 590), (far, 720 - (far + 50) * 2 // 7), 8, 12))


def _legs(bird: Species, add) -> None:
    rgb, thigh = COLOURS[_look(bird, "legs")[0]], COLOURS[_look(bird, "belly")[0]]
    for x, c in ((500, _darker(rgb)), (600, rgb)):
        add("under", "legs", c, _stroke((x + 4, 730), (x - 22, 782), 34, 28))
        add("under", "legs", c, _stroke((x - 24, 774), (x, 842), 28, 26))
        for toe in (-46, 48, 76):
            add("under", "legs", c, _stroke((x, 834), (x + toe, 850), 26, 16))
        add("under", "belly", thigh, _curve((x + 50, 700), (x + 34, 744), (x - 4, 770), (x - 34, 750), (x - 50, 700)))


def _pattern(style: str, ground: tuple, spots, add, layer: str, part: str) -> None:
    """Streaks, spots, bars or bands over the ground colour."""
    ink = _mark(ground)
    if style == "streaked":
        for x, y in spots:
            add(layer, part, ink, _curve((x + 12, y - 40), (x + 12, y - 40), (x + 14, y + 4), (x - 4, y + 34),
                                         (x - 16, y + 8)))
    if style == "spotted":
        for x, y in spots:
            add(layer, part, ink, _disc(x, y, 18))
    if style == "barred":
        for x, y in spots:
            add(layer, part, ink, _stroke((x - 40, y - 60), (x + 50, y + 60), 22, 22))


def _torso(bird: Species, add) -> None:
    """The body's outline is the stencil; belly, breast, back are painted inside it and may overshoot it."""
    back, how = _look(bird, "back")
    add("body", "back", COLOURS[back], OUTLINE)
    _pattern(how, COLOURS[back], ((585, 330), (540, 400), (480, 420), (430, 470), (380, 500)), add, "body", "back")
    belly, how = _look(bird, "belly")
    add("body", "belly", COLOURS[belly], _curve((200, 640), (330, 610), (480, 590), (640, 560), (860, 560), (900, 800),
                                                (600, 860), (300, 800)))
    _pattern(how, COLOURS[belly], ((420, 690), (480, 705), (540, 715), (600, 715)), add, "body", "belly")
    breast, how = _look(bird, "breast")
    rgb = COLOURS[breast]
    add("body", "breast", rgb, _curve((900, 440), (790, 470), (690, 450), (600, 520), (560, 620), (620, 680),
                                      (700, 716), (800, 740), (900, 640)))
    _pattern(how, rgb, ((806, 512), (756, 520), (712, 540), (782, 590), (734, 606), (686, 620), (640, 640), (736, 684),
                        (680, 694)), add, "body", "breast")
    if how == "button":
        add("body", "breast", COLOURS["dark"], _disc(756, 560, 44))
    if how == "banded":
        add("body", "breast", COLOURS["black"], _curve((880, 500), (790, 528), (690, 500), (640, 540), (700, 572),
                                                       (790, 590), (880, 560)))


def _head(bird: Species, add) -> None:
    face = COLOURS[_look(bird, "face")[0]]
    add("body", "face", face, _curve((920, 280), (700, 180), (580, 300), (600, 420), (690, 476), (790, 470),
                                     (920, 420)))
    throat, how = _look(bird, "throat")
    add("body", "throat", COLOURS[throat], _curve((930, 372), (850, 392), (770, 420), (722, 470), (720, 522),
                                                  (770, 552), (850, 556), (930, 520)))
    if how == "whiskered":
        add("body", "throat", COLOURS["black"], _curve((890, 378), (800, 404), (730, 450), (706, 526), (706, 526),
                                                       (750, 530), (782, 466), (890, 414)))
    crown, how = _look(bird, "crown")
    rgb = COLOURS[crown]
    if how == "crested":
        add("under", "crown", rgb, _curve((850, 262), (780, 172), (690, 134), (580, 112), (580, 112), (600, 190),
                                          (600, 300)))
    add("body", "crown", rgb, _curve((900, 276), (800, 248), (730, 244), (650, 282), (596, 366), (556, 400), (500, 330),
                                     (560, 160), (760, 100), (900, 180)))
    if how == "striped":
        add("body", "crown", COLOURS["white"], _curve((880, 232), (780, 198), (700, 204), (630, 250), (590, 320),
                                                      (540, 300), (600, 190), (700, 140), (800, 140), (880, 200)))
    _eye(bird, add)


def _eye(bird: Species, add) -> None:
    """The stripe above the eye, the line through it, and the eye itself."""
    face = COLOURS[_look(bird, "face")[0]]
    colour, style = _look(bird, "eye")
    rgb = COLOURS[colour]
    brow = rgb if style in ("brow", "mask") else face
    line = {"brow": COLOURS["dark"], "line": rgb, "mask": rgb}.get(style, face)
    add("body", "eye", brow, _curve((890, 262), (800, 232), (730, 230), (650, 266), (584, 350), (584, 350), (600, 374),
                                    (660, 318), (736, 284), (810, 284), (890, 300)))
    add("body", "eye", line, _curve((890, 296), (800, 280), (736, 284), (660, 322), (604, 376), (604, 376), (670, 356),
                                    (740, 322), (810, 322), (890, 326)))
    if style == "mask":
        add("body", "eye", rgb, _curve((890, 280), (770, 250), (660, 290), (604, 370), (604, 370), (690, 362),
                                       (770, 352), (890, 350)))
    if style == "ring":
        add("over", "eye", rgb, _disc(770, 298, 40))
    pale = sum(line if style != "ring" else rgb) < 200
    add("over", "eye", COLOURS["buff"] if pale else _mix(face, COLOURS["white"], 4), _disc(770, 298, 29))
    add("over", "eye", (18, 14, 14), _disc(771, 298, 24))
    add("over", "eye", (250, 250, 250), _disc(779, 289, 8))


def _wing(bird: Species, add) -> None:
    rgb = COLOURS[_look(bird, "wing")[0]]
    dark = _darker(rgb)
    line = _mix(rgb, COLOURS["buff"], 3)
    add("wing", "wing", _mix(rgb, dark, 3), WING)
    add("wing", "wing", rgb, _curve((720, 400), (520, 380), (430, 440), (480, 560), (560, 640), (720, 620)))
    for p, q in (((440, 480), (230, 622)), ((470, 540), (210, 640)), ((490, 590), (250, 652)),
                 ((500, 624), (330, 656))):
        add("wing", "wing", line, _stroke(p, q, 14, 7))
        add("wing", "wing", dark, _stroke((p[0], p[1] + 16), (q[0], q[1] + 10), 14, 7))
    _wing_bars(bird, add)


def _wing_bars(bird: Species, add) -> None:
    """Two bands across the folded wing, or a patch at the shoulder; without bars the bands have the wing's colour."""
    colour, style = _look(bird, "wing_bars")
    rgb = COLOURS[colour]
    bar = _curve((556, 390), (600, 390), (586, 460), (606, 540), (660, 640), (604, 668), (556, 560), (540, 470))
    if style == "patch":
        add("wing", "wing bars", rgb, _curve((610, 410), (672, 420), (720, 490), (690, 548), (610, 538), (566, 480)))
    if style in ("plain", "double"):
        add("wing", "wing bars", rgb, bar)
    if style in ("plain", "double", "single"):
        add("wing", "wing bars", rgb, [(x - 104 * FINE, y + 22 * FINE) for x, y in bar])


def _beak(bird: Species, add) -> None:
    colour, style = _look(bird, "beak")
    rgb = COLOURS[colour]
    add("over", "beak", rgb, BEAKS[style])
    tip = {"thin": 960, "dagger": 1020, "stout": 985}.get(style, 945)
    add("over", "beak", _darker(rgb), _stroke((842, 350), (tip, 354), 12, 4))


BUILDS = {"sparrow": (16, 16), "slim": (14, 15), "big-headed": (16, 18), "heavy": (17, 15)}  # body and head in 16ths


@lru_cache(maxsize=256)
def _shapes(bird: Species) -> dict[str, np.ndarray]:
    """All shapes of a bird in painting order, as flat arrays: control points (N, 2) and, for each shape, its number of
    points, layer, part and colour."""
    found: list = []
    for paint in (_tail, _legs, _torso, _head, _wing, _beak):
        paint(bird, lambda *shape: found.append(shape))
    found.sort(key=lambda shape: _LAYERS.index(shape[0]))  # stable: within a layer the order stays
    points = np.array([p for shape in found for p in shape[3]], dtype=np.int64)
    count = np.array([len(shape[3]) for shape in found], dtype=np.int64)
    layer = np.array([_LAYERS.index(shape[0]) for shape in found])
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
    """How much a point follows the head's nod: 0 on the body, rising along the neck, to 16. (N, 2) -> (N,)"""
    along = (points[:, 0] - 620 * FINE) * 4 + (470 * FINE - points[:, 1]) * 5
    return np.clip(along // (50 * FINE), 0, 16)


# --- The scene: what varies from picture to picture, whatever the species --------------------------------------------

SCENE = {  # name: (lowest, highest), both possible
    "background": (0, len(BACKGROUNDS) - 1),
    "mirror": (0, 1),
    "size": (640, 780),  # thousandths of the picture's width for a bird 930 units long
    "x": (-50, 50), "y": (-50, 50),  # thousandths of the picture's width from its middle
    "tilt": (-12, 14), "nod": (-10, 12), "tail": (-10, 12),  # turns of about 0.9 degrees each
    "light": (210, 282),  # brightness in 256ths
    "warmth": (-10, 10),  # added to red, taken from blue
    "sun": (-2, 2),  # where the light comes from: left to right
}
_WORDS = 512  # random words of a picture; those after the scene's make the background's texture


def _words(*key: int) -> np.ndarray:
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(_WORDS)


def _between(word, low: int, high: int) -> int:
    return low + (((int(word) >> 32) * (high - low + 1)) >> 32)


def _scene(words: np.ndarray) -> dict[str, int]:
    return {name: _between(w, *span) for w, (name, span) in zip(words, SCENE.items(), strict=False)}


def _turn(points: np.ndarray, k: int, pivot: tuple) -> np.ndarray:
    """Turns points by 2 atan(k / 128), about 0.9 k degrees, clockwise on the screen: an angle with a rational sine."""
    c, s, one = 16384 - k * k, 256 * k, 16384 + k * k
    v = points - np.array(pivot) * FINE
    return np.stack([v[:, 0] * c - v[:, 1] * s, v[:, 0] * s + v[:, 1] * c], 1) // one + np.array(pivot) * FINE


def _pose(shapes: dict, scene: dict) -> np.ndarray:
    """Nods the head, moves the tail, tilts the body over its legs. -> (N, 2)"""
    p = shapes["points"]
    p = p + (_turn(p, scene["nod"], (640, 420)) - p) * shapes["head"][:, None] // 16
    loose = np.clip((330 * FINE - p[:, 0]) // (4 * FINE), 0, 16)[:, None]
    p = p + (_turn(p, scene["tail"], (320, 590)) - p) * loose // 16
    stiff = np.where(shapes["legs"], np.clip((780 * FINE - p[:, 1]) // (5 * FINE), 0, 16), 16)[:, None]
    return p + (_turn(p, scene["tilt"], (550, 690)) - p) * stiff // 16


def _to_picture(points: np.ndarray, scene: dict, side: int) -> np.ndarray:
    """From units of the bird to sixteenths of a fine pixel of a picture `side` fine pixels wide."""
    v = points - np.array([470, 520]) * FINE
    v = v * np.array([1 - 2 * scene["mirror"], 1])
    v = v * (scene["size"] * side) // (930 * 1000)
    return v + np.array([500 + scene["x"], 500 + scene["y"]]) * side * FINE // 1000


# --- Filling polygons ------------------------------------------------------------------------------------------------

SUPER = 4  # fine pixels along each side of a pixel
_T = np.arange(4)[:, None]
_SPLINE = np.concatenate([-16 * _T + 8 * _T**2 - _T**3, 128 - 20 * _T**2 + 3 * _T**3, 16 * _T + 16 * _T**2 - 3 * _T**3,
                          -4 * _T**2 + _T**3], 1)  # Catmull-Rom weights at t = 0, 1/4, 1/2, 3/4, in 128ths: (4, 4)


def _smooth(points: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Catmull-Rom curves through closed rings of control points, as the edges of polygons with four times the points.

    points (N, 2), count (S,) -> starts (4N, 2), ends (4N, 2).
    """
    last = np.cumsum(count) - 1
    after, before = np.arange(1, len(points) + 1), np.arange(-1, len(points) - 1)
    after[last] = last - count + 1
    before[last - count + 1] = last
    near = (points[before], points, points[after], points[after[after]])
    fine = sum(_SPLINE[None, :, i, None] * near[i][:, None, :] for i in range(4)) // 128
    corner = (points == points[after]).all(axis=1)
    fine[corner] = points[corner, None]  # from a corner to itself the curve would make a loop
    ends = np.concatenate([fine[:, 1:], fine[after][:, :1]], 1)
    return fine.reshape(-1, 2), ends.reshape(-1, 2)


def _spans(points: np.ndarray, count: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Even-odd scan conversion of smooth shapes: runs of fine pixels whose centres lie inside.

    points (N, 2) in sixteenths of a fine pixel, count (S,) -> shape, first, behind (each (runs,)); `first` and `behind`
    are flat positions in a canvas of (side, side), and runs are in the order of the shapes.
    """
    a, b = _smooth(points, count)
    shape = np.repeat(np.arange(len(count)), 4 * count)
    down = a[:, 1] <= b[:, 1]
    top, bottom = np.where(down[:, None], a, b), np.where(down[:, None], b, a)
    first = np.clip((top[:, 1] + 7) // 16, 0, side)
    rows = np.clip((bottom[:, 1] + 7) // 16, 0, side) - first
    edge = np.repeat(np.arange(len(a)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    step = bottom - top
    x = top[edge, 0] - step[edge, 0] * (top[edge, 1] - 16 * row - 8) // step[edge, 1]  # rounded up
    column = np.clip((x + 7) // 16, 0, side)
    key = np.sort((shape[edge] * side + row) * (side + 1) + column)
    line, column = key // (side + 1), key % (side + 1)
    place = line % side * side + column
    return line[::2] // side, place[::2], place[1::2]


def _fill(canvas: np.ndarray, paints: np.ndarray, shape, first, behind) -> None:
    for paint, i, j in zip(paints[shape].tolist(), first.tolist(), behind.tolist(), strict=True):
        canvas[i:j] = paint


def _paint(points, count, layer, side: int) -> np.ndarray:
    """Paints shape s with number s + 1, in order. -> (side, side), 0 where nothing was painted.

    Within the layers "body" and "wing" the first shape is a stencil: what follows is painted inside it only.
    """
    shape, first, behind = _spans(points, count, side)
    canvas = np.zeros(side * side, dtype=np.uint8)
    numbers = np.arange(1, len(count) + 1)
    for level in np.unique(layer):
        here = layer[shape] == level
        if level in (_LAYERS.index("body"), _LAYERS.index("wing")):
            stencil = np.zeros_like(canvas)
            outline = here & (shape == np.argmax(layer == level))
            _fill(stencil, numbers, shape[outline], first[outline], behind[outline])
            inside = stencil.copy()
            _fill(inside, numbers, shape[here], first[here], behind[here])
            np.copyto(canvas, inside, where=stencil > 0)
        else:
            _fill(canvas, numbers, shape[here], first[here], behind[here])
    return canvas.reshape(side, side)


# --- Backgrounds -----------------------------------------------------------------------------------------------------

def _soft(words: np.ndarray, cells: int, size: int) -> np.ndarray:
    """Smooth noise in -128 .. 127: random values on a grid of cells x cells, blended in between. -> (size, size)"""
    grid = (words[: (cells + 1) ** 2] >> np.uint64(56)).astype(np.int64).reshape(cells + 1, cells + 1) - 128
    place = (2 * np.arange(size) + 1) * cells * 128 // size
    i, f = place >> 8, place & 255
    f = f * f * (768 - 2 * f) >> 16
    rows = grid[i] * (256 - f)[:, None] + grid[i + 1] * f[:, None]
    return (rows[:, i] * (256 - f) + rows[:, i + 1] * f) >> 16


def _blend(a, b, weight: np.ndarray) -> np.ndarray:
    """Colour a where the weight is 0, b where it is 256. (size, size) -> (size, size, 3)"""
    w = np.clip(weight, 0, 256)[..., None]
    return (np.asarray(a) * (256 - w) + np.asarray(b) * w) >> 8


def _ramp(size: int) -> np.ndarray:
    """0 at the top of the picture to 256 at its foot. -> (size, 1)"""
    return ((2 * np.arange(size) + 1) * 128 // size)[:, None]


def _field(kind: str, words: np.ndarray, size: int) -> np.ndarray:
    """The soft ground of a background. -> (size, size, 3), int"""
    broad, close, wave = _soft(words[40:], 4, size), _soft(words[70:], 9, size), _soft(words[170:], 3, size)
    hue = _between(words[39], -12, 12)
    down = _ramp(size)
    if kind == "sky":
        return _blend((104 + hue, 160, 222), (236, 240, 244), down * 5 // 8 + np.clip(broad * 2 + close - 20, 0, 200))
    if kind == "branch":
        leaves = _blend((70, 96 + hue, 56), (150, 176 + hue, 96), 128 + broad + close // 2)
        return _blend(leaves, (226, 232, 190), close - 40)
    if kind == "grass":
        meadow = _blend((176, 200 + hue, 128), (98, 142 + hue, 58), down)
        return _blend(meadow, (62, 104, 40), 40 + (broad + close) // 2)
    return _blend((150, 190 + hue, 202), (66, 118 + hue, 146), down + close[:, :1] // 2 + wave // 3)


def _perch(kind: str, words: np.ndarray, foot: tuple[int, int]) -> list:
    """What the bird stands on and what lies about: (colour, points) in thousandths of the picture's width."""
    draw = iter(words[200:])
    furnish = {"sky": _wire_or_post, "branch": _bough, "grass": _blades, "water": _stone}[kind]
    return furnish(*foot, lambda low, high: _between(next(draw), low, high))


def _wire_or_post(x: int, y: int, pick) -> list:
    lift = pick(-40, 40)
    if pick(0, 1):
        return [((66, 62, 66), _stroke((-60, y + lift), (x, y + 8), 12, 12)),
                ((66, 62, 66), _stroke((x - 1, y + 8), (1060, y + lift), 12, 12))]
    return [((126, 106, 86), _stroke((x, y + 2), (x, 1100), 150, 160)),
            ((168, 146, 120), _stroke((x - 30, y), (x - 30, 1100), 50, 60)),
            ((92, 76, 62), _stroke((x - 84, y + 10), (x + 84, y + 10), 24, 24))]


def _leaf(a: int, b: int, w: int, h: int) -> list:
    """A leaf or a ripple: pointed at both ends, w long and about 2 h thick."""
    return _curve((a, b), (a, b), (a + w // 2, b - h), (a + w, b + h // 2), (a + w, b + h // 2), (a + w // 2, b + h))


def _bough(x: int, y: int, pick) -> list:
    lift, bark, found = pick(-40, 40), (104, 78, 56), []
    for _ in range(8):
        place = pick(0, 1000), y + pick(-110, 130)
        found.append(((60 + pick(0, 50), 120 + pick(0, 40), 46), _leaf(*place, pick(60, 120), pick(20, 36))))
    left, right = y + lift * (x + 60) // 500, y - lift * (1060 - x) // 500  # straight through the feet
    return found + [(bark, _stroke((-60, left + 34), (1060, right + 26), 78, 50)),
                    (_mix(bark, (220, 200, 170), 2), _stroke((-60, left + 8), (1060, right + 6), 16, 12))]


def _blade(a: int, base: int, tall: int, lean: int) -> list:
    middle, top = base - tall // 2, base - tall
    return _curve((a - 9, base), (a - 9, base), (a + lean // 3 - 6, middle), (a + lean, top), (a + lean, top),
                  (a + lean // 3 + 8, middle), (a + 11, base), (a + 11, base))


def _blades(x: int, y: int, pick) -> list:
    found = [((92 - 6 * k, 130 - 9 * k, 54 - 5 * k), _curve((-80, y + 8 + h), (250, y - 6 + h), (700, y + 2 + h),
                                                            (1080, y + 8 + h), (1080, 1200), (-80, 1200)))
             for k, h in enumerate((0, 60, 130))]
    for k in range(36):
        green = (70 + pick(0, 70), 118 + pick(0, 60), 40 + pick(0, 20))
        found.append((green, _blade(pick(-20, 1020), y + 5 * k - 10, pick(60, 200), pick(-60, 60))))
    return found


def _stone(x: int, y: int, pick) -> list:
    lift = pick(-40, 40)
    found = [((112, 124, 92), _curve((-80, 60 + lift), (300, 40 + lift), (700, 70 + lift), (1080, 50 + lift),
                                     (1080, -90), (-80, -90)))]
    for _ in range(16):
        colour = ((58, 104, 132), (176, 208, 218))[pick(0, 1)]
        found.append((colour, _leaf(pick(-50, 1000), pick(130, 1000), pick(80, 240), pick(4, 9))))
    stone = (126, 122, 118)
    return found + [(_darker(stone), _curve((x - 230, y + 130), (x - 190, y + 40), (x, y + 4), (x + 190, y + 40),
                                            (x + 240, y + 140))),
                    (stone, _curve((x - 190, y + 60), (x - 130, y + 12), (x, y - 4), (x + 130, y + 12),
                                   (x + 170, y + 60), (x, y + 84)))]


# --- From shapes to pixels -------------------------------------------------------------------------------------------

def _pool(fine: np.ndarray) -> np.ndarray:
    """Sums of SUPER x SUPER blocks. (SUPER h, SUPER w) -> (h, w)"""
    rows = sum(fine[k::SUPER] for k in range(SUPER))
    return sum(rows[:, k::SUPER] for k in range(SUPER))


def _blur(a: np.ndarray, r: int) -> np.ndarray:
    """Means over (2 r + 1) x (2 r + 1) pixels, rounded down; the border counts as zero."""
    for _ in (0, 1):
        total = np.cumsum(np.pad(a, ((r + 1, r), (0, 0))), axis=0)
        a = ((total[2 * r + 1 :] - total[: -2 * r - 1]) // (2 * r + 1)).T
    return a


def _relief(cover: np.ndarray, sun: int) -> np.ndarray:
    """Light and shade on a round body, in 256ths: the slope of its blurred silhouette (0 .. 16) towards the sun."""
    size = len(cover)
    r = max(size // 20, 1)
    height = _blur(_blur(cover * 256, r), r)
    pad = np.pad(height, r)
    fall = pad[2 * r :, r:-r] - pad[: -2 * r, r:-r]
    side = pad[r:-r, : -2 * r] - pad[r:-r, 2 * r :]
    return np.clip((4 * fall + sun * side) // 160, -64, 34)


def _render(bird: Species, scene: dict, words: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture. -> image (size, size, 3) uint8, mask (size, size) uint8"""
    side = size * SUPER
    shapes = _shapes(bird)
    kind = BACKGROUNDS[scene["background"]]
    foot = _to_picture(np.array([FEET]) * FINE, scene, 1000)[0] // FINE
    perch = _perch(kind, words, (int(foot[0]), int(foot[1])))
    stage = np.array([p for _, ring in perch for p in ring]) * side // 1000
    points = np.concatenate([stage, _to_picture(_pose(shapes, scene), scene, side)])
    count = np.concatenate([[len(ring) for _, ring in perch], shapes["count"]])
    layer = np.concatenate([np.full(len(perch), -1), shapes["layer"]])
    part = np.concatenate([[0], np.zeros(len(perch), dtype=np.int64), shapes["part"]])
    rgb = np.concatenate([[(0, 0, 0)], [c for c, _ in perch], shapes["rgb"]]).astype(np.int64)
    canvas = _paint(points, count, layer, side)
    return _colour(canvas, part, rgb, scene, _field(kind, words, size)), _mask(canvas, part, size)


def _mask(canvas: np.ndarray, part: np.ndarray, size: int) -> np.ndarray:
    """The part that covers most fine pixels of each pixel. -> (size, size) uint8"""
    fine = part.astype(np.uint8)[canvas]
    votes = np.stack([_pool((fine == k).view(np.uint8)) for k in range(len(PARTS))])
    return votes.argmax(0).astype(np.uint8)


def _colour(canvas, part, rgb, scene: dict, field: np.ndarray) -> np.ndarray:
    """Mean colour of each pixel's fine pixels, lit. Red, green, blue and two counts are summed in one 64-bit word."""
    painted, on_bird = (np.arange(len(part)) > 0).astype(np.int64), (part > 0).astype(np.int64)
    packed = rgb[:, 0] | rgb[:, 1] << 12 | rgb[:, 2] << 24 | painted << 36 | on_bird << 42
    total = _pool(packed[canvas])
    image = np.stack([total & 4095, total >> 12 & 4095, total >> 24 & 4095], -1)
    cover, bird = total >> 36 & 63, total >> 42 & 63
    image = image * (256 * 16 + _relief(bird, scene["sun"]) * bird)[..., None] >> 12
    image = image + field * (16 - cover)[..., None]
    tint = np.array([scene["warmth"], 0, -scene["warmth"]])
    return np.clip((image * scene["light"] >> 12) + tint, 0, 255).astype(np.uint8)


def _check_size(size: int) -> None:
    if size < 32:
        raise ValueError(f"size is {size}: a bird needs at least 32 pixels.")


def draw(species: int, index: int, seed: int = 0, size: int = 96, background: int | None = None):
    """Draws picture number `index` of a species.

    species: a number of `SPECIES`; index, seed: integers >= 0; size: the picture's side in pixels, at least 32 (the
    scene is the same at every size); background: a number of `BACKGROUNDS`, or None for the one that the seed gives.
    Returns (image, mask, scene): image (size, size, 3) uint8; mask (size, size) uint8, numbers of `PARTS`; scene: the
    draws of `SCENE`, which do not depend on the species' attributes.
    Raises ValueError for an unknown species or background, a size below 32, a negative index or seed.
    """
    bird = _species(species)
    _check_size(size)
    if index < 0 or seed < 0:
        raise ValueError(f"index is {index} and seed is {seed}: neither may be negative.")
    if background is not None and not 0 <= background < len(BACKGROUNDS):
        raise ValueError(f"Unknown background {background!r}: give a number from 0 to {len(BACKGROUNDS) - 1}.")
    words = _words(seed, species, index)
    scene = _scene(words)
    if background is not None:
        scene["background"] = int(background)
    return *_render(bird, scene, words, size), scene


def _tied(seed: int, species: int, index: int, shortcut: float) -> bool:
    """Whether the shortcut acts on this picture: with probability `shortcut`, and if so, at every larger one."""
    return _between(_words(seed, species, index, 1)[0], 0, 999_999) < round(shortcut * 1_000_000)


def draw_set(per_class: int, seed: int = 0, size: int = 96, species=None, shortcut: float = 0.0, n_start: int = 0,
             progress: bool = False):
    """Draws `per_class` pictures of each species, indices n_start, n_start + 1, ...

    species: None for all, a number n for the first n, or a list of numbers of `SPECIES`. shortcut: with this
    probability a picture's background is number species % len(BACKGROUNDS), else free; 0 is independent. n_start: give
    the test set a start that the training set does not reach. progress: show a bar.
    Returns images (n, size, size, 3) uint8, masks (n, size, size) uint8, labels (n,) int64 (numbers of `SPECIES`, in
    runs of per_class), backgrounds (n,) int64.
    Raises ValueError for per_class < 1, a shortcut outside [0, 1], and as `draw` does.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}: draw at least one picture of each species.")
    if not 0 <= shortcut <= 1:
        raise ValueError(f"shortcut is {shortcut}: give a probability from 0 to 1.")
    _check_size(size)
    labels = np.repeat(_chosen(species), per_class)
    images = np.empty((len(labels), size, size, 3), dtype=np.uint8)
    masks = np.empty((len(labels), size, size), dtype=np.uint8)
    backgrounds = np.empty(len(labels), dtype=np.int64)
    for k in Bar(range(len(labels)), "drawing birds", show=progress, unit="picture"):
        c, i = int(labels[k]), n_start + k % per_class
        wanted = c % len(BACKGROUNDS) if shortcut and _tied(seed, c, i, shortcut) else None
        image, mask, scene = draw(c, i, seed, size, wanted)
        images[k], masks[k], backgrounds[k] = image, mask, scene["background"]
    return images, masks, labels, backgrounds


def _chosen(species) -> np.ndarray:
    """The species' numbers from None (all), n (the first n) or a list."""
    if isinstance(species, (int, np.integer)):
        if not 1 <= species <= len(SPECIES):
            raise ValueError(f"species is {species}: ask for 1 to {len(SPECIES)}, or give a list of their numbers.")
        return np.arange(species, dtype=np.int64)
    numbers = range(len(SPECIES)) if species is None else list(species)
    for number in numbers:
        _species(number)
    if len(numbers) == 0:
        raise ValueError("species is empty: give at least one number of birds.SPECIES.")
    return np.array(numbers, dtype=np.int64)
