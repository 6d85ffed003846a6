"""The front door: README's numbers are the figures' own, its snippet runs, and figures/README.md is up to date."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from paperlib.runs import tables

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
# The notebooks of a row of README's table -> the numbers that it says, in its order: file, keys, and how it is written.
TABLE2, CUB = "table2_birds.json", ("real_data.json", "records", "table2_cub200", "numbers", "table2")
CONTEST = "attribution_contest_birds.json"
REAL = ("real_data.json", "records", "attribution_contest_cub200", "numbers", "scores")
FOUND = {
    "`00`, `01`": [("theorem1_birds.json", "eq. 4", "relative float32", "{:.0e}")],
    "`02`": [("table1_birds.json", "table1", "CNN", 0, "{:.2f}"),
             ("table1_birds.json", "table1", "KMEx (K/C=5)", 0, "{:.2f}")],
    "`03`": [("figure2_nearness_birds.json", kind, "distance", "{:.1f}")
             for kind in ("crosses", "triangles", "squares")],
    "`04`": [(TABLE2, "table2", "CNN", "test", "{:.1f}"), (TABLE2, "table2", "KMEx (K/C=5)", "test", "{:.1f}"),
             (*CUB, "CNN", "test", "{:.1f}"),
             (*CUB, "KMEx (K/C=5)", "test", "{:.1f}")],
    "`04`, `06`": [(TABLE2, "table2", "B4", "test", "{:.1f}"), (TABLE2, "runs", 0, "B234", "test", "{:.1f}"),
                   (TABLE2, "variants", "B234 without 1/D_b", "{:.1f}")],
    "`05`, `07`": [(CONTEST, "scores", "B4", "pointing, object", 0, "{:.0%}"),
                   (CONTEST, "scores", "saliency", "pointing, object", 0, "{:.0%}"),
                   (*REAL, "B34", "pointing, object", "{:.0%}"),
                   (*REAL, "saliency", "pointing, object", "{:.0%}")],
    "`08`": [(TABLE2, "table2", "Soft-CAM", "test", "{:.1f}")],
    "`09`": [("saliency_birds.json", "boxes", "saliency", "IoU", 0, "{:.2f}"),
             ("saliency_birds.json", "boxes", "B234", "IoU", 0, "{:.2f}")],
    "`10`": [("shortcut_shortcut.json", "accuracy", "shortcut", "test %", "{:.1f}"),
             ("shortcut_shortcut.json", "votes", "shortcut", "B234", "off the bird", "{:.0%}"),
             ("shortcut_shortcut.json", "votes", "honest", "B234", "off the bird", "{:.0%}")]}


def kept(name: str, *keys) -> str:
    """The number that `keys` lead to in a .json of figures/, written as the last of them says."""
    value = json.loads((ROOT / "figures" / name).read_text())
    for key in keys[:-1] if keys[0] == "records" else ("numbers", *keys[:-1]):
        value = value[key]
    return keys[-1].format(value).removesuffix("%")


def test_each_number_of_readmes_table_is_the_figures_own():
    rows = [line.strip("| ").split(" | ") for line in re.findall(r"^\| .* \|$", README, flags=re.M)]
    rows = {notebook: finding for _, finding, notebook in rows if notebook != "notebook"}
    assert set(rows) == set(FOUND)
    for notebook, finding in rows.items():
        said = re.findall(r"(?<![\w./-])\d+(?:\.\d+)?(?:e-\d+)?(?![\w/]|\.\d)", re.sub(r"eq\. \d+", "", finding))
        assert said == [kept(*pointer) for pointer in FOUND[notebook]], notebook


def test_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 80 and len(README.split()) <= 800
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("https://arxiv.org/") or (ROOT / link).is_file(), link


def test_readmes_snippet_runs(monkeypatch, tmp_path):
    from paperlib.runs.study import Study

    def tiny(profile, dataset):
        assert (profile, dataset) == ("quick", "birds")
        return Study(dataset="digits", train_per_class=6, test_per_class=2, epochs=1, prototypes_per_class=2, n_init=1)
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
    assert text.count("## ") == 2, "no heading for what was not run"
