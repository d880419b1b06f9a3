// SPDX-License-Identifier: Apache-2.0
#include "host/train/dot.h"

#include <algorithm>
#include <cmath>

namespace resembed::train {

namespace {
constexpr int64_t kF = kRepeatFeatures;
constexpr int64_t kColumns = 64;  // negatives a task of the second pass owns
}  // namespace

struct DotNet::Scratch {
  AlignedVector<float> d_query, grad, row;
};

DotNet::DotNet(int64_t dim, bool transform, float scale) : dim_(dim), transform_(transform), scale_(scale) {
  w_repeat_ = dense.Add("repeat_weight", kF, 1);
  w_query_ = dense.Add("query_weight", dim, transform ? dim : 1);
  float* w = dense.value.data() + w_query_;
  for (int64_t i = 0; i < dim; ++i) w[transform ? i * dim + i : i] = scale;
}

void DotNet::Query(const float* history, int64_t n, float* query) const {
  const float* w = dense.value.data() + w_query_;
  if (transform_) {
    Dense().gemm_nn(n, dim_, dim_, history, dim_, w, dim_, query, dim_, false);
    return;
  }
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t col = 0; col < dim_; ++col) query[row * dim_ + col] = w[col] * history[row * dim_ + col];
  }
}

double DotNet::LossAndGradients(const Batch& batch, Pool* pool) {
  const int64_t n_blocks = (batch.n + kBlock - 1) / kBlock, m = batch.n_negatives;
  while (static_cast<int64_t>(scratch_.size()) < n_blocks) scratch_.push_back(std::make_shared<Scratch>());
  query_.resize(std::max(query_.size(), static_cast<size_t>(batch.n * dim_)));
  probability_.resize(std::max(probability_.size(), static_cast<size_t>(batch.n * m)));
  std::vector<double> loss(static_cast<size_t>(n_blocks));
  pool->ParallelFor(n_blocks, [&](int64_t block) {
    loss[static_cast<size_t>(block)] = Block(batch, block, scratch_[static_cast<size_t>(block)].get());
  });
  // dE_neg = P^T Q and its bias part, a stripe of negatives per task.
  pool->ParallelFor((m + kColumns - 1) / kColumns, [&](int64_t stripe) {
    const int64_t begin = stripe * kColumns, n_columns = std::min(kColumns, m - begin);
    Dense().gemm_tn(n_columns, dim_, batch.n, probability_.data() + begin, m, query_.data(), dim_,
                    batch.d_negative + begin * dim_, dim_, false);
    std::fill_n(batch.d_negative_shift + begin, n_columns, 0.0f);
    for (int64_t row = 0; row < batch.n; ++row) {
      for (int64_t c = begin; c < begin + n_columns; ++c) {
        batch.d_negative_shift[c] += probability_[static_cast<size_t>(row * m + c)];
      }
    }
  });
  std::fill(dense.grad.begin(), dense.grad.end(), 0.0f);
  double sum = 0;
  for (int64_t block = 0; block < n_blocks; ++block) {
    const AlignedVector<float>& grad = scratch_[static_cast<size_t>(block)]->grad;
    for (size_t i = 0; i < grad.size(); ++i) dense.grad[i] += grad[i];
    sum += loss[static_cast<size_t>(block)];
  }
  return sum / static_cast<double>(batch.n);
}

double DotNet::Block(const Batch& batch, int64_t block, Scratch* s) {
  const DenseOps& ops = Dense();
  const int64_t begin = block * kBlock, n = std::min(kBlock, batch.n - begin), m = batch.n_negatives;
  const float inv = 1.0f / static_cast<float>(batch.n);
  s->d_query.resize(static_cast<size_t>(kBlock * dim_));
  s->row.resize(static_cast<size_t>(m + 1));
  s->grad.assign(dense.value.size(), 0.0f);
  const float* w = dense.value.data();
  float *g = s->grad.data(), *d_query = s->d_query.data(), *row_logits = s->row.data();
  const float* history = batch.history + begin * dim_;
  const float* target = batch.target + begin * dim_;
  float* query = query_.data() + begin * dim_;
  float* probability = probability_.data() + begin * m;
  Query(history, n, query);
  ops.gemm_nt(n, m, dim_, query, dim_, batch.negative, dim_, probability, m, false);

  const std::vector<Seen>& seen = batch.seen[block];
  double loss = 0;
  size_t at = 0;
  for (int64_t row = 0; row < n; ++row) {
    const int64_t sample = begin + row;
    float* logits = row_logits + 1;
    float dot = 0;
    for (int64_t col = 0; col < dim_; ++col) dot += query[row * dim_ + col] * target[row * dim_ + col];
    const float* target_repeat = batch.target_repeat + sample * kF;
    for (int64_t f = 0; f < kF; ++f) dot += w[w_repeat_ + f] * target_repeat[f];
    row_logits[0] = dot + batch.target_shift[sample];
    for (int64_t c = 0; c < m; ++c) logits[c] = probability[row * m + c] + batch.negative_shift[c];
    const size_t first_seen = at;
    for (; at < seen.size() && seen[at].row == sample; ++at) {
      for (int64_t f = 0; f < kF; ++f) logits[seen[at].column] += w[w_repeat_ + f] * seen[at].features[f];
    }
    const int32_t wanted = batch.target_ids[sample];
    for (int64_t c = 0; c < m; ++c) {
      if (batch.negative_ids[c] == wanted) logits[c] = -1e30f;
    }
    const float target_logit = row_logits[0];
    loss += static_cast<double>(ops.softmax(row_logits, m + 1)) - static_cast<double>(target_logit);

    const float d_target = inv * (row_logits[0] - 1.0f);
    for (int64_t c = 0; c < m; ++c) probability[row * m + c] = inv * logits[c];
    for (size_t entry = first_seen; entry < at; ++entry) {
      const float d = probability[row * m + seen[entry].column];
      for (int64_t f = 0; f < kF; ++f) g[w_repeat_ + f] += d * seen[entry].features[f];
    }
    for (int64_t f = 0; f < kF; ++f) g[w_repeat_ + f] += d_target * target_repeat[f];
    batch.d_target_shift[sample] = d_target;
    for (int64_t col = 0; col < dim_; ++col) {
      batch.d_target[sample * dim_ + col] = d_target * query[row * dim_ + col];
      d_query[row * dim_ + col] = d_target * target[row * dim_ + col];
    }
  }
  ops.gemm_nn(n, dim_, m, probability, m, batch.negative, dim_, d_query, dim_, true);
  float* d_history = batch.d_history + begin * dim_;
  if (transform_) {
    ops.gemm_nt(n, dim_, dim_, d_query, dim_, w + w_query_, dim_, d_history, dim_, false);
    ops.gemm_tn(dim_, dim_, n, history, dim_, d_query, dim_, g + w_query_, dim_, false);
  } else {
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t col = 0; col < dim_; ++col) {
        const int64_t i = row * dim_ + col;
        d_history[i] = w[w_query_ + col] * d_query[i];
        g[w_query_ + col] += history[i] * d_query[i];
      }
    }
  }
  return loss;
}

