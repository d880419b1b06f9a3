# SPDX-License-Identifier: Apache-2.0
"""docs/evidence.md: what was compiled, emulated, run on a GPU, sanitized and profiled, and when.

    evidence.py --write                         from tests/gpu/facts.json, kernels/MANIFEST.txt, bench/results/*/*/run.json
    evidence.py --check                         fails when the file says something else
    evidence.py --record BUILD RESULTS.xml [COMMIT]
                                                facts.json from a build folder and ctest's JUnit file of the emulated
                                                tests, then as --write; COMMIT when it is not the current one
"""
import datetime
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FACTS = ROOT / "tests/gpu/facts.json"
PAGE = ROOT / "docs/evidence.md"
NOT_RUN = "not run"


def families(root):
    """{kernel without its template arguments: (folder, instances)} of what nvcc compiled."""
    found = {}
    sources = [(path.parent.name, path.read_text(encoding="utf-8"))
               for pattern in ("*/*.cuh", "*/*.cu") for path in (root / "kernels").glob(pattern)]
    for line in (root / "kernels/MANIFEST.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name = line.split(None, 4)[4].split("<")[0]
        folder = next((f for f, text in sources if re.search(rf"__global__[^;{{]*\b{name}\s*\(", text)), "?")
        found[name] = (folder, found.get(name, (folder, 0))[1] + 1)
    return found


def spilling(root):
    """Kernels of the manifest that spill."""
    lines = (root / "kernels/MANIFEST.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(None, 4)[4] for line in lines if line and not line.startswith("#") and line.split()[3] != "0"]


def gpu_runs(root):
    """Every kept run on a GPU, oldest first, with its folder. A rehearsal is none."""
    runs = []
    for path in sorted(root.glob("bench/results/*/*/run.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if not run["emulated"]:
            runs.append((run, path.parent))
    return sorted(runs, key=lambda pair: pair[0]["date"])


def where(run):
    return f"{run['date']}, {run['commit']}, {run['gpu']}"


def latest(runs, holds):
    for run, folder in reversed(runs):
        what = holds({step["name"]: step["status"] for step in run["steps"]}, folder)
        if what:
            return where(run) + ("" if what is True else f": {what}")
    return NOT_RUN


def sanitized(status, _):
    passed = [name.split()[1] for name, value in status.items() if name.startswith("sanitizer") and value == "passed"]
    return ", ".join(passed)


def profiled(kernel):
    def holds(status, folder):
        path = folder / "profile.json"
        return status.get("profile") == "passed" and path.exists() and any(
            re.search(rf"\b{kernel}\b", row["kernel"]) for row in json.loads(path.read_text(encoding="utf-8")))
    return holds


def emulated(facts, folder):
    """The test programs of an operation's folder: those with its name in theirs."""
    run = facts["emulated"]
    tests = {name: orders for name, orders in run["tests"].items() if folder in name}
    if not tests:
        return NOT_RUN
    return f"{run['date']}, {run['commit']}: " + ", ".join(f"`{name}` in {n} orders" for name, n in tests.items())


def render(root):
    facts = json.loads((root / "tests/gpu/facts.json").read_text(encoding="utf-8"))
    runs = gpu_runs(root)
    compiled = facts["compiled"]
    text = ["# Evidence", "", "What ran where. Written by `tests/gpu/evidence.py` from `kernels/MANIFEST.txt`,",
            "`tests/gpu/facts.json` and the results that `tests/gpu/check` keeps below `bench/results`; a test compares.",
            "A cell that says \"not run\" has not happened.", "",
            "| kernel | instances | compiled | emulated | run on a GPU | sanitized | profiled |",
            "|---|---|---|---|---|---|---|"]
    for kernel, (folder, count) in sorted(families(root).items(), key=lambda item: (item[1][0], item[0])):
        text.append(f"| `{kernel}` ({folder}) | {count} | {compiled['date']}, {compiled['commit']} | "
                    f"{emulated(facts, folder)} | {latest(runs, lambda s, _: s.get('tests') == 'passed')} | "
                    f"{latest(runs, sanitized)} | {latest(runs, profiled(kernel))} |")
    conformance = latest(runs, lambda s, _: s.get("conformance") == "passed")
    spills = spilling(root)
    text += ["", f"Compiled: nvcc {compiled['nvcc']}, {compiled['architectures']} ({compiled['date']}, "
             f"{compiled['commit']}); " + (f"spilling: {', '.join(f'`{name}`' for name in spills)}." if spills
                                           else "no kernel spills."),
             f"Emulated: {facts['emulated']['compiler']}, {facts['emulated']['date']}, {facts['emulated']['commit']}; "
             f"{sum(facts['emulated']['tests'].values())} runs passed.",
             f"Conformance of the intrinsics: emulated "
             + ("passed" if facts["emulated"]["tests"].get("emulated_conformance_test") else NOT_RUN)
             + f"; on a GPU {conformance}.",
             f"Benchmarks on a GPU: {latest(runs, lambda s, _: s.get('benchmarks') == 'passed')}.",
             f"Interest graph (`kernels/graph`, Thrust and CUB): with Thrust's host backend {emulated(facts, 'device_test')}; "
             f"10^8 clicks on a GPU against the CPU builder: {latest(runs, lambda s, _: s.get('graph') == 'passed')}.", "",
             "The CPU backend (`host/cpu`) runs in every test run. Its figures are below `bench/results`."]
    if not runs:
        text += ["", "No figure in this repository was measured on a GPU, and nothing here says how fast the kernels are."]
    return "\n".join(text) + "\n"


def junit(path):
    """{program: orders in which it passed}; a program with a failure is left out."""
    passed, failed = {}, set()
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        match = re.fullmatch(r"(emulated_\w+?_test)_(forward|reverse|random_\d+)", case.get("name"))
        if not match:
            continue
        if case.get("status") == "run":
            passed[match.group(1)] = passed.get(match.group(1), 0) + 1
        else:
            failed.add(match.group(1))
    return {name: n for name, n in sorted(passed.items()) if name not in failed}


def record(build, results, commit=None):
    def said(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    cache = (pathlib.Path(build) / "CMakeCache.txt").read_text(encoding="utf-8")
    known = dict(re.findall(r"^(\w+):\w+=(.*)$", cache, re.M))
    nvcc = re.search(r"V(\d+\.\d+\.\d+)", said(known["CMAKE_CUDA_COMPILER"], "--version")).group(1)
    stamp = {"date": datetime.date.today().isoformat(), 
             "commit": commit or said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")}
    tests = junit(results)
    if not tests:
        sys.exit(f"{results} has no emulated test that passed")
    facts = {"compiled": {**stamp, "nvcc": nvcc, "architectures": known["CMAKE_CUDA_ARCHITECTURES"]},
             "emulated": {**stamp, "compiler": said(known["CMAKE_CXX_COMPILER"], "--version").splitlines()[0],
                          "tests": tests}}
    FACTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main():
    words = sys.argv[1:]
    if words[:1] == ["--record"] and len(words) in (3, 4):
        record(*words[1:])
    elif words not in (["--write"], ["--check"]):
        sys.exit(__doc__)
    text = render(ROOT)
    if words == ["--check"]:
        same = PAGE.read_text(encoding="utf-8") == text
        print("docs/evidence.md is " + ("up to date" if same else "stale: python3 tests/gpu/evidence.py --write"))
        sys.exit(0 if same else 1)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
