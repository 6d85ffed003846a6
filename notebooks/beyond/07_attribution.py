# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Attribution, measured: are these maps better than gradients?
#
# **The paper shows** attribution maps that need no gradient (eq. 11, Figure 1), and does not measure them. A reader
# will ask whether they point at what matters any better than Grad-CAM does, and what they cost. The paper has no number
# to hold ours against; this notebook makes some.
#
# It takes pictures whose truth is known. A drawn bird comes with a mask of its parts, and for two species we know which
# parts tell them apart: an explanation of why the network says *Thicket Sparrow* rather than *Brook Sparrow* should
# point at the wing bars. For CUB-200 the truth is coarser: the bird's box, and discs around the places of its parts.
# Pictures without such a truth, a folder of your own for one, get the four scores that need none.

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
contest_pictures: int = 0  # test pictures that maps are scored on, spread over the classes; 0: one per class
contest_networks: int = 1  # networks, of different seeds, that scores are means over
concept_ks: list = [1, 3, 5, 10]  # K/C of the concept maps that are scored

# %%
import numpy as np
import pandas as pd

from paperlib import figures
from paperlib.comparison import contest
from paperlib.comparison.contest import sign_of_difference
from paperlib.comparison.methods import grad_cam
from paperlib.runs.study import open_studies

pd.set_option("display.max_colwidth", None)
studies = open_studies(globals())
study = ([s for s in studies if contest.has_truth(s)] or studies)[-1]  # the last one with a truth, if one has
scored = contest.scored(study)
print(f"Maps are scored on {study.data.title}: {study.data.size} px, {len(study.data.classes)} classes.")
print("Scores:", *(f"\n- {score}" for score in scored))

# %% [markdown]
# ## What is asked of a map
#
# For each picture: the network's class $j$, and the runner-up, the class with the second largest logit. A map explains
# class $j$. *Object* is where the bird is; *parts* is where the two classes differ (of CUB-200: where any part is).
# Both as shares of the picture, since a map that knows nothing scores the share. Pictures that the network gets wrong
# are left out, unless it gets most of them wrong.

