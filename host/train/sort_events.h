// SPDX-License-Identifier: Apache-2.0
// Events of a log in any order -> events of each user in time order, within a stated number of bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/train/log.h"
#include "host/train/read_order.h"

namespace resembed::train {

// Sorts by user, then order, then place in the file. What is beyond memory_bytes waits as sorted runs of 24 bytes
// an event in nameless files of `folder`, gone with the sorter. memory_bytes 0: everything stays in memory, 28
// bytes an event while sorting (36 with fractions of a second). Besides: 16 bytes a user while sorting, and 768 KiB
// a run while runs are merged.
class EventSorter {
 public:
  EventSorter(size_t memory_bytes, std::string folder, bool ordered);
  ~EventSorter();
  EventSorter(const EventSorter&) = delete;
  EventSorter& operator=(const EventSorter&) = delete;

  // key is ignored unless `ordered`. Throws Error when a file cannot be written.
  void Add(int32_t user, int32_t item, const OrderKey& key);
  int64_t n_events() const { return n_events_; }
  // Fills offsets, items and, when asked for and ordered, times and their fractions; the sorter is empty afterwards.
  // `log` takes 4 bytes an event (12 with times, 20 with fractions) besides memory_bytes.
  void Finish(int64_t n_users, bool keep_times, Log* log);

 private:
  struct Record;
  class Run;

  void Spill();
  void Merge(bool keep_times, Log* log);
  std::vector<int64_t> Sorted(int64_t n_users, std::vector<int64_t>* offsets) const;
  bool Earlier(int64_t a, int64_t b) const;

  const size_t memory_bytes_;
  const std::string folder_;
  const bool ordered_;
  int64_t n_events_ = 0;
  int32_t last_user_ = -1;  // largest number so far
  bool fractions_ = false;  // some order is not whole
  // Those not yet in a run.
  std::vector<int32_t> user_, item_;
  std::vector<int64_t> whole_;     // empty: the order of the file
  std::vector<int64_t> fraction_;  // empty as long as every order is whole
  std::vector<std::unique_ptr<Run>> runs_;
};

}  // namespace resembed::train
