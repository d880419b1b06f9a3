// SPDX-License-Identifier: Apache-2.0
// One workload on the device, and the ways to compute it: fused by the library, and what it is compared with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/gpu/device.h"
#include "bench/gpu/workload.h"
#include "bench/support/bytes.h"
#include "resembed/resembed.h"

namespace resembed::bench::gpu {

enum class Way {
  kFused,         // resembed_forward, C and R in one pass
  kSingle,        // resembed_forward over R alone: what one table costs
  kTwo,           // lists of centers gathered, forward over C, forward over R, outputs added
  kMaterialized,  // forward over a plain table of all item embeddings
  kCuEmbed,       // cuEmbed over R alone, where it was given to the build
};
const char* WayName(Way way);

// The file of reuse histograms for workloads that need one.
struct ProblemOptions {
  std::string histogram_file;
};

class ForwardProblem {
 public:
  ForwardProblem(const Workload& workload, const ProblemOptions& options, Bench* bench);

  const Workload& workload() const { return workload_; }
  // Enqueues one forward. Nothing is allocated after the first call of a way.
  void Run(Way way);
  // Rows of the output of `way` that differ from the fused one by more than rounding; run both first.
  int64_t CountDifferent(Way way);
  // `way` computes what the fused pass does (one table alone does not).
  bool Comparable(Way way) const;
  // What the fused pass moves (kSingle and kCuEmbed: what one table does).
  BatchShape Shape(Way way) const;
  double materialize_seconds() const { return materialize_seconds_; }

 private:
  void MakeIds(const ProblemOptions& options);
  void MakeTables();
  void Materialize();
  resembed_feature FeatureOver(const int32_t* ids, int64_t ids_per_item, const float* weights,
                               void* output) const;
  void Forward(const resembed_table& table, const resembed_feature& feature, DeviceArray* workspace);
  void* Output(Way way);

  Workload workload_;
  Bench* bench_;
  int64_t n_ids_ = 0, n_unique_ = 0, n_unique_central_ = 0, longest_bag_ = 0;
  bool jagged_ = false;
  DeviceArray ids_, offsets_, slot_offsets_, residual_, central_, lists_, list_weights_;
  DeviceArray outputs_[5], parts_[2], slots_, slot_weights_, items_, workspaces_[5], part_workspaces_[2];
  resembed_table table_ = {}, plain_ = {}, centers_ = {}, materialized_ = {};
  double materialize_seconds_ = 0;
};

// cuEmbed's forward with fixed bag length over one table: bench/gpu/cuembed.cu, or nothing (then not available).
bool CuEmbedAvailable(const Workload& workload);
void CuEmbedForward(const Workload& workload, const void* rows, const int32_t* ids, void* output,
                    cudaStream_t stream);

}  // namespace resembed::bench::gpu
