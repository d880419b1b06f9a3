// SPDX-License-Identifier: Apache-2.0
// Backward of one table on a GPU: what its kernels are given.
#pragma once

#include "host/backward_args.h"
#include "host/cuda/store.h"
#include "host/workspace.h"
#include "kernels/backward/optional.h"

namespace resembed::detail::cuda {

// Rows that kernels with 4 columns a lane can take: words of 4 elements.
bool IsWideRow(const void* rows, int64_t pitch_bytes, resembed_dtype dtype);

// What one table is asked for. Where `fused`, no gradient leaves the workspace.
struct BackwardWork {
  int32_t index;
  BackwardRequest request;
  bool fused;
  GradOut residual, central;  // rows null: not asked for
  float* neighbor_weights;
};

// Regions of one table in the workspace, and the parameters of its kernels. Counting (null base) and carving walk
// alike.
struct BackwardRegions {
  kernels::BackwardParams params;
  kernels::BackwardVariant items, central;  // kernels of the two levels
  kernels::BackwardSource* sources;         // device memory
  float* uniform_weight;                    // or null
  kernels::OptionalParams optional;
  void* recompute;  // where the regions of RecomputeArgmax begin
  void* attention;  // where those of the scores of attention pooling begin
};
BackwardRegions TakeBackward(const BackwardCall& call, const BackwardWork& work, Workspace* workspace);

// Puts the table's sources where its kernels find them.
void StoreSources(const BackwardCall& call, const BackwardWork& work, const BackwardRegions& regions,
                  DescriptorStore* store);
// Positions of maxima that nobody saved: forward once more for each feature that needs them. The device is current.
resembed_status RecomputePositions(const char* op, const BackwardCall& call, const BackwardWork& work,
                                   const BackwardRegions& regions);

}  // namespace resembed::detail::cuda
