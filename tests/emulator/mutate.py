# SPDX-License-Identifier: Apache-2.0
"""Do the emulated tests notice a broken kernel? Makes one-line mutants of the files in kernels/ (barriers, fences and
atomics dropped, comparisons and guards turned, constants off by one), builds the emulated tests against each, and
reports which are caught, by what, and which survive.

Usage: mutate.py BUILD... [--source FOLDER] [--only TEXT] [--line N] [--sample N] [--seed N] [--jobs N] [--orders A,B] [--list]

Each BUILD is a build folder of this tree with CMAKE_EXPORT_COMPILE_COMMANDS=ON and the target emulated_tests built:
a plain one, then one under AddressSanitizer, then one under ThreadSanitizer. A mutant goes on to the next folder when
the ones before did not catch it. A mutant is compiled into one of the files that include it and linked before the
library, so that its functions win: the fp32 instance, which most tests run, and when that is not caught another one,
chosen in turn. The programs run are those with the folder's name in theirs. Prints one line a mutant and a summary;
ends with 1 when fewer than 90 % are caught."""
import argparse
import concurrent.futures
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

PLAIN_ATOMICS = """
namespace resembed::mutant {
template <class T, class V> T Add(T* at, V by) { const T old = *at; *at = static_cast<T>(old + by); return old; }
template <class T, class V> T Min(T* at, V by) { const T old = *at; if (by < old) *at = by; return old; }
template <class T, class V> T Max(T* at, V by) { const T old = *at; if (by > old) *at = by; return old; }
template <class T, class V> T Or(T* at, V by) { const T old = *at; *at = old | by; return old; }
template <class T, class V> T Exch(T* at, V by) { const T old = *at; *at = by; return old; }
}  // namespace resembed::mutant
"""
# (name, pattern, replacement): one mutant for each match.
OPERATORS = [
    ("barrier dropped", r"__sync(threads|warp)\(([^()]*)\);", ";"),
    ("barrier dropped", r"__barrier_sync(_count)?\(([^()]*)\);", ";"),
    ("fence dropped", r"__threadfence(_block|_system)?\(\);", ";"),
    ("wait dropped", r"(gpu::)?WaitCopies<[^<>]*>\(\);", ";"),
    ("atomic made plain", r"\batomic(Add|Min|Max|Or|Exch)\(", r"::resembed::mutant::\1("),
    ("< to <=", r"(?<=[\w)\]]) < (?=[\w(-])", " <= "),
    ("<= to <", r" <= ", " < "),
    ("> to >=", r"(?<=[\w)\]]) > (?=[\w(-])", " >= "),
    (">= to >", r" >= ", " > "),
    ("== to !=", r" == ", " != "),
    ("!= to ==", r" != ", " == "),
    ("guard dropped", r"\bif \(([^{};]*)\) (return|continue|break)\b", r"if (false && (\1)) \2"),
    ("+ 1 dropped", r" \+ 1\b(?!\.)", " + 0"),
    ("- 1 dropped", r" - 1\b(?!\.)", " - 0"),
    ("&& to its left side", r" && (?=[\w!(])", " && true || false && "),
    ("|| to its left side", r" \|\| (?=[\w!(])", " || false && "),
]
# Lines that no run depends on.
SKIPPED = re.compile(r"^\s*(#|//|static_assert|template|using |inline constexpr|constexpr)|if constexpr|^\s*for \(int \w+ = 0; "
                     r"\w+ < k\w+; \+\+\w+\)\s*\{?$")


def kernel_files(source, only):
    for folder, _, names in sorted(os.walk(os.path.join(source, "kernels"))):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), source)
            if name.endswith((".cu", ".cuh")) and path != "kernels/gpu.cuh" and only in path:
                yield path


