# SPDX-License-Identifier: Apache-2.0
"""Every text file: where it lies, how long it is, ASCII, one spelling, and no word that is stale tomorrow."""
import os
import re

import tree

TOP_LEVEL = {"kernels", "include", "host", "tests", "bench", "docs", "CMakeLists.txt", "README.md", "LICENSE",
             "CMakePresets.json"}
MAX_LINES = 500
LIMITED = tree.SOURCE + (".py", ".sh", ".cmake", ".md", "CMakeLists.txt")

# American spelling, the words this project is likely to use. Keys are stems: "centre" also finds "centred".
SPELLING = {
    "centre": "center", "centring": "centering", "neighbour": "neighbor", "colour": "color",
    "behaviour": "behavior", "favour": "favor", "normalis": "normaliz", "regularis": "regulariz",
    "optimis": "optimiz", "initialis": "initializ", "serialis": "serializ", "synchronis": "synchroniz",
    "vectoris": "vectoriz", "quantis": "quantiz", "summaris": "summariz", "recognis": "recogniz",
    "materialis": "materializ", "minimis": "minimiz", "maximis": "maximiz", "organis": "organiz",
    "labelled": "labeled", "labelling": "labeling", "modelled": "modeled", "modelling": "modeling",
    "licence": "license", "artefact": "artifact",
}
STEMS = re.compile(r"(?<![a-z])(" + "|".join(SPELLING) + r")(?!m|tic)", re.I)  # not organism, optimistic
# What does not belong in a tree: notes to self, one machine's folders, references to a tracker.
STALE = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b"), "a note to self"),
    (re.compile(r"(?<![\w.$}~/])/(home|root|work|mnt|Users)/\w"), "a path of one machine"),
    (re.compile(r"\b(?:issue|pull request|PR|ticket)s? ?#?\d+\b", re.I), "a reference to a tracker"),
    (re.compile(r"^\s*(//|#|\*)\s*[-=*/#]{8,}\s*$"), "a banner line"),
    (re.compile(r"^(<<<<<<<|>>>>>>>) "), "a merge conflict"),
]


def check(root):
    problems = []
    own = os.path.join("tests", "repo", "")
    for path in tree.files(root):
        top = path.split(os.sep)[0]
        if top not in TOP_LEVEL and not top.startswith("."):
            problems.append(f"{path}: {top} is not one of the top-level names")
        if os.path.getsize(os.path.join(root, path)) == 0:
            problems.append(f"{path}: empty file")
        if not tree.is_text(path):
            continue
        lines = tree.read(root, path).splitlines()
        if path.endswith(LIMITED) and len(lines) >= MAX_LINES:
            problems.append(f"{path}: {len(lines)} lines; needs fewer than {MAX_LINES}")
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            if not line.isascii():
                problems.append(f"{where}: not ASCII: {ascii(line.strip())[:80]}")
            if path.startswith(own) or path == "LICENSE":
                continue  # these lists themselves
            for stem in STEMS.findall(line):
                problems.append(f"{where}: {stem}; needs {SPELLING[stem.lower()]}")
            for pattern, what in STALE:
                if pattern.search(line):
                    problems.append(f"{where}: {what}: {line.strip()[:80]}")
    return problems


if __name__ == "__main__":
    tree.main(check)
