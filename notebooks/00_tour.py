# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour: one picture, from prediction to explanation
#
# A convolutional network looks at a picture and names it. Why that name?
#
# **The paper claims** that the trained network holds much of the answer, without gradients: its classifier already
# compares with *prototypes* (section 3.1), centroids of the data are better prototypes (section 3.2), and centroids
# inside the network cut a picture into *concepts* (section 3.3).
#
# **Aim**: to see all of it on one picture. **You need** Python, and to know what a CNN is. **Time**: fifteen minutes to
# read, seconds to run (more the first time, while k-means runs).

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
picture: int = 0          # number of the test picture

# %%
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from torch.nn.functional import interpolate, normalize

from paperlib import figures
from paperlib.attribution import attribute, upsample
from paperlib.concepts import assign, composite
from paperlib.datasets import birds
from paperlib.datasets.load import DRAWN
from paperlib.runs.claims import closing, opening
from paperlib.runs.study import open_studies
from paperlib.theorem1 import evidence

# %%
study = open_studies(globals())[-1]

# %%
opening("00")

# %% [markdown]
# ## The data
#
# Unless you name another data set, these are birds of invented species, drawn by this project in place of the paper's
# photographs (CUB-200), which are not ours to give away. A drawing also knows what no photograph tells: where each part
# is, which parts set two species apart, and what the scene would be with another part.
#
# One training picture from each of fourteen classes:

# %%
train, test, names = study.data.train, study.data.test, study.data.classes
some = np.unique(np.linspace(0, len(names) - 1, 14).round().astype(int))
first = [int((train.labels == c).nonzero()[0]) for c in some]
figure = figures.sheet([train.pixels(i) for i in first], [names[c] for c in some])

# %% [markdown]
# Size, pose, place, light and background do not depend on the species. Some species differ in a cap or a few streaks
# alone.

# %%
print(f"{study.data.title}: {len(names)} classes, {len(train)} training and {len(test)} test pictures, "
      f"{study.data.size} px.\nThe network ({study.network}) is right on "
      f"{study.accuracy():.1%} of the test pictures.")

# %% [markdown]
# ## The prediction
#
# The network turns the picture $x$ into a feature map $h$, the map into its mean $z$, and $z$ into a number per class,
# the logits $y$ (eq. 1). The largest wins.

# %%
if not 0 <= picture < len(test):
    raise ValueError(f"picture is {picture}; {study.data.title} has test pictures 0 to {len(test) - 1}.")
net, x, label = study.trained, test.batch([picture]), names[test.labels[picture]]
y = net(x)[0].cpu()
order = y.argsort(descending=True)[:5].tolist()
c, other = order[:2]
best = [names[j] for j in order]
figure = figures.prediction(test.pixels(picture), f"test picture {picture}: {label}", best, y[order])
path = figures.keep(figure, "tour_prediction", {"logits": y}, study, out)

# %%
print(f"The network says {names[c]}; the picture shows: {label}.\n"
      f"The runner-up, {names[other]}, is {y[c] - y[other]:.2f} behind.")

# %% [markdown]
# ## The logit is a mean
#
# Average the map, then compare it with the classifier's column $c_j$; or compare each of its $R$ cells $h_r$, then
# average. The logit is the same (Theorem 1):
#
# $$y_j = \Big(\frac1R\sum_{r=1}^R h_r\Big)\cdot c_j \;=\; \frac1R\sum_{r=1}^R \big(h_r\cdot c_j\big). \tag{4}$$
#
# So each cell has its own evidence $h_r \cdot c_j$ for each class.

# %%
features, C = [block.cpu() for block in net.features(x)], net.C.cpu()
bias = torch.zeros(len(names)) if net.bias is None else net.bias.cpu()
h = features[-1].flatten(2).transpose(1, 2)  # (1, R, D): a row per cell

E = h @ C + bias                             # (1, R, classes): the evidence of each cell for each class
assert torch.allclose(E.mean(1)[0], y, rtol=1e-4, atol=1e-4)
assert torch.allclose(E, evidence(h, C, bias))

