// SPDX-License-Identifier: Apache-2.0
//
// resembed: the C++17 face of resembed.h. Header-only, wraps exactly the C ABI: same words, same checks, no
// exceptions. Two layers:
//   1. Descriptors that are born valid (struct_size set, all else zero) with named setters:
//      Table, Feature, FeatureGrad, Grad, TableGrad, Optimizer, TableStep, Place.
//   2. Batch: one training step's tables and features with the plan and workspace memory they need.
// Pointers stay the caller's; nothing here copies table data.
#ifndef RESEMBED_RESEMBED_HPP_
#define RESEMBED_RESEMBED_HPP_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "resembed/resembed.h"

namespace resembed {

/// What a call returned: a code, and the library's sentence when it failed.
class [[nodiscard]] Status {
 public:
  Status() = default;
  /// Wraps the code of a call that this thread just made (reads its message).
  explicit Status(resembed_status code) : code_(code) {
    if (code != RESEMBED_OK) message_ = resembed_last_error_message();
  }
  Status(resembed_status code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == RESEMBED_OK; }
  resembed_status code() const { return code_; }
  const char* name() const { return resembed_status_name(code_); }
  const std::string& message() const { return message_; }

 private:
  resembed_status code_ = RESEMBED_OK;
  std::string message_;
};

/// RESEMBED_F32 for float, RESEMBED_I32 / RESEMBED_I64 for ids, RESEMBED_U16 for codes.
template <typename T>
constexpr resembed_dtype DtypeOf() {
  using U = std::remove_cv_t<T>;
  static_assert(std::is_same_v<U, float> || std::is_same_v<U, double> || std::is_same_v<U, int32_t> ||
                    std::is_same_v<U, int64_t> || std::is_same_v<U, uint16_t> || std::is_same_v<U, uint8_t>,
                "pass the dtype explicitly for other element types");
  if constexpr (std::is_same_v<U, float>) return RESEMBED_F32;
  if constexpr (std::is_same_v<U, double>) return RESEMBED_F64;
  if constexpr (std::is_same_v<U, int32_t>) return RESEMBED_I32;
  if constexpr (std::is_same_v<U, int64_t>) return RESEMBED_I64;
  if constexpr (std::is_same_v<U, uint16_t>) return RESEMBED_U16;
  return RESEMBED_U8;
}

/// A C struct with struct_size set and every other field zero.
template <typename T>
struct Descriptor : T {
  Descriptor() : T{} { this->struct_size = sizeof(T); }
};

/// Where a call runs.
struct Place : Descriptor<resembed_place> {
  static Place Cpu(const resembed_executor* executor = nullptr) {
    Place place;
    place.backend = RESEMBED_CPU;
    place.executor = executor;
    return place;
  }
  /// `stream` is a cudaStream_t; every operation is enqueued on it.
  static Place Cuda(int device, void* stream) {
    Place place;
    place.backend = RESEMBED_CUDA;
    place.device = device;
    place.stream = stream;
    return place;
  }
};

/// A residual-embedding table: R, C, and the map from an item to its central rows.
struct Table : Descriptor<resembed_table> {
  Table() = default;
  Table(int64_t n_items_in, int64_t dim_in) {
    n_items = n_items_in;
    dim = dim_in;
  }
  /// R [n_items, dim].
  Table& Residual(void* rows, resembed_dtype dtype = RESEMBED_F32, int64_t stride = 0) {
    residual = rows;
    residual_dtype = dtype;
    residual_stride = stride;
    return *this;
  }
  /// R [n_rows, dim] for some items only: row_of [n_items], -1 = none.
  Table& ResidualRows(void* rows, int64_t n_rows, const int32_t* row_of, resembed_dtype dtype = RESEMBED_F32,
                      int64_t stride = 0) {
    residual_row_of = row_of;
    residual_rows = n_rows;
    return Residual(rows, dtype, stride);
  }
  /// C [n_rows, dim]; say where its rows come from with Assignment, Uniform, Stored or Attention.
  Table& Central(void* rows, int64_t n_rows, resembed_dtype dtype = RESEMBED_F32, int64_t stride = 0) {
    central = rows;
    central_rows = n_rows;
    central_dtype = dtype;
    central_stride = stride;
    return *this;
  }
  /// e_i = C[center_of[i]] + R[i]; codes are int32_t (-1 = none) or uint16_t (65535 = none).
  template <typename CodeT>
  Table& Assignment(const CodeT* codes) {
    static_assert(std::is_same_v<CodeT, int32_t> || std::is_same_v<CodeT, uint16_t>);
    form = RESEMBED_CENTRAL_ASSIGNMENT;
    center_of = codes;
    center_of_dtype = DtypeOf<CodeT>();
    return *this;
  }
  /// e_i = mean_k C[list[i, k]] + R[i]; list [n_items, k], -1 ends an item's list.
  Table& Uniform(const int32_t* list, int32_t k) { return Neighbors(RESEMBED_CENTRAL_UNIFORM, list, k); }
  /// e_i = sum_k weights[i, k] C[list[i, k]] + R[i].
  Table& Stored(const int32_t* list, const float* weights, int32_t k) {
    neighbor_weights = weights;
    return Neighbors(RESEMBED_CENTRAL_STORED, list, k);
  }
  /// e_i = sum_k softmax_k(C[i] . C[list[i, k]]) C[list[i, k]] + R[i]; C has a row for each item.
  Table& Attention(const int32_t* list, int32_t k) { return Neighbors(RESEMBED_CENTRAL_ATTENTION, list, k); }

