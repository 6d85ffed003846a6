"""A study: one data set, one network and one seed. Here stand its settings and names; `results` computes what follows.

What notebooks take from a study is kept on disk by the store, under a key that holds all it depends on: two notebooks
that want the same thing compute it once.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from paperlib import measures
from paperlib.backbone import Backbone
from paperlib.concepts import ConceptExplainer
from paperlib.datasets import load as data
from paperlib.datasets.folders import OwnPictures
from paperlib.kmex import KMEx
from paperlib.networks.protopnet import ProtoPNet
from paperlib.networks.softcam import SoftCAM
from paperlib.runs import explanations, results, stages, store
from paperlib.runs.results import ready
from paperlib.runs.settings import Settings, n_runs, resolved
from paperlib.runs.stages import STAGES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SOFTCAM_L1", "STAGES", "Study", "n_runs", "open_studies", "ready"]

SOFTCAM_L1 = 3e-5  # chosen on validation pictures of the birds: notebook 08 shows the sweep


@dataclass(frozen=True)
class Study(Settings):
    """Settings, and by name what follows from them: each result is a function in `results` or `explanations`."""

    STAGES = STAGES  # of a headless run: see `stages`

    def __reduce__(self):  # without the pictures and networks that it has looked at
        make = _same if self.dataset in data.EMBEDDED and not self.choosing else Study  # whose pictures are copies
        return make, tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def data(self) -> data.Dataset:
        load = _embedded if self.dataset in data.EMBEDDED else _loaded  # files of one's own may change meanwhile
        found = load(self.dataset, self.data_root, self.size, self.normalisation, self.train_per_class,
                     self.test_per_class, self.allow_subset)
        return found.for_choosing(self.seed) if self.choosing else found

    @property
    def splits(self) -> dict[str, data.Pictures]:
        return {"train": self.data.train, "test": self.data.test}

    def untrained(self) -> Backbone:
        """The backbone as it is before training: its first weights depend on the seed alone."""
        return results.untrained(self)

    def problems(self) -> list[str]:
        """One sentence for each thing that would stop this study: its data, its K/C, its network and weights.

        Trains nothing; data and weights that can be fetched are fetched.
        """
        found = []
        for attempt in (lambda: self.check_k(self.k), lambda: results.build(self, 2, 64)):
            try:
                attempt()
            except (ValueError, TypeError, RuntimeError, OSError) as error:
                found.append(str(error))
        return found

    def check_k(self, k: int) -> None:
        """Raise ValueError where a class has fewer than k training pictures: before a network is trained in vain."""
        counts = self.data.train.labels.bincount(minlength=len(self.data.classes))
        c = int(counts.argmin())
        if counts[c] < k:
            raise ValueError(f"prototypes_per_class is {k} and class {self.data.classes[c]} of {self.data.title} has "
                             f"{counts[c]} training pictures; give at most {counts[c]}, or more pictures.")

    def few_and_many(self) -> list[int]:
        """The K/C that the tables show for KMEx: 1 and 5 as in the paper (if classes are so large), and its own."""
        return sorted({k for k in (1, 5) if k <= self.data.train.labels.bincount().min()} | {self.k})

    def settings(self) -> dict:
        """The settings as plain values, for the .json beside a figure; a path of one's own keeps its last part only."""
        paths = {name: Path(getattr(self, name)).name for name in ("data_root", "backbone", "weights")}
        return {**asdict(self), **paths, "title": self.data.title, "classes": len(self.data.classes),
                "train": len(self.data.train), "test": len(self.data.test), "size": self.data.size,
                "epochs": self.recipe.epochs, "prototypes_per_class": self.k,
                "checkpoint": self.checkpoint.manifest["sha256"][:16]}

    # What follows from it: networks

    @cached_property
    def checkpoint(self) -> store.Kept:
        return results.checkpoint(self)

    @cached_property
    def trained(self) -> Backbone:
        """The backbone, trained on the training split: as it ships, as it was trained before, or trained now."""
        return results.trained(self)

    @cached_property
    def manifest(self) -> dict:
        """The checkpoint's manifest: inputs, training, versions; and the accuracy on each split (eq. 2)."""
        return {**self.checkpoint.manifest, "accuracy": {split: self.accuracy(split) for split in self.splits}}

    def accuracy(self, split: str = "test") -> float:
        """The network's accuracy on a split (eq. 2), a fraction."""
        (Z, y), net = self.embeddings(split), self.trained
        return measures.accuracy(y, net.classify(torch.as_tensor(Z, device=net.device)).argmax(1).cpu())

    def embeddings(self, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """(Z, y): the embeddings z of a split, (n, D) float32, and its labels, (n,)."""
        return results.embeddings(self, split), self.splits[split].labels.numpy()

    @cached_property
    def protopnet(self) -> ProtoPNet:
        """ProtoPNet (section 4) with the study's K/C, trained, or as it was trained before with the same settings."""
        return results.trained_protopnet(self)

    @cached_property
    def protopnet_manifest(self) -> dict:
        """Its manifest: what it started from, its training, versions; and the accuracy on each split."""
        accuracy = {split: measures.accuracy(pictures.labels, results.protopnet_reading(self, split)[1])
                    for split, pictures in self.splits.items()}
        return {**results.protopnet(self).manifest, "accuracy": accuracy}

    def patch_embeddings(self, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """(Z, y): what ProtoPNet's prototypes are compared with, a split's mean patches, (n, 128), and its labels."""
        return results.protopnet_reading(self, split)[0], self.splits[split].labels.numpy()

    @cached_property
    def softcam(self) -> SoftCAM:
        """Soft-CAM, taken over from the trained network and fine-tuned with `SOFTCAM_L1`: see `finetuned`."""
        return self.finetuned(SOFTCAM_L1)[0]

    def finetuned(self, l1: float = 0.0, l2: float = 0.0, epochs: int = 1) -> tuple[SoftCAM, dict]:
        """Soft-CAM after fine-tuning with these penalties, and its manifest. Steps are a fifth of the CNN's own."""
        return results.softcam(self, l1, l2, epochs)

    def softcam_accuracy(self, split: str = "test", l1: float = SOFTCAM_L1, l2: float = 0.0) -> float:
        """The accuracy of `finetuned` on a split, a fraction."""
        return results.softcam_accuracy(self, split, l1, l2)

    # Prototypes and what they say

    def kmex(self, k: int = 0) -> KMEx:
        """KMEx (section 3.2) with k prototypes per class (0: the study's K/C), fitted on the training embeddings."""
        return explanations.kmex(self, k or self.k)

    def sample(self, per_class: int = 0, skip: int = 0) -> np.ndarray:
        """Numbers of training pictures, drawn by the seed: see `explanations.sample`."""
        return explanations.sample(self, per_class, skip)

    def explainer(self, depth: int = 3, **choices) -> ConceptExplainer:
        """The ConceptExplainer of the last `depth` blocks (1: B4, 2: B34, 3: B234), fitted on the training pictures.

        part=(per_class, skip), as `sample` takes them, fits it on some pictures only; other choices are
        ConceptExplainer's, where a default is to be left.
        """
        return explanations.explainers(self, [{"depth": depth, **choices}])[0]

    def explainers(self, scheduler: str = "", **choices) -> list[ConceptExplainer]:
        """B4, B34 and B234, in the order in which attribution goes upstream (page 5).

        scheduler: the address of a Dask scheduler whose workers fit the classes: see `runs.shards`.
        """
        if scheduler:
            from paperlib.runs import shards  # here, for with it comes Dask
            return shards.explainers(self, self._depths(choices), scheduler)
        return explanations.explainers(self, self._depths(choices))

    def _depths(self, choices):
        return [{"depth": depth, **choices} for depth in range(1, min(3, len(self.trained.blocks)) + 1)]

    def evaluate(self, depth: int, split: str = "test", **choices) -> dict[str, float]:
        """Accuracy, share of tied votes and mean number of concepts per map: accuracy, tie_rate, concepts_per_map."""
        wanted = self._depths({})  # those that tables show share one pass over the pictures
        if choices or not 1 <= depth <= len(wanted):
            return explanations.evaluations(self, split, [{"depth": depth, **choices}])[0]
        return explanations.evaluations(self, split, wanted)[depth - 1]

    def compare(self, choices: Mapping[str, Mapping], per_class: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Several explainers on the same test pictures, the first per_class of each class (0: all), in one pass.

        choices: name -> arguments of `explainer`. Returns for each name, and "CNN" for the backbone, predicted (n,)
        and correct (n,) 0 or 1; explainers have also tied (n,) and concepts (n,), of the map among all K prototypes
        (eq. 9), and map (n, H', W'), the one among the predicted class's, numbered from 0 to K/C - 1.
        """
        return explanations.comparison(self, choices, per_class)

    def kept(self, kind: str, inputs: Mapping, compute) -> dict[str, torch.Tensor]:
        """Tensors of `compute()` that depend on `inputs` and on this study's pictures, network and prototypes."""
        key = results.inputs(self, "network", "seen", "train", "test", "k", "n_init", "seed", **inputs)
        return store.kept(kind, key, compute).tensors

    def explain(self, picture: int | str | Path, split: str = "test") -> list[dict]:
        """How B4, B34 and B234 explain the class that the backbone predicts for one picture: the columns of Figure 1.

        picture: a number in the split, or the file of a picture. Each is a dict: name; K, the number of all
        prototypes; class, the predicted one; predicted and everyone, maps (h, w) of the nearest prototype among that
        class's and among all K (eq. 9); attribution (h, w), eq. 11 and its way upstream; shares, of the evidence, by
        prototype; patches, as `patches` gives them, the largest share first. Raises ValueError for a number that the
        split does not have, DataError for a bad file.
        """
        pictures, i = self._pictures(picture, split)
        return explanations.explanation(self, pictures, i)

    def predictions_table(self, split: str = "test") -> pd.DataFrame:
        """A row per picture of a split: its file (or number), its class, and the class predicted by each model."""
        return explanations.predictions(self, split, self._depths({}))

    def _pictures(self, picture, split):
        """The pictures that hold `picture`, and its number among them."""
        if isinstance(picture, str | Path):
            return OwnPictures([Path(picture).expanduser()], [0], self.data.size, self.normalisation), 0
        pictures = self.splits[split]
        if not 0 <= picture < len(pictures):
            raise ValueError(f"picture is {picture}; {self.data.title} has {len(pictures)} {split} pictures, "
                             f"give 0 to {len(pictures) - 1}, or the file of a picture.")
        return pictures, int(picture)

    def patches(self, explainer: ConceptExplainer, c: int) -> list[tuple]:
        """Where prototypes of class c come from: (prototype, training picture, patch's box in it, picture's number)."""
        return explanations.patches(self, explainer.prototype_labels_, explainer.prototype_sources_,
                                    explainer.resolution_, c)

    def protopnet_patches(self, c: int) -> list[tuple]:
        """Where ProtoPNet's prototypes of class c come from, as `patches`."""
        net = self.protopnet
        return explanations.patches(self, net.prototype_labels_, net.sources_, tuple(net.map_size_.tolist()), c)

    # A headless run

    def needs(self, stage: str) -> list[tuple[Study, str]]:
        """The (study, stage) pairs that a stage of STAGES needs first."""
        return [(self, each) for each in STAGES[stage]]

    def compute(self, stage: str) -> None:
        """Compute and keep what a stage of STAGES stands for, if it is not kept yet."""
        stages.compute(self, stage)

    def computed(self, stage: str) -> bool:
        """True if `compute` has nothing left to do."""
        return stages.computed(self, stage)

    def cost(self, stage: str) -> float:
        """Roughly the seconds that a stage takes on one core, to tell how far a run has come."""
        return stages.cost(self, stage)


def _loaded(dataset, root, size, normalisation, train_per_class, test_per_class, allow_subset) -> data.Dataset:
    return data.load(dataset, root, size, normalisation, train_per_class, test_per_class, allow_subset=allow_subset,
                     kept=store.kept, cache=store.folder())


@lru_cache(maxsize=4)
def _same(*settings) -> Study:
    """One study for all jobs of a process that ask for it: what it has looked at, it need not look at again."""
    return Study(*settings)


_embedded = lru_cache(maxsize=2)(_loaded)  # studies that differ in their seed have the same pictures: 400 MB of birds


def open_studies(parameters: Mapping) -> list[Study]:
    """One Study for each data set that a notebook's parameters name ("digits,birds").

    A notebook calls it with `globals()`. What its cell leaves empty is the profile's; `settings` there reach every
    other field of Study. Raises TypeError or ValueError, in one sentence.
    """
    found = resolved(parameters)
    settings = {name: value for name, value in found.items() if name in {field.name for field in fields(Settings)}}
    names = settings.pop("dataset", "")
    if not isinstance(names, str) or not names.strip(" ,"):
        raise TypeError(f"dataset is {names!r}; give one or more of {', '.join(data.LOADERS)}, with commas between.")
    return [Study(dataset=name.strip(), **settings) for name in names.split(",") if name.strip()]
