// SPDX-License-Identifier: Apache-2.0
// The forward workloads of the GPU benchmarks: what is looked up in what, and the sizes a card has room for.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::bench {

enum class Ids { kDistinct, kPowerLaw, kCoherent, kHistogram };

struct Workload {
  std::string group;  // w1, w2, rows, r1, r2, r3, reuse
  int64_t rows = 10'000'000;
  int64_t dim = 256;
  resembed_dtype dtype = RESEMBED_BF16;
  resembed_central_form form = RESEMBED_CENTRAL_NONE;
  int64_t centers = 0;  // rows of C; stored: the table's own rows
  int32_t k = 1;
  resembed_pooling pooling = RESEMBED_POOLING_SUM;
  int64_t n_bags = 65'536;
  int64_t bag_length = 64;
  Ids ids = Ids::kPowerLaw;
  double alpha = 0;
  int interests = 4;          // kCoherent: centers a bag draws from
  std::string histogram_set;  // kHistogram

  auto Key() const {
    return std::tie(group, rows, dim, dtype, form, centers, k, pooling, n_bags, bag_length, ids, alpha,
                    interests, histogram_set);
  }
};

std::string WorkloadName(const Workload& workload);

// The list; `histogram` adds streams of the first set of each year in that file.
std::vector<Workload> Workloads(bool histogram);

// Device bytes of tables, maps, ids, outputs and the workspace that forward needs at most.
int64_t DeviceBytes(const Workload& workload);
// Halves rows until the workload and a second table of its size fit into `bytes`; bags are halved when rows alone do
// not do. The id stream keeps its shape.
Workload ShrinkTo(Workload workload, int64_t bytes);
// A few hundred rows and ids: every code path, in milliseconds.
Workload Tiny(Workload workload);

}  // namespace resembed::bench
