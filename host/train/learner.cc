// SPDX-License-Identifier: Apache-2.0
// What the learners share.
#include <algorithm>

#include "host/train/dot.h"
#include "host/train/mlp.h"
#include "host/train/model_random.h"

namespace resembed::train {

std::unique_ptr<Learner> MakeLearner(const Variant& variant, const InterestGraph& graph, const LogView& view,
                                     const Hyper& hyper, uint64_t seed, Pool* pool, Device* device) {
  if (Ranks(hyper.head)) return std::make_unique<MlpLearner>(variant, graph, view, hyper, seed, pool, device);
  return std::make_unique<DotLearner>(variant, graph, view, hyper, seed, pool, device);
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
