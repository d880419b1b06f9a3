// SPDX-License-Identifier: Apache-2.0
#include "host/train/model_sample.h"

#include <algorithm>
#include <cmath>

#include "host/train/model_random.h"

namespace resembed::train {

std::vector<Sample> DrawSamples(const Log& log, const std::vector<int32_t>& users, int n_targets,
                                uint64_t seed, int64_t epoch, const std::vector<int64_t>& ends) {
  std::vector<Sample> samples;
  std::vector<int64_t> drawn;
  for (const int32_t user : users) {
    const int64_t begin = log.offsets[static_cast<size_t>(user)];
    const int64_t n = EndOf(log, ends, user) - begin - 1;  // positions 1 .. n
    drawn.clear();
    if (n <= n_targets) {
      for (int64_t at = 1; at <= n; ++at) drawn.push_back(at);
    } else {
      // Floyd's sampling without replacement (Bentley and Floyd 1987).
      for (int64_t draw = 0; draw < n_targets; ++draw) {
        const int64_t top = n - n_targets + draw;  // from 0 .. top
        int64_t at = 1 + BelowOf(Draw(seed, Stream::kPositions, static_cast<uint64_t>(epoch),
                                      static_cast<uint64_t>(user), static_cast<uint64_t>(draw)),
                                 top + 1);
        if (std::find(drawn.begin(), drawn.end(), at) != drawn.end()) at = 1 + top;
        drawn.push_back(at);
      }
    }
    for (const int64_t at : drawn) samples.push_back({user, begin + at});
  }
  Random random(Draw(seed, Stream::kShuffle, static_cast<uint64_t>(epoch)));
  Shuffle(samples, random);
  return samples;
}

LogView MakeLogView(const Log& log, const TrainingView& training) {
  LogView view;
  view.log = &log;
  view.training = &training;
  view.known.assign(static_cast<size_t>(log.n_items()), 0);
  for (const int32_t item : training.candidates) view.known[static_cast<size_t>(item)] = 1;
  return view;
}

int64_t FillHistory(const LogView& view, const Hyper& hyper, int32_t user, int64_t position, int32_t* ids,
                    float* weights) {
  const int64_t begin = view.UserBegin(user);
  int64_t n = 0;
  double weight = 1.0, sum = 0.0;
  for (int64_t at = position - 1; at >= begin && n < hyper.history_length; --at) {
    const int32_t item = view.log->items[static_cast<size_t>(at)];
    if (!view.known[static_cast<size_t>(item)]) continue;
    ids[n] = item;
    weights[n] = static_cast<float>(weight);
    ++n;
    sum += weight;
    weight *= hyper.history_decay;
  }
  if (hyper.normalize_history) {
    for (int64_t j = 0; j < n; ++j) weights[j] = static_cast<float>(weights[j] / sum);
  }
  return n;
}

void RepeatFeatures(int64_t count, int64_t distance, int64_t history, float* features) {
  std::fill_n(features, kRepeatFeatures, 0.0f);
  if (count == 0) return;
  constexpr int64_t kUpTo[] = {1, 2, 4, 8, 16, 64, 256};
  int bucket = 0;
  while (bucket < 7 && distance > kUpTo[bucket]) ++bucket;
  features[bucket] = 1.0f;
  features[8] = static_cast<float>(std::log(static_cast<double>(count)));
  features[9] =
      static_cast<float>(0.25 * std::log(static_cast<double>(count) / static_cast<double>(history)));
}

void RepeatIndex::Load(const LogView& view, int32_t user, int64_t position) {
  for (const int32_t item : items_) count_[static_cast<size_t>(item)] = 0;
  items_.clear();
  const int64_t begin = view.UserBegin(user);
  history_ = position - begin;
  for (int64_t at = position - 1; at >= begin; --at) {
    const int32_t item = view.log->items[static_cast<size_t>(at)];
    if (count_[static_cast<size_t>(item)]++ == 0) {
      last_[static_cast<size_t>(item)] = static_cast<int32_t>(std::min<int64_t>(position - at, INT32_MAX));
      items_.push_back(item);
    }
  }
}

}  // namespace resembed::train
