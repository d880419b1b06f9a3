# SPDX-License-Identifier: Apache-2.0
"""The protocol of resembed-train for a model of one's own: its log, split and evaluation sets, and its figures.

`resembed-train --protocol --out OUT` writes OUT/protocol.safetensors (host/train/SCHEMA.md); nothing of the split is
decided here again.
"""

import json
import math

import numpy as np
import resembed

TOP_N, N_RESAMPLES, BOOTSTRAP_SEED = 20, 1000, 20190805
N_REPEAT_FEATURES = 10
DISTANCES = np.array([1, 2, 4, 8, 16, 64, 256])


class Protocol:
    """Events of user u are items[offsets[u]:offsets[u + 1]]; a position is an index into items."""

    def __init__(self, path):
        tensors, metadata = resembed.load_file(path)
        data = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.hyper = json.loads(metadata["hyper"])
        self.offsets, self.items = data["offsets"], data["items"].astype(np.int64)
        self.train_users, self.popularity = data["train_users"], data["popularity"]
        self.interest_of = tensors["interest_of"]
        self.sets = {name: {key.split(".")[1]: value for key, value in data.items() if key.startswith(name + ".")}
                     for name in ("valid", "test", "trained")}
        self.n_items, n_events = len(self.popularity), len(self.items)
        self.candidates = np.flatnonzero(self.popularity > 0)
        self.user_of = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        # Events of items that training users never touched say nothing and are left out of histories.
        known = self.popularity[self.items] > 0
        self.known_items = self.items[known]
        self.n_known_before = np.concatenate([[0], np.cumsum(known)])
        # (user, item, position) as one number, increasing.
        self.pair_of = self.user_of * self.n_items + self.items
        self.occurrences = np.sort(self.pair_of * n_events + np.arange(n_events))

    def histories(self, positions):
        """ids int64 [n, T], newest first, and lengths int64 [n]: the last T known events before each position."""
        end = self.n_known_before[positions]
        first = self.n_known_before[self.offsets[self.user_of[positions]]]
        at = end[:, None] - 1 - np.arange(self.hyper["history"])
        inside = at >= first[:, None]
        return np.where(inside, self.known_items[np.where(inside, at, 0)], 0), inside.sum(1)

    def repeat_features(self, positions, candidates):
        """[n, m, 10] of candidates [n, m]: how recently and how often each is in the user's full history."""
        n_events = len(self.items)
        pair = (self.user_of[positions, None] * self.n_items + candidates) * n_events
        begin = np.searchsorted(self.occurrences, pair)
        end = np.searchsorted(self.occurrences, pair + positions[:, None])
        count = end - begin
        seen = np.nonzero(count)
        history = (positions - self.offsets[self.user_of[positions]])[seen[0]]
        last = self.occurrences[end[seen] - 1] - pair[seen]
        features = np.zeros((*candidates.shape, N_REPEAT_FEATURES), dtype=np.float32)
        features[(*seen, np.searchsorted(DISTANCES, positions[seen[0]] - last))] = 1
        features[(*seen, 8)] = np.log(count[seen])
        features[(*seen, 9)] = 0.25 * np.log(count[seen] / history)
        return features

    def draw_samples(self, generator):
        """Positions of one epoch, shuffled: up to hyper.targets of each training user, not her first event."""
        trains = np.zeros(len(self.offsets) - 1, dtype=bool)
        trains[self.train_users] = True
        first = np.zeros(len(self.items), dtype=bool)
        first[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        eligible = np.flatnonzero(trains[self.user_of] & ~first)
        order = np.lexsort((generator.random(len(eligible)), self.user_of[eligible]))
        eligible = eligible[order]
        users = self.user_of[eligible]
        rank = np.arange(len(users)) - np.searchsorted(users, users)  # within the user
        return generator.permutation(eligible[rank < self.hyper["targets"]])

    def draw_negatives(self, positions, generator):
        """One candidate for each target, uniform over all but the target."""
        negatives = generator.choice(self.candidates, len(positions))
        while (same := negatives == self.items[positions]).any():
            negatives[same] = generator.choice(self.candidates, int(same.sum()))
        return negatives


def share_below(scores):
    """[n]: share of scores[:, 1:] below scores[:, 0], ties half."""
    target, negatives = scores[:, :1], scores[:, 1:]
    return (target > negatives).mean(1) + 0.5 * (target == negatives).mean(1)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def evaluate(protocol, name, score, only_auc=False):
    """Per-target figures of the set `name`. score(positions [n], candidates [n, m]) -> logits [n, m].

    A target that no training user touched counts as a miss.
    """
    chosen = protocol.sets[name]
    positions = chosen["position"]
    targets = protocol.items[positions]
    known = protocol.popularity[targets] > 0
    kinds = ("uniform",) if only_auc else ("uniform", "popular")
    candidates = np.concatenate([targets[:, None]] + [chosen[kind] for kind in kinds], axis=1)
    scores = score(positions, candidates)
    n = chosen["uniform"].shape[1]
    figures = {"auc": np.where(known, share_below(scores[:, :n + 1]), 0.0)}
    if only_auc:
        return figures
    figures["auc_pop"] = np.where(known, share_below(np.delete(scores, np.s_[1:n + 1], axis=1)), 0.0)
    figures["logloss"] = np.where(known, 0.5 * (softplus(-scores[:, 0]) + softplus(scores[:, 1])), math.log(2))
    ranked = chosen["ranked"]
    hits = np.zeros(len(ranked))
    for at, index in enumerate(ranked):
        if known[index]:
            hits[at] = in_top_n(protocol, score(positions[[index]], protocol.candidates[None])[0], targets[index])
    figures["hr20"] = hits
    start = protocol.offsets[protocol.user_of[positions[ranked]]]
    repeat = np.array([target in protocol.items[begin:end] for target, begin, end in
                       zip(targets[ranked], start, positions[ranked])], dtype=bool)
    figures["hr20_new"], figures["hr20_repeat"] = hits[~repeat], hits[repeat]
    return figures


def in_top_n(protocol, scores, target):
    """Ties go to the more popular item, then to the lower row."""
    score = scores[np.searchsorted(protocol.candidates, target)]
    tied = protocol.candidates[scores == score]
    popularity = protocol.popularity
    ahead = (scores > score).sum() + ((popularity[tied] > popularity[target]) |
                                      ((popularity[tied] == popularity[target]) & (tied < target))).sum()
    return ahead < TOP_N


def interval(values):
    """Mean and 95 % bootstrap interval over test users."""
    if len(values) == 0:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(N_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def figure(values):
    """A figure of metrics.json: mean and std of one value per seed."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def row_json(rows):
    """A row of metrics.json from its seeds: dicts with figures, valid, gap, epochs and so on (train.py)."""
    out = {"epochs": float(np.mean([len(row["curve"]["epoch"]) for row in rows])),
           "best_epoch": float(np.mean([row["curve"]["best_epoch"] for row in rows])),
           "capped": any(row["capped"] for row in rows),
           "parameters": rows[0]["parameters"], "dim": rows[0]["dim"]}
    for name in ("valid", "gap", "seconds", "ratio"):
        values = [row[name] for row in rows]
        out[name] = None if None in values else figure(values)
    out["envelope"] = {name: figure([row[name] for row in rows]) for name in ("radius", "radius95")}
    mean = mean_figures(rows)
    for name, values in mean.items():
        seeds = [row["figures"][name].mean() if len(values) else None for row in rows]
        out[name] = None if None in seeds else {**interval(values), **figure(seeds)}
    return out


def mean_figures(rows):
    """Per-target means over seeds."""
    return {name: np.mean([row["figures"][name] for row in rows], axis=0) for name in rows[0]["figures"]}


def over(rows, base):
    """Intervals of the rows minus the base's, paired by test user."""
    a, b = mean_figures(rows), mean_figures(base)
    return {name: interval(a[name] - b[name]) for name in a}
