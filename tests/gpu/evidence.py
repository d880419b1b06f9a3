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
# Suites (cuda_tests) that launch the kernels of a folder, and, of kernels that a part of them does not reach, their own.
SUITES = {"attention": ["CudaAttention"], "backward": ["CudaBackward"], "envelope": ["CudaEnvelope"],
          "forward": ["CudaForward"], "plan": ["CudaPlan"], "step": ["CudaStep"], "graph": ["DeviceGraph"], "train": []}
KERNEL_SUITES = {"CombineKernel": ["CudaCombine"], "StoreKernel": ["CudaPlan", "CudaStep"],
                 "TranslateKernel": ["CudaNumbering.TranslatesIds"],
                 "BadIdsBeginKernel": ["CudaForward.BadIds"], "BadIdsEndKernel": ["CudaForward.BadIds"]}
# Emulated programs that reach a kernel which others of its folder do not; of all others: those with the folder in
# their name.
KERNEL_TESTS = {"CombineKernel": "cuda_combine", "StoreKernel": "cuda_step", "TranslateKernel": "cuda_plan_numbering"}
# host/train: its programs, and its step of tests/gpu/check.
FOLDER_TESTS = {"train": "dense_device"}
STEPS = {"train": "trainer dense"}


def families(root):
    """{kernel without its template arguments: (folder, instances)} of what nvcc compiled."""
    found = {}
    sources = [(path.parent.name, path.read_text(encoding="utf-8"))
               for pattern in ("kernels/*/*.cuh", "kernels/*/*.cu", "host/train/*.cu") for path in root.glob(pattern)]
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
    """holds(steps by name, folder) of the youngest run that it says something of."""
    for run, folder in reversed(runs):
        what = holds({step["name"]: step for step in run["steps"]}, folder)
        if what:
            return where(run) + ("" if what is True else f": {what}")
    return NOT_RUN


def passed(*names):
    """What `latest` asks of steps that have to have passed, and whether a cut left cases out of them."""
    def holds(steps, _):
        if any(steps.get(name, {}).get("status") != "passed" for name in names):
            return False
        cut = [group for name in names for group in steps[name].get("cut", [])]
        return f"without {', '.join(cut)}" if cut else True
    return holds


def reached(kernel, folder, filter_):
    """The filter of a run has a case that launches the kernel."""
    suites = KERNEL_SUITES.get(kernel, SUITES.get(folder, []))
    return any(re.search(rf"(^|/){re.escape(suite)}", case) for case in filter_.split(":") for suite in suites)


def sanitized(kernel, folder):
    """The sanitizers that passed on the kernel's operation, by the filter that each ran with."""
    def holds(steps, _):
        return ", ".join(name.split()[1] for name, step in steps.items()
                         if name.startswith("sanitizer") and step["status"] == "passed"
                         and reached(kernel, folder, step.get("filter", "")))
    return holds


def profiled(kernel):
    def holds(steps, folder):
        path = folder / "profile.json"
        return steps.get("profile", {}).get("status") == "passed" and path.exists() and any(
            re.search(rf"\b{kernel}\b", row["kernel"]) for row in json.loads(path.read_text(encoding="utf-8")))
    return holds


