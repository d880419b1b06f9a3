# SPDX-License-Identifier: Apache-2.0
"""report_test.py REPORT_PY: the report of a made-up run. Exit status 77 (skipped) without numpy and matplotlib."""

import html
import importlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import report_sample  # noqa: E402

REPORT = ""


def run_report(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-B", REPORT, *arguments], capture_output=True, text=True, check=False, **options
    )


def read(folder):
    with open(os.path.join(folder, "report.html"), encoding="utf-8") as file:
        return file.read()


def text_of(page):
    return html.unescape(re.sub(r'src="data:[^"]*"', "", page))


def render(metrics, curves=None, picture=None):
    """(exit status, stderr, text of the report without the plots, number of plots): the program itself."""
    with tempfile.TemporaryDirectory() as folder:
        report_sample.write(folder, metrics, curves, picture)
        done = run_report(folder)
        page = read(folder) if done.returncode in (0, 3) else ""
    return done.returncode, done.stderr, text_of(page), page.count("data:image/svg+xml;base64,")


def text_only(metrics, curves=None):
    """The report's text, without drawing: for what is said."""
    report = importlib.import_module("report")
    plots, report.plots = report.plots, None
    try:
        with tempfile.TemporaryDirectory() as folder:
            report_sample.write(folder, metrics, curves)
            return text_of(report.page(report.Run(folder)))
    finally:
        report.plots = plots


