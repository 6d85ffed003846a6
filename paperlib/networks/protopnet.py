"""The baseline of section 4: ProtoPNet (Chen et al. 2019), whose prototypes are patches of training pictures.

Letters: n images, C classes, K prototypes ordered by class, K/C of them a class; a patch is one pixel of the encoder's
output after the add-on layers, z in [0, 1]^128; d2 is the squared l2 distance of a patch and a prototype. Training goes
through four stages: warm, joint, push, last layer (`Schedule`).
"""
from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperlib import backbone as backbones
from paperlib.concepts import check_option
from paperlib.datasets import files
from paperlib.datasets.load import DRAWN, Pictures
from paperlib.kmex import check_count
from paperlib.measures import accuracy
from paperlib.networks.training import RECIPES, device, has_bf16
from paperlib.progress import Bar

EPSILON = 1e-4  # of the similarity: a prototype that a picture holds exactly scores log(1 / EPSILON) = 9.2
RIGHT, WRONG = 1.0, -0.5  # first weights of the last layer, from prototypes of the class and of the others


@dataclass(frozen=True)
class Schedule:
    """How ProtoPNet is trained; the defaults are the official ones, but `epochs`, whose authors say to stop by 50.

    Epochs count from 0. The first `warm` train the add-on layers and the prototypes alone, the others the encoder too
    (joint). After epoch `push_start`, every `push_every`-th epoch from there, and the last, the prototypes are pushed
    and the last layer is trained for `last_layer_passes`. Adam throughout; weight decay on encoder and add-on layers.
    In the joint epochs the learning rates fall by `lr_factor` every `lr_every` epochs.
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
        for name in ("epochs", "push_every", "lr_every"):
            check_count(name, getattr(self, name))
        if min(self.warm, self.push_start, self.last_layer_passes) < 0 or self.batch_size < 2:
            raise ValueError("warm, push_start and last_layer_passes must be 0 or more, and batch_size 2 or more.")

    def stage(self, epoch: int) -> str:
        """"warm" or "joint"."""
        return "warm" if epoch < self.warm else "joint"

    def factor(self, epoch: int) -> float:
        """What the learning rates of this epoch are multiplied with."""
        return self.lr_factor ** (max(epoch - self.warm, 0) // self.lr_every)

    def pushes(self, epoch: int) -> bool:
        """Whether a push and the last layer's passes follow this epoch; the last epoch always ends so."""
        due = epoch >= self.push_start and (epoch - self.push_start) % self.push_every == 0
        return due or epoch == self.epochs - 1


# Official, but for the CNN's own batches and augmentation, so that both learn from the same pictures. The embedded sets
# have no ImageNet weights to start from: there ProtoPNet starts from the trained CNN's encoder, for a few epochs. Ours.
SHORTENED = {"digits": {"warm": 2, "epochs": 4}, **dict.fromkeys(DRAWN, {"warm": 1, "epochs": 3})}
SCHEDULES = {name: Schedule(batch_size=recipe.batch_size, augment=recipe.augment, **SHORTENED.get(name, {}))
             for name, recipe in RECIPES.items()}


