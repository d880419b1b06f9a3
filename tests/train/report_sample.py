# SPDX-License-Identifier: Apache-2.0
"""A made-up run in the schema of host/train/SCHEMA.md, for tests and for looking at the report."""

import json
import math
import os
import random

VARIANTS = ["plain", "plain_l2", "plain_2x", "plain_pretrained", "central", "avg", "gcn", "att", "assign"]
AUC = {
    "plain": 0.921,
    "plain_l2": 0.919,
    "plain_2x": 0.920,
    "plain_pretrained": 0.924,
    "central": 0.930,
    "avg": 0.932,
    "gcn": 0.931,
    "att": 0.929,
    "assign": 0.922,
}


def figure(mean, half=0.012, std=None):
    return {"mean": mean, "std": std, "low": mean - half, "high": mean + half}


def interval(mean, half=0.004):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def counts(auc, auc_pop, hr20, **more):
    return dict(
        auc=figure(auc),
        auc_pop=figure(auc_pop),
        hr20=figure(hr20, 0.03),
        hr20_new=figure(hr20 * 0.9, 0.03),
        hr20_repeat=figure(min(1.0, hr20 * 1.3), 0.05),
        seconds=0.2,
        **more
    )


def make(draw=random.Random(5), capped="att"):
    """(metrics, curves, picture)"""
    heads, curves = {}, {}
    for head, scale in (("mlp", 1.0), ("dot", 1.003)):
        heads[head], curves[head] = {}, {}
        for name in VARIANTS:
            auc = AUC[name] * scale
            gain = AUC[name] - AUC["plain"]
            graph = name in ("central", "avg", "gcn", "att", "assign")
            row = counts(auc, 0.78 + 1.5 * gain, (0.25 if head == "mlp" else 0.37) + 2 * gain)
            tight = 0.5 if graph else 1.0
            row.update(
                {
                    "epochs": 16 if graph else 30,
                    "best_epoch": 10 if graph else 24,
                    "capped": name == capped,
                    "valid": figure(auc if head == "mlp" else 0.37 + gain),
                    "logloss": figure(0.34 - gain) if head == "mlp" else None,
                    "gap": {"mean": 0.03 - gain, "std": None},
                    "parameters": 295616 * (1 if not graph and name != "plain_2x" else 2),
                    "seconds": {"mean": 20.0, "std": None},
                    "ratio": {"mean": 0.4, "std": None} if name in ("avg", "gcn", "att", "assign") else None,
                    "envelope": {
                        "radius": figure(1.5 * tight),
                        "radius95": figure(1.2 * tight),
                        "per_interest": {
                            "radius": [1.5 * tight * (1 + 0.2 * draw.random()) for _ in range(40)],
                            "radius95": [1.2 * tight * (1 + 0.2 * draw.random()) for _ in range(40)],
                        },
                    },
                }
            )
            if name != "plain":
                row["over_plain"] = {
                    "auc": interval(gain),
                    "auc_pop": interval(1.5 * gain, 0.008),
                    "hr20": interval(2 * gain, 0.02),
                }
            if name == "avg":
                row["over_plain_2x"] = {
                    "auc": interval(0.012),
                    "auc_pop": interval(0.016, 0.008),
                    "hr20": interval(0.02, 0.03),
                }
                row["over_central"] = {
                    "auc": interval(0.002),
                    "auc_pop": interval(0.003, 0.008),
                    "hr20": interval(0.004, 0.02),
                }
                row["over_baselines"] = {"itemknn": {"hr20": interval(-0.1, 0.03)}}
            heads[head][name] = row
            top = row["valid"]["mean"]
            rate = 0.5 if graph else 0.2
            epochs = list(range(1, row["epochs"] + 1))
            curves[head][name] = [
                {
                    "seed": 1,
                    "epoch": epochs,
                    "best_epoch": row["best_epoch"],
                    "train_loss": [0.3 + math.exp(-rate * e) for e in epochs],
                    "valid": [
                        top - 0.1 * math.exp(-rate * e) - 0.0004 * abs(e - row["best_epoch"]) for e in epochs
                    ],
                    "seconds": [0.9 * e if graph else 0.5 * e for e in epochs],
                }
            ]
    metrics = {
        "data": {
            "source": "made-up <log> & co",
            "generated": True,
            "users": 5853,
            "items": 4619,
            "events": 788247,
            "too_short_users": 153,
            "train_users": 4526,
            "valid_users": 600,
            "test_users": 574,
            "candidates": 4610,
            "valid_targets": 600,
            "test_targets": 574,
            "ranked_targets": 574,
            "unknown_share": 0.0017,
            "repeat_share": 0.31,
            "graph": {"window": 2, "neighbors": 8, "pairs": 90000, "seconds": 0.1},
            "interests": {
                "source": "generated",
                "count": 40,
                "agreement": {"nmi": 0.93, "edge_share": 0.88, "edge_share_by_chance": 0.03},
            },
        },
        "config": {
            "version": "0.1.0",
            "heads": ["mlp", "dot"],
            "variants": VARIANTS,
            "seeds": 1,
            "dim": 32,
            "lambda": 0.006,
        },
        "baselines": {
            "popularity": counts(0.824, 0.497, 0.076),
            "covisit": counts(0.897, 0.733, 0.315),
            "covisit_seen": counts(0.911, 0.774, 0.274),
            "itemknn": counts(0.909, 0.762, 0.38, a=0.5, b=0.3),
            "itemknn_seen": counts(0.92, 0.804, 0.291, a=0.5, b=0.3),
        },
        "heads": heads,
    }
    interest = [which for which in range(12) for _ in range(30)]
    centers = [[draw.gauss(0, 1) for _ in range(16)] for _ in range(12)]
    picture = {
        "items": list(range(360)),
        "interest": interest,
        "heads": {
            head: {
                name: [
                    [c + draw.gauss(0, 2.0 if name.startswith("plain") else 0.5) for c in centers[which]]
                    for which in interest
                ]
                for name in VARIANTS
            }
            for head in heads
        },
    }
    return metrics, curves, picture


