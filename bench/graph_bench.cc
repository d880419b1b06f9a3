// SPDX-License-Identifier: Apache-2.0
// From a log to the top-K graph: co-visit counts, top-K, weights, centers. Counting is measured against a pass of a
// radix sort, top-K against the update limit of lists at random, both together against obvious code.
#include <malloc.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "bench/support/main.h"
#include "bench/support/plain_graph.h"
#include "bench/support/scenario.h"
#include "bench/support/sort_limit.h"

namespace resembed::bench {
namespace {

struct GraphCase {
  int64_t n_interactions, n_items;
  double alpha;
  int32_t window;
  int64_t budget_mb = 0;  // > 0: the log comes in blocks, counts go to disk beyond this much memory
  int64_t length = 20;    // of a sequence
};

constexpr int32_t kNeighbors = 8;
// Of the log, for the comparison with obvious code, which would take minutes and gigabytes for all of it.
constexpr int64_t kPeerInteractions = 1'000'000;
constexpr int kPeerRuns = 3;

std::string Name(const GraphCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.alpha);
  return "BM_Graph/interactions:" + CountName(c.n_interactions) + "/items:" + CountName(c.n_items) +
         "/zipf:" + zipf + "/window:" + std::to_string(c.window) + "/k:" + std::to_string(kNeighbors) +
         (c.budget_mb > 0 ? "/budget_mb:" + std::to_string(c.budget_mb) : "");
}

// Resident bytes of the process; 0 where the system does not say.
double ResidentBytes(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kib = 0;
    if (word == field && status >> kib) return 1024 * kib;
  }
  return 0;
}

// The two steps that the obvious code does as well, in memory, over the start of the log.
void AgainstPlainCode(benchmark::State& state, const GraphCase& c, const IdSource& source) {
  std::vector<int32_t> ids(static_cast<size_t>(kPeerInteractions));
  source.Fill(0, kPeerInteractions, ids.data());
  std::vector<int64_t> offsets;
  for (int64_t at = 0; at <= kPeerInteractions; at += c.length) offsets.push_back(at);
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = c.n_items;
  options.window = c.window;
  std::vector<int32_t> neighbors(static_cast<size_t>(c.n_items * kNeighbors));
  std::vector<int64_t> counts(neighbors.size());
  const PlainLog log = {ids.data(), kPeerInteractions, c.length, c.n_items};
  Timings library, hashed, sorted;
  for (int run = 0; run < kPeerRuns; ++run) {
    library.Time([&] {
      resembed_covisit* covisit = nullptr;
      Check(resembed_covisit_create(&options, &covisit));
      Check(resembed_covisit_add(covisit, ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64,
                                 static_cast<int64_t>(offsets.size()) - 1));
      Check(resembed_covisit_top_k(covisit, kNeighbors, neighbors.data(), counts.data()));
      resembed_covisit_destroy(covisit);
    });
    sorted.Time([&] { SortedGraph(log, c.window, kNeighbors); });
    PlainGraph plain;
    hashed.Time([&] { plain = HashedGraph(log, c.window, kNeighbors); });
    if (plain.neighbors != neighbors || plain.counts != counts) state.SkipWithError("the graphs differ");
  }
  state.counters["vs_unfused"] = hashed.Median() / library.Median();
  state.counters["vs_sorted"] = sorted.Median() / library.Median();
}

// Shares of what the memory gives: after the peak of the memory was read, since the limits take tables of their own.
void AgainstTheLimits(benchmark::State& state, const GraphShape& shape, double count_s, double top_k_s) {
  const double count_gbps = 1e-9 * static_cast<double>(CountBytes(shape)) / count_s,
               top_k_gbps = 1e-9 * static_cast<double>(TopKBytes(shape)) / top_k_s;
  // A list takes two cache lines or more: one of its items, one of their counts.
  const MemoryTable lists = MemoryTableOf(shape.n_items, 128);
  const double sort_limit = SortPassGbps(), update_limit = Limits(lists).update_gbps;
  state.counters["bytes"] = static_cast<double>(CountBytes(shape) + TopKBytes(shape));
  state.counters["count_GBps"] = count_gbps;
  state.counters["top_k_GBps"] = top_k_gbps;
  state.counters["sort_limit_GBps"] = sort_limit;
  state.counters["limit_GBps"] = update_limit;
  state.counters["count_frac"] = count_gbps / sort_limit;
  state.counters["top_k_frac"] = top_k_gbps / update_limit;
}

