# SPDX-License-Identifier: Apache-2.0
"""Pictures of the study."""
import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "resembed", "svg.fonttype": "none", "font.size": 9})
from matplotlib import pyplot  # noqa: E402 (the backend is chosen first)

import tables  # noqa: E402 (beside this file)


def draw(study, group, out):
    """auc and hr20 of each row over the group's values; for lambda auc, and auc over residual : center and the radius."""
    heads = tables.heads_of(study, group)
    against = ("ratio", "radius") if group.endswith("lambda") else ("hr20",)
    figure, grid = pyplot.subplots(len(heads), 1 + len(against), figsize=(4.5 * (1 + len(against)), 3.1 * len(heads)), squeeze=False)
    for line, head in zip(grid, heads):
        rows = tables.rows_of(study, group, head)
        colors = {name: f"C{i}" for i, name in enumerate(rows)}
        for axes, key in zip(line, ("auc", *against)):
            for name, found in rows.items():
                if key in ("ratio", "radius"):
                    found = [row for _, row in found if row.get(key)]
                    axes.plot([row[key] for row in found], [row["auc"] for row in found], "o-", ms=3, color=colors[name], label=name)
                elif len(found) == 1:  # what the axis does not change
                    axes.axhline(found[0][1][key], ls="--", lw=1, color=colors[name], label=name)
                else:
                    axes.plot([value for value, _ in found], [row[key] for _, row in found], "o-", ms=3, color=colors[name], label=name)
            axes.set_title(f"{head}: " + {"ratio": "auc over residual : center", "radius": "auc over the envelope's radius"}.get(key, key))
            if key == "ratio" or group == "items":
                axes.set_xscale("log")
            elif group.endswith("lambda") and key == "auc":
                axes.set_xscale("symlog", linthresh=1e-3)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].legend(fontsize=7, frameon=False)
    figure.suptitle(tables.TITLES[group])
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)
