"""The report that ends a run: which claims hold in it, its numbers beside the published run's, and the paper's tables.

It reads what the notebooks kept beside their figures, and measures nothing itself.
"""
from __future__ import annotations

import base64
import html
import json
import os
import platform
import re
import subprocess
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import mistune
import numpy as np
import torch

from paperlib.datasets import files
from paperlib.measures import TABLE1, TABLE2
from paperlib.networks.architectures import in_words
from paperlib.networks.training import RECIPES, device
from paperlib.runs import claims, published, quantities
from paperlib.runs.tables import write_tables

TABLES = {"table1": ("Table 1: average cosines", ("class", "out"), TABLE1),
          "table2": ("Table 2: accuracies in percent", ("train", "test"), TABLE2)}
# A difference up to this is within tolerance, in cosines and in points; twice our mean's standard error adds to it.
TOLERANCE = {"table1": 0.05, "table2": 1.0}
# What the paper used: classes, training and test pictures, pixels, prototypes per class (KMEx in Table 2: five on all).
PUBLISHED = {"mnist": (10, 60_000, 10_000, 32, 5), "stl10": (10, 5_000, 8_000, 96, 5),
             "cub200": (200, 5_994, 5_794, 224, 10)}
KMEX_K, RESTARTS = 5, 10
FIGURES = {
    "figure1": "Figure 1 of the paper explains a picture of a red-bellied woodpecker by B4 and B234: the concept map, "
               "the training patches nearest to the prototypes, framed in the map's colours, and the attribution in "
               "red (higher) and blue (lower).",
    "figure2": "Figure 2 of the paper is a UMAP of CUB-200's sparrows: the classifier's columns, raw (crosses) and "
               "rescaled (triangles), \"are dispersed and rarely near their respective class\"; KMEx's prototypes "
               "(squares) \"lie within their respective clusters\"."}


APART = "not comparable: "


@dataclass(frozen=True)
class Run:
    """A run's claims as judged, its numbers beside those of the published run, whose claims are `before`, and the
    notebooks that failed, of which it holds nothing."""

    judged: list[claims.Judged]
    before: list[claims.Judged]
    compared: published.Comparison
    failed: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, networks: Collection[str] = (), notebooks: Collection[str] | None = None,
             failed: Collection[str] = (), files: Collection[str] | None = None) -> Run:
        """The run whose .json files lie in `folder`: of `networks` (checkpoints), `notebooks` (numbers) and `files`
        (names), or all."""
        ledger = [claim for claim in claims.read() if notebooks is None or claim.notebook in notebooks]
        found, before = quantities.records(folder, networks), published.published()
        found = {name: record for name, record in found.items() if (files is None or name in files)
                 and (notebooks is None or record.get("notebook", "")[:2] in notebooks)}
        return cls(claims.judge(ledger, found), claims.judge(ledger, before), published.compare(found, before),
                   tuple(failed))

    def unlike(self) -> list[str]:
        """What is not as in the published run: failures, verdicts, numbers, versions, settings; a line each."""
        return [f"{name} failed; nothing here is of it." for name in self.failed] + [
                f"Other verdict than in the published run: {each.verdict}: {each.claim.says} ({each.dataset})."
                for each in claims.changed(self.judged, self.before)] + self.compared.lines()


@dataclass(frozen=True)
class Cell:
    """One number of a table: published (or None), ours over n runs, and what to make of the two."""

    table: str
    dataset: str
    row: str
    column: str
    published: float | None
    mean: float
    sd: float
    n: int
    difference: float | None
    verdict: str


def conditions(settings: dict) -> list[str]:
    """Reasons why no number of a run can be compared with the paper's: how its data and its network differ."""
    name = settings["dataset"]
    if name not in PUBLISHED:
        return ["not one of the paper's data sets"]
    classes, train, test, size, _ = PUBLISHED[name]
    pictures = settings["train"], settings["test"]
    differs = {
        f"{settings['classes']} of {classes} classes": settings["classes"] != classes,
        f"{pictures[0]} + {pictures[1]} pictures, not {train} + {test}":
            settings["classes"] == classes and pictures != (train, test),
        f"{in_words(settings['backbone'])}, not ResNet34": settings["backbone"] != "resnet34",
        "not from torchvision's ImageNet weights": settings["weights"] != "imagenet",
        f"normalisation {settings['normalisation']}, not imagenet": settings["normalisation"] != "imagenet",
        f"{settings['size']} px, not {size}": settings["size"] != size,
        f"{settings['epochs']} epochs, not {RECIPES[name].epochs}": settings["epochs"] != RECIPES[name].epochs}
    return [reason for reason, holds in differs.items() if holds]


