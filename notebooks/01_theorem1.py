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
# # Theorem 1: is a CNN a self-explainable model?
#
# **The paper claims** (section 3.1, Theorem 1, eq. 4 and 5): a CNN that ends in average pooling and a linear
# classifier is a self-explainable model (SEM) whose prototypes are the classifier's columns $c_j$. The proof is one
# line: averaging and the dot product can change places.
#
# This notebook computes both sides of eq. 4 on real networks, draws the evidence that the right-hand side makes
# visible, and shows networks for which the two sides differ.

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
other_epochs: int = 1            # epochs of training for the four other networks; 0: untrained only
other_train_per_class: int = 60  # at most so many training pictures a class for them; 0: all
other_size: int = 64             # pixels of their pictures' side; at 32 they end in one pixel, and eq. 4 says nothing

# %%
from dataclasses import replace

import pandas as pd
import torch
from torch import nn
from torchvision.models import get_model

from paperlib import figures
from paperlib.backbone import Backbone, StructureError
from paperlib.networks.architectures import ARCHITECTURES, build
from paperlib.runs.study import open_studies
from paperlib.theorem1 import classify_then_pool, evidence, pool_then_classify

studies = open_studies(globals())

# %% [markdown]
# ## The two sides
#
# The encoder turns a picture into $h$: $R$ rows (the pixels of the last feature map), each with $D$ channels. The
# classifier has a column $c_j \in \mathbb{R}^D$ for each class $j$. Then
#
# $$\Big(\frac1R\sum_{r=1}^R h_r\Big)\cdot c_j \;=\; \frac1R\sum_{r=1}^R \big(h_r\cdot c_j\big). \tag{4}$$
#
# On the left, pool, then classify: what the network does. On the right, classify each pixel, then pool. In exact
# arithmetic the sides are equal; a computer rounds, so we ask for the largest difference between them.

# %%
def rows_of(net, x):
    """The encoder's output h, (n, R, D), for pictures x."""
    return net.features(x)[-1].flatten(2).transpose(1, 2).cpu()

def compare(h, C, bias=None):
    """The largest logit, and the largest difference between the two sides of eq. 4 in each precision."""
    found = {"D": h.shape[2], "R": h.shape[1], "bias": "no" if bias is None else "yes"}
    for name, dtype in {"float32": torch.float32, "float64": torch.float64}.items():
        given = [t if t is None else t.cpu().to(dtype) for t in (h, C, bias)]
        left, right = pool_then_classify(*given), classify_then_pool(*given)
        found |= {"max |logit|": left.abs().max().item(), f"error {name}": (left - right).abs().max().item()}
        found[f"relative {name}"] = found[f"error {name}"] / (found["max |logit|"] or 1)
    return found

# %% [markdown]
# Two helpers, for the eye and for short cells:

# %%
def some(study, n=64):
    """At most n test pictures of a study, spread over the split: their numbers, and what the network takes."""
    indices = torch.linspace(0, len(study.data.test) - 1, min(n, len(study.data.test))).long()
    return indices, study.data.test.batch(indices)

def table(rows):
    """Rows for the eye: small numbers to two digits."""
    frame = pd.DataFrame(rows).set_index("network")
    return frame.assign(**{name: frame[name].map("{:.1e}".format) for name in frame if frame[name].dtype == float})

# %% [markdown]
# First the trained network of each data set, on at most 64 of its test pictures. *Relative* is the error divided by the
# largest logit.

# %%
own = []
for study in studies:
    net, x = study.trained, some(study)[1]
    name = study.settings()["backbone"].split(":")[-1]  # of a network of one's own, the function's name
    found = compare(rows_of(net, x), net.C, net.bias)
    own.append({"network": f"{name}, {study.data.title}", "trained": "yes", **found})
table(own)

# %% [markdown]
# The yardstick is the machine epsilon, the distance from 1 to the next number: $2^{-23}$ in float32 and $2^{-52}$ in
# float64. A sum of hundreds of products may err by a few epsilon. A wrong theorem would err by far more, and as much in
# float64 as in float32.

# %%
EPSILON = {name: torch.finfo(getattr(torch, name)).eps for name in ("float32", "float64")}

