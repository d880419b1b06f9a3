// SPDX-License-Identifier: Apache-2.0
// Neighbor lists of one user's items without the counts of her own sequence.
//
//   Z'_ij = Z_ij - (what the sequence added to ij);  the lists of i are the top K of row i of Z'
//
// A pair of the sequence has both ends in it, so no other row changes.
#include <algorithm>
#include <new>
#include <vector>

#include "host/descriptor.h"
#include "host/graph/covisit.h"
#include "host/graph/top_k.h"

namespace resembed::detail {
namespace {

constexpr const char* kOp = "graph_leave_out";

struct OwnCount {
  int32_t row, column;
  int64_t count;
};

// What the sequence added, in both directions, by (row, column).
template <typename Id>
std::vector<OwnCount> OwnCounts(const SequenceRules& rules, const Id* ids, const int64_t* times,
                                int64_t length) {
  std::vector<OwnCount> own;
  std::vector<PairUse> uses;
  ForEachPair(rules, ids, times, length, 0, &uses, [&](uint32_t lower, uint32_t higher, int32_t distance) {
    const int64_t weight = rules.distance_weights[static_cast<size_t>(distance - 1)];
    own.push_back({static_cast<int32_t>(lower), static_cast<int32_t>(higher), weight});
    own.push_back({static_cast<int32_t>(higher), static_cast<int32_t>(lower), weight});
  });
  std::sort(own.begin(), own.end(), [](const OwnCount& a, const OwnCount& b) {
    return a.row != b.row ? a.row < b.row : a.column < b.column;
  });
  size_t n = 0;
  for (size_t at = 0; at < own.size(); ++at) {
    if (n > 0 && own[n - 1].row == own[at].row && own[n - 1].column == own[at].column) {
      own[n - 1].count = SaturatingAdd(own[n - 1].count, own[at].count);
    } else {
      own[n++] = own[at];
    }
  }
  own.resize(n);
  return own;
}

struct Outputs {
  int64_t* n_rows;
  int32_t *items, *neighbors;
  int64_t* counts;
};

// Every count of the sequence has to be in the matrix.
resembed_status CheckOwn(const resembed_covisit_matrix& all, const std::vector<OwnCount>& own) {
  for (const OwnCount& pair : own) {
    const int32_t* begin = all.columns + all.row_offsets[pair.row];
    const int32_t* end = all.columns + all.row_offsets[pair.row + 1];
    const int32_t* at = std::lower_bound(begin, end, pair.column);
    const int64_t counted = at == end || *at != pair.column ? 0 : all.values[at - all.columns];
    if (counted < pair.count) {
      return Fail(RESEMBED_OUT_OF_RANGE,
                  "%s: count of pair (%d, %d) is %lld; needs at least the sequence's own %lld", kOp, pair.row,
                  pair.column, static_cast<long long>(counted), static_cast<long long>(pair.count));
    }
  }
  return RESEMBED_OK;
}

template <typename Id>
resembed_status LeaveOut(const resembed_covisit_matrix& all, const SequenceRules& rules, const Id* ids,
                         const int64_t* times, int64_t length, const resembed_graph_options& graph,
                         const Outputs& out) {
  for (int64_t at = 0; at < length; ++at) {
    if (ids[at] >= 0 && ids[at] < all.n_items) continue;
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: ids[%lld] is %lld; needs 0 .. n_items - 1 (%lld)", kOp,
                static_cast<long long>(at), static_cast<long long>(ids[at]),
                static_cast<long long>(all.n_items - 1));
  }
  const std::vector<OwnCount> own = OwnCounts(rules, ids, times, length);
  RESEMBED_RETURN_IF_ERROR(CheckOwn(all, own));
  std::vector<int32_t> items(ids, ids + length);
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  const int32_t k = graph.k, first = graph.self_loop != 0 ? 1 : 0;
  auto mine = own.begin();
  for (size_t row = 0; row < items.size(); ++row) {
    const int32_t item = items[row];
    int32_t* neighbors = out.neighbors + static_cast<int64_t>(row) * k;
    int64_t* counts = out.counts + static_cast<int64_t>(row) * k;
    std::fill_n(neighbors, k, -1);
    std::fill_n(counts, k, 0);
    while (mine != own.end() && mine->row < item) ++mine;
    for (int64_t at = all.row_offsets[item]; at < all.row_offsets[item + 1]; ++at) {
      int64_t count = all.values[at];
      if (mine != own.end() && mine->row == item && mine->column == all.columns[at]) {
        count -= mine->count;
        ++mine;
      }
      if (count < std::max<int64_t>(1, graph.min_count)) continue;
      InsertNeighbor({neighbors + first, counts + first, nullptr}, k - first, all.columns[at], count, 0);
    }
    if (first == 1) PutSelfLoop(item, graph.self_loop, k, neighbors, counts);
    out.items[row] = item;
  }
  *out.n_rows = static_cast<int64_t>(items.size());
  return RESEMBED_OK;
}

resembed_status Check(const resembed_covisit_matrix& all, const resembed_covisit_sequences& sequence,
                      const resembed_graph_options& graph, const Outputs& out) {
  const struct {
    const char* name;
    const void* pointer;
  } pointers[] = {{"row_offsets", all.row_offsets},
                  {"columns", all.columns},
                  {"values", all.values},
                  {"ids", sequence.ids},
                  {"offsets", sequence.offsets},
                  {"n_rows", out.n_rows},
                  {"items", out.items},
                  {"neighbors", out.neighbors},
                  {"counts_out", out.counts}};
  for (const auto& given : pointers) {
    if (given.pointer == nullptr)
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: %s is null; needs a pointer", kOp, given.name);
  }
  if (sequence.n_sequences != 1) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: n_sequences is %lld; needs 1", kOp,
                static_cast<long long>(sequence.n_sequences));
  }
  for (const resembed_dtype dtype : {sequence.id_dtype, sequence.offset_dtype}) {
    if (dtype != RESEMBED_I32 && dtype != RESEMBED_I64) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: dtype of the sequence is %s; needs i32 or i64", kOp,
                  DtypeName(dtype));
    }
  }
  if (sequence.n_seen != nullptr) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: n_seen is given; needs the whole sequence and null", kOp);
  }
  RESEMBED_RETURN_IF_ERROR(CheckGraphOptions(kOp, graph));
  if (graph.popularity != 0) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: popularity is %g; needs 0", kOp, graph.popularity);
  }
  return RESEMBED_OK;
}

}  // namespace
}  // namespace resembed::detail

