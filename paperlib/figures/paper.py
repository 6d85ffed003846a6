"""The paper's Figure 1 (concepts, patches and attribution) and Figure 2 (prototypes on a UMAP), and their pieces."""
from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from paperlib.figures.maps import array, colours_of, count, number_segment, overlay, segments, show, spread


def figure1(picture, columns: list[dict], title: str = "", target: str = "") -> Figure:
    """Figure 1 for one picture (3, H, W) uint8, a column per explainer (B4, B34, B234) as `Study.explain` gives it.

    Each column is a dict: name; K, the number of all prototypes; predicted (h, w), the map among the prototypes of the
    class `target`; everyone (h, w), that among all K; attribution (h, w), drawn on one scale for all columns; patches,
    a list of (prototype, patch, box, ...), one per prototype of the class.
    """
    limit = max(float(np.abs(array(column["attribution"])).max()) for column in columns)
    few = len(columns[0]["patches"])
    rows = -(-few // 5)
    figure = plt.figure(figsize=(2.1 + 2.75 * len(columns), 8.6 + 0.8 * rows), layout="constrained")
    grid = figure.add_gridspec(4, len(columns) + 1, width_ratios=[2.1] + [2.75] * len(columns),
                               height_ratios=[2.7, 0.85 * rows, 2.7, 2.7], wspace=0.04)
    show(figure.add_subplot(grid[0, 0]), picture)
    figure.axes[0].set_title(title, fontsize=9)
    for i, text in enumerate(_legends(few, columns[0]["K"], target), 1):
        note = figure.add_subplot(grid[i, 0])
        note.axis("off")
        note.text(0, 0.5 if i < 3 else 0.75, text, va="center", fontsize=9, transform=note.transAxes)
    for i, column in enumerate(columns, 1):
        image = _explanation(figure, picture, column, [grid[row, i] for row in range(4)], limit)
    bar = figure.colorbar(image, cax=note.inset_axes((0, 0.35, 0.85, 0.09)), orientation="horizontal")
    bar.ax.tick_params(labelsize=8)
    bar.set_label("blue: against, red: for", fontsize=9)
    return figure


def _legends(few: int, K: int, target: str) -> list[str]:
    """The texts to the left of Figure 1's rows, from the second."""
    return [f"Nearest training patch of\neach of the {few} prototypes.\nAbove: its share of the map.\n"
            "Below: its mean attribution.",
            f"The map among all\n{K} prototypes (eq. 9).\n\nIn colour: the {few} of the\npredicted class.\n"
            "Grey: other classes.", "Attribution (eq. 11) to\n" + textwrap.fill(target, 24)]


def _explanation(figure, picture, column: dict, cells: list, limit: float):
    """One column of Figure 1, in its four cells; returns the attribution's image for the colour bar."""
    mine, everyone = (array(column[name]) for name in ("predicted", "everyone"))
    colours, greys = colours_of(column)
    axes = [figure.add_subplot(cells[row]) for row in (0, 2, 3)]
    segments(axes[0], picture, mine, colours)
    for number, k in enumerate(colours, 1):
        number_segment(axes[0], picture, mine == k, number)
    axes[0].set_title(f"{column['name']}: {count(mine)}", fontsize=9)
    segments(axes[1], picture, everyone, colours | greys)
    axes[1].set_title(f"{count(everyone)}, {len(np.intersect1d(everyone, list(colours)))} of the class", fontsize=9)
    _patches(figure, column, mine, colours, cells[1])
    image = overlay(axes[2], picture, column["attribution"], limit)
    lowest, highest = (float(f(array(column["attribution"]))) for f in (np.min, np.max))
    axes[2].set_title(f"{lowest:.3g} to {highest:.3g}", fontsize=9)
    return image


def _patches(figure, column: dict, ids: np.ndarray, colours: dict, cell) -> None:
    """The patches of one explainer, framed in the colours of its map, with share of the map and mean attribution."""
    grid = cell.subgridspec(-(-len(colours) // 5), 7, width_ratios=[0.08, 1, 1, 1, 1, 1, 0.08])
    for i, (k, piece, box, *_) in enumerate(column["patches"]):
        axis = figure.add_subplot(grid[i // 5, 1 + i % 5])
        show(axis, piece, f"{i + 1}: {(ids == k).mean():.0%}", colours[k])
        axis.title.set_size(7.5)
        if max(box[2:]) < 0.9 * len(piece[0]):
            for colour, width in (("black", 2), ("white", 0.8)):  # seen on any ground
                axis.add_patch(Rectangle(box[:2], box[2], box[3], fill=False, edgecolor=colour, linewidth=width))
        if (ids == k).any():
            mean = array(column["attribution"])[ids == k].mean()
            axis.set_xlabel(f"{mean:+.3g}", fontsize=7.5, labelpad=2)


def concepts(picture, column: dict, target: str) -> Figure:
    """One column of Figure 1, laid out as a row: picture, map, attribution about its mean; patches below."""
    rows = -(-len(column["patches"]) // 5)
    figure = plt.figure(figsize=(8.6, 3.1 + 0.95 * rows), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=[2.6, 0.95 * rows])
    axes = [figure.add_subplot(grid[0, i]) for i in range(3)]
    show(axes[0], picture, "the picture")
    mine = array(column["predicted"])
    colours, _ = colours_of(column)
    segments(axes[1], picture, mine, colours)
    for number, k in enumerate(colours, 1):
        number_segment(axes[1], picture, mine == k, number)
    mean = array(column["attribution"]).mean()
    image = overlay(axes[2], picture, array(column["attribution"]) - mean, spread(column["attribution"]))
    axes[1].set_title(f"{column['name']}: concepts of {target}", fontsize=8)
    axes[2].set_title(f"attribution to {target}", fontsize=8)
    figure.colorbar(image, ax=axes[2], shrink=0.9, label=f"attribution less its mean, {mean:.3g}")
    note = figure.add_subplot(grid[1, 0])
    note.axis("off")
    note.text(0, 0.5, _legends(len(colours), column["K"], target)[0], va="center", fontsize=9, transform=note.transAxes)
    _patches(figure, column, mine, colours, grid[1, 1:])
    return figure


def project(Z: np.ndarray, *others: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Positions on a UMAP fitted on Z (n, D): a list of (n, 2), first of Z, then of each of `others`.

    Seeded runs repeat on one machine but not across machines: look at neighbourhoods, not at coordinates.
    """
    import umap  # takes seconds, and only Figure 2 needs it

    model = umap.UMAP(random_state=seed, n_jobs=1).fit(Z)
    return [model.embedding_] + [model.transform(other) for other in others]


def figure2(train, train_y, test, test_y, crosses, triangles, squares, names) -> Figure:
    """Figure 2: UMAP of train and test (paler) embeddings; on the left the columns c_j, on the right KMEx's prototypes.

    Positions are (n, 2); *_y are classes as indices into `names`; crosses (C, 2) are the raw c_j and triangles (C, 2)
    the c_j rescaled to the mean norm of their class, in the order of names; squares is a list of (K/C, 2), one
    per class. A number (or a name, if all are short) stands beside each class, and a line joins each prototype to the
    middle of its own class: so many colours are hard to tell apart.
    """
    colours = sns.husl_palette(len(names), l=0.55)
    middles = np.array([np.median(train[train_y == c], axis=0) for c in range(len(names))])
    short = max(map(len, names)) <= 3
    figure, axes = plt.subplots(1, 2, figsize=(11, 6.4), sharex=True, sharey=True, layout="constrained")
    for axis in axes:
        for positions, y, opacity in ((train, train_y, 0.5), (test, test_y, 0.2)):
            axis.scatter(*positions.T, s=12, c=[colours[c] for c in y], alpha=opacity, linewidths=0)
        axis.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[], aspect="equal")
        _beside(axis, middles, names if short else range(1, len(names) + 1))
    for c, colour in enumerate(colours):
        _marks(axes[0], crosses[c:c + 1], middles[c], colour, "X", 55)
        _marks(axes[0], triangles[c:c + 1], middles[c], colour, "^", 40)
        _marks(axes[1], np.asarray(squares[c]), middles[c], colour, "s", 20)
    axes[0].set_title("CNN: columns $c_j$, raw (crosses) and rescaled (triangles)", fontsize=10)
    axes[1].set_title("KMEx: centroids (squares)", fontsize=10)
    if not short:
        handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours]
        labels = [f"{c}  {name}" for c, name in enumerate(names, start=1)]
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6), fontsize=8, frameon=False)
    return figure


def _marks(axis, positions, middle, colour, marker: str, size: float) -> None:
    """Prototypes (n, 2) of one class, each joined to the class's middle by a line."""
    for position in positions:
        axis.plot(*zip(position, middle, strict=True), color=colour, linewidth=0.8, zorder=2)
    axis.scatter(*positions.T, marker=marker, s=size, color=colour, edgecolors="black", linewidths=0.6, zorder=3)


def _beside(axis, middles, texts) -> None:
    """The text of each class beside its middle (C, 2), on the side that is away from the nearest other class."""
    for text, middle in zip(texts, middles, strict=True):
        gaps = np.linalg.norm(middles - middle, axis=1)
        away = middle - middles[np.argsort(gaps)[min(1, len(middles) - 1)]]
        offset = 13 * away / max(np.linalg.norm(away), 1e-9)
        axis.annotate(str(text), middle, offset, textcoords="offset points", fontsize=9, ha="center", va="center",
                      weight="bold", zorder=4, path_effects=[withStroke(linewidth=2.5, foreground="white")])
