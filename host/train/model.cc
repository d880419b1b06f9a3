// SPDX-License-Identifier: Apache-2.0
#include "host/train/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "host/train/model_random.h"

namespace resembed::train {

namespace {

// N(0, scale^2 / dim) for every element, by row and column.
void FillNormal(Mirror<float>* table, int64_t dim, double scale, uint64_t seed, uint64_t part, Pool* pool) {
  if (scale == 0) return;
  const float sigma = static_cast<float>(scale / std::sqrt(static_cast<double>(dim)));
  const int64_t rows = static_cast<int64_t>(table->size()) / dim;
  float* values = table->host();
  constexpr int64_t kRows = 1024;
  pool->ParallelFor((rows + kRows - 1) / kRows, [&](int64_t block) {
    for (int64_t row = block * kRows; row < std::min(rows, (block + 1) * kRows); ++row) {
      for (int64_t col = 0; col < dim; ++col) {
        const uint64_t r = static_cast<uint64_t>(row), c = static_cast<uint64_t>(2 * col);
        values[row * dim + col] =
            sigma * static_cast<float>(NormalOf(Draw(seed, Stream::kInit, part, r, c),
                                                Draw(seed, Stream::kInit, part, r, c + 1)));
      }
    }
  });
}

// Parts of an array begin on a cache line.
size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }
constexpr size_t kLine = 64, kLineFloats = kLine / sizeof(float);

}  // namespace

Embedding::Embedding(const Variant& variant, const InterestGraph& graph, int64_t n_items, const Hyper& hyper,
                     uint64_t seed, Pool* pool, Device* device)
    : hyper_(hyper),
      pool_(pool),
      device_(device),
      math_(MathOf(device)),
      crosses_(device != nullptr && math_.device() == nullptr),
      residual_(device, HostCopy::kPageable),
      central_(device, HostCopy::kPageable),
      residual_state1_(device, HostCopy::kPageable),
      residual_state2_(device, HostCopy::kPageable),
      central_state1_(device, HostCopy::kPageable),
      central_state2_(device, HostCopy::kPageable),
      maps_{{device, HostCopy::kNone}, {device, HostCopy::kNone}},
      own_map_(device, HostCopy::kNone),
      plan_memory_(device, HostCopy::kNone),
      workspace_(device, HostCopy::kNone),
      inputs_(device, HostCopy::kPinned),
      outputs_(device, crosses_ ? HostCopy::kPinned : HostCopy::kNone),
      output_grads_(device, crosses_ ? HostCopy::kPinned : HostCopy::kNone),
      queries_(device, crosses_ ? HostCopy::kPinned : HostCopy::kNone),
      query_grads_(device, crosses_ ? HostCopy::kPinned : HostCopy::kNone),
      attention_(device, HostCopy::kNone),
      score_grads_(device, HostCopy::kNone) {
  const int64_t dim = static_cast<int64_t>(hyper.dim) * variant.dim_factor;
  if (variant.penalty) residual_rule_.lambda = hyper.lambda;
  table_.struct_size = sizeof(table_);
  table_.n_items = n_items;
  table_.dim = dim;
  table_.form = variant.form;
  table_.map_version = 1;
  if (variant.residual) residual_.Assign(static_cast<size_t>(n_items * dim));
  if (variant.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    table_.central_rows = graph.n_centers;
    table_.center_of = Map(graph.center_of, &maps_[0]);
    table_.center_of_dtype = RESEMBED_I32;
  } else if (variant.form != RESEMBED_CENTRAL_NONE) {
    table_.central_rows = n_items;
    table_.neighbors = Map(graph.neighbors, &maps_[0]);
    table_.n_neighbors = graph.k;
    table_.neighbor_weights = variant.form == RESEMBED_CENTRAL_STORED ? Map(graph.gcn, &maps_[1]) : nullptr;
  }
  if (variant.form != RESEMBED_CENTRAL_NONE) {
    // A log without a pair has no center; one row keeps the table valid.
    table_.central_rows = std::max<int64_t>(table_.central_rows, 1);
    central_.Assign(static_cast<size_t>(table_.central_rows * dim));
    FillNormal(&central_, dim, hyper.init, seed, 2, pool);
    table_.central = central_.device();
  } else {
    FillNormal(&residual_, dim, hyper.init, seed, 1, pool);
  }
  table_.residual = variant.residual ? residual_.device() : nullptr;
  tables_.struct_size = sizeof(tables_);
  tables_.tables = part_pointers_;
  tables_.n_tables = 0;
  if (variant.form == RESEMBED_CENTRAL_UNIFORM && !graph.own.empty()) {
    own_ = &graph.own;
    resembed_table& central = parts_[tables_.n_tables++];
    central = table_;
    central.residual = nullptr;
    central.n_items = own_->n_rows();
    central.neighbors = Map(own_->neighbors, &own_map_);
    if (variant.residual) {
      resembed_table& residual = parts_[tables_.n_tables++];
      residual = table_;
      residual.form = RESEMBED_CENTRAL_NONE;
      residual.central = nullptr;
      residual.central_rows = 0;
      residual.neighbors = nullptr;
      residual.n_neighbors = 0;
    }
  } else {
    parts_[tables_.n_tables++] = table_;
  }
  for (int32_t part = 0; part < tables_.n_tables; ++part) {
    CheckStatus(resembed_check_maps(&parts_[part], place()));
  }

  const auto allocate = [&](const Mirror<float>& table, Mirror<float>* state1, Mirror<float>* state2) {
    if (hyper_.optimizer.empty()) return;  // scores only
    const bool adam = hyper_.optimizer == "adam";
    state1->Assign(adam ? table.size() : table.size() / static_cast<size_t>(dim));
    if (adam) state2->Assign(table.size());
  };
  allocate(residual_, &residual_state1_, &residual_state2_);
  allocate(central_, &central_state1_, &central_state2_);
  WeightsWritten();
  OptimizerStateWritten();
}

