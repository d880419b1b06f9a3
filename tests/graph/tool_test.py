# SPDX-License-Identifier: Apache-2.0
"""resembed-graph from the outside, and the SQL of docs/graph.md: a log in, the same graph by every road.

Usage: tool_test.py PROGRAM ROOT TRAINER"""
import collections
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import unittest

PROGRAM, ROOT, TRAINER = (sys.argv + ["", "", ""])[1:4]


def make_log(seed, n_users=200, n_items=120, days=1):
    """(user, item, time) in time order; an item's name is its number of first appearance."""
    rng = random.Random(seed)
    raw = []
    for user in range(n_users):
        time = rng.randrange(1000)
        for _ in range(rng.randrange(0, 40)):
            time += rng.randrange(1, 200)
            raw.append((time, user, int(n_items * rng.random() ** 2)))
    raw.sort(key=lambda event: event[0])
    number = {}
    return [("u%d" % user, str(number.setdefault(item, len(number))), time) for time, user, item in raw]


def oracle(events, k, window=2):
    """item -> [(neighbor, count)] by plain loops."""
    sequences = collections.defaultdict(list)
    for user, item, _ in events:
        sequences[user].append(int(item))
    pairs = collections.Counter()
    for sequence in sequences.values():
        for at, item in enumerate(sequence):
            for other in sequence[at + 1:at + 1 + window]:
                if other != item:
                    pairs[item, other] += 1
                    pairs[other, item] += 1
    rows = collections.defaultdict(list)
    for (item, other), count in pairs.items():
        rows[item].append((-count, other))
    return [(str(item), str(other), -count) for item in sorted(rows) for count, other in sorted(rows[item])[:k]]


