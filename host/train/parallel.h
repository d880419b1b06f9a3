// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace resembed::train {

// body(worker, index) once for each index in [0, n); indices are handed out one at a time, so each should be worth
// at least some microseconds. n_threads 0 = all of the machine. body must not throw.
template <class Body>
void ParallelFor(int64_t n, int n_threads, const Body& body) {
  if (n_threads <= 0) n_threads = static_cast<int>(std::thread::hardware_concurrency());
  n_threads = static_cast<int>(std::min<int64_t>(std::max(n_threads, 1), n));
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