void Graph(benchmark::State& state, const GraphCase& c) {
  const IdSource source(c.n_items, c.alpha, 3);
  const int64_t block = c.budget_mb > 0 ? 1'000'000 : c.n_interactions;
  std::vector<int32_t> ids(static_cast<size_t>(block));
  source.Fill(0, block, ids.data());
  std::vector<int64_t> offsets;
  for (int64_t at = 0; at <= block; at += c.length) offsets.push_back(at);
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = c.n_items;
  options.window = c.window;
  const std::string folder = std::filesystem::temp_directory_path().string();
  if (c.budget_mb > 0) {
    options.buffer_bytes = static_cast<size_t>(c.budget_mb) * 1'000'000 / 2;
    options.spill_folder = folder.c_str();
    options.spill_bytes = static_cast<size_t>(c.budget_mb) * 1'000'000 / 3;
  }
  const auto n_entries = static_cast<size_t>(c.n_items * kNeighbors);
  std::vector<int32_t> neighbors(n_entries), center_of(static_cast<size_t>(c.n_items));
  std::vector<int64_t> counts(n_entries);
  std::vector<float> weights(n_entries);
  int64_t n_pairs = 0, n_centers = 0;
  Timings count, top_k, weigh, assign;
  malloc_trim(0);
  // The peak starts again here.
  std::ofstream("/proc/self/clear_refs") << 5;
  const double before = ResidentBytes("VmRSS:");
  for (auto _ : state) {
    resembed_covisit* covisit = nullptr;
    count.Time([&] {
      Check(resembed_covisit_create(&options, &covisit));
      for (int64_t first = 0; first < c.n_interactions; first += block) {
        if (first > 0) source.Fill(first, block, ids.data());
        Check(resembed_covisit_add(covisit, ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64,
                                   static_cast<int64_t>(offsets.size()) - 1));
      }
      Check(resembed_covisit_n_pairs(covisit, &n_pairs));
    });
    top_k.Time([&] { Check(resembed_covisit_top_k(covisit, kNeighbors, neighbors.data(), counts.data())); });
    resembed_covisit_destroy(covisit);
    weigh.Time([&] {
      Check(resembed_graph_weights(neighbors.data(), counts.data(), c.n_items, kNeighbors, RESEMBED_GRAPH_GCN,
                                   weights.data()));
    });
    state.PauseTiming();
    assign.Time([&] {
      Check(resembed_graph_assign(neighbors.data(), counts.data(), c.n_items, kNeighbors, nullptr,
                                  center_of.data(), &n_centers));
    });
    state.ResumeTiming();
  }
  state.counters["count_s"] = count.Median();
  state.counters["top_k_s"] = top_k.Median();
  state.counters["weights_s"] = weigh.Median();
  state.counters["assign_s"] = assign.Median();
  state.counters["pairs"] = static_cast<double>(n_pairs);
  state.counters["centers"] = static_cast<double>(n_centers);
  state.counters["peak_MB"] = 1e-6 * (ResidentBytes("VmHWM:") - before);
  state.counters["process_peak_MB"] = 1e-6 * ResidentBytes("VmHWM:");
  state.counters["interactions_per_s"] =
      static_cast<double>(c.n_interactions) / (count.Median() + top_k.Median());
  const GraphShape shape = {c.n_interactions, c.length, c.n_items, n_pairs, c.window, kNeighbors};
  AgainstTheLimits(state, shape, count.Median(), top_k.Median());
  AgainstPlainCode(state, c, source);
}

void Register() {
  const std::vector<GraphCase> cases = {
      {10'000'000, 1'000'000, 1.05, 2},      {10'000'000, 1'000'000, 0, 2},
      {10'000'000, 1'000'000, 1.15, 2},      {10'000'000, 1'000'000, 1.05, 5},
      {1'000'000, 25'000, 1.05, 2},          {100'000'000, 1'000'000, 1.05, 2, 3000},
      {100'000'000, 1'000'000, 1.05, 2, 500}};
  for (const GraphCase& c : cases) {
    benchmark::RegisterBenchmark(Name(c).c_str(), [c](benchmark::State& state) { Graph(state, c); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace resembed::bench

int main(int argc, char** argv) {
  resembed::bench::Register();
  return resembed::bench::RunMain(argc, argv);
}
