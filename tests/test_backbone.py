"""The structure that Theorem 1 needs, checked by numbers."""
from __future__ import annotations

import textwrap
import time

import pytest
import torch
import torchvision
from torch import nn

from paperlib import backbone
from paperlib.backbone import Backbone, StructureError, features_in_turn
from paperlib.networks.architectures import build
from paperlib.theorem1 import predicted_class

OWN = '''
import torch
from torch import nn

class Net(nn.Module):
    """Two blocks, average pooling, linear classifier."""
    def __init__(self, n_classes, bias=True):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.unused = nn.Identity()
        self.head = nn.Linear(6, n_classes, bias=bias)

    def forward(self, x):
        return self.head(self.two(self.one(x)).mean((2, 3)))

class Wilful(Net):
    """torch.fx cannot follow it: what it does depends on the numbers."""
    def forward(self, x):
        h = self.one(x)
        if h.sum() < 0:
            h = -h
        return self.head(self.two(h).mean((2, 3)))

class Other(Net):
    """A norm after the pooling."""
    def __init__(self, n_classes):
        super().__init__(n_classes)
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        return self.head(self.norm(self.two(self.one(x)).mean((2, 3))))

class Max(Net):
    """Pools by the maximum, which is no module."""
    def forward(self, x):
        return self.head(self.two(self.one(x)).amax((2, 3)))

not_callable = 3
'''
BLOCKS = {"blocks": ("one", "two"), "classifier": "head"}


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(textwrap.dedent(OWN))
    return path


def own_net(own, name: str = "Net", n_classes: int = 3) -> nn.Module:
    """The module of the file above, not wrapped."""
    torch.manual_seed(0)
    return build(f"{own}:{name}", n_classes, **BLOCKS).model


def pictures(n: int = 3, size: int = 64) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def lively(net: Backbone) -> None:
    """Bring an untrained network's logits to the scale of trained ones: compared at 1e-3, they would all look equal."""
    with torch.no_grad():
        net.classifier.weight.mul_(10 / net(pictures()).abs().max())


# The structure

@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "efficientnet_b0"])
def test_forward_is_the_classifier_of_the_mean_of_the_last_block(name):
    torch.manual_seed(0)
    net, x = build(name, 7), pictures()
    lively(net)
    features, y = net.features(x), net(x)
    assert len(features) == len(net.blocks) == 4 and net.bias is None
    assert y.shape == (3, 7) and not torch.allclose(y[0], y[1], atol=1e-2)
    h, expected = features[-1], torch.zeros(3, 7)
    for i in range(3):
        z = torch.stack([channel.sum() / channel.numel() for channel in h[i]])
        for j in range(7):
            expected[i, j] = (z * net.C[:, j]).sum()
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(net.classify(net.embed(x)), y, atol=1e-4, rtol=1e-4)
    assert net.C.shape == (h.shape[1], 7) and net.n_classes == 7
    sides = [f.shape[-1] for f in features]
    assert sides == sorted(set(sides), reverse=True), "each block is at a resolution of its own"
    assert all(f.dtype == torch.float32 and not f.requires_grad for f in features) and not y.requires_grad


def test_features_are_those_of_the_named_modules():
    net, x = build("resnet18", 3), pictures(2)
    m, expected = net.model, []
    with torch.no_grad():
        h = m.maxpool(m.relu(m.bn1(m.conv1(x))))
        for layer in (m.layer1, m.layer2, m.layer3, m.layer4):
            h = layer(h)
            expected.append(h)
    for found, wanted in zip(net.features(x), expected, strict=True):
        assert torch.equal(found, wanted)


def test_vgg_is_refused_for_its_layers_after_pooling():
    layers = torchvision.models.vgg.make_layers([8, "M", 16, "M"])
    small = torchvision.models.VGG(layers, num_classes=5, init_weights=False)
    small.classifier[0] = nn.Linear(16 * 7 * 7, 4096)
    with pytest.raises(StructureError) as caught:
        Backbone(small, ("features",), "classifier.6")
    assert str(caught.value) == (
        "VGG is not blocks, average pooling, linear classifier: between 'features' and 'classifier.6' stand Linear "
        "(classifier.0), ReLU (classifier.1), Linear (classifier.3), ReLU (classifier.4); Theorem 1 does not apply.")


def test_convnext_is_refused_for_its_norm_after_pooling():
    with pytest.raises(StructureError, match=r"'classifier.2' stand LayerNorm2d \(classifier.0\); Theorem 1"):
        build("convnext_tiny", 5)