namespace {

class DotScorer : public Scorer {
 public:
  DotScorer(const LogView& view, const Hyper& hyper, const Embedding& embedding, const DotNet& net,
            const AlignedVector<float>& bias, Pool* pool)
      : view_(view),
        hyper_(hyper),
        net_(net),
        bias_(bias),
        pool_(pool),
        n_items_(embedding.n_items()),
        dim_(embedding.dim()),
        items_(static_cast<size_t>(n_items_ * dim_)) {
    embedding.Materialize(items_.data());
  }

  void Score(const std::vector<Target>& targets, const std::vector<int32_t>& items, int64_t n_candidates,
             float* scores) override {
    ForTargets(targets, [&](int64_t t, const float* query, const RepeatIndex& repeat) {
      for (int64_t c = t * n_candidates; c < (t + 1) * n_candidates; ++c) {
        const int32_t item = items[static_cast<size_t>(c)];
        float dot = 0;
        Dense().gemm_nt(1, 1, dim_, query, dim_, items_.data() + item * dim_, dim_, &dot, 1, false);
        scores[c] = dot + bias_[static_cast<size_t>(item)] + RepeatScore(repeat, item);
      }
    });
  }

  void ScoreAll(const std::vector<Target>& targets, float* scores) override {
    ForTargets(targets, [&](int64_t t, const float* query, const RepeatIndex& repeat) {
      float* row = scores + t * n_items_;
      Dense().gemm_nt(1, n_items_, dim_, query, dim_, items_.data(), dim_, row, n_items_, false);
      for (int64_t item = 0; item < n_items_; ++item) row[item] += bias_[static_cast<size_t>(item)];
      for (const int32_t item : repeat.items()) row[item] += RepeatScore(repeat, item);
    });
  }

 private:
  float RepeatScore(const RepeatIndex& repeat, int32_t item) const {
    if (!hyper_.repeat_features || !repeat.Contains(item)) return 0.0f;
    float features[kF], score = 0;
    repeat.Features(item, features);
    for (int64_t f = 0; f < kF; ++f) score += features[f] * net_.repeat_weights()[f];
    return score;
  }

  template <typename Body>
  void ForTargets(const std::vector<Target>& targets, const Body& body) {
    const int64_t n_slots =
        std::min<int64_t>(pool_->width() == 1 ? 1 : 16, static_cast<int64_t>(targets.size()));
    pool_->ParallelFor(n_slots, [&](int64_t slot) {
      RepeatIndex repeat(hyper_.repeat_features ? n_items_ : 0);
      std::vector<int32_t> ids(static_cast<size_t>(hyper_.history_length));
      std::vector<float> weights(ids.size());
      AlignedVector<float> pooled(static_cast<size_t>(dim_)), query(static_cast<size_t>(dim_));
      for (int64_t t = slot; t < static_cast<int64_t>(targets.size()); t += n_slots) {
        const Target& target = targets[static_cast<size_t>(t)];
        const int64_t n =
            FillHistory(view_, hyper_, target.user, target.position, ids.data(), weights.data());
        PoolRows(items_.data(), dim_, ids.data(), weights.data(), n, pooled.data());
        net_.Query(pooled.data(), 1, query.data());
        if (hyper_.repeat_features) repeat.Load(view_, target.user, target.position);
        body(t, query.data(), repeat);
      }
    });
  }

  const LogView& view_;
  const Hyper& hyper_;
  const DotNet& net_;
  const AlignedVector<float>& bias_;
  Pool* pool_;
  const int64_t n_items_, dim_;
  AlignedVector<float> items_;
};

}  // namespace

std::unique_ptr<Scorer> DotLearner::MakeScorer() {
  return std::make_unique<DotScorer>(view_, hyper_, embedding_, net_, bias_, pool_);
}

}  // namespace resembed::train