def row_conditions(which: str, row: str, settings: dict) -> list[str]:
    """Reasons of one row's own: its prototypes per class, restarts of k-means and epochs of ProtoPNet."""
    if settings["dataset"] not in PUBLISHED:
        return []
    named, explainer = re.search(r"K/C=(\d+)", row), re.fullmatch(r"B\d+", row)
    k, paper_k = settings["prototypes_per_class"], PUBLISHED[settings["dataset"]][-1]
    if named:  # Table 1 has a row for each K/C that it compares; Table 2 has one KMEx
        k, paper_k = int(named[1]), KMEX_K if which == "table2" else int(named[1])
    differs = {
        f"K/C = {k}, not {paper_k}": k != paper_k and row not in ("CNN", "Soft-CAM"),
        f"n_init = {settings['n_init']}, not {RESTARTS}": explainer and settings["n_init"] != RESTARTS,
        f"{settings['protopnet_epochs']} epochs of ProtoPNet": row == "ProtoPNet" and settings["protopnet_epochs"]}
    return [reason for reason, holds in differs.items() if holds]


def cells(which: str, record: dict) -> list[Cell]:
    """The cells of one table ("table1" or "table2") for one data set, from the .json that its notebook kept."""
    settings, runs, found = record["settings"], record["numbers"]["runs"], []
    _, columns, published = TABLES[which]
    for row in runs[0]:
        reasons = conditions(settings) + row_conditions(which, row, settings)
        # Table 2 has one row for KMEx, called so.
        name = "KMEx" if which == "table2" and row.startswith("KMEx") else row
        theirs = published.get(name, {}).get(settings["dataset"])
        for i, column in enumerate(columns):
            ours = np.array([run[row][column if isinstance(run[row], dict) else i] for run in runs], dtype=float)
            mean, sd = float(ours.mean()), float(ours.std(ddof=1)) if len(ours) > 1 else 0.0
            known = None if theirs is None else theirs[i]
            gap = None if known is None else mean - known
            found.append(Cell(which, settings["title"], row, column, known, mean, sd, len(ours), gap,
                              verdict(which, gap, sd, len(ours), reasons)))
    return found


def verdict(which: str, difference: float | None, sd: float, n: int, reasons: list[str]) -> str:
    """"within tolerance", "off", or "not comparable: why"."""
    if difference is None and not reasons:
        reasons = ["the paper has no such row"]
    if reasons:
        return APART + "; ".join(reasons)
    return "within tolerance" if abs(difference) <= TOLERANCE[which] + 2 * sd / n**0.5 else "off"


def collect(folder: Path, checkpoints: dict[str, str]) -> tuple[list[Cell], list[str]]:
    """All cells of the data sets `checkpoints` (name -> the first run's checkpoint), and what is missing, in words.

    A .json that another checkpoint's run left in `folder` is not taken for this run's.
    """
    found, missing = [], []
    for which, (title, _, _) in TABLES.items():
        for dataset, checkpoint in checkpoints.items():
            path = Path(folder) / f"{which}_{dataset}.json"
            record = json.loads(path.read_text()) if path.is_file() else {}
            if record.get("settings", {}).get("checkpoint") == checkpoint and "runs" in record["numbers"]:
                found += cells(which, record)
            else:
                missing.append(f"{title.split(':')[0]} was not run for {dataset} with these settings.")
    return found, missing


def machine() -> dict[str, str]:
    """Processor, system and accelerator that the numbers were computed on, in words."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    found = {"processor": model.group(1) if model else platform.processor() or platform.machine(),
             "processors": str(os.cpu_count()), "system": f"{platform.system()} {platform.machine()}"}
    if device().type == "cuda":
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def commit() -> str:
    """The commit that was run, and whether files had changed since; "unknown" outside a git repository."""
    def git(*words):
        done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=files.REPOSITORY)
        if done.returncode:
            raise OSError
        return done.stdout.strip()
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "paperlib", "notebooks/*.py")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except OSError:
        return "unknown"


def number(value: float | None, which: str, sign: str = "") -> str:
    """Two digits for cosines, one for percents, as the paper prints them, and no -0.0."""
    digits = 2 if which == "table1" else 1
    return "" if value is None else f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def table(which: str, found: list[Cell]) -> list[str]:
    """The Markdown of one table: a row for each number that can be compared, a line for the others of each reason."""
    lines, left = ["| data | row | | published | ours | sd | n | difference | verdict |",
                   "|" + "---|" * 3 + "--:|" * 5 + "---|"], {}
    for cell in found:
        if cell.verdict.startswith(APART):
            left.setdefault(cell.verdict.removeprefix(APART), []).append(cell)
            continue
        sd = number(cell.sd, which) if cell.n > 1 else ""
        lines.append(f"| {cell.dataset} | {cell.row} | {cell.column} | {number(cell.published, which)} | "
                     f"{number(cell.mean, which)} | {sd} | {cell.n} | {number(cell.difference, which, '+')} | "
                     f"{cell.verdict} |")
    rows = lines if len(lines) > 2 else []
    return [*rows, "", *(f"Not compared with the paper: {len(cells)} numbers "
                         f"({', '.join(dict.fromkeys(cell.dataset for cell in cells))}): {reason}.\n"
                         for reason, cells in left.items())]


def ledger(run: Run, folder: Path) -> list[str]:
    """The report's first page as Markdown: the claims, and this run's numbers beside the published run's."""
    lines = [f"# {claims.summary(run.judged)}", ""]
    lines += ["| notebook | claim | holds if | here | holds? | why not |", "|---|---|---|---|---|---|"]
    for each in run.judged:
        page = next((Path(folder) / "executed").rglob(f"{each.claim.notebook}_*.html"), None)
        link = f"[{each.claim.notebook}]({page.relative_to(folder).as_posix()})" if page else each.claim.notebook
        words = [each.claim.cited, each.claim.when, each.here, each.verdict, each.why]
        lines.append(f"| {link} | " + " | ".join(word.replace("|", "\\|") for word in words) + " |")
    lines += ["", f"# {run.compared.summary()}", "", f"Tolerances: {published.tolerances()}.", ""]
    return [*lines, *(f"- {line}" for line in run.unlike()), ""]


