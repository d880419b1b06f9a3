// SPDX-License-Identifier: Apache-2.0
// Co-visit counts (Zhou et al. 2019, Algorithm 1): created, added to, read.
#include "host/graph/covisit.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "host/descriptor.h"
#include "host/validate.h"

namespace resembed::detail {
namespace {

template <typename Offset>
resembed_status CheckOffsets(const Offset* offsets, int64_t n_sequences) {
  if (offsets[0] < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: offsets[0] is %lld; needs >= 0",
                static_cast<long long>(offsets[0]));
  }
  for (int64_t sequence = 0; sequence < n_sequences; ++sequence) {
    if (offsets[sequence + 1] < offsets[sequence]) {
      return Fail(RESEMBED_INVALID_ARGUMENT,
                  "covisit_add: offsets[%lld] is %lld; needs non-decreasing values, offsets[%lld] is %lld",
                  static_cast<long long>(sequence + 1), static_cast<long long>(offsets[sequence + 1]),
                  static_cast<long long>(sequence), static_cast<long long>(offsets[sequence]));
    }
  }
  return RESEMBED_OK;
}

template <typename Id>
resembed_status CheckIds(const Id* ids, int64_t first, int64_t last, int64_t n_items) {
  for (int64_t position = first; position < last; ++position) {
    if (ids[position] < 0 || ids[position] >= n_items) {
      return Fail(RESEMBED_OUT_OF_RANGE, "covisit_add: ids[%lld] is %lld; needs 0 .. n_items - 1 (%lld)",
                  static_cast<long long>(position), static_cast<long long>(ids[position]),
                  static_cast<long long>(n_items - 1));
    }
  }
  return RESEMBED_OK;
}

template <typename Offset>
resembed_status CheckTimesAndSeen(const resembed_covisit_sequences& given, const Offset* offsets) {
  for (int64_t sequence = 0; sequence < given.n_sequences; ++sequence) {
    const auto first = static_cast<int64_t>(offsets[sequence]);
    const auto last = static_cast<int64_t>(offsets[sequence + 1]);
    for (int64_t at = first + 1; given.times != nullptr && given.on_device == 0 && at < last; ++at) {
      if (given.times[at] < given.times[at - 1]) {
        return Fail(RESEMBED_INVALID_ARGUMENT,
                    "covisit_add: times[%lld] is %lld; needs at least the time before (%lld)",
                    static_cast<long long>(at), static_cast<long long>(given.times[at]),
                    static_cast<long long>(given.times[at - 1]));
      }
    }
    if (given.n_seen != nullptr && (given.n_seen[sequence] < 0 || given.n_seen[sequence] > last - first)) {
      return Fail(RESEMBED_OUT_OF_RANGE, "covisit_add: n_seen[%lld] is %lld; needs 0 .. %lld",
                  static_cast<long long>(sequence), static_cast<long long>(given.n_seen[sequence]),
                  static_cast<long long>(last - first));
    }
  }
  return RESEMBED_OK;
}

template <typename Offset>
resembed_status AddOnDevice(resembed_covisit* counts, const Offset* offsets,
                            const resembed_covisit_sequences& given) {
  std::vector<int64_t> wide;
  const int64_t* wide_offsets;
  if constexpr (std::is_same_v<Offset, int64_t>) {
    wide_offsets = offsets;
  } else {
    wide.assign(offsets, offsets + given.n_sequences + 1);
    wide_offsets = wide.data();
  }
  counts->adding = true;
  const resembed_status status = counts->device->Add(given, wide_offsets, &counts->pairs);
  // Bad ids on the device are found before anything is counted.
  counts->adding = counts->pairs.broken() || (status != RESEMBED_OK && status != RESEMBED_OUT_OF_RANGE);
  return status;
}

template <typename Id, typename Offset>
resembed_status AddSequences(resembed_covisit* counts, const Id* ids, const Offset* offsets,
                             const resembed_covisit_sequences& given) {
  const int64_t n = given.n_sequences;
  RESEMBED_RETURN_IF_ERROR(CheckOffsets(offsets, n));
  const auto first = static_cast<int64_t>(offsets[0]), last = static_cast<int64_t>(offsets[n]);
  if (last > first && ids == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: ids is null; needs %lld ids",
                static_cast<long long>(last));
  }
  if (given.on_device == 0) RESEMBED_RETURN_IF_ERROR(CheckIds(ids, first, last, counts->n_items));
  RESEMBED_RETURN_IF_ERROR(CheckTimesAndSeen(given, offsets));
  if (counts->device != nullptr) return AddOnDevice(counts, offsets, given);
  counts->adding = true;
  for (int64_t sequence = 0; sequence < n; ++sequence) {
    const auto begin = static_cast<int64_t>(offsets[sequence]);
    const auto length = static_cast<int64_t>(offsets[sequence + 1]) - begin;
    ForEachPair(counts->rules, ids + begin, given.times == nullptr ? nullptr : given.times + begin, length,
                given.n_seen == nullptr ? 0 : given.n_seen[sequence], &counts->uses,
                [counts](uint32_t lower, uint32_t higher, int32_t distance) {
                  counts->pairs.Add(lower, higher, distance);
                });
  }
  counts->adding = counts->pairs.broken();
  return RESEMBED_OK;
}

