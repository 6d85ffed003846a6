"""Checks of notebook 1: section 3.1, Theorem 1."""
from __future__ import annotations

import torch
from torch import nn

from checks.running import Wrong, as_tensor, call, check, equal, tensor


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@check
def evidence(evidence):
    """1.1: evidence(h, C, bias) -> (n, R, n_classes), whose mean over the rows is the logit with its bias."""
    for seed, (n, R, D, K) in enumerate([(2, 9, 4, 3), (1, 1, 5, 5), (3, 4, 4, 4)]):
        h, C, bias = _random(n, R, D, seed=seed), _random(D, K, seed=seed + 10), 1 + _random(K, seed=seed + 20)
        found = tensor(evidence, (n, R, K), h=h, C=C, bias=bias)
        right = h @ C + bias
        mistakes = {
            "The bias is missing: the mean of your rows is the logit without it. Add it to every row.": h @ C,
            "The bias is divided by the number of rows, and then the mean over the rows divides it again. Each row "
            "needs the whole bias, so that their mean holds it once.": h @ C + bias / R,
            "Your rows are divided by their number: then their sum is the logit. Eq. 4 takes their mean.": right / R,
            "The dot products without bias are divided by the number of rows. Eq. 4 divides once, when it takes the "
            "mean.": h @ C / R + bias,
            "These are probabilities: leave out the softmax. Theorem 1 is about logits.": right.softmax(-1)}
        if D == K:
            mistakes["C is transposed: its columns, not its rows, belong to the classes (eq. 2)."] = h @ C.T + bias
        equal(found, right, "The evidence", mistakes, "Eq. 4: each row h_r times each column c_j, then the bias.")
    return "The mean over the rows is the logit, with the bias, whatever the weights are: eq. 4 with a bias."


def heads(C: torch.Tensor) -> dict:
    """Four heads for exercise 1.2, each a function of h (n, R, D) that gives logits (n, n_classes)."""
    D = len(C)
    norm = nn.BatchNorm1d(D).eval()
    norm.running_mean.copy_(_random(D, seed=2))
    return {"A": lambda h: h.mean(1) @ C, "B": lambda h: h.amax(1) @ C,
            "C": lambda h: norm(h.mean(1)).detach() @ C, "D": lambda h: (h.mean(1) - 0.5).relu() @ C}


@check
def size_of_gap(size_of_gap):
    """1.2: size_of_gap(head, h) -> the largest |head(h) - mean over r of head(row r alone)|."""
    for seed, (n, R) in enumerate([(3, 5), (1, 8), (2, 1)]):
        h = _random(n, R, 6, seed=seed)
        for name, head in heads(_random(6, 4, seed=1)).items():
            both, alone = head(h), torch.stack([head(h[:, r:r + 1]) for r in range(R)], 1)
            found = tensor(size_of_gap, (), head=head, h=h)
            mistakes = {
                "The rows' logits are added up: take their mean, as the right side of eq. 4 does.":
                    (both - alone.sum(1)).abs().max(),
                "This is the mean of the differences. Take the largest: a mean can hide a class that fails.":
                    (both - alone.mean(1)).abs().mean(),
                "The largest difference is taken with its sign, so a logit that is too small goes unseen: take .abs() "
                "first.": (both - alone.mean(1)).max(),
                "This compares the rows before they are averaged: take the mean over the rows first.":
                    (both[:, None] - alone).abs().max(),
                "This averages over the pictures. Rows are dimension 1 of h (n, R, D).":
                    (both - alone.mean(0).mean(0)).abs().max()}
            gap = (both - alone.mean(1)).abs().max()  # or rounding, which differs with the order of the sums
            equal(found.round(decimals=5), gap.round(decimals=5), f"The gap of the head '{name}'", mistakes,
                  "Give the head each row alone, h[:, r:r + 1], average what it answers, and compare with head(h).")
    return "It is zero, up to rounding, exactly where the head is linear between the mean and the logits."


@check
def fails(fails):
    """1.2: the names of the heads for which Theorem 1 does not hold."""
    if fails is ...:
        raise Wrong("The answer is still the stub: write the names of the heads, as [\"A\", \"B\"].")
    if not isinstance(fails, list | tuple | set) or not all(isinstance(x, str) and x in tuple("ABCD") for x in fails):
        raise Wrong("Write a list of names out of A, B, C and D, each in quotes.")
    if wrong := set(fails) & set("AC"):
        raise Wrong(f"{wrong.pop()} has no gap but rounding: the seventh digit of a logit.")
    if len(set(fails)) < 2:
        raise Wrong("Not all heads with a gap are named: look at the numbers, not only at the bars.")
    return "B takes the largest number, not the mean; D has a ReLU behind the mean. Neither is linear."


