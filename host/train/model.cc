// SPDX-License-Identifier: Apache-2.0
#include "host/train/model.h"

#include <algorithm>
#include <cmath>

#include "host/train/dot.h"
#include "host/train/mlp.h"
#include "host/train/model_random.h"

namespace resembed::train {

namespace {

// N(0, scale^2 / dim) for every element, by row and column.
void FillNormal(AlignedVector<float>* table, int64_t dim, double scale, uint64_t seed, uint64_t part,
                Pool* pool) {
  const float sigma = static_cast<float>(scale / std::sqrt(static_cast<double>(dim)));
  const int64_t rows = static_cast<int64_t>(table->size()) / dim;
  constexpr int64_t kRows = 1024;
  pool->ParallelFor((rows + kRows - 1) / kRows, [&](int64_t block) {
    for (int64_t row = block * kRows; row < std::min(rows, (block + 1) * kRows); ++row) {
      for (int64_t col = 0; col < dim; ++col) {
        const uint64_t r = static_cast<uint64_t>(row), c = static_cast<uint64_t>(2 * col);
        (*table)[static_cast<size_t>(row * dim + col)] =
            sigma * static_cast<float>(NormalOf(Draw(seed, Stream::kInit, part, r, c),
                                                Draw(seed, Stream::kInit, part, r, c + 1)));
      }
    }
  });
}

void Reserve(AlignedVector<uint8_t>* memory, size_t bytes) {
  if (memory->size() < bytes) memory->resize(bytes + bytes / 4);
}

}  // namespace

Embedding::Embedding(const Variant& variant, const InterestGraph& graph, int64_t n_items, const Hyper& hyper,
                     uint64_t seed, Pool* pool)
    : hyper_(hyper), penalty_(variant.penalty), pool_(pool) {
  const int64_t dim = static_cast<int64_t>(hyper.dim) * variant.dim_factor;
  table_.struct_size = sizeof(table_);
  table_.n_items = n_items;
  table_.dim = dim;
  table_.form = variant.form;
  table_.map_version = 1;
  if (variant.residual) residual_.assign(static_cast<size_t>(n_items * dim), 0.0f);
  if (variant.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    table_.central_rows = graph.n_centers;
    table_.center_of = graph.center_of.data();
    table_.center_of_dtype = RESEMBED_I32;
  } else if (variant.form != RESEMBED_CENTRAL_NONE) {
    table_.central_rows = n_items;
    table_.neighbors = graph.neighbors.data();
    table_.n_neighbors = graph.k;
    table_.neighbor_weights = variant.form == RESEMBED_CENTRAL_STORED ? graph.gcn.data() : nullptr;
  }
  if (variant.form != RESEMBED_CENTRAL_NONE) {
    // A log without a pair has no center; one row keeps the table valid.
    table_.central_rows = std::max<int64_t>(table_.central_rows, 1);
    central_.assign(static_cast<size_t>(table_.central_rows * dim), 0.0f);
    FillNormal(&central_, dim, hyper.init, seed, 2, pool);
    table_.central = central_.data();
  } else {
    FillNormal(&residual_, dim, hyper.init, seed, 1, pool);
  }
  table_.residual = variant.residual ? residual_.data() : nullptr;
  tables_.struct_size = sizeof(tables_);
  tables_.tables = part_pointers_;
  tables_.n_tables = 0;
  if (variant.form == RESEMBED_CENTRAL_UNIFORM && !graph.own.empty()) {
    own_ = &graph.own;
    resembed_table& central = parts_[tables_.n_tables++];
    central = table_;
    central.residual = nullptr;
    central.n_items = own_->n_rows();
    central.neighbors = own_->neighbors.data();
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
    CheckStatus(resembed_check_maps(&parts_[part], pool->place()));
  }

  const auto allocate = [&](const AlignedVector<float>& table, AlignedVector<float>* state1,
                            AlignedVector<float>* state2) {
    const bool adam = hyper_.optimizer == "adam";
    state1->assign(adam ? table.size() : table.size() / static_cast<size_t>(dim), 0.0f);
    if (adam) state2->assign(table.size(), 0.0f);
  };
  allocate(residual_, &residual_state1_, &residual_state2_);
  allocate(central_, &central_state1_, &central_state2_);
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

// Features of part p are those of the lookups, at p * lookups.size().
void Embedding::Describe(const std::vector<Lookup*>& lookups) {
  const size_t n_features = lookups.size() * static_cast<size_t>(tables_.n_tables);
  features_.assign(n_features, resembed_feature{});
  grads_.assign(n_features, resembed_feature_grad{});
  feature_pointers_.clear();
  grad_pointers_.clear();
  for (size_t f = 0; f < n_features; ++f) {
    Lookup& lookup = *lookups[f % lookups.size()];
    const int32_t part = static_cast<int32_t>(f / lookups.size());
    const bool central = own_ != nullptr && part == 0;
    resembed_feature& feature = features_[f];
    feature.struct_size = sizeof(feature);
    feature.table = part;
    feature.pooling = lookup.offsets.empty() ? RESEMBED_POOLING_NONE : RESEMBED_POOLING_SUM;
    feature.ids = central ? lookup.list_rows.data() : lookup.ids.data();
    feature.n_ids = static_cast<int64_t>(lookup.ids.size());
    feature.id_dtype = RESEMBED_I32;
    if (lookup.offsets.empty()) {
      feature.n_bags = feature.n_ids;
      feature.bag_length = 1;
    } else {
      feature.offsets = lookup.offsets.data();
      feature.offset_dtype = RESEMBED_I64;
      feature.n_bags = lookup.rows();
      feature.weights = lookup.weights.data();
    }
    const size_t elements = static_cast<size_t>(lookup.rows() * dim());
    if (lookup.output.size() < elements) lookup.output.resize(elements);
    if (lookup.grad.size() < elements) lookup.grad.resize(elements);
    if (central && lookup.central.size() < elements) lookup.central.resize(elements);
    feature.output = central && tables_.n_tables == 2 ? lookup.central.data() : lookup.output.data();
    feature.output_dtype = RESEMBED_F32;
    grads_[f].struct_size = sizeof(grads_[f]);
    grads_[f].grad_output = lookup.grad.data();
    grads_[f].grad_output_dtype = RESEMBED_F32;
    feature_pointers_.push_back(&feature);
    grad_pointers_.push_back(&grads_[f]);
  }
}

void Embedding::Forward(const std::vector<Lookup*>& lookups, const Sample* samples) {
  if (own_ != nullptr) FindListRows(lookups, samples);
  Describe(lookups);
  const int32_t n_features = static_cast<int32_t>(features_.size());
  resembed_plan_args plan_args = {};
  plan_args.struct_size = sizeof(plan_args);
  plan_args.tables = &tables_;
  plan_args.features = feature_pointers_.data();
  plan_args.n_features = n_features;
  size_t plan_bytes = 0, bytes = 0;
  CheckStatus(resembed_plan_size(&plan_args, pool_->place(), &plan_bytes, &bytes));
  Reserve(&plan_memory_, plan_bytes);
  Reserve(&workspace_, bytes);
  plan_.struct_size = sizeof(plan_);
  CheckStatus(resembed_plan(&plan_args, plan_memory_.data(), plan_memory_.size(), &plan_, workspace_.data(),
                            workspace_.size(), pool_->place()));

  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &tables_;
  args.features = feature_pointers_.data();
  args.n_features = n_features;
  args.bounds = RESEMBED_BOUNDS_TRUST;
  args.plan = &plan_;
  CheckStatus(resembed_forward_workspace_size(&args, pool_->place(), &bytes));
  Reserve(&workspace_, bytes);
  CheckStatus(resembed_forward(&args, workspace_.data(), workspace_.size(), pool_->place()));
  if (tables_.n_tables == 1) return;
  for (Lookup* lookup : lookups) {
    const size_t elements = static_cast<size_t>(lookup->rows() * dim());
    for (size_t at = 0; at < elements; ++at) lookup->output[at] += lookup->central[at];
  }
}

resembed_optimizer Embedding::Optimizer(AlignedVector<float>* state1, AlignedVector<float>* state2,
                                        int64_t step, float lr, float weight_decay) const {
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
  optimizer.state1 = state1->data();
  optimizer.state2 = state2->empty() ? nullptr : state2->data();
  return optimizer;
}

void Embedding::BackwardStep(const std::vector<Lookup*>& /*lookups*/, int64_t step, float lr) {
  const float lambda = penalty_ ? static_cast<float>(hyper_.lambda) : 0.0f;
  const resembed_optimizer residual = Optimizer(&residual_state1_, &residual_state2_, step, lr, lambda);
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
  CheckStatus(resembed_backward_step_workspace_size(&args, pool_->place(), &bytes));
  Reserve(&workspace_, bytes);
  CheckStatus(resembed_backward_step(&args, workspace_.data(), workspace_.size(), pool_->place()));
}

void Embedding::Materialize(float* output) const {
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table_;
  args.n_items = table_.n_items;
  args.output = output;
  args.output_dtype = RESEMBED_F32;
  size_t bytes = 0;
  CheckStatus(resembed_materialize_workspace_size(&args, pool_->place(), &bytes));
  AlignedVector<uint8_t> workspace(bytes);
  CheckStatus(resembed_materialize(&args, workspace.data(), bytes, pool_->place()));
}

std::vector<StateTensor> Embedding::Weights() {
  std::vector<StateTensor> tensors;
  if (!residual_.empty()) tensors.push_back({"residual", residual_.data(), table_.n_items, table_.dim});
  if (!central_.empty()) tensors.push_back({"central", central_.data(), table_.central_rows, table_.dim});
  return tensors;
}

std::vector<StateTensor> Embedding::OptimizerState() {
  std::vector<StateTensor> tensors;
  const auto add = [&](const char* name, AlignedVector<float>* state) {
    if (!state->empty()) tensors.push_back({name, state->data(), static_cast<int64_t>(state->size()), 0});
  };
  add("residual_state1", &residual_state1_);
  add("residual_state2", &residual_state2_);
  add("central_state1", &central_state1_);
  add("central_state2", &central_state2_);
  return tensors;
}

std::unique_ptr<Learner> MakeLearner(const Variant& variant, const InterestGraph& graph, const LogView& view,
                                     const Hyper& hyper, uint64_t seed, Pool* pool) {
  if (hyper.head == Head::kMlp) return std::make_unique<MlpLearner>(variant, graph, view, hyper, seed, pool);
  return std::make_unique<DotLearner>(variant, graph, view, hyper, seed, pool);
}

void ApplyDropout(float* x, int64_t n, float rate, uint64_t seed, int64_t step, uint64_t tag) {
  if (rate <= 0) return;
  const uint32_t threshold = static_cast<uint32_t>(rate * 65536.0f);
  const float keep = 1.0f / (1.0f - rate);
  for (int64_t i = 0; i < n; i += 4) {
    const uint64_t bits =
        Draw(seed, Stream::kDropout, static_cast<uint64_t>(step), tag, static_cast<uint64_t>(i));
    for (int64_t j = i; j < std::min(n, i + 4); ++j) {
      x[j] = ((bits >> (16 * (j - i))) & 0xFFFFu) < threshold ? 0.0f : x[j] * keep;
    }
  }
}

void AppendDenseState(const std::string& prefix, DenseWeights* dense, std::vector<StateTensor>* weights,
                      std::vector<StateTensor>* state) {
  if (weights != nullptr) {
    for (const DenseWeights::Block& block : dense->blocks) {
      weights->push_back({prefix + block.name, dense->value.data() + block.offset, block.rows, block.cols});
    }
  }
  if (state != nullptr) {
    const int64_t n = static_cast<int64_t>(dense->value.size());
    state->push_back({prefix + "adam_m", dense->m.data(), n, 0});
    state->push_back({prefix + "adam_v", dense->v.data(), n, 0});
  }
}

void FillHistories(const LogView& view, const Hyper& hyper, const Sample* samples, int64_t n,
                   Lookup* lookup) {
  const size_t most = static_cast<size_t>(n * hyper.history_length);
  lookup->ids.resize(most);
  lookup->weights.resize(most);
  lookup->offsets.assign(1, 0);
  int64_t filled = 0;
  for (int64_t s = 0; s < n; ++s) {
    filled += FillHistory(view, hyper, samples[s].user, samples[s].position, lookup->ids.data() + filled,
                          lookup->weights.data() + filled);
    lookup->offsets.push_back(filled);
  }
  lookup->ids.resize(static_cast<size_t>(filled));
  lookup->weights.resize(static_cast<size_t>(filled));
}

void PoolRows(const float* rows, int64_t dim, const int32_t* ids, const float* weights, int64_t n, float* y) {
  std::fill_n(y, dim, 0.0f);
  for (int64_t j = 0; j < n; ++j) {
    const float* row = rows + ids[j] * dim;
    for (int64_t col = 0; col < dim; ++col) y[col] += weights[j] * row[col];
  }
}

}  // namespace resembed::train
