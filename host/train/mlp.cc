// SPDX-License-Identifier: Apache-2.0
#include "host/train/mlp.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "host/train/dense.h"
#include "host/train/model_random.h"

namespace resembed::train {

namespace {

constexpr int64_t kBlock = 64;  // pairs; part of the numerics
constexpr int64_t kH1 = MlpNet::kHidden1, kH2 = MlpNet::kHidden2, kF = kRepeatFeatures;

}  // namespace

// Rows [0, n) are the positives, [n, 2n) the negatives.
struct MlpNet::Scratch {
  explicit Scratch(Device* at)
      : shift(at, HostCopy::kNone),
        a(at, HostCopy::kNone),
        c(at, HostCopy::kNone),
        d_a(at, HostCopy::kNone),
        d_c(at, HostCopy::kNone),
        d_shift(at, HostCopy::kNone),
        repeat(at, HostCopy::kNone),
        grad(at, HostCopy::kNone) {}
  Mirror<float> shift, a, c, d_a, d_c, d_shift, repeat;
  Mirror<float> grad;  // of one of several blocks
};

MlpNet::MlpNet(int64_t dim, uint64_t seed, bool attends, DenseMath* math)
    : dense(math), math_(math), dim_(dim), loss_(math->device(), HostCopy::kPinned) {
  w_history_ = dense.Add("history_weight", dim, kH1);
  w_item_ = dense.Add("item_weight", dim, kH1);
  w_repeat_ = dense.Add("repeat_weight", kF, kH1);
  b1_ = dense.Add("bias1", kH1, 1);
  w2_ = dense.Add("weight2", kH1, kH2);
  b2_ = dense.Add("bias2", kH2, 1);
  w3_ = dense.Add("weight3", kH2, 1);
  b3_ = dense.Add("bias3", 1, 1);
  if (attends) w_attended_ = dense.Add("attended_weight", dim, kH1);
  dense.Allocate();
  // He et al. 2015: variance 2 / inputs. The embeddings' rows have norm 1, not variance 1.
  const float first = std::sqrt(2.0f / static_cast<float>(2 * dim));
  dense.FillNormal("history_weight", first, seed);
  dense.FillNormal("item_weight", first, seed);
  dense.FillNormal("repeat_weight", 0.1f, seed);
  dense.FillNormal("weight2", std::sqrt(2.0f / static_cast<float>(kH1)), seed);
  dense.FillNormal("weight3", std::sqrt(1.0f / static_cast<float>(kH2)), seed);
  if (attends) dense.FillNormal("attended_weight", first, seed);
  dense.UploadValue();
}

double MlpNet::LossAndGradients(const Batch& batch, Pool* pool) {
  Device* const device = math_->device();
  const int64_t pairs = device != nullptr ? batch.n : kBlock;
  const int64_t n_blocks = (batch.n + pairs - 1) / pairs;
  while (static_cast<int64_t>(scratch_.size()) < n_blocks) {
    scratch_.push_back(std::make_shared<Scratch>(device));
  }
  loss_.Reserve(static_cast<size_t>(n_blocks));
  pool->ParallelFor(n_blocks, [&](int64_t block) {
    Scratch* const scratch = scratch_[static_cast<size_t>(block)].get();
    if (n_blocks > 1 && scratch->grad.empty()) scratch->grad.Assign(dense.grad.size());
    Block(batch, block * pairs, std::min(batch.n, (block + 1) * pairs),
          n_blocks > 1 ? scratch->grad.device() : dense.grad.device(), loss_.device() + block, scratch);
  });
  constexpr int64_t kChunk = 4096;
  const int64_t size = static_cast<int64_t>(dense.grad.size());
  float* const sum_of = dense.grad.host();
  pool->ParallelFor(n_blocks > 1 ? (size + kChunk - 1) / kChunk : 0, [&](int64_t chunk) {
    const int64_t begin = chunk * kChunk, end = std::min(size, (chunk + 1) * kChunk);
    const float* grad = scratch_[0]->grad.host();
    for (int64_t i = begin; i < end; ++i) sum_of[i] = grad[i];
    for (int64_t block = 1; block < n_blocks; ++block) {
      grad = scratch_[static_cast<size_t>(block)]->grad.host();
      for (int64_t i = begin; i < end; ++i) sum_of[i] += grad[i];
    }
  });
  loss_.Download(static_cast<size_t>(n_blocks));
  if (device != nullptr) device->Wait();
  double sum = 0;
  for (int64_t block = 0; block < n_blocks; ++block) sum += loss_.host()[block];
  return sum / static_cast<double>(2 * batch.n);
}

void MlpNet::Block(const Batch& batch, int64_t begin, int64_t end, float* g, double* loss, Scratch* s) {
  DenseMath& math = *math_;
  const int64_t n = end - begin, n2 = 2 * n;
  for (Mirror<float>* array : {&s->shift, &s->d_shift}) array->Reserve(static_cast<size_t>(n * kH1));
  for (Mirror<float>* array : {&s->a, &s->d_a}) array->Reserve(static_cast<size_t>(n2 * kH1));
  for (Mirror<float>* array : {&s->c, &s->d_c}) array->Reserve(static_cast<size_t>(n2 * kH2));
  s->repeat.Reserve(static_cast<size_t>(n2 * kF));
  const float* w = dense.value.device();
  float *a = s->a.device(), *c = s->c.device(), *d_a = s->d_a.device(), *d_c = s->d_c.device(),
        *shift = s->shift.device(), *d_shift = s->d_shift.device(), *repeat = s->repeat.device();
  const float* history = batch.history + begin * dim_;
  const float* positive = batch.positive + begin * dim_;
  const float* negative = batch.negative + begin * dim_;
  math.Copy(n * kF, batch.positive_repeat + begin * kF, repeat);
  math.Copy(n * kF, batch.negative_repeat + begin * kF, repeat + n * kF);

  math.GemmNn(n, kH1, dim_, history, dim_, w + w_history_, kH1, shift, kH1, false);
  math.AddRow(n, kH1, w + b1_, shift);
  math.GemmNn(n, kH1, dim_, positive, dim_, w + w_item_, kH1, a, kH1, false);
  math.GemmNn(n, kH1, dim_, negative, dim_, w + w_item_, kH1, a + n * kH1, kH1, false);
  math.GemmNn(n2, kH1, kF, repeat, kF, w + w_repeat_, kH1, a, kH1, true);
  const float* attended[2] = {batch.positive_attended, batch.negative_attended};
  float* d_attended[2] = {batch.d_positive_attended, batch.d_negative_attended};
  for (int side = 0; side < 2 && w_attended_ >= 0; ++side) {
    math.GemmNn(n, kH1, dim_, attended[side] + begin * dim_, dim_, w + w_attended_, kH1, a + side * n * kH1,
                kH1, true);
  }
  math.AddRelu(n2, kH1, shift, n, a);
  math.GemmNn(n2, kH2, kH1, a, kH1, w + w2_, kH2, c, kH2, false);
  math.AddRelu(n2, kH2, w + b2_, 1, c);

  const float inv = 1.0f / static_cast<float>(2 * batch.n);
  math.Logistic({n, n2, kH2, inv, c, w + w3_, w + b3_, d_c, g + w3_, g + b3_, g + b2_, loss});

  math.GemmTn(kH1, kH2, n2, a, kH1, d_c, kH2, g + w2_, kH2, false);
  math.GemmNt(n2, kH1, kH2, d_c, kH2, w + w2_, kH2, d_a, kH1, false);
  math.ReluBackward(n2 * kH1, a, d_a);
  math.Add(n * kH1, d_a, d_a + n * kH1, d_shift);
  math.ColumnSums(n, kH1, d_shift, kH1, g + b1_);
  math.GemmTn(kF, kH1, n2, repeat, kF, d_a, kH1, g + w_repeat_, kH1, false);
  math.GemmTn(dim_, kH1, n, history, dim_, d_shift, kH1, g + w_history_, kH1, false);
  math.GemmTn(dim_, kH1, n, positive, dim_, d_a, kH1, g + w_item_, kH1, false);
  math.GemmTn(dim_, kH1, n, negative, dim_, d_a + n * kH1, kH1, g + w_item_, kH1, true);
  math.GemmNt(n, dim_, kH1, d_shift, kH1, w + w_history_, kH1, batch.d_history + begin * dim_, dim_, false);
  math.GemmNt(n, dim_, kH1, d_a, kH1, w + w_item_, kH1, batch.d_positive + begin * dim_, dim_, false);
  math.GemmNt(n, dim_, kH1, d_a + n * kH1, kH1, w + w_item_, kH1, batch.d_negative + begin * dim_, dim_,
              false);
  for (int side = 0; side < 2 && w_attended_ >= 0; ++side) {
    const float* d = d_a + side * n * kH1;
    math.GemmTn(dim_, kH1, n, attended[side] + begin * dim_, dim_, d, kH1, g + w_attended_, kH1, side > 0);
    math.GemmNt(n, dim_, kH1, d, kH1, w + w_attended_, kH1, d_attended[side] + begin * dim_, dim_, false);
  }
}

void MlpNet::HistoryPart(const float* history, float* shift) const {
  Dense().gemm_nn(1, kH1, dim_, history, dim_, dense.value.host() + w_history_, kH1, shift, kH1, false);
}

void MlpNet::ItemParts(const float* items, int64_t n, float* parts) const {
  Dense().gemm_nn(n, kH1, dim_, items, dim_, dense.value.host() + w_item_, kH1, parts, kH1, false);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t col = 0; col < kH1; ++col) parts[row * kH1 + col] += dense.value.host()[b1_ + col];
  }
}

