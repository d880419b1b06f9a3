// SPDX-License-Identifier: Apache-2.0
// Files of a run: finished rows, the row in progress. All safetensors, written beside and
// renamed, so an interruption never leaves half a file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/train/envelope.h"
#include "host/train/pretrain.h"
#include "host/train/train_loop.h"

namespace resembed::train {

// A crash loses at most so many seconds of a row.
inline constexpr double kCheckpointSeconds = 60;

struct RowKey {
  Head head;
  std::string variant;
  int seed;
  int point = -1;  // of the tuning grid
  std::string Name() const {
    return std::string(HeadName(head)) + "." + variant + ".seed" + std::to_string(seed) +
           (point >= 0 ? ".point" + std::to_string(point) : "");
  }
};

// What a finished row says, for one seed. Of a point of the tuning grid: valid_auc and state alone.
struct RowResult {
  Figures test;
  double gap = 0;
  int64_t parameters = 0;
  int64_t dim = 0;
  EnvelopeFigures envelope;
  std::vector<float> picture;   // [n picture items, dim]
  TrainState state;             // without `best`
  double pretrain_seconds = 0;  // part of state.seconds
  double valid_auc = 0;
};

void SaveRow(const std::string& path, const RowResult& row);
bool LoadRow(const std::string& path, RowResult* row);  // false when there is no such file

// The seed's pretrained rows: those in *pretrained, or in `folder`, or made now and kept there. False when stopped.
bool FindPretrained(const PretrainTask& task, const std::string& folder, Pretrained* pretrained);

// The row in progress; `key` names it.
void SaveProgress(const std::string& path, const RowKey& key, Learner* learner, const TrainState& state);
// False when there is none or it is another row's.
bool LoadProgress(const std::string& path, const RowKey& key, Learner* learner, TrainState* state);

}  // namespace resembed::train
