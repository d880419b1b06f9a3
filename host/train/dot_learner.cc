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
      embedding_(variant, graph, view.log->n_items(), hyper, seed, pool, device),
      net_(embedding_.dim(), hyper.query_transform, static_cast<float>(hyper.dot_scale)) {
  negative_.shared = true;
  const size_t n_items = static_cast<size_t>(embedding_.n_items());
  const TrainingView& training = *view.training;
  bias_.assign(n_items, 0.0f);
  bias_state_.assign(n_items, 0.0f);
  bias_grad_.assign(n_items, 0.0f);
  log_q_.assign(n_items, 0.0f);
  first_column_.assign(n_items, -1);
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
    log_q_[static_cast<size_t>(item)] = static_cast<float>(
        hyper.negative_correction * (hyper.negative_alpha * log_popularity - std::log(sum / n_candidates)));
    // Where the softmax's optimum lies for a model that knows popularity only.
    bias_[static_cast<size_t>(item)] =
        static_cast<float>((1.0 - hyper.negative_alpha * (1.0 - hyper.negative_correction)) *
                           (log_popularity - log_sum / n_candidates));
  }
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    if (hyper.repeat_features) repeat_.emplace_back(embedding_.n_items());
  }
}

void DotLearner::FindSeen(const Sample* samples, int64_t n) {
  target_repeat_.assign(static_cast<size_t>(n * kF), 0.0f);
  const int64_t n_blocks = (n + DotNet::kBlock - 1) / DotNet::kBlock;
  seen_.resize(std::max(seen_.size(), static_cast<size_t>(n_blocks)));
  for (std::vector<DotNet::Seen>& list : seen_) list.clear();
  if (!hyper_.repeat_features) return;
  pool_->ParallelFor(std::min(kSlots, n_blocks), [&](int64_t slot) {
    RepeatIndex& repeat = repeat_[static_cast<size_t>(slot)];
    for (int64_t block = slot; block < n_blocks; block += kSlots) {
      std::vector<DotNet::Seen>& list = seen_[static_cast<size_t>(block)];
      for (int64_t s = block * DotNet::kBlock; s < std::min(n, (block + 1) * DotNet::kBlock); ++s) {
        repeat.Load(view_, samples[s].user, samples[s].position);
        const int32_t target = target_.ids[static_cast<size_t>(s)];
        if (repeat.Contains(target)) repeat.Features(target, target_repeat_.data() + s * kF);
        for (const int32_t item : repeat.items()) {
          for (int32_t column = first_column_[static_cast<size_t>(item)]; column >= 0;
               column = next_column_[static_cast<size_t>(column)]) {
            list.push_back({static_cast<int32_t>(s), column, {}});
            repeat.Features(item, list.back().features);
          }
        }
      }
    }
  });
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

  const std::vector<Lookup*> lookups = {&history_, &target_, &negative_};
  embedding_.Forward(lookups, samples);
  const float dropout = static_cast<float>(hyper_.dropout);
  ApplyDropout(history_.output.data(), n * embedding_.dim(), dropout, seed_, step, 0);
  const auto shifts = [&](const Lookup& lookup, std::vector<float>* shift, std::vector<float>* grad) {
    shift->resize(lookup.ids.size());
    grad->resize(lookup.ids.size());
    for (size_t i = 0; i < lookup.ids.size(); ++i) {
      const size_t item = static_cast<size_t>(lookup.ids[i]);
      (*shift)[i] = bias_[item] - log_q_[item];
    }
  };
  shifts(target_, &target_shift_, &d_target_shift_);
  shifts(negative_, &negative_shift_, &d_negative_shift_);
  DotNet::Batch batch = {n,
                         n_negatives,
                         history_.output.data(),
                         target_.output.data(),
                         negative_.output.data(),
                         target_shift_.data(),
                         negative_shift_.data(),
                         target_.ids.data(),
                         negative_.ids.data(),
                         target_repeat_.data(),
                         seen_.data(),
                         history_.grad.data(),
                         target_.grad.data(),
                         negative_.grad.data(),
                         d_target_shift_.data(),
                         d_negative_shift_.data()};
  const double loss = net_.LossAndGradients(batch, pool_);
  ApplyDropout(history_.grad.data(), n * embedding_.dim(), dropout, seed_, step, 0);
  embedding_.BackwardStep(lookups, step + 1, static_cast<float>(hyper_.lr) * lr_factor);
  net_.dense.AdamStep(step + 1, static_cast<float>(hyper_.dense_lr) * lr_factor, 0.0f);

  // Biases of touched items by Adagrad; targets first, then negatives, in order.
  bias_touched_.clear();
  const auto add = [&](const Lookup& lookup, const std::vector<float>& grad) {
    for (size_t i = 0; i < lookup.ids.size(); ++i) {
      const size_t item = static_cast<size_t>(lookup.ids[i]);
      if (bias_grad_[item] == 0.0f) bias_touched_.push_back(lookup.ids[i]);
      bias_grad_[item] += grad[i];
    }
  };
  add(target_, d_target_shift_);
  add(negative_, d_negative_shift_);
  const float lr = static_cast<float>(hyper_.bias_lr) * lr_factor;
  for (const int32_t touched : bias_touched_) {
    const size_t item = static_cast<size_t>(touched);
    const float grad = bias_grad_[item];
    bias_grad_[item] = 0.0f;
    bias_state_[item] += grad * grad;
    if (grad != 0.0f) bias_[item] -= lr * grad / (std::sqrt(bias_state_[item]) + 1e-8f);
  }
  return loss;
}

std::vector<StateTensor> DotLearner::Weights() {
  std::vector<StateTensor> tensors = embedding_.Weights();
  tensors.push_back({"item_bias", bias_.data(), static_cast<int64_t>(bias_.size()), 0});
  AppendDenseState("dot.", &net_.dense, &tensors, nullptr);
  return tensors;
}

std::vector<StateTensor> DotLearner::OptimizerState() {
  std::vector<StateTensor> tensors = embedding_.OptimizerState();
  tensors.push_back({"item_bias_state", bias_state_.data(), static_cast<int64_t>(bias_state_.size()), 0});
  AppendDenseState("dot.", &net_.dense, nullptr, &tensors);
  return tensors;
}

}  // namespace resembed::train
