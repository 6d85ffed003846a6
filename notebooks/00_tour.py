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
# # A tour: one picture, from prediction to explanation
#
# A convolutional network looks at a picture and gives it a name. Why that name?
#
# **The paper claims** that much of the answer can be read off the network as it is, after training and without
# gradients: its classifier already compares with *prototypes* (section 3.1), better prototypes are centroids of the
# data (3.2), and centroids inside the network cut a picture into *concepts* (3.3). This tour takes one picture through
# all of it. It shows; notebooks 01 to 05 measure (a table of them is at the end).

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
picture: int = 0                 # number of the test picture

# %%
import numpy as np
import torch
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin

from paperlib import figures
from paperlib.datasets import birds
from paperlib.attribution import upsample
from paperlib.runs.study import open_studies
from paperlib.theorem1 import evidence

study = open_studies(globals())[-1]

# %% [markdown]
# ## The data
#
# The tour takes the last data set named in `dataset`. Here is a training picture of some of its classes:

# %%
train, test, names = study.data.train, study.data.test, study.data.classes
some = np.unique(np.linspace(0, len(names) - 1, 14).round().astype(int))
first = [int((train.labels == c).nonzero()[0]) for c in some]
figure = figures.sheet([train.pixels(i) for i in first], [names[c] for c in some])

# %%
print(f"{study.data.title}: {len(names)} classes, {len(train)} training and {len(test)} test pictures, "
      f"{study.data.size} px. A {study.settings()['backbone']} has learnt them;\n"
      f"it names {study.manifest['accuracy']['test']:.1%} of the test pictures rightly.")

# %% [markdown]
# ## The prediction
#
# The network turns the picture $x$ into a feature map $h$, the map into its mean $z$, and $z$ into one number a class,
# the logits $y$ (eq. 1). The largest wins.

# %%
if not 0 <= picture < len(test):
    raise ValueError(f"picture is {picture}; {study.data.title} has test pictures 0 to {len(test) - 1}.")
net, x, label = study.trained, test.batch([picture]), names[test.labels[picture]]
h = net.features(x)[-1]
y = net(x)[0].cpu()
order = y.argsort(descending=True)[:5].tolist()
c, other = order[:2]
best = [names[j] for j in order]
figure = figures.prediction(test.pixels(picture), f"test picture {picture}: {label}", best, y[order])
path = figures.keep(figure, "tour_prediction", {"logits": y}, study.settings(), out)

# %%
print(f"The network says {names[c]}, which is {'right' if names[c] == label else f'wrong: it is {label}'}. "
      f"The runner-up, {names[other]}, is {y[c] - y[other]:.2f} behind.")

# %% [markdown]
# ## The logit is a mean
#
# Theorem 1 (eq. 4): it makes no difference whether the map is averaged first and then compared with the classifier's
# column $c_j$, or each of its pixels $h_r$ is compared first and the results are averaged. So each pixel has its own
# evidence $h_r \cdot c_j$ for each class, and the logit is the mean of it, exactly.

# %%
E = evidence(h.flatten(2).transpose(1, 2), net.C, net.bias)[0].T.reshape(len(names), *h.shape[2:]).cpu()
figure = figures.evidence([test.pixels(picture)] * 2, [E[c], E[other]], [f"for {names[c]}", f"for {names[other]}"],
                          "evidence, in logits")
path = figures.keep(figure, "tour_evidence", {"evidence": E[[c, other]]}, study.settings(), out)

# %%
print(f"The mean of the {E[c].numel()} pixel{'s' * (E[c].numel() > 1)} is {E[c].mean():.4f} for {names[c]} and "
      f"{E[other].mean():.4f} for {names[other]};\nthe network's own logits are {y[c]:.4f} and {y[other]:.4f}. "
      + ("At this size the map is a single pixel, and it is the logit." if E[c].numel() == 1 else
         f"The two maps correlate at {np.corrcoef(E[c].flatten(), E[other].flatten())[0, 1]:.2f}."))

