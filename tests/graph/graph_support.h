// SPDX-License-Identifier: Apache-2.0
// What the graph tests share: logs, counts as a map, and the C ABI with less typing.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {

struct SequenceLog {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets{0};

  void Add(const std::vector<int32_t>& sequence) {
    ids.insert(ids.end(), sequence.begin(), sequence.end());
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  int64_t n_sequences() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

using PairMap = std::map<std::pair<int32_t, int32_t>, int64_t>;  // (lower, higher) -> count

// Algorithm 1, as written: every center, every other position of its window; each unordered pair is seen
// from both ends, and counted from the first one.
inline PairMap OracleCounts(const SequenceLog& log, int32_t window, const std::vector<uint32_t>& weights) {
  PairMap counts;
  for (int64_t s = 0; s < log.n_sequences(); ++s) {
    const int64_t first = log.offsets[static_cast<size_t>(s)], last = log.offsets[static_cast<size_t>(s) + 1];
    for (int64_t center = first; center < last; ++center) {
      for (int64_t other = center + 1; other < last && other <= center + window; ++other) {
        const int32_t a = log.ids[static_cast<size_t>(center)], b = log.ids[static_cast<size_t>(other)];
        const int64_t weight = weights.empty() ? 1 : weights[static_cast<size_t>(other - center - 1)];
        if (a != b && weight != 0) counts[{std::min(a, b), std::max(a, b)}] += weight;
      }
    }
  }
  return counts;
}

// Skewed items, lengths 0 .. 2 * mean_length.
inline SequenceLog RandomLog(uint64_t seed, int32_t n_items, int64_t n_sequences, int32_t mean_length) {
  std::mt19937_64 random(seed);
  SequenceLog log;
  for (int64_t s = 0; s < n_sequences; ++s) {
    std::vector<int32_t> sequence(random() % static_cast<uint64_t>(2 * mean_length + 1));
    for (int32_t& id : sequence) {
      const auto range = static_cast<uint64_t>(n_items);
      id = static_cast<int32_t>(random() % (1 + random() % range));
    }
    log.Add(sequence);
  }
  return log;
}

class Covisit {
 public:
  explicit Covisit(int64_t n_items, int32_t window = 2, std::vector<uint32_t> weights = {},
                   size_t buffer_bytes = 1 << 16)
      : n_items_(n_items), weights_(std::move(weights)) {
    resembed_covisit_options options = {};
    options.struct_size = sizeof(options);
    options.n_items = n_items;
    options.window = window;
    options.distance_weights = weights_.empty() ? nullptr : weights_.data();
    options.buffer_bytes = buffer_bytes;
    EXPECT_EQ(resembed_covisit_create(&options, &counts_), RESEMBED_OK) << resembed_last_error_message();
  }
  ~Covisit() { resembed_covisit_destroy(counts_); }
  Covisit(const Covisit&) = delete;
  Covisit& operator=(const Covisit&) = delete;

  resembed_covisit* get() const { return counts_; }

  resembed_status Add(const SequenceLog& log) {
    return resembed_covisit_add(counts_, log.ids.data(), RESEMBED_I32, log.offsets.data(), RESEMBED_I64,
                                log.n_sequences());
  }
  int64_t NumPairs() {
    int64_t n = -1;
    EXPECT_EQ(resembed_covisit_n_pairs(counts_, &n), RESEMBED_OK);
    return n;
  }
  // Read from the exported matrix, after checking that it is symmetric with increasing columns.
  PairMap Pairs() {
    const int64_t n_pairs = NumPairs();
    std::vector<int64_t> offsets(static_cast<size_t>(n_items_) + 1), values(static_cast<size_t>(2 * n_pairs));
    std::vector<int32_t> columns(values.size());
    EXPECT_EQ(resembed_covisit_export(counts_, offsets.data(), columns.data(), values.data()), RESEMBED_OK);
    EXPECT_EQ(offsets.back(), 2 * n_pairs);
    PairMap upper, lower;
    for (int32_t row = 0; row < n_items_; ++row) {
      for (auto at = static_cast<size_t>(offsets[static_cast<size_t>(row)]);
           at < static_cast<size_t>(offsets[static_cast<size_t>(row) + 1]); ++at) {
        if (at > static_cast<size_t>(offsets[static_cast<size_t>(row)])) {
          EXPECT_LT(columns[at - 1], columns[at]);
        }
        EXPECT_NE(columns[at], row);
        if (row < columns[at]) {
          upper[{row, columns[at]}] = values[at];
        } else {
          lower[{columns[at], row}] = values[at];
        }
      }
    }
    EXPECT_EQ(upper, lower);
    return upper;
  }

  struct TopK {
    std::vector<int32_t> neighbors;
    std::vector<int64_t> counts;
    bool operator==(const TopK& other) const {
      return neighbors == other.neighbors && counts == other.counts;
    }
  };
  TopK Top(int32_t k) {
    const auto size = static_cast<size_t>(n_items_ * k);
    TopK top{std::vector<int32_t>(size, 99), std::vector<int64_t>(size, 99)};
    EXPECT_EQ(resembed_covisit_top_k(counts_, k, top.neighbors.data(), top.counts.data()), RESEMBED_OK)
        << resembed_last_error_message();
    return top;
  }

 private:
  int64_t n_items_;
  std::vector<uint32_t> weights_;
  resembed_covisit* counts_ = nullptr;
};

inline resembed_covisit_options Options(int64_t n_items, int32_t window = 2) {
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = n_items;
  options.window = window;
  options.buffer_bytes = 4096;
  return options;
}

inline resembed_graph_options GraphOptions(int32_t k) {
  resembed_graph_options options = {};
  options.struct_size = sizeof(options);
  options.k = k;
  return options;
}

inline Covisit::TopK GraphWith(Covisit* counts, int64_t n_items, const resembed_graph_options& options) {
  const auto size = static_cast<size_t>(n_items * options.k);
  Covisit::TopK top{std::vector<int32_t>(size, 99), std::vector<int64_t>(size, 99)};
  EXPECT_EQ(resembed_covisit_graph(counts->get(), &options, top.neighbors.data(), top.counts.data()),
            RESEMBED_OK)
      << resembed_last_error_message();
  return top;
}

class Counting {
 public:
  explicit Counting(const resembed_covisit_options& options) {
    EXPECT_EQ(resembed_covisit_create(&options, &counts_), RESEMBED_OK) << resembed_last_error_message();
    n_items_ = options.n_items;
  }
  ~Counting() { resembed_covisit_destroy(counts_); }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  resembed_status Add(const SequenceLog& log, const std::vector<int64_t>& times = {},
                      const std::vector<int64_t>& n_seen = {}) {
    resembed_covisit_sequences sequences = {};
    sequences.struct_size = sizeof(sequences);
    sequences.ids = log.ids.data();
    sequences.id_dtype = RESEMBED_I32;
    sequences.offsets = log.offsets.data();
    sequences.offset_dtype = RESEMBED_I64;
    sequences.n_sequences = log.n_sequences();
    sequences.times = times.empty() ? nullptr : times.data();
    sequences.n_seen = n_seen.empty() ? nullptr : n_seen.data();
    return resembed_covisit_add_sequences(counts_, &sequences);
  }
  resembed_covisit* get() const { return counts_; }
  PairMap Pairs() {
    int64_t n_pairs = -1;
    EXPECT_EQ(resembed_covisit_n_pairs(counts_, &n_pairs), RESEMBED_OK) << resembed_last_error_message();
    std::vector<int64_t> offsets(static_cast<size_t>(n_items_) + 1), values(static_cast<size_t>(2 * n_pairs));
    std::vector<int32_t> columns(values.size());
    EXPECT_EQ(resembed_covisit_export(counts_, offsets.data(), columns.data(), values.data()), RESEMBED_OK);
    PairMap pairs;
    for (int32_t row = 0; row < n_items_; ++row) {
      for (auto at = static_cast<size_t>(offsets[static_cast<size_t>(row)]);
           at < static_cast<size_t>(offsets[static_cast<size_t>(row) + 1]); ++at) {
        if (row < columns[at]) pairs[{row, columns[at]}] = values[at];
      }
    }
    return pairs;
  }

 private:
  resembed_covisit* counts_ = nullptr;
  int64_t n_items_ = 0;
};

}  // namespace resembed::testing