// The graph's own map, or its copy on the device.
template <typename T>
const T* Embedding::Map(const std::vector<T>& map, Mirror<uint8_t>* copy) {
  if (device_ == nullptr || map.empty()) return map.data();
  const size_t bytes = map.size() * sizeof(T);
  copy->Assign(bytes);
  device_->CopyIn(copy->device(), map.data(), bytes);
  return reinterpret_cast<const T*>(copy->device());
}

void Embedding::FindListRows(const std::vector<Lookup*>& lookups, const Sample* samples) const {
  for (Lookup* lookup : lookups) {
    lookup->list_rows = lookup->ids;
    if (lookup->shared || samples == nullptr) continue;
    for (int64_t row = 0; row < lookup->rows(); ++row) {
      const size_t b = static_cast<size_t>(row);
      const size_t begin = lookup->offsets.empty() ? b : static_cast<size_t>(lookup->offsets[b]);
      const size_t end = lookup->offsets.empty() ? b + 1 : static_cast<size_t>(lookup->offsets[b + 1]);
      for (size_t at = begin; at < end; ++at) {
        lookup->list_rows[at] = own_->RowOf(samples[row].user, lookup->ids[at]);
      }
    }
  }
}

void Embedding::ReserveInputs(const std::vector<Lookup*>& lookups) {
  n_input_bytes_ = 0;
  if (device_ == nullptr) return;
  size_t bytes = 0;
  for (const Lookup* lookup : lookups) {
    bytes += RoundUp(lookup->ids.size() * sizeof(int32_t), kLine) * (own_ != nullptr ? 2 : 1) +
             RoundUp(lookup->offsets.size() * sizeof(int64_t), kLine) +
             RoundUp(lookup->weights.size() * sizeof(float), kLine);
  }
  inputs_.Reserve(bytes);
}

// Where the operations of a step find `values`; with a device, to be copied there at once with all others.
template <typename T>
const T* Embedding::Input(const std::vector<T>& values) {
  if (device_ == nullptr || values.empty()) return values.data();
  const size_t bytes = values.size() * sizeof(T), at = n_input_bytes_;
  std::memcpy(inputs_.host() + at, values.data(), bytes);
  n_input_bytes_ += RoundUp(bytes, kLine);
  return reinterpret_cast<const T*>(inputs_.device() + at);
}

