// SPDX-License-Identifier: Apache-2.0
// Co-visit counts of the training users: what the interest graph and the counting baselines are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "host/train/log.h"
#include "resembed/resembed.h"

namespace resembed::train {

// Throws Error with the library's sentence when a call failed.
void CheckStatus(int32_t status);

// What counting may take: beyond `bytes` counts wait in nameless files of `folder`. 0 = no limit, no files.
struct PairBudget {
  int64_t bytes = 0;
  std::string folder;
};

using CovisitPointer = std::unique_ptr<resembed_covisit, void (*)(resembed_covisit*)>;
// Of what training sees of each training user. distance_weights: [window] or null = all 1. Throws Error.
CovisitPointer CountPairs(const Log& log, const Split& split, int window, const uint32_t* distance_weights,
                          const PairBudget& budget);

}  // namespace resembed::train
