"""Writes the lecture's slides: `make slides`. One HTML file that needs no network, and a PDF where a browser is found.

The lecture is a notebook with reveal.js's slide types, which RISE and `jupyter nbconvert --to slides` know, too. Those
fetch reveal.js and MathJax when a slide is shown; here a page of our own takes their place, and formulas are drawn by
matplotlib: all is in the file, and all is locked. What is shown is the notebook as saved, with the outputs it has.
"""
from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template

import matplotlib
import nbformat
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from nbconvert.filters.markdown_mistune import markdown2html_mistune

HERE = Path(__file__).parent
MOST_MB = 15
PATIENCE = 120  # seconds that a browser may take to print
EM = 17.5  # points of a formula, drawn at 20, that are as high as one em of the text: its letters are smaller
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)
ANCHOR = re.compile(r'<a class="anchor-link".*?</a>')
PICTURE = re.compile(r'(<img[^>]*\bsrc=")([^":]+)(")')


class SlidesError(ValueError):
    """The slides cannot be written; the sentence says why, and what to do."""


@cache
def formula(tex: str, display: bool = False) -> str:
    """An <img> of a TeX formula, in the size of the text around it and on its baseline. Raises SlidesError."""
    font = FontProperties(size=20, math_fontfamily="stix")
    try:
        width, height, depth, *_ = MathTextParser("path").parse(f"${' '.join(tex.split())}$", dpi=72, prop=font)
    except ValueError as error:
        raise SlidesError(f"The formula ${tex}$ cannot be drawn; matplotlib knows a part of TeX: "
                          f"{' '.join(str(error).split())}") from error
    figure = Figure(figsize=((width + 2) / 72, (height + 2) / 72), facecolor="none")
    figure.text(1 / (width + 2), (depth + 1) / (height + 2), f"${' '.join(tex.split())}$", fontproperties=font)
    drawn = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "slides"}):
        FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
    style = f"height:{(height + 2) / EM:.3f}em;" + ("" if display else f"vertical-align:{-(depth + 1) / EM:.3f}em")
    kind = "display" if display else "inline"
    return f'<img class="{kind}" style="{style}" alt="{escape(tex)}" src="{data_uri(drawn.getvalue(), "svg+xml")}">'


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def markdown(source: str, folder: Path) -> str:
    """HTML of a Markdown cell, its formulas and pictures inside. Raises SlidesError."""
    drawn = []

    def take(found):
        drawn.append(formula(found[1] or found[2], display=bool(found[1])))
        return f"@@{len(drawn) - 1}@@"

    def embed(found):
        path = folder / found[2]
        if not path.is_file():
            raise SlidesError(f"A slide shows {found[2]}, which is not there; run `make notebooks`, which draws it.")
        return found[1] + data_uri(path.read_bytes(), path.suffix[1:]) + found[3]

    page = ANCHOR.sub("", markdown2html_mistune(MATHS.sub(take, source))).replace("<p><img", '<p class="picture"><img')
    return re.sub(r"@@(\d+)@@", lambda found: drawn[int(found[1])], PICTURE.sub(embed, page))


def output(out: nbformat.NotebookNode) -> str:
    """HTML of what a cell has shown: a picture, a table or a text."""
    data = out.get("data", {})
    if "image/png" in data:
        picture = data_uri(base64.b64decode(data["image/png"]), "png")
        return f'<p class="picture"><img alt="{escape(data.get("text/plain", ""))}" src="{picture}"></p>'
    return data.get("text/html") or f"<pre>{escape(out.get('text') or data.get('text/plain', ''))}</pre>"


def code(cell: nbformat.NotebookNode) -> str:
    """HTML of a code cell: its outputs, and before them its lines where it has the tag `show`. Raises SlidesError."""
    if cell.execution_count is None:
        raise SlidesError("The lecture has not been run; run it first: make notebooks "
                          "ARGS=notebooks/exercises/lecture.ipynb")
    lines = f"<pre><code>{escape(cell.source)}</code></pre>" if "show" in cell.metadata.get("tags", []) else ""
    return lines + "".join(map(output, cell.outputs))


