"""The zoo: torchvision's networks by name, or one of your own, as a Backbone; and the weights that they start from."""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from paperlib.backbone import Backbone, linear_layer

# Of each family, four blocks that end where the resolution changes, the last one at the pooling; the linear classifier.
ARCHITECTURES = {
    "resnet": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    "resnext": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    "wide_resnet": (("layer1", "layer2", "layer3", "layer4"), "fc"),
    # DenseNet's last block ends in a norm and in a ReLU that is a function, which feature extraction names "relu".
    "densenet": (("features.denseblock1", "features.denseblock2", "features.denseblock3", "relu"), "classifier"),
    "googlenet": (("conv3", "inception3b", "inception4e", "inception5b"), "fc"),
    "efficientnet_b": (("features.2", "features.3", "features.5", "features.8"), "classifier.1"),
    "mobilenet_v2": (("features.3", "features.6", "features.13", "features.18"), "classifier.1"),
    "vgg": (("features",), "classifier.6"),
    "convnext": (("features.1", "features.3", "features.5", "features.7"), "classifier.2"),
}


def build(name: str, n_classes: int, weights: str | Path | None = None, blocks: Sequence[str] = (),
          classifier: str = "", bias: bool = False, probe: tuple[int, int, int] = (3, 64, 64)) -> Backbone:
    """A Backbone with n_classes outputs, by name.

    name: one of torchvision's ("resnet34"), or a file and a function of one's own ("nets/mine.py:make_net", called with
    n_classes). blocks, classifier: may stay empty for the families of ARCHITECTURES. weights: None (random, or what
    one's own function loads), "imagenet" (torchvision's, downloaded once), or a file of a state dict (.safetensors or
    .pth), whose classifier is left out where its shape is another. bias: whether the new classifier of a torchvision
    network has one; False is the paper's (section 2). A network of one's own is taken as it is.

    Raises ValueError for an unknown name or weights that do not fit, StructureError for another structure.
    """
    if ":" in name:
        model = _own_model(name, n_classes)
        family = ((), "")
    else:
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(f"torchvision has no classification network named {name!r}; use one such as resnet34, or "
                             f"'file.py:function' for one of your own.")
        longest_first = sorted(ARCHITECTURES, key=len, reverse=True)
        family = next((ARCHITECTURES[key] for key in longest_first if name.startswith(key)), ((), ""))
    blocks, classifier = tuple(blocks) or family[0], classifier or family[1]
    if not (blocks and classifier):
        raise ValueError(f"The blocks and the classifier of {name!r} are not known; name them, as in "
                         f"blocks='layer1,layer2,layer3,layer4', classifier='fc'.")
    if ":" not in name:
        model = _torchvision_model(name, weights)
        old = linear_layer(model, classifier)
        model.set_submodule(classifier, nn.Linear(old.in_features, n_classes, bias=bias))
    elif weights == "imagenet":
        raise ValueError(f"weights='imagenet' are torchvision's; {name!r} is your own: load its weights in its "
                         f"function, or give the path of a state dict.")
    if weights not in (None, "", "none", "imagenet"):
        _load_weights(model, Path(weights).expanduser(), classifier)
    return Backbone(model, blocks, classifier, probe)


def _torchvision_model(name: str, weights) -> nn.Module:
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" and weights != "imagenet" else {}
    if weights != "imagenet":
        return torchvision.models.get_model(name, weights=None, **options)
    entry = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return torchvision.models.get_model(name, weights=entry)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(f"ImageNet weights for {name} could not be had ({error}); fetch {entry.url} on a machine with "
                         f"a network, put it into {folder}, and run again, or use weights='none'.") from error


def _own_model(name: str, n_classes: int) -> nn.Module:
    path, function = name.rsplit(":", 1)
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no file {path} for the network {name!r}; write it as 'file.py:function'.")
    # Under a name that hides no other module, whatever the file is called.
    spec = importlib.util.spec_from_loader(f"own_{path.stem}", SourceFileLoader(f"own_{path.stem}", str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise ValueError(f"{path} has no function {function!r}; write the network as 'file.py:function'.")
    return getattr(module, function)(n_classes)


def _load_weights(model: nn.Module, path: Path, classifier: str) -> None:
    if not path.is_file():
        raise ValueError(f"There is no file of weights {path}; give 'none', 'imagenet' or the path of a state dict.")
    state, own = _read_state(path), model.state_dict()
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
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as weights ({type(error).__name__}); fetch it again, or save a state "
                         f"dict: torch.save(net.state_dict(), path).") from error
    if not (isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())):
        raise ValueError(f"{path} holds no state dict; make one with torch.save(net.state_dict(), path).")
    return state
