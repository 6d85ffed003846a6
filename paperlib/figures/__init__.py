"""The figures: one function each, which draws what it is given and returns the matplotlib figure.

`keep` saves a figure beside a .json of its numbers, settings and versions: each figure knows what made it.
Maps are colour-blind safe: one colour for each id (Okabe and Ito), red and blue about zero for attribution.
"""
from __future__ import annotations

import json
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from paperlib.datasets import files

PALETTE = sns.color_palette("colorblind", 10)
# The same ten, in an order whose first five stay furthest apart to a colour-blind eye; grey, the maps' ground, is last.
CONCEPTS = [PALETTE[i] for i in (0, 3, 8, 2, 4, 9, 5, 1, 6, 7)]
DIVERGING = "RdBu_r"
FIGURES = files.REPOSITORY / "figures"


def keep(figure: Figure | None, name: str, numbers: dict, settings: dict, out: str = "") -> Path:
    """Save `figure` as <out>/<name>_<data set>.png and its numbers, settings and versions as the .json beside it.

    out: a folder (empty: figures/ of this repository). figure may be None where there are only numbers. Both files are
    written whole or not at all. Returns the path of the .json.
    """
    stem = Path(out or FIGURES) / f"{name}_{settings['dataset']}"
    if figure is not None:
        with files.written_whole(stem.with_suffix(".png")) as temporary:
            # No creation date: the same figure is the same file.
            figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    record = {"numbers": numbers, "settings": settings, "versions": files.versions()}
    with files.written_whole(stem.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=_plain) + "\n")
    return stem.with_suffix(".json")


def _plain(value):
    """numpy and torch numbers as JSON's own."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _array(x) -> np.ndarray:
    """A tensor of any device, or anything array-like, as numpy."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def show(axis, picture, title: str = "", colour=None) -> None:
    """A picture (3, H, W) or (H, W, 3) uint8 without ticks, its title above, framed in `colour` where one is given."""
    picture = _array(picture)
    axis.imshow(picture.transpose(1, 2, 0) if picture.shape[0] == 3 else picture)
    axis.set_title(title, fontsize=8)
    frame(axis, colour)


def frame(axis, colour=None) -> None:
    """Take the ticks away and frame the axis in `colour`, or not at all."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=colour is not None, linewidth=3, color=colour)


def sheet(pictures, titles, columns: int = 7, side: float = 1.25, colours=None) -> Figure:
    """Pictures in rows, each with its title (long ones on two lines), framed in colours[i] where that is no None."""
    rows, wide = -(-len(pictures) // columns), round(13 * side)
    titles = [textwrap.fill(title, wide) if "\n" not in title else title for title in titles]
    lines = max(title.count("\n") for title in titles) + 1
    size = side * columns, (side + 0.16 * lines) * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title, colour in zip(axes.flat, pictures, titles, colours or [None] * len(titles), strict=False):
        axis.axis("on")
        show(axis, picture, title, colour)
    return figure


def overlay(axis, picture, attribution, limit: float):
    """An attribution map (H, W), red for and blue against, about zero, over the picture in grey; returns the image."""
    picture = _array(picture)
    axis.imshow(picture.mean(0), cmap="gray", vmin=-160, vmax=255)
    image = axis.imshow(_array(attribution), cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.7,
                        interpolation="nearest", extent=_extent(picture))
    frame(axis)
    return image


def segments(axis, picture, ids, colours: dict) -> None:
    """A concept map (H, W) of prototype ids, in the colour of each, over the picture in grey."""
    picture, ids = _array(picture), _array(ids)
    axis.imshow(picture.mean(0), cmap="gray", vmin=-120, vmax=255)
    painted = np.array([[to_rgb(colours[int(k)]) for k in row] for row in ids])
    axis.imshow(painted, alpha=0.6, interpolation="nearest", extent=_extent(picture))
    axis.add_collection(LineCollection(_borders(ids, *picture.shape[1:]), colors="white", linewidths=0.6))
    frame(axis)


def _extent(picture) -> tuple:
    """Where imshow has to stretch a map so that it covers the picture."""
    return -0.5, picture.shape[2] - 0.5, picture.shape[1] - 0.5, -0.5


def _borders(ids: np.ndarray, height: int, width: int) -> list:
    """The lines between neighbouring pixels of a map (h, w) whose ids differ, in the pixels of the picture."""
    dy, dx = height / ids.shape[0], width / ids.shape[1]
    upright = [((x * dx + dx, y * dy), (x * dx + dx, y * dy + dy)) for y, x in np.argwhere(np.diff(ids, axis=1))]
    level = [((x * dx, y * dy + dy), (x * dx + dx, y * dy + dy)) for y, x in np.argwhere(np.diff(ids, axis=0))]
    return [[(x - 0.5, y - 0.5) for x, y in line] for line in upright + level]


def evidence(pictures, maps, titles, label: str) -> Figure:
    """Each picture above its class evidence map (h, w) and the map's mean, all maps on one scale about zero."""
    n, limit = len(pictures), max(float(np.abs(m).max()) for m in map(_array, maps))
    figure, axes = plt.subplots(2, n, figsize=(1.7 * n + 0.8, 3.7), squeeze=False, layout="constrained")
    for i in range(n):
        show(axes[0, i], pictures[i], "\n".join(textwrap.fill(line, 24) for line in titles[i].split("\n")))
        image = overlay(axes[1, i], pictures[i], maps[i], limit)
        axes[1, i].set_xlabel(f"mean {_array(maps[i]).mean():.2f}", fontsize=8)
    figure.colorbar(image, ax=axes, label=label, shrink=0.42, anchor=(0, 0.1))
    return figure


