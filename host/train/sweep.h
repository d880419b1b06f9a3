// SPDX-License-Identifier: Apache-2.0
// One run for each value of an option, and what they say beside each other: --sweep NAME[=V1,V2,..].
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "host/train/metrics.h"
#include "host/train/progress.h"

namespace resembed::train {

// What can be swept and the values it has by default, for --help: "lambda=0,0.001 or dim=8,16".
std::string SweepDefaults();
// "NAME" or "NAME=V1,V2,..". Returns why it cannot be used; empty: *sweep is complete.
std::string ParseSweep(const std::string& text, SweepOptions* sweep);

// OUT/NAME=VALUE holds the run of a value, OUT/sweep.json all of them (SCHEMA.md). Returns as Run.
int RunSweep(const Options& options, const std::atomic<bool>& stop);

// What a run of a sweep finds and leaves for the next one.
struct RunShare {
  Log log;                                       // without events: the run reads it
  InterestGraph graph;                           // k = 0: the run builds it
  std::map<std::string, BaselineRow> baselines;  // empty: the run counts
  // Of all runs, about to begin with the rows of this one; the first run's rows say what the others' cost.
  std::function<std::shared_ptr<Progress>(const std::vector<Progress::Row>& rows, int expected_epochs)>
      progress;
  std::function<void()>
      take_rows;           // called with the run's folder ready: adds rows that are another run's, too
  nlohmann::json metrics;  // of the run that has ended
};
// Run of one value.
int RunShared(const Options& options, const std::atomic<bool>& stop, RunShare* share);

}  // namespace resembed::train
