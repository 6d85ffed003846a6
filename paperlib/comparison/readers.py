"""Readers of the distribution of concepts (section 6): what the vote of eq. 10 finds there and what else is there."""
from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import Subset

from paperlib.comparison.choices import Board, ends
from paperlib.concepts import vote


def readers(board: Board) -> dict[str, dict[str, np.ndarray]]:
    """explainer -> reader -> 100 where its prediction is correct, for each test picture.

    "vote" is eq. 10. "reader of concepts" is a logistic regression on the share of each of the K prototypes, fitted on
    training pictures that the explainers have not seen (if there are enough); "reader of classes" sees the shares of
    the classes only.
    """
    study, m, least = board.study, board.fitted_on, board.smallest
    learn = study.sample(min(2 * m, least - m), m) if least > m else study.sample(m)
    ways = {name: board.explainer(d) for name, d in ends(board).items()}
    y, k, target = study.data.train.labels[learn].numpy(), study.k, board.tests.labels.numpy()
    seen = _shares(study.trained, ways, Subset(study.data.train, learn.tolist()))
    asked = _shares(study.trained, ways, board.tests)
    predicted = {name: {"vote": _by_class(b, k).argmax(1), "reader of concepts": _regression(a, y, b),
                        "reader of classes": _regression(_by_class(a, k), y, _by_class(b, k))}
                 for name, a, b in ((name, seen[name], asked[name]) for name in ways)}
    return {name: {reader: 100 * (c == target) for reader, c in each.items()} for name, each in predicted.items()}


def _shares(net, explainers, pictures):
    """name -> share of each prototype's cells on the map of eq. 9, (n, K), in one pass through the network."""
    found = {name: [] for name in explainers}
    for batch in torch.arange(len(pictures)).split(64):
        features = net.features(torch.stack([pictures[int(i)] for i in batch]))
        for name, explainer in explainers.items():
            s = explainer.maps_from_features(features).flatten(1)
            found[name].append(vote(s, len(explainer.prototypes_), 1).cpu())
    return {name: torch.cat(each).double().numpy() for name, each in found.items()}


def _by_class(x, k):
    """Eq. 10: shares of the classes, (n, K) -> (n, C)."""
    return x.reshape(len(x), -1, k).sum(2)


def _regression(seen, y, asked):
    return LogisticRegression(C=100, max_iter=2000).fit(seen, y).predict(asked)
