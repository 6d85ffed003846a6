"""Networks by name or of one's own, and their weights; what goes wrong is said in one sentence."""
from __future__ import annotations

import json
import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from paperlib.backbone import StructureError
from paperlib.networks.architectures import build, in_words

OWN = '''
import torch
from torch import nn

class Net(nn.Module):
    """Two blocks, average pooling, linear classifier."""
    def __init__(self, n_classes, bias=True):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, n_classes, bias=bias)

    def forward(self, x):
        return self.head(self.two(self.one(x)).mean((2, 3)))

class Small(Net):
    def forward(self, x):
        if x.shape[-1] != 32:
            raise RuntimeError("32 pixels only\\nand a long story")
        return super().forward(x)

def fixed(n_classes):
    return Net(1000)

def raises(n_classes):
    return {}["weights"]

def spoiled(n_classes):
    net = Net(n_classes)
    net.two[0].weight.data[0] = float("nan")
    return net

not_callable = 3

def number(n_classes):
    return 3
'''
BLOCKS = {"blocks": ("one", "two"), "classifier": "head"}


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(OWN)
    return path


def own_net(own) -> nn.Module:
    """The module of the file above, not wrapped."""
    torch.manual_seed(0)
    return build(f"{own}:Net", 3, **BLOCKS).model


def pictures(n: int = 3, size: int = 64) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


# By name

@pytest.mark.parametrize("name", ["resnet19", "resnet50_x0_5", "resnet18_x0", "resnet18_x0_5_zeros"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=f"named '{name}'; use one such as resnet34, resnet18_x0_25 .18 or 34"):
        build(name, 3)


def test_narrow_resnet_of_all_channels_is_torchvisions():
    wide, narrow = torchvision.models.resnet18(num_classes=3), build("resnet18_x1_0", 3, bias=True)
    narrow.model.load_state_dict(wide.state_dict())
    torch.testing.assert_close(narrow(pictures()), wide.eval()(pictures()))


@pytest.mark.parametrize("name, layers, padding", [("resnet18_x0_25_replicate", 20, "replicate"),
                                                   ("resnet34_x0_25", 36, "zeros")])
def test_narrow_resnet_has_its_share_of_channels_its_padding_and_theorem_1(name, layers, padding):
    torch.manual_seed(0)
    net = build(name, 3)
    x, h = pictures(2), net.features(pictures(2))
    assert [tuple(each.shape[1:]) for each in h] == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]
    convolutions = [m for m in net.model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == layers
    assert all(m.padding_mode == (padding if m.padding != (0, 0) else "zeros") for m in convolutions)
    evidence = h[-1].flatten(2).transpose(1, 2) @ net.C
    torch.testing.assert_close(evidence.mean(1), net(x), atol=1e-5, rtol=1e-4)


def test_names_for_readers():
    names = ("resnet18_x0_25_replicate", "resnet34_x0_5", "resnet18_x0_75", "resnet34", "my/nets.py:small")
    assert [in_words(name) for name in names] == [
        "ResNet18, a quarter of the channels", "ResNet34, half of the channels", "ResNet18, 75% of the channels",
        "resnet34", "small"]


def test_narrow_resnet_has_no_imagenet_weights():
    with pytest.raises(ValueError, match="no ImageNet weights for 'resnet18_x0_25'; use weights='none', or resnet18"):
        build("resnet18_x0_25", 3, "imagenet")


def test_unknown_family_must_name_its_blocks():
    with pytest.raises(ValueError, match=r"classifier of 'squeezenet1_0' are not known; name them, as in\s+blocks="):
        build("squeezenet1_0", 3)


def test_same_seed_same_first_weights():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(build("resnet18", 3).model.state_dict())
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0])
    assert not torch.equal(nets[0]["fc.weight"], nets[2]["fc.weight"])


def test_bias_on_request():
    net, x = build("resnet18", 3, bias=True), pictures(2)
    assert net.bias.shape == (3,)
    torch.testing.assert_close(net(x), net.embed(x) @ net.C + net.bias, atol=1e-5, rtol=1e-4)


# Of one's own

@pytest.mark.parametrize("name, message", [("{folder}/none.py:Net", "There is no file .*none.py for the network"),
                                           ("{own}:Nett", "has no function 'Nett'; write the network as"),
                                           ("{own}:not_callable", "has no function 'not_callable'")])
