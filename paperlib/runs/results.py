"""What is computed for a study, each result once: a function of the study that the store keeps.

The study, `paperlib.runs.study.Study`, says what was asked for, and remembers what it has been given; here stands what
follows from it, in the order in which one result needs another.
"""
from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch

from paperlib import guards, measures
from paperlib.backbone import Backbone
from paperlib.datasets.pictures import Pictures
from paperlib.networks import architectures, training
from paperlib.networks import protopnet as protopnets
from paperlib.networks.protopnet import ProtoPNet
from paperlib.networks.softcam import SoftCAM, finetune
from paperlib.runs import shipped, store
from paperlib.runs.settings import Settings

BATCH = 16  # pictures that a network looks at together: more take more memory, and no less time


# What a result depends on


def inputs(study: Settings, *names: str, **more) -> dict:
    """The key's inputs: those of INPUTS that are named, and what else this result depends on."""
    return {"dataset": study.dataset, **{name: INPUTS[name](study) for name in names}, **more}


def content(pictures: Pictures) -> str:
    """First 16 hex digits of a SHA-256 of a split's pixels (or files) and labels."""
    if pictures not in _contents:
        _contents[pictures] = hashlib.sha256(pictures.content()).hexdigest()[:16]
    return _contents[pictures]


_contents: WeakKeyDictionary[Pictures, str] = WeakKeyDictionary()  # a few hundred MB are read for each


def file_content(path: str) -> str:
    """First 16 hex digits of a file's SHA-256; "" if it does not exist."""
    path = Path(path).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def _training(study):
    """All that the trained network depends on: settings and training pictures, not the test pictures."""
    return {"size": study.data.size, "normalisation": study.normalisation, "classes": len(study.data.classes),
            "train": content(study.data.train), "backbone": Path(study.backbone).name,
            "own code": file_content(study.backbone.rsplit(":", 1)[0]), "classifier": study.classifier,
            "weights": file_content(study.weights) or study.weights, "recipe": asdict(study.recipe),
            "seed": study.seed}


def _seen(study):
    """What reads a network's pictures depends on the way that leads to its features, too."""
    return {"size": study.data.size, "normalisation": study.normalisation, "blocks": study.trained.blocks}


INPUTS = {
    "training": _training,
    "network": lambda study: study.checkpoint.manifest["sha256"][:16],
    "seen": _seen,
    "train": lambda study: content(study.data.train),
    "test": lambda study: content(study.data.test),
    "k": lambda study: study.k,
    "seed": lambda study: study.seed,
    "n_init": lambda study: study.n_init,
    "protopnet": lambda study: protopnet(study).manifest["sha256"][:16],
}


# The network


def build(study: Settings, n_classes: int, size: int, load_weights: bool = True) -> Backbone:
    """The study's kind of network for pictures of size x size pixels; load_weights=False leaves ImageNet's out."""
    names = tuple(name.strip() for name in study.blocks.split(",") if name.strip())
    weights = None if study.weights == "none" else study.weights
    return architectures.build(study.backbone, n_classes, weights, names, study.classifier, probe=(3, size, size),
                               load_weights=load_weights)


def untrained(study: Settings, load_weights: bool = True) -> Backbone:
    """The network as it is before training. Its first weights depend on the seed alone, and it disturbs no other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.seed)
        return build(study, len(study.data.classes), study.data.size, load_weights)


def trained(study: Settings) -> Backbone:
    """The trained network, ready to run."""
    tensors = study.checkpoint.tensors
    net = untrained(study, load_weights=False)  # what is overwritten need not be fetched: a kept network loads offline
    net.model.load_state_dict(tensors)
    return ready(net)


def ready(net: torch.nn.Module) -> torch.nn.Module:
    """The network on the accelerator where there is one, laid out channels last: a third faster in float32 on CPUs."""
    return net.to(training.device(), memory_format=torch.channels_last)


def checkpoint(study: Settings) -> store.Kept:
    """The weights of the study's network, shipped or trained; `manifest["training"]` tells how they were trained."""
    study.check_k(study.k)
    return shipped_cnn(study) or train_cnn(study)


def shipped_cnn(study: Settings) -> store.Kept | None:
    """The weights that ship for exactly this study, if any do: see `shipped.found`."""
    return shipped.found(study, "cnn", inputs(study, **_training(study)),
                         lambda: _like(replace(study, seed=0), len(study.data.classes), study.data.size))


@lru_cache(maxsize=4)  # many networks differ in their seed alone
def _like(study: Settings, n_classes: int, size: int) -> dict[str, torch.Tensor]:
    return build(study, n_classes, size, load_weights=False).model.state_dict()


def train_cnn(study: Settings) -> store.Kept:
    """The weights of the study's network, trained on its training pictures."""
    key = inputs(study, **_training(study))

    def compute():
        net = untrained(study)
        report = training.train(net.model, study.data.train, study.recipe, study.seed,
                                store.half_done("checkpoint", key))
        return net.model.state_dict(), {"training": report}
    return store.kept("checkpoint", key, compute)


