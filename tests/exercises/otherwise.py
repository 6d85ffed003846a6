"""Right answers to the exercises as others might write them: loops, numpy, lists, gradients by backward."""

import numpy as np
import torch
from torch.nn import functional as F

from paperlib.kmex import KMEx


def evidence(h, C, bias):
    return torch.einsum("nrd,dk->nrk", h.double(), C.double()) + bias[None, None]


def size_of_gap(head, h):
    total = 0
    for r in range(h.shape[1]):
        total = total + head(h[:, [r]])
    return (head(h).double() - total.double() / h.shape[1]).abs().max().item()


def fold(norm, C):
    s = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    b = (norm.bias - norm.running_mean * s) @ C
    return [torch.diag(s) @ C, b]


def turn_blue(h, C):
    v = -(C.abs().max() + 1000) * torch.ones(len(C))
    return C + v[:, None]


def cosines(P, Z, y):
    P, Z, y = P.numpy(), Z.numpy(), y.numpy()
    own, out = [], []
    for c in range(len(P)):
        cos = Z @ P[c] / np.linalg.norm(Z, axis=1) / np.linalg.norm(P[c])
        own.append(cos[y == c].mean())
        out.append(cos[y != c].mean())
    return np.mean(own), np.mean(out)


def predict(Z, P, labels):
    return np.array([int(labels[int(((P - z) ** 2).sum(1).argmin())]) for z in Z])


def exp_similarity(d):
    return np.exp(-d.numpy())


def log_similarity(d):
    return torch.log(d + 1) - torch.log(d + 0.0001)


confused = [200, 300]


def class_means(Z, y):
    return np.array([np.mean(Z.numpy()[y.numpy() == c], axis=0) for c in sorted(set(y.tolist()))])


def hard_for_one(n, seed):
    torch.manual_seed(seed)
    a = torch.randn(2 * n, 2)
    y = torch.arange(2 * n) % 2
    a[::4] += torch.tensor([10.0, 0])
    a[2::4] -= torch.tensor([10.0, 0])
    return a, y


def nearness(p, Z):
    d = torch.cdist(Z, Z).fill_diagonal_(torch.inf)
    return torch.cdist(p[None], Z).min() / np.median(d.min(1).values)


def composite(features):
    size = features[0].shape[2:]
    parts = []
    for x in features:
        u = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        n = u.norm(dim=1, keepdim=True).clamp_min(1e-12)
        parts.append((u / n / u.shape[1]).permute(0, 2, 3, 1))
    return torch.cat(parts, -1)


def block_shares(widths, exponent):
    w = np.array([D ** (2.0 * exponent) for D in widths])
    return w / w.sum()


def assign_one_hot(q, P):
    d = ((q[:, :, None] - P[None, None]) ** 2).sum(-1)
    s = torch.zeros_like(d)
    s.scatter_(-1, d.argmin(-1, keepdim=True), 1)
    return s


def vote(s, n_classes):
    return s.float().mean(1).view(len(s), n_classes, -1).sum(-1)


def decide(y, s, distance):
    per = s.shape[2] // y.shape[1]
    out = []
    for i in range(len(y)):
        best = torch.nonzero(y[i] == y[i].max()).flatten().tolist()
        of = s[i].argmax(-1) // per
        out.append(min(best, key=lambda c: float(distance[i][of == c].mean())))
    return torch.tensor(out)


def attribution(h, C):
    return (h[..., None] * (C / C.norm(dim=0) ** 2)).sum(2)


def grad_cam(head, h, j):
    h.requires_grad_()
    y = head(h)[:, j].sum()
    y.backward()
    return torch.einsum("nrd,nd->nr", h, h.grad.mean(1))


def factor(C, j, R):
    return float(C[:, j] @ C[:, j]) / R


def refine(att, segments):
    out = torch.zeros_like(att)
    for i in range(len(att)):
        for k in set(segments[i].flatten().tolist()):
            m = (segments[i] == k).float()
            out[i] += m * (att[i] * m).sum() / m.sum()
    return out


def lead(h, C, j, k):
    return (h @ C)[:, :, j] - (h @ C)[:, :, k]


readings = {"a": False, "b": False, "c": True, "d": False, "e": True}


def choose_k(Z, y, Z_test, y_test, candidates):
    half = len(Z) // 2
    right = [np.mean(KMEx(k, n_init=1).fit(Z[:half], y[:half]).predict(Z[half:]) == y[half:]) for k in candidates]
    return max(zip(right, candidates, strict=True))[1]


def changes(net, test, birds):
    n = 0
    for i in birds:
        a = [net(test.redrawn(i, background=b).unsqueeze(0)).argmax().item() for b in range(4)]
        n += any(k != a[0] for k in a)
    return n / len(birds)


shortcut = "south"
must = {"a": True, "b": False, "c": True, "d": False, "e": False}


def share_beside(change, part):
    k = part.shape[1] // change.shape[1]
    n, h, w = change.shape
    on = part.view(n, h, k, w, k).any(4).any(2)
    c = change.abs()
    return (c * ~on).sum((1, 2)) / c.sum((1, 2))


fails = {"B", "D"}