// Features of part p are those of the lookups, at p * lookups.size(); so are their outputs in outputs_.
void Embedding::Describe(const std::vector<Lookup*>& lookups) {
  const size_t n_parts = static_cast<size_t>(tables_.n_tables), n_features = lookups.size() * n_parts;
  const auto elements = [this](const Lookup& lookup) { return static_cast<size_t>(lookup.rows() * dim()); };
  n_grads_ = 0;
  for (const Lookup* lookup : lookups) n_grads_ += RoundUp(elements(*lookup), kLineFloats);
  outputs_.Reserve(n_grads_ * n_parts);
  output_grads_.Reserve(n_grads_);
  ReserveInputs(lookups);
  float* const outputs = crosses_ ? outputs_.host() : outputs_.device();
  float* const grads = crosses_ ? output_grads_.host() : output_grads_.device();
  features_.assign(n_features, resembed_feature{});
  grads_.assign(n_features, resembed_feature_grad{});
  feature_pointers_.clear();
  grad_pointers_.clear();
  for (size_t part = 0; part < n_parts; ++part) {
    const bool central = own_ != nullptr && part == 0;
    size_t at = 0;  // of the lookup in output_grads_
    for (size_t l = 0; l < lookups.size(); ++l) {
      Lookup& lookup = *lookups[l];
      resembed_feature& feature = features_[part * lookups.size() + l];
      resembed_feature_grad& grad = grads_[part * lookups.size() + l];
      feature.struct_size = sizeof(feature);
      feature.table = static_cast<int32_t>(part);
      feature.pooling = lookup.offsets.empty() ? RESEMBED_POOLING_NONE : RESEMBED_POOLING_SUM;
      feature.ids = Input(central ? lookup.list_rows : lookup.ids);
      feature.n_ids = static_cast<int64_t>(lookup.ids.size());
      feature.id_dtype = RESEMBED_I32;
      if (lookup.offsets.empty()) {
        feature.n_bags = feature.n_ids;
        feature.bag_length = 1;
      } else if (part == 0) {
        feature.offsets = Input(lookup.offsets);
        feature.weights = Input(lookup.weights);
      } else {
        feature.offsets = features_[l].offsets;
        feature.weights = features_[l].weights;
      }
      if (!lookup.offsets.empty()) {
        feature.offset_dtype = RESEMBED_I64;
        feature.n_bags = lookup.rows();
      }
      const size_t output = part * n_grads_ + at;
      (central && n_parts == 2 ? lookup.central : lookup.output) = {outputs + output, elements(lookup)};
      lookup.grad = {grads + at, elements(lookup)};
      feature.output = outputs_.device() + output;
      feature.output_dtype = RESEMBED_F32;
      grad.struct_size = sizeof(grad);
      grad.grad_output = output_grads_.device() + at;
      grad.grad_output_dtype = RESEMBED_F32;
      at += RoundUp(elements(lookup), kLineFloats);
      feature_pointers_.push_back(&feature);
      grad_pointers_.push_back(&grad);
    }
  }
  inputs_.Upload(n_input_bytes_);
  DescribeAttention(lookups);
}

// Queries lie one lookup after the other, as do the weights. With lists of users' own there is none.
void Embedding::DescribeAttention(const std::vector<Lookup*>& lookups) {
  n_plain_ = lookups.size();
  while (n_plain_ > 0 && lookups[n_plain_ - 1]->query != nullptr) --n_plain_;
  size_t n_queries = 0, n_weights = 0;
  for (size_t l = n_plain_; l < lookups.size(); ++l) {
    n_queries += RoundUp(static_cast<size_t>(lookups[l]->rows() * dim()), kLineFloats);
    n_weights += RoundUp(lookups[l]->ids.size(), kLineFloats);
  }
  queries_.Reserve(n_queries);
  query_grads_.Reserve(n_queries);
  attention_.Reserve(n_weights);
  score_grads_.Reserve(n_weights);
  n_queries = n_weights = 0;
  for (size_t l = n_plain_; l < lookups.size(); ++l) {
    resembed_feature& feature = features_[l];
    feature.pooling = RESEMBED_POOLING_ATTENTION;
    feature.query = queries_.device() + n_queries;
    feature.attention_activation = RESEMBED_ATTENTION_SOFTMAX;
    feature.attention_scale = static_cast<float>(hyper_.attention_scale);
    feature.saved_attention = attention_.device() + n_weights;
    grads_[l].grad_query = query_grads_.device() + n_queries;
    grads_[l].grad_scores = score_grads_.device() + n_weights;
    n_queries += RoundUp(static_cast<size_t>(lookups[l]->rows() * dim()), kLineFloats);
    n_weights += RoundUp(lookups[l]->ids.size(), kLineFloats);
  }
}

void Embedding::RunForward(size_t first, size_t end, const resembed_plan_header* plan) {
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &tables_;
  args.features = feature_pointers_.data() + first;
  args.n_features = static_cast<int32_t>(end - first);
  args.bounds = RESEMBED_BOUNDS_TRUST;
  args.plan = plan;
  size_t bytes = 0;
  CheckStatus(resembed_forward_workspace_size(&args, place(), &bytes));
  workspace_.Reserve(bytes);
  CheckStatus(resembed_forward(&args, workspace_.device(), workspace_.size(), place()));
}

