"""The ledger: every claim is bound to numbers, and every number of the prose; what is edited anywhere is found."""
from __future__ import annotations

import json
import re
from itertools import islice

import numpy as np
import prose
import pytest

from paperlib.measures import TABLE1, TABLE2
from paperlib.runs import claims, published, quantities, tables

FIGURES = prose.ROOT / "figures"
SETTINGS = {"dataset": "birds", "title": "drawn birds", "epochs": 7, "checkpoint": "abc"}
ENTRY = """
"04":
  claims:
  - id: kmex-keeps
    paper: {where: "Table 2", says: "KMEx keeps the accuracy", number: "79.1 to 78.6"}
    on: birds
    quantity:
      cnn: "table2_{on}.json:table2.CNN.test"
      kmex: "table2_{on}.json:table2.KMEx (K/C=5).test"
      change: "= kmex - cnn"
    holds: change >= -1
    when: "the accuracy falls by 1 point at most"
    here: "KMEx changes {data} by {change:+.1f} points."
    why: "Too few pictures."
"""


@pytest.fixture(scope="module")
def committed():
    return quantities.records(FIGURES)


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "04_table2.py").touch()

    def write(text=ENTRY, **change):
        for old, new in change.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "claims.yaml").write_text(text)
        return claims.read(tmp_path / "claims.yaml")
    return write


def run(cnn=97.5, kmex=97.0, **more):
    numbers = {"table2": {"CNN": {"test": cnn}, "KMEx (K/C=5)": {"test": kmex}}, **more}
    return {"table2_birds": {"numbers": numbers, "settings": SETTINGS, "versions": {"torch": "1"}}}


# The ledger as committed


def test_each_notebook_has_claims_and_each_claim_its_numbers(committed):
    from paperlib.datasets.load import LOADERS

    found = claims.read()
    assert len(found) >= 25 and {claim.notebook for claim in found} == set(prose.sources()) - {"lecture", "README.md"}
    assert {name for claim in found for name in claim.on} <= {"any", "any but digits", *LOADERS}
    lost = [f"{each.claim.id} on {each.dataset}" for each in claims.judge(found, committed)
            if each.verdict == claims.UNMEASURED]
    assert not lost, f"claims whose pointers lead nowhere in figures/: {lost}"


def test_every_number_of_readme_and_of_the_notebooks_prose_is_bound():
    told = prose.all_problems()
    assert not told, "\n" + "\n".join(told)


def test_numbers_quoted_from_the_papers_tables_are_there():
    known = {f"{x:.{digits}f}" for table, digits in ((TABLE1, 2), (TABLE2, 1)) for row in table.values()
             for pair in row.values() for x in pair}
    for claim in claims.read():
        if re.search("Table [12]", claim.where):
            assert set(re.findall(r"-?\d+\.\d+", claim.number)) <= known, claim.id


def test_of_fifty_edits_fifty_are_found(committed):
    ledger, caught = claims.read(), []
    judged = claims.judge(ledger, committed)
    measured = list(dict.fromkeys(each.claim for each in judged if each.here))
    page = "\n".join(tables.ledger(judged))  # a part of figures/README.md: see test_tables
    texts = prose.sources()
    edits = ((*texts[key], edited, entries) for key, entries in _numbers().items() for name, text in [texts[key]]
             for edited in _other_numbers(text, prose.prose(name, text), entries, committed))
    for name, text, edited, entries in islice(edits, 24):        # numbers of prose
        before = prose.problems(name, text, entries, committed)
        caught.append(set(prose.problems(name, edited, entries, committed)) - {*before})
    for claim in measured[:12]:                                  # numbers of figures/
        caught.append(not _told(ledger, _other_value(claim, committed), page))
    for claim in measured[-14:]:                                 # sentences
        edited = [claim if each is not claim else _other_sentence(claim) for each in ledger]
        caught.append(not _told(edited, committed, page))
    missed = [i for i, found in enumerate(caught) if not found]
    assert len(caught) >= 50 and not missed


def _numbers() -> dict[str, list[dict]]:
    """The entries of all texts that have any, README's first."""
    blocks = claims.blocks()
    return {key: blocks[key]["numbers"] for key in ("README.md", *blocks) if blocks[key].get("numbers")}


def _told(ledger, found, page) -> bool:
    """Whether figures/README.md says what the ledger says of these numbers."""
    return set(tables.ledger(claims.judge(ledger, found))) <= {*page.splitlines()}


