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
# # Soft-CAM: the classifier before the pooling
#
# **A related system claims** (Soft-CAM; Djoumessi and Berens 2025, arXiv 2505.17748) that a CNN becomes explainable by
# itself if average pooling and linear classifier are replaced by a *class evidence layer*, a 1x1 convolution whose maps are
# averaged into the logits; and that training it with a penalty on the maps makes them sparse at little cost. Its numbers are
# for medical pictures; ours are for the ones at hand.
#
# Seen from Theorem 1 the first half is free: both orders give the same logits, so the layer can be *taken over* from any
# trained classifier. This notebook asserts that, and then trains.

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
sweep_l1: str = "0,0.001,0.01"   # weights of the L1 penalty, with commas between
sweep_l2: str = "0.01,0.1"       # weights of the L2 penalty, with commas between
pictures: int = 6                # test pictures shown, and a hundred measured

# %%
import numpy as np
import pandas as pd
import torch

from paperlib import figures, measures
from paperlib.comparison import scores
from paperlib.attribution import attribute
from paperlib.networks.softcam import SoftCAM
from paperlib.runs.study import open_studies, ready

studies = open_studies(globals())
study = studies[-1]
net, names, test = study.trained, study.data.classes, study.data.test
print(f"{study.data.title}: {study.backbone}, test accuracy {study.manifest['accuracy']['test']:.1%}")

# %% [markdown]
# ## Taken over: the same predictions
#
# $h_r$ is a pixel of the last block. The evidence layer gives $A_{rj} = h_r \cdot c_j$ (plus the bias, if there is one) for each pixel and
# class, and the logit is $y_j = \frac1R \sum_r A_{rj}$: the right-hand side of eq. 4. We copy the columns $c_j$ and compare all test pictures.

# %%
taken = ready(SoftCAM(net))
with torch.no_grad():
    logits = [torch.cat([each(test.batch(i)) for i in torch.arange(len(test)).split(64)]).cpu() for each in (net, taken)]
gap = float((logits[0] - logits[1]).abs().max() / logits[0].abs().max())
same = int((logits[0].argmax(1) == logits[1].argmax(1)).sum())
assert same == len(test) and gap < 1e-4
print(f"{same} of {len(test)} predictions are the same; logits differ by at most {gap:.0e} of the largest")

# %% [markdown]
# ## Evidence is eq. 11 in logits
#
# Eq. 11 divides by $\|c_j\|^2$; evidence does not. So an evidence map is the attribution map in units in which its mean
# is the logit:

# %%
looked = np.linspace(0, len(test) - 1, min(100, len(test))).round().astype(int)
x = test.batch(looked)
h, A = net.features(x)[-1], taken.evidence(x)
c = A.mean((2, 3)).argmax(1)
att = attribute(h.flatten(2).transpose(1, 2), net.C) * net.C.square().sum(0)
print(f"{len(looked)} pictures: evidence and eq. 11 times ||c_j||^2 differ by at most "
      f"{float((A.flatten(2).transpose(1, 2) - att).abs().max() / A.abs().max()):.0e} of the largest"
      + (" (this network has a bias: it is the difference)" if net.bias is not None else ""))

# %%
first = np.linspace(0, len(looked) - 1, pictures).round().astype(int)
titles = [f"test picture {looked[i]}:\nevidence for\n{names[int(c[i])]}" for i in first]
figure = figures.evidence([test.pixels(looked[i]) for i in first], [A[i, c[i]] for i in first], titles, "evidence, in logits")
path = figures.keep(figure, "softcam_evidence", {"pictures": looked[first].tolist()}, study.settings(), out)

# %%
R, own = A[0, 0].numel(), A[torch.arange(len(A)), c]
print(f"A map has {R} pixel{'s' if R > 1 else ': there is no where'}; for the predicted class {float((own < 0).double().mean()):.0%} of the "
      f"evidence is negative, for the other classes {float((A < 0).double().mean()):.0%}.")

# %% [markdown]
# ## Trained with a penalty
#
# Soft-CAM's loss is cross-entropy plus $\lambda_1 \|A\|_1 + \lambda_2 \|A\|_2$, the norms of all classes' evidence. We take the norms picture by
# picture and average (the authors' code takes those of a whole batch, so their $\lambda$ of 0.003 and 0.00004 mean something else), and train the whole network for one
# epoch more, with steps a fifth as long. The row with both at 0 shows what that epoch does by itself.

# %%
settings = [(float(l1), 0.0) for l1 in sweep_l1.split(",")] + [(0.0, float(l2)) for l2 in sweep_l2.split(",")]

