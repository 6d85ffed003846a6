"""Files are whole or not there, damage is noticed, and what is wanted twice is computed once."""
from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time

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
def test_damage_is_noticed_and_mended(fresh_cache, damage):
    def compute(path):
        return TENSORS, {"said": "once"}
    files.cached("thing", {"n": 1}, compute)
    path = files.address(fresh_cache, "thing", {"n": 1})
    damage(path)
    with pytest.raises(files.DamagedFile, match=r"delete both and run again"):
        files.load(path)
    with pytest.warns(UserWarning, match="made again"):
        tensors, manifest = files.cached("thing", {"n": 1}, compute)
    assert torch.equal(tensors["weight"], TENSORS["weight"]) and manifest["said"] == "once"
    assert files.load(path)[1]["said"] == "once"


def test_cached_computes_once_for_equal_parameters(fresh_cache):
    calls = []

    def compute(path):
        calls.append(path)
        return {"n": torch.tensor(len(calls))}, {"seconds": 3}
    first, manifest = files.cached("thing", {"a": 1, "b": 2}, compute)
    again, _ = files.cached("thing", {"b": 2, "a": 1}, compute)
    other, _ = files.cached("thing", {"a": 1, "b": 3}, compute)
    assert (first["n"], again["n"], other["n"]) == (1, 1, 2) and len(calls) == 2
    assert manifest["kind"] == "thing" and manifest["parameters"] == {"a": 1, "b": 2} and manifest["seconds"] == 3


def test_cached_keeps_nothing_of_a_computation_that_failed(fresh_cache):
    def fails(path):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"):
        files.cached("thing", {}, fails)
    assert [name for name in everything_in(fresh_cache) if not name.endswith(".lock")] == []
    assert files.cached("thing", {}, lambda path: (TENSORS, {}))[0].keys() == TENSORS.keys()


def test_half_done_work_goes_only_when_the_result_is_stored(fresh_cache, monkeypatch):
    def compute(path):
        files.save(files.unfinished(path), TENSORS, {"epoch": 1})
        return TENSORS, {}
    with monkeypatch.context() as patch:
        patch.setattr(files, "save", lambda path, *rest, save=files.save: (
            save(path, *rest) if "unfinished" in path.name else no_space()))
        with pytest.raises(OSError, match="No space left"):
            files.cached("thing", {}, compute)
    half = files.unfinished(files.address(fresh_cache, "thing", {}))
    assert files.load(half)[1]["epoch"] == 1
    files.cached("thing", {}, compute)
    assert not [name for name in everything_in(fresh_cache) if "unfinished" in name]


def test_two_threads_that_want_the_same_compute_it_once(fresh_cache):
    calls, results, start = [], [], threading.Barrier(2)

    def compute(path):
        calls.append(threading.get_ident())
        time.sleep(0.2)
        return TENSORS, {}

    def want():
        start.wait()
        results.append(files.cached("thing", {}, compute)[0]["weight"])
    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(results) == 2 and torch.equal(*results)


def test_second_process_waits_for_the_first(fresh_cache, tmp_path):
    code = """if True:
        import sys
        from paperlib.datasets import files
        def compute(path):
            raise SystemExit("the other process is at it")
        print("wants it", flush=True)
        print(float(files.cached("thing", {}, compute)[0]["weight"].sum()))
    """
    started = []

    def compute(path):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "wants it\n"
        with pytest.raises(subprocess.TimeoutExpired):  # neither computes nor ends: it waits
            process.wait(0.3)
        return TENSORS, {}
    files.cached("thing", {}, compute)
    assert started[0].communicate(timeout=60) == ("15.0\n", None) and started[0].returncode == 0


def test_address_differs_for_different_parameters(tmp_path):
    settings = [{"dataset": "digits"}, {"dataset": "birds"}]
    settings += [{"dataset": "digits", "seed": seed} for seed in (0, 1, 1.0, "1")]
    paths = {files.address(tmp_path, kind, s) for s in settings for kind in ("checkpoint", "kmex")}
    assert len(paths) == 2 * len(settings)
    assert files.address(tmp_path, "kmex", {"a": 1, "b": 2}) == files.address(tmp_path, "kmex", {"b": 2, "a": 1})


def test_address_is_readable_and_fits_any_file_system(tmp_path):
    odd = {"dataset": "digits", "backbone": "my nets/é*?" + "x" * 300 + ".py:make"}
    path = files.address(tmp_path, "checkpoint", odd)
    assert path.parent == tmp_path and path.suffix == ".safetensors" and len(path.name) < 100
    assert files.address(tmp_path, "checkpoint", {"dataset": "digits", "backbone": "resnet18"}).name.startswith(
        "checkpoint-digits-resnet18-")


def test_cache_folder_is_in_the_repository_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("PAPERLIB_CACHE")
    assert files.cache_folder() == files.REPOSITORY / "data" / "cache"
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