# %%
runs = study.runs(contest_networks)
per_class = max(1, -(-contest_pictures // len(study.data.classes)))
accuracy = min(run.manifest["accuracy"]["test"] for run in runs)
tasks = [contest.task(run, per_class, contest_pictures, only_correct=accuracy > 0.5) for run in runs]
todo, names = tasks[0], study.data.classes
masks = {name: mask for name, mask in {"object": todo.object, "parts": todo.parts}.items() if mask is not None}
areas = {name: float(mask.double().mean()) for name, mask in masks.items()}
pd.Series({"networks": len(runs), "lowest test accuracy": accuracy,
           "pictures": len(set().union(*(t.numbers.tolist() for t in tasks))),
           **{f"share of the picture: {name}": area for name, area in areas.items()}}).map("{:.3g}".format).to_frame("")

# %%
for number, one, other in list(zip(todo.numbers, todo.target, todo.rival, strict=True))[:3]:
    print(f"picture {number}: why {names[one]} and not {names[other]}?")

# %% [markdown]
# ## The methods
#
# - **B4, B34, B234**: eq. 11, and the same on its way upstream. One forward pass, no gradient.
# - **Soft-CAM**: the evidence map of notebook 08's network, which was trained on for a map with less in it.
# - **Saliency** (Simonyan et al. 2013, notebook 09): $\max |\partial y_j / \partial x|$ over the colours.
# - **Grad-CAM**, and a relative without its averaging, **HiResCAM**, one block before the last; **integrated
#   gradients** (16 steps from the mean colour); **occlusion** (a window of a quarter of the side); **RISE** (128 random
#   masks): captum's and xaitk's.
# - Two floors: **edges** of the picture, whatever the network says, and a bump in the **centre**, whatever the picture
#   is.
#
# One of them is known already. With average pooling and a linear classifier the gradient of $y_j$ is the same $c_j / R$
# at each cell $h_r$ of the last block. So Grad-CAM there is the positive part of $h_r \cdot c_j / R$: eq. 11 times
# $\|c_j\|^2 / R$. Theorem 1 again:

# %%
ours = [e.name for e in study.explainers()]
net, x, target = study.trained, study.data.test.batch(todo.numbers[:16]), todo.target[:16]
h = net.features(x)[-1]
scale = net.C.square().sum(0)[target] / h[0, 0].numel()
b4 = contest.methods(study)[ours[0]](net, x, target)
cam = grad_cam(net, x, target)
gap = float((cam - scale[:, None, None] * b4).abs().max() / cam.max())
print(f"Grad-CAM and ||c_j||^2 / R times {ours[0]} differ by at most {gap:.1e} of the largest value.")
print(f"{ours[0]} is negative on {float((b4 < 0).double().mean()):.1%} of the pixels.")

# %% [markdown]
# ## The same pictures, all methods
#
# Each map is divided by its largest absolute value. Red speaks for the class, blue against it; black lines go round the
# parts that should be found, where they are known.

# %%
shown = np.linspace(0, len(todo.numbers) - 1, min(6, len(todo.numbers))).round().astype(int)
numbers, x, target = todo.numbers[shown], study.data.test.batch(todo.numbers[shown]), todo.target[shown]
maps = {name: list(method(study.trained, x, target)) for name, method in contest.methods(study).items()}
pictures = [study.data.test.pixels(i) for i in numbers]
titles = [f"{names[a]} or {names[b]}?" for a, b in zip(target, todo.rival[shown], strict=True)]
figure = figures.panel(pictures, maps, titles, None if todo.parts is None else list(todo.parts[shown]))
path = figures.keep(figure, "attribution_panel", {"pictures": numbers.tolist()}, study, out)

# %% [markdown]
# The last block has few cells, so B4 and Grad-CAM are large soft spots. B34 and B234 have outlines on the finer grids
# of earlier blocks, but what they mark is as large.
#
# ## Scores
#
# - *Pointing game*: is the map's highest pixel on the mask? *Mass*: the share of its positive part there. *Mass above
#   mean*: the same after the map's mean is taken away, since zero is arbitrary in eq. 11 (notebook 01).
# - *Deletion*: the mean probability of the class as pixels are blurred, the map's highest first: low is good.
#   *Insertion*: the same from a blurred picture to a sharp one: high is good. Neither needs a truth.
# - *Verdict changes*: the share of pixels that go from above the map's mean to below it, or back, when the picture
#   moves by a 24th of its side. *Gini*: 0 for an even map, near 1 for a single pixel; neither is good in itself.

# %%
found = contest.pooled([(t, contest.contest(run, t)) for run, t in zip(runs, tasks, strict=True)])
means = contest.table(found)
interval = "{:.2f}\u00a0({:.2f}\u00a0to\u00a0{:.2f})".format  # spaces at which no line is broken

def table(rows, columns):
    """Mean and interval: a row for each of `rows`, a column for each of `columns`."""
    return pd.DataFrame({name: {score: interval(*row[score]) for score in columns} for name, row in rows.items()}).T

table(means, [score for score in contest.OF_TRUTH if score in scored])

# %%
table(means, [score for score in scored if score not in contest.OF_TRUTH])

# %%
panels = {"pointing, object": "pointing game, object", "pointing, parts": "pointing game, parts",
          "mass above mean, parts": "mass above mean, parts", "deletion": "deletion (low is good)",
          "insertion": "insertion (high is good)", "verdict changes": "verdict changes"}
panels = {score: label for score, label in panels.items() if score in scored}
lines = {f"{a}, {b}": areas[b] for a in ("pointing", "mass above mean") for b in areas}
figure = figures.forest(means, panels, lines)
path = figures.keep(figure, "attribution_scores", {"means": means, "areas": areas}, study, out)

# %% [markdown]
# Dots are means over pictures, bars 95 % bootstrap intervals, dashed lines what a map that knows nothing gets. Who is
# best? A method is named with all those that it cannot be told from: the interval of the difference on the same
# pictures contains zero. A floor that leads says that the score can be had without a look at the network.

# %%
GOOD = {"pointing, object": 1, "pointing, parts": 1, "mass, object": 1, "mass, parts": 1,
        "mass above mean, object": 1, "mass above mean, parts": 1, "deletion": -1, "insertion": 1,
        "verdict changes": -1}  # 1: high is good, -1: low is good
good = {score: side for score, side in GOOD.items() if score in scored}

def leaders(score):
    """The method with the best mean, that mean, and the methods that cannot be told from it."""
    ranked = sorted(means, key=lambda name: -good[score] * means[name][score][0])
    level = [name for name in ranked[1:] if sign_of_difference(found[ranked[0]][score], found[name][score]) == 0]
    mean = f"{means[ranked[0]][score][0]:.2f}"
    return {"best": ranked[0], "mean": mean, "cannot be told from it": "; ".join(level)}

pd.DataFrame({score: leaders(score) for score in good}).T

# %% [markdown]
# ## Where the paper's maps stand
#
# For each of B4, B34 and B234, method by method: on how many of these scores is it better, on how many worse, and on
# how many can the two not be told apart?

# %%
def balance(mine, other):
    """better / worse / not to be told apart, over the scores that have a good side"""
    signs = [good[score] * sign_of_difference(found[mine][score], found[other][score]) for score in good]
    return "\u00a0/\u00a0".join(str(signs.count(sign)) for sign in (1, -1, 0))

against = pd.DataFrame({mine: {other: balance(mine, other) for other in means if other != mine} for mine in ours})
against.fillna("").rename_axis("better / worse / alike")

# %% [markdown]
# And which methods are ahead, beyond the error?

# %%
asked = [score for score in ("pointing, parts", "insertion") if score in scored]

def ahead_of(mine, score):
    """The methods that are better than `mine`."""
    return [other for other in means
            if good[score] * sign_of_difference(found[mine][score], found[other][score]) < 0]

pd.DataFrame({mine: {f"{score}: ahead of it": "; ".join(ahead_of(mine, score)) for score in asked}
              for mine in ours}).T

# %% [markdown]
# ## What they cost
#
# Seconds of a method divided by those of a forward pass of the same batch, in the same minute on the same machine. B4,
# B34 and B234 come with their concept map.

# %%
cost = contest.costs(study, n=min(8, len(todo.numbers)))
pd.Series(cost, name="forward passes").round(2).to_frame()

# %% [markdown]
# ## Do concepts match parts?
#
# A concept map cuts a picture into segments. Are they the bird's parts? *ARI*, the adjusted Rand index, is 0 by chance
# and 1 for the same cut; *purity* is the share of pixels whose part is the commonest in their segment (the background's
# share, for a single segment); *IoU* is the mean over parts of the overlap with the segment that fits best. Maps are
# among the predicted class's $K/C$ prototypes. The floor, *colours*, is k-means on the colours of each picture by
# itself, with no network. (Without known parts this section stays empty.)

# %%
cuts = contest.concept_contest(study, concept_ks, per_class) if contest.has_truth(study) else {}
matches = contest.table({f"{name}, K/C={k}": row for (name, k), row in cuts.items()})
table(matches, ("ARI", "purity", "IoU"))

# %%
if matches:
    labels = {"ARI": "adjusted Rand index", "purity": "purity", "IoU": "best IoU, mean over parts"}
    figure = figures.forest(matches, labels)
    path = figures.keep(figure, "concepts_and_parts", {"means": matches}, study, out)

# %% [markdown]
# Do they match better than the colours' segments, as many per picture? 1: better, -1: worse, 0: the two cannot be told
# apart.

# %%
pd.DataFrame({f"{name}, K/C={k}": {score: sign_of_difference(row[score], cuts["colours", k][score])
                                   for score in ("ARI", "IoU")}
              for (name, k), row in cuts.items() if name != "colours"}).T

# %% [markdown]
# ## The numbers, kept

# %% tags=["headline"]
numbers = {"scores": means, "cost": cost, "concepts": matches, "pictures": len(found[ours[0]]["Gini"]),
           "networks": len(runs)}
figures.keep(None, "attribution_contest", numbers, study, out)
told = [score for score in ("pointing, object", "pointing, parts", "deletion", "insertion") if score in scored]
print(f"{study.data.title}, {numbers['pictures']} pictures")
print(*told, "cost", sep=" / ")
for name in (*ours, "saliency", "integrated gradients", "RISE", "centre"):
    print(name, *(f"{means[name][score][0]:.2f}" for score in told), f"{cost[name]:.1f}", sep=" / ")

# %% [markdown]
# ## Summary
#
# - But for a factor, B4 is the evidence map of a Soft-CAM that was not retrained, and its positive part is Grad-CAM at
#   the last block: Theorem 1 makes them one.
# - **Where the paper's maps lose.** On the drawn birds, as shown above, plainly: saliency, integrated gradients,
#   occlusion and RISE point at the bird and at its distinguishing parts more often than B4, B34 and B234, and their
#   deletion and insertion curves are better (only B234's insertion cannot be told from that of integrated gradients). A
#   bump in the middle of the picture also points at bird and parts more often, and B4's hits on the parts cannot be
#   told from those of a map that knows nothing.
# - Where they win: cost. Like Grad-CAM they take less than two forward passes; saliency takes two to three, integrated
#   gradients, occlusion and RISE dozens. And when the picture moves, B4 changes its verdict less than these four do.
# - The way upstream gives finer outlines. It averages over segments that may lie anywhere in the picture, so it cannot
#   put back what the last block's few cells have lost.
# - Concept maps match the drawn birds' parts no better than k-means on the picture's own colours does.
# - These are small networks, trained for minutes, whose last block has few cells. It need not be so: for 50 species of
#   real birds and a pretrained network, whose last block has 7 x 7 cells, `figures/README.md` keeps the means of six of
#   these scores. B34 is ahead of saliency on all six; occlusion is ahead of B34 on four and level on two. There the
#   concept maps of B34 match the parts better than colours do.
#
# ## Exercises
#
# 1. Explain the lead $c_j - c_k$ over the runner-up instead of $c_j$. Does the map point at the distinguishing parts
#    more often?
# 2. Delete the *lowest* pixels first. For which methods is the curve the mirror image?
# 3. Use `segments="all"` in `upstream`. Which scores change?
