#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of the study: write.py FOLDER, from FOLDER/study.json (run.py) to FOLDER/study.md and *.svg."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "resembed", "svg.fonttype": "none", "font.size": 9})
from matplotlib import pyplot  # noqa: E402 (the backend is chosen first)

FIGURES = ("auc", "auc_pop", "hr20")
RIVALS = ("central", "plain_2x", "plain_pretrained", "central_pretrained", "itemknn_seen")
WITH_RESIDUAL = ("avg", "gcn", "att", "assign", "avg_pretrained", "att_pretrained")
VALID = {"mlp": "auc", "din": "auc", "dot": "hr20"}
TITLES = {
    "retail_user": "online_retail_ii, split by user", "retail_time": "online_retail_ii, split by time",
    "generated": "generated, the default", "generated_time": "generated, split by time",
    "retail_fraction": "online_retail_ii, share of the training users", "fraction": "generated, share of the training users",
    "retail_lambda": "online_retail_ii, lambda", "lambda": "generated, lambda", "noise": "generated, share of noise",
    "items": "generated, items of 80 interests",
}


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def signed(interval):
    """"+.003 (+.001 to +.005)", set in bold where the interval leaves out zero."""
    if not interval or interval.get("low") is None:
        return "-"
    text = "{} ({} to {})".format(*(f"{interval[key]:+.3f}".replace("0.", ".", 1) for key in ("mean", "low", "high")))
    return f"**{text}**" if interval["low"] > 0 or interval["high"] < 0 else text


def over(row, rival, figure):
    part = row.get(f"over_{rival}") or (row.get("over_baselines") or {}).get(rival) or {}
    return part.get(figure)


def best_residual(rows):
    """The variant of center + residual that is best on validation, or None."""
    found = [name for name in WITH_RESIDUAL if name in rows]
    return max(found, key=lambda name: rows[name]["valid"]["mean"]) if found else None


def rows_table(experiment, head):
    rows = experiment["heads"][head]
    lines = ["| row | auc | auc_pop | hr20 | logloss | gap | residual : center | radius | epochs | lr, lambda |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, row in experiment["baselines"].items():
        cells = [number(row[figure]["mean"]) for figure in FIGURES]
        lines.append(f"| {name} | {' | '.join(cells)} | | | | | | |")
    for name, row in rows.items():
        cells = [number(row[figure]["mean"]) for figure in FIGURES]
        for key in ("logloss", "gap", "ratio", "radius"):
            cells.append(number((row.get(key) or {}).get("mean")) if row.get(key) else "-")
        tuned = row.get("tuned")
        cells += [f"{row['best_epoch']:.1f}{'*' if row['capped'] else ''}",
                  f"{tuned['lr']:g}, {tuned['lambda'] if tuned['lambda'] is not None else '-'}" if tuned else ""]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def regimes(study):
    """Every experiment and head: the residual variant chosen on validation against each rival, on test. Returns the lines
    and how many were ahead on validation, and of those on test against all rivals, figure by figure."""
    lines = ["| experiment, head | row | figure | " + " | ".join(f"over `{rival}`" for rival in RIVALS) + " |",
             "|---" * (3 + len(RIVALS)) + "|"]
    ahead, confirmed = 0, []
    for name, experiment in study["experiments"].items():
        for head, rows in experiment["heads"].items():
            chosen = best_residual(rows)
            if chosen is None or any(rival not in rows for rival in RIVALS if rival != "itemknn_seen"):
                continue
            row, figure = rows[chosen], VALID[head]
            counted = (experiment["baselines"]["itemknn_seen"].get("valid") or {}).get(figure)
            rivals = [rows[rival]["valid"]["mean"] for rival in RIVALS if rival in rows] + ([counted] if counted is not None else [])
            on_validation = row["valid"]["mean"] > max(rivals)
            ahead += on_validation
            for figure in FIGURES:
                parts = [over(row, rival, figure) for rival in RIVALS]
                wins = all(part and part["low"] > 0 for part in parts)
                if wins and on_validation:
                    confirmed.append(f"{name}, {head}, {figure}")
                lines.append(f"| {name}, {head}{' (ahead on validation)' if on_validation else ''} | `{chosen}` | {figure} | "
                             + " | ".join(signed(part) for part in parts) + " |")
    return lines, ahead, confirmed


def by_value(study, group):
    return sorted((e for e in study["experiments"].values() if e["group"] == group), key=lambda e: e["value"])


def picture(study, group, out):
    """auc and hr20 of each row over the group's values, and, for lambda, auc over residual : center."""
    points = by_value(study, group)
    heads = list(points[0]["heads"])
    against_ratio = group.endswith("lambda")
    figure, grid = pyplot.subplots(len(heads), 2, figsize=(9, 3.1 * len(heads)), squeeze=False)
    for line, head in zip(grid, heads):
        for axes, key in zip(line, ("auc", "ratio" if against_ratio else "hr20")):
            for name in points[0]["heads"][head]:
                rows = [e["heads"][head][name] for e in points]
                if key == "ratio":
                    rows = [row for row in rows if row.get("ratio")]
                    axes.plot([row["ratio"]["mean"] for row in rows], [row["auc"]["mean"] for row in rows], "o-", ms=3, label=name)
                else:
                    axes.plot([e["value"] for e in points], [row[key]["mean"] for row in rows], "o-", ms=3, label=name)
            axes.set_title(f"{head}: " + ("auc over residual : center" if key == "ratio" else key))
            if key == "ratio":
                axes.set_xscale("log")
            elif group == "items":
                axes.set_xscale("log")
            elif against_ratio:
                axes.set_xscale("symlog", linthresh=3e-4)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].legend(fontsize=7, frameon=False)
    figure.suptitle(TITLES[group])
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})
    pyplot.close(figure)


def main():
    folder = pathlib.Path(sys.argv[1])
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    text = [f"# The runs of the study", "", f"{len(study['experiments'])} experiments, {study['seeds']} seeds. Intervals are 95 %, over test users, "
            "paired, of means over seeds; bold: zero lies outside.", ""]
    lines, ahead, confirmed = regimes(study)
    text += ["## Center + residual against its rivals", "",
             f"The row with a residual that is best on validation. It is ahead of every rival on validation in {ahead} cases; of those it is ahead of all of "
             f"them on test, zero outside every interval, in: {'; '.join(confirmed) if confirmed else 'none'}.", "", *lines, ""]
    groups = list(dict.fromkeys(e["group"] for e in study["experiments"].values()))
    for group in groups:
        text += [f"## {TITLES[group]}", ""]
        if all(e["value"] is not None for e in study["experiments"].values() if e["group"] == group):
            picture(study, group, folder / f"{group}.svg")
            text += [f"![{TITLES[group]}]({group}.svg)", ""]
        for name, experiment in study["experiments"].items():
            if experiment["group"] != group:
                continue
            for head in experiment["heads"]:
                text += [f"### {name}, {head}", "", f"`resembed-train {experiment['arguments']} --seeds {study['seeds']}`", "",
                         *rows_table(experiment, head), ""]
    (folder / "study.md").write_text("\n".join(text), encoding="utf-8")
    print(f"wrote {folder / 'study.md'} and {len(list(folder.glob('*.svg')))} pictures")


main()
