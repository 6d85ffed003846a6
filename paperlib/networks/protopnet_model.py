"""ProtoPNet's layers (Chen et al. 2019), its push, and the distances and costs that it is trained with.

Letters: n images, C classes, K prototypes ordered by class, K/C of them per class; a patch is one cell of the encoder's
output after the add-on layers, z in [0, 1]^128; d2 is the squared l2 distance of a patch and a prototype.
"""
from __future__ import annotations

import copy

import torch
from torch import nn

from paperlib import guards
from paperlib.backbone import Backbone, extractor
from paperlib.datasets.pictures import Pictures

EPSILON = 1e-4  # of the similarity: a prototype that a picture holds exactly scores log(1 / EPSILON) = 9.2
OWN, OTHER = 1.0, -0.5  # first weights of the last layer, from prototypes of the class and from all others


class ProtoPNet(nn.Module):
    """Encoder, add-on layers, prototypes, linear layer: forward(x) gives logits (n, C) for pictures (n, 3, H, W).

    backbone: its encoder f_1..f_B is copied, weights and all; the backbone itself stays as it is. Trained or not is the
    caller's choice (the paper's starts from ImageNet's weights, as its CNN does).
    prototypes_per_class: K/C. seed: draws the add-on layers' first weights and the prototypes. channels: of a patch.

    sources_ (K, 3): image, row, column of the training patch that each prototype is since the last push, -1 before;
    map_size_ (2,): rows and columns of the map of patches. Both are buffers: `state_dict()` holds all that was learnt.
    Raises ValueError for K/C below 1 or fewer than two classes.
    """

    def __init__(self, backbone: Backbone, prototypes_per_class: int = 5, seed: int = 0, channels: int = 128):
        super().__init__()
        guards.check_count("prototypes_per_class", prototypes_per_class)
        if backbone.n_classes < 2:
            raise ValueError("the backbone has one class: ProtoPNet separates prototypes of two classes or more.")
        D, C, K = len(backbone.C), backbone.n_classes, backbone.n_classes * prototypes_per_class
        self.n_classes, self.prototypes_per_class = C, prototypes_per_class
        self.encoder = extractor(copy.deepcopy(backbone.model), backbone.blocks[-1:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.add_on = nn.Sequential(nn.Conv2d(D, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1),
                                        nn.Sigmoid())
            for conv in self.add_on[::2]:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)
            self.prototypes = nn.Parameter(torch.rand(K, channels, 1, 1))
            self.last_layer = nn.Linear(K, C, bias=False)
        self.register_buffer("prototype_labels_", torch.arange(C).repeat_interleave(prototypes_per_class))
        self.register_buffer("sources_", torch.full((K, 3), -1))
        self.register_buffer("map_size_", torch.full((2,), -1))
        self.last_layer.weight.data = torch.where(self.connected, OWN, OTHER)
        self.to(backbone.device).eval()

    @property
    def connected(self) -> torch.Tensor:
        """(C, K) bool, laid out as the last layer's weights: True where the prototype belongs to the class."""
        return torch.arange(self.n_classes, device=self.prototypes.device)[:, None] == self.prototype_labels_

    @property
    def prototypes_(self) -> torch.Tensor:
        """The prototypes as rows, (K, 128), without gradient."""
        return self.prototypes.detach().flatten(1)

    def latent(self, x: torch.Tensor, bf16: bool = False) -> torch.Tensor:
        """The patches z of pictures x (n, 3, H, W): (n, 128, H', W') in [0, 1], float32; `bf16`: the encoder in that.

        Raises ValueError for another shape, and for NaN in the pictures.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"pictures must be (n, 3, H, W), but are {tuple(x.shape)}.")
        if not guards.finite(x):
            raise ValueError("the pictures hold NaN or infinite values: check how they were normalised.")
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            h = self.encoder(x)[-1]
        return self.add_on(h.float())

    def min_distances(self, x: torch.Tensor, bf16: bool = False) -> torch.Tensor:
        """Smallest d2 of each picture's patches to each prototype, (n, K).

        The similarity falls with d2, so that its max pooling over the map is the similarity of this minimum.
        """
        rows = self.latent(x, bf16).flatten(2).transpose(1, 2)
        return squared_distances(rows, self.prototypes.flatten(1)).min(dim=1).values

    def classify(self, d2: torch.Tensor) -> torch.Tensor:
        """Logits (n, C) of smallest distances (n, K)."""
        return self.last_layer(similarity(d2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.min_distances(x))

    @torch.no_grad()
    def read(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`embed` (n, 128) and the predicted classes (n,) of pictures, in evaluation mode, from one pass."""
        rows = self.eval().latent(x.to(self.prototypes.device)).flatten(2).transpose(1, 2)
        return rows.mean(1), self.classify(squared_distances(rows, self.prototypes_).amin(dim=1)).argmax(1)

    @torch.no_grad()
    def embed(self, x: torch.Tensor, reading: str = "mean") -> torch.Tensor:
        """One vector for each picture in the prototypes' own space, (n, 128), to be compared with them (Table 1).

        The paper does not say what it compares. "mean": the patches' average, as z averages h. "nearest": the one patch
        that is nearest to any prototype. Raises ValueError for another reading.
        """
        guards.check_option("reading", reading, ("mean", "nearest"))
        rows = self.eval().latent(x.to(self.prototypes.device)).flatten(2).transpose(1, 2)
        if reading == "mean":
            return rows.mean(1)
        nearest = squared_distances(rows, self.prototypes_).amin(2).argmin(1)
        return rows[torch.arange(len(rows)), nearest]

    @torch.no_grad()
    def push(self, pictures: Pictures, batch_size: int = 128) -> None:
        """Put the nearest training patch of its own class in each prototype's place, and its place in `sources_`.

        In evaluation mode, float32, without augmentation, one class after another. Several prototypes may land on one
        patch, as in the official code. Raises ValueError for pictures of the test split, labels outside the classes and
        a class without pictures.
        """
        guards.refuse_test(pictures, "training")
        self.eval()
        check_labels(pictures.labels, self.n_classes)
        for c in range(self.n_classes):
            mine = self.prototype_labels_ == c
            best, patches, sources = self._nearest_patches(self.prototypes_[mine], pictures, c, batch_size)
            if not guards.finite(best):
                raise ValueError("the network's patches hold NaN: training diverged; use smaller learning rates.")
            self.prototypes.data[mine] = patches[:, :, None, None]
            self.sources_[mine] = sources

    def _nearest_patches(self, p, pictures, c, batch_size):
        """For the prototypes p (m, 128): d (m,), patch (m, 128), source (m, 3) nearest among pictures of class c."""
        best = torch.full((len(p),), torch.inf, device=p.device)
        patches, sources = torch.empty_like(p), torch.full((len(p), 3), -1, device=p.device)
        for index in (pictures.labels == c).nonzero().flatten().split(batch_size):
            z = self.latent(pictures.batch(index).to(p.device))
            H, W = z.shape[2:]
            self.map_size_[:] = torch.tensor([H, W])
            rows = z.permute(0, 2, 3, 1).flatten(0, 2)
            # By differences: a prototype that was pushed before is a patch, and its distance of 0 must not be rounded.
            d, row = torch.cdist(p, rows, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
            place = torch.stack([index.to(p.device)[row // (H * W)], row % (H * W) // W, row % W], dim=1)
            nearer = d < best
            best[nearer], patches[nearer], sources[nearer] = d[nearer], rows[row[nearer]], place[nearer]
        return best, patches, sources


def squared_distances(rows: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """d2 = ||z - p||^2 of patches (n, R, 128) and prototypes (K, 128): (n, R, K), never below 0.

    By one matrix product. A common shift changes no distance but keeps float32's digits: trained patches lie close
    together and far from zero.
    """
    shift = p.mean(0).detach()
    rows, p = rows - shift, p - shift
    return (rows.square().sum(2, keepdim=True) - 2 * rows @ p.T + p.square().sum(1)).clamp_min(0)


def similarity(d2: torch.Tensor) -> torch.Tensor:
    """log((d2 + 1) / (d2 + 1e-4)): 9.2 at a distance of 0, falling to 0."""
    return torch.log((d2 + 1) / (d2 + EPSILON))


def cluster_cost(d2: torch.Tensor, labels: torch.Tensor, prototype_labels: torch.Tensor) -> torch.Tensor:
    """Mean over pictures of the smallest distance to a prototype of their own class; d2 (n, K) from `min_distances`."""
    own = labels[:, None] == prototype_labels
    return d2.masked_fill(~own, torch.inf).min(dim=1).values.mean()


def separation_cost(d2: torch.Tensor, labels: torch.Tensor, prototype_labels: torch.Tensor) -> torch.Tensor:
    """Mean over pictures of the smallest distance to a prototype of any other class; the loss subtracts it."""
    own = labels[:, None] == prototype_labels
    return d2.masked_fill(own, torch.inf).min(dim=1).values.mean()


def check_labels(labels: torch.Tensor, n_classes: int) -> None:
    """Raise ValueError for labels outside 0..n_classes-1, or a class that has no picture to push a prototype onto."""
    present = set(labels.tolist())
    missing = sorted(set(range(n_classes)) - present)
    if present - set(range(n_classes)):
        raise ValueError(f"labels must lie in 0..{n_classes - 1}, but go from {min(present)} to {max(present)}.")
    if missing:
        raise ValueError(f"class {', '.join(map(str, missing))} has no training picture: a prototype must become a "
                         f"patch of its own class.")
