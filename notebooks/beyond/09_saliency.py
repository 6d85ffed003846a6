# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Saliency: what the gradient of a class score shows
#
# **A related system claims** (Simonyan, Vedaldi and Zisserman 2013, arXiv 1312.6034) that the gradient of a class's
# score $S_c$, the logit, (a) makes a picture of what the network takes the class to be, (b) shows which pixels of a
# given picture matter, and (c) finds the object well enough for a box around it: 46.4 % top-5 error on ILSVRC 2013's
# localisation, from labels alone.
#
# The network's score is $S_c = z \cdot c_c$, a mean over cells of the last block, which ties the gradient to eq. 11.
#
# Boxes are measured where the true ones are known: on the drawn birds and on CUB-200. For other pictures, a folder of
# your own for one, boxes are drawn and shown, and everything else is as here. The graph cut that makes a box of a map
# is an able program of its own, so its boxes from maps that look at no network are measured beside: the floors.
#
# **Aim**: to try all three on the network of the other notebooks. **You need** notebook 00. **Time**: twenty minutes to
# read, about two to run.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
visualised: int = 4       # classes whose picture is made
ascent_l2: list = [0.0, 0.001, 0.002, 0.005, 0.01, 0.1]  # weights of the picture's norm in what is ascended
boxed_per_class: int = 2  # test pictures of each class that get a box; 0: all

# %%
import numpy as np
import pandas as pd
import torch
from matplotlib.patches import Rectangle
from torchvision.ops import box_iou

from paperlib import figures
from paperlib.attribution import attribute
from paperlib.comparison import contest
from paperlib.comparison.pairs import compared
from paperlib.comparison.saliency import localise, saliency_map, visualise
from paperlib.comparison.scores import about_mean, capped
from paperlib.runs.claims import closing, opening
from paperlib.runs.study import open_studies

# %%
studies = open_studies(globals())
study = ([s for s in studies if contest.has_truth(s)] or studies)[-1]  # the last one with true boxes, if one has
print(f"{study.data.title}; true boxes are known: {contest.has_truth(study)}")
net, names, test = study.trained, study.data.classes, study.data.test
print(f"{study.network}, test accuracy {study.accuracy():.1%}")

# %%
opening("09")

# %% [markdown]
# ## The class saliency map
#
# Near a picture $I_0$ the score is about linear, $S_c(I) \approx w^\top I + b$, with $w = \partial S_c / \partial I$ at
# $I_0$. A pixel matters as much as its largest weight: $M_{ij} = \max_{\text{colours}} |w_{ij}|$. One backward pass:

# %%
looked = np.linspace(0, len(test) - 1, min(6, len(test))).round().astype(int)
x = test.batch(looked).to(net.device).requires_grad_()
S = net.model(x)
c = S.argmax(1)
w, = torch.autograd.grad(S.gather(1, c[:, None]).sum(), x)
M = w.abs().amax(1)
gap = float((M - saliency_map(net, x, c)).abs().max())
print(f"by hand and by saliency_map: they differ by {gap:.0e} (largest value {float(M.max()):.2g})")

# %% [markdown]
# ## Beside eq. 11
#
# Eq. 11 takes the same score apart at the last block: $S_c = \frac1R \sum_r h_r \cdot c_c$, exactly. The gradient takes
# it apart at the picture, and only nearby: does $w^\top I$ come back to the score?

# %%
h, x = net.features(x)[-1], x.detach()
eq11 = attribute(h.flatten(2).transpose(1, 2), net.C)[torch.arange(len(x)), :, c].mean(1) * net.C.square().sum(0)[c]
bias = 0 if net.bias is None else net.bias[c]
pd.DataFrame({"score S_c": S.detach().gather(1, c[:, None])[:, 0].cpu(), "from eq. 11": (eq11 + bias).cpu(),
              "w . I": (w * x).sum((1, 2, 3)).cpu()},
             index=pd.Index(looked, name="test picture")).astype(float).round(2)

