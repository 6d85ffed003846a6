"""What the notebooks share: one data set, one backbone and one seed, with all that is computed from them, kept on disk.

Everything is keyed by the settings that made it, or by the checkpoint's checksum: two notebooks that want the same
thing compute it once, and no number outlives the network that it was measured on.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.utils.data import Subset

from paperlib import __version__, figures, measures
from paperlib import backbone as backbones
from paperlib.attribution import upstream
from paperlib.concepts import ConceptExplainer, fit_together, predicted_class
from paperlib.datasets import files
from paperlib.datasets import load as data
from paperlib.kmex import KMEx
from paperlib.networks import architectures, training
from paperlib.networks.protopnet import SCHEDULES, ProtoPNet, Schedule
from paperlib.networks.protopnet import train as train_protopnet
from paperlib.networks.softcam import SoftCAM, finetune

# Prototypes a class in the paper (page 6): five, and ten for CUB-200. The drawn birds have fewer pictures than CUB.
PROTOTYPES_PER_CLASS = {**dict.fromkeys(data.LOADERS, 5), "cub200": 10}
SOFTCAM_L1 = 1e-3  # the sparsest that costs the birds no accuracy to speak of: notebook 08 shows the sweep


@dataclass(frozen=True)
class Study:
    """The settings of one study. A field that is 0 or empty is the data set's own or the paper's.

    Raises TypeError or ValueError, in one sentence, for a setting of the wrong type or out of range.
    """

    dataset: str = "digits"
    data_root: str = ""
    backbone: str = "resnet18"
    blocks: str = ""
    classifier: str = ""
    weights: str = "none"
    normalisation: str = "imagenet"
    size: int = 0
    train_per_class: int = 0
    test_per_class: int = 0
    epochs: int = 0
    prototypes_per_class: int = 0
    n_init: int = 10
    protopnet_epochs: int = 0
    seed: int = 0
    allow_subset: bool = False

    def __post_init__(self):
        for field in fields(self):
            value, wanted = getattr(self, field.name), {"int": int, "str": str, "bool": bool}[field.type]
            if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
                raise TypeError(f"{field.name} is {value!r}, of type {type(value).__name__}; give {article(wanted)}.")
            if wanted is int and value < (field.name == "n_init"):
                raise ValueError(f"{field.name} is {value}; give {int(field.name == 'n_init')} or more.")
        if self.dataset not in data.LOADERS:
            raise data.DataError(data.unknown(self.dataset))

    @property
    def k(self) -> int:
        """K/C, the number of prototypes a class."""
        return self.prototypes_per_class or PROTOTYPES_PER_CLASS[self.dataset]

    @cached_property
    def data(self) -> data.Dataset:
        return data.load(self.dataset, self.data_root, self.size, self.normalisation, self.train_per_class,
                         self.test_per_class, allow_subset=self.allow_subset)

    @cached_property
    def recipe(self) -> training.Recipe:
        recipe = training.RECIPES[self.dataset]
        return replace(recipe, epochs=self.epochs or recipe.epochs)

    @cached_property
    def trained(self) -> backbones.Backbone:
        """The backbone, trained on the training split, or as it was trained before with the same settings."""
        net, (tensors, _) = self.untrained(), self._checkpoint
        net.model.load_state_dict(tensors)
        return ready(net)

    @cached_property
    def manifest(self) -> dict:
        """The checkpoint's manifest: settings, recipe, seconds, versions; and the accuracy on each split (eq. 2)."""
        return {**self._checkpoint[1], "accuracy": {split: self._accuracy(split) for split in self._splits}}

    def _accuracy(self, split: str) -> float:
        (Z, y), net = self.embeddings(split), self.trained
        return measures.accuracy(y, net.classify(torch.as_tensor(Z, device=net.device)).argmax(1).cpu())

    def untrained(self) -> backbones.Backbone:
        """The backbone as it is before training: its first weights depend on the seed alone."""
        torch.manual_seed(self.seed)
        return self._build(len(self.data.classes), self.data.size)

    def _build(self, n_classes: int, size: int) -> backbones.Backbone:
        names = tuple(name.strip() for name in self.blocks.split(",") if name.strip())
        weights = None if self.weights == "none" else self.weights
        return architectures.build(self.backbone, n_classes, weights, names, self.classifier, probe=(3, size, size))

    def problems(self) -> list[str]:
        """One sentence for each thing that would stop this study: its data, its K/C, its network and weights.

        Trains nothing; data and weights that can be fetched are fetched.
        """
        found = []
        for attempt in (lambda: self.check_k(self.k), lambda: self._build(2, 64)):
            try:
                attempt()
            except (data.DataError, ValueError, TypeError) as error:
                found.append(str(error))
        return found

    def check_k(self, k: int) -> None:
        """Raise ValueError where a class has fewer than k training pictures: before a network is trained in vain."""
        counts = self.data.train.labels.bincount(minlength=len(self.data.classes))
        c = int(counts.argmin())
        if counts[c] < k:
            raise ValueError(f"prototypes_per_class is {k} and class {self.data.classes[c]} of {self.data.title} has "
                             f"{counts[c]} training pictures; give at most {counts[c]}, or more pictures.")

    @property
    def _trained_with(self) -> dict:
        """All that the trained network depends on: the checkpoint's name is made of it."""
        return {
            "dataset": self.dataset, "size": self.data.size, "normalisation": self.normalisation,
            "pictures": [len(self.data.train), len(self.data.test)], "classes": len(self.data.classes),
            "fingerprint": self.data.fingerprint,
            "backbone": Path(self.backbone).name, "code": checksum(self.backbone.rsplit(":", 1)[0]),
            "weights": checksum(self.weights) or self.weights, "recipe": asdict(self.recipe), "seed": self.seed}

    @cached_property
    def _checkpoint(self) -> tuple[files.Tensors, dict]:
        self.check_k(self.k)
        return files.cached("checkpoint", self._trained_with, self._train)

    def _train(self, path: Path) -> tuple[files.Tensors, dict]:
        net = self.untrained()
        report = training.train(net.model, self.data.train, self.recipe, self.seed, files.unfinished(path))
        return net.model.state_dict(), {"training": report}

    def _hits(self, model: torch.nn.Module) -> dict[str, float]:
        """Accuracy on each split."""
        return {word: measures.accuracy(pictures.labels, training.predictions(model, pictures))
                for word, pictures in self._splits.items()}

    @property
    def _splits(self) -> dict[str, data.Pictures]:
        return {"train": self.data.train, "test": self.data.test}

    def _cached(self, kind: str, parameters: dict, compute, seconds=None) -> tuple[files.Tensors, dict]:
        """files.cached for what depends on the checkpoint: tensors from `compute()`, its seconds in the manifest."""
        def timed(path):
            start = perf_counter()
            tensors = compute()
            return tensors, {"seconds": round(perf_counter() - start, 2) if seconds is None else seconds}
        return files.cached(kind, self._key(parameters), timed)

    def _key(self, parameters: dict) -> dict:
        """The version is part of it: what an older way of computing gave is not taken for a newer one's."""
        return {"dataset": self.dataset, "checkpoint": self._checkpoint[1]["sha256"][:16], "size": self.data.size,
                "paperlib": __version__, **parameters}

    def _address(self, kind: str, parameters: dict) -> Path:
        return files.address(files.cache_folder(), kind, self._key(parameters))

    def embeddings(self, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """(Z, y): the embeddings z of a split, (n, D) float32, and its labels, (n,)."""
        pictures = self._splits[split]

        def compute():
            chunks = torch.arange(len(pictures)).split(128)
            return {"Z": torch.cat([self.trained.embed(pictures.batch(i)).cpu() for i in chunks])}
        tensors, _ = self._cached("embeddings", {"split": split, "fingerprint": self.data.fingerprint}, compute)
        return tensors["Z"].numpy(), pictures.labels.numpy()

    def kmex(self, k: int = 0) -> KMEx:
        """KMEx (section 3.2) with k prototypes a class (0: the study's K/C), fitted on the training embeddings."""
        k = k or self.k
        self.check_k(k)
        # Embeddings are few: the official ten restarts cost seconds, so no profile saves on them.
        model = KMEx(k, n_init=10, random_state=self.seed)

        def compute():
            model.fit(*self.embeddings("train"))
            return {"prototypes_": torch.as_tensor(model.prototypes_), "classes_": torch.as_tensor(model.classes_),
                    "prototype_labels_": torch.as_tensor(model.prototype_labels_)}
        tensors, _ = self._cached("kmex", {"k": k, "n_init": model.n_init, "seed": self.seed}, compute)
        for name, tensor in tensors.items():
            setattr(model, name, tensor.numpy())
        model.n_features_in_ = model.prototypes_.shape[1]
        return model

    @cached_property
    def schedule(self) -> Schedule:
        """ProtoPNet's, on the CNN's own loader: its batches and its augmentation. At most half of it is warm."""
        schedule = SCHEDULES[self.dataset]
        epochs = self.protopnet_epochs or schedule.epochs
        return replace(schedule, epochs=epochs, warm=min(schedule.warm, epochs // 2))

    @cached_property
    def protopnet(self) -> ProtoPNet:
        """ProtoPNet (section 4) with the study's K/C, trained, or as it was trained before with the same settings."""
        net, (tensors, _) = ProtoPNet(self.untrained(), self.k, self.seed), self._protopnet
        net.load_state_dict(tensors)
        return ready(net)

    @property
    def protopnet_manifest(self) -> dict:
        """Its manifest: what it started from, its training, accuracies, versions."""
        return self._protopnet[1]

    @cached_property
    def _protopnet(self) -> tuple[files.Tensors, dict]:
        # The paper's starts from ImageNet's weights, as its CNN does. The official learning rates are for fine-tuning:
        # from random weights they would lead nowhere in these few epochs, so there the trained CNN's encoder stands in.
        start = "the trained CNN's encoder" if self.weights == "none" else "the weights that the CNN started from"

        def compute(path):
            net = ProtoPNet(self.trained if self.weights == "none" else self.untrained(), self.k, self.seed)
            report = train_protopnet(net, self.data.train, self.schedule, self.seed, files.unfinished(path))
            test = measures.accuracy(self.data.test.labels, training.predictions(net, self.data.test))
            return net.state_dict(), {"training": report, "start": start,
                                      "accuracy": {"train": report["train_accuracy"], "test": test}}
        parameters = {**self._trained_with, "schedule": asdict(self.schedule), "k": self.k, "start": start,
                      "paperlib": __version__}
        return files.cached("protopnet", parameters, compute)

    def patch_embeddings(self, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """(Z, y): what ProtoPNet's prototypes are compared with, a split's mean patches, (n, 128), and its labels."""
        pictures, key = self._splits[split], {"split": split, "fingerprint": self.data.fingerprint,
                                              "protopnet": self.protopnet_manifest["sha256"][:16]}

        def compute():
            chunks = torch.arange(len(pictures)).split(128)
            return {"Z": torch.cat([self.protopnet.embed(pictures.batch(i)).cpu() for i in chunks])}
        tensors, _ = self._cached("patch-embeddings", key, compute)
        return tensors["Z"].numpy(), pictures.labels.numpy()

    def drawn(self, per_class: int = 0, skip: int = 0) -> np.ndarray:
        """Numbers (n,) of training pictures: `per_class` of each class, after the first `skip`, in the seed's order.

        0: all. Two draws of which one skips the other have no picture in common. Raises ValueError where a class has
        fewer than skip + per_class.
        """
        labels = self.data.train.labels.numpy()
        rng, found = np.random.default_rng(self.seed), []
        for c, name in enumerate(self.data.classes):
            mine = rng.permutation(np.flatnonzero(labels == c))
            if len(mine) < skip + max(per_class, 1):
                raise ValueError(f"{name} has {len(mine)} training pictures; {skip + max(per_class, 1)} are asked for.")
            found.append(mine[skip:skip + per_class] if per_class else mine[skip:])
        return np.sort(np.concatenate(found))

    def explainer(self, depth: int = 3, part: tuple[int, int] = (0, 0), **choices) -> ConceptExplainer:
        """The ConceptExplainer of the last `depth` blocks (1: B4, 2: B34, 3: B234), fitted on the training pictures.

        part: (per_class, skip) of `drawn`, where it is to be fitted on some of them only; `choices` are
        ConceptExplainer's, where a default is to be left.
        """
        explainer, key = self._unfitted(depth, part, **choices)

        def compute():
            return self._fit([explainer], part)[0].state()
        tensors, manifest = self._cached("explainer", key, compute)
        fitted = ConceptExplainer.from_state(explainer.get_params() | {"progress": False}, tensors)
        fitted.seconds_ = manifest["seconds"]
        return fitted

    def _unfitted(self, depth=3, part=(0, 0), **choices) -> tuple[ConceptExplainer, dict]:
        """The explainer before it is fitted, and the name under which it is kept once it is."""
        last = len(self.trained.blocks)
        if not 1 <= depth <= last:
            raise ValueError(f"depth is {depth}; the backbone has {last} blocks, give 1 to {last}.")
        options = {"prototypes_per_class": self.k, "n_init": self.n_init, "random_state": self.seed,
                   "n_jobs": min(4, torch.get_num_threads()), "progress": True, **choices}
        explainer = ConceptExplainer(blocks=tuple(range(last - depth + 1, last + 1)), **options)
        # Explainers that differ in what comes after fitting, or in how the work is spread, share their prototypes.
        fitting = {k: str(v) for k, v in options.items() if k not in ("vote", "n_jobs", "progress")}
        fitting |= {} if self._whole(part) else {"part": list(part), "seed": self.seed}
        return explainer, {"blocks": explainer.name, "trained_blocks": self.trained.blocks, **fitting}

    def _whole(self, part) -> bool:
        return len(self.drawn(*part)) == len(self.data.train)

    def _fit(self, explainers, part) -> list[ConceptExplainer]:
        """Several at once on a part of the training pictures share the forward pass."""
        train, some = self.data.train, self.drawn(*part)
        if len(explainers) == 1:  # whose classes can be spread over threads
            start = perf_counter()
            explainers[0].fit(self.trained, Subset(train, some.tolist()), train.labels[some])
            explainers[0].seconds_ = round(perf_counter() - start, 2)
        else:
            fit_together(explainers, self.trained, Subset(train, some.tolist()), train.labels[some],
                         n_jobs=explainers[0].n_jobs, progress=True)
        for explainer in explainers:
            explainer.prototype_sources_[:, 0] = torch.as_tensor(some)[explainer.prototype_sources_[:, 0]]
        return explainers

    def explainers(self, **choices) -> list[ConceptExplainer]:
        """B4, B34 and B234, in the order in which attribution goes upstream (page 5)."""
        return [self.explainer(depth, **choices) for depth in self._depths]

    @property
    def _depths(self) -> range:
        """B4: 1, B34: 2, B234: 3."""
        return range(1, min(3, len(self.trained.blocks)) + 1)

    def evaluate(self, depth: int, split: str = "test", **choices) -> dict[str, float]:
        """Accuracy, share of tied votes and mean number of ids on a map of the explainer of the last `depth` blocks."""
        pictures, explainer = self._splits[split], self.explainer(depth, **choices)

        def compute():
            found = explainer.set_params(progress=True).evaluate(self.trained, pictures, pictures.labels)
            return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in found.items()}
        tensors, _ = self._cached("evaluation", self._evaluation_key(explainer, split, choices), compute)
        return {name: tensor.item() for name, tensor in tensors.items()}

    def _evaluation_key(self, explainer: ConceptExplainer, split: str, choices: Mapping) -> dict:
        # The same weights may meet other test pictures, and the same numbers of blocks other blocks.
        key = {"split": split, "fingerprint": self.data.fingerprint, "explainer": explainer.name,
               "trained_blocks": self.trained.blocks, "k": self.k, "seed": self.seed, "n_init": self.n_init}
        return {**key, **{k: str(v) for k, v in choices.items()}}

    def _evaluate_together(self, split: str) -> None:
        """`embeddings`, and `evaluate` for B4, B34 and B234, from one pass through the network instead of four."""
        pictures, explainers = self._splits[split], self.explainers()
        keys = [self._evaluation_key(explainer, split, {}) for explainer in explainers]
        if all(self._address("evaluation", key).is_file() for key in keys):
            return
        Z, seen = [], {explainer.name: [] for explainer in explainers}
        for batch in torch.arange(len(pictures)).split(64):
            features = self.trained.features(pictures.batch(batch))
            Z.append(features[-1].mean((2, 3)).cpu())
            for explainer in explainers:
                s, distance = explainer.maps_from_features(features, return_distance=True)
                _, predicted, tied, ids = (x.cpu() for x in explainer.decision(s, distance))
                right = predicted == pictures.labels[batch]
                seen[explainer.name].append(torch.stack([x.double() for x in (right, tied, ids)], 1))
        self._cached("embeddings", {"split": split, "fingerprint": self.data.fingerprint}, lambda: {"Z": torch.cat(Z)})
        for explainer, key in zip(explainers, keys, strict=True):
            means = torch.cat(seen[explainer.name]).mean(0)
            found = dict(zip(("accuracy", "tie_rate", "ids_per_map"), means, strict=True))
            self._cached("evaluation", key, lambda found=found: found)

    @cached_property
    def softcam(self) -> SoftCAM:
        """Soft-CAM, taken over from the trained network and fine-tuned with `SOFTCAM_L1`: see `finetuned`."""
        return self.finetuned(SOFTCAM_L1)[0]

    def finetuned(self, l1: float = 0.0, l2: float = 0.0, epochs: int = 1) -> tuple[SoftCAM, dict]:
        """Soft-CAM after fine-tuning with these penalties, and its manifest. Steps are a fifth of the CNN's own."""
        recipe = replace(self.recipe, epochs=epochs, lr=self.recipe.lr / 5)
        soft = SoftCAM(self.trained)

        def compute(path):
            report = finetune(soft, self.data.train, recipe, l1, l2, self.seed, files.unfinished(path))
            return soft.state_dict(), {"training": report}
        tensors, manifest = files.cached("softcam", self._key({"l1": l1, "l2": l2, "recipe": asdict(recipe)}), compute)
        soft.load_state_dict(tensors)
        return ready(soft), manifest

    def softcam_accuracy(self, split: str = "test", l1: float = SOFTCAM_L1, l2: float = 0.0) -> float:
        """The accuracy of `finetuned` on a split, a fraction."""
        pictures, (soft, manifest) = self._splits[split], self.finetuned(l1, l2)

        def compute():
            predicted = training.predictions(soft, pictures)
            return {"accuracy": torch.tensor(measures.accuracy(pictures.labels, predicted), dtype=torch.float64)}
        key = {"split": split, "fingerprint": self.data.fingerprint, "softcam": manifest["sha256"][:16]}
        return self._cached("accuracy", key, compute)[0]["accuracy"].item()

    def kept(self, kind: str, parameters: Mapping, compute) -> files.Tensors:
        """Tensors of `compute()` that depend on `parameters` and on this study's pictures, network and prototypes."""
        key = {"fingerprint": self.data.fingerprint, "trained_blocks": self.trained.blocks, "k": self.k,
               "n_init": self.n_init, "seed": self.seed, **parameters}
        return self._cached(kind, key, compute)[0]

    def runs(self, n: int) -> list[Study]:
        """n studies that differ in the seed alone, this one first: the paper's tables are means over five such runs."""
        if n < 1:
            raise ValueError(f"runs is {n}; give 1 or more.")
        return [self, *(replace(self, seed=self.seed + i) for i in range(1, n))]

    def few_and_many(self) -> list[int]:
        """The K/C that the tables show for KMEx: 1 and 5 as in the paper (if classes are so large), and its own."""
        return sorted({k for k in (1, 5) if k <= self.data.train.labels.bincount().min()} | {self.k})

    def prepare(self, tables: bool = True) -> None:
        """Compute and keep the trained network and, for `tables`, all that this run puts into Tables 1 and 2."""
        def compute(path):
            start = perf_counter()
            self._fit_missing([{"depth": depth} for depth in self._depths])
            for split in self._splits:
                self._evaluate_together(split)
            for k in self.few_and_many():
                self.kmex(k)
            for split in self._splits:
                self.softcam_accuracy(split)
            self.patch_embeddings("train")
            return {"done": torch.ones(1)}, {"seconds": round(perf_counter() - start, 2)}
        if tables:
            files.cached("run", self._run, compute)
        else:
            self._checkpoint  # noqa: B018 - asking for it makes it

    @property
    def _run(self) -> dict:
        return {**self._trained_with, "k": self.k, "n_init": self.n_init, "schedule": asdict(self.schedule),
                "trained_blocks": self.blocks, "classifier": self.classifier, "paperlib": __version__}

    def prepared(self, tables: bool = True) -> bool:
        """Whether `prepare` has been through."""
        return files.stored(*(("run", self._run) if tables else ("checkpoint", self._trained_with)))

    def compare(self, choices: Mapping[str, Mapping], per_class: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Several explainers on the same test pictures, the first per_class of each class (0: all), in one pass.

        choices: name -> arguments of `explainer`. Returns for each name, and "CNN" for the backbone, predicted (n,)
        and right (n,) 0 or 1; explainers have also tied (n,) and ids (n,), of the map among all K prototypes (eq. 9),
        and map (n, H', W'), the one among the predicted class's, numbered from 0 to K/C - 1.
        """
        self._fit_missing(choices.values())
        explainers = {name: self.explainer(**options) for name, options in choices.items()}
        pictures = self.data.test.subset(per_class)

        def compute():
            parts = [_readings(self.trained, explainers, self.trained.features(pictures.batch(batch)))
                     for batch in torch.arange(len(pictures)).split(32)]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        key = {"per_class": per_class, "fingerprint": self.data.fingerprint, "trained_blocks": self.trained.blocks,
               "k": self.k, "seed": self.seed, "n_init": self.n_init,
               "choices": {name: str(sorted(options.items())) for name, options in choices.items()}}
        tensors, _ = self._cached("comparison", key, compute)
        found = {name: {what: tensors[f"{name}/{what}"].numpy() for what in ("predicted", "tied", "ids", "map")
                        if f"{name}/{what}" in tensors} for name in ("CNN", *choices)}
        y = pictures.labels.numpy()
        return {name: {**read, "right": (read["predicted"] == y).astype(int)} for name, read in found.items()}

    def _fit_missing(self, choices) -> None:
        """Fit those explainers that are not kept yet, all of one part of the training pictures in one pass over it."""
        missing = {}
        for options in choices:
            (explainer, key), part = self._unfitted(**options), tuple(options.get("part", (0, 0)))
            if not self._address("explainer", key).is_file():
                missing.setdefault(part, {})[str(key)] = explainer, key
        for part, group in missing.items():
            fitted = self._fit([explainer for explainer, _ in group.values()], part)
            for explainer, (_, key) in zip(fitted, group.values(), strict=True):
                self._cached("explainer", key, explainer.state, explainer.seconds_)

    def patches(self, explainer: ConceptExplainer, c: int) -> list[tuple]:
        """The training patches nearest to the prototypes of class c: (prototype id, patch, box, picture's number)."""
        found = []
        for k in (explainer.prototype_labels_ == c).nonzero().flatten().tolist():
            image, row, column = explainer.prototype_sources_[k].tolist()
            pixels = self.data.train.pixels(image)
            found.append((k, *figures.patch(pixels, row, column, explainer.resolution_), f"#{image}"))
        return found

    def protopnet_patches(self, c: int) -> list[tuple]:
        """What ProtoPNet's prototypes of class c are: (prototype id, patch, box, picture's number), as `patches`."""
        net, found = self.protopnet, []
        for k in (net.prototype_labels_ == c).nonzero().flatten().tolist():
            image, row, column = net.sources_[k].tolist()
            piece = figures.patch(self.data.train.pixels(image), row, column, tuple(net.map_size_.tolist()))
            found.append((k, *piece, f"#{image}"))
        return found

    def explain(self, picture: int, split: str = "test") -> list[dict]:
        """How B4, B34 and B234 explain the class that the backbone predicts for one picture: the columns of Figure 1.

        Each is a dict: name; K, the number of all prototypes; predicted and everyone, maps (h, w) of the nearest
        prototype's id among the predicted class's and among all K (eq. 9); attribution (h, w), eq. 11 and its way
        upstream; patches, as `patches` gives them. Raises ValueError for a number that the split does not have.
        """
        pictures, explainers = self._splits[split], self.explainers()
        if not 0 <= picture < len(pictures):
            raise ValueError(f"picture is {picture}; {self.data.title} has {len(pictures)} {split} pictures, "
                             f"give 0 to {len(pictures) - 1}.")
        features = self.trained.features(pictures.batch([picture]))
        c = predicted_class(self.trained, features)
        attribution = upstream(features, self.trained.C, explainers, c)
        return [{"name": e.name, "K": len(e.prototypes_), "predicted": e.maps_from_features(features, c)[0].cpu(),
                 "everyone": e.maps_from_features(features)[0].cpu(), "attribution": attribution[e.name][0].cpu(),
                 "patches": self.patches(e, int(c))} for e in explainers]

    def settings(self) -> dict:
        """The settings as plain values, for the .json beside a figure; a path of one's own keeps its last part only."""
        paths = {name: Path(getattr(self, name)).name for name in ("data_root", "backbone", "weights")}
        return {**asdict(self), **paths, "title": self.data.title, "classes": len(self.data.classes),
                "train": len(self.data.train), "test": len(self.data.test), "size": self.data.size,
                "epochs": self.recipe.epochs, "prototypes_per_class": self.k,
                "checkpoint": self._checkpoint[1]["sha256"][:16]}


def open_studies(parameters: Mapping) -> list[Study]:
    """One Study for each data set that `parameters["dataset"]` names ("digits,birds"), with the settings found there.

    A notebook calls it with `globals()`, so that its parameters cell is the one place where a setting is written.
    """
    settings = {field.name: parameters[field.name] for field in fields(Study) if field.name in parameters}
    names = settings.pop("dataset", "")
    if not isinstance(names, str) or not names.strip(" ,"):
        raise TypeError(f"dataset is {names!r}; give one or more of {', '.join(data.LOADERS)}, with commas between.")
    return [Study(dataset=name.strip(), **settings) for name in names.split(",") if name.strip()]


def _readings(net, explainers, features) -> files.Tensors:
    """What `Study.compare` keeps of one batch: "name/what" -> (n, ...)."""
    c = predicted_class(net, features)
    found, q, before = {"CNN/predicted": c.cpu()}, None, None
    # Those that differ in their prototypes only share the rows of eq. 8, and only one kind of rows is held at a time.
    for name, explainer in sorted(explainers.items(), key=lambda item: item[1].kind):
        q, before = (q if explainer.kind == before else explainer.compose(features)), explainer.kind
        _, predicted, tied, ids = explainer.decision(*explainer.nearest(q))
        shown = explainer.nearest(q, c.cpu())[0] - (c * explainer.prototypes_per_class)[:, None, None]
        for what, x in {"predicted": predicted, "tied": tied, "ids": ids, "map": shown.short()}.items():
            found[f"{name}/{what}"] = x.cpu()
    return found


def ready(net: torch.nn.Module) -> torch.nn.Module:
    """The network on the accelerator where there is one, laid out channels last: a third faster in float32 on CPUs."""
    return net.to(training.device(), memory_format=torch.channels_last)


def article(kind: type) -> str:
    """What a parameter of this type is, in words."""
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]


def checksum(path: str) -> str:
    """What a file holds, not where it lies, says whether a checkpoint still fits it."""
    return files.sha256(Path(path).expanduser())[:16] if Path(path).expanduser().is_file() else ""
