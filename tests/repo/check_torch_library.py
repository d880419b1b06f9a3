# SPDX-License-Identifier: Apache-2.0
"""libresembed_torch.so serves every Python: it needs no Python library, uses no symbol of one, and shows nothing but
resembed_torch_init. Its loops run on torch's threads: at::parallel_for compiled without OpenMP is serial, silently.

    check_torch_library.py LIBRARY
"""
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def problems(library):
    needed = [line.split("[")[1].rstrip("]") for line in output("readelf", "-d", library) if "(NEEDED)" in line]
    if not any(name.startswith("libtorch_cpu") for name in needed):
        yield f"does not name libtorch_cpu among what it needs: {needed}"
    for name in needed:
        if "python" in name:
            yield f"needs {name}"
    symbols = [line.split() for line in output("nm", "-D", library)]
    shown = [line[-1] for line in symbols if line[-2] not in "Uwv"]
    if shown != ["resembed_torch_init"]:
        yield f"shows {shown[:10]} ({len(shown)}); needs resembed_torch_init alone"
    used = {line[-1].split("@")[0] for line in symbols if line[-2] == "U"}
    if not used & {"GOMP_parallel", "__kmpc_fork_call"}:
        yield "starts no OpenMP threads: call.cc needs -fopenmp"
    if any("gomp" in name or "omp5" in name for name in needed):
        yield f"brings an OpenMP runtime beside torch's own: {needed}"
    for line in symbols:
        if line[-1].startswith(("Py", "_Py")) or "pybind11" in line[-1] or "THP" in line[-1]:
            yield f"uses {line[-1]}"


if __name__ == "__main__":
    found = list(problems(sys.argv[1]))
    for problem in found:
        print(f"{sys.argv[1]} {problem}")
    sys.exit(1 if found else 0)
