# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Table 1: do the prototypes lie where the data lie?
#
# **The paper claims** (section 4, Table 1): seen as prototypes, the columns $c_j$ of a CNN's classifier are poorly
# aligned with the data. Their average cosine with the embeddings of their own class is only 0.46 to 0.51. Centroids of
# class-wise k-means (KMEx, section 3.2) reach 0.79 to 0.93. ProtoPNet, a network trained together with its prototypes,
# reaches 0.95 to 1.00, but with the other classes 0.92 to 1.00 as well.
#
# This notebook measures these cosines, shows where the difference comes from, and asks what "average" means when a
# class has several prototypes.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run

# %%
import numpy as np
import pandas as pd

from paperlib import figures
from paperlib.measures import TABLE1, over_runs, per_class_cosines, prototype_cosines
from paperlib.runs.study import n_runs, open_studies

studies, runs = open_studies(globals()), n_runs(globals())

# %% [markdown]
# ## The networks
#
# Each data set has `runs` of them (a setting of the profile), trained from different seeds. The embeddings are
# $z = \text{avg.pool}(h)$ of eq. 1: one vector $z \in \mathbb{R}^D$ per picture.

# %%
for study in studies:
    Z, y = study.embeddings("train")
    hits = ", ".join(f"{run.manifest['accuracy']['test']:.3f}" for run in study.runs(runs))
    print(f"{study.data.title}: {study.settings()['backbone']}, Z is {Z.shape[0]} x {Z.shape[1]}, "
          f"C has {study.trained.C.shape[1]} columns\n  test accuracy of each run: {hits}")

# %% [markdown]
# ## Sets of prototypes
#
# - **CNN**: $p_j = c_j$, one per class.
# - **KMEx (K/C = 1)**: the centroid of each class, that is, its mean embedding.
# - **KMEx (K/C > 1)**: the centroids of a k-means on each class; there are $K$ prototypes for $C$ classes.
# - **ProtoPNet**: patches of training pictures, found by its training. They live in a space of their own, of 128
#   numbers between 0 and 1; a picture's embedding there is the mean of its patches (the paper does not say what it
#   compares).
#
# Everything here is fitted on the training pictures. KMEx's official code fits MNIST's centroids on the *test* split
# and matches centroids to labels (Hungarian matching) before it counts correct answers. We do neither; the published
# MNIST rows may rest on it.

# %%
def prototypes_of(study):
    """name -> (prototypes (K, D), their classes (K,)) in the space of the embeddings z"""
    C = study.trained.C.T.cpu().numpy()
    found = {"CNN": (C, np.arange(len(C)))}
    for k in study.few_and_many():
        kmex = study.kmex(k)
        found[f"KMEx (K/C={k})"] = kmex.prototypes_, kmex.prototype_labels_
    return found

# %% [markdown]
# ## Table 1
#
# For each class $j$, *class* is the mean cosine of its prototypes with the embeddings of class $j$, and *out* with
# those of all other classes; both are averaged over classes. The paper does not name the split; these are the training
# embeddings. *sd* is the standard deviation over runs.

# %%
def column(study, pairing="all"):
    """name -> (class, out) for one run"""
    Z, y = study.embeddings("train")
    found = {name: prototype_cosines(P, labels, Z, y, pairing) for name, (P, labels) in prototypes_of(study).items()}
    net, (Z, y) = study.protopnet, study.patch_embeddings("train")
    return found | {"ProtoPNet": prototype_cosines(net.prototypes_, net.prototype_labels_, Z, y, pairing)}

# %%
each = {study.dataset: [column(run) for run in study.runs(runs)] for study in studies}
spread = {name: over_runs(columns) for name, columns in each.items()}
table = {name: {row: mean for row, (mean, _) in rows.items()} for name, rows in spread.items()}
pd.concat({study.data.title: pd.DataFrame({row: np.ravel(both) for row, both in spread[study.dataset].items()},
                                          index=["class", "out", "sd class", "sd out"]).T.round(2)
           for study in studies}, axis=1)

# %% [markdown]
# The published numbers, for comparison (ResNet34 with ImageNet weights; the paper's second KMEx row has K/C = 5):

# %%
pd.concat({name: pd.DataFrame({model: row[name] for model, row in TABLE1.items()}, index=["class", "out"]).T
           for name in ("mnist", "stl10", "cub200")}, axis=1)

