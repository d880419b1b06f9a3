# SPDX-License-Identifier: Apache-2.0
"""The files of the tree, as the checks see them. Needs no git: a source archive is checked the same way."""
import os
import re
import sys

SKIPPED_FOLDERS = {".git", ".cache", "__pycache__", "build", "out"}
SOURCE = (".h", ".hpp", ".c", ".cc", ".cu", ".cuh", ".inc")
TEXT = SOURCE + (".py", ".sh", ".cmake", ".in", ".md", ".txt", ".json", ".tsv", ".csv", ".html", ".css", ".js")
NAMED_TEXT = {"LICENSE", "Makefile", "run", ".gitignore", ".clang-format", ".clang-tidy"}


def files(root):
    """Every file below root, as sorted paths relative to it; build and output folders left out."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(d for d in folders if d not in SKIPPED_FOLDERS and not d.startswith("build-"))
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(name for name in found if name != ".git")  # a worktree's .git is a file


def is_text(path):
    return path.endswith(TEXT) or os.path.basename(path) in NAMED_TEXT


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def code_only(text):
    """C or C++ source with comments and literals blanked, line numbers kept."""
    def blank(match):
        token = match.group(0)
        if token.startswith(("//", "/*")):
            return "\n" * token.count("\n")
        return token[0] + token[-1] + "\n" * token.count("\n")
    return re.sub(r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])*\'',
                  blank, text, flags=re.S)


def report(name, problems):
    """Prints what was found and returns the exit status of a check."""
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problem(s)")
    return 1 if problems else 0


def main(check):
    """Runs check(root) as a program: ROOT is the only argument."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} ROOT")
    sys.exit(report(os.path.basename(sys.argv[0]), check(sys.argv[1])))
