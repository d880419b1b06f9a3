# SPDX-License-Identifier: Apache-2.0
"""What README and docs say exists, exists: links, headings, files, commands, presets, options, tests,
and the code they show is a file that the tests build. Each sentence of docs/guarantees.md names its test."""
import json
import os
import re

import tree

TOP_FOLDERS = ("include/", "kernels/", "host/", "tests/", "bench/", "docs/", ".ci/")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
# A path in a command or between backticks; build products and the user's own files are not ours to find.
PATH = re.compile(r"(?<![\w./-])(?:\./)?((?:%s)[\w./-]*\w/?)" % "|".join(re.escape(t) for t in TOP_FOLDERS))


def slug(heading):
    """GitHub's anchor of a heading."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def anchors(text):
    return {slug(line.lstrip("#")) for line in FENCE.sub("", text).splitlines() if line.startswith("#")}


def check_links(root, path, text):
    for label, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(os.path.join(root, there)):
            yield f"{path}: link [{label}] leads to {target}, which does not exist"
        elif anchor and there.endswith(".md") and anchor not in anchors(tree.read(root, there)):
            yield f"{path}: link [{label}] leads to {target}, a heading that does not exist"


def check_paths(root, path, text):
    # "host/cpu/forward.{h,cc}" names two files
    expanded = re.sub(r"([\w./-]+)\{([\w,.]+)\}",
                      lambda m: " ".join(m.group(1) + end for end in m.group(2).split(",")), text)
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", expanded))
    spans += [body for kind, body in FENCE.findall(expanded) if kind in ("", "sh", "bash", "console", "text")]
    for span in spans:
        for name in PATH.findall(span):
            if not os.path.exists(os.path.join(root, name)):
                yield f"{path}: names {name}, which does not exist"


def check_options(path, command, options):
    for program, known in options.items():
        if not re.search(program, command):
            continue
        for option in re.findall(r"(?<=\s)--[a-z][\w-]*", command):
            if option not in known:
                yield f"{path}: option {option} of `{command}` does not exist"


def check_commands(path, text, options, presets):
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        yield from check_options(path, span, options)
    for kind, body in FENCE.findall(text):
        if kind not in ("sh", "bash", "console"):
            continue
        for line in re.sub(r"\\\n", " ", body).splitlines():
            command = line.split("  #")[0].strip()
            for preset in re.findall(r"--preset[ =](\w+)", command):
                if preset not in presets:
                    yield f"{path}: preset {preset} of `{command}` does not exist"
            for part in re.split(r"&&|\||;", command):
                yield from check_options(path, part.strip(), options)


def check_tests(path, text, cases):
    """`Suite.Case` between backticks is a test that exists."""
    for suite, case in re.findall(r"`([A-Z]\w+)\.([A-Z]\w+)(?:/[\w*]+)?`", text):
        if (suite, case) not in cases:
            yield f"{path}: names the test {suite}.{case}, which does not exist"


def sentences(text):
    """Bullets and paragraphs below the first heading of the second level, cut into sentences and their clauses."""
    body = FENCE.sub("", text)
    body = re.sub(r"^#.*$", "", body[max(0, body.find("\n## ")):], flags=re.M)
    for block in re.split(r"\n\s*\n|\n(?=[-*] )", body):
        block = " ".join(line.strip() for line in block.splitlines()).strip().lstrip("-* ")
        yield from (part for part in re.split(r"(?<=[.;])\s+", block) if part)


def check_guarantees(path, text):
    """A promise without a test is none."""
    for sentence in sentences(text):
        if not re.search(r"`[A-Z]\w+\.[A-Z]\w+(?:/[\w*]+)?`|`tests/[\w./-]+`", sentence):
            yield f"{path}: names no test: {sentence[:70]}"


def check_code(path, text, examples):
    """C, C++ and Python shown in the docs is part of a file under docs/examples."""
    for kind, body in FENCE.findall(text):
        if kind in ("cpp", "c++", "cc", "c", "python") and not any(body.strip() in example for example in examples):
            yield f"{path}: code that is in no file of docs/examples: {body.strip().splitlines()[0]}"


def gather(root, names):
    """Options of the programs (by a pattern of their names), presets, test cases and examples: what the docs may name."""
    def options_of(folder, *more):
        sources = [n for n in names if n.startswith(folder) and n.endswith((".cc", ".h")) or n in more]
        return {"--help"}.union(*(re.findall(r"--[a-z][\w-]*", tree.read(root, name)) for name in sources))

    options = {r"docs/demo\.sh|resembed-train": options_of("host/train/", "docs/demo.sh"),
               r"resembed-graph": options_of("host/graph_tool/")}
    presets = set()
    if "CMakePresets.json" in names:
        presets = {p["name"] for p in json.loads(tree.read(root, "CMakePresets.json"))["configurePresets"]}
    cases = set()
    for name in names:
        if name.startswith("tests/") and name.endswith(".cc"):
            cases.update(re.findall(r"TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", tree.read(root, name)))
    examples = [tree.read(root, n) for n in names if n.startswith("docs/examples/")]
    return options, presets, cases, examples


def check(root):
    names = tree.files(root)
    options, presets, cases, examples = gather(root, names)
    problems = []
    for path in names:
        if not path.endswith(".md"):
            continue
        text = tree.read(root, path)
        problems += check_links(root, path, text)
        problems += check_paths(root, path, text)
        problems += check_commands(path, text, options, presets)
        problems += check_tests(path, text, cases)
        problems += check_code(path, text, examples)
        if path == "docs/guarantees.md":
            problems += check_guarantees(path, text)
    return problems


if __name__ == "__main__":
    tree.main(check)