void MlpNet::AttendedParts(const float* items, int64_t n, float* parts) const {
  Dense().gemm_nn(n, kH1, dim_, items, dim_, dense.value.host() + w_attended_, kH1, parts, kH1, false);
}

void MlpNet::AddRepeatPart(const float* repeat, float* part) const {
  const float* w = dense.value.host() + w_repeat_;
  for (int64_t f = 0; f < kF; ++f) {
    if (repeat[f] == 0) continue;
    for (int64_t col = 0; col < kH1; ++col) part[col] += repeat[f] * w[f * kH1 + col];
  }
}

void MlpNet::Scores(const float* const* parts, const float* shift, int64_t n, float* scratch,
                    float* scores) const {
  const DenseOps& ops = Dense();
  const float* w = dense.value.host();
  float *a = scratch, *c = scratch + n * kH1;
  for (int64_t row = 0; row < n; ++row) ops.add_relu(parts[row], shift, a + row * kH1, kH1);
  ops.gemm_nn(n, kH2, kH1, a, kH1, w + w2_, kH2, c, kH2, false);
  for (int64_t row = 0; row < n; ++row) ops.add_relu(c + row * kH2, w + b2_, c + row * kH2, kH2);
  ops.gemm_nn(n, 1, kH2, c, kH2, w + w3_, 1, scores, 1, false);
  for (int64_t row = 0; row < n; ++row) scores[row] += w[b3_];
}

