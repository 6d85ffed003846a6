# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Scaling: what a laptop can do, and what a cluster must
#
# **The paper names one limitation** (section 6): "The primary limitation is the scalability of k-means to large
# datasets, though preliminary results suggest that performance remains stable on subsets of the training data." It
# gives no number.
#
# Here are the numbers. First the way out that the paper suggests, fewer pictures: what becomes of the accuracy, and of
# the maps? Then the other way, to use all of them: what does a fit cost in pictures, classes and prototypes, how far do
# more workers help, and what would ImageNet take?
#
# **Aim**: to know, before a fit, how long it takes and where. **You need** notebook 04. **Time**: twenty minutes to
# read, three minutes to run.

# %%
from paperlib.runs.claims import closing, opening

opening("11")

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
scaling_pictures: list = [5, 10]  # training pictures of each class, beside all
scaling_tests: int = 5            # test pictures of each class on which maps are compared; 0: all
scaling_workers: list = [1, 2]    # numbers of processes among which classes are shared out

# %%
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import t
from torch.utils.data import ConcatDataset, Subset

# %%
from paperlib import figures
from paperlib.comparison.pairs import counterparts
from paperlib.concepts import ConceptExplainer
from paperlib.datasets.pictures import PictureFiles
from paperlib.networks import architectures
from paperlib.runs import costs, shards
from paperlib.runs.study import n_runs, open_studies, ready

# %%
study = open_studies(globals())[-1]
networks, most = study.runs(n_runs(globals())), int(study.data.train.labels.bincount().min())

# %% [markdown]
# ## What has to be clustered
#
# k-means of section 3.3 gets a row for every cell of every picture of a class. B234 of a ResNet has $28 \times 28$
# cells at 224 px, so a picture is hundreds of rows; each row has the channels of three blocks, $D$ in all. The table
# has the data set of this notebook and, as the paper's network would see them (a ResNet34), two that the notebook does
# not have.

# %%
K = study.k
net, (shallow, *_, explainer) = study.trained, study.explainers()  # B4 to B234, on all training pictures
(H, W), D = explainer.resolution_, explainer.prototypes_.shape[1]
tasks = {study.data.title: costs.Task(len(study.data.train), len(study.data.classes), H * W, D, K),
         "CUB-200": costs.Task(5_994, 200, 784, 896, 10), "ImageNet-1k": costs.Task(1_281_167, 1000, 784, 896, 10)}
sizes = {title: {"pictures": task.pictures, "rows, million": task.pictures * task.cells / 1e6,
                 **{f"{what}, GB": b / 1e9 for what, b in task.bytes().items()}} for title, task in tasks.items()}
table = pd.DataFrame(sizes).T
table["travels, MB"] = 1e3 * table.pop("travels, GB")
table.map(lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.3g}")

# %% [markdown]
# All rows of ImageNet at once fit on no machine that most of us have. But k-means runs class by class, and the rows of
# one class are a thousandth: they fit into a laptop. Nothing but the prototypes has to be kept (*travels*): less than
# one photograph takes on a phone for the birds, about ten for ImageNet.
#
# ## The first way out: fewer pictures
#
# B4 and B234 are fitted on a few pictures of each class and on all of them, for several networks; each looks at the
# same test pictures. Three questions: how many does it name correctly, how many of the cells keep their concept, and
# how much of that is luck?
#
# A concept of one fit has to be found again in the other first. Within each class the two sets of prototypes are
# matched one to one so that their distances are least; then a cell *keeps its concept* if its two prototypes are a
# matched pair. The maps are those among the prototypes of the class that the network predicts, as in Figure 1.

# %%
DEPTHS = {shallow.name: 1, explainer.name: len(explainer.blocks)}

def fits(depth):
    """part of the training pictures -> arguments of the explainer; the last is fitted on all pictures"""
    some = {n: {"depth": depth, "part": (n, 0)} for n in scaling_pictures if n < most}
    seed = {"another seed": {**next(iter(some.values())), "random_state": study.seed + 1}}
    return {**some, most: {"depth": depth}, **seed}

def read(run):
    """depth -> part -> what the explainer says, and of which prototypes"""
    choices = {(name, n): options for name, depth in DEPTHS.items() for n, options in fits(depth).items()}
    said = run.compare({str(key): options for key, options in choices.items()}, scaling_tests)
    return {name: {n: (said[str((name, n))], run.explainer(**choices[name, n])) for n in fits(depth)}
            for name, depth in DEPTHS.items()}, said["CNN"]