def reading(soft, accuracy):
    """What is left of the evidence on the pictures looked at"""
    A = soft.evidence(x).cpu()
    own, top = A[torch.arange(len(A)), A.mean((2, 3)).argmax(1)], A.abs().amax((1, 2, 3), keepdim=True)
    return {"test accuracy %": 100 * accuracy, "||A||_1": float(A.abs().sum((1, 2, 3)).mean()),
            "||A||_2": float(A.flatten(1).norm(dim=1).mean()), "near zero %": 100 * float((A.abs() < 0.05 * top).double().mean()),
            "Gini of the class's map": float(scores.gini(own).mean())}

rows = {"taken over": reading(taken, study.manifest["accuracy"]["test"])}
for l1, l2 in settings:
    rows[f"L1 {l1:g}, L2 {l2:g}"] = reading(study.finetuned(l1, l2)[0], study.softcam_accuracy("test", l1, l2))
pd.DataFrame(rows).T.round({name: 1 for name in list(rows["taken over"])[:4]}).round(2)

# %% [markdown]
# *Near zero*: the share of all classes' evidence under a twentieth of the picture's largest.

# %%
p, n = rows["taken over"]["test accuracy %"] / 100, len(test)
error = 100 * np.sqrt(p * (1 - p) / n)
before = rows["taken over"]
for name, row in list(rows.items())[1:]:
    lost = before["test accuracy %"] - row["test accuracy %"]
    print(f"{name}: {-lost:+.1f} points ({'within' if abs(lost) <= 3 * error else 'more than'} three errors of {error:.1f}), "
          f"{row['||A||_1'] / before['||A||_1']:.0%} of the evidence's L1, near zero {before['near zero %']:.0f} to "
          f"{row['near zero %']:.0f} %, Gini {before[f'Gini of the class{chr(39)}s map']:.2f} to {row[f'Gini of the class{chr(39)}s map']:.2f}")

# %%
place = {name: (row["||A||_1"] / before["||A||_1"], row["test accuracy %"]) for name, row in rows.items()}
points = {"L2": [place[n] for n in place if n.startswith("L1 0, L2 0.")], "L1": [place[n] for n in place if n.endswith(", L2 0")],
          "taken over": [place["taken over"]]}
points = {word: tuple(np.array(each).T) for word, each in points.items()}
figure = figures.scatter(points, "evidence left: ||A||_1, share of the taken-over network's", "test accuracy, %", zero=False)
path = figures.keep(figure, "softcam_sweep", rows, study.settings(), out)

# %% [markdown]
# ## Does it look different?
#
# The same pictures, the same classes, each map divided by its largest value:

# %%
strongest = max(float(l1) for l1 in sweep_l1.split(","))
each = {"taken over": taken, "L1 0.001": study.softcam, f"L1 {strongest:g}": study.finetuned(strongest)[0]}
maps = {name: list(soft.evidence(x[first], c[first])) for name, soft in each.items()}
figure = figures.panel([test.pixels(looked[i]) for i in first], maps, [names[int(c[i])] for i in first])
path = figures.keep(figure, "softcam_panel", {"pictures": looked[first].tolist()}, study.settings(), out)

# %% [markdown]
# ## The columns are still prototypes
#
# A Soft-CAM is a network of Theorem 1, and its layer's columns are its prototypes. Does training with the penalty bring
# them nearer to the data? Table 1's cosines, with the embeddings of the test pictures looked at:

# %%
def cosines(soft):
    """(class, out) of Table 1 for the evidence layer's columns, among the classes looked at"""
    with torch.no_grad():
        Z = soft.maps[0](x.to(soft.device)).mean((2, 3)).cpu().numpy()
    seen, columns = np.unique(test.labels[looked]), soft.maps[1].weight.detach().flatten(1).cpu().numpy()
    return measures.prototype_cosines(columns[seen], seen, Z, test.labels[looked].numpy())

near = {name: dict(zip(("class", "out"), cosines(soft), strict=True)) for name, soft in each.items()}
pd.DataFrame(near).T.round(2)

# %% tags=["headline"]
figures.keep(None, "softcam", {"rows": rows, "cosines": near}, study.settings(), out)
print(f"{study.data.title}: taken over, {same} of {len(test)} predictions the same; test accuracy %, " + ", ".join(
    f"{name} {row['test accuracy %']:.1f}" for name, row in rows.items()))

# %% [markdown]
# ## Summary
#
# - Soft-CAM's layer needs no training: by Theorem 1 a trained classifier is one, and its evidence maps are eq. 11 in logits.
# - Training with the penalty trades accuracy for evidence. An L1 norm shrinks with the size of all evidence as well as with
#   the number of places that have some: compare how much the L1 column falls with how much the share near zero grows.
# - The columns remain prototypes, and can be held against the data like any classifier's.
#
# ## Exercises
#
# 1. Penalise the predicted class's evidence alone. What happens to the other classes'?
# 2. Train the evidence layer alone and keep the blocks as they are. How sparse can it get before accuracy falls?
# 3. Fit KMEx on the embeddings of the sparsest network. Is its accuracy that of the columns?