def embeddings(study: Settings, split: str, Z: torch.Tensor | None = None) -> np.ndarray:
    """The embeddings z of a split, (n, D) float32, which say of which split they are.

    Z: them, where another pass over the pictures has come by them; they are kept if none are.
    """
    pictures = study.splits[split]

    def compute():
        chunks = torch.arange(len(pictures)).split(BATCH)
        return {"Z": torch.cat([study.trained.embed(pictures.batch(i)).cpu() for i in chunks]) if Z is None else Z}
    key = inputs(study, "network", "seen", pictures=content(pictures))
    return guards.marked(store.kept("embeddings", key, compute).tensors["Z"].numpy(), pictures.split)


# The other systems


def protopnet(study: Settings) -> store.Kept:
    """The weights of ProtoPNet (section 4) with the study's K/C, shipped or trained; as `checkpoint`."""
    return shipped_protopnet(study) or train_protopnet(study)


def shipped_protopnet(study: Settings) -> store.Kept | None:
    """The weights that ship for exactly this study's ProtoPNet, if any do."""
    return shipped.found(study, "protopnet", _protopnet(study), lambda: unfilled_protopnet(study).state_dict())


def _protopnet(study):
    """All that ProtoPNet depends on."""
    # The paper's starts from ImageNet's weights, as its CNN does. The official learning rates are for fine-tuning:
    # from random weights they would lead nowhere in these few epochs, so there the trained CNN's encoder stands in.
    start = ["network"] if study.weights == "none" else []
    return inputs(study, *start, "k", **_training(study), schedule=asdict(study.schedule))


def train_protopnet(study: Settings) -> store.Kept:
    """The weights of ProtoPNet, trained; `manifest["start"]` says what it started from."""
    key, from_cnn = _protopnet(study), study.weights == "none"

    def compute():
        net = ProtoPNet(study.trained if from_cnn else untrained(study), study.k, study.seed)
        report = protopnets.train(net, study.data.train, study.schedule, study.seed,
                                  store.half_done("protopnet", key))
        start = "the trained CNN's encoder" if from_cnn else "the weights that the CNN started from"
        return net.state_dict(), {"training": report, "start": start}
    return store.kept("protopnet", key, compute)


def unfilled_protopnet(study: Settings) -> ProtoPNet:
    """ProtoPNet as the study has it, before any weights are in it."""
    return ProtoPNet(untrained(study, load_weights=False), study.k, study.seed)


def trained_protopnet(study: Settings) -> ProtoPNet:
    """ProtoPNet, trained, ready to run."""
    net, tensors = unfilled_protopnet(study), protopnet(study).tensors
    net.load_state_dict(tensors)
    return ready(net)


def protopnet_reading(study: Settings, split: str) -> tuple[np.ndarray, torch.Tensor]:
    """What ProtoPNet's prototypes are compared with, a split's mean patches (n, 128), and what it predicts (n,)."""
    pictures = study.splits[split]

    def compute():
        chunks = torch.arange(len(pictures)).split(BATCH)
        Z, predicted = zip(*(study.protopnet.read(pictures.batch(i)) for i in chunks), strict=True)
        return {"Z": torch.cat(Z).cpu(), "predicted": torch.cat(predicted).cpu()}
    key = inputs(study, "protopnet", pictures=content(pictures), size=study.data.size,
                 normalisation=study.normalisation)
    kept = store.kept("patch-embeddings", key, compute).tensors
    return guards.marked(kept["Z"].numpy(), pictures.split), kept["predicted"]


def softcam(study: Settings, l1: float, l2: float, epochs: int) -> tuple[SoftCAM, dict]:
    """Soft-CAM fine-tuned with these penalties, and its manifest. Steps are a fifth of the CNN's own."""
    recipe = replace(study.recipe, epochs=epochs, lr=study.recipe.lr / 5)
    soft = SoftCAM(study.trained)
    key = inputs(study, "network", "seen", "train", "seed", l1=l1, l2=l2, recipe=asdict(recipe))

    def compute():
        report = finetune(soft, study.data.train, recipe, l1, l2, study.seed, store.half_done("softcam", key))
        return soft.difference(study.trained), {"training": report}
    tensors, manifest = store.kept("softcam", key, compute)
    soft.load_difference(tensors)
    return ready(soft), manifest


def softcam_accuracy(study: Settings, split: str, l1: float, l2: float) -> float:
    """Accuracy of the fine-tuned Soft-CAM on a split, a fraction."""
    (soft, manifest), pictures = study.finetuned(l1, l2), study.splits[split]

    def compute():
        found = measures.accuracy(pictures.labels, training.predictions(soft, pictures))
        return {"accuracy": torch.tensor(found, dtype=torch.float64)}
    key = inputs(study, weights=manifest["sha256"], pictures=content(pictures), size=study.data.size,
                 normalisation=study.normalisation)
    return store.kept("accuracy", key, compute).tensors["accuracy"].item()