class Tool(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, rows, header="user\titem\ttime"):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(header + "\n" + "".join("%s\t%s\t%s\n" % row for row in rows))
        return self.path(name)

    def run_tool(self, *arguments, code=0):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def edges(self, state):
        self.run_tool("export", "--state", self.path(state), "--edges", self.path("edges.tsv"))
        with open(self.path("edges.tsv"), encoding="ascii") as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[0], "item\tneighbor\tweight")
        return [(item, other, int(count)) for item, other, count in (line.split("\t") for line in lines[1:])]

    def bytes_of(self, *parts):
        with open(os.path.join(self.folder.name, *parts), "rb") as file:
            return file.read()

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

    def test_update_equals_rebuild(self):
        events = make_log(3)
        first, second = len(events) // 2, 3 * len(events) // 4
        for extra in ((), ("--session-gap", "90", "--neighbors", "4")):
            whole = self.write("log.tsv", events)
            self.run_tool("build", "--data", whole, "--out", self.path("whole"), *extra)
            self.run_tool("build", "--data", self.write("d0.tsv", events[:first]), "--out", self.path("s"), *extra)
            for day, rows in (("d1.tsv", events[first:second]), ("d2.tsv", events[second:])):
                self.run_tool("update", "--data", self.write(day, rows), "--state", self.path("s"))
            for name in ("counts.safetensors", "items.tsv", "tails.tsv"):
                self.assertEqual(self.bytes_of("s", name), self.bytes_of("whole", name), name)
            self.assertEqual(self.edges("s"), self.edges("whole"))

    def test_removed_items_are_gone_and_rows_say_where_they_come_from(self):
        events = make_log(4)
        self.run_tool("build", "--data", self.write("log.tsv", events), "--out", self.path("a"))
        with open(self.path("gone.txt"), "w", encoding="ascii") as file:
            file.write("3\n17\n")
        self.run_tool("update", "--data", self.write("day.tsv", [("u1", "new", 10 ** 6), ("u1", "5", 10 ** 6 + 1)]),
                      "--state", self.path("a"), "--out", self.path("b"), "--remove", self.path("gone.txt"))
        with open(self.path("b/items.tsv"), encoding="ascii") as file:
            names = [line.split("\t")[1] for line in file.read().splitlines()[1:]]
        self.assertNotIn("3", names)
        self.assertEqual(names[-1], "new")
        edges = self.edges("b")
        self.assertFalse({"3", "17"} & {side for edge in edges for side in edge[:2]})
        self.assertIn(("new", "5", 1), edges)
        header = self.bytes_of("b", "graph.safetensors")[8:].split(b"}}")[0]
        self.assertIn(b'"source"', header)
        self.assertIn(b'"center_source"', header)

    def test_decay(self):
        rows = [("u", "a", 1), ("u", "b", 2)]
        self.run_tool("build", "--data", self.write("d.tsv", rows), "--out", self.path("s"), "--pair-value", "1000")
        self.run_tool("update", "--data", self.write("e.tsv", [("v", "a", 3), ("v", "b", 4)]), "--state",
                      self.path("s"), "--decay", "0.5")
        self.assertEqual(self.edges("s"), [("a", "b", 1500), ("b", "a", 1500)])

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
        self.assertEqual(self.bytes_of("h", "graph.safetensors"), self.bytes_of("g", "graph.safetensors"))

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

    def tensor(self, folder, name):
        data = self.bytes_of(folder, "graph.safetensors")
        size = int.from_bytes(data[:8], "little")
        begin, end = json.loads(data[8:8 + size])[name]["data_offsets"]
        return data[8 + size + begin:8 + size + end]

    def test_the_trainer_takes_a_graph_and_it_is_its_own(self):
        log = self.write("log.tsv", make_log(7, n_users=400))
        self.run_tool("build", "--data", log, "--out", self.path("g"), "--train-users")
        figures = []
        for out, extra in (("own", ()), ("given", ("--graph", self.path("g")))):
            command = [TRAINER, "--data", log, "--out", self.path(out), "--head", "dot", "--variants", "avg", "--epochs",
                       "2", "--dim", "8", "--no-report", *extra]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            figures.append(re.findall(r"^.*avg.*$", done.stdout, re.M))
            for name in ("neighbors", "counts", "gcn_weights", "center_of"):
                self.assertEqual(self.tensor(out, name), self.tensor("g", name), name)
        self.assertTrue(figures[0])
        self.assertEqual(figures[0], figures[1])
        other = self.write("other.tsv", make_log(8, n_users=400, n_items=60))
        self.run_tool("build", "--data", other, "--out", self.path("h"))
        done = subprocess.run([TRAINER, "--data", log, "--out", self.path("x"), "--graph", self.path("h")],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs the items of the log", done.stderr)

    def test_faults_are_said_with_file_and_line(self):
        edges = self.write("e.tsv", [("a", "b", "2"), ("b", "a", "0.5")], header="item\tneighbor\tweight")
        said = self.run_tool("import", "--edges", edges, "--out", self.path("g"), code=1).stderr
        self.assertIn('e.tsv:3: the weight "0.5" is no whole number', said)
        edges = self.write("e.tsv", [("a", "b", "2"), ("a", "b", "3")], header="item\tneighbor\tweight")
        self.assertIn("is given twice", self.run_tool("import", "--edges", edges, "--out", self.path("g"), code=1).stderr)
        self.run_tool("build", "--data", self.path("none.tsv"), "--out", self.path("g"), code=1)
        self.run_tool("build", "--neighbors", "65", "--data", "x", "--out", "y", code=2)
        self.run_tool(code=2)

    def test_sql_of_the_docs_makes_the_same_graph(self):
        with open(os.path.join(ROOT, "docs", "graph.md"), encoding="ascii") as file:
            statements = re.findall(r"^```sql\n(.*?)^```", file.read(), re.S | re.M)
        self.assertEqual(len(statements), 1)
        events = make_log(6)
        self.run_tool("build", "--data", self.write("log.tsv", events), "--out", self.path("g"))
        made = {}
        database = sqlite3.connect(":memory:")
        database.execute("create table clicks (user_id text, item integer, time integer)")
        database.executemany("insert into clicks values (?, ?, ?)", [(u, int(i), t) for u, i, t in events])
        made["sqlite " + sqlite3.sqlite_version] = database.execute(statements[0]).fetchall()
        try:
            import duckdb
            other = duckdb.connect()
            other.execute("create table clicks (user_id varchar, item integer, time bigint)")
            other.executemany("insert into clicks values (?, ?, ?)", [(u, int(i), t) for u, i, t in events])
            made["duckdb " + duckdb.__version__] = other.execute(statements[0]).fetchall()
        except ImportError:
            pass
        for engine, rows in made.items():
            print("SQL of docs/graph.md by", engine, len(rows), "edges")
            table = self.write("sql.tsv", rows, header="item\tneighbor\tweight")
            self.run_tool("import", "--edges", table, "--items", self.path("g/items.tsv"), "--out", self.path("h"))
            self.assertEqual(self.edges("h"), self.edges("g"))
            self.assertEqual(self.bytes_of("h", "graph.safetensors"), self.bytes_of("g", "graph.safetensors"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
