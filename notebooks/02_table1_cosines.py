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
# # Table 1: do the prototypes lie where the data lie?
#
# **The paper claims** (section 4, Table 1): seen as prototypes, the columns $c_j$ of a CNN's classifier are poorly
# aligned with the data. Their average cosine with the embeddings of their own class is only 0.46 to 0.51. Centroids of
# class-wise k-means (KMEx, section 3.2) reach 0.79 to 0.93, and ProtoPNet, a network trained together with its
# prototypes, 0.95 to 1.00, with its own class and with all others alike.
#
# This notebook measures these cosines, shows where the difference comes from, and asks what "average" means when a class
# has several prototypes.

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
runs: int = 3                    # networks trained for the table, with seeds seed, seed + 1, ...; the paper: 5

# %%
import numpy as np
import pandas as pd

from paperlib import figures
from paperlib.measures import TABLE1, over_runs, per_class_cosines, prototype_cosines
from paperlib.runs.study import open_studies

studies = open_studies(globals())

# %% [markdown]
# ## The networks
#
# A data set has `runs` of them, trained from different seeds and kept; see a checkpoint's `.json` in `data/cache` for its
# recipe. The embeddings are $z = \text{avg.pool}(h)$ of eq. 1, one vector $z \in \mathbb{R}^D$ for each picture.

# %%
for study in studies:
    Z, y = study.embeddings("train")
    hits = ", ".join(f"{run.manifest['accuracy']['test']:.3f}" for run in study.runs(runs))
    print(f"{study.data.title}: {study.settings()['backbone']}, test accuracy of each run {hits}; "
          f"Z is {Z.shape[0]} x {Z.shape[1]}, C has {study.trained.C.shape[1]} columns")

# %% [markdown]
# ## Sets of prototypes
#
# - **CNN**: $p_j = c_j$, one for each class.
# - **KMEx (K/C = 1)**: the centroid of each class, that is, its mean embedding.
# - **KMEx (K/C > 1)**: the centroids of a k-means on each class. $K$ is the number of all prototypes, $C$ that of classes.
# - **ProtoPNet**: patches of training pictures that its training found. They live in a space of their own, of 128 numbers
#   between 0 and 1; a picture's embedding there is the mean of its patches (the paper does not say what it compares).

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
# For each class $j$, *class* is the mean cosine of its prototypes with the embeddings of class $j$, and *out* with those of
# all other classes; both are averaged over classes. The paper does not say which split; these are the training embeddings.
# *sd* is the standard deviation over runs.

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

# %%
for study in studies:
    cnn, (name, centroid) = table[study.dataset]["CNN"], list(table[study.dataset].items())[1]
    print(f"{study.data.title}: a column of the classifier has cosine {cnn[0]:.2f} with its own class, a centroid "
          f"{centroid[0]:.2f}; with the other classes {cnn[1]:.2f} and {centroid[1]:.2f}.")
    own, other = table[study.dataset]["ProtoPNet"]
    print(f"   A prototype of ProtoPNet has {own:.2f} with its own class and {other:.2f} with the others.")

# %% [markdown]
# ProtoPNet's cosines say less than they seem to. Its embeddings come out of a sigmoid, and vectors whose coordinates are
# all positive and alike in size point the same way, whatever they stand for: a cosine near 1 with the own class means
# something only beside one with the others that is lower.
#
# ## Class by class
#
# From here on, the first run. An average can hide a class. Each dot is a class: to the right, its prototypes point at its own data; up, they point at
# everyone else's too.

# %%
def draw(study):
    Z, y = study.embeddings("train")
    points = {name: per_class_cosines(P, labels, Z, y) for name, (P, labels) in prototypes_of(study).items()}
    return figures.scatter(points, "cosine with own class", "cosine with other classes", study.data.title)

for study in studies:
    figure = draw(study)
    figures.keep(figure, "table1_classes", {"table1": each[study.dataset][0]}, study.settings(), out)

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

first = {study.dataset: each[study.dataset][0] for study in studies}
without_mean = {study.dataset: centred(study) for study in studies}
pd.concat({study.data.title: pd.DataFrame(without_mean[study.dataset], index=["class", "out"]).T.round(2)
           for study in studies}, axis=1)

# %%
for study in studies:
    before, after = first[study.dataset]["CNN"][0], without_mean[study.dataset]["CNN"][0]
    out_before, out_after = first[study.dataset]["KMEx (K/C=1)"][1], without_mean[study.dataset]["KMEx (K/C=1)"][1]
    print(f"{study.data.title}: without the mean, the columns' cosine with their class goes from {before:.2f} to "
          f"{after:.2f}, and the centroids' cosine with other classes from {out_before:.2f} to {out_after:.2f}.")

# %% [markdown]
# So Table 1 measures two things at once: a column's direction *within* the classes' differences, and the direction that
# all classes share and that the classifier may ignore. The paper's conclusion stands in either reading as long as the
# columns stay below the centroids; how far below depends on the mean.
#
# ## What is the average of?
#
# With several prototypes a class, "average cosine" can pair every prototype with every point (`all`), or each point with
# its nearest prototype (`nearest`). In the paper the cosine falls from K/C = 1 to 5 on MNIST and CUB-200 but rises on STL10
# (0.79 to 0.84). Neither of these two readings gives all three: the first can hardly rise, the second hardly fall.

# %%
pairings = {(study.data.title, pairing): {name: values[0] for name, values in column(study, pairing).items()}
            for study in studies for pairing in ("all", "nearest")}
pd.DataFrame(pairings).round(2)

# %%
for study in studies:
    one, many = (f"KMEx (K/C={k})" for k in (1, study.k))
    every, near = (pairings[study.data.title, pairing] for pairing in ("all", "nearest"))
    word = {True: "falls", False: "rises"}
    print(f"{study.data.title}: from {one} to {many} the class cosine {word[every[many] < every[one]]} from "
          f"{every[one]:.2f} to {every[many]:.2f} over all pairs, "
          f"and {word[near[many] < near[one]]} to {near[many]:.2f} with the nearest.")

# %% [markdown]
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    numbers = {"table1": table[study.dataset], "runs": each[study.dataset], "centred": without_mean[study.dataset]}
    figures.keep(None, "table1", numbers, study.settings(), out)
    print(f"{study.data.title}: cosine class / out  " + ",  ".join(
        f"{name.replace('KMEx (K/C=', 'KMEx (')} {own:.2f} / {other:.2f}"
        for name, (own, other) in table[study.dataset].items()))

# %% [markdown]
# ## Summary
#
# - The table above has the paper's ordering wherever the CNN's *class* cosine is below both KMEx rows.
# - ProtoPNet's cosines are high where its sigmoid puts all patches into one corner: compare *class* with *out*.
# - Our *out* cosines need not be the paper's: its networks start from ImageNet weights, ours (unless `weights` says
#   otherwise) from random ones, on other data.
# - Part of the gap is the mean embedding, which the softmax cannot see. How large a part differs between data sets:
#   compare the columns' gap to the centroids in the two tables.
#
# ## Exercises
#
# 1. Add the same random vector to every column of $C$. Check that no prediction changes, and that Table 1 does.
# 2. Measure Table 1 on the test embeddings (`study.embeddings("test")`). Which rows change, and why so little?
# 3. Replace the columns by $c_j - \frac1C\sum_i c_i$. Why does the CNN's row change hardly at all after training?
