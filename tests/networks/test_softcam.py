"""Soft-CAM: taken over it predicts as the backbone (Theorem 1), its penalty is what it says, and it learns."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import Net, backbone, batch
from test_training import RECIPE, pictures

from paperlib.attribution import attribute
from paperlib.guards import LeakError
from paperlib.networks.architectures import build
from paperlib.networks.softcam import SoftCAM, finetune, loss, penalty
from paperlib.progress import heard_by


@pytest.mark.parametrize("bias", [True, False])
def test_taken_over_it_predicts_as_the_backbone(bias):
    net, x = backbone(bias=bias), batch()
    soft = SoftCAM(net)
    torch.testing.assert_close(soft(x), net(x))
    assert torch.equal(soft(x).argmax(1), net(x).argmax(1))


def test_taken_over_from_densenet_whose_last_relu_is_no_module():
    torch.manual_seed(0)
    net, x = build("densenet121", 5, bias=True), batch(2, 64)
    torch.testing.assert_close(SoftCAM(net)(x), net(x), atol=1e-5, rtol=1e-4)


def test_evidence_is_eq_11_times_the_columns_square():
    net, x = backbone(bias=False), batch()
    h = net.features(x)[-1]
    att = attribute(h.flatten(2).transpose(1, 2), net.C) * net.C.square().sum(0)
    A = SoftCAM(net).evidence(x)
    torch.testing.assert_close(A.flatten(2).transpose(1, 2), att)
    target = torch.tensor([2, 0, 1, 1])
    assert torch.equal(SoftCAM(net).evidence(x, target), A[torch.arange(4), target])
    assert torch.equal(SoftCAM(net).evidence(x, 1), A[:, 1])


@pytest.mark.parametrize("target", [3, -1, torch.tensor([0, 1]), 0.5])
def test_class_out_of_range(target):
    with pytest.raises(ValueError, match="target must be one class, or one for each of the 4 images, in 0..2"):
        SoftCAM(backbone()).evidence(batch(), target)


def test_penalty_by_loops_and_whatever_the_batch():
    A = batch(5, 4)
    by_hand = [0.3 * sum(abs(a) for a in one.flatten().tolist())
               + 0.7 * sum(a * a for a in one.flatten().tolist()) ** 0.5 for one in A]
    torch.testing.assert_close(penalty(A, 0.3, 0.7), torch.tensor(sum(by_hand) / 5))
    torch.testing.assert_close(penalty(torch.cat([A, A]), 0.3, 0.7), penalty(A, 0.3, 0.7))
    assert penalty(torch.zeros(2, 3, 4, 4), 1.0, 1.0) == 0


def test_loss_is_cross_entropy_and_penalty():
    A, y = batch(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = torch.nn.functional.cross_entropy(A.mean((2, 3)), y)
    torch.testing.assert_close(loss(A, y), plain)
    torch.testing.assert_close(loss(A, y, 0.1, 0.2), plain + penalty(A, 0.1, 0.2))


def trained(l1=0.0, l2=0.0, **more):
    net = backbone(n_classes=2)
    soft = SoftCAM(net)
    report = finetune(soft, pictures(), replace(RECIPE, **more), l1, l2, progress=False)
    return net, soft, report


def test_finetuning_learns_and_leaves_the_backbone():
    before = {key: value.clone() for key, value in backbone(n_classes=2).state_dict().items()}
    net, soft, report = trained(epochs=12)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    test = pictures()
    assert (soft(test.batch(range(44))).argmax(1) == test.labels).float().mean() > 0.9
    assert not soft.training and report["l1"] == 0.0 and report["pictures"] == 44


@pytest.mark.parametrize("which", ["l1", "l2"])
def test_a_larger_penalty_leaves_less_evidence(which):
    norm = {"l1": 1, "l2": 2}[which]
    sizes = []
    for weight in (0.0, 0.01, 0.3):
        A = trained(**{which: weight})[1].evidence(pictures().batch(range(44)))
        sizes.append(float(A.flatten(1).norm(p=norm, dim=1).mean()))
    assert sizes[0] > sizes[1] > sizes[2]


def test_seeded():
    a, b = trained(l1=0.01)[1], trained(l1=0.01)[1]
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_frozen_network_and_pictures_of_the_test_split():
    with pytest.raises(ValueError, match="cannot be trained: all its weights are frozen, or torch.inference_mode"):
        finetune(SoftCAM(backbone(n_classes=2)).requires_grad_(False), pictures(), RECIPE)
    leaked = pictures()
    leaked.split = "test"
    with pytest.raises(LeakError, match="must not be used for training"):
        finetune(SoftCAM(backbone(n_classes=2)), leaked, RECIPE)


def test_what_differs_from_the_network_is_enough_and_exact():
    net = backbone(n_classes=2)
    soft = SoftCAM(net)
    assert soft.difference(net) == {}
    frozen = next(iter(soft.maps[0].encoder.children())).one
    frozen.requires_grad_(False)
    heard = []
    with heard_by(lambda name, share: heard.append(name)):
        finetune(soft, pictures(), RECIPE)
    kept = soft.difference(net)
    assert set(heard) == {"Soft-CAM"} and not any(".one." in name for name in kept) and len(kept) == 9
    again = SoftCAM(net).load_difference(kept)
    assert all(map(torch.equal, again.state_dict().values(), soft.state_dict().values()))
    with pytest.raises(ValueError, match="does not belong to this network: it has no maps.9.weight of that shape"):
        again.load_difference({"maps.9.weight": torch.zeros(1)})


def test_a_difference_of_the_sign_of_zero_is_kept():
    net = backbone()
    soft = SoftCAM(net)
    with torch.no_grad():
        net.classifier.bias.zero_(), soft.maps[1].bias.zero_().neg_()
    assert list(soft.difference(net)) == ["maps.1.bias"]


@pytest.mark.parametrize("l1, l2", [(-1.0, 0.0), (0.0, -0.1)])
def test_negative_penalty(l1, l2):
    with pytest.raises(ValueError, match="l[12]=-(1.0|0.1) must be 0 or more"):
        finetune(SoftCAM(backbone()), pictures(), RECIPE, l1, l2)


def test_a_feature_map_of_zeros_gives_no_nan():
    net = backbone(Net, bias=False)
    with torch.no_grad():
        for p in net.model.two.parameters():
            p.zero_()
    A = SoftCAM(net).evidence(batch())
    assert A.abs().max() == 0 and torch.isfinite(loss(A, torch.tensor([0, 1, 2, 0]), 0.1, 0.1))
    A = A.requires_grad_()
    loss(A, torch.tensor([0, 1, 2, 0]), 0.1, 0.1).backward()
    assert torch.isfinite(A.grad).all()
