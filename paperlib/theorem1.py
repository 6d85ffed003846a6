"""Section 3.1: a CNN's linear classifier read as prototypes (Theorem 1, eq. 4-5).

Letters: n images, R rows (pixels of the last feature map), D channels, one column c_j of C a class.
"""

from __future__ import annotations

import torch


def check(h: torch.Tensor, C: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Raise unless h is (n, R, D), C (D, n_classes), bias (n_classes,) or None, all finite and of one float type."""
    given = {"h": h, "C": C} if bias is None else {"h": h, "C": C, "bias": bias}
    for name, x in given.items():
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats; convert it with torch.as_tensor(...).float().")
        if x.dtype != h.dtype:
            raise TypeError(f"h is {h.dtype} and {name} is {x.dtype}: give both the same type.")
    if h.ndim != 3 or C.ndim != 2 or h.shape[2] != C.shape[0]:
        shapes = f"{tuple(h.shape)} and {tuple(C.shape)}"
        raise ValueError(f"h must be (n, R, D) and C (D, n_classes) with the same D, but they are {shapes}.")
    if 0 in h.shape or 0 in C.shape:
        raise ValueError(f"h {tuple(h.shape)} or C {tuple(C.shape)} is empty: give an image, row, channel and class.")
    if bias is not None and bias.shape != C.shape[1:]:
        raise ValueError(f"bias must be ({C.shape[1]},), one number a class, but it is {tuple(bias.shape)}.")
    for name, x in given.items():
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinite values: check the network and its input.")


def pool_then_classify(h: torch.Tensor, C: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Left side of eq. 4: average the rows, then take the dot products. This is how a CNN computes its logits.

    h (n, R, D), C (D, n_classes), bias (n_classes,) or None -> logits (n, n_classes).
    Raises TypeError for other than float tensors of one type, ValueError for wrong shapes, empty or non-finite input.
    """
    check(h, C, bias)
    y = h.mean(dim=1) @ C
    return y if bias is None else y + bias


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
    check(h, C, bias)
    y = h @ C
    return y if bias is None else y + bias
