// SPDX-License-Identifier: Apache-2.0
// A behavior log: who touched what, in which order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace resembed::train {

// Events of user u, in time order (equal order keeps file order): items[offsets[u] .. offsets[u + 1]).
// Users and items are numbered in order of first appearance in the file.
struct Log {
  std::vector<int64_t> offsets;         // [n_users + 1]
  std::vector<int32_t> items;           // [n_events]
  std::vector<int64_t> times;           // [n_events] whole part of the order; empty unless asked for
  std::vector<int64_t> time_fractions;  // [n_events] the rest, in units of 1e-18; empty: all are whole
  std::vector<std::string> user_names;  // [n_users] as in the file
  std::vector<std::string> item_names;  // [n_items]
  std::vector<int32_t> interest_of;     // [n_items] true interests of a generated log; else empty
  std::string source;                   // the file, or "generated ..."
  std::string columns;                  // what was read as what: "user=visitorid,item=itemid,order=timestamp"

  int64_t n_users() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t n_items() const { return static_cast<int64_t>(item_names.size()); }
  int64_t n_events() const { return static_cast<int64_t>(items.size()); }
};

// A failure a user can act on; `message` is complete ("FILE:LINE: reason").
struct Error {
  std::string message;
};

struct ReadOptions {
  // "user=visitorid,item=itemid,order=timestamp"; empty: the header's user/item/order (or the common
  // synonyms), without a header the first three columns.
  std::string columns;
  std::function<void(int64_t bytes_read, int64_t bytes_total, int64_t lines)> progress;
  bool keep_times = false;  // 8 bytes an event more, 16 with fractions
  // Events beyond so many bytes while they are sorted wait as sorted runs in nameless files of the folder
  // `scratch`, 24 bytes an event; 0 = all in memory.
  size_t memory_bytes = 0;
  std::string scratch;
};

// Reads FILE.tsv|csv[.gz]; order is a number or ISO 8601 (numbers of 64 bits are compared exactly); quoted
// csv fields are understood. Without an order column the order of the file counts.
// Throws Error on a malformed line (line number and reason), an empty file, a file without events.
// Memory: the distinct names, 4 bytes an event for the result, and while sorting 28 bytes an event (8 more with
// fractions of a second) or memory_bytes. Names are the bytes of the file: a quoted csv field may hold tabs, line
// ends or what is not UTF-8.
Log ReadLog(const std::string& path, const ReadOptions& options);

// The interest delay model (docs/concepts.md): items belong to n_interests domains, popularity is Zipf inside
// each; a user holds an interest for a period of `period` clicks, then draws the next. The same log on every
// platform. The defaults give an item 50 events on average, half of the items fewer than 30: scarce enough
// for what neighbors share to matter.
struct GeneratorOptions {
  int64_t n_users = 10000;
  int64_t n_items = 4000;
  int64_t n_interests = 80;    // sizes are Zipf too (interest_zipf), at least 2 items each
  int32_t period = 5;          // clicks per interest period (T)
  double mean_periods = 4;     // periods per user (p): 1 + Poisson(mean_periods - 1)
  double zipf = 0.9;           // skew of popularity inside an interest
  double interest_zipf = 0.5;  // skew of the interests' sizes; an interest is drawn in proportion to its size
  double overlap = 0.1;        // share of clicks from the interest next to the one held: domains overlap
  double noise = 0.1;          // share of clicks drawn evenly from the whole catalogue
  double repeat = 0.1;         // share of clicks that repeat an earlier click of the user
  double stay = 0.5;           // chance that a user's next interest is one she had before
  uint64_t seed = 1;
  // Users start somewhere in a year; clicks of a period are minutes apart, periods up to two months. Seconds, from
  // a stream of their own: the items are the same with and without.
  bool keep_times = false;
};
// Throws Error for options without a meaning.
Log GenerateLog(const GeneratorOptions& options);
// Writes a tsv (path ending in .gz: compressed) as a site would: every user's first event, then every user's second,
// ...; order is the whole part of the event's time, or the number of the round. For names without tabs and line ends. Throws Error.
void WriteLog(const Log& log, const std::string& path);

constexpr int64_t kMinEvents = 3;  // of a user that the split takes
// The hash puts the user into `train`, should she have events enough.
bool HashesToTraining(const std::string& user, uint64_t seed);

// Who trains, validates, tests, and how far into each user's events that part looks. The target of a user in
// validation or test is the last event it sees; training uses every event it sees.
struct Split {
  std::vector<int32_t> train, valid, test;  // users, increasing
  int64_t too_short = 0;                    // users left out
  // [n_users] index into log.items behind the last event that the part sees; empty: all events of its users.
  std::vector<int64_t> train_ends, valid_ends, test_ends;
  int64_t valid_from = 0, test_from = 0;  // of a split by time: whole part of the order of the two cuts
};
inline int64_t EndOf(const Log& log, const std::vector<int64_t>& ends, int32_t user) {
  const size_t u = static_cast<size_t>(user);
  return ends.empty() ? log.offsets[u + 1] : ends[u];
}

// Users with at least three events, split 80/10/10 by a hash of the user's name and `seed`.
// Throws Error, with the counts, when one of the three would be empty.
// train_fraction: only the first share of the training users by a second hash are kept in `train`.
Split SplitUsers(const Log& log, uint64_t seed, double train_fraction);

// One cut in time. The first `cut` (0 to 1, both out) of all events by order trains; the rest is halved into the
// validation period and the test period after it. Events of equal order lie on one side, the later one.
//   train  users with at least three events before the cut; training sees those
//   valid  users with an event in the validation period and two before it; the target is the last one there
//   test   the same with the test period
// A user may be in several. What lies before the cut alone decides `train` and its ends.
// Throws Error, with the counts, for a log without times and when a part would be empty.
// Memory: 16 bytes an event while this runs.
Split SplitByTime(const Log& log, double cut, uint64_t seed, double train_fraction);

}  // namespace resembed::train
