# SPDX-License-Identifier: Apache-2.0
"""export_test.py RESEMBED_TRAIN SOURCE: docs/examples/rank_exported.py ranks with what `resembed-train export` wrote as
`recommend` does. Exit status 77 (skipped) without numpy."""

import csv
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

TRAIN = ""


def run(*arguments):
    done = subprocess.run([TRAIN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def tensors(path):
    """A safetensors file: {name: array}."""
    types = {"F32": "<f4", "I32": "<i4", "I64": "<i8"}
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[8 + length + t["data_offsets"][0] : 8 + length + t["data_offsets"][1]], types[t["dtype"]]
        ).reshape(t["shape"])
        for name, t in header.items()
    }


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = cls.folder.name
        draw = random.Random(3)
        cls.histories = {}
        for user in range(300):
            interest = draw.randrange(6)
            # A few items that one user has: those of users who do not train have no embedding.
            cls.histories[f"u{user}"] = [
                f"own{user}" if draw.random() < 0.02 else f"item {interest * 20 + int(20 * draw.random() ** 2)}"
                for _ in range(draw.randrange(6, 40))
            ]
        with open(cls.at("log.tsv"), "w", encoding="utf-8") as file:
            file.write("user\titem\torder\n")
            for user, history in cls.histories.items():
                file.writelines(f"{user}\t{item}\t{at}\n" for at, item in enumerate(history))
        run("--data", cls.at("log.tsv"), "--out", cls.at("run"), "--variants", "avg,plain", "--dim", "8", "--epochs",
            "3", "--head", "all", "--no-report")
        run("--data", cls.at("log.tsv"), "--out", cls.at("whole"), "--variants", "att", "--dim", "8", "--epochs", "2",
            "--head", "dot", "--query-transform", "1", "--preset", "paper", "--no-report")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def at(cls, name):
        return os.path.join(cls.path, name)

    def export(self, name, *more):
        out = self.at("export_" + name.replace("/", "_"))
        run("export", "--model", self.at(name + "/seed1.safetensors"), "--out", out, *more)
        return rank_exported.Exported(out)

    def lists(self, name, *more):
        done = run("recommend", "--model", self.at(name + "/seed1.safetensors"), "--history", self.at("log.tsv"), *more)
        lists = {}
        for line in done.stdout.splitlines()[1:]:
            user, _, item, score = line.split("\t")[:4]
            lists.setdefault(user, []).append((item, float(score)))
        return lists

    def test_items_are_the_composed_rows(self):
        model = tensors(self.at("run/dot/avg/seed1.safetensors"))
        graph = tensors(self.at("run/graph.safetensors"))
        neighbors = graph["neighbors"]
        used = (neighbors >= 0).astype(float)
        central = (model["central"][np.maximum(neighbors, 0)] * used[:, :, None]).sum(axis=1)
        items = model["residual"] + central / np.maximum(used.sum(axis=1), 1)[:, None]
        trained = model["popularity"] > 0
        self.assertLess(trained.sum(), len(trained))
        exported = self.export("run/dot/avg")
        self.assertEqual(exported.items.dtype, np.float32)
        self.assertEqual(exported.items.shape, (trained.sum(), 8))
        np.testing.assert_allclose(exported.items, items[trained], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(exported.arrays["item_bias"], model["item_bias"][trained])
        names = np.array([row["item"] for row in rows(self.at("run/items.tsv"))])
        self.assertEqual(exported.ids, list(names[trained]))
        self.assertEqual(exported.model["items"], trained.sum())
        plain = tensors(self.at("run/mlp/plain/seed1.safetensors"))
        np.testing.assert_array_equal(self.export("run/mlp/plain").items, plain["residual"][trained])

    def check_ranking(self, name):
        exported = self.export(name)
        lists = self.lists(name, "--exclude-seen", "--top", "20")
        self.assertEqual(set(lists), set(self.histories))
        n_in_order = 0
        for user, history in self.histories.items():
            scores = exported.scores(history)
            scores[[exported.row[item] for item in set(history) if item in exported.row]] = -np.inf
            best = np.argsort(-scores, kind="stable")[:20]
            self.assertEqual(len(lists[user]), 20)
            np.testing.assert_allclose([score for _, score in lists[user]], scores[best], rtol=0, atol=2e-5)
            np.testing.assert_allclose(
                [score for _, score in lists[user]],
                [scores[exported.row[item]] for item, _ in lists[user]],
                rtol=0,
                atol=2e-5,
            )
            n_in_order += [item for item, _ in lists[user]] == [exported.ids[row] for row in best]
        self.assertGreater(n_in_order, 0.97 * len(lists))  # float32 against float64: a tie may turn

    def test_inner_products_rank_as_recommend(self):
        self.check_ranking("run/dot/avg")
        self.check_ranking("run/dot/plain")
        self.check_ranking("whole/dot/att")

    def test_cold_items_stand_where_their_group_does(self):
        learned = self.export("run/dot/avg")
        own = next(row["item"] for row in rows(self.at("run/items.tsv")) if row["item"] not in learned.row)
        with open(self.at("catalog.csv"), "w", encoding="utf-8") as file:
            file.write("item,Group,label\n")
            file.writelines(f"item {item},shelf {item // 20},title {item}\n" for item in range(100))
            file.write(f'new,shelf 2,"a ""new"" one"\n{own},shelf 3,\nlonely,shelf 9,\nbare,,\n')
        out = self.at("cold")
        done = run(
            "export", "--model", self.at("run/dot/avg/seed1.safetensors"), "--catalog", self.at("catalog.csv"), "--out", out
        )
        self.assertIn("4 items that the model did not learn: 2 stand where their group does, 2 have no", done.stderr)
        exported = rank_exported.Exported(out)
        bias = learned.arrays["item_bias"]
        shelves = [[learned.row[f"item {20 * shelf + at}"] for at in range(20)] for shelf in range(5)]
        everything = list(range(len(learned.ids)))
        self.assertEqual(len(exported.ids), len(learned.ids) + 4)
        np.testing.assert_array_equal(exported.items[[exported.row[item] for item in learned.ids]], learned.items)
        for item, like, its_bias in (
            ("new", shelves[2], bias[shelves[2]].mean()),
            (own, shelves[3], bias[shelves[3]].mean()),
            ("lonely", everything, bias.min()),
            ("bare", everything, bias.min()),
        ):
            row = exported.row[item]
            np.testing.assert_allclose(exported.items[row], learned.items[like].mean(axis=0), rtol=0, atol=1e-6)
            np.testing.assert_allclose(exported.arrays["item_bias"][row], its_bias, rtol=0, atol=1e-6)
        names = {row["item"]: row["name"] for row in rows(os.path.join(out, "ids.tsv"))}
        self.assertEqual(
            [names[item] for item in ("item 7", "new", "item 110", own)], ["title 7", 'a "new" one', "", ""]
        )
        # A click on an item with a group says what its group says; one without says nothing.
        with open(self.at("clicks.tsv"), "w", encoding="utf-8") as file:
            file.write("x\tnew\t1\ny\tlonely\t1\n")
        done = run(
            "recommend", "--model", self.at("run/dot/avg/seed1.safetensors"), "--history", self.at("clicks.tsv"),
            "--catalog", self.at("catalog.csv"), "--exclude-seen"
        )
        self.assertIn("1 of 2 events have items that the model did not learn", done.stderr)
        lines = [line.split("\t") for line in done.stdout.splitlines()[1:]]
        scores = exported.scores(["new"])
        best = sorted((score for item, score in zip(exported.ids, scores) if item != "new"), reverse=True)[:20]
        np.testing.assert_allclose([float(line[3]) for line in lines if line[0] == "x"], best, rtol=0, atol=2e-5)
        self.assertGreater(sum(line[2] in [learned.ids[row] for row in shelves[2]] for line in lines[:20]), 10)
        popular = np.sort(bias)[::-1][:20]
        np.testing.assert_allclose([float(line[3]) for line in lines if line[0] == "y"], popular, rtol=0, atol=1e-6)

    def test_the_example_prints_the_best(self):
        self.export("run/dot/avg")
        out, history = self.at("export_run_dot_avg"), self.histories["u5"]
        script = os.path.abspath(rank_exported.__file__)
        done = subprocess.run(
            [sys.executable, "-B", script, out, *history], capture_output=True, text=True, check=True
        )
        best = [line.split("\t")[0] for line in done.stdout.splitlines()]
        self.assertEqual(best[:5], [item for item, _ in self.lists("run/dot/avg", "--exclude-seen")["u5"]][:5])

    def test_the_head_of_mlp_is_there(self):
        self.check_ranking("run/mlp/avg")

    def test_the_head_of_din_is_there(self):
        self.check_ranking("run/din/avg")


if __name__ == "__main__":
    TRAIN = os.path.abspath(sys.argv.pop(1))
    sys.path.insert(0, os.path.join(sys.argv.pop(1), "docs/examples"))
    try:
        import numpy as np

        import rank_exported
    except ImportError as error:
        print(f"skipped: {error}; the test needs numpy")
        sys.exit(77)
    unittest.main()
