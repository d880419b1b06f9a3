// SPDX-License-Identifier: Apache-2.0
#include "host/train/baselines.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "host/train/parallel.h"
#include "resembed/resembed.h"

namespace resembed::train {
namespace {

constexpr int32_t kWindow = 5;
constexpr uint32_t kDistanceWeights[kWindow] = {60, 30, 20, 15, 12};  // 60 / distance, exact
constexpr int64_t kCovisitEvents = 5;
constexpr int64_t kItemKnnEvents = 20;
constexpr double kItemKnnDecay = 0.6;
constexpr double kExponents[] = {0, 0.3, 0.5};

// Symmetric co-visit counts of training users, every pair kept: CSR, columns increasing.
struct PairMatrix {
  std::vector<int64_t> row_offsets;  // [n_items + 1]
  std::vector<int32_t> columns;
  std::vector<float> values;
};

// Bytes of a pair: both ways in the matrix, its counts beside it while it is filled.
constexpr int64_t kBytesOfPair = 2 * (sizeof(int32_t) + sizeof(float) + sizeof(int64_t));

// False when the matrix would take more than the budget; then *n_pairs says of how many pairs.
bool MakePairs(const Log& log, const Split& split, const uint32_t* distance_weights, const PairBudget& budget,
               PairMatrix* matrix, int64_t* n_pairs) {
  const CovisitPointer counts = CountPairs(log, split, kWindow, distance_weights, budget);
  CheckStatus(resembed_covisit_n_pairs(counts.get(), n_pairs));
  if (budget.bytes > 0 && *n_pairs > budget.bytes / kBytesOfPair) return false;
  matrix->row_offsets.resize(static_cast<size_t>(log.n_items()) + 1);
  matrix->columns.resize(static_cast<size_t>(2 * *n_pairs));
  std::vector<int64_t> values(matrix->columns.size());
  CheckStatus(resembed_covisit_export(counts.get(), matrix->row_offsets.data(), matrix->columns.data(),
                                      values.data()));
  matrix->values.assign(values.begin(), values.end());
  return true;
}

// Scores that are zero except for a few items. With `seen`, history items come before all others.
class CountScorer : public Scorer {
 public:
  CountScorer(const Log& log, bool seen, int n_threads) : log_(log), seen_(seen), n_threads_(n_threads) {}

  void Score(const std::vector<Target>& targets, const std::vector<int32_t>& items, int64_t n_candidates,
             float* scores) override {
    // Each task takes every n_tasks-th target, so that it can keep one row of scratch, and puts back to zero what a
    // target touched: all of a row for each target would be users times items.
    const int64_t n_targets = static_cast<int64_t>(targets.size());
    const int64_t n_tasks = std::min<int64_t>(n_targets, 64);
    ParallelFor(n_tasks, n_threads_, [&](int, int64_t task) {
      std::vector<float> row(static_cast<size_t>(log_.n_items()));
      std::vector<uint8_t> in_history(row.size());
      std::vector<int32_t> touched;
      for (int64_t t = task; t < n_targets; t += n_tasks) {
        const Target& target = targets[static_cast<size_t>(t)];
        const auto mark = [&](uint8_t value) {
          for (int64_t event = Begin(target); seen_ && event < target.position; ++event) {
            in_history[Item(event)] = value;
          }
        };
        mark(1);
        Add(target, row.data(), &touched);
        for (int64_t c = t * n_candidates; c < (t + 1) * n_candidates; ++c) {
          const size_t item = static_cast<size_t>(items[static_cast<size_t>(c)]);
          scores[c] = seen_ ? Behind(row[item]) : row[item];
          if (in_history[item] != 0) scores[c] = FromBehind(scores[c]);
        }
        mark(0);
        for (const int32_t item : touched) row[static_cast<size_t>(item)] = 0.0f;
        touched.clear();
      }
    });
  }