namespace {

class MlpScorer : public Scorer {
 public:
  MlpScorer(const LogView& view, const Hyper& hyper, const Embedding& embedding, const MlpNet& net,
            Pool* pool)
      : view_(view),
        hyper_(hyper),
        net_(net),
        pool_(pool),
        n_items_(embedding.n_items()),
        dim_(embedding.dim()),
        items_(static_cast<size_t>(n_items_ * dim_)),
        parts_(static_cast<size_t>(n_items_ * kH1)) {
    embedding.Materialize(items_.data());
    constexpr int64_t kRows = 256;
    pool->ParallelFor((n_items_ + kRows - 1) / kRows, [&](int64_t block) {
      const int64_t begin = block * kRows;
      net.ItemParts(items_.data() + begin * dim_, std::min(kRows, n_items_ - begin),
                    parts_.data() + begin * kH1);
    });
  }

  void Score(const std::vector<Target>& targets, const std::vector<int32_t>& items, int64_t n_candidates,
             float* scores) override {
    Run(
        targets, n_candidates,
        [&](int64_t target, int64_t c) { return items[static_cast<size_t>(target * n_candidates + c)]; },
        scores);
  }
  void ScoreAll(const std::vector<Target>& targets, float* scores) override {
    Run(
        targets, n_items_, [](int64_t, int64_t c) { return static_cast<int32_t>(c); }, scores);
  }
  bool HasLikelihood() const override { return true; }

