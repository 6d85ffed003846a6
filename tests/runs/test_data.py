"""`python -m paperlib data NAME`: one sentence with the right exit status for what goes wrong."""
from __future__ import annotations

import pytest

from paperlib.datasets import cub, inventory
from paperlib.datasets import load as data
from paperlib.datasets.downloads import Archive
from paperlib.runs.command import main


def test_what_is_printed(capsys):
    assert main(["data", "digits", "--check"]) == 0
    assert capsys.readouterr().out == f"{inventory.take('digits')}\n"


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
    assert capsys.readouterr().err == "\nstopped; what is done is kept, the same command goes on from there\n"


def test_segmentations_lie_in_the_data_sets_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inventory, "take", lambda *_, **__: "the data set")
    (tmp_path / "CUB_200_2011" / "segmentations").mkdir(parents=True)
    assert main(["data", "cub200", "--data-root", str(tmp_path), "--segmentations"]) == 0
    assert capsys.readouterr().out.endswith(f"outlines  {tmp_path / 'CUB_200_2011' / 'segmentations'}\n")
    assert cub.SEGMENTATIONS.md5 == "4d47ba1228eae64f2fa547c47bc65255"
