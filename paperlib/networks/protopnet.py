"""The baseline of section 4: ProtoPNet (Chen et al. 2019), whose prototypes are patches of training pictures.

Training goes through four stages: warm, joint, push, last layer (`Schedule`). Its layers: `protopnet_model`.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from paperlib import guards
from paperlib.datasets.load import DRAWN
from paperlib.datasets.pictures import AUGMENTS, Pictures
from paperlib.measures import accuracy
from paperlib.networks import training
from paperlib.networks.protopnet_model import ProtoPNet, check_labels, cluster_cost, separation_cost

# What each stage trains; all else keeps its weights. As in the official code, batch norms stay in training mode where
# the encoder is frozen (warm): their running means move.
STAGES = {"warm": ("add_on", "prototypes"), "joint": ("encoder", "add_on", "prototypes"), "last": ("last_layer",)}


@dataclass(frozen=True)
class Schedule:
    """How ProtoPNet is trained; the defaults are the official ones, but for `epochs`, which is ours.

    Epochs count from 0. The first `warm` train the add-on layers and the prototypes alone, the others the encoder too
    (joint). After epoch `push_start`, every `push_every`-th epoch from there, and the last, the prototypes are pushed
    and the last layer is trained for `last_layer_passes`. Adam throughout; weight decay on encoder and add-on layers.

    epochs: the official settings.py says 1,000, and its author advised stopping by 50; 31 hold the first three pushes,
    after epochs 10, 20 and 30.
    lr_every, lr_factor: joint epoch j = 0, 1, ... runs at lr_factor^floor(j / lr_every) times the first rates. The
    official loop calls StepLR.step() before each joint epoch. Ours is its reading under the torch of its day (1.0 and
    older), where the first call sets the first rates. Since torch 1.1 the first call moves on already, so that every
    fall comes an epoch earlier: there the official file runs epochs 9, 14, 19, 24 and 29 at a tenth of our rates.

    Raises ValueError for a number out of range and an unknown augmentation.
    """

    warm: int = 5
    epochs: int = 31
    push_start: int = 10
    push_every: int = 10
    last_layer_passes: int = 20
    encoder_lr: float = 1e-4
    lr: float = 3e-3
    last_layer_lr: float = 1e-4
    lr_every: int = 5
    lr_factor: float = 0.1
    weight_decay: float = 1e-3
    cluster: float = 0.8
    separation: float = 0.08
    l1: float = 1e-4
    batch_size: int = 80
    augment: str = "none"

    def __post_init__(self):
        for name, least in {"epochs": 1, "push_every": 1, "lr_every": 1, "warm": 0, "push_start": 0,
                            "last_layer_passes": 0, "batch_size": 2}.items():
            guards.check_count(name, getattr(self, name), least)
        guards.check_option("augment", self.augment, AUGMENTS)
        rates = ("encoder_lr", "lr", "last_layer_lr", "lr_factor", "weight_decay", "cluster", "separation", "l1")
        training.check_not_negative(**{name: getattr(self, name) for name in rates})

    def stage(self, epoch: int) -> str:
        """"warm" or "joint"."""
        return "warm" if epoch < self.warm else "joint"

    def factor(self, epoch: int) -> float:
        """What the learning rates of this epoch are multiplied by."""
        return self.lr_factor ** (max(epoch - self.warm, 0) // self.lr_every)

    def pushes(self, epoch: int) -> bool:
        """True if a push and the last layer's passes follow this epoch, as they always follow the last."""
        due = epoch >= self.push_start and (epoch - self.push_start) % self.push_every == 0
        return due or epoch == self.epochs - 1


# Official, but for the CNN's own batches and augmentation, so that both learn from the same pictures. The embedded sets
# have no ImageNet weights to start from: there ProtoPNet starts from the trained CNN's encoder, for a few epochs. Ours.
SHORTENED = {"digits": {"warm": 2, "epochs": 4}, **dict.fromkeys(DRAWN, {"warm": 3, "epochs": 8})}
SCHEDULES = {name: Schedule(batch_size=recipe.batch_size, augment=recipe.augment, **SHORTENED.get(name, {}))
             for name, recipe in training.RECIPES.items()}