def markdown(found: list[Cell], missing: list[str], folder: Path, facts: dict, seconds: dict[str, float],
             run: Run) -> str:
    """The report as Markdown, its figures and notebooks linked."""
    judged = [cell for cell in found if not cell.verdict.startswith(APART)]
    close = sum(cell.verdict == "within tolerance" for cell in judged)
    said = (f"Of {len(judged)} numbers that can be compared with the paper's, {close} are within tolerance." if judged
            else "No number of this run can be compared with the paper's: the tables say why.")
    lines = [*ledger(run, folder), "# The paper's tables and ours", "",
             f"{said} The tables of all that this folder holds are in [README.md](README.md).", "",
             f"*Within tolerance*: the difference is at most {TOLERANCE['table1']} for a cosine or "
             f"{TOLERANCE['table2']:.0f} point for an accuracy, plus twice the standard error of our mean. *sd* is "
             "over n runs, each trained from its own seed.", ""]
    for which, (title, _, _) in TABLES.items():
        mine = [cell for cell in found if cell.table == which]
        lines += [f"## {title}", "", *(table(which, mine) if mine else ["Not run."]), ""]
    lines += [*missing, ""] if missing else []
    for name, words in FIGURES.items():
        pictures = [Path(folder) / f"{name}_{dataset}.png" for dataset in facts["data sets"]]
        pictures = [f"![{p.stem}]({p.name})\n" for p in pictures if p.is_file()]
        lines += [f"## Figure {name[-1]}", "", words, "", *pictures] if pictures else []
    lines += ["## What it was run on", "", "| | |", "|---|---|"]
    flat = {key: value for key, value in facts.items() if key != "data sets"}
    lines += [f"| {key} | {value} |" for key, value in flat.items()]
    lines += [f"| {name} | {value:.0f} s |" for name, value in seconds.items()]
    return "\n".join(lines) + "\n"


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto}
td,th{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:left}
td{font-variant-numeric:tabular-nums;vertical-align:top}img{max-width:100%}"""


def page(text: str, folder: Path) -> str:
    """The Markdown report as one HTML page that holds its pictures and needs no other file."""
    body = mistune.create_markdown(plugins=["table"])(text)

    def embedded(match):
        path = Path(folder) / html.unescape(match.group(1))
        return f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"'
    body = re.sub(r'src="([^":]+\.png)"', embedded, body)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>What holds here</title>'
            f"<style>{STYLE}</style></head><body>\n{body}</body></html>\n")


def write(folder: Path, checkpoints: dict[str, str], seconds: dict[str, float], run: Run | None = None) -> Path:
    """Write report.md, report.html and report.json into `folder`, and its tables' README.md; returns the first.

    checkpoints: the first run's, by data set, of those that Tables 1 and 2 were made for.
    """
    (found, missing), run = collect(folder, checkpoints), run or Run.read(folder)
    facts = {"data sets": list(checkpoints), "commit": commit(), **machine(), **files.versions()}
    text = markdown(found, missing, folder, facts, seconds, run)
    record = {"claims": [{"id": each.claim.id, "on": each.dataset, "verdict": each.verdict, "here": each.here}
                         for each in run.judged],
              "unlike the published run": run.unlike(), "cells": [asdict(cell) for cell in found],
              "missing": missing, **facts, "seconds": seconds}
    for suffix, content in {".json": json.dumps(record, indent=1) + "\n", ".html": page(text, folder),
                            ".md": text}.items():
        with files.written_whole(Path(folder) / f"report{suffix}") as temporary:
            temporary.write_text(content)
    write_tables(folder)
    return Path(folder) / "report.md"