def test_own_network_that_is_not_there(own, name, message):
    with pytest.raises(ValueError, match=message):
        build(name.format(own=own, folder=own.parent), 3, **BLOCKS)


def test_own_network_must_name_its_blocks(own):
    with pytest.raises(ValueError, match="The blocks and the classifier of '.*:Net' are not known"):
        build(f"{own}:Net", 3)


def test_own_file_may_be_called_like_a_module(own):
    path = own.rename(own.with_name("json.py"))
    assert build(f"{path}:Net", 3, **BLOCKS).n_classes == 3
    assert sys.modules["json"] is json


@pytest.mark.parametrize("name, kind, message", [
    ("Small", StructureError, r"fails on pictures of shape \(3, 64, 64\): RuntimeError: 32 pixels only; its for"),
    ("fixed", StructureError, r"fixed' gives 1000 outputs for 3 classes; its function is called with the number"),
    ("raises", ValueError, r"raises\(3\) of .*nets.py raises KeyError: 'weights'; it is called with the number"),
    ("number", ValueError, r"number\(3\) of .*nets.py must return the network, a torch.nn.Module, but .* type int\."),
    ("spoiled", ValueError, "The weights of .*spoiled hold NaN or infinite values, first in two.0.weight")])
def test_own_network_that_does_not_work(own, name, kind, message):
    with pytest.raises(kind, match=message) as caught:
        build(f"{own}:{name}", 3, **BLOCKS)
    assert type(caught.value) is kind and "\n" not in str(caught.value)


@pytest.mark.parametrize("text, message", [("def Net(:", "SyntaxError: invalid syntax"), ("exit(2)", "SystemExit: 2"),
                                           ("import gone_for_good", "ModuleNotFoundError: No module named 'gone_for")])
def test_own_file_that_cannot_be_imported(own, text, message):
    own.write_text(text)
    with pytest.raises(ValueError, match=f"nets.py cannot be imported: {message}.*; mend it, or install what it needs"):
        build(f"{own}:Net", 3, **BLOCKS)
    assert "own_nets" not in sys.modules


# Weights

@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("n_classes, bias, head_is_kept", [(3, True, True), (5, True, False), (3, False, True)])
def test_weights_from_a_file(tmp_path, own, suffix, n_classes, bias, head_is_kept):
    donor = own_net(own)
    save = save_file if suffix == ".safetensors" else torch.save
    save(donor.state_dict(), tmp_path / f"weights{suffix}")
    wanted = own.read_text().replace("bias=True", f"bias={bias}")
    own.write_text(wanted)
    torch.manual_seed(1)
    net = build(f"{own}:Net", n_classes, str(tmp_path / f"weights{suffix}"), **BLOCKS)
    for name, tensor in net.model.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, donor.state_dict()[name])
    assert torch.equal(net.C.T, donor.head.weight) if head_is_kept else net.C.shape == (6, n_classes)


def test_weights_of_another_head_for_a_torchvision_network(tmp_path):
    torch.manual_seed(5)
    donor = torchvision.models.resnet18()  # 1000 classes and a bias
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    net = build("resnet18", 3, tmp_path / "w.pth")
    assert torch.equal(net.model.layer4[1].conv2.weight, donor.layer4[1].conv2.weight)
    assert net.C.shape == (512, 3) and net.bias is None


def test_weights_that_do_not_fit(tmp_path, own):
    state = own_net(own).state_dict()
    torch.save({**state, "one.0.weight": torch.zeros(9, 3, 3, 3)}, tmp_path / "shape.pth")
    torch.save({f"net.{k}": v for k, v in state.items()}, tmp_path / "names.pth")
    torch.save({k: v for k, v in state.items() if k != "one.0.bias"}, tmp_path / "lacks.pth")
    for name, message in {"shape": "does not fit the network: size mismatch for one.0.weight",
                          "names": "does not fit the network: [0-9]+ names differ, the first is one.0.weight",
                          "lacks": "1 names differ, the first is one.0.bias"}.items():
        with pytest.raises(ValueError, match=message):
            build(f"{own}:Net", 3, tmp_path / f"{name}.pth", **BLOCKS)


