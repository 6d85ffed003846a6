"""The page of a benchmark's numbers: bench.json with its conditions, and bench.md, written from it."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

from paperlib.datasets import files
from paperlib.runs import report
from paperlib.runs.tables import grid

from . import clustering, explaining, memory, others

HEAD = """# What it costs

`make bench` measures this and writes this page; [bench.json](bench.json) holds the numbers with their quartiles. All is
of one run on one machine: {machine}, {threads} for the network and for explaining, unless a table says otherwise;
{versions}; {seconds:.0f} s."""
SECTIONS = {
    "machine": ("The machine", """
What a copy and a matrix product of 2,048 x 2,048 reach."""),
    "explain": ("Explaining, in forward passes", """
ResNet34, 224 px, its own pass included: 1.10 means that the explanation adds a tenth of the pass. *Features alone* is
the pass that keeps the blocks' outputs, which the network's own pass need not. *B4* and *B234* are the prediction,
the concept map among all K prototypes, and the attribution with the maps that it needs on its way upstream. *Within the
class*: the map among the predicted class's prototypes, and the attribution, without the vote. Each class has ten
prototypes, as in the paper. *Of it*: what steps of the last B234 take by themselves, in passes; the products of rows
and prototypes are a tenth of the multiplications of the pass, and no explanation that compares every row with every
prototype does without them. Medians and quartiles over rounds in which the pass and all explanations take turns."""),
    "fit": ("Clustering: ten restarts", """
Rows of eq. 8 of {pictures} drawn birds of one species (B234 of a ResNet34: {pictures} x 784 rows, 896 wide), into
{clusters} clusters. Ours has one thread, scikit-learn and faiss one or all, whichever suits them; medians over seeds,
in turns. faiss starts from random rows and makes as many iterations as our best restart. *All distances at once* holds
the differences of all rows and centres in one array, as published code often does: one start was timed, and its seconds
taken tenfold. Inertia is against scikit-learn's."""),
    "limits": ("How near to the machine's limits", """
Rows a second, and the share that they would take of the bandwidth, were each read once from memory, and of the
arithmetic, were each distance worked out in full width. Explaining is B234 with the most prototypes, batch 16; above
100 % it does less than that arithmetic. Clustering counts a row each time that scikit-learn's best start would visit
it, times ten starts."""),
    "others": ("Other explanations, in forward passes", """
One picture, ResNet34, one thread; the network's own pass included. Ours with 200 prototypes. Integrated gradients with
{steps} points, RISE with {masks} masks (its authors use thousands)."""),
    "memory": ("Peak memory, MiB", """
Fitting B234 of a ResNet18 on {per_class} pictures of {size} px of each class; what fit and maps add to the peak."""),
    "imports": ("Importing, seconds", """
In a new process; medians."""),
    "jobs": ("A run by its jobs, seconds", """
From the report of the run that lay in figures/run/."""),
}
WORDS = {"pictures": clustering.PICTURES, "clusters": clustering.PER_CLASS, "per_class": memory.PER_CLASS,
         "size": memory.SIZE, "steps": others.methods.IG_STEPS, "masks": others.methods.RISE_MASKS}


def keep(numbers: Mapping, threads: int, seconds: float, out: Path) -> Path:
    """Write bench.json, the numbers with their conditions, and bench.md into `out`; returns the latter's path."""
    settings = {"threads": threads, "seconds": round(seconds), **report.machine(), "commit": report.commit()}
    record = {"numbers": {**numbers, **limits(numbers)}, "settings": settings, "versions": files.versions()}
    for name, content in {"bench.json": json.dumps(record, indent=1) + "\n", "bench.md": text(record)}.items():
        with files.written_whole(Path(out) / name) as temporary:
            temporary.write_text(content)
    return Path(out) / "bench.md"


