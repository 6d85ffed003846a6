# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figure 1: which concepts does the network see, and where?
#
# **The paper claims** (section 3.3, Figure 1): k-means on what the encoder puts out cuts a picture into segments, each
# of one *concept*; the training patches nearest to the prototypes show what a concept is; and an attribution map, made
# without gradients, shows how much each matters to the classifier. Shallower blocks make both maps finer.
#
# This notebook draws the figure for B4 (the last of four blocks alone), B34 and B234, and then measures what it
# suggests: how many concepts a map holds, what happens to the attribution on its way upstream, and whether it lies on
# the object.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
pictures: int = 3         # how many test pictures to explain
first: int = 0            # number of the test picture from which they are looked for

# %%
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate, normalize

from paperlib import figures
from paperlib.attribution import attribute, refine, upsample, upstream
from paperlib.concepts import assign, composite, concepts_per_map
from paperlib.runs.study import open_studies
from paperlib.theorem1 import predicted_class

studies = open_studies(globals())
study = studies[-1]

# %% [markdown]
# ## The explainers
#
# An explainer takes the last blocks of the network, brings their outputs to one resolution (eq. 7), puts each cell's
# channels one after another into a row of $D$ numbers (eq. 8), and runs k-means on the rows of one class at a time.
# That gives $K/C$ prototypes for each of the $C$ classes, $K$ in all.

# %%
table = {(study.data.title, e.name): {
            "map, cells": "{} x {}".format(*e.resolution_), "D": e.prototypes_.shape[1], "K/C": e.prototypes_per_class,
            "K": len(e.prototypes_), "seconds to fit": e.seconds_} for study in studies for e in study.explainers()}
pd.DataFrame(table).T

# %% [markdown]
# A map of 1 x 1 cells has one concept for the whole picture. The figures below show the last data set.
#
# ## Which pictures
#
# Pictures that the network names correctly, from classes far apart in the list, and, as the last, one that it gets
# wrong, if there is any: an explanation should be of use there too.

# %%
Z, y = study.embeddings("test")
predicted = study.trained.classify(torch.as_tensor(Z, device=study.trained.device)).argmax(1).cpu().numpy()

def choose(pictures, first):
    """Numbers of test pictures: correct ones, the first of classes far apart, then a wrong one of another class."""
    order, correct = np.roll(np.arange(len(y)), -first), {}
    for i in order[predicted[order] == y[order]].tolist():
        correct.setdefault(y[i], i)
    wrong = order[predicted[order] != y[order]].tolist()
    wrong = wrong if pictures > 1 or not correct else []
    few = min(pictures - bool(wrong), len(correct))
    found = [list(correct.values())[j] for j in np.linspace(0, len(correct) - 1, few).round().astype(int)]
    wrong.sort(key=lambda i: y[i] in y[found])  # keeps the order otherwise
    return found + wrong[:1]

# %%
if pictures < 1:
    raise ValueError(f"pictures is {pictures}; give 1 or more.")
chosen, names = choose(pictures, first), study.data.classes
titles = [f"test picture {i}:\n{names[y[i]]}" + f",\ntaken for {names[predicted[i]]}" * bool(predicted[i] != y[i])
          for i in chosen]
pd.DataFrame({"label": [names[y[i]] for i in chosen], "prediction": [names[predicted[i]] for i in chosen]},
             index=pd.Index(chosen, name="test picture"))

# %% [markdown]
# ## One picture, step by step
#
# **Features.** The network as blocks $f_1, \dots, f_B$ (eq. 6): deeper blocks have fewer cells and more channels.

# %%
x, net, explainers = study.data.test.batch(chosen[:1]), study.trained, study.explainers()
features, C, c = [block.cpu() for block in net.features(x)], net.C.cpu(), int(net(x).argmax())
pd.DataFrame({name: {"channels": block.shape[1], "cells": f"{block.shape[2]} x {block.shape[3]}"}
              for name, block in zip(net.blocks, features, strict=True)})

# %% [markdown]
# **Composite rows.** The outputs $u^{(b)}$ of the chosen blocks, at one resolution (eq. 7), each cell scaled to norm
# $1/D_b$, one after another:
#
# $$q_h = \Big[\frac{1}{D_b}\,\frac{u^{(b)}}{\|u^{(b)}\|}\Big]_b \tag{8}$$

