# SPDX-License-Identifier: Apache-2.0
"""Programs of tests/gpu/check: built here, collected in a folder that is carried to a GPU machine, or found in one."""
import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import check_torch
from check_cases import OPTIONAL, PROGRAMS

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = ["check", "check_bundle.py", "check_cases.py", "check_summary.py", "check_torch.py"]
ARCHIVE = "programs.tgz"
REUSE = "fbgemm_reuse_histograms.json"
# What a bundle may weigh: carried to a machine it travels with the tree, often within 64 MiB.
MOST_MIB = 56


def commit():
    """Of the tree; a bundle carries that of the tree it was built from."""
    carried = HERE / "commit.txt"
    if carried.exists():
        return carried.read_text(encoding="utf-8").strip()
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          check=False)
    name = done.stdout.strip() or "unknown"
    dirty = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "kernels",
                            "host", "include", "bench/gpu"], capture_output=True, text=True, check=False)
    return name + ("-dirty" if dirty.stdout.strip() else "")


def find_reuse():
    """Reuse histograms that came with a bundle or lie beside the checkout."""
    places = [HERE / REUSE, ROOT.parent / REUSE, *sorted(ROOT.parent.glob(f"*/data/{REUSE}"))]
    return next((str(path) for path in places if path.exists()), None)


def architecture():
    """[] or the option that builds for the GPU of this machine and no other."""
    try:
        answers = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        answers = False
    return ["-DCMAKE_CUDA_ARCHITECTURES=native"] if answers else []


def build(cuembed=None):
    """build/gpu, for the GPU of this machine where there is one, with a checkout of cuEmbed to compare with; the
    folder."""
    folder = ROOT / "build" / "gpu"
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", "-DRESEMBED_ENABLE_CUDA=ON",
                 "-DRESEMBED_BUILD_BENCH=ON", *architecture()]
    if cuembed:
        header = pathlib.Path(cuembed).resolve() / "cuembed/include/embedding_lookup.cuh"
        if not header.exists():
            sys.exit(f"tests/gpu/check: --cuembed is {cuembed}; needs a checkout with {header.name}")
        configure.append(f"-DRESEMBED_CUEMBED={pathlib.Path(cuembed).resolve()}")
    programs = PROGRAMS
    if subprocess.run([*configure, "-DRESEMBED_BUILD_TRAIN=ON"], check=False, stdout=subprocess.DEVNULL).returncode:
        programs = [name for name in PROGRAMS if name not in OPTIONAL]
        subprocess.run([*configure, "-DRESEMBED_BUILD_TRAIN=OFF"], check=True, stdout=subprocess.DEVNULL)
    jobs = str(os.cpu_count() or 2)
    subprocess.run(["cmake", "--build", str(folder), "-j", jobs, "--target", *programs], check=True,
                   stdout=subprocess.DEVNULL)
    return folder


def bundle(folder, to, reuse=None, most_mib=MOST_MIB, adapter=None):
    """Programs of a build folder without symbols in one archive, with the library `adapter` and what tests it; scripts
    and histograms beside it, in the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in PROGRAMS:
            built = find_program(folder, name)
            if built is None:
                if name not in OPTIONAL:
                    sys.exit(f"tests/gpu/check: no {name} below {folder}")
                continue
            copy = pathlib.Path(shutil.copy2(built, scratch))
            if shutil.which("strip"):
                subprocess.run(["strip", copy], check=False, stderr=subprocess.DEVNULL)
            needs = subprocess.run(["ldd", built], capture_output=True, text=True, check=False).stdout
            for library in re.findall(r"=> (\S*libbenchmark\S*)", needs):
                shutil.copy2(library, scratch)  # beside the program, where it looks first
        if adapter:
            check_torch.carry(adapter, pathlib.Path(scratch) / "torch")
        with tarfile.open(to / ARCHIVE, "w:gz") as tar:
            for path in sorted(pathlib.Path(scratch).iterdir()):
                tar.add(path, arcname=path.name)
    shutil.rmtree(to / "programs", ignore_errors=True)  # unpacked from an earlier one
    for script in SCRIPTS:
        shutil.copy2(HERE / script, to / script)
    if reuse:
        (to / REUSE).unlink(missing_ok=True)  # it may be read-only
        shutil.copy2(reuse, to / REUSE)
    (to / "commit.txt").write_text(commit() + "\n", encoding="utf-8")
    sizes = {path.name: path.stat().st_size / 2**20 for path in to.iterdir() if path.is_file()}
    total = sum(sizes.values())
    without = "" if adapter else f", without the PyTorch adapter (no {check_torch.LIBRARY} in build/torch-cuda)"
    print(f"bundle in {to}, {total:.1f} MiB{without}: run {to}/check there")
    if total > most_mib:
        heavy = ", ".join(f"{name} {size:.2f}" for name, size in sorted(sizes.items(), key=lambda s: -s[1])[:8])
        sys.exit(f"tests/gpu/check: the bundle has {total:.2f} MiB; needs at most {most_mib} ({heavy})")


def unpack(folder):
    """Where the programs of a bundle are: below it, unpacked once."""
    to = folder / "programs"
    if not to.exists():
        with tarfile.open(folder / ARCHIVE) as tar:
            tar.extractall(to, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return to


def find_program(folder, name):
    return next((path for path in sorted(folder.glob(f"**/{name}")) if path.is_file()), None)


def choose_programs(arguments):
    """{step: program, or programs}."""
    if arguments.emulated:
        folder = pathlib.Path(arguments.emulated)
        return {"tests": sorted(glob.glob(str(folder / "tests/gpu/emulated_cuda_*_test"))),
                "conformance": glob.glob(str(folder / "tests/emulator/emulated_conformance_test")),
                "bench": str(folder / "tests/gpu/emulated_gpu_bench"),
                "graph": str(folder / "tests/gpu/emulated_graph_gpu_bench"),
                "step": str(folder / "tests/gpu/emulated_step_gpu_bench"),
                "loop": str(folder / "tests/emulated_training_loop"), "torch": (None, None),
                "trainer": sorted(glob.glob(str(folder / "tests/emulated_d*_test")))}
    built_here = False
    if arguments.binaries:
        folder = pathlib.Path(arguments.binaries).resolve()
    else:
        built_here = not (HERE / ARCHIVE).exists()
        folder = build(arguments.cuembed) if built_here else HERE
    if (folder / ARCHIVE).exists():
        folder = unpack(folder)
    found = {name: find_program(folder, name) for name in PROGRAMS}
    paths = {name: str(path) if path else None for name, path in found.items()}
    missing = [name for name, path in paths.items() if path is None and name not in OPTIONAL]
    if missing:
        sys.exit(f"tests/gpu/check: no {', '.join(missing)} below {folder}")
    return {"tests": [paths["cuda_tests"]], "conformance": [paths["cuda_conformance"]],
            "bench": paths["forward_gpu_bench"], "graph": paths["graph_gpu_bench"],
            "step": paths["step_gpu_bench"], "loop": paths["training_loop"],
            "torch": check_torch.choose(arguments.torch, folder, built_here),
            "trainer": [path for path in (paths["cuda_trainer_tests"],) if path is not None]}


def archive(out, to):
    """All results in one file."""
    pathlib.Path(to).resolve().parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(to, "w:gz") as tar:
        tar.add(out, arcname=out.name)
