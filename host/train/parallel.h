// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace resembed::train {

// Threads for `asked`; 0: one for each core the process may run on.
inline int ThreadsOf(int asked) {
  if (asked > 0) return asked;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(CPU_COUNT(&allowed), 1);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// body(worker, index) once for each index in [0, n); indices are handed out one at a time, so each should be worth
// at least some microseconds. n_threads: as ThreadsOf takes it. body must not throw.
template <class Body>
void ParallelFor(int64_t n, int n_threads, const Body& body) {
  n_threads = static_cast<int>(std::min<int64_t>(ThreadsOf(n_threads), n));
  std::atomic<int64_t> next{0};
  const auto work = [&](int worker) {
    for (int64_t index; (index = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(worker, index);
  };
  std::vector<std::thread> helpers;
  for (int worker = 1; worker < n_threads; ++worker) helpers.emplace_back(work, worker);
  work(0);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace resembed::train
