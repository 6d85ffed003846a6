"""Section 3.3: fitting prototypes. Each class's rows of eq. 8 are clustered by themselves, by threads or elsewhere."""
from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral
from time import perf_counter, thread_time

import numpy as np
import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from paperlib.backbone import count, features_in_turn
from paperlib.guards import check_target, refuse_test
from paperlib.progress import Bar
from paperlib.scaling.rows import bytes_of, kept_features, rows_of


def fit_together(explainers, backbone, images, labels, n_jobs=1, progress=False, index=None, engine=None):
    """The explainers, fitted on the same images, each of which passes through the backbone once.

    images as in `ConceptExplainer`, labels (n,) in 0..n_classes-1; index (m,): numbers of the images to fit on, None
    for all. Each of n_jobs workers takes one class for all explainers, and drops it before the next: it holds the
    class's rows of eq. 8, (n_c R', D) float32, one kind at a time, and the features if there are several kinds, within
    each explainer's `memory`. Batches, of the first explainer's batch_size, never mix classes, so that none depends on
    another. engine(fit_class, members) gives (c, fit_class(backbone, images, members[c], c)) of each class in any
    order; None for threads. seconds_ are shares of the time that this takes, in proportion to the work of clustering:
    with any number of workers they add up to the whole.

    Raises ValueError for empty data, labels that do not fit, a class without images or with fewer different rows than
    K/C, NaN features, blocks that are no suffix, or an unknown option; LeakError for pictures of the test split;
    OSError where rows go to a disk that is full. Warns where a class is fitted on a share of its rows.
    """
    from sklearn.utils import check_random_state  # here, for to import scikit-learn takes as long as torch
    start = perf_counter()
    refuse_test(images, "fitting prototypes")
    for explainer in explainers:
        explainer._check_params()
    labels = check_target(labels, count(images), backbone.n_classes, "labels").cpu().numpy()
    index = np.arange(len(labels)) if index is None else np.asarray(index)
    members = [index[labels[index] == c] for c in range(backbone.n_classes)]
    if empty := ", ".join(str(c) for c, mine in enumerate(members) if len(mine) == 0):
        raise ValueError(f"no image of class {empty}: every class needs images to be clustered.")
    # One number, so that every class starts from the same seed in whatever order workers take them.
    seeds = [r if isinstance(r, Integral) else int(check_random_state(r).randint(2**31 - 1))
             for r in (e.random_state for e in explainers)]
    engine = engine or partial(_threads, n_jobs, backbone, images)
    done = engine(partial(_fit_class, explainers, seeds), members)
    done = dict(Bar(done, "prototypes", total=len(members), unit="class", show=progress))
    done = [done[c] for c in range(len(members))]
    per_second = (perf_counter() - start) / sum(seconds for of_class in done for *_, seconds in of_class)
    for explainer, of_classes in zip(explainers, zip(*done, strict=True), strict=True):
        prototypes, sources, sizes, shares, seconds = zip(*of_classes, strict=True)
        if len(set(sizes)) > 1:
            raise ValueError(f"feature maps of several sizes {sorted(set(sizes))}: give resolution, or equal images.")
        explainer._take(*(torch.from_numpy(np.concatenate(x)) for x in (prototypes, sources)), sizes[0],
                        torch.tensor(shares, dtype=torch.float64))
        explainer.seconds_ = round(per_second * sum(seconds), 2)
        if some := sum(share < 1 for share in shares):
            warnings.warn(f"{explainer.name}: {some} of {len(shares)} classes are fitted on a share of their rows, at "
                          f"least {min(shares):.1%}: more do not fit in memory={explainer.memory!r}.", stacklevel=2)
    return explainers


def _threads(n_jobs, backbone, images, fit_class, members):
    """The engine of `fit_together` that runs in this process."""
    def work(c):
        return c, fit_class(backbone, images, members[c], c)
    # BLAS has one limit for the whole process, and workers that set and restored it would undo one another's. OpenMP's
    # belongs to a thread, and `class_prototypes` sets it.
    with threadpool_limits(1, user_api="blas"):
        parallel = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator_unordered")
        yield from parallel(delayed(work)(c) for c in range(len(members)))


@torch.no_grad()  # gradient mode belongs to a thread, so it is set here, in the worker
def _fit_class(explainers, seeds, backbone, images, index, c):
    """Of class c with the images `index`, for each explainer: prototypes, sources, (H', W'), share, seconds."""
    most, size, found = [bytes_of(e.memory) for e in explainers], explainers[0].batch_size, {}
    # A share is drawn by the explainer's own seed, from what its own bound allows: it depends on no other explainer.
    draws = [(bound, seed) if e.beyond == "share" else (None, 0)
             for e, bound, seed in zip(explainers, most, seeds, strict=True)]
    groups = grouped({i: (e.kind, draws[i]) for i, e in enumerate(explainers)})
    batches, room = features_in_turn(backbone, images, np.split(index, range(size, len(index), size))), min(most)
    if len(groups) > 1:  # features are kept only if a second kind needs them
        half = 0 if any(bound for bound, _ in draws) else room // 2
        batches, room = kept_features(batches, len(index), max(len(e.blocks) for e in explainers), half), room - half
    for same in groups:
        here = map(partial(_moved, backbone.C.device), batches)  # which holds none while it asks for the next
        rows = rows_of(explainers[same[0]].compose, here, len(index), room, *draws[same[0]])
        for i in same:
            found[i] = _cluster(explainers[i], rows, index, c, seeds[i])
        del rows  # before the next kind comes
    return [found[i] for i in range(len(explainers))]


def _moved(device, features):
    return [x if x is None else x.to(device) for x in features]


def grouped(kinds):
    """The names, in groups whose kinds are equal: {name: kind} -> [[name, ...], ...]."""
    return [[name for name in kinds if kinds[name] == kind] for kind in dict.fromkeys(kinds.values())]


def _cluster(explainer, rows, index, c, seed):
    """Of class c, from its rows of eq. 8, what `_fit_class` gives: sources (K/C, 3) are each one's nearest row."""
    start = thread_time()  # of this thread's work only, so that waiting for another does not count
    from paperlib.kmex import class_prototypes, make_clusterer
    clusterer = make_clusterer(explainer.clusterer, explainer.n_init)
    p = class_prototypes(rows.values, explainer.prototypes_per_class, clusterer, seed, label=c)
    # Distances by differences, not by the matrix product: few prototypes, and no copy of the rows.
    d = torch.cdist(torch.from_numpy(p), torch.from_numpy(rows.values), compute_mode="donot_use_mm_for_euclid_dist")
    image, row, column = rows.cells(d.argmin(dim=1).numpy())
    return p, np.stack([index[image], row, column], axis=1), rows.resolution, rows.share, thread_time() - start
