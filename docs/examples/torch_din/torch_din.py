#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""DIN (target attention over the history) and MLP in PyTorch, plain against residual embeddings.

    resembed-train --out OUT --protocol [--data LOG.tsv.gz] --head mlp --variants plain,att --seeds 3
    python3 docs/examples/torch_din/torch_din.py OUT [--heads mlp,din] [--variants plain,plain_2x,avg,att] [--seeds 3]

The first command writes the protocol (a generated log without --data), counting baselines and its own rows; this
one trains on the same split against the same negatives and adds its rows to OUT/torch: metrics.json, curves.json and
picture.json in the trainer's format (heads torch_mlp, torch_din beside mlp), drawn by host/train/report.py. Each
model of the first seed is left there as TorchScript (NAME.pt, run by torchscript_load.cc) and exported (NAME.pt2).

torch_mlp is the trainer's model with torch's optimizers: its figures are those of the trainer within noise.
"""

import argparse
import copy
import json
import pathlib
import shlex
import sys
import time

import numpy as np
import torch
from model import VARIANTS, Ranker, TableAdam, make_items
from protocol import Protocol, evaluate, over, row_json
from resembed import load_file

QUANTILE, MIN_ITEMS = 0.95, 5  # of the envelope, as in host/train/envelope.h
SHOWN = ("auc", "auc_pop", "hr20", "logloss")
EVALUATION_PAIRS = 1 << 16  # (target, candidate) pairs scored at a time


def scorer(protocol, model):
    """score(positions [n], candidates [n, m]) -> [n, m], from item embeddings composed once."""
    embeddings = model.items.materialize().detach()

    def score(positions, candidates):
        history, length = protocol.histories(positions)
        repeat = protocol.repeat_features(positions, candidates)
        scores = np.empty(candidates.shape, dtype=np.float32)
        step = max(1, EVALUATION_PAIRS // candidates.shape[1])
        with torch.no_grad():
            for at in range(0, len(positions), step):
                part = slice(at, at + step)
                scores[part] = model.rank(
                    embeddings[torch.from_numpy(history[part])], torch.from_numpy(length[part]),
                    embeddings[torch.from_numpy(candidates[part])], torch.from_numpy(repeat[part])).numpy()
        return scores

    return score


class Trainer:
    """One row: a variant under a head, one seed."""

    def __init__(self, protocol, graph, head, variant, seed):
        self.protocol, self.variant, self.seed = protocol, variant, seed
        hyper = protocol.hyper
        torch.manual_seed(seed)
        items = make_items(variant, protocol.n_items, hyper["dim"], hyper["init"], graph)
        self.model = Ranker(items, head, hyper["history"], hyper["history_decay"])
        dense = [weight for name, weight in self.model.named_parameters() if not name.startswith("items.")]
        self.of_tables = TableAdam(items, hyper["lambda"] if VARIANTS[variant][2] else 0.0)
        self.of_dense = torch.optim.Adam(dense, lr=hyper["dense_lr"], fused=True)

    def epoch(self, generator):
        """Samples of an epoch: history [n, T], length [n], candidates [n, 2] (target, negative), repeat [n, 2, 10]."""
        protocol = self.protocol
        positions = protocol.draw_samples(generator)
        history, length = protocol.histories(positions)
        candidates = np.stack([protocol.items[positions], protocol.draw_negatives(positions, generator)], axis=1)
        repeat = protocol.repeat_features(positions, candidates)
        # Places past a history's end point at the target: they weigh nothing, and touch no other row.
        history = np.where(np.arange(history.shape[1]) < length[:, None], history, candidates[:, :1])
        return [torch.from_numpy(array) for array in (history, length, candidates, repeat)]

    def step(self, factor, history, length, candidates, repeat):
        """The sum of the losses of a batch; factor scales both learning rates."""
        hyper = self.protocol.hyper
        self.of_dense.param_groups[0]["lr"] = hyper["dense_lr"] * factor
        logits = self.model(history, length, candidates, repeat)
        wanted = torch.tensor([1.0, 0.0]).expand_as(logits)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        loss.backward()
        self.of_dense.step()
        self.of_dense.zero_grad()
        self.of_tables.step(hyper["lr"] * factor)
        return float(loss.detach()) * len(length)

    def train(self, max_epochs):
        """Until the validation figure has not improved for hyper.patience epochs; keeps the best epoch."""
        hyper, start = self.protocol.hyper, time.time()
        generator = np.random.default_rng(self.seed)
        curve = {"seed": self.seed, "epoch": [], "train_loss": [], "valid": [], "seconds": [], "best_epoch": 0}
        best, kept, epoch = -1.0, None, 0
        while epoch < min(max_epochs, hyper["epochs"]) and epoch - curve["best_epoch"] < hyper["patience"]:
            epoch += 1
            factor = (1 - hyper["lr_decay"]) ** (epoch - 1)
            samples = self.epoch(generator)
            batches = zip(*(tensor.split(hyper["batch"]) for tensor in samples))
            loss = sum(self.step(factor, *batch) for batch in batches) / len(samples[0])
            valid = evaluate(self.protocol, "valid", scorer(self.protocol, self.model), only_auc=True)["auc"].mean()
            for name, value in (("epoch", epoch), ("train_loss", loss), ("valid", float(valid)),
                                ("seconds", time.time() - start)):
                curve[name].append(value)
            if round(valid, 4) > round(best, 4):  # the decimals that are reported
                best, curve["best_epoch"], kept = valid, epoch, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(kept)
        self.model.eval()
        return self.measure(curve, epoch - curve["best_epoch"] < hyper["patience"])

    def measure(self, curve, capped):
        protocol, items = self.protocol, self.model.items
        score = scorer(protocol, self.model)
        figures = evaluate(protocol, "test", score)
        trained = evaluate(protocol, "trained", score, only_auc=True)["auc"].mean()
        n_interests = int(protocol.interest_of.max()) + 1
        envelope = items.envelope(protocol.interest_of, n_interests, quantiles=[QUANTILE])
        spread, enough = envelope.overall[0], envelope.count >= MIN_ITEMS
        both = items.central_weight is not None and items.weight.requires_grad
        return {"curve": curve, "capped": bool(capped), "figures": figures, "valid": max(curve["valid"]),
                "gap": float(trained - figures["auc"].mean()), "seconds": curve["seconds"][-1],
                "parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
                "dim": items.embedding_dim, "ratio": float(envelope.overall[3]) if both else None,
                "radius": float((envelope.radius[enough] / spread).median()),
                "radius95": float((envelope.radius_quantiles[enough, 0] / spread).median())}


def save(model, path):
    """NAME.pt for torch.jit.load, NAME.pt2 for torch.export.load; both need libresembed_torch.so loaded."""
    model.items.sparse = False  # sparse gradients are for eager training
    inputs = model.example()
    scripted = torch.jit.script(model)
    scripted.save(f"{path}.pt")
    batch, n_candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
    exported = torch.export.export(model, inputs, dynamic_shapes=(
        {0: batch}, {0: batch}, {0: batch, 1: n_candidates}, {0: batch, 1: n_candidates}))
    torch.export.save(exported, f"{path}.pt2")
    expected = model(*inputs)
    torch.testing.assert_close(torch.jit.load(f"{path}.pt")(*inputs), expected)
    torch.testing.assert_close(exported.module()(*inputs), expected)


def write_json(path, data):
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="--out of resembed-train --protocol")
    parser.add_argument("--heads", default="mlp,din")
    parser.add_argument("--variants", default="plain,plain_2x,central,avg,att", help="some of " + ",".join(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1000, help="most epochs of a row, below the trainer's limit")
    parser.add_argument("--resume", action="store_true", help="keep the rows that an earlier call finished")
    parser.add_argument("--threads", type=int, default=0, help="0 = torch's own choice")
    arguments = parser.parse_args()
    heads, variants = arguments.heads.split(","), arguments.variants.split(",")
    for name, given, allowed in (("--heads", heads, ("mlp", "din")), ("--variants", variants, tuple(VARIANTS))):
        if not set(given) <= set(allowed):
            sys.exit(f"{name} is {','.join(given)}; needs some of {','.join(allowed)}")
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)

    protocol = Protocol(arguments.out / "protocol.safetensors")
    graph, _ = load_file(arguments.out / "graph.safetensors")
    metrics = json.loads((arguments.out / "metrics.json").read_text(encoding="utf-8"))
    picture = json.loads((arguments.out / "picture.json").read_text(encoding="utf-8"))
    curves = json.loads((arguments.out / "curves.json").read_text(encoding="utf-8"))
    metrics["config"]["torch"] = {
        "version": torch.__version__, "threads": torch.get_num_threads(), "seeds": arguments.seeds,
        "command": "torch_din.py OUT " + shlex.join(sys.argv[2:])}
    folder = arguments.out / "torch"
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for head in heads:
        name, done = f"torch_{head}", {}
        for book in (metrics["heads"], curves, picture["heads"]):
            book[name] = {}
        for variant in variants:
            rows = done[variant] = []
            for seed in range(1, arguments.seeds + 1):
                kept = folder / "rows" / f"{head}_{variant}_seed{seed}.pt"
                if arguments.resume and kept.exists():
                    row = torch.load(kept, weights_only=False)
                else:
                    trainer = Trainer(protocol, graph, head, variant, seed)
                    row = trainer.train(arguments.epochs)
                    row["picture"] = trainer.model.items.materialize()[picture["items"]].tolist()
                    if seed == 1:
                        save(trainer.model, folder / f"{head}_{variant}")
                    torch.save(row, kept)
                rows.append(row)
                means = " ".join(f"{key} {row['figures'][key].mean():.4f}" for key in SHOWN)
                print(f"{name} {variant} seed {seed}: {len(row['curve']['epoch'])} epochs (best "
                      f"{row['curve']['best_epoch']}) in {row['seconds']:.0f} s: {means}", flush=True)
            picture["heads"][name][variant] = rows[0]["picture"]
            curves[name][variant] = [row["curve"] for row in rows]
            metrics["heads"][name][variant] = row_json(rows)
            for base in ("plain", "plain_2x", "central"):
                if base in done and base != variant:
                    metrics["heads"][name][variant][f"over_{base}"] = over(rows, done[base])
            for file, data in (("metrics", metrics), ("curves", curves), ("picture", picture)):
                write_json(folder / f"{file}.json", data)
    print(f"results: {folder / 'metrics.json'}; report: python3 host/train/report.py {folder}")


main()
