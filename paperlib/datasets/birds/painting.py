"""From shapes to pixels: curves are filled by OpenCV in fixed point, then coloured and lit in whole numbers."""
import cv2
import numpy as np
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor

from paperlib.datasets.birds.scenes import BACKGROUNDS, between, ground, perch_of, posed, scene_of, to_picture, words_of
from paperlib.datasets.birds.shapes import FEET, FINE, LAYERS, shapes_of
from paperlib.datasets.birds.species import PARTS, SPECIES, Species, part_names, resembling, species_of
from paperlib.progress import Bar

MANY = 500  # pictures that are drawn by several processes: for fewer, starting these takes longer
SUPER = 3  # fine pixels along each side of a pixel: the middle one is the pixel's centre
BITS = 4  # of a fine pixel's coordinate behind the point
_T = np.arange(4)[:, None]
_SPLINE = np.concatenate([-16 * _T + 8 * _T**2 - _T**3, 128 - 20 * _T**2 + 3 * _T**3, 16 * _T + 16 * _T**2 - 3 * _T**3,
                          -4 * _T**2 + _T**3], 1)  # Catmull-Rom weights at t = 0, 1/4, 1/2, 3/4, in 128ths: (4, 4)


def _smooth(points: np.ndarray, count: np.ndarray) -> list[np.ndarray]:
    """Catmull-Rom curves through closed rings of control points, as polygons of four times as many corners.

    points (N, 2), count (S,) -> S polygons, (4 count, 2) int32.
    """
    last = np.cumsum(count) - 1
    after, before = np.arange(1, len(points) + 1), np.arange(-1, len(points) - 1)
    after[last] = last - count + 1
    before[last - count + 1] = last
    near = np.stack([points[before], points, points[after], points[after[after]]])
    fine = np.einsum("ti,inc->ntc", _SPLINE, near) // 128
    corner = (near[1] == near[2]).all(axis=1)
    fine[corner] = points[corner, None]  # from a corner to itself the curve would make a loop
    return np.split(fine.reshape(-1, 2).astype(np.int32), 4 * (last[:-1] + 1))


