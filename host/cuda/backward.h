// SPDX-License-Identifier: Apache-2.0
// Backward of one table on a GPU.
#pragma once

#include "host/backward_args.h"
#include "host/workspace.h"
#include "kernels/backward/backward.h"

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

// What this backend refuses although the call is valid.
resembed_status CheckBackward(const char* op, const BackwardCall& call, const BackwardWork& work);

// Regions of one table in the workspace, and the parameters of its kernels. Counting (null base) and carving walk
// alike.
struct BackwardRegions {
  kernels::BackwardParams params;
  kernels::BackwardVariant items, central;  // kernels of the two levels
  kernels::BackwardSource* sources;         // device memory
  float* uniform_weight;                    // or null
};
BackwardRegions TakeBackward(const BackwardCall& call, const BackwardWork& work, Workspace* workspace);

// dE of every unique item into items and rows, and what the caller receives of R. The device is current.
resembed_status ItemGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                              const BackwardRegions& regions, const kernels::Grid& grid);
// dC. Reads neither R nor C, but for what ItemGradients copied.
resembed_status CentralGradients(const char* op, const BackwardCall& call, const BackwardWork& work,
                                 const BackwardRegions& regions, const kernels::Grid& grid);

}  // namespace resembed::detail::cuda