def _other_numbers(text, known, entries, found):
    """The text with one bound number changed in its last digit, for each of them."""
    for entry in entries:
        for start, end in prose.bind(known, entry, found)[0]:
            fragment = known.text[start:end].split("\n")[0]
            for number in re.finditer(r"(?<![\w.])\d+(\.\d+)?(?!\w)", fragment):
                digit = str((int(number[0][-1]) + 1) % 10)
                other = fragment[:number.end() - 1] + digit + fragment[number.end():]
                assert fragment in text
                yield text.replace(fragment, other)


def _other_value(claim, found):
    """The records with the numbers changed that a claim's first pointer leads to, of those that its sentence shows."""
    shown = [each for name, each in claim.quantity.items() if f"{{{name}" in claim.here and not each.startswith("=")]
    pointer = [*shown, *claim.quantity.values()][0].replace("{on}", claims._data_sets(claim, found)[0])
    file = pointer.partition(":")[0].removesuffix(".json")
    edited = json.dumps(found[file])
    for value in np.ravel(quantities.look(found, pointer)).tolist():
        edited = re.sub(rf"(?<![\w.-]){re.escape(repr(value))}(?![\d.])", repr(3 * value + 1), edited)
    return {**found, file: json.loads(edited)}


def _other_sentence(claim):
    words = claim.here.split()
    return claims.Claim(**{**vars(claim), "here": " ".join([*words[:-1], "not", words[-1]])})


# Entries that cannot be judged


@pytest.mark.parametrize("old, new, sentence", [
    ('"table2_{on}.json:table2.CNN.test"', "table2.CNN", "points nowhere with cnn: 'table2.CNN'"),
    ("change >= -1", "change is fine", "cannot be judged by `change is fine`"),
    ("change >= -1", "change >= other", "cannot be judged by `change >= other`"),
    ("change >= -1", "change ~ 1", "cannot be judged by `change ~ 1`"),
    ("= kmex - cnn", "= kmex.real", "cannot be judged by `kmex.real`"),
    ("= kmex - cnn", "= open(kmex)", "cannot be judged by `open(kmex)`"),
    ("= kmex - cnn", "= [kmex for i in cnn]", "cannot be judged by"),
    ("{change:+.1f}", "{gap:+.1f}", "has {gap} in its sentence"),
    ("{change:+.1f}", "0.5", "has 0.5 in its sentence"),
    ('"04"', '"44"', "block for notebook '44', and there is no such notebook"),
    ("why:", "because:", "has other fields than it must"),
    ("paper:", "papers:", "must have either `paper`"),
    ("holds: change >= -1", "holds: [", "is not a ledger in YAML")])
def test_bad_entries_are_refused_in_one_sentence(ledger, old, new, sentence):
    with pytest.raises(claims.ClaimError, match=re.escape(sentence)) as error:
        ledger(**{old: new})
    assert "\n" not in str(error.value)


def test_two_claims_or_two_blocks_of_one_name_are_refused(ledger):
    with pytest.raises(claims.ClaimError, match="two claims 'kmex-keeps'"):
        ledger(ENTRY + ENTRY.split("claims:\n")[1])
    with pytest.raises(claims.ClaimError, match="two blocks '04'"):
        ledger(ENTRY + ENTRY)


# Judging


def test_verdicts(ledger):
    claim, = ledger()
    for kmex, verdict, why in ((96.6, "holds", ""), (96.0, "does not hold here", "Too few pictures.")):
        judged, = claims.judge([claim], run(kmex=kmex))
        assert (judged.verdict, judged.why) == (verdict, why)
        assert judged.here == f"KMEx changes drawn birds by {kmex - 97.5:+.1f} points."
    empty = {"table2_birds": {"numbers": {}, "settings": SETTINGS}}
    for lacking in ({}, run(kmex=None), run(kmex=float("nan")), empty):
        assert claims.judge([claim], lacking)[0].verdict == "not measured in this run"
    assert claims.summary(claims.judge([claim], {})) == "0 of 0 claims hold here; not measured in this run: 1"


def test_any_data_set_that_the_run_has(ledger):
    claim, = ledger(**{"on: birds": "on: any"})
    digits = {"table2_digits": {**run()["table2_birds"], "settings": {**SETTINGS, "dataset": "digits"}}}
    assert [each.dataset for each in claims.judge([claim], {**run(), **digits})] == ["birds", "digits"]
    assert [each.verdict for each in claims.judge([claim], {})] == ["not measured in this run"]