for row in own:
    times = " and ".join(f"{row[f'relative {name}'] / eps:.1f} epsilon in {name}" for name, eps in EPSILON.items())
    print(f"{row['network']}: R = {row['R']}; the sides differ by {times}.")
    if row["R"] == 1:
        print("  With one pixel there is nothing to average: the two sides are the same computation, and test nothing.")

# %% [markdown]
# ## Read as a self-explainable model
#
# Eq. 3 describes an SEM: compare the encoder's output with prototypes $p_k$, then project the similarities to scores.
# Eq. 5 puts the CNN into that form.
#
# | part of an SEM (eq. 3) | in a CNN (eq. 5) |
# |---|---|
# | prototypes $p_k$ | columns $c_j$ of the classifier, one for each class |
# | $\text{sim}(h_r, p_k)$ | dot product $h_r \cdot c_j$ |
# | $\text{proj}$ | average over the $R$ pixels |
#
# The figures show the last data set. Here are the three steps on its network, against the network's own forward pass;
# where the classifier has a bias, each pixel gets all of it, so that the mean does too.

# %%
study = studies[-1]
net, (indices, x) = study.trained, some(study)

h = rows_of(net, x)                # enc: (n, R, D)
C, bias = net.C.cpu(), None if net.bias is None else net.bias.cpu()
similarity = evidence(h, C, bias)  # sim: (n, R, C)
scores = similarity.mean(1)        # proj: (n, C)
logits = net(x).cpu()
print(f"{study.data.title}: similarities {tuple(similarity.shape)} become scores {tuple(scores.shape)}. They differ "
      f"from the network's logits by at most {(scores - logits).abs().max():.0e}; the largest logit is "
      f"{logits.abs().max():.3g}.")

# %% [markdown]
# ## Class evidence maps
#
# The right-hand side passes through something that the left-hand side never computes: $h_r \cdot c_j$, the evidence
# of pixel $r$ for class $j$. As a map, its mean *is* the logit: nothing is approximated, and no gradient is needed. It
# is the class activation map (CAM) of Zhou et al. (2016). Here it is for the predicted class of five test pictures,
# whose name stands above (with the true one, where it is another): red speaks for the class, blue against it. (Where
# zero lies is partly chance: exercise 2.)

# %%
chosen = torch.linspace(0, len(x) - 1, 5).long().tolist()
predicted = logits.argmax(1)
side = net.features(x[:1])[-1].shape[-2:]
maps = [similarity[i, :, predicted[i]].view(*side) for i in chosen]
names = [study.data.classes[c] for c in predicted[chosen]]
truth = [study.data.classes[c] for c in study.data.test.labels[indices[chosen]]]
titles = [name if name == label else f"{name}\n(truth: {label})" for name, label in zip(names, truth, strict=True)]
pictures = [study.data.test.pixels(int(indices[i])) for i in chosen]
figure = figures.evidence(pictures, maps, titles, "evidence (logits)")
kept = [{"predicted": name, "truth": label, "evidence": m, "logit": logits[i, predicted[i]]}
        for name, label, m, i in zip(names, truth, maps, chosen, strict=True)]
_ = figures.keep(figure, "theorem1_evidence", {"maps": kept}, study.settings(), out)

# %%
pd.DataFrame({"predicted": names, "mean of the map": [m.mean().item() for m in maps],
              "logit": [logits[i, predicted[i]].item() for i in chosen],
              "least pixel": [m.min().item() for m in maps],
              "largest pixel": [m.max().item() for m in maps]}).round(4)

# %%
R, (m, logit) = similarity.shape[1], (maps[0], logits[chosen[0], predicted[chosen[0]]].item())
against = sum(int((m < 0).sum()) for m in maps)
if R == 1:
    print("R = 1: each map is a single pixel, and that pixel is the logit. It cannot say where the evidence is.")
else:
    print(f"Of the first picture's logit, {logit:.2f}, the strongest pixel brings {m.max().item() / R:.2f}; spread "
          f"evenly, each would bring {logit / R:.2f}. In all maps, {against} of {len(maps) * R} pixels speak against "
          "the class.")