# %%
deepest = explainers[-1]
blocks = [features[b - 1] for b in deepest.blocks]
u = [interpolate(block, size=blocks[0].shape[2:], mode="bilinear") for block in blocks]         # eq. 7
q = torch.cat([normalize(block, dim=1) / block.shape[1] for block in u], dim=1).movedim(1, -1)  # eq. 8

assert torch.allclose(q, composite(blocks))
norms = [part.norm(dim=-1).mean() for part in q.split([block.shape[1] for block in blocks], -1)]
print(f"{deepest.name}: q has shape {tuple(q.shape)}; its parts have the norms "
      + ", ".join(f"1/{1 / norm:.0f}" for norm in norms))

# %% [markdown]
# **Concept maps.** Each cell gets the nearest prototype to its row:
#
# $$s = \arg\min_k \|q_h - p_k\| \tag{9}$$
#
# The paper's formula takes all $K$ prototypes; its figure, with few and large segments, looks as if it took the $K/C$
# of the class that the network predicts. We show both.

# %%
p, mine = deepest.prototypes_.double(), deepest.prototype_labels_ == c
rows = q.double().flatten(1, 2)                  # (1, cells, D), in double precision: no rounding decides
everyone = torch.cdist(rows, p).argmin(-1)       # eq. 9
of_class = torch.cdist(rows, p[mine]).argmin(-1)

assert torch.equal(everyone, assign(rows, p)) and torch.equal(of_class, assign(rows, p[mine]))
print(f"Concepts on the map of picture {chosen[0]}: {len(everyone.unique())} among all {len(p)} prototypes,\n"
      f"{len(of_class.unique())} among the {int(mine.sum())} of {names[c]}.")

# %% [markdown]
# Do not expect each patch to look like its segment: a class has only $K/C$ prototypes, so a cell takes the least bad of
# them, and a patch found on grass may have to stand for water.
#
# **Attribution.** At the last block, a cell's score for class $j$ is
#
# $$\text{att}(h_r, c_j) = \frac{h_r \cdot c_j}{\|c_j\|^2}. \tag{11}$$
#
# On the way upstream the map is brought to the next resolution and averaged over each segment, so that all cells of one
# concept share one score.

# %%
h = features[-1].flatten(2).transpose(1, 2)                      # (1, R, D)
att = h @ C / C.square().sum(0)                                  # eq. 11
assert torch.allclose(att, attribute(h, C))

att = att[:, :, c].view(1, *features[-1].shape[2:])
for explainer in explainers[1:]:
    s = explainer.maps_from_features(features, torch.tensor([c]))
    att = refine(upsample(att, s.shape[-2:]), s)                 # upstream
assert torch.allclose(att, upstream(features, C, explainers, c)[deepest.name])
print(f"{deepest.name}: {len(of_class.unique())} concepts, scores from {att.min():.3g} to {att.max():.3g}")

# %% [markdown]
# ## Figure 1
#
# One column per depth. The map on top is among the prototypes of the predicted class; below it is the training patch
# nearest to each prototype, framed in the colour that it has on the map, with the share of the map that it holds and
# its mean attribution. The box inside a patch is the cell of the map that came nearest; where there is none, as for B4,
# the patch is that cell. Then comes the map among all $K$ prototypes. At the bottom is the attribution, with zero in
# white: B4's is eq. 11 as it is, the later ones are averaged over segments.

# %%
explained = [study.explain(i) for i in chosen]
for rank, (i, columns, title) in enumerate(zip(chosen, explained, titles, strict=True), 1):
    figure = figures.figure1(study.data.test.pixels(i), columns, title, names[predicted[i]])
    numbers = {"picture": i, "label": names[y[i]], "predicted": names[predicted[i]], **{
        column["name"]: {key: column[key] for key in ("predicted", "everyone", "attribution")} for column in columns}}
    figures.keep(figure, "figure1" if rank == 1 else f"figure1_{rank}", numbers, study, out)

# %% [markdown]
# In numbers, at the finest depth: first the concept that matters most on the map among the predicted class, then how
# the map among all $K$ votes (eq. 10).

