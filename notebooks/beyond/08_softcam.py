# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Soft-CAM: the classifier before the pooling
#
# **A related system claims** (Soft-CAM; Djoumessi and Berens 2025, arXiv 2505.17748) that a CNN becomes explainable by
# itself if average pooling and linear classifier are replaced by a *class evidence layer*, a 1x1 convolution whose maps
# are averaged into the logits; and that training it with a penalty on the maps makes them sparse at little cost. Its
# numbers are for medical pictures; ours are for the ones at hand.
#
# Seen from Theorem 1 the first half is free: both orders give the same logits, so the layer can be *taken over* from
# any trained classifier. This notebook asserts that, and then trains. How strong the penalty should be is chosen on
# validation pictures, set aside from the training pictures; test pictures have no part in it.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
sweep_l1: list = [0.0, 0.001, 0.01]  # weights of the L1 penalty, one of which is chosen
sweep_l2: list = [0.01, 0.1]         # weights of the L2 penalty, to compare with

# %%
import numpy as np
import pandas as pd
import torch

from paperlib import figures, measures
from paperlib.attribution import attribute
from paperlib.comparison import choices, scores
from paperlib.networks.softcam import SoftCAM
from paperlib.runs.study import SOFTCAM_L1, open_studies, ready

study = open_studies(globals())[-1]
net, names, test = study.trained, study.data.classes, study.data.test
print(f"{study.data.title}: {study.backbone}, test accuracy {study.manifest['accuracy']['test']:.1%}")

# %% [markdown]
# ## Taken over: the same predictions
#
# $h_r$ is a cell of the last block. The evidence layer gives $A_{rj} = h_r \cdot c_j$ (plus the bias, if there is one)
# for each cell and class, and the logit is $y_j = \frac1R \sum_r A_{rj}$: the right-hand side of eq. 4. We copy the
# columns $c_j$ and compare all test pictures.

# %%
taken = ready(SoftCAM(net))
with torch.no_grad():
    batches = torch.arange(len(test)).split(64)
    logits = [torch.cat([each(test.batch(i)).cpu() for i in batches]) for each in (net, taken)]
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
def looked_at(pictures, most):
    """Numbers of up to `most` pictures, spread evenly."""
    return np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int)

looked = looked_at(test, 100)
x = test.batch(looked)
h, A = net.features(x)[-1], taken.evidence(x)
c = A.mean((2, 3)).argmax(1)
att = attribute(h.flatten(2).transpose(1, 2), net.C) * net.C.square().sum(0)
bias = 0 if net.bias is None else net.bias
gap = float((A.flatten(2).transpose(1, 2) - bias - att).abs().max() / A.abs().max())
print(f"{len(looked)} pictures: evidence without bias and eq. 11 times ||c_j||^2 differ by at most\n"
      f"{gap:.0e} of the largest")

# %%
first = looked_at(looked, 6)
pixels = [test.pixels(looked[i]) for i in first]
titles = [f"test picture {looked[i]}:\nevidence for\n{names[int(c[i])]}" for i in first]
figure = figures.evidence(pixels, [A[i, c[i]] for i in first], titles, "evidence, in logits")
path = figures.keep(figure, "softcam_evidence", {"pictures": looked[first].tolist()}, study, out)

# %% [markdown]
# How large are these maps (a map of one cell cannot say where), and how much of the evidence is negative?

# %%
own = A[torch.arange(len(A)), c]
pd.Series({"cells of a map": A[0, 0].numel(),
           "negative, predicted class, %": 100 * float((own < 0).double().mean()),
           "negative, all classes, %": 100 * float((A < 0).double().mean())}).round(0).to_frame("")

# %% [markdown]
# ## Trained with a penalty
#
# Soft-CAM's loss is cross-entropy plus $\lambda_1 \|A\|_1 + \lambda_2 \|A\|_2$, the norms of all classes' evidence. We
# take the norms picture by picture and average over the batch. The authors' loop takes those of `activations[0]`, which
# of a tensor $(B, C, H, W)$ is the first picture's evidence: in expectation the same. What differs is the size of the
# maps, the number of classes and the length of training, so their $\lambda$ of 0.003 and 0.00004 mean something else
# here. We train the whole network for one epoch more, with steps a fifth as long.
#
# Which $\lambda_1$? The choice must not see a test picture. So the same network is trained once more without a fifth of
# its training pictures, drawn by the seed; these are the **validation pictures**, and all numbers of this section are
# measured on them. The row with both penalties at 0 shows what the additional epoch does by itself.

# %%
choosing = study.for_choosing()
validation = choosing.data.test
x_validation = validation.batch(looked_at(validation, 100))
print(f"{len(choosing.data.train)} training pictures, {len(validation)} for {validation.split}; "
      f"accuracy there {choosing.manifest['accuracy']['test']:.1%}")

# %%
GINI = "Gini of the class's map"

