# SPDX-License-Identifier: Apache-2.0
"""The shared library exports exactly the functions the C headers declare, and needs only the C and C++
runtimes. Usage: check_exports.py ROOT LIBRARY"""
import re
import subprocess
import sys

import tree

HEADERS = ("include/resembed/resembed.h", "include/resembed/services.h")
RUNTIMES = re.compile(r"^(libstdc\+\+|libm|libgcc_s|libc|libpthread|ld-linux.*|libatomic)\.so")


def declared(root):
    names = set()
    for header in HEADERS:
        for statement in tree.code_only(tree.read(root, header)).split(";"):
            function = re.search(r"\bRESEMBED_API\b(?!\s*\n?#)[^()]*?\b(resembed_\w+)\s*\(", statement)
            if function:
                names.add(function.group(1))
    return names


def exported(library):
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def needed(library):
    dump = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dump)


def check(root, library):
    promise, fact = declared(root), exported(library)
    problems = [f"{name} is declared and not exported" for name in sorted(promise - fact)]
    problems += [f"{name} is exported and not declared" for name in sorted(fact - promise)]
    problems += [f"the library needs {name}" for name in needed(library) if not RUNTIMES.match(name)]
    if not promise:
        problems.append("no declaration was found in the headers")
    print(f"{len(promise)} functions declared, {len(fact)} symbols exported")
    return problems


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(tree.report("check_exports.py", check(sys.argv[1], sys.argv[2])))
