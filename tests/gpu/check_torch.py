# SPDX-License-Identifier: Apache-2.0
"""The PyTorch adapter's part of tests/gpu/check: which adapter and which Python, tests/torch/test_cuda.py,
bench/torch/run on the GPU."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from check_cases import TORCH_BENCHMARKS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIBRARY = "libresembed_torch.so"
SOURCES = ["host/torch/python/resembed", "tests/torch", "bench/torch"]
BUILD = ROOT / "build" / "torch-cuda"
PROBE = """import importlib.util, json, torch
print(json.dumps({"torch": torch.__version__, "gpu": torch.cuda.is_available(),
                  "missing": [name for name in ("hypothesis", "numpy") if importlib.util.find_spec(name) is None]}))"""


def has_kernels(library):
    """Whether nvcc had a part in it."""
    return b".nv_fatbin" in library.read_bytes()


def find_build(given):
    """The adapter of the build folder `given`, else of build/torch-cuda; None without. One that was asked for and is
    not there, or has no cuda backend, is an error."""
    library = (pathlib.Path(given).resolve() if given else BUILD) / LIBRARY
    if not library.exists():
        return sys.exit(f"tests/gpu/check: --torch is {given}; needs {LIBRARY} in it") if given else None
    if not has_kernels(library):
        sys.exit(f"tests/gpu/check: {library} has no cuda backend; needs a build with nvcc")
    return library


def carry(library, to):
    """What the step needs, in the folder `to`: the library without symbols, and the sources in their own folders."""
    to.mkdir(parents=True)
    copy = pathlib.Path(shutil.copy2(library, to / LIBRARY))
    if shutil.which("strip"):
        subprocess.run(["strip", copy], check=False, stderr=subprocess.DEVNULL)
    note = library.with_name(library.name + ".torch")
    if note.exists():
        shutil.copy2(note, to)
    for name in SOURCES:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.so*"))


def choose(given, programs, built_here):
    """(library, folder of the sources): of --torch, carried with the programs, or of build/torch-cuda where the
    programs were built here, too; (None, None) without."""
    if (programs / "torch" / LIBRARY).exists() and not given:
        return programs / "torch" / LIBRARY, programs / "torch"
    library = find_build(given) if given or built_here else None
    return library, ROOT if library else None


def minor(version):
    return ".".join(version.split(".")[:2])


def find_python(check, library):
    """(a python3 that can run the adapter's tests on this GPU, None), or (None, why not)."""
    note = library.with_name(library.name + ".torch")
    built = note.read_text(encoding="utf-8").strip() if note.exists() else "?"
    pythons = dict.fromkeys(path for path in (shutil.which("python3"), sys.executable) if path)
    reasons = []
    for number, python in enumerate(pythons):
        status, text, _ = check.run([python, "-c", PROBE], 60, f"torch_python{number or ''}.log")
        try:
            found = json.loads(text.splitlines()[-1]) if status == 0 else None
        except (IndexError, ValueError):
            found = None
        if found is None:
            if status is None:
                reasons.append(f"{python} had no time to import torch")
            continue
        if minor(found["torch"]) != minor(built):
            reasons.append(f"torch is {found['torch']} ({python}); the adapter was built for {built}")
        elif not found["gpu"]:
            reasons.append(f"torch {found['torch']} ({python}) sees no GPU")
        elif found["missing"]:
            reasons.append(f"{python} has torch {found['torch']}, but no {', '.join(found['missing'])}")
        else:
            return python, None
    return None, (reasons or [f"no torch in {', '.join(pythons)}"])[0]


def note_tests(check, status, text, took):
    """What unittest said."""
    ran = re.search(r"^Ran (\d+) tests?", text, re.M)
    skipped = re.search(r"^(?:OK|FAILED) \(.*skipped=(\d+)", text, re.M)
    passed = int(ran.group(1)) - int(skipped.group(1) if skipped else 0) if ran else len(
        re.findall(r"\.\.\. ok$", text, re.M))
    problems = re.findall(r"^(?:FAIL|ERROR): (\S+)", text, re.M) or re.findall(
        r"^ *(\S+) \(.*\.\.\. (?:FAIL|ERROR)$", text, re.M)
    if status is None and not problems:
        return check.note("torch", "not run", f"out of time; {passed} tests passed before", tests=passed)
    if status != 0 or problems:
        lines = text.strip().splitlines() or ["no output"]
        words = f"{len(problems)} problems: {', '.join(dict.fromkeys(problems))}" if problems else (
            f"left with {status}: {lines[-1]}")
        return check.note("torch", "failed", words[:300], tests=passed)
    if passed <= 0:
        return check.note("torch", "failed", "no test ran", tests=0)
    return check.note("torch", "passed", f"{passed} tests in {took:.0f} s", tests=passed)


def note_benchmarks(check, status, text, report):
    """Keeps what was done before a cut, in the file of `report`."""
    try:
        read = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        read = {"tiny": {}, "cases": []}
    done = ["tiny"] * bool(read["tiny"]) + [f"{case['rows']:,} rows, dim {case['dim']}, zipf {case['zipf']}"
                                            for case in read["cases"]]
    detail = "; ".join(done + re.findall(r"^.* left out: .*$", text, re.M))
    if status not in (0, None):
        lines = text.strip().splitlines() or ["no output"]
        return check.note("torch benchmarks", "failed", lines[-1][:200], cases=len(done))
    cut = ["the rest"] if status is None else []
    if not done:
        return check.note("torch benchmarks", "not run" if cut else "failed", "out of time" if cut else "no case ran")
    return check.note("torch benchmarks", "passed", detail + ("; out of time for the rest" if cut else ""),
                      cases=len(done), cut=cut)


def run(check, library, sources):
    """The steps `torch` and `torch benchmarks`, within the limit of `torch`."""
    check.begin("torch")
    report = check.out / "torch_benchmarks.json"
    report.unlink(missing_ok=True)
    if check.arguments.emulated:
        python, why = None, "a rehearsal has no GPU"
    elif library is None:
        python, why = None, f"no {LIBRARY} beside the programs"
    elif not has_kernels(library):
        python, why = None, f"{LIBRARY} has no cuda backend"
    else:
        python, why = find_python(check, library)
    if python is None:
        for name in ("torch", "torch benchmarks"):
            check.note(name, "not run", why)
        return
    environment = {**os.environ, "RESEMBED_TORCH_LIBRARY": str(library), "PYTHONDONTWRITEBYTECODE": "1",
                   "PYTHONUNBUFFERED": "1",
                   "PYTHONPATH": os.pathsep.join(str(sources / name) for name in ("host/torch/python", "tests/torch"))}
    status, text, took = check.run([python, "-W", "ignore::DeprecationWarning", "-m", "unittest", "-v", "test_cuda"],
                                   check.left(), "torch.log", environment)
    note_tests(check, status, text, took)
    status, text, _ = check.run([python, str(sources / "bench/torch/run"), "--device", "cuda", *TORCH_BENCHMARKS,
                                 "--out", str(report)], check.left(), "torch_benchmarks.log", environment)
    note_benchmarks(check, status, text, report)
