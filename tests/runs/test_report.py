"""The report: which numbers are compared with the paper's, which are not and why, and a page that stands alone."""
from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from paperlib.measures import TABLE1, TABLE2
from paperlib.runs import report, summary

# As the paper's own conditions would be written into a notebook's .json.
PAPER = {"dataset": "stl10", "title": "STL10", "classes": 10, "train": 5000, "test": 8000, "size": 96,
         "backbone": "resnet34", "weights": "imagenet", "epochs": 30, "prototypes_per_class": 5, "protopnet_epochs": 0,
         "normalisation": "imagenet", "n_init": 10, "checkpoint": "abc"}


def record(which: str, runs: list[dict], **settings) -> dict:
    return {"numbers": {"runs": runs, which: {}}, "settings": {**PAPER, **settings}}


def found(which: str, runs: list[dict], **settings) -> dict[tuple[str, str], report.Cell]:
    return {(cell.row, cell.column): cell for cell in report.cells(which, record(which, runs, **settings))}


def test_published_numbers_compared_with_themselves_are_within_tolerance():
    table1 = [{name: row["stl10"] for name, row in TABLE1.items()}]
    names = {"KMEx": "KMEx (K/C=5)"}
    table2 = [{names.get(name, name): dict(zip(("train", "test"), row["stl10"], strict=True)) for name, row in
               TABLE2.items()}]
    for which, runs in (("table1", table1), ("table2", table2)):
        verdicts = {cell.verdict for cell in report.cells(which, record(which, runs))}
        assert verdicts == {"within tolerance"}, which
    assert len(report.cells("table2", record("table2", table2))) == 10


def test_mean_sd_difference_and_verdict_over_runs():
    runs = [{"CNN": {"train": 95.6, "test": value}} for value in (83.0, 84.0, 85.0)]
    cell = found("table2", runs)["CNN", "test"]
    assert (cell.published, cell.mean, cell.sd, cell.n) == (86.1, 84.0, 1.0, 3)
    assert cell.difference == pytest.approx(-2.1)
    # 1 point, and twice 1 / sqrt(3) = 1.15 on top: 2.15
    assert cell.verdict == "within tolerance"
    assert found("table2", [{"CNN": {"train": 95.6, "test": 84.0}}])["CNN", "test"].verdict == "off"


@pytest.mark.parametrize("settings, reason", [
    ({"weights": "none"}, "not from torchvision's ImageNet weights"),
    ({"backbone": "resnet18"}, "resnet18, not ResNet34"),
    ({"backbone": "nets.py:mine"}, "mine, not ResNet34"), ({"epochs": 3}, "3 epochs, not 30"),
    ({"size": 64}, "64 px, not 96"), ({"train": 100}, "100 + 8000 pictures, not 5000 + 8000"),
    ({"normalisation": "half"}, "normalisation half, not imagenet"),
    ({"classes": 4}, "4 of 10 classes"), ({"dataset": "digits"}, "not one of the paper's data sets")])
def test_what_differs_is_said_and_not_judged(settings, reason):
    cell = found("table2", [{"CNN": {"train": 95.6, "test": 86.1}}], **settings)["CNN", "test"]
    assert cell.verdict == f"not comparable: {reason}"


def test_rows_with_conditions_of_their_own():
    rows = ("CNN", "B4", "B34", "ProtoPNet", "KMEx (K/C=3)", "KMEx (K/C=5)")
    runs = [{row: {"train": 1.0, "test": 1.0} for row in rows}]
    cells = found("table2", runs, prototypes_per_class=3, protopnet_epochs=2, n_init=1)
    assert cells["B4", "test"].verdict == "not comparable: K/C = 3, not 5; n_init = 1, not 10"
    assert cells["B34", "test"].verdict.startswith("not comparable: K/C = 3")
    assert cells["ProtoPNet", "test"].verdict == "not comparable: K/C = 3, not 5; 2 epochs of ProtoPNet"
    assert cells["KMEx (K/C=3)", "test"].verdict == "not comparable: K/C = 3, not 5"
    assert cells["KMEx (K/C=5)", "test"].verdict == cells["CNN", "test"].verdict == "off"


