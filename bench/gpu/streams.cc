// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/streams.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bench/support/parallel.h"
#include "bench/support/zipf.h"

namespace resembed::bench {
namespace {

// A permutation of [0, n): four Feistel rounds on the next even number of bits, again while outside (cycle walking).
class Permutation {
 public:
  Permutation(int64_t n, uint64_t seed) : n_(static_cast<uint64_t>(n)) {
    while ((uint64_t{1} << (2 * half_bits_)) < n_) ++half_bits_;
    RandomStream random(seed);
    for (uint64_t& key : keys_) key = random.Next();
  }
  int64_t operator()(int64_t index) const {
    auto value = static_cast<uint64_t>(index);
    do {
      const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
      uint64_t left = value >> half_bits_, right = value & mask;
      for (const uint64_t key : keys_) {
        const uint64_t mixed = RandomStream(right ^ key).Next() & mask;
        const uint64_t next = left ^ mixed;
        left = right;
        right = next;
      }
      value = left << half_bits_ | right;
    } while (value >= n_);
    return static_cast<int64_t>(value);
  }

 private:
  uint64_t n_;
  int half_bits_ = 1;
  uint64_t keys_[4] = {};
};

// Ranks by the power law; alpha 0 is uniform.
class Ranks {
 public:
  Ranks(int64_t n, double alpha) : n_(n), alpha_(alpha), zipf_(n, alpha > 0 ? alpha : 1) {}
  int64_t Draw(RandomStream& random) const {
    return alpha_ > 0 ? zipf_.Draw(random) : static_cast<int64_t>(random.Next() % static_cast<uint64_t>(n_));
  }

 private:
  int64_t n_;
  double alpha_;
  ZipfRanks zipf_;
};

RandomStream BagStream(uint64_t seed, int64_t bag) {
  return RandomStream(RandomStream(seed ^ (static_cast<uint64_t>(bag) + 1) * 0xd1342543de82ef95u).Next());
}

// draw() until it gives an id that [begin, end) lacks; a small center may run out of new ids, so not for ever.
template <typename Draw>
int32_t NewId(const int32_t* begin, const int32_t* end, const Draw& draw) {
  constexpr int kTries = 64;
  int32_t id = draw();
  for (int attempt = 1; attempt < kTries && std::find(begin, end, id) != end; ++attempt) id = draw();
  return id;
}

}  // namespace

std::vector<int32_t> DistinctIds(int64_t rows, int64_t count, uint64_t seed) {
  const Permutation permutation(rows, seed);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  ParallelRanges(count, [&](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) ids[static_cast<size_t>(i)] = static_cast<int32_t>(permutation(i));
  });
  return ids;
}

std::vector<int32_t> PowerLawBags(int64_t rows, double alpha, int64_t n_bags, int64_t bag_length,
                                  uint64_t seed) {
  const Permutation id_of_rank(rows, seed);
  const Ranks ranks(rows, alpha);
  std::vector<int32_t> ids(static_cast<size_t>(n_bags * bag_length));
  ParallelRanges(n_bags, [&](int, int64_t first, int64_t last) {
    for (int64_t bag = first; bag < last; ++bag) {
      RandomStream random = BagStream(seed, bag);
      int32_t* const begin = ids.data() + bag * bag_length;
      for (int32_t* id = begin; id < begin + bag_length; ++id) {
        *id = NewId(begin, id, [&] { return static_cast<int32_t>(id_of_rank(ranks.Draw(random))); });
      }
    }
  });
  return ids;
}

std::vector<int32_t> BlockCenters(int64_t rows, int64_t centers) {
  std::vector<int32_t> center_of(static_cast<size_t>(rows));
  ParallelRanges(rows, [&](int, int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      center_of[static_cast<size_t>(item)] = static_cast<int32_t>(item * centers / rows);
    }
  });
  return center_of;
}

std::vector<int32_t> RandomCenters(int64_t rows, int64_t centers, uint64_t seed) {
  std::vector<int32_t> center_of(static_cast<size_t>(rows));
  ParallelRanges(rows, [&](int, int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      center_of[static_cast<size_t>(item)] =
          static_cast<int32_t>(BagStream(seed, item).Next() % static_cast<uint64_t>(centers));
    }
  });
  return center_of;
}

