"""The one training loop of all networks here, and the CNN's recipe (section 4: "trained following Gautam et al. 2024").

A run that was interrupted goes on from its last whole epoch, bit for bit.
"""
from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperlib import guards
from paperlib.datasets import files
from paperlib.datasets.pictures import AUGMENTS, Pictures
from paperlib.progress import Bar


def check_not_negative(**values: float) -> None:
    """Raise ValueError, by name, for a value that is negative, infinite or no number."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r} must be 0 or more.")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of the official KMEx code for MNIST.

    SGD on the cross-entropy, the learning rate falling from `lr` to `final_lr` along a cosine, a step at a time; the
    last, smaller batch of an epoch is dropped.

    Raises ValueError for a number out of range and an unknown augmentation.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.01
    final_lr: float = 1e-4
    momentum: float = 0.5
    weight_decay: float = 0.0
    augment: str = "none"

    def __post_init__(self):
        guards.check_count("epochs", self.epochs)
        guards.check_count("batch_size", self.batch_size, 2)
        guards.check_option("augment", self.augment, AUGMENTS)
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr={self.lr!r} must be above 0.")
        check_not_negative(final_lr=self.final_lr, momentum=self.momentum, weight_decay=self.weight_decay)


DRAWN = Recipe(epochs=24, batch_size=32, lr=0.05, momentum=0.9, weight_decay=5e-4, augment="flip+crop")
# The first two are the official code's; CUB-200 has no official loader, batch or epochs: ours, for a folder too. The
# embedded sets are learnt from random weights in a minute or two, with larger steps than fine-tuning takes: ours.
RECIPES = {
    "mnist": Recipe(),
    "stl10": Recipe(epochs=30, augment="flip+crop"),
    "cub200": Recipe(epochs=30, batch_size=32, augment="flip+crop"),
    "folder": Recipe(epochs=30, batch_size=32, augment="flip+crop"),
    "digits": Recipe(epochs=15, batch_size=64, lr=0.05, momentum=0.9, weight_decay=5e-4),
    "birds": DRAWN,
    **dict.fromkeys(("sparrows", "shortcut"), replace(DRAWN, epochs=20, batch_size=16, lr=0.02)),  # few: small steps
}


def train(model: nn.Module, pictures: Pictures, recipe: Recipe, seed: int = 0, unfinished: Path | None = None,
          progress: bool = True, loss_of: Callable[..., torch.Tensor] = nn.functional.cross_entropy,
          name: str = "training") -> dict:
    """Train `model` in place by the recipe; returns what happened, as `learn` does, and the recipe.

    model maps (n, 3, H, W) to logits (n, n_classes), or to what loss_of(output, labels) takes. name: the progress
    bar's. Raises ValueError for pictures of the test split (LeakError), fewer than two pictures, a network that cannot
    be trained, a loss that is no number, and a network that is of no use in evaluation mode (`check_evaluation`).
    """
    check_can_learn(model, pictures)
    where = placed(model)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], recipe.lr, recipe.momentum,
                                weight_decay=recipe.weight_decay)
    steps = len(pictures) // min(recipe.batch_size, len(pictures))
    rates = cosine(recipe.lr, recipe.final_lr, recipe.epochs * steps)

    def loss_of_batch(x, y, bf16):
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            output = model(x)
        return loss_of(output.float(), y)

    report = learn(model, pictures, recipe, {"all": optimiser}, loss_of_batch, stage_of=lambda epoch: "all",
                   rate_of=lambda first, epoch, step: rates[epoch * steps + step], name=name, seed=seed,
                   unfinished=unfinished, progress=progress)
    check_evaluation(model, pictures, loss_of, report["last_loss"], recipe.epochs * steps)
    return {"recipe": asdict(recipe), **report}


def learn(model: nn.Module, pictures: Pictures, recipe, optimisers: dict[str, torch.optim.Optimizer],
          loss_of: Callable[..., torch.Tensor], *, stage_of: Callable[[int], str],
          rate_of: Callable[[float, int, int], float], after_epoch: Callable[..., dict] = lambda epoch, rng: {},
          name: str = "training", seed: int = 0, unfinished: Path | None = None, progress: bool = True) -> dict:
    """Train `model` in place, in stages: the one loop of the CNN, ProtoPNet and Soft-CAM.

    recipe: has epochs, batch_size and augment. optimisers: stage -> optimiser. An epoch trains what the optimiser of
    its stage, stage_of(epoch), holds and nothing else, on loss_of(x, y, bf16) of pictures x (n, 3, H, W) and labels
    y (n,); bf16: whether the device computes in bfloat16. rate_of(first, epoch, step): the learning rate of a step,
    from the one that the optimiser was made with. after_epoch(epoch, rng): does what follows an epoch; what it returns
    last is part of the report. `unfinished`: a file that gets the state after each epoch; where it is found, training
    goes on from it. The caller removes it once the result is safe.

    Returns seed, device, precision, pictures, losses (mean of each epoch), last_loss, gone_on_from_epoch, seconds. The
    global random generator is left as it was. Raises ValueError for a loss that is no number.
    """
    where, start = next(model.parameters()).device, time.perf_counter()
    bf16 = has_bf16(where)
    losses, found = _resume(unfinished, model, optimisers)
    done, steps = len(losses), len(pictures) // min(recipe.batch_size, len(pictures))
    with (Bar(total=recipe.epochs * steps, initial=done * steps, desc=name, show=progress) as bar,
          torch.random.fork_rng([where] if where.type == "cuda" else [])):
        for epoch in range(done, recipe.epochs):
            # Seeded by (seed, epoch), so that a run that was interrupted takes the same steps as one that was not.
            rng = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(rng.integers(2**31)))
            optimiser, loss = optimisers[stage_of(epoch)], 0.0
            train_only(model, optimiser)
            model.train()
            for step, indices in enumerate(batches(len(pictures), recipe.batch_size, rng)):
                for group in optimiser.param_groups:
                    group["lr"] = rate_of(group.setdefault("initial_lr", group["lr"]), epoch, step)
                x = pictures.batch(indices, recipe.augment, rng).to(where, memory_format=torch.channels_last)
                y = pictures.labels[indices].to(where)
                loss += descend(optimiser, loss_of(x, y, bf16), f"in epoch {epoch + 1}") / steps
                bar.update()
            losses.append(loss)
            found = after_epoch(epoch, rng) or found
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.3f}")
            if unfinished is not None:
                _keep(unfinished, model, optimisers, losses, found)
    model.eval()
    return {"seed": seed, "device": str(where), "precision": "bfloat16" if bf16 else "float32",
            "pictures": len(pictures), "losses": losses, "last_loss": losses[-1], **found, "gone_on_from_epoch": done,
            "seconds": round(time.perf_counter() - start, 1)}


# One step


def batches(n: int, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """0..n-1 in random order, (steps, batch); the last, smaller batch is dropped."""
    batch_size = min(batch_size, n)
    steps = n // batch_size
    return rng.permutation(n)[:steps * batch_size].reshape(steps, batch_size)


def train_only(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Let gradients reach the parameters that the optimiser holds, and no others."""
    model.requires_grad_(False)
    for parameter in _parameters(optimiser):
        parameter.requires_grad_(True)


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor, when: str) -> float:
    """The loss as a number, after one step down its gradient; raises ValueError, saying `when`, for NaN or infinity."""
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(f"The loss is {value} {when}: training diverged; take smaller steps (a smaller learning "
                         f"rate), or give more or larger pictures.")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return value


