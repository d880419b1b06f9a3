// SPDX-License-Identifier: Apache-2.0
// Threads and clocks of the benchmarks' own code (limits and unfused peers).
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace resembed::bench {

// The width of the library's own pool: limits and peers get as many threads.
inline int NumThreads() {
  const auto n = static_cast<int>(std::thread::hardware_concurrency());
  return n < 1 ? 1 : n;
}

// Calls body(thread, first, last) for equal ranges of [0, n), one a thread.
template <typename Body>
void ParallelRanges(int64_t n, const Body& body) {
  const int n_threads = NumThreads();
  std::vector<std::thread> threads;
  for (int t = 1; t < n_threads; ++t) {
    threads.emplace_back([&body, n, n_threads, t] { body(t, n * t / n_threads, n * (t + 1) / n_threads); });
  }
  body(0, int64_t{0}, n / n_threads);
  for (std::thread& thread : threads) thread.join();
}

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace resembed::bench
