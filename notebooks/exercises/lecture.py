# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] slideshow={"slide_type": "slide"}
# # Why that name?
#
# A lecture of twenty-five minutes on *Post-hoc Self-explanation of CNNs* (Boubekki and Clemmensen, arXiv 2603.28466)
#
# ![The picture, and the five largest logits](../../figures/tour_prediction_birds.png)
#
# What can be read off a trained network, without a gradient and without training it again?

# %% [markdown] slideshow={"slide_type": "notes"}
# **Aim**: the paper's three steps on one picture, and where each can mislead. **You need** to know what a convolutional
# network is. **Time**: twenty-five minutes, a minute and a half for each slide; the cells take seconds to run. Three
# slides ask for a guess before the picture comes: wait for hands. The bird is notebook 00's.
#
# - *Why drawn birds?* They ship with the companion, and the truth about them is known: which parts tell two species
#   apart, where these are, and what the picture would be with another part. A photograph tells none of it.
# - *Does it carry over to photographs?* Not the levels. The claims that were also tried on photographs are in
#   `figures/README.md`; most keep their direction there, and some do not.
# - *What is post-hoc about it?* The network is trained as usual and stays as it is. ProtoPNet and its kin are trained
#   for their explanation.

# %% slideshow={"slide_type": "skip"}
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch

import paperlib
from paperlib import figures
from paperlib.datasets import birds
from paperlib.measures import TABLE2
from paperlib.runs.study import Study

plt.rcParams["figure.dpi"] = 150  # a projector shows more than a page
FOLDER = Path(paperlib.__file__).parents[1] / "figures"


def kept(name):
    """The numbers that the notebooks keep beside a figure."""
    return json.loads((FOLDER / f"{name}.json").read_text())["numbers"]


study = Study.of_profile("quick", dataset="birds")
net, test, names = study.trained, study.data.test, study.data.classes

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The logit is a mean
#
# $$\left(\frac{1}{R}\sum_{r=1}^R h_r\right)\cdot c_j \;=\; \frac{1}{R}\sum_{r=1}^R \left(h_r\cdot c_j\right)$$
#
# Pool the cells $h_r$, then compare with the class's column $c_j$; or compare, then pool.

# %% slideshow={"slide_type": "-"} tags=["show"]
h = torch.tensor([[4.0, 0], [2, 0], [1, 1], [1, 3]])  # four cells, two channels
C = torch.tensor([[2.0, -1], [-1, 2]])                # a column for each of two classes
pool_first, classify_first = h.mean(0) @ C, (h @ C).mean(0)

# %% slideshow={"slide_type": "-"}
rows = [*(h @ C).tolist(), classify_first.tolist(), pool_first.tolist()]
pd.DataFrame(rows, [*(f"cell {r}" for r in range(1, 5)), "mean of the cells", "the mean, classified"],
             ["class 1", "class 2"])

# %% [markdown] slideshow={"slide_type": "notes"}
# Theorem 1. Do the first column by hand. Only the second order has the rows above the mean: the last cell speaks for
# the other class.
#
# - *Does every CNN have this form?* Only with average pooling and one linear layer behind it. A maximum, a ReLU or a
#   norm between the cells and the logits breaks it: VGG's and ConvNeXt's heads do (notebook 01).
# - *And a bias, or dropout?* A bias is added to every cell, so the mean has it too. Dropout is silent at prediction.
# - *So is a CNN explained?* It has the form of a self-explainable model: prototypes $c_j$, similarities
#   $h_r \cdot c_j$, their mean as score. Whether a column resembles anything is another question, and comes later.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Evidence, cell by cell
#
# Each cell has its evidence $h_r\cdot c_j$; its mean over the map *is* the logit.
#
# ![Evidence for the prediction and for the runner-up](../../figures/tour_evidence_birds.png)
#
# Which of the two maps says why the first species won?

