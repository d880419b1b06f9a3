// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/sort.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace resembed::detail {
namespace {

// A digit of 12 bits: 4096 write positions (256 KiB of lines) stay in a core's second-level cache, and keys of
// 24 bits take two passes. Short lists take 8 bits: clearing 4096 counters would cost more than a pass.
constexpr int kWideDigit = 12;
constexpr int kNarrowDigit = 8;
constexpr int64_t kNarrowBelow = 4096;
// A thread's share of a pass has to outweigh waking it.
constexpr int64_t kEntriesPerTask = 16384;
constexpr int64_t kMaxTasks = 16;
constexpr int64_t kLine = 64 / sizeof(SortEntry);

int MaxDigit(int64_t n) { return n < kNarrowBelow ? kNarrowDigit : kWideDigit; }
int64_t MaxTasks(int64_t n) { return std::clamp<int64_t>(n / kEntriesPerTask, 1, kMaxTasks); }

}  // namespace

int64_t SortCounters(int64_t n) { return MaxTasks(n) << MaxDigit(n); }

SortEntry* SortEntries(SortEntry* entries, SortEntry* spare, int64_t n, int key_bits, uint32_t* counters,
                       const Executor& executor) {
  if (n <= 1) return entries;
  const int n_passes = (key_bits + MaxDigit(n) - 1) / MaxDigit(n);
  const int64_t n_tasks = executor.width() == 1 ? 1 : std::min<int64_t>(MaxTasks(n), 2 * executor.width());
  int first_bit = 0;
  for (int pass = 0; pass < n_passes; ++pass) {
    const int digit_bits = (key_bits - first_bit + n_passes - pass - 1) / (n_passes - pass);
    const int64_t n_digits = int64_t{1} << digit_bits;
    const uint32_t mask = static_cast<uint32_t>(n_digits - 1);
    const int shift = 32 + first_bit;

    executor.ParallelFor(n_tasks, [=](int64_t task) {
      uint32_t* count = counters + task * n_digits;
      std::memset(count, 0, static_cast<size_t>(n_digits) * sizeof(uint32_t));
      const int64_t end = n * (task + 1) / n_tasks;
      int64_t at = n * task / n_tasks;
      // The scatter writes all over `spare`; asked for here, in order, its lines are not waited for one by one.
      for (; at + kLine <= end; at += kLine) {
        __builtin_prefetch(spare + at, 1, 2);
        for (int64_t entry = at; entry < at + kLine; ++entry) {
          ++count[static_cast<uint32_t>(entries[entry] >> shift) & mask];
        }
      }
      for (; at < end; ++at) ++count[static_cast<uint32_t>(entries[at] >> shift) & mask];
    });
    uint32_t position = 0;
    for (int64_t digit = 0; digit < n_digits; ++digit) {
      for (int64_t task = 0; task < n_tasks; ++task) {
        position += std::exchange(counters[task * n_digits + digit], position);
      }
    }
    executor.ParallelFor(n_tasks, [=](int64_t task) {
      uint32_t* next = counters + task * n_digits;
      const int64_t end = n * (task + 1) / n_tasks;
      for (int64_t at = n * task / n_tasks; at < end; ++at) {
        const SortEntry entry = entries[at];
        spare[next[static_cast<uint32_t>(entry >> shift) & mask]++] = entry;
      }
    });
    std::swap(entries, spare);
    first_bit += digit_bits;
  }
  return entries;
}

}  // namespace resembed::detail