def test_own_network_with_a_norm_after_pooling_is_refused(own):
    with pytest.raises(StructureError, match=r"^Other is not .*'two' and 'head' stand LayerNorm \(norm\); Theorem 1"):
        build(f"{own}:Other", 3, **BLOCKS)


def test_pooling_that_is_no_average_is_refused(own):
    with pytest.raises(StructureError, match="something else than average pooling that is no module of its own"):
        build(f"{own}:Max", 3, **BLOCKS)


def test_last_block_must_be_the_last(own):
    with pytest.raises(StructureError, match=r"between 'one' and 'head' stand .*Conv2d \(two.0\).*Theorem 1"):
        build(f"{own}:Net", 3, blocks=("one",), classifier="head")


@pytest.mark.parametrize("net", ["Net", "Wilful"])
def test_wrong_block_name(own, net):
    with pytest.raises(StructureError, match="does not have all of the blocks one, three; for its names see"):
        build(f"{own}:{net}", 3, blocks=("one", "three"), classifier="head")


def test_block_that_does_not_run(own):
    with pytest.raises(StructureError, match="does not run unused; name blocks that it runs"):
        build(f"{own}:Wilful", 3, blocks=("one", "unused"), classifier="head")


def test_no_block_is_named(own):
    with pytest.raises(StructureError, match="No block is named"):
        Backbone(own_net(own), (), "head")


def test_wrong_classifier_name():
    with pytest.raises(StructureError, match=r"no module 'head'; its outermost modules are conv1, .*fc\.$"):
        build("resnet18", 3, classifier="head")


def test_classifier_that_is_not_linear(own):
    with pytest.raises(StructureError, match="'layer4' is a Sequential, not a linear layer; name the linear"):
        build("resnet18", 3, classifier="layer4")
    with pytest.raises(StructureError, match="'one.0' is a Conv2d, not a linear layer"):
        build(f"{own}:Net", 3, blocks=("one", "two"), classifier="one.0")


class InPlace(nn.Module):
    """Blocks without a ReLU, each of them followed by one that overwrites the block's output."""

    def __init__(self, wilful: bool, named: bool = True):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 6, 3, stride=2)
        self.relu, self.last = nn.ReLU(inplace=True), nn.ReLU(inplace=True) if named else nn.Identity()
        self.head, self.wilful = nn.Linear(6, 3), wilful

    def forward(self, x):
        h = self.relu(self.one(x))
        if self.wilful and h.sum() < 0:  # which torch.fx cannot follow
            h = -h
        return self.head(self.last(self.two(h)).mean((2, 3)))


@pytest.mark.parametrize("wilful", [False, True])
def test_a_layer_that_works_in_place_does_not_overwrite_a_block(wilful):
    torch.manual_seed(0)
    model, x = InPlace(wilful, named=False), pictures()
    net = Backbone(model, **BLOCKS)
    assert isinstance(net._extract, backbone._Hooked if wilful else backbone._Traced)
    x1 = model.one(x).detach()
    assert x1.min() < 0
    for found, wanted in zip(net.features(x), (x1, model.two(x1.relu())), strict=True):
        torch.testing.assert_close(found, wanted)
    assert torch.equal(net(x), model(x))


@pytest.mark.parametrize("wilful", [False, True])
def test_a_last_block_that_is_overwritten_in_place_is_refused(wilful):
    with pytest.raises(StructureError, match=r"between 'two' and 'head' stand ReLU \(last\)"):
        Backbone(InPlace(wilful), **BLOCKS)
    assert Backbone(InPlace(wilful), ("one", "last"), "head").n_classes == 3


def test_weights_that_are_not_finite_are_named(own):
    for bad in (torch.nan, torch.inf):
        model = own_net(own)
        model.two[0].weight.data[0, 0, 0, 0] = bad
        with pytest.raises(ValueError, match=r"^The weights of Net hold NaN or infinite values, first in two.0.weight"):
            Backbone(model, **BLOCKS)


def test_a_network_that_ignores_its_number_of_classes_is_refused(own):
    with pytest.raises(StructureError, match=r"'head' has 3 outputs; needed are the logits of 5 classes from both"):
        Backbone(own_net(own), **BLOCKS, n_classes=5)
    model = own_net(own)
    model.register_forward_hook(lambda _module, _x, y: y.sum())
    with pytest.raises(StructureError, match="needed are the logits of 3 classes"):
        Backbone(model, **BLOCKS)
    model.register_forward_hook(lambda _module, _x, y: {"out": y})
    with pytest.raises(StructureError, match="gives <class 'dict'> for 2 pictures"):
        Backbone(model, **BLOCKS)


