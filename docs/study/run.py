#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The runs of the study: run.py TRAINER FOLDER [--data LOG] [--small]; called by docs/study.sh.

Each experiment is one call of resembed-train for each head, in FOLDER/NAME/HEAD; what is there is kept. As many calls
run at once as there are cores, with one thread each. FOLDER/study.json gets what write.py reads: of each experiment
the command, the log's size and every row's figures with their intervals.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

EVERY = "plain,plain_2x,plain_pretrained,central,avg,att,central_pretrained,avg_pretrained,att_pretrained"
RIVALS = "plain,plain_2x,plain_pretrained,central,avg,central_pretrained,avg_pretrained"
FRACTIONS = (0.1, 0.3, 0.6)  # of the training users; 1 is in another experiment
LAMBDAS = (0.0, 0.001, 0.01, 0.1, 1.0)
NOISES = (0.0, 0.5)  # .1 is in `half`
ITEMS = (400, 1000, 6000)  # of 40 interests; 2000 are in `half`
FIGURES = ("auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat", "logloss")
MEANS = (*FIGURES, "valid", "gap", "ratio", "epochs", "best_epoch", "seconds")
RIVALS_KEPT = ("plain", "plain_2x", "plain_pretrained", "central", "central_pretrained")


class Experiment:
    """name; group and value: the place on the group's axis; tuned: the experiment whose lr and lambda it takes."""

    def __init__(self, name, group, value, variants, *arguments, heads=("mlp", "dot"), tuned=None):
        self.name, self.group, self.value, self.heads, self.tuned = name, group, value, heads, tuned
        self.arguments = ["--variants", variants, *map(str, arguments)]

    def command(self, trainer, folder, head, seeds):
        tuned = ["--tuned", folder / self.tuned / head / "metrics.json"] if self.tuned else []
        return [trainer, *self.arguments, *map(str, tuned), "--head", head, "--seeds", str(seeds), "--threads", "1",
                "--no-report", "--resume", "--out", str(folder / self.name / head)]


def experiments(data, small):
    """Every run, in the order they start; one that takes another's settings comes after it."""
    runs = []

    def add(*what, **how):
        runs.append(Experiment(*what, **how))

    def lambdas(name, values, log):
        """plain and central have no residual to hold back: once is enough."""
        for value in values:
            rows = "plain,central,plain_l2,avg" if value == values[0] else "plain_l2,avg"
            add(f"{name}_{value}", name, value, rows, "--lambda", value, *log, heads=("mlp",))

    if small:
        log = ["--users", 400, "--items", 160, "--interests", 8, "--dim", 8, "--epochs", 3]
        add("generated", "generated", None, RIVALS, "--tune", *log)
        add("generated_time", "generated_time", None, RIVALS, "--split", "time", *log, tuned="generated")
        for fraction in (0.3, 0.9):
            add(f"fraction_{fraction}", "fraction", fraction, RIVALS, "--train-fraction", fraction, *log, tuned="generated")
        lambdas("lambda", (0.0, 0.01), log)
        return runs
    if data:
        log = ["--data", data]
        add("retail_user", "retail_user", None, EVERY, "--tune", *log)
    add("generated", "generated", None, RIVALS, "--tune")
    if data:
        add("retail_time", "retail_time", None, EVERY, "--split", "time", *log, tuned="retail_user")
        for fraction in FRACTIONS:
            add(f"retail_fraction_{fraction}", "retail_fraction", fraction, EVERY, "--train-fraction", fraction, *log, tuned="retail_user")
        lambdas("retail_lambda", LAMBDAS, log)
    add("generated_time", "generated_time", None, RIVALS, "--split", "time", tuned="generated")
    log = ["--users", 5000, "--items", 2000, "--interests", 40]

    def half(name, group, value, *arguments):
        add(name, group, value, RIVALS, *arguments, heads=("mlp",), tuned="generated")

    half("half", "half", None, *log)
    for items in ITEMS:
        half(f"items_{items}", "items", items, "--users", 5000, "--items", items, "--interests", 40)
    for noise in NOISES:
        half(f"noise_{noise}", "noise", noise, "--noise", noise, *log)
    for fraction in FRACTIONS:
        half(f"fraction_{fraction}", "fraction", fraction, "--train-fraction", fraction, *log)
    lambdas("lambda", LAMBDAS, log)
    return runs


