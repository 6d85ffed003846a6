# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 4: which cells matter (section 3.3, eq. 11)
#
# **Aim**: to know what an attribution map is made of, and what can be read from it. **Before**: notebooks
# [01](../../01_theorem1.ipynb) and [05](../../05_figure1_interpretation.ipynb), and exercises 1. **Time**: about 50
# minutes for four exercises.
#
# h (n, R, D) are the cells of the last block, C (D, classes) the classifier without bias.

# %%
import sys

import torch

from paperlib import figures
from paperlib.attribution import upsample
from paperlib.runs.parameters import NOTEBOOKS
from paperlib.runs.study import Study

sys.path.append(str(NOTEBOOKS / "exercises"))  # the checks lie there, wherever this notebook is run
import checks

# %%
study = Study.of_profile("quick", dataset="birds")  # drawn birds, and the network that ships with the project
net, test, names = study.trained, study.data.test, study.data.classes
picture = 0
features = net.features(test.batch([picture]))
h, C = features[-1].flatten(2).transpose(1, 2), net.C
first, second = (h.mean(1) @ C)[0].argsort(descending=True)[:2].tolist()
print("predicted:", names[first], "- runner-up:", names[second])

# %% [markdown]
# ## 4.1 Attribution
#
# **Aim**: to tell eq. 11 from CAM. **Difficulty**: easy, 5 minutes. **Runs in** under a second.
#
# CAM is $h_r\cdot c_j$. Eq. 11 divides it by $\|c_j\|^2$, so that a cell equal to $c_j$ scores 1.
#
# <details><summary>Hint 1</summary>
#
# The columns of C belong to the classes, so the squared norms are <code>C.square().sum(0)</code>, (classes,).
#
# </details>
# <details><summary>Hint 2</summary>
#
# <code>h @ C</code> is (n, R, classes): dividing by (classes,) divides each class's map by its own number.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Eq. 11 for the two best classes. Below each map stands its mean, which is the logit divided by the squared norm.
#
# <img src="../hints/4_1.png" width="420">
#
# </details>

# %%
def attribution(h, C):
    """h (n, R, D), C (D, classes) -> (n, R, classes), eq. 11 for each class"""
    # BEGIN SOLUTION
    return h @ C / C.square().sum(0)
    # END SOLUTION

# %%
passed = checks.attribution(attribution)

# %%
if passed:
    att = attribution(h, C)[0].T.view(-1, 7, 7)
    figures.beside(test.pixels(picture), {names[j]: att[j] for j in (first, second)}, "attribution")

# %% [markdown]
# ## 4.2 B4 is Grad-CAM
#
# **Aim**: to see that "without gradients" and "with gradients" give one map here. **Difficulty**: middle, 15 minutes.
# **Runs in** under a second.
#
# Grad-CAM takes the gradient of logit j with respect to every cell, averages it over the cells to one weight per
# channel, and multiplies: map$_r = \sum_d h_{rd}\,w_d$ with $w_d=\frac1R\sum_r \partial y_j/\partial h_{rd}$. (It then
# cuts off what is negative by a ReLU; leave that out.) Write it for any head, a function from h to the logits. Then
# work out, on paper, by which number its map differs from eq. 11's when the head is mean and linear classifier.
#
# <details><summary>Hint 1: a gradient</summary>
#
# <code>h = h.clone().requires_grad_()</code>, then <code>torch.autograd.grad(head(h)[:, j].sum(), h)[0]</code> is
# (n, R, D). The sum is over pictures, which do not touch one another.
#
# </details>
# <details><summary>Hint 2: the factor</summary>
#
# For the linear head $y_j = \frac1R\sum_r h_r\cdot c_j$, so $\partial y_j/\partial h_{rd} = C_{dj}/R$, in every row.
# The map is $h_r\cdot c_j/R$. Divide it by eq. 11.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# <img src="../hints/4_2.png" width="420">
#
# </details>

# %%
def grad_cam(head, h, j):
    """head: h (n, R, D) -> logits (n, classes); h; class j -> (n, R), Grad-CAM's map without its ReLU"""
    # BEGIN SOLUTION
    h = h.clone().requires_grad_()
    gradient = torch.autograd.grad(head(h)[:, j].sum(), h)[0]
    return (h * gradient.mean(1, keepdim=True)).sum(2).detach()
    # END SOLUTION

def factor(C, j, R):
    """For mean and linear classifier: Grad-CAM's map for class j is this number times eq. 11's"""
    # BEGIN SOLUTION
    return C[:, j].square().sum() / R
    # END SOLUTION

# %%
passed = checks.grad_cam(grad_cam) and checks.factor(factor)

