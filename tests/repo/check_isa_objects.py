# SPDX-License-Identifier: Apache-2.0
"""Objects compiled for a wider instruction set hold no symbol that the linker may take for the whole program
(an inline function from a header): it would run, and fail, on machines without those instructions.
Usage: check_isa_objects.py OBJECT..."""
import re
import subprocess
import sys

import tree


def shared_symbols(object_file):
    lines = subprocess.run(["nm", "-C", object_file], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(None, 2)[2] for line in lines if re.match(r"[0-9a-f]+ [WVu] ", line)]


def check(objects):
    wide = [name for name in objects if re.search(r"_avx\w+\.", name)]
    print("\n".join(wide))
    return [f"{name}: {symbol}" for name in wide for symbol in shared_symbols(name)]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(tree.report("check_isa_objects.py", check(sys.argv[1:])))
