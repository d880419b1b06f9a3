# SPDX-License-Identifier: Apache-2.0
"""The report's plots (matplotlib). Colors are Okabe and Ito's, markers and dashes tell rows apart without color."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from report_data import FIGURES, LABELS, VALID_FIGURE, Row, interval  # noqa: E402
from report_text import num  # noqa: E402

STYLE = {  # color, marker, dashes
    "plain": ("#000000", "o", "-"),
    "plain_l2": ("#7F7F7F", "s", "--"),
    "plain_2x": ("#B0A000", "D", "-."),
    "central": ("#0072B2", "v", "-"),
    "avg": ("#E69F00", "^", "-"),
    "gcn": ("#009E73", "P", "--"),
    "att": ("#CC79A7", "X", "-."),
    "assign": ("#D55E00", "d", ":"),
}
GREY = "#6B6B6B"
POINTS = [
    (color, marker)
    for marker in "o^sDPX"
    for color in ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
]
plt.rcParams.update(
    {
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "grid.color": "#E6E6E6",
        "axes.axisbelow": True,
        "legend.frameon": False,
        "svg.hashsalt": "resembed",
        "figure.constrained_layout.use": True,
    }
)


def style(name):
    return STYLE.get(name, ("#56B4E9", "o", "-"))


def label(row):
    return row.name + (" \u2020" if row.capped else "")


def limits(values):
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.01
    return low - pad, high + 2.2 * pad


def figures_plot(run, head):
    """Each row's figure with its interval over test users; counting baselines below, the best one as a line."""
    models = list(run.heads[head].values())
    counts = list(run.baselines.values())
    rows = models + counts
    if not any(row.num(figure) is not None for row in rows for figure in FIGURES):
        return None
    fig, axes = plt.subplots(1, 3, figsize=(11, 0.27 * len(rows) + 1.3), sharey=True)
    for axis, figure in zip(axes, FIGURES):
        inside = []
        values = {row.name: row.num(figure) for row in rows}
        best_count = max(
            (row for row in counts if values[row.name] is not None),
            key=lambda r: values[r.name],
            default=None,
        )
        for row in rows:
            if values[row.name] is not None and row.name != "popularity":
                inside += [values[row.name]] + list((interval(row.get(figure)) or ())[1:])
        if not inside:
            axis.set_visible(False)
            continue
        low, high = limits(inside)
        for place, row in enumerate(rows):
            value = values[row.name]
            if value is None:
                continue
            is_count = place >= len(models)
            color, marker = (GREY, "s") if is_count else style(row.name)[:2]
            if value < low:  # popularity, far to the left
                axis.annotate(
                    f"\u2190 {num(value)}",
                    (low, place),
                    xytext=(6, 0),
                    textcoords="offset points",
                    color=GREY,
                    fontsize=8,
                    va="center",
                )
                continue
            parts = interval(row.get(figure))
            if parts:
                axis.plot(parts[1:], [place, place], color=color, lw=1.4, alpha=0.75, solid_capstyle="butt")
            axis.plot(value, place, marker, color=color, ms=6, mfc="white" if row.capped else color)
            axis.annotate(
                num(value),
                (parts[2] if parts else value, place),
                xytext=(5, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                color="#333333",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
        if best_count is not None:
            axis.axvline(values[best_count.name], color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
        axis.set_xlim(low, high + 0.06 * (high - low))
        axis.set_title(LABELS[figure])
        axis.grid(axis="y", visible=False)
        axis.axhline(len(models) - 0.5, color="#CCCCCC", lw=0.8)
    axes[0].set_yticks(range(len(rows)), [label(row) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return fig


def over_plain_plot(run, head):
    """Paired differences to plain with their intervals; filled markers: the interval leaves zero out."""
    rows = [row for row in run.heads[head].values() if any(row.over("plain", figure) for figure in FIGURES)]
    if not rows:
        return None
    fig, axes = plt.subplots(1, 3, figsize=(11, 0.3 * len(rows) + 1.3), sharey=True)
    for axis, figure in zip(axes, FIGURES):
        ends = [0.0]
        for place, row in enumerate(rows):
            parts = row.over("plain", figure)
            if parts is None:
                continue
            mean, low, high = parts
            color, marker, _ = style(row.name)
            ends += [low, high]
            axis.plot([low, high], [place, place], color=color, lw=1.6, solid_capstyle="butt")
            clear = (low > 0 or high < 0) and not row.capped
            axis.plot(mean, place, marker, color=color, ms=6.5, mfc=color if clear else "white")
        axis.set_xlim(*limits(ends))
        axis.axvline(0, color="#000000", lw=0.9)
        axis.set_title(f"{figure} minus plain's")
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=6)
    axes[0].set_yticks(range(len(rows)), [label(row) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return fig


def mean_curve(seeds, key):
    """Mean over the seeds still running, epoch by epoch."""
    columns = {}
    for seed in seeds:
        for epoch, value in zip(seed["epoch"], seed.get(key) or []):
            if value is not None:
                columns.setdefault(epoch, []).append(value)
    epochs = sorted(columns)
    return epochs, [sum(columns[epoch]) / len(columns[epoch]) for epoch in epochs]


def curves_plot(run, head):
    """Validation figure by epoch and by seconds. Means over seeds; a large marker is the best epoch."""
    drawn = [row for row in run.heads[head].values() if run.curve(head, row.name)]
    if not drawn:
        return None
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
    values = []
    for row in drawn:
        color, marker, dashes = style(row.name)
        epochs, valid = mean_curve(run.curve(head, row.name), "valid")
        if not epochs:
            continue
        values += valid
        times = dict(zip(*mean_curve(run.curve(head, row.name), "seconds")))
        top = int(np.argmax(valid))
        line = dict(color=color, ls=dashes, lw=1.5)
        axes[0].plot(epochs, valid, label=label(row), marker=marker, markevery=[top], ms=7, **line)
        timed = [(times[e], v, e) for e, v in zip(epochs, valid) if e in times]
        if timed:
            best = [i for i, t in enumerate(timed) if t[2] == epochs[top]]
            axes[1].plot(
                [t[0] for t in timed], [t[1] for t in timed], marker=marker, markevery=best, ms=7, **line
            )
    plain = run.best_valid(head, "plain")
    figure = VALID_FIGURE.get(head, "figure")
    for axis in axes:
        if plain:
            axis.axhline(plain[0], color="#000000", lw=0.8, ls=":")
    if plain:
        axes[1].annotate(
            "plain's best",
            (0.99, plain[0]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    if values:  # the first epochs may lie far below: the interesting part is the top
        low = max(min(values), max(values) - 3 * (max(values) - float(np.percentile(values, 25))) - 1e-3)
        axes[0].set_ylim(*limits([low, max(values)]))
    axes[0].set_title(f"validation {figure} by epoch")
    axes[0].set_xlabel("epoch")
    axes[1].set_title(f"validation {figure} by time")
    axes[1].set_xlabel("seconds of training")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def envelope_plot(run, head):
    """Envelope radii and the residual : center ratio by variant."""
    rows = [row for row in run.heads[head].values() if row.num("envelope", "radius95") is not None]
    ratio_rows = [row for row in run.heads[head].values() if row.num("ratio") is not None]
    if not rows:
        return None
    fig, axes = plt.subplots(1, 2, figsize=(11, 0.3 * len(rows) + 1.4), gridspec_kw={"width_ratios": [2, 1]})
    for place, row in enumerate(rows):
        color, marker, _ = style(row.name)
        for key, filled, shift in (("radius95", True, -0.14), ("radius", False, 0.14)):
            value = row.num("envelope", key)
            spread = [v for v in row.get("envelope", "per_interest", key) or [] if v is not None]
            if len(spread) > 3:
                axes[0].plot(
                    np.percentile(spread, [25, 75]),
                    [place + shift] * 2,
                    color=color,
                    lw=2.2 if filled else 1.2,
                    alpha=0.8,
                    solid_capstyle="butt",
                )
            if value is not None:
                axes[0].plot(
                    value, place + shift, marker, color=color, mfc=color if filled else "white", ms=6
                )
    plain = next((row.num("envelope", "radius95") for row in rows if row.name == "plain"), None)
    if plain is not None:
        axes[0].axvline(plain, color="#000000", lw=0.8, ls=":")
    axes[0].set_title("envelope radius of an interest (RMS distance of all items to their mean = 1)")
    axes[0].set_xlabel("filled: 95 % of the members, open: the farthest; lines: middle half of the interests")
    axes[0].set_yticks(range(len(rows)), [label(row) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    axes[0].grid(axis="y", visible=False)
    if ratio_rows:
        for place, row in enumerate(ratio_rows):
            axes[1].barh(place, row.num("ratio"), color=style(row.name)[0], height=0.55)
            axes[1].annotate(
                num(row.num("ratio"), 2),
                (row.num("ratio"), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes[1].set_yticks(range(len(ratio_rows)), [label(row) for row in ratio_rows])
        axes[1].set_ylim(len(ratio_rows) - 0.4, -0.6)
        axes[1].set_xlim(0, 1.18 * max(row.num("ratio") for row in ratio_rows) or 1)
        axes[1].grid(axis="y", visible=False)
        axes[1].set_title("median |residual| : |center|")
    else:
        axes[1].set_visible(False)
    return fig


def project(embeddings):
    """First two principal components and the share of variance of each."""
    centered = embeddings - embeddings.mean(axis=0)
    _, singular, axes = np.linalg.svd(centered, full_matrices=False)
    share = singular**2 / max(float((singular**2).sum()), 1e-30)
    points = centered @ axes[:2].T
    return points * np.where(np.abs(points).max(axis=0) == points.max(axis=0), 1, -1), share


def same_interest(embeddings, interest, k=10):
    """Share of an item's k nearest (Euclidean, all dimensions) that have its interest."""
    squares = (embeddings**2).sum(axis=1)
    distance = squares[:, None] + squares[None, :] - 2 * embeddings @ embeddings.T
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return float((interest[nearest] == interest[:, None]).mean())


def legend_text(title):
    """At most 28 characters without markup; the underscore keeps an item without a title out of the legend."""
    if not title:
        return "_"
    return (title if len(title) <= 28 else title[:27] + "\u2026").replace("$", r"\$")


def picture_plot(run, head):
    """(figure, sentence): items on two principal axes, plain beside the best graph variant."""
    sets = (run.picture.get("heads") or {}).get(head) or {}
    interest = np.array(run.picture.get("interest") or [])
    best = run.best_graph(head)
    names = [name for name in ("plain", best.name if best else None) if name in sets]
    if len(interest) < 5 or not names:
        return None, ""
    fig, axes = plt.subplots(1, len(names), figsize=(5.5 * len(names), 4.6), squeeze=False)
    shares = []
    for axis, name in zip(axes[0], names):
        embeddings = np.array(sets[name], dtype=float)
        if embeddings.ndim != 2 or len(embeddings) != len(interest) or embeddings.shape[1] < 2:
            axis.set_visible(False)
            continue
        points, share = project(embeddings)
        for number, which in enumerate(np.unique(interest)):
            color, marker = POINTS[number % len(POINTS)]
            chosen = points[interest == which]
            axis.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=15,
                c=color,
                marker=marker,
                alpha=0.8,
                linewidths=0,
                label=legend_text(run.title_of_interest(which)),
            )
        shares.append(f"{name} {100 * same_interest(embeddings, interest, min(10, len(interest) - 1)):.0f} %")
        axis.set_title(label(run.heads[head].get(name, Row(name, {}))))
        axis.set_xlabel(f"first principal axis ({100 * share[0]:.0f} % of the variance)")
        axis.set_ylabel(f"second ({100 * share[1]:.0f} %)")
        axis.tick_params(labelbottom=False, labelleft=False, length=0)
        axis.set_aspect("equal", adjustable="datalim")
        if name == names[-1] and run.pictured():
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, title="most used item")
    chance = float(sum((np.sum(interest == w) / len(interest)) ** 2 for w in np.unique(interest)))
    text = (
        f"{len(interest)} items of the {len(np.unique(interest))} largest interests, a color and shape for each. "
        "Two axes hide much, so beside the picture a number: of the ten items nearest to an item (all dimensions) "
        f"the share with its interest is {', '.join(shares)} ({100 * chance:.0f} % by chance)."
    )
    return fig, text
