"""What all tests share: a cache of their own, and one thread.

The process that hands out tests reads this file, too, and the workers wait for it: nothing heavy is imported here.
"""
from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items):
    """A file stays with one worker. The notebooks, which take longest and share a kernel, come first."""
    items.sort(key=lambda item: item.path.name != "test_executed.py")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads what a run has left in data/cache, or leaves anything there."""
    import torch
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache for one test, where it counts what is computed."""
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dotted_cub(tmp_path):
    """Pictures of two classes: black, with a red, a green and a blue dot for the parts; box and parts in the lists."""
    import numpy as np
    from PIL import Image, ImageDraw
    from small import CUB_PARTS, CUB_SIDES

    from paperlib.datasets import cub
    rng, folder = np.random.default_rng(0), tmp_path / "CUB_200_2011"
    (folder / "images" / "001.A").mkdir(parents=True)
    (folder / "images" / "002.B").mkdir()
    (folder / "parts").mkdir()
    lines = {name: [] for name in (*cub.LISTS, "bounding_boxes.txt", "parts/part_locs.txt")}
    for number, (w, h) in enumerate(CUB_SIDES * 2, start=1):
        name = f"{'001.A' if number % 2 else '002.B'}/{number}.png"
        picture = Image.new("RGB", (w, h))
        radius = max(2, min(w, h) // 20)
        for part in range(3):
            x, y = (float(rng.integers(radius, side - radius)) for side in (w, h))
            seen = int(part < 2 or number % 3 > 0)
            if seen:
                channel = Image.new("L", (w, h))
                ImageDraw.Draw(channel).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
                bands = list(picture.split())
                bands[part] = channel
                picture = Image.merge("RGB", bands)
            lines["parts/part_locs.txt"].append(f"{number} {part + 1} {x * seen} {y * seen} {seen}")
        picture.save(folder / "images" / name)
        lines["bounding_boxes.txt"].append(f"{number} {w * 0.25} {h * 0.125} {w * 0.5} {h * 0.75}")
        lines["images.txt"].append(f"{number} {name}")
        lines["image_class_labels.txt"].append(f"{number} {2 - number % 2}")
        lines["train_test_split.txt"].append(f"{number} {int(number <= len(CUB_SIDES))}")
    lines["classes.txt"] = ["1 001.A", "2 002.B"]
    lines["parts/parts.txt"] = [f"{k} {name}" for k, name in enumerate(CUB_PARTS, start=1)]
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    return tmp_path
