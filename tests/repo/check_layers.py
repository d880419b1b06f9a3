# SPDX-License-Identifier: Apache-2.0
"""Includes point one way (include <- kernels <- host <- adapters), and library code keeps its promises:
it never prints, aborts, exits, asserts or throws."""
import os
import re

import tree

# A folder may include its own headers and, quoted, those below these prefixes. Longest prefix wins.
ALLOWED = {
    "include/": ("resembed/",),
    "kernels/": ("resembed/", "kernels/"),
    "host/": ("resembed/", "kernels/", "host/"),
    # Its own kernels are launched as the library's are.
    "host/train/": ("resembed/", "host/train/", "kernels/gpu.cuh", "kernels/common/host_device.h"),
    "host/graph_tool/": ("resembed/", "host/train/", "host/graph_tool/"),
    "host/torch/": ("resembed/", "host/torch/"),
    "host/jax/": ("resembed/", "host/jax/"),
    "tests/": ("resembed/", "kernels/", "host/", "tests/"),
    "tests/oracle/": ("resembed/types.h", "resembed/resembed.h", "tests/oracle/"),
    "tests/consumers/": ("resembed/",),
    "bench/": ("resembed/", "kernels/", "host/", "bench/"),
    "docs/": ("resembed/",),
}
# The one door of the emulator: g++ reads the kernels through it.
EXCEPTIONS = {("kernels/gpu.cuh", "tests/emulator/device.h")}
ADAPTERS = ("host/train/", "host/graph_tool/", "host/torch/", "host/jax/")
# Headers that belong to one layer only.
FRAMEWORKS = re.compile(r"^(torch/|ATen/|c10/|pybind11/|Python\.h|jax|xla/)")
TRAINER_ONLY = re.compile(r"^(Eigen/|CLI/|zlib\.h)")
STREAMS = ("iostream", "cassert", "assert.h")
C_HEADERS = ("stddef.h", "stdint.h")
CALLS = re.compile(r"(?<![\w.>])(?:std::)?(v?f?printf|puts|fputs|putchar|putc|fputc|perror|abort|exit|_exit|"
                   r"quick_exit|terminate|assert)\s*\(|\bstd::(cout|cerr|clog)\b|\b(throw)\b")


def longest(path, prefixes):
    return max((p for p in prefixes if path.startswith(p)), key=len, default=None)


def is_library(path):
    return path.startswith(("include/", "kernels/", "host/")) and not path.startswith(ADAPTERS)


def check_include(path, name, quoted, siblings):
    layer = longest(path, ALLOWED)
    library = is_library(path)
    if path.startswith("include/") and not path.endswith(".hpp") and not quoted and name not in C_HEADERS:
        return f"a public C header includes <{name}>"
    if FRAMEWORKS.match(name) and not path.startswith(("host/torch/", "host/jax/", "docs/examples/torch")):
        return f"{name} outside its adapter"
    if library and (name in STREAMS or TRAINER_ONLY.match(name)):
        return f"library code includes {name}"
    if not quoted or layer is None or name in siblings:
        return None
    if not name.startswith(ALLOWED[layer]) and (path, name) not in EXCEPTIONS:
        return f"{layer} may not include {name}"
    if layer == "host/" and name.startswith(ADAPTERS):
        return f"{layer} may not include an adapter ({name})"
    return None


def check(root):
    problems = []
    for path in tree.files(root):
        if not path.endswith(tree.SOURCE):
            continue
        text = tree.read(root, path)
        siblings = set(os.listdir(os.path.join(root, os.path.dirname(path))))
        for number, line in enumerate(text.splitlines(), 1):
            include = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            wrong = include and check_include(path, include.group(2), include.group(1) == '"', siblings)
            if wrong:
                problems.append(f"{path}:{number}: {wrong}")
        if is_library(path):
            for number, line in enumerate(tree.code_only(text).splitlines(), 1):
                call = CALLS.search(line)
                if call:
                    problems.append(f"{path}:{number}: library code uses {next(filter(None, call.groups()))}")
    return problems


if __name__ == "__main__":
    tree.main(check)