def bars(values: dict[str, dict[str, float]], ylabel: str, limits: tuple[float, float] | None = None,
         decimals: int = 2, errors: dict[str, dict[str, float]] | None = None) -> Figure:
    """Grouped bars: values[group][bar], each with its number on top and, if given, errors[group][bar] on both sides."""
    groups, names = list(values), list(next(iter(values.values())))
    figure, axis = plt.subplots(figsize=(1.5 + max(0.62 * len(names), 0.9) * len(groups), 3.2), layout="constrained")
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [values[group][name] for group in groups]
        reach = None if errors is None else [errors[group][name] for group in groups]
        drawn = axis.bar(np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width, heights, width, label=name,
                         color=PALETTE[i % 10], yerr=reach, ecolor="0.3", capsize=2, error_kw={"linewidth": 0.8})
        # White behind a number, so that no line runs through it.
        axis.bar_label(drawn, [f"{h:.{decimals}f}" for h in heights], fontsize=7, padding=2,
                       path_effects=[withStroke(linewidth=2, foreground="white")])
    axis.axhline(0, color="0.3", linewidth=0.8)
    axis.set(xticks=range(len(groups)), xticklabels=groups, ylabel=ylabel, ylim=limits)
    axis.margins(y=0.12)
    axis.legend(fontsize=8, frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    sns.despine(figure)
    return figure


def scatter(points: dict[str, tuple], xlabel: str, ylabel: str, title: str = "", zero: bool = True) -> Figure:
    """A cloud for each name: points[name] is (x, y), each (n,). zero: whether y's zero is drawn as a line."""
    figure, axis = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    for i, (name, (x, y)) in enumerate(points.items()):
        axis.scatter(x, y, s=28, color=PALETTE[i], marker="XosD^v"[i], edgecolors="white", linewidths=0.4, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if zero:
        axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axis.legend(fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def log_dots(values: dict[str, dict[str, list[float]]], lines: dict[str, float], xlabel: str) -> Figure:
    """Dots on a logarithmic scale, a row for each name: values[row][series] are numbers >= 0, zeros at the left edge.

    lines: label -> value, drawn as dashed lines across all rows.
    """
    series = list(dict.fromkeys(name for row in values.values() for name in row))
    numbers = [x for row in values.values() for dots in row.values() for x in dots] + list(lines.values())
    least, most = (round(np.log10(f(x for x in numbers if x > 0))) for f in (min, max))
    zero = 10.0 ** (least - 1.5)
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.3 * len(values)), layout="constrained")
    for i, name in enumerate(series):
        dots = [(x or zero, y) for y, row in enumerate(values.values()) for x in row.get(name, [])]
        axis.scatter(*zip(*dots, strict=True), s=30, color=PALETTE[i], marker="oDXs"[i], edgecolors="white",
                     linewidths=0.4, label=name, zorder=3)
    for label, x in lines.items():
        axis.axvline(x, color="0.5", linestyle="--", linewidth=0.8)
        axis.annotate(label, (x, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axis.set(xscale="log", xlabel=xlabel, ylim=(len(values) - 0.5, -0.5))
    axis.set_yticks(range(len(values)), list(values))
    powers = range(least - least % 2, most + 2, 2)
    axis.set_xticks([zero] * (0 in numbers) + [10.0**p for p in powers],
                    ["0"] * (0 in numbers) + [f"$10^{{{p}}}$" for p in powers])
    axis.minorticks_off()
    axis.grid(axis="y", color="0.92")
    figure.legend(loc="outside upper center", ncols=len(series), fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def options(values: dict[str, dict[str, dict[str, float]]], limits: dict[str, tuple[float, float]],
            default: str = "", errors: dict[str, dict[str, float]] | None = None, joined: bool = False) -> Figure:
    """One choice and its options: a row for each option, a panel for each measure, a dot for each data set.

    values[data set][option][measure], not a number where there is none; limits[measure] is a panel's range, so that
    charts can be compared. errors[data set][option] is drawn on both sides of the first measure. The default's value
    is a thin dashed line in the colour of its data set. joined: the options are steps on a scale, joined by a line.
    """
    names = list(dict.fromkeys(option for rows in values.values() for option in rows))
    figure, axes = plt.subplots(1, len(limits), figsize=(9, 1.25 + 0.34 * len(names)), sharey=True, squeeze=False,
                                layout="constrained")
    for i, (title, rows) in enumerate(values.items()):
        y = np.arange(len(names)) + 0.24 * (i - (len(values) - 1) / 2)
        for axis, measure in zip(axes[0], limits, strict=True):
            x = [rows.get(name, {}).get(measure, np.nan) for name in names]
            first = errors is not None and axis is axes[0, 0]
            reach = [errors[title].get(name, 0.0) for name in names] if first else None
            axis.errorbar(x, y, xerr=reach, color=PALETTE[i % 10], marker="osDX^v"[i % 6], markersize=5, capsize=2,
                          linestyle="-" if joined else "", linewidth=1, elinewidth=1, label=title)
            if default in rows:
                axis.axvline(rows[default].get(measure, np.nan), color=PALETTE[i % 10], linestyle="--", linewidth=0.8)
    for axis, (measure, limit) in zip(axes[0], limits.items(), strict=True):
        axis.set(xlabel=measure, xlim=limit)
        axis.grid(axis="y", color="0.93")
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=5)
    axes[0, 0].set(ylim=(len(names) - 0.5, -0.5))
    axes[0, 0].set_yticks(range(len(names)), [f"{name} (default)" if name == default else name for name in names])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(values), fontsize=8,
                  frameon=False)
    sns.despine(figure)
    return figure


def ladder(picture, columns: list[dict], target: str) -> Figure:
    """One picture (3, H, W) uint8 and its maps under several options, a column for each.

    Each column is a dict: name, its title; predicted (h, w), the map among the prototypes of the class `target`;
    everyone (h, w), that among all K; patches, a list of (prototype id, ...) of the class, coloured in that order.
    """
    figure, axes = plt.subplots(2, len(columns) + 1, figsize=(1.5 * len(columns) + 1.9, 3.8), layout="constrained",
                                width_ratios=[1.25] + [1] * len(columns))
    show(axes[0, 0], picture)
    axes[1, 0].axis("off")
    axes[1, 0].text(0, 0.5, f"above: among the\nprototypes of\n{textwrap.fill(target, 18)}\n\nbelow: among all K,\n"
                    "other classes grey", fontsize=8, va="center", transform=axes[1, 0].transAxes)
    for axis, column in zip(axes.T[1:], columns, strict=True):
        colours, greys = _colours(column)
        segments(axis[0], picture, column["predicted"], colours)
        segments(axis[1], picture, column["everyone"], colours | greys)
        axis[0].set_title(f"{column['name']}\n{_count(column['predicted'])}", fontsize=8)
        axis[1].set_title(_count(column["everyone"]), fontsize=8)
    return figure


def project(Z: np.ndarray, *others: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """UMAP in two dimensions, fitted on Z (n, D) and then applied to it and to `others`: a list of (n, 2).

    Seeded runs repeat on one machine, not from one machine to another: look at neighbourhoods, not at coordinates.
    """
    import umap  # takes seconds, and only Figure 2 needs it

    model = umap.UMAP(random_state=seed, n_jobs=1).fit(Z)
    return [model.embedding_] + [model.transform(other) for other in others]


def figure2(train, train_y, test, test_y, crosses, triangles, squares, names) -> Figure:
    """Figure 2: UMAP of train and test (lower opacity) embeddings; left c_j, right KMEx prototypes.

    Positions are (n, 2); *_y are classes as indices into `names`; crosses (C, 2) are the raw c_j and triangles (C, 2)
    the c_j rescaled to the mean norm of their class, in the order of names; squares is a list of (K/C, 2), one a class.
    A number (or a name, if all are short) stands beside each class, and a line joins each prototype to the middle
    of its own class: so many colours are hard to tell apart, for some eyes more than for others.
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
                      weight="bold", zorder=2.5, path_effects=[withStroke(linewidth=2.5, foreground="white")])


def patch(picture, row: int, column: int, resolution: tuple[int, int], share: float = 1 / 3
          ) -> tuple[np.ndarray, tuple]:
    """The square of `picture` (3, H, W) around one pixel of a feature map: (patch (3, s, s), the pixel's box in it).

    s is `share` of the picture's side, or all that the pixel covers where that is more; the box is (left, top, width,
    height) in the patch's pixels.
    """
    height, width = picture.shape[1:]
    cell = height / resolution[0], width / resolution[1]
    side = min(round(max(share * min(height, width), *cell, 1)), height, width)
    top = int(np.clip(round((row + 0.5) * cell[0] - side / 2), 0, height - side))
    left = int(np.clip(round((column + 0.5) * cell[1] - side / 2), 0, width - side))
    box = (column * cell[1] - left - 0.5, row * cell[0] - top - 0.5, cell[1], cell[0])
    return _array(picture)[:, top:top + side, left:left + side], box


def figure1(picture, columns: list[dict], title: str = "", target: str = "") -> Figure:
    """Figure 1 for one picture (3, H, W) uint8: a column for each explainer (B4, B34, B234), as `Study.explain` gives.

    Each column is a dict: name; K, the number of all prototypes; predicted (h, w), the map among the prototypes of the
    class `target`; everyone (h, w), that among all K; attribution (h, w), drawn on one scale for all columns; patches,
    a list of (prototype id, patch, box, ...), one for each prototype of the class.
    """
    limit = max(float(np.abs(_array(column["attribution"])).max()) for column in columns)
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


def _legends(few: int, K: int, target: str) -> list[str]:  # noqa: N803 - the paper's letter
    """What stands to the left of Figure 1's rows, from the second."""
    return [f"Nearest training patch of\neach of the {few} prototypes.\nAbove: its share of the map.\n"
            "Below: its mean attribution.",
            f"The map among all\n{K} prototypes (eq. 9).\n\nIn colour: the {few} of the\npredicted class.\n"
            "Grey: other classes.", "Attribution (eq. 11) to\n" + textwrap.fill(target, 24)]


def _explanation(figure, picture, column: dict, cells: list, limit: float):
    """One column of Figure 1, in its four cells; returns the attribution's image for the colour bar."""
    mine, everyone = (_array(column[name]) for name in ("predicted", "everyone"))
    colours, greys = _colours(column)
    axes = [figure.add_subplot(cells[row]) for row in (0, 2, 3)]
    segments(axes[0], picture, mine, colours)
    for number, k in enumerate(colours, 1):
        _number(axes[0], picture, mine == k, number)
    axes[0].set_title(f"{column['name']}: {_count(mine)}", fontsize=9)
    segments(axes[1], picture, everyone, colours | greys)
    axes[1].set_title(f"{_count(everyone)}, {len(np.intersect1d(everyone, list(colours)))} of the class", fontsize=9)
    _patches(figure, column, mine, colours, cells[1])
    image = overlay(axes[2], picture, column["attribution"], limit)
    lowest, highest = (float(f(_array(column["attribution"]))) for f in (np.min, np.max))
    axes[2].set_title(f"{lowest:.3g} to {highest:.3g}", fontsize=9)
    return image


def _colours(column: dict) -> tuple[dict, dict]:
    """Of a column of Figure 1: the colours of the class's own prototypes, and greys for those of other classes."""
    colours = {k: CONCEPTS[i % 10] for i, (k, *_) in enumerate(column["patches"])}
    others = np.setdiff1d(_array(column["everyone"]), list(colours)).tolist()
    return colours, {k: (0.35 + 0.55 * ((7 * i) % 11) / 10,) * 3 for i, k in enumerate(others)}


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
            mean = _array(column["attribution"])[ids == k].mean()
            axis.set_xlabel(f"{mean:+.3g}", fontsize=7.5, labelpad=2)


def _number(axis, picture, where: np.ndarray, number: int) -> None:
    """Write a concept's number at the pixel of its segment that is nearest to the segment's middle."""
    pixels = np.argwhere(where)
    if len(pixels):
        y, x = pixels[np.square(pixels - pixels.mean(0)).sum(1).argmin()]
        dy, dx = picture.shape[1] / where.shape[0], picture.shape[2] / where.shape[1]
        axis.text((x + 0.5) * dx - 0.5, (y + 0.5) * dy - 0.5, str(number), color="white", fontsize=9, ha="center",
                  va="center", path_effects=[withStroke(linewidth=2, foreground="black")])


def concepts(picture, column: dict, target: str) -> Figure:
    """One column of Figure 1 in a row: picture, map of class `target`, attribution about its mean; patches below."""
    rows = -(-len(column["patches"]) // 5)
    figure = plt.figure(figsize=(8.6, 3.1 + 0.95 * rows), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=[2.6, 0.95 * rows])
    axes = [figure.add_subplot(grid[0, i]) for i in range(3)]
    show(axes[0], picture, "the picture")
    mine = _array(column["predicted"])
    colours = {k: CONCEPTS[i % 10] for i, (k, *_) in enumerate(column["patches"])}
    segments(axes[1], picture, mine, colours)
    for number, k in enumerate(colours, 1):
        _number(axes[1], picture, mine == k, number)
    mean = _array(column["attribution"]).mean()
    image = overlay(axes[2], picture, _array(column["attribution"]) - mean, _spread(column["attribution"]))
    axes[1].set_title(f"{column['name']}: concepts of {target}", fontsize=8)
    axes[2].set_title(f"attribution to {target}", fontsize=8)
    figure.colorbar(image, ax=axes[2], shrink=0.9, label=f"attribution less its mean, {mean:.3g}")
    note = figure.add_subplot(grid[1, 0])
    note.axis("off")
    note.text(0, 0.5, _legends(len(colours), column["K"], target)[0], va="center", fontsize=9, transform=note.transAxes)
    _patches(figure, column, mine, colours, grid[1, 1:])
    return figure


def _spread(attribution) -> float:
    """How far a map goes from its mean; at least a hundredth of it, so that rounding in a flat map is not shown."""
    attribution = _array(attribution)
    return float(max(np.abs(attribution - attribution.mean()).max(), 0.01 * abs(attribution.mean()), 1e-12))


def about_mean(pictures, maps: dict[str, list], titles) -> Figure:
    """Attribution maps less their own mean, all on one scale: higher (red) and lower (blue) than the picture's average.

    A row for each picture (3, H, W) uint8, a column for each name of `maps`, whose maps are (h, w), one a picture.
    """
    limit = max(_spread(m) for each in maps.values() for m in each)
    maps = {name: [_array(m) - _array(m).mean() for m in each] for name, each in maps.items()}
    n = len(pictures)
    figure, axes = plt.subplots(n, len(maps) + 1, figsize=(1.9 * len(maps) + 2.6, 1.9 * n + 0.2), squeeze=False,
                                layout="constrained")
    for i, picture in enumerate(pictures):
        show(axes[i, 0], picture, textwrap.fill(titles[i], 30))
        for axis, (name, each) in zip(axes[i, 1:], maps.items(), strict=True):
            image = overlay(axis, picture, each[i], limit)
            axis.set_title(name if i == 0 else "", fontsize=9)
    figure.colorbar(image, ax=axes, label="attribution less its mean", shrink=min(1, 1.6 / n + 0.1))
    return figure


def panel(pictures, maps: dict[str, list], titles, outlines=None) -> Figure:
    """Attribution maps of several methods on the same pictures: a row for each picture, a column for each method.

    pictures (3, H, W) uint8; maps[name] holds a map (h, w) for each. Methods have units of their own, so each map is
    divided by its largest absolute value; then all share one scale from -1 to 1. outlines: masks (H, W), drawn round.
    """
    n = len(pictures)
    figure, axes = plt.subplots(n, len(maps) + 1, figsize=(1.06 * len(maps) + 3.0, 0.98 * n + 0.5), squeeze=False,
                                layout="constrained")
    for i, picture in enumerate(pictures):
        show(axes[i, 0], picture)
        axes[i, 0].set_ylabel(textwrap.fill(titles[i], 14), fontsize=7, rotation=0, ha="right", va="center")
        for axis, (name, each) in zip(axes[i, 1:], maps.items(), strict=True):
            att = _array(each[i])
            image = overlay(axis, picture, att / max(np.abs(att).max(), 1e-12), 1.0)
            axis.set_title(textwrap.fill(name, 11) if i == 0 else "", fontsize=8)
        if outlines is not None and _array(outlines[i]).any():
            for axis in axes[i]:
                axis.contour(_array(outlines[i]), levels=[0.5], colors="black", linewidths=0.4)
    figure.colorbar(image, ax=axes, label="share of the map's largest", shrink=min(1, 1.8 / n + 0.1), aspect=15)
    return figure


def forest(found: dict[str, dict[str, tuple]], labels: dict[str, str], lines: dict[str, float] | None = None,
           shared: bool = False) -> Figure:
    """Means and intervals: found[row][score] is (mean, low, high); a row for each name, a panel for each of `labels`.

    labels: score -> what stands below its panel. lines: score -> a reference, drawn dashed. shared: one scale for all.
    """
    names = list(found)
    figure, axes = plt.subplots(1, len(labels), figsize=(1.9 + 1.75 * len(labels), 1.0 + 0.27 * len(names)),
                                sharex=shared, sharey=True, squeeze=False, layout="constrained")
    for axis, (score, label) in zip(axes[0], labels.items(), strict=True):
        mean, low, high = np.array([found[name][score] for name in names]).T
        axis.errorbar(mean, range(len(names)), xerr=[mean - low, high - mean], fmt="o", markersize=4, capsize=2,
                      color=PALETTE[0], elinewidth=1)
        if lines and score in lines:
            axis.axvline(lines[score], color="0.5", linestyle="--", linewidth=0.8)
        axis.set_xlabel(label, fontsize=8)
        axis.grid(axis="y", color="0.93")
        axis.tick_params(axis="y", length=0)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set(ylim=(len(names) - 0.5, -0.5))
    axes[0, 0].set_yticks(range(len(names)), names)
    sns.despine(figure)
    return figure


def prediction(picture, title: str, names, logits) -> Figure:
    """A picture (3, H, W) uint8 beside the largest logits, largest first: names and logits have one length."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6), width_ratios=[1, 1.3], layout="constrained")
    show(left, picture, title)
    logits = _array(logits)
    drawn = right.barh(range(len(logits)), logits, color=[PALETTE[0]] + [PALETTE[7]] * (len(logits) - 1))
    right.bar_label(drawn, [f"{y:.2f}" for y in logits], fontsize=8, padding=3)
    right.set(yticks=range(len(logits)), yticklabels=names, xlabel="logit")
    right.invert_yaxis()
    right.axvline(0, color="0.3", linewidth=0.8)
    right.margins(x=0.15)
    sns.despine(figure)
    return figure


def parts(picture, mask, chosen: dict[str, int], lead, title: str) -> Figure:
    """A mask (H, W) of parts, `chosen` (name -> number) in colour, beside a map `lead` (h, w) of evidence.

    The map lies over the picture (3, H, W) uint8, red and blue about zero.
    """
    mask, lead = _array(mask), _array(lead)
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.8), layout="constrained")
    painted = np.where((mask > 0)[..., None], 0.72, 0.95) * np.ones(3)
    for i, number in enumerate(chosen.values()):
        painted[mask == number] = CONCEPTS[i % 10]
    axes[0].imshow(painted)
    axes[0].set_title("where the two species differ", fontsize=8)
    frame(axes[0])
    handles = [Rectangle((0, 0), 1, 1, color=CONCEPTS[i % 10]) for i in range(len(chosen))]
    axes[0].legend(handles, list(chosen), loc="center right", bbox_to_anchor=(0, 0.5), fontsize=8, frameon=False)
    image = overlay(axes[1], picture, lead, float(np.abs(lead).max()) or 1.0)
    axes[1].set_title(title, fontsize=8)
    figure.colorbar(image, ax=axes[1], shrink=0.9, label="evidence, in logits")
    return figure


def _count(ids) -> str:
    n = len(np.unique(_array(ids)))
    return f"{n} id{'s' if n > 1 else ''} on the map"
