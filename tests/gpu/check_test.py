# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/check as far as it goes without a GPU. Usage: check_test.py ROOT BUILD"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests" / "gpu"))
import check_summary  # noqa: E402

CHECK = [sys.executable, "-B", str(ROOT / "tests" / "gpu" / "check")]


def run(*arguments, **options):
    return subprocess.run([*CHECK, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def rehearsal(folder):
    """Every step that an emulated build can take passes, and its results are where the summary says."""
    reuse = ROOT / "tests" / "gpu" / "reuse_sample.json"
    done = run("--emulated", BUILD, "--out", folder, "--reuse", reuse, "--minutes", 8)
    assert done.returncode == 0, done.stdout
    read = json.loads((folder / "run.json").read_text())
    status = {step["name"]: step["status"] for step in read["steps"]}
    assert read["emulated"] is True
    assert status == {"tests": "passed", "conformance": "passed", "training loop": "passed", "trainer": "passed",
                      "graph": "passed", "benchmarks": "passed", "training": "passed",
                      "profile": "not run",
                      "sanitizer memcheck": "not run", "sanitizer racecheck": "not run",
                      "sanitizer initcheck": "not run", "sanitizer synccheck": "not run"}, status
    cases = json.loads((folder / "bench.json").read_text())["benchmarks"]
    groups = {check_summary.parts(case["name"])["group"] for case in cases}
    assert groups == {"rows", "w1", "r1", "r2", "r3", "reuse"}, groups
    for case in cases:
        assert case["copy_frac"] > 0 and case["logical_MB"] > 0 and case["GBps"] >= case["compulsory_GBps"], case
    trained = json.loads((folder / "training.json").read_text())["benchmarks"]
    ways = {check_summary.parts(case["name"])["way"] for case in trained}
    assert ways == {"plan", "plan_two_sorts", "sort", "backward", "step", "plan_step", "single", "two", "atomics",
                    "reduce_by_key"}, ways
    assert all(case["compulsory_MB"] > 0 and case["us"] > 0 for case in trained)
    text = (folder / "summary.md").read_text()
    assert "x single 1.25" in text and "of copy 0.60" in text, text
    assert "rehearsal" in text and "x two 0.60" in text and "| 256 | assignment |" in text, text
    assert done.stdout.rstrip().endswith(f"results in {folder}"), done.stdout[-300:]


def needs_out():
    """A rehearsal never lands among the results."""
    done = run("--emulated", BUILD)
    assert done.returncode == 2 and "--out" in done.stdout, done.stdout


def failing_test(folder):
    """A test that fails, and one that dies, fail the check."""
    for name, body in (("cuda_tests", "exit 1"), ("cuda_conformance", "kill -9 $$"),
                       ("forward_gpu_bench", 'if [ "$1" = --device ]; then echo Made-up; else exit 3; fi'),
                       ("graph_gpu_bench", "exit 4"), ("step_gpu_bench", "exit 5"), ("training_loop", "exit 6"),
                       ("cuda_trainer_tests", "exit 7")):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    done = run("--binaries", folder, "--out", folder / "out")
    assert done.returncode == 1, done.stdout
    status = {step["name"]: step["status"] for step in json.loads((folder / "out/run.json").read_text())["steps"]}
    failed = ("tests", "conformance", "benchmarks", "graph", "training", "training loop", "trainer")
    assert all(status[name] == "failed" for name in failed), status


def no_gpu(folder):
    """Without a GPU it says so at once and writes nothing."""
    path = folder / "forward_gpu_bench"
    path.write_text("#!/bin/sh\necho 'forward_gpu_bench: no GPU: no driver'\nexit 77\n")
    path.chmod(0o755)
    for name in ("cuda_tests", "cuda_conformance", "graph_gpu_bench", "step_gpu_bench", "training_loop"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
        (folder / name).chmod(0o755)
    done = run("--binaries", folder, "--out", folder / "out", timeout=30)
    assert done.returncode == 2 and "no GPU, nothing was run: forward_gpu_bench: no GPU: no driver" in done.stdout
    assert not os.path.exists(folder / "out")


def profile():
    """What ncu prints, read: units dropped, thousands, the busiest unit."""
    text = ('==PROF== Connected\n"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum",'
            '"dram__throughput.avg.pct_of_peak_sustained_elapsed","sm__throughput.avg.pct_of_peak_sustained_elapsed",'
            '"l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum","l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum"\n'
            '"","","ns","byte","%","%","",""\n'
            '"0","PoolKernel<float>","12,000","3,000,000","81.5","20","10","160"\n')
    rows = check_summary.read_ncu(text, "case")
    assert len(rows) == 1 and rows[0]["gpu__time_duration.sum"] == 12000, rows
    assert check_summary.limiter(rows[0]) == "HBM 82 %"
    assert "| PoolKernel<float> | 12 | 3 | 16.0 |" in check_summary.profiled(rows)[2]
    assert check_summary.read_ncu("==ERROR== no permission", "case") == []


def main():
    profile()
    needs_out()
    for case in (failing_test, no_gpu, rehearsal):
        with tempfile.TemporaryDirectory() as folder:
            case(pathlib.Path(folder).resolve())
        print(f"{case.__name__}: ok")


main()
