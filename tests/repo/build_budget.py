# SPDX-License-Identifier: Apache-2.0
"""What each translation unit costs to compile, in docs/build_budget.md.

    build_budget.py --measure ROOT BUILD [REGEX]    compiles the units of BUILD whose path matches (default: all) once,
                                                    without a cache, and writes the file; others keep their times
    build_budget.py --check ROOT                    fails when a kernel file is not listed, or one is over its budget

BUILD needs compile_commands.json (-DCMAKE_EXPORT_COMPILE_COMMANDS=ON). Times are processor seconds (user + system), so
that a busy machine does not count.
"""
import json
import pathlib
import platform
import re
import resource
import shlex
import subprocess
import sys
import tempfile

LIMIT, LIMIT_CUB = 10.0, 45.0
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


def measure(root, build, pattern):
    units = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    old, times = kept(root), {}
    for unit in units:
        path = str(pathlib.Path(unit["file"]).resolve().relative_to(root))
        key = (path, "nvcc" if "nvcc" in unit["command"] else "g++")
        if key in times:
            continue  # a source of several programs
        if re.search(pattern, path):
            times[key] = seconds(unit["command"], unit["directory"])
            print(f"{times[key]:6.1f} s  {key[1]:5} {path}", flush=True)
        elif key in old:
            times[key] = old[key]
    return times


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
    text = ["# Build budget", "",
            f"A translation unit may take {LIMIT:.0f} s on one GPU architecture, one that includes CUB or Thrust "
            f"{LIMIT_CUB:.0f} s.", "Processor seconds (user + system) without a cache, written by "
            "`tests/repo/build_budget.py`,", "which the test `repo_build_budget` holds the kernels to.", "",
            f"{processor()}; g++ {version('g++', '-dumpfullversion')}, nvcc {version(nvcc, '--version')}, sm_90. "
            f"{len(times)} units, {sum(times.values()):.0f} s.", "Kernels are compiled by nvcc for the library and by "
            "g++ for the emulator.", "", "| unit | compiler | seconds | CUB or Thrust |", "|---|---|---|---|"]
    for (path, compiler), time in sorted(times.items(), key=lambda item: (not item[0][0].endswith(".cu"), item[0])):
        text.append(f"| {path} | {compiler} | {time:.1f} | {'yes' if uses_cub(root, path) else 'no'} |")
    return "\n".join(text) + "\n"


def sources(root):
    """Kernel files that the lists of sources name."""
    text = "".join((root / name).read_text(encoding="utf-8") for name in
                   ("kernels/sources.cmake", "kernels/graph/sources.cmake") if (root / name).exists())
    return set(re.findall(r"kernels/[\w/]+\.cu\b", text))


def check(root):
    times = {key: time for key, time in kept(root).items() if key[0].endswith(".cu")}
    problems = [f"{path} has no time: build_budget.py --measure ROOT BUILD {path}" for path in sorted(sources(root)) if (path, "nvcc") not in times]
    for (path, compiler), time in sorted(times.items()):
        limit = LIMIT_CUB if uses_cub(root, path) else LIMIT
        if time > limit:
            problems.append(f"{path} takes {time} s by {compiler}; needs {limit:.0f}")
    print("\n".join(problems))
    print(f"{len(times)} kernel units, {len(problems)} problem(s)")
    return 1 if problems else 0


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        sys.exit(check(pathlib.Path(sys.argv[2]).resolve()))
    if len(sys.argv) not in (4, 5) or sys.argv[1] != "--measure":
        sys.exit(__doc__)
    root, build = (pathlib.Path(word).resolve() for word in sys.argv[2:4])
    cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
    nvcc = re.search(r"^CMAKE_CUDA_COMPILER:\w+=(.*)$", cache, re.M)
    times = measure(root, build, sys.argv[4] if len(sys.argv) == 5 else "")
    (root / "docs/build_budget.md").write_text(render(root, times, nvcc.group(1) if nvcc else "nvcc"), encoding="utf-8")


if __name__ == "__main__":
    main()
