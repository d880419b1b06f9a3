// SPDX-License-Identifier: Apache-2.0
// From users to samples: which positions an epoch asks for, the history before a position, and the features
// "the candidate is in the user's full history: how often, how recently".
#pragma once

#include <cstdint>
#include <vector>

#include "host/train/config.h"
#include "host/train/eval.h"
#include "host/train/log.h"
#include "host/train/repeat_features.h"

namespace resembed::train {

struct Sample {
  int32_t user;
  int64_t position;  // index into log.items of the event to predict; the user has an earlier one
};

// Up to n_targets distinct positions of each user, not her first event, before her end if `ends` (of a Split) has
// any; drawn anew for each epoch; shuffled.
std::vector<Sample> DrawSamples(const Log& log, const std::vector<int32_t>& users, int n_targets,
                                uint64_t seed, int64_t epoch, const std::vector<int64_t>& ends = {});

// Everything a model may know about the log; one for all rows of a run.
struct LogView {
  const Log* log = nullptr;
  const TrainingView* training = nullptr;
  std::vector<uint8_t> known;  // [n_items] a training user touched it

  int64_t UserBegin(int32_t user) const { return log->offsets[static_cast<size_t>(user)]; }
};
LogView MakeLogView(const Log& log, const TrainingView& training);

// The last hyper.history_length known events before `position`, newest first, with weights
// decay^j, divided by their sum. An event that training never saw says nothing and is left out.
// Writes at most history_length entries and returns how many.
int64_t FillHistory(const LogView& view, const Hyper& hyper, int32_t user, int64_t position, int32_t* ids,
                    float* weights);

// How often and how recently each item occurs in a user's full history before a position. O(history) to load,
// O(1) to ask; memory O(n_items), so keep one per thread.
class RepeatIndex {
 public:
  explicit RepeatIndex(int64_t n_items) : count_(static_cast<size_t>(n_items)), last_(count_.size()) {}
  void Load(const LogView& view, int32_t user, int64_t position);
  int64_t history() const { return history_; }
  const std::vector<int32_t>& items() const { return items_; }  // distinct, newest first
  bool Contains(int32_t item) const { return count_[static_cast<size_t>(item)] > 0; }
  void Features(int32_t item, float* features) const {
    RepeatFeatures(count_[static_cast<size_t>(item)], last_[static_cast<size_t>(item)], history_, features);
  }

 private:
  std::vector<int32_t> count_, last_;
  std::vector<int32_t> items_;
  int64_t history_ = 0;
};

}  // namespace resembed::train
