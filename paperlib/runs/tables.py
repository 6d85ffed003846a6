"""The long tables beside the figures: a folder's README.md, written from the .json files that its notebooks kept."""
from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from paperlib.datasets import files
from paperlib.measures import TABLE1, TABLE2, over_runs
from paperlib.networks.architectures import in_words
from paperlib.runs import claims, quantities

Records = list[tuple[str, dict]]  # the file's name, and {"numbers", "settings", ...}
# What `make notebooks` does not measure, kept from runs on other data or with other profiles: {"how", "records"}.
COLLECTIONS = ("real_data.json",)
PAPER = {"mnist": "MNIST", "stl10": "STL10", "cub200": "CUB-200"}
HEAD = """# The numbers behind the figures

A run writes this page from the `.json` files beside it. Each table names its own, which also holds the settings and the
versions behind its numbers."""
# Title, name of the .json files, pointer into their numbers, how to read the table.
SECTIONS = (
    ("Table 2: test accuracy in percent (notebook 04)", "table2", "table2", """
Mean ± standard deviation over networks, each trained from its own seed; variants of B234 are of the first. Labels are
not matched before counting."""),
    ("Table 1: mean cosine with embeddings of the own class / of all others (notebook 02)", "table1", "table1", """
Each prototype, or column of the classifier, with every training embedding."""),
    ("Theorem 1 (notebook 01)", "theorem1", "eq. 4", """
The largest difference between pooling before and after the classifier, absolute and relative to the largest logit."""),
    ("Figure 2 (notebook 03)", "figure2_nearness", "", """
Share of prototypes whose nearest training embedding is of their own class, and their distance to it, in units of the
distance between neighbours of that class. Crosses and triangles are the classifier's columns, raw and rescaled; squares
are KMEx's prototypes."""),
    ("The factor of eq. 8 (notebook 06)", "choices", "board/block weight (eq. 8)", """
B234 with another weight of its blocks, fitted on some of the training pictures."""),
    ("Attribution, measured (notebook 07)", "attribution_contest", "scores", """
*Pointing*: is the highest pixel on the object, and on the parts that tell the predicted class from the runner-up?
*Mass*: the share of the map, or of the map above its mean, that lies on them. *Deletion* (low is good) and *insertion*
(high is good): areas under the probability as pieces are blurred or brought back, highest first. Edges and centre look
at no network or no picture: they are the floor. Grad-CAM at the last block is the positive part of eq. 11, so it scores
as B4 does."""),
    ("What the maps cost (notebook 07)", "attribution_contest", "cost", """
In forward passes of the same batch; the paper's maps come with their concept map."""),
    ("Concepts and parts (notebook 07)", "concepts_and_parts", "means", """
How well concept maps fit the parts of a bird: adjusted Rand index (ARI), purity, and the best overlap (IoU). The floor,
*colours*, is k-means on the colours of each picture by itself."""),
    ("Soft-CAM (notebook 08)", "softcam", "rows", """
The evidence layer as taken over, and after an epoch with a penalty. The penalty is chosen from these numbers: they are
of validation pictures, a fifth of the training pictures, and of a network trained on the others."""),
    ("Boxes from maps (notebook 09)", "saliency", "boxes", """
Overlap (IoU) of a map's box with the bird's, and the share of pictures where it is a half or more."""),
    ("A planted shortcut: accuracy (notebook 10)", "shortcut", "accuracy", """
Networks that learn species by their background, beside honest ones: means over the networks of each kind."""),
    ("A planted shortcut: concepts (notebook 10)", "shortcut", "votes", """
Share of a map's cells that vote for a species of the picture's background."""))


ASIDE = ("runs", "crowding")  # what stands beside the rows in Figure 2's numbers: network by network, on the map


def write_tables(folder: Path | str) -> Path:
    """Write `folder`/README.md, the tables of the numbers that `folder` holds; returns its path."""
    folder = Path(folder)
    with files.written_whole(folder / "README.md") as temporary:
        temporary.write_text(text(folder))
    return folder / "README.md"