def emulated(facts, part):
    """The emulated programs with `part` in their name: those of an operation's folder, say."""
    run = facts["emulated"]
    tests = {name: orders for name, orders in run["tests"].items() if part in name}
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
                    f"{emulated(facts, KERNEL_TESTS.get(kernel, FOLDER_TESTS.get(folder, folder)))} | "
                    f"{latest(runs, passed(STEPS.get(folder, 'tests')))} | "
                    f"{latest(runs, sanitized(kernel, folder))} | {latest(runs, profiled(kernel))} |")
    spills = spilling(root)
    text += ["", f"Compiled: nvcc {compiled['nvcc']}, {compiled['architectures']} ({compiled['date']}, "
             f"{compiled['commit']}); " + (f"spilling: {', '.join(f'`{name}`' for name in spills)}." if spills
                                           else "no kernel spills."),
             f"Emulated: {facts['emulated']['compiler']}, {facts['emulated']['date']}, {facts['emulated']['commit']}; "
             f"{sum(facts['emulated']['tests'].values())} runs passed.",
             f"Conformance of the intrinsics: emulated "
             + ("passed" if facts["emulated"]["tests"].get("emulated_conformance_test") else NOT_RUN)
             + f"; on a GPU {latest(runs, passed('conformance'))}.",
             f"Benchmarks of the forward on a GPU: {latest(runs, passed('benchmarks'))}; of plan, backward and step: "
             f"{latest(runs, passed('training'))}. Every case of them at a size for tests, emulated: "
             f"{rehearsed(facts)}.",
             f"Training loop of `docs/examples` on a stream of its own: emulated {emulated(facts, 'training_loop')}; on "
             f"a GPU {latest(runs, passed('training loop'))}.",
             f"Trainer with its tables on a device: emulated {emulated(facts, 'device_training')}; on a GPU "
             f"{latest(runs, passed('trainer'))}. With its dense part there (cuBLAS; emulated, a stand-in): emulated "
             f"{emulated(facts, 'dense_device')}; on a GPU {latest(runs, passed('trainer dense'))}.",
             f"Interest graph (`kernels/graph`, Thrust and CUB): with Thrust's host backend {emulated(facts, 'device_test')}; "
             f"10^8 clicks on a GPU against the CPU builder: {latest(runs, passed('graph'))}; sanitized: "
             f"{latest(runs, sanitized('', 'graph'))}.",
             f"PyTorch adapter (`tests/torch/test_cuda.py`, opcheck in it) on a GPU: {latest(runs, passed('torch'))}; "
             f"beside `nn.EmbeddingBag` and `torch.compile`: {latest(runs, passed('torch benchmarks'))}.", "",
             "The CPU backend (`host/cpu`) runs in every test run. Its figures are below `bench/results`."]
    if not runs:
        text += ["", "No figure in this repository was measured on a GPU, and nothing here says how fast the kernels are."]
    return "\n".join(text) + "\n"


def rehearsed(facts):
    run = facts["emulated"]
    names = run.get("rehearsals", [])
    return f"{run['date']}, {run['commit']}: " + ", ".join(f"`{name}`" for name in names) if names else NOT_RUN


def junit(path):
    """({program: orders in which it passed}, rehearsals that passed); a program with a failure is left out."""
    done, failed, rehearsals = {}, set(), []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        ran = case.get("status") == "run"
        if re.fullmatch(r"emulated_(\w+_)?gpu_bench|gpu_check_dry_run", case.get("name")) and ran:
            rehearsals.append(case.get("name"))
        match = re.fullmatch(r"(emulated_\w+?_(?:test|loop))_(forward|reverse|random_\d+)", case.get("name"))
        if not match:
            continue
        if ran:
            done[match.group(1)] = done.get(match.group(1), 0) + 1
        else:
            failed.add(match.group(1))
    return {name: n for name, n in sorted(done.items()) if name not in failed}, sorted(rehearsals)


def record(build, results, commit=None):
    def said(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    cache = (pathlib.Path(build) / "CMakeCache.txt").read_text(encoding="utf-8")
    known = dict(re.findall(r"^(\w+):\w+=(.*)$", cache, re.M))
    nvcc = re.search(r"V(\d+\.\d+\.\d+)", said(known["CMAKE_CUDA_COMPILER"], "--version")).group(1)
    stamp = {"date": datetime.date.today().isoformat(),
             "commit": commit or said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")}
    tests, rehearsals = junit(results)
    if not tests:
        sys.exit(f"{results} has no emulated test that passed")
    facts = {"compiled": {**stamp, "nvcc": nvcc, "architectures": known["CMAKE_CUDA_ARCHITECTURES"]},
             "emulated": {**stamp, "compiler": said(known["CMAKE_CXX_COMPILER"], "--version").splitlines()[0],
                          "tests": tests, "rehearsals": rehearsals}}
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
