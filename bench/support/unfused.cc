// SPDX-License-Identifier: Apache-2.0
#include "bench/support/unfused.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "bench/support/narrow.h"
#include "bench/support/parallel.h"

namespace resembed::bench {
namespace {

// out[i, :] = table[rows[i], :] as fp32
void Gather(const void* table, resembed_dtype dtype, const int32_t* rows, int64_t n, int64_t dim,
            float* out) {
  ParallelRanges(n, [=](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      ReadElements(table, dtype, int64_t{rows[i]} * dim, dim, out + i * dim);
    }
  });
}

// out[i, :] = weights[i] * in[i, :]
void Weigh(const float* in, const float* weights, int64_t n, int64_t dim, float* out) {
  ParallelRanges(n, [=](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      for (int64_t col = 0; col < dim; ++col) out[i * dim + col] = weights[i] * in[i * dim + col];
    }
  });
}

// out[i, :] = sum over j < group of in[i * group + j, :]
void SumGroups(const float* in, int64_t n, int64_t group, int64_t dim, float* out) {
  ParallelRanges(n, [=](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      std::fill_n(out + i * dim, dim, 0.0f);
      for (int64_t j = 0; j < group; ++j) {
        const float* row = in + (i * group + j) * dim;
        for (int64_t col = 0; col < dim; ++col) out[i * dim + col] += row[col];
      }
    }
  });
}

// Equal keys side by side: uses[starts[u] .. starts[u + 1]) have the u-th distinct key.
struct Grouped {
  std::vector<int64_t> uses, starts, keys;
};

Grouped GroupByKey(const std::vector<int32_t>& keys) {
  Grouped out;
  out.uses.resize(keys.size());
  std::iota(out.uses.begin(), out.uses.end(), int64_t{0});
  std::stable_sort(out.uses.begin(), out.uses.end(), [&keys](int64_t a, int64_t b) {
    return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)];
  });
  for (size_t at = 0; at < out.uses.size(); ++at) {
    const int64_t key = keys[static_cast<size_t>(out.uses[at])];
    if (at > 0 && key == out.keys.back()) continue;
    out.starts.push_back(static_cast<int64_t>(at));
    out.keys.push_back(key);
  }
  out.starts.push_back(static_cast<int64_t>(out.uses.size()));
  return out;
}

// body(row of the table, its summed gradient) for every distinct row, in parallel.
template <typename Body>
void ForEachRow(const std::vector<int64_t>& rows, const std::vector<float>& sums, int64_t dim,
                const Body& body) {
  ParallelRanges(static_cast<int64_t>(rows.size()), [&](int, int64_t first, int64_t last) {
    for (int64_t at = first; at < last; ++at) body(rows[static_cast<size_t>(at)], sums.data() + at * dim);
  });
}

float MeanSquare(const float* values, int64_t n) {
  float squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += values[i] * values[i];
  return squares / static_cast<float>(n);
}

// One pass for each state.
template <resembed_optimizer_kind kKind>
void UpdateStates(const std::vector<int64_t>& rows, const std::vector<float>& sums, int64_t dim,
                  const resembed_optimizer& o) {
  float *const state1 = static_cast<float*>(o.state1), *const state2 = static_cast<float*>(o.state2);
  const float keep1 = o.beta1, keep2 = o.beta2;
  if constexpr (kKind == RESEMBED_ADAGRAD) {
    ForEachRow(rows, sums, dim, [=](int64_t row, const float* g) {
      for (int64_t col = 0; col < dim; ++col) state1[row * dim + col] += g[col] * g[col];
    });
  } else if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) {
    ForEachRow(rows, sums, dim, [=](int64_t row, const float* g) { state1[row] += MeanSquare(g, dim); });
  } else if constexpr (kKind != RESEMBED_SGD) {
    ForEachRow(rows, sums, dim, [=](int64_t row, const float* g) {
      float* const mean = state1 + row * dim;
      for (int64_t col = 0; col < dim; ++col) mean[col] = keep1 * mean[col] + (1 - keep1) * g[col];
    });
    ForEachRow(rows, sums, dim, [=](int64_t row, const float* g) {
      if constexpr (kKind == RESEMBED_ADAM) {
        float* const square = state2 + row * dim;
        for (int64_t col = 0; col < dim; ++col)
          square[col] = keep2 * square[col] + (1 - keep2) * g[col] * g[col];
      } else {
        state2[row] = keep2 * state2[row] + (1 - keep2) * MeanSquare(g, dim);
      }
    });
  }
}

