"""Eq. 7 to 9 without making the rows: products at each block's own resolution, interpolated afterwards.

`composite.composite` and `composite.assign` are the equations as printed. Letters as in `paperlib.concepts`.
"""
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch

from paperlib.composite import factor, resize
from paperlib.guards import check_size

# Scores that eq. 9 makes at a time: as many as a processor's cache holds, so that they are never read from memory.
ROOM = defaultdict(lambda: 2**27, cpu=2**18)


@dataclass(frozen=True)
class Factored:
    """The rows q_h of eq. 8 with the norm of each row, left as what they are made of: eq. 9 does not need them.

    Interpolation and the product with a prototype are both linear, so they commute: each block is multiplied at its own
    resolution, where it has fewer cells, and what is interpolated are products.
    """

    blocks: list[torch.Tensor]  # of each block (n, h, w, D_b), at whichever of its two resolutions has fewer cells
    factors: list[torch.Tensor | None]  # (n, H', W', 1), see `factor`; None for a block of R' cells, which holds it
    squares: torch.Tensor  # (n, H', W'): ||q||^2
    mode: str

    @classmethod
    def of(cls, features, resolution=None, norm="row", block_weight="inv_dim", mode="bilinear") -> Factored:
        """The rows that `composite` gives for the same arguments, which are not checked here."""
        size = features[0].shape[-2:] if resolution is None else check_size("resolution", resolution)
        u = [resize(x, size, mode) for x in features]
        factors, norms = zip(*(factor(x, norm, block_weight) for x in u), strict=True)
        coarse = [x.numel() < y.numel() for x, y in zip(features, u, strict=True)]
        blocks = (x if late else y * by for x, y, by, late in zip(features, u, factors, coarse, strict=True))
        return cls([x.permute(0, 2, 3, 1).contiguous() for x in blocks],
                   [by.permute(0, 2, 3, 1).contiguous() if late else None
                    for by, late in zip(factors, coarse, strict=True)], sum(x.square() for x in norms)[:, 0], mode)

    def __getitem__(self, images) -> Factored:
        return Factored([x[images] for x in self.blocks], [by if by is None else by[images] for by in self.factors],
                        self.squares[images], self.mode)

    def prepared(self, prototypes: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """-2 p_k by block, [(K, D_b)], and ||p_k||^2 (K,), on the rows' device. Raises ValueError for another D."""
        channels = [x.shape[-1] for x in self.blocks]
        if prototypes.shape[1] != sum(channels):
            raise ValueError(f"prototypes of {prototypes.shape[1]} numbers do not fit rows of {sum(channels)}: explain "
                             f"with the backbone and the blocks that they were fitted on.")
        p = prototypes.to(self.squares)
        return [(-2 * x).contiguous() for x in p.split(channels, dim=1)], p.square().sum(dim=1)

    def scores(self, p: list[torch.Tensor], squares: torch.Tensor) -> torch.Tensor:
        """||q - p_k||^2 - ||q||^2 = ||p_k||^2 - 2 q.p_k, (n, H', W', k), for prototypes as `prepared` gives them."""
        found = squares
        for x, by, columns in zip(self.blocks, self.factors, p, strict=True):
            if by is None:
                found = torch.addmm(found, x.flatten(0, 2), columns.T)
            else:
                products = resize((x @ columns.T).permute(0, 3, 1, 2), by.shape[1:3], self.mode)
                found = torch.addcmul(found, products.permute(0, 2, 3, 1).reshape(-1, len(columns)), by.view(-1, 1))
        return found.view(*self.squares.shape, -1)

    def nearest(self, p: list[torch.Tensor], squares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. 9 among prototypes as `prepared` gives them: index and distance of the nearest, (n, H', W') both."""
        cells, room, K = self.squares[0].numel(), ROOM[self.squares.device.type], len(squares)
        width = max(1, room // cells)
        images = max(1, room // (cells * min(width, K)))
        found = []
        for start in range(0, len(self.squares), images):
            some = self[start : start + images]
            found.append(_least([some.scores([x[k : k + width] for x in p], squares[k : k + width])
                                 for k in range(0, K, width)]))
        s, least = (torch.cat(x) for x in zip(*found, strict=True))
        return s, (self.squares + least).clamp_min(0).sqrt()


def _least(tiles: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of scores (..., K) in tiles along K, the lowest index of the least one, and its value: (...) both."""
    least, tile = torch.stack([x.amin(dim=-1) for x in tiles]).min(dim=0)  # amin costs a fraction of what argmin does
    s, start = torch.empty_like(tile), 0
    for i, scores in enumerate(tiles):
        mine = tile == i
        s[mine] = scores[mine].argmin(dim=-1) + start
        start += scores.shape[-1]
    return s, least
