// SPDX-License-Identifier: Apache-2.0
// Optimizer steps of one table on a GPU.
#pragma once

#include "host/cuda/backward.h"
#include "host/optimizer.h"
#include "kernels/step/step.h"

namespace resembed::detail::cuda {

enum class Part : int32_t { kResidual = 0, kCentral = 1 };

// The resolved rules of a table, [2] by part, in the workspace.
inline kernels::ResolvedRule* TakeRules(Workspace* workspace) {
  return workspace->Take<kernels::ResolvedRule>(2);
}

class TableStep {
 public:
  // `step` may be null: nothing is updated. The device is current while the methods run.
  TableStep(const resembed_table_step* step, const resembed_table& table, const resembed_place& place,
            kernels::ResolvedRule* rules);

  // Reads lr, step count, loss scale and found_inf where they lie in device memory. Before the updates.
  resembed_status Resolve(const char* op) const;
  // From a gradient in the caller's memory, after it was checked.
  resembed_status UpdateFrom(const char* op, Part part, const resembed_grad* given,
                             const kernels::Grid& grid) const;
  // From the gradients of a backward pass in the workspace.
  resembed_status UpdateFused(const char* op, Part part, const BackwardRegions& regions,
                              const kernels::Grid& grid) const;

 private:
  struct OnePart {
    bool given;
    resembed_optimizer optimizer;
    kernels::UpdateParams params;  // without gradient
    bool wide;                     // rows and states
  };
  resembed_status Launch(const char* op, const OnePart& part, kernels::UpdateParams params, bool wide,
                         const kernels::Grid& grid) const;

  int64_t dim_;
  cudaStream_t stream_;
  OnePart parts_[2];
};

}  // namespace resembed::detail::cuda
