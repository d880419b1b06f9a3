// SPDX-License-Identifier: Apache-2.0
// Co-visit counts and their top-K graph (Zhou et al. 2019, Algorithm 1).
#include <algorithm>
#include <limits>
#include <new>
#include <vector>

#include "host/descriptor.h"
#include "host/graph/pair_counts.h"
#include "host/status.h"
#include "resembed/resembed.h"

struct resembed_covisit {
  resembed_covisit(int64_t items, std::vector<uint32_t> weights, size_t buffer_bytes)
      : n_items(items),
        distance_weights(std::move(weights)),
        pairs(items, distance_weights, buffer_bytes, resembed::detail::Executor(resembed_place{})) {}

  int64_t n_items;
  std::vector<uint32_t> distance_weights;  // [window]
  resembed::detail::PairCounts pairs;
  bool adding = false;  // stays true when memory runs out halfway
};

namespace resembed::detail {
namespace {

constexpr size_t kDefaultBufferBytes = size_t{256} << 20;
constexpr int32_t kDefaultWindow = 2;

// Runs `body`, which may throw std::bad_alloc.
template <typename Body>
resembed_status Guarded(const char* op, resembed_covisit* counts, Body&& body) {
  if (counts->adding || counts->pairs.broken()) {
    return Fail(RESEMBED_OUT_OF_MEMORY,
                "%s: counts is incomplete since a call ran out of memory; needs new counts", op);
  }
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY,
                "%s: counts is larger than the memory at hand; needs fewer pairs or a smaller buffer_bytes",
                op);
  }
}

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

template <typename Id>
void AddSequence(resembed_covisit* counts, const Id* ids, int64_t length) {
  const auto window = static_cast<int64_t>(counts->distance_weights.size());
  for (int64_t center = 0; center < length; ++center) {
    const auto item = static_cast<uint32_t>(ids[center]);
    const int64_t reach = std::min(window, length - 1 - center);
    for (int64_t distance = 1; distance <= reach; ++distance) {
      const auto other = static_cast<uint32_t>(ids[center + distance]);
      if (other == item || counts->distance_weights[static_cast<size_t>(distance - 1)] == 0) continue;
      counts->pairs.Add(std::min(item, other), std::max(item, other), static_cast<int32_t>(distance));
    }
  }
}

template <typename Id, typename Offset>
resembed_status AddSequences(resembed_covisit* counts, const Id* ids, const Offset* offsets, int64_t n) {
  RESEMBED_RETURN_IF_ERROR(CheckOffsets(offsets, n));
  const auto first = static_cast<int64_t>(offsets[0]), last = static_cast<int64_t>(offsets[n]);
  if (last > first && ids == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: ids is null; needs %lld ids",
                static_cast<long long>(last));
  }
  RESEMBED_RETURN_IF_ERROR(CheckIds(ids, first, last, counts->n_items));
  counts->adding = true;
  for (int64_t sequence = 0; sequence < n; ++sequence) {
    const auto length = static_cast<int64_t>(offsets[sequence + 1] - offsets[sequence]);
    AddSequence(counts, ids + offsets[sequence], length);
  }
  counts->adding = false;
  return RESEMBED_OK;
}

resembed_status CheckIndexType(const char* argument, resembed_dtype dtype) {
  if (dtype == RESEMBED_I32 || dtype == RESEMBED_I64) return RESEMBED_OK;
  return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: %s is %s; needs i32 or i64", argument,
              DtypeName(dtype));
}

// Sorted by count, largest first; partners of a row come in increasing order, so an equal count stays
// behind those already there.
void InsertNeighbor(int32_t* neighbors, int64_t* counts, int32_t k, int32_t item, int64_t count) {
  int32_t slot = k - 1;
  if (counts[slot] >= count) return;
  for (; slot > 0 && counts[slot - 1] < count; --slot) {
    counts[slot] = counts[slot - 1];
    neighbors[slot] = neighbors[slot - 1];
  }
  counts[slot] = count;
  neighbors[slot] = item;
}

int32_t LowerItem(const PairCount& pair) { return static_cast<int32_t>(pair.key >> 32); }
int32_t HigherItem(const PairCount& pair) { return static_cast<int32_t>(pair.key & 0xffffffffu); }

}  // namespace
}  // namespace resembed::detail

extern "C" {

using resembed::detail::Fail;

resembed_status resembed_covisit_create(const resembed_covisit_options* options, resembed_covisit** counts) {
  if (options == nullptr || counts == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: %s is null; needs a pointer",
                options == nullptr ? "options" : "counts");
  }
  const resembed_covisit_options read = resembed::detail::ReadDescriptor(options);
  if (read.n_items < 0 || read.n_items > std::numeric_limits<int32_t>::max()) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: n_items is %lld; needs 0 .. 2147483647",
                static_cast<long long>(read.n_items));
  }
  if (read.window < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: window is %d; needs >= 1, or 0 for %d",
                read.window, resembed::detail::kDefaultWindow);
  }
  constexpr size_t kMaxBufferBytes = std::numeric_limits<size_t>::max() / 4;
  if (read.buffer_bytes > kMaxBufferBytes) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_create: buffer_bytes is %zu; needs <= %zu",
                read.buffer_bytes, kMaxBufferBytes);
  }
  const int32_t window = read.window == 0 ? resembed::detail::kDefaultWindow : read.window;
  try {
    std::vector<uint32_t> weights(static_cast<size_t>(window), 1);
    if (read.distance_weights != nullptr) {
      weights.assign(read.distance_weights, read.distance_weights + window);
    }
    *counts = new resembed_covisit(
        read.n_items, std::move(weights),
        read.buffer_bytes == 0 ? resembed::detail::kDefaultBufferBytes : read.buffer_bytes);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "covisit_create: window is %d; needs memory for its weights", window);
  }
  return RESEMBED_OK;
}

