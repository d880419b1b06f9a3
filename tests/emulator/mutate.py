# SPDX-License-Identifier: Apache-2.0
"""Do the emulated tests notice a broken kernel? Compiles every one-line mutant of kernels/ (barriers, fences and atomics
dropped, comparisons and guards turned, constants off by one: mutations.py) into one copy of the kernels behind a
switch, and runs, for each mutant, the tests in which it computes something else, the quickest first, up to the first
failure.

Usage: mutate.py BUILD... [--only TEXT]... [--sample N] [--seed N] [--jobs N] [--orders A,B] [--list]
                 [--write FOLDER [--new | --survivors]]
       mutate.py --check FOLDER
       mutate.py BUILD --live FOLDER [--only TEXT]... [--sample N]

Each BUILD is a build folder of this tree, made with Ninja, CMAKE_EXPORT_COMPILE_COMMANDS=ON and the target
emulated_tests built: a plain one, then one under AddressSanitizer, then one under ThreadSanitizer. A mutant goes on to
the next folder when those before did not catch it; ThreadSanitizer is given barriers, fences and atomics only. In the
first folder each test runs once with no mutant, and records which ones would have computed something else. Prints one
line a mutant and a summary; ends with 1 when fewer than 90 % are caught of those that are not equivalent.

--write keeps the verdicts in FOLDER (mutants/: one tab-separated file for each folder of kernels/), with the reasons
that are there for survivors. --check says whether enough of what can be mutated now is judged in FOLDER (80 %), whether
90 % of it is caught, and whether every survivor has its reason. --live runs some of those that FOLDER says a test caught,
and only that test: they must fail again."""
import argparse
import concurrent.futures
import os
import random
import re
import sys
import time
import zlib

import mutant_table
import mutations
from mutant_build import QUICK, SLOW, Build

SOURCE = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
RACES = ("barrier dropped", "fence dropped", "atomic made plain")
ONE_THREAD = re.compile(r"FirstThread\(\)|Lane\(\)|LaneOfWarp\(\)|threadIdx\.x|\b(lane|thread|lane\.index) [!=]= 0")


def may_race(mutant):
    """Whether it may let two threads meet: what ThreadSanitizer is given."""
    return mutant.name in RACES or ONE_THREAD.search(mutant.text) is not None


def judge_all(arguments, chosen, everything):
    """{key: (verdict, by what or why)} of these mutants."""
    verdicts = {mutant.key: ("left out", "the rest of the condition is on another line") for mutant in chosen if mutant.edits is None}
    todo, orders, reached = [mutant for mutant in chosen if mutant.edits is not None], arguments.orders.split(","), None
    for folder in arguments.builds:
        build = Build(folder, SOURCE)
        given = [mutant for mutant in todo if build.kind != "tsan" or may_race(mutant)]
        # All are compiled in, so that judging some more of them needs no build.
        compiled = everything if build.kind == "plain" else given
        for mutant in build.prepare([mutant for mutant in compiled if mutant.edits is not None], arguments.jobs):
            verdicts[mutant.key] = ("left out", "a constant expression, or a type that takes no switch")
            given = [other for other in given if other is not mutant]
            todo = [other for other in todo if other is not mutant]
        if reached is None:
            reached = build.record(orders[0])
        start, at = time.monotonic(), 0
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            # What costs least comes first, for a run that is cut short; races last, since a plain build finds few.
            given.sort(key=lambda mutant: (mutant.name in RACES, cost(reached, mutant)))
            for quick in (True, False) if build.kind == "plain" else (False,):
                ways = ((lambda m: build.judge(m, reached, orders[:1], QUICK)) if quick else
                        (lambda m: build.judge(m, reached, orders, max(SLOW, quickest(reached, m)))))
                for mutant, by in zip(given, pool.map(ways, given)):
                    if by:
                        todo.remove(mutant)
                    if by or not quick:
                        at += 1
                        verdicts[mutant.key] = ("caught", by) if by else ("survived", "")
                        print(f"{at}, {time.monotonic() - start:.0f} s: {by or 'SURVIVED'}\n    {mutant}", flush=True)
                        if arguments.write and at % 5 == 0:
                            mutant_table.write(arguments.write, everything, verdicts)
                given = [mutant for mutant in given if mutant in todo]
    for mutant in todo:
        print(f"survived: {mutant}")
    if arguments.write:
        mutant_table.write(arguments.write, everything, verdicts)
    return verdicts


