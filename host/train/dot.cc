// SPDX-License-Identifier: Apache-2.0
#include "host/train/dot.h"

#include <algorithm>

#include "host/train/dense.h"

namespace resembed::train {

namespace {
constexpr int64_t kF = kRepeatFeatures;
constexpr int64_t kColumns = 64;  // negatives a task of the second pass owns
}  // namespace

struct DotNet::Scratch {
  explicit Scratch(Device* at) : d_query(at, HostCopy::kNone), grad(at, HostCopy::kNone) {}
  Mirror<float> d_query;
  Mirror<float> grad;  // of one of several blocks
};

DotNet::DotNet(int64_t dim, bool transform, float scale, DenseMath* math)
    : dense(math),
      math_(math),
      dim_(dim),
      transform_(transform),
      query_(math->device(), HostCopy::kNone),
      probability_(math->device(), HostCopy::kNone),
      loss_(math->device(), HostCopy::kPinned) {
  w_repeat_ = dense.Add("repeat_weight", kF, 1);
  w_query_ = dense.Add("query_weight", dim, transform ? dim : 1);
  dense.Allocate();
  float* w = dense.value.host() + w_query_;
  for (int64_t i = 0; i < dim; ++i) w[transform ? i * dim + i : i] = scale;
  dense.UploadValue();
}

void DotNet::Query(DenseMath* math, const float* weights, const float* history, int64_t n,
                   float* query) const {
  if (transform_) {
    math->GemmNn(n, dim_, dim_, history, dim_, weights + w_query_, dim_, query, dim_, false);
  } else {
    math->ScaleColumns(n, dim_, weights + w_query_, history, query);
  }
}

double DotNet::LossAndGradients(const Batch& batch, Pool* pool) {
  Device* const device = math_->device();
  const int64_t m = batch.n_negatives;
  const int64_t samples = device != nullptr ? batch.n : kBlock, columns = device != nullptr ? m : kColumns;
  const int64_t n_blocks = (batch.n + samples - 1) / samples;
  while (static_cast<int64_t>(scratch_.size()) < n_blocks) {
    scratch_.push_back(std::make_shared<Scratch>(device));
    if (device == nullptr) scratch_.back()->grad.Assign(dense.grad.size());
  }
  query_.Reserve(static_cast<size_t>(batch.n * dim_));
  probability_.Reserve(static_cast<size_t>(batch.n * m));
  loss_.Reserve(static_cast<size_t>(n_blocks));
  pool->ParallelFor(n_blocks, [&](int64_t block) {
    Scratch* const scratch = scratch_[static_cast<size_t>(block)].get();
    Block(batch, block * samples, std::min(batch.n, (block + 1) * samples),
          device != nullptr ? dense.grad.device() : scratch->grad.device(), loss_.device() + block, scratch);
  });
  // dE_neg = P^T Q and its bias part, a stripe of negatives per task.
  pool->ParallelFor((m + columns - 1) / columns, [&](int64_t stripe) {
    const int64_t begin = stripe * columns, n_columns = std::min(columns, m - begin);
    const float* probability = probability_.device() + begin;
    math_->GemmTn(n_columns, dim_, batch.n, probability, m, query_.device(), dim_,
                  batch.d_negative + begin * dim_, dim_, false);
    math_->ColumnSums(batch.n, n_columns, probability, m, batch.d_negative_shift + begin);
  });
  if (device == nullptr) {
    std::fill_n(dense.grad.host(), dense.grad.size(), 0.0f);
    for (int64_t block = 0; block < n_blocks; ++block) {
      const float* grad = scratch_[static_cast<size_t>(block)]->grad.host();
      for (size_t i = 0; i < dense.grad.size(); ++i) dense.grad.host()[i] += grad[i];
    }
  }
  loss_.Download(static_cast<size_t>(n_blocks));
  if (device != nullptr) device->Wait();
  double sum = 0;
  for (int64_t block = 0; block < n_blocks; ++block) sum += loss_.host()[block];
  return sum / static_cast<double>(batch.n);
}

void DotNet::Block(const Batch& batch, int64_t begin, int64_t end, float* g, double* loss, Scratch* s) {
  DenseMath& math = *math_;
  const int64_t n = end - begin, m = batch.n_negatives;
  s->d_query.Reserve(static_cast<size_t>(n * dim_));
  const float* w = dense.value.device();
  const float* history = batch.history + begin * dim_;
  float *query = query_.device() + begin * dim_, *probability = probability_.device() + begin * m;
  float *d_query = s->d_query.device(), *d_history = batch.d_history + begin * dim_;
  Query(&math, w, history, n, query);
  math.GemmNt(n, m, dim_, query, dim_, batch.negative, dim_, probability, m, false);

  SoftmaxLoss softmax = {};
  softmax.n = n;
  softmax.m = m;
  softmax.dim = dim_;
  softmax.inv = 1.0f / static_cast<float>(batch.n);
  softmax.query = query;
  softmax.target = batch.target + begin * dim_;
  softmax.target_shift = batch.target_shift + begin;
  softmax.negative_shift = batch.negative_shift;
  softmax.target_ids = batch.target_ids + begin;
  softmax.negative_ids = batch.negative_ids;
  softmax.repeat_weight = w + w_repeat_;
  softmax.target_repeat = batch.target_repeat + begin * kF;
  softmax.seen = batch.seen;
  softmax.seen_begin = batch.seen_begin + begin;
  softmax.probability = probability;
  softmax.d_target_shift = batch.d_target_shift + begin;
  softmax.d_target = batch.d_target + begin * dim_;
  softmax.d_query = d_query;
  softmax.g_repeat = g + w_repeat_;
  softmax.loss = loss;
  math.Softmax(softmax);

  math.GemmNn(n, dim_, m, probability, m, batch.negative, dim_, d_query, dim_, true);
  if (transform_) {
    math.GemmNt(n, dim_, dim_, d_query, dim_, w + w_query_, dim_, d_history, dim_, false);
    math.GemmTn(dim_, dim_, n, history, dim_, d_query, dim_, g + w_query_, dim_, false);
  } else {
    math.ScaleColumns(n, dim_, w + w_query_, d_query, d_history);
    math.ColumnDots(n, dim_, history, d_query, g + w_query_);
  }
}

namespace {

class DotScorer : public Scorer {
 public:
  DotScorer(const LogView& view, const Hyper& hyper, const Embedding& embedding, const DotNet& net,
            const float* bias, Pool* pool)
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
        scores[c] = dot + bias_[item] + RepeatScore(repeat, item);
      }
    });
  }

  void ScoreAll(const std::vector<Target>& targets, float* scores) override {
    ForTargets(targets, [&](int64_t t, const float* query, const RepeatIndex& repeat) {
      float* row = scores + t * n_items_;
      Dense().gemm_nt(1, n_items_, dim_, query, dim_, items_.data(), dim_, row, n_items_, false);
      for (int64_t item = 0; item < n_items_; ++item) row[item] += bias_[item];
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
  const float* bias_;
  Pool* pool_;
  const int64_t n_items_, dim_;
  AlignedVector<float> items_;
};

}  // namespace

std::unique_ptr<Scorer> DotLearner::MakeScorer() {
  bias_.value.Download(bias_.value.size());
  net_.dense.DownloadValue();
  return std::make_unique<DotScorer>(view_, hyper_, embedding_, net_, bias_.value.host(), pool_);
}

}  // namespace resembed::train