 private:
  Table& Neighbors(resembed_central_form which, const int32_t* list, int32_t k) {
    form = which;
    neighbors = list;
    n_neighbors = k;
    return *this;
  }
};

/// One list of bags over one table.
struct Feature : Descriptor<resembed_feature> {
  explicit Feature(int32_t table_index = 0, resembed_pooling how = RESEMBED_POOLING_SUM) {
    table = table_index;
    pooling = how;
  }
  /// ids [n].
  template <typename IdT>
  Feature& Ids(const IdT* ids_in, int64_t n) {
    ids = ids_in;
    n_ids = n;
    id_dtype = DtypeOf<IdT>();
    return *this;
  }
  /// offsets [n_bags + 1].
  template <typename OffsetT>
  Feature& Offsets(const OffsetT* offsets_in, int64_t bags) {
    offsets = offsets_in;
    offset_dtype = DtypeOf<OffsetT>();
    n_bags = bags;
    return *this;
  }
  /// Every bag holds `length` ids.
  Feature& FixedLength(int64_t length, int64_t bags) {
    bag_length = length;
    n_bags = bags;
    return *this;
  }
  /// Per-sample weights a [n_ids].
  Feature& Weights(const float* a) {
    weights = a;
    return *this;
  }
  /// Pooling ATTENTION: q [n_bags, dim]; scores are scale * (q . e).
  Feature& Query(const float* q, resembed_attention_activation activation = RESEMBED_ATTENTION_SOFTMAX,
                 float scale = 1.0f, int64_t stride = 0) {
    query = q;
    query_stride = stride;
    attention_activation = activation;
    attention_scale = scale;
    return *this;
  }
  /// Pooling ATTENTION: p [n_ids], written by forward and read by backward.
  Feature& SavedAttention(float* p) {
    saved_attention = p;
    return *this;
  }
  Feature& Padding(int64_t id) {
    has_padding = 1;
    padding_id = id;
    return *this;
  }
  /// y [n_bags, dim]; pooling NONE: [n_ids, dim].
  Feature& Output(void* y, resembed_dtype dtype = RESEMBED_F32, int64_t stride = 0) {
    output = y;
    output_dtype = dtype;
    output_stride = stride;
    return *this;
  }
};

/// dL/dy of one feature, and where dL/da and dL/dq go when they are asked for.
struct FeatureGrad : Descriptor<resembed_feature_grad> {
  FeatureGrad() = default;
  explicit FeatureGrad(const void* dy, resembed_dtype dtype = RESEMBED_F32, int64_t stride = 0) {
    grad_output = dy;
    grad_output_dtype = dtype;
    grad_output_stride = stride;
  }
  /// Pooling ATTENTION: dL/dq [n_bags, dim].
  FeatureGrad& Query(float* dq, int64_t stride = 0) {
    grad_query = dq;
    grad_query_stride = stride;
    return *this;
  }
  /// Pooling ATTENTION: gradients of the scores [n_ids], written; or, when `ready`, read.
  FeatureGrad& Scores(float* dz, bool ready = false) {
    grad_scores = dz;
    grad_scores_ready = ready ? 1 : 0;
    return *this;
  }
};

/// Compressed or dense gradient of R or C.
struct Grad : Descriptor<resembed_grad> {
  /// rows_out [capacity, dim], ids_out [capacity], n_out [1].
  static Grad Compressed(float* rows_out, int64_t* ids_out, int64_t* n_out, int64_t capacity_in) {
    Grad grad;
    grad.rows = rows_out;
    grad.row_ids = ids_out;
    grad.n_rows = n_out;
    grad.capacity = capacity_in;
    return grad;
  }
  /// rows_out [table rows, dim].
  static Grad Dense(float* rows_out, int64_t stride_in = 0) {
    Grad grad;
    grad.layout = RESEMBED_GRAD_DENSE;
    grad.rows = rows_out;
    grad.stride = stride_in;
    return grad;
  }
};

/// Gradients of one table; null parts are not computed.
struct TableGrad : Descriptor<resembed_table_grad> {
  TableGrad() = default;
  TableGrad(const Grad* residual_grad, const Grad* central_grad) {
    residual = residual_grad;
    central = central_grad;
  }
};

/// One optimizer; the state memory is the caller's and starts at zero.
struct Optimizer : Descriptor<resembed_optimizer> {
  static Optimizer Sgd(float rate) { return Make(RESEMBED_SGD, rate, nullptr, nullptr, 0.0f); }
  /// sum [rows, dim]
  static Optimizer Adagrad(float rate, float* sum, float epsilon = 1e-8f) {
    return Make(RESEMBED_ADAGRAD, rate, sum, nullptr, epsilon);
  }
  /// sum [rows]
  static Optimizer RowwiseAdagrad(float rate, float* sum, float epsilon = 1e-8f) {
    return Make(RESEMBED_ROWWISE_ADAGRAD, rate, sum, nullptr, epsilon);
  }
  /// m, v [rows, dim]
  static Optimizer Adam(float rate, float* m, float* v, float epsilon = 1e-8f) {
    return Make(RESEMBED_ADAM, rate, m, v, epsilon);
  }
  /// m [rows, dim], v [rows]
  static Optimizer PartialRowwiseAdam(float rate, float* m, float* v, float epsilon = 1e-8f) {
    return Make(RESEMBED_PARTIAL_ROWWISE_ADAM, rate, m, v, epsilon);
  }
  /// lambda/2 times the sum of squares of touched rows, added to the loss.
  Optimizer& L2(float lambda) {
    weight_decay = lambda;
    decay = RESEMBED_DECAY_L2;
    return *this;
  }
  Optimizer& DecoupledDecay(float rate) {
    weight_decay = rate;
    decay = RESEMBED_DECAY_DECOUPLED;
    return *this;
  }