  void ScoreAll(const std::vector<Target>& targets, float* scores) override {
    ParallelFor(static_cast<int64_t>(targets.size()), n_threads_,
                [&](int, int64_t t) { Fill(targets[static_cast<size_t>(t)], scores + t * log_.n_items()); });
  }

 protected:
  // Adds the scores of the last events to row [n_items], zero on entry; all >= 0. touched, unless null: gets every
  // item added to, once or more.
  virtual void Add(const Target& target, float* row, std::vector<int32_t>* touched) const = 0;

  // The target's history: log_.items[Begin .. target.position).
  int64_t Begin(const Target& target) const { return log_.offsets[static_cast<size_t>(target.user)]; }
  size_t Item(int64_t event) const { return static_cast<size_t>(log_.items[static_cast<size_t>(event)]); }

  const Log& log_;

 private:
  // s of an item of the history stays, s of any other becomes -1 / s: below all of the history, same order.
  static constexpr float kNone = std::numeric_limits<float>::lowest();
  static float Behind(float score) { return score > 0 ? -1 / score : kNone; }
  static float FromBehind(float behind) { return behind == kNone ? 0.0f : -1 / behind; }

  void Fill(const Target& target, float* row) const {
    const int64_t n_items = log_.n_items();
    std::fill(row, row + n_items, 0.0f);
    Add(target, row, nullptr);
    if (!seen_) return;
    for (int64_t item = 0; item < n_items; ++item) row[item] = Behind(row[item]);
    for (int64_t event = Begin(target); event < target.position; ++event) {
      float& score = row[Item(event)];
      if (score < 0) score = FromBehind(score);
    }
  }

  bool seen_;
  int n_threads_;
};

class Popularity final : public CountScorer {
 public:
  Popularity(const Log& log, const TrainingView& view, int n_threads)
      : CountScorer(log, false, n_threads), view_(view) {}

  void Score(const std::vector<Target>&, const std::vector<int32_t>& items, int64_t, float* scores) override {
    for (size_t c = 0; c < items.size(); ++c) {
      scores[c] = static_cast<float>(view_.popularity[static_cast<size_t>(items[c])]);
    }
  }

 private:
  void Add(const Target&, float* row, std::vector<int32_t>*) const override {
    for (const int32_t item : view_.candidates) {
      row[item] = static_cast<float>(view_.popularity[static_cast<size_t>(item)]);
    }
  }
  const TrainingView& view_;
};

void Touch(const PairMatrix& pairs, size_t item, std::vector<int32_t>* touched) {
  if (touched == nullptr) return;
  touched->insert(touched->end(),
                  pairs.columns.begin() + static_cast<std::ptrdiff_t>(pairs.row_offsets[item]),
                  pairs.columns.begin() + static_cast<std::ptrdiff_t>(pairs.row_offsets[item + 1]));
}

// s(j) = sum over the last five events h of Z(h, j)
class Covisit final : public CountScorer {
 public:
  Covisit(const Log& log, const PairMatrix& pairs, bool seen, int n_threads)
      : CountScorer(log, seen, n_threads), pairs_(pairs) {}

 private:
  void Add(const Target& target, float* row, std::vector<int32_t>* touched) const override {
    for (int64_t event = std::max(Begin(target), target.position - kCovisitEvents); event < target.position;
         ++event) {
      const size_t item = Item(event);
      for (int64_t i = pairs_.row_offsets[item]; i < pairs_.row_offsets[item + 1]; ++i) {
        row[pairs_.columns[static_cast<size_t>(i)]] += pairs_.values[static_cast<size_t>(i)];
      }
      Touch(pairs_, item, touched);
    }
  }
  const PairMatrix& pairs_;
};

// s(j) = sum_t .6^t Z(h_t, j) / (D(h_t)^a pop(j)^b), t = 0 the most recent event, t < 20
class ItemKnn final : public CountScorer {
 public:
  ItemKnn(const Log& log, const TrainingView& view, const PairMatrix& pairs, double a, double b, bool seen,
          int n_threads)
      : CountScorer(log, seen, n_threads), pairs_(pairs) {
    for (size_t item = 0; item < view.popularity.size(); ++item) {
      double sum = 0;
      for (int64_t i = pairs.row_offsets[item]; i < pairs.row_offsets[item + 1]; ++i) {
        sum += pairs.values[static_cast<size_t>(i)];
      }
      row_scale_.push_back(sum > 0 ? std::pow(sum, -a) : 0);
      const double popularity = static_cast<double>(view.popularity[item]);
      column_scale_.push_back(popularity > 0 ? static_cast<float>(std::pow(popularity, -b)) : 0.0f);
    }
  }

