"""The drawn birds: the table of species, the parts in the pictures, the scene, and the pixels' stability."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import numpy as np
import psutil
import pytest

from paperlib.datasets import birds
from paperlib.datasets.birds import painting, scenes, species

SPARROWS = [k for k, s in enumerate(birds.SPECIES) if "Sparrow" in s.name]
PLAIN = {"background": 0, "mirror": 0, "size": 720, "x": 0, "y": 0, "tilt": 0, "nod": 0, "tail": 0, "light": 256,
         "warmth": 0, "sun": 0}


def same_scene(number: int, size: int = 96):
    """A species in one fixed scene, so that two pictures differ by their species alone."""
    image, mask = painting.render(birds.SPECIES[number], PLAIN, scenes.words_of(0, 0, 0), size)
    return image.astype(int), mask


def near(region: np.ndarray, r: int) -> np.ndarray:
    """The region grown by r pixels."""
    padded = np.pad(region, r)
    n = 2 * r + 1
    return np.any([padded[i : i + len(region), j : j + len(region)] for i in range(n) for j in range(n)], axis=0)


# --- the table -------------------------------------------------------------------------------------------------------

def test_table_has_twenty_sparrows_and_others_with_their_own_names():
    table = birds.table()
    assert len(table) == len(birds.SPECIES) >= 31
    assert table["name"].str.contains("Sparrow").sum() == 20
    assert table["name"].is_unique
    assert list(table.columns) == ["name", *birds.PARTS[1:], "build"]
    assert table.loc[1, "breast"] == "buff streaked"


def test_sparrows_share_a_palette_and_their_nearest_differ_in_one_to_three_parts():
    parts = np.array([[len(birds.distinguishing_parts(a, b)) for b in SPARROWS] for a in SPARROWS])
    np.fill_diagonal(parts, 99)
    assert parts.min() >= 1
    assert parts.min(axis=1).max() <= 3
    colours = {species.look(birds.SPECIES[k], c)[0] for k in SPARROWS for c in birds.COLUMNS}
    assert colours <= {"brown", "dark", "rufous", "buff", "grey", "white", "black", "horn", "pink"}
    assert {birds.SPECIES[k].build for k in SPARROWS} == {"sparrow"}


def test_every_two_species_differ_and_the_difference_is_symmetric():
    for a in range(len(birds.SPECIES)):
        assert birds.distinguishing_parts(a, a) == ()
        for b in range(a):
            parts = birds.distinguishing_parts(a, b)
            assert parts and parts == birds.distinguishing_parts(b, a)
            assert set(parts) <= set(birds.PARTS[1:])


def test_a_part_that_takes_its_neighbours_colour_counts_as_different():
    name = {s.name: k for k, s in enumerate(birds.SPECIES)}
    assert birds.distinguishing_parts(name["Meadow Sparrow"], name["Brook Sparrow"]) == ("breast",)
    assert birds.distinguishing_parts(name["Meadow Sparrow"], name["Saltmarsh Sparrow"]) == (
        "face", "eye", "breast", "tail")


# --- parts in the pictures -------------------------------------------------------------------------------------------

def test_two_sparrows_in_one_scene_differ_at_their_distinguishing_parts_and_only_there():
    seen = {a: same_scene(a) for a in SPARROWS}
    for a, b in itertools.combinations(SPARROWS, 2):
        (image_a, mask_a), (image_b, mask_b) = seen[a], seen[b]
        changed = np.abs(image_a - image_b).max(axis=-1) > 32
        parts = [birds.PARTS.index(p) for p in birds.distinguishing_parts(a, b)]
        for part in parts:
            assert (changed & ((mask_a == part) | (mask_b == part))).sum() >= 8, (a, b, birds.PARTS[part])
        where = np.isin(mask_a, parts) | np.isin(mask_b, parts)
        assert not (changed & ~near(where, 3)).any(), (a, b)


def test_every_part_is_visible_and_nothing_but_legs_touches_the_border():
    parts = len(birds.PARTS)
    for number in range(len(birds.SPECIES)):
        for index in range(3):
            _, mask, _ = birds.draw(number, index, seed=3, size=112)
            count = np.bincount(mask.ravel(), minlength=parts)
            assert len(count) == parts and count[1:].min() >= 3, (number, birds.PARTS[1 + count[1:].argmin()])
            border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            assert set(border.tolist()) <= {0, birds.PARTS.index("legs")}, (number, index)


def test_a_large_bird_in_the_farthest_pose_is_whole():
    long, crested = (next(k for k, s in enumerate(birds.SPECIES) if name in s.name) for name in ("Jay", "Kingfisher"))
    for number, tilt, nod, tail, mirror in itertools.product((long, crested), (-12, 14), (-10, 12), (-10, 12), (0, 1)):
        scene = PLAIN | {"size": 780, "tilt": tilt, "nod": nod, "tail": tail, "mirror": mirror}
        _, mask = painting.render(birds.SPECIES[number], scene, scenes.words_of(0, 0, 0), 96)
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any(), scene


def test_the_bird_does_not_change_the_background_around_it():
    image_a, mask_a = same_scene(0)
    image_b, mask_b = same_scene(birds.SPECIES.index(next(s for s in birds.SPECIES if "Sparrow" not in s.name)))
    outside = ~near((mask_a > 0) | (mask_b > 0), 4)
    assert outside.sum() > 1000
    assert (image_a[outside] == image_b[outside]).all()


def test_the_mask_holds_the_part_at_each_pixels_centre():
    fine = same_scene(20, 96)[1]
    coarse = same_scene(20, 32)[1]
    assert (fine[1::3, 1::3] == coarse).mean() > 0.97


# --- curves ----------------------------------------------------------------------------------------------------------

def test_the_curve_passes_through_its_points_and_a_point_named_twice_is_a_corner():
    points = np.array([[0, 0], [0, 0], [1600, 0], [1600, 0], [800, 900], [800, 900], [8, 8], [80, 8], [8, 80]])
    ring, other = painting._smooth(points, np.array([6, 3]))
    assert (ring[::4] == points[:6]).all() and (other[::4] == points[6:]).all()
    assert (ring[4:8, 1] == 0).all()  # straight between two corners


def test_what_opencv_fills_is_what_the_curve_encloses():
    ring = (2000 + 1500 * np.array([np.cos(np.arange(0, 6.28, 0.2)), np.sin(np.arange(0, 6.28, 0.2))]).T).astype(int)
    polygons = painting._smooth(ring, np.array([len(ring)]))
    canvas, _ = painting._paint(polygons, np.array([1]), np.array([False]), 256)
    y, x = np.mgrid[:256, :256] * 16
    distance = np.hypot(x - 2000, y - 2000)
    assert (canvas[distance < 1480] == 1).all() and (canvas[distance > 1520] == 0).all()


# --- interventions ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("part", birds.PARTS[1:])
def test_without_a_part_the_mask_has_none_of_it_and_the_rest_is_the_same(part):
    for number, index in ((2, 5), (21, 3)):
        image, mask, scene = birds.draw(number, index, size=160)
        other, left, same = birds.draw(number, index, size=160, without=part)
        gone = [birds.PARTS.index(p) for p in {part} | ({"wing bars"} if part == "wing" else set())]
        assert same == scene and not np.isin(left, gone).any()
        was = np.isin(mask, gone)
        assert ((mask == left) | was).all()
        assert (image == other)[~near(was, 1)].all()
        assert (image != other).any(-1)[was].mean() > (0.5 if part != "eye" else 0.2)


def test_like_takes_the_look_of_another_species():
    seed = {"seed": 2, "size": 128}
    for a, b in ((0, 2), (10, 17), (4, 29), (20, 32)):
        image, mask, scene = birds.draw(a, 1, **seed)
        whole, whole_mask, same = birds.draw(a, 1, like=b, **seed)
        model = replace(birds.SPECIES[b], build=birds.SPECIES[a].build)
        wanted, wanted_mask = painting.render(model, scene, scenes.words_of(2, a, 1), 128)
        assert (whole == wanted).all() and (whole_mask == wanted_mask).all() and same == scene
        parts = birds.distinguishing_parts(a, b)
        named, named_mask, _ = birds.draw(a, 1, like=b, parts=parts, **seed)
        assert (named == whole).all() and (named_mask == whole_mask).all()
        numbers = [birds.PARTS.index(p) for p in parts]
        where = np.isin(mask, numbers) | np.isin(whole_mask, numbers)
        assert (image == whole)[~near(where, 1)].all()


def test_like_in_one_part_changes_that_part_only():
    image, mask, _ = birds.draw(2, 0, size=128)  # Thicket Sparrow: white bars and a streaked breast
    other, other_mask, _ = birds.draw(2, 0, size=128, like=0, parts=["wing bars"])
    bars = birds.PARTS.index("wing bars")
    assert (mask == other_mask).all() and (image == other)[~near(mask == bars, 1)].all()
    assert (image != other).any(-1)[mask == bars].mean() > 0.9
    assert (birds.draw(2, 0, size=128, like=1)[0] == other).all()  # the bars are all that tells the two apart


# --- the scene -------------------------------------------------------------------------------------------------------

def test_scene_does_not_read_the_species(monkeypatch):
    before = [birds.draw(3, i, seed=5, size=32)[2] for i in range(4)]
    monkeypatch.setattr(species, "SPECIES", birds.SPECIES[::-1])
    assert [birds.draw(3, i, seed=5, size=32)[2] for i in range(4)] == before


def test_scene_is_spread_evenly_within_each_species_and_within_its_bounds():
    draws = np.array([[list(scenes.scene_of(scenes.words_of(0, s, i)).values()) for i in range(200)]
                      for s in range(12)])
    low, high = np.array(list(birds.SCENE.values())).T
    assert (draws >= low).all() and (draws <= high).all()
    assert (draws.min(axis=(0, 1)) <= low + (high - low) * 0.02).all()
    assert (draws.max(axis=(0, 1)) >= high - (high - low) * 0.02).all()
    backgrounds = np.array([np.bincount(row, minlength=4) for row in draws[:, :, 0]])
    assert ((backgrounds - 50) ** 2 / 50).sum() < 80  # chi-squared with 36 degrees of freedom: 80 has p < 0.0001
    spread = (high - low + 1) / np.sqrt(12 * 200)  # standard error of a mean of 200 even draws
    assert (np.abs(draws.mean(axis=1) - (low + high) / 2) < 5 * spread).all()


def test_draws_of_the_scene_are_uncorrelated():
    draws = np.array([list(scenes.scene_of(scenes.words_of(1, s, i)).values()) for i in range(200) for s in range(10)])
    r = np.corrcoef(draws.T)
    assert np.abs(r - np.eye(len(r))).max() < 0.1


def test_a_given_background_changes_nothing_else_of_the_scene():
    _, mask, scene = birds.draw(0, 0, size=64)
    for k in range(len(birds.BACKGROUNDS)):
        _, other_mask, other = birds.draw(0, 0, size=64, background=k)
        assert other == scene | {"background": k}
        assert (other_mask == mask).all()


def test_the_scene_is_the_same_at_every_size():
    small, small_mask, scene = birds.draw(8, 2, size=64)
    large, large_mask, other = birds.draw(8, 2, size=192)
    assert scene == other
    pooled = large.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    assert np.abs(pooled - small).mean() < 5
    assert (large_mask[1::3, 1::3] == small_mask).mean() > 0.95


def test_smallest_size_and_odd_sizes():
    for size in (32, 33, 97):
        image, mask, _ = birds.draw(0, 0, size=size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert mask.shape == (size, size) and mask.dtype == np.uint8
        assert (mask > 0).mean() > 0.05


# --- sets of pictures ------------------------------------------------------------------------------------------------

def test_set_holds_what_draw_gives_in_runs_of_species():
    images, masks, labels, backgrounds = birds.draw_set(2, seed=4, size=32, species=2, n_start=10)
    assert images.shape == (4, 32, 32, 3) and masks.shape == (4, 32, 32)
    assert labels.dtype == backgrounds.dtype == np.int64
    assert labels.tolist() == [0, 0, 1, 1]
    for k, (number, index) in enumerate([(0, 10), (0, 11), (1, 10), (1, 11)]):
        image, mask, scene = birds.draw(number, index, seed=4, size=32)
        assert (images[k] == image).all() and (masks[k] == mask).all() and backgrounds[k] == scene["background"]


def test_a_picture_does_not_depend_on_how_many_are_drawn():
    few = birds.draw_set(1, size=32, species=2)[0]
    many = birds.draw_set(3, size=32, species=3)[0]
    assert (few == many[[0, 3]]).all()
    assert (birds.draw_set(1, seed=1, size=32, species=1)[0] != few[:1]).any()


def test_shortcut_ties_the_background_to_the_species():
    labels = np.repeat(np.arange(6), 30)
    for p, low, high in ((0.0, 0.10, 0.40), (0.5, 0.50, 0.75), (1.0, 1.0, 1.0)):
        _, _, got, backgrounds = birds.draw_set(30, size=32, species=6, shortcut=p)
        assert (got == labels).all()
        assert low <= (backgrounds == labels % len(birds.BACKGROUNDS)).mean() <= high


# --- bad input -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: birds.draw(99, 0), "Unknown species 99: give a number from 0 to 32"),
    (lambda: birds.draw("wren", 0), "Unknown species 'wren'"),
    (lambda: birds.draw(0, 0, size=31), "size is 31: a bird needs at least 32"),
    (lambda: birds.draw(0, -1), "index is -1 and seed is 0: neither"),
    (lambda: birds.draw(0, 0, background=4), "Unknown background 4"),
    (lambda: birds.draw(0, 0, without=["wingbars"]), "Unknown part 'wingbars': give crown, face, .* or legs"),
    (lambda: birds.draw(0, 0, without="background"), "Unknown part 'background'"),
    (lambda: birds.draw(0, 0, like=1, parts="hat"), "Unknown part 'hat'"),
    (lambda: birds.draw(0, 0, like=33), "Unknown species 33"),
    (lambda: birds.draw(0, 0, parts="beak"), "are to look as in another species: say in which by like="),
    (lambda: birds.distinguishing_parts(0, -1), "Unknown species -1"),
    (lambda: birds.draw_set(0), "per_class is 0"),
    (lambda: birds.draw_set(1, shortcut=1.5), "shortcut is 1.5"),
    (lambda: birds.draw_set(1, shortcut=float("nan")), "shortcut is nan"),
    (lambda: birds.draw_set(1, size=16), "size is 16"),
    (lambda: birds.draw_set(1, species=99), "species is 99: ask for 1 to 33"),
    (lambda: birds.draw_set(1, species=0), "species is 0: ask for 1 to 33"),
])
def test_bad_input_is_told_in_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence.replace("[", r"\[")):
        call()


# --- the same pixels everywhere --------------------------------------------------------------------------------------

def fingerprint(size: int) -> str:
    digest = hashlib.sha256()
    for number, index, background in ((0, 0, 0), (13, 5, 1), (20, 2, 2), (27, 7, 3), (32, 10_000, None)):
        image, mask, scene = birds.draw(number, index, seed=7, size=size, background=background)
        digest.update(image.tobytes() + mask.tobytes() + repr(scene).encode())
    return digest.hexdigest()[:32]


GOLDEN = {224: "fd2f471f75a27b209a60278488639cc3", 64: "c3935945be76b0a8578a41beadf9d77d"}


@pytest.mark.parametrize("size", GOLDEN)
def test_pixels_are_those_of_every_other_machine(size):
    assert fingerprint(size) == GOLDEN[size]


def test_processes_that_draw_end_with_the_drawing(monkeypatch):
    monkeypatch.setattr(painting, "MANY", 1)
    monkeypatch.setattr(painting, "cpu_count", lambda: 2)
    before = set(psutil.Process().children(recursive=True))
    images, *_ = birds.draw_set(1, size=64, species=2)
    assert len(images) == 2
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [each for each in left if "LokyProcess" in " ".join(each.cmdline())]
