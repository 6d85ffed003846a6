# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 2: prototypes that look like the data (section 3.2)
#
# **Aim**: to build KMEx by hand, and to measure what Table 1 and Figure 2 show. **Before**: notebooks
# [02](../02_table1_cosines.ipynb) and [03](../03_figure2_umap.ipynb). **Time**: about an hour for five exercises.
#
# Z (n, D) are embeddings of n pictures, y (n,) their classes, P (K, D) prototypes.

# %%
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import normalize

from paperlib.kmex import KMEx
from paperlib.runs.parameters import NOTEBOOKS
from paperlib.runs.study import Study

sys.path.append(str(NOTEBOOKS / "exercises"))  # the checks lie there, wherever this notebook is run
import checks

# %%
study = Study.of_profile("quick", dataset="birds")  # drawn birds, and the network that ships with the project
Z, y = (torch.as_tensor(a) for a in study.embeddings("train"))
Z_test, y_test = (torch.as_tensor(a) for a in study.embeddings("test"))
C, names = study.trained.C, study.data.classes

# %% [markdown]
# ## 2.1 The cosines of Table 1 by hand
#
# **Aim**: to know what the two numbers of a cell of Table 1 are means of. **Difficulty**: easy, 10 minutes.
# **Runs in** under a second.
#
# P has one prototype per class, row c for class c. *Class* is the mean cosine of P[c] with the points of class c, *out*
# that with the points of all other classes, taken together; both are then averaged over the classes, each of which
# weighs the same.
#
# <details><summary>Hint 1</summary>
#
# The cosine of two vectors is the dot product of the two after each is divided by its norm. <code>normalize(Z,
# dim=1)</code> does that for all rows.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With both normalised, <code>Z @ P.T</code> is (n, classes): a cosine for each point and class. Column c, rows
# <code>y == c</code>, are those of class c with its own points.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Columns of the classifier, and the means of the classes.
#
# <img src="hints/2_1.png" width="420">
#
# </details>

# %%
def cosines(P, Z, y):
    """P (classes, D), Z (n, D), y (n,) numbers of classes from 0 -> (class, out), two numbers"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.cosines(cosines)

# %%
if passed:
    means = torch.stack([Z[y == c].mean(0) for c in range(len(names))])
    pairs = {"columns": cosines(C.T, Z, y), "class means": cosines(means, Z, y)}
    figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
    for place, pair in enumerate(pairs.values()):
        axis.bar([place - 0.2, place + 0.2], [float(x) for x in pair], 0.38, color=["C0", "C1"])
    axis.set(xticks=[0, 1], xticklabels=pairs, ylabel="cosine: class, out", ylim=(-0.2, 1.05))
    print({title: [round(float(x), 2) for x in pair] for title, pair in pairs.items()})

# %% [markdown]
# ## 2.2 The predictor of KMEx
#
# **Aim**: to replace the classifier by a comparison with prototypes. **Difficulty**: easy, 5 minutes. **Runs in** under
# a second.
#
# Each point gets the class of the prototype that is nearest to it, by the l2 distance. A class may have several
# prototypes, and they need not come in the order of the classes: `labels` says whose each is.
#
# <details><summary>Hint 1</summary>
#
# <code>torch.cdist(Z, P)</code> gives all l2 distances, (n, K).
#
# </details>
# <details><summary>Hint 2</summary>
#
# The number of the nearest prototype is not yet a class: <code>labels[number]</code> is.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Test pictures by their class (row) and by the class that KMEx gives them (column).
#
# <img src="hints/2_2.png" width="320">
#
# </details>

# %%
def predict(Z, P, labels):
    """Z (n, D), prototypes P (K, D), their classes labels (K,) -> (n,) the class of each point"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.predict(predict)

# %%
kmex = study.kmex()
if passed:
    said = torch.as_tensor(predict(Z_test, *map(torch.as_tensor, (kmex.prototypes_, kmex.prototype_labels_))))
    counts = torch.zeros(len(names), len(names)).index_put_((y_test, said), torch.tensor(1.0), accumulate=True)
    plt.subplots(figsize=(3.6, 3.4), layout="constrained")[1].imshow(counts, cmap="Blues")
    plt.xlabel("predicted class")
    plt.ylabel("class")
    print("correct:", float((said == y_test).double().mean()), "and by paperlib:", kmex.score(Z_test, y_test))

# %% [markdown]
# ## 2.3 Two similarities, one class
#
# **Aim**: to see that only the order of the similarities matters, and where floating point loses it. **Difficulty**:
# easy, 10 minutes. **Runs in** under a second.
#
# The paper's similarity is $e^{-d}$; KMEx's own code takes $\log\frac{d+1}{d+0.0001}$. Write both. Why do they give the
# same class? Then find two *different* distances at which $e^{-d}$ is equal in float32, while the logarithm still tells
# them apart.
#
# <details><summary>Hint 1: why the same class</summary>
#
# Both fall as d grows (take the derivative of the second). So the largest similarity is at the smallest distance.
#
# </details>
# <details><summary>Hint 2: the two distances</summary>
#
# The smallest positive number in float32 is about $10^{-45}$; what is smaller becomes 0. For which d is
# $e^{-d} < 10^{-45}$? Recall that $\ln 10$ is about 2.3.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Both similarities over the distance, on a logarithmic scale. The blue line ends where $e^{-d}$ becomes 0.
#
# <img src="hints/2_3.png" width="420">
#
# </details>

# %%
def exp_similarity(d):
    """Distances d, of any shape -> exp(-d)"""
    raise NotImplementedError("Write this function.")

