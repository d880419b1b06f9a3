# SPDX-License-Identifier: Apache-2.0
"""docs/examples/torch_din: its figures are the trainer's figures, and it trains, saves and reports.

Needs resembed-train: RESEMBED_TRAIN, or a build of it below build/.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import torch

import resembed

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "torch_din"
LOG = ["--users", "400", "--items", "150", "--interests", "6"]


def find_trainer():
    given = os.environ.get("RESEMBED_TRAIN")
    built = sorted(ROOT.glob("build/*/host/train/resembed-train"), key=lambda path: path.stat().st_mtime)
    return given or (str(built[-1]) if built else None)


class TorchDin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        trainer = find_trainer()
        if trainer is None:
            raise unittest.SkipTest("no resembed-train: set RESEMBED_TRAIN or build it below build/")
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.out = pathlib.Path(cls.folder.name)
        done = subprocess.run([trainer, "--out", cls.folder.name, "--protocol", "--head", "mlp", "--variants", "plain",
                               "--epochs", "3", "--threads", "1", "--no-report", *LOG], capture_output=True, text=True)
        if done.returncode != 0 and "--protocol" in done.stderr:
            raise unittest.SkipTest(f"{trainer} is older than --protocol")
        assert done.returncode == 0, done.stderr
        sys.path.insert(0, str(EXAMPLE))
        cls.addClassCleanup(sys.path.remove, str(EXAMPLE))

    def test_figures_of_the_trainers_model_are_the_trainers(self):
        import protocol as example

        protocol = example.Protocol(self.out / "protocol.safetensors")
        weights, _ = resembed.load_file(self.out / "mlp" / "plain" / "seed1.safetensors")
        head = {name.split(".")[1]: value for name, value in weights.items() if name.startswith("mlp.")}
        items = weights["residual"]

        def score(positions, candidates):
            history, length = (torch.from_numpy(array) for array in protocol.histories(positions))
            repeat = torch.from_numpy(protocol.repeat_features(positions, candidates))
            decay = protocol.hyper["history_decay"] ** torch.arange(history.size(1))
            decay = decay * (torch.arange(history.size(1)) < length[:, None])
            pooled = (items[history] * (decay / decay.sum(1, keepdim=True).clamp(min=1e-9)).unsqueeze(2)).sum(1)
            of_items = items[torch.from_numpy(candidates)] @ head["item_weight"]
            first = (pooled @ head["history_weight"]).unsqueeze(1) + of_items
            first = torch.relu(first + repeat @ head["repeat_weight"] + head["bias1"].view(-1))
            second = torch.relu(first @ head["weight2"] + head["bias2"].view(-1))
            return (second @ head["weight3"].view(-1) + head["bias3"].view(-1)).numpy()

        row = json.loads((self.out / "metrics.json").read_text())["heads"]["mlp"]["plain"]
        figures = example.evaluate(protocol, "test", score)
        self.assertEqual(sorted(figures), ["auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat", "logloss"])
        for name, values in figures.items():
            self.assertAlmostEqual(values.mean(), row[name]["mean"], places=3, msg=name)
        valid = example.evaluate(protocol, "valid", score, only_auc=True)["auc"].mean()
        self.assertAlmostEqual(valid, row["valid"]["mean"], places=3)

    def test_trains_saves_and_reports(self):
        done = subprocess.run([sys.executable, "-W", "ignore", str(EXAMPLE / "torch_din.py"), self.folder.name,
                               "--variants", "plain,assign,att", "--epochs", "2", "--threads", "1", "--seeds", "2"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        metrics = json.loads((self.out / "torch" / "metrics.json").read_text())
        for head in ("torch_mlp", "torch_din"):
            for variant in ("plain", "assign", "att"):
                row = metrics["heads"][head][variant]
                self.assertEqual(row["epochs"], 2)
                self.assertGreater(row["auc"]["mean"], 0.55)
                self.assertGreater(row["auc"]["high"], row["auc"]["low"])
                self.assertEqual("over_plain" in row, variant != "plain")
        # A model from its file gives finite logits, and not the same ones for every candidate.
        for path in ("mlp_plain", "din_att"):
            model = torch.jit.load(self.out / "torch" / f"{path}.pt")
            logits = model(*model.example())
            self.assertTrue(torch.isfinite(logits).all())
            self.assertGreater(float(logits.std()), 0)
            exported = torch.export.load(self.out / "torch" / f"{path}.pt2").module()
            torch.testing.assert_close(exported(*model.example()), logits)


if __name__ == "__main__":
    unittest.main()