# %% [markdown] slideshow={"slide_type": "notes"}
# Neither: they are nearly the same map. The answer comes in two slides.
#
# - *Why is each map drawn about its mean?* On the raw scale all of it would be red: in most pictures nearly every
#   cell gives evidence above zero for the class that wins, grass and sky with the rest. The next slide says why nothing
#   is lost: zero means nothing.
# - *Why such coarse squares?* A cell of the last block stands for a square of 32 pixels, and sees far more than that.
#   Resolution is $R$; no interpolation adds any.
# - *Is this not CAM?* It is, number by number: the class activation map of Zhou et al. The theorem says why it may be
#   called an explanation: it adds up to the logit, exactly.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where is zero?
#
# Add one vector $v$ to *every* column of the classifier. What changes?
#
# a) the probabilities and the maps &emsp; b) the maps alone &emsp; c) neither

# %% [markdown] slideshow={"slide_type": "fragment"}
# ![One picture's evidence with three versions of one classifier](../../figures/theorem1_zero_birds.png)
#
# All logits grow by the same $z\cdot v$, which no softmax sees. Each cell's evidence grows by its own $h_r\cdot v$.

# %% [markdown] slideshow={"slide_type": "notes"}
# (b). One classifier written in three ways, with the same probability for the class each time: as trained, all of the
# picture for it, all against it.
#
# - *Which of the three is right?* None more than the others. Training does not choose: the columns' gradients sum to
#   zero, so their mean stays where it began.
# - *Then what may I read?* Differences: one cell against another of the same map, with care, for $h_r\cdot v$ has a
#   pattern of its own; one class's map less another's, safely, for $v$ cancels.
# - *Is Grad-CAM's ReLU arbitrary, then?* Where it cuts off "negative evidence" behind average pooling, yes: the
#   threshold moves with $v$.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What tips the balance?
#
# The winner's map less the runner-up's: its mean is the gap between the two logits, and its zero is not arbitrary.
#
# ![The parts in which the two species differ, and the difference of the maps](../../figures/tour_difference_birds.png)

# %% [markdown] slideshow={"slide_type": "notes"}
# On the left the truth, known because the birds are drawn: crown and breast differ, all else is the same.
#
# - *If water carries the attribution, does the network cheat?* Not by that. A cell of the last block lies at one place
#   and sees most of the picture, so evidence about the breast may sit on the water beside it. Whether the water itself
#   counts, only another picture can tell: the next slide draws it.
# - *Why is so little of the lead on the two parts?* One cell is larger than both parts together. They have more of the
#   lead than of the picture, so the map points their way without outlining them.
# - *May I subtract any two classes?* Yes; for the predicted and the true class of a wrong picture it shows what went
#   wrong (notebook 05).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Put to the test
#
# The same scene, drawn again. Which change gives the runner-up the larger logit?

# %% slideshow={"slide_type": "skip"}
def lead(pixels, c, other):
    """How far class c is ahead of another, in logits."""
    logits = net(test.normalise(pixels)[None])[0]
    return float(logits[c] - logits[other])


c, other = net(test.batch([0]))[0].topk(2).indices.tolist()
parts = birds.distinguishing_parts(c, other)
changes = {"as it is": {}} | {f"its {part}": {"like": other, "parts": (part,)} for part in parts}
changes |= {"both parts": {"like": other, "parts": parts}}
changes |= {f"on {name}": {"background": birds.BACKGROUNDS.index(name)} for name in ("branch", "grass")}
drawn = {title: test.redrawn_pixels(0, **change) for title, change in changes.items()}

# %% slideshow={"slide_type": "fragment"}
leads = {title: lead(pixels, c, other) for title, pixels in drawn.items()}
titles = [f"{title}\nlead {leads[title]:+.2f}" for title in drawn]
figure = figures.sheet(list(drawn.values()), titles, columns=3, side=2,
                       colours=[figures.PALETTE[0 if leads[title] > 0 else 1] for title in drawn])

# %% [markdown] slideshow={"slide_type": "notes"}
# Let them guess with the picture covered. Above each stands the lead of the first species in logits: below zero the
# network has changed its mind. Each changed picture differs from the first in the named thing alone.
#
# - *Is a changed bird still a fair question?* The changed parts are those of a real species of this world, so the
#   picture is one that the network could have met. A part cut out, leaving a hole, would not be.
# - *Does the background matter, then?* Compare the last two with the first. Over many pictures nearly all birds keep
#   their name on another background, and nearly none when marked as the runner-up (notebook 05).
# - *Why do we need maps at all, then?* Because photographs cannot be drawn again. Here we check the instrument where
#   the truth is known.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A column is a prototype in name only
#
# ![A classifier in the plane, and the same classifier with one vector added](../../figures/table1_plane_birds.png)
#
# Same colours, same classifier: training has no reason to let columns point at their data. Centroids do.

