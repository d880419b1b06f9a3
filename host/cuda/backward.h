// SPDX-License-Identifier: Apache-2.0
// Backward of one table on a GPU.
#pragma once

#include "host/backward_args.h"
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

// Gradients of per-sample weights, positions of maxima that nobody saved, dE of every unique item into items and
// rows, and what the caller receives of R. The device is current.
resembed_status ItemGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                              const BackwardRegions& regions, const kernels::Grid& grid);
// Gradients of stored weights, then dC. Does not read R, which a step may have changed by now.
resembed_status CentralGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                                 const BackwardRegions& regions, const kernels::Grid& grid);

}  // namespace resembed::detail::cuda
