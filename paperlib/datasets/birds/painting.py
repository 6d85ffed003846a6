"""From shapes to pixels: curves are filled by scan conversion, then coloured and lit. All of it integer arithmetic."""
from __future__ import annotations

import numpy as np

from paperlib.datasets.birds.scenes import BACKGROUNDS, between, ground, perch_of, posed, scene_of, to_picture, words_of
from paperlib.datasets.birds.shapes import FEET, FINE, LAYERS, shapes_of
from paperlib.datasets.birds.species import PARTS, SPECIES, Species, species_of
from paperlib.progress import Bar

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
        if level in (LAYERS.index("body"), LAYERS.index("wing")):
            stencil = np.zeros_like(canvas)
            outline = here & (shape == np.argmax(layer == level))
            _fill(stencil, numbers, shape[outline], first[outline], behind[outline])
            inside = stencil.copy()
            _fill(inside, numbers, shape[here], first[here], behind[here])
            np.copyto(canvas, inside, where=stencil > 0)
        else:
            _fill(canvas, numbers, shape[here], first[here], behind[here])
    return canvas.reshape(side, side)


# --- Colour and light -------------------------------------------------------------------------------------------------

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


def render(bird: Species, scene: dict, words: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture. -> image (size, size, 3) uint8, mask (size, size) uint8"""
    side = size * SUPER
    shapes = shapes_of(bird)
    kind = BACKGROUNDS[scene["background"]]
    foot = to_picture(np.array([FEET]) * FINE, scene, 1000)[0] // FINE
    perch = perch_of(kind, words, (int(foot[0]), int(foot[1])))
    stage = np.array([p for _, ring in perch for p in ring]) * side // 1000
    points = np.concatenate([stage, to_picture(posed(shapes, scene), scene, side)])
    count = np.concatenate([[len(ring) for _, ring in perch], shapes["count"]])
    layer = np.concatenate([np.full(len(perch), -1), shapes["layer"]])
    part = np.concatenate([[0], np.zeros(len(perch), dtype=np.int64), shapes["part"]])
    rgb = np.concatenate([[(0, 0, 0)], [c for c, _ in perch], shapes["rgb"]]).astype(np.int64)
    canvas = _paint(points, count, layer, side)
    return _colour(canvas, part, rgb, scene, ground(kind, words, size)), _mask(canvas, part, size)


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


# --- Pictures ---------------------------------------------------------------------------------------------------------

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
    bird = species_of(species)
    _check_size(size)
    if index < 0 or seed < 0:
        raise ValueError(f"index is {index} and seed is {seed}: neither may be negative.")
    if background is not None and not 0 <= background < len(BACKGROUNDS):
        raise ValueError(f"Unknown background {background!r}: give a number from 0 to {len(BACKGROUNDS) - 1}.")
    words = words_of(seed, species, index)
    scene = scene_of(words)
    if background is not None:
        scene["background"] = int(background)
    return *render(bird, scene, words, size), scene


def _tied(seed: int, species: int, index: int, shortcut: float) -> bool:
    """True, with probability `shortcut`, where it acts on this picture; it then does so at every larger probability."""
    return between(words_of(seed, species, index, 1)[0], 0, 999_999) < round(shortcut * 1_000_000)


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
        species_of(number)
    if len(numbers) == 0:
        raise ValueError("species is empty: give at least one number of birds.SPECIES.")
    return np.array(numbers, dtype=np.int64)
