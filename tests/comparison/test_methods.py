"""Other methods' maps: what they equal where Theorem 1 says so, their shapes, and what they refuse."""
from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from small import Net, backbone, batch
from torch import nn

from paperlib.attribution import attribute, upsample
from paperlib.comparison import methods as baselines
from paperlib.comparison.saliency import saliency_map

METHODS = baselines.methods(backbone())
GRADIENTS = ["Grad-CAM", "Grad-CAM, block 1", "HiResCAM, block 1", "integrated gradients"]
TARGET = torch.tensor([0, 2, 1, 2])


def test_grad_cam_at_the_last_block_is_the_positive_part_of_eq_11():
    net, x = backbone(), batch()
    h = net.features(x)[-1]
    rows = attribute(h.flatten(2).transpose(1, 2), net.C)[torch.arange(4), :, TARGET]
    scale = net.C.square().sum(0)[TARGET] / rows.shape[1]
    expected = (rows * scale[:, None]).clamp_min(0).view(4, *h.shape[2:])
    found = baselines.grad_cam(net, x, TARGET)
    assert found.abs().max() > 0
    torch.testing.assert_close(found, upsample(expected, (16, 16)))


def test_hires_cam_at_the_last_block_is_grad_cam_before_its_positive_part():
    net, x = backbone(), batch()
    h = net.features(x)[-1]
    expected = torch.einsum("ndhw,dn->nhw", h, net.C[:, TARGET]) / h[0, 0].numel()
    torch.testing.assert_close(baselines.hires_cam(net, x, TARGET, -1), upsample(expected, (16, 16)))


def test_integrated_gradients_sum_to_the_gain_over_the_mean_colour():
    net, x = backbone(), batch()
    gain = (net(x) - net(torch.zeros_like(x)))[torch.arange(4), TARGET]
    found = baselines.integrated_gradients(net, x, TARGET, steps=400).sum((1, 2))
    torch.testing.assert_close(found, gain, atol=2e-3, rtol=1e-2)


def slow_occlusion(net, picture, c, window, stride):
    """The logit's fall for each window, in loops: a pixel's value is the mean over the windows that cover it."""
    height, width = picture.shape[1:]
    total, times, logit = torch.zeros(height, width), torch.zeros(height, width), net(picture[None])[0, c]
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            hidden = picture.clone()
            hidden[:, top:top + window, left:left + window] = 0.0  # the mean colour, in normalised units
            total[top:top + window, left:left + window] += logit - net(hidden[None])[0, c]
            times[top:top + window, left:left + window] += 1
    return total / times


@pytest.mark.parametrize("size", [(16, 16), (18, 21)])
@torch.no_grad()
def test_occlusion_against_a_loop_over_windows(size):
    net, x = backbone(), torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    for target in (torch.tensor([0, 2, 1]), torch.tensor([1, 0, 2])):
        expected = torch.stack([slow_occlusion(net, x[i], target[i], 4, 2) for i in range(3)])
        assert expected.min() < -1e-3 and expected.max() > 1e-3
        torch.testing.assert_close(baselines.occlusion(net, x, target), expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_rise_against_a_loop_over_masks():
    net, x = backbone(), batch(2)
    masks = baselines._masks(12, (16, 16), 3)
    assert masks.min() >= 0 and masks.max() <= 1 and 0.3 < masks.mean() < 0.7  # 1 is seen, half of the picture
    for target in ([0, 2], [2, 1]):
        found = baselines.rise(net, x, torch.tensor(target), masks=12, seed=3)
        for i, c in enumerate(target):
            total = torch.zeros(16, 16, dtype=torch.float64)
            for mask in torch.as_tensor(masks):
                p = net(x[i:i + 1] * mask).softmax(1)[0, c].double()
                total += p * (mask.double() - 0.5)
            torch.testing.assert_close(found[i].double(), total / total.abs().max(), atol=1e-5, rtol=1e-4)


def test_integrated_gradients_against_a_loop_over_the_way():
    net, x = backbone().model.eval(), batch(2)
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(8))
    for target in ([0, 2], [2, 1]):
        expected = torch.zeros(2, 16, 16)
        for i, c in enumerate(target):
            for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
                on_the_way = (x[i:i + 1] * node).float().requires_grad_()
                slope, = torch.autograd.grad(net(on_the_way)[0, c], on_the_way)
                expected[i] += (weight * slope * x[i:i + 1])[0].sum(0)
        found = baselines.integrated_gradients(backbone(), x, torch.tensor(target), steps=8)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_rise_is_seeded_and_prefers_what_counts():
    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.fc = nn.Identity(), nn.AvgPool2d(4), nn.Linear(3, 2)
            with torch.no_grad():
                self.fc.weight.copy_(torch.tensor([[0.5] * 3, [-0.5] * 3]))
                self.fc.bias.copy_(torch.tensor([-1.5, 1.5]))  # undecided when half is seen

        def forward(self, x):
            return self.fc(self.two(self.one(x)).mean((2, 3)))

    net, x = backbone(Left), torch.zeros(1, 3, 16, 16)
    x[..., :8] = 4.0
    found = baselines.rise(net, x, 0, masks=400)
    assert found[0, :, :8].mean() > found[0, :, 8:].mean() + 0.1
    assert torch.equal(found, baselines.rise(net, x, 0, masks=400))
    assert not torch.equal(found, baselines.rise(net, x, 0, masks=400, seed=1))


