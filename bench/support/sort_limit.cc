// SPDX-License-Identifier: Apache-2.0
#include "bench/support/sort_limit.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "bench/support/huge_array.h"
#include "bench/support/parallel.h"
#include "bench/support/zipf.h"

namespace resembed::bench {
namespace {

constexpr int64_t kKeys = int64_t{1} << 24;  // 128 MiB to read and as much to write
constexpr uint64_t kDigits = uint64_t{1} << 11;
constexpr int kRounds = 4;

struct Keys {
  Keys() : from(kKeys), to(kKeys) {
    starts.resize(static_cast<size_t>(NumThreads()));
    ParallelRanges(kKeys, [this](int thread, int64_t first, int64_t last) {
      RandomStream random(static_cast<uint64_t>(thread) + 1);
      std::vector<int64_t>& start = starts[static_cast<size_t>(thread)];
      start.assign(kDigits + 1, 0);
      for (int64_t i = first; i < last; ++i) {
        from[i] = random.Next();
        ++start[from[i] % kDigits + 1];
      }
      start[0] = first;
      for (uint64_t digit = 0; digit < kDigits; ++digit) start[digit + 1] += start[digit];
      std::fill_n(to.data() + first, last - first, 0);  // pages are there before the first timed round
    });
  }
  HugeArray<uint64_t> from, to;
  std::vector<std::vector<int64_t>> starts;  // a thread's first place of each digit
};

}  // namespace

double SortPassGbps() {
  static auto* const keys = new Keys;
  static double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::vector<int64_t>> next = keys->starts;
    const double start = Seconds();
    ParallelRanges(kKeys, [&](int thread, int64_t first, int64_t last) {
      const uint64_t* const from = keys->from.data();
      uint64_t* const to = keys->to.data();
      int64_t* const at = next[static_cast<size_t>(thread)].data();
      for (int64_t i = first; i < last; ++i) to[at[from[i] % kDigits]++] = from[i];
    });
    best = std::max(best, 16e-9 * static_cast<double>(kKeys) / (Seconds() - start));
  }
  return best;
}

}  // namespace resembed::bench
