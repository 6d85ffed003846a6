"""Writes the students' notebooks from the solved ones: `make exercises`.

The solved notebooks, solved/*.py, are the only source. What stands between "# BEGIN SOLUTION" and "# END SOLUTION" is
the answer; a student gets the lines there that begin with "# stub: ", or else a line that raises NotImplementedError.
Written are: for students NAME.py and NAME.ipynb here, and solved/NAME.ipynb; with --pictures, which executes the
solved notebooks, also hints/*.png; and checks.md, the mistakes that each check knows.
"""
from __future__ import annotations

import inspect
import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import jupytext
import yaml

HERE = Path(__file__).parent
PLANTED = HERE.parents[1] / "tests" / "exercises" / "planted.yaml"
HEAD = """# What each check knows

Wrong answers that the tests plant, and the sentence that each gets; `make exercises` writes this page. A check takes
other wrong answers, too: it then names the first number that is off and where to look. Answers that are no answer (the
stub, nothing, a wrong type or shape, an error, a loop without end, a print in place of a return, a changed input) get
a sentence each in every check."""
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n(.*?)^ *# END SOLUTION\n?", re.MULTILINE | re.DOTALL)
STUB = re.compile(r"^( *)# stub: (.*\n)", re.MULTILINE)
TAIL = """
## Why not otter-grader

We tried version 7.0: `otter assign` made a student's notebook from a solved one, as it promises, but

- it brings 25 packages that this project does not need otherwise, among them Sphinx, Playwright and a client of
  Docker;
- a failed test shows the student the test's code and a traceback, and beside it one sentence that is fixed for the
  test; ours depends on the answer;
- it has no time limit in the notebook, and a test cannot tell a changed input or a print from a wrong number;
- its sources are .ipynb with raw cells that mark beginnings and ends; ours are texts, as all notebooks here.

A lecturer who grades with otter can still call these checks: each returns True or False, so that
`assert checks.evidence(evidence)` is a test.
"""
UNWRITTEN = 'raise NotImplementedError("Write this function.")\n'


def sources() -> list[Path]:
    """The solved notebooks' texts, in their order."""
    return sorted((HERE / "solved").glob("[0-9]_*.py"))


def student(text: str) -> str:
    """A student's text from the solved one: stubs in the place of solutions, and paths as seen one folder up."""
    return SOLUTION.sub(_stub, text).replace("../hints/", "hints/").replace("](../../", "](../")


def _stub(found) -> str:
    lines = ["".join(parts) for parts in STUB.findall(found[2])]
    return "".join(lines) or found[1] + UNWRITTEN


def notebook(text: str) -> str:
    """The text of the .ipynb of a py:percent text, without outputs; the same for the same text."""
    book = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"
    return jupytext.writes(book, fmt="ipynb") + "\n"


def files() -> dict[Path, str]:
    """All that is made from the solved notebooks without executing them: path -> text."""
    found = {}
    for source in sources():
        text = source.read_text()
        found[source.with_suffix(".ipynb")] = notebook(text)
        found[HERE / source.name] = student(text)
        found[HERE / f"{source.stem}.ipynb"] = notebook(student(text))
    return found


def cells(text: str) -> list[tuple[str, str]]:
    """(heading's number, code) of each code cell, in order; the number is that of the exercise, as "1.2"."""
    number, found = "", []
    for cell in jupytext.reads(text, fmt="py:percent").cells:
        if cell.cell_type == "code":
            found.append((number, cell.source))
        elif heading := re.search(r"^## (\d\.\d)", cell.source, re.MULTILINE):
            number = heading[1]
    return found


def execute(text: str, seen=lambda number, names, seconds: None) -> dict:
    """The names that the code leaves, run cell by cell in this process; `seen` is called after each cell."""
    from time import process_time
    names = {"__name__": "exercise"}
    for number, code in cells(text):
        start = process_time()
        exec(compile(code, f"<exercise {number}>", "exec"), names)  # noqa: S102 - the project's own notebooks
        seen(number, names, process_time() - start)
    return names


def draw(chosen) -> None:
    """Execute the solved notebooks `chosen`; keep each exercise's last figure as a hint; print processor seconds."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    for source in chosen:
        spent = {}

        def keep(number, names, seconds, spent=spent):
            spent[number] = spent.get(number, 0) + seconds
            if plt.get_fignums():
                name = f"{number.replace('.', '_')}.png"
                plt.gcf().savefig(HERE / "hints" / name, dpi=120, bbox_inches="tight", metadata={"Software": None})
                plt.close("all")
        execute(source.read_text(), keep)
        print(source.stem, {number or "start": round(seconds, 1) for number, seconds in spent.items()})


# What each check knows: the planted mistakes, and the sentence that each gets


def answers(text: str, stubs: bool = False) -> dict:
    """The names that a solved text's solution cells leave after its imports; or those that a student starts with."""
    codes, names = [code for _, code in cells(text)], {"__name__": "exercise"}
    for code in (codes[0], *(code for code in codes if "BEGIN SOLUTION" in code)):
        exec(compile(student(code) if stubs else code, "<answers>", "exec"), names)
    return names


def ask(check, names: dict) -> tuple[bool, str]:
    """(passed, what it prints) of a check, given the answers that its parameters name."""
    with redirect_stdout(io.StringIO()) as said:
        passed = check(*(names[name] for name in inspect.signature(check).parameters))
    return passed, said.getvalue().strip()


def planted() -> dict[str, list[dict]]:
    """check's name -> its planted mistakes: mistake (in words), code, says (part of the sentence that it must get)."""
    return yaml.safe_load((PLANTED).read_text())


def heard() -> dict[str, list[tuple[dict, bool, str]]]:
    """check's name -> for each of its planted mistakes: the mistake, whether it passed, and what the check printed."""
    sys.path.append(str(HERE))
    import checks
    right = {name: value for source in sources() for name, value in answers(source.read_text()).items()}
    found = {}
    for name, mistakes in planted().items():
        for each in mistakes:
            names = dict(right)
            exec(each["code"], names)
            found.setdefault(name, []).append((each, *ask(getattr(checks, name), names)))
    return found


def table(found: dict) -> str:
    """checks.md from what `heard` gives: for each check the planted mistakes and what it says to them."""
    import checks
    lines = [HEAD]
    for name, mistakes in found.items():
        title = " ".join(getattr(checks, name).__doc__.split())
        lines += ["", f"## {title}", "", "| mistake | what the check says |", "|---|---|"]
        for each, _, said in mistakes:
            said = said.removeprefix("Not yet. ").replace("|", "\\|")
            lines.append(f"| {each['mistake']} | {said} |")
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    if "--pictures" in sys.argv:
        draw(sources())
    for path, text in {**files(), HERE / "checks.md": table(heard())}.items():
        path.write_text(text)
