# SPDX-License-Identifier: Apache-2.0
"""Finding and loading the library, the binary itself, and the wheel."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

import torch

import resembed
from resembed import _library
from support import TestCase

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FOLDER = ROOT / "host" / "torch" / "python"
LIBRARY = _library.find()
CHECK = ("import torch, resembed; bag = resembed.ResidualEmbeddingBag(5, 3, assignment=torch.zeros(5, dtype=torch.int32)); "
         "bag(torch.tensor([[1, 2]])).sum().backward(); print('sum', float(bag.central_weight.grad.sum()))")


def python(code, *, executable=sys.executable, library=LIBRARY, path=PYTHON_FOLDER):
    """A fresh interpreter that runs code."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RESEMBED_TORCH_LIBRARY", "PYTHONPATH")}
    if library is not None:
        environment["RESEMBED_TORCH_LIBRARY"] = str(library)
    environment["PYTHONPATH"] = str(path)
    return subprocess.run([executable, "-c", code], env=environment, capture_output=True, text=True)


def others():
    """Interpreters of another Python version whose torch is of the same minor."""
    minor = ".".join(torch.__version__.split(".")[:2])
    asked = [os.environ["RESEMBED_OTHER_PYTHON"]] if "RESEMBED_OTHER_PYTHON" in os.environ else []
    for name in asked + [f"python3.{number}" for number in range(10, 16)]:
        found = shutil.which(name)
        if found is None:
            continue
        seen = subprocess.run([found, "-c", "import sys, torch; print(sys.version_info[:2] , torch.__version__, sep=';')"],
                              capture_output=True, text=True)
        if seen.returncode == 0:
            version, theirs = seen.stdout.strip().split(";")
            if version != str(sys.version_info[:2]) and theirs.startswith(minor + "."):
                yield found, version


class Load(TestCase):
    def fails(self, done, pattern):
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, pattern)

    def test_a_fresh_interpreter(self):
        done = python(CHECK)
        self.assertEqual(done.stdout.split(), ["sum", "3.0"], done.stderr)

    def test_twice_is_once(self):
        self.assertEqual(_library.load(), LIBRARY)
        self.assertEqual(_library.load(), LIBRARY)

    def test_missing(self):
        self.fails(python("import resembed", library="/nowhere/libresembed_torch.so"),
                   "ImportError: resembed: RESEMBED_TORCH_LIBRARY is /nowhere/libresembed_torch.so; needs the library")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(PYTHON_FOLDER / "resembed", Path(folder) / "resembed",
                            ignore=shutil.ignore_patterns("*.so*", "__pycache__"))
            self.fails(python("import resembed", library=None, path=folder), "is missing; needs the library built for")

    def test_another_torch(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / LIBRARY.name
            shutil.copy(LIBRARY, copy)
            copy.with_name(copy.name + ".torch").write_text("1.13.1+cu117\n")
            self.fails(python("import resembed", library=copy),
                       rf"was built for torch 1.13.1\+cu117; needs one for the torch that runs, {re.escape(torch.__version__)}")

    def test_not_a_library(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(b"no ELF here, " * 100)
            file.flush()
            self.fails(python("import resembed", library=file.name), "does not load with torch")

    def test_a_second_copy(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / LIBRARY.name
            shutil.copy(LIBRARY, copy)
            done = python(f"import torch; torch.ops.load_library({str(copy)!r}); import resembed")
            self.fails(done, "is registered by .*" + re.escape(str(copy)) + " already, and .* would register it again; "
                             "needs one copy")
            same = python(f"import torch; torch.ops.load_library({str(LIBRARY)!r}); " + CHECK)
            self.assertEqual(same.stdout.split(), ["sum", "3.0"], same.stderr)

    def test_a_second_python(self):
        found = list(others())
        if not found:
            self.skipTest("no other Python here can import this torch; RESEMBED_OTHER_PYTHON names one")
        for executable, version in found:
            with self.subTest(version=version):
                done = python(CHECK, executable=executable)
                self.assertEqual(done.stdout.split(), ["sum", "3.0"], done.stderr)


class Wheel(TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        # The whole way of `pip wheel`, but for the compiler: the library is packed as it is.
        environment = {**os.environ, "RESEMBED_TORCH_LIBRARY": str(LIBRARY)}
        done = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index",
                               "-w", cls.folder, PYTHON_FOLDER], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        (cls.wheel,) = cls.folder.glob("*.whl")

    def test_holds_the_package_and_the_library_for_any_python(self):
        self.assertRegex(self.wheel.name, r"^resembed-\d+\.\d+\.\d+-py3-none-\w+\.whl$")
        with zipfile.ZipFile(self.wheel) as archive:
            names = set(archive.namelist())
            metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        minor = ".".join(torch.__version__.split(".")[:2])
        self.assertIn(f"Requires-Dist: torch=={minor}.*", metadata)
        sources = {f"resembed/{Path(path).name}" for path in glob.glob(str(PYTHON_FOLDER / "resembed" / "*.py"))}
        self.assertLessEqual(sources | {"resembed/py.typed", "resembed/libresembed_torch.so"}, names)

    def test_runs_the_quickstart_where_it_is_installed(self):
        target = self.folder / "site"
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target,
                               self.wheel], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        code = (ROOT / "docs" / "examples" / "torch_quickstart.py").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as elsewhere:
            script = Path(elsewhere) / "quickstart.py"
            script.write_text(code + "\nprint(resembed.__file__)\n", encoding="utf-8")
            done = python(f"exec(compile(open({str(script)!r}).read(), 'quickstart', 'exec'))", library=None, path=target)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(str(target), done.stdout)
        loss = float(re.search(r"loss ([0-9.]+) after", done.stdout).group(1))
        self.assertLess(loss, 0.6)


class Types(TestCase):
    def test_every_public_name_has_a_docstring_and_annotations(self):
        import inspect
        for name in resembed.__all__:
            thing = getattr(resembed, name)
            with self.subTest(name=name):
                self.assertTrue(thing.__doc__)
            members = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else [(name, thing)]
            for member, function in members:
                if not function.__module__.startswith("resembed") or member.startswith("_") and member != "__init__":
                    continue
                hints = {key for key in inspect.signature(function).parameters if key != "self"}
                with self.subTest(member=f"{name}.{member}"):
                    self.assertLessEqual(hints - {"args", "kwargs"}, set(function.__annotations__))
                    self.assertIn("return", function.__annotations__)


if __name__ == "__main__":
    unittest.main()
