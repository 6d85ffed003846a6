"""Shares: what notebook 04 and those beyond the paper take longest over, as jobs that all processors do first.

A share computes what the notebook asks for by the same call, which keeps it; so nothing is lost but time where a
notebook runs by itself.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from paperlib.comparison import choices, contest, truth
from paperlib.runs import explanations, results, store
from paperlib.runs.settings import Settings, n_runs

HALVES = 2  # jobs that the options of notebook 06 are fitted in
SECONDS = {"free": 30.0, "half": 12.0, "options": 60.0, "depths": 30.0, "contest": 90.0,
           "sweep": 14.0}  # about, at the size of the quick profile
NEEDS = {"contest": ("prototypes", "softcam"), "free": ("prototypes",)}  # stages of its study; others, its network


@dataclass(frozen=True)
class Share:
    """Share `number` of what a notebook shows of a study, as `jobs.graph` takes it in a study's place.

    what: one of SECONDS. given: the notebook's parameters that it depends on.
    """

    study: Settings
    what: str
    number: int = 0
    given: tuple = ()

    @property
    def dataset(self) -> str:
        return self.study.dataset

    @property
    def seed(self) -> int:
        """That of the network: the contest has a share for each of several."""
        return self.study.seed + self.number * (self.what == "contest")

    def needs(self, stage: str) -> list[tuple[Settings, str]]:
        """The stages that come first. The contest's are its own network's; its pictures depend on all networks."""
        first, study = [], self.study
        if self.what == "contest":
            runs = self.study.runs(self.given[0])
            first, study = [(run, "embeddings") for run in runs], runs[self.number]
        return first + [(study, each) for each in NEEDS.get(stage, ("network",))]

    def compute(self, stage: str) -> None:
        """Compute and keep it, if it is not kept yet."""
        def done():
            COMPUTE[self.what](self.study, self.number, *self.given)
            return {"done": torch.ones(1)}
        store.kept("share", self._key(), done)

    def computed(self, stage: str) -> bool:
        """True if `compute` has nothing left to do."""
        return store.has("share", self._key())

    def _key(self):
        return results.inputs(self.study, "training", "test", "k", "n_init", "seed", what=self.what,
                              number=self.number, given=list(self.given))

    def cost(self, stage: str) -> float:
        """Roughly the seconds that it takes on one core."""
        return 1 + SECONDS[self.what] * len(self.study.data.test) / 660 * (self.study.data.size / 224) ** 2


def of(studies: Sequence[Settings], parameters: Mapping) -> list[tuple[object, str]]:
    """The (share, stage) and (study, stage) pairs that a notebook shows, beside those of `notebooks.shows`.

    studies: those that its parameters name; a parameter of SHARED says what it shows.
    """
    return [pair for name, pairs in SHARED.items() if name in parameters for pair in pairs(studies, parameters)]


def _of_votes(studies, parameters):
    return _pairs(Share(study, what) for study in studies for what in ("free", "half"))


def _of_options(studies, parameters):
    few = parameters["choices_train_per_class"], parameters["choices_test_per_class"]
    shares = [Share(study, "options", half, few) for study in studies for half in range(HALVES)]
    return _pairs(shares + [Share(run, "depths", 0, few) for study in studies
                            for run in study.runs(n_runs(parameters))[1:]])


def _of_contest(studies, parameters):
    networks = parameters["contest_networks"] or n_runs(parameters)
    return _pairs(Share(studies[-1], "contest", i, (networks, parameters["contest_pictures"]))
                  for i in range(networks))


def _of_sweep(studies, parameters):
    choosing = studies[-1].for_choosing()
    pairs = [(l1, 0.0) for l1 in parameters["sweep_l1"]] + [(0.0, l2) for l2 in parameters["sweep_l2"]]
    runs = studies[-1].runs(parameters["softcam_networks"])
    weak = sorted(parameters["sweep_l1"])[:4]  # 0 and those that are scored if the weakest is chosen
    return _pairs([Share(choosing, "sweep", 0, pair) for pair in pairs] +
                  [Share(run, "sweep", 0, (l1, 0.0)) for run in runs for l1 in weak])


def _of_shortcut(studies, parameters):
    sides = [replace(studies[0], dataset=side) for side in ("sparrows", "shortcut")]
    runs = [run for study in sides for run in study.runs(parameters["shortcut_networks"])]
    return [(run, stage) for run in runs for stage in ("prototypes", "kmex")]


def _pairs(shares):
    return [(share, share.what) for share in shares]


def _free(study, _):
    """Notebook 04's explainer without eq. 8's factor, and its accuracy."""
    study.evaluate(len(study.explainers()), block_weight="none")


def _half(study, _):
    """Notebook 04's B4, fitted on half of the training pictures, and its accuracy."""
    half = int(study.data.train.labels.bincount().min()) // 2
    if half >= study.k:
        study.evaluate(1, part=(half, 0))


def _options(study, half, *few):
    """Some of notebook 06's explainers: each of the halves takes every second one."""
    board = choices.Board(study, *few)
    explanations.explainers(study, [{**board.default, **d} for d in board.differs.values()][half::HALVES])


def _depths(study, _, *few):
    choices.depths(choices.Board(study, *few))


def _contest(study, number, networks, pictures):
    """Notebook 07's scores of one network."""
    runs = study.runs(networks)
    contest.contest(runs[number], truth.tasks(runs, pictures)[number])


def _sweep(study, _, l1, l2):
    """Soft-CAM with one of notebook 08's penalties."""
    study.finetuned(l1, l2)


SHARED = {"vote_pictures": _of_votes, "choices_train_per_class": _of_options, "contest_pictures": _of_contest,
          "sweep_l1": _of_sweep, "shortcut_networks": _of_shortcut}  # notebooks 04, 06, 07, 08 and 10
COMPUTE = {"free": _free, "half": _half, "options": _options, "depths": _depths, "contest": _contest, "sweep": _sweep}
