"""The CNN of section 2 taken apart as in the paper: blocks f_1..f_B (eq. 6), average pooling, classifier (eq. 1-2).

`Backbone` wraps torchvision's networks by name (`build`) or any module of that structure, and refuses, by comparing
numbers, a network for which Theorem 1 does not hold.
"""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.machinery import SourceFileLoader
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.fx.proxy import TraceError
from torchvision.models.feature_extraction import create_feature_extractor

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
# Between the last block and the classifier these do nothing to a trained network's numbers but average and reshape.
HARMLESS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Flatten, nn.Identity)


class StructureError(ValueError):
    """The network is not blocks, average pooling, linear classifier."""


class Backbone(nn.Module):
    """A CNN as x^(b) = f_b(x^(b-1)), h = x^(B), z = avg.pool(h), y = z.C + bias (eq. 1, 2 and 6).

    model: any torch module that maps (n, 3, H, W) to (n, n_classes).
    blocks: the names of the modules (or feature-extraction nodes) whose outputs are x^(1)..x^(B), shallow to deep.
    classifier: the name of the linear layer.
    probe: the shape of one picture on which the structure is checked: `forward(x)` must equal the classifier of the
    mean of the last block's pixels.

    Raises StructureError where it does not, and says what stands between them.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[str] = ("layer1", "layer2", "layer3", "layer4"),
                 classifier: str = "fc", probe: tuple[int, int, int] = (3, 64, 64)):
        super().__init__()
        self.model, self.blocks, self.classifier_name = model, tuple(blocks), classifier
        self.classifier = _linear(model, classifier)
        self._extract = extractor(model, self.blocks)
        self._side = max(probe[1:])
        self.eval()
        self._check(probe)

    @property
    def C(self) -> torch.Tensor:  # noqa: N802 - the paper's letter
        """The classifier's matrix, (D, n_classes): its columns c_j are the prototypes of Theorem 1."""
        return self.classifier.weight.detach().T

    @property
    def bias(self) -> torch.Tensor | None:
        """The classifier's bias, (n_classes,), or None: the paper omits it, a network of one's own may have it."""
        return None if self.classifier.bias is None else self.classifier.bias.detach()

    @property
    def n_classes(self) -> int:
        return self.classifier.out_features

    @property
    def device(self) -> torch.device:
        return self.classifier.weight.device

    @cached_property
    def stride(self) -> int:
        """Pixels of a picture's side that one pixel of the last block stands for, as measured on a blank picture."""
        for side in (256, self._side):  # the second for a network that takes pictures of one size only
            try:
                return side // self.features(torch.zeros(1, 3, side, side))[-1].shape[-1]
            except (RuntimeError, ValueError, AssertionError):
                continue
        return self._side

    @torch.no_grad()
    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[x^(1), ..., x^(B)] of eq. 6 for normalised pictures (n, 3, H, W), each (n, D_b, H_b, W_b) float32."""
        self.eval()
        return [f.float() for f in self._extract(x.to(self.device))]

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """z = avg.pool(h), (n, D) (eq. 2)."""
        return self.features(x)[-1].mean((2, 3))

    def classify(self, z: torch.Tensor) -> torch.Tensor:
        """clf(z) = z.C + bias, (n, D) to (n, n_classes) (eq. 2)."""
        return nn.functional.linear(z, self.classifier.weight.detach(), self.bias)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """y, the logits (n, n_classes), by the network's own forward pass (eq. 1)."""
        self.eval()
        return self.model(x.to(self.device))

    def _check(self, probe: tuple[int, int, int]) -> None:
        x = torch.randn(2, *probe, generator=torch.Generator().manual_seed(0)).to(self.device)
        h, y = self.features(x)[-1], self.forward(x)
        fits = h.ndim == 4 and h.shape[1] == self.classifier.in_features and y.shape == (2, self.n_classes)
        if fits:
            error = (self.classify(h.mean((2, 3))) - y).abs().max()
            fits = error <= 1e-4 * (1 + y.abs().max())
        if not fits:
            raise StructureError(f"{type(self.model).__name__} is not blocks, average pooling, linear classifier: "
                                 f"between '{self.blocks[-1]}' and '{self.classifier_name}' {self._between(x)}; "
                                 f"Theorem 1 does not apply.")

    @torch.no_grad()
    def _between(self, x: torch.Tensor) -> str:
        """What runs between the last block and the classifier and is more than pooling, in words."""
        ran, hooks = [], []
        for name, module in self.model.named_modules():
            if name == self.blocks[-1] or not any(module.children()):
                hooks.append(module.register_forward_hook(lambda *_, name=name: ran.append(name)))
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        start = max((i for i, name in enumerate(ran) if name == self.blocks[-1]), default=-1)
        stop = ran.index(self.classifier_name) if self.classifier_name in ran else len(ran)
        found = [f"{type(self.model.get_submodule(name)).__name__} ({name})" for name in ran[start + 1:stop]
                 if not isinstance(self.model.get_submodule(name), HARMLESS)] if start >= 0 else []
        if not found:
            return "stands something else than average pooling that is no module of its own"
        return f"stand {', '.join(found[:6])}" + (" and more" if len(found) > 6 else "")


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
        old = _linear(model, classifier)
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


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        names = ", ".join(child for child, _ in model.named_children())
        raise StructureError(f"The network has no module {name!r}; its outermost modules are {names}.") from error


