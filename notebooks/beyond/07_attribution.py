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
# **The paper shows** attribution maps that need no gradient (eq. 11, Figure 1), and does not measure them.
#
# **Aim**: to measure whether they point at what matters any better than Grad-CAM does, and what they cost. **You need**
# notebook 05. **Time**: half an hour to read, up to ten minutes to run.
#
# It takes pictures whose truth is known. A drawn bird comes with a mask of its parts; for two species we know which
# parts tell them apart; and the same scene can be drawn again with one part as in the other species, so that the
# network itself says how much that part counts. For CUB-200 the truth is coarser: the bird's box, and discs around the
# places of its parts. Pictures without such a truth, a folder of your own for one, get the scores that need none.

# %%
from paperlib.runs.claims import closing, opening

opening("07")

# %% tags=["parameters"]
profile: str = "quick"    # a file of notebooks/profiles: every setting that is not named below
dataset: str = ""         # any of digits, birds, sparrows, shortcut, mnist, stl10, cub200, folder; empty: the profile's
data_root: str = ""       # folder of downloaded data or of your own class folders; empty: data/
settings: dict = {}       # any other setting of paperlib.runs.study.Study, as {"epochs": 3, "seed": 1}
out: str = ""             # folder for figures and numbers; empty: figures/run
contest_pictures: int = 0  # test pictures that maps are scored on, over all networks; 0: one per class and network
contest_networks: int = 0  # networks, of different seeds, each on pictures of its own; 0: the profile's runs
concept_ks: list = [3, 10]  # K/C of the concept maps that are scored

# %%
import numpy as np
import pandas as pd
import torch

from paperlib import figures
from paperlib.attribution import upsample
from paperlib.comparison import contest, pairs, truth
from paperlib.comparison.methods import grad_cam
from paperlib.comparison.scores import about_mean, capped
from paperlib.datasets import birds
from paperlib.runs.study import n_runs, open_studies

# %%
pd.set_option("display.max_colwidth", None)
study = open_studies(globals())[-1]  # the last one that is named
scored = contest.scored(study)
print(f"Maps are scored on {study.data.title}: {study.data.size} px, {len(study.data.classes)} classes.")
print("Scores:", *(f"\n- {score}" for score in scored))

# %% [markdown]
# ## What is asked of a map
#
# For each picture: the network's class $j$, and the runner-up, the class with the second largest logit, its *rival*. A
# map explains class $j$. *Object* is where the bird is; *parts* is where the two classes differ (of CUB-200: where any
# part is). Both as shares of the picture, since a map that knows nothing scores the share. Each network is asked about
# pictures of its own; those that it gets wrong are left out, unless it gets most of them wrong.

# %%
runs = study.runs(contest_networks or n_runs(globals()))
accuracy = min(run.accuracy() for run in runs)
tasks = truth.tasks(runs, contest_pictures)
todo, names = tasks[0], study.data.classes
masks = {name: [getattr(t, name) for t in tasks] for name in ("object", "parts") if todo.object is not None}
areas = {name: float(np.mean([m.double().mean() for m in own])) for name, own in masks.items()}
pd.Series({"networks": len(runs), "lowest test accuracy": accuracy, "pictures": sum(len(t.numbers) for t in tasks),
           **{f"share of the picture: {name}": area for name, area in areas.items()}}).map("{:.3g}".format).to_frame("")

# %%
for number, one, other in list(zip(todo.numbers, todo.target, todo.rival, strict=True))[:3]:
    print(f"picture {number}: why {names[one]} and not {names[other]}?")

# %% [markdown]
# ## Is that the truth of the network, too?
#
# The parts that tell two species apart are the truth of the drawing. Does the network look at them? Draw each bird
# again with those parts as its rival has them, all else the same pixel for pixel; and, for comparison, before another
# background. If the network's decision hangs on the parts, the first turns it into the rival, and the second does not.
# So it is with nearly all pictures (of the first network).

