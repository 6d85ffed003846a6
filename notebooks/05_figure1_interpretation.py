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
# of one *concept*; the nearest training patches show what a concept is; and an attribution map, made without gradients,
# shows how much each matters to the classifier. Shallower blocks make both maps finer.
#
# **Aim**: to draw and read the figure, explain a wrong prediction, change pictures and watch the explanations, and
# measure what the figure suggests. **You need** notebook 00. **Time**: half an hour to read, a minute to run.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
pictures: int = 3         # how many test pictures to explain
first: int = 0            # number of the test picture from which the correct ones are looked for

# %%
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate, normalize

from paperlib import figures
from paperlib.attribution import attribute, refine, upsample, upstream
from paperlib.comparison.scores import interval, part_match
from paperlib.concepts import assign, composite, concepts_per_map
from paperlib.datasets import birds
from paperlib.runs.claims import closing, opening
from paperlib.runs.study import open_studies
from paperlib.theorem1 import predicted_class

# %%
studies = open_studies(globals())
study = studies[-1]

# %%
opening("05")

# %% [markdown]
# ## The explainers
#
# An explainer takes the last blocks (B4 one, B34 two, B234 three), brings their outputs to one resolution (eq. 7), puts
# each cell's channels into a row of $D$ numbers (eq. 8), and runs k-means on the rows of one class at a time: $K/C$
# prototypes for each of $C$ classes, $K$ in all.

# %%
table = {(study.data.title, e.name): {
            "map, cells": "{} x {}".format(*e.resolution_), "D": e.prototypes_.shape[1], "K/C": e.prototypes_per_class,
            "K": len(e.prototypes_), "seconds to fit": e.seconds_} for study in studies for e in study.explainers()}
pd.DataFrame(table).T

# %% [markdown]
# A map of 1 x 1 cells has one concept. The figures below show the last data set.
#
# ## Which pictures
#
# Pictures that the network names correctly, and, last, the one about which it is most wrong, if it is wrong about any:
# the one whose *gap*, the predicted class's logit less the true one's, is largest.

# %%
Z, y = study.embeddings("test")
logits = study.trained.classify(torch.as_tensor(Z, device=study.trained.device)).cpu().numpy()
predicted, gap = logits.argmax(1), logits.max(1) - logits[np.arange(len(y)), y]

def choose(pictures, first):
    """Numbers of test pictures: correct ones, the first of classes far apart, then the one that is most wrong."""
    order, correct = np.roll(np.arange(len(y)), -first), {}
    for i in order[predicted[order] == y[order]].tolist():
        correct.setdefault(y[i], i)
    wrong = np.flatnonzero(predicted != y)
    wrong = wrong if pictures > 1 or not correct else wrong[:0]
    few = min(pictures - bool(len(wrong)), len(correct))
    found = [list(correct.values())[j] for j in np.linspace(0, len(correct) - 1, few).round().astype(int)]
    return found + wrong[np.argsort(-gap[wrong])[:1]].tolist()

# %%
if pictures < 1:
    raise ValueError(f"pictures is {pictures}; give 1 or more.")
chosen, names = choose(pictures, first), study.data.classes
titles = [f"test picture {i}:\n{names[y[i]]}" + f",\ntaken for {names[predicted[i]]}" * bool(predicted[i] != y[i])
          for i in chosen]
pd.DataFrame({"label": [names[y[i]] for i in chosen], "prediction": [names[predicted[i]] for i in chosen],
              "gap, in logits": [round(float(gap[i]), 2) for i in chosen]}, index=pd.Index(chosen, name="test picture"))

# %% [markdown]
# ## One picture, step by step
#
# **Features** (eq. 6): deeper blocks have fewer cells and more channels.

# %%
x, net, explainers = study.data.test.batch(chosen[:1]), study.trained, study.explainers()
features, C, c = [block.cpu() for block in net.features(x)], net.C.cpu(), int(net(x).argmax())
pd.DataFrame({name: {"channels": block.shape[1], "cells": f"{block.shape[2]} x {block.shape[3]}"}
              for name, block in zip(net.blocks, features, strict=True)})

