"""Section 3.1: a CNN's linear classifier read as prototypes (Theorem 1, eq. 4-5).

Letters: n images, R rows (cells of the last feature map), D channels, one column c_j of C per class.
"""
from __future__ import annotations

import torch

from paperlib.guards import check_shapes


def pool_then_classify(h: torch.Tensor, C: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Left side of eq. 4: average the rows, then take the dot products. This is how a CNN computes its logits.

    h (n, R, D), C (D, n_classes), bias (n_classes,) or None -> logits (n, n_classes).
    Raises TypeError unless all are float tensors of one type, ValueError for wrong shapes, empty or non-finite input.
    """
    check_shapes(h=(h, "n R D"), C=(C, "D n_classes"), bias=(bias, "n_classes"))
    return h.mean(dim=1) @ C + (0 if bias is None else bias)


def classify_then_pool(h: torch.Tensor, C: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Right side of eq. 4: take the dot products of every row, then average. This is how an SEM computes its scores.

    Shapes and errors as in `pool_then_classify`.
    """
    return evidence(h, C, bias).mean(dim=1)


def evidence(h: torch.Tensor, C: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Evidence of each row for each class, h_r . c_j (eq. 5): its mean over the rows is the logit.

    h (n, R, D), C (D, n_classes), bias (n_classes,) or None -> (n, R, n_classes), in units of a logit.
    The bias is added to every row, so that the mean is the logit with its bias. Errors as in `pool_then_classify`.
    """
    check_shapes(h=(h, "n R D"), C=(C, "D n_classes"), bias=(bias, "n_classes"))
    return h @ C + (0 if bias is None else bias)


def predicted_class(backbone, features) -> torch.Tensor:
    """The backbone's predicted class (n,), from features that it has already computed (eq. 2)."""
    h = features[-1].flatten(2).transpose(1, 2)
    return pool_then_classify(h, backbone.C, backbone.bias).argmax(dim=1)