def mutants(source, only):
    """(path, line number, operator, mutated line) of every mutant."""
    for path in kernel_files(source, only):
        with open(os.path.join(source, path), encoding="ascii") as file:
            lines = file.read().splitlines()
        for number, line in enumerate(lines, 1):
            code = line.split("//")[0]
            if SKIPPED.search(code):
                continue
            for name, pattern, replacement in OPERATORS:
                for match in re.finditer(pattern, code):
                    changed = code[:match.start()] + match.expand(replacement) + code[match.end():]
                    yield path, number, name, changed


class Build:
    """A build folder: how its files are compiled and its programs linked."""

    def __init__(self, folder, source):
        self.folder = os.path.abspath(folder)
        with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as file:
            entries = json.load(file)
        # Of the two uses of a kernel file, the one that is compiled as C++.
        self.compile = {}
        for entry in entries:
            words = shlex.split(entry["command"])
            if entry["file"].endswith(".cu") and "/kernels/" in entry["file"] and "-DRESEMBED_EMULATED" in words:
                self.compile[os.path.relpath(entry["file"], source)] = (words, entry["directory"])
        self.programs = {}
        for folder, _, names in os.walk(os.path.join(self.folder, "tests", "gpu")):
            for name in names:
                if name.startswith("emulated_") and os.access(os.path.join(folder, name), os.X_OK):
                    self.programs[name] = folder

    def link(self, program):
        folder = self.programs[program]
        text = os.path.join(folder, "CMakeFiles", program + ".dir", "link.txt")
        if os.path.exists(text):
            with open(text, encoding="utf-8") as file:
                return shlex.split(file.read()), folder
        path = os.path.relpath(os.path.join(folder, program), self.folder)
        last = subprocess.run(["ninja", "-t", "commands", path], cwd=self.folder, check=True, capture_output=True,
                              text=True).stdout.splitlines()[-1]
        words = shlex.split(last)
        return [word for word in words if word not in (":", "&&")], self.folder


def includers(source, files):
    """For each kernel file the .cu files that contain it, directly or not."""
    direct = {}
    for path in files:
        with open(os.path.join(source, path), encoding="ascii") as file:
            direct[path] = set(re.findall(r'#include "(kernels/[^"]+)"', file.read()))
    result = {path: set() for path in files}
    for unit in files:
        if not unit.endswith(".cu"):
            continue
        seen, todo = set(), [unit]
        while todo:
            path = todo.pop()
            if path in seen or path not in direct:
                continue
            seen.add(path)
            todo.extend(direct[path])
        for path in seen:
            result[path].add(unit)
    return {path: sorted(units) for path, units in result.items()}


def run(command, folder, environment=None, seconds=600):
    """(exit status, output); 124 when it took too long."""
    try:
        done = subprocess.run(command, cwd=folder, env=environment, timeout=seconds, capture_output=True, text=True,
                              errors="replace")
        return done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return 124, ""


def reason(status, output):
    for pattern in (r"ThreadSanitizer: data race", r"AddressSanitizer: [\w-]+", r"runtime error: .*", r"divergent barrier",
                    r"deadlock", r"is not reached by the whole block", r"meets thread", r"watchdog", r"\d+ FAILED TEST"):
        found = re.search(pattern, output)
        if found:
            return found.group(0)[:60]
    return "took too long" if status == 124 else f"exit status {status}"


def judge(mutant, index, builds, units, source, orders):
    """(caught, by what)"""
    path, number, name, changed = mutant
    choices = [unit for unit in units[path] if unit in builds[0].compile]
    if not choices:
        return None, "not compiled into the emulated tests"
    first = next((unit for unit in choices if "f32_f32" in unit), choices[index % len(choices)])
    second = choices[index % len(choices)]
    with tempfile.TemporaryDirectory(prefix="mutant_") as work:
        shutil.copytree(os.path.join(source, "kernels"), os.path.join(work, "kernels"))
        target = os.path.join(work, path)
        with open(target, encoding="ascii") as file:
            lines = file.read().split("\n")
        lines[number - 1] = changed
        text = "\n".join(lines)
        if "::resembed::mutant::" in changed:
            at = text.index("#include")
            text = text[:at] + '#include "kernels/gpu.cuh"\n' + PLAIN_ATOMICS + text[at:]
        with open(target, "w", encoding="ascii") as file:
            file.write(text)
        for build in builds:
            for unit in dict.fromkeys((first, second)):
                caught = judge_in(build, unit, work, source, orders if build is builds[0] else orders[:2])
                if caught:
                    return caught
    return False, f"compiled into {first}, {second}"


