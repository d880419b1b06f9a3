// SPDX-License-Identifier: Apache-2.0
// A model being trained: one table pair behind the C ABI, shared by history, target and negatives, and a dense
// head on top.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/train/aligned.h"
#include "host/train/config.h"
#include "host/train/dense_weights.h"
#include "host/train/device.h"
#include "host/train/graph.h"
#include "host/train/model_sample.h"
#include "host/train/pool.h"
#include "host/train/residual_control.h"
#include "host/train/variant.h"

namespace resembed::train {

// A named float matrix that belongs to a model: what files and checkpoints hold. cols 0: a vector.
struct StateTensor {
  std::string name;
  float* data;
  int64_t rows, cols;
  int64_t size() const { return rows * (cols > 0 ? cols : 1); }
};

// Floats of somebody else.
struct FloatView {
  float* at = nullptr;
  size_t n = 0;
  size_t size() const { return n; }
  float* data() const { return at; }
  float* begin() const { return at; }
  float* end() const { return at + n; }
  float& operator[](size_t index) const { return at[index]; }
};

// One list of bags of a step. offsets null: sequence output, one row per id. The b-th row belongs to the b-th
// sample, unless `shared`.
struct Lookup {
  bool shared = false;
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets;
  std::vector<float> weights;
  FloatView output, grad;  // [rows, dim] of the embedding, where the head computes, until its next Forward
  std::vector<int32_t> list_rows;  // of ids, where users see lists of their own
  FloatView central;               // [rows, dim] central part alone, there as well
  // Pools by attention: bag b's weights are softmax(scale * (query row b . item)). A lookup of the same step, before
  // this one, without a query of its own and with as many rows. Null: sum by `weights`.
  Lookup* query = nullptr;
  int64_t rows() const {
    return offsets.empty() ? static_cast<int64_t>(ids.size()) : static_cast<int64_t>(offsets.size()) - 1;
  }
};

// With a device, tables, optimizer state, plan, pooled vectors and their gradients live there. A step copies
// ids, offsets and weights in, through pinned memory; where the head computes on the device, too, that is
// all. Where it does on the host, a step copies pooled vectors out, waits, and copies their gradients in, one
// pinned copy each. Without a device everything is host memory and nothing is copied.
class Embedding {
 public:
  Embedding(const Variant& variant, const InterestGraph& graph, int64_t n_items, const Hyper& hyper,
            uint64_t seed, Pool* pool, Device* device = nullptr);

  int64_t dim() const { return table_.dim; }
  int64_t n_items() const { return table_.n_items; }
  int64_t n_parameters() const { return static_cast<int64_t>(residual_.size() + central_.size()); }
  const resembed_table& table() const { return table_; }
  const resembed_place* place() const { return device_ != nullptr ? device_->place() : pool_->place(); }
  Device* device() const { return device_; }

  // Plans the step and fills every lookup's output; those with a query come last. samples: those the lookups were
  // filled from. Waits where the head is on the host; else the caller waits for the device between two calls.
  void Forward(const std::vector<Lookup*>& lookups, const Sample* samples = nullptr);
  // Updates R and C from every lookup's grad, for the same lookups as the last Forward; step = 1, 2, ...
  // Adds to the grad of a query what comes back through the attention.
  void BackwardStep(const std::vector<Lookup*>& lookups, int64_t step, float lr);
  void Materialize(float* output) const;  // [n_items, dim] host memory
  // From the next BackwardStep on, instead of the hyperparameters' lambda without a cap.
  void SetResidualRule(const ResidualRule& rule) { residual_rule_ = rule; }

  // Host copies as of now; who writes to them says so afterwards.
  std::vector<StateTensor> Weights();
  std::vector<StateTensor> OptimizerState();
  void WeightsWritten();
  void OptimizerStateWritten();

 private:
  template <typename T>
  const T* Map(const std::vector<T>& map, Mirror<uint8_t>* copy);
  template <typename T>
  const T* Input(const std::vector<T>& values);
  void ReserveInputs(const std::vector<Lookup*>& lookups);
  void Describe(const std::vector<Lookup*>& lookups);
  void DescribeAttention(const std::vector<Lookup*>& lookups);
  void RunForward(size_t first, size_t end, const resembed_plan_header* plan);
  void CopyOutputs(size_t n);
  void BackwardQueries(const std::vector<Lookup*>& lookups);
  void FindListRows(const std::vector<Lookup*>& lookups, const Sample* samples) const;
  resembed_optimizer Optimizer(Mirror<float>* state1, Mirror<float>* state2, int64_t step, float lr,
                               float weight_decay) const;

