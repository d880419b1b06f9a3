// SPDX-License-Identifier: Apache-2.0
#include "host/train/sort_events.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <queue>
#include <utility>

namespace resembed::train {
namespace {

constexpr size_t kBytesSorting = 28, kBytesFraction = 8;  // of an event in memory
constexpr size_t kBlockRecords = size_t{1} << 15;         // of a run, read and written at a time
constexpr size_t kLeastBytes = size_t{1} << 20;

}  // namespace

struct EventSorter::Record {
  int64_t whole, fraction;
  int32_t user, item;
};

// A sorted run: written once, then read from its start.
class EventSorter::Run {
 public:
  explicit Run(const std::string& folder) : folder_(folder) {
    std::string path = (folder.empty() ? "." : folder) + "/events.XXXXXX";
    const int descriptor = mkstemp(path.data());
    if (descriptor >= 0) unlink(path.c_str());
    file_ = descriptor < 0 ? nullptr : fdopen(descriptor, "w+b");
    if (file_ == nullptr) Fail("has no room for sorted events");
    std::setvbuf(file_, nullptr, _IONBF, 0);
    block_.reserve(kBlockRecords);
  }
  ~Run() {
    if (file_ != nullptr) std::fclose(file_);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void Write(const Record& record) {
    block_.push_back(record);
    if (block_.size() == kBlockRecords) Flush();
  }
  void EndWriting() {
    Flush();
    std::vector<Record>().swap(block_);
  }
  void BeginReading() {
    std::rewind(file_);
    Next();
  }

  bool done() const { return at_ == block_.size(); }
  const Record& head() const { return block_[at_]; }
  void Next() {
    if (at_ + 1 < block_.size()) {
      ++at_;
      return;
    }
    block_.resize(kBlockRecords);
    block_.resize(std::fread(block_.data(), sizeof(Record), kBlockRecords, file_));
    if (std::ferror(file_) != 0) Fail("lost a file of sorted events");
    at_ = 0;
  }

 private:
  void Flush() {
    if (std::fwrite(block_.data(), sizeof(Record), block_.size(), file_) != block_.size())
      Fail("has no room for sorted events");
    block_.clear();
  }
  [[noreturn]] void Fail(const char* what) const {
    throw Error{(folder_.empty() ? "." : folder_) + ": " + what + " (" + std::strerror(errno) + ")"};
  }

  const std::string folder_;
  std::FILE* file_ = nullptr;
  std::vector<Record> block_;
  size_t at_ = 0;
};

EventSorter::EventSorter(size_t memory_bytes, std::string folder, bool ordered)
    : memory_bytes_(memory_bytes == 0 ? 0 : std::max(memory_bytes, kLeastBytes)),
      folder_(std::move(folder)),
      ordered_(ordered) {
  const size_t n = memory_bytes_ / kBytesSorting;  // growing would take as much again
  user_.reserve(n);
  item_.reserve(n);
  if (ordered_) whole_.reserve(n);
}

EventSorter::~EventSorter() = default;

void EventSorter::Add(int32_t user, int32_t item, const OrderKey& key) {
  user_.push_back(user);
  item_.push_back(item);
  if (ordered_) {
    fractions_ = fractions_ || key.fraction != 0;
    if (key.fraction != 0 && fraction_.empty()) fraction_.assign(whole_.size(), 0);
    if (key.fraction != 0 || !fraction_.empty()) fraction_.push_back(key.fraction);
    whole_.push_back(key.whole);
  }
  last_user_ = std::max(last_user_, user);
  ++n_events_;
  const size_t bytes = user_.size() * kBytesSorting + fraction_.size() * kBytesFraction;
  if (memory_bytes_ > 0 && bytes >= memory_bytes_) Spill();
}

bool EventSorter::Earlier(int64_t a, int64_t b) const {
  const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
  if (whole_[i] != whole_[j]) return whole_[i] < whole_[j];
  return !fraction_.empty() && fraction_[i] < fraction_[j];
}

// Groups by user (stable), then sorts each user's events by order (stable): indices of events in memory.
std::vector<int64_t> EventSorter::Sorted(int64_t n_users, std::vector<int64_t>* offsets) const {
  offsets->assign(static_cast<size_t>(n_users) + 1, 0);
  for (const int32_t user : user_) ++(*offsets)[static_cast<size_t>(user) + 1];
  std::partial_sum(offsets->begin(), offsets->end(), offsets->begin());
  std::vector<int64_t> next(offsets->begin(), offsets->end() - 1);
  std::vector<int64_t> source(user_.size());
  for (size_t event = 0; event < user_.size(); ++event) {
    source[static_cast<size_t>(next[static_cast<size_t>(user_[event])]++)] = static_cast<int64_t>(event);
  }
  if (whole_.empty()) return source;
  const auto earlier = [this](int64_t a, int64_t b) { return Earlier(a, b); };
  for (size_t user = 0; user < static_cast<size_t>(n_users); ++user) {
    const auto begin = source.begin() + (*offsets)[user], end = source.begin() + (*offsets)[user + 1];
    if (!std::is_sorted(begin, end, earlier)) std::stable_sort(begin, end, earlier);
  }
  return source;
}

void EventSorter::Spill() {
  std::vector<int64_t> offsets;
  const std::vector<int64_t> source = Sorted(int64_t{last_user_} + 1, &offsets);
  auto run = std::make_unique<Run>(folder_);
  for (const int64_t event : source) {
    const auto e = static_cast<size_t>(event);
    run->Write({whole_.empty() ? 0 : whole_[e], fraction_.empty() ? 0 : fraction_[e], user_[e], item_[e]});
  }
  run->EndWriting();
  runs_.push_back(std::move(run));
  user_.clear();
  item_.clear();
  whole_.clear();
  fraction_.clear();
}

// Runs are parts of the file one after the other: at equal order the earlier run's event was there first.
void EventSorter::Merge(bool keep_times, Log* log) {
  const auto later = [this](size_t a, size_t b) {
    const Record &x = runs_[a]->head(), &y = runs_[b]->head();
    if (x.user != y.user) return x.user > y.user;
    if (x.whole != y.whole) return x.whole > y.whole;
    if (x.fraction != y.fraction) return x.fraction > y.fraction;
    return a > b;
  };
  std::priority_queue<size_t, std::vector<size_t>, decltype(later)> heads(later);
  for (size_t run = 0; run < runs_.size(); ++run) {
    runs_[run]->BeginReading();
    if (!runs_[run]->done()) heads.push(run);
  }
  size_t event = 0;
  while (!heads.empty()) {
    const size_t run = heads.top();
    heads.pop();
    do {
      const Record& record = runs_[run]->head();
      log->items[event] = record.item;
      if (keep_times) log->times[event] = record.whole;
      if (keep_times && fractions_) log->time_fractions[event] = record.fraction;
      ++log->offsets[static_cast<size_t>(record.user) + 1];
      ++event;
      runs_[run]->Next();
    } while (!runs_[run]->done() && (heads.empty() || later(heads.top(), run)));
    if (!runs_[run]->done()) heads.push(run);
  }
  if (event != log->items.size()) throw Error{folder_ + ": lost sorted events; needs a disk that keeps them"};
  std::partial_sum(log->offsets.begin(), log->offsets.end(), log->offsets.begin());
}

void EventSorter::Finish(int64_t n_users, bool keep_times, Log* log) {
  const auto n = static_cast<size_t>(n_events_);
  const bool times = keep_times && ordered_;
  if (!runs_.empty()) {
    if (!user_.empty()) Spill();
    for (std::vector<int32_t>* column : {&user_, &item_}) std::vector<int32_t>().swap(*column);
    for (std::vector<int64_t>* column : {&whole_, &fraction_}) std::vector<int64_t>().swap(*column);
    log->items.resize(n);
    if (times) log->times.resize(n);
    if (times && fractions_) log->time_fractions.resize(n);
    log->offsets.assign(static_cast<size_t>(n_users) + 1, 0);
    Merge(times, log);
    runs_.clear();
    return;
  }
  const std::vector<int64_t> source = Sorted(n_users, &log->offsets);
  log->items.resize(n);
  for (size_t event = 0; event < n; ++event) log->items[event] = item_[static_cast<size_t>(source[event])];
  if (!times) return;
  log->times.reserve(n);
  for (const int64_t event : source) log->times.push_back(whole_[static_cast<size_t>(event)]);
  if (!fractions_) return;
  log->time_fractions.reserve(n);
  for (const int64_t event : source) log->time_fractions.push_back(fraction_[static_cast<size_t>(event)]);
}

}  // namespace resembed::train