# %%
def kept(one, other, c):
    """Share of cells, in percent, that keep their concept from one fit to the other; c (n,): the network's classes"""
    (a, first), (b, second) = one, other
    s, r = (x["map"] + K * c[:, None, None] for x in (a, b))
    pair = counterparts(first.prototypes_, second.prototypes_, first.prototype_labels_)
    return 100 * float((s == pair[r]).mean())

# %%
def shares(run):
    """depth -> measure -> pictures of each class -> percent"""
    said, cnn = read(run)
    found = {}
    for name, fitted in said.items():
        *some, last = [n for n in fitted if n != "another seed"]
        found[name] = {"accuracy": {n: 100 * fitted[n][0]["correct"].mean() for n in (*some, last)},
                       "kept": {n: kept(fitted[last], fitted[n], cnn["predicted"]) for n in some},
                       "seed": kept(fitted[some[0]], fitted["another seed"], cnn["predicted"])}
    return found

each = [shares(run) for run in networks]

# %% [markdown]
# Points are means over the networks. Bars are 95 % intervals of these means (Student's $t$), wide because the networks
# are few, and cut off where no share can be.

# %%
def over_networks(values, least=-np.inf, most=np.inf):
    """[mean, low, high] of one number for each network, none beyond the ends of its scale"""
    n, mean = len(values), np.mean(values)
    half = t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan  # one tells nothing
    return np.clip([mean, mean - half, mean + half], least, most).tolist()

def together(name, what):
    return {n: over_networks([found[name][what][n] for found in each], 0, 100) for n in each[0][name][what]}

curves = {what: {name: together(name, what) for name in DEPTHS} for what in ("accuracy", "kept")}
lost = {name: {n: over_networks([f[name]["accuracy"][n] - f[name]["accuracy"][most] for f in each])
               for n in each[0][name]["kept"]} for name in DEPTHS}
seeds = {name: over_networks([found[name]["seed"] for found in each], 0, 100) for name in DEPTHS}

# %%
titles = {"accuracy": "test pictures named correctly", "kept": "cells that keep their concept"}
figure = figures.curves({titles[what]: rows for what, rows in curves.items()}, "training pictures of each class", "%")
numbers = {"curves": curves, "lost": lost, "another seed": seeds, "all": most}
path = figures.keep(figure, "scaling_pictures", numbers, study, out)
pd.DataFrame({name: {f"{n} of {most}": f"{m:+.1f} ({a:+.1f} to {b:+.1f})" for n, (m, a, b) in row.items()}
              for name, row in lost.items()}).rename_axis("points of accuracy against all")

# %% [markdown]
# The left panel is the paper's remark. For B4 it holds: the fewest pictures name about as many birds as all. B234's
# mean falls with every cut, though its intervals reach zero. The right panel is what the remark leaves out: B4's
# accuracy hardly moves, and yet a quarter of its cells or more show another concept. Some would do so anyway. With the
# fewest pictures, and another seed for k-means and nothing else, this share of the cells keeps its concept:

# %%
table = pd.DataFrame({name: dict(zip(("mean", "low", "high"), row, strict=True)) for name, row in seeds.items()}).T
table.map("{:.0f} %".format).replace("nan %", "")

# %% [markdown]
# On average another seed changes fewer cells than other pictures do; but networks differ much in this, as the wide
# intervals say.
#
# ## The second way out: all pictures, at their price
#
# A fit has four steps: read a picture, pass it through the network, compose its rows (eq. 7 and 8), cluster them. The
# first two cost seconds a picture, the third seconds a row, the last seconds a row and prototype. With whole classes
# given to $N$ workers, that is the model
#
# $$\text{seconds} = \left\lceil \tfrac{C}{N} \right\rceil \frac{n}{C}
# \left( t_\text{read} + t_\text{forward}
# + R' \left( t_\text{compose} + \tfrac{K}{C}\, t_\text{cluster} \right) \right)$$
#
# for $n$ pictures of $C$ classes with $R'$ cells each. `paperlib/runs/costs.py` is this formula. The four rates are
# measured once, on a few pictures of one class, in processor seconds of this process: those of other programs do not
# count.

# %%
def of_class(c, n):
    """The first n training pictures of class c, in the study's order."""
    index = (study.data.train.labels == c).nonzero().flatten()[:n]
    return Subset(study.data.train, index.tolist())

def unfitted(k=K):
    return ConceptExplainer(explainer.blocks, k, study.n_init, study.seed)

