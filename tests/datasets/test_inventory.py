"""A data set as it lies on disk: what is said of it, and that every picture is read."""
from __future__ import annotations

import pytest
from PIL import Image

from paperlib.datasets import files, inventory
from paperlib.datasets import load as data


@pytest.fixture
def own(tmp_path):
    """A folder of two classes, five pictures each."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (30, 30), (i, i, i)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_embedded_data_sets(monkeypatch):
    entry = inventory.take("digits")
    said = str(entry)
    assert said.startswith("digits: 1,437 training and 360 test pictures of 10 classes\n  0: 142 + 36, 1: 146 + 36,")
    assert entry.place.name == "digits.csv.gz" and entry.bytes > 50_000
    monkeypatch.setattr(data, "BIRDS_PER_CLASS", {"train": 1, "test": 1})
    entry = inventory.take("birds")
    assert entry.bytes == 2 * len(entry.dataset.classes) * 224 * 224 * 4, "pictures of three channels, and masks"


def test_folder_of_ones_own(own):
    size = sum(p.stat().st_size for p in own.rglob("*.png"))
    assert str(inventory.take("folder", own)) == (
        f"pets: 8 training and 2 test pictures of 2 classes\n  cat: 4 + 1, dog: 4 + 1\n"
        f"  where     {own}\n  size      {size} bytes\n  terms     yours to know")


def test_every_picture_is_read_and_all_that_break_off_are_named(own):
    broken = [own / "cat" / "1.png", own / "dog" / "3.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(data.DataError, match="^Pictures of pets that cannot be read to their end: ") as caught:
        inventory.take("folder", own)
    assert all(str(path) in str(caught.value) for path in broken)


@pytest.mark.parametrize("n, words", [(0, "0 bytes"), (999, "999 bytes"), (58_400, "58 kB"), (55e6, "55 MB"),
                                      (1_150_585_339, "1.15 GB")])
def test_bytes_in_words(n, words):
    assert inventory.human(n) == words


def test_terms_are_those_of_the_readme():
    text = (files.REPOSITORY / "data" / "README.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == set(data.LOADERS) == set(inventory.TERMS)
    for name, terms in inventory.TERMS.items():
        assert terms in rows[name]
