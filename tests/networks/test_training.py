"""The training recipe: it learns, says when it cannot, and goes on after a stop as if there had been none."""
from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from paperlib.datasets import files
from paperlib.datasets import load as data
from paperlib.guards import LeakError
from paperlib.networks import training
from paperlib.networks.training import Recipe, predictions, train
from paperlib.progress import heard_by

RECIPE = Recipe(epochs=4, batch_size=10, lr=0.05, momentum=0.9, weight_decay=1e-3, augment="flip+crop")


def network(seed: int = 0) -> nn.Module:
    """Norms with running means and dropout: a run that goes on must bring both back."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
                         nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def pictures(n: int = 44) -> data.Pictures:
    """Two classes: bright above, bright below."""
    rng = np.random.default_rng(0)
    raw = torch.as_tensor(rng.integers(0, 100, (n, 3, 8, 8), dtype=np.uint8))
    labels = torch.arange(n) % 2
    raw[labels == 0, :, :4] += 120
    raw[labels == 1, :, 4:] += 120
    return data.Pictures(raw, labels)


def stop_after(epochs: int, monkeypatch) -> None:
    """Ctrl-C in the epoch after `epochs` epochs."""
    keep = training._keep

    def keep_and_stop(path, model, optimisers, losses, found):
        keep(path, model, optimisers, losses, found)
        if len(losses) == epochs:
            raise KeyboardInterrupt
    monkeypatch.setattr(training, "_keep", keep_and_stop)


def equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_loss_falls_and_all_is_learnt():
    recipe, model = Recipe(epochs=1, batch_size=10, lr=0.05, momentum=0.9), network()
    first = train(network(), pictures(), recipe, progress=False)["last_loss"]
    last = train(model, pictures(), replace(recipe, epochs=15), progress=False)["last_loss"]
    assert last < 0.5 * first and not model.training
    assert (predictions(model, pictures()) == pictures().labels).float().mean() > 0.95


def test_report_says_what_happened():
    report = train(network(), pictures(), RECIPE, seed=3, progress=False)
    assert report["recipe"]["augment"] == "flip+crop" and report["recipe"]["epochs"] == 4
    assert (report["seed"], report["pictures"], report["gone_on_from_epoch"]) == (3, 44, 0)
    assert report["precision"] in ("float32", "bfloat16") and report["seconds"] >= 0
    assert len(report["losses"]) == 4 and report["losses"][-1] == report["last_loss"]


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_weights_are_those_of_the_recipe_written_out(monkeypatch, momentum):
    """The paper's optimiser step by step: SGD, momentum, decay, and the cosine from lr to final_lr."""
    monkeypatch.setattr(training, "has_bf16", lambda where: False)
    recipe = Recipe(epochs=3, batch_size=10, lr=0.1, final_lr=0.01, momentum=momentum, weight_decay=0.01)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    torch.manual_seed(0)
    model[1].reset_parameters()
    W, b = (p.detach().clone().double() for p in model.parameters())
    train(model, pictures(), recipe, seed=5, progress=False)
    x, y = pictures().batch(range(44)).flatten(1).double(), torch.eye(2).double()[pictures().labels]
    steps, t, v = 3 * 4, 0, [torch.zeros_like(W), torch.zeros_like(b)]  # four batches of ten an epoch: four are dropped
    for epoch in range(3):
        rng = np.random.default_rng([5, epoch])
        rng.integers(2**31)
        order = rng.permutation(44)
        for k in range(4):
            i = order[10 * k:10 * k + 10]
            error = (torch.softmax(x[i] @ W.T + b, 1) - y[i]) / 10
            lr = 0.01 + 0.5 * (0.1 - 0.01) * (1 + np.cos(np.pi * t / steps))
            for j, (parameter, gradient) in enumerate([(W, error.T @ x[i]), (b, error.sum(0))]):
                v[j] = momentum * v[j] + gradient + 0.01 * parameter
                parameter -= lr * v[j]
            t += 1
    torch.testing.assert_close(model[1].weight.detach().double(), W, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(model[1].bias.detach().double(), b, atol=1e-4, rtol=1e-3)


def test_same_seed_same_weights():
    models = [network() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        train(model, pictures(), RECIPE, seed, progress=False)
    assert equal(models[0], models[1]) and not equal(models[0], models[2])


def test_training_neither_depends_on_what_others_draw_nor_disturbs_it():
    first, second = network(), network()
    torch.manual_seed(1)
    train(first, pictures(), RECIPE, progress=False)
    drawn = torch.rand(100)
    train(second, pictures(), RECIPE, progress=False)
    torch.manual_seed(1)
    assert equal(first, second) and torch.equal(drawn, torch.rand(100))


@pytest.mark.parametrize("epochs, momentum", [(1, 0.9), (3, 0.0), (4, 0.9)])
def test_stopped_and_gone_on_is_bit_identical(tmp_path, monkeypatch, epochs, momentum):
    recipe = replace(RECIPE, momentum=momentum)
    whole, unfinished = network(), tmp_path / "half.safetensors"
    expected = train(whole, pictures(), recipe, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(epochs, patch)
        train(network(), pictures(), recipe, unfinished=unfinished, progress=False)
    assert len(files.load(unfinished)[1]["losses"]) == epochs
    gone_on = network(seed=9)  # its first weights do not matter
    report = train(gone_on, pictures(), recipe, unfinished=unfinished, progress=False)
    assert report["gone_on_from_epoch"] == epochs and report["losses"] == expected["losses"]
    assert equal(whole, gone_on)


def test_stopped_within_an_epoch_goes_on_from_the_last_whole_one(tmp_path, monkeypatch):
    whole, unfinished, batches = network(), tmp_path / "half.safetensors", []
    train(whole, pictures(), RECIPE, progress=False)

    class Stops(data.Pictures):
        def batch(self, *rest):
            batches.append(rest)
            if len(batches) == 11:  # the third batch of the third epoch
                raise KeyboardInterrupt
            return super().batch(*rest)
    with pytest.raises(KeyboardInterrupt):
        train(network(), Stops(pictures().raw, pictures().labels), RECIPE, unfinished=unfinished, progress=False)
    gone_on = network()
    assert train(gone_on, pictures(), RECIPE, unfinished=unfinished, progress=False)["gone_on_from_epoch"] == 2
    assert equal(whole, gone_on)


@pytest.mark.parametrize("lost", [".safetensors", ".json"])
def test_damaged_or_half_written_state_starts_again(tmp_path, monkeypatch, lost):
    whole, unfinished = network(), tmp_path / "half.safetensors"
    train(whole, pictures(), RECIPE, progress=False)
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-3]), lambda path: path.unlink()):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_after(2, patch)
            train(network(), pictures(), RECIPE, unfinished=unfinished, progress=False)
        damage(unfinished.with_suffix(lost))
        model = network()
        report = train(model, pictures(), RECIPE, unfinished=unfinished, progress=False)
        assert report["gone_on_from_epoch"] == 0 and equal(whole, model)
        for path in tmp_path.iterdir():
            path.unlink()