resembed_status CheckIndexType(const char* argument, resembed_dtype dtype) {
  if (dtype == RESEMBED_I32 || dtype == RESEMBED_I64) return RESEMBED_OK;
  return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: %s is %s; needs i32 or i64", argument,
              DtypeName(dtype));
}

resembed_status CheckOptions(const resembed_covisit_options& options) {
  if (options.n_items < 0 || options.n_items > std::numeric_limits<int32_t>::max()) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: n_items is %lld; needs 0 .. 2147483647",
                static_cast<long long>(options.n_items));
  }
  if (options.window < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: window is %d; needs >= 1, or 0 for %d",
                options.window, kDefaultWindow);
  }
  constexpr size_t kMaxBytes = std::numeric_limits<size_t>::max() / 4;
  if (options.buffer_bytes > kMaxBytes || options.spill_bytes > kMaxBytes) {
    const bool buffer = options.buffer_bytes > kMaxBytes;
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: %s is %zu; needs <= %zu",
                buffer ? "buffer_bytes" : "spill_bytes", buffer ? options.buffer_bytes : options.spill_bytes,
                kMaxBytes);
  }
  if (options.device_bytes > kMaxBytes) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: device_bytes is %zu; needs <= %zu",
                options.device_bytes, kMaxBytes);
  }
  const struct {
    const char* name;
    int64_t value;
  } limits[] = {{"max_sequence_items", options.max_sequence_items},
                {"max_pair_uses", options.max_pair_uses},
                {"session_gap", options.session_gap}};
  for (const auto& limit : limits) {
    if (limit.value >= 0) continue;
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: %s is %lld; needs >= 1, or 0 for none",
                limit.name, static_cast<long long>(limit.value));
  }
  return RESEMBED_OK;
}

}  // namespace

resembed_status RulesOf(const resembed_covisit_options& options, SequenceRules* rules) {
  RESEMBED_RETURN_IF_ERROR(CheckOptions(options));
  const int32_t window = options.window == 0 ? kDefaultWindow : options.window;
  rules->distance_weights.assign(static_cast<size_t>(window), 1);
  if (options.distance_weights != nullptr) {
    rules->distance_weights.assign(options.distance_weights, options.distance_weights + window);
  }
  rules->max_items = options.max_sequence_items;
  rules->max_pair_uses = options.max_pair_uses;
  rules->session_gap = options.session_gap;
  return RESEMBED_OK;
}

}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;
using resembed::detail::PairCount;

resembed_status resembed_covisit_create(const resembed_covisit_options* options, resembed_covisit** counts) {
  if (options == nullptr || counts == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: %s is null; needs a pointer",
                options == nullptr ? "options" : "counts");
  }
  const resembed_covisit_options read = resembed::detail::ReadDescriptor(options);
  try {
    resembed::detail::SequenceRules rules;
    RESEMBED_RETURN_IF_ERROR(resembed::detail::RulesOf(read, &rules));
    const size_t buffer = read.buffer_bytes == 0 ? resembed::detail::kDefaultBufferBytes : read.buffer_bytes;
    resembed::detail::SpillRules spill;
    if (read.spill_folder != nullptr) {
      spill.folder = read.spill_folder;
      spill.entries =
          static_cast<int64_t>((read.spill_bytes == 0 ? buffer : read.spill_bytes) / sizeof(PairCount));
    }
    resembed_place place = {};
    if (read.place != nullptr) {
      RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckPlace("covisit_create", read.place, &place,
                                                            resembed::detail::Backends::kCpuAndCuda));
    }
    auto made = std::make_unique<resembed_covisit>(read.n_items, std::move(rules), buffer, std::move(spill),
                                                   resembed::detail::Executor(place));
    if (place.backend == RESEMBED_CUDA) {
      RESEMBED_RETURN_IF_ERROR(resembed::detail::DeviceCounts::Create(place, made->rules, read.n_items,
                                                                      read.device_bytes, &made->device));
    }
    *counts = made.release();
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "covisit_create: window is %d; needs memory for its weights",
                read.window);
  }
  return RESEMBED_OK;
}

