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

void ApplyDropout(const Hyper& hyper, uint64_t seed, int64_t step, uint64_t tag, DenseMath* math,
                  const FloatView& x) {
  if (hyper.dropout <= 0) return;
  const uint64_t key = KeyOf(seed, Stream::kDropout, static_cast<uint64_t>(step), tag);
  math->Drop(Dropout(key, static_cast<float>(hyper.dropout)), static_cast<int64_t>(x.size()), x.data());
}

void AppendDenseState(const std::string& prefix, DenseWeights* dense, std::vector<StateTensor>* weights,
                      std::vector<StateTensor>* state) {
  if (weights != nullptr) {
    dense->DownloadValue();
    for (const DenseWeights::Block& block : dense->blocks) {
      weights->push_back({prefix + block.name, dense->value.host() + block.offset, block.rows, block.cols});
    }
  }
  if (state != nullptr) {
    dense->DownloadState();
    const int64_t n = static_cast<int64_t>(dense->value.size());
    state->push_back({prefix + "adam_m", dense->m.host(), n, 0});
    state->push_back({prefix + "adam_v", dense->v.host(), n, 0});
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
