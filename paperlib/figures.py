"""The figures: one function each, which draws what it is given and returns the matplotlib figure.

`keep` saves a figure beside a .json of its numbers, settings and versions: each figure knows what made it.
Maps are colour-blind safe: one colour for each id (Okabe and Ito), red and blue about zero for attribution.
"""
from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paperlib import files

PALETTE = sns.color_palette("colorblind", 10)
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


def sheet(pictures, titles, columns: int = 7, side: float = 1.25) -> Figure:
    """Pictures in rows, each with its title."""
    rows = -(-len(pictures) // columns)
    size = side * columns, 1.18 * side * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
        axis.axis("on")
        show(axis, picture, title)
    return figure


def overlay(axis, picture, attribution, limit: float):
    """An attribution map (H, W), red for and blue against, about zero, over the picture in grey; returns the image."""
    picture = _array(picture)
    axis.imshow(picture.mean(0), cmap="gray", vmin=-255, vmax=255)
    box = (-0.5, picture.shape[2] - 0.5, picture.shape[1] - 0.5, -0.5)
    image = axis.imshow(_array(attribution), cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.75, extent=box)
    frame(axis)
    return image


def segments(axis, picture, ids, colours: dict) -> None:
    """A concept map (H, W) of prototype ids, in the colour of each, over the picture in grey."""
    picture, ids = _array(picture), _array(ids)
    axis.imshow(picture.mean(0), cmap="gray", vmin=0, vmax=255)
    painted = np.array([[to_rgb(colours[int(k)]) for k in row] for row in ids])
    axis.imshow(painted, alpha=0.6, extent=(-0.5, picture.shape[2] - 0.5, picture.shape[1] - 0.5, -0.5))
    frame(axis)


def evidence(pictures, maps, titles, label: str) -> Figure:
    """Each picture above its class evidence map (h, w), all maps on one scale about zero, with a colour bar."""
    n, limit = len(pictures), max(float(np.abs(m).max()) for m in map(_array, maps))
    figure, axes = plt.subplots(2, n, figsize=(1.7 * n + 0.8, 3.7), squeeze=False, layout="constrained")
    for i in range(n):
        show(axes[0, i], pictures[i], titles[i])
        image = overlay(axes[1, i], pictures[i], maps[i], limit)
    figure.colorbar(image, ax=axes[1], label=label, shrink=0.9)
    return figure


def bars(values: dict[str, dict[str, float]], ylabel: str, limits: tuple[float, float] | None = None) -> Figure:
    """Grouped bars: values[group][bar], each with its number on top."""
    groups, names = list(values), list(next(iter(values.values())))
    figure, axis = plt.subplots(figsize=(1.5 + 0.62 * len(groups) * len(names), 3.2), layout="constrained")
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [values[group][name] for group in groups]
        drawn = axis.bar(np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width, heights, width, label=name,
                         color=PALETTE[i % 10])
        axis.bar_label(drawn, [f"{h:.2f}" for h in heights], fontsize=7, padding=2)
    axis.axhline(0, color="0.3", linewidth=0.8)
    axis.set(xticks=range(len(groups)), xticklabels=groups, ylabel=ylabel, ylim=limits)
    axis.margins(y=0.12)
    axis.legend(fontsize=8, frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    sns.despine(figure)
    return figure


def scatter(points: dict[str, tuple], xlabel: str, ylabel: str, title: str = "") -> Figure:
    """A cloud for each name: points[name] is (x, y), each (n,)."""
    figure, axis = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    for i, (name, (x, y)) in enumerate(points.items()):
        axis.scatter(x, y, s=28, color=PALETTE[i], marker="XosD^v"[i], edgecolors="white", linewidths=0.4, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axis.legend(fontsize=8, frameon=False)
    sns.despine(figure)
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
    """
    colours = sns.husl_palette(len(names), l=0.55)
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.4), sharex=True, sharey=True, layout="constrained")
    marks = {"edgecolors": "black", "linewidths": 0.7, "zorder": 3}
    for axis in axes:
        for positions, y, opacity in ((train, train_y, 0.5), (test, test_y, 0.2)):
            axis.scatter(*positions.T, s=7, c=[colours[c] for c in y], alpha=opacity, linewidths=0)
        axis.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    for c in range(len(names)):
        axes[0].scatter(*crosses[c], marker="X", s=70, color=colours[c], **marks)
        axes[0].scatter(*triangles[c], marker="^", s=60, color=colours[c], **marks)
        axes[1].scatter(*np.asarray(squares[c]).T, marker="s", s=45, color=colours[c], **marks)
    axes[0].set_title("the classifier's columns: × raw, ▲ rescaled to their class's norm")
    axes[1].set_title("KMEx: ■ centroids of each class")
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours]
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 7), fontsize=7, frameon=False)
    return figure


def patch(picture, row: int, column: int, resolution: tuple[int, int], share: float = 1 / 3
          ) -> tuple[np.ndarray, tuple]:
    """The square of `picture` (3, H, W) around one pixel of a feature map: (patch (3, s, s), the pixel's box in it).

    s is `share` of the picture's side; the box is (left, top, width, height) in the patch's pixels.
    """
    height, width = picture.shape[1:]
    side = max(1, round(share * min(height, width)))
    cell = height / resolution[0], width / resolution[1]
    top = int(np.clip(round((row + 0.5) * cell[0] - side / 2), 0, height - side))
    left = int(np.clip(round((column + 0.5) * cell[1] - side / 2), 0, width - side))
    box = (column * cell[1] - left - 0.5, row * cell[0] - top - 0.5, cell[1], cell[0])
    return _array(picture)[:, top:top + side, left:left + side], box


def figure1(picture, columns: list[dict], limit: float, title: str = "") -> Figure:
    """Figure 1 for one picture (3, H, W) uint8: a column for each explainer (B4, B34, B234).

    Each column is a dict: name; predicted (h, w), the map among the predicted class's prototypes; everyone (h, w), that
    among all K; attribution (h, w), drawn over -limit..limit; patches, a list of (prototype id, patch, box, caption).
    """
    figure = plt.figure(figsize=(10.2, 9.4), layout="constrained")
    parts = figure.subfigures(1, len(columns) + 1, width_ratios=[0.75] + [1] * len(columns))
    show(parts[0].subplots(1, 1), picture, title)
    for part, column in zip(parts[1:], columns, strict=True):
        colours = {k: PALETTE[i % 10] for i, (k, *_) in enumerate(column["patches"])}
        top, bottom = part.subfigures(2, 1, height_ratios=[3.1, 1])
        axes = top.subplots(3, 1)
        segments(axes[0], picture, column["predicted"], colours)
        axes[0].set_title(f"{column['name']}: concepts of the prediction\n{_count(column['predicted'])}", fontsize=8)
        ids = np.unique(_array(column["everyone"]))
        everyone = dict(zip(ids.tolist(), sns.husl_palette(len(ids)), strict=True))
        segments(axes[1], picture, column["everyone"], everyone)
        axes[1].set_title(f"among all K\n{_count(column['everyone'])}", fontsize=8)
        image = overlay(axes[2], picture, column["attribution"], limit)
        axes[2].set_title("attribution (eq. 11)", fontsize=8)
        top.colorbar(image, ax=axes[2], shrink=0.8)
        rows = -(-len(column["patches"]) // 5)
        small = bottom.subplots(rows, 5, squeeze=False)
        bottom.suptitle("nearest training patches", fontsize=8)
        for axis in small.flat[len(column["patches"]):]:
            axis.axis("off")
        for axis, (k, piece, box, caption) in zip(small.flat, column["patches"], strict=False):
            show(axis, piece, caption, colours[k])
            axis.add_patch(Rectangle(box[:2], box[2], box[3], fill=False, edgecolor="white", linewidth=0.8))
    return figure


def _count(ids) -> str:
    n = len(np.unique(_array(ids)))
    return f"{n} id{'s' if n > 1 else ''} on the map"