# %% [markdown] slideshow={"slide_type": "notes"}
# Three classes after a ReLU. Arrows are columns, squares are class means. Left as trained, right with one vector added
# to every column. On the drawn birds the columns' cosine with their own class is 0.65, the centroids' 0.97 (Table 1).
#
# - *Is the paper's Table 1 about this alone?* In part. What all classes share, the mean embedding, makes much of the
#   gap; without it the columns are nearer, and still below the centroids (notebook 02).
# - *Why are ProtoPNet's cosines so high, then?* Its embeddings come out of a sigmoid: all coordinates are positive, so
#   vectors point much the same way. Its cosine with *other* classes is 0.94.
# - *Could one train the columns to point at the data?* Moving them by one vector costs nothing and does most of it. It
#   makes no prediction better and no map truer.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## KMEx: centroids in place of columns
#
# Cluster the embeddings of each class; predict the class of the nearest centroid.
#
# $$\hat y = \mathrm{class\ of}\;\arg\min_k \|z - p_k\|$$
#
# ![A picture, and the training pictures nearest to its class's centroids](../../figures/tour_prototypes_birds.png)

# %% [markdown] slideshow={"slide_type": "notes"}
# The frame marks the nearest centroid. Its picture has the bird's species, and a stone in water, too.
#
# - *Why does KMEx with one prototype lose on digits?* One centroid per class draws a flat border half-way between two
#   means, whatever the spread of each class. A digit is written in several ways, and their mean is none of them. With
#   five per class the loss is no longer to be told from zero; on the drawn birds five do no better than one.
# - *Is the picture shown the prototype?* No: the centroid is a vector that no picture has. We show the training picture
#   nearest to it.
# - *How do I choose the number per class?* On pictures held back from training, never on the test set; an exercise does
#   it. KMEx's public code fits MNIST's centroids on the test pictures: do not copy that.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where do the prototypes lie?
#
# ![UMAP of the sparrows' embeddings with columns and centroids](../../figures/figure2_birds.png)

# %% [markdown] slideshow={"slide_type": "notes"}
# Crosses are columns, triangles the same columns made as long as the data, squares KMEx's centroids. The map shows
# *among whom* a mark is, not *how far* from them.
#
# - *Why do triangles find their class from afar?* All marks of one length are compared with the data by their direction
#   alone: the nearest embeddings are, but for their own lengths, those with the largest $z\cdot c_j$, the logit. The
#   classifier is nearly always right, so nearly all are of its class. Yet they lie 5.7 spacings away, where a test
#   picture lies at 1.
# - *Why are most crosses in a heap?* They are short. The nearest data to a short vector are the shortest, whatever
#   their class.
# - *May I trust distances on a UMAP?* No. It keeps neighbours, and scales the distances of each new point anew. Measure
#   in the space itself (notebook 03).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## ProtoPNet: a prototype *is* a patch
#
# ![The patches of one class's prototypes](../../figures/figure1_protopnet_birds.png)
#
# The baseline is trained for its explanation: each prototype is pushed onto a patch of its class.

# %% [markdown] slideshow={"slide_type": "notes"}
# - *Why do ProtoPNet's patches show background?* Its loss asks that each picture have *some* cell near a prototype of
#   its class; nothing says on the bird. Most cells are background. And the box is the cell's square, while the cell
#   sees far beyond it: a patch of sky beside a head may stand for the head.
# - *Can two patches be the same?* Yes, where two prototypes are nearest to one patch when pushed. The class
#   then has fewer concepts than it counts (notebook 04 counts the different ones).
# - *Does training for the explanation cost accuracy?* In the paper much; here some on the birds, on a short schedule.
#   Its numbers are those of a schedule more than of a method.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Concepts inside the picture
#
# Cluster the *cells* of several blocks, side by side: $q = \left[\frac{1}{D_b}\,\frac{u^{(b)}}{\|u^{(b)}\|}\right]_b$,
# $\; s = \arg\min_k \|q - p_k\|$
#
# ![Concept map, attribution and prototypes of one picture](../../figures/tour_concepts_birds.png)