def test_a_zero_is_a_zero():
    sentence = "{a:.0e}, {b:.0e}, {c:+.1f}, {d:.0%}"
    assert quantities.fill(sentence, {"a": 0.0, "b": 2e-7, "c": -0.01, "d": -0.001}) == "0, 2e-07, 0.0, 0 %"


def test_pointers_and_formulas():
    found = run(runs=[{"a.b": 1.0}, {"a.b": 3}], low=[0.5, 0.2, 0.7], **{"eq. 4": {"x": -0.04}})
    names = quantities.values({"all": "table2_birds:runs.*.a.b", "one": "table2_birds.json:runs.1.a.b",
                               "share": "table2_birds:low", "x": "table2_birds:eq. 4.x", "most": "= max(all) / 2",
                               "epochs": "table2_birds:settings.epochs", "cub": "paper:table1.CNN.cub200.0"}, found)
    assert quantities.fill("{one} {share_low} {share:.0%} {x:+.1f} {most} {epochs} {cub}", names) == (
        "3 0.2 50 % 0.0 1.5 7 0.51")
    assert quantities.formula("all >= 1 and share_low > 0", names) and not quantities.formula("all > 1", names)
    assert quantities.formula("1 < one <= 3 or abs(x) > 1", names)
    for pointer in ("nothing:x", "table2_birds:runs.5", "table2_birds:eq. 4", "table2_birds:runs.*.c", "table2_birds:"):
        with pytest.raises(quantities.Missing):
            quantities.look(found, pointer)


def test_a_notebook_opens_and_closes_with_its_claims(tmp_path, monkeypatch):
    opening, closing = claims.opening("04"), claims.closing("04", str(tmp_path))
    assert "does not affect the performance" in repr(opening) and "falls by 1 point at most" in repr(opening)
    assert "<table" in opening._repr_html_() and "79.1 to 78.6" in opening._repr_html_()
    assert {row[2] for row in closing.rows} == {"not measured in this run"}, "an empty folder"
    assert closing.rows[0][3].endswith(".json is not there.")
    shown = claims.closing("04", str(FIGURES))
    assert len(shown.rows) >= len(opening.rows) and max(map(len, repr(shown).splitlines())) <= 90
    with pytest.raises(claims.ClaimError, match="no claim of notebook '4'"):
        claims.opening("4")


def test_what_must_hold_is_said_in_words_with_the_same_numbers():
    """Zero may be in words, and a sign in "falls" or "below"."""
    def numbers(text):
        return {abs(float(n)) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])", text)} - {0.0}
    for claim in claims.read():
        if claim.id == "b234-loses" or not numbers(claim.holds):
            continue
        assert numbers(claim.holds) == numbers(claims.NAMES.sub("", claim.when)), claim.id


def test_any_data_set_but_one(ledger, tmp_path):
    found = {**run(), "table2_digits": {**run()["table2_birds"], "settings": {"dataset": "digits", "title": "digits"}}}
    assert [each.dataset for each in claims.judge(ledger(**{"on: birds": "on: any"}), found)] == ["birds", "digits"]
    few = ledger(**{"on: birds": "on: any but digits"})
    assert [each.dataset for each in claims.judge(few, found)] == ["birds"]
    assert [each.verdict for each in claims.judge(few, {"table2_digits": found["table2_digits"]})] == [
        "not measured in this run"]


# Beside the published run


def test_a_run_beside_itself_is_within_tolerance(committed):
    compared = published.compare(committed, committed)
    assert len(compared.numbers) > 300 and not compared.off and not compared.versions
    assert compared.summary() == f"{len(compared.numbers)} of {len(compared.numbers)} numbers within tolerance of " \
                                 "the published run"


def test_what_is_off_is_said_and_by_how_much():
    before = run(cost={"B4": 1.0}, score=[0.5, 0.3, 0.7], maps=[[1, 2], [3, 4]])
    found = published.compare(run(kmex=95.0, cost={"B4": 9.0}, score=[0.58, 0.4, 0.8], maps=[[0, 0], [0, 0]]), before)
    assert len(found.numbers) == 3 and found.left_out == {"times": 1, published.MANY: 1}
    assert [str(number) for number in found.off] == [
        "table2_birds:table2.KMEx (K/C=5).test: 97 published, here 95, -2 (within ± 1)"]
    assert "2 of 3 numbers" in found.summary()
    lost = published.compare({"table2_birds": {**before["table2_birds"], "numbers": {}}}, before)
    assert len(lost.off) == 3 and "not there" in str(lost.off[0])