# %% [markdown]
# ## Prototypes that look like the data
#
# A column $c_j$ is a prototype only in name: it need not resemble any picture (Table 1). KMEx (section 3.2) clusters
# the embeddings $z$ of each class with k-means, keeps the $K/C$ centroids as prototypes, and predicts the class of the
# nearest ($C$ is the number of classes, $K$ that of all prototypes). A prototype is a vector; to see it, we look at the
# training picture whose embedding is nearest to it. The number above is the distance to the centroid, not to the picture.

# %%
kmex, (Z, labels) = study.kmex(), study.embeddings("train")
distance = euclidean_distances(h.mean((2, 3)).cpu().numpy(), kmex.prototypes_)[0]
nearest = int(distance.argmin())
mine = np.flatnonzero(kmex.prototype_labels_ == kmex.prototype_labels_[nearest])
pictures = pairwise_distances_argmin(kmex.prototypes_[mine], Z)
shown = [test.pixels(picture)] + [train.pixels(int(i)) for i in pictures]
captions = ["this picture"] + [f"prototype {n}\nat {distance[k]:.2f}" for n, k in enumerate(mine, 1)]
frames = [None] + [figures.PALETTE[0] if k == nearest else None for k in mine]
figure = figures.sheet(shown, captions, columns=6, colours=frames)
path = figures.keep(figure, "tour_prototypes", {"distances": distance}, study.settings(), out)

# %%
said = kmex.prototype_labels_[nearest]
second = min(np.flatnonzero(kmex.prototype_labels_ != said), key=lambda k: distance[k])
print(f"Nearest of all {len(distance)} prototypes is number {list(mine).index(nearest) + 1} of {names[said]} (framed), "
      f"at {distance[nearest]:.2f};\nof other classes, one of {names[kmex.prototype_labels_[second]]}, "
      f"at {distance[second]:.2f}. So KMEx says {names[said]}, {'as' if said == c else 'unlike'} the network.")

# %% [markdown]
# ## Concepts inside the picture
#
# The same idea one step earlier: cluster not the mean of the map but its pixels, and not of the last block alone.
# B234, named after its blocks, puts the outputs of the last three together (eq. 7 and 8) and clusters the rows of each
# class. Each pixel of our picture then belongs to the nearest prototype of the predicted class: that is its concept.
# The attribution (eq. 11) is the evidence again, divided by $\|c_j\|^2$ and averaged over each concept, one depth after
# the other (notebook 05). The numbers under the patches are these scores. The colours are the scores less their mean:
# red speaks more for the class than the average pixel does, blue less.
#
# Do not expect each patch to look like its segment: a class has only $K/C$ prototypes here, so a pixel takes the least bad
# of them, and a patch found on grass may have to stand for water.

# %%
column = study.explain(picture)[-1]
figure = figures.concepts(test.pixels(picture), column, names[c])
numbers = {key: column[key] for key in ("predicted", "everyone", "attribution")}
path = figures.keep(figure, "tour_concepts", numbers, study.settings(), out)

# %%
ids = [k for k, *_ in column["patches"]]
scores = {n: float(column["attribution"][column["predicted"] == k].mean()) for n, k in enumerate(ids, 1)
          if (column["predicted"] == k).any()}
most, least = max(scores, key=scores.get), min(scores, key=scores.get)
flat = scores[most] - scores[least] < 1e-4 * abs(scores[most])
print(f"{len(scores)} of the {len(ids)} concepts of {names[c]} are on the map of {column['name']}. " + (
      f"All speak for it alike ({scores[most]:+.3g} a pixel)" + ("." if E[c].numel() > 1 else
      ":\nfrom a last block of one pixel, attribution cannot tell places apart.") if flat else
      f"Number {most} speaks most for it ({scores[most]:+.3g} a pixel),\nnumber {least} least ({scores[least]:+.3g})."))

# %% [markdown]
# ## What tipped the balance?
#
# Evidence for the prediction alone does not tell it from the runner-up. Their difference does: its mean is the gap
# between the two logits. And with the drawn birds we know what ought to tip it: a table of attributes says in which
# parts two species differ, and a mask says where these parts are. (A part that is "plain" has no mark of its own: a
# plain eye has the face's colour.)

# %%
lead, title, parts, table = E[c] - E[other], f"for {names[c]} less for {names[other]}", (), None
if study.dataset == "birds":
    parts = birds.distinguishing_parts(c, other)
    table = birds.table().set_index("name").loc[[names[c], names[other]], list(parts)].T