def slides(notebook: nbformat.NotebookNode, folder: Path = HERE) -> list[str]:
    """The HTML of each slide: what it shows, in steps where cells are fragments, and its notes. Raises SlidesError."""
    found: list[dict] = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "skip" or cell.cell_type == "raw":
            continue
        html = markdown(cell.source, folder) if cell.cell_type == "markdown" else code(cell)
        if kind in ("slide", "subslide") or not found:
            found.append({"shown": "", "notes": ""})
        step = f'<div class="step">{html}</div>' if kind == "fragment" else html
        found[-1]["notes" if kind == "notes" else "shown"] += step
    return [f'<section>{one["shown"]}<b>{number}</b><aside>{one["notes"]}</aside></section>'
            for number, one in enumerate(found, 1)]


def page(notebook: nbformat.NotebookNode, folder: Path = HERE) -> str:
    """The whole page; it names no address that a browser would fetch. Raises SlidesError."""
    shown = slides(notebook, folder)
    title = re.search(r"^# (.+)", notebook.cells[0].source, re.MULTILINE)[1]
    whole = Template((HERE / "slides.html").read_text()).substitute(title=escape(title), slides="\n".join(shown))
    without_links = re.sub(r'<a href="[^"]*"', "", whole)
    if asked := re.search(r'(?:src|href)="(?!data:|#)[^"]*"|@import|url\((?!data:)', without_links):
        raise SlidesError(f"The slides would need a network or another file: {asked[0]}")
    if len(whole) > MOST_MB * 1e6:
        raise SlidesError(f"The slides have {len(whole) / 1e6:.0f} MB, more than {MOST_MB}; show smaller pictures.")
    return whole


def browser(named: str = "") -> str:
    """The path of a browser that prints without a screen. Raises SlidesError where there is none."""
    for name in [named] if named else BROWSERS:
        if path := shutil.which(name):
            return path
    raise SlidesError("No PDF was made, for there is no " + (named or "Chromium or Chrome") + " here; install one, "
                      "name yours by --browser, or print the HTML from any browser.")


def print_pdf(html: Path, pdf: Path, named: str = "") -> None:
    """Print a page of slides by a browser without a screen. Raises SlidesError."""
    pdf.unlink(missing_ok=True)
    as_root = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # Chromium refuses root otherwise
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        try:
            ran = subprocess.run([browser(named), "--headless", "--disable-gpu", "--no-first-run", *as_root,
                                  "--disable-background-networking", "--disable-component-update", "--disable-sync",
                                  f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={pdf}",
                                  html.absolute().as_uri()], capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise SlidesError(f"No PDF was made: the browser took more than {PATIENCE} seconds. Try again, or print "
                              "the HTML from any browser.") from error
    if not pdf.is_file():
        raise SlidesError(f"No PDF was made; the browser said: {ran.stderr.strip()[-300:]}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the lecture as slides: one HTML file and a PDF.")
    parser.add_argument("--notebook", type=Path, default=HERE / "lecture.ipynb")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "figures" / "run", help="folder to write to")
    parser.add_argument("--browser", default="", help="browser that prints the PDF (default: Chromium or Chrome)")
    given = parser.parse_args(arguments)
    try:
        whole = page(nbformat.read(given.notebook, as_version=4), given.notebook.parent)
    except (OSError, SlidesError) as error:
        sys.exit(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    html = given.out / f"{given.notebook.stem}.html"
    html.write_text(whole)
    print(f"{html}: {whole.count('<section>')} slides, {len(whole) / 1e6:.1f} MB. "
          "Arrows turn them, n shows the notes, s opens them in a window.")
    try:
        print_pdf(html, html.with_suffix(".pdf"), given.browser)
        print(html.with_suffix(".pdf"))
    except SlidesError as error:
        print(error)


if __name__ == "__main__":
    main()
