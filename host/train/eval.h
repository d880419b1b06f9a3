// SPDX-License-Identifier: Apache-2.0
// Targets, negatives, figures and paired intervals: one protocol for models and baselines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/log.h"

namespace resembed::train {

// What training users say: everything the graph, popularity and candidates may know.
struct TrainingView {
  std::vector<int64_t> popularity;  // [n_items] events of training users
  std::vector<int32_t> candidates;  // items with popularity > 0, increasing
  std::vector<int64_t> ends;        // Split::train_ends: a sample of training lies before its user's
};
TrainingView MakeTrainingView(const Log& log, const Split& split);

// The event to predict: log.items[position] of `user`; the history is every earlier event of the user.
struct Target {
  int32_t user;
  int64_t position;  // index into log.items
  int32_t item;
  bool known;   // a training user touched it; otherwise every figure counts a miss
  bool repeat;  // in the full history
};

// Fixed evaluation set: the last event of each user, with the same negatives for every row of the report.
struct EvalSet {
  std::vector<Target> targets;
  int32_t n_negatives = 200;
  std::vector<int32_t> uniform;  // [n_targets, n_negatives] candidates other than the target
  std::vector<int32_t> popular;  // the same, drawn by training popularity
  std::vector<int32_t> ranked;   // indices of the targets used for hr20 (at most 2,000)
};
// positions: last event of each user in `users` before her end, if `ends` (of a Split) has any; the gap uses
// training users the same way.
EvalSet MakeEvalSet(const Log& log, const TrainingView& view, const std::vector<int32_t>& users,
                    int64_t max_ranked, uint64_t seed, const std::vector<int64_t>& ends = {});

// At most max_users of `users`, chosen by a hash of the name and `seed`; increasing.
std::vector<int32_t> SampleUsers(const Log& log, const std::vector<int32_t>& users, int64_t max_users,
                                 uint64_t seed);

// Anything that scores items after a history. Larger is better.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // scores[t * n_candidates + c] of items[t * n_candidates + c] for targets[t]. Ties are broken by
  // the caller where the protocol says so.
  virtual void Score(const std::vector<Target>& targets, const std::vector<int32_t>& items,
                     int64_t n_candidates, float* scores) = 0;
  // scores[t * n_items + i] of every item of the log, for the targets given (a block of targets).
  virtual void ScoreAll(const std::vector<Target>& targets, float* scores) = 0;
  // Scores are logits of "the target follows": logloss is then the mean of -ln p(target) and
  // -ln(1 - p(first uniform negative)), ln 2 for an unknown target.
  virtual bool HasLikelihood() const { return false; }
};

// Per-target values, so that rows can be paired user by user.
struct Figures {
  std::vector<float> auc, auc_pop;  // [n_targets] share of negatives below, ties half; unknown: 0
  std::vector<float> logloss;       // [n_targets] or empty
  std::vector<float> hr20;          // [n_ranked] 0 or 1; ties by popularity, then lower item
  std::vector<bool> ranked_repeat;  // [n_ranked] target in the full history

  // Means; NaN where there is no such target.
  double Auc() const, AucPop() const, LogLoss() const, Hr20() const, Hr20New() const, Hr20Repeat() const;
};
enum : unsigned { kAuc = 1, kAucPop = 2, kHr20 = 4, kLogLoss = 8, kAllFigures = 15 };
Figures Evaluate(Scorer& scorer, const EvalSet& set, const TrainingView& view, unsigned which);

// Mean of row - base over users (means over seeds taken first), and a paired percentile bootstrap interval
// (95 %, `n_resamples` resamples of users).
struct Interval {
  double mean, low, high;
};
Interval PairedInterval(const std::vector<float>& row, const std::vector<float>& base, uint64_t seed,
                        int n_resamples = 1000);

}  // namespace resembed::train