# %% [markdown]
# **Composite rows.** The outputs $u^{(b)}$ at one resolution (eq. 7), each cell scaled to norm $1/D_b$, one after
# another:
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
# **Concept maps.** Each cell gets the prototype nearest to its row:
#
# $$s = \arg\min_k \|q_h - p_k\| \tag{9}$$
#
# The paper's formula takes all $K$ prototypes; its figure, with few and large segments, looks as if it took the $K/C$
# of the predicted class. We show both.

# %%
p, mine = deepest.prototypes_.double(), deepest.prototype_labels_ == c
rows = q.double().flatten(1, 2)                  # (1, cells, D), in double precision: no rounding decides
everyone = torch.cdist(rows, p).argmin(-1)       # eq. 9
of_class = torch.cdist(rows, p[mine]).argmin(-1)

assert torch.equal(everyone, assign(rows, p)) and torch.equal(of_class, assign(rows, p[mine]))
print(f"Concepts on the map of picture {chosen[0]}: {len(everyone.unique())} among all {len(p)} prototypes,\n"
      f"{len(of_class.unique())} among the {int(mine.sum())} of {names[c]}.")

# %% [markdown]
# **Attribution.** At the last block, a cell's score for class $j$ is
#
# $$\text{att}(h_r, c_j) = \frac{h_r \cdot c_j}{\|c_j\|^2}. \tag{11}$$
#
# On the way upstream the map is brought to the next resolution and averaged over each segment, so that a concept has
# one score.

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
# On top, the picture and the **votes**: the share of cells whose nearest prototype, among all $K$, is of each class
# (eq. 10); the predicted class is blue. Below, a band per explainer: B4 and B234, as in the paper, then B34. In a band:
#
# - the **concept map** among the $K/C$ prototypes of the predicted class;
# - the **attribution** (eq. 11 and its way upstream) less its own mean, on one scale for all three: red is higher than
#   the average cell, blue lower;
# - the **prototypes**: the training pictures that they come from. The box is drawn around the prototype's cell and is a
#   third of the picture wide, to show something of its surroundings: a cell of B234 is much smaller. Frame and number
#   are those on the map; the percentage is the concept's *share of the evidence*, its cells times their mean score over
#   the sum of the map. The largest comes first.

# %%
explained = [study.explain(i) for i in chosen]
for rank, (i, columns, title) in enumerate(zip(chosen, explained, titles, strict=True), 1):
    order = [columns[j] for j in (0, 2, 1) if j < len(columns)]
    figure = figures.figure1(study.data.test.pixels(i), order, title, names)
    numbers = {"picture": i, "label": names[y[i]], "predicted": names[predicted[i]], **{
        column["name"]: {key: column[key] for key in ("predicted", "everyone", "attribution", "shares")}
        for column in columns}}
    figures.keep(figure, "figure1" if rank == 1 else f"figure1_{rank}", numbers, study, out)

# %% [markdown]
# **The first bird.** At B4 the darkest red lies on the head and just as much on the water above and before it, for a
# cell of the last block sees much of the picture; at B34 on the head and close around it; B234's, paler, lies within
# the bird's own outline. B4's concepts are blocks on and around the bird, B34 cuts it into smaller ones, B234 follows
# its outline, the stone and the line between light and dark water. At B34 and B234 number 1, the largest share of the
# evidence, is mostly the water below: it has the most cells, and each counts for something, because zero on this scale
# means nothing (notebook 01). Cell by cell the bird counts more. All three vote for the prediction, B234 only just.
#
# **The second bird** gets more of every map's votes. The darkest red of B4 and B34 is where its tail ends and on the
# water behind, not on the black mask that a birder would look at; B234 reddens the bird and a rim of water around it.
#
# **The last bird** is the one that the network gets wrong, and all three vote for the wrong species with it. B4 and B34
# have the true one in second place; B234's votes are divided among so many that *others* is its longest bar. The
# darkest red of B4 and B34 runs across the bird's body and on to what is before its breast.
#
# ## The same in numbers
#
# The concept with the largest share of the evidence, its share of the cells, and its score against the mean of the map;
# for the drawn birds, also what it lies on.

# %%
def lies_on(where, i):
    """The part of the bird, or the background, under most pixels of a concept's cells (h, w), and its share."""
    mask = study.data.test.masks[i]
    under = upsample(where[None].float(), mask.shape, "nearest")[0] > 0
    counts = mask[under].long().bincount()
    part = "background" if counts.argmax() == 0 else birds.PARTS[int(counts.argmax())]
    return f"{part}, {counts.max() / counts.sum():.0%}"

