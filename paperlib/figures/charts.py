"""Charts of numbers: bars, clouds, intervals and dots, each drawn from plain dictionaries."""
from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from paperlib.figures.maps import PALETTE, array, show


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
    """A cloud per name: points[name] is (x, y), each (n,). zero: draw a line at y = 0."""
    figure, axis = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    for i, (name, (x, y)) in enumerate(points.items()):
        axis.scatter(x, y, s=28, color=PALETTE[i], marker="XosD^v"[i], edgecolors="white", linewidths=0.4, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if zero:
        axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axis.legend(fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def curves(panels: dict[str, dict[str, dict[float, float | tuple]]], xlabel: str, ylabel: str,
           dashed: dict[str, dict[str, dict[float, float]]] | None = None, powers: bool = False) -> Figure:
    """A panel each for panels[title][series][x], a number or (mean, low, high), x on a logarithmic scale.

    powers: y, too, and one scale for all panels. xlabel: empty where a panel's title is what stands below it. dashed:
    a model's lines, without marks, in the form of `panels`.
    """
    series = list(dict.fromkeys(name for rows in panels.values() for name in rows))
    figure, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels) + 0.6, 3.2), squeeze=False, sharey=powers,
                                layout="constrained")
    axes[0, 0].set_ylabel(ylabel)
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=True):
        for name, points in rows.items():
            i, x = series.index(name), list(points)
            mean, low, high = np.array([np.broadcast_to(y, 3) for y in points.values()], dtype=float).T
            axis.errorbar(x, mean, yerr=[mean - low, high - mean], color=PALETTE[i], marker="osDX^v"[i % 6],
                          markersize=5, linewidth=1.2, elinewidth=0.8, capsize=2, label=name)
            model = (dashed or {}).get(title, {}).get(name, {})
            if model:
                axis.plot(list(model), list(model.values()), color=PALETTE[i], linestyle="--", linewidth=1,
                          label=f"{name}, by the model")
        ticks = sorted({x for points in rows.values() for x in points})
        axis.set(xscale="log", xlabel=xlabel or title)
        axis.set_title(title if xlabel else "", fontsize=9)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        if powers:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", color="0.93")
    handles = {name: handle for axis in axes[0] for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def log_dots(values: dict[str, dict[str, list[float]]], lines: dict[str, float], xlabel: str) -> Figure:
    """Dots on a logarithmic scale, a row per name: values[row][series] are numbers >= 0, zeros at the left edge.

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


def dots(values: dict[str, dict[str, list[float]]], xlabel: str, limits: tuple[float, float] | None = None) -> Figure:
    """Dots, a row per name: values[row][series] are numbers; a colour, shape and height for each series.

    Dots of a series that would cover each other step up and down.
    """
    series = list(next(iter(values.values())))
    every = [x for row in values.values() for each in row.values() for x in each]
    span = limits[1] - limits[0] if limits else max(every) - min(every)
    figure, axis = plt.subplots(figsize=(8, 1.0 + 0.3 * len(values)), layout="constrained")
    for i, name in enumerate(series):
        lift = 0.38 * (i - (len(series) - 1) / 2)
        x, y = zip(*[(x, y + lift + step) for y, row in enumerate(values.values())
                     for x, step in zip(sorted(row[name]), _steps(sorted(row[name]), 0.012 * span), strict=True)],
                   strict=True)
        axis.scatter(x, y, s=22, color=PALETTE[i], marker="oDXs"[i % 4], edgecolors="white", linewidths=0.4, label=name,
                     clip_on=False, zorder=3)  # whole at the ends of the scale, too
    axis.set(xlabel=xlabel, xlim=limits, ylim=(len(values) - 0.5, -0.5))
    axis.set_yticks(range(len(values)), list(values))
    axis.grid(axis="y", color="0.92", zorder=0)
    axis.tick_params(axis="y", length=0, labelsize=8)
    figure.legend(loc="outside upper center", ncols=len(series), fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def _steps(x: list[float], near: float) -> list[float]:
    """How far each of these rising numbers is moved from its line, so that those `near` each other can be told."""
    steps, run = [], 0
    for i, value in enumerate(x):
        run = run + 1 if i and value - x[i - 1] < near else 0
        steps.append(0.13 * (0, 1, -1)[run % 3])
    return steps


def options(values: dict[str, dict[str, dict[str, float]]], limits: dict[str, tuple[float, float]],
            default: str = "", errors: dict[str, dict[str, float]] | None = None, joined: bool = False) -> Figure:
    """One choice and its options: a row per option, a panel per measure, a dot per data set.

    values[data set][option][measure], NaN where there is none; limits[measure] is a panel's range, so that
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


def forest(found: dict[str, dict[str, tuple]], labels: dict[str, str], lines: dict[str, float] | None = None,
           shared: bool = False) -> Figure:
    """Means and intervals: found[row][score] is (mean, low, high), if any; a row per name, a panel for each label.

    labels: score -> the text below its panel. lines: score -> a reference, drawn dashed. shared: one scale for all.
    More than four panels stand in bands, so that a page need not shrink them.
    """
    names, bands = list(found), -(-len(labels) // 4)
    across = -(-len(labels) // bands)
    size = 1.9 + 1.75 * across, (1.0 + 0.27 * len(names)) * bands
    figure, axes = plt.subplots(bands, across, figsize=size, sharex=shared, sharey=True, squeeze=False,
                                layout="constrained")
    for axis in axes.flat[len(labels):]:
        axis.set_visible(False)
    for axis, (score, label) in zip(axes.flat, labels.items(), strict=False):
        mean, low, high = np.array([found[name].get(score, (np.nan,) * 3) for name in names]).T
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


def _signed(gap: float, told: bool) -> str:
    """A difference with its sign and two decimals; one that is told from zero with as many as show it."""
    if abs(gap) >= 0.005:
        return f"{gap:+.2f}"
    return f"{gap:+.{-int(np.floor(np.log10(abs(gap))))}f}" if told and gap else "0.00"


def differences(found: dict[str, dict[str, dict[str, dict]]], scores: list[str]) -> Figure:
    """A panel for each name of `found`, one above another, a row per rival, a column per score: how much it is better.

    found[name][rival][score] has difference, limit (three errors) and p. Colour: the difference in errors, red for
    better, at most six; bold numbers are of differences that can be told from zero, with as many digits as show it.
    """
    rivals = list(next(iter(found.values())))
    size = 2.6 + 0.68 * len(scores), 1.1 + (0.4 + 0.22 * len(rivals)) * len(found)
    figure, axes = plt.subplots(len(found), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
    for axis, (name, rows) in zip(axes.flat, found.items(), strict=True):
        cells = [[rows[rival].get(score) for score in scores] for rival in rivals]
        errors = [[3 * cell["difference"] / cell["limit"] if cell and cell["limit"] else 0 for cell in row]
                  for row in cells]
        image = axis.imshow(errors, cmap="RdBu_r", vmin=-6, vmax=6, aspect="auto", alpha=0.5)
        for y, row in enumerate(cells):
            for x, cell in enumerate(row):
                if cell:
                    told = cell["p"] < 0.05
                    axis.text(x, y, _signed(cell["difference"], told), ha="center", va="center", fontsize=8,
                              weight="bold" if told else "normal", color="black" if told else "0.35")
        axis.set_xticks(range(len(scores)), [score.replace(", ", ",\n") for score in scores], rotation=45, ha="right",
                        rotation_mode="anchor", fontsize=8)
        axis.set_yticks(range(len(rivals)), rivals, fontsize=8)
        axis.set_title(f"{name} is better by", fontsize=9)
        axis.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.4, aspect=30)
    bar.set_label("difference, in standard errors", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def prediction(picture, title: str, names, logits) -> Figure:
    """A picture (3, H, W) uint8 beside the largest logits, largest first: names and logits have one length."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6), width_ratios=[1, 1.3], layout="constrained")
    show(left, picture, title)
    logits = array(logits)
    drawn = right.barh(range(len(logits)), logits, color=[PALETTE[0]] + [PALETTE[7]] * (len(logits) - 1))
    right.bar_label(drawn, [f"{y:.2f}" for y in logits], fontsize=8, padding=3)
    right.set(yticks=range(len(logits)), yticklabels=names, xlabel="logit")
    right.invert_yaxis()
    right.axvline(0, color="0.3", linewidth=0.8)
    right.margins(x=0.15)
    sns.despine(figure)
    return figure


def plane(Z, y, arrows: dict[str, np.ndarray], squares: np.ndarray, names) -> Figure:
    """Points Z (n, 2) of classes y in a plane, with a classifier's columns as arrows and centroids (C, 2) as squares.

    arrows: title -> columns (2, C), a panel each, coloured by the class whose logit is largest.
    """
    reach = 1.08 * float(max(np.abs(array(x)).max() for x in (Z, *arrows.values())))
    low = 1.08 * float(min(array(C).min() for C in arrows.values()))
    steps = np.stack(np.meshgrid(*[np.linspace(low, reach, 300)] * 2), -1)
    figure, axes = plt.subplots(1, len(arrows), figsize=(4.1 * len(arrows), 4.4), sharex=True, sharey=True,
                                layout="constrained")
    for axis, (title, C) in zip(np.atleast_1d(axes), arrows.items(), strict=True):
        axis.contourf(*steps.transpose(2, 0, 1), (steps @ array(C)).argmax(-1), levels=np.arange(len(names) + 1) - 0.5,
                      colors=[PALETTE[i] for i in range(len(names))], alpha=0.15)
        for c, name in enumerate(names):
            axis.scatter(*array(Z)[array(y) == c].T, s=10, color=PALETTE[c], alpha=0.6, linewidths=0)
            axis.annotate("", array(C)[:, c], (0, 0), arrowprops={"color": PALETTE[c], "arrowstyle": "-|>", "lw": 2})
            axis.scatter(*squares[c], s=60, marker="s", color=PALETTE[c], edgecolors="black", label=name, zorder=3)
        axis.set(title=title, aspect="equal", xlim=(low, reach), ylim=(low, reach), xlabel="$z_1$", ylabel="$z_2$")
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.axvline(0, color="0.3", linewidth=0.8)
    axis.legend(fontsize=8, loc="lower right")
    return figure
