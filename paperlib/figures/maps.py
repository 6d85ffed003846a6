"""Maps over pictures: concept maps as segments, attribution as red and blue, and sheets of pictures.

Colour-blind safe: one colour per concept (Okabe and Ito), red and blue about zero for attribution.
"""
from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.ndimage import binary_dilation, distance_transform_edt

PALETTE = sns.color_palette("colorblind", 10)
# The same ten, in an order whose first five stay furthest apart to a colour-blind eye; grey, the maps' ground, is last.
CONCEPTS = [PALETTE[i] for i in (0, 3, 8, 2, 4, 9, 5, 1, 6, 7)]
DIVERGING = "RdBu_r"


def show(axis, picture, title: str = "", colour=None) -> None:
    """Draw a picture (3, H, W) or (H, W, 3) uint8 without ticks, its title above, framed in `colour` if given."""
    picture = array(picture)
    axis.imshow(picture.transpose(1, 2, 0) if picture.shape[0] == 3 else picture)
    axis.set_title(title, fontsize=8)
    frame(axis, colour)


def frame(axis, colour=None) -> None:
    """Remove the ticks and frame the axis in `colour`, or not at all."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=colour is not None, linewidth=3, color=colour)


def rectangle(axis, box) -> None:
    """Frame a box (left, top, width, height) of a picture so that it is seen on any ground."""
    for colour, width in (("black", 2.4), ("white", 1)):
        axis.add_patch(Rectangle((box[0] - 0.5, box[1] - 0.5), *box[2:], fill=False, edgecolor=colour, linewidth=width))


def sheet(pictures, titles, columns: int = 7, side: float = 1.25, colours=None, boxes=None) -> Figure:
    """Pictures in rows, each with its title (long ones on two lines), framed in colours[i] unless that is None.

    boxes: if given, (left, top, width, height) in each picture, drawn there.
    """
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
    for axis, box in zip(axes.flat, boxes or [], strict=False):
        rectangle(axis, box)
    return figure


def overlay(axis, picture, attribution, limit: float):
    """Draw an attribution map (H, W), red for and blue against, over the picture in grey; returns the image."""
    picture = array(picture)
    axis.imshow(picture.mean(0), cmap="gray", vmin=-160, vmax=255)
    image = axis.imshow(array(attribution), cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.7,
                        interpolation="nearest", extent=_extent(picture))
    frame(axis)
    return image


def segments(axis, picture, ids, colours: dict) -> None:
    """Draw a concept map (H, W) of prototypes' numbers, in the colour of each, over the picture in grey."""
    picture, ids = array(picture), array(ids)
    axis.imshow(picture.mean(0), cmap="gray", vmin=-120, vmax=255)
    painted = np.array([[to_rgb(colours[int(k)]) for k in row] for row in ids])
    axis.imshow(painted, alpha=0.6, interpolation="nearest", extent=_extent(picture))
    axis.add_collection(LineCollection(_borders(ids, *picture.shape[1:]), colors="white", linewidths=0.6))
    frame(axis)


def _extent(picture) -> tuple:
    """The extent to which imshow stretches a map so that it covers the picture."""
    return -0.5, picture.shape[2] - 0.5, picture.shape[1] - 0.5, -0.5


def _borders(ids: np.ndarray, height: int, width: int) -> list:
    """Lines between neighbouring cells of a map (h, w) that hold different concepts, in the picture's pixels."""
    dy, dx = height / ids.shape[0], width / ids.shape[1]
    upright = [((x * dx + dx, y * dy), (x * dx + dx, y * dy + dy)) for y, x in np.argwhere(np.diff(ids, axis=1))]
    level = [((x * dx, y * dy + dy), (x * dx + dx, y * dy + dy)) for y, x in np.argwhere(np.diff(ids, axis=0))]
    return [[(x - 0.5, y - 0.5) for x, y in line] for line in upright + level]


def number_segment(axis, picture, where: np.ndarray, number: int) -> None:
    """Write a concept's number where its segment is widest: at the cell that is furthest from all others."""
    if where.any():
        y, x = np.unravel_index(distance_transform_edt(np.pad(where, 1))[1:-1, 1:-1].argmax(), where.shape)
        dy, dx = picture.shape[1] / where.shape[0], picture.shape[2] / where.shape[1]
        x, y = (np.clip((at + 0.5) * step, 0.05 * side, 0.95 * side) - 0.5  # so that it stays in the picture
                for at, step, side in ((x, dx, picture.shape[2]), (y, dy, picture.shape[1])))
        axis.text(x, y, str(number), color="white", fontsize=8, ha="center", va="center",
                  path_effects=[withStroke(linewidth=2, foreground="black")])


