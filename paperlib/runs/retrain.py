"""`python -m paperlib networks`: trains the networks that ship anew, and says how near they come to those before."""
from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from paperlib.datasets import files
from paperlib.networks import training
from paperlib.runs import jobs, results, shipped
from paperlib.runs.study import Study
from paperlib.runs.summary import Teller

# Those that the notebooks show with the profile "quick": of each data set, how many CNNs and how many ProtoPNets. Five
# runs find all but two ProtoPNets of digits, which train in ten seconds; with those the folder would pass 40 MB.
# Notebook 08 chooses a penalty on validation pictures, with networks that have not seen them.
SHIPPED = {"birds": (5, 5), "digits": (5, 3), "shortcut": (3, 0), "sparrows": (3, 0)}
CHOOSING = {"birds": 1}
ANEW = files.REPOSITORY / "figures" / "run" / "networks"  # where they are trained to, if no folder is named
TRAIN = {"cnn": results.train_cnn, "protopnet": results.train_protopnet}
SHIPS = {"cnn": results.shipped_cnn, "protopnet": results.shipped_protopnet}


def networks() -> dict[str, tuple[Study, str]]:
    """All that ship, by name: the study that finds the network, and which of its networks it is."""
    asked = [(Study.of_profile(dataset=dataset, seed=seed), kind) for dataset, counts in SHIPPED.items()
             for kind, n in zip(shipped.KINDS, counts, strict=True) for seed in range(n)]
    asked += [(Study.of_profile(dataset=dataset, seed=seed, choosing=True), "cnn")
              for dataset, n in CHOOSING.items() for seed in range(n)]
    asked += [(Study.of_profile(dataset="birds", backbone=shipped.ZERO_PADDED), "cnn")]
    return {shipped.name(study, kind): (study, kind) for study, kind in asked}


def main(options: argparse.Namespace) -> int:
    """Train the networks that were asked for into a folder, and compare them with those before; 1 if one failed.

    Those that ship are replaced only where their folder is named; in another, what is there already and fits is left
    as it is. Raises ValueError for a name that does not begin any network's.
    """
    out = Path(options.out).expanduser().resolve() if options.out else ANEW
    out.mkdir(parents=True, exist_ok=True)
    chosen = select(options.only, networks())
    before, graph, failed = shipped.cards(shipped.folder()), jobs_for(chosen, out, out == shipped.folder()), []
    teller = Teller(len(graph))
    with closing(jobs.run(graph, jobs.how_many(options.jobs), told=teller.share)) as run:
        for done in run:
            teller.job(done)
            failed += [done.name] * bool(done.error)
    (out / "README.md").write_text(shipped.readme(out))
    made = {name: card for name, card in shipped.cards(out).items() if name in chosen and name not in failed}
    print("", *compared(before, made), f"networks, their cards and a table of them: {out}", sep="\n")
    return int(bool(failed))


def select(only: list[str], known: Mapping[str, tuple[Study, str]]) -> dict[str, tuple[Study, str]]:
    """The networks whose names begin with one of `only` (none: all), and the CNNs that their ProtoPNets start from."""
    for word in only:
        if not any(name.startswith(word) for name in known):
            raise ValueError(f"No network that ships is called {word!r}; there are {', '.join(known)}.")
    wanted = {name for name in known if not only or name.startswith(tuple(only))}
    wanted |= {name.replace("protopnet", "cnn") for name in wanted}
    return {name: each for name, each in known.items() if name in wanted}


def jobs_for(chosen: Mapping[str, tuple[Study, str]], out: Path, again: bool) -> dict[str, jobs.Job]:
    """A job for each network; a ProtoPNet starts from the CNN in `out`, as a study does that loads both."""
    found, costs = {}, {}
    for name, (study, kind) in chosen.items():
        group, cnn = name.rsplit("-", 1)[0], name.replace("protopnet", "cnn")
        if group not in costs:  # a copy, for a study that has looked at its data would carry them to each process
            costs[group] = replace(study, train_anew=True).cost("network" if kind == "cnn" else "protopnet")
        found[name] = jobs.Job(name, name, tuple({cnn} - {name}), costs[group], partial(make, study, kind, out, again))
    return found


def make(study: Study, kind: str, out: Path, again: bool = True) -> None:
    """Train a network, write its weights in 16 bits and its card, and measure it as whoever loads it finds it.

    again: also where the folder holds just this network, whole. The weights in 32 bits stay in the cache, so that what
    is stopped between goes on from there.
    """
    with shipped.taken_from(out):
        file = shipped.path(study, kind)
        if not again and (there := SHIPS[kind](study)) and "accuracy" in there.manifest:
            return
        tensors, manifest = TRAIN[kind](replace(study, train_anew=kind == "cnn"))
        shorter = {word: manifest[word] for word in ("kind", "inputs", "start", "training") if word in manifest}
        card = {**shorter, "processor": processor(), "threads": torch.get_num_threads()}
        files.save(file, shipped.halved(tensors), card)
        user = replace(study)
        found = user.manifest if kind == "cnn" else user.protopnet_manifest
        if found["sha256"] != files.sha256(file):
            raise RuntimeError(f"{file.stem} was written, but a study that asks for it does not find it.")
        with files.written_whole(file.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")


def processor() -> str:
    """What trains here: "x86_64, AVX512", or an accelerator's name."""
    if training.device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def compared(before: Mapping[str, dict], after: Mapping[str, dict]) -> list[str]:
    """A line for each network: its accuracy on each split, as it was on the card before and as it is now."""
    width = max(map(len, after), default=0)
    lines = [f"{'accuracy, %':<{width}}  {'train':>15}  {'test':>15}   before -> now"]
    for name, card in after.items():
        old, new = before.get(name, {}).get("accuracy", {}), card["accuracy"]
        each = [f"{_percent(old.get(split)):>6} -> {_percent(new[split]):>5}" for split in ("train", "test")]
        same = before.get(name, {}).get("sha256") == card["sha256"]
        lines.append(f"{name:<{width}}  {each[0]:>15}  {each[1]:>15}{'   the same weights' if same else ''}")
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