# %%
if passed:
    theirs = grad_cam(lambda h: h.mean(1) @ C, h, first)[0].view(7, 7)
    ours = (h @ C[:, first] / C[:, first].square().sum())[0].view(7, 7)
    print("largest difference:", float((theirs - factor(C, first, 49) * ours).abs().max()))
    maps = {"Grad-CAM": theirs, "eq. 11 times the factor": factor(C, first, 49) * ours}
    figures.beside(test.pixels(picture), maps, "evidence / R")

# %% [markdown]
# ## 4.3 The way upstream conserves the mean
#
# **Aim**: to see what refining a map can change and what it cannot. **Difficulty**: middle, 10 minutes. **Runs in**
# under a second.
#
# Step 3 of the way upstream replaces each cell's score by the mean over its segment: all cells of the same picture with
# the same number, whether they touch or not. Write it. Why does the mean over the picture stay as it is?
#
# <details><summary>Hint 1: why</summary>
#
# The mean over the picture is the mean of the segments' means, weighted by their sizes. Replacing each cell by its
# segment's mean changes neither.
#
# </details>
# <details><summary>Hint 2: the code</summary>
#
# Start from <code>found = att.clone()</code>. For each picture i and each k of <code>segments[i].unique()</code>:
# <code>here = segments[i] == k</code>, and <code>found[i][here] = att[i][here].mean()</code>.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Eq. 11 brought to the size of B34's map (left), and refined on its segments (right): the means below agree.
#
# <img src="../hints/4_3.png" width="420">
#
# </details>

# %%
def refine(att, segments):
    """att (n, H, W), segments (n, H, W) whole numbers -> (n, H, W): each cell the mean of its segment in its picture"""
    # BEGIN SOLUTION
    found = att.clone()
    for i in range(len(att)):
        for k in segments[i].unique():
            here = segments[i] == k
            found[i][here] = att[i][here].mean()
    return found
    # END SOLUTION

# %%
passed = checks.refine(refine)

# %%
if passed:
    segments = study.explainers()[1].maps_from_features(features, torch.tensor([first]))  # B34, 14 x 14
    att = (h @ C[:, first] / C[:, first].square().sum()).view(1, 7, 7)
    coarse = upsample(att, segments.shape[1:], "nearest")
    maps = {"eq. 11": coarse[0], "refined on B34": refine(coarse, segments)[0]}
    figures.beside(test.pixels(picture), maps, "attribution less its mean", centred=True)

# %% [markdown]
# ## 4.4 Read a misleading map
#
# **Aim**: to know what a map does not say. **Difficulty**: middle, 15 minutes. **Runs in** under a second.
#
# Here is the evidence for the predicted class, about zero. It is red everywhere, and in the water, too.

# %%
figure = figures.beside(test.pixels(picture), {names[first]: (h @ C[:, first])[0].view(7, 7)}, "evidence, in logits")

# %% [markdown]
# Does the network cheat, then? Write the *lead* map: each cell's evidence for class j less that for class k. Look at it
# below, and then say of each sentence whether it is true:
#
# - a: *All cells are red, so every part of the picture speaks for this class.*
# - b: *The prediction is due to the reddest cell.*
# - c: *The mean of the lead map is the difference of the two logits.*
# - d: *Water is red, so the network looks at the water and not at the bird.*
# - e: *Adding one vector to all columns of C changes neither a probability nor the lead map.*
#
# <details><summary>Hint 1: the map</summary>
#
# <code>h @ (C[:, j] - C[:, k])</code>
#
# </details>
# <details><summary>Hint 2: the sentences</summary>
#
# Exercise 1.4 made this map blue without changing a prediction. Which sentences survive that? And how much of the
# picture does one cell of the last block see?
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# The lead of the winner over the runner-up, on a scale of its own. Two of the sentences are true.
#
# <img src="../hints/4_4.png" width="320">
#
# </details>

# %%
def lead(h, C, j, k):
    """h (n, R, D), C (D, classes), classes j and k -> (n, R): evidence for j less evidence for k"""
    # BEGIN SOLUTION
    return h @ (C[:, j] - C[:, k])
    # END SOLUTION

# %%
passed = checks.lead(lead)

# %%
if passed:
    title = f"{names[first]} less\n{names[second]}"
    figures.beside(test.pixels(picture), {title: lead(h, C, first, second).view(7, 7)}, "evidence, in logits")

# %%
# BEGIN SOLUTION
# stub: readings = {"a": ..., "b": ..., "c": ..., "d": ..., "e": ...}  # True or False
readings = {"a": False, "b": False, "c": True, "d": False, "e": True}
# END SOLUTION

# %%
passed = checks.readings(readings)

# %% [markdown]
# **Next**: [exercises 5](5_looking.ipynb), on what a network looks at.