def test_loss_that_is_no_number():
    with pytest.raises(ValueError, match=r"The loss is (nan|inf) in epoch [1-4]: training diverged; take smaller st"):
        train(network(), pictures(), Recipe(epochs=4, batch_size=10, lr=1e30), progress=False)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pictures(n):
    few = data.Pictures(torch.zeros(n, 3, 8, 8, dtype=torch.uint8), torch.zeros(n))
    with pytest.raises(ValueError, match=f"There are {n} pictures to train on; give at least two"):
        train(network(), few, RECIPE)


@pytest.mark.parametrize("setting, sentence", [
    ({"epochs": -1}, "epochs=-1 must be a whole number of at least 1"), ({"epochs": 1.5}, "epochs=1.5 must be a whole"),
    ({"batch_size": 1}, "batch_size=1 must be a whole number of at least 2"), ({"lr": 0.0}, "lr=0.0 must be above 0"),
    ({"lr": float("nan")}, "lr=nan must be above 0"), ({"momentum": -0.1}, "momentum=-0.1 must be 0 or more"),
    ({"augment": "turn"}, "augment='turn' is unknown; choose one of none, flip")])
def test_recipe_out_of_range(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**setting)


def test_pictures_of_the_test_split_are_refused():
    leaked = pictures()
    leaked.split = "test"
    with pytest.raises(LeakError, match="The test split must not be used for training"):
        train(network(), leaked, RECIPE)


