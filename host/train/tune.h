// SPDX-License-Identifier: Apache-2.0
// --tune: learning rate, then penalty of every (head, variant), chosen on validation from the same values. --tuned:
// what an earlier run chose.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "host/train/checkpoint.h"
#include "host/train/progress.h"

namespace resembed::train {

// One setting and, once tried, what came out: a whole run of the row with the first seed.
struct TunePoint {
  double lr, lambda;  // lr 0: follows from the points before
  double auc = 0;     // on validation, of the epoch kept
  int best_epoch = 0;
  bool capped = false;
  double seconds = 0;
};

struct Tuning {
  std::vector<TunePoint> points;
  size_t chosen = 0;  // of the points tried
  bool done = false;  // what is not tried yet, need not be
};
using Tunings = std::map<std::pair<Head, std::string>, Tuning>;

// lr times 1/4, 1/2, 1, 2, 4; for a variant with a penalty then the best of them with lambda times 0, .1, 10; then, as
// long as the chosen rate is the lowest or highest tried, four more beyond it. `hyper` holds what is varied.
std::vector<TunePoint> TuneGrid(const Variant& variant, const Hyper& hyper);

// Of the points within .002 of the best auc those with the largest lambda, of them the best; the first on ties.
size_t ChoosePoint(const std::vector<TunePoint>& points);

// SCHEMA.md, `tuning`. A variant whose points were not all tried is left out.
nlohmann::json TuningJson(const Tunings& tunings);

// Puts each point of the grid of every (head, variant) in front of the rows. keys and rows: planned, one for one.
void PlanTuning(const Options& options, int64_t n_samples, std::vector<RowKey>* keys,
                std::vector<Progress::Row>* rows, Tunings* tunings);

// Takes for every (head, variant) of the options what the run whose metrics.json is options.tuned chose; --lr and
// --lambda, where given, stand. Returns a hash of that file's tuning. Error: not there, or does not hold a row.
uint64_t ReadTuned(const Options& options, int64_t n_samples, Tunings* tunings);

// `hyper` with the lr and lambda of the key's point, or of the point chosen; as it is where nothing is tuned.
Hyper TunedHyper(Hyper hyper, const RowKey& key, const Tunings& tunings);

// The point is one beyond rates that turned out to hold the best.
bool NotNeeded(const RowKey& key, const Tunings& tunings);

// Takes down what a point gave. After the last that is needed: chooses, and says so; else empty.
std::string FilePoint(const RowKey& key, const RowResult& result, Tunings* tunings);

}  // namespace resembed::train