# %% [markdown]
# Red cells speak for the class more than the average cell, blue ones less. (Zero itself is arbitrary: notebook 01.)
#
# **Predict, then run**: the runner-up is another sparrow. Is its map (a) blue where the winner's is red, (b) red in
# other places, or (c) nearly the same?
#
# <details><summary>Answer</summary>
#
# (c): look where each map is darkest. Evidence for the winner does not yet say why it won; the end of the tour does.
#
# </details>

# %%
maps = E[0].T.reshape(len(names), *features[-1].shape[2:])
figure = figures.beside(test.pixels(picture), {f"for {names[j]}": maps[j] for j in (c, other)},
                        "evidence less its mean, in logits", centred=True)
path = figures.keep(figure, "tour_evidence", {"evidence": maps[[c, other]]}, study, out)

# %%
pd.DataFrame({names[j]: {"cells": maps[j].numel(), "mean of the cells' evidence": f"{maps[j].mean():.4f}",
                         "the network's logit": f"{y[j]:.4f}"} for j in (c, other)})

# %% [markdown]
# The last two rows agree. Both maps are highest at the bird's face, and nearly as high in the water from there to the
# corner.
#
# ## Prototypes that look like the data
#
# A column $c_j$ need not resemble any picture (Table 1). KMEx (section 3.2) clusters each class's embeddings $z$ with
# k-means, keeps the $K/C$ centroids as prototypes ($K$ for $C$ classes), and predicts the class of the nearest. Each is
# shown by the training picture nearest to it, with its distance from our picture:

# %%
kmex, (Z, labels) = study.kmex(), study.embeddings("train")
distance = euclidean_distances(h.mean(1).numpy(), kmex.prototypes_)[0]
nearest = int(distance.argmin())
mine = np.flatnonzero(kmex.prototype_labels_ == kmex.prototype_labels_[nearest])
pictures = pairwise_distances_argmin(kmex.prototypes_[mine], Z)
shown = [test.pixels(picture)] + [train.pixels(int(i)) for i in pictures]
captions = ["this picture"] + [f"prototype {n}\nat {distance[k]:.2f}" for n, k in enumerate(mine, 1)]
frames = [None] + [figures.PALETTE[0] if k == nearest else None for k in mine]
figure = figures.sheet(shown, captions, columns=6, colours=frames)
path = figures.keep(figure, "tour_prototypes", {"distances": distance}, study, out)

# %%
said = kmex.prototype_labels_[nearest]
second = min(np.flatnonzero(kmex.prototype_labels_ != said), key=lambda k: distance[k])
print(f"KMEx says {names[said]}: of {len(distance)} prototypes, its number {list(mine).index(nearest) + 1} (framed) "
      f"is nearest, at {distance[nearest]:.2f}.\nThe nearest of another class, "
      f"{names[kmex.prototype_labels_[second]]}, is at {distance[second]:.2f}.\nThe network says {names[c]}.")

# %% [markdown]
# The framed picture shows a stone in water, too; so do the two farthest. The three farthest have the largest birds: an
# embedding keeps more than the class.
#
# ## Concepts inside the picture
#
# Now cluster not the map's mean but its cells, at several depths. B234 takes the outputs $u^{(b)}$ of blocks 2, 3 and 4
# at one resolution (eq. 7) and puts each cell's channels side by side, each block's scaled to norm $1/D_b$ with $D_b$
# its number of channels. k-means gives prototypes $p_k$ for each class; a cell's concept is the nearest of them. Its
# attribution is what it contributes to class $j$:
#
# $$q = \Big[\frac{u^{(b)}}{D_b\,\|u^{(b)}\|}\Big]_b \;(8) \qquad
# s = \arg\min_k \|q - p_k\| \;(9) \qquad
# \text{att}(h_r, c_j) = \frac{h_r\cdot c_j}{\|c_j\|^2} \;(11)$$
#
# The same three in torch, for the prototypes of the predicted class:

# %%
explainer = study.explainers()[-1]                                # B234
blocks = [features[b - 1] for b in explainer.blocks]
p = explainer.prototypes_[explainer.prototype_labels_ == c].double()

u = [interpolate(block, size=blocks[0].shape[2:], mode="bilinear") for block in blocks]       # eq. 7
q = torch.cat([normalize(block, dim=1) / block.shape[1] for block in u], 1).movedim(1, -1)    # eq. 8
s = (q.double()[..., None, :] - p).norm(dim=-1).argmin(-1)                                    # eq. 9
att = h @ C / C.square().sum(0)                                                               # eq. 11

assert torch.allclose(q, composite(blocks))
assert torch.equal(s, assign(q.double(), p))
assert torch.allclose(att, attribute(h, C))

# %% [markdown]
# On its way to B234's finer cells, the attribution is averaged over each concept (notebook 05). Its colours are about
# the mean. On the right are the training pictures that the prototypes come from, the patch in the box, with the
# concept's share of the evidence: its cells times their score.
#
# Not every patch looks like its segment: a cell takes the least bad of $K/C$ prototypes, and here a patch of sky stands
# for water.

# %%
column = study.explain(picture)[-1]
figure = figures.concepts(test.pixels(picture), column, names[c])
numbers = {key: column[key] for key in ("predicted", "everyone", "attribution")}
path = figures.keep(figure, "tour_concepts", numbers, study, out)

# %%
on_map = {n: column["predicted"] == k for n, (k, *_) in enumerate(column["patches"], 1)}
scores = {n: float(column["attribution"][where].mean()) for n, where in on_map.items() if where.any()}
most, least = max(scores, key=scores.get), min(scores, key=scores.get)
print(f"Concepts of {names[c]} on the map of {column['name']}: {len(scores)} of {len(on_map)}.\n"
      f"Highest attribution per cell: {scores[most]:+.3g}, of concept {most}; lowest: {scores[least]:+.3g}, "
      f"of concept {least}.")

# %% [markdown]
# Crown and back are one segment, eye and bill another, throat and breast a third; these are the reddest in the
# attribution. The two large pieces of water have the largest shares of the evidence by size, not by score: only one
# cell, in a corner, scores lower than both.
#
# ## What tipped the balance?
#
# What sets the prediction apart from the runner-up is the difference of their two maps: its mean is the gap between the
# logits, and its zero is not arbitrary. For drawn birds we also know what *ought* to tip the balance: the parts in
# which the two species differ. (A "plain" part has no mark of its own: a plain eye has the face's colour. Below the
# parts are outlined, a mark that the bird lacks where it would be.)

# %%
parts, table = (), None
if study.dataset in DRAWN:
    parts = birds.distinguishing_parts(c, other)
    table = birds.table().set_index("name").loc[[names[c], names[other]], list(parts)].T
table

# %%
lead, title, pixels = maps[c] - maps[other], f"for {names[c]} less for {names[other]}", test.pixels(picture)
where = {part: birds.PARTS.index(part) for part in parts}
figure = (figures.parts(pixels, test.masks[picture], where, lead, title) if parts else
          figures.evidence([pixels], [lead], [title], "evidence, in logits"))
path = figures.keep(figure, "tour_difference", {"parts": parts, "lead": lead}, study, out)

# %%
shares = {"of the picture, one cell of the map": 1 / lead.numel()}
if parts:
    there = torch.isin(test.masks[picture].long(), torch.tensor(list(where.values())))
    ahead = upsample(lead[None], there.shape, "nearest")[0].clamp_min(0)
    shares |= {"of the picture, the parts that differ": float(there.double().mean()),
               "of the winner's lead, on these parts": float((ahead * there).sum() / ahead.sum())}
pd.Series(shares, name="share").map("{:.1%}".format).to_frame()