# %%
def reading(column, i):
    """What one explainer says of picture i: its leading concept, and how its map among all K votes."""
    k, share = max(column["shares"].items(), key=lambda item: item[1])
    where, att = column["predicted"] == k, column["attribution"]
    votes = (column["everyone"].flatten() // len(column["patches"])).bincount(minlength=len(names)).double()
    votes /= votes.sum()
    row = {"largest share of the evidence": f"{share:.0%}", "its cells": f"{where.double().mean():.0%}",
           "its score / mean": f"{float(att[where].mean() / att.mean()):.2f}",
           "votes for the prediction": f"{votes[column['class']]:.0%}", "most votes": f"{votes.max():.0%}",
           "go to": names[int(votes.argmax())]}
    return {"lies on": lies_on(where, i), **row} if study.dataset == "birds" else row

readings = {(f"picture {i}", column["name"]): reading(column, i)
            for i, columns in zip(chosen, explained, strict=True) for column in columns}
pd.DataFrame(readings).T

# %% [markdown]
# A concept can lead because it is large or because it scores high; *its score / mean* tells which. B4's leading
# concepts score well above the mean; B234's are all background and lead by size, with a score below it. Where most
# votes go to another class than the prediction, an explainer would classify the picture otherwise: here none does.
#
# ## A wrong prediction, explained
#
# Why a wrong class won is told by the evidence for it less that for the true class: the mean of
# $h_r \cdot (c_\text{said} - c_\text{true})$ is the gap between the two logits.

# %%
i, said, true = chosen[-1], int(predicted[chosen[-1]]), int(y[chosen[-1]])
parts = birds.distinguishing_parts(said, true) if study.dataset == "birds" and said != true else ()
if said != true:
    h = net.features(study.data.test.batch([i]))[-1][0].cpu()
    lead = torch.einsum("dhw,d->hw", h, C[:, said] - C[:, true])
    title = f"for {names[said]} less\nfor {names[true]}"
    pixels, where = study.data.test.pixels(i), {part: birds.PARTS.index(part) for part in parts}
    figure = (figures.parts(pixels, study.data.test.masks[i], where, lead, title) if parts else
              figures.evidence([pixels], [lead], [title], "evidence, in logits"))
    figures.keep(figure, "figure1_wrong", {"picture": i, "gap": lead.mean(), "lead": lead, "parts": parts}, study, out)

# %% [markdown]
# Red cells speak for the species named, blue ones for the true one. The two differ in the tail alone: short and rufous
# on the true species, longer, notched and brown on the other. Here it is a small dab of red-brown beside a leaf, and
# the map does not point at it. One of its cells is red, too, but the darkest red is at the left edge and towards the
# lower right corner, where there is nothing but blurred green; the blue is on the head, above it and before it.
#
# What would the network have done? The bird can be drawn again: on each of the backgrounds, and with the parts above as
# the *other* species has them.

# %%
if parts:
    changes = {"as it is": {}, **{f"on {name}": {"background": b} for b, name in enumerate(birds.BACKGROUNDS)},
               f"marked as {names[said]}": {"like": said}}
    drawn = torch.stack([study.data.test.redrawn(i, **change) for change in changes.values()])
    logits = net(drawn).cpu()
    again = {name: names[int(row.argmax())] for name, row in zip(changes, logits, strict=True)}
    gaps = {name: float(row[said] - row[true]) for name, row in zip(changes, logits, strict=True)}
    figures.keep(None, "figure1_wrong_redrawn", {**again, "gaps, in logits": gaps}, study, out)
columns = {f"picture {i}, {names[true]}, is called": again, "gap, in logits": gaps} if parts else {}
pd.DataFrame(columns).round(2) if parts else None

# %% [markdown]
# On water the same bird is named correctly by nearly a logit, on sky by a little; on grass the gap is halved and the
# name stays wrong. The green behind the bird tipped the balance, as the map said: another background moves the gap by
# up to four and a half logits, the other species' tail (last row) by less than one.
#
# ## Take the mark away
#
# Now a picture that the network gets right, with two changes whose right answer is known. *Marked as the runner-up*:
# with the parts that tell the two species apart drawn as on the runner-up, the bird *is* one. *Another background*: it
# is what it was.

# %%
def changed(i, rival):
    """name -> picture i (3, H, W) uint8 as it is, marked as the species `rival`, and on the next background"""
    test = study.data.test
    other = (int(test.backgrounds[i]) + 1) % len(birds.BACKGROUNDS)
    return {"as it is": test.pixels(i), "marked as the runner-up": test.redrawn_pixels(i, like=rival),
            "another background": test.redrawn_pixels(i, background=other)}

def maps_for(pixels, c):
    """name -> attribution maps (n, h, w) of pictures (n, 3, H, W) uint8 for the classes c (n,); and their logits"""
    features = net.features(study.data.test.normalise(pixels))
    logits = net.classify(features[-1].mean((2, 3)))
    return upstream(features, net.C, explainers, c), logits

# %%
if study.dataset == "birds":
    i, c = chosen[0], int(predicted[chosen[0]])
    logits = net(study.data.test.batch([i]))[0]
    rival = int(logits.argsort(descending=True)[1])
    pixels = changed(i, rival)
    maps, logits = maps_for(torch.stack(list(pixels.values())), torch.full((len(pixels),), c))
    titles = [f"{name}:\n{names[int(row.argmax())]}" for name, row in zip(pixels, logits, strict=True)]
    figure = figures.about_mean(list(pixels.values()), {name: list(att) for name, att in maps.items()}, titles)
    figures.keep(figure, "figure1_redrawn", {"picture": i, "rival": names[rival], "logits": logits[:, [c, rival]]},
                 study, out)

# %% [markdown]
# A row per picture, all maps on one scale and for the first prediction; above each stands what the network calls the
# bird. With the runner-up's marks the red pales in all three maps. On another background B4's and B34's darkest red
# stays at the head and gets darker; B234's segments are others, and its darkest red moves from all over the bird
# mostly to throat and breast.
#
# From here on each number is a mean over up to a hundred test pictures.

# %%
def look(study, most=100):
    """features, predicted classes and numbers of up to `most` test pictures"""
    test = study.data.test
    looked = np.linspace(0, len(test) - 1, min(most, len(test))).round().astype(int)
    features = study.trained.features(test.batch(looked))
    return features, predicted_class(study.trained, features), looked

seen = {study.dataset: look(study) for study in studies}

# %% [markdown]
# Each change is made to all that the network gets right. *Still so called*: the share that keeps its prediction.
# *Area*: the share of the picture drawn anew. *Change on it*: the share of a map's change, in absolute value, that lies
# there; a change spread evenly would have the area's.
#
# **Predict, then run**: what makes the network change its mind, and does a map change there alone? (a) The marks, and
# there; (b) the marks, but nearly everywhere; (c) the background.
#
# <details><summary>Answer</summary>
#
# (b): read the first column, then hold *change on it* against *area*. A cell of the last block sees most of the
# picture, so a small mark changes cells far from it.
#
# </details>

# %%
def consequences(c, looked):
    """change -> what it does to predictions and maps of the pictures `looked`, whose predicted classes are c (n,)"""
    before, logits = maps_for(torch.stack([study.data.test.pixels(int(i)) for i in looked]), c)
    rivals = logits.argsort(1, descending=True)[:, 1].tolist()
    drawn, found = [changed(int(i), rival) for i, rival in zip(looked, rivals, strict=True)], {}
    for name in ("marked as the runner-up", "another background"):
        pixels = torch.stack([each[name] for each in drawn])
        anew = (pixels != torch.stack([each["as it is"] for each in drawn])).any(1).double()
        after, logits = maps_for(pixels, c)
        found[name] = {"still so called": float((logits.argmax(1) == c.to(logits.device)).double().mean()),
                       "area": float(anew.mean())}
        for e in after:
            moved = upsample((after[e] - before[e]).abs().double().cpu(), anew.shape[1:], "nearest")
            found[name][f"change on it, {e}"] = float(((moved * anew).sum((1, 2)) / moved.sum((1, 2))).nanmean())
    return found

# %%
_, c, looked = seen[study.dataset]
right = c.cpu() == study.data.test.labels[looked]
effects = consequences(c.cpu()[right], looked[right.numpy()]) if study.dataset == "birds" else {}
if effects:
    figures.keep(None, "figure1_effects", effects, study, out)
pd.DataFrame(effects).T.map("{:.0%}".format) if effects else None

# %% [markdown]
# Hardly any bird keeps its name when its marks change; nearly all do on another background. A map shows but poorly
# where the change was: the marks get more than an even share of it, but less than twice that; a new background about an
# even one.
#
# ## The baseline's prototypes
#
# ProtoPNet's training pushes each prototype onto the nearest patch of its own class. Here are those of the class
# predicted for the first picture, with the number of the training picture and the weight for the class.

# %%
baseline, mine = study.protopnet, int(predicted[chosen[0]])
found = study.protopnet_patches(mine)
captions = [f"{source}, {baseline.last_layer.weight[mine, k]:+.2f}" for k, _, _, source in found]
figure = figures.sheet([picture for _, picture, *_ in found], captions, columns=5, side=1.9,
                       boxes=[box for *_, box, _ in found])
numbers = {"class": names[mine], "captions": captions,
           "distinct patches": study.protopnet_manifest["training"]["distinct_patches"]}
path = figures.keep(figure, "figure1_protopnet", numbers, study, out)

# %% [markdown]
# These are all different; some show the head or the breast, others little but background. In other classes a patch can
# be the prototype of several (notebook 04 counts them).
#
# ## Do concepts fit the parts?
#
# For each part of a drawn bird, take the concept that overlaps it best (intersection over union, IoU), and average over
# the parts. *Swapped*: each picture gets another's map. *Ceiling*: the best for cells of this size, a map in which each
# has the part under most of its pixels.

# %%
def oracle(mask, size):
    """The map (h, w) that gives each cell the commonest value of a mask (H, W)."""
    h, w = size
    cells = mask.reshape(h, mask.shape[0] // h, w, mask.shape[1] // w).transpose(1, 2).reshape(h * w, -1)
    return cells.long().mode(1).values.view(h, w)

# %%
def part_overlap(study):
    """name of the explainer -> mean best IoU of a picture's parts (3, n): with its map, a swapped one, the best one"""
    features, c, looked = seen[study.dataset]
    masks, found = study.data.test.masks[looked][:, ::2, ::2], {}  # every other pixel will do
    for e in study.explainers():
        maps = e.maps_from_features(features, c).cpu()
        kinds = maps, maps.roll(len(maps) // 2, 0), [oracle(mask, e.resolution_) for mask in masks]
        found[e.name] = np.array([[part_match(s, mask)["IoU"] for s, mask in zip(kind, masks, strict=True)]
                                  for kind in kinds])
    return found

# %%
def summarised(found):
    """The means of `part_overlap`, with 95 % intervals over pictures; also of the differences to the last explainer."""
    columns = "IoU", "low", "high", "ceiling", "swapped", "less swapped", "low of it", "high of it"
    rows = {name: dict(zip(columns, (own.mean(), *interval(own), best.mean(), other.mean(), (own - other).mean(),
                                     *interval(own - other)), strict=True))
            for name, (own, other, best) in found.items()}
    *others, last = found
    more = {name: found[name][0] - found[last][0] for name in others}
    return rows | {f"{name} less {last}": dict(zip(("IoU", "low", "high"), (d.mean(), *interval(d)), strict=True))
                   for name, d in more.items()}

# %%
overlaps = {study.dataset: summarised(part_overlap(study)) for study in studies if study.data.test.masks is not None}
rows = {(study.data.title, name): row for study in studies for name, row in overlaps.get(study.dataset, {}).items()}
pd.DataFrame(rows).T.round(4).astype(object).fillna("") if rows else None

# %% [markdown]
# *Low* and *high* are the ends of 95 % intervals over pictures, *low of it* and *high of it* those of *less swapped*,
# the difference of IoU and *swapped*. All three exceed *swapped*, with intervals above zero, B4's by a hair; none comes
# near the *ceiling*. B34's overlap is the largest, a little larger than B234's; B234's exceeds that of another
# picture's map by most: large segments overlap something anywhere. The last rows are differences, picture by picture;
# the interval of B34 less B234 lies above zero.
#
# ## How many concepts are on a map?

# %%
def concepts_on_maps(study):
    """name of the explainer -> mean number of different concepts on a map, among both kinds of prototypes"""
    features, c, _ = seen[study.dataset]
    kinds = {"predicted": c, "all K": None}
    return {e.name: {kind: float(concepts_per_map(e.maps_from_features(features, classes)).double().mean())
                     for kind, classes in kinds.items()} for e in study.explainers()}

counts = {study.dataset: concepts_on_maps(study) for study in studies}
rows = {(study.data.title, name): row for study in studies for name, row in counts[study.dataset].items()}
pd.DataFrame(rows).T.map("{:.1f}".format)

# %% [markdown]
# Read down *all K*: the number of concepts grows with the depths added, since each class brings its own prototype for a
# piece of sky. Nobody reads such a map. Among the predicted class's prototypes it cannot exceed $K/C$, so the figure
# shows those.
#
# ## What happens to the attribution upstream?
#
# Each step averages over segments, so from the second depth on a map has no more values than segments. Its mean times
# $\|c_j\|^2$ (plus the bias, if there is one) is the logit $y_j$.
#
# **Predict, then run**: from B4 to B234, (a) the mean falls, (b) the mean stays and the contrast grows, (c) the mean
# stays and the contrast shrinks.
#
# <details><summary>Answer</summary>
#
# (c): *mean changes by* is rounding; read *deviation / mean* downwards. An average can only flatten.
#
# </details>

# %%
def values(att):
    """Mean number of different values on a map, to five digits: beyond them is rounding."""
    return float(np.mean([len((one / one.abs().max()).round(decimals=5).unique()) for one in att]))

def on_the_way(study):
    """name of the explainer -> what its attribution maps have kept and lost"""
    (features, c, _), net = seen[study.dataset], study.trained
    maps, all_k = (upstream(features, net.C, study.explainers(), c, segments=s) for s in ("predicted", "all"))
    base = next(iter(maps.values())).mean((1, 2))
    return {name: {"mean changes by": float((att.mean((1, 2)) / base - 1).abs().max()),
                   "deviation / mean": float((att.flatten(1).std(1, False) / base.abs()).mean()),
                   "values, among predicted": values(att), "values, among all K": values(all_k[name])}
            for name, att in maps.items()}

# %%
upwards = {study.dataset: on_the_way(study) for study in studies}
rows = {(study.data.title, name): row for study in studies for name, row in upwards[study.dataset].items()}
pd.DataFrame(rows).T.map("{:.2g}".format)

# %% [markdown]
# The mean is kept, and with it the logit: each depth spreads the same sum differently. *Deviation / mean* is a map's
# contrast: the finer the outline, the smaller. (Where the last block has a single cell it is zero up to rounding, and
# no depth can say where.)
#
# ## Is the attribution on the object?
#
# *On it* is the share of what lies above a map's mean, the red of the figures, that falls on the object. Hold it
# against *area*, the object's share of the picture, which a map without contrast would reach, and *swapped*, the share
# with another picture's map: objects tend to be in the middle, and so does any network's red. Only what exceeds
# *swapped* comes from this picture: that is *excess*, and *error* its standard error.

# %%
def share(att, mask):
    """Share of what lies above each map's mean that falls on the mask (n, H, W); not a number for a flat map."""
    above = upsample((att - att.mean((1, 2), keepdim=True)).double().cpu(), mask.shape[-2:], "nearest").clamp_min(0)
    return (above * mask).sum((1, 2)) / above.sum((1, 2))

def on_object(study):
    """name of the explainer -> share of the red on the object, beside area and swapped maps"""
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
# All three maps exceed *swapped* by many errors, B234's by most. Yet more than half of the red lies beside the bird,
# and most of what lies on it another picture's map would have put there, too. It is a first look: notebook 07 compares
# methods.
#
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    name = study.dataset
    kept = {"concepts": counts[name], "attribution": upwards[name], "on it": masked.get(name),
            "parts": overlaps.get(name)}
    figures.keep(None, "figure1_readings", kept, study, out)
    print(f"{study.data.title}: concepts on a map, predicted class / all K\n  " + ",  ".join(
        f"{e} {row['predicted']:.1f} / {row['all K']:.1f}" for e, row in counts[name].items()))

# %% [markdown]
# ## What became of the claims

# %%
closing("05", out, studies)

# %% [markdown]
# **Next**: [06](beyond/06_choices.ipynb), which choices matter; or
# [10](beyond/10_shortcut.ipynb), a network caught cheating.
