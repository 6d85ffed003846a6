# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
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
dataset: str = "digits,birds"    # one or more of digits, birds, mnist, stl10, cub200, folder, with commas between
data_root: str = ""              # folder of downloaded data; empty: data/ of this repository
allow_subset: bool = False       # take a part of CUB-200 for what it is; tables then say which part
backbone: str = "resnet18"       # one of torchvision's, or "file.py:function" for a network of your own
blocks: str = ""                 # its blocks, shallow to deep, with commas between; empty: known for torchvision's
classifier: str = ""             # its linear layer; empty: known for torchvision's
weights: str = "none"            # what training starts from: none (random), imagenet, or a file of weights
normalisation: str = "imagenet"  # mean and deviation of the input: imagenet, or half (0.5 for all)
size: int = 0                    # pixels of a picture's side; 0: the data set's own
train_per_class: int = 0         # training pictures a class; 0: all
test_per_class: int = 0          # test pictures a class; 0: all
epochs: int = 7                  # of training; 0: the data set's own recipe, which is longer
prototypes_per_class: int = 0    # K/C; 0: the paper's (5; CUB-200: 10)
n_init: int = 1                  # restarts of k-means on pixels (official: 10); KMEx always takes 10
protopnet_epochs: int = 0        # of ProtoPNet; 0: 4 for digits, 3 for birds, else 31 as in the official code
seed: int = 0                    # of the first weights, the batches and k-means
out: str = ""                    # folder for figures and numbers; empty: figures/ of this repository
pictures: int = 3                # how many test pictures to explain
first: int = 0                   # number of the test picture from which they are looked for

# %%
import numpy as np
import pandas as pd
import torch

from paperlib import figures
from paperlib.attribution import attribute, refine, upsample, upstream
from paperlib.concepts import assign, composite, ids_per_map, predicted_class
from paperlib.runs.study import open_studies

studies = open_studies(globals())
study = studies[-1]

# %% [markdown]
# ## The explainers
#
# An explainer takes the last blocks of the network, brings their outputs to one resolution (eq. 7), puts each pixel's
# channels one after another into a row of $D$ numbers (eq. 8), and runs k-means on all rows of one class after
# another. That gives $K/C$ prototypes for each of the $C$ classes, $K$ in all.

# %%
table = {(study.data.title, e.name): {
            "map, pixels": "{} x {}".format(*e.resolution_), "D": e.prototypes_.shape[1], "K/C": e.prototypes_per_class,
            "K": len(e.prototypes_), "seconds to fit": e.seconds_} for study in studies for e in study.explainers()}
pd.DataFrame(table).T

# %%
for study in studies:
    single = [e.name for e in study.explainers() if e.resolution_ == (1, 1)]
    print(f"{study.data.title} ({study.data.size} px): " + (
          f"the map of {', '.join(single)} is a single pixel, one concept for the whole picture." if single else
          "each depth has a map of several pixels."))

# %% [markdown]
# The figures below show the last data set.
#
# ## Which pictures
#
# Pictures that the network gets right, from classes far apart in the list, and, as the last, one that it gets wrong,
# if there is any: an explanation should be of use there too.

# %%
Z, y = study.embeddings("test")
predicted = study.trained.classify(torch.as_tensor(Z, device=study.trained.device)).argmax(1).cpu().numpy()

def choose(pictures, first):
    """Numbers of test pictures: the first right one of classes far apart, then a wrong one of another class."""
    order, right = np.roll(np.arange(len(y)), -first), {}
    for i in order[predicted[order] == y[order]].tolist():
        right.setdefault(y[i], i)
    wrong = order[predicted[order] != y[order]].tolist()
    wrong = wrong if pictures > 1 or not right else []
    few = min(pictures - bool(wrong), len(right))
    found = [list(right.values())[j] for j in np.linspace(0, len(right) - 1, few).round().astype(int)]
    wrong.sort(key=lambda i: y[i] in y[found])  # keeps the order otherwise
    return found + wrong[:1]

# %%
if pictures < 1:
    raise ValueError(f"pictures is {pictures}; give 1 or more.")
chosen, names = choose(pictures, first), study.data.classes
titles = [f"test picture {i}:\n{names[y[i]]}" + f",\ntaken for {names[predicted[i]]}" * bool(predicted[i] != y[i])
          for i in chosen]
print(*(title.replace("\n", " ") for title in titles), sep="\n")

# %% [markdown]
# ## One picture, step by step
#
# **Features.** The network as blocks $f_1, \dots, f_B$ (eq. 6): deeper blocks have fewer pixels and more channels.

# %%
x, net, explainers = study.data.test.batch(chosen[:1]), study.trained, study.explainers()
features = net.features(x)
for block, feature in zip(net.blocks, features, strict=True):
    print(f"{block}: {feature.shape[1]} channels on {feature.shape[2]} x {feature.shape[3]} pixels")

