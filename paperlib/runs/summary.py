"""The words of a run: a line for each job, how far it has come, and the table at its end."""
from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterable

from paperlib.runs.notebooks import Result

MOST = 12  # lines on what differs from the published run


def failed(done) -> bool:
    """True if a job, or the notebook that it executed, failed."""
    return bool(done.error) or getattr(done.result, "status", "") == "failed"


class Teller:
    """Tells how far a run has come: a line for each job, and between them the share done and the time left.

    In a terminal that line is written in place; elsewhere after ten seconds, and then ever more seldom.
    """

    def __init__(self, n: int):
        self.n, self.told, self.said, self.start, self.last = n, 0, set(), time.perf_counter(), 0.0
        self.in_place, self.memory, self.look = sys.stdout.isatty(), 0, -1.0

    def share(self, share: float, left: float) -> None:
        """The share of all work that is done, 0 to 1, and the seconds that are left."""
        elapsed = time.perf_counter() - self.start
        self.remember_memory(elapsed)
        if elapsed - self.last < (0.5 if self.in_place else max(10, elapsed / 20)) or self.told == self.n:
            return
        self.last, more = elapsed, f", {duration(left)} left" if share > 0.05 else ""
        words = f"{min(share, 0.99):.0%} done{more}"
        print(f"\r{words:<40}" if self.in_place else words, end="" if self.in_place else "\n", flush=True)

    def heard(self, _: str, share: float) -> None:
        """What a bar tells, whose share is of all work: see `progress.heard_by`."""
        if 0 < share < 1:
            self.share(share, (time.perf_counter() - self.start) * (1 - share) / share)

    def remember_memory(self, elapsed: float) -> None:
        """The most memory so far. To look costs time, so that one look is far from the next."""
        if elapsed > self.look:
            self.memory = max(self.memory, memory())
            self.look = elapsed + 100 * (time.perf_counter() - self.start - elapsed)

    def job(self, done) -> None:
        """A job that is done, with the warnings that no job gave before."""
        self.told += 1
        error = done.error or getattr(done.result, "error", "")
        what = f"FAILED: {error}" if error else f"{done.seconds:.0f} s"
        lines = [f"[{self.told}/{self.n}] {done.title}: {what}"]
        lines += [f"    {warning}" for warning in done.warnings if warning not in self.said]
        self.said |= {*done.warnings}
        print(f"\r{'':<40}\r" * self.in_place + "\n".join(lines), flush=True)


def memory() -> int:
    """Bytes that this process and those that it started hold; what several hold together counts once, on Linux."""
    import psutil

    total, me = 0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            found = process.memory_full_info()
            total += getattr(found, "pss", found.uss)
        except psutil.Error:  # it has ended meanwhile
            pass
    return total


def duration(seconds: float) -> str:
    """Seconds in words: "about 3 min"."""
    if seconds < 40:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    if seconds < 90:
        return "about a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def table(results: Iterable[Result], others: Iterable, seconds: float, memory: int = 0) -> str:
    """The end of a run: each other job's seconds, in the order in which they ended, then each notebook's with its main
    numbers and slowest cell, then the whole run's, with the most memory in bytes that it had at once (0: unknown)."""
    results, others = list(results), list(others)
    width = max([len(each.name) for each in results] + [len(each.title) for each in others] + [8])
    lines = [f"{'job':<{width}}  seconds"] if others else []
    lines += [f"{each.title:<{width}}  {each.seconds:>7.0f}{'  FAILED' if each.error else ''}" for each in others]
    lines += [f"{'notebook':<{width}}  seconds  main numbers"]
    for r in results:
        main = (r.error and f"FAILED: {r.error}") or r.headline or "-"
        rows = main.splitlines() + ([f"({r.slowest})"] if r.slowest else [])
        lines.append(f"{r.name:<{width}}  {r.seconds:>7.0f}{' *' if r.status == 'kept' else '  '}{rows[0]}")
        lines += [" " * (width + 11) + row for row in rows[1:]]
    most = f"  at most {memory / 2**30:.1f} GiB of memory" if memory else ""
    lines.append(f"{'all':<{width}}  {seconds:>7.0f}{most}")
    if any(r.status == "kept" for r in results):
        lines.append("* finished before with the same text and parameters; --again runs it anew")
    return "\n".join(lines)


def ledger(run) -> str:
    """What this run (a `report.Run`) says: how many claims hold and which do not, and how near the published run is."""
    from paperlib.runs import claims

    unlike = run.unlike()
    lines = [claims.summary(run.judged), *(f"- {each.claim.notebook} {each.claim.says}: {each.verdict}. {each.here} "
                                           f"{each.why}" for each in run.judged if each.verdict == claims.FAILS),
             run.compared.summary(), *(f"- {line}" for line in unlike[:MOST]),
             *(f"- and {len(unlike) - MOST} more lines in the report" for _ in unlike[MOST:MOST + 1])]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, 110, subsequent_indent="  "))
