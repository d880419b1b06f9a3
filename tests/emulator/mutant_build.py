# SPDX-License-Identifier: Apache-2.0
"""A build folder whose emulated test programs are linked once more, with all mutants in them behind the switch."""
import concurrent.futures
import json
import os
import re
import resource
import shlex
import signal
import subprocess

import mutations

MEMORY = 12 << 30  # bytes of addresses that a plain program may have: a mutant may allocate without end
# Instances of the forward that stay as they are, because they are much to compile: a mutant is in four of nine.
OTHER_INSTANCES = re.compile(r"forward/inst_(f32_f16|f32_bf16|f16_f32|bf16_f16|bf16_bf16)\.cu")
QUICK, SLOW = 100, 5000  # milliseconds of the tests that run first, and of the slowest ones beside quicker ones


def run(command, folder, environment=None, limits=()):
    """(exit status, output), under these limits: [(resource, most)]."""
    def limit():
        for what, most in limits:
            resource.setrlimit(what, (most, most))
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
                          preexec_fn=limit, check=False)
    return done.returncode, done.stdout + done.stderr


def reason(status, output):
    for pattern in (r"ThreadSanitizer: data race", r"AddressSanitizer: [\w-]+", r"runtime error: .{,40}"):
        found = re.search(pattern, output)
        if found:
            return found.group(0)
    found = re.search(r"FAILED  \] ([\w/]+\.[\w/]+)", output)
    if found:
        return found.group(1)
    for pattern in (r"divergent barrier", r"deadlock", r"is not reached by the whole block", r"meets thread", r"watchdog"):
        found = re.search(pattern, output)
        if found:
            return found.group(0)
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "does not end"
    return f"ends with {signal.Signals(-status).name if status < 0 else status}"