# %% [markdown]
# **Composite rows.** Eq. 7 and 8: the blocks' outputs at one resolution, each scaled to norm $1/D_b$, one after
# another.

# %%
deepest = explainers[-1]
q = composite([features[b - 1] for b in deepest.blocks])
parts = q[0].split([features[b - 1].shape[1] for b in deepest.blocks], -1)
print(f"{deepest.name}: q has shape {tuple(q.shape)}; the norms of its parts are "
      + ", ".join(f"1/{1 / part.norm(dim=-1).mean():.0f}" for part in parts))

# %% [markdown]
# **Concept maps.** Each pixel gets the id of the prototype nearest to its row: among all $K$ (eq. 9), or among the
# $K/C$ of the class that the network predicts. Do not expect each patch to look like its segment: a class has only $K/C$
# prototypes here, so a pixel takes the least bad of them, and a patch found on grass may have to stand for water. The paper's formula is the first; its figure, with few and large
# segments, looks like the second. We show both.

# %%
c = predicted_class(net, features)
everyone = assign(q, deepest.prototypes_)
mine = deepest.maps_from_features(features, c)
print(f"different ids on the map of picture {chosen[0]}: {len(everyone.unique())} among all {len(deepest.prototypes_)} "
      f"prototypes, {len(mine.unique())} among the {deepest.prototypes_per_class} of {names[int(c)]}")

# %% [markdown]
# **Attribution.** At the last block it is $\text{att}(h_{wh}, c_j) = h_{wh} \cdot c_j / \|c_j\|^2$ (eq. 11). On the
# way upstream it is brought to the next map's resolution and averaged over each of its segments: all pixels of one
# concept then share one score.

# %%
h = features[-1]
att = attribute(h.flatten(2).transpose(1, 2), net.C)[:, :, int(c)].view(1, *h.shape[-2:])
for explainer in explainers[1:]:
    s = explainer.maps_from_features(features, c)
    att = refine(upsample(att, s.shape[-2:]), s)
same = upstream(features, net.C, explainers, c)[explainers[-1].name]
print(f"{explainers[-1].name}: {len(mine.unique())} concepts, scores from {att.min():.3g} to {att.max():.3g}; "
      f"by hand and by attribution.upstream they differ by {float((att - same).abs().max()):.1g}")

# %% [markdown]
# ## Figure 1
#
# One column for each depth. The map on top is among the prototypes of the predicted class; below it is the training
# patch nearest to each prototype, framed in the colour that it has on the map, with the share of the map that it holds
# and its mean attribution. The box inside a patch is the pixel of the map that came nearest; where there is none, as for
# B4, the patch is that pixel. The attribution at the bottom is about zero: B4's is eq. 11 as it is, the later ones are
# averaged over segments.

# %%
explained = [study.explain(i) for i in chosen]
for rank, (i, columns, title) in enumerate(zip(chosen, explained, titles, strict=True), 1):
    figure = figures.figure1(study.data.test.pixels(i), columns, title, names[predicted[i]])
    numbers = {"picture": i, "label": names[y[i]], "predicted": names[predicted[i]], **{
        column["name"]: {key: column[key] for key in ("predicted", "everyone", "attribution")} for column in columns}}
    figures.keep(figure, "figure1" if rank == 1 else f"figure1_{rank}", numbers, study.settings(), out)

# %% [markdown]
# What the figures say at the finest depth, in words. First what the map among the predicted class shows, then how the
# map among all $K$ votes (eq. 10):

