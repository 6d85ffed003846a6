"""`python -m paperlib data NAME`: what it prints, and one sentence with the right exit status for what goes wrong."""
from __future__ import annotations

import re

import pytest
from PIL import Image

from paperlib.datasets import cub, files, inventory
from paperlib.datasets import load as data
from paperlib.datasets.downloads import Archive
from paperlib.runs.command import main


@pytest.fixture
def own(tmp_path):
    """A folder of two classes, five pictures each."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (30, 30), (i, i, i)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_embedded_data_sets(capsys, monkeypatch):
    assert main(["data", "digits"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("digits: 1,437 training and 360 test pictures of 10 classes\n  0: 142 + 36, 1: 146 + 36,")
    place = re.search("where +(.*)", said)[1]
    assert place.endswith("digits.csv.gz") and inventory.size_on_disk(data.find("digits")) > 50_000
    monkeypatch.setattr(data, "BIRDS_PER_CLASS", {"train": 1, "test": 1})
    entry = inventory.take("birds")
    assert entry.bytes == 2 * len(entry.dataset.classes) * 96 * 96 * 4, "pictures of three channels, and masks"


def test_folder_of_ones_own(own, capsys):
    assert main(["data", "folder", "--data-root", str(own), "--check"]) == 0
    said = capsys.readouterr().out
    size = sum(p.stat().st_size for p in own.rglob("*.png"))
    assert said == (f"pets: 8 training and 2 test pictures of 2 classes\n  cat: 4 + 1, dog: 4 + 1\n"
                    f"  where     {own}\n  size      {size} bytes\n  terms     yours to know\n")


def test_every_picture_is_read_and_all_that_break_off_are_named(own, capsys):
    for name in ("cat/1.png", "dog/3.png"):
        (own / name).write_bytes((own / name).read_bytes()[:60])
    assert main(["data", "folder", "--data-root", str(own)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: Pictures of pets that cannot be read to their end: ")
    assert f"{own / 'cat' / '1.png'}" in error and f"{own / 'dog' / '3.png'}" in error


@pytest.mark.parametrize("argv, message", [
    (["cifar"], "There is no data set named 'cifar'; the known ones are digits, birds, sparrows, shortcut, mnist, "
                "stl10, cub200, folder."),
    (["digits", "--allow-subset"], "--allow-subset goes with cub200 only."),
    (["mnist", "--segmentations"], "--segmentations goes with cub200 only."),
    (["cub200", "--segmentations", "--check"], "--check downloads nothing; leave it out to fetch the segmentations."),
    (["mnist", "--data-root", "/no/such"],
     "There is no folder /no/such; give the one that holds the data as --data-root.")])
def test_usage(argv, message, capsys):
    assert main(["data", *argv]) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {message}\n" and not said.out


def test_name_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data"])
    assert caught.value.code == 2 and "NAME" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mnist", "stl10", "cub200"])
def test_check_downloads_nothing(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("paperlib.datasets.load.obtain", None)
    monkeypatch.setattr("paperlib.datasets.load._find_mnist", None)
    assert main(["data", name, "--data-root", str(tmp_path), "--check"]) == 1
    assert f"error: {name} is not in {tmp_path}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_no_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(data.ARCHIVES, "cub200", Archive("CUB", "http://127.0.0.1:9/c.tgz", "0", "CUB_200_2011"))
    assert main(["data", "cub200", "--data-root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: CUB is not in ") and error.count("\n") == 1


def test_ctrl_c(tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("paperlib.datasets.load.obtain", stop)
    assert main(["data", "cub200", "--data-root", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped; what was downloaded is kept, the same command goes on from there\n"


def test_segmentations_lie_in_the_data_sets_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inventory, "take", lambda *_: "the data set")
    (tmp_path / "CUB_200_2011" / "segmentations").mkdir(parents=True)
    assert main(["data", "cub200", "--data-root", str(tmp_path), "--segmentations"]) == 0
    assert capsys.readouterr().out.endswith(f"outlines  {tmp_path / 'CUB_200_2011' / 'segmentations'}\n")
    assert cub.SEGMENTATIONS.md5 == "4d47ba1228eae64f2fa547c47bc65255"


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