def reading(soft, accuracy):
    """What is left of the evidence on the validation pictures looked at"""
    A = soft.evidence(x_validation).cpu()
    own, top = A[torch.arange(len(A)), A.mean((2, 3)).argmax(1)], A.abs().amax((1, 2, 3), keepdim=True)
    return {"validation accuracy %": 100 * accuracy, "||A||_1": float(A.abs().sum((1, 2, 3)).mean()),
            "||A||_2": float(A.flatten(1).norm(dim=1).mean()),
            "near zero %": 100 * float((A.abs() < 0.05 * top).double().mean()), GINI: float(scores.gini(own).mean())}

# %%
penalties = [(l1, 0.0) for l1 in sweep_l1] + [(0.0, l2) for l2 in sweep_l2]
before = reading(ready(SoftCAM(choosing.trained)), choosing.manifest["accuracy"]["test"])
swept = {pair: reading(choosing.finetuned(*pair)[0], choosing.softcam_accuracy("test", *pair)) for pair in penalties}
rows = {"taken over": before} | {f"L1 {l1:g}, L2 {l2:g}": row for (l1, l2), row in swept.items()}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# *Near zero*: the share of all classes' evidence under a twentieth of the picture's largest.

# %%
place = {pair: (row["||A||_1"] / before["||A||_1"], row["validation accuracy %"]) for pair, row in swept.items()}
points = {"L2": [place[pair] for pair in penalties if pair[1] > 0],
          "L1": [place[pair] for pair in penalties if pair[1] == 0],
          "taken over": [(1.0, before["validation accuracy %"])]}
points = {word: tuple(np.array(each).T) for word, each in points.items() if each}
label = "evidence left: ||A||_1, share of the taken-over network's"
figure = figures.scatter(points, label, "validation accuracy, %", zero=False)
path = figures.keep(figure, "softcam_sweep", rows, study, out)

# %% [markdown]
# The choice: the largest $\lambda_1$ whose validation accuracy is at most one standard error, $\sqrt{p (1 - p) / n}$,
# below the best. `choices.choose` refuses test pictures.

# %%
chosen = choices.choose({l1: choosing.softcam_accuracy("test", l1) for l1 in sweep_l1}, validation)
print(f"chosen: {chosen:g}; Table 2 and notebook 07 take {SOFTCAM_L1:g}")

# %% [markdown]
# Only now the test pictures, with the network that all training pictures have trained: the **test accuracy** of the
# Soft-CAM that was taken over, and of the one trained on with the chosen penalty.

# %%
tested = {"taken over": study.manifest["accuracy"]["test"], f"L1 {chosen:g}": study.softcam_accuracy("test", chosen)}
p = tested["taken over"]
pd.Series({f"{name}: test accuracy %": 100 * accuracy for name, accuracy in tested.items()}
          | {"standard error, points": 100 * np.sqrt(p * (1 - p) / len(test))}).round(1).to_frame("")

# %% [markdown]
# ## Does it look different?
#
# Test pictures, the same classes, each map divided by its largest value; for the chosen and the strongest penalty:

# %%
trained_on = {f"L1 {l1:g}": study.finetuned(l1)[0] for l1 in (chosen, max(sweep_l1))}
each = {"taken over": taken, **trained_on}
maps = {name: list(soft.evidence(x[first], c[first])) for name, soft in each.items()}
figure = figures.panel(pixels, maps, [names[int(c[i])] for i in first])
path = figures.keep(figure, "softcam_panel", {"pictures": looked[first].tolist()}, study, out)

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
numbers = {"rows": rows, "test accuracy": tested, "chosen": chosen, "cosines": near}
figures.keep(None, "softcam", numbers, study, out)
print(f"{study.data.title}: taken over, {same} of {len(test)} predictions the same; chosen L1 {chosen:g}")
print("test accuracy %:", *(f"{name} {100 * accuracy:.1f};" for name, accuracy in tested.items()))

# %% [markdown]
# ## Summary
#
# - Soft-CAM's layer needs no training: by Theorem 1 a trained classifier is one, and its evidence maps are eq. 11 in
#   logits.
# - Does the penalty make maps sparse at little cost? On the drawn birds it makes them *smaller* at little cost, not
#   sparse. An L1 norm falls when all evidence shrinks as well as when fewer cells have any. As shown above, the chosen
#   penalty takes a fifth off the norm and no accuracy beyond the error, and the share near zero hardly grows; the
#   strongest takes three quarters off the norm and much of the accuracy, and the share near zero grows by a few points.
# - A penalty is a choice, and a choice that looks at test pictures makes their accuracy too good. Validation pictures
#   cost one more training, on four fifths of the pictures.
# - The columns remain prototypes, and can be held against the data like any classifier's. Here the penalty does not
#   bring them nearer to their classes: the stronger it is, the lower their cosine.
#
# ## Exercises
#
# 1. Penalise the predicted class's evidence alone. What happens to the other classes'?
# 2. Train the evidence layer alone and keep the blocks as they are. How sparse can it get before accuracy falls?
# 3. Fit KMEx on the embeddings of the sparsest network. Is its accuracy that of the columns?
