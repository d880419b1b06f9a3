#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The README's table of quality, from the runs beside this file.

  table.py              prints it
  table.py --write      puts it into README.md
  table.py --check      fails when README.md says something else
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
BEGIN, END = "<!-- docs/results/table.py -->\n", "<!-- end of table -->\n"
# File, what it is.
RUNS = [
    ("online_retail_ii", "online_retail_ii"),
    ("online_retail_ii_20_percent", "its training users cut to 20 %"),
    ("sessions", "generated sessions"),
    ("demo", "generated, the default"),
]
FIGURES = ("auc", "auc_pop", "hr20")
GRAPH = ("central", "avg", "gcn", "att", "assign")
COUNTS = ("covisit", "covisit_seen", "itemknn", "itemknn_seen")


def cell(values):
    return " / ".join(f"{value:.3f}".lstrip("0") for value in values)


def means(row):
    return [row[figure]["mean"] for figure in FIGURES]


def table():
    lines = [
        "| log, head | best counts | `plain` | `plain_2x` | `central` | graph variant best on validation |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in RUNS:
        run = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        counts = [max(run["baselines"][count][figure]["mean"] for count in COUNTS) for figure in FIGURES]
        for head in ("mlp", "dot"):
            rows = run["heads"][head]
            best = max((v for v in GRAPH if v in rows and not rows[v]["capped"]), key=lambda v: rows[v]["valid"]["mean"])
            cells = [cell(means(rows[v])) for v in ("plain", "plain_2x", "central", best)]
            lines.append(f"| {title}, {head} | {cell(counts)} | {' | '.join(cells)} `{best}` |")
    return "\n".join(lines) + "\n"


def main():
    if sys.argv[1:] not in ([], ["--write"], ["--check"]):
        sys.exit(__doc__)
    if not sys.argv[1:]:
        print(table(), end="")
        return
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    if sys.argv[1] == "--write":
        README.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    elif old != table():
        sys.exit("README.md: the table of results differs from docs/results; python3 docs/results/table.py --write")


main()
