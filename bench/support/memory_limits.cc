// SPDX-License-Identifier: Apache-2.0
// The row loop is unrolled for the usual row sizes, so that a row costs its loads, one prefetch a line and
// nothing else; each line has its own running sum, so that no load waits for an addition.
#include "bench/support/memory_limits.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "bench/support/parallel.h"
#include "bench/support/zipf.h"

namespace resembed::bench {
namespace {

constexpr int64_t kArenaBytes = int64_t{1} << 30;
constexpr int64_t kLineBytes = 64;
constexpr int kBatches = 6;
constexpr std::array<int, 9> kDistances = {4, 8, 12, 16, 24, 32, 48, 64, 128};

typedef float Line __attribute__((vector_size(64), may_alias));

// kLines 0: any number of lines.
template <int kLines, bool kUpdate>
float WalkRows(char* arena, int64_t n_lines, const int64_t* rows, int64_t first, int64_t last, int ahead) {
  constexpr int kSums = kLines == 0 ? 4 : (kLines < 8 ? kLines : 8);
  const int64_t lines = kLines == 0 ? n_lines : kLines;
  Line sums[kSums] = {};
  for (int64_t at = first; at < last; ++at) {
    const char* next = arena + rows[at + ahead];  // the list is padded with its own start
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(next + line * kLineBytes, kUpdate, 3);
    auto* row = reinterpret_cast<Line*>(arena + rows[at]);
    for (int64_t line = 0; line < lines; ++line) {
      if (kUpdate) {
        row[line] = row[line] * 0.999f + 1e-6f;
      } else {
        sums[line % kSums] += row[line];
      }
    }
  }
  for (int sum = 1; sum < kSums; ++sum) sums[0] += sums[sum];
  return sums[0][0];
}

template <bool kUpdate>
float Walk(char* arena, int64_t n_lines, const int64_t* rows, int64_t first, int64_t last, int ahead) {
  switch (n_lines) {
    case 1:
      return WalkRows<1, kUpdate>(arena, n_lines, rows, first, last, ahead);
    case 2:
      return WalkRows<2, kUpdate>(arena, n_lines, rows, first, last, ahead);
    case 4:
      return WalkRows<4, kUpdate>(arena, n_lines, rows, first, last, ahead);
    case 8:
      return WalkRows<8, kUpdate>(arena, n_lines, rows, first, last, ahead);
    case 16:
      return WalkRows<16, kUpdate>(arena, n_lines, rows, first, last, ahead);
    default:
      return WalkRows<0, kUpdate>(arena, n_lines, rows, first, last, ahead);
  }
}

// Byte offsets of the rows of one round, padded for the prefetch.
std::vector<int64_t> DrawRows(int64_t row_bytes, int64_t n, uint64_t seed) {
  RandomStream random(seed);
  const auto n_rows = static_cast<uint64_t>(kArenaBytes / row_bytes);
  std::vector<int64_t> rows(static_cast<size_t>(n));
  for (int64_t& row : rows) row = static_cast<int64_t>(random.Next() % n_rows) * row_bytes;
  rows.insert(rows.end(), rows.begin(), rows.begin() + kDistances.back());
  return rows;
}

class Rounds {
 public:
  Rounds(int64_t row_bytes, char* arena) : row_bytes_(row_bytes), arena_(arena) {
    n_ = std::max<int64_t>(200'000, (int64_t{100} << 20) / row_bytes);
    for (int batch = 0; batch < kBatches; ++batch) {
      rows_.push_back(DrawRows(row_bytes, n_, static_cast<uint64_t>(batch)));
    }
  }

  // Row bytes a second of the fastest round.
  template <bool kUpdate>
  double BytesPerSecond(int ahead) const {
    double best = std::numeric_limits<double>::infinity();
    for (const std::vector<int64_t>& rows : rows_) {
      std::vector<float> sums(static_cast<size_t>(NumThreads()));
      const double start = Seconds();
      ParallelRanges(n_, [&](int thread, int64_t first, int64_t last) {
        sums[static_cast<size_t>(thread)] =
            Walk<kUpdate>(arena_, row_bytes_ / kLineBytes, rows.data(), first, last, ahead);
      });
      best = std::min(best, Seconds() - start);
      for (const float sum : sums) {
        volatile float sink = sum;
        (void)sink;
      }
    }
    return static_cast<double>(n_ * row_bytes_) / best;
  }

  void Improve(const int* read_ahead, const int* update_ahead, MemoryLimits* limits) const {
    if (read_ahead != nullptr) {
      const double gbps = 1e-9 * BytesPerSecond<false>(*read_ahead);
      if (gbps > limits->read_gbps) limits->read_gbps = gbps, limits->read_ahead = *read_ahead;
    }
    if (update_ahead != nullptr) {
      const double gbps = 2e-9 * BytesPerSecond<true>(*update_ahead);
      if (gbps > limits->update_gbps) limits->update_gbps = gbps, limits->update_ahead = *update_ahead;
    }
  }

 private:
  int64_t row_bytes_, n_;
  char* arena_;
  std::vector<std::vector<int64_t>> rows_;
};

void FillArena(const HugeArray<float>& arena) {
  ParallelRanges(arena.size(), [&](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) arena[i] = 1e-3f * static_cast<float>(i % 997);
  });
}

struct Measured {
  std::unique_ptr<Rounds> rounds;
  MemoryLimits limits;
};

Measured& MeasuredFor(int64_t row_bytes) {
  static auto* const arena = [] {
    auto* array = new HugeArray<float>(kArenaBytes / 4);
    FillArena(*array);
    return array;
  }();
  static auto* const measured = new std::map<int64_t, Measured>;
  Measured& entry = (*measured)[row_bytes];
  if (entry.rounds == nullptr) {
    entry.rounds = std::make_unique<Rounds>(row_bytes, reinterpret_cast<char*>(arena->data()));
    for (const int ahead : kDistances) entry.rounds->Improve(&ahead, &ahead, &entry.limits);
  }
  return entry;
}

}  // namespace

MemoryLimits MeasureLimits(int64_t row_bytes, Pages pages) {
  const HugeArray<float> arena(kArenaBytes / 4, pages);
  FillArena(arena);
  const Rounds rounds(row_bytes, reinterpret_cast<char*>(arena.data()));
  MemoryLimits limits;
  for (const int ahead : kDistances) rounds.Improve(&ahead, &ahead, &limits);
  return limits;
}

const MemoryLimits& Limits(int64_t row_bytes) { return MeasuredFor(row_bytes).limits; }

void RefreshLimits(int64_t row_bytes) {
  Measured& entry = MeasuredFor(row_bytes);
  const int read_ahead = entry.limits.read_ahead, update_ahead = entry.limits.update_ahead;
  entry.rounds->Improve(&read_ahead, &update_ahead, &entry.limits);
}

}  // namespace resembed::bench