# %% [markdown]
# Eq. 11 is a sum that can be checked; a saliency map ranks pixels and does not add up to anything. What it has instead
# is the picture's own resolution:

# %%
methods, ours = contest.methods(study), [e.name for e in study.explainers()]
chosen = {name: methods[name] for name in (ours[0], ours[-1], "saliency")}
maps = {name: method(net, x, c).cpu() for name, method in chosen.items()}
drawn = {name: list(capped(m) if name == "saliency" else about_mean(m)) for name, m in maps.items()}
figure = figures.panel([test.pixels(i) for i in looked], drawn, [names[int(k)] for k in c])
path = figures.keep(figure, "saliency_maps", {"pictures": looked.tolist()}, study, out)

# %% [markdown]
# B4 and B234 are drawn about each map's own mean, as in notebook 07, red above it and blue below. Saliency has no sign:
# red is where a change of colour would change the score, in whichever direction, with one pixel in fifty at full
# colour. All three mark the bird; saliency at the finest grain, with some of what the bird stands on.
#
# ## Class model visualisation
#
# Which picture has the largest score? Gradient ascent on $S_c(I) - \lambda \|I\|_2^2$, from the zero picture (the mean
# colour). Steps have one length for all classes: near the zero picture gradients differ by orders of magnitude. The
# penalty holds colours back. How much of it is right? The paper does not say; here is a row for each $\lambda$.

# %%
classes = np.linspace(0, len(names) - 1, min(visualised, len(names))).round().astype(int)
made = {l2: visualise(net, classes, study.data.size, 60, 10.0, l2, progress=False) for l2 in ascent_l2}
best = torch.as_tensor(study.embeddings("test")[0]) @ net.C.cpu() + (0 if net.bias is None else net.bias.cpu())
best = best[:, classes].amax(0)  # the highest score of a test picture, for each class
titles = [f"{names[k]}\n\u03bb {l2:g}: score {float(score):.0f}\n(best real: {float(most):.0f})"
          for l2, (_, course) in made.items() for k, score, most in zip(classes, course[-1], best, strict=True)]
colours = [((each.cpu() * test.std + test.mean).clamp(0, 1) * 255).byte() for each, _ in made.values()]
figure = figures.sheet(list(torch.cat(colours)), titles, columns=len(classes), side=1.7)
scored = {l2: course[-1].tolist() for l2, (_, course) in made.items()}
path = figures.keep(figure, "saliency_classes", {"scores": scored, "best real": best.tolist()}, study, out)

# %% [markdown]
# In numbers, means over these classes: the score as a share of the best test picture's, the picture's norm as a share
# of a test picture's, and for how many the network predicts the class that they were made for.

# %%
usual = float(test.batch(looked).flatten(1).norm(dim=1).mean())
swept = {l2: {"score / best real": float((course[-1] / best).mean()),
              "norm / real norm": float(each.flatten(1).norm(dim=1).mean()) / usual,
              "predicted as made": float((net(each).argmax(1).cpu().numpy() == classes).mean())}
         for l2, (each, course) in made.items()}
pd.DataFrame(swept).T.rename_axis("\u03bb").round(2)

# %% [markdown]
# The means hide how much the classes differ: without a penalty the first picture's score is not far above its best real
# one, and the second's is more than thirty times its own; with the smallest penalty most of the mean is this one
# class's. So look at the titles.
#
# Do you recognise the class in them? Scores far above any real picture's come from coloured spots. Other classes'
# scores rise even higher: without a penalty the network takes no picture for its class. And a penalty that brings the
# score down does not bring a bird: the first pictures of the second and third rows, whose scores are about the best
# real one's, are faint grids of dots, and the last three rows are all but grey. The other three pictures' scores never
# come near the best real one: from one penalty to the next they fall from many times it to far below. The columns $c_j$
# themselves lie away from their classes, too (notebooks 02 and 03), which is why the paper puts centroids, and the
# training pictures nearest to them, in their place.
#
# ## Weakly supervised localisation
#
# Pixels above the map's 95th percentile are foreground, those below the 30th background, a graph cut on colours
# (GrabCut) decides on the rest, and the box goes round the largest piece. The same steps work for any map, so we try
# others. Two of them have no network behind them: the picture's **edges**, and a bump in its **centre**. What GrabCut
# makes of these two is its own achievement, and a map is worth what it adds. And two boxes cost nothing at all: the
# whole picture, and a box in the middle of half its side.