def jobs(path: Path) -> dict[str, float]:
    """Seconds of each job of the run whose report.json lies at `path`, the longest first; none where there is none."""
    seconds = json.loads(path.read_text())["seconds"] if path.is_file() else {}
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def limits(numbers: Mapping) -> dict[str, dict]:
    """{"limits": name -> rows a second, their shares of bandwidth and arithmetic}, as far as it was measured."""
    found = {}
    if "machine" in numbers and "explain" in numbers:
        K, D, each = max(explaining.PROTOTYPES), 896, numbers["explain"]["fp32, batch 16"]
        rows = 16 * (explaining.SIZE // 8) ** 2 / each["explanation, seconds"][f"B234, K = {K}"]
        found["explaining"] = shares(rows, D, K, numbers["machine"]["one thread"])
    if "machine" in numbers and "fit" in numbers:
        found |= {f"clustering, {name}": shares(row["rows a second"], 896, clustering.PER_CLASS,
                                                numbers["machine"]["all threads"])
                  for name, row in numbers["fit"].items()}
    return {"limits": found} if found else {}


def shares(rows: float, D: int, k: int, machine: Mapping) -> dict[str, float]:
    """Of `rows` rows a second, D wide, each compared with k centres: 4 D bytes and 2 D k operations each."""
    return {"rows a second": rows, "of the bandwidth": rows * 4 * D / machine["bytes a second"],
            "of the arithmetic": rows * 2 * D * k / machine["float32 operations a second"]}


def text(record: Mapping) -> str:
    """The page as Markdown, of the parts that were measured."""
    numbers, settings = record["numbers"], record["settings"]
    machine = ", ".join(settings[key] for key in ("processor", "system", "accelerator") if key in settings)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    threads = "one thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    words = {"machine": f"{machine}, {settings['processors']} processors", "threads": threads, "versions": versions}
    lines = [*_filled(HEAD.format(**words, seconds=settings["seconds"])), ""]
    for name, (title, told) in SECTIONS.items():
        if numbers.get(name):
            lines += [f"## {title}", "", *_filled(told.format(**WORDS)), "", *grid(TABLES[name](numbers[name]))]
    return "\n".join(lines).rstrip() + "\n"


def _filled(told: str) -> list[str]:
    """Paragraphs, their lines filled up to 120 letters."""
    return "\n\n".join(fill(" ".join(part.split()), 120) for part in told.strip().split("\n\n")).splitlines()


def _machine(found):
    return {threads: {"GB a second": f"{row['bytes a second'] / 1e9:.1f}",
                      **{f"{kind}, billion operations a second": f"{row[f'{kind} operations a second'] / 1e9:.0f}"
                         for kind in ("float32", "bfloat16")}} for threads, row in found.items()}


def _explain(found):
    """A row per explanation, a column per precision and batch."""
    names = list(next(iter(found.values()))["ratios"])
    rows = {"forward pass, ms": {run: f"{1e3 * each['forward, seconds'][0]:.0f}" for run, each in found.items()}}
    return rows | {name: {run: _spread(each["ratios"][name]) for run, each in found.items()} for name in names}


def _spread(values):
    median, low, high = values
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _fit(found):
    return {name: {"seconds": f"{row['seconds']:.1f}", "times ours": f"{row['times ours']:.1f}",
                   "inertia": "" if row["inertia, %"] is None else f"{row['inertia, %']:+.3f} %"}
            for name, row in found.items()}


def _limits(found):
    forms = {"rows a second": "{:,.0f}", "of the bandwidth": "{:.0%}", "of the arithmetic": "{:.0%}"}
    return {name: {key: form.format(row[key]) for key, form in forms.items()} for name, row in found.items()}


def _column(name, form):
    return lambda found: {row: {name: form.format(value)} for row, value in found.items()}


TABLES = {"machine": _machine, "explain": _explain, "fit": _fit, "limits": _limits,
          "others": _column("forward passes", "{:.2f}"),
          "memory": lambda found: {row: {name: f"{x:.0f}" for name, x in each.items()} for row, each in found.items()},
          "imports": _column("seconds", "{:.2f}"), "jobs": _column("seconds", "{:.0f}")}
