"""The notebooks as a course: what the first and last cells say, and questions before outputs."""
from __future__ import annotations

import re

import jupytext
import pytest

from paperlib.runs import parameters

PATHS = parameters.select()


@pytest.mark.parametrize("name", PATHS)
def test_first_and_last_cells_say_why_for_whom_how_long_and_what_next(name):
    first, *_, last = jupytext.read(PATHS[name]).cells
    begins = " ".join(first.source.split())
    assert [word for word in ("Aim", "You need", "Time") if f"**{word}**" not in begins] == []
    assert re.search(r"\bto read\b.*\bto run\b", begins.partition("**Time**")[2])
    links = re.findall(r"\]\(([^)]+)\)", last.source.partition("**Next**")[2])
    assert links and all((PATHS[name].parent / link).is_file() for link in links)


@pytest.mark.parametrize("name", [name for name in PATHS if PATHS[name].parent == parameters.NOTEBOOKS])
def test_a_question_offers_choices_folds_its_answer_and_stands_before_code(name):
    cells = jupytext.read(PATHS[name]).cells
    asked = [i for i, cell in enumerate(cells) if "**Predict, then run**" in cell.source]
    assert asked
    for i in asked:
        question, fold, answer = cells[i].source.partition("<details><summary>Answer</summary>\n\n")
        assert fold and "\n\n</details>" in answer and cells[i + 1].cell_type == "code"
        choices = re.findall(r"\(([a-d])\)", question.partition("**Predict, then run**")[2])
        assert len(choices) >= 3 and set(re.match(r"\(([a-d])\)", answer)[1]) <= set(choices)
