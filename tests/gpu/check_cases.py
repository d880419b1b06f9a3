# SPDX-License-Identifier: Apache-2.0
"""What tests/gpu/check runs, and for how long: filters of tests and benchmarks, launches to profile."""

PROGRAMS = ["cuda_tests", "cuda_conformance", "forward_gpu_bench", "graph_gpu_bench", "step_gpu_bench",
            "training_loop", "cuda_trainer_tests"]
OPTIONAL = ["cuda_trainer_tests"]  # needs what the trainer needs: Eigen, CLI11

# Seconds of each step, in the order in which they run; what a step leaves over goes to those after it.
LIMITS = {"tests": 90, "conformance": 10, "training loop": 10, "benchmarks": 80, "training": 75, "profile": 40,
          "sanitizers": 50, "graph": 30, "trainer": 12, "trainer dense": 13, "torch": 65}
LONG_LIMITS = {**LIMITS, "tests": 300, "benchmarks": 900, "training": 1500, "profile": 180, "sanitizers": 600,
               "graph": 300, "trainer": 120, "trainer dense": 120, "torch": 300}

# Forward: (what the summary calls it, filter), what something is asked of first: a cut takes the last ones.
GROUPS = [("rows", "/rows/"), ("r1", "/r1/.*centers:(4|64)Ki/"), ("w1", "/w1/"), ("reuse", "/reuse/"),
          ("r2", "/r2/"), ("r3", "/r3/"), ("r1, other centers", "/r1/.*centers:(1|1024)Ki/")]
LONG_GROUPS = [("w2", "/w2/")]
# Plan, backward and step.
TRAINED = [("w1", "/w1/"), ("w3", "/w3/"), ("r1", "/r1/.*centers:64Ki/"), ("r2", "/r2/"), ("r4", "/r4/")]
LONG_TRAINED = [("r1, other centers", "/r1/.*centers:(1|4|1024)Ki/"), ("r3", "/r3/"), ("w4", "/w4/"), ("w2", "/w2/")]

# What the interest graph of 10^8 clicks is held to.
GRAPH_CASE = "zipf:1.05"
GRAPH_MOST_SECONDS, GRAPH_LEAST_TIMES_CPU = 10, 20

# What bench/torch/run is asked for on a GPU; tiny calls come first.
TORCH_BENCHMARKS = ["--rounds", "7", "--cases", "4000000,64,0;4000000,64,1.15"]

# Launches to profile: (program, case, kernels), the first two of them.
FORWARD = "PoolKernel|GatherKernel"
PROFILED = [("bench", "BM_Forward/w1/bf16.*zipf:0/fused/cold", FORWARD),
            ("bench", "BM_Forward/r1/bf16.*zipf:0/centers:4Ki/random/fused/cold", FORWARD),
            ("step", "BM_Step/w1/.*zipf:1.15/.*/backward/cold", "ItemsKernel|ChunksKernel"),
            ("step", "BM_Step/w3/.*zipf:1.05/.*opt:adam/step/cold", "ItemsKernel|UpdateKernel"),
            ("step", "BM_Step/r1/.*zipf:1.15/centers:64Ki/coherent:4/.*/step/cold", "CentralKernel|UpdateKernel"),
            ("bench", "BM_Forward/r1/bf16.*zipf:1.15/centers:64Ki/coherent:4/fused/cold", FORWARD)]
METRICS = ["gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum", "lts__t_sectors_op_read.sum",
           "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum", "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
           "sm__warps_active.avg.pct_of_peak_sustained_active",
           "dram__throughput.avg.pct_of_peak_sustained_elapsed", "lts__t_sectors.avg.pct_of_peak_sustained_elapsed",
           "l1tex__throughput.avg.pct_of_peak_sustained_elapsed", "sm__throughput.avg.pct_of_peak_sustained_elapsed",
           "launch__registers_per_thread"]

SANITIZERS = ["memcheck", "racecheck", "initcheck", "synccheck"]
# By operation, small problems that reach every kernel: a sanitizer takes tens of times longer. Bags of 700 and 1300
# ids are cut among warps as those of 60,000 are.
SANITIZED = {
    "forward": ["CudaForward.SameBitsForAnyLaunchShape", "CudaForward.BadIdsAreRecorded*", "CudaForward.EmptyIsValid",
                "CudaForward.EveryPairOfTypes*", "CudaForward.MaximumIsTheFirstOneAndNaNWins",
                "CudaForward.WrongOffsetsStayInsideTheIds",
                "Curated/CudaForwardShapes.*/1?", "CudaMaterialize.HasTheBits*"],
    "backward": ["CudaBackward.WideRowsOfEveryDim", "CudaBackward.GradientsOfWeightsMatchTheOracle",
                 "CudaBackward.ManyFeaturesOverOneTable", "CudaBackward.ABrokenPromise*", "CudaCombine.*"],
    "step": ["CudaStep.FusedHasTheBits*", "CudaStep.ADenseGradient*", "CudaStep.RowsWithoutAFiniteGradient*",
             "CudaStep.ACapturedGraph*", "CudaStep.AnyGridHasTheSameBits", "CudaStep.ABrokenPromise*"],
    "attention": ["CudaAttention.PartsAgree*", "CudaAttention.BadIds*"],
    "envelope": ["CudaEnvelope.HasTheBits*", "CudaEnvelope.NoItems*"],
    "plan": ["CudaPlan.BadIdsAreRecorded", "CudaPlan.BrokenPromises*", "CudaPlan.ViewPoints*",
             "CudaNumbering.TranslatesIds*", "CudaNumbering.ThePromise*", "CudaNumbering.OneDescent*",
             "CudaCheckMaps.AnswersAsTheCpuDoes"],
    "graph": ["DeviceGraph.TakesIdsFrom*", "DeviceGraph.ChunksOfOnePosition", "DeviceGraphOptions.*",
              "Covisit/DeviceGraph.*/2", "Covisit/DeviceGraph.*/4"],
}
# Suites that no sanitizer runs.
NOT_SANITIZED = {"CudaLarge": "13 GB of device memory", "CudaRejects": "no kernel runs",
                 "CudaLaunches": "the emulator counts launches"}
# A rehearsal with the emulator, which runs all of them as tests of their own.
REHEARSED = "*EmptyIsValid*:*FirstOneAndNaN*:*NothingIsValid*"


def sanitized_filter():
    return ":".join(case for cases in SANITIZED.values() for case in cases)
