# SPDX-License-Identifier: Apache-2.0
"""Plots over steps (envelope.jsonl) and over the values of a sweep (sweep.json)."""

import json
import os

from matplotlib import ticker

from report_data import Row, interval, number
from report_plots import label, plt, style
from report_text import num, signed, verdict

AXES = {  # how the swept option reads on an axis
    "lambda": "lambda (penalty on R)",
    "residual-ratio": "target ratio |residual| : |center|",
    "train-fraction": "share of the training users",
    "dim": "columns of R and C",
}


def over_steps(seeds, value):
    """(steps, means over the seeds still running) of a number of each line."""
    columns = {}
    for lines in seeds.values():
        for line in lines:
            if value(line) is not None:
                columns.setdefault(line["step"], []).append(value(line))
    steps = sorted(columns)
    return steps, [sum(columns[step]) / len(columns[step]) for step in steps]


def training_plot(run, head):
    """Median ratio and median radius over interests, step by step; bands: the middle half of the interests."""
    lines = {row.name: run.envelope.get((head, row.name)) for row in run.heads[head].values()}
    lines = {name: seeds for name, seeds in lines.items() if seeds}
    if not lines:
        return None
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.4))
    for axis, key in zip(axes, ("ratio", "radius")):
        drawn = False
        for name, seeds in lines.items():
            quantile = [
                over_steps(seeds, lambda line, i=i: ((line.get("quantiles") or {}).get(key) or [None] * 5)[i])
                for i in (1, 2, 3)
            ]
            steps, middle = quantile[1]
            if not steps:
                continue
            color, marker, dashes = style(name)
            axis.fill_between(steps, quantile[0][1], quantile[2][1], color=color, alpha=0.10, linewidth=0)
            axis.plot(
                steps, middle, color=color, ls=dashes, lw=1.4, marker=marker, markevery=max(1, len(steps) // 6), ms=4,
                label=label(run.heads[head][name]),
            )
            drawn = True
        axis.set_visible(drawn)
        axis.set_xlabel("step")
    axes[0].set_title("median |residual| : |center| of an interest")
    axes[0].set_ylim(bottom=0)
    axes[1].set_title("envelope radius of an interest")
    fig.legend(*axes[1].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


class Sweep:
    """sweep.json: a list of values, each with the rows of its run."""

    def __init__(self, folder):
        with open(os.path.join(folder, "sweep.json"), encoding="utf-8") as file:
            self.json = json.load(file)
        self.name = self.json["name"]
        self.runs = self.json.get("runs") or []
        self.heads = [head for head in self.json.get("heads") or [] if any(head in r["heads"] for r in self.runs)]
        self.interrupted = bool(self.json.get("interrupted"))

    def variants(self, head):
        return [v for v in self.json["variants"] if any(v in run["heads"].get(head, {}) for run in self.runs)]

    def rows(self, head, variant):
        """[(value, Row)] of a variant in increasing order of the value."""
        found = [
            (run["value"], Row(variant, run["heads"][head][variant]))
            for run in self.runs
            if variant in run["heads"].get(head, {})
        ]
        return sorted(found, key=lambda pair: pair[0])


def value_axis(axis, sweep):
    values = sorted({run["value"] for run in sweep.runs})
    axis.set_xlabel(AXES.get(sweep.name, sweep.name))
    positive = [value for value in values if value > 0]
    if sweep.name == "train-fraction" or len(positive) < 2:
        pass
    elif len(positive) < len(values):
        axis.set_xscale("symlog", linthresh=min(positive))
    else:
        axis.set_xscale("log")
    texts = {run["value"]: run["text"] for run in sweep.runs}
    axis.set_xticks(values, [texts[value] for value in values])
    axis.minorticks_off()


def against_value(axis, sweep, head, of):
    """of(row): a number or (mean, low, high)."""
    for variant in sweep.variants(head):
        color, marker, dashes = style(variant)
        points = [(value, of(row), row) for value, row in sweep.rows(head, variant)]
        points = [(v, p if isinstance(p, tuple) else (p, p, p), row) for v, p, row in points if p is not None]
        if not points:
            continue
        axis.plot([v for v, _, _ in points], [p[0] for _, p, _ in points], color=color, ls=dashes, lw=1.4, label=variant)
        for value, (mean, low, high), row in points:
            axis.plot([value, value], [low, high], color=color, lw=1.2, alpha=0.7)
            axis.plot(value, mean, marker, color=color, ms=6, mfc="white" if row.capped else color)
    value_axis(axis, sweep)


def against_figure(axis, sweep, head, x_of, y_of, x_name):
    """Each variant's path through the values; the first and the last value are written beside their markers."""
    for variant in sweep.variants(head):
        color, marker, dashes = style(variant)
        points = [(x_of(row), y_of(row), value, row) for value, row in sweep.rows(head, variant)]
        points = [point for point in points if point[0] is not None and point[1] is not None]
        if not points:
            continue
        axis.plot([p[0] for p in points], [p[1] for p in points], color=color, ls=dashes, lw=1, alpha=0.7)
        texts = {run["value"]: run["text"] for run in sweep.runs}
        for x, y, value, row in points:
            axis.plot(x, y, marker, color=color, ms=6, mfc="white" if row.capped else color)
        moving = len({p[:2] for p in points}) > 1
        for x, y, value, _ in (points[0], points[-1]) if moving else ():
            axis.annotate(texts[value], (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7, color=color)
    axis.set_xlabel(x_name)


def sweep_plot(sweep):
    """Six plots for each head: figures over the value, and auc over what the value did to the embedding."""
    fig, grid = plt.subplots(2 * len(sweep.heads), 3, figsize=(12, 6.6 * len(sweep.heads)), squeeze=False)
    for place, head in enumerate(sweep.heads):
        top, bottom = grid[2 * place], grid[2 * place + 1]
        against_value(top[0], sweep, head, lambda row: interval(row.get("auc")) or row.num("auc"))
        top[0].set_title(f"{head}: auc (95 % over test users)")
        against_value(top[1], sweep, head, lambda row: row.over("plain", "auc"))
        top[1].axhline(0, color="#000000", lw=0.8)
        top[1].set_title("auc minus plain's at the same value (paired)")
        against_value(top[2], sweep, head, lambda row: interval(row.get("hr20")) or row.num("hr20"))
        top[2].set_title("hr20 (95 % over test users)")
        against_figure(
            bottom[0], sweep, head, lambda row: row.num("ratio"), lambda row: row.num("auc"),
            "median |residual| : |center|",
        )
        if bottom[0].lines:
            central = [row.num("auc") for _, row in sweep.rows(head, "central") if row.num("auc") is not None]
            if central and len(set(central)) == 1:
                bottom[0].axhline(central[0], color=style("central")[0], lw=1, ls=":")
            bottom[0].set_xscale("log")
            bottom[0].xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            bottom[0].xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            bottom[0].xaxis.set_minor_formatter(ticker.NullFormatter())
            bottom[0].set_title("auc over the ratio" + (" (dotted: central, no residual)" if central else ""))
        else:
            bottom[0].set_visible(False)
        against_figure(
            bottom[1], sweep, head, lambda row: row.num("radius"), lambda row: row.num("auc"),
            "envelope radius (median over interests)",
        )
        bottom[1].set_title("auc over the radius")
        against_value(bottom[2], sweep, head, lambda row: row.num("radius"))
        bottom[2].set_title("envelope radius")
    if sweep.heads:
        handles, names = grid[0][0].get_legend_handles_labels()
        fig.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def write_svg(sweep, path):
    fig = sweep_plot(sweep)
    fig.savefig(path + ".tmp", format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(fig)
    os.replace(path + ".tmp", path)


def sweep_table(sweep, head, esc):
    columns = ("auc", "auc_pop", "hr20", "gap", "radius", "ratio")
    out = [
        f"<div class=scroll><table><tr><th>row</th><th>{esc(sweep.name)}</th>"
        + "".join(f"<th>{column}</th>" for column in columns)
        + "<th>auc minus plain</th><th>auc minus central</th></tr>"
    ]
    for variant in sweep.variants(head):
        rows = sweep.rows(head, variant)
        best = max((number(row.get("valid")) or 0 for _, row in rows if not row.capped), default=None)
        texts = {run["value"]: run["text"] for run in sweep.runs}
        for place, (value, row) in enumerate(rows):
            cells = []
            for column in columns:
                shown = row.num(column)
                cells.append(f"<td>{'' if shown is None else num(shown)}</td>")
            for base in ("plain", "central"):
                parts = row.over(base, "auc")
                if parts is None:
                    cells.append("<td></td>")
                    continue
                says = {"above": " class=up", "below": " class=down", "same": ""}[verdict(parts)]
                cells.append(
                    f"<td{'' if row.capped else says}>{signed(parts[0])} "
                    f"<small>{signed(parts[1])}..{signed(parts[2])}</small></td>"
                )
            kind = ("first " if place == 0 else "") + ("capped" if row.capped else "")
            mark = " class=best" if not row.capped and number(row.get("valid")) == best else ""
            out.append(
                f'<tr class="{kind}"><td>{esc(label(row))}</td><td{mark}>{esc(texts[value])}</td>'
                + "".join(cells)
                + "</tr>"
            )
    out.append(
        "</table></div><p class=note>Bold: the variant's value best on validation. Intervals: 95 %, paired by test "
        "user with the run of the same value. \u2020 still improving at the limit of epochs: supports no claim.</p>"
    )
    return "\n".join(out)


def sweep_section(sweep, esc, picture):
    """The page's body; picture: the HTML of the plot, or empty."""
    runs = ", ".join(
        f'<a href="{esc(run["folder"])}/report.html">{esc(run["text"])}</a>' for run in sweep.runs
    )
    out = [
        "<h1>A sweep of " + esc(sweep.name) + "</h1>",
        f"<p class=sub>{esc(sweep.json.get('source') or 'a behavior log')}; values {runs}, each with its own run</p>",
    ]
    if sweep.interrupted:
        out.append("<ul class=says><li class=warn>The sweep was interrupted; values are missing.</li></ul>")
    out.append(picture)
    for head in sweep.heads:
        out += [f"<h2>{esc(head)}</h2>", sweep_table(sweep, head, esc)]
    out.append(f"<p class=note><code>{esc(sweep.json.get('command') or '')}</code></p>")
    return "\n".join(out)
