# SPDX-License-Identifier: Apache-2.0
"""The checks of this folder find what they are for: each case plants one fault in a small sound tree."""
import os
import shutil
import subprocess
import tempfile
import unittest

import check_docs
import check_exports
import check_isa_objects
import check_layers
import check_text

SOUND = {
    "include/resembed/resembed.h": "#include <stdint.h>\nRESEMBED_API int32_t\nresembed_version(void);\n",
    "include/resembed/services.h": "/* none */\n",
    "host/status.h": '#include "resembed/resembed.h"\n',
    "host/status.cc": '#include "host/status.h"\nint Throw() { return 0; }  // never throws, calls no abort()\n',
    "host/train/main.cc": '#include "host/train/log.h"\nint main() { throw 1; }  // --dim\n',
    "host/train/log.h": "#include <iostream>\n",
    "host/graph_tool/main.cc": "int main() { return 0; }  // --window\n",
    "tests/op/forward_test.cc": '#include "host/status.h"\nTEST(Forward, EmptyBagIsZero) {}\n',
    "docs/demo.sh": "#!/usr/bin/env bash\n",
    "docs/examples/quickstart.cc": "int main() { return 0; }\n",
    "CMakePresets.json": '{"configurePresets": [{"name": "cpu"}]}\n',
    "README.md": "# Name\n## Two words\n[here](#two-words) [demo](docs/demo.sh) `host/status.{h,cc}`\n"
                 "`Forward.EmptyBagIsZero`\n```sh\nbash docs/demo.sh --dim 8\ncmake --preset cpu\n"
                 "resembed-graph build --window 2 && resembed-train --dim 8\n```\n"
                 "```cpp\nint main() { return 0; }\n```\n",
}


class Planted(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="resembed_checks_")
        self.addCleanup(shutil.rmtree, self.root)
        for path, text in SOUND.items():
            self.put(path, text)

    def put(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def finds(self, module, path, text, what):
        self.put(path, text)
        problems = module.check(self.root)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(path, problems[0])
        self.assertIn(what, problems[0])

    def test_sound_tree_passes(self):
        for module in (check_docs, check_layers, check_text):
            self.assertEqual(module.check(self.root), [])

    def test_layers(self):
        for path, line, what in [
            ("host/graph/a.cc", '#include "host/train/log.h"', "adapter"),
            ("host/graph/a.cc", '#include "tests/x.h"', "may not include"),
            ("host/train/a.cc", '#include "host/status.h"', "may not include"),
            ("kernels/a.cuh", '#include "host/status.h"', "may not include"),
            ("tests/oracle/a.h", '#include "host/status.h"', "may not include"),
            ("host/cpu/a.cc", "#include <torch/torch.h>", "outside its adapter"),
            ("host/cpu/a.cc", "#include <iostream>", "library code includes"),
            ("include/resembed/a.h", "#include <vector>", "public C header"),
        ]:
            with self.subTest(line=line):
                self.finds(check_layers, path, line + "\n", what)
                os.remove(os.path.join(self.root, path))

    def test_promises_of_library_code(self):
        for line in ["throw 1;", "std::abort();", "exit(1);", "assert(x);", 'printf("x");', "std::cerr << 1;",
                     'int digits = 1\'000; throw digits;']:
            with self.subTest(line=line):
                self.finds(check_layers, "host/cpu/a.cc", line + "\n", "library code uses")

    def test_words_that_only_look_like_broken_promises(self):
        self.put("host/cpu/a.cc", "static_assert(true);\nstd::snprintf(a, 1, b);\nint x = FileExit(1);\n")
        self.assertEqual(check_layers.check(self.root), [])

    def test_text(self):
        for line, what in [("the centre of it", "needs center"), ("caf\u00e9", "not ASCII"),
                           ("a TODO", "note to self"), ("see /home/me/x", "path of one machine"),
                           ("as in issue #12", "tracker"), ("//" + "-" * 20, "banner")]:
            with self.subTest(line=line):
                self.finds(check_text, "docs/a.md", line + "\n", what)

    def test_files(self):
        self.finds(check_text, "host/long.cc", "int x;\n" * 500, "needs fewer than 500")
        os.remove(os.path.join(self.root, "host/long.cc"))
        self.finds(check_text, "host/empty.cc", "", "empty file")
        os.remove(os.path.join(self.root, "host/empty.cc"))
        self.finds(check_text, "scripts/a.sh", "ls\n", "top-level")

    def test_docs(self):
        for line, what in [("[x](nowhere.md)", "nowhere.md"), ("[x](../README.md#gone)", "heading"),
                           ("`host/gone.cc`", "host/gone.cc"), ("`Forward.Gone`", "Forward.Gone"),
                           ("```sh\nbash docs/gone.sh\n```", "docs/gone.sh"),
                           ("```sh\ncmake --preset gone\n```", "preset gone"),
                           ("```sh\nbash docs/demo.sh --gone\n```", "option --gone"),
                           ("```sh\nresembed-graph build --dim 8\n```", "option --dim"),
                           ("`resembed-graph build --gone`", "option --gone"),
                           ("```cpp\nint gone;\n```", "no file of docs/examples")]:
            with self.subTest(line=line):
                self.finds(check_docs, "docs/a.md", line + "\n", what)

    def test_guarantees(self):
        heading = "# Guarantees\nNo test needed here.\n\n## Numbers\n\n"
        self.put("docs/guarantees.md", heading + "- Zero (`Forward.EmptyBagIsZero`);\n  and so on\n"
                 "  (`tests/op/forward_test.cc`). Again (`Forward.EmptyBagIsZero`).\n")
        self.assertEqual(check_docs.check(self.root), [])
        for promise in ["- A promise.", "- Kept (`Forward.EmptyBagIsZero`). Not kept.",
                        "Kept (`Forward.EmptyBagIsZero`); not kept.", "A paragraph\nof two lines."]:
            with self.subTest(promise=promise):
                self.finds(check_docs, "docs/guarantees.md", heading + promise + "\n", "names no test")

    def test_exports(self):
        self.put("a.c", "int resembed_version(void) { return 1; }\n")
        library = os.path.join(self.root, "liba.so")
        build = ["cc", "-shared", "-fPIC", os.path.join(self.root, "a.c"), "-o", library]
        subprocess.run(build, check=True)
        self.assertEqual(check_exports.check(self.root, library), [])
        self.put("a.c", "int resembed_gone(void) { return 1; }\n")
        subprocess.run(build, check=True)
        self.assertEqual(check_exports.check(self.root, library), [
            "resembed_version is declared and not exported", "resembed_gone is exported and not declared"])

    def test_isa_objects(self):
        self.put("x_avx2.cc", "inline int Twice(int x) { return 2 * x; }\nint (*kUse)(int) = &Twice;\n")
        wide = os.path.join(self.root, "x_avx2.o")
        subprocess.run(["c++", "-c", os.path.join(self.root, "x_avx2.cc"), "-o", wide], check=True)
        self.assertEqual(check_isa_objects.check([wide]), [f"{wide}: Twice(int)"])
        self.assertEqual(check_isa_objects.check([wide.replace("_avx2", "_portable")]), [])


if __name__ == "__main__":
    unittest.main()
