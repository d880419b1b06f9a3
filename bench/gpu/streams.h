// SPDX-License-Identifier: Apache-2.0
// Ids of the GPU benchmarks: distinct, power law, coherent in interest, and with the reuse of a published histogram.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace resembed::bench {

// `count` different ids of [0, rows) in random order; count <= rows.
std::vector<int32_t> DistinctIds(int64_t rows, int64_t count, uint64_t seed);

// Bags of `bag_length` ids by the power law p(rank r) ~ r^-alpha over [0, rows), no id twice in a bag (bag_length is
// far below rows); alpha 0 is uniform.
std::vector<int32_t> PowerLawBags(int64_t rows, double alpha, int64_t n_bags, int64_t bag_length,
                                  uint64_t seed);

// Item i of `rows` belongs to center i * centers / rows.
std::vector<int32_t> BlockCenters(int64_t rows, int64_t centers);
// Every item a random center, all equally likely.
std::vector<int32_t> RandomCenters(int64_t rows, int64_t centers, uint64_t seed);

// Bags that are coherent in interest, over BlockCenters: a bag draws `interests` centers by the power law alpha (0:
// uniform), then each of its ids is an item of one of them, by the power law alpha within the center's items.
std::vector<int32_t> CoherentBags(int64_t rows, int64_t centers, int interests, double alpha, int64_t n_bags,
                                  int64_t bag_length, uint64_t seed);

// How often a batch uses each of the rows it touches: shares of rows by number of uses. Bin b holds rows with
// (2^(b-1), 2^b] uses, bin 0 rows with one.
struct ReuseHistogram {
  std::vector<double> row_share;
  double mean_pooling = 0;
  int64_t lookups = 0, unique_rows = 0;  // of one table and one batch
};
// One entry of "sets" in a JSON file of such histograms ("row_share_filled", "lookups_per_table",
// "unique_rows_per_table", "mean_pooling_factor"). Throws std::runtime_error.
ReuseHistogram ReadHistogram(const std::string& path, const std::string& set);

struct JaggedBags {
  std::vector<int32_t> ids, offsets;
};
// About `lookups` ids over [0, rows) with the histogram's reuse, in random order; bag lengths are geometric around
// its mean pooling factor.
JaggedBags HistogramBags(const ReuseHistogram& histogram, int64_t rows, int64_t lookups, uint64_t seed);

// Distinct values of `values`, all in [0, bound).
int64_t CountDistinct(const std::vector<int32_t>& values, int64_t bound);

}  // namespace resembed::bench
