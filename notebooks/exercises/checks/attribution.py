"""Checks of notebook 4: section 3.3, eq. 11 and the way upstream."""
from __future__ import annotations

import torch

from checks.running import Wrong, check, equal, tensor


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@check
def attribution(attribution):
    """4.1: attribution(h, C) -> (n, R, n_classes): eq. 11 for every class."""
    for seed, (n, R, D, K) in enumerate([(2, 9, 6, 3), (1, 4, 4, 4), (3, 1, 5, 2)]):
        h = _random(n, R, D, seed=seed).relu() + 0.1
        C = _random(D, K, seed=seed + 5) * torch.linspace(0.5, 2, K)
        norm, cam = C.norm(dim=0), h @ C
        mistakes = {
            "The norm is not squared: eq. 11 divides by the square of c_j's norm.": cam / norm,
            "This is CAM: eq. 11 also divides by the square of c_j's norm.": cam,
            "You divide by the norm of h_r: eq. 11 divides by the square of c_j's.": cam / h.norm(dim=2, keepdim=True),
            "This is the cosine: eq. 11 divides by the square of c_j's norm and leaves h_r as it is.":
                cam / norm / h.norm(dim=2, keepdim=True),
            "You divide by the square of one norm of all of C: each column has its own.": cam / C.square().sum()}
        if D == K:
            rows = "You take the norms of the rows of C: the columns belong to the classes, so sum over dimension 0."
            mistakes[rows] = cam / C.square().sum(1)
        equal(tensor(attribution, (n, R, K), h=h, C=C), cam / norm**2, "The attribution", mistakes,
              "h_r . c_j, divided by the sum of the squares of column j.")
        own = tensor(attribution, (1, K, K), h=C.T[None].contiguous(), C=C)[0].diagonal()
        equal(own, torch.ones(K), "The attribution of c_j to its own class", {}, "The paper: it must be 1.")
    return "A row equal to c_j scores 1 for class j; the mean over rows times ||c_j||^2 is the logit."


@check
def grad_cam(grad_cam):
    """4.2: grad_cam(head, h, j) -> (n, R): h_r times the gradient of logit j, averaged over the rows."""
    for seed, (n, R, D, K, j) in enumerate([(2, 9, 5, 3, 1), (1, 6, 4, 4, 3), (3, 4, 6, 2, 0)]):
        h, C, W = _random(n, R, D, seed=seed).relu(), _random(D, K, seed=seed + 5), _random(D, D, seed=seed + 6)
        heads = {"a linear head": lambda h, C=C: h.mean(1) @ C,
                 "a head with a layer more": lambda h, C=C, W=W: (h @ W).tanh().mean(1) @ C}
        for name, head in heads.items():
            grads = [_gradient(head, h, c) for c in range(K)]
            grad = grads[j]
            equal(tensor(grad_cam, (n, R), head=head, h=h, j=j), _weighed(h, grad.mean(1)),
                  f"The map of {name}", {
                "The gradients are added up over the rows: Grad-CAM takes their mean.": _weighed(h, grad.sum(1)),
                "The ReLU is left in: leave it out, so that negative evidence stays.":
                    _weighed(h, grad.mean(1)).relu(),
                "Each row has its own gradient here (that is HiResCAM): Grad-CAM takes one mean gradient for all rows.":
                    (h * grad).sum(2),
                "This is the gradient of the sum of all logits: take that of logit j alone.":
                    _weighed(h, sum(grads).mean(1)),
                "This is another class's map: the gradient belongs to logit j.":
                    _weighed(h, grads[(j + 1) % K].mean(1)),
                "The channels' gradients have no h in it: multiply by h and add up over the channels.":
                    grad.sum(2)}, "Weights: the mean over the rows of d y_j / d h_r. Map: h_r times the weights.")
    return "For a linear head each row's gradient is c_j / R, so the map is that of eq. 11 times ||c_j||^2 / R."


def _gradient(head, h, j):
    h = h.clone().requires_grad_()
    return torch.autograd.grad(head(h)[:, j].sum(), h)[0]


def _weighed(h, weights):
    return torch.einsum("nrd,nd->nr", h, weights)


@check
def factor(factor):
    """4.2: factor(C, j, R) -> the number by which Grad-CAM's map is larger than eq. 11's."""
    for seed, (D, K, j, R) in enumerate([(5, 3, 1, 9), (4, 2, 0, 4), (6, 5, 4, 49)]):
        C = _random(D, K, seed=seed)
        squares = C[:, j].square().sum()
        equal(tensor(factor, (), C=C, j=j, R=R), squares / R, "The factor", {
            "R is missing: the mean over R rows makes each row's gradient c_j / R.": squares,
            "The norm is not squared.": C[:, j].norm() / R,
            "This is the factor from Grad-CAM's map to eq. 11's: the other way round.": R / squares,
            "This takes all of C: only column j counts.": C.square().sum() / R,
            "R multiplies: it should divide.": squares * R},
              "Write Grad-CAM's map for a linear head: h_r . c_j / R. How often is eq. 11 in it?")
    return "Grad-CAM at the last block, without its ReLU, and B4 are one map up to a number."


