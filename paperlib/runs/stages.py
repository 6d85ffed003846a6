"""The stages of a headless run: what is computed of a study before the notebooks show it, and in which order."""
from __future__ import annotations

import warnings
from dataclasses import asdict

import torch

from paperlib.runs import results, shipped, store
from paperlib.runs.settings import Settings

# The stages, and what each needs first.
STAGES = {"network": (), "embeddings": ("network",), "prototypes": ("network",), "readings": ("prototypes",),
          "kmex": ("embeddings",), "protopnet": ("network",), "softcam": ("network",)}


def compute(study: Settings, stage: str) -> None:
    """Compute and keep what a stage stands for, if it is not kept yet."""
    def done():
        COMPUTE[stage](study)
        return {"done": torch.ones(1)}
    store.kept("stage", _key(study, stage), done)


def computed(study: Settings, stage: str) -> bool:
    """True if `compute` has nothing left to do. What is wrong with a network that ships is for `compute` to say."""
    with warnings.catch_warnings(action="ignore"):
        shipped_one = stage == "network" and results.shipped_cnn(study) is not None
        return shipped_one or store.has("stage", _key(study, stage))


def _key(study, stage):
    return results.inputs(study, "training", "test", "k", "n_init", "seed", stage=stage,
                          schedule=asdict(study.schedule), shipped=shipped.stamp(study))


def cost(study: Settings, stage: str) -> float:
    """Roughly the seconds that a stage takes on one core, to tell how far a run has come."""
    passes = {"network": 3 * study.recipe.epochs, "prototypes": 1 + 0.15 * study.n_init, "readings": 1.5,
              "embeddings": 0.3, "kmex": 0.1, "protopnet": 1 if shipped.stamp(study) else 3 * study.schedule.epochs,
              "softcam": 3}[stage]
    return 1 + 2e-3 * passes * len(study.data.train) * (study.data.size / 96) ** 2


def _embeddings(study):
    for split in study.splits:
        study.embeddings(split)


def _readings(study):
    for split in study.splits:
        study.evaluate(1, split)


def _kmex(study):
    for k in study.few_and_many():
        study.kmex(k)


def _protopnet(study):
    study.protopnet  # noqa: B018 - asking for it makes it
    study.protopnet_manifest  # noqa: B018


COMPUTE = {"network": results.checkpoint, "embeddings": _embeddings, "prototypes": lambda study: study.explainers(),
           "readings": _readings, "kmex": _kmex, "protopnet": _protopnet, "softcam": lambda study: study.softcam}