# %%
todo = contest.task(study, boxed_per_class, only_correct=False)

def boxes(method):
    """The box that `localise` draws from the method's map of the predicted class, for each picture"""
    found = []
    for some in torch.arange(len(todo.numbers)).split(16):
        att = method(net, test.batch(todo.numbers[some]), todo.target[some]).cpu()
        found += [localise(test.pixels(i), each)[0] for i, each in zip(todo.numbers[some], att, strict=True)]
    return torch.stack(found)

side, n = study.data.size, len(todo.numbers)
floors = {f"{name}, no network": methods[name] for name in ("edges", "centre")}
drawn = {name: boxes(method) for name, method in (chosen | floors).items()}
drawn |= {"whole picture": torch.tensor([[0.0, 0, side, side]]).expand(n, 4),
          "box in the middle": torch.tensor([[side / 4, side / 4, side * 3 / 4, side * 3 / 4]]).expand(n, 4)}

# %% [markdown]
# White: the true box, where it is known; orange: the one from saliency.

# %%
truth = contest.true_boxes(study, todo)
rows = [(drawn["saliency"], figures.PALETTE[1])] + ([] if truth is None else [(truth, "white")])
few = range(min(6, n))
figure = figures.sheet([test.pixels(todo.numbers[i]) for i in few], [names[int(todo.target[i])] for i in few],
                       columns=len(few), side=1.5)
for i in few:
    for coordinates, colour in rows:
        x1, y1, x2, y2 = coordinates[i].tolist()
        figure.axes[i].add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour,
                                           linewidth=2))
path = figures.keep(figure, "saliency_boxed", {"pictures": todo.numbers[list(few)].tolist()}, study, out)

# %% [markdown]
# Every box but the third, which has gone to the branch, has most of its bird; three lose the feet, and two take in much
# ground or sky.
#
# How well do they overlap with the true boxes (IoU)? And in how many pictures by a half or more, when a box counts as
# found? Means and 95 % intervals (bootstrap over the pictures):

# %%
overlap = {} if truth is None else {name: box_iou(each.double(), truth.double()).diagonal().numpy()
                                    for name, each in drawn.items()}
means = contest.table({name: {"IoU": each, "IoU of a half or more": (each >= 0.5).astype(float)}
                       for name, each in overlap.items()})
if means:
    figure = figures.forest(means, {name: name for name in means["saliency"]}, shared=True)
    path = figures.keep(figure, "saliency_boxes", {"means": means}, study, out)

# %% [markdown]
# The bump in the centre has the highest means, and the whole picture is never found. How much better are saliency's
# boxes? Differences on the same pictures. *Limit*: three standard errors; less than that these pictures cannot show.
# $p$ is corrected by Holm for all these comparisons, as in notebook 07.

# %%
gaps = {name: overlap["saliency"] - each for name, each in overlap.items() if name != "saliency"}
ahead = contest.table({name: {"IoU": gap} for name, gap in gaps.items()})
table = pd.DataFrame.from_dict(compared(gaps), orient="index")
table.rename(columns={"difference": "saliency's IoU less this one's"}).round(3)

# %% [markdown]
# They are better than the two boxes that cost nothing, and that is all: from edges, and from a bump in the centre, the
# graph cut draws boxes that these pictures cannot tell from saliency's, without a look at the network.
#
# ## Away from the middle
#
# A floor in the centre is as good as the pictures are centred. These birds stand off the middle, if never far; so here
# is the overlap for the third of them nearest to the middle, the next, and the third furthest away.