# %% [markdown] slideshow={"slide_type": "notes"}
# B234: blocks 2, 3 and 4 at the resolution of the first of them. A segment is all cells of one concept; on the right is
# where each concept comes from, with its share of the evidence.
#
# - *Why do maps show one class's prototypes when all vote?* The vote of eq. 10 needs all of them. But every class
#   brings its own prototype for a piece of sky, so a map among all holds dozens of concepts and cannot be read. The
#   paper's figure shows few, large segments, as if among the predicted class's. Notebook 05 shows both.
# - *Why does a patch of sky stand for water?* A class has few prototypes, and each cell takes the least bad of them.
# - *Does a concept have a name?* No. It is a cluster; people give names, and people can be wrong. Here masks tell how
#   well concepts fit parts: better than another picture's map does, and far below what such cells allow.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What does it cost?
#
# Test accuracy in percent. Guess first: the cells vote; does B234, which sees most detail, come out best or worst?

# %% slideshow={"slide_type": "fragment"}
here = {title: {row: value["test"] for row, value in kept(f"table2_{name}")["table2"].items()}
        for title, name in {"drawn birds": "birds", "digits": "digits"}.items()}
paper = {"KMEx (K/C=5)" if row == "KMEx" else row: cells["cub200"][1] for row, cells in TABLE2.items()}
order = ["CNN", "KMEx (K/C=1)", "KMEx (K/C=5)", "ProtoPNet", "B4", "B34", "B234"]
table = pd.DataFrame({**here, "the paper, CUB-200": paper}).reindex(order)
table.map("{:.1f}".format).replace("nan", "")

# %% [markdown] slideshow={"slide_type": "notes"}
# Read gaps, not levels: other data, other networks. B4 counts the cells of the last block's map; B34 and B234 add
# shallower blocks.
#
# - *How can counting cells be as good as the network?* B4's cells are the rows that the network averages, and most of
#   them are nearest to a prototype of the correct class, on the bird and beside it.
# - *How large must a difference be to count?* About three standard errors, $\sqrt{p(1-p)/n}$ each, if the methods were
#   independent; picture by picture one sees smaller ones. Another training is a further source (notebook 04).
# - *KMEx "does not affect the performance"?* Nearly: with five per class it costs less than a point here, and more on
#   real birds. A claim of no effect needs an interval.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who is heard?
#
# ![The cells' votes by B4, B234 and B234 without the factor](../../figures/table2_vote_birds.png)
#
# With $1/D_b$ the shallow blocks' rows are the longest, and distances add *squares*: the last block is drowned.

# %% [markdown] slideshow={"slide_type": "notes"}
# Channels double from block to block, so block 2 is four times as long as block 4 and counts sixteen times in the
# squared distance. Without the factor B234 wins back most of what it lost.
#
# - *Is the factor a mistake?* It is the paper's choice, and its maps follow outlines because of it. An accuracy of B234
#   cannot be compared without saying which factor. Ours is a parameter.
# - *Do B234's cells not know the species?* They do: each row holds the very channels that B4 votes with. They are
#   drowned within the row.
# - *Which factor should I take?* The one that suits the question, chosen on pictures that are not the test's. It is a
#   switch of notebook 06.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Attribution, and its way upstream
#
# $\mathrm{att}(h_r, c_j) = \frac{h_r\cdot c_j}{\|c_j\|^2}$ at the last block; then brought to each finer map, and
# averaged over its segments.

# %% slideshow={"slide_type": "-"}
first = kept("figure1_birds")
maps = {name: [torch.tensor(first[name]["attribution"])] for name in ("B4", "B34", "B234")}
figure = figures.about_mean([test.pixels(first["picture"])], maps, [""])

