// SPDX-License-Identifier: Apache-2.0
// How the plan, backward and step cut their loops into tasks of an executor. Cuts never show in the bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "host/executor.h"

namespace resembed::detail {

// Regions of scratch are sized for so many tasks, whatever the executor's width.
constexpr int64_t kMaxTasks = 256;

// Tasks for n units of which at least min_units are worth one: some per thread, so that a late thread costs
// little; one when a second thread would not pay.
inline int64_t TaskCount(const Executor& executor, int64_t n, int64_t min_units) {
  if (executor.width() <= 1) return n > 0 ? 1 : 0;
  return std::min({(n + min_units - 1) / min_units, int64_t{4} * executor.width(), kMaxTasks});
}

// Rows of scratch lie on cache lines of their own.
inline int64_t PaddedDim(int64_t dim) { return (dim + 15) / 16 * 16; }

struct TaskRange {
  int64_t first, last;
};

inline TaskRange RangeOfTask(int64_t n, int64_t n_tasks, int64_t task) {
  return {n / n_tasks * task + std::min(n % n_tasks, task),
          n / n_tasks * (task + 1) + std::min(n % n_tasks, task + 1)};
}

}  // namespace resembed::detail
