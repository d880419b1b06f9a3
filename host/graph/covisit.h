// SPDX-License-Identifier: Apache-2.0
// Behind resembed_covisit: the counts, and the checks every call on them makes.
#pragma once

#include <cstring>
#include <new>
#include <utility>

#include "host/graph/device_counts.h"
#include "host/graph/pair_counts.h"
#include "host/graph/sequence_pairs.h"
#include "host/status.h"
#include "resembed/resembed.h"

struct resembed_covisit {
  resembed_covisit(int64_t items, resembed::detail::SequenceRules sequence_rules, size_t buffer,
                   resembed::detail::SpillRules spill, const resembed::detail::Executor& executor)
      : n_items(items),
        buffer_bytes(buffer),
        rules(std::move(sequence_rules)),
        pairs(items, rules.distance_weights, buffer, executor, std::move(spill)) {}

  int64_t n_items;
  size_t buffer_bytes;
  resembed::detail::SequenceRules rules;
  std::vector<resembed::detail::PairUse> uses;
  resembed::detail::PairCounts pairs;
  std::unique_ptr<resembed::detail::DeviceCounts> device;  // null: on the CPU
  bool adding = false;                                     // stays true when memory runs out halfway
};

namespace resembed::detail {

constexpr size_t kDefaultBufferBytes = size_t{256} << 20;
constexpr int32_t kDefaultWindow = 2;

// The checked rules of counting. May throw std::bad_alloc.
resembed_status RulesOf(const resembed_covisit_options& options, SequenceRules* rules);

// Runs `body`, which may throw std::bad_alloc and leave an error of the files of `counts`.
template <typename Body>
resembed_status Guarded(const char* op, resembed_covisit* counts, Body&& body) {
  if (counts->adding || counts->pairs.broken()) {
    const bool file = counts->pairs.error() != 0;
    return Fail(file ? RESEMBED_IO_ERROR : RESEMBED_OUT_OF_MEMORY,
                "%s: counts is incomplete since a call %s; needs new counts", op,
                file ? "could not write its files" : "ran out of memory");
  }
  try {
    const resembed_status status = body();
    if (const int error = counts->pairs.error()) {
      return Fail(RESEMBED_IO_ERROR, "%s: spill_folder is %s (%s); needs a folder with room to write", op,
                  counts->pairs.folder().c_str(), std::strerror(error));
    }
    return status;
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY,
                "%s: counts is larger than the memory at hand; needs fewer pairs or a smaller buffer_bytes",
                op);
  }
}

// All counts in `pairs`, in one run. Not ok: some are lost, or a file failed (Guarded says which).
inline resembed_status Gather(const char* op, resembed_covisit* counts) {
  if (counts->device != nullptr) {
    if (const resembed_status status = counts->device->Drain(op, &counts->pairs)) return status;
  }
  counts->pairs.Compact();
  return counts->pairs.error() == 0 ? RESEMBED_OK : RESEMBED_IO_ERROR;
}

// After Gather: calls pair(PairCount) for each distinct pair by (lower, higher). False when a file could not
// be read.
template <typename Pair>
bool ForEachCount(resembed_covisit* counts, Pair&& pair) {
  const std::unique_ptr<PairSource> source = counts->pairs.Read();
  for (PairBlock block = source->Next(); block.begin != block.end; block = source->Next()) {
    for (; block.begin != block.end; ++block.begin) pair(*block.begin);
  }
  return source->error() == 0;
}

// What ForEachCount stopped on.
inline resembed_status ReadFailed(const char* op, const resembed_covisit* counts) {
  return Fail(RESEMBED_IO_ERROR, "%s: a file in %s could not be read; needs the disk back", op,
              counts->pairs.folder().c_str());
}

}  // namespace resembed::detail
