// SPDX-License-Identifier: Apache-2.0
// The interest graph on a GPU against the CPU builder of the same process: int32 sequences in host memory to lists in
// device memory, with the share of the time in each stage.
//   graph_gpu_bench [--tiny] [--device] [Google Benchmark's options]
// --tiny: a size for tests. --device: prints the GPU's name and leaves. Without a GPU it says so and leaves with 77.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/gpu/device.h"
#include "bench/support/parallel.h"
#include "bench/support/zipf.h"
#include "host/graph/covisit.h"
#include "kernels/graph/graph.h"

namespace resembed::bench::gpu {
namespace {

struct GraphCase {
  const char* name;
  int64_t n_clicks, n_items, length;
  double alpha;
};
constexpr int32_t kWindow = 2, kNeighbors = 8;
constexpr int kRuns = 3;
const char* const kStages[kernels::kGraphStages] = {"copy", "emit", "sort",  "reduce", "merge",
                                                    "hand", "rank", "lists", "out"};

void Check(resembed_status status) {
  if (status != RESEMBED_OK) throw std::runtime_error(resembed_last_error_message());
}

// Lists in memory of the device. Thrust's host backend, which stands in for it in tests, has malloc's.
class Lists {
 public:
  explicit Lists(int64_t n_items) : size_(static_cast<size_t>(n_items * kNeighbors)) {
#ifdef RESEMBED_EMULATED
    host_neighbors_.resize(size_);
    host_counts_.resize(size_);
#else
    neighbors_ = DeviceArray(size_ * sizeof(int32_t));
    counts_ = DeviceArray(size_ * sizeof(int64_t));
#endif
  }
#ifdef RESEMBED_EMULATED
  int32_t* neighbors() { return host_neighbors_.data(); }
  int64_t* counts() { return host_counts_.data(); }
#else
  int32_t* neighbors() { return neighbors_.as<int32_t>(); }
  int64_t* counts() { return counts_.as<int64_t>(); }
#endif
  bool Equal(const std::vector<int32_t>& neighbors, const std::vector<int64_t>& counts) {
#ifndef RESEMBED_EMULATED
    host_neighbors_.resize(size_);
    host_counts_.resize(size_);
    CheckCuda(
        cudaMemcpy(host_neighbors_.data(), neighbors_.data(), neighbors_.bytes(), cudaMemcpyDeviceToHost),
        "cudaMemcpy");
    CheckCuda(cudaMemcpy(host_counts_.data(), counts_.data(), counts_.bytes(), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
#endif
    return host_neighbors_ == neighbors && host_counts_ == counts;
  }

 private:
  size_t size_;
  std::vector<int32_t> host_neighbors_;
  std::vector<int64_t> host_counts_;
#ifndef RESEMBED_EMULATED
  DeviceArray neighbors_, counts_;
#endif
};

struct ClickLog {
  explicit ClickLog(const GraphCase& c) : ids(static_cast<size_t>(c.n_clicks)) {
    IdSource(c.n_items, c.alpha, 3).Fill(0, c.n_clicks, ids.data());
    for (int64_t at = 0; at < c.n_clicks; at += c.length) offsets.push_back(at);
    offsets.push_back(c.n_clicks);
  }
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets;
};

struct Built {
  double seconds = 0, peak_bytes = 0;
  int64_t n_pairs = 0;
};

// place null: the CPU. stages: [kGraphStages] or null.
Built Build(const GraphCase& c, const ClickLog& log, const resembed_place* place, size_t device_bytes,
            double* stages, int32_t* neighbors, int64_t* counts) {
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = c.n_items;
  options.window = kWindow;
  options.place = place;
  options.device_bytes = device_bytes;
  // The CPU builder is fastest with room for all pairs, 16 bytes each.
  if (place == nullptr) {
    options.buffer_bytes =
        std::max<size_t>(static_cast<size_t>(c.n_clicks) * kWindow * 16, size_t{256} << 20);
  }
  const double start = Seconds();
  resembed_covisit* raw = nullptr;
  Check(resembed_covisit_create(&options, &raw));
  const std::unique_ptr<resembed_covisit, void (*)(resembed_covisit*)> covisit(raw, resembed_covisit_destroy);
  if (stages != nullptr && raw->device != nullptr) raw->device->TimeStages(stages);
  Check(resembed_covisit_add(raw, log.ids.data(), RESEMBED_I32, log.offsets.data(), RESEMBED_I64,
                             static_cast<int64_t>(log.offsets.size()) - 1));
  Check(resembed_covisit_top_k(raw, kNeighbors, neighbors, counts));
  Built built;
  built.seconds = Seconds() - start;
  if (raw->device != nullptr) {
    built.peak_bytes = static_cast<double>(raw->device->peak_bytes());
    raw->device->TimeStages(nullptr);
  }
  Check(resembed_covisit_n_pairs(raw, &built.n_pairs));
  return built;
}

void Graph(benchmark::State& state, const GraphCase& c) {
  const ClickLog log(c);
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CUDA;
  Lists lists(c.n_items);
  const auto device_bytes =
      static_cast<size_t>(std::min<int64_t>(int64_t{40} << 30, FreeBytes() - FreeBytes() / 5));
  const auto build = [&](double* stages) {
    return Build(c, log, &place, device_bytes, stages, lists.neighbors(), lists.counts());
  };
  build(nullptr);
  std::vector<double> seconds;
  for (auto _ : state) {
    seconds.push_back(build(nullptr).seconds);
    state.SetIterationTime(seconds.back());
  }
  double stages[kernels::kGraphStages] = {};
  const Built staged = build(stages);

  std::vector<int32_t> neighbors(static_cast<size_t>(c.n_items * kNeighbors));
  std::vector<int64_t> counts(neighbors.size());
  const Built cpu = Build(c, log, nullptr, 0, nullptr, neighbors.data(), counts.data());
  if (!lists.Equal(neighbors, counts)) {
    state.SkipWithError("lists differ from the CPU's");
    return;
  }
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2),
                   seconds.end());
  const double median = std::max(seconds[seconds.size() / 2], 1e-9);
  auto& counters = state.counters;
  counters["s"] = median;
  counters["cpu_s"] = cpu.seconds;
  counters["cpu_threads"] = NumThreads();
  counters["times_cpu"] = cpu.seconds / median;
  counters["clicks"] = static_cast<double>(c.n_clicks);
  counters["pairs"] = static_cast<double>(cpu.n_pairs);
  counters["device_peak_MB"] = 1e-6 * staged.peak_bytes;
  counters["device_budget_MB"] = 1e-6 * static_cast<double>(device_bytes);
  double rest = staged.seconds;
  for (int stage = 0; stage < kernels::kGraphStages; ++stage) {
    counters[std::string("share_") + kStages[stage]] = stages[stage] / staged.seconds;
    rest -= stages[stage];
  }
  counters["share_rest"] = rest / staged.seconds;
}

int Main(int argc, char** argv) {
  bool tiny = false, device = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--tiny") == 0) {
      tiny = true;
    } else if (std::strcmp(argv[i], "--device") == 0) {
      device = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  if (const std::string why = WhyNoGpu(); !why.empty()) {
    std::printf("graph_gpu_bench: no GPU: %s\n", why.c_str());
    return 77;
  }
  if (device) {
    std::printf("%s\n", TheGpu().name.c_str());
    return 0;
  }
  benchmark::AddCustomContext("gpu", TheGpu().name);
  benchmark::AddCustomContext("resembed_version", std::to_string(resembed_version()));
  const std::vector<GraphCase> cases =
      tiny ? std::vector<GraphCase>{{"clicks:20k/items:500/zipf:1.05", 20'000, 500, 20, 1.05}}
           : std::vector<GraphCase>{{"clicks:100M/items:1M/zipf:1.05", 100'000'000, 1'000'000, 20, 1.05},
                                    {"clicks:100M/items:1M/zipf:0", 100'000'000, 1'000'000, 20, 0}};
  for (const GraphCase& c : cases) {
    benchmark::RegisterBenchmark((std::string("BM_GraphGpu/") + c.name + "/window:2/k:8").c_str(),
                                 [c](benchmark::State& state) { Graph(state, c); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(tiny ? 1 : kRuns);
  }
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
    std::fprintf(stderr, "graph_gpu_bench: %s\n", error.what());
    return 1;
  }
}
