// SPDX-License-Identifier: Apache-2.0
// resembed_forward on a GPU, against one table, two tables and an add, and a materialized table in the same process.
//   forward_gpu_bench [--reuse=FILE] [--tiny] [--device] [Google Benchmark's options]
// --reuse: JSON of reuse histograms (bench/gpu/streams.h). --tiny: every case at a size for tests. --device: prints the
// GPU's name and leaves. Without a GPU it says so and leaves with 77.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/forward_problem.h"
#include "bench/support/parallel.h"

namespace resembed::bench::gpu {
namespace {

constexpr int kColdRuns = 20, kHotRuns = 5, kHotBatch = 10;

struct Settings {
  ProblemOptions problem;
  bool tiny = false, device = false;
} settings;

Bench& TheBench() {
  static Bench bench;
  return bench;
}

// The problem of one workload, kept until another one is asked for.
ForwardProblem& TheProblem(const Workload& asked) {
  static std::unique_ptr<ForwardProblem> problem;
  static Workload current;
  if (problem == nullptr || current.Key() != asked.Key()) {
    problem.reset();
    current = asked;
    const Workload fits =
        settings.tiny ? Tiny(asked)
                      : ShrinkTo(asked, static_cast<int64_t>(0.85 * static_cast<double>(FreeBytes())));
    problem = std::make_unique<ForwardProblem>(fits, settings.problem, &TheBench());
  }
  return *problem;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void Forward(benchmark::State& state, const Workload& asked, Way way, bool cold) {
  Bench& bench = TheBench();
  const double copy_gbps =
      bench.CopyGbps(settings.tiny ? 1 << 16 : std::min<int64_t>(int64_t{4} << 30, FreeBytes() / 4));
  ForwardProblem& problem = TheProblem(asked);
  problem.Run(Way::kFused);
  problem.Run(way);
  if (const int64_t different = problem.CountDifferent(way); different != 0 && problem.Comparable(way)) {
    state.SkipWithError((std::to_string(different) + " rows differ from the fused ones").c_str());
    return;
  }
  const double host_start = Seconds();
  problem.Run(way);
  const double host_seconds = Seconds() - host_start;
  bench.Record([&] { problem.Run(way); });
  bench.Replay();

  std::vector<double> seconds;
  for (auto _ : state) {
    if (cold) {
      bench.Flush();
      seconds.push_back(bench.Seconds([&] { bench.Replay(); }));
    } else {
      seconds.push_back(bench.Seconds([&] {
        for (int run = 0; run < kHotBatch; ++run) bench.Replay();
      }) / kHotBatch);
    }
    state.SetIterationTime(seconds.back());
  }
  const double median = std::max(Median(seconds), 1e-9);
  const BatchShape shape = problem.Shape(way);
  const auto gbps = [median](int64_t bytes) { return 1e-9 * static_cast<double>(bytes) / median; };
  const double logical = gbps(LogicalForward(shape).total), compulsory = gbps(CompulsoryForward(shape).total);
  auto& counters = state.counters;
  counters["us"] = 1e6 * median;
  counters["us_best"] = 1e6 * *std::min_element(seconds.begin(), seconds.end());
  counters["host_us"] = 1e6 * host_seconds;
  counters["GBps"] = logical;
  counters["compulsory_GBps"] = compulsory;
  counters["copy_GBps"] = copy_gbps;
  counters["copy_frac"] = copy_gbps > 0 ? logical / copy_gbps : 0;
  counters["compulsory_frac"] = copy_gbps > 0 ? compulsory / copy_gbps : 0;
  counters["logical_MB"] = 1e-6 * static_cast<double>(LogicalForward(shape).total);
  counters["rows"] = static_cast<double>(problem.workload().rows);
  counters["ids"] = static_cast<double>(shape.n_ids);
  counters["unique_frac"] =
      static_cast<double>(shape.n_unique) / static_cast<double>(std::max<int64_t>(shape.n_ids, 1));
  counters["unique_central"] = static_cast<double>(shape.n_unique_central);
  counters["items_per_s"] = static_cast<double>(shape.n_ids) / median;
  if (way == Way::kMaterialized) counters["materialize_ms"] = 1e3 * problem.materialize_seconds();
}

void Register() {
  for (const Workload& workload : Workloads(!settings.problem.histogram_file.empty())) {
    std::vector<Way> ways = {Way::kFused};
    if (workload.form != RESEMBED_CENTRAL_NONE)
      ways = {Way::kFused, Way::kSingle, Way::kTwo, Way::kMaterialized};
    if (CuEmbedAvailable(workload)) ways.push_back(Way::kCuEmbed);
    for (const Way way : ways) {
      for (const bool cold : {true, false}) {
        const std::string name = WorkloadName(workload) + "/" + WayName(way) + (cold ? "/cold" : "/hot");
        benchmark::RegisterBenchmark(name.c_str(),
                                     [workload, way, cold](benchmark::State& state) {
                                       try {
                                         Forward(state, workload, way, cold);
                                       } catch (const std::exception& error) {  // no memory: the others go on
                                         state.SkipWithError(error.what());
                                       }
                                     })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->Iterations(settings.tiny ? 1
                         : cold        ? kColdRuns
                                       : kHotRuns);
      }
    }
  }
}

// Takes this program's own options out of argv.
void ReadOptions(int* argc, char** argv) {
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp(argv[i], "--reuse=", 8) == 0) {
      settings.problem.histogram_file = argv[i] + 8;
    } else if (std::strcmp(argv[i], "--tiny") == 0) {
      settings.tiny = true;
    } else if (std::strcmp(argv[i], "--device") == 0) {
      settings.device = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
}

int Main(int argc, char** argv) {
  ReadOptions(&argc, argv);
  if (const std::string why = WhyNoGpu(); !why.empty()) {
    std::printf("forward_gpu_bench: no GPU: %s\n", why.c_str());
    return 77;
  }
  const Gpu& gpu = TheGpu();
  if (settings.device) {
    std::printf("%s\n", gpu.name.c_str());
    return 0;
  }
  benchmark::AddCustomContext("gpu", gpu.name);
  benchmark::AddCustomContext("compute_capability",
                              std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
  benchmark::AddCustomContext("multiprocessors", std::to_string(gpu.n_multiprocessors));
  benchmark::AddCustomContext("l2_bytes", std::to_string(gpu.l2_bytes));
  benchmark::AddCustomContext("memory_bytes", std::to_string(gpu.memory_bytes));
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
    std::fprintf(stderr, "forward_gpu_bench: %s\n", error.what());
    return 1;
  }
}
