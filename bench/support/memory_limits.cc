// SPDX-License-Identifier: Apache-2.0
// The row loop is unrolled for the usual row sizes, so that a row costs its loads, one prefetch a line and
// nothing else; each line has its own running sum, so that no load waits for an addition.
#include "bench/support/memory_limits.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "bench/support/parallel.h"
#include "bench/support/zipf.h"

namespace resembed::bench {
namespace {

constexpr int64_t kLineBytes = 64;
constexpr int kBatches = 6;
constexpr std::array<int, 9> kDistances = {4, 8, 12, 16, 24, 32, 48, 64, 128};

typedef float Line __attribute__((vector_size(64), may_alias));

// What is done with a row, and to which cache it is asked for ahead of time.
enum class Access { kRead, kReadBySecondLevel, kUpdate };

template <Access kAccess>
void Request(const char* line) {
  constexpr int kLocality = kAccess == Access::kReadBySecondLevel ? 1 : 3;
  __builtin_prefetch(line, kAccess == Access::kUpdate, kLocality);
}

// kLines 0: any number of lines.
template <int kLines, Access kAccess>
float WalkRows(char* arena, int64_t n_lines, const int64_t* rows, int64_t first, int64_t last, int ahead) {
  constexpr int kSums = kLines == 0 ? 4 : (kLines < 8 ? kLines : 8);
  const int64_t lines = kLines == 0 ? n_lines : kLines;
  Line sums[kSums] = {};
  for (int64_t at = first; at < last; ++at) {
    const char* next = arena + rows[at + ahead];  // the list is padded with its own start
    for (int64_t line = 0; line < lines; ++line) Request<kAccess>(next + line * kLineBytes);
    auto* row = reinterpret_cast<Line*>(arena + rows[at]);
    for (int64_t line = 0; line < lines; ++line) {
      if (kAccess == Access::kUpdate) {
        row[line] = row[line] * 0.999f + 1e-6f;
      } else {
        sums[line % kSums] += row[line];
      }
    }
  }
  for (int sum = 1; sum < kSums; ++sum) sums[0] += sums[sum];
  return sums[0][0];
}

template <Access kAccess>
float Walk(char* arena, int64_t n_lines, const int64_t* rows, int64_t first, int64_t last, int ahead) {
  switch (n_lines) {
    case 1:
      return WalkRows<1, kAccess>(arena, n_lines, rows, first, last, ahead);
    case 2:
      return WalkRows<2, kAccess>(arena, n_lines, rows, first, last, ahead);
    case 4:
      return WalkRows<4, kAccess>(arena, n_lines, rows, first, last, ahead);
    case 8:
      return WalkRows<8, kAccess>(arena, n_lines, rows, first, last, ahead);
    case 16:
      return WalkRows<16, kAccess>(arena, n_lines, rows, first, last, ahead);
    default:
      return WalkRows<0, kAccess>(arena, n_lines, rows, first, last, ahead);
  }
}

// Byte offsets of the rows of one round, padded for the prefetch.
std::vector<int64_t> DrawRows(int64_t table_bytes, int64_t row_bytes, int64_t n, uint64_t seed) {
  RandomStream random(seed);
  const auto n_rows = static_cast<uint64_t>(table_bytes / row_bytes);
  std::vector<int64_t> rows(static_cast<size_t>(n));
  for (int64_t& row : rows) row = static_cast<int64_t>(random.Next() % n_rows) * row_bytes;
  rows.insert(rows.end(), rows.begin(), rows.begin() + kDistances.back());
  return rows;
}

class Rounds {
 public:
  Rounds(int64_t row_bytes, const HugeArray<float>& arena)
      : row_bytes_(row_bytes), arena_(reinterpret_cast<char*>(arena.data())) {
    n_ = std::max<int64_t>(200'000, (int64_t{100} << 20) / row_bytes);
    for (int batch = 0; batch < kBatches; ++batch) {
      rows_.push_back(DrawRows(arena.size() * 4, row_bytes, n_, static_cast<uint64_t>(batch)));
    }
  }

  // Row bytes a second of the fastest round.
  template <Access kAccess>
  double BytesPerSecond(int ahead) const {
    double best = std::numeric_limits<double>::infinity();
    for (const std::vector<int64_t>& rows : rows_) {
      std::vector<float> sums(static_cast<size_t>(NumThreads()));
      const double start = Seconds();
      ParallelRanges(n_, [&](int thread, int64_t first, int64_t last) {
        sums[static_cast<size_t>(thread)] =
            Walk<kAccess>(arena_, row_bytes_ / kLineBytes, rows.data(), first, last, ahead);
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
      const double gbps = 1e-9 * BytesPerSecond<Access::kRead>(*read_ahead);
      const double second = 1e-9 * BytesPerSecond<Access::kReadBySecondLevel>(*read_ahead);
      limits->read_l2_gbps = std::max(limits->read_l2_gbps, second);
      if (gbps > limits->read_gbps) limits->read_gbps = gbps, limits->read_ahead = *read_ahead;
    }
    if (update_ahead != nullptr) {
      const double gbps = 2e-9 * BytesPerSecond<Access::kUpdate>(*update_ahead);
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

// One arena for each table size, kept: its pages are those that every later round meets.
const HugeArray<float>& ArenaOf(int64_t table_bytes) {
  static auto* const arenas = new std::map<int64_t, std::unique_ptr<HugeArray<float>>>;
  std::unique_ptr<HugeArray<float>>& arena = (*arenas)[table_bytes];
  if (arena == nullptr) {
    arena = std::make_unique<HugeArray<float>>(table_bytes / 4);
    FillArena(*arena);
  }
  return *arena;
}

Measured& MeasuredFor(const MemoryTable& table) {
  static auto* const measured = new std::map<std::pair<int64_t, int64_t>, Measured>;
  Measured& entry = (*measured)[{table.row_bytes, table.bytes}];
  if (entry.rounds == nullptr) {
    entry.rounds = std::make_unique<Rounds>(table.row_bytes, ArenaOf(table.bytes));
    for (const int ahead : kDistances) entry.rounds->Improve(&ahead, &ahead, &entry.limits);
  }
  return entry;
}

}  // namespace

MemoryLimits MeasureLimits(const MemoryTable& table, Pages pages) {
  const HugeArray<float> arena(table.bytes / 4, pages);
  FillArena(arena);
  const Rounds rounds(table.row_bytes, arena);
  MemoryLimits limits;
  for (const int ahead : kDistances) rounds.Improve(&ahead, &ahead, &limits);
  return limits;
}

const MemoryLimits& Limits(const MemoryTable& table) { return MeasuredFor(table).limits; }

void RefreshLimits(const MemoryTable& table) {
  Measured& entry = MeasuredFor(table);
  const int read_ahead = entry.limits.read_ahead, update_ahead = entry.limits.update_ahead;
  entry.rounds->Improve(&read_ahead, &update_ahead, &entry.limits);
}

}  // namespace resembed::bench
