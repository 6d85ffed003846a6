"""Resized pictures that are kept: the pixels of the files, decoded once, and made again where they are wrong."""
from __future__ import annotations

import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from paperlib.datasets import load as data
from paperlib.datasets import resized
from paperlib.datasets.downloads import DataError
from paperlib.datasets.pictures import PictureFiles
from paperlib.runs import store


@pytest.fixture
def root(tmp_path):
    """Two classes of five pictures of noise each, of several sizes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            noise = rng.integers(0, 256, (40 + 7 * i, 61, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded since the list was emptied."""
    found, real = [], PictureFiles.image
    monkeypatch.setattr(PictureFiles, "image", lambda self, i: found.append(self.raw[i].name) or real(self, i))
    return found


def open_(root, cache=None, **more):
    return data.load("folder", root, size=28, cache=cache, **more).train


def test_same_pixels_decoded_once_whoever_asks(root, tmp_path, decoded):
    plain, kept = open_(root), open_(root, tmp_path / "cache")
    expected = [plain[i] for i in range(len(plain))]
    decoded.clear()
    for _ in range(2):
        assert all(torch.equal(kept[i], x) for i, x in enumerate(expected))
    assert len(decoded) == len(plain) == 8
    few = open_(root, tmp_path / "cache", train_per_class=2)  # another process would see the same
    chosen = pickle.loads(pickle.dumps(kept.take(torch.tensor([5, 2]))))
    assert torch.equal(few.pixels(3), kept.pixels(5)) and torch.equal(chosen.pixels(1), kept.pixels(2))
    assert len(decoded) == 8 and len(list((tmp_path / "cache").iterdir())) == 1, "of the test split none was asked for"
    assert torch.equal(kept.batch([0], "flip+crop", np.random.default_rng(0)),
                       plain.batch([0], "flip+crop", np.random.default_rng(0)))


def test_pictures_of_cub_are_kept_too(dotted_cub, tmp_path, decoded):
    plain, kept = (data.load("cub200", dotted_cub, 56, allow_subset=True, cache=cache).test
                   for cache in (None, tmp_path / "cache"))
    assert all(torch.equal(plain[i], kept[i]) for i in range(3)) and torch.equal(plain[2], kept[2])
    assert len(decoded) == 3 + 3 + 1


def test_what_changed_or_is_half_written_is_made_again(root, tmp_path, decoded):
    cache = tmp_path / "cache"
    before = open_(root, cache).pixels(0)
    path = open_(root).raw[0]
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(path)
    assert open_(root, cache).pixels(0).max() == 0 and not torch.equal(before, torch.zeros_like(before))
    (file,) = cache.iterdir()
    with file.open("r+b") as f:  # the process died halfway
        f.seek(resized.SEAL + 100)
        f.write(b"\xff" * 100)
    decoded.clear()
    assert open_(root, cache).pixels(0).max() == 0 and open_(root, cache).pixels(0).max() == 0 and len(decoded) == 1
    path.unlink()
    with pytest.raises(DataError, match="0.png cannot be read as a picture"):
        kept = PictureFiles([path], [0], 28)
        kept.keep_in(cache)
        kept.pixels(0)


def test_other_code_takes_no_picture_of_before(root, tmp_path, decoded, monkeypatch):
    open_(root, tmp_path / "cache").pixels(0)
    monkeypatch.setattr(resized, "made_by", lambda: "other")
    open_(root, tmp_path / "cache").pixels(0)
    assert len(decoded) == 2
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path / "cache"))
    before, now = store.entries()
    assert (before.kind, before.current, now.current) == ("resized", False, True) and now.bytes >= 3 * 28 * 28
    store.remove(before)
    assert [each.path for each in store.entries()] == [now.path]


@pytest.mark.parametrize("trouble", ["no room", "no folder", "no right to write"])
def test_without_room_pictures_are_decoded_as_before(root, tmp_path, decoded, monkeypatch, trouble):
    cache, expected = tmp_path / "cache", open_(root).pixels(1)
    if trouble == "no room":
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    elif trouble == "no folder":
        cache.write_text("a file")
    kept = open_(root, cache)
    if trouble == "no right to write":
        monkeypatch.setattr(kept.resized, "_slots", np.zeros((8, resized.SEAL + 3 * 28 * 28), np.uint8), raising=False)
        kept.resized.path = tmp_path / "nowhere" / "x"
    assert torch.equal(kept.pixels(1), expected) and torch.equal(kept.pixels(1), expected) and len(decoded) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that write at the same time are forked")
def test_processes_share_it_without_a_lock(root, tmp_path):
    expected = [open_(root).pixels(i) for i in range(8)]
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            kept = open_(root, tmp_path / "cache")
            os._exit(not all(torch.equal(kept.pixels(i), x) for i, x in enumerate(expected)))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
