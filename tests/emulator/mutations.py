# SPDX-License-Identifier: Apache-2.0
"""The mutants of the kernels: one-line changes, all compiled in at once behind a switch that is read at run time."""
import os
import re

# What a mutated file includes. `< ` becomes `< Less<7>{} < `: the tag takes the left operand, then the right one, at
# the precedence that the operator has. RESEMBED_MUTANT chooses; -1 chooses none and records, test by test
# (RECORDER), which mutants would have made a difference.
HEADER = """
#pragma once
#include <cstdlib>
namespace resembed::mutant {
constexpr int kMost = 32768;
inline int Read() { const char* text = std::getenv("RESEMBED_MUTANT"); return text == nullptr ? 0 : std::atoi(text); }
inline const int chosen = Read();
inline bool differs[kMost];
template <int k> bool On() { if (chosen < 0) differs[k] = true; return chosen == k; }
template <int k> bool Either(bool original, bool mutated) {
  if (chosen < 0 && original != mutated) differs[k] = true;
  return chosen == k ? mutated : original;
}
template <int k> int One() { return On<k>() ? 0 : 1; }
#define RESEMBED_COMPARISON(Name, op, other)                                            \\
  template <int k> struct Name {};                                                      \\
  template <int k, class A> struct Name##Left { A a; };                                 \\
  template <int k, class A> Name##Left<k, A> operator op(A a, Name<k>) { return {a}; }  \\
  template <int k, class A, class B> bool operator op(Name##Left<k, A> left, B b) { return Either<k>(left.a op b, left.a other b); }
RESEMBED_COMPARISON(Less, <, <=)
RESEMBED_COMPARISON(LessEqual, <=, <)
RESEMBED_COMPARISON(Greater, >, >=)
RESEMBED_COMPARISON(GreaterEqual, >=, >)
RESEMBED_COMPARISON(Equal, ==, !=)
RESEMBED_COMPARISON(NotEqual, !=, ==)
}  // namespace resembed::mutant
"""
# Linked into each test program: writes `test, milliseconds, mutants` for each test to RESEMBED_MUTANT_RECORD.
RECORDER = """
#include <gtest/gtest.h>
#include <cstdio>
#include <cstring>
#include "mutant.h"
namespace resembed::mutant {
struct Recorder : testing::EmptyTestEventListener {
  explicit Recorder(const char* path) : file(std::fopen(path, "w")) {}
  void OnTestEnd(const testing::TestInfo& test) override {
    std::fprintf(file, "%s.%s %lld", test.test_suite_name(), test.name(), static_cast<long long>(test.result()->elapsed_time()));
    for (int k = 0; k < kMost; ++k) if (differs[k]) std::fprintf(file, " %d", k);
    std::fprintf(file, "\\n");
    std::fflush(file);
    std::memset(differs, 0, sizeof(differs));
  }
  std::FILE* file;
};
const bool records = [] {
  const char* path = std::getenv("RESEMBED_MUTANT_RECORD");
  if (path != nullptr) testing::UnitTest::GetInstance()->listeners().Append(new Recorder(path));
  return true;
}();
}  // namespace resembed::mutant
"""
# Atomics as plain reads and writes, for files that have any.
ATOMICS = """
#pragma once
#include "kernels/gpu.cuh"
#include "mutant.h"
namespace resembed::mutant {
#define RESEMBED_ATOMIC(Name, value)                                               \\
  template <int k, class T, class V> T Name(T* at, V by) {                         \\
    if (!On<k>()) return ::atomic##Name(at, by);                                   \\
    const T old = *at; *at = static_cast<T>(value); return old;                    \\
  }
RESEMBED_ATOMIC(Add, old + by)
RESEMBED_ATOMIC(Min, by < old ? by : old)
RESEMBED_ATOMIC(Max, by > old ? by : old)
RESEMBED_ATOMIC(Or, old | by)
RESEMBED_ATOMIC(Exch, by)
}  // namespace resembed::mutant
"""
NS = "::resembed::mutant::"
COMPARISONS = [("< to <=", r"(?<=[\w)\]]) < (?=[\w(-])", "<", "Less"), ("<= to <", r" <= ", "<=", "LessEqual"),
               ("> to >=", r"(?<=[\w)\]]) > (?=[\w(-])", ">", "Greater"), (">= to >", r" >= ", ">=", "GreaterEqual"),
               ("== to !=", r" == ", "==", "Equal"), ("!= to ==", r" != ", "!=", "NotEqual")]
# Lines that no run depends on.
SKIPPED = re.compile(r"^\s*(#|//|static_assert|template|using |inline constexpr|constexpr)|if constexpr|^\s*for \(int \w+ = 0; "
                     r"\w+ < k\w+; \+\+\w+\)\s*\{?$")


def end_of_conjunction(code, at):
    """Where the && chain that starts at `at` ends, or None where the line ends before it."""
    depth = 0
    while at < len(code):
        if code[at] in "([{":
            depth += 1
        elif code[at] in ")]}":
            depth -= 1
            if depth < 0:
                return at
        elif depth == 0:
            if code[at] in ";,?" or code.startswith(" || ", at) or code.startswith(" : ", at):
                return at
        at += 1
    return None