# %% [markdown] slideshow={"slide_type": "notes"}
# All three less their means. The outline gets finer, the contrast smaller; the mean stays, and with it the logit.
#
# - *Does the finer map know more?* No. Each step is an average over segments, and an average cannot put back what the
#   last block's few cells have lost. It says *where* more finely, and *how much* more evenly.
# - *Is that Grad-CAM?* Behind average pooling, and but for a factor and its ReLU, B4 is Grad-CAM at the last block.
# - *Why divide by the squared norm?* Because eq. 11 does: it makes classes with long columns comparable. Within one
#   class's map it changes nothing but the scale.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Do the maps point at what matters?
#
# Flat map, centre and edges ask no network: floors. The oracle knows the parts: a ceiling.

# %% slideshow={"slide_type": "-"}
scores = kept("attribution_contest_birds")["scores"]
labels = {"pointing, object": "highest point on the bird:\nshare of pictures",
          "pointing, parts": "on a part that tells\nthe two species apart"}
rows = ("B4", "B34", "B234", "Grad-CAM", "saliency", "RISE", "flat map", "centre", "edges", "oracle, 7 x 7")
figure = figures.forest({row: {score: tuple(scores[row][score]) for score in labels} for row in rows}, labels)

# %% [markdown] slideshow={"slide_type": "notes"}
# Read every score between its floors and its ceiling (the true parts, averaged over cells of the last block's size).
# Whiskers are 95 % intervals.
#
# - *Saliency wins; why bother?* It wins here, by its pixels, and does not add up to the logit; on photographs B34
#   pointed at the bird more often than saliency did. And edges win too: pointing at the bird is easy where the bird is
#   the most detailed thing.
# - *Is the network looking where the map points?* Only interventions say. Pointing asks whether the map agrees with us.
# - *Is it cheap?* Yes: B4 takes 1.1 forward passes, B234 1.2, saliency 3.3, RISE 123.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A network that cheats
#
# In training, 95 of 100 pictures have the background of their species. Test pictures have any.

# %% slideshow={"slide_type": "-"}
pictures = [birds.draw(species, i, background=species % 4)[0] for species in range(4) for i in range(2)]
titles = [names[species] for species in range(4) for _ in range(2)]
figure = figures.sheet([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures], titles, columns=8)

# %% [markdown] slideshow={"slide_type": "-"}
# On test pictures with any background, share of the cells *off the bird* that vote for a species of that background:

# %% slideshow={"slide_type": "-"}
votes = {f"{kind} networks": {name: f"{row['off the bird'][0]:.0%}" for name, row in rows.items()}
         for kind, rows in kept("shortcut_votes_shortcut").items()}
pd.DataFrame(votes).T

# %% [markdown] slideshow={"slide_type": "notes"}
# Eight sparrows, honest networks and networks with the shortcut, three of each from different seeds.
#
# - *Would the accuracy have told?* On test pictures with free backgrounds, at once; on pictures with the same bias, no.
#   Explanations are for when you have only the second kind.
# - *Which explanation tells?* Votes of the background's cells and KMEx's neighbours do. Attribution maps lie on the
#   background more often, too, but networks differ so much that three of each show it for occlusion alone.
# - *Could I tell from one map?* No. An honest network's map lies on the background, too. Compare networks, or draw the
#   picture again.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What to take home
#
# - A logit is the mean of its cells' evidence: exact, free, and without a zero.
# - Compare classes, not colours: the difference of two maps says why one won.
# - Columns are prototypes by their place in a formula; centroids lie among the data and cost little.
# - Concepts outline, attribution weighs; neither adds what the last block has lost.
# - Every score needs a floor, a ceiling and an interval. Every map needs an intervention.

# %% [markdown] slideshow={"slide_type": "notes"}
# - *What should I run first?* The tour, notebook 00, with a picture of your choice; then the exercises, which check
#   themselves.
# - *Can I use it on my network?* If it ends in average pooling and a linear layer: the README shows the one command.
#   Otherwise the companion says what stands in the way.
# - *What is open?* Which factor, which norm, how many prototypes, and whether people predict a network better with such
#   maps than without. The last has not been tried here.
#
# **Next**: [the exercises](README.md), and [00](../00_tour.ipynb), the same bird with all its code.