@check
def fold(fold):
    """1.3: fold(norm, C) -> (C', bias'), so that z.C' + bias' = norm(z).C."""
    for seed, (D, K) in enumerate([(5, 3), (4, 4), (7, 2)]):
        norm = nn.BatchNorm1d(D, eps=0.1).eval()
        with torch.no_grad():
            for part, shift, seed_of in ((norm.weight, 1.5, 1), (norm.bias, 0.5, 2), (norm.running_mean, 1.0, 3)):
                part.copy_(shift + 0.3 * _random(D, seed=10 * seed + seed_of))
            norm.running_var.copy_(0.5 + _random(D, seed=10 * seed + 4).abs())
        C = _random(D, K, seed=seed)
        _check_fold(call(fold, norm=norm, C=C), norm, C)
    return "The folded network gives the same logits, and Theorem 1 holds for it."


def _check_fold(found, norm, C):
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise Wrong("fold must return two tensors, C and bias: return C_new, bias_new.")
    (D, K), given = C.shape, {"C": C}
    columns = as_tensor(found[0], (D, K), "fold, as its first tensor,", given)
    bias = as_tensor(found[1], (K,), "fold, as its second tensor,", given)
    gamma, beta, mean, var = (x.detach() for x in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    scale = gamma / (var + norm.eps).sqrt()
    slips = {"norm.eps is missing: batch norm divides by the root of variance + eps, and here eps is not small.":
             (gamma / var.sqrt())[:, None] * C,
             "The root is missing: batch norm divides by the standard deviation, not by the variance.":
             (gamma / (var + norm.eps))[:, None] * C,
             "norm.weight is missing from C: batch norm multiplies each channel by it.":
             C / (var + norm.eps).sqrt()[:, None],
             "C is unchanged: the scale of each channel belongs into its row.": C}
    if D == K:
        slips["You scale the columns of C. A channel is a row of C: write scale[:, None] * C."] = scale * C
    equal(columns, scale[:, None] * C, "The new C", slips, "Row d of C is multiplied by weight / sqrt(var + eps) of "
          "channel d.")
    shifts = {"The running mean is missing from the bias: batch norm takes it away before it scales.": beta @ C,
              "norm.bias is missing from the bias.": -(mean * scale) @ C,
              "The sign of the running mean is wrong: batch norm takes it away.": (beta + mean * scale) @ C,
              "The running mean is not scaled: batch norm takes it away first, and scales the difference.":
              (beta - mean) @ C,
              "This goes through the new C: norm.bias is added after the scale, so it meets the old C.":
              (beta - mean) @ (scale[:, None] * C)}
    equal(bias, (beta - mean * scale) @ C, "The new bias", shifts, "Put z = 0 into batch norm and multiply by C.")


@check
def turn_blue(turn_blue):
    """1.4: turn_blue(h, C) -> C' with the same probabilities, and negative evidence in every cell for every class."""
    for seed, (n, R, D, K) in enumerate([(2, 9, 6, 3), (1, 4, 8, 5), (3, 16, 5, 2)]):
        h, C = _random(n, R, D, seed=seed).relu() + 0.01, 3 * _random(D, K, seed=seed + 5)
        h[0, :2] = torch.eye(D)[:2]  # rows with a single channel: evidence there must be negative, too
        found = tensor(turn_blue, (D, K), h=h, C=C)
        if torch.allclose(found, C.double()):
            raise Wrong("The columns are unchanged: add one vector, the same, to all of them.")
        added, size = found - C, float(C.abs().max())
        if added.abs().max() > 1000 * size:
            raise Wrong("The vector is so large that float32 loses the digits of C beside it, and the probabilities "
                        "change: take a smaller one, of the size of the numbers in C.")
        if not torch.allclose(added, added[:, :1].expand_as(added), rtol=0, atol=1e-4 * size):
            same_row = torch.allclose(added, added[:1].expand_as(added), rtol=0, atol=1e-4 * size)
            raise Wrong("You add one number per class, the same in all channels; probabilities change. Add one vector "
                        "(D,), the same for all classes: C + v[:, None]." if same_row else
                        "The columns did not all get the same vector, so the probabilities change: softmax forgives "
                        "only what is added to all logits alike.")
        left = (h.double() @ found).max()
        if left >= 0:
            raise Wrong(f"Some cell still has evidence {left:.3g}, which is not negative: h is never negative, so a "
                        f"vector of equal negative numbers works if they are large enough for h.")
    return "Not one probability changed, and every cell now speaks against every class: zero is arbitrary."
