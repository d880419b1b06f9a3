// SPDX-License-Identifier: Apache-2.0
// The envelope while a row trains: every N steps one line of envelope.jsonl (SCHEMA.md), and the residual's rule.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/train/checkpoint.h"
#include "host/train/residual_control.h"

namespace resembed::train {

// What is measured: whole interests where they are small, else a sample of their members. One for all rows of a
// run, so that their lines can be compared.
struct EnvelopeSample {
  static constexpr uint64_t kSeed = 20190805;
  static constexpr int64_t kMaxMembers = 64, kMaxInterests = 128;
  std::vector<int32_t> interest_of;  // [n_items] position in `interests`, -1 = not in the sample
  std::vector<int32_t> interests;    // of the partition, increasing
  int64_t n_items = 0;               // of the sample
};
// Everything with at least EnvelopeFigures::kMinItems items when that is at most max_items. Else interests in the
// order of a hash of kSeed, of each its kMaxMembers members with the smallest hash, until max_items are reached.
EnvelopeSample SampleEnvelope(const Partition& partition, int64_t max_items);
// Items that can be measured every 100 steps for less than 2 % of them (docs/concepts.md): steps on larger batches take longer.
inline int64_t EnvelopeItems(const Hyper& hyper) { return int64_t{12} * hyper.batch; }

// envelope.jsonl, written line by line.
class EnvelopeLog {
 public:
  explicit EnvelopeLog(std::string path) : path_(std::move(path)) {}
  void Clear();
  // Without lines of the row after `last_step`; -1: none of them stays. What is not a line, as a crash may leave it, goes.
  void Cut(const RowKey& key, int64_t last_step);
  void Append(const nlohmann::json& line);

 private:
  std::string path_;
};

// Appends the lines of a row in the log at `from` to the one at `to`; nothing where there are none.
void CopyLines(const std::string& from, const RowKey& key, const std::string& to);

class RowInstrument {
 public:
  // every = 0: does nothing. All must outlive this; `state` is the row's, new or restored.
  RowInstrument(const RowKey& key, const Hyper& hyper, const Variant& variant, const EnvelopeSample& sample,
                int every, Learner* learner, TrainState* state, EnvelopeLog* log);
  void AfterStep() {
    if (every_ > 0 && state_->total_steps % every_ == 0) Look();
  }

 private:
  void Look();
  nlohmann::json Line();

  const RowKey& key_;
  const Hyper& hyper_;
  const EnvelopeSample& sample_;
  const int every_;
  const bool controls_;
  Learner* learner_;
  TrainState* state_;
  EnvelopeLog* log_;
  EnvelopeMeter meter_;
};

}  // namespace resembed::train
