"""The front door: README is short and its snippet runs, and figures/README.md is up to date."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from paperlib.runs import tables

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 80 and len(README.split()) <= 800
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://arxiv.org/") or (ROOT / link).is_file(), link


def test_readmes_snippet_runs(monkeypatch, tmp_path):
    from paperlib.runs.study import Study

    def tiny(profile, dataset):
        assert (profile, dataset) == ("quick", "birds")
        return Study(dataset="digits", backbone="resnet18_x0_25", train_per_class=6, test_per_class=2, epochs=1,
                     prototypes_per_class=2, n_init=1)
    monkeypatch.setenv("PAPERLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(Study, "of_profile", tiny, raising=False)
    found = {}
    exec(re.search(r"```python\n(.*?)```", README, flags=re.S)[1], found)
    assert found["concepts"].shape[0] == 1 and set(found["maps"]) == {"B4", "B34", "B234"}


def test_figures_readme_is_what_the_figures_say():
    assert (ROOT / "figures" / "README.md").read_text() == tables.text(ROOT / "figures"), (
        "figures/README.md is behind its numbers: paperlib.runs.report.write_tables('figures') writes it anew.")


def test_every_section_has_its_numbers_in_figures():
    for title, stem, pointer, _ in tables.SECTIONS:
        assert tables.records(ROOT / "figures", stem, pointer), title


@pytest.fixture
def folder(tmp_path):
    settings = {"dataset": "mnist", "title": "MNIST", "classes": 10, "train": 60, "test": 20, "size": 32,
                "backbone": "nets.py:mine", "weights": "none", "epochs": 2, "n_init": 1, "prototypes_per_class": 5}
    runs = [{"CNN": {"train": 9.0, "test": x}, "KMEx (K/C=5)": {"train": 9.0, "test": x}} for x in (98.0, 99.0)]
    numbers = {"runs": runs, "table2": runs[0], "variants": {"B234 without 1/D_b": 97.25}}
    (tmp_path / "table2_mnist.json").write_text(json.dumps({"numbers": numbers, "settings": settings}))
    rows = {"B4": {"a|b": [0.5, 0.25, 0.625], "count": 3}, "B34": {"a|b": [0.00002, 0.0, 0.0001], "new": 1285.9}}
    record = {"numbers": {"scores": rows, "pictures": 7}, "settings": settings}
    (tmp_path / "attribution_contest_mnist.json").write_text(json.dumps(record))
    return tmp_path


def test_tables_of_a_run(folder):
    text = tables.write_tables(folder).read_text()
    assert "|  | MNIST | *MNIST, the paper* |\n" in text
    assert "| KMEx (K/C=5) | 98.5 ± 0.7 | 99.4 |\n| B234 without 1/D_b | 97.2 |  |\n" in text
    assert ("- `table2_mnist.json`: MNIST; 10 classes, 60 + 20 pictures, 32 px, mine from random weights, 2 epochs, "
            "5 prototypes per class, 1 start of k-means on the cells.\n") in text
    assert "|  | a\\|b | count | new |\n" in text and "| B4 | 0.50 | 3 |  |\n| B34 | 2e-05 |  | 1286 |\n" in text
    assert "- `attribution_contest_mnist.json`: MNIST.\n- 95 % intervals over 7 pictures: at most 0.25" in text
    assert text.count("## ") == 3, "the claims and two tables: no heading for what was not run"
    assert "KMEx names 98.0 % of the test pictures of MNIST correctly" in text