def test_table2_has_five_prototypes_per_class_in_kmex_where_the_rest_has_ten():
    cub = {"dataset": "cub200", "classes": 200, "train": 5994, "test": 5794, "size": 224, "prototypes_per_class": 10}
    rows = ("KMEx (K/C=5)", "KMEx (K/C=10)", "B234", "B34")
    cells = found("table2", [{row: {"train": 1.0, "test": 1.0} for row in rows}], **cub)
    assert [cells[row, "test"].verdict for row in rows] == [
        "off", "not comparable: K/C = 10, not 5", "off", "not comparable: the paper has no such row"]
    cells = found("table1", [{"KMEx (K/C=1)": [0.9, 0.5], "KMEx (K/C=10)": [0.8, 0.4]}], **cub)
    assert cells["KMEx (K/C=1)", "class"].verdict == "within tolerance"
    assert cells["KMEx (K/C=10)", "class"].verdict == "not comparable: the paper has no such row"


@pytest.fixture
def folder(tmp_path):
    runs = [{"CNN": [0.45, -0.04], "ProtoPNet": [0.5, 0.5]}]
    (tmp_path / "table1_stl10.json").write_text(json.dumps(record("table1", runs)))
    for name in ("figure1_stl10", "figure1_2_stl10", "figure2_stl10"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_three_files_say_the_same(folder):
    path = report.write(folder, {"stl10": "abc"}, {"runs": 12.3})
    text, page, kept = (path.with_suffix(s).read_text() for s in (".md", ".html", ".json"))
    kept = json.loads(kept)
    assert "| STL10 | CNN | class | 0.46 | 0.45 |  | 1 | -0.01 | within tolerance |" in text
    assert "Of 4 numbers that can be compared with the paper's, 2 are within tolerance." in text
    assert [cell["verdict"] for cell in kept["cells"]] == ["within tolerance", "within tolerance", "off", "off"]
    assert "Table 2 was not run for stl10 with these settings." in text and kept["missing"] == [
        "Table 2 was not run for stl10 with these settings."]
    assert kept["seconds"] == {"runs": 12.3} and "| runs | 12 s |" in text
    assert re.fullmatch(r"unknown|[0-9a-f]{40}( with changes)?", kept["commit"]) and kept["torch"] and kept["processor"]
    assert text.count("![") == 2, "Figures 1 and 2; not the further pictures"
    assert page.count("<table>") == 3 and "within tolerance</td>" in page


def test_page_needs_no_other_file(folder):
    page = report.write(folder, {"stl10": "abc"}, {}).with_suffix(".html").read_text()
    sources, links = (re.findall(rf'{word}="([^"]*)"', page) for word in ("src", "href"))
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert links == ["README.md"], "and no notebook that was not executed"


def test_another_runs_numbers_are_not_taken_for_this_ones(folder):
    cells, missing = report.collect(folder, {"stl10": "another"})
    assert cells == [] and len(missing) == 2
    assert "No number of this run can be compared" in report.write(folder, {"stl10": "another"}, {}).read_text()


def test_the_first_page_is_the_ledger_with_links_to_executed_notebooks(folder):
    (folder / "executed" / "beyond").mkdir(parents=True)
    for name in ("02_table1", "beyond/07_attribution"):
        (folder / "executed" / f"{name}.html").touch()
    kept = record("table1", [{}])
    kept["numbers"]["table1"], kept["notebook"] = {"CNN": [0.45, -0.04]}, "02_table1"
    (folder / "table1_stl10.json").write_text(json.dumps(kept))
    run = report.Run.read(folder, ["abc"], ["02", "07"])
    text = report.write(folder, {"stl10": "abc"}, {}, run).read_text()
    assert text.startswith("# 2 of 2 claims hold here; ")
    assert text.index("# 0 of 0 numbers") < text.index("# The paper's tables")
    assert "| [02](executed/02_table1.html) | " in text and "| [07](executed/beyond/07_attribution.html) | " in text
    assert "columns' cosine with their own class on STL10 is 0.45" in text and "| holds |" in text
    kept = json.loads((folder / "report.json").read_text())["claims"]
    assert {each["verdict"] for each in kept} == {"holds", "not measured in this run"}
    for other in (report.Run.read(folder, ["abc"], ["03"]), report.Run.read(folder, ["abc"], ["02"], files=["x"])):
        assert "holds" not in {each.verdict for each in other.judged}, "another notebook's, or left by another run"
    assert not report.Run.read(folder, ["other"], ["02"]).compared.numbers
    assert "not measured" in summary.ledger(report.Run.read(folder, ["other"], ["02"]))


def test_what_cannot_be_compared_is_one_line(tmp_path):
    rows = {"CNN": [0.5, 0.0], "KMEx (K/C=5)": [0.9, 0.1]}
    cells = report.cells("table1", record("table1", [rows], dataset="digits", title="digits"))
    assert [line for line in report.table("table1", cells) if line] == [
        "Not compared with the paper: 4 numbers (digits): not one of the paper's data sets.\n"]