 private:
  // Threads take every kSlots-th target; each score depends on its own target and candidate only.
  template <typename ItemOf>
  void Run(const std::vector<Target>& targets, int64_t n_candidates, const ItemOf& item_of, float* scores) {
    constexpr int64_t kChunk = 256, kSlots = 16;
    const int64_t n_slots =
        std::min<int64_t>(pool_->width() == 1 ? 1 : kSlots, static_cast<int64_t>(targets.size()));
    pool_->ParallelFor(n_slots, [&](int64_t slot) {
      RepeatIndex repeat(hyper_.repeat_features ? n_items_ : 0);
      std::vector<int32_t> ids(static_cast<size_t>(hyper_.history_length));
      std::vector<float> weights(ids.size());
      AlignedVector<float> pooled(static_cast<size_t>(dim_)), shift(kH1), scratch(kChunk * (kH1 + kH2)), seen;
      std::vector<const float*> parts(kChunk);
      std::vector<int32_t> chunk;
      float features[kRepeatFeatures];
      Attention attention;
      for (int64_t t = slot; t < static_cast<int64_t>(targets.size()); t += n_slots) {
        const Target& target = targets[static_cast<size_t>(t)];
        const int64_t n =
            FillHistory(view_, hyper_, target.user, target.position, ids.data(), weights.data());
        PoolRows(items_.data(), dim_, ids.data(), weights.data(), n, pooled.data());
        net_.HistoryPart(pooled.data(), shift.data());
        if (hyper_.repeat_features) repeat.Load(view_, target.user, target.position);
        const bool attends = hyper_.head == Head::kDin && n > 0;
        if (attends) Load(ids.data(), n, &attention);
        for (int64_t begin = 0; begin < n_candidates; begin += kChunk) {
          const int64_t n_chunk = std::min(kChunk, n_candidates - begin);
          seen.resize(static_cast<size_t>(kChunk * kH1));
          if (attends) {
            chunk.resize(static_cast<size_t>(n_chunk));
            for (int64_t c = 0; c < n_chunk; ++c) chunk[static_cast<size_t>(c)] = item_of(t, begin + c);
            Attend(chunk, n, &attention, seen.data());
          }
          for (int64_t c = 0; c < n_chunk; ++c) {
            const int32_t item = item_of(t, begin + c);
            const float* part = parts_.data() + item * kH1;
            const bool repeats = hyper_.repeat_features && repeat.Contains(item);
            if (repeats && !attends) std::copy_n(part, kH1, seen.data() + c * kH1);
            if (repeats) {
              repeat.Features(item, features);
              net_.AddRepeatPart(features, seen.data() + c * kH1);
            }
            if (repeats || attends) part = seen.data() + c * kH1;
            parts[static_cast<size_t>(c)] = part;
          }
          net_.Scores(parts.data(), shift.data(), n_chunk, scratch.data(), scores + t * n_candidates + begin);
        }
      }
    });
  }

  // A history's items and their attended parts; scores and item embeddings of a chunk of candidates.
  struct Attention {
    AlignedVector<float> items, parts, scores, candidates;
  };
  void Load(const int32_t* ids, int64_t n, Attention* attention) const {
    attention->items.resize(static_cast<size_t>(n * dim_));
    attention->parts.resize(static_cast<size_t>(n * kH1));
    for (int64_t j = 0; j < n; ++j)
      std::copy_n(items_.data() + ids[j] * dim_, dim_, attention->items.data() + j * dim_);
    net_.AttendedParts(attention->items.data(), n, attention->parts.data());
  }
  // parts[c] = the candidate's own part and that of what it attends to.
  void Attend(const std::vector<int32_t>& candidates, int64_t n, Attention* attention, float* parts) const {
    const DenseOps& ops = Dense();
    const auto n_candidates = static_cast<int64_t>(candidates.size());
    attention->candidates.resize(static_cast<size_t>(n_candidates * dim_));
    attention->scores.resize(static_cast<size_t>(n_candidates * n));
    float *rows = attention->candidates.data(), *scores = attention->scores.data();
    for (int64_t c = 0; c < n_candidates; ++c) {
      const int64_t item = candidates[static_cast<size_t>(c)];
      std::copy_n(items_.data() + item * dim_, dim_, rows + c * dim_);
      std::copy_n(parts_.data() + item * kH1, kH1, parts + c * kH1);
    }
    ops.gemm_nt(n_candidates, n, dim_, rows, dim_, attention->items.data(), dim_, scores, n, false);
    const float scale = static_cast<float>(hyper_.attention_scale);
    for (int64_t i = 0; i < n_candidates * n; ++i) scores[i] *= scale;
    for (int64_t c = 0; c < n_candidates; ++c) ops.softmax(scores + c * n, n);
    ops.gemm_nn(n_candidates, kH1, n, scores, n, attention->parts.data(), kH1, parts, kH1, true);
  }

  const LogView& view_;
  const Hyper& hyper_;
  const MlpNet& net_;
  Pool* pool_;
  const int64_t n_items_, dim_;
  AlignedVector<float> items_, parts_;
};

}  // namespace

MlpLearner::MlpLearner(const Variant& variant, const InterestGraph& graph, const LogView& view,
                       const Hyper& hyper, uint64_t seed, Pool* pool, Device* device)
    : view_(view),
      hyper_(hyper),
      seed_(seed),
      pool_(pool),
      math_(MathOf(device)),
      embedding_(variant, graph, view.log->n_items(), hyper, seed, pool, device),
      net_(embedding_.dim(), seed, hyper.head == Head::kDin, &math_),
      repeat_(math_.device(), HostCopy::kPinned) {}