# %%
for i, columns in zip(chosen, explained, strict=True):
    column = columns[-1]
    ids = [k for k, *_ in column["patches"]]
    shares = {k: float((column["predicted"] == k).double().mean()) for k in ids}
    scores = {k: float(column["attribution"][column["predicted"] == k].mean()) for k in ids if shares[k]}
    best = max(scores, key=scores.get)
    flat = max(scores.values()) - min(scores.values()) < 1e-4 * abs(scores[best])
    word = f"concept {ids.index(best) + 1} (on {shares[best]:.0%} of the map) counts most,"
    print(f"Picture {i} ({names[y[i]]}): for {names[predicted[i]]}, {'all concepts count' if flat else word} "
          f"{scores[best]:.3g} a pixel.")
    votes = (column["everyone"].flatten() // len(ids)).bincount(minlength=len(names)).double() / column["everyone"].numel()
    print(f"   Of all {column['K']} prototypes, those of {names[predicted[i]]} hold {votes[predicted[i]]:.0%} of the pixels; "
          f"most, {votes.max():.0%}, go to {names[int(votes.argmax())]}.")

# %% [markdown]
# ## The baseline's prototypes
#
# ProtoPNet needs no search for the nearest patch: its training pushes each prototype onto the nearest patch of its own
# class, so that a prototype *is* a patch. Here are those of the classes above, a row for each class, with the picture
# that each comes from and its weight for the class.

# %%
baseline, shown, captions = study.protopnet, [], []
for each in dict.fromkeys(int(predicted[i]) for i in chosen):
    for k, piece, _, source in study.protopnet_patches(each):
        shown.append(piece)
        captions.append(f"{names[each]}\n{source}, {baseline.last_layer.weight[each, k]:+.2f}")
figure = figures.sheet(shown, captions, columns=max(study.k, 4))
numbers = {"captions": captions, "distinct patches": study.protopnet_manifest["training"]["distinct_patches"]}
path = figures.keep(figure, "figure1_protopnet", numbers, study.settings(), out)

# %%
rows, columns = baseline.map_size_.tolist()
print(f"A patch is a pixel of a {rows} x {columns} map. The {len(baseline.prototypes_)} prototypes are "
      f"{numbers['distinct patches']} different patches. Test accuracy: ProtoPNet "
      f"{study.protopnet_manifest['accuracy']['test']:.1%}, the CNN {study.manifest['accuracy']['test']:.1%}.")

# %% [markdown]
# ## Higher and lower
#
# In the paper's figure red and blue mean *higher and lower* importance. About zero, as above, red means *for* the
# class and blue *against* it. There are two reasons why everything may be red. A pixel of the last block can look at most
# of the picture. And zero is arbitrary: one vector added to all columns changes no prediction, but shifts every map
# (exercise 2 of notebook 01). Taking each map's mean away brings the contrast back.

# %%
maps = {e.name: [columns[d]["attribution"] for columns in explained] for d, e in enumerate(explainers)}
figure = figures.about_mean([study.data.test.pixels(i) for i in chosen], maps, titles)
path = figures.keep(figure, "figure1_about_mean", {"pictures": chosen}, study.settings(), out)

# %%
for name, each in maps.items():
    positive = np.mean([float((m > 0).double().mean()) for m in each])
    width = np.mean([float((m.max() - m.min()) / m.mean().abs()) for m in each])
    print(f"{name}: {positive:.0%} of the pixels are for the prediction; from the lowest to the highest score "
          f"it is {width:.0%} of the mean" + (": the map is flat." if width < 1e-4 else "."))

# %% [markdown]
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
def ids_on_maps(study):
    """name of the explainer -> mean number of different ids on a map, among both kinds of prototypes"""
    features, c, _ = seen[study.dataset]
    kinds = {"predicted": c, "all K": None}
    return {e.name: {kind: float(ids_per_map(e.maps_from_features(features, classes)).double().mean())
                     for kind, classes in kinds.items()} for e in study.explainers()}

ids = {study.dataset: ids_on_maps(study) for study in studies}
rows = {(study.data.title, name): row for study in studies for name, row in ids[study.dataset].items()}
pd.DataFrame(rows).T.round(1)

# %%
for study in studies:
    (shallow, few), K = list(ids[study.dataset].items())[-1], len(study.explainers()[-1].prototypes_)
    print(f"{study.data.title}: a map of {shallow} holds {few['predicted']:.1f} ids among the predicted class's "
          f"prototypes, {few['all K']:.1f} among all {K}" + (": hard to read." if few["all K"] > 10 else "."))

# %% [markdown]
# The number of ids among all $K$ grows with depths added and with the number of classes (each brings its own prototype
# for a piece of sky); among the predicted class's it cannot exceed $K/C$. So the figure shows the second kind, and the
# vote (notebook 04) counts the first.
#
# ## What happens to the attribution upstream?
#
# Averaging over segments moves attribution about, but the mean over the picture should stay, and with it the logit:
# mean times $\|c_j\|^2$ (plus the bias, if there is one) is $y_j$. From the second depth on (B34), a map can have no more
# different values than segments. B4's is eq. 11 itself, not averaged: a value for each pixel.

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

# %%
for study in studies:
    features, c, _ = seen[study.dataset]
    net, finest = study.trained, study.explainers()[-1].name
    att = upstream(features, net.C, study.explainers(), c)[finest]
    logit = net.classify(features[-1].mean((2, 3)))[torch.arange(len(c)), c]
    back = att.mean((1, 2)) * net.C[:, c].square().sum(0) + (0 if net.bias is None else net.bias[c])
    spreads = [row["deviation / mean"] for row in upwards[study.dataset].values()]
    word = "falls" if spreads[-1] < spreads[0] else "does not fall"
    print(f"{study.data.title}: from the mean of {finest}'s map the logit comes back within "
          f"{(back - logit).abs().max():.1g} (logits up to {logit.max():.3g});\n   " + (
          "all maps are flat: a last block of one pixel cannot say where." if spreads[0] < 1e-4 else
          f"the deviation {word} upstream, from {spreads[0]:.2f} to {spreads[-1]:.2f} of the mean."))

# %% [markdown]
# Each depth tells the same sum in other places. The outline gets finer, but every step is an average, and an average
# can only flatten: no shallower map can show more contrast than the last block's. A map refined among all $K$ may have
# as many scores as ids, hence its speckles.
#
# Does bilinear upsampling change the mean? When it doubles a map, each pixel hands out its share in full, at the edges
# too, just as in nearest mode, and ResNets double if a picture's side is a multiple of 32. From 3 pixels to 5 it is
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
# picture. *Error* is the standard error of that excess. An excess may be sure and still small: compare it with the share
# itself.

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
        error = (own - other).std() / len(att) ** 0.5
        found[name] = {"on it": own.nanmean(), "area": mask.mean(), "swapped": other.nanmean(), "error": error}
    return {name: {key: float(value) for key, value in row.items()} for name, row in found.items()}

# %%
masked = {study.dataset: on_object(study) for study in studies if study.data.test.masks is not None}
shares = {(study.data.title, name): row for study in studies for name, row in masked.get(study.dataset, {}).items()}
pd.DataFrame(shares).T.round(3) if shares else None

# %%
for study in studies:
    for name, row in masked.get(study.dataset, {}).items():
        gap, error = row["on it"] - row["swapped"], row["error"]
        word = "more than" if gap > 2 * error else "less than" if gap < -2 * error else "about as much as"
        print(f"{study.data.title}, {name}: {row['on it']:.1%} on the object, {word} with another picture's map, "
              f"by {100 * gap:+.1f} points; the object's area is {row['area']:.1%}.")
    if study.dataset not in masked:
        print(f"{study.data.title}: no masks.")

# %% [markdown]
# Read this table with the two facts from above: nearly flat maps must lie near the area, and averaging flattens. It is
# a first look, not a comparison of attribution methods.
#
# ## What fitting holds in memory
#
# k-means runs class by class, so that the rows of one class are all that is ever held: $n_c R' D \cdot 4$ bytes for
# $n_c$ pictures, $R'$ pixels of the map and $D$ channels. (k-means makes one more copy.)

# %%
megabytes = {}
for study in studies:
    counts = study.data.train.labels.bincount()
    for e in study.explainers():
        picture = float(np.prod(e.resolution_) * e.prototypes_.shape[1] * 4 / 1e6)
        megabytes[study.data.title, e.name] = {"largest class, MB": int(counts.max()) * picture,
                                               "all classes, MB": int(counts.sum()) * picture}
pd.DataFrame(megabytes).T.round(1)

# %%
(title, name), most = max(megabytes.items(), key=lambda item: item[1]["all classes, MB"])
print(f"{title}, {name}: {most['largest class, MB']:.1f} MB at a time, not {most['all classes, MB']:.0f} MB at once.\n"
      f"CUB-200 with a ResNet34 at 224 px, B234: {30 * 28**2 * 896 * 4 / 1e6:.0f} MB for a class of 30 pictures, "
      f"{5994 * 28**2 * 896 * 4 / 1e9:.0f} GB for all 5,994.")

# %% [markdown]
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    name = study.dataset
    figures.keep(None, "figure1_readings", {"ids": ids[name], "attribution": upwards[name], "on it": masked.get(name)},
                 study.settings(), out)
    print(f"{study.data.title}: ids on a map, predicted class / all K  " + ",  ".join(
        f"{e} {row['predicted']:.1f} / {row['all K']:.1f}" for e, row in ids[name].items()))

# %% [markdown]
# ## Summary
#
# - A map among the predicted class's $K/C$ prototypes has few segments and can be read beside their training patches;
#   among all $K$ prototypes (eq. 9) it tends to have the more ids, the shallower the blocks and the more the classes.
# - Going upstream, attribution keeps its mean, hence the logit, and, above the last block, takes one value a segment. Its
#   outline gets finer and its contrast smaller: the shallower map says *where* more finely, and *how much* more evenly.
# - Whether attribution lies on the object can be measured where there are masks; chance is then neither zero nor the
#   area, for maps and objects share a liking for the middle.
#
# ## Exercises
#
# 1. Use `base="averaged"` in `upstream`. Which maps change, and does their mean?
# 2. Draw the attribution for the runner-up instead of the prediction. Subtract the two, each times its $\|c_j\|^2$:
#    what is the mean of the difference?
# 3. Fit `study.explainer(3, block_weight="none")` (eq. 8 without $1/D_b$). Does the map follow the colours of the
#    picture more or less than before, and how many ids has it among all $K$?