# %%
changed = pd.DataFrame()
if truth.is_drawn(study):
    other = [(int(study.data.test.backgrounds[i]) + 1) % len(birds.BACKGROUNDS) for i in todo.numbers]
    changes = [[{}, {"like": int(k)}, {"background": b}] for k, b in zip(todo.rival, other, strict=True)]
    lead = np.stack(truth.leads(study, todo, changes))
    changed = pd.DataFrame({"lead over the rival, logits": lead.mean(0), "the rival wins, %": 100 * (lead < 0).mean(0)},
                           ["as it is", "parts as the rival's", "another background"])
changed.round(2)

# %% [markdown]
# ## The methods
#
# - **B4, B34, B234**: eq. 11, and the same on its way upstream. One forward pass, no gradient.
# - **Soft-CAM**: the evidence map of notebook 08's network, which was trained further for maps with less in them.
# - **Saliency** (Simonyan et al., notebook 09): $\max |\partial y_j / \partial x|$ over the colours.
# - **Grad-CAM**, at the last block and one before; **HiResCAM**, a relative without its averaging, there; **integrated
#   gradients** from the mean colour; **occlusion** by a window; **RISE**, random masks: captum's and xaitk's.
# - Floors: **edges** of the picture, whatever the network says; a bump in the **centre**, whatever the picture is; and
#   a **flat map**, which deletes in random order and points at random.
# - Ceilings: **oracles**, the true mask of the parts averaged over the cells of B4, of B34 and of B234: what maps of so
#   few cells would show if they knew the parts.
#
# One of them is known already. With average pooling and a linear classifier the gradient of $y_j$ is the same $c_j / R$
# at each cell $h_r$ of the last block. So Grad-CAM there is the positive part of $h_r \cdot c_j / R$: eq. 11 times
# $\|c_j\|^2 / R$. Theorem 1 again:

# %%
ours = [e.name for e in study.explainers()]
net, x, target = study.trained, study.data.test.batch(todo.numbers[:16]), todo.target[:16]
h = net.features(x)[-1]
evidence = torch.einsum("ndhw,nd->nhw", h, net.C.T[target]) / h[0, 0].numel()  # h_r . c_j / R: eq. 11 but for a factor
cam = grad_cam(net, x, target)
gap = float((cam - upsample(evidence.clamp_min(0), x.shape[-2:])).abs().max() / cam.max())
print(f"Grad-CAM and the positive part of {ours[0]}'s evidence differ by {gap:.1e} of the largest value.")
print(f"The evidence is negative in {float((evidence < 0).double().mean()):.1%} of the cells.")

# %% [markdown]
# ## The same pictures, all methods
#
# Each map is divided by its largest absolute value; those of eq. 11 and of Soft-CAM are shown about their own mean, for
# zero is arbitrary there, and all in squares of a few pixels, for lone pixels are not seen. Saliency and integrated
# gradients have a few squares far above all others: one in fifty is drawn at full colour there. Red speaks for the
# class, blue against it (or for it less than the mean); black lines go round the parts that should be found, where they
# are known.

# %%
shown = np.linspace(0, len(todo.numbers) - 1, min(5, len(todo.numbers))).round().astype(int)
numbers, x, target = todo.numbers[shown], study.data.test.batch(todo.numbers[shown]), todo.target[shown]
methods, net = contest.methods(study), study.trained
maps = {name: method(net, x, target) for name, method in methods.items() if name not in ("Grad-CAM", "edges", "centre")}
maps |= {name: m[shown] for name, m in contest.floors_and_ceilings(study, todo).items() if name != contest.FLAT}