def text(folder: Path) -> str:
    """The page as Markdown: the claims, then the tables; a section whose numbers are not in `folder` is left out."""
    lines, told = [HEAD, "", *ledger(claims.judge(claims.read(), quantities.records(folder)))], {}
    for title, stem, pointer, words in SECTIONS:
        found = records(folder, stem, pointer)
        lines += [f"## {title}\n{words}", ""] if found else []
        for rows, of in tables(stem, pointer, found):
            lines += [*grid(rows), *(source(name, record, told) for name, record in of)]
            lines += [*intervals(rows, of[0][1]["numbers"]), ""]
    once = [f"- `{name}`: {json.loads((folder / name).read_text())['how']}" for name in COLLECTIONS
            if (folder / name).is_file()]
    return "\n".join(lines + (["## Measured once", "", *once] if once else [])).rstrip() + "\n"


def ledger(judged: Iterable[claims.Judged]) -> list[str]:
    """The claims that were measured, as Markdown: their words, what was found, whether they hold, and why not."""
    measured = [each for each in judged if each.verdict != claims.UNMEASURED]
    rows = [[each.claim.notebook, each.claim.cited, each.here, each.verdict, each.why] for each in measured]
    lines = ["| " + " | ".join(word.replace("|", "\\|") for word in row) + " |"
             for row in (["", "claim", "here", "holds?", "why not"], ["---"] * 5, *rows)]
    return ["## Claims", "", f"{claims.summary(measured)}.", "", *lines, ""] if measured else []


def tables(stem: str, pointer: str, found: Records) -> list[tuple[dict, Records]]:
    """(rows, their records) of each table: one for all data sets where a row or column can hold one, else one each."""
    if stem in ("table1", "table2"):
        return [({"table1": table1, "table2": table2}[stem](found), found)] if found else []
    rows = [at(record, pointer) for _, record in found]
    if rows and not any(isinstance(x, dict) for values in rows for x in values.values()):
        titles = [record["settings"]["title"] for _, record in found]
        return [(dict(zip(titles, rows, strict=True)), found)]
    return [(values, [one]) for values, one in zip(rows, found, strict=True)]


def records(folder: Path, stem: str, pointer: str) -> Records:
    """The records of all data sets that were kept as `stem` and hold `pointer`; those of COLLECTIONS come last."""
    found = []
    for path in sorted(folder.glob(f"{stem}_*.json")):
        record = json.loads(path.read_text())
        if path.stem == f"{stem}_{record.get('settings', {}).get('dataset')}":
            found.append((path.name, record))
    for name in COLLECTIONS:
        kept = json.loads((folder / name).read_text())["records"] if (folder / name).is_file() else {}
        found += [(name, record) for key, record in kept.items() if key.rpartition("_")[0] == stem]
    return [(name, record) for name, record in found if at(record, pointer)]


def at(record: dict, pointer: str) -> dict | None:
    """The rows at a pointer such as "board/seed" in the record's numbers; None where there are none."""
    rows = {row: values for row, values in record["numbers"].items() if row not in ASIDE}
    for key in pointer.split("/") if pointer else ():
        rows = rows.get(key) if isinstance(rows, dict) else None
    return rows if isinstance(rows, dict) else None


def table2(found: Records) -> dict[str, dict[str, str]]:
    """row -> data set -> test accuracy, the paper's own beside each of its data sets."""
    rows = {}
    for _, record in found:
        numbers, title, dataset = record["numbers"], record["settings"]["title"], record["settings"]["dataset"]
        runs = [{row: [x["test"]] for row, x in run.items()} for run in numbers.get("runs", [numbers["table2"]])]
        for row, (mean, sd) in over_runs(runs).items():
            rows.setdefault(row, {})[title] = f"{mean[0]:.1f}" + (f" ± {sd[0]:.1f}" if len(runs) > 1 else "")
            theirs = TABLE2.get("KMEx" if row == "KMEx (K/C=5)" else row, {}).get(dataset)
            if dataset in PAPER:
                rows[row][f"*{PAPER[dataset]}, the paper*"] = f"{theirs[1]:.1f}" if theirs else ""
        for row, value in numbers.get("variants", {}).items():
            rows.setdefault(row, {})[title] = f"{value:.1f}"
    return rows


