// SPDX-License-Identifier: Apache-2.0
// The pairs of one behavior sequence (Zhou et al. 2019, Algorithm 1, and its options).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace resembed::detail {

struct SequenceRules {
  std::vector<uint32_t> distance_weights;  // [window]
  int64_t max_items = 0;                   // only the last so many positions; 0 = all
  int32_t max_pair_uses = 0;               // a pair counts at most so often, the first ones; 0 = no limit
  int64_t session_gap = 0;                 // of times; 0 = sequences are not cut
};

// One use of a pair. Uses come by the position of the earlier item, then by distance.
struct PairUse {
  uint64_t key;  // lower << 32 | higher
  int32_t distance;
  int64_t order;
};

// Calls sink(lower, higher, distance) for each pair that counts. times [length], non-decreasing, or null. The
// first n_seen positions were counted before: pairs of two of them are left out. `uses` is scratch.
template <typename Id, typename Sink>
void ForEachPair(const SequenceRules& rules, const Id* ids, const int64_t* times, int64_t length,
                 int64_t n_seen, std::vector<PairUse>* uses, Sink&& sink) {
  const auto window = static_cast<int64_t>(rules.distance_weights.size());
  const bool cut = times != nullptr && rules.session_gap > 0;
  const int64_t first = rules.max_items > 0 ? std::max<int64_t>(0, length - rules.max_items) : 0;
  uses->clear();
  for (int64_t center = first; center < length; ++center) {
    const auto item = static_cast<uint32_t>(ids[center]);
    const int64_t reach = std::min(window, length - 1 - center);
    for (int64_t distance = 1; distance <= reach; ++distance) {
      const int64_t at = center + distance;
      if (cut && static_cast<uint64_t>(times[at]) - static_cast<uint64_t>(times[at - 1]) >
                     static_cast<uint64_t>(rules.session_gap)) {
        break;
      }
      if (at < n_seen) continue;
      const auto other = static_cast<uint32_t>(ids[at]);
      if (other == item || rules.distance_weights[static_cast<size_t>(distance - 1)] == 0) continue;
      const uint32_t lower = std::min(item, other), higher = std::max(item, other);
      if (rules.max_pair_uses == 0) {
        sink(lower, higher, static_cast<int32_t>(distance));
      } else {
        uses->push_back({uint64_t{lower} << 32 | uint64_t{higher}, static_cast<int32_t>(distance),
                         static_cast<int64_t>(uses->size())});
      }
    }
  }
  if (rules.max_pair_uses == 0) return;
  std::sort(uses->begin(), uses->end(), [](const PairUse& a, const PairUse& b) {
    return a.key != b.key ? a.key < b.key : a.order < b.order;
  });
  int32_t n_same = 0;
  for (size_t use = 0; use < uses->size(); ++use) {
    const PairUse& now = (*uses)[use];
    n_same = use > 0 && (*uses)[use - 1].key == now.key ? n_same + 1 : 0;
    if (n_same >= rules.max_pair_uses) continue;
    sink(static_cast<uint32_t>(now.key >> 32), static_cast<uint32_t>(now.key & 0xffffffffu), now.distance);
  }
}

}  // namespace resembed::detail