void Embedding::Forward(const std::vector<Lookup*>& lookups, const Sample* samples) {
  if (own_ != nullptr) FindListRows(lookups, samples);
  Describe(lookups);
  const int32_t n_features = static_cast<int32_t>(features_.size());
  plan_layout_.resize(RESEMBED_PLAN_LAYOUT_BYTES(tables_.n_tables, n_features) / sizeof(uint64_t));
  resembed_plan_args plan_args = {};
  plan_args.struct_size = sizeof(plan_args);
  plan_args.tables = &tables_;
  plan_args.features = feature_pointers_.data();
  plan_args.n_features = n_features;
  plan_args.layout = plan_layout_.data();
  plan_args.layout_bytes = plan_layout_.size() * sizeof(uint64_t);
  size_t plan_bytes = 0, bytes = 0;
  CheckStatus(resembed_plan_size(&plan_args, place(), &plan_bytes, &bytes));
  plan_memory_.Reserve(plan_bytes);
  workspace_.Reserve(bytes);
  plan_.struct_size = sizeof(plan_);
  CheckStatus(resembed_plan(&plan_args, plan_memory_.device(), plan_memory_.size(), &plan_,
                            workspace_.device(), workspace_.size(), place()));

  if (n_plain_ == lookups.size()) {
    RunForward(0, features_.size(), &plan_);
  } else {
    // The queries first, as they are; the plan is of all features and serves the backward pass alone.
    RunForward(0, n_plain_, nullptr);
    CopyOutputs(n_grads_);
    size_t at = 0;
    for (size_t l = n_plain_; l < lookups.size(); ++l) {
      const FloatView& query = lookups[l]->query->output;
      math_.Copy(static_cast<int64_t>(query.size()), query.data(),
                 (crosses_ ? queries_.host() : queries_.device()) + at);
      at += RoundUp(query.size(), kLineFloats);
    }
    if (crosses_) queries_.Upload(at);
    RunForward(n_plain_, features_.size(), nullptr);
  }
  CopyOutputs(n_grads_ * static_cast<size_t>(tables_.n_tables));
  if (tables_.n_tables == 1) return;
  for (Lookup* lookup : lookups) {
    float* const output = lookup->output.data();
    math_.Add(static_cast<int64_t>(lookup->output.size()), output, lookup->central.data(), output);
  }
}

void Embedding::CopyOutputs(size_t n) {
  if (!crosses_) return;
  outputs_.Download(n);
  device_->Wait();
}

resembed_optimizer Embedding::Optimizer(Mirror<float>* state1, Mirror<float>* state2, int64_t step, float lr,
                                        float weight_decay) const {
  resembed_optimizer optimizer = {};
  optimizer.struct_size = sizeof(optimizer);
  optimizer.kind = hyper_.optimizer == "adam" ? RESEMBED_ADAM : RESEMBED_ROWWISE_ADAGRAD;
  optimizer.lr = lr;
  optimizer.beta1 = 0.9f;
  optimizer.beta2 = 0.999f;
  optimizer.eps = 1e-8f;
  optimizer.weight_decay = weight_decay;
  optimizer.decay = RESEMBED_DECAY_L2;
  optimizer.step = step;
  optimizer.state1 = state1->device();
  optimizer.state2 = state2->empty() ? nullptr : state2->device();
  return optimizer;
}

// Gradients of the queries, which are outputs of this step, before any table moves.
void Embedding::BackwardQueries(const std::vector<Lookup*>& lookups) {
  if (crosses_) output_grads_.Upload(n_grads_);
  std::vector<const resembed_feature_grad*> asked(features_.size(), nullptr);
  for (size_t l = n_plain_; l < lookups.size(); ++l) asked[l] = &grads_[l];
  const resembed_table_grad* const no_table[2] = {nullptr, nullptr};
  resembed_backward_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan_;
  args.tables = &tables_;
  args.features = feature_pointers_.data();
  args.n_features = static_cast<int32_t>(features_.size());
  args.feature_grads = asked.data();
  args.table_grads = no_table;
  size_t bytes = 0;
  CheckStatus(resembed_backward_workspace_size(&args, place(), &bytes));
  workspace_.Reserve(bytes);
  CheckStatus(resembed_backward(&args, workspace_.device(), workspace_.size(), place()));
  if (crosses_) {
    query_grads_.Download(query_grads_.size());
    device_->Wait();
  }
  const float* const query_grads = crosses_ ? query_grads_.host() : query_grads_.device();
  size_t at = 0;
  for (size_t l = n_plain_; l < lookups.size(); ++l) {
    const FloatView& grad = lookups[l]->query->grad;
    math_.Add(static_cast<int64_t>(grad.size()), grad.data(), query_grads + at, grad.data());
    at += RoundUp(grad.size(), kLineFloats);
    grads_[l].grad_query = nullptr;
    grads_[l].grad_scores_ready = 1;
  }
}

