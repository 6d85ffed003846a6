"""The CNN of section 2 taken apart as in the paper: blocks f_1..f_B (eq. 6), average pooling, classifier (eq. 1-2).

`Backbone` wraps any module of that structure; by comparing numbers it refuses one for which Theorem 1 does not hold.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock

import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from paperlib.guards import finite

# Between the last block and the classifier these do nothing to a trained network's numbers but average and reshape.
HARMLESS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Flatten, nn.Identity)
# A network with hooks, or a data set that reads from one open file, would mix up what several threads ask for.
FORWARD, READ = Lock(), Lock()


class StructureError(ValueError):
    """The network is not blocks, average pooling, linear classifier."""


class Backbone(nn.Module):
    """A CNN as x^(b) = f_b(x^(b-1)), h = x^(B), z = avg.pool(h), y = z.C + bias (eq. 1, 2 and 6).

    model: any torch module that maps (n, 3, H, W) to (n, n_classes).
    blocks: the names of the modules (or feature-extraction nodes) whose outputs are x^(1)..x^(B), shallow to deep.
    classifier: the name of the linear layer.
    probe: the shape of one picture on which the structure is checked: `forward(x)` must equal the classifier of the
    mean of the last block's cells.
    n_classes: how many classes the network must tell apart; None for as many as its classifier does.

    Raises StructureError, which says what stands in the way; ValueError for weights that are not finite.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[str] = ("layer1", "layer2", "layer3", "layer4"),
                 classifier: str = "fc", probe: tuple[int, int, int] = (3, 64, 64), n_classes: int | None = None):
        super().__init__()
        self.model, self.blocks, self.classifier_name = model, tuple(blocks), classifier
        self.classifier = linear_layer(model, classifier)
        self._extract = extractor(model, self.blocks)
        self._side = max(probe[1:])
        self.eval()
        self._check(probe, self.n_classes if n_classes is None else n_classes)

    @property
    def C(self) -> torch.Tensor:  # noqa: N802 - the paper's letter
        """The classifier's matrix, (D, n_classes) float32: its columns c_j are the prototypes of Theorem 1."""
        return self.classifier.weight.detach().T.float()

    @property
    def bias(self) -> torch.Tensor | None:
        """The classifier's bias, (n_classes,), or None: the paper omits it, a network of one's own may have it."""
        return None if self.classifier.bias is None else self.classifier.bias.detach().float()

    @property
    def n_classes(self) -> int:
        return self.classifier.out_features

    @property
    def device(self) -> torch.device:
        return self.classifier.weight.device

    @cached_property
    def stride(self) -> int:
        """Pixels of a picture's side that one cell of the last block stands for, as measured on a blank picture."""
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
        return nn.functional.linear(z, self.C.T, self.bias)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """y, the logits (n, n_classes), by the network's own forward pass (eq. 1)."""
        self.eval()
        return self.model(x.to(self.device))

    def _check(self, probe: tuple[int, int, int], n_classes: int) -> None:
        kind = type(self.model).__name__
        for name, weights in self.model.state_dict().items():
            if not finite(weights):
                raise ValueError(f"The weights of {kind} hold NaN or infinite values, first in {name}: load others, or "
                                 f"train again with a lower learning rate.")
        x = torch.randn(2, *probe, generator=torch.Generator().manual_seed(0)).to(self.device)
        y = self.forward(x)
        shape = tuple(getattr(y, "shape", ()))
        if shape != (2, n_classes) or self.n_classes != n_classes:
            raise StructureError(f"{kind} gives {shape or type(y)} for 2 pictures, and '{self.classifier_name}' has "
                                 f"{self.n_classes} outputs; needed are the logits of {n_classes} classes from both.")
        h = self.features(x)[-1]
        fits = h.ndim == 4 and h.shape[1] == self.classifier.in_features
        if not fits or not (self.classify(h.mean((2, 3))) - y).abs().max() <= 1e-4 * (1 + y.abs().max()):
            where = f"between '{self.blocks[-1]}' and '{self.classifier_name}' {self._between(x)}"
            raise StructureError(f"{kind} is not blocks, average pooling, linear classifier: {where}; Theorem 1 does "
                                 f"not apply.")

    @torch.no_grad()
    def _between(self, x: torch.Tensor) -> str:
        """In words, what runs between the last block and the classifier and is more than pooling."""
        ran, hooks = [], []
        modules = dict(self.model.named_modules())
        for name, module in modules.items():
            if name == self.blocks[-1] or not any(module.children()):
                hooks.append(module.register_forward_hook(lambda *_, name=name: ran.append(name)))
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        start = max((i for i, name in enumerate(ran) if name == self.blocks[-1]), default=-1)
        stop = ran.index(self.classifier_name) if self.classifier_name in ran else len(ran)
        found = [f"{type(modules[name]).__name__} ({name})" for name in ran[start + 1:stop]
                 if not isinstance(modules[name], HARMLESS)]
        if start < 0 or not found:
            return "stands something else than average pooling that is no module of its own"
        return f"stand {', '.join(found[:6])}" + (" and more" if len(found) > 6 else "")