resembed_status resembed_covisit_add(resembed_covisit* counts, const void* ids, resembed_dtype id_dtype,
                                     const void* offsets, resembed_dtype offset_dtype, int64_t n_sequences) {
  if (counts == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: counts is null; needs a pointer");
  }
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndexType("id_dtype", id_dtype));
  RESEMBED_RETURN_IF_ERROR(resembed::detail::CheckIndexType("offset_dtype", offset_dtype));
  if (n_sequences < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: n_sequences is %lld; needs >= 0",
                static_cast<long long>(n_sequences));
  }
  if (n_sequences == 0) return RESEMBED_OK;
  if (offsets == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_add: offsets is null; needs %lld offsets",
                static_cast<long long>(n_sequences + 1));
  }
  return resembed::detail::Guarded("covisit_add", counts, [&] {
    const auto add = [&](const auto* typed_ids) {
      return offset_dtype == RESEMBED_I32
                 ? resembed::detail::AddSequences(counts, typed_ids, static_cast<const int32_t*>(offsets),
                                                  n_sequences)
                 : resembed::detail::AddSequences(counts, typed_ids, static_cast<const int64_t*>(offsets),
                                                  n_sequences);
    };
    return id_dtype == RESEMBED_I32 ? add(static_cast<const int32_t*>(ids))
                                    : add(static_cast<const int64_t*>(ids));
  });
}

resembed_status resembed_covisit_n_pairs(resembed_covisit* counts, int64_t* n_pairs) {
  if (counts == nullptr || n_pairs == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_n_pairs: %s is null; needs a pointer",
                counts == nullptr ? "counts" : "n_pairs");
  }
  return resembed::detail::Guarded("covisit_n_pairs", counts, [&]() -> resembed_status {
    *n_pairs = counts->pairs.Compact().size();
    return RESEMBED_OK;
  });
}

resembed_status resembed_covisit_export(resembed_covisit* counts, int64_t* row_offsets, int32_t* columns,
                                        int64_t* values) {
  if (counts == nullptr) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_export: counts is null; needs a pointer");
  }
  return resembed::detail::Guarded("covisit_export", counts, [&]() -> resembed_status {
    const resembed::detail::PairRun& pairs = counts->pairs.Compact();
    const auto n_items = static_cast<size_t>(counts->n_items);
    // next[i + 1] counts row i, then becomes its end, then (shifted) the place of its next entry.
    std::vector<int64_t> next(n_items + 1, 0);
    for (int64_t index = 0; index < pairs.size(); ++index) {
      ++next[static_cast<size_t>(resembed::detail::LowerItem(pairs[index])) + 1];
      ++next[static_cast<size_t>(resembed::detail::HigherItem(pairs[index])) + 1];
    }
    for (size_t item = 0; item < n_items; ++item) next[item + 1] += next[item];
    if (row_offsets != nullptr) std::copy(next.begin(), next.end(), row_offsets);
    if (columns == nullptr && values == nullptr) return RESEMBED_OK;
    const auto put = [&](int32_t row, int32_t column, int64_t value) {
      const int64_t at = next[static_cast<size_t>(row)]++;
      if (columns != nullptr) columns[at] = column;
      if (values != nullptr) values[at] = value;
    };
    // A row meets its lower partners first (as their higher item, in their order), then its higher ones.
    for (int64_t index = 0; index < pairs.size(); ++index) {
      const resembed::detail::PairCount pair = pairs[index];
      put(resembed::detail::HigherItem(pair), resembed::detail::LowerItem(pair), pair.count);
      put(resembed::detail::LowerItem(pair), resembed::detail::HigherItem(pair), pair.count);
    }
    return RESEMBED_OK;
  });
}

resembed_status resembed_covisit_top_k(resembed_covisit* counts, int32_t k, int32_t* neighbors,
                                       int64_t* counts_out) {
  if (counts == nullptr || (neighbors == nullptr && counts->n_items > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_top_k: %s is null; needs a pointer",
                counts == nullptr ? "counts" : "neighbors");
  }
  if (k < 1 || k > RESEMBED_MAX_NEIGHBORS) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "covisit_top_k: k is %d; needs 1 .. %d", k,
                RESEMBED_MAX_NEIGHBORS);
  }
  return resembed::detail::Guarded("covisit_top_k", counts, [&]() -> resembed_status {
    const resembed::detail::PairRun& pairs = counts->pairs.Compact();
    const int64_t n_entries = counts->n_items * k;
    std::vector<int64_t> own_counts(counts_out == nullptr ? static_cast<size_t>(n_entries) : 0);
    int64_t* kept = counts_out == nullptr ? own_counts.data() : counts_out;
    std::fill_n(neighbors, n_entries, -1);
    std::fill_n(kept, n_entries, 0);
    for (int64_t index = 0; index < pairs.size(); ++index) {
      const resembed::detail::PairCount pair = pairs[index];
      const int64_t lower = resembed::detail::LowerItem(pair), higher = resembed::detail::HigherItem(pair);
      resembed::detail::InsertNeighbor(neighbors + lower * k, kept + lower * k, k,
                                       static_cast<int32_t>(higher), pair.count);
      resembed::detail::InsertNeighbor(neighbors + higher * k, kept + higher * k, k,
                                       static_cast<int32_t>(lower), pair.count);
    }
    return RESEMBED_OK;
  });
}

void resembed_covisit_destroy(resembed_covisit* counts) { delete counts; }

}  // extern "C"