def envelope_lines():
    """Lines of envelope.jsonl for plain and avg of the mlp head."""
    lines = []
    for name in ("plain", "avg"):
        for step in range(0, 500, 100):
            five = [(1 + step / 100) * share for share in (0.01, 0.02, 0.03, 0.04, 0.05)]
            ratio = five if name == "avg" else None
            lines.append(
                {
                    "head": "mlp",
                    "variant": name,
                    "seed": 1,
                    "step": step,
                    "epoch": 1,
                    "ratio": ratio and ratio[2],
                    "quantiles": {"radius": five, "ratio": ratio},
                }
            )
    return lines


def sweep(metrics):
    """sweep.json of three values, made of the rows of one run; avg gets better with the value, the last one is capped."""
    runs = []
    for place, value in enumerate((0, 0.001, 0.01)):
        heads = {}
        for head, rows in metrics["heads"].items():
            heads[head] = {
                name: dict(
                    rows[name],
                    capped=place == 2,
                    ratio={"mean": 0.4 / (1 + place), "std": None} if name == "avg" else None,
                    radius=figure(1.5 - 0.1 * place),
                    auc=figure(rows[name]["auc"]["mean"] + (0.002 * place if name == "avg" else 0)),
                )
                for name in ("plain", "central", "avg")
            }
        runs.append({"value": value, "text": str(value), "folder": f"lambda={value}", "heads": heads})
    return {
        "name": "lambda",
        "values": [0, 0.001, 0.01],
        "heads": ["mlp", "dot"],
        "variants": ["plain", "central", "avg"],
        "seeds": 1,
        "source": "made-up <log> & co",
        "command": "resembed-train --sweep lambda=0,0.001,0.01",
        "runs": runs,
    }


def write(folder, metrics, curves=None, picture=None):
    for name, value in (("metrics", metrics), ("curves", curves), ("picture", picture)):
        if value is not None:
            with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
                json.dump(value, file)