def linear_layer(model: nn.Module, name: str) -> nn.Linear:
    """The model's module `name`. Raises StructureError if there is none, or it is not linear."""
    found, names = dict(model.named_modules()).get(name), ", ".join(child for child, _ in model.named_children())
    if found is None:
        raise StructureError(f"The network has no module {name!r}; its outermost modules are {names}.")
    if not isinstance(found, nn.Linear):
        raise StructureError(f"'{name}' is a {type(found).__name__}, not a linear layer; name the linear classifier.")
    return found


class _Hooked(nn.Module):
    """Block outputs by forward hooks, for modules that torch.fx cannot trace."""

    def __init__(self, model: nn.Module, blocks: tuple[str, ...]):
        super().__init__()
        self.model, self.blocks = model, blocks

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        kept = {}  # under the name, for a block may be listed before it runs; copies, for the next may work in place
        hooks = [self.model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: kept.__setitem__(name, out.clone())) for name in self.blocks]
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        if silent := set(self.blocks) - set(kept):
            raise StructureError(f"The forward pass does not run {', '.join(silent)}; name blocks that it runs.")
        return [kept[name] for name in self.blocks]


class _Traced(nn.Module):
    """Block outputs by torchvision's feature extraction, which stops at the last block and also knows functions."""

    def __init__(self, model: nn.Module, blocks: tuple[str, ...]):
        super().__init__()
        self.graph, self.blocks = create_feature_extractor(model, {name: name for name in blocks}), blocks
        for graph in (self.graph.train_graph, self.graph.eval_graph):
            output = next(node for node in graph.nodes if node.op == "output")
            for node in output.all_input_nodes:  # a copy of each: the layer that follows may work in place
                with graph.inserting_after(node):
                    output.replace_input_with(node, graph.call_method("clone", (node,)))
        self.graph.recompile()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        kept = self.graph(x)
        return [kept[name] for name in self.blocks]


def extractor(model: nn.Module, blocks: tuple[str, ...]) -> nn.Module:
    """A module that gives the outputs of `blocks`, [x^(1), ..., x^(B)] (eq. 6), for pictures; it shares the weights.

    It traces if torch.fx can follow the network, else it hooks. Raises StructureError for an unknown block.
    """
    if not blocks:
        raise StructureError("No block is named; name those whose outputs are x^(1)..x^(B), the last at the pooling.")
    try:
        return _Traced(model, blocks)
    except Exception as error:  # noqa: BLE001 - torch.fx raises many kinds for what it cannot follow
        if not set(blocks) <= set(dict(model.named_modules())):
            raise StructureError(f"The network does not have all of the blocks {', '.join(blocks)}; for its names see "
                                 f"torchvision.models.feature_extraction.get_graph_node_names.") from error
        return _Hooked(model, blocks)


def count(images) -> int:
    """The number of images. Raises ValueError if they are none, or have no length."""
    if not hasattr(images, "__len__") or len(images) == 0:
        raise ValueError("images is empty or has no length: give a tensor (n, 3, H, W) or an indexable of (3, H, W).")
    return len(images)


def features_of(backbone, images, index) -> list[torch.Tensor]:
    """[x^(1), ..., x^(B)] of the images with the numbers `index`, on the backbone's device; one thread at a time.

    images: a tensor (n, 3, H, W), or anything that gives one (3, H, W), or a tuple that begins with it, for a number.
    """
    return _features(backbone, _read(images, index))


def features_in_turn(backbone, images, batches: Sequence) -> Iterator[list[torch.Tensor]]:
    """`features_of` each of the batches, (n,) numbers: while the network sees one, a thread reads the next."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(_read, images, batches[0])
        for following in (*batches[1:], None):
            x = coming.result()
            coming = None if following is None else reader.submit(_read, images, following)
            yield _features(backbone, x)


def _read(images, index):
    with READ:
        if isinstance(images, torch.Tensor):
            return images[torch.as_tensor(index)]
        items = (images[int(i)] for i in index)
        return torch.stack([torch.as_tensor(x[0] if isinstance(x, tuple | list) else x) for x in items])


def _features(backbone, x):
    if x.ndim != 4:
        raise ValueError(f"an image must be (3, H, W), but a batch of them is {tuple(x.shape)}.")
    with FORWARD:
        return backbone.features(x.to(backbone.C.device))
