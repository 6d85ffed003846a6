"""The scene: what varies from picture to picture whatever the species. Pose, place, light and background."""
import numpy as np

from paperlib.datasets.birds.shapes import FINE, curve, darker, mix, stroke

BACKGROUNDS = ("sky", "branch", "grass", "water")
SCENE = {  # name: (lowest, highest), both possible
    "background": (0, len(BACKGROUNDS) - 1),
    "mirror": (0, 1),
    "size": (450, 800),  # thousandths of the picture's width for 1,000 units of the bird
    "x": (-150, 150), "y": (-150, 150),  # thousandths of the picture's width from its middle
    "tilt": (-12, 14), "nod": (-10, 12), "tail": (-10, 12),  # turns of about 0.9 degrees each
    "light": (210, 282),  # brightness in 256ths
    "warmth": (-10, 10),  # added to red, taken from blue
    "sun": (-2, 2),  # where the light comes from: left to right
}
CENTRE, REACH = (526, 525), {"x": 615, "y": 460}  # units: every bird in every pose lies so far around the centre
_WORDS = 512  # random words of a picture; those after the scene's make the background's texture


def words_of(*key: int) -> np.ndarray:
    """A picture's random 64-bit words, (512,), from its key: seed, species, number."""
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(_WORDS)


def between(word, low: int, high: int) -> int:
    """The number from low to high, both possible, that a random word stands for."""
    return low + (((int(word) >> 32) * (high - low + 1)) >> 32)


