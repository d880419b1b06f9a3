# SPDX-License-Identifier: Apache-2.0
"""What each translation unit costs to compile, in docs/build_budget.md.

    build_budget.py --measure ROOT BUILD [REGEX]    compiles the units of BUILD whose path matches (default: all) once,
                                                    without a cache, and writes the file; others keep their times
    build_budget.py --check ROOT                    fails when a .cu file is not listed or over its budget, and names
                                                    C++ files that are over theirs

A C++ file is listed where it takes 3 s or more. BUILD needs compile_commands.json (-DCMAKE_EXPORT_COMPILE_COMMANDS=ON). Times are processor seconds (user + system), so
that a busy machine does not count.
"""
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import subprocess
import sys
import tempfile

LIMIT, LIMIT_CUB = 10.0, 45.0
LEAST = 3.0  # of a .cc file to be listed
ROW = re.compile(r"\| (\S+\.\w+) \| (\S+) \| ([\d.]+) \|")


def uses_cub(root, path, seen=None):
    """The file, or a file of the tree that it includes, includes CUB or Thrust."""
    seen = seen if seen is not None else set()
    if path in seen or not (root / path).exists():
        return False
    seen.add(path)
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    if re.search(r"#\s*include\s*<(cub|thrust)/", text):
        return True
    return any(uses_cub(root, name, seen) for name in re.findall(r'#\s*include\s*"([^"]+)"', text))


def seconds(command, folder):
    """Processor seconds of one compiler call whose object goes nowhere."""
    words = [w for w in shlex.split(command) if not w.endswith(("/ccache", "/keep_ptxas.sh")) and w not in ("sh", "ccache")]
    with tempfile.TemporaryDirectory() as out:
        words[words.index("-o") + 1] = str(pathlib.Path(out) / "unit.o")
        for option in ("-MF", "-MT"):
            if option in words:
                words[words.index(option) + 1] = str(pathlib.Path(out) / "unit.d")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kept(root):
    """{(path, compiler): seconds} of the file as it is."""
    page = root / "docs/build_budget.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return {(path, compiler): float(time) for path, compiler, time in ROW.findall(text)}


def measure(root, build, pattern, keep):
    """keep(times) is called after each unit, with the times of all units so far and the old ones of the others."""
    units = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    known = {}
    for unit in units:  # of a source of several programs the first
        path = str(pathlib.Path(unit["file"]).resolve().relative_to(root))
        known.setdefault((path, "nvcc" if "nvcc" in unit["command"] else "g++"), unit)
    times = {key: time for key, time in kept(root).items() if (root / key[0]).exists()}
    for key, unit in known.items():
        if re.search(pattern, key[0]):
            times[key] = seconds(unit["command"], unit["directory"])
            print(f"{times[key]:6.1f} s  {key[1]:5} {key[0]}", flush=True)
            keep(times)


def version(*command):
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return re.findall(r"\d+\.\d+\.\d+", said)[-1]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def render(root, times, nvcc):
    times = {key: time for key, time in times.items() if key[0].endswith(".cu") or time >= LEAST}
    text = ["# Build budget", "",
            f"A translation unit may take {LIMIT:.0f} s on one GPU architecture, one that includes CUB or Thrust "
            f"{LIMIT_CUB:.0f} s.", "Processor seconds (user + system) without a cache, written by "
            "`tests/repo/build_budget.py`,", "which the test `repo_build_budget` reads. Of C++ files those that a build's log shows as slow were measured, and are "
            f"listed where they take {LEAST:.0f} s or more.", "",
            f"{processor()}; g++ {version('g++', '-dumpfullversion')}, nvcc {version(nvcc, '--version')}, sm_90. "
            f"{len(times)} units, {sum(times.values()):.0f} s. Load when the last were measured: {os.getloadavg()[0]:.0f} on "
            f"{os.cpu_count()} processors; more than those lengthens processor time as well.", "Kernels are compiled by nvcc for the library and by "
            "g++ for the emulator.", "", "| unit | compiler | seconds | CUB or Thrust |", "|---|---|---|---|"]
    for (path, compiler), time in sorted(times.items(), key=lambda item: (not item[0][0].endswith(".cu"), item[0])):
        cub = uses_cub(root, path)
        over = ", over the budget" if time > (LIMIT_CUB if cub else LIMIT) else ""
        text.append(f"| {path} | {compiler} | {time:.1f} | {'yes' if cub else 'no'}{over} |")
    return "\n".join(text) + "\n"


def sources(root):
    """Kernel files that the lists of sources name, and those of the GPU benchmarks without a peer."""
    text = "".join((root / name).read_text(encoding="utf-8") for name in
                   ("kernels/sources.cmake", "kernels/graph/sources.cmake") if (root / name).exists())
    bench = {f"bench/gpu/{path.name}" for path in (root / "bench/gpu").glob("*kernels.cu")}
    return set(re.findall(r"kernels/[\w/]+\.cu\b", text)) | bench


def check(root):
    times = kept(root)
    problems = [f"{path} has no time: build_budget.py --measure ROOT BUILD {path}" for path in sorted(sources(root)) if (path, "nvcc") not in times]
    for (path, compiler), time in sorted(times.items()):
        limit = LIMIT_CUB if uses_cub(root, path) else LIMIT
        if time > limit and path.endswith(".cu"):
            problems.append(f"{path} takes {time} s by {compiler}; needs {limit:.0f}")
        elif time > limit:
            print(f"over the budget: {path} takes {time} s by {compiler}; needs {limit:.0f}")
    print("\n".join(problems))
    print(f"{len(times)} units, {len(problems)} problem(s)")
    return 1 if problems else 0


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        sys.exit(check(pathlib.Path(sys.argv[2]).resolve()))
    if len(sys.argv) not in (4, 5) or sys.argv[1] != "--measure":
        sys.exit(__doc__)
    root, build = (pathlib.Path(word).resolve() for word in sys.argv[2:4])
    cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
    nvcc = re.search(r"^CMAKE_CUDA_COMPILER:\w+=(.*)$", cache, re.M)
    page = root / "docs/build_budget.md"
    measure(root, build, sys.argv[4] if len(sys.argv) == 5 else "", lambda times: page.write_text(
        render(root, times, nvcc.group(1) if nvcc else "nvcc"), encoding="utf-8"))


if __name__ == "__main__":
    main()
