# SPDX-License-Identifier: Apache-2.0
"""tests/not_run.py lists what a ctest run left out, of GoogleTest and of unittest, and what CI must have seen."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "not_run.py"
GOOGLETEST = """[ RUN      ] Isa.Avx512
isa_test.cc:7: Skipped
this machine has no AVX-512
[  SKIPPED ] Isa.Avx512 (0 ms)
[ RUN      ] Isa.Portable
[       OK ] Isa.Portable (0 ms)
"""
UNITTEST = """import unittest
class Case(unittest.TestCase):
    def test_a(self):
        print("a line of the test's own")
    def test_b(self):
        \"\"\"A docstring.\"\"\"
        self.skipTest("it's not installed")
    def test_c(self):
        print("words before")
        self.skipTest("no duckdb")
    @unittest.expectedFailure
    def test_d(self):
        self.fail()
    def test_e(self):
        print("this one is not skipped 'at all'.")
class Whole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("no torch")
    def test_f(self):
        pass
unittest.main(verbosity=%d)
"""


class NotRun(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def lines(self, preset, tests):
        """What not_run.py says of {name: output, or None where the test did not run}."""
        suite = xml.etree.ElementTree.Element("testsuite")
        for name, output in tests.items():
            case = xml.etree.ElementTree.SubElement(suite, "testcase", name=name,
                                                    status="notrun" if output is None else "run")
            xml.etree.ElementTree.SubElement(case, "system-out").text = output
        xml.etree.ElementTree.ElementTree(suite).write(self.folder / "results.xml")
        done = subprocess.run([sys.executable, "-B", PROGRAM, preset, self.folder / "results.xml"], check=True,
                              capture_output=True, text=True)
        return done.stdout.splitlines()

    def unittest_output(self, verbosity):
        (self.folder / "case.py").write_text(UNITTEST % verbosity, encoding="ascii")
        return subprocess.run([sys.executable, self.folder / "case.py"], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=False).stdout

    def test_skipped_cases_have_their_reason(self):
        output = self.unittest_output(2)
        self.assertIn("skipped", output)
        self.assertEqual(sorted(self.lines("other", {"isa_test": GOOGLETEST, "tool_test": output})), [
            "may\tother: isa_test: Isa.Avx512\tthis machine has no AVX-512",
            "may\tother: tool_test: setUpClass\tno torch",
            "may\tother: tool_test: test_b\tit's not installed",
            "may\tother: tool_test: test_c\tno duckdb",
        ])

    def test_what_unittest_does_not_explain_is_counted(self):
        self.assertEqual(self.lines("other", {"quiet_test": self.unittest_output(1)}),
                         ["may\tother: quiet_test: 3 of its cases\tskipped; the test does not print why"])
        self.assertEqual(self.lines("other", {"sound_test": "...\nRan 3 tests in 0.1s\n\nOK\n"}), [])

    def test_what_must_run(self):
        must = ["consumer_c11", "consumer_find_package", "consumer_add_subdirectory", "consumer_pkg_config",
                "consumer_python", "train_report_test", "graph_tool_test", "graph_tool_update_test"]
        ran = {name: "" for name in must}
        self.assertEqual(self.lines("cpu", ran), [])
        self.assertEqual(self.lines("cpu", {**ran, "graph_tool_test": None}),
                         ["must\tcpu: graph_tool_test\tnotrun", "must\tcpu: graph_tool_test\tno test of that name ran"])
        del ran["graph_tool_test"]
        self.assertEqual(self.lines("cpu", ran), ["must\tcpu: graph_tool_test\tno test of that name ran"])

    def test_emulated_kernels_must_run_where_they_can_be_built(self):
        must = ["consumer_c11", "consumer_find_package", "consumer_add_subdirectory", "consumer_pkg_config",
                "consumer_python", "train_report_test", "graph_tool_test", "graph_tool_update_test"]
        ran = {name: "" for name in must}
        cache = self.folder / "CMakeCache.txt"
        cache.write_text("RESEMBED_CUDA_INCLUDE:PATH=RESEMBED_CUDA_INCLUDE-NOTFOUND\n", encoding="ascii")
        self.assertEqual(self.lines("cpu", ran), [])
        cache.write_text("RESEMBED_CUDA_INCLUDE:PATH=/usr/local/cuda/include\n", encoding="ascii")
        kernels = ["emulated_cuda_%s_test_" % name for name in ("forward", "backward", "step")]
        self.assertEqual(self.lines("cpu", ran),
                         ["must\tcpu: %s\tno test of that name ran" % kernel for kernel in kernels])
        self.assertEqual(self.lines("cpu", {**ran, **{kernel + "reverse": "" for kernel in kernels}}), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