# %% [markdown]
# How fine a map is depends on $R$ alone: a ResNet divides the side of a picture by 32, so 32 pixels end in one, 96 in
# $3 \times 3$ and 224 in $7 \times 7$. And a map is evidence for one class, not yet a reason for the decision: other
# classes may gain as much from the same pixel (exercise 2).
#
# ## Four other networks, with a bias and without
#
# The paper names ResNet, DenseNet, GoogLeNet and EfficientNet as networks of this structure. The last two have a
# dropout layer before the classifier. Each is tried untrained and trained on the *first* data set, with pictures of
# `other_size` pixels, so that there is more than one pixel to average. With few pictures and epochs from random
# weights, *trained* means little more than that the weights have moved: compare the accuracies with chance. With
# `weights="imagenet"` both kinds of row start from the real thing.

# %%
def fewer(a, b):
    """The smaller of two numbers of pictures, where 0 means all."""
    return min(a, b) or max(a, b)

first = studies[0]
small = replace(first, size=other_size, epochs=other_epochs, blocks="", classifier="",
                weights="imagenet" if first.weights == "imagenet" else "none",
                train_per_class=fewer(first.train_per_class, other_train_per_class),
                test_per_class=fewer(first.test_per_class, 10))
others = {name: replace(small, backbone=name) for name in ("resnet34", "densenet121", "googlenet", "efficientnet_b0")}
for name, other in others.items() if other_epochs else ():
    hits = other.manifest["accuracy"]
    print(f"{name}: {other.data.title}, {len(other.data.train)} pictures of {other.data.size} px, epochs: "
          f"{other_epochs}; accuracy {hits['train']:.2f} train, {hits['test']:.2f} test, "
          f"chance {1 / len(other.data.classes):.2f}")

# %% [markdown]
# A study trains its classifier without a bias, as the paper writes it. So in the rows *trained, with bias* the bias is
# the random one that the layer was born with; eq. 4 does not mind which it is.

# %%
x = some(small, 32)[1]
start = None if small.weights == "none" else small.weights
probe, n_classes = (3, other_size, other_size), len(small.data.classes)
rows, nets = [], {}
for name, other in others.items():
    for with_bias in (False, True):
        torch.manual_seed(seed)
        net = build(name, n_classes, start, bias=with_bias, probe=probe)
        nets.setdefault(name, net)  # the one without a bias, for later
        rows.append({"network": name, "trained": "no", **compare(rows_of(net, x), net.C, net.bias)})
        if other_epochs:
            net.model.load_state_dict(other.trained.model.state_dict(), strict=False)
            rows.append({"network": name, "trained": "yes", **compare(rows_of(net, x), net.C, net.bias)})
table(rows)

# %%
plain = {(row["network"], row["trained"]): row["max |logit|"] for row in rows if row["bias"] == "no"}
only_bias = [row for row in rows if row["bias"] == "yes"
             and plain[row["network"], row["trained"]] < EPSILON["float32"] * row["max |logit|"]]
for row in only_bias:
    alone = plain[row["network"], row["trained"]]
    print(f"{row['network']}, trained: {row['trained']}, bias: yes. Without the bias no logit exceeds {alone:.0e}; "
          "with it, the logits are the bias alone, and the row tests nothing.")

tested = [row for row in own + rows if row["R"] > 1 and row not in only_bias]
worst = {name: max((row[f"relative {name}"] for row in tested), default=0.0) for name in EPSILON}
print(f"Rows of both tables that test eq. 4: {len(tested)}; their largest relative error is " + " and ".join(
    f"{worst[name]:.1e} in {name} ({worst[name] / eps:.0f} epsilon)" for name, eps in EPSILON.items()) + ".")

# %% [markdown]
# The column to read is the relative one. Logits differ between networks by many powers of ten, and an absolute error
# says nothing without them. An untrained network can have tiny logits: its batch norms still hold their first mean and
# variance, 0 and 1, and so do nothing for a signal that shrinks from layer to layer.
#
# A bias changes nothing: it is added after the average on the left and to every pixel on the right, which is why the
# paper may leave it out "without loss of generality".
#
# ### Dropout is silent at prediction
#
# In GoogLeNet and EfficientNet dropout stands between pooling and classifier, where eq. 1 has nothing. But it acts in
# training only. First the network as it predicts, then with its dropout alone switched on again.

