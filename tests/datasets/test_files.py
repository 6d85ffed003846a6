"""Files are whole or not there, and damage is noticed."""
from __future__ import annotations

import errno
import json
import threading

import pytest
import torch

from paperlib.datasets import files

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "labels": torch.tensor([3, 1])}


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def everything_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_load_gives_what_save_wrote(tmp_path):
    files.save(tmp_path / "a.safetensors", TENSORS, {"accuracy": 0.5})
    tensors, manifest = files.load(tmp_path / "a.safetensors")
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype
    assert manifest["accuracy"] == 0.5
    assert manifest["versions"] == files.versions()
    assert manifest["sha256"] == files.sha256(tmp_path / "a.safetensors")
    assert everything_in(tmp_path) == ["a.json", "a.safetensors"]


def test_versions_name_what_numbers_depend_on():
    assert files.versions()["torch"] == torch.__version__.split("+")[0]
    assert {"paperlib", "python", "torchvision", "scikit-learn", "umap-learn", "numpy"} < set(files.versions())


def test_tensors_that_share_memory_or_are_views_are_saved(tmp_path):
    tied = torch.arange(12.0).reshape(3, 4)
    files.save(tmp_path / "a.safetensors", {"a": tied, "b": tied, "c": tied.T[1:]}, {})
    tensors, _ = files.load(tmp_path / "a.safetensors")
    assert torch.equal(tensors["a"], tied) and torch.equal(tensors["b"], tied) and torch.equal(tensors["c"], tied.T[1:])


def test_interrupted_block_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.written_whole(tmp_path / "sub" / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert everything_in(tmp_path) == []


def test_interrupted_block_leaves_the_older_file_as_it_was(tmp_path):
    (tmp_path / "a.txt").write_text("older")
    with pytest.raises(RuntimeError), files.written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "older" and everything_in(tmp_path) == ["a.txt"]


def test_two_threads_that_write_the_same_file(tmp_path):
    together, failed = threading.Barrier(2, timeout=10), []

    def write(text):
        try:
            with files.written_whole(tmp_path / "a.txt") as temporary:
                temporary.write_text(text)
                together.wait()
                assert temporary.read_text() == text, "the other thread's"
        except Exception as error:
            failed.append(error)
    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and (tmp_path / "a.txt").read_text() in ("one", "two") and everything_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["paperlib.datasets.files.save_file", "paperlib.datasets.files.os.replace"])
def test_full_disk_leaves_nothing(tmp_path, monkeypatch, step):
    monkeypatch.setattr(step, no_space)
    with pytest.raises(OSError, match="No space left"):
        files.save(tmp_path / "a.safetensors", TENSORS, {})
    assert everything_in(tmp_path) == []


def test_stop_between_tensors_and_manifest_is_no_result(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    files.save(path, TENSORS, {})
    monkeypatch.setattr(files.json, "dumps", no_space)
    with pytest.raises(OSError):
        files.save(path, {"weight": torch.zeros(3)}, {})
    with pytest.raises(files.DamagedFile, match="does not have the checksum"):  # new tensors, old manifest
        files.load(path)


def test_missing_file_or_manifest(tmp_path):
    path = tmp_path / "a.safetensors"
    for lost in (path, path.with_suffix(".json")):
        files.save(path, TENSORS, {})
        lost.unlink()
        with pytest.raises(FileNotFoundError, match="not both there"):
            files.load(path)


def flip_a_byte(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def with_true_checksum(path):
    """Damage that was there before the checksum was taken."""
    path.write_bytes(b"no safetensors")
    path.with_suffix(".json").write_text(json.dumps({"sha256": files.sha256(path)}))


DAMAGES = {
    "a bit": flip_a_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "empty": lambda path: path.write_bytes(b""),
    "other content": with_true_checksum,
    "manifest cut short": lambda path: path.with_suffix(".json").write_text('{"sha256": "ab'),
    "manifest empty": lambda path: path.with_suffix(".json").write_text(""),
    "manifest no text": lambda path: path.with_suffix(".json").write_bytes(b"\xff\xfe\x00"),
    "manifest without checksum": lambda path: path.with_suffix(".json").write_text("{}"),
    "manifest a list": lambda path: path.with_suffix(".json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_noticed(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    files.save(path, TENSORS, {})
    damage(path)
    with pytest.raises(files.DamagedFile, match=r"delete both and run again"):
        files.load(path)
