// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <limits>

#include "host/executor.h"
#include "host/validate.h"

namespace resembed::detail {
namespace {

using ll = long long;

// Values one task looks at: 16 K, some 10 us, so that small lists are walked on the calling thread.
constexpr int64_t kChunk = 16384;
constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

// Lowest index in [0, n) for which `is_bad`, or kNone; *count of them when not null. The same for any
// number of threads.
template <typename IsBad>
int64_t FirstBad(int64_t n, const Executor& executor, int64_t* count, const IsBad& is_bad) {
  std::atomic<int64_t> first{kNone}, total{0};
  executor.ParallelFor((n + kChunk - 1) / kChunk, [&](int64_t chunk) {
    const int64_t end = std::min(n, (chunk + 1) * kChunk);
    int64_t bad = 0;
    for (int64_t index = chunk * kChunk; index < end; ++index) bad += is_bad(index);
    if (bad == 0) return;
    total.fetch_add(bad, std::memory_order_relaxed);
    int64_t index = chunk * kChunk;
    while (!is_bad(index)) ++index;
    int64_t seen = first.load(std::memory_order_relaxed);
    while (index < seen && !first.compare_exchange_weak(seen, index, std::memory_order_relaxed)) {
    }
  });
  if (count != nullptr) *count = total.load(std::memory_order_relaxed);
  return first.load(std::memory_order_relaxed);
}

template <typename OffsetT>
resembed_status CheckOffsets(const char* op, int32_t index, const resembed_feature& feature,
                             const Executor& executor) {
  const auto* offsets = static_cast<const OffsetT*>(feature.offsets);
  if (offsets[0] != 0) {
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: features[%d].offsets[0] is %lld; needs 0", op, index,
                static_cast<ll>(offsets[0]));
  }
  const int64_t bag = FirstBad(feature.n_bags, executor, nullptr,
                               [offsets](int64_t b) { return offsets[b + 1] < offsets[b]; });
  if (bag != kNone) {
    return Fail(RESEMBED_OUT_OF_RANGE,
                "%s: features[%d].offsets[%lld] is %lld; needs at least offsets[%lld] (%lld)", op, index,
                static_cast<ll>(bag + 1), static_cast<ll>(offsets[bag + 1]), static_cast<ll>(bag),
                static_cast<ll>(offsets[bag]));
  }
  if (static_cast<int64_t>(offsets[feature.n_bags]) != feature.n_ids) {
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: features[%d].offsets[%lld] is %lld; needs n_ids (%lld)", op,
                index, static_cast<ll>(feature.n_bags), static_cast<ll>(offsets[feature.n_bags]),
                static_cast<ll>(feature.n_ids));
  }
  return RESEMBED_OK;
}

template <typename IdT>
int64_t FirstBadId(const resembed_feature& feature, int64_t n_items, const Executor& executor,
                   int64_t* count) {
  const auto* ids = static_cast<const IdT*>(feature.ids);
  const auto limit = static_cast<uint64_t>(n_items);
  // Without padding the first test already says "bad", so the second one only repeats it.
  const bool padded = feature.has_padding != 0;
  const int64_t padding = feature.padding_id;
  return FirstBad(feature.n_ids, executor, count, [=](int64_t position) {
    const auto id = static_cast<int64_t>(ids[position]);
    return static_cast<uint64_t>(id) >= limit && !(padded && id == padding);
  });
}

}  // namespace

resembed_status CheckIds(const char* op, const resembed_feature* const* features, int32_t n_features,
                         const Tables& tables, resembed_bounds bounds, resembed_bad_ids* record,
                         const resembed_place& place) {
  const Executor executor(place);
  if (bounds < RESEMBED_BOUNDS_CHECK || bounds > RESEMBED_BOUNDS_SKIP) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: bounds is %d; needs check, trust or skip", op, bounds);
  }
  for (int32_t index = 0; index < n_features; ++index) {
    const resembed_feature feature = ReadFeature(features[index], 1);
    if (feature.offsets == nullptr) continue;
    RESEMBED_RETURN_IF_ERROR(feature.offset_dtype == RESEMBED_I32
                                 ? CheckOffsets<int32_t>(op, index, feature, executor)
                                 : CheckOffsets<int64_t>(op, index, feature, executor));
  }
  resembed_bad_ids found = {0, -1, -1, 0};
  int64_t n_items_of_first = 0;
  for (int32_t index = 0; index < n_features && bounds != RESEMBED_BOUNDS_TRUST; ++index) {
    const resembed_feature feature = ReadFeature(features[index], 1);
    const int64_t n_items = tables[feature.table].n_items;
    int64_t count = 0;
    const int64_t position = feature.id_dtype == RESEMBED_I32
                                 ? FirstBadId<int32_t>(feature, n_items, executor, &count)
                                 : FirstBadId<int64_t>(feature, n_items, executor, &count);
    if (count > 0 && found.count == 0) {
      found = {0, index, position, ReadIndex(feature.ids, feature.id_dtype, position)};
      n_items_of_first = n_items;
    }
    found.count += count;
  }
  if (record != nullptr) *record = found;
  if (bounds == RESEMBED_BOUNDS_CHECK && found.count > 0) {
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: features[%lld].ids[%lld] is %lld; needs 0 .. %lld (n_items - 1)",
                op, static_cast<ll>(found.feature), static_cast<ll>(found.position),
                static_cast<ll>(found.value), static_cast<ll>(n_items_of_first - 1));
  }
  return RESEMBED_OK;
}

}  // namespace resembed::detail
