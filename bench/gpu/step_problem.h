// SPDX-License-Identifier: Apache-2.0
// One training workload on the device, and the ways to plan it, to form its gradients and to update its tables.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "bench/gpu/device.h"
#include "bench/gpu/step_kernels.h"
#include "bench/gpu/step_workload.h"
#include "resembed/resembed.h"

namespace resembed::bench::gpu {

enum class StepWay {
  kPlan,              // resembed_plan; with one sort where items are numbered center by center
  kPlanTwoSorts,      // the same without that promise
  kSort,              // a radix sort of the same keys and nothing else
  kBackward,          // resembed_backward, compressed gradients of R and C, over a plan that is there
  kStep,              // resembed_backward_step over a plan that is there
  kPlanStep,          // plan and step
  kSingle,            // as kStep, R alone: what one level costs
  kTwo,               // lists gathered; plan and step of C over central rows, then plan and step of R
  kAtomics,           // floats added into dense gradients of R and C that are there, not cleared
  kReduceByKey,       // the sort, then CUB's reduction by key: gradient of R alone
  kCuEmbed,           // cuEmbed's backward kernel over sorted ids, R alone, where it was given to the build
  kCuEmbedTranspose,  // the same from unsorted ids: its transpose, numbers of compressed rows, backward
};
const char* StepWayName(StepWay way);
// The way makes sense for the workload, and is built.
bool Has(const StepWorkload& workload, StepWay way);

// Plan, backward and step over one list of tables, each with one feature, with all the memory they take.
class Trainer {
 public:
  // `promises`: rows that the batch touches. Optimizers null: as they are. Everything outlives the Trainer.
  struct Part {
    resembed_table table;
    resembed_feature feature;
    const void* grad;
    resembed_optimizer residual, central;
    int64_t n_unique, n_unique_central;
  };
  Trainer(std::vector<Part> parts, cudaStream_t stream);
  Trainer(const Trainer&) = delete;

  void Plan();
  void Backward();
  void Step();
  // The first rows of the compressed gradient of R, and their items.
  void ReadGradient(int64_t table, int64_t n_rows, std::vector<int64_t>* items, std::vector<float>* rows);

 private:
  std::vector<Part> parts_;
  cudaStream_t stream_;
  std::vector<const resembed_table*> table_list_;
  std::vector<const resembed_feature*> feature_list_;
  std::vector<resembed_feature_grad> feature_grads_;
  std::vector<const resembed_feature_grad*> feature_grad_list_;
  std::vector<resembed_table_step> steps_;
  std::vector<const resembed_table_step*> step_list_;
  std::vector<int64_t> promises_, central_promises_, layout_;
  resembed_tables tables_ = {};
  resembed_plan_args plan_args_ = {};
  resembed_plan_header plan_ = {};
  std::deque<resembed_grad> grads_;
  std::vector<resembed_table_grad> table_grads_;
  std::vector<const resembed_table_grad*> table_grad_list_;
  std::deque<DeviceArray> gradient_memory_;
  DeviceArray plan_memory_, plan_workspace_, workspace_;
};

class StepProblem {
 public:
  StepProblem(const StepWorkload& workload, Bench* bench);

  const StepWorkload& workload() const { return workload_; }
  // Enqueues one run. Nothing is allocated after the first run of a way.
  void Run(StepWay way);
  // Rows of R's gradient that differ between kBackward and a way that forms the same one in fp32; 0 for others. All
  // numbers are multiples of 1/64 and sums exact, so that any order gives the same bits.
  int64_t CountDifferent(StepWay way);
  // Of all tables together.
  const StepShape& shape() const { return shape_; }

 private:
  struct Table {
    resembed_table descriptor = {};
    int64_t n_unique = 0, n_unique_central = 0, n_pairs = 0, central_rows = 0;
    DeviceArray ids, residual, central, lists, list_weights, grad;
    DeviceArray residual_states[2], central_states[2];
    DeviceArray slots, slot_weights;                                          // kTwo, kAtomics
    DeviceArray keys, uses, sorted_keys, sorted_uses, temp;                   // kSort
    DeviceArray sums, n_runs, reduce_temp;                                    // kReduceByKey
    DeviceArray dense, dense_central;                                         // kAtomics
    DeviceArray cuembed_rows, cuembed_runs, cuembed_gradient, cuembed_items;  // kCuEmbed
    DeviceArray transposed[4], transpose_work;                                // kCuEmbedTranspose
  };
  void MakeTable(int index);
  Trainer::Part PartOf(const Table& table, bool residual, bool central) const;
  resembed_optimizer Optimizer(const DeviceArray& state1, const DeviceArray& state2) const;
  void Sort(Table* table);
  void MakeCuEmbedOutputs(Table* table) const;
  void CuEmbedOnSorted(Table* table);
  void CuEmbedFromIds(Table* table);

  StepWorkload workload_;
  Bench* bench_;
  StepShape shape_;
  std::deque<Table> tables_;
  std::unique_ptr<Trainer> fused_, unpromised_, single_, centers_;
};

// cuEmbed: bench/gpu/cuembed_step.cu, or no_cuembed_step.cc.
bool CuEmbedBackwardAvailable(const StepWorkload& workload);
// Added into gradient [n_runs, dim] of the output gradient's type, which is not cleared, as in cuEmbed's own benchmark;
// items [n_runs]. runs [n]: number of the row of `gradient` for each sorted use.
void CuEmbedBackward(const StepWorkload& workload, const void* grad, int64_t n, int64_t n_runs,
                     const int32_t* sorted_ids, const int32_t* rows_of_uses, const int32_t* runs,
                     void* gradient, int32_t* items, cudaStream_t stream);
// What CuEmbedBackward takes, from the ids of n / row_length rows of row_length uses: rows, sorted_ids, sorted_rows and
// runs have n entries. Two phases, as in CUB: with work null only *bytes is written.
void CuEmbedTranspose(void* work, size_t* bytes, const int32_t* ids, int64_t n, int64_t row_length,
                      int32_t* rows, int32_t* sorted_ids, int32_t* sorted_rows, int32_t* runs,
                      cudaStream_t stream);

}  // namespace resembed::bench::gpu