def train(model: ProtoPNet, pictures: Pictures, schedule: Schedule | None = None, seed: int = 0,
          unfinished: Path | None = None, progress: bool = True) -> dict:
    """Train `model` in place, ending with a push and the last layer's passes; returns what happened.

    The report: that of `training.learn`, but last_loss is that of the last layer's last pass; schedule; train_accuracy
    (after it, without augmentation); distinct_patches (different sources of the K prototypes). `unfinished` is a file
    that gets the state after each epoch, with its push and passes; where it is found, training goes on from it, bit for
    bit. The caller removes it once the result is safe.

    The last batch of an epoch is dropped where it is smaller, as in the CNN's training. The last layer is trained on
    distances computed once, from pictures without augmentation, in evaluation mode: exact, and prototypes stay equal to
    their patches. The official code goes over augmented pictures, with batch norms in training mode.

    Raises ValueError for pictures of the test split, fewer than two, labels that do not fit, NaN in pictures, and a
    loss that is no number.
    """
    schedule = schedule or Schedule()
    training.check_can_learn(model, pictures)
    check_labels(pictures.labels, model.n_classes)
    training.placed(model)
    optimisers = {stage: _optimiser(model, stage, schedule) for stage in STAGES}

    def after_epoch(epoch, rng):
        if not schedule.pushes(epoch):
            return {}
        model.push(pictures)
        return _train_last_layer(model, pictures, schedule, optimisers["last"], rng)

    report = training.learn(
        model, pictures, schedule, optimisers, lambda x, y, bf16: _loss(model, schedule, x, y, bf16),
        stage_of=schedule.stage, rate_of=lambda first, epoch, step: first * schedule.factor(epoch),
        after_epoch=after_epoch, name="ProtoPNet", seed=seed, unfinished=unfinished, progress=progress)
    model.requires_grad_(True)
    return {"schedule": asdict(schedule), **report, "distinct_patches": len(model.sources_.unique(dim=0))}


def _optimiser(model: ProtoPNet, stage: str, schedule: Schedule) -> torch.optim.Adam:
    """Adam over what the stage trains, with each part's learning rate and decay."""
    options = {"encoder": (schedule.encoder_lr, schedule.weight_decay), "add_on": (schedule.lr, schedule.weight_decay),
               "prototypes": (schedule.lr, 0.0), "last_layer": (schedule.last_layer_lr, 0.0)}
    groups = []
    for part in STAGES[stage]:
        trained = [model.prototypes] if part == "prototypes" else list(getattr(model, part).parameters())
        groups.append({"params": trained, "lr": options[part][0], "weight_decay": options[part][1]})
    return torch.optim.Adam(groups)


def _loss(model: ProtoPNet, schedule: Schedule, x: torch.Tensor, y: torch.Tensor, bf16: bool) -> torch.Tensor:
    """The loss of a batch, warm or joint: cross-entropy + 0.8 cluster - 0.08 separation."""
    d2 = model.min_distances(x, bf16)
    return (nn.functional.cross_entropy(model.classify(d2), y)
            + schedule.cluster * cluster_cost(d2, y, model.prototype_labels_)
            - schedule.separation * separation_cost(d2, y, model.prototype_labels_))


def _train_last_layer(model, pictures, schedule, optimiser, rng) -> dict[str, float]:
    """The passes of the last layer: cross-entropy + l1 of the weights between a class and others' prototypes.

    Returns last_loss, of the last pass, and train_accuracy after it.
    """
    training.train_only(model, optimiser)
    model.eval()
    where, total = model.prototypes.device, float("nan")
    with torch.no_grad():
        chunks = torch.arange(len(pictures)).split(128)
        d2 = torch.cat([model.min_distances(pictures.batch(i).to(where)) for i in chunks])
    labels, other = pictures.labels.to(where), ~model.connected
    for _ in range(schedule.last_layer_passes):
        total, order = 0.0, training.batches(len(pictures), schedule.batch_size, rng)
        for indices in order:
            indices = torch.as_tensor(indices, device=where)
            loss = (nn.functional.cross_entropy(model.classify(d2[indices]), labels[indices])
                    + schedule.l1 * model.last_layer.weight[other].abs().sum())
            total += training.descend(optimiser, loss, "in the last layer's passes") / len(order)
    with torch.no_grad():
        return {"last_loss": total, "train_accuracy": accuracy(labels.cpu(), model.classify(d2).argmax(1).cpu())}
