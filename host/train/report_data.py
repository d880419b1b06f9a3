# SPDX-License-Identifier: Apache-2.0
"""What a run left behind, read forgivingly: keys may be missing, numbers may be null (SCHEMA.md)."""

import json
import math
import os

FIGURES = ("auc", "auc_pop", "hr20")
LABELS = {
    "auc": "auc (uniform negatives)",
    "auc_pop": "auc_pop (popular negatives)",
    "hr20": "hr20 (all items)",
}
VARIANTS = ("plain", "plain_l2", "plain_2x", "plain_pretrained", "central", "avg", "gcn", "att", "central_pretrained",
            "avg_pretrained", "att_pretrained", "assign")
GRAPH = ("central", "avg", "gcn", "att", "central_pretrained", "avg_pretrained", "att_pretrained", "assign")
BASELINES = ("popularity", "covisit", "covisit_seen", "itemknn", "itemknn_seen")
VALID_FIGURE = {"mlp": "auc", "din": "auc", "dot": "hr20"}


def number(value):
    """A finite float or None; a figure ({"mean": ..}) counts as its mean."""
    if isinstance(value, dict):
        value = value.get("mean")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def interval(value):
    """(mean, low, high), or None unless all three are there."""
    if not isinstance(value, dict):
        return None
    parts = tuple(number(value.get(key)) for key in ("mean", "low", "high"))
    return None if None in parts else parts


def envelope_lines(folder):
    """{(head, variant): {seed: [line, ..]}} of envelope.jsonl; empty without one. A broken last line is left out."""
    rows = {}
    path = os.path.join(folder, "envelope.jsonl")
    if not os.path.exists(path):
        return rows
    with open(path, encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            rows.setdefault((line["head"], line["variant"]), {}).setdefault(line["seed"], []).append(line)
    return rows


class Row:
    """One row of a head's table: a trained variant or a baseline."""

    def __init__(self, name, values):
        self.name = name
        self.values = values if isinstance(values, dict) else {}
        self.capped = bool(self.values.get("capped"))

    def get(self, *path):
        value = self.values
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def num(self, *path):
        return number(self.get(*path))

    def over(self, base, figure):
        """Paired interval of this row minus `base`, or None."""
        direct = self.get("over_" + base, figure)
        return interval(direct if direct is not None else self.get("over_baselines", base, figure))


class Run:
    def __init__(self, folder):
        self.folder = folder
        self.metrics = self._load("metrics.json")
        if self.metrics is None:
            raise SystemExit(
                f"{os.path.join(folder, 'metrics.json')}: no such file; run resembed-train first"
            )
        self.curves = self._load("curves.json") or {}
        self.picture = self._load("picture.json") or {}
        self.envelope = envelope_lines(folder)
        self.data = self.metrics.get("data") or {}
        self.config = self.metrics.get("config") or {}
        self.tuning = self.metrics.get("tuning") or {}
        self.interrupted = bool(self.metrics.get("interrupted"))
        self.baselines = self._rows(self.metrics.get("baselines") or {}, BASELINES)
        heads = self.metrics.get("heads") or {}
        self.heads = {
            head: self._rows(heads[head] or {}, VARIANTS)
            for head in sorted(heads, key=lambda h: (h != "mlp", h))
        }

    def _load(self, name):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise SystemExit(f"{path}: {error}")

    @staticmethod
    def _rows(rows, order):
        names = [name for name in order if name in rows] + [name for name in rows if name not in order]
        return {name: Row(name, rows[name]) for name in names}

    def pictured(self):
        """{interest: titles of its items in the picture, the most used first}; empty without a catalog."""
        found = {}
        for interest, title in zip(self.picture.get("interest") or [], self.picture.get("titles") or []):
            titles = found.setdefault(interest, [])
            if title:
                titles.append(" ".join(title.split()))
        return found

    def title_of_interest(self, interest):
        """The title of its most used item; None without one."""
        return next(iter(self.pictured().get(interest, [])), None)

    def curve(self, head, variant):
        """Seeds of a variant that have at least one epoch."""
        seeds = (self.curves.get(head) or {}).get(variant) or []
        return [seed for seed in seeds if seed.get("epoch") and seed.get("valid")]

    def epochs_to_reach(self, head, variant, value):
        """Mean over seeds of the first epoch whose validation figure reaches `value`; None if one never does."""
        firsts = []
        for seed in self.curve(head, variant):
            reached = [
                e for e, v in zip(seed["epoch"], seed["valid"]) if number(v) is not None and v >= value
            ]
            if not reached:
                return None
            firsts.append(reached[0])
        return sum(firsts) / len(firsts) if firsts else None

    def best_valid(self, head, variant):
        """(best validation figure, epoch), means over seeds; None without a curve."""
        best = []
        for seed in self.curve(head, variant):
            pairs = [(number(v), e) for e, v in zip(seed["epoch"], seed["valid"]) if number(v) is not None]
            if pairs:
                best.append(max(pairs, key=lambda pair: (pair[0], -pair[1])))
        if not best:
            return None
        return sum(b[0] for b in best) / len(best), sum(b[1] for b in best) / len(best)

    def valid_of(self, head, row):
        value = row.num("valid")
        if value is None:
            best = self.best_valid(head, row.name)
            value = best[0] if best else None
        return value

    def best_graph(self, head):
        """The graph variant best on validation, capped rows left out; None if there is none."""
        rows = [row for row in self.heads[head].values() if row.name in GRAPH and not row.capped]
        rows = [(self.valid_of(head, row), row) for row in rows]
        rows = [pair for pair in rows if pair[0] is not None]
        return max(rows, key=lambda pair: pair[0])[1] if rows else None