def quickest(reached, mutant):
    """Milliseconds of the quickest test in which a mutant computes something else; 0 where there is none."""
    return min((time for tests in reached.get(mutant.number, {}).values() for time in tests.values()), default=0)


def cost(reached, mutant):
    """Milliseconds of the tests that a survivor takes."""
    most = max(SLOW, quickest(reached, mutant))
    return sum(time for tests in reached.get(mutant.number, {}).values() for time in tests.values() if time <= most)


def live(arguments, chosen):
    """How many of a sample that the table says a test caught are not caught now. The sample changes with the kernels."""
    table, build = mutant_table.read(arguments.live), Build(arguments.builds[0], SOURCE, "mutants_live")
    known = [(mutant, found) for mutant in chosen if mutant.key in table
             and (found := mutant_table.test_of(table[mutant.key])) and found[0] in build.programs]
    text = "".join(mutant.text for mutant in chosen)
    known = random.Random(zlib.crc32(text.encode())).sample(known, min(arguments.sample or len(known), len(known)))
    build.programs = sorted({found[0] for _, found in known})
    build.prepare([mutant for mutant, _ in known], arguments.jobs)
    missed = 0
    for mutant, (program, order, test) in known:
        by = build.run_tests(program, mutant.number, order, {test: 1000})
        missed += by is None
        print(f"{by or 'SURVIVED'}\n    {mutant}", flush=True)
    passing = [found for _, found in known if build.run_tests(found[0], 0, found[1], {found[2]: 1000})]
    print(f"{len(known) - missed} of {len(known)} caught again; {len(passing)} of their tests fail without a mutant, too")
    return missed + len(passing) + (not known)


def main():
    parser = argparse.ArgumentParser(usage=__doc__.replace("%", "%%"))
    parser.add_argument("builds", nargs="*")
    parser.add_argument("--only", action="append", default=[], help="files whose path contains one of these")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--orders", default="forward,reverse")
    parser.add_argument("--write", default="")
    parser.add_argument("--check", default="")
    parser.add_argument("--live", default="")
    parser.add_argument("--new", action="store_true", help="with --write: only those that FOLDER does not have")
    parser.add_argument("--survivors", action="store_true", help="with --write: only those that FOLDER calls survivors")
    parser.add_argument("--list", action="store_true", help="prints the mutants and runs none")
    arguments = parser.parse_args()
    everything = mutations.mutants(SOURCE)
    if arguments.check:
        return mutant_table.check(arguments.check, everything)
    chosen = [m for m in everything if not arguments.only or any(text in m.path for text in arguments.only)]
    if arguments.live:
        return 1 if live(arguments, chosen) else 0
    kept = mutant_table.read(arguments.write) if arguments.write else {}
    if arguments.new:
        chosen = [m for m in chosen if m.key not in kept]
    if arguments.survivors:
        chosen = [m for m in chosen if m.key in kept and kept[m.key][0] in mutant_table.SURVIVORS]
    if arguments.sample and arguments.sample < len(chosen):
        chosen = sorted(random.Random(arguments.seed).sample(chosen, arguments.sample), key=lambda mutant: mutant.number)
    if arguments.list or not arguments.builds:
        print("\n".join(map(str, chosen)))
        print(len(chosen), "mutants")
        return 0
    return 0 if mutant_table.summary(judge_all(arguments, chosen, everything)) else 1


if __name__ == "__main__":
    sys.exit(main())