def test_what_cannot_be_trained():
    with pytest.raises(ValueError, match="all its weights are frozen, or torch.inference_mode is on; set"):
        train(network().requires_grad_(False), pictures(), RECIPE)
    with torch.inference_mode(), pytest.raises(ValueError, match="train outside of inference mode"):
        train(network(), pictures(), RECIPE)


def test_what_is_frozen_stays_as_it_is():
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, pictures(), RECIPE, progress=False)
    assert torch.equal(before, model[0].weight)
    assert {p.requires_grad for p in model[0].parameters()} == {False} and model[-1].weight.requires_grad


def test_one_step_on_few_pictures_passes_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = train(network(), pictures(6), Recipe(epochs=1, batch_size=128), progress=False)
    assert np.isfinite(report["last_loss"])


@pytest.mark.parametrize("variance, refused", [(1e-12, True), (1e-3, False)])
def test_running_means_that_are_far_off(variance, refused):
    """As after few steps of a deep network: what training mode normalises explodes in evaluation mode."""
    model = network()
    for norm in (model[1], model[5]):
        norm.momentum = 0.0
        norm.running_var.fill_(variance)
    sentence = "loss on training pictures is .*: 16 steps are too few for the running means of its batch norms; give"
    with pytest.raises(ValueError, match=sentence) if refused else pytest.warns(UserWarning, match=sentence):
        train(model, pictures(), RECIPE, progress=False)


def test_a_listener_hears_what_is_trained_and_how_far():
    heard = []
    with heard_by(lambda name, share: heard.append((name, share))):
        train(network(), pictures(), RECIPE, name="a network")
    assert {name for name, _ in heard} == {"a network"} and [share for _, share in heard][-1] == 1


def test_augmented_pictures_are_what_is_learnt_from():
    asked = []

    class Asked(data.Pictures):
        def batch(self, indices, augment="none", rng=None):
            asked.append((augment, len(indices)))
            return super().batch(indices, augment, rng)
    train(network(), Asked(pictures().raw, pictures().labels), RECIPE, progress=False)
    assert asked == [("flip+crop", 10)] * 16 + [("none", 44)]  # the last is the check in evaluation mode


def test_official_recipes():
    mnist, stl10 = training.RECIPES["mnist"], training.RECIPES["stl10"]
    assert (mnist.epochs, mnist.batch_size, mnist.lr, mnist.momentum, mnist.weight_decay, mnist.augment) == (
        10, 128, 0.01, 0.5, 0, "none")
    assert stl10 == replace(mnist, epochs=30, augment="flip+crop")


def test_predictions_are_the_largest_logits_in_evaluation(monkeypatch):
    model, asked = network(), pictures()
    model.train()
    found = predictions(model, asked, batch_size=7)
    with torch.no_grad():
        expected = [int(model(asked[i][None])[0].argmax()) for i in range(len(asked))]
    assert found.tolist() == expected and not model.training


def test_another_loss_is_what_is_minimised():
    seen = []

    def loss_of(output, labels):
        seen.append((output.shape, output.dtype, labels.shape))
        return (output - 3).square().mean()

    net = network()
    report = train(net, pictures(), replace(RECIPE, epochs=8), loss_of=loss_of, progress=False)
    assert set(seen[:-1]) == {((10, 2), torch.float32, (10,))} and len(seen) == 8 * 4 + 1
    assert report["last_loss"] < 1 and abs(net(pictures().batch(range(44))).mean() - 3) < 1
