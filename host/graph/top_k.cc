// SPDX-License-Identifier: Apache-2.0
// Counts to neighbor lists: the K largest of each row, or of each row divided by its columns' popularity.
#include "host/graph/top_k.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "host/descriptor.h"
#include "host/graph/covisit.h"

namespace resembed::detail {
namespace {

// D_i^popularity, D = row sums of all counts (at most INT64_MAX). Empty: no correction.
bool Divisors(resembed_covisit* counts, double popularity, std::vector<double>* divisors) {
  if (popularity == 0) return true;
  std::vector<int64_t> sums(static_cast<size_t>(counts->n_items), 0);
  const bool read = ForEachCount(counts, [&](const PairCount& pair) {
    int64_t& lower = sums[static_cast<size_t>(LowerItem(pair))];
    int64_t& higher = sums[static_cast<size_t>(HigherItem(pair))];
    lower = SaturatingAdd(lower, pair.count);
    higher = SaturatingAdd(higher, pair.count);
  });
  divisors->resize(sums.size());
  for (size_t item = 0; item < sums.size(); ++item) {
    (*divisors)[item] = std::pow(static_cast<double>(sums[item]), popularity);
  }
  return read;
}

resembed_status TopK(const char* op, resembed_covisit* counts, const resembed_graph_options& options,
                     int32_t* neighbors, int64_t* counts_out) {
  const int64_t n_items = counts->n_items, n_entries = n_items * options.k;
  const int32_t k = options.k, first = options.self_loop != 0 ? 1 : 0;
  // Divisors want all counts on the host.
  if (counts->device == nullptr || options.popularity != 0) RESEMBED_RETURN_IF_ERROR(Gather(op, counts));
  std::vector<double> divisors, scores;
  if (!Divisors(counts, options.popularity, &divisors)) return ReadFailed(op, counts);
  if (counts->device != nullptr) {
    return counts->device->Lists(op, options, divisors.empty() ? nullptr : divisors.data(), &counts->pairs,
                                 neighbors, counts_out);
  }
  std::vector<int64_t> own_counts(counts_out == nullptr ? static_cast<size_t>(n_entries) : 0);
  int64_t* kept = counts_out == nullptr ? own_counts.data() : counts_out;
  scores.resize(divisors.empty() ? 0 : static_cast<size_t>(n_entries));
  std::fill_n(neighbors, n_entries, -1);
  std::fill_n(kept, n_entries, 0);
  const auto insert = [&](int64_t item, int64_t other, int64_t count) {
    const int64_t at = item * k + first;
    if (divisors.empty()) {
      InsertNeighbor({neighbors + at, kept + at, nullptr}, k - first, static_cast<int32_t>(other), count, 0);
    } else {
      InsertNeighbor({neighbors + at, kept + at, scores.data() + at}, k - first, static_cast<int32_t>(other),
                     count, static_cast<double>(count) / divisors[static_cast<size_t>(other)]);
    }
  };
  const bool read = ForEachCount(counts, [&](const PairCount& pair) {
    if (pair.count < options.min_count) return;
    insert(LowerItem(pair), HigherItem(pair), pair.count);
    insert(HigherItem(pair), LowerItem(pair), pair.count);
  });
  if (!read) return ReadFailed(op, counts);
  for (int64_t item = 0; first == 1 && item < n_items; ++item) {
    PutSelfLoop(static_cast<int32_t>(item), options.self_loop, k, neighbors + item * k, kept + item * k);
  }
  return RESEMBED_OK;
}

resembed_status CheckAndTopK(const char* op, resembed_covisit* counts, const resembed_graph_options& options,
                             int32_t* neighbors, int64_t* counts_out) {
  if (counts == nullptr || (neighbors == nullptr && counts->n_items > 0)) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", op,
                counts == nullptr ? "counts" : "neighbors");
  }
  RESEMBED_RETURN_IF_ERROR(CheckGraphOptions(op, options));
  return Guarded(op, counts, [&] { return TopK(op, counts, options, neighbors, counts_out); });
}

}  // namespace

resembed_status CheckGraphOptions(const char* op, const resembed_graph_options& options) {
  if (options.k < 1 || options.k > RESEMBED_MAX_NEIGHBORS) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: k is %d; needs 1 .. %d", op, options.k,
                RESEMBED_MAX_NEIGHBORS);
  }
  if (options.min_count < 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: min_count is %lld; needs >= 0", op,
                static_cast<long long>(options.min_count));
  }
  if (!(options.popularity >= 0.0) || options.popularity > 1.0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: popularity is %g; needs 0 .. 1", op, options.popularity);
  }
  if (options.self_loop < RESEMBED_SELF_LOOP_LARGEST) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: self_loop is %lld; needs a count, 0 for none or %d for the largest", op,
                static_cast<long long>(options.self_loop), RESEMBED_SELF_LOOP_LARGEST);
  }
  return RESEMBED_OK;
}

}  // namespace resembed::detail

extern "C" {

resembed_status resembed_covisit_top_k(resembed_covisit* counts, int32_t k, int32_t* neighbors,
                                       int64_t* counts_out) {
  resembed_graph_options options = {};
  options.struct_size = sizeof(options);
  options.k = k;
  return resembed::detail::CheckAndTopK("covisit_top_k", counts, options, neighbors, counts_out);
}

resembed_status resembed_covisit_graph(resembed_covisit* counts, const resembed_graph_options* options,
                                       int32_t* neighbors, int64_t* counts_out) {
  if (options == nullptr) {
    return resembed::detail::Fail(RESEMBED_INVALID_ARGUMENT,
                                  "covisit_graph: options is null; needs a pointer");
  }
  return resembed::detail::CheckAndTopK("covisit_graph", counts, resembed::detail::ReadDescriptor(options),
                                        neighbors, counts_out);
}

}  // extern "C"