# %%
def reading(column, prediction):
    """The concept with the highest mean attribution, and how the map among all K votes."""
    mine = [k for k, *_ in column["patches"]]
    where = {n: column["predicted"] == k for n, k in enumerate(mine, 1) if (column["predicted"] == k).any()}
    scores = {n: float(column["attribution"][cells].mean()) for n, cells in where.items()}
    best = max(scores, key=scores.get)
    votes = (column["everyone"].flatten() // len(mine)).bincount(minlength=len(names)) / column["everyone"].numel()
    return {"most important concept": best, "its share of the map": f"{where[best].double().mean():.0%}",
            "its score per cell": f"{scores[best]:.3g}", "lowest score": f"{min(scores.values()):.3g}",
            f"votes for the prediction, of all {column['K']}": f"{votes[prediction]:.0%}",
            "most votes": f"{votes.max():.0%}", "go to": names[int(votes.argmax())]}

pd.DataFrame({f"picture {i} ({names[y[i]]})": {"predicted": names[predicted[i]], **reading(columns[-1], predicted[i])}
              for i, columns in zip(chosen, explained, strict=True)})

# %% [markdown]
# Where the highest and the lowest score are equal, all concepts count the same. Where the most votes go to another
# class than the prediction, B234 would classify the picture otherwise than the network does.
#
# ## The baseline's prototypes
#
# ProtoPNet needs no search for the nearest patch: its training pushes each prototype onto the nearest patch of its own
# class, so that a prototype *is* a patch. Here are those of the classes predicted above, a row per class, with the
# picture that each comes from and its weight for the class.

# %%
baseline, shown, captions = study.protopnet, [], []
for each in dict.fromkeys(int(predicted[i]) for i in chosen):
    for k, piece, _, source in study.protopnet_patches(each):
        shown.append(piece)
        captions.append(f"{names[each]}\n{source}, {baseline.last_layer.weight[each, k]:+.2f}")
figure = figures.sheet(shown, captions, columns=max(study.k, 4))
numbers = {"captions": captions, "distinct patches": study.protopnet_manifest["training"]["distinct_patches"]}
path = figures.keep(figure, "figure1_protopnet", numbers, study, out)

# %%
print("A patch is a cell of a {} x {} map. ".format(*baseline.map_size_.tolist())
      + f"The {len(baseline.prototypes_)} prototypes are {numbers['distinct patches']} different patches.\n"
      f"Test accuracy: ProtoPNet {study.protopnet_manifest['accuracy']['test']:.1%}, "
      f"the CNN {study.manifest['accuracy']['test']:.1%}.")

# %% [markdown]
# ## Higher and lower
#
# In the paper's figure red and blue mean *higher and lower* importance. About zero, as above, red means *for* the class
# and blue *against* it. There are two reasons why everything may be red. A cell of the last block can look at most of
# the picture. And zero is arbitrary: one vector added to all columns changes no prediction, but shifts every map
# (exercise 2 of notebook 01). Taking each map's mean away brings the contrast back.

# %%
maps = {e.name: [columns[d]["attribution"] for columns in explained] for d, e in enumerate(explainers)}
figure = figures.about_mean([study.data.test.pixels(i) for i in chosen], maps, titles)
path = figures.keep(figure, "figure1_about_mean", {"pictures": chosen}, study, out)

# %%
contrast = {name: {"cells for the prediction": np.mean([float((m > 0).double().mean()) for m in each]),
                   "range of scores / mean": np.mean([float((m.max() - m.min()) / m.mean().abs())
                                                                    for m in each])} for name, each in maps.items()}
pd.DataFrame(contrast).T.map("{:.0%}".format)

# %% [markdown]
# The first column says how red the maps are about zero; the second, how much they tell apart. At 0 % a map is flat.
#
# ## How many concepts are on a map?
#
# So far, a few pictures. From here on each number is a mean over up to 100 test pictures, evenly taken from the test
# set.

# %%
def look(study, most=100):
    """features, predicted classes and numbers of up to `most` test pictures"""
    test = study.data.test
    looked = np.linspace(0, len(test) - 1, min(most, len(test))).round().astype(int)
    features = study.trained.features(test.batch(looked))
    return features, predicted_class(study.trained, features), looked

seen = {study.dataset: look(study) for study in studies}

# %%
def concepts_on_maps(study):
    """name of the explainer -> mean number of different concepts on a map, among both kinds of prototypes"""
    features, c, _ = seen[study.dataset]
    kinds = {"predicted": c, "all K": None}
    return {e.name: {kind: float(concepts_per_map(e.maps_from_features(features, classes)).double().mean())
                     for kind, classes in kinds.items()} for e in study.explainers()}

counts = {study.dataset: concepts_on_maps(study) for study in studies}
rows = {(study.data.title, name): row for study in studies for name, row in counts[study.dataset].items()}
pd.DataFrame(rows).T.round(1)

# %% [markdown]
# Read down *all K*: the number of concepts grows with the depths added, that is, with the cells of the map. More
# classes allow for more (each brings its own prototype for a piece of sky). Among the predicted class's prototypes it
# cannot exceed $K/C$. A map of more than about ten concepts is hard to read. So the figure shows the patches of the
# predicted class's prototypes alone; the vote (notebook 04) counts the cells of the map among all $K$.
#
# ## What happens to the attribution upstream?
#
# Averaging over segments moves attribution about, but the mean over the picture should stay, and with it the logit:
# mean times $\|c_j\|^2$ (plus the bias, if there is one) is $y_j$. From the second depth on (B34), a map can have no
# more different values than segments. B4's is eq. 11 itself, not averaged: a value per cell.

# %%
WAYS = {"bilinear": {}, "nearest": {"mode": "nearest"}, "all K": {"segments": "all"}}

def change(att, base):
    """The largest change of a picture's mean, as a fraction of it."""
    return float((att.mean((1, 2)) / base.mean((1, 2)) - 1).abs().max())

def values(att):
    """Mean number of different values on a map, to five digits: beyond them is rounding."""
    return float(np.mean([len((one / one.abs().max()).round(decimals=5).unique()) for one in att]))

# %%
def depths(study):
    """name of the explainer -> what its attribution maps have kept and lost"""
    features, c, _ = seen[study.dataset]
    maps = {word: upstream(features, study.trained.C, study.explainers(), c, **way) for word, way in WAYS.items()}
    base = next(iter(maps["bilinear"].values()))
    return {name: {"mean changes, bilinear": change(att, base),
                   "mean changes, nearest": change(maps["nearest"][name], base),
                   "deviation / mean": float((att.flatten(1).std(1, False) / base.mean((1, 2)).abs()).mean()),
                   "values, among predicted": values(att), "values, among all K": values(maps["all K"][name])}
            for name, att in maps["bilinear"].items()}

upwards = {study.dataset: depths(study) for study in studies}
rows = {(study.data.title, name): row for study in studies for name, row in upwards[study.dataset].items()}
pd.DataFrame(rows).T.map("{:.2g}".format)

# %% [markdown]
# Changes of the mean near $10^{-7}$ are rounding. *Deviation / mean* is a map's contrast; where it is about zero from
# the first row on, the last block has a single cell, and no depth can say where.
#
# The logit must come back from the mean of the finest map:

# %%
def logits_back(study):
    """The network's logits of the predicted classes, and how far those from the finest map's mean differ."""
    (features, c, _), net = seen[study.dataset], study.trained
    att = list(upstream(features, net.C, study.explainers(), c).values())[-1]
    logit = net.classify(features[-1].mean((2, 3)))[torch.arange(len(c)), c]
    back = att.mean((1, 2)) * net.C[:, c].square().sum(0) + (0 if net.bias is None else net.bias[c])
    return {"largest difference": f"{(back - logit).abs().max():.1g}", "largest logit": f"{logit.max():.3g}"}

pd.DataFrame({study.data.title: logits_back(study) for study in studies}).T

# %% [markdown]
# Each depth tells the same sum in other places. The outline gets finer, but every step is an average, and an average
# can only flatten: no shallower map can show more contrast than the last block's. A map refined among all $K$ may have
# as many scores as concepts: compare the last two columns.
#
# Does bilinear upsampling change the mean? When it doubles a map, each cell hands out its share in full, at the edges
# too, just as in nearest mode, and ResNets double if a picture's side is a multiple of 32. From 3 cells to 5 it is
# another matter:

# %%
bump = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]])
pd.DataFrame({f"3 x 3 to {n} x {n}": {mode: float(upsample(bump, n, mode).mean()) for mode in ("bilinear", "nearest")}
              for n in (6, 9, 5)}).T.rename_axis("mean of a map whose mean was 1").round(3)

