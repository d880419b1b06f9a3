#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The runs of the study: run.py TRAINER FOLDER [--data LOG] [--small]; called by docs/study.sh.

Each experiment is one call of resembed-train in FOLDER/NAME; what is there is kept. FOLDER/study.json gets what
write.py reads: of each experiment the command, the log's size and every row's figures with their intervals.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

EVERY = "plain,plain_l2,plain_2x,plain_pretrained,central,avg,att,central_pretrained,avg_pretrained,att_pretrained"
RIVALS = "plain,plain_2x,plain_pretrained,central,avg,central_pretrained,avg_pretrained"
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
LAMBDAS = (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
NOISES = (0.0, 0.1, 0.3, 0.5)
ITEMS = (1000, 2000, 4000, 8000, 16000)  # of 80 interests
ROW_KEYS = ("epochs", "best_epoch", "capped", "valid", "auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat", "logloss", "gap",
            "parameters", "seconds", "ratio", "over_plain", "over_plain_2x", "over_plain_pretrained", "over_central",
            "over_central_pretrained", "over_baselines", "epochs_to_plain")


def experiments(data, small):
    """(name, group, value, arguments) of every run; value: the place on the group's axis."""
    runs = []

    def add(name, group, value, variants, *arguments):
        runs.append((name, group, value, ["--variants", variants, *map(str, arguments)]))

    if small:
        log = ["--users", 400, "--items", 160, "--interests", 8, "--dim", 8, "--epochs", 3]
        add("generated", "generated", None, RIVALS, "--tune", *log)
        for fraction in (0.3, 0.9):
            add(f"fraction_{fraction}", "fraction", fraction, RIVALS, "--train-fraction", fraction, *log)
        for value in (0.0, 0.01):
            add(f"lambda_{value}", "lambda", value, "plain_l2,central,avg", "--lambda", value, "--head", "mlp", *log)
        add("generated_time", "generated_time", None, RIVALS, "--split", "time", *log)
        return runs
    if data:
        log = ["--data", data]
        add("retail_user", "retail_user", None, EVERY, "--tune", *log)
        add("retail_time", "retail_time", None, EVERY, "--tune", "--split", "time", *log)
        for fraction in FRACTIONS:
            add(f"retail_fraction_{fraction}", "retail_fraction", fraction, RIVALS, "--train-fraction", fraction, *log)
        for value in LAMBDAS:
            add(f"retail_lambda_{value}", "retail_lambda", value, "plain_l2,central,avg", "--lambda", value, "--head", "mlp", *log)
    add("generated", "generated", None, EVERY, "--tune")
    add("generated_time", "generated_time", None, EVERY, "--split", "time")
    for fraction in FRACTIONS:
        add(f"fraction_{fraction}", "fraction", fraction, RIVALS, "--train-fraction", fraction)
    for value in LAMBDAS:
        add(f"lambda_{value}", "lambda", value, "plain_l2,central,avg", "--lambda", value, "--head", "mlp")
    for noise in NOISES:
        add(f"noise_{noise}", "noise", noise, RIVALS, "--noise", noise)
    for items in ITEMS:
        add(f"items_{items}", "items", items, RIVALS, "--items", items)
    return runs


def short(value):
    """Numbers to five decimals: what tables and pictures show, and no more."""
    if isinstance(value, dict):
        return {key: short(part) for key, part in value.items()}
    if isinstance(value, list):
        return [short(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value


def collect(folder, group, value):
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    heads = {}
    for head, rows in metrics["heads"].items():
        heads[head] = {}
        for name, row in rows.items():
            heads[head][name] = {key: row.get(key) for key in ROW_KEYS}
            heads[head][name]["radius"] = row["envelope"]["radius"]
            tuning = metrics.get("tuning", {}).get(head, {}).get(name)
            if tuning:
                point = tuning["points"][tuning["chosen"]]
                heads[head][name]["tuned"] = {key: point[key] for key in ("lr", "lambda")}
    data = {key: metrics["data"].get(key) for key in ("source", "users", "items", "events", "train_users", "test_users",
                                                       "repeat_share", "unknown_share")}
    config = {key: metrics["config"].get(key) for key in ("seeds", "version")}
    baselines = {name: {key: part for key, part in row.items() if key != "seconds"} for name, row in metrics["baselines"].items()}
    return short({"group": group, "value": value, "data": data, "config": config, "baselines": baselines, "heads": heads})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainer")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data")
    parser.add_argument("--seeds", type=int, help="5; with --small 2")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    seeds = given.seeds or (2 if given.small else 5)
    runs = experiments(given.data, given.small)
    given.folder.mkdir(parents=True, exist_ok=True)
    begin, study = time.monotonic(), {}
    for number, (name, group, value, arguments) in enumerate(runs, 1):
        out = given.folder / name
        print(f"[{number}/{len(runs)}] {name}  after {(time.monotonic() - begin) / 60:.1f} min", file=sys.stderr, flush=True)
        command = [given.trainer, *arguments, "--seeds", str(seeds), "--no-report", "--resume", "--out", str(out)]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}\nrun.py: {name} ended with {run.returncode}; "
                     "the same command goes on from there")
        study[name] = collect(out, group, value)
        shown = [part for part in arguments if part != given.data]
        study[name]["arguments"] = " ".join(shown).replace("--data ", "")
    seconds = time.monotonic() - begin
    text = json.dumps({"seeds": seeds, "small": given.small, "minutes": round(seconds / 60, 1), "experiments": study}, indent=0)
    (given.folder / "study.json").write_text(text + "\n", encoding="utf-8")
    print(f"run.py: {len(runs)} experiments after {seconds / 60:.1f} min", file=sys.stderr)


main()
