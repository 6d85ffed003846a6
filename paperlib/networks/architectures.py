"""The zoo: torchvision's networks by name, or one of your own, as a Backbone; and the weights that they start from."""
from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet, conv1x1

from paperlib.backbone import Backbone, StructureError, linear_layer
from paperlib.guards import finite

# Of each family, four blocks that end where the resolution changes, the last one at the pooling; the linear classifier.
ARCHITECTURES = {
    "resnet": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    "resnext": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    "wide_resnet": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    # DenseNet's last block ends in a norm and in a ReLU that is a function, which feature extraction names "relu". The
    # authors of Soft-CAM leave that ReLU out; we keep it, for without it eq. 4 would not hold of the trained network.
    "densenet": (("features.denseblock1", "features.denseblock2", "features.denseblock3", "relu"), "classifier"),
    "googlenet": (("conv3", "inception3b", "inception4e", "inception5b"), "fc"),
    "efficientnet_b": (("features.2", "features.3", "features.5", "features.8"), "classifier.1"),
    "mobilenet_v2": (("features.3", "features.6", "features.13", "features.18"), "classifier.1"),
    "vgg": (("features",), "classifier.6"),
    "convnext": (("features.1", "features.3", "features.5", "features.7"), "classifier.2"),
}


NARROW = re.compile(r"resnet(18|34)_x(\d_\d+)(?:_(replicate|reflect))?")
SHARES = {0.25: "a quarter", 0.5: "half"}  # of the channels, in words


def build(name: str, n_classes: int, weights: str | Path | None = None, blocks: Sequence[str] = (),
          classifier: str = "", bias: bool = False, probe: tuple[int, int, int] = (3, 64, 64),
          load_weights: bool = True) -> Backbone:
    """A Backbone with n_classes outputs, by name.

    name: one of torchvision's ("resnet34"), a narrow one (`narrow_resnet`), or a file and a function of one's own
    ("nets/mine.py:make_net", called with n_classes). blocks, classifier: may stay empty for the families of
    ARCHITECTURES. weights: None (random, or what one's own function loads), "imagenet" (torchvision's, downloaded
    once), or a file of a state dict (.safetensors or .pth), whose classifier is left out where its shape is another.
    bias: whether the new classifier of a torchvision network has one; False is the paper's (section 2). A network of
    one's own is taken as it is. load_weights: False gives the structure that `weights` asks for with random weights,
    and neither downloads nor reads any: for a network that a kept checkpoint fills.

    Raises ValueError for an unknown name, a file or function of one's own that does not work, and weights that do not
    fit or hold NaN; StructureError for another structure, and for a network with another number of outputs.
    """
    own = ":" in name
    if own and weights == "imagenet":
        raise ValueError(f"weights='imagenet' are torchvision's; {name!r} is your own: load its weights in its "
                         f"function, or give the path of a state dict.")
    model = _own_model(name, n_classes) if own else None  # what is wrong with its file is said first
    blocks, classifier = _blocks(name, blocks, classifier)
    if own:
        _check_outputs(name, linear_layer(model, classifier), n_classes)
    else:
        model = _torchvision_model(name, weights, load_weights)
        old = linear_layer(model, classifier)
        model.set_submodule(classifier, nn.Linear(old.in_features, n_classes, bias=bias))
    if load_weights and weights not in (None, "", "none", "imagenet"):
        _load_weights(model, Path(weights).expanduser(), classifier)
    _check_finite(model.state_dict(), name)
    return _wrapped(name, model, blocks, classifier, probe)


def _blocks(name: str, blocks: Sequence[str], classifier: str) -> tuple[tuple[str, ...], str]:
    """The names of blocks and classifier: those given, else those of the family."""
    family = ((), "")
    if ":" not in name:
        if not NARROW.fullmatch(name) and name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(f"torchvision has no classification network named {name!r}; use one such as resnet34, "
                             f"resnet18_x0_25 (18 or 34, a share of the channels, then if you like _replicate or "
                             f"_reflect) or 'file.py:function' for one of your own.")
        longest_first = sorted(ARCHITECTURES, key=len, reverse=True)
        family = next((ARCHITECTURES[key] for key in longest_first if name.startswith(key)), family)
    blocks, classifier = tuple(blocks) or family[0], classifier or family[1]
    if not (blocks and classifier):
        raise ValueError(f"The blocks and the classifier of {name!r} are not known; name them, as in "
                         f"blocks='layer1,layer2,layer3,layer4', classifier='fc'.")
    return blocks, classifier


def _wrapped(name: str, model: nn.Module, blocks, classifier: str, probe) -> Backbone:
    try:
        return Backbone(model, blocks, classifier, probe)
    except StructureError:
        raise
    except Exception as error:  # noqa: BLE001 - a forward pass may raise anything
        raise StructureError(f"{name!r} fails on pictures of shape {tuple(probe)}: {_said(error)}; its forward pass "
                             f"must take them.") from error


def in_words(name: str) -> str:
    """A network's name for readers: resnet18_x0_25_replicate is "ResNet18, a quarter of the channels".

    Of a network of one's own, the function's name; others are called as torchvision calls them.
    """
    if not (narrow := NARROW.fullmatch(name)):
        return name.split(":")[-1]
    share = float(narrow[2].replace("_", "."))
    return f"ResNet{narrow[1]}, {SHARES.get(share, f'{share:.0%}')} of the channels"


