"""What all tests share: a cache of their own, and one thread."""
from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items):
    """A file stays with one worker, but notebooks, which take longest, come first and go to whoever is free."""
    items.sort(key=lambda item: not item.name.startswith("test_notebook_runs"))
    for item in items:
        group = item.name if item.name.startswith("test_notebook_runs") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads what a run has left in data/cache, or leaves anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache for one test, where it counts what is computed."""
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
