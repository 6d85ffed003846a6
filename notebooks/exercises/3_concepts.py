# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 3: concepts inside the network (section 3.3, eq. 7 to 10)
#
# **Aim**: to build the concept map of a picture and its vote, step by step. **Before**: notebooks
# [00](../00_tour.ipynb) and [05](../05_figure1_interpretation.ipynb). **Time**: about an hour for four exercises.
#
# B4 is the last block alone, B34 the last two, B234 the last three. A row q is one cell: its channels in all these
# blocks, one after another.

# %%
import sys

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import interpolate, normalize, one_hot

from paperlib import figures
from paperlib.runs.parameters import NOTEBOOKS
from paperlib.runs.study import Study

sys.path.append(str(NOTEBOOKS / "exercises"))  # the checks lie there, wherever this notebook is run
import checks

# %%
study = Study.of_profile("quick", dataset="birds")  # drawn birds, and the network that ships with the project
net, test, names = study.trained, study.data.test, study.data.classes
picture = 100
features = net.features(test.batch([picture]))  # x^(1) to x^(4), each (1, D_b, H_b, W_b)
b4, b34, b234 = study.explainers()
print([tuple(x.shape) for x in features])

# %% [markdown]
# ## 3.1 Composite features
#
# **Aim**: to join what several blocks say of one place. **Difficulty**: middle, 15 minutes. **Runs in** under a second.
#
# Eq. 7 brings all blocks to the size of the *first* one given, by bilinear interpolation with corners not aligned.
# Eq. 8 then divides each cell's channels of a block by their norm, and by the number of channels D_b, and puts the
# blocks side by side. The paper does not say whose norm it is; here it is that of one cell. A cell may be all zero,
# since it comes out of a ReLU: it stays zero.
#
# <details><summary>Hint 1: eq. 7</summary>
#
# <code>interpolate(x, size=features[0].shape[2:], mode="bilinear")</code>; corners are not aligned unless you ask.
#
# </details>
# <details><summary>Hint 2: eq. 8</summary>
#
# Channels are dimension 1: <code>normalize(u, dim=1)</code> divides by the norm and leaves zeros as they are. Then
# divide by <code>u.shape[1]</code>.
#
# </details>
# <details><summary>Hint 3: the shape</summary>
#
# <code>torch.cat(parts, 1)</code> is (n, D, H', W'); <code>.movedim(1, -1)</code> brings the channels to the end.
#
# </details>
# <details><summary>Hint 4: the right result</summary>
#
# How far every cell's row is from that of the cell marked with a cross, for B4, B34 and B234. Dark is near.
#
# <img src="hints/3_1.png" width="520">
#
# </details>

# %%
def composite(features):
    """features: list of (n, D_b, H_b, W_b), shallowest first -> q (n, H', W', sum of D_b), eq. 7 and 8"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.composite(composite)

# %%
if passed:
    figure, axes = plt.subplots(1, 4, figsize=(7.5, 2.2), layout="constrained")
    figures.maps.show(axes[0], test.pixels(picture), names[test.labels[picture]])
    for axis, (title, first) in zip(axes[1:], {"B4": 3, "B34": 2, "B234": 1}.items(), strict=True):
        q = composite(features[first:])[0]
        row, column = int(0.3 * len(q)), int(0.62 * len(q))
        axis.imshow((q - q[row, column]).norm(dim=-1), cmap="viridis")
        axis.plot(column, row, "wx")
        axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# ## 3.2 What $1/D_b$ does
#
# **Aim**: to see which block decides what is near. **Difficulty**: easy, 10 minutes. **Runs in** under a second.
#
# After eq. 8 a block's part of a row has norm $1/D_b$. k-means compares squared distances, so a block weighs as the
# *square* of that. Compute each block's share of a row's squared norm for the factor $D_b^e$: the paper has
# $e=-1$, and $e=0$ gives all blocks the same norm.
#
# <details><summary>Hint 1</summary>
#
# The squared norm of a row is the sum of the squared norms of its parts: here $D_b^{2e}$ for block b.
#
# </details>
# <details><summary>Hint 2: by hand</summary>
#
# For 64, 128 and 256 channels and $e=-1$ the squares are as 16 to 4 to 1; their sum is 21.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Shares of the blocks of B234, by the formula, and of the squared distances between cells of one picture.
#
# <img src="hints/3_2.png" width="420">
#
# </details>

# %%
def block_shares(widths, exponent):
    """widths: the D_b, a list; factor D_b ** exponent -> (blocks,), each block's share of a row's squared norm"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.block_shares(block_shares)