std::vector<int32_t> CoherentBags(int64_t rows, int64_t centers, int interests, double alpha, int64_t n_bags,
                                  int64_t bag_length, uint64_t seed) {
  const Permutation center_of_rank(centers, seed);
  const Ranks center_ranks(centers, alpha);
  const Ranks item_ranks((rows + centers - 1) / centers, alpha);
  std::vector<int32_t> ids(static_cast<size_t>(n_bags * bag_length));
  ParallelRanges(n_bags, [&](int, int64_t first, int64_t last) {
    std::vector<int64_t> chosen(static_cast<size_t>(interests));
    for (int64_t bag = first; bag < last; ++bag) {
      RandomStream random = BagStream(seed, bag);
      for (int64_t& center : chosen) center = center_of_rank(center_ranks.Draw(random));
      int32_t* const begin = ids.data() + bag * bag_length;
      for (int32_t* id = begin; id < begin + bag_length; ++id) {
        *id = NewId(begin, id, [&] {
          const int64_t center = chosen[random.Next() % chosen.size()];
          // Items of the center: the first item i with i * centers / rows == center, and those after it.
          const int64_t low = (center * rows + centers - 1) / centers;
          const int64_t high = ((center + 1) * rows + centers - 1) / centers;
          int64_t rank = item_ranks.Draw(random);
          while (rank >= high - low) rank = item_ranks.Draw(random);
          return static_cast<int32_t>(low + rank);
        });
      }
    }
  });
  return ids;
}

ReuseHistogram ReadHistogram(const std::string& path, const std::string& set) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  const nlohmann::json read = nlohmann::json::parse(file, nullptr, false);
  if (!read.is_object() || !read.contains("sets") || !read["sets"].contains(set)) {
    throw std::runtime_error(path + " has no set " + set);
  }
  const nlohmann::json& entry = read["sets"][set];
  ReuseHistogram histogram;
  histogram.row_share = entry.at("row_share_filled").get<std::vector<double>>();
  histogram.mean_pooling = entry.at("mean_pooling_factor").get<double>();
  histogram.lookups = entry.at("lookups_per_table").get<int64_t>();
  histogram.unique_rows = entry.at("unique_rows_per_table").get<int64_t>();
  return histogram;
}

JaggedBags HistogramBags(const ReuseHistogram& histogram, int64_t rows, int64_t lookups, uint64_t seed) {
  RandomStream random(seed);
  const double mean_reuse =
      static_cast<double>(histogram.lookups) / static_cast<double>(histogram.unique_rows);
  const auto unique = std::min(rows, static_cast<int64_t>(static_cast<double>(lookups) / mean_reuse));
  const Permutation row_of(rows, seed);
  JaggedBags bags;
  int64_t row = 0;
  double owed = 0;
  for (size_t bin = 0; bin < histogram.row_share.size(); ++bin) {
    // The rare hot bins hold a fraction of a row: it is carried from bin to bin, so that the total comes out.
    owed += histogram.row_share[bin] * static_cast<double>(unique);
    const auto n_rows = static_cast<int64_t>(owed);
    owed -= static_cast<double>(n_rows);
    const double low = bin == 0 ? 1 : std::exp2(static_cast<double>(bin) - 1),
                 high = std::exp2(static_cast<double>(bin));
    for (int64_t i = 0; i < n_rows && row < unique; ++i, ++row) {
      // Log-uniform over (low, high]; one use in bin 0.
      const auto uses = bin == 0
                            ? int64_t{1}
                            : std::max<int64_t>(static_cast<int64_t>(low) + 1,
                                                std::llround(low * std::pow(high / low, random.NextUnit())));
      bags.ids.insert(bags.ids.end(), static_cast<size_t>(uses), static_cast<int32_t>(row_of(row)));
    }
  }
  for (size_t last = bags.ids.size(); last > 1; --last) {
    std::swap(bags.ids[last - 1], bags.ids[random.Next() % last]);
  }
  // Geometric lengths 0, 1, 2, ... with the mean of the histogram.
  const double log_keep = std::log(histogram.mean_pooling / (1 + histogram.mean_pooling));
  bags.offsets = {0};
  const auto n_ids = static_cast<int64_t>(bags.ids.size());
  while (bags.offsets.back() < n_ids) {
    const auto length = static_cast<int64_t>(std::log(1 - random.NextUnit()) / log_keep);
    bags.offsets.push_back(static_cast<int32_t>(std::min(n_ids, bags.offsets.back() + length)));
  }
  return bags;
}

int64_t CountDistinct(const std::vector<int32_t>& values, int64_t bound) {
  std::vector<bool> seen(static_cast<size_t>(bound));
  int64_t count = 0;
  for (const int32_t value : values) {
    if (seen[static_cast<size_t>(value)]) continue;
    seen[static_cast<size_t>(value)] = true;
    ++count;
  }
  return count;
}

}  // namespace resembed::bench