table

# %%
pixels, where = test.pixels(picture), {part: birds.PARTS.index(part) for part in parts}
figure = (figures.parts(pixels, test.masks[picture], where, lead, title) if parts else
          figures.evidence([pixels], [lead], [title], "evidence, in logits"))
path = figures.keep(figure, "tour_difference", {"parts": parts, "lead": lead}, study.settings(), out)

# %%
if parts:
    there = torch.isin(test.masks[picture].long(), torch.tensor(list(where.values())))
    ahead = upsample(lead[None], there.shape, "nearest")[0].clamp_min(0)
    print(f"{names[c]} and {names[other]} differ in {', '.join(parts)},\n"
          f"on {there.double().mean():.1%} of this picture. Of the evidence by which {names[c]} leads, "
          f"{(ahead * there).sum() / ahead.sum():.1%} lies there; spread evenly it would be "
          f"{there.double().mean():.1%}." + (f"\nA square of the map covers {1 / E[c].numel():.0%} of the picture, more "
          "than the parts: it cannot point at them." if 1 / E[c].numel() > there.double().mean() else ""))
else:
    print(f"{study.data.title} says nothing about parts; run the tour with dataset=birds to see them.")

# %% [markdown]
# One picture proves nothing, and a pixel of the last block looks at more of the picture than the square it is drawn
# on. The notebooks measure.
#
# ## Which notebook holds which claim
#
# | notebook | in the paper | what it asks |
# |---|---|---|
# | 00, this tour | sections 3.1 to 3.3 | what does it look like? |
# | [01](01_theorem1.ipynb) | Theorem 1, section 3.1, eq. 1 to 5 | is the logit the mean of each pixel's evidence, and for which networks is it not? |
# | [02](02_table1_cosines.ipynb) | Table 1, section 4 | do the classifier's columns and KMEx's prototypes lie where the data lie? |
# | [03](03_figure2_umap.ipynb) | Figure 2, section 4 | can one see it, for the species that look most alike? |
# | [04](04_table2_accuracies.ipynb) | Table 2, sections 3.2 and 3.3, eq. 6 to 10 | what does explaining by prototypes and concepts cost in accuracy? |
# | [05](05_figure1_interpretation.ipynb) | Figure 1, section 3.3, eq. 6 to 11 | which concepts are where, and how much does each matter? |
# | [06](06_choices.ipynb) | what the paper leaves open, section 6 | which choices change the numbers and the maps beyond noise? |
# | [07](07_attribution.ipynb) | eq. 11 and Figure 1, measured | do the maps point at what matters, compared with gradients, and what do they cost? |
# | [08](08_softcam.ipynb) | a related system, Soft-CAM | is the classifier before the pooling an explanation, and what does a sparse one cost? |
# | [09](09_saliency.ipynb) | a related system, gradient saliency | what does the gradient of a class score show? |
# | [10](10_shortcut.ipynb) | all of it, put to use | which explanation tells that a network looks at the background? |

# %% tags=["headline"]
numbers = {"picture": picture, "label": label, "predicted": names[c], "logit": y[c], "mean evidence": E[c].mean(),
           "kmex": names[said], "concepts": len(scores), "attribution": scores}
figures.keep(None, "tour", numbers, study.settings(), out)
print(f"{study.data.title}: picture {picture} ({label}) taken for {names[c]}; "
      f"logit {y[c]:.2f} = mean of {E[c].numel()}; {len(scores)} concepts")

# %% [markdown]
# ## Summary
#
# - A logit is the mean of evidence that each pixel of the last feature map gives: the network explains itself so far.
# - A centroid of k-means can be shown as the training picture nearest to it, and stands in for the classifier.
# - The same k-means on pixels of several blocks cuts the picture into concepts, and attribution weighs them.
#
# ## Exercises
#
# 1. Run the tour with another `picture`, one that the network gets wrong. Do the concepts show why?
# 2. Add the same random vector $v$ to each column of the classifier (`net.C + v[:, None]`). What happens to the two
#    maps of evidence, and what to their difference?
# 3. Show the class whose evidence is highest at each pixel. How many pixels agree with the prediction?