class ProtoPNet(nn.Module):
    """Encoder, add-on layers, prototypes, linear layer: forward(x) gives logits (n, C) for pictures (n, 3, H, W).

    backbone: its encoder f_1..f_B is copied, weights and all; the backbone itself stays as it is. Trained or not is the
    caller's choice (the paper's starts from ImageNet's weights, as its CNN does).
    prototypes_per_class: K/C. seed: draws the add-on layers' first weights and the prototypes. channels: of a patch.

    sources_ (K, 3): image, row, column of the training patch that each prototype is since the last push, -1 before;
    map_size_ (2,): rows and columns of the map of patches. Both are buffers: `state_dict()` holds all that was learnt.
    Raises ValueError for K/C below 1 or fewer than two classes.
    """

    def __init__(self, backbone: backbones.Backbone, prototypes_per_class: int = 5, seed: int = 0, channels: int = 128):
        super().__init__()
        check_count("prototypes_per_class", prototypes_per_class)
        if backbone.n_classes < 2:
            raise ValueError("the backbone has one class: ProtoPNet separates prototypes of two classes or more.")
        D, C, K = len(backbone.C), backbone.n_classes, backbone.n_classes * prototypes_per_class
        self.n_classes, self.prototypes_per_class = C, prototypes_per_class
        self.encoder = backbones.extractor(copy.deepcopy(backbone.model), backbone.blocks[-1:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.add_on = nn.Sequential(nn.Conv2d(D, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1),
                                        nn.Sigmoid())
            for conv in self.add_on[::2]:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)
            self.prototypes = nn.Parameter(torch.rand(K, channels, 1, 1))
            self.last_layer = nn.Linear(K, C, bias=False)
        self.register_buffer("prototype_labels_", torch.arange(C).repeat_interleave(prototypes_per_class))
        self.register_buffer("sources_", torch.full((K, 3), -1))
        self.register_buffer("map_size_", torch.full((2,), -1))
        self.last_layer.weight.data = torch.where(self.connected, RIGHT, WRONG)
        self.to(backbone.device).eval()

    @property
    def connected(self) -> torch.Tensor:
        """Whether a prototype belongs to a class: (C, K) bool, as the last layer's weights."""
        return torch.arange(self.n_classes, device=self.prototypes.device)[:, None] == self.prototype_labels_

    @property
    def prototypes_(self) -> torch.Tensor:
        """The prototypes as rows, (K, 128), without gradient."""
        return self.prototypes.detach().flatten(1)

    def latent(self, x: torch.Tensor, bf16: bool = False) -> torch.Tensor:
        """The patches z of pictures x (n, 3, H, W): (n, 128, H', W') in [0, 1], float32; `bf16`: the encoder in that.

        Raises ValueError for another shape, and for NaN in the pictures.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"pictures must be (n, 3, H, W), but are {tuple(x.shape)}.")
        if not torch.isfinite(x).all():
            raise ValueError("the pictures hold NaN or infinite values: check how they were normalised.")
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            h = self.encoder(x)[-1]
        return self.add_on(h.float())

    def min_distances(self, x: torch.Tensor, bf16: bool = False) -> torch.Tensor:
        """Smallest d2 of each picture's patches to each prototype, (n, K): the similarity falls with d2, so that its
        max pooling over the map is the similarity of this minimum."""
        rows = self.latent(x, bf16).flatten(2).transpose(1, 2)
        return squared_distances(rows, self.prototypes.flatten(1)).min(dim=1).values

    def classify(self, d2: torch.Tensor) -> torch.Tensor:
        """Logits (n, C) of smallest distances (n, K)."""
        return self.last_layer(similarity(d2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.min_distances(x))

    @torch.no_grad()
    def embed(self, x: torch.Tensor, reading: str = "mean") -> torch.Tensor:
        """One vector for each picture in the prototypes' own space, (n, 128), to be compared with them (Table 1).

        The paper does not say what it compares. "mean": the patches' average, as z averages h. "nearest": the one patch
        that is nearest to any prototype. Raises ValueError for another reading.
        """
        check_option("reading", reading, ("mean", "nearest"))
        rows = self.eval().latent(x.to(self.prototypes.device)).flatten(2).transpose(1, 2)
        if reading == "mean":
            return rows.mean(1)
        nearest = squared_distances(rows, self.prototypes_).amin(2).argmin(1)
        return rows[torch.arange(len(rows)), nearest]

    @torch.no_grad()
    def push(self, pictures: Pictures, batch_size: int = 128) -> None:
        """Put the nearest training patch of its own class in each prototype's place, and its place in `sources_`.

        In evaluation mode, float32, without augmentation, one class after another. Several prototypes may land on one
        patch, as in the official code. Raises ValueError for labels outside the classes and a class without pictures.
        """
        self.eval()
        check_labels(pictures.labels, self.n_classes)
        for c in range(self.n_classes):
            mine = self.prototype_labels_ == c
            best, patches, sources = self._nearest_patches(self.prototypes_[mine], pictures, c, batch_size)
            if not torch.isfinite(best).all():
                raise ValueError("the network's patches hold NaN: training went wrong; use smaller learning rates.")
            self.prototypes.data[mine] = patches[:, :, None, None]
            self.sources_[mine] = sources

    def _nearest_patches(self, p, pictures, c, batch_size):
        """For the prototypes p (m, 128): d (m,), patch (m, 128), source (m, 3) nearest among pictures of class c."""
        best = torch.full((len(p),), torch.inf, device=p.device)
        patches, sources = torch.empty_like(p), torch.full((len(p), 3), -1, device=p.device)
        for index in (pictures.labels == c).nonzero().flatten().split(batch_size):
            z = self.latent(pictures.batch(index).to(p.device))
            H, W = z.shape[2:]
            self.map_size_[:] = torch.tensor([H, W])
            rows = z.permute(0, 2, 3, 1).flatten(0, 2)
            # By differences: a prototype that was pushed before is a patch, and its distance of 0 must not be rounded.
            d, row = torch.cdist(p, rows, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
            place = torch.stack([index.to(p.device)[row // (H * W)], row % (H * W) // W, row % W], dim=1)
            nearer = d < best
            best[nearer], patches[nearer], sources[nearer] = d[nearer], rows[row[nearer]], place[nearer]
        return best, patches, sources


def squared_distances(rows: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """d2 = ||z - p||^2 of patches (n, R, 128) and prototypes (K, 128): (n, R, K), never below 0.

    By one matrix product. A common shift changes no distance but keeps float32's digits: trained patches lie close
    together and far from zero.
    """
    shift = p.mean(0).detach()
    rows, p = rows - shift, p - shift
    return (rows.square().sum(2, keepdim=True) - 2 * rows @ p.T + p.square().sum(1)).clamp_min(0)


def similarity(d2: torch.Tensor) -> torch.Tensor:
    """log((d2 + 1) / (d2 + 1e-4)): 9.2 at a distance of 0, falling to 0."""
    return torch.log((d2 + 1) / (d2 + EPSILON))


def cluster_cost(d2: torch.Tensor, labels: torch.Tensor, prototype_labels: torch.Tensor) -> torch.Tensor:
    """Mean over pictures of the smallest distance to a prototype of the own class; d2 (n, K) from `min_distances`."""
    own = labels[:, None] == prototype_labels
    return d2.masked_fill(~own, torch.inf).min(dim=1).values.mean()


def separation_cost(d2: torch.Tensor, labels: torch.Tensor, prototype_labels: torch.Tensor) -> torch.Tensor:
    """Mean over pictures of the smallest distance to a prototype of any other class; the loss subtracts it."""
    own = labels[:, None] == prototype_labels
    return d2.masked_fill(own, torch.inf).min(dim=1).values.mean()


def check_labels(labels: torch.Tensor, n_classes: int) -> None:
    """Raise ValueError for labels outside 0..n_classes-1, or a class that has no picture to push a prototype onto."""
    present = set(labels.tolist())
    missing = sorted(set(range(n_classes)) - present)
    if present - set(range(n_classes)):
        raise ValueError(f"labels must lie in 0..{n_classes - 1}, but go from {min(present)} to {max(present)}.")
    if missing:
        raise ValueError(f"class {', '.join(map(str, missing))} has no training picture: a prototype must become a "
                         f"patch of its own class.")


# Training

# What each stage trains; all else keeps its weights. As in the official code, batch norms stay in training mode where
# the encoder is frozen (warm): their running means move.
STAGES = {"warm": ("add_on", "prototypes"), "joint": ("encoder", "add_on", "prototypes"), "last": ("last_layer",)}


def train(model: ProtoPNet, pictures: Pictures, schedule: Schedule | None = None, seed: int = 0,
          unfinished: Path | None = None, progress: bool = True) -> dict:
    """Train `model` in place, ending with a push and the last layer's passes; returns what happened.

    The report: schedule, seed, device, precision, pictures, losses (one an epoch), last_loss (of the last layer's last
    pass), train_accuracy (after it, without augmentation), distinct_patches (different sources of the K prototypes),
    gone_on_from_epoch, seconds. `unfinished` is a file that gets the state after each epoch, with its push and passes;
    where it is found, training goes on from it, bit for bit. The caller removes it once the result is safe.

    The last batch of an epoch is dropped where it is smaller, as in the CNN's training. The last layer is trained on
    distances computed once, from pictures without augmentation, in evaluation mode: exact, and prototypes stay equal to
    their patches. The official code goes over augmented pictures, with batch norms in training mode.

    Raises ValueError for fewer than two pictures, labels that do not fit, NaN in pictures, a loss that is no number.
    """
    schedule = schedule or Schedule()
    if len(pictures) < 2:
        raise ValueError(f"There are {len(pictures)} pictures to train on; give at least two.")
    check_labels(pictures.labels, model.n_classes)
    where, start = device(), time.perf_counter()
    model.to(where, memory_format=torch.channels_last)
    optimisers = {stage: _optimiser(model, stage, schedule) for stage in STAGES}
    losses, end = _resume(unfinished, model, optimisers)
    done, bf16 = len(losses), has_bf16(where)
    steps = max(1, len(pictures) // schedule.batch_size)
    with Bar(total=schedule.epochs * steps, initial=done * steps, desc="ProtoPNet",
              show=progress) as bar:
        for epoch in range(done, schedule.epochs):
            # Seeded by (seed, epoch), so that a run that was interrupted takes the same steps as one that was not.
            rng = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(rng.integers(2**31)))
            losses.append(_epoch(model, pictures, schedule, epoch, optimisers, rng, bf16, bar))
            if schedule.pushes(epoch):
                model.push(pictures)
                end = _train_last_layer(model, pictures, schedule, optimisers["last"], rng)
            bar.set_postfix(stage=schedule.stage(epoch), loss=f"{losses[-1]:.3f}")
            if unfinished is not None:
                _keep(unfinished, model, optimisers, losses, end)
    model.requires_grad_(True).eval()
    return {"schedule": asdict(schedule), "seed": seed, "device": str(where),
            "precision": "bfloat16" if bf16 else "float32", "pictures": len(pictures), "losses": losses,
            **end, "distinct_patches": len(model.sources_.unique(dim=0)), "gone_on_from_epoch": done,
            "seconds": round(time.perf_counter() - start, 1)}


def _optimiser(model: ProtoPNet, stage: str, schedule: Schedule) -> torch.optim.Adam:
    """Adam over what the stage trains, with each part's learning rate and decay."""
    options = {"encoder": (schedule.encoder_lr, schedule.weight_decay), "add_on": (schedule.lr, schedule.weight_decay),
               "prototypes": (schedule.lr, 0.0), "last_layer": (schedule.last_layer_lr, 0.0)}
    groups = [{"params": _parameters(model, part), "lr": options[part][0], "first_lr": options[part][0],
               "weight_decay": options[part][1]} for part in STAGES[stage]]
    return torch.optim.Adam(groups)


def _parameters(model: ProtoPNet, part: str) -> list[nn.Parameter]:
    return [model.prototypes] if part == "prototypes" else list(getattr(model, part).parameters())


def _set_stage(model: ProtoPNet, stage: str) -> None:
    """Gradients for what the stage trains and for nothing else."""
    model.requires_grad_(False)
    for part in STAGES[stage]:
        for parameter in _parameters(model, part):
            parameter.requires_grad_(True)


def _epoch(model, pictures, schedule, epoch, optimisers, rng, bf16, bar) -> float:
    """One epoch, warm or joint: cross-entropy + 0.8 cluster - 0.08 separation; returns its mean."""
    stage, where, total = schedule.stage(epoch), model.prototypes.device, 0.0
    _set_stage(model, stage)
    model.train()
    for group in optimisers[stage].param_groups:
        group["lr"] = group["first_lr"] * schedule.factor(epoch)
    batches = _batches(len(pictures), schedule.batch_size, rng)
    for indices in batches:
        x = pictures.batch(indices, schedule.augment, rng).to(where, memory_format=torch.channels_last)
        y = pictures.labels[indices].to(where)
        d2 = model.min_distances(x, bf16)
        loss = (nn.functional.cross_entropy(model.classify(d2), y)
                + schedule.cluster * cluster_cost(d2, y, model.prototype_labels_)
                - schedule.separation * separation_cost(d2, y, model.prototype_labels_))
        total += _step(optimisers[stage], loss, f"in epoch {epoch + 1}") / len(batches)
        bar.update()
    return total


def _train_last_layer(model, pictures, schedule, optimiser, rng) -> dict[str, float]:
    """The passes of the last layer: cross-entropy + l1 of the weights between a class and others' prototypes.

    Returns last_loss, of the last pass, and train_accuracy after it.
    """
    _set_stage(model, "last")
    model.eval()
    where, total = model.prototypes.device, float("nan")
    with torch.no_grad():
        chunks = torch.arange(len(pictures)).split(128)
        d2 = torch.cat([model.min_distances(pictures.batch(i).to(where)) for i in chunks])
    labels, wrong = pictures.labels.to(where), ~model.connected
    for _ in range(schedule.last_layer_passes):
        total, batches = 0.0, _batches(len(pictures), schedule.batch_size, rng)
        for indices in batches:
            indices = torch.as_tensor(indices, device=where)
            loss = (nn.functional.cross_entropy(model.classify(d2[indices]), labels[indices])
                    + schedule.l1 * model.last_layer.weight[wrong].abs().sum())
            total += _step(optimiser, loss, "in the last layer's passes") / len(batches)
    with torch.no_grad():
        return {"last_loss": total, "train_accuracy": accuracy(labels.cpu(), model.classify(d2).argmax(1).cpu())}


def _batches(n: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices in random order, (steps, batch); the rest is dropped."""
    batch_size = min(batch_size, n)
    steps = n // batch_size
    return rng.permutation(n)[:steps * batch_size].reshape(steps, batch_size)


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, when: str) -> float:
    value = loss.item()
    if not np.isfinite(value):
        raise ValueError(f"The loss is {value} {when}; use smaller learning rates.")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return value


def _keep(path: Path, model: ProtoPNet, optimisers: dict, losses: list[float], end: dict[str, float]) -> None:
    """The model, and of each parameter in each stage Adam's state: its number of steps and its two averages."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for stage, optimiser in optimisers.items():
        for name, parameter in model.named_parameters():
            tensors |= {f"{stage}.{key}.{name}": t for key, t in optimiser.state.get(parameter, {}).items()}
    files.save(path, tensors, {"losses": losses, "end": end})


def _resume(path: Path | None, model: ProtoPNet, optimisers: dict) -> tuple[list[float], dict[str, float]]:
    """Put model and optimisers where `path` left them; returns the losses of the epochs done, and the end's numbers."""
    try:
        if path is None:
            return [], {}
        tensors, manifest = files.load(path)
    except (FileNotFoundError, files.DamagedFile):
        return [], {}  # a stop between the two files of a save costs no more than it would without them
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    parameters = dict(model.named_parameters())
    for stage, optimiser in optimisers.items():
        for full_name in (n for n in tensors if n.startswith(f"{stage}.")):
            key, name = full_name.removeprefix(f"{stage}.").split(".", 1)
            # As Adam itself lays them out: the number of steps on the processor, the averages as their parameter.
            like = tensors[full_name] if key == "step" else torch.zeros_like(parameters[name]).copy_(tensors[full_name])
            optimiser.state[parameters[name]][key] = like
    return manifest["losses"], manifest["end"]
