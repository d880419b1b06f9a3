# SPDX-License-Identifier: Apache-2.0
"""resembed-graph from the outside, and the SQL of docs/graph.md: a log in, the same graph by every road.

Usage: tool_test.py PROGRAM ROOT TRAINER"""
import collections
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import unittest

from tool_support import PROGRAM, ROOT, TRAINER, ToolTest, make_log, oracle


class Tool(ToolTest):
    def test_build_is_algorithm_1(self):
        events = make_log(1)
        log = self.write("log.tsv", events)
        self.run_tool("build", "--data", log, "--out", self.path("g"), "--neighbors", "5", "--window", "3")
        self.assertEqual(self.edges("g"), oracle(events, 5, 3))

    def test_little_memory_gives_the_same_files(self):
        events = make_log(2, n_users=2500)
        log = self.write("log.tsv", events)
        self.run_tool("build", "--data", log, "--out", self.path("a"))
        self.run_tool("build", "--data", log, "--out", self.path("b"), "--memory", "0.001")
        for name in ("graph.safetensors", "counts.safetensors", "items.tsv", "tails.tsv"):
            self.assertEqual(self.bytes_of("a", name), self.bytes_of("b", name), name)

    def test_progress_is_shown_in_every_stage(self):
        log = self.write("log.tsv", make_log(14))
        arguments = ["build", "--data", log, "--out", self.path("s"), "--two-hop"]
        said = self.run_tool(*arguments).stderr
        self.assertRegex(said, r"(?m)^counting 100 %, \d+ events/s, \d+\.\d s$")
        for stage in ("merging counts", r"lists of \d+ items", r"centers of \d+ items", "two hops", "writing"):
            self.assertRegex(said, r"(?m)^%s, \d+\.\d s$" % stage)
        self.assertRegex(self.run_tool("update", "--data", self.write("day.tsv", [("new", "a", 10 ** 6)]), "--state",
                                       self.path("s")).stderr, r"(?m)^stored counts, \d+\.\d s$")
        self.assertEqual(self.run_tool("--quiet", *arguments).stderr, "")

    def test_a_terminal_sees_each_stage_from_its_start_on(self):
        arguments = ["build", "--data", self.write("log.tsv", make_log(14)), "--out", self.path("s"), "--two-hop"]
        try:
            main, side = os.openpty()
        except OSError as error:
            self.skipTest(f"no pseudo-terminal: {error.strerror}")
        with subprocess.Popen([PROGRAM, *arguments], stderr=side) as program:
            os.close(side)
            shown = b""
            try:
                while True:
                    part = os.read(main, 65536)
                    if not part:
                        break
                    shown += part
            except OSError:  # how a terminal whose other side is closed ends
                pass
            self.assertEqual(program.wait(), 0)
        os.close(main)
        self.assertIn(b"\r\x1b[Kcounting 0 %", shown)
        for stage in (b"merging counts", b"lists of", b"centers of", b"two hops", b"writing"):
            self.assertRegex(shown, rb"\r\x1b\[K%s[^\r\n]* \.\.\. 0\.\d s\r\x1b\[K" % stage)

    def test_names_with_tabs_and_backslashes_come_back(self):
        with open(self.path("log.csv"), "w", encoding="ascii") as file:
            file.write('user,item,time\nu,"a\tb\\c",1\nu,d,2\n')
        self.run_tool("build", "--data", self.path("log.csv"), "--out", self.path("g"))
        self.run_tool("export", "--state", self.path("g"), "--edges", self.path("e.tsv"))
        self.run_tool("import", "--edges", self.path("e.tsv"), "--items", self.path("g/items.tsv"), "--out",
                      self.path("h"))
        self.assertEqual(self.bytes_of("g", "items.tsv"), self.bytes_of("h", "items.tsv"))
        self.assertEqual(self.edges("g"), self.edges("h"))

    def test_inspect_says_degrees_ties_and_neighbors(self):
        rows = [("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "c", 2)]
        self.run_tool("build", "--data", self.write("d.tsv", rows), "--out", self.path("s"), "--neighbors", "2")
        with open(self.path("names.tsv"), "w", encoding="ascii") as file:
            file.write("item\tname\nb\tBLUE BAG\n")
        said = self.run_tool("inspect", "--state", self.path("s"), "--item", "a", "--names", self.path("names.tsv")).stdout
        self.assertIn("3 items, 4 edges, K 2", said)
        self.assertRegex(said, r"neighbors  items\n +1  2\n +2  1\n")
        self.assertIn("full lists whose last two counts tie: 100.0 %", said)
        self.assertRegex(said, r"a \(row 0, center 0\)\n +1  b  BLUE BAG\n +1  c\n")

    def test_options_reach_the_library(self):
        events = make_log(5)
        log = self.write("log.tsv", events)
        self.run_tool("build", "--data", log, "--out", self.path("p"))
        plain = self.edges("p")
        for extra in (("--min-count", "3"), ("--popularity", "0.5"), ("--self-loop", "-1"), ("--max-user-items", "4"),
                      ("--symmetrize", "mutual"), ("--session-gap", "50"), ("--max-pair-uses", "1")):
            self.run_tool("build", "--data", log, "--out", self.path("o"), *extra)
            self.assertNotEqual(self.edges("o"), plain, extra)
        # A union of lists that are symmetric by count is those lists: seen where popularity ranks them.
        for folder, extra in (("a", ()), ("b", ("--symmetrize", "union"))):
            self.run_tool("build", "--data", log, "--out", self.path(folder), "--popularity", "1", *extra)
        ranked, union = ({edge[:2] for edge in self.edges(folder)} for folder in "ab")
        self.assertTrue(union - ranked)
        self.assertFalse({(b, a) for a, b in union - ranked} - ranked)

    def test_options_of_centers_and_two_hops_reach_the_library(self):
        events = make_log(5) + [("alone", "cold", 10 ** 6)]
        log = self.write("log.tsv", events)

        def centers(*extra):
            self.run_tool("build", "--data", log, "--out", self.path("o"), *extra)
            return self.numbers("o", "center_of", "i")
        plain = centers()
        cold = len(plain) - 1
        self.assertEqual([row for row, center in enumerate(plain) if center < 0], [cold])
        self.assertGreater(max(plain), 1)
        self.assertGreater(max(centers("--resolution", "20")), max(plain))
        self.assertEqual(max(centers("--max-centers", "2")), 1)
        sizes = collections.Counter(centers("--max-center-items", "3"))
        self.assertEqual(max(count for center, count in sizes.items() if center >= 0), 3)
        self.assertGreater(max(collections.Counter(plain).values()), 3)
        self.assertEqual(centers("--cold-center"), plain[:cold] + [max(plain) + 1])

        self.assertNotIn("two_hop_neighbors", self.tensors("o"))
        centers("--two-hop", "--neighbors", "3")
        one, two = self.numbers("o", "neighbors", "i"), self.numbers("o", "two_hop_neighbors", "i")
        self.assertEqual(len(one), len(two))
        weights = self.numbers("o", "two_hop_weights", "f")
        reached = {one[3 * other + hop] for other in one[:3] if other >= 0 for hop in range(3)}
        self.assertLessEqual(set(two[:3]), reached)
        self.assertTrue(weights[0] >= weights[1] >= weights[2] > 0)

    def test_the_backend_is_a_switch(self):
        """With a GPU the same files; without one a sentence, before the log is read."""
        log = self.write("log.tsv", make_log(9))
        self.run_tool("build", "--data", log, "--out", self.path("g"), "--backend", "cpu")
        self.run_tool("build", "--backend", "tpu", "--data", log, "--out", self.path("h"), code=2)
        done = subprocess.run([PROGRAM, "build", "--backend", "cuda", "--data", log, "--out", self.path("h")],
                              capture_output=True, text=True)
        if done.returncode == 0:
            for name in ("graph.safetensors", "counts.safetensors"):
                self.assertEqual(self.bytes_of("g", name), self.bytes_of("h", name), name)
        else:
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"^resembed-graph: --backend is cuda: backend_available: .+; needs .+\n$")
            self.assertFalse(os.path.exists(self.path("h")))

    def convert(self, source, target, *more, code=0):
        script = os.path.join(ROOT, "host", "graph_tool", "edges.py")
        done = subprocess.run([sys.executable, "-B", script, self.path(source), self.path(target), *more],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def test_parquet_and_arrow_files_go_in_and_out(self):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            self.skipTest("pyarrow is not installed")
        names = ["a\\tb", "c\\", "d\\\\t", "e", "\u00e9", "f g"]
        rows = [("u%d" % (at % 7), name, at) for at, name in enumerate(names * 9)]
        self.run_tool("build", "--data", self.write("log.tsv", rows), "--out", self.path("g"))
        self.run_tool("export", "--state", self.path("g"), "--edges", self.path("e.tsv"))
        for kind in ("parquet", "arrow"):
            self.convert("e.tsv", "e." + kind)
            self.convert("e." + kind, kind + ".tsv")
            self.assertEqual(self.bytes_of("", kind + ".tsv"), self.bytes_of("", "e.tsv"))
        self.run_tool("import", "--edges", self.path("parquet.tsv"), "--items", self.path("g/items.tsv"), "--out",
                      self.path("h"))
        self.assertEqual(self.tensors("h"), self.tensors("g"))

        def refused(item, neighbor, weight, *more):
            columns = {"item": item, "neighbor": neighbor, "weight": weight, "rest": [0] * len(item)}
            pyarrow.parquet.write_table(pyarrow.table(columns), self.path("x.parquet"))
            said = self.convert("x.parquet", "x.tsv", *more, code=1)
            self.assertFalse(os.path.exists(self.path("x.tsv")))
            return said
        self.assertIn("row 2: weight is 0.5; needs an integer, or --scale", refused([1, 2], [2, 1], [2.0, 0.5]))
        self.assertIn("row 1: weight is 0.001; needs 1 to 2^63 - 1 after", refused([1], [2], [0.001], "--scale", "9"))
        self.assertIn("row 1: weight is nan", refused([1], [2], [float("nan")]))
        self.assertIn("row 2: neighbor is None", refused(["a", "b"], ["c", None], [1, 1]))
        def write(columns):
            pyarrow.parquet.write_table(pyarrow.table(columns), self.path("x.parquet"))
        write({"item": [1], "other": [2], "weight": [0.25]})
        self.assertIn("has the columns item, other, weight", self.convert("x.parquet", "x.tsv", code=1))
        write({"weight": [0.25], "neighbor": [2], "item": [1]})
        self.convert("x.parquet", "x.tsv", "--scale", "1000")
        self.assertEqual(self.bytes_of("", "x.tsv"), b"item\tneighbor\tweight\n1\t2\t250\n")
        # and what only the import can see
        write({"item": [1, 1], "neighbor": [2, 2], "weight": [3, 4]})
        self.convert("x.parquet", "x.tsv")
        self.assertIn("is given twice",
                      self.run_tool("import", "--edges", self.path("x.tsv"), "--out", self.path("i"), code=1).stderr)

    def test_edges_without_pyarrow_say_so(self):
        with open(self.path("e.parquet"), "wb") as file:
            file.write(b"no parquet")
        said = self.convert("e.parquet", "e.tsv", code=1)
        self.assertRegex(said, r"^edges.py: (.*e.parquet: .+|No module named 'pyarrow.*; needs pyarrow)\n$")
        self.convert("e.parquet", "e.arrow", code=2)

    def train(self, log, out, *extra, code=0):
        done = subprocess.run([TRAINER, "--data", log, "--out", self.path(out), "--head", "dot", "--variants", "avg",
                               "--epochs", "2", "--dim", "8", "--no-report", *extra], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def metrics(self, out):
        """(facts of the graph, figures of the row) in metrics.json."""
        with open(self.path(out + "/metrics.json"), encoding="utf-8") as file:
            metrics = json.load(file)
        row = metrics["heads"]["dot"]["avg"]
        del row["seconds"], row["samples_per_second"], row["envelope"]["log"]["cost_share"]
        return metrics["data"]["graph"], row

    def test_the_trainer_takes_a_graph_and_it_is_its_own(self):
        log = self.write("log.tsv", make_log(7, n_users=400))
        self.run_tool("build", "--data", log, "--out", self.path("g"), "--train-users")
        self.train(log, "own")
        self.train(log, "given", "--graph", self.path("g"))
        for out in ("own", "given"):
            for name in ("neighbors", "counts", "gcn_weights", "center_of"):
                self.assertEqual(self.tensor(out, name), self.tensor("g", name), name)
            graph = self.metrics(out)[0]
            n_pairs = self.header("g", "counts.safetensors")["pairs"]["shape"][0]
            self.assertEqual((graph["window"], graph["neighbors"], graph["pairs"]), (2, 8, n_pairs))
        self.assertGreater(self.metrics("own")[1]["auc"]["mean"], 0)
        self.assertEqual(self.metrics("own")[1], self.metrics("given")[1])
        other = self.write("other.tsv", make_log(8, n_users=400, n_items=60))
        self.run_tool("build", "--data", other, "--out", self.path("h"))
        self.assertIn("needs the items of the log", self.train(log, "x", "--graph", self.path("h"), code=1))
        # What only the builder of a graph decides is refused, and what an imported one does not say is null.
        for option, value in (("--window", "2"), ("--neighbors", "8"), ("--resolution", "1")):
            self.assertIn("%s is given with --graph; needs one of them" % option,
                          self.train(log, "x", "--graph", self.path("g"), option, value, code=2))
        self.edges("g")
        self.run_tool("import", "--edges", self.path("edges.tsv"), "--items", self.path("g/items.tsv"), "--out",
                      self.path("imported"))
        said = self.train(log, "x", "--graph", self.path("imported"))
        self.assertIn("an unknown number of pairs", said)
        graph, row = self.metrics("x")
        self.assertEqual((graph["window"], graph["neighbors"], graph["pairs"]), (None, 8, None))
        self.assertEqual(row, self.metrics("own")[1])

    def test_a_run_goes_on_with_the_graph_it_was_started_with(self):
        """Wherever that lies, and with no other that lies in its place."""
        log = self.write("log.tsv", make_log(7, n_users=400))
        build = ("build", "--data", log, "--train-users", "--out", self.path("g"))
        self.run_tool(*build)
        self.train(log, "run", "--graph", self.path("g"))
        figures = self.metrics("run")
        shutil.move(self.path("g"), self.path("moved"))
        self.train(log, "run", "--graph", self.path("moved"), "--resume")
        self.assertEqual(self.metrics("run"), figures)
        self.run_tool(*build, "--popularity", "1")
        said = self.train(log, "run", "--graph", self.path("g"), "--resume", code=1)
        self.assertRegex(said, r'--resume: content of --graph is "\d+", was "\d+" when .* was started')

    def test_faults_are_said_with_file_and_line(self):
        edges = self.write("e.tsv", [("a", "b", "2"), ("b", "a", "0.5")], header="item\tneighbor\tweight")
        said = self.run_tool("import", "--edges", edges, "--out", self.path("g"), code=1).stderr
        self.assertIn('e.tsv:3: the weight "0.5" is no whole number', said)
        edges = self.write("e.tsv", [("a", "b", "2"), ("a", "b", "3")], header="item\tneighbor\tweight")
        self.assertIn("is given twice", self.run_tool("import", "--edges", edges, "--out", self.path("g"), code=1).stderr)
        self.run_tool("build", "--data", self.path("none.tsv"), "--out", self.path("g"), code=1)
        self.run_tool("build", "--neighbors", "65", "--data", "x", "--out", "y", code=2)
        self.run_tool(code=2)

    def check_sql(self, engine, run):
        """run(statement, events) -> rows of the statement of docs/graph.md."""
        with open(os.path.join(ROOT, "docs", "graph.md"), encoding="ascii") as file:
            statements = re.findall(r"^```sql\n(.*?)^```", file.read(), re.S | re.M)
        self.assertEqual(len(statements), 1)
        events = make_log(6)
        self.run_tool("build", "--data", self.write("log.tsv", events), "--out", self.path("g"))
        rows = run(statements[0], [(user, int(item), time) for user, item, time in events])
        print("SQL of docs/graph.md by", engine, len(rows), "edges")
        table = self.write("sql.tsv", rows, header="item\tneighbor\tweight")
        self.run_tool("import", "--edges", table, "--items", self.path("g/items.tsv"), "--out", self.path("h"))
        self.assertEqual(self.edges("h"), self.edges("g"))
        self.assertEqual(self.tensors("h"), self.tensors("g"))

    def test_sql_of_the_docs_makes_the_same_graph(self):
        def run(statement, events):
            database = sqlite3.connect(":memory:")
            database.execute("create table clicks (user_id text, item integer, time integer)")
            database.executemany("insert into clicks values (?, ?, ?)", events)
            return database.execute(statement).fetchall()
        self.check_sql("SQLite " + sqlite3.sqlite_version, run)

    def test_sql_of_the_docs_makes_the_same_graph_with_duckdb(self):
        try:
            import duckdb
        except ImportError:
            self.skipTest("duckdb is not installed")

        def run(statement, events):
            database = duckdb.connect()
            database.execute("create table clicks (user_id varchar, item integer, time bigint)")
            database.executemany("insert into clicks values (?, ?, ?)", events)
            return database.execute(statement).fetchall()
        self.check_sql("DuckDB " + duckdb.__version__, run)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
