// SPDX-License-Identifier: Apache-2.0
// Plan, backward and step on a GPU against a bare sort, atomics, a reduction by key and two separate tables in the same
// process.
//   step_gpu_bench [--tiny] [Google Benchmark's options]
// --tiny: every case at a size for tests. Without a GPU it says so and leaves with 77.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/step_problem.h"
#include "bench/support/parallel.h"

namespace resembed::bench::gpu {
namespace {

constexpr int kRuns = 20;
constexpr StepWay kWays[] = {StepWay::kSort,        StepWay::kPlan,    StepWay::kPlanTwoSorts,
                             StepWay::kBackward,    StepWay::kStep,    StepWay::kPlanStep,
                             StepWay::kSingle,      StepWay::kTwo,     StepWay::kAtomics,
                             StepWay::kReduceByKey, StepWay::kCuEmbed, StepWay::kCuEmbedTranspose};

bool tiny = false;

Bench& TheBench() {
  static Bench bench;
  return bench;
}

// What the second-level cache is read at, by the best of several passes over a quarter of it.
double L2Gbps() {
  static const double rate = [] {
    const int64_t bytes = tiny ? 1 << 14 : TheGpu().l2_bytes / 4 / 16384 * 16384;
    const int times = tiny ? 2 : 64;
    const DeviceArray data(static_cast<size_t>(std::max<int64_t>(bytes, 16384))), sink(4);
    CheckCuda(cudaMemsetAsync(data.data(), 0, data.bytes(), TheBench().stream()), "cudaMemsetAsync");
    double best = 0;
    for (int run = 0; run < 6; ++run) {
      const double seconds = TheBench().Seconds([&] {
        CheckCuda(ReadAgain(data.data(), static_cast<int64_t>(data.bytes()), times, sink.as<float>(),
                            TheBench().stream()),
                  "ReadAgain");
      });
      if (seconds > 0) best = std::max(best, 1e-9 * static_cast<double>(data.bytes()) * times / seconds);
    }
    return best;
  }();
  return rate;
}

// The problem of one workload, kept until another one is asked for, with the medians of its ways so far.
struct Current {
  std::unique_ptr<StepProblem> problem;
  StepWorkload asked;
  std::map<StepWay, double> seconds;
};

Current& TheCurrent(const StepWorkload& asked) {
  static Current current;
  if (current.problem == nullptr || current.asked.Key() != asked.Key()) {
    current.problem.reset();
    current.asked = asked;
    current.seconds.clear();
    const StepWorkload fits =
        tiny ? Tiny(asked) : ShrinkTo(asked, static_cast<int64_t>(.85 * static_cast<double>(FreeBytes())));
    current.problem = std::make_unique<StepProblem>(fits, &TheBench());
  }
  return current;
}

// What one way has to move at least.
int64_t CompulsoryBytes(const StepShape& shape, StepWay way) {
  switch (way) {
    case StepWay::kSort:
      return SortBytes(shape.batch.n_ids, shape.key_bits);
    case StepWay::kPlan:
    case StepWay::kPlanTwoSorts:
      return PlanBytes(shape);
    case StepWay::kCuEmbedTranspose:
      return PlanBytes(shape) + CompulsoryBackward(shape);
    case StepWay::kStep:
      return CompulsoryBackwardStep(shape);
    case StepWay::kPlanStep:
    case StepWay::kTwo:
      return PlanBytes(shape) + CompulsoryBackwardStep(shape);
    case StepWay::kSingle: {
      StepShape plain = shape;
      plain.batch.n_unique_central = 0;
      return CompulsoryBackwardStep(plain);
    }
    default:
      return CompulsoryBackward(shape);
  }
}

void Step(benchmark::State& state, const StepWorkload& asked, StepWay way) {
  Bench& bench = TheBench();
  const double copy_gbps =
      bench.CopyGbps(tiny ? 1 << 16 : std::min<int64_t>(int64_t{4} << 30, FreeBytes() / 4));
  const double l2_gbps = L2Gbps();
  Current& current = TheCurrent(asked);
  StepProblem& problem = *current.problem;
  problem.Run(StepWay::kPlan);
  problem.Run(way);
  if (const int64_t different = problem.CountDifferent(way); different != 0) {
    state.SkipWithError((std::to_string(different) + " rows differ from resembed_backward's").c_str());
    return;
  }
  const double host_start = Seconds();
  problem.Run(way);
  const double host_seconds = Seconds() - host_start;
  bench.Record([&] { problem.Run(way); });
  bench.Replay();
  std::vector<double> seconds;
  for (auto _ : state) {
    bench.Flush();
    seconds.push_back(bench.Seconds([&] { bench.Replay(); }));
    state.SetIterationTime(seconds.back());
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2),
                   seconds.end());
  const double median = std::max(seconds[seconds.size() / 2], 1e-9);
  current.seconds[way] = median;
  const StepShape& shape = problem.shape();
  const auto compulsory = static_cast<double>(CompulsoryBytes(shape, way));
  auto& counters = state.counters;
  counters["us"] = 1e6 * median;
  counters["us_best"] = 1e6 * *std::min_element(seconds.begin(), seconds.end());
  counters["host_us"] = 1e6 * host_seconds;
  counters["compulsory_MB"] = 1e-6 * compulsory;
  counters["GBps"] = 1e-9 * compulsory / median;
  counters["copy_GBps"] = copy_gbps;
  counters["l2_GBps"] = l2_gbps;
  counters["copy_frac"] = copy_gbps > 0 ? 1e-9 * compulsory / median / copy_gbps : 0;
  counters["logical_grad_GBps"] = 1e-9 * static_cast<double>(LogicalGradientBytes(shape)) / median;
  counters["rows"] = static_cast<double>(problem.workload().batch.rows);
  counters["ids"] = static_cast<double>(shape.batch.n_ids);
  counters["unique"] = static_cast<double>(shape.batch.n_unique);
  counters["unique_central"] = static_cast<double>(shape.batch.n_unique_central);
  if (way == StepWay::kBackward && copy_gbps > 0 && l2_gbps > 0) {
    counters["x_least"] = median / LeastBackwardSeconds(shape, copy_gbps, l2_gbps);
    if (shape.n_pairs > shape.batch.n_unique)
      counters["x_neighbor_bytes"] =
          median * copy_gbps * 1e9 / static_cast<double>(NeighborBytes(shape) + GradientBytes(shape));
  }
  // The sort runs first of all ways.
  const auto sort = current.seconds.find(StepWay::kSort);
  if (sort != current.seconds.end() && (way == StepWay::kPlan || way == StepWay::kPlanStep))
    counters["sort_share"] = sort->second / median;
}

void Register() {
  for (const StepWorkload& workload : StepWorkloads()) {
    for (const StepWay way : kWays) {
      if (!Has(workload, way)) continue;
      const std::string name = StepWorkloadName(workload) + "/" + StepWayName(way) + "/cold";
      benchmark::RegisterBenchmark(name.c_str(),
                                   [workload, way](benchmark::State& state) {
                                     try {
                                       Step(state, workload, way);
                                     } catch (const std::exception& error) {  // no memory: the others go on
                                       state.SkipWithError(error.what());
                                     }
                                   })
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(tiny ? 1 : kRuns);
    }
  }
}

int Main(int argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--tiny") == 0) {
      tiny = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  if (const std::string why = WhyNoGpu(); !why.empty()) {
    std::printf("step_gpu_bench: no GPU: %s\n", why.c_str());
    return 77;
  }
  const Gpu& gpu = TheGpu();
  benchmark::AddCustomContext("gpu", gpu.name);
  benchmark::AddCustomContext("l2_bytes", std::to_string(gpu.l2_bytes));
  benchmark::AddCustomContext("driver", std::to_string(gpu.driver));
  benchmark::AddCustomContext("runtime", std::to_string(gpu.runtime));
  benchmark::AddCustomContext("resembed_version", std::to_string(resembed_version()));
  Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace resembed::bench::gpu

int main(int argc, char** argv) {
  try {
    return resembed::bench::gpu::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "step_gpu_bench: %s\n", error.what());
    return 1;
  }
}
