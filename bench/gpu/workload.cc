// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/workload.h"

#include <algorithm>
#include <cstdio>

namespace resembed::bench {
namespace {

int64_t Bytes(resembed_dtype dtype) { return dtype == RESEMBED_F32 ? 4 : 2; }

std::string Count(int64_t n) {
  if (n >= 1'000'000 && n % 1'000'000 == 0) return std::to_string(n / 1'000'000) + "M";
  if (n >= 1024 && n % 1024 == 0) return std::to_string(n / 1024) + "Ki";
  if (n >= 1000 && n % 1000 == 0) return std::to_string(n / 1000) + "k";
  return std::to_string(n);
}

}  // namespace

std::string WorkloadName(const Workload& w) {
  static const char* const kTypes[] = {"f32", "f16", "bf16"};
  static const char* const kForms[] = {"none", "assignment", "uniform", "stored", "attention"};
  static const char* const kPooling[] = {"sequence", "sum", "mean", "max"};
  char alpha[32];
  std::snprintf(alpha, sizeof(alpha), "%g", w.alpha);
  std::string name = "BM_Forward/" + w.group + "/" + kTypes[w.dtype] + "_i32/form:" + kForms[w.form] +
                     "/rows:" + Count(w.rows) + "/dim:" + std::to_string(w.dim) + "/bags:" + Count(w.n_bags);
  if (w.pooling != RESEMBED_POOLING_SUM) name += std::string("/") + kPooling[w.pooling];
  if (w.ids == Ids::kHistogram) return name + "/reuse:" + w.histogram_set;
  name += "/bag:" + std::to_string(w.bag_length);
  name += w.ids == Ids::kDistinct ? "/ids:distinct" : std::string("/zipf:") + alpha;
  if (w.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    name += "/centers:" + Count(w.centers) +
            (w.ids == Ids::kCoherent ? "/coherent:" + std::to_string(w.interests) : "/random");
  } else if (w.form != RESEMBED_CENTRAL_NONE) {
    name += "/k:" + std::to_string(w.k);
  }
  return name;
}

std::vector<Workload> Workloads(bool histogram) {
  std::vector<Workload> list;
  // Row sizes with every id once: the share of the copy bandwidth that a gather reaches. 4 GiB of rows.
  for (const int64_t row_bytes : {64, 128, 256, 512, 1024}) {
    Workload w;
    w.group = "rows";
    w.dim = row_bytes / 2;
    w.rows = (int64_t{4} << 30) / row_bytes;
    w.bag_length = 32;
    w.n_bags = std::min<int64_t>(131'072, w.rows / 64);
    w.ids = Ids::kDistinct;
    list.push_back(w);
    w.form = RESEMBED_CENTRAL_ASSIGNMENT;
    w.centers = 4096;
    list.push_back(w);
  }
  // 1: ten million rows of 256, bags of 64.
  for (const resembed_dtype dtype : {RESEMBED_F16, RESEMBED_BF16}) {
    for (const double alpha : {0.0, 1.15}) {
      Workload w;
      w.group = "w1";
      w.dtype = dtype;
      w.alpha = alpha;
      list.push_back(w);
    }
  }
  // R1: the same with centers, random and coherent in interest.
  for (const int64_t centers : {1024, 4096, 65'536, 1'048'576}) {
    for (const double alpha : {0.0, 1.15}) {
      for (const Ids ids : {Ids::kPowerLaw, Ids::kCoherent}) {
        Workload w;
        w.group = "r1";
        w.form = RESEMBED_CENTRAL_ASSIGNMENT;
        w.centers = centers;
        w.alpha = alpha;
        w.ids = ids;
        list.push_back(w);
        if (ids != Ids::kCoherent || alpha == 0) continue;
        w.interests = 16;
        list.push_back(w);
      }
    }
  }
  // R2: four neighbors with stored weights.
  for (const double alpha : {0.0, 1.15}) {
    Workload w;
    w.group = "r2";
    w.form = RESEMBED_CENTRAL_STORED;
    w.k = 4;
    w.alpha = alpha;
    list.push_back(w);
  }
  // R3: sequence output.
  for (const int64_t dim : {64, 128, 256}) {
    Workload w;
    w.group = "r3";
    w.dim = dim;
    w.form = RESEMBED_CENTRAL_ASSIGNMENT;
    w.centers = 65'536;
    w.pooling = RESEMBED_POOLING_NONE;
    w.n_bags = 8192;
    w.bag_length = 200;
    w.alpha = 1.05;
    list.push_back(w);
  }
  if (histogram) {
    for (const char* set : {"fbgemm_t856_bs65536", "fbgemm_t788_bs131072_0"}) {
      for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT}) {
        Workload w;
        w.group = "reuse";
        w.dim = 128;
        w.form = form;
        w.centers = 65'536;
        w.ids = Ids::kHistogram;
        w.histogram_set = set;
        list.push_back(w);
      }
    }
  }
  // 2: the 108 points of cuEmbed's sweep in fp32, last because there are many.
  for (const double alpha : {0.0, 1.05, 1.15}) {
    for (const int64_t rows : {1'000'000, 10'000'000}) {
      for (const int64_t dim : {32, 128}) {
        for (const int64_t n_bags : {1024, 32'768, 131'072}) {
          for (const int64_t bag_length : {1, 16, 64}) {
            Workload w;
            w.group = "w2";
            w.dtype = RESEMBED_F32;
            w.rows = rows;
            w.dim = dim;
            w.n_bags = n_bags;
            w.bag_length = bag_length;
            w.alpha = alpha;
            list.push_back(w);
          }
        }
      }
    }
  }
  return list;
}

int64_t DeviceBytes(const Workload& w) {
  const int64_t row = w.dim * Bytes(w.dtype), n_ids = w.n_bags * w.bag_length;
  const int64_t central_rows = w.form == RESEMBED_CENTRAL_NONE         ? 0
                               : w.form == RESEMBED_CENTRAL_ASSIGNMENT ? w.centers
                                                                       : w.rows;
  const int64_t map = w.form == RESEMBED_CENTRAL_NONE ? 0 : w.rows * w.k * 8;
  const int64_t outputs = (w.pooling == RESEMBED_POOLING_NONE ? n_ids : w.n_bags) * row;
  // Four outputs (fused, two parts, their sum), ids and slots with weights; a quarter of a GiB for the rest.
  return (w.rows + central_rows) * row + map + 4 * outputs + n_ids * (4 + 8 * w.k) + (int64_t{256} << 20);
}

Workload ShrinkTo(Workload w, int64_t bytes) {
  const auto needed = [](const Workload& workload) {
    return DeviceBytes(workload) + workload.rows * workload.dim * Bytes(workload.dtype);
  };
  while (needed(w) > bytes && w.rows > 65'536) w.rows /= 2;
  while (needed(w) > bytes && w.n_bags > 64) w.n_bags /= 2;
  w.centers = std::min(w.centers, w.rows);
  return w;
}

Workload Tiny(Workload w) {
  w.rows = std::min<int64_t>(w.rows, 509);
  w.dim = std::min<int64_t>(w.dim, 40);
  w.n_bags = std::min<int64_t>(w.n_bags, 9);
  w.bag_length = std::min<int64_t>(w.bag_length, 7);
  w.centers = std::min<int64_t>(w.centers, 16);
  return w;
}

}  // namespace resembed::bench