def squares(m):
    return torch.nn.functional.avg_pool2d(m, max(1, study.data.size // 56))

def as_drawn(name, m):
    """A method's maps as the figure shows them"""
    if name in (*ours, "Soft-CAM"):
        return list(squares(about_mean(m)))
    return list(capped(squares(m)) if name in ("saliency", "integrated gradients") else squares(m))

# %%
drawn = {name: as_drawn(name, m) for name, m in maps.items()}
pictures = [study.data.test.pixels(i) for i in numbers]
titles = [f"{names[a]} or {names[b]}?" for a, b in zip(target, todo.rival[shown], strict=True)]
outlines = None if todo.parts is None else list(todo.parts[shown])
figure = figures.panel(pictures, drawn, titles, outlines)
path = figures.keep(figure, "attribution_panel", {"pictures": numbers.tolist()}, study, out)

# %% [markdown]
# B4 is a soft blob on the bird, or beside it; B34 cuts it into blocks, and B234 comes near the bird's outline, in
# places with the stone or a strip of the background. A segment keeps one score, wherever it lies. Saliency and
# integrated gradients pick out small pieces of the bird, and in the first and third rows specks of the water. The
# oracles show what so many cells could say: even the coarsest finds the parts.
#
# ## Class, or class against rival?
#
# "Why a Thicket Sparrow and not a Brook Sparrow?" is a question about $y_j - y_k$. Whatever explains a logit explains
# this lead: put $c_j - c_k$ in the place of $c_j$. So do eq. 11 and its way upstream, Soft-CAM, gradients, occlusion.
# RISE cannot: it weighs masks by the probability of one class (in which all rivals are). Edges, centre, a flat map and
# the oracles know no class. Maps of the class and of the lead, drawn as above:

# %%
both = {}
for name in (*ours, "saliency"):
    lead = contest.lead_maps(net, name, methods[name], x, target, todo.rival[shown])
    both |= {f"{name}, class": as_drawn(name, maps[name]), f"{name}, lead": as_drawn(name, lead)}
figure = figures.panel(pictures, both, titles, outlines)
path = figures.keep(figure, "attribution_lead", {"pictures": numbers.tolist()}, study, out)

# %% [markdown]
# Mostly class and lead mark the same place. Not so in the third row: there the maps of the class are on the bird, and
# those of the lead, of B34 and B234, are red over most of the picture.
#
# ## Scores
#
# - *Pointing game*: is the map's highest pixel on the mask? *Mass*: the share of its positive part there. *Mass above
#   mean*: the same after the map's mean is taken away, since zero is arbitrary in eq. 11 (notebook 01).
# - *Swap*: each part in turn is drawn as the rival has it, and the lead falls by so much; does the map rank the parts
#   alike? Spearman's correlation, over the parts that can be seen, of the map's sum on the part and the fall. What two
#   species share falls by nothing. The network says what is true here, and no mask is believed.
# - *Deletion*: the mean probability of the class as pieces of the picture are blurred, the map's highest first: low is
#   good. *Insertion*: the same from a blurred picture to a sharp one: high is good. Pieces follow the picture's edges
#   and are the same for all methods, so that a smooth map and one of segments delete alike. Neither needs a truth.
# - *Verdict changes*: the share of pixels that go from above the map's mean to below it, or back, when the picture
#   moves by a little. *Gini*: zero for an even map, near one for a single pixel; neither is good in itself.
#
# Integrated gradients, occlusion and RISE take dozens of passes: they are scored on every third picture. So are the
# curves and the verdicts.

# %%
found = [contest.contest(run, t) for run, t in zip(runs, tasks, strict=True)]
whole = contest.pooled(list(zip(tasks, found, strict=True)))
means = contest.table(whole)
interval = "{:z.2f}\u00a0({:z.2f}\u00a0to\u00a0{:z.2f})".format  # spaces at which no line is broken

def table(rows, columns):
    """Mean and interval: a row for each of `rows`, a column for each of `columns`."""
    return pd.DataFrame({name.replace(" ", "\u00a0"): {score: interval(*row[score]) if score in row else ""
                                                       for score in columns} for name, row in rows.items()}).T

table(means, [score for score in scored if score in contest.OF_TRUTH])

# %% [markdown]
# *Swap*, and the scores of the lead over the rival; a method that cannot explain the lead has no number there:

# %%
table(means, [score for score in ("swap", *reversed(contest.OF_LEAD)) if score in scored])

# %% [markdown]
# And what needs no truth:

# %%
table(means, [score for score in scored if score in contest.FREE])

# %%
panels = {"pointing, parts": "pointing game, parts", "mass above mean, parts": "mass above mean, parts",
          "swap": "swap", "swap, lead": "swap, of the lead", "deletion": "deletion (low is good)",
          "insertion": "insertion (high is good)", "verdict changes": "verdict changes"}
panels = {score: label for score, label in panels.items() if score in scored}
lines = {score: means[contest.FLAT][score][0] for score in panels if score in means[contest.FLAT]}
figure = figures.forest(means, panels, lines)
path = figures.keep(figure, "attribution_scores", {"means": means, "areas": areas}, study, out)

# %% [markdown]
# Dots are means over pictures, bars intervals (bootstrap; one in twenty may miss), dashed lines what a flat map gets.
# On the parts, what a map can win lies between the dashed line and the oracle of its own cells. A flat map's *swap*
# ranks parts by their size, and the paper's maps of the class rank them no better. In deletion and insertion the
# oracles are no ceiling: what gives a class away is more than what parts it from its rival.
#
# ## Who is better?
#
# Two methods are compared on the same pictures: the mean of the differences, picture by picture. *Limit* is three
# standard errors: less could not be seen on these pictures. *p* is the chance of so large a mean if each difference had
# its sign by chance, corrected by Holm's method for all the comparisons that this section makes: each of the paper's
# maps with each other method, on each score that has a good side. The limit is that of one comparison by itself, before
# the correction; so a difference a little beyond it may still not be told from chance among so many.

# %%
SIDES = {"pointing, object": 1, "pointing, parts": 1, "mass above mean, parts": 1, "swap": 1, "swap, lead": 1,
         "deletion": -1, "insertion": 1, "verdict changes": -1}  # 1: high is good, -1: low is good
good = {score: side for score, side in SIDES.items() if score in scored}

def gaps(found):
    """(mine, other, score) -> how much better mine is than the other, picture by picture"""
    every = {(mine, other, score): side * (found[mine][score] - found[other][score]) for mine in ours
             for other in found if other not in ours for score, side in good.items()}
    return {name: gap for name, gap in every.items() if np.isfinite(gap).sum() > 1}

# %%
compared = pairs.compared(gaps(whole))
alone = [{name: np.nanmean(gap) for name, gap in gaps(one).items()} for one in found]
for name, row in compared.items():
    row["networks that agree"] = sum(np.sign(one.get(name, 0)) == np.sign(row["difference"]) for one in alone)
rows = pd.DataFrame(compared).T.rename_axis(["ours", "other", "score"])
print(f"{len(rows)} comparisons; {(rows['p'] < 0.05).sum()} are told apart (p below .05).")

# %% [markdown]
# By how much each of the paper's maps is better (red) or worse (blue) than each other method. The colour is the
# difference in its standard errors, pale near zero and full from six on; beyond three it is larger than its limit.
# Numbers are bold where the two are told apart, after the correction.

# %%
kept = {mine: {} for mine in ours}
for (mine, other, score), row in compared.items():
    kept[mine].setdefault(other, {})[score] = row
figure = figures.differences(kept, list(good))
path = figures.keep(figure, "attribution_differences", kept, study, out)

# %% [markdown]
# On the bird and its parts only the flat map can be shown to be worse than the paper's maps; the oracles, and even the
# edges of the picture, are better. Saliency and integrated gradients are better than B34 and B234 on all three scores
# drawn; than B4, saliency on two of them and integrated gradients on one. (B4 and Grad-CAM are one map but for its
# negative part; that moves the mass consistently, and by so little that it takes more decimals to see.) Even a bump in
# the centre points at the bird more often than B34 and B234. Deletion and insertion tell only the flat map from the
# paper's. The verdict changes least with the edges; with RISE it changes more than with any of the paper's maps.
#
# The limits, as medians over the cheap methods and over those on every third picture:

# %%
dear = rows.index.get_level_values("other").isin(contest.DEAR)
pd.DataFrame({"cheap methods": rows[~dear].groupby("score")["limit"].median(),
              "every third picture": rows[dear].groupby("score")["limit"].median()}).reindex(good).round(2)

# %% [markdown]
# On the score that asks about the decision itself, what does each method gain by explaining the lead instead of the
# class? All gain; the difference is told from chance for the paper's maps, Soft-CAM, both Grad-CAMs and integrated
# gradients.

# %%
lead_gains = pd.DataFrame()
if "swap, lead" in scored:
    gained = {name: row["swap, lead"] - row["swap"] for name, row in whole.items()
              if np.isfinite(row["swap, lead"] - row["swap"]).sum() > 1}
    lead_gains = pd.DataFrame(pairs.compared(gained)).T.reindex(columns=["difference", "limit", "p"])
lead_gains.round(3)

# %% [markdown]
# ## What they cost
#
# Seconds of a method divided by those of a forward pass of the same batch, in the same minute on the same machine. B4,
# B34 and B234 come with their concept map, without the fitting of the prototypes that it needs once. (Notebook 11 says
# what that costs. Soft-CAM's map comes without its training.)

# %%
cost = contest.costs(study, n=min(4, len(todo.numbers)))
pd.Series(cost, name="forward passes").round(2).to_frame()

# %% [markdown]
# ## Do concepts match parts?
#
# A concept map cuts a picture into segments. Are they the bird's parts? *ARI*, the adjusted Rand index, is zero by
# chance and one for the same cut; *purity* is the share of pixels whose part is the commonest in their segment (the
# background's share, for a single segment); *IoU* is the mean over parts of the overlap with the segment that fits
# best. Maps are among the predicted class's $K/C$ prototypes. The floor, *colours*, is k-means on the colours of each
# picture by itself, with no network; the ceiling, *oracle*, takes the commonest part of each cell. (Without known parts
# this section stays empty.)

# %%
per_class = truth.per_class(study, contest_pictures, len(runs))
fitted = (min(8, int(study.data.train.labels.bincount().min())), 0)  # on the pictures that notebook 06 fits on
cuts = contest.concept_contest(study, concept_ks, per_class, fitted) if contest.has_truth(study) else {}
matches = contest.table({f"{name}, K/C={k}" if k else name: row for (name, k), row in cuts.items()})
table(matches, ("ARI", "purity", "IoU"))

# %%
if matches:
    labels = {"ARI": "adjusted Rand index", "purity": "purity", "IoU": "best IoU, mean over parts"}
    figure = figures.forest(matches, labels)
    path = figures.keep(figure, "concepts_and_parts", {"means": matches}, study, out)

# %% [markdown]
# Do they match better than the colours' segments, as many per picture? Differences on the same pictures, with Holm's
# correction again. By the best overlap all of them match worse; by the Rand index B234 with the larger K/C matches
# better, B4 worse, and the others cannot be told apart from colours.

# %%
over = {(f"{name}, K/C={k}", score): row[score] - cuts["colours", k][score] for (name, k), row in cuts.items()
        if name in ours for score in ("ARI", "IoU")}
over = pairs.compared(over) if over else {}
pd.DataFrame(over).T.reindex(columns=["difference", "limit", "p"]).astype(float).round(3)

# %% [markdown]
# ## The numbers, kept

# %% tags=["headline"]
numbers = {"scores": means, "areas": areas, "cost": cost, "concepts": matches, "networks": len(runs),
           "pictures": len(whole[ours[0]]["Gini"]), "changed": changed.to_dict(), "differences": kept,
           "lead gains": lead_gains.T.to_dict(), "concepts over colours": {
               name: {score: row for (n, score), row in over.items() if n == name} for name, _ in over}}
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
# - A score is read between its floor and its ceiling: a flat map below, an oracle of the same cells above.
# - The way upstream gives finer outlines. It averages over segments that may lie anywhere in the picture, so it cannot
#   put back what the last block's few cells have lost: on these birds it points at the parts no more often than B4.
# - Of the methods that explain the network as it is, the paper's maps are the cheapest, once their prototypes are
#   fitted; like Grad-CAM they take less than two forward passes.
# - These are small networks on drawn birds. For fifty species of real birds and a pretrained network
#   `figures/README.md` keeps the means of six of these scores.
#
# ## What became of the claims

# %%
closing("07", out)

# %% [markdown]
# ## Exercises
#
# 1. Remove a part (`study.data.test.redrawn(i, without=("wing bars",))`) instead of swapping it. Which of the scores of
#    this notebook does that change, and is the picture still one that the network could have met?
# 2. Delete the *lowest* pieces first. For which methods is the curve the mirror image?
# 3. Use `segments="all"` in `upstream`. Which scores change?
#
# **Next**: [08](08_softcam.ipynb), a network trained for its maps.
