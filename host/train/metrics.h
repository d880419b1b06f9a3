// SPDX-License-Identifier: Apache-2.0
// metrics.json, curves.json, picture.json (SCHEMA.md) and the final table.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "host/train/baselines.h"
#include "host/train/catalog.h"
#include "host/train/checkpoint.h"
#include "host/train/row_instrument.h"
#include "host/train/tune.h"

namespace resembed::train {

// Everything a run knows, as far as it has come.
struct RunData {
  const Options* options = nullptr;
  Log log;
  Catalog catalog;  // empty: none was given
  Split split;
  TrainingView view;
  EvalSet valid, test, trained;  // trained: last events of training users, for the gap
  InterestGraph graph;
  Partition partition;
  EnvelopeSample sample;  // of --envelope-every; empty without
  std::vector<int32_t> picture_items;
  std::map<std::string, BaselineRow> baselines;
  std::map<std::pair<Head, std::string>, std::vector<RowResult>> rows;  // by seed
  Tunings tuning;
  uint64_t tuned_hash = 0;  // of the tuning that --tuned gave
  nlohmann::json fit_all;   // null, or what FitAll says
  bool interrupted = false;
  int threads = 1;
  std::string dense = "host";  // where the heads' dense part is computed: "host" | "cublas"
  int64_t n_samples = 0;       // of an epoch
};

// The hyperparameters that decide results, by head.
nlohmann::json HyperJson(const Hyper& hyper);
nlohmann::json MetricsJson(const RunData& run);
nlohmann::json CurvesJson(const RunData& run);
nlohmann::json PictureJson(const RunData& run);

// One table per head: baselines, then variants; a capped row is marked.
std::string FigureTable(const nlohmann::json& metrics);

// Items for the picture: up to 40 most popular ones of each of the 12 largest interests.
std::vector<int32_t> PickPictureItems(const Partition& partition, const TrainingView& view);

}  // namespace resembed::train