def cosine(lr: float, final_lr: float, steps: int) -> list[float]:
    """The learning rate of each step, falling along half a cosine; torch's scheduler, to its last digit."""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr)
    schedule, rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, final_lr), []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


# Going on after a stop


def _keep(path: Path, model: nn.Module, optimisers: dict, losses: list[float], found: dict) -> None:
    """Save the model and, of each optimiser, what it remembers of each parameter: momenta, or Adam's averages."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for stage, optimiser in optimisers.items():
        for i, parameter in enumerate(_parameters(optimiser)):
            state = optimiser.state.get(parameter, {})
            tensors |= {f"{stage}.{i}.{key}": t for key, t in state.items() if isinstance(t, torch.Tensor)}
    files.save(path, tensors, {"losses": losses, "found": found})


def _resume(path: Path | None, model: nn.Module, optimisers: dict) -> tuple[list[float], dict]:
    """The losses of the epochs done and what was found last, after model and optimisers are as `path` left them."""
    try:
        if path is None:
            return [], {}
        tensors, manifest = files.load(path)
    except (FileNotFoundError, files.DamagedFile):
        return [], {}  # a stop between the two files of a save costs no more than it would without them
    model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")})
    parameters = {stage: _parameters(optimiser) for stage, optimiser in optimisers.items()}
    for stage, i, key in (name.split(".", 2) for name in tensors if not name.startswith("model.")):
        parameter, tensor = parameters[stage][int(i)], tensors[f"{stage}.{i}.{key}"]
        # As the optimiser lays it out: numbers of steps as they are, all else like the parameter.
        like = torch.zeros_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
        optimisers[stage].state[parameter][key] = like
    return manifest["losses"], manifest["found"]


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


# Checks


def check_can_learn(model: nn.Module, pictures: Pictures) -> None:
    """Raise ValueError for pictures of the test split, fewer than two, and a network that cannot be trained."""
    guards.refuse_test(pictures, "training")
    if len(pictures) < 2:
        raise ValueError(f"There are {len(pictures)} pictures to train on; give at least two.")
    if torch.is_inference_mode_enabled() or not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the network cannot be trained: all its weights are frozen, or torch.inference_mode is on; "
                         "set requires_grad_(True) and train outside of inference mode.")


@torch.no_grad()
def check_evaluation(model: nn.Module, pictures: Pictures, loss_of, last_loss: float, steps: int) -> None:
    """Refuse a network that has learnt in training mode only, for its batch norms' running means are far off.

    They start at 0 and 1 and move a tenth of the way in each step, while the weights move too: after few steps a deep
    network multiplies the mismatch from norm to norm. The yardstick is the loss on training pictures, against chance
    (log n_classes) or the last epoch's, whichever is larger: ten times that is a warning, a thousand times, or no
    number, a ValueError.
    """
    some = torch.arange(0, len(pictures), max(1, len(pictures) // 64))
    output = model.eval()(pictures.batch(some).to(next(model.parameters()).device)).float()
    loss = loss_of(output, pictures.labels[some].to(output.device)).item()
    usual = max(math.log(max(output.shape[1], 2)), last_loss)
    sentence = (f"In evaluation mode the trained network's loss on training pictures is {loss:.3g}, while in training "
                f"it was {last_loss:.3g}: {steps} steps are too few for the running means of its batch norms; give "
                f"more pictures or more epochs.")
    if not loss <= 1000 * usual:
        raise ValueError(sentence)
    if loss > 10 * usual:
        warnings.warn(sentence, stacklevel=4)


# Where and how it is computed


def device() -> torch.device:
    """The accelerator where there is one, else the processor."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def placed(model: nn.Module) -> torch.device:
    """`device()`, after the model was moved there, laid out channels last: a third faster in float32 on processors."""
    model.to(device(), memory_format=torch.channels_last)
    return device()


def has_bf16(where: torch.device) -> bool:
    """True if `where` computes in bfloat16 itself: emulated, it would be slower than float32."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if where.type != "cpu":
        return False
    # Only where torch uses AVX-512 at all: ATEN_CPU_CAPABILITY=avx2 stands for the processors that lack it.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = any(getattr(torch.cpu, name, lambda: False)() for name in names)
    return has and "AVX512" in torch.backends.cpu.get_cpu_capability()


@torch.no_grad()
def predictions(model: nn.Module, pictures: Pictures, batch_size: int = 128) -> torch.Tensor:
    """The predicted class of each picture, (n,) int64; in float32, for numbers that are compared are not rounded."""
    model.eval()
    where = next(model.parameters()).device
    chunks = torch.arange(len(pictures)).split(batch_size)
    return torch.cat([model(pictures.batch(i).to(where)).argmax(1).cpu() for i in chunks])