def short(value):
    """Numbers to five decimals: what tables and pictures show, and no more."""
    if isinstance(value, dict):
        return {key: short(part) for key, part in value.items()}
    if isinstance(value, list):
        return [short(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value


def interval(part):
    return [part["mean"], part["low"], part["high"]]


def row_of(row, tuning):
    """One row's means, and its differences to rivals as [mean, low, high]."""
    kept = {key: row[key]["mean"] if isinstance(row.get(key), dict) else row.get(key) for key in MEANS}
    kept.update(capped=row["capped"], parameters=row["parameters"], radius=row["envelope"]["radius"]["mean"])
    rivals = {name: row.get(f"over_{name}") for name in RIVALS_KEPT}
    rivals.update(row.get("over_baselines") or {})
    kept["over"] = {name: {figure: interval(part[figure]) for figure in FIGURES if part.get(figure)}
                    for name, part in rivals.items() if part}
    if tuning:
        point, rates = tuning["points"][tuning["chosen"]], [point["lr"] for point in tuning["points"]]
        kept["tuned"] = {"lr": point["lr"], "lambda": point["lambda"],
                         "edge": len(rates) > 1 and point["lr"] in (min(rates), max(rates))}
    return kept


def collect(folder, experiment):
    heads = {}
    for head in experiment.heads:
        metrics = json.loads((folder / experiment.name / head / "metrics.json").read_text(encoding="utf-8"))
        tuning = metrics.get("tuning", {}).get(head, {})
        rows = metrics["heads"][head]
        heads[head] = {name: row_of(rows[name], tuning.get(name)) for name in metrics["config"]["variants"]}
    data = {key: metrics["data"].get(key) for key in ("source", "users", "items", "events", "train_users", "test_users",
                                                       "repeat_share", "unknown_share")}
    data["source"] = data["source"].rsplit("/", 1)[-1]  # the log's name, not where it lies
    baselines = {name: {**{figure: row[figure]["mean"] for figure in FIGURES if row.get(figure)}, "valid": row.get("valid") or {}}
                 for name, row in metrics["baselines"].items()}
    return short({"group": experiment.group, "value": experiment.value, "version": metrics["config"]["version"], "data": data,
                  "baselines": baselines, "heads": heads})


def run_all(trainer, folder, runs, seeds):
    """Runs every experiment's heads, so many at once as there are cores; ends the program where one fails."""
    begin, waiting = time.monotonic(), [(experiment, head) for experiment in runs for head in experiment.heads]
    total, finished, running, cores = len(waiting), set(), {}, len(os.sched_getaffinity(0))

    def call(experiment, head):
        command = experiment.command(trainer, folder, head, seeds)
        return command, subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        while waiting or running:
            for key in [key for key in waiting if key[0].tuned is None or (key[0].tuned, key[1]) in finished]:
                if len(running) >= cores:
                    break
                waiting.remove(key)
                running[pool.submit(call, *key)] = key
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                experiment, head = running.pop(future)
                command, run = future.result()
                if run.returncode != 0:
                    sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}\nrun.py: {experiment.name} ended with {run.returncode}; "
                             "the same command goes on from there")
                finished.add((experiment.name, head))
                print(f"[{len(finished)}/{total}] {experiment.name}, {head}, done after {(time.monotonic() - begin) / 60:.1f} min",
                      file=sys.stderr, flush=True)
    return (time.monotonic() - begin) / 60


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
    taken = given.folder / "minutes.json"  # of every call that trained into the folder
    minutes = json.loads(taken.read_text(encoding="utf-8")) if taken.exists() else []
    minutes.append(round(run_all(given.trainer, given.folder, runs, seeds), 2))
    taken.write_text(json.dumps(minutes) + "\n", encoding="utf-8")
    study = {}
    for experiment in runs:
        study[experiment.name] = collect(given.folder, experiment)
        shown = [part for part in experiment.arguments if part not in ("--data", given.data)]
        study[experiment.name]["arguments"] = " ".join(shown)
        study[experiment.name]["tuned"] = experiment.tuned
    text = json.dumps({"seeds": seeds, "small": given.small, "minutes": round(sum(minutes), 1), "experiments": study}, separators=(",", ":"))
    (given.folder / "study.json").write_text(text + "\n", encoding="utf-8")
    print(f"run.py: {len(runs)} experiments after {minutes[-1]:.1f} min", file=sys.stderr)


main()