 private:
  void Add(const Target& target, float* row, std::vector<int32_t>* touched) const override {
    double weight = 1;
    const int64_t first = std::max(Begin(target), target.position - kItemKnnEvents);
    for (int64_t event = target.position - 1; event >= first; --event, weight *= kItemKnnDecay) {
      const size_t item = Item(event);
      const float scale = static_cast<float>(weight * row_scale_[item]);
      for (int64_t i = pairs_.row_offsets[item]; i < pairs_.row_offsets[item + 1]; ++i) {
        const size_t at = static_cast<size_t>(i);
        row[pairs_.columns[at]] +=
            scale * pairs_.values[at] * column_scale_[static_cast<size_t>(pairs_.columns[at])];
      }
      Touch(pairs_, item, touched);
    }
  }
  const PairMatrix& pairs_;
  std::vector<double> row_scale_;    // D(h)^-a
  std::vector<float> column_scale_;  // pop(j)^-b
};

class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

std::map<std::string, BaselineRow> RunBaselines(const Log& log, const Split& split, const TrainingView& view,
                                                const EvalSet& valid, const EvalSet& test, int n_threads,
                                                const PairBudget& budget, int64_t* n_left_out) {
  constexpr unsigned kFigures = kAuc | kAucPop | kHr20;
  std::map<std::string, BaselineRow> rows;
  const auto add = [&](const std::string& name, CountScorer&& scorer, double earlier_seconds, double a,
                       double b) {
    const Stopwatch watch;
    BaselineRow& row = rows[name];
    row.figures = Evaluate(scorer, test, view, kFigures);
    const Figures on_valid = Evaluate(scorer, valid, view, kAuc | kHr20);
    row.valid_auc = on_valid.Auc();
    row.valid_hr20 = on_valid.Hr20();
    row.a = a;
    row.b = b;
    row.seconds = earlier_seconds + watch.Seconds();
  };
  add("popularity", Popularity(log, view, n_threads), 0, 0, 0);
  {
    const Stopwatch watch;
    PairMatrix pairs;
    int64_t n_pairs = 0;
    if (!MakePairs(log, split, nullptr, budget, &pairs, &n_pairs)) {
      if (n_left_out != nullptr) *n_left_out = n_pairs;
      return rows;
    }
    const double seconds = watch.Seconds();
    add("covisit", Covisit(log, pairs, false, n_threads), seconds, 0, 0);
    add("covisit_seen", Covisit(log, pairs, true, n_threads), seconds, 0, 0);
  }
  PairMatrix pairs;
  int64_t n_pairs = 0;  // the same pairs as before
  MakePairs(log, split, kDistanceWeights, budget, &pairs, &n_pairs);
  for (const bool seen : {false, true}) {
    const Stopwatch watch;
    double best = -1, best_a = 0, best_b = 0;
    for (const double a : kExponents) {
      for (const double b : kExponents) {
        ItemKnn scorer(log, view, pairs, a, b, seen, n_threads);
        const double auc = Evaluate(scorer, valid, view, kAuc).Auc();
        if (auc > best) best = auc, best_a = a, best_b = b;
      }
    }
    add(seen ? "itemknn_seen" : "itemknn", ItemKnn(log, view, pairs, best_a, best_b, seen, n_threads),
        watch.Seconds(), best_a, best_b);
  }
  return rows;
}

}  // namespace resembed::train
