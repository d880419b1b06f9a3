#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's picture, from the runs beside this file: plot.py [OUT.svg]. Needs matplotlib."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "resembed", "svg.fonttype": "none", "font.size": 9})
from matplotlib import pyplot  # noqa: E402 (the backend is chosen first)

HERE = pathlib.Path(__file__).resolve().parent
RUNS = [("online_retail_ii", "all training users"), ("online_retail_ii_20_percent", "20 % of them")]
VARIANTS = ("plain_l2", "plain_2x", "central", "avg", "gcn", "att", "assign")
FIGURES = (("auc", "auc"), ("auc_pop", "auc, popular negatives"), ("hr20", "first 20 of all items"))


def panel(axes, run, head, figure, color, shift):
    rows = run["heads"][head]
    for place, variant in enumerate(VARIANTS):
        part = rows[variant]["over_plain"][figure]
        axes.plot([part["low"], part["high"]], [place + shift] * 2, color=color, linewidth=1.2)
        axes.plot([part["mean"]], [place + shift], "o", color=color, markersize=3.5)


def main():
    figure, grid = pyplot.subplots(2, 3, figsize=(9, 4.6), sharey=True)
    for line, head in zip(grid, ("mlp", "dot")):
        for axes, (name, title) in zip(line, FIGURES):
            for (file, _), color, shift in zip(RUNS, ("#1f4e9c", "#d9822b"), (-0.14, 0.14)):
                panel(axes, json.loads((HERE / f"{file}.json").read_text(encoding="utf-8")), head, name, color, shift)
            axes.axvline(0, color="#888888", linewidth=0.8)
            axes.set_yticks(range(len(VARIANTS)), VARIANTS)
            axes.set_ylim(len(VARIANTS) - 0.5, -0.5)
            axes.set_title(f"{head}: {title}", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
    handles = [pyplot.Line2D([], [], color=color, marker="o", markersize=3.5, label=label)
               for (_, label), color in zip(RUNS, ("#1f4e9c", "#d9822b"))]
    figure.legend(handles=handles, loc="lower center", ncol=2, frameon=False)
    figure.suptitle("online_retail_ii: minus plain, 95 % intervals over test users, mean of 3 seeds", fontsize=10)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    out = sys.argv[1] if len(sys.argv) > 1 else HERE / "online_retail_ii.svg"
    figure.savefig(out, metadata={"Date": None})
    print(f"wrote {out}")


main()
