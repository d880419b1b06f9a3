// SPDX-License-Identifier: Apache-2.0
#include "host/train/eval.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/train/random.h"

namespace resembed::train {
namespace {

constexpr int64_t kTopN = 20;
// Bytes of scores that are alive at a time: they stay in a cache of a few MiB.
constexpr int64_t kBlockScores = int64_t{1} << 20;
constexpr int64_t kMaxBlockTargets = 256;

double Mean(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return values.empty() ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(values.size());
}

double MeanWhere(const std::vector<float>& values, const std::vector<bool>& mask, bool wanted) {
  std::vector<float> chosen;
  for (size_t i = 0; i < values.size(); ++i) {
    if (mask[i] == wanted) chosen.push_back(values[i]);
  }
  return Mean(chosen);
}

// Comparisons with NaN are false: a scorer that returns NaN never gains from it.
float ShareBelow(float target, const float* negatives, int64_t n) {
  double below = 0;
  for (int64_t i = 0; i < n; ++i) below += target > negatives[i] ? 1.0 : target == negatives[i] ? 0.5 : 0.0;
  return static_cast<float>(below / static_cast<double>(n));
}

// -ln sigmoid(x) without overflow.
double Softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }

bool InTopN(const float* scores, int32_t target, const TrainingView& view) {
  const float score = scores[target];
  const int64_t popularity = view.popularity[static_cast<size_t>(target)];
  int64_t n_ahead = 0;
  for (const int32_t item : view.candidates) {
    if (score > scores[item] || item == target) continue;
    if (score == scores[item]) {
      const int64_t other = view.popularity[static_cast<size_t>(item)];
      if (popularity > other || (popularity == other && target < item)) continue;
    }
    if (++n_ahead == kTopN) return false;
  }
  return true;
}

void EvaluateNegatives(Scorer& scorer, const EvalSet& set, unsigned which, Figures* figures) {
  const size_t n_targets = set.targets.size();
  const int64_t n_negatives = set.n_negatives;
  const bool uniform = (which & (kAuc | kLogLoss)) != 0, popular = (which & kAucPop) != 0;
  const bool logloss = (which & kLogLoss) != 0 && scorer.HasLikelihood();
  const int64_t n_candidates = 1 + (uniform ? n_negatives : 0) + (popular ? n_negatives : 0);
  if ((which & kAuc) != 0) figures->auc.assign(n_targets, 0);
  if (popular) figures->auc_pop.assign(n_targets, 0);
  if (logloss) figures->logloss.assign(n_targets, static_cast<float>(std::log(2.0)));

  std::vector<size_t> index;  // of the block's targets: known ones
  std::vector<Target> block;
  std::vector<int32_t> items;
  std::vector<float> scores;
  const auto flush = [&] {
    if (block.empty()) return;
    scores.resize(items.size());
    scorer.Score(block, items, n_candidates, scores.data());
    for (size_t i = 0; i < block.size(); ++i) {
      const float* row = scores.data() + static_cast<int64_t>(i) * n_candidates;
      if ((which & kAuc) != 0) figures->auc[index[i]] = ShareBelow(row[0], row + 1, n_negatives);
      if (popular) {
        figures->auc_pop[index[i]] = ShareBelow(row[0], row + (uniform ? 1 + n_negatives : 1), n_negatives);
      }
      if (logloss) {
        figures->logloss[index[i]] =
            static_cast<float>(0.5 * (Softplus(-double{row[0]}) + Softplus(double{row[1]})));
      }
    }
    index.clear(), block.clear(), items.clear();
  };
  for (size_t t = 0; t < n_targets; ++t) {
    if (!set.targets[t].known) continue;
    index.push_back(t);
    block.push_back(set.targets[t]);
    items.push_back(set.targets[t].item);
    const auto first = static_cast<std::ptrdiff_t>(static_cast<int64_t>(t) * n_negatives);
    const auto append = [&](const std::vector<int32_t>& negatives) {
      items.insert(items.end(), negatives.begin() + first, negatives.begin() + first + n_negatives);
    };
    if (uniform) append(set.uniform);
    if (popular) append(set.popular);
    if (static_cast<int64_t>(block.size()) == kMaxBlockTargets) flush();
  }
  flush();
}

void EvaluateRanks(Scorer& scorer, const EvalSet& set, const TrainingView& view, Figures* figures) {
  const int64_t n_items = static_cast<int64_t>(view.popularity.size());
  figures->hr20.assign(set.ranked.size(), 0);
  figures->ranked_repeat.clear();
  for (const int32_t t : set.ranked)
    figures->ranked_repeat.push_back(set.targets[static_cast<size_t>(t)].repeat);

  const size_t block_targets = static_cast<size_t>(
      std::clamp<int64_t>(kBlockScores / std::max<int64_t>(n_items, 1), 8, kMaxBlockTargets));
  std::vector<size_t> index;
  std::vector<Target> block;
  std::vector<float> scores;
  for (size_t r = 0; r <= set.ranked.size(); ++r) {
    if (block.size() == block_targets || (r == set.ranked.size() && !block.empty())) {
      scores.resize(block.size() * static_cast<size_t>(n_items));
      scorer.ScoreAll(block, scores.data());
      for (size_t i = 0; i < block.size(); ++i) {
        const float* row = scores.data() + static_cast<int64_t>(i) * n_items;
        figures->hr20[index[i]] = InTopN(row, block[i].item, view) ? 1.0f : 0.0f;
      }
      index.clear(), block.clear();
    }
    if (r == set.ranked.size()) break;
    const Target& target = set.targets[static_cast<size_t>(set.ranked[r])];
    if (!target.known) continue;
    index.push_back(r);
    block.push_back(target);
  }
}

std::vector<int32_t> SmallestHashes(const Log& log, const std::vector<int32_t>& users, int64_t max_users,
                                    uint64_t seed) {
  std::vector<std::pair<uint64_t, int32_t>> keyed;
  for (size_t i = 0; i < users.size(); ++i) {
    keyed.emplace_back(HashName(log.user_names[static_cast<size_t>(users[i])], seed),
                       static_cast<int32_t>(i));
  }
  std::sort(keyed.begin(), keyed.end());
  if (static_cast<int64_t>(keyed.size()) > max_users) keyed.resize(static_cast<size_t>(max_users));
  std::vector<int32_t> chosen;
  for (const auto& [hash, i] : keyed) chosen.push_back(i);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

TrainingView MakeTrainingView(const Log& log, const Split& split) {
  TrainingView view;
  view.ends = split.train_ends;
  view.popularity.assign(static_cast<size_t>(log.n_items()), 0);
  for (const int32_t user : split.train) {
    const size_t u = static_cast<size_t>(user);
    for (int64_t event = log.offsets[u]; event < EndOf(log, split.train_ends, user); ++event) {
      ++view.popularity[static_cast<size_t>(log.items[static_cast<size_t>(event)])];
    }
  }
  for (int64_t item = 0; item < log.n_items(); ++item) {
    if (view.popularity[static_cast<size_t>(item)] > 0) view.candidates.push_back(static_cast<int32_t>(item));
  }
  return view;
}

std::vector<int32_t> SampleUsers(const Log& log, const std::vector<int32_t>& users, int64_t max_users,
                                 uint64_t seed) {
  std::vector<int32_t> chosen = SmallestHashes(log, users, max_users, seed);
  for (int32_t& i : chosen) i = users[static_cast<size_t>(i)];
  return chosen;
}

EvalSet MakeEvalSet(const Log& log, const TrainingView& view, const std::vector<int32_t>& users,
                    int64_t max_ranked, uint64_t seed, const std::vector<int64_t>& ends) {
  if (view.candidates.size() < 2) {
    throw Error{log.source + ": training users touched " + std::to_string(view.candidates.size()) +
                " item; needs at least 2 to rank anything"};
  }
  EvalSet set;
  std::vector<double> weights;
  for (const int32_t item : view.candidates) {
    weights.push_back(static_cast<double>(view.popularity[static_cast<size_t>(item)]));
  }
  const WeightedDraw by_popularity(weights);
  const int64_t n_candidates = static_cast<int64_t>(view.candidates.size());
  const size_t n_all = users.size() * static_cast<size_t>(set.n_negatives);
  set.targets.reserve(users.size());
  set.uniform.reserve(n_all);
  set.popular.reserve(n_all);
  for (const int32_t user : users) {
    const size_t u = static_cast<size_t>(user);
    Target target{};
    target.user = user;
    target.position = EndOf(log, ends, user) - 1;
    target.item = log.items[static_cast<size_t>(target.position)];
    target.known = view.popularity[static_cast<size_t>(target.item)] > 0;
    const auto history = log.items.begin() + log.offsets[u];
    const auto last = log.items.begin() + target.position;
    target.repeat = std::find(history, last, target.item) != last;
    set.targets.push_back(target);

    Random random(HashName(log.user_names[u], seed));
    const auto draw = [&](std::vector<int32_t>* negatives, bool popular) {
      for (int32_t n = 0; n < set.n_negatives;) {
        const int64_t at = popular ? by_popularity.Draw(random) : random.Below(n_candidates);
        const int32_t item = view.candidates[static_cast<size_t>(at)];
        if (item == target.item) continue;
        negatives->push_back(item);
        ++n;
      }
    };
    draw(&set.uniform, false);
    draw(&set.popular, true);
  }
  set.ranked = SmallestHashes(log, users, max_ranked, seed + 1);
  return set;
}

double Figures::Auc() const { return Mean(auc); }
double Figures::AucPop() const { return Mean(auc_pop); }
double Figures::LogLoss() const { return Mean(logloss); }
double Figures::Hr20() const { return Mean(hr20); }
double Figures::Hr20New() const { return MeanWhere(hr20, ranked_repeat, false); }
double Figures::Hr20Repeat() const { return MeanWhere(hr20, ranked_repeat, true); }

Figures Evaluate(Scorer& scorer, const EvalSet& set, const TrainingView& view, unsigned which) {
  Figures figures;
  if ((which & (kAuc | kAucPop | kLogLoss)) != 0) EvaluateNegatives(scorer, set, which, &figures);
  if ((which & kHr20) != 0) EvaluateRanks(scorer, set, view, &figures);
  return figures;
}

}  // namespace resembed::train
