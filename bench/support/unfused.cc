// SPDX-License-Identifier: Apache-2.0
#include "bench/support/unfused.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "bench/support/parallel.h"

namespace resembed::bench {
namespace {

// out[i, :] = table[rows[i], :]
void Gather(const float* table, const int32_t* rows, int64_t n, int64_t dim, float* out) {
  ParallelRanges(n, [=](int, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      std::memcpy(out + i * dim, table + int64_t{rows[i]} * dim, static_cast<size_t>(dim) * sizeof(float));
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

}  // namespace

Unfused::Unfused(const Scenario& scenario, const Batch& batch)
    : scenario_(scenario), batch_(batch), dim_(scenario.spec().dim), n_slots_(scenario.n_slots()) {}

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

void Unfused::Forward(float* output) {
  const int64_t n_ids = batch_.shape.n_ids, n_lists = n_ids * n_slots_;
  const auto items_size = static_cast<size_t>(n_ids * dim_);
  residual_.resize(items_size);
  Gather(static_cast<const float*>(scenario_.table().residual), batch_.ids.data(), n_ids, dim_,
         residual_.data());
  const Floats* items = &residual_;
  if (n_slots_ > 0) {
    GatherLists();
    gathered_.resize(static_cast<size_t>(n_lists * dim_));
    Gather(static_cast<const float*>(scenario_.table().central), lists_.data(), n_lists, dim_,
           gathered_.data());
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

void Unfused::BackwardRowwiseAdagrad(const float* grad, float lr, float eps, float* residual_state,
                                     float* central_state) {
  const int64_t n_ids = batch_.shape.n_ids, n_lists = n_ids * n_slots_;
  uses_.resize(static_cast<size_t>(n_ids * dim_));
  ParallelRanges(n_ids, [&](int, int64_t first, int64_t last) {
    for (int64_t use = first; use < last; ++use) {
      std::memcpy(uses_.data() + use * dim_, grad + use / batch_.feature.bag_length * dim_,
                  static_cast<size_t>(dim_) * sizeof(float));
    }
  });
  ScatterStep(batch_.ids, uses_, lr, eps, static_cast<float*>(scenario_.table().residual), residual_state);
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
  ScatterStep(lists_, weighed_, lr, eps, static_cast<float*>(scenario_.table().central), central_state);
}

void Unfused::ScatterStep(const std::vector<int32_t>& keys, const Floats& grads, float lr, float eps,
                          float* table, float* state) {
  std::vector<int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&keys](int64_t a, int64_t b) {
    return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)];
  });
  std::vector<int64_t> starts;
  for (size_t at = 0; at < order.size(); ++at) {
    if (at == 0 || keys[static_cast<size_t>(order[at])] != keys[static_cast<size_t>(order[at - 1])]) {
      starts.push_back(static_cast<int64_t>(at));
    }
  }
  const auto n_rows = static_cast<int64_t>(starts.size());
  starts.push_back(static_cast<int64_t>(order.size()));
  const auto row_of = [&](int64_t unique) {
    return int64_t{
        keys[static_cast<size_t>(order[static_cast<size_t>(starts[static_cast<size_t>(unique)])])]};
  };
  Floats sums(static_cast<size_t>(n_rows * dim_));
  ParallelRanges(n_rows, [&](int, int64_t first, int64_t last) {
    for (int64_t unique = first; unique < last; ++unique) {
      float* sum = sums.data() + unique * dim_;
      for (int64_t at = starts[static_cast<size_t>(unique)]; at < starts[static_cast<size_t>(unique) + 1];
           ++at) {
        const float* row = grads.data() + order[static_cast<size_t>(at)] * dim_;
        for (int64_t col = 0; col < dim_; ++col) sum[col] += row[col];
      }
    }
  });
  ParallelRanges(n_rows, [&](int, int64_t first, int64_t last) {
    for (int64_t unique = first; unique < last; ++unique) {
      float squares = 0;
      for (int64_t col = 0; col < dim_; ++col)
        squares +=
            sums[static_cast<size_t>(unique * dim_ + col)] * sums[static_cast<size_t>(unique * dim_ + col)];
      state[row_of(unique)] += squares / static_cast<float>(dim_);
    }
  });
  ParallelRanges(n_rows, [&](int, int64_t first, int64_t last) {
    for (int64_t unique = first; unique < last; ++unique) {
      const int64_t row = row_of(unique);
      const float scale = lr / (std::sqrt(state[row]) + eps);
      for (int64_t col = 0; col < dim_; ++col) {
        table[row * dim_ + col] -= scale * sums[static_cast<size_t>(unique * dim_ + col)];
      }
    }
  });
}

}  // namespace resembed::bench