def judge_in(build, unit, work, source, orders):
    words, folder = build.compile[unit]
    words = [word for word in words if "ccache" not in os.path.basename(word)]
    original = os.path.join(source, unit)
    mutated = os.path.join(work, "mutant.o")
    words = [os.path.join(work, unit) if os.path.realpath(word) == os.path.realpath(original) else word for word in words]
    words[words.index("-o") + 1] = mutated
    words.insert(1, "-I" + work)
    words.insert(2, "-w")
    status, output = run(words, folder)
    if status != 0:
        return None, "does not compile: " + next((l for l in output.splitlines() if "error" in l), "")[:80]
    operation = unit.split("/")[1]
    programs = sorted(program for program in build.programs if operation in program) or sorted(build.programs)
    for program in programs:
        command, folder = build.link(program)
        binary = os.path.join(work, program)
        command[command.index("-o") + 1] = binary
        command.insert(1, mutated)
        status, output = run(command, folder)
        if status != 0:
            return None, f"{program} does not link: " + output[-200:]
        for order in orders:
            environment = dict(os.environ, RESEMBED_EMULATOR_ORDER=order, RESEMBED_EMULATOR_WATCHDOG="20")
            status, output = run([binary, "--gtest_fail_fast", "--gtest_brief=1"], work, environment)
            if status != 0:
                return True, f"{os.path.basename(build.folder)}, {program}, {order}: {reason(status, output)}"
        os.remove(binary)
    return None


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("builds", nargs="*")
    parser.add_argument("--source", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--line", type=int, default=0, help="only mutants of this line")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, chosen at random; all dropped barriers, "
                        "fences, waits and atomics are among them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--orders", default="forward,reverse,random:1")
    parser.add_argument("--list", action="store_true", help="prints the mutants and runs none")
    arguments = parser.parse_args()
    source = os.path.realpath(arguments.source)
    chosen = list(mutants(source, arguments.only))
    chosen = [mutant for mutant in chosen if arguments.line in (0, mutant[1])]
    if arguments.sample and arguments.sample < len(chosen):
        always = [m for m in chosen if "dropped" in m[2] and "1" not in m[2] and "guard" not in m[2] or "atomic" in m[2]]
        others = [m for m in chosen if m not in always]
        random.Random(arguments.seed).shuffle(others)
        chosen = sorted(always + others[:max(arguments.sample - len(always), 0)])
    if arguments.list or not arguments.builds:
        for path, number, name, changed in chosen:
            print(f"{path}:{number}: {name}: {changed.strip()}")
        print(len(chosen), "mutants")
        return 0
    units = includers(source, list(kernel_files(source, "")))
    builds = [Build(folder, source) for folder in arguments.builds]
    caught, survivors, left_out = 0, [], 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = [pool.submit(judge, mutant, index, builds, units, source, arguments.orders.split(","))
                   for index, mutant in enumerate(chosen)]
        for mutant, future in zip(chosen, futures):
            verdict, why = future.result()
            path, number, name, changed = mutant
            word = "caught" if verdict else "left out" if verdict is None else "SURVIVED"
            print(f"{word}: {path}:{number}: {name}: {changed.strip()}\n    {why}", flush=True)
            caught += verdict is True
            left_out += verdict is None
            if verdict is False:
                survivors.append(mutant)
    judged = caught + len(survivors)
    print(f"\n{caught} of {judged} mutants caught ({100 * caught / max(judged, 1):.0f} %), {left_out} left out")
    for path, number, name, changed in survivors:
        print(f"  survived: {path}:{number}: {name}: {changed.strip()}")
    return 0 if caught >= 0.9 * judged else 1


if __name__ == "__main__":
    sys.exit(main())
