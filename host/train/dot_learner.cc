// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "host/train/dot.h"
#include "host/train/model_random.h"

namespace resembed::train {

namespace {
constexpr int64_t kF = kRepeatFeatures;
constexpr int64_t kSlots = 8;  // history tables of n_items kept; a slot serves blocks slot, slot + 8, ...
}  // namespace

DotLearner::DotLearner(const Variant& variant, const InterestGraph& graph, const LogView& view,
                       const Hyper& hyper, uint64_t seed, Pool* pool, Device* device)
    : view_(view),
      hyper_(hyper),
      seed_(seed),
      pool_(pool),
      math_(MathOf(device)),
      embedding_(variant, graph, view.log->n_items(), hyper, seed, pool, device),
      net_(embedding_.dim(), hyper.query_transform, static_cast<float>(hyper.dot_scale), &math_),
      bias_(embedding_.n_items(), &math_),
      first_column_(static_cast<size_t>(embedding_.n_items()), -1),
      seen_(math_.device(), HostCopy::kPinned),
      seen_begin_(math_.device(), HostCopy::kPinned),
      target_repeat_(math_.device(), HostCopy::kPinned) {
  negative_.shared = true;
  const TrainingView& training = *view.training;
  double sum = 0, log_sum = 0;
  for (const int32_t item : training.candidates) {
    const double popularity = static_cast<double>(training.popularity[static_cast<size_t>(item)]);
    sum += std::pow(popularity, hyper.negative_alpha);
    log_sum += std::log(popularity);
    cumulative_.push_back(sum);
  }
  const double n_candidates = static_cast<double>(training.candidates.size());
  for (const int32_t item : training.candidates) {
    const double log_popularity =
        std::log(static_cast<double>(training.popularity[static_cast<size_t>(item)]));
    bias_.correction.host()[item] = static_cast<float>(
        hyper.negative_correction * (hyper.negative_alpha * log_popularity - std::log(sum / n_candidates)));
    // Where the softmax's optimum lies for a model that knows popularity only.
    bias_.value.host()[item] =
        static_cast<float>((1.0 - hyper.negative_alpha * (1.0 - hyper.negative_correction)) *
                           (log_popularity - log_sum / n_candidates));
  }
  bias_.value.Upload(bias_.value.size());
  bias_.correction.Upload(bias_.correction.size());
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    if (hyper.repeat_features) repeat_.emplace_back(embedding_.n_items());
  }
}

void DotLearner::FindSeen(const Sample* samples, int64_t n) {
  target_repeat_.Reserve(static_cast<size_t>(n * kF));
  std::fill_n(target_repeat_.host(), n * kF, 0.0f);
  seen_begin_.Reserve(static_cast<size_t>(n + 1));
  int32_t* const begin = seen_begin_.host();
  std::fill_n(begin, n + 1, 0);
  const int64_t n_blocks = (n + DotNet::kBlock - 1) / DotNet::kBlock;
  seen_lists_.resize(std::max(seen_lists_.size(), static_cast<size_t>(n_blocks)));
  for (std::vector<SeenNegative>& list : seen_lists_) list.clear();
  pool_->ParallelFor(hyper_.repeat_features ? std::min(kSlots, n_blocks) : 0, [&](int64_t slot) {
    RepeatIndex& repeat = repeat_[static_cast<size_t>(slot)];
    for (int64_t block = slot; block < n_blocks; block += kSlots) {
      std::vector<SeenNegative>& list = seen_lists_[static_cast<size_t>(block)];
      for (int64_t s = block * DotNet::kBlock; s < std::min(n, (block + 1) * DotNet::kBlock); ++s) {
        repeat.Load(view_, samples[s].user, samples[s].position);
        const int32_t target = target_.ids[static_cast<size_t>(s)];
        if (repeat.Contains(target)) repeat.Features(target, target_repeat_.host() + s * kF);
        for (const int32_t item : repeat.items()) {
          for (int32_t column = first_column_[static_cast<size_t>(item)]; column >= 0;
               column = next_column_[static_cast<size_t>(column)]) {
            list.push_back({column, {}});
            repeat.Features(item, list.back().features);
          }
        }
        begin[s + 1] = static_cast<int32_t>(list.size());
      }
    }
  });
  size_t n_seen = 0;
  for (const std::vector<SeenNegative>& list : seen_lists_) n_seen += list.size();
  seen_.Reserve(std::max<size_t>(n_seen, 1));
  n_seen = 0;
  for (int64_t block = 0; block < n_blocks; ++block) {
    const std::vector<SeenNegative>& list = seen_lists_[static_cast<size_t>(block)];
    std::copy(list.begin(), list.end(), seen_.host() + n_seen);
    for (int64_t s = block * DotNet::kBlock; s < std::min(n, (block + 1) * DotNet::kBlock); ++s) {
      begin[s + 1] += static_cast<int32_t>(n_seen);
    }
    n_seen += list.size();
  }
  target_repeat_.Upload(static_cast<size_t>(n * kF));
  seen_begin_.Upload(static_cast<size_t>(n + 1));
  seen_.Upload(n_seen);
}