def _paint(polygons: list, layer: np.ndarray, hidden: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Paints shape s with number s + 1, in order, unless it is hidden. -> canvas (side, side), 0 where nothing was
    painted, and the stencil of the body, 255 inside.

    Within the layers "body" and "wing" the first shape, hidden or not, is a stencil: what is in the layer is painted
    inside it only.
    """
    canvas, stencils = np.zeros((side, side), dtype=np.uint8), {}
    for level in np.unique(layer):
        here = np.flatnonzero(layer == level)
        cut = level in (LAYERS.index("body"), LAYERS.index("wing"))
        sheet = np.zeros_like(canvas) if cut else canvas
        for s in here[~hidden[here]].tolist():
            cv2.fillPoly(sheet, [polygons[s]], s + 1, cv2.LINE_8, BITS)
        if cut:
            stencils[level] = cv2.fillPoly(np.zeros_like(canvas), [polygons[here[0]]], 255, cv2.LINE_8, BITS)
            sheet &= stencils[level]
            np.copyto(canvas, sheet, where=sheet > 0)
    return canvas, stencils[LAYERS.index("body")]


def _relief(body: np.ndarray, sun: int) -> np.ndarray:
    """Light and shade on a round body, in 256ths: the slope of its blurred silhouette (0 or 1) towards the sun.

    The body's outline is the same whatever its parts look like, so light does not change with them.
    """
    r = max(len(body) // 20, 1)
    n, height = 2 * r + 1, body.astype(np.float64)
    for _ in (0, 1):  # sums of whole numbers, exact in float64
        height = cv2.boxFilter(height, -1, (n, n), normalize=False, borderType=cv2.BORDER_CONSTANT)
    pad = np.pad(height.astype(np.int64) * 4096 // n**4, r)
    fall = pad[2 * r :, r:-r] - pad[: -2 * r, r:-r]
    side = pad[r:-r, : -2 * r] - pad[r:-r, 2 * r :]
    return np.clip((4 * fall + sun * side) // 160, -64, 34)


def render(bird: Species, scene: dict, words: np.ndarray, size: int, without=()) -> tuple[np.ndarray, np.ndarray]:
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
    part = np.concatenate([np.zeros(len(perch), dtype=np.int64), shapes["part"]])
    without = {*without, *(["wing bars"] if "wing" in without else [])}
    hidden = np.isin(part, [PARTS.index(name) for name in without])
    canvas, body = _paint(_smooth(points - FINE // 2, count), layer, hidden, side)  # OpenCV counts from pixels' centres
    centre = slice(SUPER // 2, None, SUPER)
    rgb = np.concatenate([[c for c, _ in perch], shapes["rgb"]])
    image = _colour(canvas, part, rgb, scene, _relief(body[centre, centre] // 255, scene["sun"]),
                    ground(kind, words, size))
    return image, np.append(0, part).astype(np.uint8)[canvas[centre, centre]]


def _colour(canvas, part, rgb, scene: dict, relief: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Mean colour of each pixel's fine pixels, lit. Red, green, blue and two counts are summed in one 64-bit word."""
    packed = np.append(0, rgb[:, 0] | rgb[:, 1] << 12 | rgb[:, 2] << 24 | 1 << 36 | (part > 0).astype(np.int64) << 40)
    fine = cv2.LUT(canvas, np.pad(packed, (0, 256 - len(packed))).astype(np.float64))  # whole numbers below 2^53
    for i in range(1, SUPER):  # in place, for to be given new memory takes longer than the sums
        fine[::SUPER] += fine[i::SUPER]
    total = sum(fine[::SUPER, i::SUPER] for i in range(SUPER)).astype(np.int64)
    image = np.stack([(total >> bits & 4095).astype(np.int32) for bits in (0, 12, 24)])
    cover, bird = (total >> 36 & 15).astype(np.int32), (total >> 40).astype(np.int32)
    image *= 256 * SUPER**2 + relief.astype(np.int32) * bird
    image //= 256 * SUPER**2
    image += field * (SUPER**2 - cover)
    image *= np.int32(scene["light"])
    image //= 256 * SUPER**2
    image += np.array([scene["warmth"], 0, -scene["warmth"]], dtype=np.int32)[:, None, None]
    return np.ascontiguousarray(image.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def draw(species: int, index: int, seed: int = 0, size: int = 224, background: int | None = None, without=(),
         like: int | None = None, parts=()):
    """Draws picture number `index` of a species, if wanted with interventions that leave the rest of the scene alone.

    species: a number of `SPECIES`; index, seed: integers >= 0; size: the picture's side in pixels, at least 32 (the
    scene is the same at every size); background: a number of `BACKGROUNDS`, or None for the one that the seed gives.
    without: names of `PARTS` that are left out, so that what lies beneath is seen: the belly's colour under the breast,
    the wing under its bars (which go with the wing). like: a species whose `parts` the bird takes (all for none named);
    its build stays, an unmarked eye follows its face, and a wing without bars stays one. Light and shade do not change.
    Returns (image, mask, scene): image (size, size, 3) uint8; mask (size, size) uint8, numbers of `PARTS`; scene: the
    draws of `SCENE`, which do not depend on the species' attributes.
    Raises ValueError for an unknown species, background or part, parts without like, a size below 32, a negative index
    or seed.
    """
    bird, without, parts = species_of(species), part_names(without), part_names(parts)
    if like is not None:
        bird = resembling(bird, species_of(like), parts)
    elif parts:
        raise ValueError(f"parts={parts} are to look as in another species: say in which by like=.")
    if size < 32:
        raise ValueError(f"size is {size}: a bird needs at least 32 pixels.")
    if index < 0 or seed < 0:
        raise ValueError(f"index is {index} and seed is {seed}: neither may be negative.")
    if background is not None and not 0 <= background < len(BACKGROUNDS):
        raise ValueError(f"Unknown background {background!r}: give a number from 0 to {len(BACKGROUNDS) - 1}.")
    words = words_of(seed, species, index)
    scene = scene_of(words)
    if background is not None:
        scene["background"] = int(background)
    return *render(bird, scene, words, size, without), scene


def draw_set(per_class: int, seed: int = 0, size: int = 224, species: int | None = None, shortcut: float = 0.0,
             n_start: int = 0, progress: bool = False):
    """Draws `per_class` pictures of each of the first `species` species (None: all), indices n_start, n_start + 1, ...

    shortcut: with this probability a picture's background is number species % len(BACKGROUNDS), else free; 0 is
    independent. n_start: give the test set a start that the training set does not reach. progress: show a bar. A
    picture depends on its own numbers alone, and OpenCV's settings stay as they are: several threads or processes may
    draw at once.
    Returns images (n, size, size, 3) uint8, masks (n, size, size) uint8, labels (n,) int64 (numbers of `SPECIES`, in
    runs of per_class), backgrounds (n,) int64.
    Raises ValueError for per_class < 1, a number of species that there is not, a shortcut outside [0, 1], and as `draw`
    does.
    """
    species = len(SPECIES) if species is None else species
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}: draw at least one picture of each species.")
    if not 1 <= species <= len(SPECIES):
        raise ValueError(f"species is {species}: ask for 1 to {len(SPECIES)}.")
    if not 0 <= shortcut <= 1:
        raise ValueError(f"shortcut is {shortcut}: give a probability from 0 to 1.")
    work = (delayed(_draw_species)(c, range(n_start, n_start + per_class), seed, size, shortcut)
            for c in range(species))
    processes = 1 if species * per_class < MANY else min(cpu_count(), 4)
    drawn = Parallel(n_jobs=processes, return_as="generator")(work)
    images, masks, backgrounds = zip(*Bar(drawn, "drawing birds", total=species, show=progress, unit="species"),
                                     strict=True)
    if processes > 1:  # they would wait for more, with their memory, and a process that ends waits for them
        get_reusable_executor().shutdown()
    labels = np.repeat(np.arange(species, dtype=np.int64), per_class)
    return np.concatenate(images), np.concatenate(masks), labels, np.concatenate(backgrounds)


def _draw_species(c, indices, seed, size, shortcut):
    """Of species c, the pictures with these indices: images, masks, backgrounds, as `draw_set` gives them."""
    drawn = []
    for i in indices:
        # Where a shortcut acts on a picture, every stronger one does.
        tied = between(words_of(seed, c, i, 1)[0], 0, 999_999) < round(shortcut * 1_000_000)
        image, mask, scene = draw(c, i, seed, size, c % len(BACKGROUNDS) if tied else None)
        drawn.append((image, mask, np.int64(scene["background"])))
    return [np.stack(x) for x in zip(*drawn, strict=True)]
