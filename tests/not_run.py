# SPDX-License-Identifier: Apache-2.0
"""Lists the tests of a ctest run that did not run, as lines of must|may <tab> what <tab> why.
Usage: not_run.py PRESET RESULTS.xml"""
import pathlib
import re
import sys
import xml.etree.ElementTree

# What CI must have seen run, by preset: patterns of test names.
MUST = {
    "cpu": ["consumer_c11", "consumer_find_package", "consumer_add_subdirectory", "consumer_pkg_config",
            "consumer_python", "train_report_test", "graph_tool_test", "graph_tool_update_test"],
    "asan": [".*forward.*", ".*backward.*", ".*train.*"],
    "tsan": [".*forward.*", ".*backward.*", ".*train.*"],
    "torch": ["torchscript_load", "torch_library"],
    "tsan-emulated": ["emulated_race_test_.*", "emulated_cuda_forward_test_.*"],
}
# The same where the build found the headers of the CUDA toolkit; without them there are no such tests.
MUST_EMULATED = {
    "cpu": ["emulated_cuda_forward_test_.*", "emulated_cuda_backward_test_.*", "emulated_cuda_step_test_.*"],
}


def read(path):
    """(name, status, output) of each test; nothing when ctest wrote no results."""
    try:
        suite = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return []
    return [(case.get("name"), case.get("status"), "".join(case.find("system-out").itertext())
             if case.find("system-out") is not None else "") for case in suite.iter("testcase")]


def has_toolkit(path):
    """Whether the build that results lie in found the CUDA toolkit's headers."""
    try:
        cache = pathlib.Path(path).with_name("CMakeCache.txt").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^RESEMBED_CUDA_INCLUDE:PATH=/", cache, re.M) is not None


def skips(output):
    """(case, reason) of each GoogleTest or unittest case that skipped itself."""
    for block in re.findall(r"\[ RUN      \] (.*)\n((?:(?!\[ RUN  ).*\n)*?)\[  SKIPPED \]", output):
        reason = [line for line in block[1].splitlines() if line and not re.match(r".*:\d+: Skipped$", line)]
        yield block[0], reason[0].strip() if reason else "no reason given"
    # unittest, verbose: "test_x (module.Case.test_x)", maybe its first docstring line, " ... ", maybe what it
    # printed, and the outcome.
    said = 0
    for case, text in re.findall(r"^ *(\w+) \([\w.<>]+\)((?:(?!^ *\w+ \([\w.<>]+\)|^-{70}$).)*)", output, re.S | re.M):
        skipped = re.search(r"""\bskipped (['"])(.*)\1$""", text, re.M)
        if skipped:
            said += 1
            yield case, skipped[2]
    count = sum(int(n) for n in re.findall(r"^(?:OK|FAILED) \(.*?\bskipped=(\d+)", output, re.M))
    if count > said:
        yield f"{count - said} of its cases", "skipped; the test does not print why"


def main(preset, path):
    tests = read(path)
    patterns = MUST.get(preset, []) + (MUST_EMULATED.get(preset, []) if has_toolkit(path) else [])
    must = [re.compile(pattern + r"\Z") for pattern in patterns]
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
