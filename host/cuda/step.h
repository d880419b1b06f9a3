// SPDX-License-Identifier: Apache-2.0
// Optimizer steps on a GPU.
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

// The rules and updates of the tables that share launches: one for each kind of optimizer and width of rows.
class UpdateBatch {
 public:
  UpdateBatch() : rules_(nullptr), n_rules_(0) {}
  UpdateBatch(Workspace* workspace, int32_t n_tables);

  void Clear();
  void AddRule(const kernels::RuleParams& rule, DescriptorStore* store);
  void AddUpdate(resembed_optimizer_kind kind, bool wide, const kernels::UpdateParams& params,
                 const kernels::Grid& grid, DescriptorStore* store);
  // Reads lr, step count, loss scale and found_inf where they lie in device memory. Before the updates.
  resembed_status Resolve(const char* op, cudaStream_t stream) const;
  resembed_status Update(const char* op, const kernels::Grid& grid, cudaStream_t stream) const;

 private:
  static constexpr int kKinds = 5;
  kernels::RuleParams* rules_;
  int32_t n_rules_;
  EntryList<kernels::UpdateParams> updates_[kKinds][2];  // wide
};

class TableStep {
 public:
  // `step` may be null: nothing is updated.
  TableStep(const resembed_table_step* step, const resembed_table& table, kernels::ResolvedRule* rules);

  void AddRules(UpdateBatch* batch, DescriptorStore* store) const;
  // From a gradient in the caller's memory, after it was checked.
  void AddFrom(Part part, const resembed_grad* given, const kernels::Grid& grid, UpdateBatch* batch,
               DescriptorStore* store) const;
  // From the gradients of a backward pass in the workspace.
  void AddFused(Part part, const BackwardRegions& regions, const kernels::Grid& grid, UpdateBatch* batch,
                DescriptorStore* store) const;

 private:
  struct OnePart {
    bool given;
    resembed_optimizer optimizer;
    kernels::UpdateParams params;  // without gradient
    bool wide;                     // rows and states
  };
  static void Add(const OnePart& part, kernels::UpdateParams params, bool wide, const kernels::Grid& grid,
                  UpdateBatch* batch, DescriptorStore* store);

  int64_t dim_;
  OnePart parts_[2];
};

// The step of a call: gradients in the caller's memory, all tables in shared launches.
struct StepTask {
  const char* op;
  resembed_place place;
  const Tables* tables;
  const resembed_table_step* const* steps;        // [n_tables]
  const resembed_table_grad* const* table_grads;  // [n_tables]
};
size_t StepBytes(int32_t n_tables);
// Everything checked; enqueues on place.stream. The device is current.
resembed_status RunStep(const StepTask& task, void* workspace, const kernels::Grid& grid = {});

}  // namespace resembed::detail::cuda
