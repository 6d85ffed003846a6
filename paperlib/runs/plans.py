"""What a run of the command comes to: its notebooks, their studies, the jobs that are left, and the report at its end.

Only the processes that plan and report import what studies take: see `kernels.aside`.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from paperlib.runs import notebooks, parameters
from paperlib.runs.notebooks import Result
from paperlib.runs.parameters import UsageError
from paperlib.runs.summary import ledger

MOST_RUNS = 1000
# About how long notebooks take that take long, so that none of them is begun last; others take 20 seconds.
SECONDS = {"00": 10.0, "02": 15.0, "03": 15.0, "05": 40.0, "06": 140.0, "07": 50.0, "08": 80.0, "09": 95.0,
           "10": 165.0, "11": 110.0}
PREDICTED = "04"  # the notebook whose classes and networks the table of predictions shows


@dataclass
class Plan:
    """A notebook that was asked for: its text, its parameters, the studies and runs that it shows, its fingerprint.

    executed: the folder of its executed copy; those of beyond/ lie in a beyond/ there, so that links hold.
    """

    name: str
    text: str
    given: dict
    studies: list
    runs: list
    executed: Path
    mark: str = ""


@dataclass
class Asked:
    """What a run comes to: what it lacks, its notebooks and those that finished before, its jobs, how many at a time.

    report: a function of the seconds of each and the names of those that failed, which writes the report; gives its
    words.
    """

    lacks: list[str]
    names: list[str]
    kept: dict[str, Result]
    graph: dict
    at_a_time: int
    report: Callable[[dict, list[str]], str]


def asked(shares: dict[Path, dict], folder: Path, out: Path, again: bool, n_jobs: int) -> Asked:
    """What was asked for, and what is left to do of it. Raises UsageError."""
    from paperlib.runs import jobs, kernels

    plans, at_a_time = _plans(shares, folder, out), jobs.how_many(n_jobs)
    studies = list(dict.fromkeys(study for plan in plans for study in plan.studies))
    lacks = list(dict.fromkeys(sentence for study in studies for sentence in study.problems()))
    kept = {} if lacks else _kept(plans, again)
    todo = [] if lacks else [plan for plan in plans if plan.name not in kept]
    graph = jobs.graph([*map(_job, todo), *_predictions(todo, out)])
    graph = {name: replace(job, work=kernels.Packed.of(job.work)) for name, job in graph.items()}
    report = kernels.Packed.of(partial(_report, plans, out))
    return Asked(lacks, [plan.name for plan in plans], kept, graph, at_a_time, report)


def _plans(shares: dict[Path, dict], folder: Path, out: Path) -> list[Plan]:
    """What was asked for, and the studies that it comes to: nothing is computed yet. Raises UsageError."""
    known: dict = {}
    try:
        return [_plan(path, {**share, "out": str(out)}, out / "executed" / path.parent.relative_to(folder), known)
                for path, share in shares.items()]
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(" ".join(str(error).split())) from error


def _plan(path: Path, share: dict, executed: Path, known: dict) -> Plan:
    """One notebook's plan. known: studies that other notebooks show too, which are taken rather than made again."""
    from paperlib.runs.study import n_runs, open_studies

    text, studies, runs = path.read_text(), [], []
    takes = parameters.declared(text)
    given, whole = {key: value for key, value in share.items() if key in takes}, {**takes, **share}
    if "dataset" in takes:
        studies, n = [known.setdefault(study, study) for study in open_studies(whole)], n_runs(whole)
        if n > MOST_RUNS:
            raise UsageError(f"runs is {n}; give at most {MOST_RUNS}.")
        runs = [known.setdefault(run, run) for study in studies for run in study.runs(n)]
    return Plan(path.stem, text, given, studies, runs, executed)


def _kept(plans: Iterable[Plan], again: bool) -> dict[str, Result]:
    """The notebooks that finished before with the same fingerprint; `again`: none. Each plan is given its own."""
    from paperlib.runs.settings import resolved

    for plan in plans:
        values = resolved({**parameters.declared(plan.text), **plan.given}) if plan.studies else {}
        plan.mark = notebooks.fingerprint(plan.text, plan.given, values,
                                          [study.data.fingerprint for study in plan.studies], plan.executed)
        if again:
            (plan.executed / f"{plan.name}.json").unlink(missing_ok=True)
    found = {plan.name: notebooks.finished(plan.name, plan.mark, plan.executed) for plan in plans}
    return {name: result for name, result in found.items() if result}


def _job(plan: Plan):
    """A notebook's job, and the stages of studies that it shows."""
    from paperlib.runs import shares
    from paperlib.runs.jobs import Job

    work = partial(notebooks.run_one, plan.name, plan.text, plan.given, plan.mark, plan.executed)
    shown = notebooks.shows(plan.text, plan.studies, plan.runs)
    shown += shares.of(plan.studies, parameters.declared(plan.text) | plan.given)
    return Job(plan.name, plan.name, (), SECONDS.get(plan.name[:2], 20.0), work), shown


def _predictions(plans: Iterable[Plan], out: Path) -> list:
    """The job of predictions_folder.csv, where a folder of one's own is looked at."""
    from paperlib.runs.jobs import Job

    own = [study for plan in plans if plan.name.startswith(PREDICTED) for study in plan.studies
           if study.dataset == "folder"]
    return [(Job("predictions", "predictions by file name", (), 5.0, partial(_write_predictions, study, out)),
             [(study, "prototypes"), (study, "kmex")]) for study in own[:1]]


def _write_predictions(study, out: Path) -> None:
    from paperlib.datasets import files

    with files.written_whole(out / f"predictions_{study.dataset}.csv") as temporary:
        study.predictions_table().to_csv(temporary, index=False)


def _report(plans: Iterable[Plan], out: Path, seconds: dict[str, float], failed: Collection[str]) -> str:
    """Writes the report; the claims as this run bears them out, and its numbers beside the published run's.

    Nothing is trained for it: where the network of a notebook that is kept is gone, what the notebooks wrote counts,
    whatever its network.
    """
    from paperlib.runs import report

    fine = [plan for plan in plans if plan.name not in failed]
    studies = dict.fromkeys(study for plan in fine for study in plan.studies)
    with warnings.catch_warnings(action="ignore"):  # the jobs have said what is wrong with a network
        networks = {study: study.settings()["checkpoint"] for study in studies if study.computed("network")}
    tables = {study.dataset: networks[study] for plan in fine if notebooks.MEANS in plan.text
              for study in plan.studies if study in networks}
    of = networks.values() if len(networks) == len(studies) else ()
    ended = [notebooks.finished(plan.name, plan.mark, plan.executed) for plan in fine]
    run = report.Run.read(out, of, [plan.name[:2] for plan in fine], failed,
                          [file for result in ended if result for file in result.wrote])
    path = report.write(out, tables, seconds, run)
    return f"\n{ledger(run)}\nall claims, and the paper's numbers beside these: {path} (and .html, .json)"