double DotLearner::Step(const Sample* samples, int64_t n, int64_t epoch, int64_t step, float lr_factor) {
  const Log& log = *view_.log;
  const std::vector<int32_t>& candidates = view_.training->candidates;
  const int64_t n_negatives = hyper_.negatives;
  FillHistories(view_, hyper_, samples, n, &history_);
  target_.ids.resize(static_cast<size_t>(n));
  for (int64_t s = 0; s < n; ++s) {
    target_.ids[static_cast<size_t>(s)] = log.items[static_cast<size_t>(samples[s].position)];
  }
  negative_.ids.resize(static_cast<size_t>(n_negatives));
  next_column_.assign(static_cast<size_t>(n_negatives), -1);
  for (int64_t m = 0; m < n_negatives; ++m) {
    const double at =
        cumulative_.back() * UnitOf(Draw(seed_, Stream::kNegatives, static_cast<uint64_t>(epoch),
                                         static_cast<uint64_t>(step), static_cast<uint64_t>(m)));
    const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, at);
    const int32_t item = candidates[static_cast<size_t>(found - cumulative_.begin())];
    negative_.ids[static_cast<size_t>(m)] = item;
    next_column_[static_cast<size_t>(m)] = first_column_[static_cast<size_t>(item)];
    first_column_[static_cast<size_t>(item)] = static_cast<int32_t>(m);
  }
  FindSeen(samples, n);
  for (const int32_t item : negative_.ids) first_column_[static_cast<size_t>(item)] = -1;

  bias_.Load(target_.ids, negative_.ids);
  const std::vector<Lookup*> lookups = {&history_, &target_, &negative_};
  embedding_.Forward(lookups, samples);
  ApplyDropout(hyper_, seed_, step, 0, &math_, history_.output);
  const DotNet::Batch batch = {n,
                               n_negatives,
                               history_.output.data(),
                               target_.output.data(),
                               negative_.output.data(),
                               bias_.shifts(),
                               bias_.shifts() + n,
                               bias_.ids(),
                               bias_.ids() + n,
                               target_repeat_.device(),
                               seen_.device(),
                               seen_begin_.device(),
                               history_.grad.data(),
                               target_.grad.data(),
                               negative_.grad.data(),
                               bias_.d_shifts(),
                               bias_.d_shifts() + n};
  const double loss = net_.LossAndGradients(batch, pool_);
  ApplyDropout(hyper_, seed_, step, 0, &math_, history_.grad);
  embedding_.BackwardStep(lookups, step + 1, static_cast<float>(hyper_.lr) * lr_factor);
  net_.dense.AdamStep(step + 1, static_cast<float>(hyper_.dense_lr) * lr_factor);
  bias_.Step(static_cast<float>(hyper_.bias_lr) * lr_factor);
  return loss;
}

std::vector<StateTensor> DotLearner::Weights() {
  std::vector<StateTensor> tensors = embedding_.Weights();
  bias_.value.Download(bias_.value.size());
  tensors.push_back({"item_bias", bias_.value.host(), static_cast<int64_t>(bias_.value.size()), 0});
  AppendDenseState("dot.", &net_.dense, &tensors, nullptr);
  return tensors;
}

std::vector<StateTensor> DotLearner::OptimizerState() {
  std::vector<StateTensor> tensors = embedding_.OptimizerState();
  bias_.state.Download(bias_.state.size());
  tensors.push_back({"item_bias_state", bias_.state.host(), static_cast<int64_t>(bias_.state.size()), 0});
  AppendDenseState("dot.", &net_.dense, nullptr, &tensors);
  return tensors;
}

void DotLearner::WeightsWritten() {
  embedding_.WeightsWritten();
  bias_.value.Upload(bias_.value.size());
  net_.dense.UploadValue();
}

void DotLearner::OptimizerStateWritten() {
  embedding_.OptimizerStateWritten();
  bias_.state.Upload(bias_.state.size());
  net_.dense.UploadState();
}

}  // namespace resembed::train