class Report(unittest.TestCase):
    def setUp(self):
        self.metrics, self.curves, self.picture = report_sample.make(random.Random(5))

    def page(self):
        return text_only(self.metrics, self.curves)

    def test_is_self_contained_and_has_every_row_and_plot(self):
        first = render(self.metrics, self.curves, self.picture)
        code, error, text, n_plots = first
        self.assertEqual(code, 0, error)
        self.assertEqual(n_plots, 10)  # five for each head
        self.assertNotRegex(text, r"(src|href)=\"?http|<script|<link|@import")
        self.assertIn("made-up <log> & co", text)
        for name in report_sample.VARIANTS + list(self.metrics["baselines"]):
            self.assertRegex(text, rf"<td>{name}[ <]")
        shares = re.search(r"with its interest is plain (\d+) %, avg (\d+) % \((\d+) % by chance\)", text)
        self.assertTrue(shares)
        plain, graph, chance = map(int, shares.groups())
        self.assertLess(chance, plain)
        self.assertLess(plain, graph)

    def test_marks_capped_rows_and_bases_nothing_on_them(self):
        for head in self.metrics["heads"].values():
            head["att"]["auc"] = head["att"]["auc_pop"] = head["att"]["hr20"] = {"mean": 0.999, "std": None}
            head["att"]["valid"] = {"mean": 0.999, "std": None}
        text = self.page()
        self.assertIn("<td>att \u2020</td>", text)
        self.assertIn("att still improved when the limit of epochs was reached", text)
        for sentence in re.findall(r"<li[^>]*>(.*?)</li>", text):
            self.assertNotIn(".999", sentence)
            self.assertFalse("att" in sentence.split() and "limit of epochs" not in sentence, sentence)

    def test_says_when_counts_beat_the_models(self):
        del self.metrics["heads"]["dot"]
        self.assertIn("Counting beats every model trained here in hr20 (avg .272, itemknn .380)", self.page())
        self.metrics["heads"]["mlp"]["avg"]["over_baselines"]["itemknn"]["hr20"] = {
            "mean": 0.02,
            "low": 0.01,
            "high": 0.03,
        }
        self.metrics["heads"]["mlp"]["avg"]["hr20"] = {"mean": 0.4, "std": None}
        text = self.page()
        self.assertNotIn("Counting beats", text)
        self.assertIn(
            "The best model is above the best counting baseline in hr20 (avg .400, itemknn .380)", text
        )

    def test_says_where_a_part_of_hr20_is_lost(self):
        over = self.metrics["heads"]["mlp"]["avg"]["over_plain"]
        over["hr20_repeat"] = {"mean": -0.05, "low": -0.09, "high": -0.01}
        self.assertIn("lower beyond the interval in hr20_repeat -.050 (-.090 to -.010)", self.page())
        over["hr20_repeat"] = {"mean": -0.05, "low": -0.09, "high": 0.01}
        self.assertNotIn("hr20_repeat -.050", self.page())

    def test_says_when_central_alone_does_as_well(self):
        claim = "So central alone does as well here"
        self.assertIn(claim, self.page())
        for head in self.metrics["heads"].values():
            head["avg"]["over_central"]["auc"] = {"mean": 0.01, "low": 0.005, "high": 0.015}
        self.assertNotIn(claim, self.page())
        for head in self.metrics["heads"].values():
            del head["avg"]["over_central"]  # nothing paired: nothing concluded
        self.assertNotIn(claim, self.page())

    def test_counts_epochs_to_plains_best(self):
        seed = {"seed": 1, "seconds": [1, 2, 3, 4], "train_loss": [1, 1, 1, 1]}
        self.curves["mlp"]["plain"] = [
            dict(seed, epoch=[1, 2, 3, 4], valid=[0.7, 0.8, 0.9, 0.85], best_epoch=3)
        ]
        self.curves["mlp"]["avg"] = [
            dict(seed, epoch=[1, 2, 3, 4], valid=[0.91, 0.8, 0.9, 0.85], best_epoch=1)
        ]
        self.assertIn(
            "avg reaches plain's best validation auc (.900) in epoch 1, plain in epoch 3: faster",
            self.page(),
        )
        self.curves["mlp"]["avg"][0]["valid"] = [0.1, 0.2, 0.3, 0.2]
        self.assertIn("avg never reaches plain's best validation auc", self.page())

    def test_shows_what_tuning_chose(self):
        self.assertNotIn("<h3>Tuning</h3>", self.page())
        points = [
            {"lr": 0.004, "lambda": 0.003, "auc": 0.9312, "best_epoch": 9, "capped": False, "seconds": 12.0},
            {"lr": 0.002, "lambda": 0.0003, "auc": 0.9321, "best_epoch": 9, "capped": False, "seconds": 14.0},
        ]
        points.append(dict(points[0], lr=0.008, auc=0.92))
        plain = [dict(point, **{"lambda": None}) for point in points]
        self.metrics["tuning"] = {
            "mlp": {"plain": {"points": plain, "chosen": 1}, "avg": {"points": points, "chosen": 0}}
        }
        text = self.page()
        self.assertEqual(text.count("<h3>Tuning</h3>"), 1)
        self.assertIn("<td>avg</td><td>0.004</td><td>0.003</td><td>.9312</td><td>.9321</td><td>3</td><td>38</td>", text)
        self.assertIn("<td>plain</td><td>0.002 \u2020</td><td>\u2013</td><td>.9321</td>", text)

    def test_says_how_the_log_was_split(self):
        self.assertIn("Every user is in training, validation or test.", self.page())
        self.metrics["data"]["split"] = {"by": "time", "cut": 0.8}
        text = self.page()
        self.assertIn("graph, counts and training see the first 80 % of the events", text)
        self.assertNotIn("Every user is in training", text)

    def test_compares_with_the_pretrained_table(self):
        self.assertIn("avg against plain_pretrained", self.page())
        del self.metrics["heads"]["mlp"]["plain_pretrained"], self.metrics["heads"]["dot"]["plain_pretrained"]
        self.assertNotIn("avg against plain_pretrained", self.page())

    def test_reads_partial_and_old_runs(self):
        self.metrics["interrupted"] = True
        self.metrics["heads"] = {
            "mlp": {"plain": {"auc": 0.9, "hr20": None}, "new_variant": {"auc": {"mean": 0.8}}}
        }
        del self.metrics["baselines"]["itemknn"]
        code, error, text, n_plots = render(self.metrics)
        self.assertEqual(code, 0, error)
        self.assertEqual(n_plots, 1)
        self.assertIn("The run was interrupted", text)
        self.assertIn("new_variant", text)
        for empty in ({}, {"heads": {"mlp": {}}}, {"heads": {"dot": {"plain": {}}}}):
            self.assertIn("How to read this", text_only(empty))

    def test_says_that_a_model_of_every_user_has_no_test(self):
        self.assertNotIn("learned from every user", self.page())
        model = {"variant": "avg", "epochs": 9, "file": "dot/avg/seed1.safetensors"}
        self.metrics["fit_all"] = {"folder": "fit_all", "users": 5000, "models": {"dot": model}}
        text = self.page()
        self.assertIn("fit_all/dot/avg/seed1.safetensors has learned from every user, in 9 epochs", text)
        self.assertIn("No user is left to test it: the figures here are those of dot avg trained without", text)

    def test_names_of_the_catalog(self):
        n = len(self.picture["items"])
        self.picture["titles"] = [f"cup <{item}> for $5 & $6\n" if item % 3 else "" for item in range(n)]
        del self.metrics["heads"]["dot"]
        code, error, text, n_plots = render(self.metrics, None, self.picture)
        self.assertEqual((code, n_plots), (0, 4), error)
        self.assertIn("Items of the interests in the picture", text)
        self.assertIn("cup <1> for $5 & $6; cup <2> for $5 & $6; cup <4>", text)
        self.assertNotIn("Items of the interests in the picture", self.page())

    def test_seeds_and_nulls(self):
        row = self.metrics["heads"]["mlp"]["plain"]
        row["auc"]["std"] = 0.004
        row["hr20_new"] = {"mean": None, "std": None}
        self.metrics["config"]["seeds"] = 3
        text = self.page()
        self.assertIn("\u00b1.004", text)
        self.assertNotIn("One seed", text)
        self.assertNotRegex(text.lower(), r">\W*(nan|none)\W*<")

    def test_draws_the_envelope_while_training(self):
        lines = "".join(json.dumps(line) + "\n" for line in report_sample.envelope_lines())
        with tempfile.TemporaryDirectory() as folder:
            report_sample.write(folder, self.metrics)
            with open(os.path.join(folder, "envelope.jsonl"), "w", encoding="utf-8") as file:
                file.write(lines + '{"head": "mlp", "va')  # as a crash may leave it
            done = run_report(folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            page = read(folder)
        self.assertEqual(page.count("Ratio and radius while training, mlp"), 1)
        self.assertNotIn("Ratio and radius while training, dot", page)

    def test_a_sweep_has_its_page_and_picture(self):
        sweep = dict(report_sample.sweep(self.metrics), interrupted=True)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sweep.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(sweep, file)
            done = run_report(folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            page = read(folder)
            with open(os.path.join(folder, "sweep.svg"), encoding="utf-8") as file:
                self.assertIn("<svg", file.read())
            text = text_of(page)
            self.assertEqual(page.count("data:image/svg+xml;base64,"), 1)
            self.assertIn("A sweep of lambda", text)
            self.assertIn("made-up <log> & co", text)
            self.assertIn('<a href="lambda=0.001/report.html">0.001</a>', text)
            # avg at the middle value: auc .934, and minus plain's of the same run.
            self.assertRegex(text, r"<td>avg</td><td class=best>0.001</td><td>\.934</td>.*\+\.011 <small>")
            self.assertRegex(text, "<td>avg \u2020</td><td>0.01</td>")
            self.assertIn("The sweep was interrupted", text)

    def test_says_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run_report(folder)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("metrics.json: no such file; run resembed-train first", done.stderr)
            with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as file:
                file.write("{")
            done = run_report(folder)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("metrics.json: ", done.stderr)
        self.assertEqual(run_report().returncode, 2)

    def test_without_matplotlib_keeps_tables_and_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            report_sample.write(folder, self.metrics, self.curves, self.picture)
            with open(os.path.join(folder, "matplotlib.py"), "w", encoding="utf-8") as file:
                file.write("raise ImportError('No module named matplotlib')\n")
            done = run_report(folder, env=dict(os.environ, PYTHONPATH=folder))
            self.assertEqual(done.returncode, 3)
            self.assertIn("the report has no plots", done.stderr)
            text = read(folder)
            self.assertIn("Plots are missing", text)
            self.assertIn("<td>plain_2x</td>", text)


if __name__ == "__main__":
    REPORT = os.path.abspath(sys.argv.pop(1))
    sys.path.insert(0, os.path.dirname(REPORT))
    try:
        import matplotlib  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error}; the report's tests need numpy and matplotlib")
        sys.exit(77)
    unittest.main()