# %%
@torch.no_grad()
def with_dropout(net, on):
    """Largest difference, relative to the largest logit, between the network's own pass and the left side of eq. 4."""
    left = pool_then_classify(rows_of(net, x), net.C.cpu(), None if net.bias is None else net.bias.cpu())
    for module in net.model.modules():
        if isinstance(module, nn.Dropout):
            module.train(on)
    torch.manual_seed(seed)
    return ((net.model(x) - left).abs().max() / left.abs().max()).item()

pd.DataFrame({name: {"dropout off": with_dropout(net, False), "dropout on": with_dropout(net, True)}
              for name, net in nets.items()}).T.map("{:.1e}".format)

# %% [markdown]
# ResNet34 and DenseNet121 have no dropout to switch on: their two numbers are the same.
#
# ## Where the theorem fails
#
# Eq. 4 needs two things: an average as the pooling, and a classifier that is linear. Take either away. VGG16 has an
# average (over $7 \times 7$ regions, not over all pixels), but behind it an MLP with ReLUs; ConvNeXt has a layer norm between average and classifier. `Backbone`
# compares numbers when it is given a network, and refuses:

# %%
torch.manual_seed(seed)
vgg = get_model("vgg16", weights=None, num_classes=n_classes).eval()
convnext = get_model("convnext_tiny", weights=None, num_classes=n_classes).eval()
for name, model in {"vgg": vgg, "convnext": convnext}.items():
    try:
        Backbone(model, *ARCHITECTURES[name], probe)
    except StructureError as error:
        print(f"StructureError: {error}\n")

# %% [markdown]
# How large is the difference? `both_orders` takes any pooling and any classifier, and tries both orders on the rows of
# $h$. A classifier must then take single vectors. ConvNeXt's norm and linear layer do. VGG16's MLP expects
# $7 \times 7$ pixels (the network itself averages regions and keeps their places, so it computes neither order); it is
# shown a vector as 49 equal pixels. VGG16 and ConvNeXt are untrained here: what matters is what they are made of.

# %%
@torch.no_grad()
def both_orders(h, pool, classify):
    """How far classify(pool(h)) and pool(classify(h)) differ, relative to the largest logit; h (n, R, D)."""
    left, right = classify(pool(h, 1)), pool(classify(h), 1)
    return ((left - right).abs().max() / left.abs().max()).item()

def spread(mlp):
    """VGG16's MLP for vectors (..., D), each shown to it as 49 equal pixels."""
    return lambda v: mlp(v.repeat_interleave(49, dim=-1))

def pixelwise(head):
    """ConvNeXt's head for vectors (..., D), each shown to it as a map of one pixel."""
    return lambda v: head(v.flatten(0, -2)[..., None, None]).view(*v.shape[:-1], -1)

# %% [markdown]
# *Max* is max pooling, the largest value of each channel; all others average. Each network that breaks the rule has a
# counterpart without the part that breaks it. These are computed in float32 alone.

# %%
with torch.no_grad():
    h_vgg, h_convnext = (model.features(x).flatten(2).transpose(1, 2) for model in (vgg, convnext))
h_resnet, linear = rows_of(nets["resnet34"], x), nets["resnet34"].classifier.cpu()
without_relu = nn.Sequential(*[layer for layer in vgg.classifier if not isinstance(layer, nn.ReLU)])
broken = {"ResNet34, max": both_orders(h_resnet, torch.amax, linear),
          "VGG16, MLP": both_orders(h_vgg, torch.mean, spread(vgg.classifier)),
          "VGG16, max and MLP": both_orders(h_vgg, torch.amax, spread(vgg.classifier)),
          "ConvNeXt, norm": both_orders(h_convnext, torch.mean, pixelwise(convnext.classifier))}
mended = {"ResNet34, average": both_orders(h_resnet, torch.mean, linear),
          "VGG16, MLP without ReLUs": both_orders(h_vgg, torch.mean, spread(without_relu)),
          "ConvNeXt, without norm": both_orders(h_convnext, torch.mean, convnext.classifier[2])}

