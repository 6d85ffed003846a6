"""The store: what is kept is found again, unless anything that it depends on has changed, its code included."""
from __future__ import annotations

import cProfile
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import paperlib
from paperlib.datasets import files
from paperlib.runs import store
from paperlib.runs.study import STAGES, Study

TINY = Study(dataset="digits", backbone="resnet18_x0_25", train_per_class=8, test_per_class=4, epochs=1, n_init=1,
             prototypes_per_class=2, protopnet_epochs=1)


def keep(value: float = 1.0, kind: str = "kmex", calls: list | None = None, **inputs):
    def compute():
        if calls is not None:
            calls.append(inputs)
        return {"x": torch.tensor([value])}, {"note": "a fact"}
    return store.kept(kind, inputs, compute)


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A copy of the package's source, as the store reads it: `edited("concepts", old, new)` changes a line there."""
    copy = shutil.copytree(Path(paperlib.__file__).parent, tmp_path / "paperlib")
    monkeypatch.setattr(store, "PACKAGE", copy)

    def edit(module: str, old: str, new: str):
        path = copy.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    return edit


def test_kept_once_with_a_manifest_that_says_what_made_it(fresh_cache):
    calls = []
    first, second = keep(seed=1, calls=calls), keep(seed=1, calls=calls)
    assert len(calls) == 1 and torch.equal(first.tensors["x"], second.tensors["x"])
    assert second.manifest["inputs"] == {"seed": 1} and second.manifest["note"] == "a fact"
    assert second.manifest["code"] == store.code("kmex") and second.manifest["versions"] == files.versions()
    keep(seed=2, calls=calls), keep(seed=1, kind="explainer", calls=calls)
    assert len(calls) == 3


def test_changed_code_is_computed_anew(fresh_cache, edited):
    """With eq. 8's weight changed, prototypes are not those of before; embeddings, which do not pass there, are."""
    before = {kind: store.address(kind, {}) for kind in store.MADE_BY}
    edited("composite", '"inv_dim": lambda D: 1 / D', '"inv_dim": lambda D: 2 / D')
    changed = {kind for kind in store.MADE_BY if store.address(kind, {}) != before[kind]}
    assert {"explainer", "evaluation", "comparison", "contest", "stage"} <= changed
    assert not {"embeddings", "drawn", "checkpoint"} & changed


@pytest.mark.parametrize("module, kinds", [
    ("networks.training", {"checkpoint", "protopnet", "softcam"}), ("backbone", {"embeddings", "explainer"}),
    ("guards", {"explainer", "kmex"}), ("runs.results", set(store.MADE_BY)), ("measures", {"accuracy"}),
    ("scaling.restarts", {"explainer", "kmex", "stage"})])
def test_each_kind_follows_the_modules_it_reaches(fresh_cache, edited, module, kinds):
    before = {kind: store.address(kind, {}) for kind in kinds}
    edited(module, "from __future__", "# changed\nfrom __future__")
    assert all(store.address(kind, {}) != before[kind] for kind in kinds)


@pytest.mark.parametrize("table", ["species.csv", "colours.csv", "shapes.txt"])
def test_a_changed_table_of_birds_is_another_picture(fresh_cache, edited, table):
    kinds = set(store.MADE_BY)
    before = {kind: store.address(kind, {}) for kind in kinds}
    path = store.PACKAGE / "datasets" / "birds" / table
    path.write_text(path.read_text().replace("white", "black"))
    assert {kind for kind in kinds if store.address(kind, {}) != before[kind]} == kinds


def test_another_library_is_another_key(fresh_cache, monkeypatch):
    before = store.address("kmex", {})
    monkeypatch.setattr(files, "versions", lambda: {"torch": "0.1", "python": "3"})
    assert store.address("kmex", {}) != before


def test_no_kind_runs_code_that_its_key_lacks(fresh_cache):
    """Each kind is computed under a profile of the modules that it enters; all of them must be in its digest."""
    entered, root, profiles, original = {}, Path(paperlib.__file__).parent, [], store.kept_together

    def told(kind, inputs, compute):
        def inner(missing):
            if profiles:
                profiles[-1].disable()
            profiles.append(cProfile.Profile())
            profiles[-1].enable()
            try:
                return compute(missing)
            finally:
                profiles[-1].disable()
                paths = {Path(entry.code.co_filename) for entry in profiles.pop().getstats()
                         if not isinstance(entry.code, str)}
                names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
                         for path in paths if path.is_relative_to(root)}
                entered.setdefault(kind, set()).update(names)
                if profiles:
                    profiles[-1].enable()
        return original(kind, inputs, inner)
    study = replace(TINY, dataset="sparrows", train_per_class=3, test_per_class=1, size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "kept_together", told)
        for stage in STAGES:
            study.compute(stage)
        study.compare({"B4": {"depth": 1}}, 1)
        study.softcam_accuracy()
    # These hand on what was asked for, which the inputs hold, and keep what came out.
    settings = {"runs.study", "runs.settings", "runs.store", "runs.stages", "datasets.files", "progress"}
    assert set(entered) == set(store.MADE_BY) - {"contest", "projection", "shard", "share"}
    for kind, names in entered.items():
        known = {*store.CALLERS, *(name for start in store.MADE_BY[kind] for name in store.reached(start))}
        assert names - known - settings == set(), kind


def test_inputs_must_be_plain_values(fresh_cache):
    with pytest.raises(TypeError):
        keep(start=np.zeros(3))


def test_two_threads_compute_once(fresh_cache):
    calls = []

    def compute():
        calls.append(1)
        time.sleep(0.2)
        return {"x": torch.ones(1)}
    threads = [threading.Thread(target=store.kept, args=("kmex", {"a": 1}, compute)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_several_together_compute_what_is_missing(fresh_cache):
    keep(kind="evaluation", i=1)
    asked = []

    def compute(missing):
        asked.append(missing)
        return [{"x": torch.tensor([float(i)])} for i in missing]
    found = store.kept_together("evaluation", [{"i": i} for i in range(3)], compute)
    assert asked == [[0, 2]] and [f.tensors["x"].item() for f in found] == [0.0, 1.0, 2.0]


def test_error_keeps_nothing_and_the_half_done_work_goes_with_the_result(fresh_cache):
    def fails():
        files.save(store.half_done("kmex", {}), {"x": torch.ones(1)}, {})
        raise RuntimeError("stopped")
    with pytest.raises(RuntimeError, match="stopped"):
        store.kept("kmex", {}, fails)
    assert store.half_done("kmex", {}).is_file() and not store.has("kmex", {})
    keep()
    assert not store.half_done("kmex", {}).is_file() and store.has("kmex", {})


def test_damaged_result_is_made_again(fresh_cache):
    keep()
    store.address("kmex", {}).write_bytes(b"")
    with pytest.warns(UserWarning, match="made again"):
        assert keep(2.0).tensors["x"].item() == 2.0


def test_entries_tell_what_today_s_code_would_find(fresh_cache, edited):
    keep(), keep(kind="embeddings")
    (fresh_cache / "x-unfinished.safetensors").write_bytes(b"half")
    edited("kmex", "from __future__", "# changed\nfrom __future__")
    found = {entry.kind: entry for entry in store.entries()}
    assert {kind: entry.current for kind, entry in found.items()} == {
        "kmex": False, "embeddings": True, "unfinished": False}
    assert found["embeddings"].bytes > 0
    store.remove(found["kmex"])
    assert {entry.kind for entry in store.entries()} == {"embeddings", "unfinished"}
    assert not list(fresh_cache.glob("kmex*"))