def test_features_are_those_of_evaluation_even_after_train(own):
    net, x = Backbone(own_net(own), **BLOCKS), pictures()
    expected, y, statistics = net.features(x), net(x), net.model.two[1].running_mean.clone()
    for wake in (net.train, net.model.train):
        wake()
        for found, wanted in zip(net.features(x), expected, strict=True):
            assert torch.equal(found, wanted)
        wake()
        assert torch.equal(net(x), y)
    assert torch.equal(net.model.two[1].running_mean, statistics)


@pytest.mark.parametrize("name", ["Net", "Wilful"])
def test_features_follow_weights_that_are_loaded_or_trained_later(own, name):
    net, x = Backbone(own_net(own, name), **BLOCKS), pictures()
    before = net.features(x)[-1]
    net.model.load_state_dict({k: v + 0.1 if v.is_floating_point() else v for k, v in net.model.state_dict().items()})
    assert not torch.allclose(net.features(x)[-1], before)
    torch.testing.assert_close(net(x), net.classify(net.embed(x)))
    net.to(torch.float64)
    torch.testing.assert_close(net(x.double()), net.model(x.double()).detach())


# Of one's own

def test_own_network_keeps_its_bias(own):
    net, x = build(f"{own}:Net", 3, **BLOCKS), pictures()
    assert isinstance(net._extract, backbone._Traced)
    assert torch.equal(net.bias, net.model.head.bias.detach()) and net.bias.abs().sum() > 0
    torch.testing.assert_close(net(x), net.embed(x) @ net.C + net.bias)
    assert torch.equal(net(x), net.model(x).detach())


def test_a_network_in_bfloat16_is_explained_in_float32(own):
    net = Backbone(own_net(own, "Net"), **BLOCKS).to(torch.bfloat16)
    features = net.features(pictures().bfloat16())
    assert {x.dtype for x in (*features, net.C, net.bias)} == {torch.float32}
    assert torch.equal(predicted_class(net, features), net.classify(features[-1].mean((2, 3))).argmax(1))


def test_network_that_cannot_be_traced_gives_the_same_features(own):
    traced, hooked = Backbone(own_net(own, "Net"), **BLOCKS), Backbone(own_net(own, "Wilful"), **BLOCKS)
    assert isinstance(hooked._extract, backbone._Hooked)
    x = pictures()
    for found, wanted in zip(hooked.features(x), traced.features(x), strict=True):
        assert torch.equal(found, wanted)
    torch.testing.assert_close(hooked(x), hooked.embed(x) @ hooked.C + hooked.bias)
    assert not any(module._forward_hooks for module in hooked.modules())


def test_hooked_blocks_come_in_the_order_named(own):
    net = backbone._Hooked(own_net(own), ("two", "one"))
    assert [f.shape[1] for f in net(pictures())] == [6, 4]


# The stride

@pytest.mark.parametrize("name, stride", [("resnet18", 32), ("mobilenet_v2", 32)])
def test_stride_of_torchvisions_networks(name, stride):
    assert build(name, 2, probe=(3, 32, 32)).stride == stride


def test_stride_of_a_network_that_takes_one_size_only():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.fc = nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            if x.shape[-1] != 48:
                raise ValueError("48 pixels only")
            return self.fc(self.one(x).mean((2, 3)))

    assert Backbone(Fixed(), ("one",), "fc", (3, 48, 48)).stride == 4


def test_the_next_batch_is_read_while_the_network_computes():
    read, seen = [], []

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, i):
            read.append(i)
            return torch.full((3, 16, 16), float(i))

    class Patient:
        C = torch.zeros(3, 2)

        def features(self, x):
            seen.append(x[:, 0, 0, 0].tolist())
            for _ in range(1000):  # ten seconds, if the next were read after this
                if len(read) >= min(7, 3 * (len(seen) + 1)):
                    return [x]
                time.sleep(0.01)
            raise AssertionError("the next batch is not read meanwhile")

    found = [x for x, in features_in_turn(Patient(), Images(), torch.arange(7).split(3))]
    assert torch.equal(torch.cat(found)[:, 2, 1, 1], torch.arange(7.0)) and [len(x) for x in found] == [3, 3, 1]
    assert seen == [[0, 1, 2], [3, 4, 5], [6]] and read == list(range(7))
    with pytest.raises(ValueError, match=r"an image must be \(3, H, W\), but a batch of them is \(2, 16, 16\)"):
        next(features_in_turn(Patient(), torch.zeros(2, 16, 16), [[0, 1]]))
