// SPDX-License-Identifier: Apache-2.0
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

}  // namespace

bool HashesToTraining(const std::string& user, uint64_t seed) { return Share(user, seed) < kTrainShare; }

Split SplitUsers(const Log& log, uint64_t seed, double train_fraction) {
  if (!(train_fraction > 0 && train_fraction <= 1)) {
    throw Error{"train fraction is " + std::to_string(train_fraction) + "; needs more than 0, at most 1"};
  }
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
  if (split.train.empty() || split.valid.empty() || split.test.empty()) {
    throw Error{log.source + ": " + Count(static_cast<size_t>(log.n_users()), "user") + ", " +
                std::to_string(static_cast<size_t>(log.n_users() - split.too_short)) +
                " with 3 events or more: the split gives " + std::to_string(n_training) + " for training" +
                (train_fraction < 1 ? " (" + std::to_string(split.train.size()) + " kept)" : "") + ", " +
                std::to_string(split.valid.size()) + " for validation, " + std::to_string(split.test.size()) +
                " for the test; each needs at least one (a few dozen users, or another --split-seed)"};
  }
  return split;
}

}  // namespace resembed::train
