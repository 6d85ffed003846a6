# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 1: a classifier's columns as prototypes (section 3.1)
#
# **Aim**: to see why a logit is a mean over the cells of the last feature map, when it is not, and what its zero is
# worth. **Before**: notebooks [00](../../00_tour.ipynb) and [01](../../01_theorem1.ipynb); matrices in torch.
# **Time**: about 45 minutes for four exercises.
#
# Write your lines where a cell says so, run it, then run the check below it. A check calls your function with several
# inputs and says in words what is wrong. Hints are folded; open one at a time. The letters are the paper's: n pictures,
# R rows (cells of the last feature map), D channels, one column of C (D, classes) per class.
#
# Where `make reproduce` has not run before, the first cells draw the birds and pass them through the network, and
# exercises 3 fit prototypes. That takes some minutes, once; what they find is kept. No network is trained.

# %%
import sys

import matplotlib.pyplot as plt
import torch

from paperlib import figures
from paperlib.backbone import Backbone, StructureError
from paperlib.runs.parameters import NOTEBOOKS
from paperlib.runs.study import Study

sys.path.append(str(NOTEBOOKS / "exercises"))  # the checks lie there, wherever this notebook is run
import checks

# %%
study = Study.of_profile("quick", dataset="birds")  # drawn birds, and the network that ships with the project
net, test, names = study.trained, study.data.test, study.data.classes
some = [0, 100, 400]
x = net.features(test.batch(some))[-1]           # (n, D, 7, 7), the last block's output
h, C = x.flatten(2).transpose(1, 2), net.C       # (n, R, D) and (D, classes)
probabilities = (h.mean(1) @ C).softmax(1)
c = probabilities.argmax(1)                      # the predicted classes

# %% [markdown]
# ## 1.1 Theorem 1 with a bias
#
# **Aim**: to give each cell its evidence. **Difficulty**: easy, 10 minutes. **Runs in** under a second.
#
# The paper omits the bias "without loss of generality". Prove it first, on paper: start from
# $\frac1R\sum_r h_r\cdot c_j + b_j$ and bring $b_j$ into the sum. Then write the evidence of every cell for every
# class, so that its mean over the cells is the logit *with* its bias.
#
# <details><summary>Hint 1: the proof</summary>
#
# $b_j = \frac1R\sum_r b_j$, a mean of R equal numbers. So
# $\frac1R\sum_r h_r\cdot c_j + b_j = \frac1R\sum_r (h_r\cdot c_j + b_j)$.
#
# </details>
# <details><summary>Hint 2: the code</summary>
#
# One matrix product does all cells and classes: <code>h @ C</code> is (n, R, classes). A bias of shape (classes,) is
# added to the last dimension by itself.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Each cell's evidence for the predicted class, in three pictures; below each map stands its mean, which is the logit.
#
# <img src="../hints/1_1.png" width="560">
#
# </details>

# %%
def evidence(h, C, bias):
    """h (n, R, D), C (D, classes), bias (classes,) -> (n, R, classes), whose mean over the rows is the logit"""
    # BEGIN SOLUTION
    return h @ C + bias
    # END SOLUTION

# %%
passed = checks.evidence(evidence)

# %%
bias = torch.linspace(-1, 1, len(names))  # the network that ships has none, so here is one
if passed:
    E = evidence(h, C, bias)
    print("largest difference from the logits:", float((E.mean(1) - (h.mean(1) @ C + bias)).abs().max()))
    maps = [E[i, :, c[i]].view(7, 7) for i in range(len(some))]
    figures.evidence([test.pixels(i) for i in some], maps, [names[k] for k in c], "evidence, in logits")

