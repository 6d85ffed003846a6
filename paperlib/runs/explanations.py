"""What prototypes say, computed for a study: fitted explainers, what they decide, the columns of Figure 1."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Subset

from paperlib.attribution import shares, upstream
from paperlib.concepts import ConceptExplainer, fit_together, readings
from paperlib.datasets.pictures import Pictures, window
from paperlib.kmex import KMEx
from paperlib.runs import store
from paperlib.runs.results import BATCH, content, embeddings, inputs
from paperlib.runs.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


def kmex(study: Settings, k: int) -> KMEx:
    """KMEx (section 3.2) with k prototypes per class, fitted on the training embeddings."""
    study.check_k(k)
    # Embeddings are few: the official ten restarts cost seconds, so no profile saves on them.
    model = KMEx(k, n_init=10, random_state=study.seed)

    def compute():
        model.fit(*study.embeddings("train"))
        return {name: torch.as_tensor(getattr(model, name)) for name in learned}
    learned = ("prototypes_", "classes_", "prototype_labels_")
    key = inputs(study, "network", "seen", "train", "seed", k=k, restarts=model.n_init)
    for name, tensor in store.kept("kmex", key, compute).tensors.items():
        setattr(model, name, tensor.numpy())
    model.n_features_in_ = model.prototypes_.shape[1]
    return model


def sample(study: Settings, per_class: int = 0, skip: int = 0) -> np.ndarray:
    """Numbers (n,) of training pictures: `per_class` of each class, after the first `skip`, in the seed's order.

    0: all. Two samples of which one skips the other have no picture in common. Raises ValueError where a class has
    fewer than skip + per_class.
    """
    labels = study.data.train.labels.numpy()
    rng, found = np.random.default_rng(study.seed), []
    for c, name in enumerate(study.data.classes):
        mine = rng.permutation(np.flatnonzero(labels == c))
        if len(mine) < skip + max(per_class, 1):
            raise ValueError(f"{name} has {len(mine)} training pictures; {skip + max(per_class, 1)} are asked for.")
        found.append(mine[skip:skip + per_class] if per_class else mine[skip:])
    return np.sort(np.concatenate(found))


def unfitted(study: Settings, depth: int = 3, part: tuple[int, int] = (0, 0), **choices) -> ConceptExplainer:
    """The explainer of the last `depth` blocks before it is fitted. Raises ValueError for a depth there is not."""
    last = len(study.trained.blocks)
    if not 1 <= depth <= last:
        raise ValueError(f"depth is {depth}; the backbone has {last} blocks, give 1 to {last}.")
    options = {"prototypes_per_class": study.k, "n_init": study.n_init, "random_state": study.seed, **choices}
    return ConceptExplainer(tuple(range(last - depth + 1, last + 1)), **options)


def explainers(study: Settings, choices: Sequence[Mapping], engine_of: Callable | None = None
               ) -> list[ConceptExplainer]:
    """A fitted explainer for each of `choices`, the arguments of `unfitted`.

    Those that are not kept and are fitted on the same part of the training pictures share one pass over it.
    engine_of(keys): the engine of `fit_together` for explainers with these keys; None for threads of this process.
    """
    todo = [(unfitted(study, **options), tuple(options.get("part", (0, 0)))) for options in choices]
    keys = [_fitting(study, explainer, part) for explainer, part in todo]
    kept = dict(zip(map(str, keys), zip(keys, todo, strict=True), strict=True))  # equal keys: fitted once

    def compute(missing):
        wanted, found = [todo_of[i] for i in missing], {}
        for part in dict.fromkeys(part for _, part in wanted):
            group = [i for i, (_, other) in enumerate(wanted) if other == part]
            engine = engine_of and engine_of([unique[missing[i]] for i in group])
            for i, explainer in zip(group, _fit(study, [wanted[i][0] for i in group], part, engine), strict=True):
                found[i] = explainer.state(), {"seconds": explainer.seconds_}
        return [found[i] for i in range(len(wanted))]
    unique, todo_of = ([each[i] for each in kept.values()] for i in (0, 1))
    results = store.kept_together("explainer", unique, compute)
    results = dict(zip(kept, results, strict=True))
    return [_restored(explainer, results[str(key)]) for (explainer, _), key in zip(todo, keys, strict=True)]


def _fitting(study, explainer, part):
    whole = len(sample(study, *part)) == len(study.data.train)
    return inputs(study, "network", "seen", "train", **store.plain(explainer.fitting()),
                  part=[] if whole else [*part, study.seed])


def _fit(study, group, part, engine):
    """Explainers fitted together on a part of the training pictures."""
    train = study.data.train
    return fit_together(group, study.trained, train, train.labels, n_jobs=min(4, torch.get_num_threads()),
                        progress=True, index=sample(study, *part), engine=engine)


def _restored(explainer, result):
    fitted = ConceptExplainer.from_state(explainer.get_params(), result.tensors)
    fitted.seconds_ = result.manifest["seconds"]
    return fitted


# What they say of pictures


def evaluations(study: Settings, split: str, choices: Sequence[Mapping]) -> list[dict[str, float]]:
    """Accuracy, share of tied votes and mean number of concepts per map, of each explainer, in one pass (Table 2)."""
    pictures, fitted = study.splits[split], explainers(study, choices)
    keys = [inputs(study, "network", "seen", "train", **store.plain(explainer.fitting()), vote=explainer.vote,
                   split=split, part=list(options.get("part", (0, 0))), seed=study.seed, pictures=content(pictures))
            for explainer, options in zip(fitted, choices, strict=True)]

    def compute(missing):
        chosen = {str(i): fitted[i] for i in missing}
        seen, Z = {name: [] for name in chosen}, []
        for reading in readings(study.trained, pictures, chosen, BATCH):
            labels = pictures.labels[reading.index]
            Z.append(reading.features[-1].mean((2, 3)).cpu())  # eq. 2, which would cost another pass
            for name, found in reading.explained.items():
                columns = (found.predicted == labels, found.tied, found.concepts)
                seen[name].append(torch.stack([x.double() for x in columns], 1))
        embeddings(study, split, torch.cat(Z))
        means = [torch.cat(seen[str(i)]).mean(0) for i in missing]
        return [dict(zip(("accuracy", "tie_rate", "concepts_per_map"), mean, strict=True)) for mean in means]
    found = store.kept_together("evaluation", keys, compute)
    return [{name: tensor.item() for name, tensor in each.tensors.items()} for each in found]


def comparison(study: Settings, choices: Mapping[str, Mapping], per_class: int) -> dict[str, dict[str, np.ndarray]]:
    """Several explainers on the same test pictures, in one pass: see `Study.compare`."""
    fitted = dict(zip(choices, explainers(study, list(choices.values())), strict=True))
    pictures = study.data.test.subset(per_class)
    told = {name: [store.plain(explainer.fitting()), explainer.vote, choices[name].get("part", (0, 0))]
            for name, explainer in fitted.items()}

    def compute():
        parts = [_compared(reading) for reading in readings(study.trained, pictures, fitted, BATCH, shown=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    key = inputs(study, "network", "seen", "train", "seed", pictures=content(pictures), explainers=told)
    tensors, y = store.kept("comparison", key, compute).tensors, pictures.labels.numpy()
    found = {name: {what: tensors[f"{name}/{what}"].numpy() for what in ("predicted", "tied", "concepts", "map")
                    if f"{name}/{what}" in tensors} for name in ("CNN", *choices)}
    return {name: {**read, "correct": (read["predicted"] == y).astype(int)} for name, read in found.items()}


def _compared(reading):
    """What `comparison` keeps of one batch: "name/what" -> (n, ...)."""
    found = {"CNN/predicted": reading.predicted}
    for name, each in reading.explained.items():
        found |= {f"{name}/predicted": each.predicted, f"{name}/tied": each.tied, f"{name}/concepts": each.concepts,
                  f"{name}/map": each.shown.short()}
    return found


def explanation(study: Settings, pictures: Pictures, i: int) -> list[dict]:
    """The columns of Figure 1 for one picture: see `Study.explain`."""
    fitted = study.explainers()
    one = Subset(pictures, [i])
    reading = next(readings(study.trained, one, {explainer.name: explainer for explainer in fitted}, shown=True))
    c = reading.predicted
    attribution, columns = upstream(reading.features, study.trained.C, fitted, c), []
    for e in fitted:
        map_, att = reading.explained[e.name].shown[0] + int(c) * e.prototypes_per_class, attribution[e.name][0].cpu()
        held, found = shares(att, map_), study.patches(e, int(c))
        columns.append({"name": e.name, "K": len(e.prototypes_), "class": int(c), "predicted": map_,
                        "everyone": reading.explained[e.name].s[0], "attribution": att,
                        "shares": {k: held.get(k, 0.0) for k, *_ in found},
                        "patches": sorted(found, key=lambda each: -held.get(each[0], -torch.inf))})
    return columns


def patches(study: Settings, labels: torch.Tensor, sources: torch.Tensor, resolution: tuple[int, int], c: int) -> list:
    """Where prototypes of class c come from: (prototype, training picture, patch's box in it, "#picture's number")."""
    found, pictures = [], study.data.train
    for k in (labels == c).nonzero().flatten().tolist():
        image, row, column = sources[k].tolist()
        found.append((k, pictures.pixels(image), window(pictures.size, row, column, resolution), f"#{image}"))
    return found


def predictions(study: Settings, split: str, choices: Sequence[Mapping]) -> pd.DataFrame:
    """A row per picture of a split: its file (or number), its class, and each model's prediction, by name."""
    import pandas as pd  # only this table needs it
    pictures, names = study.splits[split], np.array(study.data.classes)
    fitted = {explainer.name: explainer for explainer in explainers(study, choices)}
    Z, y = study.embeddings(split)
    found = {"CNN": [], **{name: [] for name in fitted}}
    for reading in readings(study.trained, pictures, fitted, BATCH):
        found["CNN"].append(reading.predicted)
        for name, each in reading.explained.items():
            found[name].append(each.predicted)
    columns = {name: names[torch.cat(parts).numpy()] for name, parts in found.items()}
    files = [getattr(path, "name", f"#{i}") for i, path in enumerate(pictures.raw)]
    return pd.DataFrame({"picture": files, "class": names[y], **columns, "KMEx": names[study.kmex().predict(Z)]})