# %% [markdown]
# Compare the CNN's *class* with that of the KMEx rows: the claim is the gap between them. ProtoPNet's cosines say less
# than they seem to. Its embeddings come out of a sigmoid, and vectors whose coordinates are all positive and alike in
# size point the same way, whatever they stand for: a cosine near 1 with the own class means something only beside a
# lower one with the others.
#
# ## Class by class
#
# From here on, the first run. An average can hide a class. In the next figure each dot is a class: the further right,
# the more its prototypes point at its own data; the further up, the more at everyone else's.

# %%
def draw(study):
    Z, y = study.embeddings("train")
    points = {name: per_class_cosines(P, labels, Z, y) for name, (P, labels) in prototypes_of(study).items()}
    return figures.scatter(points, "cosine with own class", "cosine with other classes", study.data.title)

for study in studies:
    figures.keep(draw(study), "table1_classes", {"table1": each[study.dataset][0]}, study, out)

# %% [markdown]
# ## Why the columns miss the data
#
# The softmax only compares logits. Add one vector $v$ to every column and each logit grows by the same $z \cdot v$: no
# prediction changes, so training has no reason to move the columns towards what all classes share. But embeddings come
# out of a ReLU, no coordinate is negative, and what classes share is much of their length. Take the mean embedding
# $\bar z$ away from all points (and from the centroids), and measure again.

# %%
def centred(study):
    Z, y = study.embeddings("train")
    mean = Z.mean(0)
    return {name: prototype_cosines(P if name == "CNN" else P - mean, labels, Z - mean, y)
            for name, (P, labels) in prototypes_of(study).items()}

without_mean = {study.dataset: centred(study) for study in studies}
both = {(study.data.title, word): pd.DataFrame(rows, index=["class", "out"]).T
        for study in studies for word, rows in {"as it is": each[study.dataset][0],
                                                "less the mean": without_mean[study.dataset]}.items()}
pd.concat(both, axis=1).drop("ProtoPNet").round(2)

# %% [markdown]
# Two changes to look for. The columns' *class* cosine: as far as it rises, the columns missed only what all classes
# share. And the centroids' *out* cosine: as far as it falls, the centroids agreed with other classes only in that.
#
# So Table 1 measures two things at once: a column's direction *within* the classes' differences, and the direction that
# all classes share and that the classifier may ignore. The paper's conclusion stands in either reading as long as the
# columns stay below the centroids; how far below depends on the mean.
#
# ## What is the average of?
#
# With several prototypes per class, "average cosine" can pair every prototype with every point (`all`), or each point
# with its nearest prototype (`nearest`). In the paper the cosine falls from K/C = 1 to 5 on MNIST and CUB-200 but rises
# on STL10 (0.79 to 0.84). Neither of these two readings gives all three: the first can hardly rise, the second hardly
# fall.

# %%
pairings = {(study.data.title, pairing): {name: values[0] for name, values in column(study, pairing).items()}
            for study in studies for pairing in ("all", "nearest")}
pd.DataFrame(pairings).round(2)

# %% [markdown]
# Follow the KMEx rows downwards: the *class* cosine under `all`, then under `nearest`.
#
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    numbers = {"table1": table[study.dataset], "runs": each[study.dataset], "centred": without_mean[study.dataset]}
    figures.keep(None, "table1", numbers, study, out)
short = {study.data.title: {name.replace("K/C=", ""): f"{own:.2f} / {other:.2f}"
                            for name, (own, other) in table[study.dataset].items()} for study in studies}
print("cosine class / out", pd.DataFrame(short).T.to_string(), sep="\n")

# %% [markdown]
# ## Summary
#
# - Table 1 has the paper's ordering wherever the CNN's *class* cosine is below both KMEx rows.
# - ProtoPNet's cosines are high where its sigmoid puts all patches into one corner: compare *class* with *out*.
# - Our *out* cosines need not be the paper's: its networks start from ImageNet weights, ours (unless `weights` says
#   otherwise) from random ones, on other data.
# - Part of the gap is the mean embedding, which the softmax cannot see. How large a part differs between data sets:
#   compare the columns' gap to the centroids with and without the mean.
#
# ## Exercises
#
# 1. Add the same random vector to every column of $C$. Check that no prediction changes, and that Table 1 does.
# 2. Measure Table 1 on the test embeddings (`study.embeddings("test")`). Which rows change, and why so little?
# 3. Replace the columns by $c_j - \frac1C\sum_i c_i$. Why does the CNN's row change hardly at all after training?