def narrow_resnet(name: str, drawn: bool = True) -> nn.Module:
    """A ResNet with random weights and fewer channels than torchvision's, by name, as resnet18_x0_5.

    x0_5: the share of the channels, in each block and in the stem. replicate: what lies outside of a feature map is its
    border's value instead of zero; reflect: what lies as far inside of the border. drawn: False draws
    fewer numbers, which takes a tenth of the time and gives other weights.
    """
    depth, share, padding = NARROW.fullmatch(name).groups()
    layers = {"18": [2, 2, 2, 2], "34": [3, 4, 6, 3]}[depth]
    with torch.device("cpu" if drawn else "meta"):  # all that has weights is replaced
        net = ResNet(BasicBlock, layers)
    widths = [max(1, round(64 * float(share.replace("_", ".")))) * 2**b for b in range(4)]
    net.conv1, net.bn1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False), nn.BatchNorm2d(widths[0])
    for b, (before, width) in enumerate(zip(widths[:1] + widths, widths, strict=False)):
        setattr(net, f"layer{b + 1}", _residual(before, width, layers[b]))
    net.fc = nn.Linear(widths[-1], 1)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's begin
            if padding and module.padding != (0, 0):
                module.padding_mode = padding
    return net


def _residual(before: int, width: int, n: int) -> nn.Sequential:
    """n residual blocks of `width` channels; the first halves the resolution where there were fewer channels before."""
    stride = 1 if before == width else 2
    aside = nn.Sequential(conv1x1(before, width, stride), nn.BatchNorm2d(width)) if stride == 2 else None
    return nn.Sequential(BasicBlock(before, width, stride, aside), *(BasicBlock(width, width) for _ in range(n - 1)))


def _torchvision_model(name: str, weights, load_weights: bool) -> nn.Module:
    if NARROW.fullmatch(name):
        if weights == "imagenet":
            raise ValueError(f"There are no ImageNet weights for {name!r}; use weights='none', or resnet18.")
        return narrow_resnet(name, load_weights)
    inception = name in ("googlenet", "inception_v3")  # those whose structure hangs on the weights
    if weights != "imagenet" or not load_weights:
        options = {"aux_logits": False, "init_weights": load_weights} if name == "googlenet" else {}
        if inception and weights == "imagenet":
            options["transform_input"] = True
        return torchvision.models.get_model(name, weights=None, **options)
    entry = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return torchvision.models.get_model(name, weights=entry)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(f"ImageNet weights for {name} could not be had ({error}); fetch {entry.url} on a machine with "
                         f"a network, put it into {folder}, and run again, or use weights='none'.") from error


# A network of one's own


def _own_model(name: str, n_classes: int) -> nn.Module:
    """What the function of one's own gives for n_classes; anything that goes wrong there is told as a ValueError."""
    path, function = name.rsplit(":", 1)
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no file {path} for the network {name!r}; write it as 'file.py:function'.")
    make = getattr(_module(path), function, None)
    if not callable(make):
        raise ValueError(f"{path} has no function {function!r}; write the network as 'file.py:function'.")
    try:
        model = make(n_classes)
    except Exception as error:  # noqa: BLE001 - one's own code may raise anything
        raise ValueError(f"{function}({n_classes}) of {path} raises {_said(error)}; it is called with the number of "
                         f"classes and must return the network.") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{function}({n_classes}) of {path} must return the network, a torch.nn.Module, but what it "
                         f"returns is of type {type(model).__name__}.")
    return model


def _module(path: Path):
    """The file as a module, under a name that hides no other module, whatever the file is called."""
    loader = SourceFileLoader(f"own_{path.stem}", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one's own code may raise anything
        del sys.modules[loader.name]
        raise ValueError(f"{path} cannot be imported: {_said(error)}; mend it, or install what it needs.") from error
    return module


def _check_outputs(name: str, layer: nn.Linear, n_classes: int) -> None:
    if layer.out_features != n_classes:
        raise StructureError(f"{name!r} gives {layer.out_features} outputs for {n_classes} classes; its function is "
                             f"called with the number of classes, and its classifier must have that many outputs.")


def _said(error: BaseException) -> str:
    """The error's kind and the first line of what it says."""
    return " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]]).rstrip(": ")


# Weights


def _load_weights(model: nn.Module, path: Path, classifier: str) -> None:
    if not path.is_file():
        raise ValueError(f"There is no file of weights {path}; give 'none', 'imagenet' or the path of a state dict.")
    state, own = _read_state(path), model.state_dict()
    _check_finite(state, path)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")
             or (name in own and own[name].shape == tensor.shape)}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {str(error).splitlines()[-1].strip()}.") from error
    wrong = [k for k in missing if not k.startswith(f"{classifier}.")] + unexpected
    if wrong:
        raise ValueError(f"{path} does not fit the network: {len(wrong)} names differ, the first is {wrong[0]}.")


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        # weights_only: a file of weights must not be able to run code.
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - on bytes that are no weights both may raise nearly anything
        raise ValueError(f"{path} cannot be read as weights ({type(error).__name__}); fetch it again, or save a state "
                         f"dict: torch.save(net.state_dict(), path).") from error
    if not (isinstance(state, dict) and all(isinstance(key, str) and isinstance(value, torch.Tensor)
                                            for key, value in state.items())):
        raise ValueError(f"{path} holds no state dict; make one with torch.save(net.state_dict(), path).")
    return state


def _check_finite(state: dict[str, torch.Tensor], source) -> None:
    bad = next((name for name, tensor in state.items() if not finite(tensor)), "")
    if bad:
        raise ValueError(f"The weights of {source} hold NaN or infinite values, first in {bad}; the run that saved "
                         f"them diverged: take weights from before it did.")