# %% [markdown]
# ## 1.2 Find the networks for which it fails
#
# **Aim**: to see which step of the proof needs what. **Difficulty**: middle, 10 minutes. **Runs in** under a second.
#
# A *head* is what stands between the last feature map and the logits. Here are four, named A to D (head C has nothing
# to do with the matrix C); all take h (n, R, D) and give logits (n, classes). You do not see what is inside. The
# theorem says that a head answers the mean of what it answers to each row alone. Write the size of the gap, and use it
# to name the heads for which that is not so.
#
# <details><summary>Hint 1</summary>
#
# A row alone is a feature map of one cell: <code>h[:, r:r + 1]</code>, of shape (n, 1, D). A head takes that, too.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Stack the head's answers to the rows to (n, R, classes), take the mean over dimension 1, and subtract
# <code>head(h)</code>. The gap is the largest absolute value of what is left.
#
# </details>
# <details><summary>Hint 3: which heads</summary>
#
# Float32 rounds at the seventh digit. A gap of a millionth of a logit is rounding; a gap of a tenth is not. Two heads
# have one.
#
# </details>
# <details><summary>Hint 4: the right result</summary>
#
# <img src="../hints/1_2.png" width="420">
#
# </details>

# %%
def size_of_gap(head, h):
    """The largest |head(h) - mean over r of head(row r alone)| over all pictures and classes: one number"""
    # BEGIN SOLUTION
    alone = torch.stack([head(h[:, r:r + 1]) for r in range(h.shape[1])], 1)
    return (head(h) - alone.mean(1)).abs().max()
    # END SOLUTION

# %%
passed = checks.size_of_gap(size_of_gap)

# %%
if passed:
    gaps = {name: float(size_of_gap(head, h)) for name, head in checks.heads(C).items()}
    plt.subplots(figsize=(5, 2.4), layout="constrained")[1].bar(gaps.keys(), gaps.values())
    plt.ylabel("gap, in logits")
    print(gaps)

# %%
# BEGIN SOLUTION
# stub: fails = ...  # the names of the heads, as ["A", "B"]
fails = ["B", "D"]
# END SOLUTION

# %%
passed = checks.fails(fails)

# %% [markdown]
# ## 1.3 Mend a network
#
# **Aim**: to make prototypes out of a classifier that has something before it. **Difficulty**: hard, 15 minutes.
# **Runs in** about a second.
#
# A head can pass the test of exercise 1.2, and still the columns of its classifier be no prototypes. Here batch
# normalisation stands between the mean and the classifier; the project refuses such a network:

# %%
norm = torch.nn.BatchNorm1d(C.shape[0]).eval()
norm.running_mean.copy_(h.mean((0, 1)))
norm.running_var.copy_(4 * h.var((0, 1)) + 0.01)
study_net = Study.of_profile("quick", dataset="birds").trained  # another copy, to be changed
study_net.model.fc = torch.nn.Sequential(norm, study_net.model.fc)
try:
    Backbone(study_net.model, classifier="fc.1")
except StructureError as error:
    print(error)

# %% [markdown]
# In evaluation, batch normalisation does the same to every picture: channel d becomes
# $(z_d - \mu_d)\,\gamma_d / \sqrt{v_d + \epsilon} + \beta_d$, with $\gamma$ = `norm.weight`, $\beta$ = `norm.bias`,
# $\mu$ = `norm.running_mean`, $v$ = `norm.running_var`, $\epsilon$ = `norm.eps`. That is linear but for a constant.
# Fold it into the classifier: find C' and a bias b' so that the logits stay as they are, for every z.
#
# <details><summary>Hint 1</summary>
#
# Write $s_d = \gamma_d/\sqrt{v_d+\epsilon}$. The logit is $\sum_d (z_d s_d + (\beta_d - \mu_d s_d))\,C_{dj}$. What
# stands with $z_d$? What stands alone?
#
# </details>
# <details><summary>Hint 2</summary>
#
# $C'_{dj} = s_d C_{dj}$ scales the *rows* of C: in torch <code>s[:, None] * C</code>. The rest, which has no z in it,
# is the bias: <code>(norm.bias - norm.running_mean * s) @ C</code>.
#
# </details>
# <details><summary>Hint 3: the right result</summary>
#
# Evidence with the columns of C, whose mean is not the logit, and with those of C' and b', whose mean is.
#
# <img src="../hints/1_3.png" width="420">
#
# </details>

