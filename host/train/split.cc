// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "host/train/log.h"
#include "host/train/random.h"

namespace resembed::train {
namespace {

constexpr double kTrainShare = 0.8, kValidEnd = 0.9;
constexpr uint64_t kFractionSeed = 0x7472'6169'6E66'7261u;  // a second hash, independent of the split's

double Share(const std::string& name, uint64_t seed) {
  return static_cast<double>(HashName(name, seed) >> 11) * 0x1p-53;
}

std::string Count(size_t n, const char* noun) { return std::to_string(n) + " " + noun + (n == 1 ? "" : "s"); }

void CheckFraction(double train_fraction) {
  if (!(train_fraction > 0 && train_fraction <= 1)) {
    throw Error{"train fraction is " + std::to_string(train_fraction) + "; needs more than 0, at most 1"};
  }
}

// n_training: training users before train_fraction.
void CheckParts(const Log& log, const Split& split, size_t n_training, double train_fraction,
                const std::string& remedy) {
  if (split.train.empty() || split.valid.empty() || split.test.empty()) {
    throw Error{log.source + ": " + Count(static_cast<size_t>(log.n_users()), "user") + ", " +
                std::to_string(static_cast<size_t>(log.n_users() - split.too_short)) +
                " with 3 events or more: the split gives " + std::to_string(n_training) + " for training" +
                (train_fraction < 1 ? " (" + std::to_string(split.train.size()) + " kept)" : "") + ", " +
                std::to_string(split.valid.size()) + " for validation, " + std::to_string(split.test.size()) +
                " for the test; each needs at least one (a few dozen users, or " + remedy + ")"};
  }
}

}  // namespace

bool HashesToTraining(const std::string& user, uint64_t seed) { return Share(user, seed) < kTrainShare; }

Split SplitUsers(const Log& log, uint64_t seed, double train_fraction) {
  CheckFraction(train_fraction);
  Split split;
  size_t n_training = 0;  // before train_fraction
  for (int64_t user = 0; user < log.n_users(); ++user) {
    const size_t u = static_cast<size_t>(user);
    if (log.offsets[u + 1] - log.offsets[u] < kMinEvents) {
      ++split.too_short;
      continue;
    }
    const double share = Share(log.user_names[u], seed);
    if (share >= kValidEnd) {
      split.test.push_back(static_cast<int32_t>(user));
    } else if (share >= kTrainShare) {
      split.valid.push_back(static_cast<int32_t>(user));
    } else {
      ++n_training;
      if (Share(log.user_names[u], seed ^ kFractionSeed) < train_fraction)
        split.train.push_back(static_cast<int32_t>(user));
    }
  }
  CheckParts(log, split, n_training, train_fraction, "another --split-seed");
  return split;
}

Split SplitByTime(const Log& log, double cut, uint64_t seed, double train_fraction) {
  CheckFraction(train_fraction);
  if (!(cut > 0 && cut < 1))
    throw Error{"time cut is " + std::to_string(cut) + "; needs more than 0, less than 1"};
  if (log.times.empty() && log.n_events() > 0) {
    throw Error{log.source + ": has no order column; needs one to be split by time"};
  }
  using Key = std::pair<int64_t, int64_t>;
  const auto key = [&log](int64_t event) {
    const size_t e = static_cast<size_t>(event);
    return Key{log.times[e], log.time_fractions.empty() ? 0 : log.time_fractions[e]};
  };
  std::vector<Key> keys;
  keys.reserve(log.items.size());
  for (int64_t event = 0; event < log.n_events(); ++event) keys.push_back(key(event));
  const auto at_share = [&keys](double share) {
    const auto at = keys.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(keys.size()));
    std::nth_element(keys.begin(), at, keys.end());
    return *at;
  };
  const Key valid_from = at_share(cut), test_from = at_share((1 + cut) / 2);

  Split split;
  split.valid_from = valid_from.first;
  split.test_from = test_from.first;
  size_t n_training = 0;  // before train_fraction
  for (int32_t user = 0; user < log.n_users(); ++user) {
    const size_t u = static_cast<size_t>(user);
    const int64_t begin = log.offsets[u], end = log.offsets[u + 1];
    int64_t valid_begin = begin, test_begin = begin;
    while (valid_begin < end && key(valid_begin) < valid_from) ++valid_begin;
    while (test_begin < end && key(test_begin) < test_from) ++test_begin;
    split.train_ends.push_back(valid_begin);
    split.valid_ends.push_back(test_begin);
    split.test_ends.push_back(end);
    const bool trains = valid_begin - begin >= kMinEvents;
    const bool validates = test_begin > valid_begin && test_begin - begin >= kMinEvents;
    const bool tests = end > test_begin && end - begin >= kMinEvents;
    if (trains) ++n_training;
    if (trains && Share(log.user_names[u], seed ^ kFractionSeed) < train_fraction)
      split.train.push_back(user);
    if (validates) split.valid.push_back(user);
    if (tests) split.test.push_back(user);
    split.too_short += trains || validates || tests ? 0 : 1;
  }
  CheckParts(log, split, n_training, train_fraction, "another --time-cut");
  return split;
}

}  // namespace resembed::train