 private:
  static Optimizer Make(resembed_optimizer_kind what, float rate, void* first, void* second, float epsilon) {
    Optimizer optimizer;
    optimizer.kind = what;
    optimizer.lr = rate;
    optimizer.beta1 = 0.9f;
    optimizer.beta2 = 0.999f;
    optimizer.eps = epsilon;
    optimizer.step = 1;
    optimizer.state1 = first;
    optimizer.state2 = second;
    return optimizer;
  }
};

/// Updates of one table; a null optimizer leaves that part as it is.
struct TableStep : Descriptor<resembed_table_step> {
  TableStep() = default;
  TableStep(const Optimizer* residual_optimizer, const Optimizer* central_optimizer, int32_t number = 0) {
    residual = residual_optimizer;
    central = central_optimizer;
    table_number = number;
  }
};

/// Memory that grows and is reused. The default is host memory; for CUDA derive from it and allocate
/// device memory. Called by Batch outside of operations only, when a larger batch comes.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  virtual ~Memory() { std::free(data_); }
  /// At least `bytes`, 64-byte aligned; null when there is none. The old content is lost.
  virtual void* Reserve(size_t bytes) {
    if (bytes > bytes_) {
      std::free(data_);
      const size_t padded = (bytes + bytes / 4 + RESEMBED_WORKSPACE_ALIGNMENT - 1) /
                            RESEMBED_WORKSPACE_ALIGNMENT * RESEMBED_WORKSPACE_ALIGNMENT;
      data_ = std::aligned_alloc(RESEMBED_WORKSPACE_ALIGNMENT, padded);
      bytes_ = data_ == nullptr ? 0 : padded;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/// One step's tables and features, with plan and workspace memory. The descriptors must outlive the Batch;
/// change their pointers and sizes between steps as you like, then call Plan again.
class Batch {
 public:
  /// workspace and plan_memory: null = host memory owned by the Batch.
  Batch(std::vector<const Table*> tables, std::vector<const Feature*> features, Place place,
        Memory* workspace = nullptr, Memory* plan_memory = nullptr)
      : place_(place),
        workspace_(workspace != nullptr ? workspace : &own_workspace_),
        plan_memory_(plan_memory != nullptr ? plan_memory : &own_plan_) {
    for (const Table* table : tables) tables_.push_back(table);
    for (const Feature* feature : features) features_.push_back(feature);
    table_list_.tables = tables_.data();
    table_list_.n_tables = static_cast<int32_t>(tables_.size());
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  /// What to do with ids outside their table; the default is to check.
  void SetBounds(resembed_bounds bounds, resembed_bad_ids* bad_ids = nullptr) {
    bounds_ = bounds;
    bad_ids_ = bad_ids;
  }

  /// Sorts the ids of this batch; backward needs it, forward uses it when it is there.
  Status Plan() {
    planned_ = false;
    Descriptor<resembed_plan_args> args;
    args.tables = &table_list_;
    args.features = features_.data();
    args.n_features = n_features();
    args.bounds = bounds_;
    args.bad_ids = bad_ids_;
    size_t plan_bytes = 0, work_bytes = 0;
    if (auto s = resembed_plan_size(&args, &place_, &plan_bytes, &work_bytes); s != RESEMBED_OK) {
      return Status(s);
    }
    void* memory = plan_memory_->Reserve(plan_bytes);
    void* work = workspace_->Reserve(work_bytes);
    if ((memory == nullptr && plan_bytes > 0) || (work == nullptr && work_bytes > 0)) return NoMemory("Plan");
    layout_.resize(RESEMBED_PLAN_LAYOUT_BYTES(tables_.size(), features_.size()) / sizeof(int64_t));
    args.layout = layout_.data();
    args.layout_bytes = layout_.size() * sizeof(int64_t);
    plan_.struct_size = sizeof(plan_);
    const Status status(resembed_plan(&args, memory, plan_bytes, &plan_, work, work_bytes, &place_));
    planned_ = status.ok();
    return status;
  }

  Status Forward(resembed_numerics numerics = RESEMBED_NUMERICS_EXACT) {
    Descriptor<resembed_forward_args> args;
    args.tables = &table_list_;
    args.features = features_.data();
    args.n_features = n_features();
    args.bounds = bounds_;
    args.bad_ids = bad_ids_;
    args.numerics = numerics;
    args.plan = planned_ ? &plan_ : nullptr;
    return Run("Forward", args, resembed_forward_workspace_size, resembed_forward);
  }

  /// grads: one per feature; table_grads: one per table (null = not asked for).
  Status Backward(const std::vector<const FeatureGrad*>& grads,
                  const std::vector<const TableGrad*>& table_grads) {
    const std::vector<const resembed_feature_grad*> feature_grads(grads.begin(), grads.end());
    const std::vector<const resembed_table_grad*> outputs(table_grads.begin(), table_grads.end());
    if (Status s = Expect("Backward", feature_grads.size(), outputs.size()); !s.ok()) return s;
    Descriptor<resembed_backward_args> args;
    args.plan = &plan_;
    args.tables = &table_list_;
    args.features = features_.data();
    args.n_features = n_features();
    args.feature_grads = feature_grads.data();
    args.table_grads = outputs.data();
    return Run("Backward", args, resembed_backward_workspace_size, resembed_backward);
  }

  /// Backward and one optimizer step per table (null = that table stays as it is).
  Status BackwardStep(const std::vector<const FeatureGrad*>& grads,
                      const std::vector<const TableStep*>& table_steps) {
    const std::vector<const resembed_feature_grad*> feature_grads(grads.begin(), grads.end());
    const std::vector<const resembed_table_step*> steps(table_steps.begin(), table_steps.end());
    if (Status s = Expect("BackwardStep", feature_grads.size(), steps.size()); !s.ok()) return s;
    Descriptor<resembed_backward_step_args> args;
    args.plan = &plan_;
    args.tables = &table_list_;
    args.features = features_.data();
    args.n_features = n_features();
    args.feature_grads = feature_grads.data();
    args.steps = steps.data();
    return Run("BackwardStep", args, resembed_backward_step_workspace_size, resembed_backward_step);
  }

  /// One optimizer step per table from gradients that Backward or Combine wrote.
  Status Step(const std::vector<const TableGrad*>& table_grads,
              const std::vector<const TableStep*>& table_steps) {
    const std::vector<const resembed_table_grad*> inputs(table_grads.begin(), table_grads.end());
    const std::vector<const resembed_table_step*> steps(table_steps.begin(), table_steps.end());
    if (inputs.size() != tables_.size() || steps.size() != tables_.size()) {
      return Status(RESEMBED_INVALID_ARGUMENT, "Step: the lists need one entry for each table");
    }
    Descriptor<resembed_step_args> args;
    args.tables = &table_list_;
    args.table_grads = inputs.data();
    args.steps = steps.data();
    return Run("Step", args, resembed_step_workspace_size, resembed_step);
  }

  /// Counts and unique rows of one table; valid after Plan.
  Status PlanView(int32_t table, resembed_plan_table* view) const {
    *view = Descriptor<resembed_plan_table>();
    return Status(resembed_plan_view(&plan_, table, view));
  }

 private:
  int32_t n_features() const { return static_cast<int32_t>(features_.size()); }

  static Status NoMemory(const char* op) {
    return Status(RESEMBED_OUT_OF_MEMORY, std::string(op) + ": no memory for the workspace");
  }

  Status Expect(const char* op, size_t n_grads, size_t n_entries) const {
    if (!planned_) return Status(RESEMBED_INVALID_ARGUMENT, std::string(op) + ": needs Plan first");
    if (n_grads != features_.size() || n_entries != tables_.size()) {
      return Status(RESEMBED_INVALID_ARGUMENT,
                    std::string(op) + ": needs one gradient for each feature and one entry for each table");
    }
    return Status();
  }

  template <typename Args, typename Size, typename Op>
  Status Run(const char* op, const Args& args, Size size, Op run) {
    size_t bytes = 0;
    if (auto s = size(&args, &place_, &bytes); s != RESEMBED_OK) return Status(s);
    void* work = workspace_->Reserve(bytes);
    if (work == nullptr && bytes > 0) return NoMemory(op);
    return Status(run(&args, work, bytes, &place_));
  }

  Place place_;
  Memory own_workspace_, own_plan_;
  Memory *workspace_, *plan_memory_;
  std::vector<const resembed_table*> tables_;
  std::vector<const resembed_feature*> features_;
  Descriptor<resembed_tables> table_list_;
  Descriptor<resembed_plan_header> plan_;
  std::vector<int64_t> layout_;  // of a plan on a GPU
  resembed_bounds bounds_ = RESEMBED_BOUNDS_CHECK;
  resembed_bad_ids* bad_ids_ = nullptr;
  bool planned_ = false;
};

}  // namespace resembed

#include "resembed/services.hpp"  // interest graph, numbering

#endif  // RESEMBED_RESEMBED_HPP_