# %%
if passed:
    widths = [x.shape[1] for x in features[1:]]
    bars = {f"e = {e}": block_shares(widths, e) for e in (-1, 0, 1)}
    parts = b234.compose(features)[0].flatten(0, 1).split(widths, -1)
    measured = torch.stack([(p[:, None] - p).square().sum() for p in parts])
    bars["measured, e = -1"] = measured / measured.sum()
    axis, left = plt.subplots(figsize=(5.5, 2.2), layout="constrained")[1], torch.zeros(len(bars))
    for b, D in enumerate(widths):
        share = torch.tensor([float(bar[b]) for bar in bars.values()])
        axis.barh(list(bars), share, left=left, label=f"block {b + 2}, {D} channels")
        left = left + share
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))

# %% [markdown]
# With the paper's factor the shallowest block decides most of what is near. Notebook
# [06](../beyond/06_choices.ipynb) shows what that costs.
#
# ## 3.3 Assignment
#
# **Aim**: to write eq. 9, which the paper prints as an argmin and calls a binary matrix. **Difficulty**: easy, 10
# minutes. **Runs in** under a second.
#
# Each row goes to its nearest prototype, by the l2 distance. Give the result as the binary matrix: one 1 in each row,
# zeros elsewhere. If two prototypes are equally near, the first takes the row.
#
# <details><summary>Hint 1</summary>
#
# <code>torch.cdist(q, P)</code> gives (n, R, K) for q (n, R, D) and P (K, D).
#
# </details>
# <details><summary>Hint 2</summary>
#
# <code>one_hot(k, len(P))</code> turns numbers (n, R) into a matrix (n, R, K).
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# The picture cut into the concepts of its class, with B34.
#
# <img src="hints/3_3.png" width="260">
#
# </details>

# %%
def assign_one_hot(q, P):
    """q (n, R, D), prototypes P (K, D) -> (n, R, K) of zeros and ones: a 1 at each row's nearest prototype"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.assign_one_hot(assign_one_hot)

# %%
if passed:
    c = net(test.batch([picture])).argmax()
    q = b34.compose(features).flatten(1, 2)                    # (1, R, D)
    s = assign_one_hot(q, b34.prototypes_[b34.prototype_labels_ == c])
    concept = s.argmax(-1).view(b34.resolution_)
    figures.concept_rows([test.pixels(picture)], {"B34": [concept]})

# %% [markdown]
# ## 3.4 The vote, and ties
#
# **Aim**: to turn a map into a prediction (eq. 10). **Difficulty**: middle, 15 minutes. **Runs in** under a second.
#
# Now all K prototypes compete. They are ordered by class: the first K/C belong to class 0, the next to class 1, and so
# on. y is the share of the rows that each class's prototypes hold. The class with the largest share is predicted. The
# paper does not say what happens if two have the same: give the tie to the class whose rows lie nearer to their
# prototypes, on average over its rows.
#
# <details><summary>Hint 1: the vote</summary>
#
# <code>s.sum(1)</code> counts the rows of each prototype, (n, K). Reshape it to (n, C, K/C) and add up the last
# dimension.
#
# </details>
# <details><summary>Hint 2: whose row is it?</summary>
#
# <code>s.argmax(-1) // per_class</code>, with <code>per_class = s.shape[-1] // y.shape[1]</code>, is the class of each
# row, (n, R).
#
# </details>
# <details><summary>Hint 3: the tie</summary>
#
# Make a matrix (n, C) of each class's mean distance, put infinity where a class does not have the largest y, and take
# argmin.
#
# </details>
# <details><summary>Hint 4: the right result</summary>
#
# Cells in the colour of the class they vote for, and the count, for B4 and B234.
#
# <img src="hints/3_4.png" width="480">
#
# </details>

# %%
def vote(s, n_classes):
    """s (n, R, K) of zeros and ones, prototypes ordered by class -> y (n, n_classes), shares of the rows"""
    raise NotImplementedError("Write this function.")

def decide(y, s, distance):
    """y (n, C) from vote, s (n, R, K), distance (n, R) of each row to its prototype -> (n,) the class"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.vote(vote) and checks.decide(decide)

# %%
if passed:
    classes = {}
    for explainer in (b4, b234):
        q = explainer.compose(features).flatten(1, 2)
        s = one_hot(torch.cdist(q, explainer.prototypes_).argmin(-1), len(explainer.prototypes_))
        y, distance = vote(s, len(names)), (q - explainer.prototypes_[s.argmax(-1)]).norm(dim=-1)
        print(explainer.name, "says", names[int(decide(y, s, distance))])
        classes[explainer.name] = explainer.prototype_labels_[s.argmax(-1)].view(explainer.resolution_)
    figures.votes(test.pixels(picture), classes, names, int(test.labels[picture]), names[test.labels[picture]])

# %% [markdown]
# **Next**: [exercises 4](4_attribution.ipynb), on which cells matter to the classifier.
