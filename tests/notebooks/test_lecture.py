"""The notebooks as a course: what the first and last cells say, questions before outputs, and the lecture's slides."""
from __future__ import annotations

import re
import sys

import jupytext
import nbformat
import pytest

from paperlib.runs import parameters

sys.path.append(str(parameters.NOTEBOOKS / "exercises"))
import slides  # noqa: E402

PATHS = parameters.select()
LECTURE = parameters.NOTEBOOKS / "exercises" / "lecture.ipynb"


def slide(source, kind="markdown", **more):
    """A notebook of one slide."""
    cell = nbformat.v4.new_markdown_cell(source) if kind == "markdown" else nbformat.v4.new_code_cell(source, **more)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title"), cell])


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


def test_the_lecturers_page_links_to_what_is_there():
    page = LECTURE.with_name("README.md")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if ":" not in link]
    assert len(links) >= 8 and [link for link in links if not (page.parent / link).exists()] == []


def test_the_lecture_was_run_as_its_text_says():
    text, run = jupytext.read(LECTURE.with_suffix(".py")), nbformat.read(LECTURE, as_version=4)
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in run.cells]
    assert [c.metadata for c in text.cells] == [c.metadata for c in run.cells]
    assert not [o for c in run.cells for o in c.get("outputs", []) if o.output_type in ("error", "stream")]


def test_the_slides_are_one_file_that_asks_for_no_other():
    whole = slides.page(nbformat.read(LECTURE, as_version=4))
    assert len(whole) < 15e6 and "$" not in re.sub(r"<(script|pre)>.*?</\1>", "", whole, flags=re.DOTALL)
    assert set(re.findall(r'src="([^:"]*:)', whole)) == {"data:"} and "@@" not in whole and "<link" not in whole
    shown = re.findall(r"<section>(.*?)<b>\d+</b><aside>(.*?)</aside></section>", whole, re.DOTALL)
    assert 12 <= len(shown) <= 25
    for content, notes in shown:
        assert re.search(r"<h[12]", content)
        assert len(re.findall(r"<li><em>[^<]*\?</em> \S", re.sub(r"<img[^>]*>", "", notes))) == 3, content[:80]


@pytest.mark.parametrize("notebook, sentence", [
    (slide(r"$\nosuch$"), r"formula .* cannot be drawn"),
    (slide("![](none.png)"), "none.png, which is not there; run `make notebooks`"),
    (slide("1 + 1", "code"), "The lecture has not been run; run it first"),
    (slide('<img src="https://a.b/c.png">'), "would need a network"),
    (slide("", "code", execution_count=1, outputs=[nbformat.v4.new_output("stream", text="x" * 16_000_000)]),
     "16 MB, more than 15"),
])
def test_slides_that_cannot_be_written_say_why(notebook, sentence, tmp_path):
    with pytest.raises(slides.SlidesError, match=sentence):
        slides.page(notebook, tmp_path)


def test_without_a_browser_the_html_is_written_and_one_sentence_says_what_is_missing(tmp_path, capsys):
    nbformat.write(slide("$x$"), tmp_path / "talk.ipynb")
    slides.main(["--notebook", str(tmp_path / "talk.ipynb"), "--out", str(tmp_path), "--browser", "no-such-browser"])
    assert (tmp_path / "talk.html").is_file() and not (tmp_path / "talk.pdf").exists()
    assert "No PDF was made, for there is no no-such-browser here" in capsys.readouterr().out