# %%
def fold(norm, C):
    """norm: BatchNorm1d of D channels, in evaluation; C (D, classes) -> C' (D, classes), bias' (classes,)"""
    # BEGIN SOLUTION
    s = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return s[:, None] * C, (norm.bias.detach() - norm.running_mean * s) @ C
    # END SOLUTION

# %%
passed = checks.fold(fold)

# %%
if passed:
    columns, bias = (x.detach() for x in fold(norm, C))
    mended = torch.nn.Linear(*C.shape)
    mended.weight.data, mended.bias.data = columns.T.contiguous(), bias
    before, study_net.model.fc = study_net.model(test.batch(some)).detach(), mended
    after = Backbone(study_net.model)(test.batch(some))  # no longer refused
    print("largest change of a logit:", float((after - before).abs().max()), "logit:", float(before[0, c[0]]))
    maps = {"columns of C": h[0] @ C[:, c[0]], "columns of C', with b'": h[0] @ columns[:, c[0]] + bias[c[0]]}
    figures.beside(test.pixels(some[0]), {k: m.view(7, 7) for k, m in maps.items()}, "evidence")

# %% [markdown]
# Head B takes the largest value in place of the mean, and head D has a ReLU after the mean: neither can be folded. To
# mend such a network one must change it, pool by the mean and put the ReLU before it, and train it again.
#
# ## 1.4 Zero is arbitrary
#
# **Aim**: not to read "red" as "for" and "blue" as "against". **Difficulty**: middle, 10 minutes. **Runs in** under a
# second.
#
# Training looks at probabilities, $\text{softmax}(z \cdot C)$. Find another classifier C' that gives exactly the same
# probabilities for every picture, and whose evidence is *negative in every cell for every class*. h comes out of a
# ReLU: no number in it is negative, and no row is all zero.
#
# <details><summary>Hint 1</summary>
#
# Softmax does not change if the same number is added to all logits of a picture. What can you add to all columns
# $c_j$ so that all logits of a picture change by the same number?
#
# </details>
# <details><summary>Hint 2</summary>
#
# One vector v, the same for all classes: every logit changes by $z\cdot v$. Now choose v so that $h_r\cdot(c_j+v)$ is
# negative for all r and j.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Let all D numbers of v be equal to $-t$. Then $h_r\cdot v = -t\sum_d h_{rd}$, and the sum is positive. If all numbers
# of C + v are negative, so is every product with a row of h.
#
# </details>
# <details><summary>Hint 4: the right result</summary>
#
# The same cells, the same probabilities, for the same class: before and after.
#
# <img src="../hints/1_4.png" width="420">
#
# </details>

# %%
def turn_blue(h, C):
    """h (n, R, D), not negative; C (D, classes) -> C' (D, classes): same probabilities, all evidence negative"""
    # BEGIN SOLUTION
    return C - C.max() - 0.1
    # END SOLUTION

# %%
passed = checks.turn_blue(turn_blue)

# %%
if passed:
    blue = turn_blue(h, C)
    print("largest change of a probability:", float(((h.mean(1) @ blue).softmax(1) - probabilities).abs().max()))
    maps = {"columns of C": h[0] @ C[:, c[0]], "columns of C'": h[0] @ blue[:, c[0]]}
    figures.beside(test.pixels(some[0]), {k: m.view(7, 7) for k, m in maps.items()}, "evidence")

# %% [markdown]
# Even which cell has the most evidence can change. What cannot: the *difference* of two classes' evidence, because v
# cancels there. So ask a map "why this class and not that one?".
#
# **Next**: [exercises 2](2_kmex.ipynb), on prototypes that look like the data.
