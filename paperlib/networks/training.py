"""The training recipe of section 4 ("trained following Gautam et al. 2024"); a run that was interrupted goes on."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paperlib.datasets import files
from paperlib.datasets.load import Pictures
from paperlib.progress import Bar


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of the official KMEx code for MNIST.

    SGD on the cross-entropy, the learning rate falling from `lr` to `final_lr` along a cosine, a step at a time; the
    last, smaller batch of an epoch is dropped.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.01
    final_lr: float = 1e-4
    momentum: float = 0.5
    weight_decay: float = 0.0
    augment: str = "none"


DRAWN = Recipe(epochs=10, batch_size=64, lr=0.05, momentum=0.9, weight_decay=5e-4, augment="flip+crop")
# The first two are the official code's; CUB-200 has no official loader, batch or epochs: ours, for a folder too. The
# embedded sets are learnt from random weights in a minute or two, which takes larger steps than fine-tuning does: our
# choice.
RECIPES = {
    "mnist": Recipe(),
    "stl10": Recipe(epochs=30, augment="flip+crop"),
    "cub200": Recipe(epochs=30, batch_size=32, augment="flip+crop"),
    "folder": Recipe(epochs=30, batch_size=32, augment="flip+crop"),
    "digits": Recipe(epochs=15, batch_size=64, lr=0.05, momentum=0.9, weight_decay=5e-4),
    "birds": DRAWN,
    **dict.fromkeys(("sparrows", "shortcut"), replace(DRAWN, batch_size=16, lr=0.02)),  # few pictures: smaller steps
}


def device() -> torch.device:
    """The accelerator where there is one, else the processor."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def has_bf16(where: torch.device) -> bool:
    """Whether `where` computes in bfloat16 itself: emulated, it would be slower than float32."""
    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if where.type != "cpu":
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def train(model: nn.Module, pictures: Pictures, recipe: Recipe, seed: int = 0, unfinished: Path | None = None,
          progress: bool = True, loss_of: Callable[..., torch.Tensor] = nn.functional.cross_entropy) -> dict:
    """Train `model` in place; returns what happened: seconds, precision, device, last loss, epochs gone on from.

    model maps (n, 3, H, W) to logits (n, n_classes), or to what loss_of(output, labels) takes. `unfinished` is a file
    that gets the state after each epoch; where it is found, training goes on from it. The caller removes it once the
    result is safe. Raises ValueError where there is nothing to learn from and where the loss is no longer a number.
    """
    if len(pictures) < 2:
        raise ValueError(f"There are {len(pictures)} pictures to train on; give at least two.")
    if recipe.epochs < 1 or recipe.batch_size < 2:
        raise ValueError(f"epochs is {recipe.epochs} and batch_size {recipe.batch_size}; give at least 1 and 2.")
    where, start = device(), time.perf_counter()
    model.to(where, memory_format=torch.channels_last)
    batch_size = min(recipe.batch_size, len(pictures))
    steps = len(pictures) // batch_size
    optimiser = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * recipe.epochs, recipe.final_lr)
    done, loss = _resume(unfinished, model, optimiser, schedule, steps)
    bf16 = has_bf16(where)
    with Bar(total=recipe.epochs * steps, initial=done * steps, desc="training",
              show=progress) as bar:
        for epoch in range(done, recipe.epochs):
            model.train()
            loss = 0.0
            # Seeded by (seed, epoch), so that a run that was interrupted takes the same steps as one that was not.
            rng = np.random.default_rng([seed, epoch])
            torch.manual_seed(int(rng.integers(2**31)))
            order = rng.permutation(len(pictures))[:steps * batch_size].reshape(steps, batch_size)
            for indices in order:
                x = pictures.batch(indices, recipe.augment, rng).to(where, memory_format=torch.channels_last)
                target = pictures.labels[indices].to(where)
                with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
                    output = model(x)
                step_loss = loss_of(output.float(), target)
                optimiser.zero_grad()
                step_loss.backward()
                optimiser.step()
                schedule.step()
                loss += step_loss.item() / steps
                bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.3f}")
            if not np.isfinite(loss):
                raise ValueError(f"The loss is {loss} after epoch {epoch + 1}; use a smaller learning rate than "
                                 f"{recipe.lr}.")
            if unfinished is not None:
                _keep(unfinished, model, optimiser, epoch + 1, loss)
    model.eval()
    return {"recipe": asdict(recipe), "seed": seed, "device": str(where),
            "precision": "bfloat16" if bf16 else "float32", "pictures": len(pictures), "last_loss": loss,
            "gone_on_from_epoch": done, "seconds": round(time.perf_counter() - start, 1)}


def _keep(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, epoch: int, loss: float) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    files.save(path, tensors, {"epoch": epoch, "loss": loss})


def _resume(path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer, schedule,
            steps: int) -> tuple[int, float]:
    """Put model, momenta and learning rate where `path` left them; returns the number of epochs done, the last loss."""
    try:
        if path is None:
            return 0, float("nan")
        tensors, manifest = files.load(path)
    except (FileNotFoundError, files.DamagedFile):
        return 0, float("nan")  # a stop between the two files of a save costs no more than it would without them
    where = next(model.parameters()).device
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()
                           if name.startswith("model.")})
    for name, parameter in model.named_parameters():
        if f"momentum.{name}" in tensors:
            optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(where)
    optimiser.step()  # no gradients yet: only tells the schedule that steps were taken
    for _ in range(manifest["epoch"] * steps):
        schedule.step()
    return manifest["epoch"], manifest["loss"]


@torch.no_grad()
def predictions(model: nn.Module, pictures: Pictures, batch_size: int = 128) -> torch.Tensor:
    """The predicted class of each picture, (n,) int64; in float32, for numbers that are compared are not rounded."""
    model.eval()
    where = next(model.parameters()).device
    chunks = torch.arange(len(pictures)).split(batch_size)
    return torch.cat([model(pictures.batch(i).to(where)).argmax(1).cpu() for i in chunks])
