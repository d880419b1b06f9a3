// SPDX-License-Identifier: Apache-2.0
#include "host/train/count_pairs.h"

#include <algorithm>
#include <vector>

namespace resembed::train {

namespace {
constexpr size_t kMostBufferBytes = size_t{256} << 20;  // a larger one sorts no faster
}

void CheckStatus(int32_t status) {
  if (status != RESEMBED_OK) throw Error{resembed_last_error_message()};
}

CovisitPointer CountPairs(const Log& log, const Split& split, int window, const uint32_t* distance_weights,
                          const PairBudget& budget) {
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = log.n_items();
  options.window = window;
  options.distance_weights = distance_weights;
  if (budget.bytes > 0) {
    const auto bytes = std::max<size_t>(static_cast<size_t>(budget.bytes), size_t{1} << 20);
    options.buffer_bytes = std::min(bytes / 2, kMostBufferBytes);
    options.spill_folder = budget.folder.c_str();
    options.spill_bytes = bytes / 3;
  }
  resembed_covisit* raw = nullptr;
  CheckStatus(resembed_covisit_create(&options, &raw));
  CovisitPointer covisit(raw, resembed_covisit_destroy);

  // Users of a block lie one after the other in a buffer of about this many events.
  constexpr int64_t kBlockEvents = 1 << 20;
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets = {0};
  const auto flush = [&] {
    CheckStatus(resembed_covisit_add(covisit.get(), ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64,
                                     static_cast<int64_t>(offsets.size()) - 1));
    ids.clear();
    offsets.assign(1, 0);
  };
  for (const int32_t user : split.train) {
    const auto begin = log.items.begin() + log.offsets[static_cast<size_t>(user)];
    const auto end = log.items.begin() + EndOf(log, split.train_ends, user);
    ids.insert(ids.end(), begin, end);
    offsets.push_back(static_cast<int64_t>(ids.size()));
    if (offsets.back() >= kBlockEvents) flush();
  }
  flush();
  return covisit;
}

}  // namespace resembed::train