def log_similarity(d):
    """Distances d, of any shape -> log((d + 1) / (d + 0.0001))"""
    raise NotImplementedError("Write this function.")

# %%
confused = ...  # two distances, as (1.0, 2.0)

# %%
passed = checks.similarities(exp_similarity, log_similarity) and checks.confused(confused)

# %%
if passed:
    d = torch.linspace(0, 150, 500)
    axis = plt.subplots(figsize=(5, 2.6), layout="constrained")[1]
    axis.semilogy(d, exp_similarity(d), label="exp(-d)")
    axis.semilogy(d, log_similarity(d), label="log((d+1)/(d+0.0001))")
    axis.set(xlabel="distance d", ylabel="similarity")
    axis.legend(fontsize=8)

# %% [markdown]
# ## 2.4 One prototype or five?
#
# **Aim**: to know what one prototype per class is, and when it is not enough. **Difficulty**: middle, 15 minutes.
# **Runs in** under a second.
#
# First write the means of the classes: with K/C = 1 KMEx finds nothing else. Then draw points of two classes on which
# K/C = 1 names less than 75 % of new points correctly and K/C = 5 more than 95 %. New points are those of another seed.
#
# <details><summary>Hint 1: why the mean</summary>
#
# k-means with one cluster looks for the p with the smallest $\sum_i \|z_i-p\|^2$. Set the derivative,
# $-2\sum_i (z_i-p)$, to zero.
#
# </details>
# <details><summary>Hint 2: the points</summary>
#
# Put class 0 in two clumps, left and right, and class 1 in one clump between them. Where is the mean of class 0?
#
# </details>
# <details><summary>Hint 3: in code</summary>
#
# <code>rng = np.random.default_rng(seed)</code> draws from the seed; <code>rng.normal(size=(2 * n, 2))</code> are
# points about zero. Add 10 to the first coordinate of some, and take 10 from that of others.
#
# </details>
# <details><summary>Hint 4: the right result</summary>
#
# Points of two classes, the prototypes for K/C = 1 (stars) and K/C = 5 (crosses). Both stars lie at one place.
#
# <img src="hints/2_4.png" width="420">
#
# </details>

# %%
def class_means(Z, y):
    """Z (n, D), y (n,) numbers of classes from 0 -> (classes, D), the mean of each class"""
    raise NotImplementedError("Write this function.")

def hard_for_one(n, seed):
    """n points of class 0 and n of class 1, drawn by the seed -> Z (2n, 2), y (2n,)"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.class_means(class_means) and checks.hard_for_one(hard_for_one)

# %%
if passed:
    points, classes = hard_for_one(100, 0)
    axis = plt.subplots(figsize=(5, 2.8), layout="constrained")[1]
    axis.scatter(*np.asarray(points).T, c=classes, cmap="coolwarm", s=6, alpha=0.6)
    for k, mark in ((1, "*"), (5, "x")):
        axis.scatter(*KMEx(k).fit(points, classes).prototypes_.T, marker=mark, s=90, c="black", label=f"K/C = {k}")
    axis.legend(fontsize=8)

# %% [markdown]
# The digits that ship show a milder case: the share of test pictures that KMEx names correctly.

# %%
digits = Study.of_profile("quick", dataset="digits")
{f"K/C = {k}": f"{digits.kmex(k).score(*digits.embeddings('test')):.1%}" for k in (1, 5)}

# %% [markdown]
# ## 2.5 Figure 2 without UMAP
#
# **Aim**: to measure what Figure 2 suggests, without a projection that moves points about. **Difficulty**: middle, 10
# minutes. **Runs in** about a second.
#
# UMAP keeps neighbourhoods, not distances. So measure in the space itself: how far is a prototype from the nearest
# point of its class, in units of the class's *spacing*? The spacing is the median, over the points, of the distance to
# the nearest *other* point.
#
# <details><summary>Hint 1</summary>
#
# <code>torch.cdist(Z, Z)</code> has a zero for each point with itself. Remove the diagonal before you take the minimum:
# <code>fill_diagonal_(torch.inf)</code>.
#
# </details>
# <details><summary>Hint 2</summary>
#
# <code>torch.median</code> of an even number of values gives the lower of the two in the middle;
# <code>torch.quantile(values, 0.5)</code> gives their mean, as numpy does.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Each dot is one prototype; the line is at 1, where a prototype lies as near as points lie to one another.
#
# <img src="hints/2_5.png" width="420">
#
# </details>

# %%
def nearness(p, Z):
    """p (D,), points Z (n, D) of one class -> distance of p to its nearest point, in units of their spacing"""
    raise NotImplementedError("Write this function.")

# %%
passed = checks.nearness(nearness)

# %%
if passed:
    P, labels = torch.as_tensor(kmex.prototypes_), torch.as_tensor(kmex.prototype_labels_)
    far = {"columns": [float(nearness(C[:, c], Z[y == c])) for c in range(len(names))],
           "KMEx": [float(nearness(p, Z[y == c])) for p, c in zip(P, labels, strict=True)]}
    axis = plt.subplots(figsize=(5, 2), layout="constrained")[1]
    for row, values in enumerate(far.values()):
        axis.scatter(values, np.full(len(values), row), s=12, alpha=0.5)
    axis.axvline(1, color="0.5", linestyle="--")
    axis.set(yticks=[0, 1], yticklabels=far, ylim=(-0.5, 1.5), xlabel="distance to the class, in spacings")

# %% [markdown]
# **Next**: [exercises 3](3_concepts.ipynb), on prototypes inside the network.
