// SPDX-License-Identifier: Apache-2.0
// The yardstick itself: rows read and updated at random, by row size, page size and prefetch distance.
#include <string>

#include "bench/support/main.h"

namespace resembed::bench {
namespace {

constexpr int64_t kTableBytes = int64_t{1} << 30;

void RandomRows(benchmark::State& state, int64_t row_bytes, Pages pages) {
  MemoryLimits limits;
  for (auto _ : state) limits = MeasureLimits({row_bytes, kTableBytes}, pages);
  state.counters["read_GBps"] = limits.read_gbps;
  state.counters["read_l2_GBps"] = limits.read_l2_gbps;
  state.counters["read_ahead"] = limits.read_ahead;
  state.counters["update_GBps"] = limits.update_gbps;
  state.counters["update_ahead"] = limits.update_ahead;
}

void Register() {
  for (const int64_t row_bytes : {64, 128, 256, 512, 1024}) {
    for (const Pages pages : {Pages::kSmall, Pages::kHuge}) {
      const std::string name =
          "BM_RandomRows/row:" + std::to_string(row_bytes) + (pages == Pages::kHuge ? "/huge" : "/small");
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { RandomRows(state, row_bytes, pages); })
          ->Iterations(1)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace resembed::bench

int main(int argc, char** argv) {
  resembed::bench::Register();
  return resembed::bench::RunMain(argc, argv);
}
