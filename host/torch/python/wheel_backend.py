# SPDX-License-Identifier: Apache-2.0
"""Makes the wheel: CMake builds libresembed_torch.so, and the package and the library become a zip file.

A PEP 517 backend that needs nothing installed but torch (and CMake and a compiler on PATH), hence
`pip wheel --no-build-isolation`: the library is built for the torch of the interpreter that runs pip, and the wheel
asks for that minor version. No part of it uses Python's own interface, so the tag is py3-none-<platform>.

Environment:
    RESEMBED_CMAKE_ARGS      options for CMake, e.g. -DRESEMBED_ENABLE_CUDA=OFF
    RESEMBED_TORCH_LIBRARY   a library that is built already, to be packed instead
"""
import base64
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIBRARY = "libresembed_torch.so"


def get_requires_for_build_wheel(config_settings=None):
    return []


def _torch_version():
    try:
        import torch
    except ImportError:
        sys.exit(f"resembed: {sys.executable} cannot import torch; needs the torch to build for: install it, and give "
                 "pip --no-build-isolation")
    return str(torch.__version__)


def _version():
    text = (ROOT / "include" / "resembed" / "resembed.h").read_text(encoding="utf-8")
    return ".".join(re.search(rf"#define RESEMBED_VERSION_{part} (\d+)", text).group(1)
                    for part in ("MAJOR", "MINOR", "PATCH"))


def _build():
    """Path of the library."""
    given = os.environ.get("RESEMBED_TORCH_LIBRARY")
    if given:
        return Path(given)
    folder = ROOT / "build" / "wheel"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), f"-DRESEMBED_PYTHON={sys.executable}",
                 "-DCMAKE_BUILD_TYPE=Release", "-DRESEMBED_BUILD_TORCH=ON", "-DRESEMBED_BUILD_TRAIN=OFF",
                 "-DRESEMBED_BUILD_TESTS=OFF", "-DRESEMBED_INSTALL=OFF", "-DCMAKE_SKIP_RPATH=ON"]
    if shutil.which("ninja") and not (folder / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    subprocess.run(configure + shlex.split(os.environ.get("RESEMBED_CMAKE_ARGS", "")), check=True)
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
    subprocess.run(["cmake", "--build", str(folder), "--target", "resembed_torch", "-j", jobs], check=True)
    return folder / LIBRARY


def _metadata(torch_version):
    minor = ".".join(torch_version.split(".")[:2])
    return (f"Metadata-Version: 2.1\nName: resembed\nVersion: {_version()}\n"
            "Summary: Residual embeddings for recommender training\n"
            "License: Apache-2.0\nRequires-Python: >=3.10\n"
            f"Requires-Dist: torch=={minor}.*\n")


def _tag():
    return "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())


def _information(torch_version):
    """(folder, {file of it: text}) of what describes the wheel."""
    wheel = f"Wheel-Version: 1.0\nGenerator: resembed\nRoot-Is-Purelib: false\nTag: {_tag()}\n"
    return f"resembed-{_version()}.dist-info", {"METADATA": _metadata(torch_version), "WHEEL": wheel}


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info, texts = _information(_torch_version())
    (Path(metadata_directory) / info).mkdir()
    for name, text in texts.items():
        (Path(metadata_directory) / info / name).write_text(text, encoding="utf-8")
    return info


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    torch_version = _torch_version()
    library = _build()
    info, texts = _information(torch_version)
    files = {f"resembed/{path.name}": path.read_bytes() for path in sorted((HERE / "resembed").iterdir())
             if path.suffix == ".py" or path.name == "py.typed"}
    files[f"resembed/{LIBRARY}"] = library.read_bytes()
    files[f"resembed/{LIBRARY}.torch"] = f"{torch_version}\n".encode()
    files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files.update({f"{info}/{name}": text.encode() for name, text in texts.items()})
    record = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(record) + f"{info}/RECORD,,\n").encode()
    wheel = f"resembed-{_version()}-{_tag()}.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            # One date for all: the same inputs give the same wheel.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def build_sdist(sdist_directory, config_settings=None):
    sys.exit("resembed: no source distribution from here; needs a checkout: pip wheel ./host/torch/python")
