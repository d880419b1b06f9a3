# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/check as far as it goes without a GPU. Usage: check_test.py ROOT BUILD"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests" / "gpu"))
import check_bundle  # noqa: E402
import check_cases as cases  # noqa: E402
import check_summary  # noqa: E402
import check_torch  # noqa: E402
import evidence  # noqa: E402

CHECK = [sys.executable, "-B", str(ROOT / "tests" / "gpu" / "check")]
SAMPLE = ROOT / "tests" / "gpu" / "reuse_sample.json"


def run(*arguments, **options):
    return subprocess.run([*CHECK, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def output(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def programs(folder, **bodies):
    """A bundle of scripts: a GPU is there, every program passes but those named."""
    default = {name: "exit 0" for name in cases.PROGRAMS}
    measured = '{"context": {}, "benchmarks": [{"clicks": 1, "s": 1, "times_cpu": 1, "cpu_threads": 1}]}'
    default["graph_gpu_bench"] = f"echo '{measured}' >\"$(echo \"$2\" | sed s/--benchmark_out=//)\""
    default["forward_gpu_bench"] = 'if [ "$1" = --device ]; then echo Made-up; fi; exit 0'
    report = 'echo \'{"tests": 1, "failures": 0}\' >"$(echo "$1" | sed s/--gtest_output=json://)"; echo "[       OK ] A.B"'
    for name in ("cuda_tests", "cuda_conformance", "cuda_trainer_tests"):
        default[name] = report
    for name, body in {**default, **bodies}.items():
        script(folder / name, body)


def steps(folder):
    return {step["name"]: step for step in json.loads((folder / "run.json").read_text())["steps"]}


def rehearsal(folder):
    """Every step that an emulated build can take passes, and its results are where the summary says."""
    out, archive = folder / "out", folder / "all.tgz"
    done = run("--emulated", BUILD, "--out", out, "--reuse", SAMPLE, "--minutes", 60, "--archive", archive)
    assert done.returncode == 0, done.stdout
    read = json.loads((out / "run.json").read_text())
    status = {step["name"]: step["status"] for step in read["steps"]}
    assert read["emulated"] is True
    assert list(status.items()) == [
        ("tests", "passed"), ("conformance", "passed"), ("training loop", "passed"), ("benchmarks", "passed"),
        ("training", "passed"), ("profile", "not run"), ("sanitizer memcheck", "not run"),
        ("sanitizer racecheck", "not run"), ("sanitizer initcheck", "not run"), ("sanitizer synccheck", "not run"),
        ("graph", "passed"), ("trainer", "passed"), ("trainer dense", "passed"), ("torch", "not run"), ("torch benchmarks", "not run")], status
    assert not any(step.get("cut") for step in read["steps"]), read["steps"]
    results = json.loads((out / "benchmarks.json").read_text())["benchmarks"]
    groups = {check_summary.parts(case["name"])["group"] for case in results}
    assert groups == {"rows", "w1", "r1", "r2", "r3", "reuse"}, groups
    for case in results:
        assert case["copy_frac"] > 0 and case["logical_MB"] > 0 and case["GBps"] >= case["compulsory_GBps"], case
    trained = json.loads((out / "training.json").read_text())["benchmarks"]
    ways = {check_summary.parts(case["name"])["way"] for case in trained}
    assert ways == {"plan", "plan_two_sorts", "sort", "backward", "step", "plan_step", "single", "two", "atomics",
                    "reduce_by_key"}, ways
    assert all(case["compulsory_MB"] > 0 and case["us"] > 0 for case in trained)
    text = (out / "summary.md").read_text()
    assert "x single 1.25" in text and "of copy 0.60" in text, text
    assert "rehearsal" in text and "x two 0.60" in text, text
    assert re.search(r"\| 256 \| assignment \| [\d.]+ \| [\d.]+ \| -, half of", text), text
    assert re.search(r"\| 256 \| none \| [\d.]+ \| [\d.]+ \| 0.85 \|", text), text
    assert done.stdout.rstrip().endswith(f"results in {out}"), done.stdout[-300:]
    with tarfile.open(archive) as tar:
        assert {"out/run.json", "out/summary.md", "out/benchmarks.json"} <= set(tar.getnames()), tar.getnames()


def needs_out(_):
    """A rehearsal never lands among the results."""
    done = run("--emulated", BUILD)
    assert done.returncode == 2 and "--out" in done.stdout, done.stdout


def failing_test(folder):
    """A test that fails, and one that dies, fail the check."""
    programs(folder, cuda_tests="exit 1", cuda_conformance="kill -9 $$", graph_gpu_bench="exit 4",
             forward_gpu_bench='if [ "$1" = --device ]; then echo Made-up; else exit 3; fi', step_gpu_bench="exit 5",
             training_loop="exit 6", cuda_trainer_tests="exit 7")
    done = run("--binaries", folder, "--out", folder / "out")
    assert done.returncode == 1, done.stdout
    status = {name: step["status"] for name, step in steps(folder / "out").items()}
    failed = ("tests", "conformance", "benchmarks", "graph", "training", "training loop", "trainer",
              "trainer dense")
    assert all(status[name] == "failed" for name in failed), status


def no_gpu(folder):
    """Without a GPU it says so at once and writes nothing."""
    programs(folder, forward_gpu_bench="echo 'forward_gpu_bench: no GPU: no driver'\nexit 77")
    done = run("--binaries", folder, "--out", folder / "out", timeout=30)
    assert done.returncode == 2 and "no GPU, nothing was run: forward_gpu_bench: no GPU: no driver" in done.stdout
    assert not os.path.exists(folder / "out")


CUT_REPORT = '''{
  "context": {"library_build_type": "release"},
  "benchmarks": [
    {
      "name": "BM_Forward/rows/a/fused/cold", "us": 1
    },
    {
      "name": "BM_Forward/rows/b/fu'''


def out_of_time(folder):
    """What finds no time is not run, nothing fails by it, what was done is kept, and no process is left."""
    hang = "sleep 100 & echo $! >>%s; sleep 100" % (folder / "children")
    (folder / "cut.json").write_text(CUT_REPORT)
    programs(folder, cuda_tests=f"echo '[       OK ] A.A'; echo '[ RUN      ] A.B'; {hang}",
             forward_gpu_bench='if [ "$1" = --device ]; then echo Made-up; exit 0; fi\n'
             f'cat {folder}/cut.json >"$(echo "$2" | sed s/--benchmark_out=//)"; {hang}', step_gpu_bench=hang)
    start = time.monotonic()
    done = run("--binaries", folder, "--out", folder / "out", "--minutes", .8)
    assert time.monotonic() - start < 90, "children that hold the output were waited for"
    assert done.returncode == 0, done.stdout
    read = steps(folder / "out")
    assert read["tests"]["status"] == "not run" and "out of time in A.B; 1 tests passed" in read["tests"]["detail"], read
    assert read["benchmarks"]["status"] == "passed" and read["benchmarks"]["cases"] == 1, read["benchmarks"]
    assert "rows after 1 cases" in read["benchmarks"]["cut"] and "w1" in read["benchmarks"]["cut"], read["benchmarks"]
    assert read["training"]["status"] == "not run" and "out of time" in read["training"]["detail"], read["training"]
    assert read["conformance"]["status"] == "passed", read
    for child in (folder / "children").read_text().split():
        stat = pathlib.Path(f"/proc/{child}/stat")
        assert not stat.exists() or stat.read_text().split()[2] == "Z", f"process {child} is left"


NCU_ROWS = '''"ID","Kernel Name","gpu__time_duration.sum"
"","","ns"
"0","PoolKernel<float>","12,000"'''


def tools(folder):
    """ncu and compute-sanitizer that refuse the GPU, fail, and pass: rows that are there are kept."""
    programs(folder)

    def checked(ncu, sanitizer):
        script(folder / "bin/ncu", ncu)
        script(folder / "bin/compute-sanitizer", sanitizer)
        done = run("--binaries", folder, "--out", folder / "out",
                   env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"})
        return done.returncode, steps(folder / "out")

    code, read = checked("echo '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access counters'; "
                         "exit 1", "echo '========= Error: Device not supported. Please refer to'; exit 1")
    assert read["profile"]["status"] == "not run" and "ERR_NVGPUCTRPERM" in read["profile"]["detail"], read["profile"]
    assert all(read[f"sanitizer {name}"]["status"] == "not run" for name in cases.SANITIZERS), read
    assert "Device not supported" in read["sanitizer memcheck"]["detail"], read
    assert code == 0, read

    first = cases.PROFILED[0][1]
    code, read = checked(f"case \"$*\" in *'{first}'*) echo '{NCU_ROWS}';; *) echo broken; exit 3;; esac",
                         "if [ $2 = racecheck ]; then echo '========= Error: Race reported between x'; exit 9; fi\n"
                         "echo '[       OK ] A.B'")
    assert read["profile"]["status"] == "passed" and read["profile"]["launches"] == 1, read["profile"]
    assert f"{len(cases.PROFILED) - 1} of {len(cases.PROFILED)} cases without: broken" in read["profile"]["detail"], read
    rows = json.loads((folder / "out/profile.json").read_text())
    assert [row["kernel"] for row in rows] == ["PoolKernel<float>"], rows
    assert read["sanitizer memcheck"]["status"] == "passed" and code == 1, read
    assert read["sanitizer memcheck"]["filter"] == cases.sanitized_filter()
    assert read["sanitizer racecheck"]["status"] == "failed" and "Race" in read["sanitizer racecheck"]["detail"], read

    code, read = checked("exit 0", "echo '========= Program hit cudaErrorX due to \"operation not permitted\"'; exit 9")
    assert read["sanitizer memcheck"]["status"] == "failed" and code == 1, read  # an error of ours, no refusal


def bundles(folder):
    """What a GPU machine needs is in one folder that is not too heavy to carry, and it finds itself there."""
    programs(folder / "build/deep")
    to = folder / "bundle"
    check_bundle.bundle(folder / "build", to, SAMPLE)
    assert {"programs.tgz", *check_bundle.SCRIPTS, check_bundle.REUSE, "commit.txt"} == {p.name for p in to.iterdir()}
    with tarfile.open(to / "programs.tgz") as tar:
        assert set(cases.PROGRAMS) == set(tar.getnames()), tar.getnames()
    try:
        check_bundle.bundle(folder / "build", folder / "heavy", SAMPLE, most_mib=.01)
    except SystemExit as error:
        assert "needs at most 0.01" in str(error), error
    else:
        raise AssertionError("a bundle that is too heavy")
    library = adapter(folder / "build")
    check_bundle.bundle(folder / "build", to, SAMPLE, adapter=library)
    with tarfile.open(to / "programs.tgz") as tar:
        carried = {"torch/libresembed_torch.so", "torch/libresembed_torch.so.torch", "torch/bench/torch/run",
                   "torch/tests/torch/test_cuda.py", "torch/host/torch/python/resembed/__init__.py"}
        assert carried <= set(tar.getnames()), carried - set(tar.getnames())
        assert not [name for name in tar.getnames() if "__pycache__" in name], tar.getnames()
    shutil.rmtree(folder / "build")
    done = subprocess.run([to / "check", "--out", folder / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "benchmarks reuse" not in steps(folder / "out"), "the histograms were carried"
    assert "beside the programs" not in steps(folder / "out")["torch"]["detail"], "the adapter was carried"
    script(folder / "bin/nvidia-smi", "exit 9")
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{folder}/bin:{path}"
        assert check_bundle.architecture() == []
        script(folder / "bin/nvidia-smi", "exit 0")
        assert check_bundle.architecture() == ["-DCMAKE_CUDA_ARCHITECTURES=native"]
    finally:
        os.environ["PATH"] = path


def adapter(folder, kernels=".nv_fatbin"):
    folder.mkdir(exist_ok=True)
    library = folder / check_torch.LIBRARY
    library.write_text(kernels)
    (folder / f"{check_torch.LIBRARY}.torch").write_text("2.11.0+cu130\n")
    return library


TINY = {"F.embedding_bag": {"median_us": 5, "over_F.embedding_bag": 1}}
CASE = {"rows": 7, "dim": 64, "zipf": 0, "forward": {"resembed": {"median_ms": 2},
                                                     "two_bags": {"median_ms": 3, "over_resembed": 1.5}}}


def torch_step(folder):
    """The adapter's step with a python3 that passes, fails, is cut, or cannot run it."""
    programs(folder)
    library = adapter(folder / "torch")

    def checked(torch="2.11.1", gpu="true", missing="", tests="echo 'Ran 4 tests in 1s'; echo 'OK (skipped=1)'",
                bench="exit 0", minutes=8, done=(CASE,)):
        (folder / "report.json").write_text(json.dumps({"tiny": TINY, "cases": list(done)}))
        probe = json.dumps({"torch": torch, "gpu": gpu == "true", "missing": missing.split()})
        script(folder / "bin/python3", f"""case "$*" in
"-c "*) {f"echo '{probe}'" if torch else "echo no module; exit 1"};;
*unittest*) [ "$RESEMBED_TORCH_LIBRARY" = {library} ] || exit 8; {tests};;
*--device\\ cuda*) while [ $# -gt 1 ]; do shift; done; cp {folder}/report.json "$1"; {bench};;
*) exit 9;;
esac""")
        (folder / "out/torch_benchmarks.json").unlink(missing_ok=True)
        done = run("--binaries", folder, "--out", folder / "out", "--minutes", minutes,
                   env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"})
        read = steps(folder / "out")
        return done, [(read[name]["status"], read[name]["detail"]) for name in ("torch", "torch benchmarks")]

    done, (tests, bench) = checked()
    assert tests[0] == "passed" and "3 tests" in tests[1], tests
    assert bench == ("passed", "tiny; 7 rows, dim 64, zipf 0") and done.returncode == 0, bench
    assert "| forward, 7 rows, dim 64, zipf 0: two_bags | 3.000 | 1.50 |" in done.stdout, done.stdout
    for reason, words in (({"torch": ""}, "no torch"), ({"torch": "2.12.0"}, "built for 2.11.0+cu130"),
                          ({"gpu": "false"}, "sees no GPU"), ({"missing": "hypothesis"}, "but no hypothesis")):
        done, (tests, bench) = checked(**reason)
        if reason.get("torch") == "" and "no torch" not in tests[1]:
            words = "(" + sys.executable  # the tests' own Python has one, which cannot run it either
        assert tests[0] == bench[0] == "not run" and words in tests[1] and done.returncode == 0, (reason, tests, bench)
    done, (tests, bench) = checked(tests="echo 'ERROR: test_b (test_cuda.Cuda.test_b)'; echo 'Ran 4 tests in 1s'; "
                                   "echo 'FAILED (errors=1)'; exit 1", bench="echo two_bags differs; exit 1")
    assert tests == ("failed", "1 problems: test_b") and bench == ("failed", "two_bags differs"), (tests, bench)
    assert done.returncode == 1, done.stdout
    done, (tests, bench) = checked(tests="echo 'Ran 4 tests in 1s'; echo 'OK (skipped=4)'", done=())
    assert tests == ("failed", "no test ran") and bench == ("passed", "tiny"), (tests, bench)
    done, (tests, bench) = checked(tests="kill -11 $$")
    assert tests[0] == "failed" and "-11" in tests[1], tests
    done, (tests, bench) = checked(bench="sleep 100", minutes=.2)
    assert bench == ("passed", "tiny; 7 rows, dim 64, zipf 0; out of time for the rest"), bench
    done, (tests, bench) = checked(tests="echo 'test_a (test_cuda.Cuda.test_a) ... ok'; sleep 100", minutes=.2)
    assert tests == ("not run", "out of time; 1 tests passed before") and bench == ("not run", "out of time"), tests
    assert done.returncode == 0, done.stdout
    adapter(folder / "torch", "no kernels")
    assert "no cuda backend" in checked()[1][0][1]
    try:
        check_torch.find_build(folder / "torch")
    except SystemExit as error:
        assert "needs a build with nvcc" in str(error), error
    else:
        raise AssertionError("an adapter of the CPU alone is carried")
    shutil.rmtree(folder / "torch")
    assert "beside the programs" in checked()[1][0][1]


def profile(_):
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


def peers(_):
    """cuEmbed's columns, where a build has them."""
    def case(way, us):
        return {"name": f"BM_Step/w1/f16_i32/form:none/rows:10M/dim:256/{way}/cold/iterations:20/manual_time", "us": us,
                "copy_frac": .5}
    lines = check_summary.trained([case("plan", 100), case("backward", 200), case("step", 300), case("plan_step", 400),
                                   case("cuembed", 250), case("cuembed_transpose", 600)])
    assert "backward 0.80 of cuEmbed's kernel" in lines[2], lines
    assert "plan and backward 0.50 of cuEmbed's transpose and backward" in lines[2], lines


def listed_tests():
    """Names of the tests of cuda_tests; without nvcc those of the emulated programs, which have its sources and a few
    tests that a GPU cannot run."""
    def names(program):
        suite, found = "", set()
        for line in output(program, "--gtest_list_tests").splitlines():
            word = line.split("#")[0].strip()
            if word and not line.startswith(" "):
                suite = word if word.endswith(".") else suite
            elif word:
                found.add(suite + word)
        return found

    emulated = names(BUILD / "tests/gpu/emulated_device_test")
    for program in sorted(BUILD.glob("tests/gpu/emulated_cuda_*_test")):
        emulated |= names(program)
    real = BUILD / "tests/gpu/cuda_tests"
    if not real.exists():
        return emulated
    assert names(real) <= emulated, names(real) - emulated
    return names(real)


def sanitized_cases(_):
    """Every pattern of the sanitizers' set hits a test, and every suite is hit or says why not."""
    names = listed_tests()
    suites = {name.split(".")[0].rsplit("/", 1)[-1] for name in names}
    hit = set()
    for pattern in cases.sanitized_filter().split(":"):
        matcher = re.compile("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern))
        found = [name for name in names if matcher.fullmatch(name)]
        assert found, f"{pattern} matches no test"
        hit |= {name.split(".")[0].rsplit("/", 1)[-1] for name in found}
    assert suites - hit <= set(cases.NOT_SANITIZED), suites - hit - set(cases.NOT_SANITIZED)
    assert not hit & set(cases.NOT_SANITIZED), hit & set(cases.NOT_SANITIZED)
    # docs/evidence.md credits a kernel by the filter of the run.
    for kernel, (folder, _count) in evidence.families(ROOT).items():
        if folder == "train":  # no sanitizer runs the trainer's program, and the page says so
            assert not evidence.reached(kernel, folder, cases.sanitized_filter()), kernel
            continue
        assert evidence.reached(kernel, folder, cases.sanitized_filter()), (kernel, folder)
        assert not evidence.reached(kernel, folder, "Curated/*:*LongBags*"), (kernel, folder)
    assert not evidence.reached("ItemsKernel", "backward", "CudaForward.EmptyIsValid:CudaPlan.BadIdsAreRecorded")


def benchmark_cases(_):
    """Every filter hits a benchmark, and with --long every benchmark is run once."""
    listed = {"bench": output(BUILD / "tests/gpu/emulated_gpu_bench", "--benchmark_list_tests", f"--reuse={SAMPLE}"),
              "step": output(BUILD / "tests/gpu/emulated_step_gpu_bench", "--benchmark_list_tests"),
              "graph": output(BUILD / "tests/gpu/emulated_graph_gpu_bench", "--benchmark_list_tests")}
    names = {program: text.split() for program, text in listed.items()}
    for program, groups in (("bench", cases.GROUPS + cases.LONG_GROUPS), ("step", cases.TRAINED + cases.LONG_TRAINED)):
        ran = [name for _group, filter_ in groups for name in names[program] if re.search(filter_, name)]
        assert sorted(ran) == sorted(names[program]), set(names[program]) ^ set(ran)
        for group, filter_ in groups:
            assert any(re.search(filter_, name) for name in names[program]), f"{group}: {filter_} matches no benchmark"
    for program, case, kernels in cases.PROFILED:
        found = [name for name in names[program] if re.search(case, name)]
        assert len(found) == 1, f"{case} matches {len(found)} benchmarks"
        for kernel in kernels.split("|"):
            assert kernel in evidence.families(ROOT), kernel
    assert any(re.search(cases.GRAPH_CASE, name) for name in names["graph"]), names["graph"]


def limits(_):
    assert sum(cases.LIMITS.values()) < 480, cases.LIMITS
    assert list(cases.LIMITS) == list(cases.LONG_LIMITS)


def main():
    for case in (profile, peers, limits, needs_out, sanitized_cases, benchmark_cases, failing_test, no_gpu, out_of_time,
                 tools, torch_step, bundles, rehearsal):
        with tempfile.TemporaryDirectory() as folder:
            case(pathlib.Path(folder).resolve())
        print(f"{case.__name__}: ok", flush=True)


main()