def changes(code):
    """(operator, edits of the switched line, the line as the mutant means it) for each mutant of a line. An edit is
    (place, characters to drop, text with {} for the mutant's number)."""
    for match in re.finditer(r"__sync(threads|warp)\(([^()]*)\);|__barrier_sync(_count)?\(([^()]*)\);", code):
        yield "barrier dropped", [(match.start(), 0, f"if (!{NS}On<{{}}>()) ")], code[:match.start()] + ";" + code[match.end():]
    for match in re.finditer(r"__threadfence(_block|_system)?\(\);", code):
        yield "fence dropped", [(match.start(), 0, f"if (!{NS}On<{{}}>()) ")], code[:match.start()] + ";" + code[match.end():]
    for match in re.finditer(r"\batomic(Add|Min|Max|Or|Exch)\(", code):
        yield ("atomic made plain", [(match.start(), len(match.group(0)), f"{NS}{match.group(1)}<{{}}>(")],
               code[:match.start()] + f"plain{match.group(1)}(" + code[match.end():])
    for name, pattern, sign, tag in COMPARISONS:
        for match in re.finditer(pattern, code):
            other = name.split()[-1]
            yield (name, [(match.end(), 0, f"{NS}{tag}<{{}}>{{{{}}}} {sign} ")],
                   code[:match.start()] + f" {other} " + code[match.end():])
    for match in re.finditer(r"\bif \(([^{};]*)\) (return|continue|break)\b", code):
        yield ("guard dropped", [(match.start(1), 0, f"{NS}Either<{{}}>("), (match.end(1), 0, ", false)")],
               code[:match.start(1)] + "false" + code[match.end(1):])
    for sign in "+-":
        for match in re.finditer(rf" \{sign} 1\b(?!\.)", code):
            yield (f"{sign} 1 dropped", [(match.start() + 3, 1, f"{NS}One<{{}}>()")],
                   code[:match.start()] + f" {sign} 0" + code[match.end():])
    for sign, name, kept in (("&&", "&& to its left side", "true"), ("||", "|| to its left side", "false")):
        for match in re.finditer(f" {re.escape(sign)} (?=[\\w!(])", code):
            end = end_of_conjunction(code, match.end())
            edits = None if end is None else [(match.end(), 0, f"{NS}Either<{{}}>("), (end, 0, f", {kept})")]
            changed = code[:match.start()] + " [" + sign + " " + (code[match.end():] if end is None else
                                                                code[match.end():end] + "]" + code[end:])
            yield name, edits, changed


# The seam, which the conformance tests hold; and what the emulator has in place of CUB.
OTHERS = ("kernels/gpu.cuh", "kernels/sort/sort.cu")
MOST = 512  # mutants of a file


def only_nvcc(lines):
    """Whether each line is one that only nvcc compiles."""
    inside = []
    for line in lines:
        if line.startswith("#if"):
            inside.append(line.strip() == "#ifdef __CUDACC__")
        elif line.startswith("#else"):
            inside[-1] = False
        elif line.startswith("#endif"):
            inside.pop()
        yield any(inside)


class Mutant:
    def __init__(self, number, path, line, name, edits, text):
        self.number, self.path, self.line, self.name, self.edits, self.text = number, path, line, name, edits, text
        self.key = (path, name, text, 0)  # the last one counts equal ones of a file

    def __str__(self):
        return f"{self.path}:{self.line}: {self.name}: {self.text}"


def kernel_files(source):
    for folder, _, names in sorted(os.walk(os.path.join(source, "kernels"))):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), source)
            if name.endswith((".cu", ".cuh")) and path not in OTHERS:
                yield path


def mutants(source):
    """Every mutant of the kernels. Numbers are a file's own, so that a change of one file builds no other."""
    result, seen = [], {}
    for place, path in enumerate(kernel_files(source)):
        number = place * MOST
        with open(os.path.join(source, path), encoding="ascii") as file:
            lines = file.read().splitlines()
        for (line, text), other in zip(enumerate(lines, 1), only_nvcc(lines)):
            code = text.split("//")[0].rstrip()
            if other or SKIPPED.search(code):
                continue
            for name, edits, changed in changes(code):
                number += 1
                mutant = Mutant(number, path, line, name, edits, changed.strip())
                seen[mutant.key] = seen.get(mutant.key, -1) + 1
                mutant.key = mutant.key[:3] + (seen[mutant.key],)
                result.append(mutant)
    return result


def write_switched(source, chosen, folder):
    """A copy of kernels/ below `folder` with these mutants behind their switch; line numbers stay."""
    by_line = {}
    for mutant in chosen:
        by_line.setdefault((mutant.path, mutant.line), []).append(mutant)
    for path in kernel_files(source):
        with open(os.path.join(source, path), encoding="ascii") as file:
            lines = file.read().split("\n")
        atomics = touched = False
        for line in range(1, len(lines) + 1):
            edits = []
            for mutant in by_line.get((path, line), []):
                atomics |= mutant.name == "atomic made plain"
                touched = True
                edits += [(at, mutant.edits[0][0], drop, text.format(mutant.number)) for at, drop, text in mutant.edits]
            # From the right; where two end together, the one that begins first is the outer one.
            for at, _, drop, text in sorted(edits, key=lambda edit: (-edit[0], edit[1])):
                code = lines[line - 1]
                lines[line - 1] = code[:at] + text + code[at + drop:]
        if touched:
            lines[0] = f'#include "{"mutant_atomics.h" if atomics else "mutant.h"}"'  # instead of the license line
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        text = "\n".join(lines)
        write_changed(target, text)
    for name, text in (("mutant.h", HEADER), ("mutant_atomics.h", ATOMICS), ("recorder.cc", RECORDER)):
        write_changed(os.path.join(folder, name), text)


def write_changed(path, text):
    """Leaves the file as it is, and its date, when it is the same."""
    if os.path.exists(path):
        with open(path, encoding="ascii") as file:
            if file.read() == text:
                return
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