  const Hyper hyper_;
  ResidualRule residual_rule_;
  Pool* pool_;
  Device* device_;
  DenseMath& math_;
  const bool crosses_;  // the operations run on a device, the head on the host
  resembed_table table_ = {};
  // What a step sees: the table itself; or, where users see lists of their own, its residual and its central
  // part as two tables, whose pooled rows are added:
  //   y_b = sum_t a_bt R[i_bt]  +  sum_t a_bt sum_k C[n(row of the list of i_bt for b's user)_k] / count
  const OwnLists* own_ = nullptr;
  resembed_table parts_[2] = {};
  const resembed_table* part_pointers_[2] = {&parts_[0], &parts_[1]};
  resembed_tables tables_ = {};
  Mirror<float> residual_, central_;
  Mirror<float> residual_state1_, residual_state2_, central_state1_, central_state2_;
  Mirror<uint8_t> maps_[2], own_map_;

  std::vector<resembed_feature> features_;
  std::vector<const resembed_feature*> feature_pointers_;
  std::vector<resembed_feature_grad> grads_;
  std::vector<const resembed_feature_grad*> grad_pointers_;
  resembed_plan_header plan_ = {};
  std::vector<uint64_t> plan_layout_;
  Mirror<uint8_t> plan_memory_, workspace_;
  Mirror<uint8_t> inputs_;  // ids, offsets and weights of a step, where operations run elsewhere
  size_t n_input_bytes_ = 0;
  Mirror<float> outputs_, output_grads_;  // of all lookups of a step; host copies where they cross
  size_t n_grads_ = 0;
  // Attention: queries and their gradients of all lookups that have one, weights p and gradients of scores.
  size_t n_plain_ = 0;  // lookups without a query
  Mirror<float> queries_, query_grads_, attention_, score_grads_;
};

// One row of the report in the making.
class Learner {
 public:
  virtual ~Learner() = default;
  // One optimizer step on n samples; returns their mean loss (without the penalty). `step` counts from 0 over
  // the whole run of the row, `lr_factor` scales both learning rates.
  virtual double Step(const Sample* samples, int64_t n, int64_t epoch, int64_t step, float lr_factor) = 0;
  // Scores with the weights as they are now; the learner must outlive it.
  virtual std::unique_ptr<Scorer> MakeScorer() = 0;
  virtual int64_t n_parameters() const = 0;
  virtual const Embedding& embedding() const = 0;
  Embedding& mutable_embedding() { return const_cast<Embedding&>(embedding()); }
  virtual std::vector<StateTensor> Weights() = 0;         // what the model is
  virtual std::vector<StateTensor> OptimizerState() = 0;  // what training needs besides
  // To be called after writing to what Weights or OptimizerState returned.
  virtual void WeightsWritten() = 0;
  virtual void OptimizerStateWritten() = 0;
};

// device: of the tables, null = the CPU; must outlive the learner, as must what else is passed by pointer or
// reference.
std::unique_ptr<Learner> MakeLearner(const Variant& variant, const InterestGraph& graph, const LogView& view,
                                     const Hyper& hyper, uint64_t seed, Pool* pool, Device* device = nullptr);

// Multiplies x, memory of math's device, by a mask of 0 and 1 / (1 - hyper.dropout), a function of (seed,
// step, tag) alone: forward and backward call it with the same key.
void ApplyDropout(const Hyper& hyper, uint64_t seed, int64_t step, uint64_t tag, DenseMath* math,
                  const FloatView& x);

// Host copies as of now.
void AppendDenseState(const std::string& prefix, DenseWeights* dense, std::vector<StateTensor>* weights,
                      std::vector<StateTensor>* state);

// History bags of samples, newest event first.
void FillHistories(const LogView& view, const Hyper& hyper, const Sample* samples, int64_t n, Lookup* lookup);

// y[dim] = sum_j weights[j] * rows[ids[j], dim], in order.
void PoolRows(const float* rows, int64_t dim, const int32_t* ids, const float* weights, int64_t n, float* y);

}  // namespace resembed::train