def colours_of(column: dict) -> tuple[dict, dict]:
    """Colours of the class's own prototypes in a column of Figure 1, and greys for those of other classes."""
    colours = {k: CONCEPTS[i % 10] for i, (k, *_) in enumerate(column["patches"])}
    others = np.setdiff1d(array(column["everyone"]), list(colours)).tolist()
    return colours, {k: (0.35 + 0.55 * ((7 * i) % 11) / 10,) * 3 for i, k in enumerate(others)}


def count(ids, where: str = "the map") -> str:
    """The number of different concepts on a map, as a title."""
    return f"concepts on {where}: {len(np.unique(array(ids)))}"


def spread(attribution) -> float:
    """The largest distance of a map from its mean; at least a hundredth of it, so that a flat map shows no rounding."""
    attribution = array(attribution)
    return float(max(np.abs(attribution - attribution.mean()).max(), 0.01 * abs(attribution.mean()), 1e-12))


def array(x) -> np.ndarray:
    """A tensor on any device, or anything array-like, as numpy."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def evidence(pictures, maps, titles, label: str) -> Figure:
    """Pictures, and under each its class evidence map (h, w) with its mean, all maps on one scale about zero."""
    n, limit = len(pictures), max(float(np.abs(m).max()) for m in map(array, maps))
    figure, axes = plt.subplots(2, n, figsize=(1.7 * n + 0.8, 3.7), squeeze=False, layout="constrained")
    for i in range(n):
        show(axes[0, i], pictures[i], "\n".join(textwrap.fill(line, 24) for line in titles[i].split("\n")))
        image = overlay(axes[1, i], pictures[i], maps[i], limit)
        axes[1, i].set_xlabel(f"mean {array(maps[i]).mean():z.2f}", fontsize=8)
    figure.colorbar(image, ax=axes, label=label, shrink=0.42, anchor=(0, 0.1))
    return figure


def beside(picture, maps: dict, label: str, centred: bool = False, limit: float = 0.0) -> Figure:
    """A picture (3, H, W) uint8 and beside it maps (h, w) by their titles, all on one scale, with their means below.

    The scale is about zero; centred: about each map's own mean, higher red, lower blue. It ends at the largest value,
    or at `limit`, beyond which colours stay the same: so a map can be read beside one of much larger values.
    """
    drawn = [array(m) - centred * array(m).mean() for m in maps.values()]
    largest = max(spread(m) if centred else float(np.abs(array(m)).max()) for m in maps.values())
    limit = min(limit or largest, largest)
    figure, axes = plt.subplots(1, len(maps) + 1, figsize=(2 * len(maps) + 2.8, 2.7), layout="constrained")
    show(axes[0], picture, "the picture")
    for axis, title, each, m in zip(axes[1:], maps, maps.values(), drawn, strict=True):
        image = overlay(axis, picture, m, limit)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel(f"mean {array(each).mean():z.2f}", fontsize=8)
    ends = "neither" if limit == largest else "both"
    figure.colorbar(image, ax=axes, label=label, shrink=0.75, aspect=15, extend=ends)
    return figure


def concept_rows(pictures, maps: dict[str, list]) -> Figure:
    """Concept maps of several explainers on the same pictures: a row per explainer, a column per picture.

    pictures (3, H, W) uint8; maps[name] holds a map (h, w) per picture, of numbers from 0; colours are each row's own.
    """
    n = len(pictures)
    figure, axes = plt.subplots(len(maps) + 1, n, figsize=(1.5 * n + 1.0, 1.5 * len(maps) + 1.5), squeeze=False,
                                layout="constrained")
    for i, picture in enumerate(pictures):
        show(axes[0, i], picture)
        for axis, each in zip(axes[1:, i], maps.values(), strict=True):
            segments(axis, picture, each[i], {k: CONCEPTS[k % 10] for k in np.unique(array(each[i])).tolist()})
    for axis, name in zip(axes[:, 0], ["", *maps], strict=True):
        axis.set_ylabel(textwrap.fill(name, 12), fontsize=9, rotation=0, ha="right", va="center")
    return figure


def about_mean(pictures, maps: dict[str, list], titles) -> Figure:
    """Attribution maps less their own mean, all on one scale: higher (red) and lower (blue) than the picture's average.

    A row per picture (3, H, W) uint8, a column per name of `maps`, whose maps are (h, w), one per picture.
    """
    limit = max(spread(m) for each in maps.values() for m in each)
    maps = {name: [array(m) - array(m).mean() for m in each] for name, each in maps.items()}
    n = len(pictures)
    figure, axes = plt.subplots(n, len(maps) + 1, figsize=(1.9 * len(maps) + 2.6, 1.9 * n + 0.2), squeeze=False,
                                layout="constrained")
    for i, picture in enumerate(pictures):
        show(axes[i, 0], picture, "\n".join(textwrap.fill(line, 30) for line in titles[i].split("\n")))
        for axis, (name, each) in zip(axes[i, 1:], maps.items(), strict=True):
            image = overlay(axis, picture, each[i], limit)
            axis.set_title(name if i == 0 else "", fontsize=9)
    figure.colorbar(image, ax=axes, label="attribution less its mean", shrink=min(1, 1.6 / n + 0.1))
    return figure


def panel(pictures, maps: dict[str, list], titles, outlines=None) -> Figure:
    """Attribution maps of several methods on the same pictures: a row per picture, a column per method.

    More than eight methods stand in bands, one below the other. pictures (3, H, W) uint8; maps[name] holds a map (h, w)
    per picture. Methods have units of their own, so each map is divided by its largest absolute value; then all share
    one scale from -1 to 1. outlines: masks (H, W), as contours.
    """
    n, bands = len(pictures), -(-len(maps) // 8)
    across = -(-len(maps) // bands)
    size = 1.06 * across + 3.0, (0.98 * n + 0.5) * bands
    figure, axes = plt.subplots(bands * n, across + 1, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for band in range(bands):
        some = list(maps.items())[band * across:(band + 1) * across]
        for i, row in enumerate(axes[band * n:(band + 1) * n]):
            for axis, (name, each) in zip(row[1:], some, strict=False):
                image = overlay(axis, pictures[i], array(each[i]) / max(np.abs(array(each[i])).max(), 1e-12), 1.0)
                axis.set_title("\n".join(_lines(name)) if i == 0 else "", fontsize=9)
            show(row[0], pictures[i])
            row[0].set_ylabel(textwrap.fill(titles[i], 14), fontsize=9, rotation=0, ha="right", va="center")
            for axis in row[:len(some) + 1]:
                axis.axis("on")
                if outlines is not None and array(outlines[i]).any():
                    axis.contour(array(outlines[i]), levels=[0.5], colors="black", linewidths=0.4)
    figure.colorbar(image, ax=axes, label="share of the map's largest", shrink=min(1, 1.8 / (n * bands) + 0.1))
    return figure


def _lines(name: str) -> list[str]:
    """A method's name on lines of its own: what follows a comma stays together if it can."""
    return [line for word in name.split(", ") for line in textwrap.wrap(word, 12)]


