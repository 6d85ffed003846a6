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
# # The switchboard: which of the paper's open choices matter?
#
# **The paper claims** (section 6): "preliminary results suggest that performance remains stable on subsets of the training
# data", and "the sustained classification performance of B4 and B234 using cluster distributions calls for further
# investigation". Its equations also leave a reader many choices: whose norm eq. 8 divides by, which interpolation eq. 7
# uses, which cluster "most frequently occurring" means, and more.
#
# This notebook turns one switch at a time and measures what that does to the accuracy and to the maps. It puts both
# remarks to the test, and ends with what a reader should fix, and where nothing was seen.

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
choices_train_per_class: int = 8  # training pictures of each class that explainers are fitted on, few to save time; 0: all
choices_test_per_class: int = 8   # test pictures of each class that they are compared on; 0: all

# %%
from textwrap import fill

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import Subset

from paperlib import figures
from paperlib.attribution import upstream
from paperlib.comparison.pairs import connectedness, map_agreement, paired_difference, prototype_shift
from paperlib.concepts import predicted_class, vote
from paperlib.measures import prototype_cosines
from paperlib.runs.study import open_studies

studies = open_studies(globals())

# %% [markdown]
# ## The pictures
#
# Some forty explainers are fitted below on the same few training pictures of each class, and compared on the same test
# pictures. So levels lie below those of notebook 04, where all training pictures are used; differences are what counts
# here. The network is the study's own, trained on everything.

# %%
def fitted_on(study):
    """Training pictures of each class that the explainers are fitted on, and how many the smallest class has."""
    least = int(study.data.train.labels.bincount().min())
    return min(choices_train_per_class or least, least), least

def base(study):
    """The default: the arguments of `study.explainer`; part (m, 0) is the first m of each class in a drawn order."""
    part = (fitted_on(study)[0], 0) if choices_train_per_class else (0, 0)
    return {"depth": min(3, len(study.trained.blocks)), "part": part}

def named(study, depth):
    """B4, B34, B234, ... as the paper calls the last `depth` blocks"""
    last = len(study.trained.blocks)
    return "B" + "".join(str(b) for b in range(last - depth + 1, last + 1))

# %%
for study in studies:
    (m, least), tested = fitted_on(study), len(study.data.test.subset(choices_test_per_class))
    name = named(study, base(study)["depth"])
    print(f"{study.data.title}: {name}, fitted on {m} pictures of each class (the smallest has {least}),\n"
          f"   compared on {tested} test pictures.")

# %% [markdown]
# ## The switches
#
# A row for each choice, with its options. The default is the paper's or, where the paper is silent, its authors' code's.
# Each explainer differs from the default, above, in one option only.

# %%
SWITCHES = {
    "norm (eq. 8)": {"row": {}, "tensor": {"norm": "tensor"}, "none": {"norm": "none"}},
    "block weight (eq. 8)": {
        "$1/D_b$": {}, "$1/(1+D_b)$": {"block_weight": "inv_dim_plus_one"},
        "$1/\\sqrt{D_b}$": {"block_weight": "inv_sqrt_dim"}, "none": {"block_weight": "none"},
        "$D_b$": {"block_weight": "dim"}},
    "interpolation (eq. 7)": {"bilinear": {}, "bicubic": {"mode": "bicubic"}},
    "vote (eq. 10)": {"class": {}, "cluster": {"vote": "cluster"}},
}

def numbered(name, default, values):
    """{value: what differs from the default} for a choice that is a number"""
    return {str(v): {} if v == default else {name: v} for v in sorted({*values, default})}

# %%
def pixels(study):
    """Sizes (H', W') of the default's map, and of the last block's."""
    features = study.trained.features(study.data.test.batch([0]))
    return [tuple(features[-depth].shape[-2:]) for depth in (base(study)["depth"], 1)]

def switches(study):
    """row -> {option: what differs from the default}"""
    fine, coarse = pixels(study)
    few = [k for k in (1, 3, 5, 10) if 2 * k < fitted_on(study)[0] * np.prod(fine)]  # k-means needs rows enough
    return {"seed of k-means": numbered("random_state", study.seed, range(study.seed, study.seed + 5)),
            "restarts of k-means": numbered("n_init", study.n_init, (1, 3, 10)),
            **SWITCHES, "K/C": numbered("prototypes_per_class", study.k, few),
            "resolution (eq. 7)": {"first kept block's": {}, "last block's": {"resolution": coarse}}}

# %% [markdown]
# Three more choices get sections of their own: eq. 8's factor as $D_b^e$ with any exponent $e$, the depth with and
# without the factor, and the number of training pictures.

# %%
EXPONENTS = {"-1.5": -1.5, "-1": "inv_dim", "-0.5": "inv_sqrt_dim", "0": "none", "0.5": 0.5, "1": "dim"}

