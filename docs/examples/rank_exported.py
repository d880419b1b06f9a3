# SPDX-License-Identifier: Apache-2.0
"""rank_exported.py FOLDER ITEM [ITEM ...]: the 20 best items after a history (oldest item first), from the files of
`resembed-train export --out FOLDER` alone. Run by the tests, which compare it with `resembed-train recommend`."""

import csv
import json
import os
import sys

import numpy as np


class Exported:
    """Scores are those of `recommend` for items that are not in the history."""

    def __init__(self, folder):
        self.arrays = {
            name[: -len(".npy")]: np.load(os.path.join(folder, name))
            for name in os.listdir(folder)
            if name.endswith(".npy")
        }
        with open(os.path.join(folder, "model.json"), encoding="utf-8") as file:
            self.model = json.load(file)
        with open(os.path.join(folder, "ids.tsv"), encoding="utf-8", newline="") as file:
            self.ids = [row["item"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        self.row = {item: row for row, item in enumerate(self.ids)}
        self.items = self.arrays["items"]

    def last(self, history):
        """Rows of the last items that the model knows, the newest first."""
        return [self.row[item] for item in reversed(history) if item in self.row][: self.model["history"]]

    def pooled(self, history):
        """Weighted sum of the last items."""
        known = self.last(history)
        if not known:
            return np.zeros(self.model["dim"])
        weights = self.model["history_decay"] ** np.arange(len(known))
        if self.model["history_normalized"]:
            weights = weights / weights.sum()
        return weights @ self.items[known]

    def query(self, history):
        """dot: what an inner product index of item_vectors() is asked with."""
        weight, pooled = self.arrays["dot.query_weight"], self.pooled(history)
        query = pooled @ weight if weight.shape[1] > 1 else pooled * weight[:, 0]
        return np.append(query, 1)

    def item_vectors(self):
        """dot: the item embedding, and its bias as one more column."""
        return np.column_stack([self.items, self.arrays["item_bias"]])

    def attended(self, history):
        """din: for each item, the history's items weighted by a softmax of products with it."""
        score = self.model["attention_scale"] * (self.items @ history.T)
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True) @ history

    def scores(self, history):
        if self.model["head"] == "dot":
            return self.item_vectors() @ self.query(history)
        w = {name[len("mlp.") :]: array for name, array in self.arrays.items() if name.startswith("mlp.")}
        z = self.pooled(history) @ w["history_weight"] + self.items @ w["item_weight"] + w["bias1"][:, 0]
        known = self.last(history)
        if self.model["head"] == "din" and known:  # and what each candidate attends to
            z = z + self.attended(self.items[known]) @ w["attended_weight"]
        hidden = np.maximum(np.maximum(z, 0) @ w["weight2"] + w["bias2"][:, 0], 0)
        return hidden @ w["weight3"][:, 0] + w["bias3"][0, 0]


def main(folder, *history):
    exported = Exported(folder)
    scores = exported.scores(history)
    scores[[exported.row[item] for item in set(history) if item in exported.row]] = -np.inf
    for row in np.argsort(-scores, kind="stable")[:20]:
        print(f"{exported.ids[row]}\t{scores[row]:.6g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