def test_file_of_weights_that_is_not_there(own, tmp_path):
    with pytest.raises(ValueError, match="There is no file of weights .*gone.pth; give 'none', 'imagenet' or the path"):
        build(f"{own}:Net", 3, tmp_path / "gone.pth", **BLOCKS)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half of an archive", b"\x80\x02R.",
                                     b"\x80\x02M\xe9", b"\x80\x02X\x02\x00\x00\x00\xff\xff."])
def test_damaged_file_of_weights(own, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be read as weights .*fetch it again, or save a state"):
        build(f"{own}:Net", 3, tmp_path / name, **BLOCKS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(own, tmp_path, value):
    state = own_net(own).state_dict()
    save_file({**state, "two.1.running_var": torch.full((6,), value)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="w.safetensors hold NaN or infinite values, first in two.1.running_var"):
        build(f"{own}:Net", 3, tmp_path / "w.safetensors", **BLOCKS)


def test_pickled_network_is_not_run(own, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    torch.save({"epoch": 3, "state_dict": own_net(own).state_dict()}, tmp_path / "run.pth")
    with pytest.raises(ValueError, match="net.pth cannot be read as weights .*or save a state"):
        build(f"{own}:Net", 3, tmp_path / "net.pth", **BLOCKS)
    with pytest.raises(ValueError, match="run.pth holds no state dict"):
        build(f"{own}:Net", 3, tmp_path / "run.pth", **BLOCKS)


def test_imagenet_weights_are_torchvisions(own):
    with pytest.raises(ValueError, match="weights='imagenet' are torchvision's; .*is your own"):
        build(f"{own}:Net", 3, "imagenet", **BLOCKS)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of downloaded weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def download(*_, **__):
        raise URLError("Temporary failure in name resolution")
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_imagenet_weights_without_a_network(hub):
    with pytest.raises(ValueError) as caught:
        build("resnet18", 3, "imagenet")
    sentence = str(caught.value)
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    assert sentence.startswith("ImageNet weights for resnet18 could not be had (<urlopen error Temporary failure")
    assert f"fetch {url} on a machine with a network, put it into {hub}, and run again" in sentence
    assert "\n" not in sentence


def test_resnet34_takes_exactly_the_weights_in_the_folder(hub):
    """The paper's network with ImageNet weights: a state dict of our own, in torchvision's format, under its name."""
    entry = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    torch.manual_seed(7)
    donor = torchvision.models.resnet34()  # 1000 classes and a bias, as the official file has
    for module in donor.modules():
        if isinstance(module, nn.BatchNorm2d):  # else they are zeros and ones in any network
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    name = entry.url.rsplit("/", 1)[1]
    assert name == "resnet34-b627a593.pth", "the end of the name is checked against the content only when downloaded"
    torch.save(donor.state_dict(), hub / name)
    net = build("resnet34", 10, "imagenet")
    found, wanted = net.model.state_dict(), donor.state_dict()
    assert set(wanted) - set(found) == {"fc.bias"} and set(found) <= set(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in found if key != "fc.weight")
    assert net.C.shape == (512, 10) and net.bias is None
    x = pictures(2)
    donor.eval().fc = net.model.fc
    with torch.no_grad():
        assert torch.equal(net(x), donor(x))


def test_imagenet_weights_that_were_put_into_the_folder_are_used(hub):
    torch.manual_seed(5)
    donor = torchvision.models.resnet18()
    path = hub / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(donor.state_dict(), path)
    net = build("resnet18", 3, "imagenet")
    assert torch.equal(net.model.conv1.weight, donor.conv1.weight) and net.C.shape == (512, 3)
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match="could not be had"):
        build("resnet18", 3, "imagenet")


def test_the_structure_alone_reads_and_downloads_nothing(hub, own):
    for name, weights, more in (("resnet18", "imagenet", {}), (f"{own}:Net", "gone.pth", BLOCKS)):
        torch.manual_seed(3)
        net = build(name, 3, weights, load_weights=False, **more)
        torch.manual_seed(3)
        assert all(map(torch.equal, net.state_dict().values(), build(name, 3, **more).state_dict().values()))
    googlenet = build("googlenet", 3, "imagenet", load_weights=False)
    assert googlenet.model.transform_input and googlenet.model.aux1 is None  # as with ImageNet's weights
