// SPDX-License-Identifier: Apache-2.0
// What the benchmark programs share: medians, context, main.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <vector>

#include "bench/support/memory_limits.h"
#include "bench/support/parallel.h"
#include "resembed/resembed.h"

namespace resembed::bench {

// Times of single calls.
class Timings {
 public:
  template <typename Body>
  double Time(const Body& body) {
    const double start = Seconds();
    body();
    seconds_.push_back(Seconds() - start);
    return seconds_.back();
  }
  double Median() {
    std::nth_element(seconds_.begin(), seconds_.begin() + static_cast<std::ptrdiff_t>(seconds_.size() / 2),
                     seconds_.end());
    return seconds_[seconds_.size() / 2];
  }
  double Best() const { return *std::min_element(seconds_.begin(), seconds_.end()); }

 private:
  std::vector<double> seconds_;
};

inline int RunMain(int argc, char** argv) {
  benchmark::AddCustomContext("resembed_version", std::to_string(resembed_version()));
  benchmark::AddCustomContext("threads", std::to_string(NumThreads()));
  static const char* const kIsa[] = {"best", "portable", "avx2", "avx512"};
  benchmark::AddCustomContext("isa", kIsa[resembed_best_isa()]);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  try {
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}

}  // namespace resembed::bench
