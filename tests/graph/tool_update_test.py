# SPDX-License-Identifier: Apache-2.0
"""resembed-graph update from the outside: equal to a rebuild, for the same users, and whole wherever it is stopped.

Usage: tool_update_test.py PROGRAM ROOT TRAINER"""
import collections
import fcntl
import os
import random
import shutil
import subprocess
import sys
import unittest

from tool_support import PROGRAM, TRAINER, ToolTest, make_log

# Loaded before libc: at the INTERRUPT_AT-th rename or removal the program is killed, or that call fails.
INTERRUPT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
static int interrupted(void) {
  static int calls;
  if (++calls != atoi(getenv("INTERRUPT_AT"))) return 0;
  if (strcmp(getenv("INTERRUPT_HOW"), "kill") == 0) raise(SIGKILL);
  errno = EIO;
  return 1;
}
int rename(const char* from, const char* to) {
  int (*next)(const char*, const char*) = (int (*)(const char*, const char*))dlsym(RTLD_NEXT, "rename");
  return interrupted() ? -1 : next(from, to);
}
int remove(const char* path) {
  int (*next)(const char*) = (int (*)(const char*))dlsym(RTLD_NEXT, "remove");
  return interrupted() ? -1 : next(path);
}
"""


class Update(ToolTest):
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

    def test_training_users_stay_the_only_ones_through_updates(self):
        events = make_log(11, n_users=300)
        rng = random.Random(11)
        short = [("s%d" % at, str(rng.randrange(120)), 10 ** 5 + at) for at in range(60) for _ in range(at % 5)]
        events += sorted(short, key=lambda event: rng.random())  # users of 0 .. 4 events, on several days
        log = self.write("log.tsv", [(u, i, at) for at, (u, i, _) in enumerate(events)])
        for seed, extra in (((), ()), ((), ("--window", "1")), (("--split-seed", "7"), ("--session-gap", "90"))):
            build = ("--train-users", *seed, *extra)
            self.run_tool("build", "--data", log, "--out", self.path("whole"), *build)
            self.run_tool("build", "--data", log, "--out", self.path("all"), *extra)
            self.assertNotEqual(self.edges("whole"), self.edges("all"))
            cuts = [0, len(events) // 3, len(events) - 90, len(events) - 60, len(events) - 30, len(events)]
            for number, (begin, end) in enumerate(zip(cuts, cuts[1:])):
                day = self.write("day.tsv", [(events[at][0], events[at][1], at) for at in range(begin, end)])
                if number == 0:
                    self.run_tool("build", "--data", day, "--out", self.path("s"), *build)
                else:  # the stored counts say whose they are; who says it again may
                    again = ("--train-users", *seed) if number % 2 else ()
                    self.run_tool("update", "--data", day, "--state", self.path("s"), *again)
            for name in ("counts.safetensors", "items.tsv", "tails.tsv"):
                self.assertEqual(self.bytes_of("s", name), self.bytes_of("whole", name), (build, name))
            self.assertEqual(self.edges("s"), self.edges("whole"))
        said = self.run_tool("update", "--data", log, "--state", self.path("s"), "--train-users", code=1).stderr
        self.assertIn("--split-seed is 1; %s was built with 7; needs the same users" % self.path("s"), said)
        said = self.run_tool("update", "--data", log, "--state", self.path("all"), "--train-users", code=1).stderr
        self.assertIn("--train-users is given; %s was built of all users" % self.path("all"), said)
        self.run_tool("build", "--data", log, "--out", self.path("x"), "--split-seed", "7", code=2)
        silent = self.bytes_of("all", "counts.safetensors").replace(b"train_users", b"other_users")
        with open(self.path("all/counts.safetensors"), "wb") as file:
            file.write(silent)
        said = self.run_tool("update", "--data", log, "--state", self.path("all"), code=1).stderr
        self.assertIn("does not say whose events it counts; needs a new build", said)

    FILES = ("graph.safetensors", "counts.safetensors", "items.tsv", "tails.tsv")

    def files(self, folder):
        return {name: self.bytes_of(folder, name) for name in sorted(os.listdir(self.path(folder)))}

    def test_a_writer_stopped_at_any_place_has_counted_nothing(self):
        """Killed at each of its renames and removals, the same update again gives what it gives undisturbed."""
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang", "c++"))), None)
        if compiler is None:
            self.skipTest("no C compiler to make the interrupting library")
        library = self.path("interrupt.so")
        with open(self.path("interrupt.c"), "w", encoding="ascii") as file:
            file.write(INTERRUPT)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, self.path("interrupt.c"), "-ldl"], check=True)
        events = make_log(12, n_users=40)
        half = len(events) // 2
        self.run_tool("build", "--data", self.write("d0.tsv", events[:half]), "--out", self.path("before"))
        day = self.write("d1.tsv", events[half:])
        self.run_tool("update", "--data", day, "--state", self.path("before"), "--out", self.path("after"))
        before, after = self.files("before"), self.files("after")
        self.assertEqual(tuple(sorted(before)), tuple(sorted(self.FILES)))
        for how in ("kill", "fail"):
            for same_folder in (True, False):
                seen = collections.Counter()
                for call in range(1, 100):
                    shutil.rmtree(self.path("s"), ignore_errors=True)
                    shutil.rmtree(self.path("o"), ignore_errors=True)
                    shutil.copytree(self.path("before"), self.path("s"))
                    arguments = ["update", "--data", day, "--state", self.path("s")]
                    if not same_folder:
                        shutil.copytree(self.path("before"), self.path("o"))
                        arguments += ["--out", self.path("o")]
                    done = subprocess.run([PROGRAM, "--quiet", *arguments], capture_output=True, text=True,
                                          env={**os.environ, "LD_PRELOAD": library, "INTERRUPT_HOW": how,
                                               "INTERRUPT_AT": str(call)})
                    target = "s" if same_folder else "o"
                    if done.returncode == 0 and self.files(target) == after:
                        break  # past its last call
                    if os.path.exists(os.path.join(self.path(target), "replacing.txt")):
                        seen["marked"] += 1
                        # Whoever looks at the folder first puts it right; the trainer only says so.
                        shutil.copytree(self.path(target), self.path("t"))
                        said = subprocess.run([TRAINER, "--data", day, "--out", self.path("x"), "--graph",
                                               self.path("t")], capture_output=True, text=True)
                        self.assertEqual(said.returncode, 1)
                        self.assertIn("was stopped while it replaced the graph", said.stderr)
                        self.run_tool("inspect", "--state", self.path("t"))
                        self.assertEqual(self.files("t"), before)
                        shutil.rmtree(self.path("t"))
                    elif all(self.bytes_of(target, name) == after[name] for name in self.FILES):
                        seen["done"] += 1  # while it removed the old files: the day is counted
                        continue
                    else:
                        seen["old"] += 1
                        self.assertNotEqual(done.returncode, 0)
                        for name in self.FILES:
                            self.assertEqual(self.bytes_of(target, name), before[name], (how, call, name))
                    self.run_tool(*arguments)
                    self.assertEqual(self.files(target), after, (how, call))
                self.assertEqual(self.files(target), after)
                self.assertGreater(seen["old"], 3, seen)
                self.assertEqual(seen["marked"], 9 if how == "kill" else 0, seen)  # 8 renames, and that of the mark
                self.assertEqual(seen["done"], 4, seen)

    def test_one_writer_at_a_time(self):
        log = self.write("log.tsv", make_log(13, n_users=40))
        self.run_tool("build", "--data", log, "--out", self.path("s"))
        folder = os.open(self.path("s"), os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        said = self.run_tool("update", "--data", log, "--state", self.path("s"), code=1).stderr
        self.assertIn("another resembed-graph writes there", said)
        os.close(folder)
        self.run_tool("update", "--data", log, "--state", self.path("s"))

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
        for factor in ("0", "-1", "1.5", "nan", "half"):
            said = self.run_tool("update", "--data", self.path("e.tsv"), "--state", self.path("s"), "--decay", factor,
                                 code=2).stderr
            self.assertIn("--decay: is %s; needs a factor > 0 and at most 1, or to be left out" % factor, said)
        self.assertEqual(self.edges("s"), [("a", "b", 1500), ("b", "a", 1500)])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