void Embedding::BackwardStep(const std::vector<Lookup*>& lookups, int64_t step, float lr) {
  if (n_plain_ < lookups.size()) BackwardQueries(lookups);
  if (crosses_) output_grads_.Upload(n_grads_);
  resembed_optimizer residual =
      Optimizer(&residual_state1_, &residual_state2_, step, lr, static_cast<float>(residual_rule_.lambda));
  residual.max_row_norm = static_cast<float>(residual_rule_.max_norm);
  const resembed_optimizer central = Optimizer(&central_state1_, &central_state2_, step, lr, 0.0f);
  resembed_table_step part_steps[2] = {};
  const resembed_table_step* steps[2] = {&part_steps[0], &part_steps[1]};
  for (int part = 0; part < 2; ++part) {
    part_steps[part].struct_size = sizeof(resembed_table_step);
    part_steps[part].residual = parts_[part].residual == nullptr ? nullptr : &residual;
    part_steps[part].central = parts_[part].central == nullptr ? nullptr : &central;
  }
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan_;
  args.tables = &tables_;
  args.features = feature_pointers_.data();
  args.n_features = static_cast<int32_t>(features_.size());
  args.feature_grads = grad_pointers_.data();
  args.steps = steps;
  size_t bytes = 0;
  CheckStatus(resembed_backward_step_workspace_size(&args, place(), &bytes));
  workspace_.Reserve(bytes);
  CheckStatus(resembed_backward_step(&args, workspace_.device(), workspace_.size(), place()));
}

void Embedding::Materialize(float* output) const {
  // On a device in pieces of 64 MiB, so that evaluation needs no second table there.
  const int64_t piece =
      device_ == nullptr ? table_.n_items : std::max<int64_t>(1, (int64_t{16} << 20) / table_.dim);
  Mirror<float> items(device_, HostCopy::kNone);
  if (device_ != nullptr) items.Assign(static_cast<size_t>(std::min(piece, table_.n_items) * table_.dim));
  Mirror<uint8_t> workspace(device_, HostCopy::kNone);
  for (int64_t first = 0; first < table_.n_items; first += piece) {
    resembed_materialize_args args = {};
    args.struct_size = sizeof(args);
    args.table = &table_;
    args.first_item = first;
    args.n_items = std::min(piece, table_.n_items - first);
    args.output = device_ == nullptr ? output : items.device();
    args.output_dtype = RESEMBED_F32;
    size_t bytes = 0;
    CheckStatus(resembed_materialize_workspace_size(&args, place(), &bytes));
    workspace.Reserve(bytes);
    CheckStatus(resembed_materialize(&args, workspace.device(), workspace.size(), place()));
    if (device_ == nullptr) continue;
    device_->CopyOut(output + first * table_.dim, items.device(),
                     static_cast<size_t>(args.n_items * table_.dim) * sizeof(float));
  }
  if (device_ != nullptr) device_->Wait();
}

std::vector<StateTensor> Embedding::Weights() {
  std::vector<StateTensor> tensors;
  if (!residual_.empty()) tensors.push_back({"residual", residual_.host(), table_.n_items, table_.dim});
  if (!central_.empty()) tensors.push_back({"central", central_.host(), table_.central_rows, table_.dim});
  residual_.Download(residual_.size());
  central_.Download(central_.size());
  if (device_ != nullptr) device_->Wait();
  return tensors;
}

std::vector<StateTensor> Embedding::OptimizerState() {
  std::vector<StateTensor> tensors;
  const auto add = [&](const char* name, Mirror<float>* state) {
    if (!state->empty()) tensors.push_back({name, state->host(), static_cast<int64_t>(state->size()), 0});
    state->Download(state->size());
  };
  add("residual_state1", &residual_state1_);
  add("residual_state2", &residual_state2_);
  add("central_state1", &central_state1_);
  add("central_state2", &central_state2_);
  if (device_ != nullptr) device_->Wait();
  return tensors;
}

void Embedding::WeightsWritten() {
  residual_.Upload(residual_.size());
  central_.Upload(central_.size());
}

void Embedding::OptimizerStateWritten() {
  for (Mirror<float>* state : {&residual_state1_, &residual_state2_, &central_state1_, &central_state2_}) {
    state->Upload(state->size());
  }
}

}  // namespace resembed::train