def _linear(model: nn.Module, name: str) -> nn.Linear:
    found = _submodule(model, name)
    if not isinstance(found, nn.Linear):
        raise StructureError(f"'{name}' is a {type(found).__name__}, not a linear layer; name the network's linear "
                             f"classifier.")
    return found


class _Hooked(nn.Module):
    """Block outputs by forward hooks, for modules that torch.fx cannot trace."""

    def __init__(self, model: nn.Module, blocks: tuple[str, ...]):
        super().__init__()
        self.model, self.blocks = model, blocks
        self.modules_of = [_submodule(model, name) for name in blocks]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        # Kept under the name, not in order of running: a block may be listed before it runs.
        kept: dict[str, torch.Tensor] = {}
        hooks = [module.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
                 for name, module in zip(self.blocks, self.modules_of, strict=True)]
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        silent = [name for name in self.blocks if name not in kept]
        if silent:
            raise StructureError(f"The forward pass does not run {', '.join(silent)}; name blocks that it runs.")
        return [kept[name] for name in self.blocks]


class _Traced(nn.Module):
    """Block outputs by torchvision's feature extraction, which stops at the last block and also knows functions."""

    def __init__(self, model: nn.Module, blocks: tuple[str, ...]):
        super().__init__()
        self.graph = create_feature_extractor(model, {name: name for name in blocks})
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        kept = self.graph(x)
        return [kept[name] for name in self.blocks]


def extractor(model: nn.Module, blocks: tuple[str, ...]) -> nn.Module:
    """A module that gives the outputs of `blocks`, [x^(1), ..., x^(B)] (eq. 6), for pictures; it shares the weights.

    By tracing where torch.fx can follow the network, else by hooks. Raises StructureError for an unknown block.
    """
    if not blocks:
        raise StructureError("No block is named; name those whose outputs are x^(1)..x^(B), the last at the pooling.")
    try:
        return _Traced(model, blocks)
    except TraceError:  # a forward pass that depends on the data
        return _Hooked(model, blocks)
    except ValueError as error:  # feature extraction's word for a node that is not there
        raise StructureError(f"The network has not all of the blocks {', '.join(blocks)}; see "
                             f"torchvision.models.feature_extraction.get_graph_node_names for its names.") from error
    except Exception:  # noqa: BLE001 - torch.fx raises many kinds for what it cannot follow
        return _Hooked(model, blocks)