def test_other_settings_are_not_compared_and_other_versions_are():
    other = run()["table2_birds"]
    found = published.compare({"table2_birds": {**other, "settings": {**SETTINGS, "epochs": 1}}}, run())
    assert not found.numbers and found.other_settings == ["table2_birds"] and "Other settings" in found.lines()[0]
    found = published.compare({"table2_birds": {**other, "versions": {"torch": "2"}}}, run())
    assert len(found.numbers) == 2 and not found.off
    assert found.lines() == ["torch 2; the published run had 1. Numbers were compared all the same."]
    found = published.compare({"table2_birds": {**other, "settings": {**SETTINGS, "checkpoint": "other"}}}, run())
    assert len(found.numbers) == 2, "another network is compared"
    found = published.compare({"table2_birds": {**other, "settings": {**SETTINGS, "train_anew": True}}},
                              {"table2_birds": {**other, "settings": {**SETTINGS, "train_anew": False}}})
    assert len(found.numbers) == 2, "a network trained anew is compared"


def test_versions_are_told_of_both_runs_and_of_files_that_are_not_compared():
    other = run()["table2_birds"]
    here = {"table2_birds": {**other, "settings": {**SETTINGS, "epochs": 1}, "versions": {"opencv": "4"}}}
    assert published.compare(here, run()).versions == {"opencv": ("4", "none"), "torch": ("none", "1")}


def test_a_file_that_a_notebook_writes_no_more_is_told():
    other = {**run()["table2_birds"], "notebook": "04_x"}
    before = {"table2_birds": other, "gone_birds": other, "gone_digits": {**other, "settings": {"dataset": "digits"}},
              "more_birds": {**other, "notebook": "05_y"}}
    found = published.compare({"table2_birds": other}, before)
    assert found.not_written == ["gone_birds"] and "gone_birds.json was not written." in found.lines()


@pytest.mark.parametrize("place, kind", [
    ("table2_birds:table2.CNN.test", "accuracies"), ("table2_vote_birds:B4.correct cells", "shares and scores"),
    ("table2_digits:voting.B4.cells", "counts"), ("tour_birds:concepts", "counts"),
    ("theorem1_birds:eq. 4.error float64", "rounding errors, double"), ("softcam_birds:rows.Gini.0", "Gini indices"),
    ("theorem1_birds:eq. 4.error float32", "rounding errors"), ("choices_digits:factor.B34.networks", "accuracies")])
def test_kinds_of_numbers(place, kind):
    assert published.kind_of(place)[0] == kind


# Prose


def test_what_is_bound_to_nothing_or_wrong_is_told_with_its_line():
    entries = [{"says": "falls to {a:.1f} %", "a": "table2_birds.json:table2.CNN.test"},
               {"says": "in 31 epochs", "from": "the schedule"}]
    text = "3. Eq. 4 and B234 at 224 px (notebooks 02 to 04)\n\nIt falls\nto {} % in {} epochs, `K = 7`.\n"
    assert prose.problems("README.md", text.format("97.5", 31), entries, run()) == []
    assert prose.problems("README.md", text.format("97.6", 31), entries, run()) == [
        "README.md:4: 97.6 must be 97.5 (table2_birds.json:table2.CNN.test)"]
    assert prose.problems("README.md", text.format("97.5", 32), entries, run()) == [
        "README.md: the text does not say 'in 31 epochs'", "README.md:4: 32 is bound to nothing"]
    assert "leads nowhere" in prose.problems("README.md", text.format("97.5", 31), entries, {
        "table2_birds": {"numbers": {}}})[0]
    cells = "# %% [markdown]\n# About 97.5 % of them.\n\n# %%\nx = 3\n# 5 is a comment\n"
    assert prose.problems("04.py", cells, [], run()) == ["04.py:2: 97.5 is bound to nothing"]


def test_the_ledger_is_judged_beside_what_the_bench_keeps(committed):
    assert "bench" in committed and "dataset" not in committed["bench"]["settings"]
    assert claims.judge(claims.read(), committed)