# %% [markdown]
# The lead is largest at head and breast, and nearly as large in the water above and in front of them. The parts that
# differ have a larger share of it than of the picture; yet nearly all lies beside them: one cell is larger than both
# parts.
#
# ## Put to the test
#
# Here is the same scene, drawn again with the runner-up's look in the parts that differ, and nowhere else.
#
# **Predict, then run**: with these parts changed, does the lead (a) stay about the same, (b) shrink a little, or (c)
# change its sign?
#
# <details><summary>Answer</summary>
#
# (c): look at the sign in the second row. A cell of the last block sees more of the picture than its square, so a part
# counts in cells far from it.
#
# </details>

# %%
gaps = {"as it is": float(lead.mean())}
if parts:
    changed = test.redrawn(picture, like=other, parts=parts)[None]
    E_changed = net.features(changed)[-1].flatten(2).transpose(1, 2).cpu() @ C + bias
    lead_changed = (E_changed[0, :, c] - E_changed[0, :, other]).reshape(lead.shape)
    gaps["with the runner-up's parts"] = float(lead_changed.mean())
    both = [pixels, test.redrawn_pixels(picture, like=other, parts=parts)]
    figure = figures.evidence(both, [lead, lead_changed], list(gaps), f"{names[c]} less\n{names[other]}, logits")
    path = figures.keep(figure, "tour_changed", {"parts": parts, "gaps": list(gaps.values())}, study, out)
pd.Series(gaps, name="the network's logits: lead of the winner").round(2).to_frame()

# %% [markdown]
# The red around the breast has turned blue, most of the red elsewhere has faded, and the runner-up is ahead: these
# parts decide, although the map puts most of the lead beside them.
#
# One picture proves nothing. The notebooks measure:
#
# | notebook | in the paper | what it asks |
# |---|---|---|
# | 00, this tour | sections 3.1 to 3.3 | what does it look like? |
# | [01](01_theorem1.ipynb) | Theorem 1, eq. 1 to 5 | is the logit the mean of the cells' evidence? |
# | [02](02_table1_cosines.ipynb) | Table 1 | do columns and centroids lie where the data lie? |
# | [03](03_figure2_umap.ipynb) | Figure 2 | can one see it, for the species that look most alike? |
# | [04](04_table2_accuracies.ipynb) | Table 2, eq. 6 to 10 | what do explanations by prototypes cost in accuracy? |
# | [05](05_figure1_interpretation.ipynb) | Figure 1, eq. 6 to 11 | which concepts are where, and which matter most? |
# | [06](beyond/06_choices.ipynb) | section 6 | which choices change the numbers and the maps beyond noise? |
# | [07](beyond/07_attribution.ipynb) | eq. 11, measured | do the maps point at what matters, and what do they cost? |
# | [08](beyond/08_softcam.ipynb) | a related system, Soft-CAM | is a classifier before the pooling an explanation? |
# | [09](beyond/09_saliency.ipynb) | a related system, saliency | what does the gradient of a class score show? |
# | [10](beyond/10_shortcut.ipynb) | all of it, put to use | what shows that a network looks at the background? |
# | [11](beyond/11_scaling.ipynb) | section 6 | what does a fit cost, and do fewer pictures or more workers help? |

# %% tags=["headline"]
numbers = {"picture": picture, "label": label, "predicted": names[c], "logit": y[c], "mean evidence": maps[c].mean(),
           "kmex": names[said], "centroid of the predicted class": min(distance[kmex.prototype_labels_ == c]),
           "centroid of another class": min(distance[kmex.prototype_labels_ != c]), "concepts": len(scores),
           "attribution": scores}
figures.keep(None, "tour", numbers, study, out)
print(f"{study.data.title}: picture {picture} ({label}) taken for {names[c]};\n"
      f"logit {y[c]:.2f} = mean evidence {maps[c].mean():.2f} (cells: {maps[c].numel()}); concepts: {len(scores)}")

# %% [markdown]
# ## What became of the claims

# %%
closing("00", out, [study])

# %% [markdown]
# **Next**: [01](01_theorem1.ipynb), the theorem, and where it fails.