resembed_status resembed_covisit_add_sequences(resembed_covisit* counts,
                                               const resembed_covisit_sequences* sequences) {
  if (counts == nullptr || sequences == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: %s is null; needs a pointer",
                counts == nullptr ? "counts" : "sequences");
  }
  const resembed_covisit_sequences given = resembed::detail::ReadDescriptor(sequences);
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndexType("id_dtype", given.id_dtype));
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndexType("offset_dtype", given.offset_dtype));
  if (given.n_sequences < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: n_sequences is %lld; needs >= 0",
                static_cast<long long>(given.n_sequences));
  }
  if (given.n_sequences == 0) return RESEMBED_OK;
  if (given.offsets == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: offsets is null; needs %lld offsets",
                static_cast<long long>(given.n_sequences + 1));
  }
  if (given.on_device != 0 && (given.on_device != 1 || counts->device == nullptr)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: on_device is %d; needs 0%s", given.on_device,
                counts->device == nullptr ? " where counts are on the cpu" : " or 1");
  }
  return resembed::detail::Guarded("covisit_add", counts, [&] {
    const auto add = [&](const auto* typed_ids) {
      return given.offset_dtype == RESEMBED_I32
                 ? resembed::detail::AddSequences(counts, typed_ids,
                                                  static_cast<const int32_t*>(given.offsets), given)
                 : resembed::detail::AddSequences(counts, typed_ids,
                                                  static_cast<const int64_t*>(given.offsets), given);
    };
    return given.id_dtype == RESEMBED_I32 ? add(static_cast<const int32_t*>(given.ids))
                                          : add(static_cast<const int64_t*>(given.ids));
  });
}

resembed_status resembed_covisit_add(resembed_covisit* counts, const void* ids, resembed_dtype id_dtype,
                                     const void* offsets, resembed_dtype offset_dtype, int64_t n_sequences) {
  resembed_covisit_sequences sequences = {};
  sequences.struct_size = sizeof(sequences);
  sequences.ids = ids;
  sequences.id_dtype = id_dtype;
  sequences.offsets = offsets;
  sequences.offset_dtype = offset_dtype;
  sequences.n_sequences = n_sequences;
  return resembed_covisit_add_sequences(counts, &sequences);
}

resembed_status resembed_covisit_n_pairs(resembed_covisit* counts, int64_t* n_pairs) {
  if (counts == nullptr || n_pairs == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_n_pairs: %s is null; needs a pointer",
                counts == nullptr ? "counts" : "n_pairs");
  }
  return resembed::detail::Guarded("covisit_n_pairs", counts, [&]() -> resembed_status {
    RESEMBED_RETURN_IF_ERROR(resembed::detail::Gather("covisit_n_pairs", counts));
    *n_pairs = counts->pairs.size();
    return RESEMBED_OK;
  });
}

resembed_status resembed_covisit_export(resembed_covisit* counts, int64_t* row_offsets, int32_t* columns,
                                        int64_t* values) {
  if (counts == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_export: counts is null; needs a pointer");
  }
  return resembed::detail::Guarded("covisit_export", counts, [&]() -> resembed_status {
    RESEMBED_RETURN_IF_ERROR(resembed::detail::Gather("covisit_export", counts));
    const auto n_items = static_cast<size_t>(counts->n_items);
    // next[i + 1] counts row i, then becomes its end, then (shifted) the place of its next entry.
    std::vector<int64_t> next(n_items + 1, 0);
    const bool counted = resembed::detail::ForEachCount(counts, [&](const PairCount& pair) {
      ++next[static_cast<size_t>(LowerItem(pair)) + 1];
      ++next[static_cast<size_t>(HigherItem(pair)) + 1];
    });
    if (!counted) return resembed::detail::ReadFailed("covisit_export", counts);
    for (size_t item = 0; item < n_items; ++item) next[item + 1] += next[item];
    if (row_offsets != nullptr) std::copy(next.begin(), next.end(), row_offsets);
    if (columns == nullptr && values == nullptr) return RESEMBED_OK;
    const auto put = [&](int32_t row, int32_t column, int64_t value) {
      const int64_t at = next[static_cast<size_t>(row)]++;
      if (columns != nullptr) columns[at] = column;
      if (values != nullptr) values[at] = value;
    };
    // A row meets its lower partners first (as their higher item, in their order), then its higher ones.
    const bool written = resembed::detail::ForEachCount(counts, [&](const PairCount& pair) {
      put(HigherItem(pair), LowerItem(pair), pair.count);
      put(LowerItem(pair), HigherItem(pair), pair.count);
    });
    return written ? RESEMBED_OK : resembed::detail::ReadFailed("covisit_export", counts);
  });
}

void resembed_covisit_destroy(resembed_covisit* counts) { delete counts; }

}  // extern "C"