double MlpLearner::Step(const Sample* samples, int64_t n, int64_t epoch, int64_t step, float lr_factor) {
  const std::vector<int32_t>& candidates = view_.training->candidates;
  const Log& log = *view_.log;
  FillHistories(view_, hyper_, samples, n, &history_);
  positive_.ids.resize(static_cast<size_t>(n));
  negative_.ids.resize(static_cast<size_t>(n));
  repeat_.Reserve(static_cast<size_t>(2 * n * kF));
  std::fill_n(repeat_.host(), 2 * n * kF, 0.0f);
  for (int64_t s = 0; s < n; ++s) {
    const Sample& sample = samples[s];
    const int32_t target = log.items[static_cast<size_t>(sample.position)];
    // Uniform over the candidates but the target; a log of one item has nothing else to offer.
    int32_t other = target;
    for (uint64_t attempt = 0; other == target && attempt < 64; ++attempt) {
      const uint64_t bits = Draw(seed_, Stream::kNegatives, static_cast<uint64_t>(epoch),
                                 static_cast<uint64_t>(sample.position), attempt);
      other = candidates[static_cast<size_t>(BelowOf(bits, static_cast<int64_t>(candidates.size())))];
    }
    positive_.ids[static_cast<size_t>(s)] = target;
    negative_.ids[static_cast<size_t>(s)] = other;
    if (!hyper_.repeat_features) continue;
    const int64_t begin = view_.UserBegin(sample.user), history = sample.position - begin;
    int64_t count[2] = {0, 0}, distance[2] = {0, 0};
    const int32_t wanted[2] = {target, other};
    for (int64_t at = sample.position - 1; at >= begin; --at) {
      for (int side = 0; side < 2; ++side) {
        if (log.items[static_cast<size_t>(at)] != wanted[side]) continue;
        if (count[side]++ == 0) distance[side] = sample.position - at;
      }
    }
    RepeatFeatures(count[0], distance[0], history, repeat_.host() + s * kF);
    RepeatFeatures(count[1], distance[1], history, repeat_.host() + (n + s) * kF);
  }
  std::vector<Lookup*> lookups = {&history_, &positive_, &negative_};
  if (attends()) {
    const std::pair<Lookup*, Lookup*> pairs[2] = {{&positive_attended_, &positive_},
                                                  {&negative_attended_, &negative_}};
    for (const auto& [attended, target] : pairs) {
      attended->ids = history_.ids;
      attended->offsets = history_.offsets;
      attended->query = target;
      lookups.push_back(attended);
    }
  }
  repeat_.Upload(static_cast<size_t>(2 * n * kF));
  embedding_.Forward(lookups, samples);
  for (size_t f = 0; f < lookups.size(); ++f)
    ApplyDropout(hyper_, seed_, step, f, &math_, lookups[f]->output);
  MlpNet::Batch batch = {n,
                         history_.output.data(),
                         positive_.output.data(),
                         negative_.output.data(),
                         repeat_.device(),
                         repeat_.device() + n * kF,
                         history_.grad.data(),
                         positive_.grad.data(),
                         negative_.grad.data()};
  if (attends()) {
    batch.positive_attended = positive_attended_.output.data();
    batch.negative_attended = negative_attended_.output.data();
    batch.d_positive_attended = positive_attended_.grad.data();
    batch.d_negative_attended = negative_attended_.grad.data();
  }
  const double loss = net_.LossAndGradients(batch, pool_);
  for (size_t f = 0; f < lookups.size(); ++f) ApplyDropout(hyper_, seed_, step, f, &math_, lookups[f]->grad);
  embedding_.BackwardStep(lookups, step + 1, static_cast<float>(hyper_.lr) * lr_factor);
  net_.dense.AdamStep(step + 1, static_cast<float>(hyper_.dense_lr) * lr_factor);
  return loss;
}

std::unique_ptr<Scorer> MlpLearner::MakeScorer() {
  net_.dense.DownloadValue();
  return std::make_unique<MlpScorer>(view_, hyper_, embedding_, net_, pool_);
}

std::vector<StateTensor> MlpLearner::Weights() {
  std::vector<StateTensor> tensors = embedding_.Weights();
  AppendDenseState("mlp.", &net_.dense, &tensors, nullptr);
  return tensors;
}

std::vector<StateTensor> MlpLearner::OptimizerState() {
  std::vector<StateTensor> tensors = embedding_.OptimizerState();
  AppendDenseState("mlp.", &net_.dense, nullptr, &tensors);
  return tensors;
}

}  // namespace resembed::train