@check
def refine(refine):
    """4.3: refine(att, segments) -> (n, H, W), each cell the mean of its segment: step 3 of the way upstream."""
    for seed, (n, H, W) in enumerate([(2, 4, 5), (1, 6, 6), (3, 3, 2)]):
        att = _random(n, H, W, seed=seed)
        segments = torch.randint(3, (n, H, W), generator=torch.Generator().manual_seed(seed)) * 7
        found = tensor(refine, (n, H, W), att=att, segments=segments)
        right, sums, largest, shared = (torch.empty_like(att) for _ in range(4))
        for k in segments.unique():
            shared[segments == k] = att[segments == k].mean()
            for i in range(n):
                here = segments[i] == k
                if here.any():
                    inside = att[i][here]
                    right[i][here], sums[i][here], largest[i][here] = inside.mean(), inside.sum(), inside.max()
        equal(found, right, "The refined map", {
            "These are sums: large segments would count twice. Take the mean.": sums,
            "These are maxima: take the mean.": largest,
            "You average over a number's cells in all pictures: a segment belongs to one picture.": shared,
            "The map is unchanged.": att,
            "Each cell is the mean of the whole picture.": att.mean((1, 2), keepdim=True).expand_as(att)},
              "For each picture and each number on its segments: the mean of att over the cells with that number.")
        if not torch.allclose(found.mean((1, 2)), att.mean((1, 2)).double(), atol=1e-5):
            raise Wrong("The mean over a picture changed: step 3 conserves it.")
    return "The mean over each picture stays as it was: the evidence moves within segments, none is lost."


@check
def lead(lead):
    """4.4: lead(h, C, j, k) -> (n, R): each row's evidence for class j less that for class k."""
    for seed, (n, R, D, K, j, k) in enumerate([(2, 9, 5, 4, 1, 3), (1, 4, 6, 2, 1, 0), (3, 5, 4, 3, 0, 2)]):
        h, C = _random(n, R, D, seed=seed).relu(), _random(D, K, seed=seed + 5)
        E, norms = h @ C, C.square().sum(0)
        equal(tensor(lead, (n, R), h=h, C=C, j=j, k=k), E[..., j] - E[..., k], "The lead", {
            "The sign is turned round: positive must speak for j.": E[..., k] - E[..., j],
            "This is the evidence for j alone: take away that for k.": E[..., j],
            "These are differences of eq. 11, whose classes have different norms: their mean is not the difference of "
            "the logits. Take h_r . c_j.": E[..., j] / norms[j] - E[..., k] / norms[k],
            "These are differences of probabilities: leave out the softmax.":
                E.softmax(-1)[..., j] - E.softmax(-1)[..., k],
            "This takes away the mean of all classes: take away class k.": E[..., j] - E.mean(-1)},
              "h_r . c_j - h_r . c_k for each row.")
        v = _random(D, 1, seed=seed + 9)
        moved = tensor(lead, (n, R), h=h, C=C + v, j=j, k=k)
        equal(moved, E[..., j] - E[..., k], "The lead, after one vector was added to all columns,", {},
              "It must not change.")
    return "Its mean is the difference of the two logits, and no vector added to all columns changes it."


WHY = {  # the truth about each sentence of exercise 4.4, and why
    "a": (False, "Zero is arbitrary: one vector added to all columns turns every cell blue, and no prediction changes "
                 "(exercise 1.4)."),
    "b": (False, "That cell may lead for the runner-up just as much; only the difference decides."),
    "c": (True, "The logits are the means of the two maps, by Theorem 1."),
    "d": (False, "A cell of the last block sees far more of the picture than its square, the bird included; ask by "
                 "changing the water (exercise 5.3)."),
    "e": (True, "The vector cancels in the difference."),
}


@check
def readings(readings):
    """4.4: which sentences about a map are true: sentence's letter -> True or False."""
    _truths(readings, WHY)
    return "A map for one class alone tells little; a difference of two has a zero that means something."


def _truths(given, why):
    """Raise Wrong unless `given` says of each letter of `why` what is true."""
    letters = ", ".join(why)
    if given is ... or (isinstance(given, dict) and ... in given.values()):
        raise Wrong("The answer is still the stub: write True or False for each letter.")
    if not isinstance(given, dict) or set(given) != set(why) or not all(isinstance(x, bool) for x in given.values()):
        raise Wrong(f"Give True or False for each of the letters {letters}.")
    for letter, (true, reason) in why.items():
        if given[letter] != true:
            raise Wrong(f"Sentence {letter} is {str(true).lower()}. {reason}")