def scene_of(words: np.ndarray) -> dict[str, int]:
    """The draws of SCENE: one word for each."""
    found = {name: between(w, *span) for w, (name, span) in zip(words, SCENE.items(), strict=False)}
    room = {way: max(0, min(150, 490 - reach * found["size"] // 1000)) for way, reach in REACH.items()}
    return found | {way: found[way] * room[way] // 150 for way in REACH}


def _turn(points: np.ndarray, k: int, pivot: tuple) -> np.ndarray:
    """Turns points by 2 atan(k / 128), about 0.9 k degrees, clockwise on the screen: an angle with a rational sine."""
    c, s, one = 16384 - k * k, 256 * k, 16384 + k * k
    v = points - np.array(pivot) * FINE
    return np.stack([v[:, 0] * c - v[:, 1] * s, v[:, 0] * s + v[:, 1] * c], 1) // one + np.array(pivot) * FINE


def posed(shapes: dict, scene: dict) -> np.ndarray:
    """Control points (N, 2) of a bird that nods its head, moves its tail and tilts its body over its legs."""
    p = shapes["points"]
    p = p + (_turn(p, scene["nod"], (640, 420)) - p) * shapes["head"][:, None] // 16
    loose = np.clip((330 * FINE - p[:, 0]) // (4 * FINE), 0, 16)[:, None]
    p = p + (_turn(p, scene["tail"], (320, 590)) - p) * loose // 16
    stiff = np.where(shapes["legs"], np.clip((780 * FINE - p[:, 1]) // (5 * FINE), 0, 16), 16)[:, None]
    return p + (_turn(p, scene["tilt"], (550, 690)) - p) * stiff // 16


def to_picture(points: np.ndarray, scene: dict, side: int) -> np.ndarray:
    """Points in sixteenths of a fine pixel of a picture `side` fine pixels wide, from units of the bird."""
    v = points - np.array(CENTRE) * FINE
    v = v * np.array([1 - 2 * scene["mirror"], 1])
    v = v * (scene["size"] * side) // (1000 * 1000)
    return v + np.array([500 + scene["x"], 500 + scene["y"]]) * side * FINE // 1000


def _soft(words: np.ndarray, cells: int, size: int) -> np.ndarray:
    """Smooth noise in -128 .. 127: random values on a grid of cells x cells, blended in between. -> (size, size)"""
    grid = (words[: (cells + 1) ** 2] >> np.uint64(56)).astype(np.int32).reshape(cells + 1, cells + 1) - 128
    place = (2 * np.arange(size, dtype=np.int32) + 1) * cells * 128 // size
    i, f = place >> 8, place & 255
    f = f * f * (768 - 2 * f) >> 16
    rows = grid[i] * (256 - f)[:, None] + grid[i + 1] * f[:, None]
    return (rows[:, i] * (256 - f) + rows[:, i + 1] * f) >> 16


def _blend(a, b, weight: np.ndarray) -> np.ndarray:
    """Colour a where the weight is 0, b where it is 256. (size, size) -> (3, size, size)"""
    w = np.clip(weight, 0, 256)
    a, b = (np.array(c, dtype=np.int32).reshape(3, *np.shape(c)[1:] or (1, 1)) for c in (a, b))
    return (a * 256 + (b - a) * w) >> 8


def ground(kind: str, words: np.ndarray, size: int) -> np.ndarray:
    """The soft ground of a background. -> (3, size, size) int32"""
    broad, close, wave = _soft(words[40:], 4, size), _soft(words[70:], 9, size), _soft(words[170:], 3, size)
    hue = between(words[39], -12, 12)
    down = ((2 * np.arange(size, dtype=np.int32) + 1) * 128 // size)[:, None]  # 0 at the top to 256 at the foot
    if kind == "sky":
        return _blend((104 + hue, 160, 222), (236, 240, 244), down * 5 // 8 + np.clip(broad * 2 + close - 20, 0, 200))
    if kind == "branch":
        leaves = _blend((70, 96 + hue, 56), (150, 176 + hue, 96), 128 + broad + close // 2)
        return _blend(leaves, (226, 232, 190), close - 40)
    if kind == "grass":
        meadow = _blend((176, 200 + hue, 128), (98, 142 + hue, 58), down)
        return _blend(meadow, (62, 104, 40), 40 + (broad + close) // 2)
    return _blend((150, 190 + hue, 202), (66, 118 + hue, 146), down + close[:, :1] // 2 + wave // 3)


def perch_of(kind: str, words: np.ndarray, foot: tuple[int, int]) -> list:
    """Perch and surroundings as (colour, points), points in thousandths of the picture's width."""
    draw = iter(words[200:])
    furnish = {"sky": _wire_or_post, "branch": _bough, "grass": _blades, "water": _stone}[kind]
    return furnish(*foot, lambda low, high: between(next(draw), low, high))


def _wire_or_post(x: int, y: int, pick) -> list:
    lift = pick(-40, 40)
    if pick(0, 1):
        return [((66, 62, 66), stroke(-60, y + lift, x, y + 8, 12, 12)),
                ((66, 62, 66), stroke(x - 1, y + 8, 1060, y + lift, 12, 12))]
    return [((126, 106, 86), stroke(x, y + 2, x, 1100, 150, 160)),
            ((168, 146, 120), stroke(x - 30, y, x - 30, 1100, 50, 60)),
            ((92, 76, 62), stroke(x - 84, y + 10, x + 84, y + 10, 24, 24))]


def _leaf(a: int, b: int, w: int, h: int) -> list:
    """A leaf or a ripple: pointed at both ends, w long and about 2 h thick."""
    return curve((a, b), (a, b), (a + w // 2, b - h), (a + w, b + h // 2), (a + w, b + h // 2), (a + w // 2, b + h))


def _bough(x: int, y: int, pick) -> list:
    lift, bark, found = pick(-40, 40), (104, 78, 56), []
    for _ in range(8):
        place = pick(0, 1000), y + pick(-110, 130)
        found.append(((60 + pick(0, 50), 120 + pick(0, 40), 46), _leaf(*place, pick(60, 120), pick(20, 36))))
    left, right = y + lift * (x + 60) // 500, y - lift * (1060 - x) // 500  # straight through the feet
    return found + [(bark, stroke(-60, left + 34, 1060, right + 26, 78, 50)),
                    (mix(bark, (220, 200, 170), 2), stroke(-60, left + 8, 1060, right + 6, 16, 12))]


def _blades(x: int, y: int, pick) -> list:
    found = [((92 - 6 * k, 130 - 9 * k, 54 - 5 * k), curve((-80, y + 8 + h), (250, y - 6 + h), (700, y + 2 + h),
                                                            (1080, y + 8 + h), (1080, 1200), (-80, 1200)))
             for k, h in enumerate((0, 60, 130))]
    for k in range(36):
        green = (70 + pick(0, 70), 118 + pick(0, 60), 40 + pick(0, 20))
        a, b, tall, lean = pick(-20, 1020), y + 5 * k - 10, pick(60, 200), pick(-60, 60)
        top, middle = (a + lean, b - tall), b - tall // 2
        found.append((green, curve((a - 9, b), (a - 9, b), (a + lean // 3 - 6, middle), top, top,
                                    (a + lean // 3 + 8, middle), (a + 11, b), (a + 11, b))))
    return found


def _stone(x: int, y: int, pick) -> list:
    lift = pick(-40, 40)
    found = [((112, 124, 92), curve((-80, 60 + lift), (300, 40 + lift), (700, 70 + lift), (1080, 50 + lift),
                                     (1080, -90), (-80, -90)))]
    for _ in range(16):
        colour = ((58, 104, 132), (176, 208, 218))[pick(0, 1)]
        found.append((colour, _leaf(pick(-50, 1000), pick(130, 1000), pick(80, 240), pick(4, 9))))
    stone = (126, 122, 118)
    return found + [(darker(stone), curve((x - 230, y + 130), (x - 190, y + 40), (x, y + 4), (x + 190, y + 40),
                                            (x + 240, y + 140))),
                    (stone, curve((x - 190, y + 60), (x - 130, y + 12), (x, y - 4), (x + 130, y + 12),
                                   (x + 170, y + 60), (x, y + 84)))]
