# SPDX-License-Identifier: Apache-2.0
"""What the tests of resembed-graph share: logs, Algorithm 1 by plain loops, folders, the program and its files."""
import array
import collections
import json
import os
import random
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


class ToolTest(unittest.TestCase):
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

    def header(self, folder, file="graph.safetensors"):
        data = self.bytes_of(folder, file)
        return json.loads(data[8:8 + int.from_bytes(data[:8], "little")])

    def tensors(self, folder):
        """name -> (dtype, shape, bytes); the metadata of a built graph say more than those of an imported one."""
        data = self.bytes_of(folder, "graph.safetensors")
        begin = 8 + int.from_bytes(data[:8], "little")
        return {name: (entry["dtype"], entry["shape"], data[begin + entry["data_offsets"][0]:
                                                            begin + entry["data_offsets"][1]])
                for name, entry in self.header(folder).items() if name != "__metadata__"}

    def tensor(self, folder, name):
        return self.tensors(folder)[name][2]

    def numbers(self, folder, name, kind):
        return array.array(kind, self.tensor(folder, name)).tolist()