# %% [markdown]
# In the figure a dot is one row of the tables above, or one of the networks just computed.

# %%
values = {}
for row in tested:
    dots = values.setdefault(row["network"], {name: [] for name in EPSILON})
    for name in EPSILON:
        dots[name].append(row[f"relative {name}"])
values |= {name: {"float32": [error]} for name, error in (mended | broken).items()}
figure = figures.log_dots(values, {f"epsilon {name}": eps for name, eps in EPSILON.items()},
                          "largest difference between the two orders / largest logit")
conditions = {"pictures": len(small.data.train), "size": other_size, "epochs": other_epochs, "weights": small.weights}
numbers = {"own": own, "others": rows, "conditions of the others": conditions, "mended": mended, "broken": broken}
_ = figures.keep(figure, "theorem1_errors", numbers, first.settings(), out)

# %%
for name, error in (mended | broken).items():
    times = error / EPSILON["float32"]
    verdict = "rounding" if times < 100 else "not rounding: two different functions"
    print(f"{name}: {error:.1e} of the largest logit, {times:,.0f} epsilon; {verdict}.")
if h_resnet.shape[1] == 1:
    print("R = 1: with one pixel every pooling does nothing and all orders agree. Give a larger other_size.")

# %% [markdown]
# So the theorem is about a structure, and a fragile one: where $R > 1$, a ReLU, a norm or a maximum between the pixels
# of $h$ and the logits is enough to lose it. An MLP without ReLUs is one matrix, and has it again.
#
# Here we are stricter than the paper's introduction. It calls average pooling the "key operator" that makes these
# models analogous to SEMs, and counts networks with an MLP as classifier among them. The proof of Theorem 1 needs the
# linear classifier just as much. With an MLP, $h_r$ and $c_j$ do not even live in the same space.
#
# ## What the theorem does not say
#
# It says that $c_j$ takes the *place* of a prototype in eq. 3. It does not say that $c_j$ looks like the data of class
# $j$; the paper says right after the proof that it need not. Notebook 02 measures that.
#
# ## The numbers, kept

# %% tags=["headline"]
for study, row in zip(studies, own, strict=True):
    figures.keep(None, "theorem1", {"eq. 4": row}, study.settings(), out)
    print(f"{study.data.title}: eq. 4 on {row['network'].split(',')[0]}, R = {row['R']}, relative error "
          f"{row['relative float32']:.0e} in float32, {row['relative float64']:.0e} in float64")
print(f"largest over the {len(tested)} rows that test it (R > 1): {worst['float32']:.0e} in float32, "
      f"{worst['float64']:.0e} in float64")
print("other structures:  " + ";  ".join(f"{name} {error:.2g}" for name, error in broken.items()))

# %% [markdown]
# ## Summary
#
# - Both sides of eq. 4 agree up to rounding on every network here that ends in average pooling and a linear layer: the
#   trained ones of the first table, untrained ones, and ones that an epoch has moved but not taught; with a bias or
#   without. Only networks with more than one pixel ($R > 1$) test it.
# - The right-hand side yields class evidence maps whose mean is the logit, by definition and not by approximation.
#   Their resolution is that of the last feature map.
# - Dropout does no harm at prediction. A ReLU or a norm behind the pooling, or a maximum in its place, does.
# - The theorem makes the columns prototypes by their place in a formula; whether they lie near the data is another
#   question (notebook 02).
#
# ## Exercises
#
# 1. Append a channel that is 1 at every pixel to $h$, and the bias as a further row to $C$. Check that `evidence(h, C)`
#    without a bias now equals `evidence(h, C, bias)` of the old ones, for a bias of your own.
# 2. Add the same random vector $v$ to every column of $C$. Check which of these change: the logits, the predicted
#    classes, the evidence maps, the difference of the maps of two classes. What does that mean for reading one map?
# 3. Run `both_orders` for ResNet34 and for ConvNeXt on `.double()` of their rows and heads. Which differences shrink by
#    a factor of about $2^{29}$, and which stay?
