"""The exercises: students' notebooks in step with the solved ones; what each check accepts, refuses and says."""
from __future__ import annotations

import inspect
import re
import sys
import time

import otherwise
import pytest

from paperlib.runs.parameters import NOTEBOOKS

sys.path.append(str(NOTEBOOKS / "exercises"))
import checks  # noqa: E402
import write  # noqa: E402
from checks import running  # noqa: E402

CHECKS = [name for name in checks.__all__ if inspect.getattr_static(checks, name).__dict__.get("__wrapped__")]
PLANTED = [(name, i) for name, mistakes in write.planted().items() for i in range(len(mistakes))]


@pytest.fixture(scope="module")
def solved():
    """The right answers, by name."""
    return {name: value for source in write.sources() for name, value in write.answers(source.read_text()).items()}


@pytest.fixture(scope="module")
def heard():
    """What each check says to its planted mistakes."""
    return write.heard()


@pytest.fixture(scope="module")
def stubs():
    """What students find in their place."""
    return {name: value for source in write.sources()
            for name, value in write.answers(source.read_text(), stubs=True).items()}


def functions(name, solved):
    """The names of a check's parameters that stand for functions."""
    return [key for key in inspect.signature(getattr(checks, name)).parameters if callable(solved[key])]


@pytest.mark.parametrize("path, text", write.files().items(), ids=lambda x: x.name if hasattr(x, "name") else "")
def test_all_versions_are_in_step_with_the_solved_text(path, text):
    assert path.read_text() == text, f"{path.name} is behind its solved text: run make exercises"


def test_the_lecturers_table_is_in_step(heard):
    assert (write.HERE / "checks.md").read_text() == write.table(heard), "run make exercises"


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_passes(name, solved):
    passed, said = write.ask(getattr(checks, name), solved)
    assert passed and said.startswith("Correct. "), said


@pytest.mark.parametrize("name", CHECKS)
def test_other_ways_to_write_the_answer_pass(name):
    passed, said = write.ask(getattr(checks, name), vars(otherwise))
    assert passed, said


@pytest.mark.parametrize("name", CHECKS)
def test_the_stub_is_named_without_a_traceback(name, stubs):
    passed, said = write.ask(getattr(checks, name), stubs)
    assert not passed and re.fullmatch(r"Not yet\. .* is still the stub: .*\.", said), said


@pytest.mark.parametrize("name, i", PLANTED, ids=lambda x: str(x))
def test_a_planted_mistake_is_refused_in_its_own_words(name, i, heard):
    each, passed, said = heard[name][i]
    assert not passed and said.startswith("Not yet. ") and each["says"] in said, said
    assert len(said.splitlines()) == 1 and "Traceback" not in said


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_refuses_three_planted_mistakes(name):
    assert len({each["code"] for each in write.planted().get(name, [])}) >= 3


def raises(*inputs):
    raise KeyError("no such thing")


def prints(*inputs):
    print("the answer")


BAD = {"returns nothing: end it with return": lambda *inputs: None, "prints its result": prints,
       "raises KeyError": raises, "given a value of type str": "a text, not a function",
       "return": lambda *inputs: object()}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("says", BAD)
def test_what_is_no_answer_is_named_in_one_sentence(name, says, solved):
    for key in functions(name, solved):
        passed, said = write.ask(getattr(checks, name), {**solved, key: BAD[says]})
        assert not passed and says in said and len(said.splitlines()) == 1, said


def test_a_loop_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(running, "LIMIT", 0.2)

    def evidence(h, C, bias):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pass

    passed, said = write.ask(checks.evidence, {"evidence": evidence})
    assert not passed and "stopped after 0.2 seconds" in said


def test_a_changed_input_is_named():
    def evidence(h, C, bias):
        h *= 2
        return h @ C / 2 + bias

    passed, said = write.ask(checks.evidence, {"evidence": evidence})
    assert not passed and "changes its input h" in said


def test_what_a_wrong_answer_printed_is_shown():
    def evidence(h, C, bias):
        print("h has shape", tuple(h.shape))
        return 2 * (h @ C + bias)

    passed, said = write.ask(checks.evidence, {"evidence": evidence})
    assert not passed and re.search(r"In its last call it printed:\nh has shape \(\d", said)


def test_the_line_that_raises_is_named():
    def evidence(h, C, bias):
        return h @ C.T + bias

    assert "in: return h @ C.T + bias" in write.ask(checks.evidence, {"evidence": evidence})[1]


def test_too_few_answers_are_named(capsys):
    assert not checks.evidence()
    assert "This check takes evidence" in capsys.readouterr().out


PARTS = (r"\*\*Aim\*\*: ", r"\*\*Difficulty\*\*: (easy|middle|hard), \d+ minutes", r"\*\*Runs in\*\* ",
         r"<summary>Hint 1", r"<summary>Hint 2", r"the right result</summary>", "BEGIN SOLUTION", r"checks\.")


@pytest.mark.parametrize("source", write.sources(), ids=lambda path: path.stem)
def test_each_exercise_has_all_that_it_needs(source):
    text = source.read_text()
    for exercise in re.split(r"^# ## (?=\d\.\d )", text, flags=re.M)[1:]:
        said = exercise.replace("\n# ", " ")
        missing = [part for part in PARTS if not re.search(part, said)]
        assert not missing, f"exercise {exercise[:3]} lacks {missing}"
        picture = f"hints/{exercise[:3].replace('.', '_')}.png"
        assert picture in re.findall(r"<details>.*?</details>", exercise, re.S)[-1], f"the last hint is not {picture}"
        assert (write.HERE / picture).exists()
    for _, code in write.cells(text):
        assert len(code.strip().splitlines()) <= 15, f"a cell of more than fifteen lines: {code[:80]}"


def test_the_hints_are_small():
    assert sum(path.stat().st_size for path in (write.HERE / "hints").glob("*.png")) < 2e6


def test_students_see_no_solution():
    for path in write.HERE.glob("[0-9]_*"):
        assert "SOLUTION" not in path.read_text()