def table1(found: Records) -> dict[str, dict[str, str]]:
    """row -> data set -> "class / out", the paper's own beside each of its data sets."""
    rows = {}
    for _, record in found:
        title, dataset = record["settings"]["title"], record["settings"]["dataset"]
        for row, (own, out) in record["numbers"]["table1"].items():
            rows.setdefault(row, {})[title] = f"{own:.2f} / {out:.2f}".replace("-0.00", "0.00")
            if dataset in PAPER and row in TABLE1:
                own, out = TABLE1[row][dataset]
                rows[row][f"*{PAPER[dataset]}, the paper*"] = f"{own:.2f} / {out:.2f}"
    return rows


def grid(rows: dict[str, dict]) -> list[str]:
    """Markdown lines of a table: row -> column -> what stands there. A column that a row lacks stays empty."""
    rows = {name: flat(values) for name, values in rows.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1),
             *([name, *(row.get(column, "") for column in columns)] for name, row in rows.items())]
    return ["| " + " | ".join(number(x).replace("|", "\\|") for x in line) + " |" for line in lines] + [""]


def flat(values, name: str = "") -> dict[str, object]:
    """A row as column -> number: nested columns joined by commas, and of [mean, low, high] the mean."""
    if isinstance(values, dict):
        parts = [flat(x, f"{name}, {key}" if name else key) for key, x in values.items()]
        return {key: x for part in parts for key, x in part.items()}
    return {name or "value": values[0] if isinstance(values, list) else values}


def intervals(rows: dict, numbers: dict) -> list[str]:
    """How wide the 95 % intervals [mean, low, high] of a table are at most, as a Markdown item; none without any."""
    wide = widest(rows)
    over = f" over {numbers['pictures']} pictures" if isinstance(numbers.get("pictures"), int) else ""
    return [f"- 95 % intervals{over}: at most {wide:.2f} to either side."] if wide else []


def widest(values) -> float:
    """The largest distance of a bound of [mean, low, high] from its mean, anywhere in `values`; 0 without any."""
    if isinstance(values, dict):
        return max(map(widest, values.values()), default=0.0)
    return max(values[2] - values[0], values[0] - values[1]) if isinstance(values, list) and len(values) == 3 else 0.0


def number(x) -> str:
    """Three digits or so, as a reader wants them; text as it is."""
    if not isinstance(x, float):
        return str(x)
    digits = 0 if abs(x) >= 100 else 1 if abs(x) >= 10 else 2
    return "0" if x == 0 else f"{x:.0e}" if abs(x) < 1e-4 else f"{x:.{digits}f}"


def source(name: str, record: dict, told: dict) -> str:
    """A Markdown item: a table's file, its data set, and its conditions unless `told` (title -> conditions) has them.

    Notes in `told` what it says.
    """
    title = record["settings"]["title"]
    words = record.get("conditions") or conditions(record["settings"])
    known, told[title] = told.get(title), words
    return f"- `{name}`: {title}" + ("." if known == words else f"; {words}.")


def conditions(settings: dict) -> str:
    """The settings that a reader of a number needs, in words."""
    many = f"{settings['n_init']} start{'s' * (settings['n_init'] != 1)} of k-means on the cells"
    start = "random weights" if settings["weights"] == "none" else f"{settings['weights']} weights"
    epochs = f"{settings['epochs']} epoch{'s' * (settings['epochs'] != 1)}"
    return (f"{settings['classes']} classes, {settings['train']} + {settings['test']} pictures, {settings['size']} px, "
            f"{in_words(settings['backbone'])} from {start}, {epochs}, "
            f"{settings['prototypes_per_class']} prototypes per class, {many}")
