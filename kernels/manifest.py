# SPDX-License-Identifier: Apache-2.0
"""Registers, spills and shared memory of every kernel, as ptxas says them, in kernels/MANIFEST.txt.

    manifest.py --write BUILD    writes the file from a build folder (sm_90, built with RESEMBED_BUILD_TESTS)
    manifest.py --check BUILD    fails when the file and the build differ, or when a kernel spills
    manifest.py --spills BUILD   fails when a kernel spills on any architecture of the build

With another nvcc than the file names only the list of kernels and the spills are compared: registers are the
assembler's choice.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "kernels" / "MANIFEST.txt"
ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangle(names):
    done = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


def short(name):
    """Kernel<arguments>, without its namespaces, parameters and the (int) and (bool) before values."""
    name = re.sub(r"^void ", "", name)
    name = re.sub(r"\((?:anonymous namespace|int|bool|unsigned int)\)(?:::)?", "", name)
    depth = 0
    for end, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            name = name[:end]
            break
    head, bracket, rest = name.partition("<")
    return head.rsplit("::", 1)[-1] + bracket + re.sub(r"\b\w+::", "", rest)


def entries(build):
    """{(symbol, architecture): (registers, shared, stack, spilled bytes)} from what keep_ptxas.sh kept."""
    found = {}
    logs = [log for folder in ("kernels/CMakeFiles/resembed_cuda.dir", "host/train/CMakeFiles/resembed_train_kernels.dir")
            for log in sorted(pathlib.Path(build).glob(f"{folder}/**/*.ptxas"))]  # not of consumers below
    if not logs:
        sys.exit(f"no *.ptxas below {build}; needs a build of the cuda backend with the tests")
    for log in logs:
        entry = None
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := ENTRY.search(line):
                entry, frame = match.groups(), (0, 0)
            elif entry and (match := FRAME.search(line)):
                frame = (int(match.group(1)), int(match.group(2)) + int(match.group(3)))
            elif entry and (match := USED.search(line)):
                shared = SHARED.search(line)
                found[entry] = (int(match.group(1)), int(shared.group(1)) if shared else 0, *frame)
                entry = None
    return found


def ours(build):
    """The same by readable name, without CUB's and Thrust's kernels."""
    found = entries(build)
    names = demangle([symbol for symbol, _ in found])
    return {(name, arch): facts for name, ((_, arch), facts) in zip(names, found.items())
            if "cub::" not in name.split("(")[0] and "thrust::" not in name.split("(")[0]}


def kernels(build):
    """{name: facts} of our own kernels on sm_90."""
    return {short(name): facts for (name, arch), facts in ours(build).items() if arch == "90"}


def nvcc(build):
    cache = (pathlib.Path(build) / "CMakeCache.txt").read_text(encoding="utf-8")
    compiler = re.search(r"^CMAKE_CUDA_COMPILER:\w+=(.*)$", cache, re.M).group(1)
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V(\d+\.\d+\.\d+)", said).group(1)


def render(build):
    lines = [f"# Kernels of libresembed and resembed-train by nvcc {nvcc(build)} for sm_90: registers, shared bytes, stack bytes, spilled"
             " bytes.", "# Written by kernels/manifest.py. CUB's and Thrust's own kernels are not listed."]
    table = kernels(build)
    lines += [f"{facts[0]:4} {facts[1]:6} {facts[2]:5} {facts[3]:5}  {name}" for name, facts in sorted(table.items())]
    return "\n".join(lines) + "\n"


def names(text):
    return {line.split(None, 4)[4] for line in text.splitlines() if line and not line.startswith("#")}


def check(build):
    problems = [f"{name} spills {facts[3]} bytes" for name, facts in kernels(build).items() if facts[3]]
    kept, built = FILE.read_text(encoding="utf-8"), render(build)
    if kept.splitlines()[0] == built.splitlines()[0]:
        problems += [f"the build has, and the file lacks: {line}" for line in built.splitlines()
                     if line not in kept.splitlines()]
        problems += [f"the file has, and the build lacks: {line}" for line in kept.splitlines()
                     if line not in built.splitlines()]
    else:
        print(f"another compiler: the file says {kept.splitlines()[0]}")
        problems += [f"kernel not in the file: {name}" for name in sorted(names(built) - names(kept))]
        problems += [f"kernel not in the build: {name}" for name in sorted(names(kept) - names(built))]
    print("\n".join(problems[:40]))
    print(f"{len(names(built))} kernels, {len(problems)} problem(s)"
          + ("; if they are meant: python3 kernels/manifest.py --write BUILD" if problems else ""))
    return 1 if problems else 0


def spills(build):
    found = ours(build)
    problems = [f"{short(name)} spills {facts[3]} bytes on sm_{arch}" for (name, arch), facts in found.items() if facts[3]]
    print("\n".join(problems[:40]))
    print(f"{len(found)} kernels on {', '.join(sorted({'sm_' + arch for _, arch in found}))}: {len(problems)} spill")
    return 1 if problems else 0


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("--write", "--check", "--spills"):
        sys.exit(__doc__)
    if sys.argv[1] == "--spills":
        sys.exit(spills(sys.argv[2]))
    if sys.argv[1] == "--check":
        sys.exit(check(sys.argv[2]))
    FILE.write_text(render(sys.argv[2]), encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