def sweep(study):
    """exponent e of the factor D_b^e -> what differs from the default"""
    return {e: {} if weight == "inv_dim" else {"block_weight": weight} for e, weight in EXPONENTS.items()}

def depths(study):
    """name -> what differs from the default: up to four last blocks, with the factor and, if several, without"""
    found = {}
    for depth in range(1, min(4, len(study.trained.blocks)) + 1):
        deep, name = {} if depth == base(study)["depth"] else {"depth": depth}, named(study, depth)
        found |= {name: deep} | ({f"{name}, no factor": {**deep, "block_weight": "none"}} if depth > 1 else {})
    return found

# %%
def ends(study):
    """name -> what differs from the default: the last block alone, the default, and the default without the factor"""
    depth = base(study)["depth"]
    whole = {named(study, depth): {}, f"{named(study, depth)}, no factor": {"block_weight": "none"}}
    return ({named(study, 1): {"depth": 1}} if depth > 1 else {}) | whole

def parts(study, differs, other=False):
    """pictures of each class -> what differs from the default; other: as many pictures again, none in both"""
    (m, least), rows = fitted_on(study), np.prod(pixels(study)[1 if "depth" in differs else 0])
    found = sorted({max(1, m // 4), max(1, m // 2), m, max(m, min(30, least))})  # 30: more would take long
    found = [n for n in found if n * rows > 1.5 * study.k and (not other or n <= min(m, least // 2))]
    return {n: {**differs} if n == m and not other else {**differs, "part": (n, n if other else 0)} for n in found}

# %%
def everything(study):
    """All that is compared, by row."""
    first = {f"pictures, {name}": parts(study, differs) for name, differs in ends(study).items()}
    second = {f"other pictures, {name}": {} if "factor" in name else parts(study, differs, True)
              for name, differs in ends(study).items()}
    return {**switches(study), "exponent": sweep(study), "depth": depths(study), **first, **second}

# %% [markdown]
# Now fit and look. All explainers of one part of the pictures share one pass through the network; all of them look at the
# same test pictures in another. What is read from each picture: whether the vote (eq. 10) is right, how many different ids
# the map of eq. 9 holds, and the map among the predicted class's $K/C$ prototypes, which is the one to be looked at
# (notebook 05).

# %%
def key(differs):
    """One name for the same explainer in any row."""
    return str(sorted(differs.items()))

def look(study):
    """row -> option -> name of the explainer; and what was read of each, by that name"""
    rows = everything(study)
    distinct = {key(d): {**base(study), **d} for options in rows.values() for d in options.values()}
    found = study.compare(distinct, choices_test_per_class)
    return {row: {option: key(d) for option, d in options.items()} for row, options in rows.items()}, found

board, read = {}, {}
for study in studies:
    board[study.dataset], read[study.dataset] = look(study)
    print(f"{study.data.title}: {len(read[study.dataset]) - 1} explainers")

# %% [markdown]
# Four numbers for each explainer, means over the test pictures:
#
# - **accuracy** of the vote;
# - **ids**: different prototypes on the map of eq. 9, among all $K$. The fewer, the easier to read;
# - **connected**: the share of pixels in the largest piece of their id, on the map among the predicted class's
#   prototypes. A piece is a set of pixels of one id that touch. At 1 every concept is one segment; speckles bring it down;
# - **same map**: the adjusted Rand index of that map with the default's. 1: the same segments, whatever they
#   are called; 0: as alike as by chance.

# %%
ACCURACY, IDS, CONNECTED, SAME = "accuracy, %", "ids among all K", "connected", "same map"
DEFAULT = key({})

def measured(study, name):
    """The four numbers of each picture."""
    each, default = read[study.dataset][name], read[study.dataset][DEFAULT]
    return {ACCURACY: 100 * each["right"], IDS: each["ids"], CONNECTED: connectedness(each["map"]),
            SAME: map_agreement(default["map"], each["map"])}

pictures = {study.dataset: {name: measured(study, name) for name in read[study.dataset] if name != "CNN"}
            for study in studies}

# %% [markdown]
# ## The ruler: what is noise?
#
# Two things move these numbers that nobody chose. *Which test pictures*: for two explainers on the same pictures the
# error of the difference is the standard deviation of the differences, picture by picture, over $\sqrt n$. *Luck of
# k-means*: another seed gives other prototypes. The chart shows five seeds; their standard deviation $\sigma$ adds
# $\sqrt 2\,\sigma$ to the error of any difference.

# %%
def mean(study, name, measure):
    return float(pictures[study.dataset][name][measure].mean())

def luck(study):
    """Standard deviation over seeds: of the accuracy, and of the agreement of maps with the default's."""
    seeds = board[study.dataset]["seed of k-means"].values()
    return {what: np.std([mean(study, s, what) for s in seeds if what == ACCURACY or s != DEFAULT], ddof=1)
            for what in (ACCURACY, SAME)}

def difference(study, name, reference=DEFAULT):
    """Accuracy less the reference's in points, and its error."""
    gap, error = paired_difference(*(pictures[study.dataset][n][ACCURACY] for n in (reference, name)))
    return gap, 0.0 if name == reference else float(np.hypot(error, np.sqrt(2) * luck(study)[ACCURACY]))

# %%
values = {study.dataset: {n: {what: float(v.mean()) for what, v in each.items()}
                          for n, each in pictures[study.dataset].items()} for study in studies}
low, high = (pd.concat(pd.DataFrame(rows).T for rows in values.values()).agg(f) for f in ("min", "max"))
limits = {ACCURACY: (low[ACCURACY] - 16, 114), IDS: (-1, 1.08 * high[IDS]), CONNECTED: (low[CONNECTED] - 0.02, 1.02),
          SAME: (-0.06, 1.06)}

def chart(row, name, joined=False):
    """The row's options, all data sets, on the same ranges as every other chart; whiskers are three errors."""
    def each(f):
        return {s.data.title: {option: f(s, n) for option, n in board[s.dataset][row].items()} for s in studies}
    shown, whiskers = each(lambda s, n: values[s.dataset][n]), each(lambda s, n: 3 * difference(s, n)[1])
    usual = next((option for s in studies for option, n in board[s.dataset][row].items() if n == DEFAULT), "")
    figure = figures.options(shown, limits, usual, whiskers, joined)
    for s in studies:
        figures.keep(figure if s is studies[-1] else None, f"choices_{name}", shown[s.data.title], s.settings(), out)

# %% [markdown]
# The dashed line is the default; whiskers are *three* errors long. With some thirty comparisons for each data set, two
# errors would declare one or two differences by chance. If the whisker crosses the dashed line, the difference is noise.

# %%
chart("seed of k-means", "seed")

# %%
for study in studies:
    seeds = [n for n in board[study.dataset]["seed of k-means"].values() if n != DEFAULT]
    floor = np.mean([mean(study, n, SAME) for n in seeds])
    print(f"{study.data.title}: another seed moves the accuracy by {luck(study)[ACCURACY]:.1f} points (one standard "
          f"deviation);\n   its maps agree with the default's to {floor:.2f}" + (
          ": about the same segments." if floor > 0.8 else ": other segments. No option can be asked to agree more."))

# %% [markdown]
# The error uses the default's $\sigma$ for every option. Where seeds disagree about the map, the map on the screen is one of
# several that k-means finds about equally good. Do more restarts help? k-means keeps the one whose rows lie closest to
# their prototypes.

# %%
def tell(row):
    """What the row's options change: one line for each data set."""
    for study in studies:
        said = []
        for option, name in board[study.dataset][row].items():
            gap, error = difference(study, name)
            word = "noise" if abs(gap) <= 3 * error else "higher" if gap > 0 else "lower"
            said += [f"{option} {gap:+.1f} (error {error:.1f}, {word})"] if name != DEFAULT else []
        text = fill(", ".join(said).translate(str.maketrans("{}", "()", "$\\")), 105, subsequent_indent="   ")
        print(f"{study.data.title}, points of accuracy against the default:\n   {text}")

chart("restarts of k-means", "restarts")
tell("restarts of k-means")

# %% [markdown]
# ## Eq. 8: whose norm?
#
# $q_h$ holds $u^{(b)} / (D_b \|u^{(b)}\|)$. Read for a *row*, each pixel keeps only the direction of its channels; read for
# the *tensor*, pixels with strong activations stay stronger than others; with *none*, blocks are as large as the network
# made them. Only the norm of a row fixes what blocks weigh against each other: the other two let the activations decide.

# %%
chart("norm (eq. 8)", "norm")
tell("norm (eq. 8)")

# %% [markdown]
# ## Eq. 8: the factor $1/D_b$
#
# First the five readings that one finds in code and paper:

# %%
chart("block weight (eq. 8)", "weight")
tell("block weight (eq. 8)")

# %% [markdown]
# They are steps of one scale. Let the factor be $D_b^e$: $e = -1$ is the paper's, $e = 0$ gives every block the same
# length, $e = 1$ favours deep blocks, which usually have more channels. (A common factor changes nothing, so only the
# ratios between blocks count.)

# %%
chart("exponent", "exponent", joined=True)
tell("exponent")

# %%
for study in studies:
    rows = {e: values[study.dataset][n] for e, n in board[study.dataset]["exponent"].items()}
    best = max(rows, key=lambda e: rows[e][ACCURACY])
    gap, error = difference(study, board[study.dataset]["exponent"][best])
    word = "beyond noise" if gap > 3 * error else "within noise"
    old, new = rows["-1"], rows[best]
    print(f"{study.data.title}: " + (f"the paper's e = -1 votes best, {old[ACCURACY]:.1f} %." if best == "-1" else
          f"the best vote is at e = {best}, {new[ACCURACY]:.1f} %; the paper's e = -1 gives {old[ACCURACY]:.1f} %,\n"
          f"   a difference {word}. From there to e = {best}, ids among all K go from {old[IDS]:.1f} to {new[IDS]:.1f},\n"
          f"   connected from {old[CONNECTED]:.2f} to {new[CONNECTED]:.2f}."))

# %% [markdown]
# Why? After eq. 8 the part of a row that comes from block $b$ has length $D_b^e$ (with the norm of a row), and distances add
# squares: against the last block $B$, block $b$ weighs $(D_b / D_B)^{2e}$. A step of $-1$ in $e$ multiplies the weight of a
# block with half the channels by four. k-means divides up the variance, and the nearest prototype is found by the distance:
# at $e = -1$ both are mostly the shallow blocks', if these have fewer channels, and a shallow pixel sees little of the
# picture. The table gives these weights; notebook 04 shows the variance.

# %%
def weight_of(study):
    """block -> its squared length, that of the last block being 1"""
    features = study.trained.features(study.data.test.batch([0]))[-base(study)["depth"]:]
    names = study.trained.blocks[-len(features):]
    return {(study.data.title, f"{name}, D_b = {x.shape[1]}"): {
        f"e = {e}": (x.shape[1] / features[-1].shape[1]) ** (2 * float(e)) for e in EXPONENTS}
        for name, x in zip(names, features, strict=True)}

pd.DataFrame({k: v for study in studies for k, v in weight_of(study).items()}).T.map("{:.3g}".format)

# %% [markdown]
# What it does to one picture's map (the last data set; a test picture that the network gets right). Above, among the
# predicted class's prototypes; below, among all $K$ (eq. 9), other classes in grey. Each column has prototypes, and so
# colours, of its own.

# %%
study = studies[-1]
right = np.flatnonzero(read[study.dataset]["CNN"]["right"])
x = study.data.test.subset(choices_test_per_class)
i = int(right[0]) if len(right) else 0
features = study.trained.features(x.batch([i]))
c = predicted_class(study.trained, features)

def column(e, differs):
    """What `figures.ladder` draws for one exponent."""
    explainer = study.explainer(**{**base(study), **differs})
    return {"name": f"$e$ = {e}", "predicted": explainer.maps_from_features(features, c)[0],
            "everyone": explainer.maps_from_features(features)[0],
            "patches": [(k,) for k in (explainer.prototype_labels_ == int(c)).nonzero().flatten().tolist()]}

# %%
columns = [column(e, differs) for e, differs in sweep(study).items()]
figure = figures.ladder(x.pixels(i), columns, study.data.classes[int(c)])
path = figures.keep(figure, "choices_ladder", {"picture": i, "ids": [len(col["everyone"].unique()) for col in columns]},
                    study.settings(), out)

# %%
for col in columns:
    mine = connectedness(col["predicted"][None])[0]
    share = float((col["everyone"] // len(col["patches"]) == int(c)).double().mean())
    print(f"e = {col['name'][6:]:>4}: {len(col['everyone'].unique()):3d} ids among all K, {share:4.0%} of the pixels vote "
          f"for {study.data.classes[int(c)]}; connected {mine:.2f}")

# %% [markdown]
# ## How many blocks?
#
# B4 is the last block alone, B34 the last two, and so on; each with the paper's factor and without. (The default's line is
# that of three blocks, or of all if there are fewer. *Same map* compares maps of different sizes by stretching the coarser.)

# %%
chart("depth", "depth")
tell("depth")

# %%
for study in studies:
    rows, names = values[study.dataset], board[study.dataset]["depth"]
    for name in [n for n in names if f"{n}, no factor" in names]:
        gap, error = difference(study, names[name], names[f"{name}, no factor"])
        word = "costs" if gap < -3 * error else "brings" if gap > 3 * error else "makes no difference beyond noise,"
        print(f"{study.data.title}, {name}: the factor 1/D_b {word} {abs(gap):.1f} points (error {error:.1f}); ids: "
              f"{rows[names[f'{name}, no factor']][IDS]:.1f} without, {rows[names[name]][IDS]:.1f} with it.")

# %% [markdown]
# Where the factor costs accuracy above, shallow blocks have taken the last one's place; without it they are *added to* it. What a larger $e$ costs is on the
# ladder: the more the last block weighs, the more the map is that block's coarse grid, smoothed, with few and connected
# segments, and the less it follows the edges and colours of the picture. All this on few training pictures: the first
# remark, below, shows how much of the factor's cost more pictures take away.
#
# ## Eq. 7: resolution and interpolation
#
# Blocks are brought to one grid: by default that of the shallowest one kept, or, the other option, that of the last.

# %%
for study in studies:
    print(f"{study.data.title}: " + " or ".join("{} x {}".format(*size) for size in pixels(study)) + " pixels")
chart("resolution (eq. 7)", "resolution")
tell("resolution (eq. 7)")

# %%
chart("interpolation (eq. 7)", "interpolation")
tell("interpolation (eq. 7)")

# %% [markdown]
# ## Eq. 10: who wins the vote, and how many prototypes?
#
# The paper says both that counts are summed over each class's $K/C$ prototypes and that the "most frequently occurring
# cluster" decides. The maps are the same; only the decision differs.

# %%
chart("vote (eq. 10)", "vote")
tell("vote (eq. 10)")

# %% [markdown]
# More prototypes a class make a finer vote, and more ids on the map. (With $K/C = 1$ a map among one class's prototypes is
# one segment.)

# %%
chart("K/C", "k")
tell("K/C")

# %% [markdown]
# ## Table 1: what is the average of?
#
# Cosines of KMEx's prototypes with their own class and with the others, over all pairs or for each point with its
# nearest prototype only (notebook 02), on all training embeddings.

# %%
def cosines(study):
    """K/C and pairing -> cosines"""
    Z, y = study.embeddings("train")
    found = {}
    for k in [k for k in sorted({1, 3, 5, 10, study.k}) if k <= fitted_on(study)[1] // 2 or k == study.k]:
        kmex = study.kmex(k)
        for pairing in ("all", "nearest"):
            pair = prototype_cosines(kmex.prototypes_, kmex.prototype_labels_, Z, y, pairing)
            found[f"K/C = {k}, {pairing}"] = dict(zip(("cosine with own class", "cosine with others"), pair, strict=True))
    return found

table1 = {study.data.title: cosines(study) for study in studies}
ranges = dict.fromkeys(("cosine with own class", "cosine with others"), (-0.05, 1.05))
figure = figures.options(table1, ranges, f"K/C = {studies[-1].k}, all")

# %%
for title, rows in table1.items():
    own = {name: row["cosine with own class"] for name, row in rows.items()}
    (first, *_, every), (*_, near) = ([own[n] for n in own if n.endswith(word)] for word in ("all", "nearest"))
    word = {True: "rises", False: "falls"}
    print(f"{title}: from the fewest to the most prototypes, the class cosine {word[every > first]} from {first:.3f} to "
          f"{every:.3f} over all pairs,\n   and {word[near > first]} to {near:.3f} with the nearest.")

# %% [markdown]
# ## Eq. 11: attributed to which class, from which map?
#
# The attribution may be the prediction's, the label's or the runner-up's; and its way upstream may start from eq. 11 as it
# is, or averaged over the last block's segments. *Correlation*: over the pixels of the finest map, with the prediction's, mean
# over pictures (none where a map is flat); *contrast*: a map's standard deviation, as a share of its mean.

# %%
def attributed(study, most=100):
    """option -> the finest attribution map of each of up to `most` test pictures, (n, pixels)"""
    tests, depth = study.data.test.subset(choices_test_per_class), base(study)["depth"]
    some = np.linspace(0, len(tests) - 1, min(most, len(tests))).round().astype(int)
    features = study.trained.features(tests.batch(some))
    ways = [study.explainer(d, base(study)["part"]) for d in range(1, depth + 1)]
    first, second = study.trained.classify(features[-1].mean((2, 3))).topk(2).indices.T
    label = tests.labels[some].to(first.device)
    options = {"prediction": (first, "raw"), "label": (label, "raw"), "runner-up": (second, "raw"),
               "prediction, averaged base": (first, "averaged")}
    maps = {option: upstream(features, study.trained.C, ways, c, base=start)[named(study, depth)].flatten(1).cpu().double()
            for option, (c, start) in options.items()}
    return maps, float((label != first).double().mean())

# %%
def contrast(m):
    return m.std(1) / m.mean(1).abs()

def correlation(a, b):
    """Of two maps of each picture; not a number where one is flat."""
    together = ((a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))).mean(1)
    flat = torch.minimum(contrast(a), contrast(b)) < 1e-4
    return torch.where(flat, torch.nan, together / (a.std(1, False) * b.std(1, False)))

# %%
def summary(maps):
    return {option: {"correlation": float(correlation(maps["prediction"], m).nanmean()),
                     "contrast": float(contrast(m).mean())} for option, m in maps.items()}

targets, wrong = {}, {}
for study in studies:
    maps, wrong[study.dataset] = attributed(study)
    targets[study.data.title] = summary(maps)
highest = max(row["contrast"] for rows in targets.values() for row in rows.values())
ranges = {"correlation": (-1.05, 1.05), "contrast": (-0.04 * highest, 1.1 * highest)}
figure = figures.options(targets, ranges, "prediction")

# %%
for study in studies:
    rows = targets[study.data.title]
    other = rows["runner-up"]["correlation"]
    print(f"{study.data.title}: the label is not the prediction on {wrong[study.dataset]:.1%} of the pictures. " + (
          "All maps are flat: a last block of one pixel\n   cannot say where, whatever the class." if np.isnan(other) else
          f"The runner-up's map correlates\n   with the prediction's at {other:.2f}" + (
          ": more than half of what varies in them is common." if other > 0.5**0.5 else ".")))

# %% [markdown]
# ## The first remark: are subsets of the training data enough?
#
# "Preliminary results suggest that performance remains stable on subsets of the training data" (section 6). Take some
# pictures of each class, then more. *Other pictures* are a second explainer on as many pictures that the first has not seen.
# The difference is against the largest number here.

# %%
def against_most(study, name):
    """pictures of each class -> accuracy, its difference from the largest number's, the error, and the other's accuracy"""
    rows, again = (board[study.dataset][f"{word}, {name}"] for word in ("pictures", "other pictures"))
    most, found = list(rows.values())[-1], {}
    for n, one in rows.items():
        gap, error = difference(study, one, most)
        other = mean(study, again[n], ACCURACY) if n in again else np.nan
        found[n] = {"accuracy": mean(study, one, ACCURACY), "less the last": gap, "error": error, "other pictures": other}
    return found

subsets = {(study.data.title, name): against_most(study, name) for study in studies for name in ends(study)}
pd.concat({names: pd.DataFrame(rows).T for names, rows in subsets.items()}).round(1)

# %%
for (title, name), rows in subsets.items():
    *fewer, most = rows
    worse = [str(n) for n in fewer if rows[n]["less the last"] < -3 * rows[n]["error"]]
    print(f"{title}, {name}: " + (
          f"{' and '.join(worse)} a class vote worse than {most} a class, beyond noise." if worse else
          f"no loss beyond noise from {most} pictures a class down to {fewer[0]}." if fewer else "one size only."))

# %% [markdown]
# And the factor $1/D_b$: what does it cost with few pictures, and what with the most?

# %%
for study in studies:
    with_it, without = (board[study.dataset][f"pictures, {name}"] for name in list(ends(study))[-2:])
    costs = {n: difference(study, without[n], with_it[n]) for n in with_it if n in without}
    text = ", ".join(f"{gap:.1f} (error {error:.1f}) with {n}" for n, (gap, error) in costs.items())
    print(f"{study.data.title}: without the factor the vote gains, in points,\n   {text} pictures of each class.")

# %% [markdown]
# So much for the performance. Is it the same *explanation*? Two explainers on two sets of pictures without a common one:
# how alike are their maps of the same test pictures (the same adjusted Rand index), and how far apart are their prototypes
# (matched one to one within each class; the unit is the distance of a prototype to its nearest fellow)? Below it the same
# for another seed on the same pictures: what k-means does by itself.

# %%
def moved(study, one, other):
    """How alike the maps of two explainers are, and how far their prototypes are apart."""
    alike = map_agreement(*(read[study.dataset][key(d)]["map"] for d in (one, other)))
    a, b = (study.explainer(**{**base(study), **d}) for d in (one, other))
    apart = prototype_shift(a.prototypes_, b.prototypes_, a.prototype_labels_).mean() if study.k > 1 else np.nan
    return {"same map": float(alike.mean()), "prototypes apart": float(apart)}

# %%
def stability(study):
    again = parts(study, {}, True)
    rows = {f"{n}, other pictures": moved(study, parts(study, {})[n], again[n]) for n in again}
    seeds = [moved(study, {}, {"random_state": study.seed + s}) for s in range(1, 5)]
    return {**rows, "same pictures, other seed": {what: float(np.mean([s[what] for s in seeds])) for what in seeds[0]}}

stable = {study.data.title: stability(study) for study in studies}
most = np.nanmax([row["prototypes apart"] for rows in stable.values() for row in rows.values()] + [1])
figure = figures.options(stable, {SAME: (-0.05, 1.05), "prototypes apart": (0, 1.1 * most)})

# %%
for title, rows in stable.items():
    *others, seed_row = rows.values()
    if others:
        last, apart = others[-1], "prototypes apart"
        print(f"{title}: fitted on {list(rows)[-2]}, maps agree to {last[SAME]:.2f}, and with another seed on the same "
              f"pictures to {seed_row[SAME]:.2f};\n   prototypes lie {last[apart]:.2f} of their spacing apart, with "
              f"another seed {seed_row[apart]:.2f}.")

# %% [markdown]
# Stable performance is not a stable explanation: where the agreement is far from 1, sets of prototypes that vote alike cut
# the picture up differently. The paper's remark speaks of performance only.
#
# ## The second remark: is the class in the distribution of clusters?
#
# "The sustained classification performance of B4 and B234 using cluster distributions calls for further investigation"
# (section 6). Nothing but the distribution can be used: eq. 10 only counts. Shuffle the pixels of a map and no vote changes:

# %%
for study in studies:
    explainer = study.explainer(**base(study))
    s = explainer.explanation_map(study.trained, study.data.test.subset(1)).flatten(1)
    shuffled = s[:, torch.randperm(s.shape[1], generator=torch.Generator().manual_seed(0))]
    before, after = (vote(one, explainer.n_classes_, explainer.prototypes_per_class) for one in (s, shuffled))
    print(f"{study.data.title}: {len(s)} pictures; the largest change of a vote is {(before - after).abs().max():.0f}.")

# %% [markdown]
# But a distribution can be read in more than one way. The vote knows each prototype's class and counts; it takes no notice of
# *which* of a class's prototypes there are, nor of which other classes come in second. So compare it with a reader that
# learns: a logistic regression on the share of each id, fitted on training pictures that the explainers have not seen (if
# there are enough). It is not told which prototype belongs to which class. A second one sees the shares of the *classes*
# only, all that eq. 10's windows let through.

# %%
def shares(study, explainers, pictures):
    """name -> share of each prototype's pixels on the map of eq. 9, (n, K), in one pass through the network"""
    found = {name: [] for name in explainers}
    for batch in torch.arange(len(pictures)).split(64):
        features = study.trained.features(torch.stack([pictures[int(i)] for i in batch]))
        for name, explainer in explainers.items():
            s = explainer.maps_from_features(features).flatten(1)
            found[name].append(vote(s, len(explainer.prototypes_), 1).cpu())
    return {name: torch.cat(each).double().numpy() for name, each in found.items()}

# %%
def pooled(x, k):
    """Eq. 10: shares of the classes, (n, K) -> (n, C)"""
    return x.reshape(len(x), -1, k).sum(2)

def regression(seen, y, asked):
    return LogisticRegression(C=100, max_iter=2000).fit(seen, y).predict(asked)

# %%
def readers(study):
    """explainer -> reader -> 100 where it is right, of each test picture"""
    m, least = fitted_on(study)
    learn = study.drawn(min(2 * m, least - m), m) if least > m else study.drawn(m)
    train, tests = Subset(study.data.train, learn.tolist()), study.data.test.subset(choices_test_per_class)
    ways = {name: study.explainer(**{**base(study), **d}) for name, d in ends(study).items()}
    y, k = study.data.train.labels[learn].numpy(), study.k
    seen, asked = shares(study, ways, train), shares(study, ways, tests)
    predicted = {name: {"vote": pooled(b, k).argmax(1), "reader of ids": regression(a, y, b),
                        "reader of classes": regression(pooled(a, k), y, pooled(b, k))}
                 for name, a, b in ((name, seen[name], asked[name]) for name in ways)}
    target = tests.labels.numpy()
    return {name: {reader: 100 * (c == target) for reader, c in each.items()} for name, each in predicted.items()}

# %%
reading = {study.dataset: readers(study) for study in studies}
tables = {study.data.title: pd.DataFrame({name: {reader: right.mean() for reader, right in rows.items()}
          for name, rows in reading[study.dataset].items()}).T.assign(CNN=100 * read[study.dataset]["CNN"]["right"].mean())
          for study in studies}
pd.concat(tables).round(1)

# %%
for study in studies:
    for name, rows in reading[study.dataset].items():
        gap, error = paired_difference(rows["vote"], rows["reader of ids"])
        left, _ = paired_difference(rows["reader of ids"], 100 * read[study.dataset]["CNN"]["right"])
        by_class, its_error = paired_difference(rows["reader of classes"], rows["reader of ids"])
        word = "above" if gap > 3 * error else "below" if gap < -3 * error else "within noise of"
        print(f"{study.data.title}, {name}: the reader of ids is {word} the vote, {gap:+.1f} points (error {error:.1f});\n   against "
              f"the reader of classes {by_class:+.1f} (error {its_error:.1f}); the CNN is {left:+.1f} points above it.")

# %% [markdown]
# Where a reader finds more than the vote, the class *is* in the distribution of clusters, and the largest share misses it. If
# the reader of classes finds as much as the reader of ids, the shares of the classes hold it already, as they do where some
# classes get pixels of every picture: a reader learns to allow for that, the vote cannot. If the reader of ids finds
# more, *which* of a class's prototypes it is matters too. What is missing between reader and CNN was lost before any
# counting, or could not be learned from so few pictures: an id that none of them showed says nothing to the reader,
# while the vote is told its class. (Ties go to the lowest class here, so the votes may differ a little from the
# charts.)
#
# ## What to fix, and where nothing was seen
#
# For each row: which options change the accuracy by more than three errors, and which change the map by more than another
# seed does (agreement with the default's map lower than the seeds', by more than three errors).

# %%
def map_change(study, name):
    """Agreement with the default's map, less that of other seeds, and its error."""
    seeds = [n for n in board[study.dataset]["seed of k-means"].values() if n != DEFAULT]
    floor = np.mean([pictures[study.dataset][n][SAME] for n in seeds], axis=0)
    gap, error = paired_difference(floor, pictures[study.dataset][name][SAME])
    return gap, float(np.hypot(error, luck(study)[SAME]))

def changed(study, row, change):
    """Options of the row whose change is beyond noise."""
    beyond = {option: change(study, n) for option, n in board[study.dataset][row].items() if n != DEFAULT}
    rise = change is difference  # of a map, only less agreement counts
    return [option for option, (gap, error) in beyond.items() if gap < -3 * error or rise and gap > 3 * error]

# %%
ROWS = [row for row in board[studies[0].dataset] if row not in ("seed of k-means", "exponent") and "pictures" not in row]
verdict = {study.dataset: {row: {"accuracy": changed(study, row, difference), "map": changed(study, row, map_change)}
                           for row in ROWS} for study in studies}

# %%
pd.DataFrame({(study.data.title, what): {row: ", ".join(each[what]) or "-" for row, each
              in verdict[study.dataset].items()} for study in studies for what in ("accuracy", "map")})

# %%
def rows_where(test):
    return ", ".join(row for row in ROWS if test([verdict[study.dataset][row] for study in studies])) or "none"

titles = " or ".join(study.data.title for study in studies)
print(f"On {titles}:")
print(f"- fix for the accuracy, and state it: {rows_where(lambda v: any(each['accuracy'] for each in v))}")
print(f"- fix for the maps only: {rows_where(lambda v: any(e['map'] for e in v) and not any(e['accuracy'] for e in v))}")
print(f"- nothing beyond noise here: {rows_where(lambda v: not any(e['map'] or e['accuracy'] for e in v))}")

# %% [markdown]
# "Nothing beyond noise" is not "no effect": on few pictures a difference of some points cannot be seen. Raise
# `choices_test_per_class` to see finer.
#
# ## The numbers, kept

# %% tags=["headline"]
for study in studies:
    name, title = study.dataset, study.data.title
    rows = {row: {o: values[name][n] for o, n in options.items()} for row, options in board[name].items()}
    found = {"board": rows, "verdict": verdict[name], "table1": table1[title], "attribution": targets[title],
             "stability": stable[title], "readers": tables[title].to_dict()}
    figures.keep(None, "choices", found, {**study.settings(), "choices_train_per_class": fitted_on(study)[0]}, out)
    each = {option: f"{row[ACCURACY]:.0f}" for option, row in rows["depth"].items()}
    pairs = [f"{one} {each[one]}" + (f" / {each[f'{one}, no factor']}" if f"{one}, no factor" in each else "")
             for one in each if "no factor" not in one]
    print(f"{title}: accuracy %, with / without 1/D_b  {',  '.join(pairs)}")

# %% [markdown]
# ## Summary
#
# - Differences are read against a ruler: the error on the same pictures, and the luck of k-means. Much of what looks like an
#   effect in a single run is neither.
# - Eq. 8's factor $D_b^e$ sets how much shallow blocks count: fine detail and many ids at one end, the last block's vote and its
#   large segments at the other. An accuracy for B234 cannot be compared without it.
# - Stable accuracy on subsets does not mean stable maps: compare maps, not only accuracies, before you call an explanation
#   robust.
# - The vote reads only how often each class's clusters occur. A learned reader of the same distribution shows how much of the
#   class is there.
#
# ## Exercises
#
# 1. Permute the training labels before fitting (`ConceptExplainer().fit` with shuffled labels). The prototypes now know no
#    class. How much does the reader of ids still find in their distribution, and how much the vote?
# 2. Give `study.explainer` the `clusterer=sklearn.cluster.BisectingKMeans()`. Does it change the accuracy beyond noise?
# 3. Show that $e$ and $e'$ give the same prototypes, up to one factor, when all blocks have the same number of channels.
