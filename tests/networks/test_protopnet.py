"""ProtoPNet against loops written from its formulas: forward pass, costs, push, stages, going on after a stop."""
from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from test_training import stop_after
from torch import nn

from paperlib import measures
from paperlib.backbone import Backbone
from paperlib.datasets import files
from paperlib.datasets import load as data
from paperlib.guards import LeakError
from paperlib.networks import protopnet, training
from paperlib.networks.protopnet import ProtoPNet, Schedule, train
from paperlib.networks.protopnet_model import cluster_cost, separation_cost, similarity, squared_distances
from paperlib.networks.training import RECIPES, predictions

SHORT = Schedule(warm=1, epochs=4, push_start=2, push_every=5, last_layer_passes=3, batch_size=10, encoder_lr=1e-3)


class Tiny(nn.Module):
    """Two blocks with batch norm and dropout, 8 px to 2 x 2 patches."""

    def __init__(self, n_classes: int, dropout: float = 0.2):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block2 = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16),
                                    nn.ReLU())
        self.fc = nn.Linear(16, n_classes)

    def forward(self, x):
        return self.fc(self.block2(self.block1(x)).mean((2, 3)))


class Branching(Tiny):
    """A forward pass that depends on the data, which torch.fx cannot trace."""

    def forward(self, x):
        return super().forward(x) if x.sum() > -1e9 else x


def backbone(n_classes: int = 3, seed: int = 0, kind=Tiny, dropout: float = 0.2) -> Backbone:
    torch.manual_seed(seed)
    return Backbone(kind(n_classes, dropout), ("block1", "block2"), "fc", (3, 8, 8))


def model(n_classes: int = 3, k: int = 2, seed: int = 0, **more) -> ProtoPNet:
    return ProtoPNet(backbone(n_classes, seed, **more), k, seed)