class Build:
    def __init__(self, folder, source, work="mutants"):
        self.folder, self.source = os.path.abspath(folder), source
        self.work = os.path.join(self.folder, work)
        self.failed = os.path.join(self.work, "left_out.json")
        os.makedirs(self.work, exist_ok=True)
        with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as file:
            entries = json.load(file)
        # Of the two uses of a kernel file, the one that is compiled as C++.
        self.compile = {}
        for entry in entries:
            words = shlex.split(entry["command"])
            if entry["file"].endswith(".cu") and "/kernels/" in entry["file"] and "-DRESEMBED_EMULATED" in words \
                    and not OTHER_INSTANCES.search(entry["file"]):
                self.compile["kernels/" + entry["file"].split("/kernels/")[-1]] = (words, entry["directory"])
            if entry["file"].endswith("tests/emulator/listener.cc"):
                self.compile["recorder.cc"] = (words, entry["directory"])
        flags = " ".join(self.compile["recorder.cc"][0])
        self.kind = "tsan" if "=thread" in flags else "asan" if "-fsanitize=address" in flags else "plain"
        self.patience = {"plain": 1, "asan": 6, "tsan": 12}[self.kind]
        folder = os.path.join(self.folder, "tests", "gpu")
        self.programs = sorted(name for name in os.listdir(folder) if re.fullmatch(r"emulated_\w+_test", name)
                               and os.access(os.path.join(folder, name), os.X_OK))

    def command(self, unit):
        words, folder = self.compile[unit]
        words = [word for word in words if "ccache" not in os.path.basename(word)]
        words[words.index("-c") + 1] = os.path.join(self.work, unit)
        words[words.index("-o") + 1] = self.object(unit)
        return words[:1] + ["-I" + self.work, "-w"] + words[1:], folder

    def object(self, unit):
        return os.path.join(self.work, unit.replace("/", "_") + ".o")

    def prepare(self, chosen, jobs):
        """Compiles the chosen mutants into the programs; gives those that do not compile behind a switch."""
        left_out = self.known_to_fail(chosen)
        while True:
            mutations.write_switched(self.source, [m for m in chosen if m not in left_out], self.work)
            units = units_with(self.work, {m.path for m in chosen}) & set(self.compile) | {"recorder.cc"}
            stale = [unit for unit in sorted(units) if self.stale(unit)]
            print(f"{self.kind}: compiling {len(stale)} files", flush=True)
            wrong = set()
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                for unit, (status, output) in zip(stale, pool.map(lambda unit: run(*self.command(unit)), stale)):
                    if not status:
                        continue
                    found = self.at_fault(output, [m for m in chosen if m not in left_out])
                    if not found:
                        raise SystemExit(f"{unit} does not compile:\n{output[-3000:]}")
                    wrong |= found
            if not wrong:
                break
            left_out |= wrong
            with open(self.failed, "w", encoding="utf-8") as file:
                json.dump([mutant.key for mutant in left_out], file)
        self.objects = [self.object(unit) for unit in sorted(units)]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self.link, self.programs))
        return sorted(left_out, key=lambda mutant: mutant.number)

    def known_to_fail(self, chosen):
        """Of an earlier call."""
        if not os.path.exists(self.failed):
            return set()
        with open(self.failed, encoding="utf-8") as file:
            keys = {tuple(key) for key in json.load(file)}
        return {mutant for mutant in chosen if mutant.key in keys}

    def at_fault(self, output, chosen):
        """The mutants in whose lines the compiler sees errors, or from whose lines it comes to them."""
        for pattern in (r"^([^\s:]+):(\d+):(?:\d+:)? error", r"^([^\s:]+):(\d+):"):
            lines = {(os.path.relpath(os.path.realpath(path), os.path.realpath(self.work)), int(line))
                     for path, line in re.findall(pattern, output, re.M)}
            found = {m for m in chosen if (m.path, m.line) in lines}
            if found:
                return found
        return set()

    def stale(self, unit):
        target = self.object(unit)
        if not os.path.exists(target):
            return True
        newest = max(os.path.getmtime(os.path.join(self.work, path)) for path in
                     [*used_by(self.work, unit), "mutant.h", "mutant_atomics.h"])
        return os.path.getmtime(target) <= newest

    def link(self, program):
        path, target = os.path.join("tests", "gpu", program), os.path.join(self.work, program)
        newest = max(os.path.getmtime(file) for file in [*self.objects, os.path.join(self.folder, path)])
        if os.path.exists(target) and os.path.getmtime(target) > newest:
            return
        words = subprocess.run(["ninja", "-t", "commands", path], cwd=self.folder, check=True, capture_output=True,
                               text=True).stdout.splitlines()[-1]
        words = [word for word in shlex.split(words) if word not in (":", "&&")]
        words[words.index("-o") + 1] = target
        status, output = run(words[:1] + self.objects + words[1:], self.folder)  # before the library, so that they win
        if status:
            raise SystemExit(f"{program} does not link:\n{output[-3000:]}")

    def record(self, order):
        """{mutant: {program: {test: milliseconds}}}: where it would have computed something else."""
        reached = {}
        for program in self.programs:
            path = os.path.join(self.work, program + ".txt")
            status, output = self.test(program, -1, order, 3600, "*", RESEMBED_MUTANT_RECORD=path)
            if status:
                raise SystemExit(f"{program} fails without a mutant:\n{output[-3000:]}")
            total = 0
            with open(path, encoding="ascii") as file:
                for line in file:
                    test, milliseconds, *numbers = line.split()
                    total += int(milliseconds)
                    for number in numbers:
                        reached.setdefault(int(number), {}).setdefault(program, {})[test] = int(milliseconds)
            print(f"{self.kind}: {program}: {total / 1000:.1f} s", flush=True)
        return reached

    def test(self, program, number, order, seconds, tests, **more):
        # Processor time, since the machine may be busy with something else.
        environment = dict(os.environ, RESEMBED_EMULATOR_ORDER=order, RESEMBED_EMULATOR_WATCHDOG="3600",
                           RESEMBED_MUTANT=str(number), **more)
        limits = [(resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_CORE, 0)]
        if self.kind == "plain":
            limits.append((resource.RLIMIT_AS, MEMORY))
        return run([os.path.join(self.work, program), "--gtest_fail_fast", "--gtest_brief=1", "--gtest_filter=" + tests],
                   self.work, environment, limits)

    def run_tests(self, program, number, order, tests):
        """By what these tests, {name: milliseconds}, catch a mutant, or None."""
        seconds = (0.3 + sum(tests.values()) / 500) * self.patience
        status, output = self.test(program, number, order, seconds, ":".join(tests))
        return f"{self.kind}: {program}, {order}: {reason(status, output)}" if status else None

    def judge(self, mutant, reached, orders, most=SLOW):
        """By what a mutant is caught, or None, with tests of no more than so many milliseconds."""
        for order in orders:
            for program, tests in steps(reached.get(mutant.number, {}), most, whole=order == orders[0]):
                by = self.run_tests(program, mutant.number, order, tests) if program in self.programs else None
                if by:
                    return by
        return None


def steps(reached, most, whole):
    """[(program, {test: milliseconds})], the quickest first; no more than the quickest of each program unless `whole`."""
    result = []
    for program, tests in reached.items():
        names = sorted((name for name in tests if tests[name] <= most), key=lambda name: (tests[name], name))
        at = 0
        for size in (2, 10, *(300 for _ in names)):
            part = names[at:at + size]
            at += size
            if part and (whole or size <= 10):
                result.append((program, {name: tests[name] for name in part}))
    return sorted(result, key=lambda step: sum(step[1].values()))


def used_by(folder, unit):
    """The file and the kernel files that it includes, directly or not."""
    seen, todo = set(), [unit]
    while todo:
        path = todo.pop()
        if path not in seen and os.path.exists(os.path.join(folder, path)):
            seen.add(path)
            with open(os.path.join(folder, path), encoding="ascii") as file:
                todo.extend(re.findall(r'#include "(kernels/[^"]+)"', file.read()))
    return seen


def units_with(folder, files):
    """The .cu files that are or include one of these."""
    return {path for path in mutations.kernel_files(folder) if path.endswith(".cu") and used_by(folder, path) & files}