def parts(picture, mask, chosen: dict[str, int], lead, title: str) -> Figure:
    """A picture (3, H, W) uint8 with the parts `chosen` (name -> number) of its mask (H, W) outlined, beside a map.

    The map `lead` (h, w) of evidence lies over the picture, red and blue about zero.
    """
    mask, lead = array(mask), array(lead)
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 2.8), layout="constrained")
    show(axes[0], picture, "where the differing parts are, or would be")
    for i, number in enumerate(chosen.values()):
        if (mask == number).any():  # else it is hidden
            around = binary_dilation(mask == number, iterations=max(1, len(mask) // 100))  # hides nothing
            line = axes[0].contour(around, levels=[0.5], colors=[CONCEPTS[i % 10]], linewidths=1.4)
            line.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
    handles = [Rectangle((0, 0), 1, 1, color=CONCEPTS[i % 10]) for i in range(len(chosen))]
    axes[0].legend(handles, list(chosen), loc="center right", bbox_to_anchor=(0, 0.5), fontsize=8, frameon=False)
    image = overlay(axes[1], picture, lead, float(np.abs(lead).max()) or 1.0)
    axes[1].set_title(title, fontsize=8)
    figure.colorbar(image, ax=axes[1], shrink=0.9, label="evidence, in logits")
    return figure


def ladder(picture, columns: list[dict], target: str) -> Figure:
    """One picture (3, H, W) uint8 and its maps under several options, one column per option.

    Each column is a dict: name, its title; predicted (h, w), the map among the prototypes of the class `target`;
    everyone (h, w), that among all K; patches, a list of (prototype, ...) of the class, coloured in that order.
    """
    figure, axes = plt.subplots(2, len(columns) + 1, figsize=(1.5 * len(columns) + 1.9, 3.8), layout="constrained",
                                width_ratios=[1.25] + [1] * len(columns))
    show(axes[0, 0], picture)
    axes[1, 0].axis("off")
    axes[1, 0].text(0, 0.5, f"above: among the\nprototypes of\n{textwrap.fill(target, 18)}\n\nbelow: among all K,\n"
                    "other classes grey", fontsize=8, va="center", transform=axes[1, 0].transAxes)
    for axis, column in zip(axes.T[1:], columns, strict=True):
        colours, greys = colours_of(column)
        segments(axis[0], picture, column["predicted"], colours)
        segments(axis[1], picture, column["everyone"], colours | greys)
        axis[0].set_title(f"{column['name']}\n{count(column['predicted'])}", fontsize=8)
        axis[1].set_title(count(column["everyone"]), fontsize=8)
    return figure