# %% [markdown]
# ## Is the attribution on the object?
#
# Where a data set has masks, we know which pixels are the object. *On it* is the share of the positive attribution
# that falls on the object. It has to be held against two others: *area*, the object's share of the picture, which a
# map without any contrast would reach, and *swapped*, the share when each picture is given another picture's map.
# Objects like the middle of a picture, and so do the maps of any network; only what exceeds *swapped* comes from this
# picture: that is *excess*, and *error* is its standard error.

# %%
def share(att, mask):
    """Share of each map's positive part that falls on the mask (n, H, W); not a number where there is no such part."""
    positive = upsample(att.double().cpu(), mask.shape[-2:], "nearest").clamp_min(0)
    return (positive * mask).sum((1, 2)) / positive.sum((1, 2))

def on_object(study):
    """name of the explainer -> share of the positive attribution on the object, beside area and swapped maps"""
    features, c, looked = seen[study.dataset]
    mask, found = (study.data.test.masks[looked] > 0).double(), {}
    for name, att in upstream(features, study.trained.C, study.explainers(), c).items():
        own, other = share(att, mask), share(att.roll(len(att) // 2, 0), mask)
        row = {"on it": own.nanmean(), "area": mask.mean(), "swapped": other.nanmean(),
               "excess": (own - other).nanmean(), "error": (own - other).std() / len(att) ** 0.5}
        found[name] = {key: float(value) for key, value in row.items()}
    return found

# %%
masked = {study.dataset: on_object(study) for study in studies if study.data.test.masks is not None}
shares = {(study.data.title, name): row for study in studies for name, row in masked.get(study.dataset, {}).items()}
pd.DataFrame(shares).T.round(3) if shares else None

# %% [markdown]
# An excess of more than two errors is hardly chance, and may still be small: compare it with *on it*. (Data sets
# without masks have no row.) Read the table with the two facts from above: nearly flat maps must lie near the area,
# and averaging flattens. It is a first look, not a comparison of attribution methods.
#
# ## What fitting holds in memory
#
# k-means runs class by class, so that the rows of one class are all that is ever held: $n_c R' D \cdot 4$ bytes for
# $n_c$ pictures, $R'$ cells of the map and $D$ channels. (k-means makes one more copy.)

# %%
megabytes = {}
for study in studies:
    per_class = study.data.train.labels.bincount()
    for e in study.explainers():
        picture = float(np.prod(e.resolution_) * e.prototypes_.shape[1] * 4 / 1e6)
        megabytes[study.data.title, e.name] = {"largest class, MB": int(per_class.max()) * picture,
                                               "all classes, MB": int(per_class.sum()) * picture}
pd.DataFrame(megabytes).T.round(1)

# %% [markdown]
# For scale: CUB-200 with a ResNet34 at 224 px holds 84 MB for B234 and a class of 30 pictures, and would hold 17 GB for
# all 5,994 at once.
#
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    name = study.dataset
    kept = {"concepts": counts[name], "attribution": upwards[name], "on it": masked.get(name)}
    figures.keep(None, "figure1_readings", kept, study, out)
    print(f"{study.data.title}: concepts on a map, predicted class / all K\n  " + ",  ".join(
        f"{e} {row['predicted']:.1f} / {row['all K']:.1f}" for e, row in counts[name].items()))

# %% [markdown]
# ## Summary
#
# - A map among the predicted class's $K/C$ prototypes has few segments and can be read beside their training patches;
#   among all $K$ prototypes (eq. 9) it tends to hold the more concepts, the shallower the blocks.
# - Going upstream, attribution keeps its mean, hence the logit, and, above the last block, takes one value per segment.
#   Its outline gets finer and its contrast smaller: the shallower map says *where* more finely, and *how much* more
#   evenly.
# - Whether attribution lies on the object can be measured where there are masks; chance is then neither zero nor the
#   area, for maps and objects share a liking for the middle.
#
# ## Exercises
#
# 1. Use `base="averaged"` in `upstream`. Which maps change, and does their mean?
# 2. Draw the attribution for the runner-up instead of the prediction. Subtract the two, each times its $\|c_j\|^2$:
#    what is the mean of the difference?
# 3. Fit `study.explainer(3, block_weight="none")` (eq. 8 without $1/D_b$). Does the map follow the colours of the
#    picture more or less than before, and how many concepts has it among all $K$?