// values -= the step of one row.
template <resembed_optimizer_kind kKind>
void MoveRow(const resembed_optimizer& o, float correction1, float correction2, int64_t row, const float* g,
             int64_t dim, float* values) {
  const float *const state1 = static_cast<const float*>(o.state1), *const state2 =
                                                                       static_cast<const float*>(o.state2);
  for (int64_t col = 0; col < dim; ++col) {
    float step = g[col];
    if constexpr (kKind == RESEMBED_ADAGRAD) step /= std::sqrt(state1[row * dim + col]) + o.eps;
    if constexpr (kKind == RESEMBED_ROWWISE_ADAGRAD) step /= std::sqrt(state1[row]) + o.eps;
    if constexpr (kKind == RESEMBED_ADAM || kKind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
      const float square = state2[kKind == RESEMBED_ADAM ? row * dim + col : row];
      step = state1[row * dim + col] * correction1 / (std::sqrt(square * correction2) + o.eps);
    }
    values[col] -= o.lr * step;
  }
}

template <resembed_optimizer_kind kKind>
void UpdateRows(const std::vector<int64_t>& rows, const std::vector<float>& sums, int64_t dim,
                const resembed_optimizer& o, resembed_dtype dtype, void* table) {
  UpdateStates<kKind>(rows, sums, dim, o);
  const double step = static_cast<double>(o.step);
  const auto correction1 = static_cast<float>(1 / (1 - std::pow(static_cast<double>(o.beta1), step))),
             correction2 = static_cast<float>(1 / (1 - std::pow(static_cast<double>(o.beta2), step)));
  if (dtype == RESEMBED_F32) {
    ForEachRow(rows, sums, dim, [&](int64_t row, const float* g) {
      MoveRow<kKind>(o, correction1, correction2, row, g, dim, static_cast<float*>(table) + row * dim);
    });
    return;
  }
  ForEachRow(rows, sums, dim, [&](int64_t row, const float* g) {
    thread_local std::vector<float> values;
    values.resize(static_cast<size_t>(dim));
    ReadElements(table, dtype, row * dim, dim, values.data());
    MoveRow<kKind>(o, correction1, correction2, row, g, dim, values.data());
    auto* const bits = static_cast<uint16_t*>(table) + row * dim;
    for (int64_t col = 0; col < dim; ++col) bits[col] = ToBfloat(values[static_cast<size_t>(col)]);
  });
}

}  // namespace

Unfused::Unfused(const Scenario& scenario, const Batch& batch)
    : scenario_(scenario),
      batch_(batch),
      dtype_(scenario.spec().dtype),
      dim_(scenario.spec().dim),
      n_slots_(scenario.n_slots()) {}

void Unfused::GatherLists() {
  const int64_t n_ids = batch_.shape.n_ids;
  lists_.resize(static_cast<size_t>(n_ids * n_slots_));
  weights_.resize(lists_.size());
  const float even = 1.0f / static_cast<float>(std::max<int64_t>(1, n_slots_));
  ParallelRanges(n_ids, [&](int, int64_t first, int64_t last) {
    for (int64_t use = first; use < last; ++use) {
      const int64_t list = int64_t{batch_.ids[static_cast<size_t>(use)]} * n_slots_;
      for (int64_t slot = 0; slot < n_slots_; ++slot) {
        const auto at = static_cast<size_t>(use * n_slots_ + slot);
        lists_[at] = scenario_.slots()[list + slot];
        weights_[at] = scenario_.slot_weights() == nullptr ? even : scenario_.slot_weights()[list + slot];
      }
    }
  });
}

// weights = softmax(queries . gathered)
void Unfused::Attend() {
  const int64_t n_ids = batch_.shape.n_ids, n_lists = n_ids * n_slots_;
  queries_.resize(static_cast<size_t>(n_ids * dim_));
  Gather(scenario_.table().central, dtype_, batch_.ids.data(), n_ids, dim_, queries_.data());
  scores_.resize(static_cast<size_t>(n_lists));
  ParallelRanges(n_lists, [&](int, int64_t first, int64_t last) {
    for (int64_t at = first; at < last; ++at) {
      const float *query = queries_.data() + at / n_slots_ * dim_, *row = gathered_.data() + at * dim_;
      float score = 0;
      for (int64_t col = 0; col < dim_; ++col) score += query[col] * row[col];
      scores_[static_cast<size_t>(at)] = score;
    }
  });
  ParallelRanges(n_ids, [&](int, int64_t first, int64_t last) {
    for (int64_t use = first; use < last; ++use) {
      const float* scores = scores_.data() + use * n_slots_;
      float* weights = weights_.data() + use * n_slots_;
      const float largest = *std::max_element(scores, scores + n_slots_);
      float sum = 0;
      for (int64_t slot = 0; slot < n_slots_; ++slot) sum += weights[slot] = std::exp(scores[slot] - largest);
      for (int64_t slot = 0; slot < n_slots_; ++slot) weights[slot] /= sum;
    }
  });
}