middle = sorted(scaling_pictures)[len(scaling_pictures) // 2]
costs.rates(net, of_class(0, middle), unfitted())  # once for nothing: the first pass makes room
measured = costs.rates(net, of_class(0, middle), unfitted())
pd.Series({"read, ms a picture": 1e3 * measured.read, "forward, ms a picture": 1e3 * measured.forward,
           "compose, µs a row": 1e6 * measured.compose,
           "cluster, µs a row and prototype": 1e6 * measured.cluster}, name=f"on {middle} pictures").round(2).to_frame()

# %% [markdown]
# Does it hold for other sizes? Fits of growing numbers of pictures, classes and prototypes, timed (points) and as the
# model has them (dashed). Nothing is fitted to these points: the model knows the four rates, and no more.

# %%
def timed(n, classes, k):
    """Processor seconds of fitting B234 on n pictures of each of the first classes."""
    few = SimpleNamespace(features=net.features, C=net.C, bias=net.bias, n_classes=classes)
    parts = [of_class(c, n) for c in range(classes)]
    labels = torch.arange(classes).repeat_interleave(n)
    pictures, start = ConcatDataset(parts), process_time()
    unfitted(k).fit(few, pictures, labels)
    return process_time() - start

def modelled(n, classes, k):
    return costs.Task(n * classes, classes, H * W, D, k).seconds(measured)["all"]

# %%
ks = sorted({max(1, K // 4), max(1, K // 2), K, 2 * K})
sweeps = {"pictures of a class": {n: (n, 1, K) for n in (*scaling_pictures, most)},
          "classes": {c: (middle, c, K) for c in (1, 2, 4, 8) if c <= len(study.data.classes)},
          "prototypes of a class": {k: (middle, 1, k) for k in ks}}
took = {size: timed(*size) for size in dict.fromkeys(s for sweep in sweeps.values() for s in sweep.values())}
model = {size: modelled(*size) for size in took}

# %%
def drawn(of):
    return {title: {explainer.name: {x: of[size] for x, size in sweep.items()}} for title, sweep in sweeps.items()}

figure = figures.curves(drawn(took), "", "processor seconds", drawn(model), powers=True)
numbers = {"seconds, measured": drawn(took), "seconds, modelled": drawn(model), "rates": vars(measured)}
path = figures.keep(figure, "scaling_costs", numbers, study, out)

# %% [markdown]
# Twice the classes are about twice the work. Twice the pictures or prototypes are less: a class has costs that come
# once, and its pictures pass through the network in any case. In numbers, at the three largest sizes:

# %%
furthest = {title: list(sweep.values())[-1] for title, sweep in sweeps.items()}
check = {f"{n} pictures x {c} classes, K/C = {k}": {"measured, s": took[n, c, k], "modelled, s": model[n, c, k],
                                                    "error, %": 100 * (model[n, c, k] / took[n, c, k] - 1)}
         for n, c, k in furthest.values()}
slopes = {title: float(np.polyfit(np.log(list(sweep)), np.log([took[size] for size in sweep.values()]), 1)[0])
          for title, sweep in sweeps.items()}
pd.DataFrame(check).T.round(2).rename(lambda size: size.replace(" 1 classes", " 1 class"))

# %% [markdown]
# The model is low at most points, for four rates do not know what comes once for each class, and high for the class
# with the most pictures. Read it as an estimate that may err by a third.
#
# ## More workers
#
# Classes need nothing of one another: each worker takes one, reads its pictures where they lie, and sends back $K/C$
# prototypes. Here are real processes on this machine, with Dask's scheduler between them, as it would be between the
# machines of a cluster. Each fits the explainers of one picture a class for nothing, which loads the network and the
# pictures, and then those of the fewest pictures against the clock. The clock is the one on the wall, and the programs
# at work beside it count.

# %%
fewest = next(iter(fits(DEPTHS[explainer.name]).values()))

def fitted_by(address, again, part):
    """B4 to B234 of a part of the pictures, fitted by the scheduler's workers; `again`: a new number, or it is kept."""
    bound = {"beyond": "share", "memory": f"{again}GB"}  # far above what is needed: it changes nothing but the key
    return study.explainers(scheduler=address, part=part, **bound)

def on_workers(n, address):
    """Seconds of the fit on n workers, and the deepest explainer"""
    fitted_by(address, 100 + n, (1, 0))
    start = perf_counter()
    found = fitted_by(address, 200 + n, fewest["part"])
    return perf_counter() - start, found[-1]

# %%
workers = {}
for n in scaling_workers:
    with shards.workers(n) as address:
        workers[n] = on_workers(n, address)
alone = study.explainer(**fewest).prototypes_
apart = {n: float((one.prototypes_ - alone).abs().max()) for n, (_, one) in workers.items()}
pd.DataFrame({n: {"seconds": f"{took:.1f}", "largest difference": f"{apart[n]:.1g}"}
              for n, (took, _) in workers.items()}).T.rename_axis("workers")

# %% [markdown]
# Two workers need less time than one, and more than half of it. The prototypes are those that this notebook fitted by
# itself, to the last bit. They depend on a class's pictures and its seed, and not on who fits it, nor on how many do.
#
# ## What a laptop can do, and what a cluster must
#
# The same four rates for the paper's network, a ResNet34, on pictures as ImageNet has them: a few drawn birds are saved
# as JPEGs of 500 x 375 pixels and read as a data set's files are. Random weights will do, for they take as long as
# trained ones.

# %%
def as_photographs(folder, n):
    """The first n training pictures as JPEG files, and as the data set of these files"""
    paths = [Path(folder, f"{i}.jpg") for i in range(n)]
    for i, path in enumerate(paths):
        pixels = study.data.train.pixels(i).permute(1, 2, 0).contiguous()
        Image.fromarray(pixels.numpy()).resize((500, 375)).save(path, quality=90)
    return PictureFiles(paths, [0] * n, study.data.size)

with tempfile.TemporaryDirectory() as folder:
    photographs = as_photographs(folder, min(8, 2 * scaling_pictures[0]))
    resnet = ready(architectures.build("resnet34", 1000))
    costs.rates(resnet, photographs, ConceptExplainer((2, 3, 4), 10))
    of_resnet = costs.rates(resnet, photographs, ConceptExplainer((2, 3, 4), 10))
    work = costs.operations(resnet, photographs.batch([0])) / 1e9

# %%
hours = {}
for title, task in tasks.items():
    rates = measured if title == study.data.title else of_resnet
    hours[title] = {f"{n} worker{'s' * (n > 1)}": task.seconds(rates, n)["all"] / 3600 for n in (1, 8, 64, 1000)}
steps = {title: tasks[title].seconds(measured if title == study.data.title else of_resnet) for title in tasks}
pd.DataFrame(hours).T.map("{:,.2g} h".format)

# %%
pd.DataFrame({title: {step: f"{row[step] / row['all']:.0%}" for step in row if step != "all"}
              for title, row in steps.items()}).T.rename_axis("share of the time")

# %% [markdown]
# *Laptop*: eight workers are a good one, with all its processors at work, and the rows of one class for each worker in
# memory at a time; what has no room there lies in a mapped file (`memory` and `beyond` of `ConceptExplainer`). The
# birds take seconds, a data set like CUB-200 minutes, and ImageNet a night. *Cluster*: with as many workers as ImageNet
# has classes it is minutes, and with more it is no faster, for a class is not shared out. What comes back is
# prototypes, not rows: no connection is too slow for them.
#
# Where the time goes: on a ResNet34 the forward pass takes most of it, and a GPU shortens that. Next comes k-means,
# which the paper calls the limitation and which grows no faster than the whole; with the birds' small network it is
# most of the work.
#
# ## The numbers, kept

# %% tags=["headline"]
numbers = {"lost": lost, "curves": curves, "another seed": seeds, "slopes of the cost": slopes, "cost": check,
           "cost in hours": hours, "cost by step": steps, "cost of a row": {"birds": vars(measured),
           "ResNet34": vars(of_resnet), "operations of a pass, billion": work},
           "largest difference": max(apart.values(), default=np.nan), "sizes": sizes,
           "cost by workers": {n: {"seconds": took} for n, (took, _) in workers.items()}}
figures.keep(None, "scaling", numbers, study, out)
print("accuracy against all pictures, points:", *(f"\n   {name}, {n} of {most}: {row[n][0]:+.1f}"
                                                  for name, row in lost.items() for n in row))
print("ImageNet on 1 / 8 / 64 / 1000 workers, hours:",
      " / ".join(f"{h:.2g}" for h in hours["ImageNet-1k"].values()))

# %% [markdown]
# ## Summary
#
# - Fewer pictures are a way out for B4's accuracy. For B234's, with eq. 8's factor, that is not shown, and the maps
#   change: other pictures make other concepts.
# - The cost of a fit grows in proportion to classes, and more slowly with pictures and prototypes. Four rates from a
#   few pictures tell roughly what a whole data set takes.
# - k-means runs class by class, so that memory is one class's rows, and workers share classes and send prototypes back:
#   the same ones, to the last bit.
# - Large data sets take hours or machines; k-means does not rule them out.
#
# ## What became of the claims

# %%
closing("11", out)

# %% [markdown]
# ## Exercises
#
# 1. Set `scaling_pictures` to one and two pictures. Where does the accuracy of B4 begin to fall?
# 2. Measure the rates on the largest number of pictures instead of a middle one. Which way does the model err now?
# 3. A class larger than all others is the last to be finished. Put the largest class's pictures into the formula: what
#    does the mean over classes hide?
#
# **Next**: [the page about clusters](cluster.md), for a fit on machines of your own, or [the
# exercises](../exercises/README.md).