extern "C" resembed_status resembed_graph_leave_out(const resembed_covisit_matrix* all,
                                                    const resembed_covisit_options* counting,
                                                    const resembed_covisit_sequences* sequence,
                                                    const resembed_graph_options* graph, int64_t* n_rows,
                                                    int32_t* items, int32_t* neighbors, int64_t* counts_out) {
  using namespace resembed::detail;
  const resembed_covisit_matrix matrix = ReadDescriptor(all);
  const resembed_covisit_options options = ReadDescriptor(counting);
  const resembed_covisit_sequences given = ReadDescriptor(sequence);
  const resembed_graph_options graph_options = ReadDescriptor(graph);
  const Outputs out = {n_rows, items, neighbors, counts_out};
  RESEMBED_RETURN_IF_ERROR(Check(matrix, given, graph_options, out));
  try {
    SequenceRules rules;
    RESEMBED_RETURN_IF_ERROR(RulesOf(options, &rules));
    int64_t bounds[2];
    for (int end = 0; end < 2; ++end) {
      bounds[end] = given.offset_dtype == RESEMBED_I32 ? static_cast<const int32_t*>(given.offsets)[end]
                                                       : static_cast<const int64_t*>(given.offsets)[end];
    }
    if (bounds[0] < 0 || bounds[1] < bounds[0]) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: offsets[%d] is %lld; needs 0 <= offsets[0] <= offsets[1]",
                  kOp, bounds[0] < 0 ? 0 : 1, static_cast<long long>(bounds[0] < 0 ? bounds[0] : bounds[1]));
    }
    const int64_t length = bounds[1] - bounds[0];
    const int64_t* times = given.times == nullptr ? nullptr : given.times + bounds[0];
    return given.id_dtype == RESEMBED_I32
               ? LeaveOut(matrix, rules, static_cast<const int32_t*>(given.ids) + bounds[0], times, length,
                          graph_options, out)
               : LeaveOut(matrix, rules, static_cast<const int64_t*>(given.ids) + bounds[0], times, length,
                          graph_options, out);
  } catch (const std::bad_alloc&) {
    return Fail(RESEMBED_OUT_OF_MEMORY, "%s: sequence is too long; needs memory for its pairs", kOp);
  }
}
