"""Measures the networks that might have shipped, and writes candidates.json: `python data/networks/candidates.py`.

Each is trained on four fifths of the drawn birds' training pictures and measured on the last fifth, which its seed
draws; no test picture is looked at. What is computed is kept in the cache: begun again, it goes on from there.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from scipy.stats import sem

from paperlib.backbone import Backbone
from paperlib.comparison.scores import part_match
from paperlib.datasets import files
from paperlib.runs import retrain, shipped
from paperlib.runs.study import Study

# How many seeds of each; the first is the one that ships. Epochs, where they are not the recipe's 24, follow the name.
NETWORKS = {"resnet18_x0_25_replicate": 2, "resnet18_x0_25": 1, "resnet18_x0_5_replicate": 1,
            "resnet34_x0_25_replicate": 1, "resnet34_x0_5_replicate": 1, "resnet18_x0_25_replicate, 12 epochs": 1,
            "resnet18_x0_25_replicate, 48 epochs": 1}
EXPLAINERS = {"B4": {"depth": 1}, "B34": {"depth": 2}, "B234": {"depth": 3},
              "B234, no factor": {"depth": 3, "block_weight": "none"}}
BATCH, ROUNDS = 16, 9  # of the clock


def measured(study: Study) -> dict[str, dict[str, float]]:
    """Of one network, on the pictures held out: accuracy of the CNN and of each explainer, and the best overlap (IoU)
    of each explainer's concepts with the parts, mean over parts and pictures, as in notebook 05, with its standard
    error over pictures."""
    read, masks = study.compare(EXPLAINERS), study.data.test.masks[:, ::2, ::2].numpy()
    overlaps = {name: np.array([part_match(s, mask)["IoU"] for s, mask in zip(read[name]["map"], masks, strict=True)])
                for name in EXPLAINERS}
    return {"accuracy": {name: float(each["correct"].mean()) for name, each in read.items()},
            "IoU": {name: float(each.mean()) for name, each in overlaps.items()},
            "IoU error": {name: float(sem(each)) for name, each in overlaps.items()}}


@torch.no_grad()
def clocked(nets: Mapping[str, Backbone], x: torch.Tensor) -> dict[str, dict[str, float]]:
    """Milliseconds of processor time a picture of a forward pass in float32, and their ratio to the first network's.

    Networks take turns; both are medians over rounds, the ratio of those within a round.
    """
    seconds = {name: [] for name in nets}
    for turn in range(-1, ROUNDS):  # the first warms up
        for name, net in nets.items():
            start = process_time()
            net(x)
            seconds[name] += [process_time() - start] * (turn >= 0)
    first = next(iter(seconds.values()))
    return {name: {"ms": 1000 * median(each) / len(x), "ratio": median(s / t for s, t in zip(each, first, strict=True))}
            for name, each in seconds.items()}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME",
                        help=f"some of {', '.join(NETWORKS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    found, nets, training = {}, {}, {}
    for name in options.only:
        seeds, (backbone, _, epochs) = {}, name.partition(", ")
        for seed in range(NETWORKS[name]):
            study = Study.of_profile(dataset="birds", backbone=backbone, seed=seed, choosing=True, train_anew=True,
                                     epochs=int(epochs.removesuffix(" epochs") or 0))
            seeds[seed] = measured(study)
        nets[name], training = study.trained, training or study.checkpoint.manifest["training"]
        found[name] = {"parameters": sum(p.numel() for p in study.trained.parameters()),
                       "bytes": sum(t.nbytes for t in shipped.halved(study.checkpoint.tensors).values()),
                       "seeds": seeds}
        print(name, json.dumps(found[name]), flush=True)
    for name, clock in clocked(nets, study.data.train.batch(range(BATCH))).items():
        found[name]["forward"] = clock
    kept = {"dataset": study.dataset, "size": study.data.size, "trained on": len(study.data.train),
            "measured on": len(study.data.test), "recipe": training["recipe"],
            "precision of training": training["precision"], "prototypes_per_class": study.k, "n_init": study.n_init,
            "batch of the clock": BATCH, "processor": retrain.processor(), "versions": files.versions(),
            "networks": found}
    with files.written_whole(options.out) as temporary:
        temporary.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
