"""The paper's Figure 1 (concepts, patches, attribution, votes) and Figure 2 (prototypes on a UMAP)."""
from __future__ import annotations

import textwrap
from contextlib import suppress

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from paperlib.figures.maps import (
    CONCEPTS,
    array,
    colours_of,
    count,
    number_segment,
    overlay,
    rectangle,
    segments,
    show,
    spread,
)

ACROSS = 5  # patches in a row of Figure 1
MAP = 1.9  # width of a map, in patches
OTHERS = "0.9"  # the colour of all classes that have no bar of their own in a tally


def figure1(picture, columns: list[dict], title: str, names) -> Figure:
    """Figure 1 for one picture (3, H, W) uint8: on top the votes, then a band per explainer, in the order given.

    columns: as `Study.explain` gives them, for one class. A band holds the map among the class's prototypes, its
    attribution about its own mean, on one scale for all bands, and where in the training pictures the prototypes come
    from, largest share of the evidence first. names: of all classes.
    """
    target, per_class = int(columns[0]["class"]), len(columns[0]["patches"])
    limit = max(spread(column["attribution"]) for column in columns)
    figure = plt.figure(figsize=(10, 2.5 + _height(per_class) * len(columns)), layout="constrained")
    grid = figure.add_gridspec(len(columns) + 1, 1, height_ratios=[2.5] + [_height(per_class)] * len(columns))
    head = grid[0].subgridspec(1, len(columns) + 1, width_ratios=[0.85] + [1] * len(columns))
    show(figure.add_subplot(head[0]), picture, title)
    for i, column in enumerate(columns, 1):
        axis = figure.add_subplot(head[i])
        tally(axis, array(column["everyone"]) // per_class, names, {target: CONCEPTS[0]})
        axis.set_title(f"{column['name']}: votes among all {column['K']} prototypes\n"
                       f"{count(column['everyone'], 'that map')}", fontsize=8)
    for i, column in enumerate(columns, 1):
        _band(figure, grid[i], picture, column, names[target], limit)
    return figure


def concepts(picture, column: dict, target: str) -> Figure:
    """One band of Figure 1 beside its picture (3, H, W) uint8: what one explainer shows of the class `target`."""
    height = _height(len(column["patches"]))
    figure = plt.figure(figsize=(10, height), layout="constrained")
    left, right = figure.add_gridspec(1, 2, width_ratios=[0.82 * MAP, 2 * MAP + ACROSS])
    show(figure.add_subplot(left), picture, "the picture")
    _band(figure, right, picture, column, target, spread(column["attribution"]))
    return figure


def _height(per_class: int) -> float:
    """Inches of a band of Figure 1."""
    return max(3.1, 0.25 + 1.42 * -(-per_class // ACROSS))


def _band(figure, cell, picture, column: dict, target: str, limit: float) -> None:
    """One explainer in Figure 1: map, attribution less its mean, up to `limit`, and its prototypes' patches."""
    ids, att, (colours, _) = array(column["predicted"]), array(column["attribution"]), colours_of(column)
    grid = cell.subgridspec(-(-len(colours) // ACROSS), 2 + ACROSS, width_ratios=[MAP, MAP] + [1] * ACROSS)
    left, middle = (figure.add_subplot(grid[:, i]) for i in range(2))
    segments(left, picture, ids, colours)
    for number, k in enumerate(colours, 1):
        number_segment(left, picture, ids == k, number)
    left.set_title(f"{column['name']}: concepts of\n{target}", fontsize=9)
    image = overlay(middle, picture, att - att.mean(), limit)
    middle.set_title(f"{column['name']}: attribution,\nless its mean {att.mean():.3g}", fontsize=9)
    bar = figure.colorbar(image, cax=middle.inset_axes([0, -0.09, 1, 0.045]), orientation="horizontal")
    bar.set_label("attribution (eq. 11) less its mean", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    for i, (k, source, box, _) in enumerate(column["patches"]):
        axis = figure.add_subplot(grid[i // ACROSS, 2 + i % ACROSS])
        show(axis, source, f"{i + 1}: {_share(column['shares'][k], (ids == k).any())}", colours[k])
        rectangle(axis, box)


def _share(share: float, there: bool) -> str:
    """A share of the evidence in percent, where the concept is on the map at all."""
    small = "<1%" if share >= 0 else f"{share:z.1%}"
    return (f"{share:.0%}" if abs(share) >= 0.005 else small) if there else "not on the map"


def tally(axis, classes, names, colours: dict, named=None, most: int = 5) -> None:
    """Votes (eq. 10) as bars: the share of a map's cells (h, w) that each class holds, of the `most` largest.

    colours: class -> colour, of a bar; grey where it has none. named: the classes that may have a bar; None: all. The
    last bar is of all that have none, if any cell is left to them.
    """
    votes = np.bincount(array(classes).ravel(), minlength=len(names)) / array(classes).size
    first = [int(c) for c in np.argsort(-votes, kind="stable") if votes[c] and (named is None or c in named)][:most]
    bars = [(votes[c], names[c], colours.get(c, "0.75")) for c in first]
    rest = 1 - votes[first].sum()
    bars += [(rest, "others", OTHERS)] if rest > 1e-9 else []
    for y, (share, name, colour) in enumerate(bars):
        axis.barh(y, share, color=colour, alpha=0.6, edgecolor="0.5", linewidth=0.4)
        axis.text(0.01, y, f"{share:.0%} {name}", va="center", fontsize=8)
    axis.set(xlim=(0, 1), ylim=(most + 0.5, -0.5), xticks=[0, 0.5, 1], xticklabels=["0", "50", "100 %"], yticks=[])
    axis.tick_params(labelsize=8)
    axis.get_xticklabels()[-1].set_ha("right")  # so that it does not touch the next axis
    sns.despine(ax=axis)


def votes(picture, maps: dict[str, np.ndarray], names, label: int, title: str) -> Figure:
    """How concept maps vote: maps[name] (h, w) holds the class of each cell's prototype; below, the tally (eq. 10).

    The class `label` and the five others with most cells have a colour, the same everywhere; the rest is grey, in the
    maps and in the tallies' last bar.
    """
    total = sum(np.bincount(array(m).ravel(), minlength=len(names)) / array(m).size for m in maps.values())
    total[label] = np.inf
    colours = {int(c): CONCEPTS[i] for i, c in enumerate(np.argsort(-total, kind="stable")[:6]) if total[c]}
    figure, axes = plt.subplots(2, len(maps) + 1, figsize=(10, 4.9), height_ratios=[2.4, 1.9], layout="constrained")
    show(axes[0, 0], picture, title)
    axes[1, 0].axis("off")
    for (above, below), (name, classes) in zip(axes.T[1:], maps.items(), strict=True):
        painted = {c: colours.get(c, OTHERS) for c in range(len(names))}
        segments(above, picture, classes, painted)
        above.set_title(name, fontsize=9)
        tally(below, classes, names, colours, named=colours, most=6)
    return figure


def project(Z: np.ndarray, *others: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Positions on a UMAP fitted on Z (n, D): a list of (n, 2), first of Z, then of each of `others`.

    Seeded runs repeat on one machine but not across machines: look at neighbourhoods, not at coordinates.
    """
    model = _umap().UMAP(random_state=seed, n_jobs=1).fit(Z)
    return [model.embedding_] + [model.transform(other) for other in others]


def _umap():
    """umap, which keeps what it compiles: by itself it would compile for 20 seconds in each process that fits a map."""
    import umap  # takes seconds, and only Figure 2 needs it
    from umap import layouts, umap_, utils

    for module, name in ((utils, "fast_knn_indices"), (utils, "submatrix"), (umap_, "smooth_knn_dist"),
                         (umap_, "compute_membership_strengths"), (umap_, "init_transform"),
                         (layouts, "_nb_optimize_layout_euclidean_single_epoch")):
        with suppress(AttributeError, RuntimeError):  # other versions name them otherwise; no folder can be written
            getattr(module, name).enable_caching()
    return umap


MARKS = {"training picture": {"marker": "o", "alpha": 0.9, "s": 10},
         "test picture": {"marker": "o", "alpha": 0.3, "s": 22},
         "column $c_j$": {"marker": "X", "s": 60}, "column, rescaled": {"marker": "^", "s": 45},
         "centroid of KMEx": {"marker": "s", "s": 18}}


def figure2(train, train_y, test, test_y, crosses, triangles, squares, names) -> Figure:
    """Figure 2: UMAP of train and test (paler) embeddings; on the left the columns c_j, on the right KMEx's prototypes.

    Positions are (n, 2); *_y are classes as indices into `names`; crosses (C, 2) are the raw c_j and triangles (C, 2)
    the c_j rescaled to the mean norm of their class, in the order of names; squares is a list of (K/C, 2), one
    per class, hollow so that points are seen through them. A number stands beside each class, and a line joins each
    prototype to the middle of its own class: so many colours are hard to tell apart. Every second ten classes' points
    are rings.
    """
    colours = distinct(len(names))
    middles = np.array([np.median(train[train_y == c], axis=0) for c in range(len(names))])
    figure, axes = plt.subplots(1, 2, figsize=(10, 6.2), sharex=True, sharey=True, layout="constrained")
    for axis in axes:
        for name, positions, y in (("test picture", test, test_y), ("training picture", train, train_y)):
            mixed = np.random.default_rng(0).permutation(len(y))  # so that no class lies on top of another
            filled = [colours[c] if c // 10 % 2 == 0 else "white" for c in y[mixed]]
            axis.scatter(*positions[mixed].T, facecolors=filled, edgecolors=[colours[c] for c in y[mixed]],
                         linewidths=0.7, **MARKS[name])
        axis.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    marks = (("column $c_j$", [each[None] for each in crosses]), ("column, rescaled", [e[None] for e in triangles]),
             ("centroid of KMEx", [np.asarray(each) for each in squares]))
    for axis, (name, positions) in zip((axes[0], axes[0], axes[1]), marks, strict=True):
        for of_class, middle, colour in zip(positions, middles, colours, strict=True):
            for position in of_class:
                axis.plot(*zip(position, middle, strict=True), color=colour, linewidth=0.8, zorder=2)
            look = {"color": colour, "edgecolors": "black", "linewidths": 0.6}
            if name == "centroid of KMEx":
                look = {"facecolors": "none", "edgecolors": [tuple(0.65 * np.array(colour))], "linewidths": 0.8}
            axis.scatter(*of_class.T, zorder=3, **look, **MARKS[name])
    for axis, drawn in zip(axes, ([crosses, triangles], list(squares)), strict=True):
        _beside(axis, middles, np.concatenate([train, test, *drawn]))
    axes[0].set_title("CNN: columns of the classifier", fontsize=10)
    axes[1].set_title("KMEx: centroids", fontsize=10)
    _legends(figure, colours, names)
    return figure


def distinct(n: int) -> list[tuple]:
    """n colours: ten that a colour-blind eye tells apart, over again as they are for rings, then two and two darker."""
    return [tuple((1 - c // 20 / (n // 20 + 1)) * np.array(CONCEPTS[c % 10])) for c in range(n)]


def _legends(figure, colours, names) -> None:
    """Below Figure 2: what the marks are, and the classes by number."""
    faces = [{"facecolors": "none" if name.startswith("centroid") else "0.3", "edgecolors": "0.3"} for name in MARKS]
    marks = [plt.scatter([], [], label=name, **style, **face)
             for (name, style), face in zip(MARKS.items(), faces, strict=True)]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks), fontsize=9, frameon=False)
    classes = [plt.Line2D([], [], marker="o", linestyle="", color=colour, label=f"{c} {textwrap.shorten(name, 24)}",
                          fillstyle="full" if (c - 1) // 10 % 2 == 0 else "none")
               for c, (name, colour) in enumerate(zip(names, colours, strict=True), 1)]
    figure.legend(handles=classes, loc="outside lower center", ncols=min(len(names), 5), fontsize=9, frameon=False)


def _beside(axis, middles, points) -> None:
    """The number of each class near its middle (C, 2) in the frame, where points and other numbers leave room."""
    side = np.ptp(points, axis=0) + 1e-9  # so that near is near on the page
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    steps = np.concatenate([radius * ring for radius in (0.035, 0.05, 0.07, 0.09)])
    taken, (low, high) = points / side, np.stack([points.min(0), points.max(0)]) / side
    for number, middle in enumerate(middles, 1):
        places = np.clip(middle / side + steps, low - 0.015, high + 0.015)
        gaps = np.linalg.norm(places[:, None] - taken, axis=2).min(1)
        free = gaps > 0.028
        best = int(free.argmax()) if free.any() else int(gaps.argmax())
        taken = np.concatenate([taken, places[best:best + 1]])
        axis.annotate(str(number), middle, places[best] * side, fontsize=9, ha="center", va="center", weight="bold",
                      zorder=4,
                      arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5},
                      path_effects=[withStroke(linewidth=2.5, foreground="white")])
