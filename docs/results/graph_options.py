#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each option of the interest graph does to a model: the table of docs/graph.md, from graph_options.json.

  graph_options.py                                prints it
  graph_options.py --write                        puts it into docs/graph.md
  graph_options.py --check                        fails when docs/graph.md says something else
  graph_options.py --run PROGRAMS DATA FOLDER [NAME...]
                                                  trains (what FOLDER already has is kept) and writes graph_options.json;
                                                  PROGRAMS: folder with resembed-graph and resembed-train;
                                                  NAMEs: only these rows of ROWS, the others stay as they are
"""
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parent / "graph.md"
RESULTS = HERE / "graph_options.json"
BEGIN, END = "<!-- docs/results/graph_options.py -->\n", "<!-- end of table -->\n"
FIGURES = ("auc", "auc_pop", "hr20")
HEADS = ("mlp", "dot")
# Name, options of resembed-graph, options of resembed-train, variants.
ROWS = [
    ("default", "", "", "central,avg,gcn"),
    ("users200", "--max-user-items 200", "", "avg"),
    ("pair1", "--max-pair-uses 1", "", "avg"),
    ("gap3600", "--session-gap 3600", "", "avg"),
    ("min3", "--min-count 3", "", "avg"),
    ("pop05", "--popularity 0.5", "", "avg"),
    ("pop1", "--popularity 1", "", "avg"),
    ("self", "--self-loop -1", "", "avg"),
    ("mutual", "--symmetrize mutual", "", "avg"),
    ("union", "--symmetrize union", "", "avg"),
    ("window5", "--window 5", "", "avg"),
    ("k4", "--neighbors 4", "", "avg"),
    ("k16", "--neighbors 16", "", "avg"),
    ("twohop", "", "--graph-two-hop", "avg,gcn"),
    ("loo", "", "--graph-leave-one-out", "central,avg"),
]
SEEDS, MORE_SEEDS = 3, 10
CLOSER = ("default", "self", "twohop")  # rows that were run with MORE_SEEDS as well


def figures_of(programs, data, folder, row, head, seeds):
    """(figures of each variant, metrics.json) of one run; trains where FOLDER has none."""
    name, build, train, variants = row
    graph = folder / "graphs" / name
    if build and not (graph / "graph.safetensors").exists():
        subprocess.run([programs / "resembed-graph", "--quiet", "build", "--data", data, "--out", graph,
                        "--train-users", *build.split()], check=True)
    out = folder / "runs" / (f"{name}.{head}" + ("" if seeds == SEEDS else f".{seeds}"))
    if not (out / "metrics.json").exists():
        subprocess.run([programs / "resembed-train", "--data", data, "--variants",
                        variants if seeds == SEEDS else "avg", "--head", head, "--seeds", str(seeds), "--no-report",
                        "--resume", "--out", out, *train.split(), *(["--graph", graph] if build else [])], check=True)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return {variant: {figure: {key: round(values[figure][key], 5) for key in ("mean", "std")}
                      for figure in (*FIGURES, "gap")}
            for variant, values in metrics["heads"][head].items()}, metrics["data"]


def run(programs, data, folder, *names):
    """One graph and one run for each row and head."""
    programs, folder = pathlib.Path(programs), pathlib.Path(folder)
    unknown = set(names) - {row[0] for row in ROWS}
    if unknown:
        sys.exit(f"NAME is {', '.join(sorted(unknown))}; needs some of {', '.join(row[0] for row in ROWS)}")
    kept = {}
    if names:
        before = json.loads(RESULTS.read_text(encoding="utf-8"))
        if (before["seeds"], before["more_seeds"]) != (SEEDS, MORE_SEEDS):
            sys.exit("graph_options.json has other seeds; needs a run of all rows")
        kept = {row["name"]: row for row in before["rows"]}
    rows = []
    for row in ROWS:
        if names and row[0] not in names:
            rows.append(kept[row[0]])
            continue
        made = {"name": row[0], "option": row[1] or row[2], "heads": {}}
        for head in HEADS:
            made["heads"][head], about = figures_of(programs, data, folder, row, head, SEEDS)
            if row[0] in CLOSER:
                made["heads"][head]["more"] = figures_of(programs, data, folder, row, head, MORE_SEEDS)[0]["avg"]
        made["own_lists"] = about["graph"].get("own_lists", 0)
        rows.append(made)
    about = {key: about[key] for key in ("source", "events", "users", "items", "train_users", "test_targets")}
    about["source"] = pathlib.Path(about["source"]).name
    if names and about != before["data"]:
        sys.exit(f"DATA is {about}; needs that of the other rows, {before['data']}")
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    RESULTS.write_text('{"data": %s,\n"seeds": %d, "more_seeds": %d,\n"rows": [\n%s\n]}\n'
                       % (json.dumps(about), SEEDS, MORE_SEEDS, lines), encoding="utf-8")


def cells(row, head, variant):
    values = row["heads"][head][variant]
    return [f"{values[figure]['mean']:.3f} +- {values[figure]['std']:.3f}".replace("0.", ".") for figure in FIGURES]


def table():
    lines = ["| graph | mlp: auc | auc_pop | hr20 | dot: auc | auc_pop | hr20 |", "|---|---|---|---|---|---|---|"]
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        title = f"`{row['option']}`" if row["option"] else "Algorithm 1 (window 2, K 8)"
        lines.append(f"| {title} | {' | '.join(cells(row, 'mlp', 'avg') + cells(row, 'dot', 'avg'))} |")
    by_name = {row["name"]: row for row in rows}
    others = [(name, "more", f"{MORE_SEEDS} seeds") for name in CLOSER]
    others += [("default", "gcn", "row `gcn`"), ("twohop", "gcn", "row `gcn`"), ("default", "central", "row `central`"),
               ("loo", "central", "row `central`")]
    for name, variant, what in others:
        row = by_name[name]
        title = f"`{row['option']}`" if row["option"] else "Algorithm 1"
        lines.append(f"| {what}: {title} | {' | '.join(cells(row, 'mlp', variant) + cells(row, 'dot', variant))} |")
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) >= 5 and sys.argv[1] == "--run":
        run(*sys.argv[2:])
        return
    if sys.argv[1:] not in ([], ["--write"], ["--check"]):
        sys.exit(__doc__)
    if not sys.argv[1:]:
        print(table(), end="")
        return
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    old, after = rest.split(END)
    if sys.argv[1] == "--write":
        DOCS.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
    elif old != table():
        sys.exit("docs/graph.md: the table differs from docs/results/graph_options.json; graph_options.py --write")


main()
