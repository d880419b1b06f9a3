// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/step_workload.h"

#include <algorithm>

namespace resembed::bench {
namespace {

constexpr double kAlphas[] = {0.0, 1.05, 1.15};

int64_t Bytes(resembed_dtype dtype) { return dtype == RESEMBED_F32 ? 4 : 2; }

int64_t CentralRows(const Workload& w) {
  return w.form == RESEMBED_CENTRAL_NONE ? 0 : w.form == RESEMBED_CENTRAL_ASSIGNMENT ? w.centers : w.rows;
}

}  // namespace

std::string StepWorkloadName(const StepWorkload& w) {
  static const char* const kOptimizers[] = {"sgd", "adagrad", "rowwise_adagrad", "adam",
                                            "partial_rowwise_adam"};
  std::string name = WorkloadName(w.batch);
  name.replace(0, name.find('/'), "BM_Step");
  name += "/tables:" + std::to_string(w.n_tables) + "/opt:" + kOptimizers[w.optimizer];
  return w.state_dtype == RESEMBED_F32 ? name : name + "/state:bf16";
}

std::vector<StepWorkload> StepWorkloads() {
  std::vector<StepWorkload> list;
  for (const double alpha : kAlphas) {
    StepWorkload w;  // 1: ten million rows of 256 in 16 bits, bags of 64
    w.batch.group = "w1";
    w.batch.dtype = RESEMBED_F16;
    w.batch.alpha = alpha;
    list.push_back(w);
    // 3: ten tables of sequences.
    for (const resembed_optimizer_kind optimizer : {RESEMBED_SGD, RESEMBED_ROWWISE_ADAGRAD, RESEMBED_ADAM}) {
      w = StepWorkload();
      w.batch.group = "w3";
      w.batch.dtype = RESEMBED_F32;
      w.batch.rows = 1'677'721;
      w.batch.dim = 128;
      w.batch.pooling = RESEMBED_POOLING_NONE;
      w.batch.n_bags = 104'857;
      w.batch.bag_length = 1;
      w.batch.alpha = alpha;
      w.n_tables = 10;
      w.optimizer = optimizer;
      list.push_back(w);
    }
    // 4: thirty-two tables, batch sizes.
    for (const int64_t n_bags : {2048, 8192, 32'768, 131'072}) {
      w = StepWorkload();
      w.batch.group = "w4";
      w.batch.dtype = RESEMBED_F32;
      w.batch.rows = 100'000;
      w.batch.dim = 128;
      w.batch.n_bags = n_bags;
      w.batch.bag_length = 20;
      w.batch.alpha = alpha;
      w.n_tables = 32;
      list.push_back(w);
    }
    // R1: the first with centers, random and coherent in interest.
    for (const int64_t centers : {1024, 4096, 65'536, 1'048'576}) {
      for (const Ids ids : {Ids::kPowerLaw, Ids::kCoherent}) {
        w = StepWorkload();
        w.batch.group = "r1";
        w.batch.form = RESEMBED_CENTRAL_ASSIGNMENT;
        w.batch.centers = centers;
        w.batch.alpha = alpha;
        w.batch.ids = ids;
        w.optimizer = RESEMBED_ROWWISE_ADAGRAD;
        list.push_back(w);
      }
    }
    // R2: four neighbors with stored weights.
    w = StepWorkload();
    w.batch.group = "r2";
    w.batch.form = RESEMBED_CENTRAL_STORED;
    w.batch.k = 4;
    w.batch.alpha = alpha;
    w.optimizer = RESEMBED_ROWWISE_ADAGRAD;
    list.push_back(w);
    // R3: sequences.
    for (const int64_t dim : {64, 128, 256}) {
      w = StepWorkload();
      w.batch.group = "r3";
      w.batch.dim = dim;
      w.batch.form = RESEMBED_CENTRAL_ASSIGNMENT;
      w.batch.centers = 65'536;
      w.batch.pooling = RESEMBED_POOLING_NONE;
      w.batch.n_bags = 8192;
      w.batch.bag_length = 200;
      w.batch.alpha = alpha;
      w.optimizer = RESEMBED_ROWWISE_ADAGRAD;
      list.push_back(w);
    }
    // R4: Adam with tables and states in 16 bits.
    w = StepWorkload();
    w.batch.group = "r4";
    w.batch.form = RESEMBED_CENTRAL_ASSIGNMENT;
    w.batch.centers = 65'536;
    w.batch.alpha = alpha;
    w.optimizer = RESEMBED_ADAM;
    w.state_dtype = RESEMBED_BF16;
    list.push_back(w);
  }
  // 2: the 108 points of cuEmbed's sweep, last because there are many.
  for (const Workload& forward : Workloads(false)) {
    if (forward.group != "w2") continue;
    StepWorkload w;
    w.batch = forward;
    list.push_back(w);
  }
  return list;
}

void StatesOf(resembed_optimizer_kind kind, int64_t* row_states, int64_t* element_states) {
  *row_states = kind == RESEMBED_ROWWISE_ADAGRAD || kind == RESEMBED_PARTIAL_ROWWISE_ADAM ? 1 : 0;
  *element_states = kind == RESEMBED_ADAM                                               ? 2
                    : kind == RESEMBED_ADAGRAD || kind == RESEMBED_PARTIAL_ROWWISE_ADAM ? 1
                                                                                        : 0;
}

int64_t StepDeviceBytes(const StepWorkload& workload) {
  const Workload& w = workload.batch;
  int64_t row_states = 0, element_states = 0;
  StatesOf(workload.optimizer, &row_states, &element_states);
  const int64_t n_ids = w.n_bags * w.bag_length, unique = std::min(n_ids, w.rows);
  const int64_t pairs = w.form == RESEMBED_CENTRAL_NONE ? 0 : unique * w.k;
  const int64_t central = std::min(pairs, CentralRows(w));
  const int64_t row =
      w.dim * Bytes(w.dtype) + Bytes(workload.state_dtype) * (row_states + element_states * w.dim);
  const int64_t gradients = (w.pooling == RESEMBED_POOLING_NONE ? n_ids : w.n_bags) * w.dim * Bytes(w.dtype);
  // Compressed rows outside of the workspace, in it, and in those of the separate ways; plans, keys and temporary
  // memory of sorts, ours and a peer's.
  const int64_t one_table = (w.rows + CentralRows(w)) * (row + 4 * w.dim) + w.rows * w.k * 8 + gradients +
                            3 * (unique + central) * w.dim * 4 + (n_ids + pairs) * (140 + 8 * w.k);
  return workload.n_tables * one_table + (int64_t{256} << 20);
}

StepWorkload ShrinkTo(StepWorkload w, int64_t bytes) {
  while (StepDeviceBytes(w) > bytes && w.batch.rows > 65'536) w.batch.rows /= 2;
  while (StepDeviceBytes(w) > bytes && w.batch.n_bags > 64) w.batch.n_bags /= 2;
  w.batch.centers = std::min(w.batch.centers, w.batch.rows);
  return w;
}

StepWorkload Tiny(StepWorkload w) {
  w.batch = Tiny(w.batch);
  w.n_tables = std::min(w.n_tables, 3);
  return w;
}

}  // namespace resembed::bench
