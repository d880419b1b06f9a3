# SPDX-License-Identifier: Apache-2.0
"""Lists the tests of a ctest run that did not run, as lines of must|may <tab> what <tab> why.
Usage: not_run.py PRESET RESULTS.xml"""
import re
import sys
import xml.etree.ElementTree

# What CI must have seen run, by preset: patterns of test names.
MUST = {
    "cpu": ["consumer_c11", "consumer_find_package", "consumer_add_subdirectory", "consumer_pkg_config",
            "consumer_python", "train_report_test"],
    "asan": [".*forward.*", ".*backward.*", ".*train.*"],
    "tsan": [".*forward.*", ".*backward.*", ".*train.*"],
    "tsan-emulated": ["emulated_race_test_.*", "emulated_cuda_forward_test_.*"],
}


def read(path):
    """(name, status, output) of each test; nothing when ctest wrote no results."""
    try:
        suite = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return []
    return [(case.get("name"), case.get("status"), "".join(case.find("system-out").itertext())
             if case.find("system-out") is not None else "") for case in suite.iter("testcase")]


def skips(output):
    """(case, reason) of each GoogleTest case that skipped itself."""
    for block in re.findall(r"\[ RUN      \] (.*)\n((?:(?!\[ RUN  ).*\n)*?)\[  SKIPPED \]", output):
        reason = [line for line in block[1].splitlines() if line and not re.match(r".*:\d+: Skipped$", line)]
        yield block[0], reason[0].strip() if reason else "no reason given"


def main(preset, path):
    tests = read(path)
    must = [re.compile(pattern + r"\Z") for pattern in MUST.get(preset, [])]
    wanted = {pattern.pattern: False for pattern in must}
    for name, status, output in tests:
        matches = [pattern for pattern in must if pattern.match(name)]
        kind = "must" if matches else "may"
        if status not in ("run", "fail"):
            print(f"{kind}\t{preset}: {name}\t{status}")
            continue
        for pattern in matches:
            wanted[pattern.pattern] = True
        for case, reason in skips(output):  # one case of many: an instruction set this machine lacks
            print(f"may\t{preset}: {name}: {case}\t{reason}")
    for pattern, ran in wanted.items():
        if not ran:
            print(f"must\t{preset}: {pattern[:-2].replace('.*', '')}\tno test of that name ran")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