void Unfused::Forward(float* output) {
  const int64_t n_ids = batch_.shape.n_ids, n_lists = n_ids * n_slots_;
  const auto items_size = static_cast<size_t>(n_ids * dim_);
  residual_.resize(items_size);
  Gather(scenario_.table().residual, dtype_, batch_.ids.data(), n_ids, dim_, residual_.data());
  const Floats* items = &residual_;
  if (n_slots_ > 0) {
    GatherLists();
    gathered_.resize(static_cast<size_t>(n_lists * dim_));
    Gather(scenario_.table().central, dtype_, lists_.data(), n_lists, dim_, gathered_.data());
    if (scenario_.spec().form == RESEMBED_CENTRAL_ATTENTION) Attend();
    weighed_.resize(gathered_.size());
    Weigh(gathered_.data(), weights_.data(), n_lists, dim_, weighed_.data());
    central_.resize(items_size);
    SumGroups(weighed_.data(), n_ids, n_slots_, dim_, central_.data());
    items_.resize(items_size);
    ParallelRanges(n_ids * dim_, [&](int, int64_t first, int64_t last) {
      for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i)
        items_[i] = central_[i] + residual_[i];
    });
    items = &items_;
  }
  SumGroups(items->data(), batch_.shape.n_bags, batch_.feature.bag_length, dim_, output);
}

void Unfused::BackwardStep(const float* grad, const resembed_optimizer& residual,
                           const resembed_optimizer& central) {
  const int64_t n_ids = batch_.shape.n_ids, n_lists = n_ids * n_slots_;
  uses_.resize(static_cast<size_t>(n_ids * dim_));
  ParallelRanges(n_ids, [&](int, int64_t first, int64_t last) {
    for (int64_t use = first; use < last; ++use) {
      std::memcpy(uses_.data() + use * dim_, grad + use / batch_.feature.bag_length * dim_,
                  static_cast<size_t>(dim_) * sizeof(float));
    }
  });
  ScatterStep(batch_.ids, uses_, residual, scenario_.table().residual);
  if (n_slots_ == 0) return;
  GatherLists();
  weighed_.resize(static_cast<size_t>(n_lists * dim_));
  ParallelRanges(n_lists, [&](int, int64_t first, int64_t last) {
    for (int64_t at = first; at < last; ++at) {
      const float weight = weights_[static_cast<size_t>(at)];
      const float* use = uses_.data() + at / n_slots_ * dim_;
      for (int64_t col = 0; col < dim_; ++col)
        weighed_[static_cast<size_t>(at * dim_ + col)] = weight * use[col];
    }
  });
  ScatterStep(lists_, weighed_, central, scenario_.table().central);
}

void Unfused::ScatterStep(const std::vector<int32_t>& keys, const Floats& grads,
                          const resembed_optimizer& optimizer, void* table) {
  const Grouped grouped = GroupByKey(keys);
  Floats sums(grouped.keys.size() * static_cast<size_t>(dim_));
  ParallelRanges(static_cast<int64_t>(grouped.keys.size()), [&](int, int64_t first, int64_t last) {
    for (int64_t unique = first; unique < last; ++unique) {
      float* sum = sums.data() + unique * dim_;
      const auto begin = static_cast<size_t>(grouped.starts[static_cast<size_t>(unique)]),
                 end = static_cast<size_t>(grouped.starts[static_cast<size_t>(unique) + 1]);
      for (size_t at = begin; at < end; ++at) {
        const float* row = grads.data() + grouped.uses[at] * dim_;
        for (int64_t col = 0; col < dim_; ++col) sum[col] += row[col];
      }
    }
  });
  const auto update = [&](auto kind) {
    UpdateRows<decltype(kind)::value>(grouped.keys, sums, dim_, optimizer, dtype_, table);
  };
  switch (optimizer.kind) {
    case RESEMBED_ADAGRAD:
      return update(std::integral_constant<resembed_optimizer_kind, RESEMBED_ADAGRAD>());
    case RESEMBED_ROWWISE_ADAGRAD:
      return update(std::integral_constant<resembed_optimizer_kind, RESEMBED_ROWWISE_ADAGRAD>());
    case RESEMBED_ADAM:
      return update(std::integral_constant<resembed_optimizer_kind, RESEMBED_ADAM>());
    case RESEMBED_PARTIAL_ROWWISE_ADAM:
      return update(std::integral_constant<resembed_optimizer_kind, RESEMBED_PARTIAL_ROWWISE_ADAM>());
    default:
      return update(std::integral_constant<resembed_optimizer_kind, RESEMBED_SGD>());
  }
}

}  // namespace resembed::bench