def pictures(n: int = 36, n_classes: int = 3, side: int = 8) -> data.Pictures:
    """Each class is bright in another third of noise; classes alternate."""
    rng = np.random.default_rng(0)
    raw = torch.as_tensor(rng.integers(0, 100, (n, 3, side, side), dtype=np.uint8))
    labels = torch.arange(n) % n_classes
    for c in range(n_classes):
        raw[labels == c, :, c * side // n_classes:(c + 1) * side // n_classes] += 120
    return data.Pictures(raw, labels)


def spoiled(labels) -> data.Pictures:
    """The pictures under other labels."""
    return data.Pictures(pictures().raw, labels)


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def changed(before: dict, after: dict) -> set[str]:
    """The parts of the model whose entries differ."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def snapshot(net: nn.Module) -> dict:
    return copy.deepcopy({name: p.detach() for name, p in net.named_parameters()})


def patches(net: ProtoPNet, asked: data.Pictures, i: int) -> torch.Tensor:
    """(H, W, 128) in evaluation mode, one picture at a time."""
    with torch.no_grad():
        return net.eval().latent(asked[i][None])[0].permute(1, 2, 0)


# Forward pass


def test_forward_pass_written_out():
    net, x = model(), pictures().batch(range(4))
    net.last_layer.weight.data += torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    found, smallest = net(x).detach(), net.min_distances(x).detach()
    for i in range(4):
        z, scores = patches(net, pictures(), i), []
        for k, p in enumerate(net.prototypes_):
            d2 = [float(((z[r, c] - p).double() ** 2).sum()) for r in range(2) for c in range(2)]
            scores.append(max(math.log((d + 1) / (d + 1e-4)) for d in d2))  # max pooling of the similarity
            assert smallest[i, k] == pytest.approx(min(d2), rel=1e-4)
        y = [sum(w * s for w, s in zip(row, scores, strict=True)) for row in net.last_layer.weight.tolist()]
        torch.testing.assert_close(found[i], torch.tensor(y), atol=1e-4, rtol=1e-4)


def test_patches_are_the_encoders_last_block_through_the_add_on_layers():
    net, b, x = model(), backbone(), pictures().batch(range(3))
    h, (first, _, second, _) = b.features(x)[-1], net.add_on
    hidden = torch.relu(torch.einsum("ndij,cd->ncij", h, first.weight[..., 0, 0]) + first.bias[:, None, None])
    z = torch.sigmoid(torch.einsum("ndij,cd->ncij", hidden, second.weight[..., 0, 0]) + second.bias[:, None, None])
    torch.testing.assert_close(net.latent(x), z)


def test_similarity():
    d2 = torch.tensor([0.0, 1e-4, 1.0, 50.0])
    expected = [math.log(1e4), math.log(1.0001 / 2e-4), math.log(2 / 1.0001), math.log(51 / 50.0001)]
    torch.testing.assert_close(similarity(d2), torch.tensor(expected))


def test_distances_keep_their_digits_where_patches_lie_close_together():
    """As they do after training (Table 1: cosines of .9 and more)."""
    centre = torch.rand(128, generator=torch.Generator().manual_seed(1))
    near = [centre + 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in
            ((2, 5, 128), (4, 128))]
    exact = (near[0].double()[:, :, None] - near[1].double()).square().sum(-1)
    torch.testing.assert_close(squared_distances(*near).double(), exact, rtol=1e-3, atol=1e-9)


def test_distances_are_never_negative():
    p = torch.rand(40, 128, generator=torch.Generator().manual_seed(0)) * 100
    assert squared_distances(p[None], p).min() == 0


def test_gradients_reach_every_part():
    net = model().train()
    net(pictures().batch(range(6)))[:, 0].sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    reached = {name.split(".")[0] for name, grad in grads.items() if grad.abs().sum() > 0}
    assert reached == {"encoder", "add_on", "prototypes", "last_layer"}
    assert net.encoder.get_parameter("graph.block1.0.weight").grad.abs().sum() > 0


def test_distances_are_float32_where_the_encoder_is_not():
    net, x = model(), pictures().batch(range(4))
    rounded, exact = net.min_distances(x, bf16=True), net.min_distances(x)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.05)


# First weights


def test_last_layer_connects_each_prototype_to_its_class():
    expected = [[1, 1, -0.5, -0.5, -0.5, -0.5], [-0.5, -0.5, 1, 1, -0.5, -0.5], [-0.5, -0.5, -0.5, -0.5, 1, 1]]
    net = model()
    assert net.last_layer.weight.tolist() == expected and net.last_layer.bias is None
    assert net.prototype_labels_.tolist() == [0, 0, 1, 1, 2, 2]


def test_first_weights_are_the_official_ones():
    b = backbone()
    net = ProtoPNet(b, 50)
    assert net.prototypes.shape == (150, 128, 1, 1) and 0 <= net.prototypes.min() and net.prototypes.max() < 1
    assert net.prototypes.mean().item() == pytest.approx(0.5, abs=0.01)
    for conv, shape in zip(net.add_on[::2], ((128, 16, 1, 1), (128, 128, 1, 1)), strict=True):
        assert conv.weight.shape == shape and not conv.bias.any()
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.05)  # fan out, ReLU
    assert net.sources_.tolist() == [[-1, -1, -1]] * 150


def test_first_weights_depend_on_the_seed_alone():
    b = backbone()
    torch.manual_seed(5)
    first, after = ProtoPNet(b, 2, seed=1), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # what others draw is not disturbed
    assert equal(first.state_dict(), ProtoPNet(b, 2, seed=1).state_dict())
    assert not equal(first.state_dict(), ProtoPNet(b, 2, seed=2).state_dict())


@pytest.mark.parametrize("kind", [Tiny, Branching])
def test_the_backbone_stays_as_it_is(kind):
    b = backbone(kind=kind)
    before, x = copy.deepcopy(b.state_dict()), pictures().batch(range(5))
    h = b.features(x)[-1]
    net = ProtoPNet(b, 2)
    torch.testing.assert_close(net.encoder(x)[-1].detach(), h)  # it starts from the backbone's weights
    train(net, pictures(), SHORT, progress=False)
    assert equal(before, b.state_dict()) and torch.equal(h, b.features(x)[-1])
    assert not torch.allclose(net.encoder(x)[-1].detach(), h)


# Costs


def test_costs_written_out():
    d2, labels = torch.rand(7, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0, 1])
    owner = torch.tensor([0, 0, 1, 1, 2, 2])
    own, other = [], []
    for i in range(7):
        own.append(min(float(d2[i, k]) for k in range(6) if owner[k] == labels[i]))
        other.append(min(float(d2[i, k]) for k in range(6) if owner[k] != labels[i]))
    assert cluster_cost(d2, labels, owner).item() == pytest.approx(sum(own) / 7)
    assert separation_cost(d2, labels, owner).item() == pytest.approx(sum(other) / 7)


@pytest.mark.parametrize("warm", [0, 1])
def test_loss_of_both_stages_written_out(monkeypatch, warm):
    """One epoch of one batch at learning rates of 0, so that every number can be had from the model as it was."""
    monkeypatch.setattr(training, "has_bf16", lambda where: False)
    still = Schedule(warm=warm, epochs=1, last_layer_passes=1, encoder_lr=0, lr=0, last_layer_lr=0, batch_size=36)
    net, asked = model(dropout=0), pictures()
    with torch.no_grad():
        d2 = copy.deepcopy(net).train().min_distances(asked.batch(range(36)))
        y, own = net.classify(d2).double(), asked.labels[:, None] == net.prototype_labels_
    entropy = -sum(math.log(row.softmax(0)[c]) for row, c in zip(y, asked.labels, strict=True)) / 36
    cluster = sum(min(row[mine]) for row, mine in zip(d2.double(), own, strict=True)) / 36
    separation = sum(min(row[~mine]) for row, mine in zip(d2.double(), own, strict=True)) / 36
    report = train(net, asked, still, progress=False)
    assert report["losses"] == pytest.approx([float(entropy + 0.8 * cluster - 0.08 * separation)], rel=1e-5)
    with torch.no_grad():
        y = net(asked.batch(range(36))).double()  # pushed, and in evaluation mode
    entropy = -sum(math.log(row.softmax(0)[c]) for row, c in zip(y, asked.labels, strict=True)) / 36
    assert report["last_loss"] == pytest.approx(entropy + 1e-4 * 0.5 * 12, rel=1e-5)  # 2 x 6 weights of -0.5
    hits = [int(row.argmax()) == c for row, c in zip(y, asked.labels.tolist(), strict=True)]
    assert report["train_accuracy"] == sum(hits) / 36


# Push


@pytest.mark.parametrize("batch_size", [5, 128])
def test_push_written_out(batch_size):
    net, asked = model(k=3), pictures()
    before = net.prototypes_.clone()
    net.train().push(asked, batch_size)
    assert not net.training and net.map_size_.tolist() == [2, 2]
    for k, p in enumerate(before):
        best = (math.inf, None)
        for i in range(len(asked)):
            if asked.labels[i] == net.prototype_labels_[k]:
                z = patches(net, asked, i)
                for r in range(2):
                    for c in range(2):
                        best = min(best, (float((z[r, c] - p).norm()), [i, r, c]))
        assert net.sources_[k].tolist() == best[1]


def test_after_a_push_each_prototype_is_a_training_patch_of_its_class():
    net, asked = model(), pictures()
    net.push(asked)
    with torch.no_grad():
        for k, (image, row, column) in enumerate(net.sources_.tolist()):
            assert asked.labels[image] == net.prototype_labels_[k]
            torch.testing.assert_close(net.prototypes_[k], patches(net, asked, image)[row, column], atol=1e-6, rtol=0)
            assert similarity(net.min_distances(asked[image][None]))[0, k] > 9.2


def test_a_second_push_changes_nothing():
    net = model()
    net.push(pictures())
    before = copy.deepcopy(net.state_dict())
    net.push(pictures())
    assert equal(before, net.state_dict())


def test_rows_and_columns_of_a_map_that_is_not_square():
    net = model(k=1)
    asked = pictures()
    wide = data.Pictures(torch.cat([asked.raw, asked.raw.flip(0)], dim=3), asked.labels)
    net.push(wide)
    assert net.map_size_.tolist() == [2, 4]
    for k, (image, row, column) in enumerate(net.sources_.tolist()):
        torch.testing.assert_close(net.prototypes_[k], patches(net, wide, image)[row, column], atol=1e-6, rtol=0)


# What is compared in Table 1


def test_embed_is_the_mean_patch_or_the_one_nearest_to_a_prototype():
    net, asked = model(), pictures()
    mean, nearest = (net.train().embed(asked.batch(range(6)), reading) for reading in ("mean", "nearest"))
    for i in range(6):
        rows = patches(net, asked, i).flatten(0, 1)
        torch.testing.assert_close(mean[i], sum(rows) / 4)
        d = [min(float((row - p).norm()) for p in net.prototypes_) for row in rows]
        torch.testing.assert_close(nearest[i], rows[int(np.argmin(d))])


def test_read_is_embed_and_the_forward_pass_in_one():
    net, asked = model(), pictures()
    x = asked.batch(range(6))
    Z, predicted = net.train().read(x)
    torch.testing.assert_close(Z, net.embed(x))
    assert torch.equal(predicted, net.eval()(x).argmax(1)) and not Z.requires_grad


def test_table_1_takes_its_prototypes():
    net, asked = model(), pictures()
    train(net, asked, SHORT, progress=False)
    Z = net.embed(asked.batch(range(36)))
    own, out = measures.prototype_cosines(net.prototypes_, net.prototype_labels_, Z, asked.labels)
    assert 0 < out < own <= 1  # all in [0, 1]^128: no cosine can be negative


# Training


def test_a_handful_of_digits_is_learnt_and_ends_pushed():
    digits = data.load("digits", size=8, train_per_class=12).train
    net = ProtoPNet(backbone(10, dropout=0), 2)
    schedule = Schedule(warm=1, epochs=25, lr_every=15, last_layer_passes=5, batch_size=30, encoder_lr=3e-3)
    report = train(net, digits, schedule, progress=False)
    assert report["losses"][-1] < 0.3 * report["losses"][0] and not net.training
    assert measures.accuracy(digits.labels, predictions(net, digits)) > 0.8
    for k, (image, row, column) in enumerate(net.sources_.tolist()):
        torch.testing.assert_close(net.prototypes_[k], patches(net, digits, image)[row, column], atol=1e-5, rtol=0)
    assert report["distinct_patches"] == len({tuple(s) for s in net.sources_.tolist()})


@pytest.mark.parametrize("schedule, parts", [
    (Schedule(warm=1, epochs=1, last_layer_passes=0), {"add_on", "prototypes"}),
    (Schedule(warm=0, epochs=1, last_layer_passes=0), {"encoder", "add_on", "prototypes"}),
    (Schedule(warm=0, epochs=1, last_layer_passes=1, lr=0, encoder_lr=0), {"last_layer"})])
def test_a_stage_changes_its_own_parts_and_nothing_else(monkeypatch, schedule, parts):
    monkeypatch.setattr(ProtoPNet, "push", lambda *_: None)
    net = model()
    before = snapshot(net)
    train(net, pictures(), schedule, progress=False)
    assert changed(before, snapshot(net)) == parts
    assert all(p.requires_grad for p in net.parameters())


def test_warm_epochs_move_the_encoders_running_means_as_the_official_ones_do():
    net = model()
    before = copy.deepcopy(net.encoder.state_dict())
    train(net, pictures(), Schedule(warm=1, epochs=1), progress=False)
    moved = {name.rsplit(".", 1)[1] for name, t in net.encoder.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}


def test_nothing_but_the_last_layer_moves_after_the_push(monkeypatch):
    net, states, push = model(), [], ProtoPNet.push

    def push_and_copy(self, *rest):
        push(self, *rest)
        states.append(copy.deepcopy(self.state_dict()))
    monkeypatch.setattr(ProtoPNet, "push", push_and_copy)
    train(net, pictures(), Schedule(warm=1, epochs=2), progress=False)
    assert len(states) == 1 and changed(states[0], net.state_dict()) == {"last_layer"}


def test_default_schedule_is_the_official_one():
    s = Schedule()
    assert [e for e in range(s.epochs) if s.pushes(e)] == [10, 20, 30]
    assert [s.stage(e) for e in (0, 4, 5, 30)] == ["warm", "warm", "joint", "joint"]
    assert [s.factor(e) for e in (0, 4, 5, 9, 10, 15)] == pytest.approx([1, 1, 1, 1, 0.1, 0.01])
    assert (s.last_layer_passes, s.encoder_lr, s.lr, s.last_layer_lr, s.weight_decay) == (20, 1e-4, 3e-3, 1e-4, 1e-3)
    assert (s.cluster, s.separation, s.l1) == (0.8, 0.08, 1e-4)


def official_rates(schedule: Schedule, scheduler) -> list[float]:
    """The rate of each joint epoch as the official loop has it: the scheduler steps at the epoch's start."""
    optimiser = torch.optim.Adam([torch.zeros(1)], schedule.lr)
    stepper, rates = scheduler(optimiser, schedule.lr_every, schedule.lr_factor), []
    for _ in range(schedule.warm, schedule.epochs):
        stepper.step()
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
    return rates


class OldStepLR:
    """StepLR of torch 1.0 and older: after it is made last_epoch is -1, so that the first step sets the first rate."""

    def __init__(self, optimiser, step_size: int, gamma: float):
        self.optimiser, self.step_size, self.gamma, self.last_epoch = optimiser, step_size, gamma, -1
        self.first = optimiser.param_groups[0]["lr"]

    def step(self):
        self.last_epoch += 1
        self.optimiser.param_groups[0]["lr"] = self.first * self.gamma ** (self.last_epoch // self.step_size)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # before the optimiser's, as they do
def test_rates_are_the_official_ones_under_the_torch_of_their_day():
    s = Schedule()
    joint = range(s.warm, s.epochs)
    ours = [s.lr * s.factor(epoch) for epoch in joint]
    assert ours == pytest.approx(official_rates(s, OldStepLR), rel=1e-12)
    today = official_rates(s, torch.optim.lr_scheduler.StepLR)
    share = [new / old for new, old in zip(today, ours, strict=True)]
    assert share == pytest.approx([0.1 if epoch in (9, 14, 19, 24, 29) else 1 for epoch in joint])


def test_schedules_of_the_data_sets_are_on_the_cnns_pictures():
    for name, recipe in RECIPES.items():
        s = protopnet.SCHEDULES[name]
        assert (s.batch_size, s.augment, s.pushes(s.epochs - 1)) == (recipe.batch_size, recipe.augment, True)
    assert protopnet.SCHEDULES["cub200"] == Schedule(batch_size=32, augment="flip+crop")


@pytest.mark.parametrize("epochs, expected", [(1, [0]), (4, [3]), (11, [10]), (13, [10, 12])])
def test_any_schedule_ends_with_a_push(epochs, expected):
    s = Schedule(epochs=epochs)
    assert [e for e in range(epochs) if s.pushes(e)] == expected


def test_optimisers_take_the_schedules_rates(monkeypatch):
    asked, step = [], training.descend

    def recorded(optimiser, *rest):
        asked.append([(round(g["lr"], 9), g["weight_decay"], len(g["params"])) for g in optimiser.param_groups])
        assert type(optimiser) is torch.optim.Adam  # not AdamW: the official decay goes through Adam's averages
        return step(optimiser, *rest)
    monkeypatch.setattr(training, "descend", recorded)
    train(model(), pictures(), Schedule(warm=1, epochs=4, lr_every=2, last_layer_passes=1, batch_size=36),
          progress=False)
    slow = [(1e-5, 1e-3, 8), (3e-4, 1e-3, 4), (3e-4, 0.0, 1)]
    fast = [(1e-4, 1e-3, 8), (3e-3, 1e-3, 4), (3e-3, 0.0, 1)]
    assert asked == [fast[1:], fast, fast, slow, [(1e-4, 0.0, 1)]]


def test_augmented_pictures_for_the_epochs_and_plain_ones_for_the_rest():
    asked = []

    class Asked(data.Pictures):
        def batch(self, indices, augment="none", rng=None):
            asked.append((augment, len(indices)))
            return super().batch(indices, augment, rng)
    train(model(), Asked(pictures().raw, pictures().labels), Schedule(epochs=1, batch_size=15, augment="flip+crop"),
          progress=False)
    # Two batches (six pictures are dropped), three classes to push onto, one pass for the last layer's twenty.
    assert asked == [("flip+crop", 15)] * 2 + [("none", 12)] * 3 + [("none", 36)]


def test_report_says_what_happened():
    report = train(model(), pictures(), SHORT, seed=3, progress=False)
    assert report["schedule"]["warm"] == 1 and len(report["losses"]) == 4 and math.isfinite(report["last_loss"])
    assert (report["seed"], report["pictures"], report["gone_on_from_epoch"]) == (3, 36, 0)
    assert report["precision"] in ("float32", "bfloat16") and report["seconds"] >= 0


def test_same_seed_same_weights():
    nets = [model() for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train(net, pictures(), SHORT, seed, progress=False)
        torch.rand(100), np.random.default_rng().random(100)
    assert equal(nets[0].state_dict(), nets[1].state_dict()) and not equal(nets[0].state_dict(), nets[2].state_dict())


def test_state_dict_holds_all_that_was_learnt(tmp_path):
    net = model()
    train(net, pictures(), SHORT, progress=False)
    files.save(tmp_path / "net.safetensors", net.state_dict(), {})
    again = model(seed=9)
    again.load_state_dict(files.load(tmp_path / "net.safetensors")[0])
    again.to(memory_format=torch.channels_last)  # as training leaves it: another layout, other last digits
    x = pictures().batch(range(5))
    assert torch.equal(net(x), again(x)) and torch.equal(net.sources_, again.sources_) and again.sources_.min() >= 0
    assert again.map_size_.tolist() == [2, 2]


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])  # within warm, before the first push, after it, and at the end
def test_stopped_and_gone_on_is_bit_identical(tmp_path, monkeypatch, epochs):
    schedule = Schedule(**(vars(SHORT) | {"warm": 2, "augment": "flip+crop"}))
    whole, unfinished = model(), tmp_path / "half.safetensors"
    expected = train(whole, pictures(), schedule, progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(epochs, patch)
        train(model(), pictures(), schedule, unfinished=unfinished, progress=False)
    gone_on = model(seed=9)  # its first weights do not matter
    report = train(gone_on, pictures(), schedule, unfinished=unfinished, progress=False)
    assert report["gone_on_from_epoch"] == epochs and report["losses"] == expected["losses"]
    assert report["train_accuracy"] == expected["train_accuracy"]
    assert report["last_loss"] == expected["last_loss"] and equal(whole.state_dict(), gone_on.state_dict())


# Bad input


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8), (2, 4, 8, 8)])
def test_pictures_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"pictures must be \(n, 3, H, W\), but are"):
        model()(torch.zeros(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_pictures_with_nan(bad):
    x = torch.zeros(2, 3, 8, 8)
    x[1, 0, 3, 3] = bad
    with pytest.raises(ValueError, match="the pictures hold NaN or infinite values"):
        model()(x)


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_fewer_than_one_prototype_per_class(k):
    with pytest.raises(ValueError, match="prototypes_per_class=.* must be a whole number of at least 1"):
        ProtoPNet(backbone(), k)


def test_one_class_has_nothing_to_separate():
    with pytest.raises(ValueError, match="the backbone has one class"):
        ProtoPNet(backbone(1), 1)


@pytest.mark.parametrize("act", [lambda net, bad: net.push(bad), lambda net, bad: train(net, bad, SHORT)])
def test_labels_that_do_not_fit(act):
    with pytest.raises(ValueError, match=r"labels must lie in 0..2, but go from 0 to 3"):
        act(model(), spoiled(torch.arange(36) % 4))
    with pytest.raises(ValueError, match="class 1, 2 has no training picture"):
        act(model(), spoiled(torch.zeros(36)))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pictures(n):
    with pytest.raises(ValueError, match=f"There are {n} pictures to train on; give at least two"):
        train(model(), pictures(n), SHORT)


def test_loss_that_is_no_number():
    with pytest.raises(ValueError, match=r"The loss is (nan|inf) in epoch 1: training diverged"):
        train(model(), pictures(), Schedule(lr=1e30, batch_size=10), progress=False)


def test_push_of_a_network_that_gives_nan():
    net = model()
    net.add_on[0].weight.data[:] = math.nan
    with pytest.raises(ValueError, match="the network's patches hold NaN"):
        net.push(pictures())


def test_unknown_reading():
    with pytest.raises(ValueError, match="reading='max' is unknown; choose one of mean, nearest"):
        model().embed(torch.zeros(1, 3, 8, 8), "max")


@pytest.mark.parametrize("setting, sentence", [
    ({"epochs": 0}, "epochs=0 must be a whole number of at least 1"), ({"push_every": 0}, "push_every=0 must"),
    ({"lr_every": 0}, "lr_every=0 must"), ({"batch_size": 1}, "batch_size=1 must be a whole number of at least 2"),
    ({"warm": -1}, "warm=-1 must be a whole number of at least 0"), ({"last_layer_passes": -1}, "last_layer_passes=-1"),
    ({"lr": -1.0}, "lr=-1.0 must be 0 or more"), ({"augment": "turn"}, "augment='turn' is unknown; choose one")])
def test_schedule_out_of_range(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Schedule(**setting)


@pytest.mark.parametrize("act", [lambda net, leaked: net.push(leaked), lambda net, leaked: train(net, leaked, SHORT)])
def test_pictures_of_the_test_split_are_refused(act):
    leaked = pictures()
    leaked.split = "test"
    with pytest.raises(LeakError, match="The test split must not be used for training"):
        act(model(), leaked)