# %%
thirds, rows = ("nearest third", "next third", "furthest third"), {}
if truth is not None:
    away = ((truth[:, :2] + truth[:, 2:]) / 2 - side / 2).norm(dim=1).numpy() / side
    third = away.argsort().argsort() * 3 // n
    rows = contest.table({name: {word: each[third == i] for i, word in enumerate(thirds)}
                          for name, each in overlap.items()})
    labels = {word: f"IoU, {word}:\n{away[third == i].mean():.0%} of the side off centre"
              for i, word in enumerate(thirds)}
    figure = figures.forest(rows, labels, shared=True)
    path = figures.keep(figure, "saliency_away", {"means": rows}, study, out)

# %% [markdown]
# Near the middle the bump's boxes have the highest mean of all. The means get worse from third to third, as the edges'
# and the fixed boxes' do, and in the last saliency's is higher; it does not fall. But a third is few pictures, and the
# intervals overlap. On the same pictures, saliency's IoU less that of each floor:

# %%
gaps = {name: {word: (overlap["saliency"] - overlap[name])[third == i] for i, word in enumerate(thirds)}
        for name in floors} if truth is not None else {}
apart = compared({(name, word): gap for name, row in gaps.items() for word, gap in row.items()}) if gaps else {}
by_third = contest.table(gaps)
pd.DataFrame({(name, word): dict(zip(("difference", "low", "high"), of, strict=True)) | {"p": apart[name, word]["p"]}
              for name, row in by_third.items() for word, of in row.items()}).T.round(3)

# %% [markdown]
# Near the middle the bump's boxes are better than saliency's, even after Holm's correction for these six comparisons.
# In the furthest third saliency's mean is higher than both floors', and each interval by itself lies above zero; but
# after the correction neither difference is told from chance. So few pictures do not settle it. Where all birds sit in
# the middle, as in many data sets, nobody would have asked.

# %% tags=["headline"]
areas = [] if truth is None else [float((truth[:, 2:] - truth[:, :2]).prod(1).mean()) / side**2]
numbers = {"boxes": means, "saliency is ahead of": ahead, "thirds": rows, "pictures": n,
           "saliency is ahead of, by thirds": by_third,
           "ascent": {f"penalty {l2:g}": row for l2, row in swept.items()},
           "true boxes' share of a picture": areas}
figures.keep(None, "saliency", numbers, study, out)
print(f"{study.data.title}, {n} pictures")
for name, row in means.items():
    print(f"{name}: IoU {row['IoU'][0]:.2f}, a half or more in {row['IoU of a half or more'][0]:.0%}")

# %% [markdown]
# ## What became of the claims

# %%
closing("09", out, [study])

# %% [markdown]
# ## Summary
#
# - The class saliency map takes one backward pass and has the picture's resolution, but no sign, and does not add up to
#   the score; eq. 11 adds up to it exactly, at the resolution of the last block.
# - A picture made to raise a class's score can beat all real ones many times over without looking like any, or being
#   taken for its class. None of the penalty's weights draws a bird: they lead from coloured spots to grey.
# - With a graph cut a map becomes a box, and most of the box is the graph cut's. Given nothing but the picture's edges,
#   or a bump in the middle, it finds the birds as well as from saliency, as far as these pictures can show. A box does
#   not measure what a map knows; notebook 07 asks for the parts instead.
# - Away from the middle the bump's boxes get worse, and there the mean of saliency's is higher; whether that is what
#   the network adds so few pictures do not settle.
#
# ## Exercises
#
# 1. Start the ascent from a test picture of another class. How little has to change before the prediction does?
# 2. Multiply the gradient by the picture before taking the maximum. Does the ranking of pixels change where the picture
#    is dark?
# 3. Change the percentiles of `localise`. Which matters more, 95 or 30?
#
# **Next**: [10](10_shortcut.ipynb), which explanation tells on a network that cheats.