@pytest.mark.parametrize("name", [*METHODS, "saliency"])
def test_each_gives_one_map_of_the_pictures_size_and_leaves_the_network_as_it_was(name):
    net, x = backbone(), batch()
    net.model.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = (METHODS | {"saliency": saliency_map})[name](net, x, TARGET)
    assert found.shape == (4, 16, 16) and torch.isfinite(found).all() and not found.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters()) and not x.requires_grad


@pytest.mark.parametrize("name", [*METHODS, "saliency"])
def test_a_feature_map_of_zeros_gives_zeros_and_no_nan(name):
    class Zero(Net):
        def forward(self, x):
            return self.fc(self.two(self.one(x)).mean((2, 3)))

    net = backbone(Zero, bias=False)
    with torch.no_grad():
        for p in net.model.two.parameters():
            p.zero_()
    assert net.features(batch())[-1].abs().max() == 0
    found = (METHODS | {"saliency": saliency_map})[name](net, batch(), TARGET)
    assert torch.isfinite(found).all()
    if name not in ("edges", "centre", "RISE"):  # RISE weighs masks by equal probabilities: noise about zero
        assert found.abs().max() == 0


# Bad input

class Detached(Net):
    """It says that it gives no gradients by giving none."""

    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize("name", [*GRADIENTS, "saliency"])
def test_network_without_gradients(name):
    method = (METHODS | {"saliency": saliency_map})[name]
    with pytest.raises(ValueError, match="gives no gradients .its forward pass runs without gradients.: run it with"):
        method(backbone(Detached), batch(), 0)
    net = backbone()
    with torch.inference_mode(), pytest.raises(ValueError, match="torch.inference_mode is on"):
        method(net, batch(), 0)
    with torch.inference_mode():
        born = backbone()
    with pytest.raises(ValueError, match="its weights were made in torch.inference_mode"):
        method(born, batch(), 0)


@pytest.mark.parametrize("name", [*GRADIENTS, "saliency"])
def test_frozen_weights_and_no_grad_are_no_hindrance(name):
    method, net = (METHODS | {"saliency": saliency_map})[name], backbone()
    free = method(net, batch(), TARGET)
    net.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(method(net, batch(), TARGET), free)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("edges", "centre")] + ["saliency"])
@pytest.mark.parametrize("x, target, message", [
    (batch(), 3, "target must be one class, or one for each of the 4 images, in 0..2"),
    (batch(), -1, "target must be one class"),
    (batch(), torch.tensor([0, 1]), "one for each of the 4 images"),
    (batch(side=3), 0, "3 x 3 pixels are smaller than the network's stride, 4"),
    (batch()[0], 0, r"a non-empty float batch \(n, 3, H, W\), but x is \(3, 16, 16\)"),
    (batch()[:0], 0, "a non-empty float batch"),
    (batch().byte(), 0, "of torch.uint8"),
    (batch().index_fill(0, torch.tensor([1, 3]), torch.nan), 0, r"pictures \[1, 3\] of the batch hold NaN or infinite"),
    (batch() / 0, 0, "hold NaN or infinite")])
def test_refused(name, x, target, message):
    with pytest.raises(ValueError, match=message):
        (METHODS | {"saliency": saliency_map})[name](backbone(), x, target)


def test_a_block_that_is_no_module_is_named():
    import torchvision

    from paperlib.networks.architectures import build
    torch.manual_seed(0)
    net = build("densenet121", 3)
    assert isinstance(net.model, torchvision.models.DenseNet)
    with pytest.raises(ValueError, match="block 'relu' is not one"):
        baselines.grad_cam(net, batch(1, 64), 0)


def test_a_network_of_one_block_has_no_block_before():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.one(x).mean((2, 3)))

    from paperlib.backbone import Backbone
    assert not [name for name in baselines.methods(Backbone(One(), ("one",), "fc", (3, 16, 16))) if "block" in name]


def test_captum_is_what_runs(monkeypatch):
    called = []
    real = captum.attr.LayerGradCam.attribute
    monkeypatch.setattr(captum.attr.LayerGradCam, "attribute", lambda *a, **k: called.append(1) or real(*a, **k))
    baselines.grad_cam(backbone(), batch(), 0)
    assert called == [1]
