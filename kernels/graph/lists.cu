// SPDX-License-Identifier: Apache-2.0
// Sorted pairs to the K best neighbors of each row, a chunk of pairs at a time:
//
//   each pair in both directions  ->  stable sort by rank, then by row  ->  one thread a row merges its
//   first K entries into the list so far
//
// A row's partners come in increasing order (those below it first), so the stable sorts leave ties to the
// lower item. A chunk of C pairs takes about 112 C bytes beside the lists; it has budget left / 144 pairs.
#include <thrust/extrema.h>
#include <thrust/fill.h>
#include <thrust/for_each.h>
#include <thrust/sequence.h>
#include <thrust/tabulate.h>
#include <thrust/transform.h>

#include <algorithm>

#include "kernels/graph/state.cuh"

namespace resembed::kernels {
namespace {

constexpr int kMaxSlots = 64;

// Entries [0, n) are (higher, lower), entries [n, 2n) (lower, higher).
struct Directed {
  const uint64_t* keys;
  const int64_t* counts;
  const double* divisors;  // or null
  int64_t n;

  RESEMBED_HOST_DEVICE int64_t Pair(uint32_t entry) const { return entry < n ? entry : entry - n; }
  RESEMBED_HOST_DEVICE uint32_t Row(uint32_t entry) const {
    const uint64_t key = keys[Pair(entry)];
    return static_cast<uint32_t>(entry < n ? key & 0xffffffffu : key >> 32);
  }
  RESEMBED_HOST_DEVICE int32_t Column(uint32_t entry) const {
    const uint64_t key = keys[Pair(entry)];
    return static_cast<int32_t>(entry < n ? key >> 32 : key & 0xffffffffu);
  }
  RESEMBED_HOST_DEVICE int64_t Count(uint32_t entry) const { return counts[Pair(entry)]; }
  RESEMBED_HOST_DEVICE double Score(uint32_t entry) const {
    return static_cast<double>(Count(entry)) / divisors[Column(entry)];
  }
};

// Smaller is better. Scores are positive, so their bits order as they do.
struct RankOfEntry {
  Directed entries;
  int64_t largest;
  RESEMBED_HOST_DEVICE uint64_t operator()(int64_t at) const {
    const auto entry = static_cast<uint32_t>(at);
    if (entries.divisors == nullptr) return static_cast<uint64_t>(largest - entries.Count(entry));
    const double score = entries.Score(entry);
    uint64_t bits;
    memcpy(&bits, &score, sizeof(bits));
    return ~bits;
  }
};

struct RowOfEntry {
  Directed entries;
  int64_t min_count;
  uint32_t no_row;
  RESEMBED_HOST_DEVICE uint32_t operator()(uint32_t entry) const {
    return entries.Count(entry) < min_count ? no_row : entries.Row(entry);
  }
};

// At the first entry of a row: its best entries into the list.
struct MergeRow {
  Directed entries;
  const uint32_t* rows;   // [2n] sorted
  const uint32_t* order;  // [2n] entry of each
  int64_t n_entries;
  uint32_t no_row;
  int32_t k, first;
  int32_t* neighbors;
  int64_t* counts;
  double* scores;  // or null

  RESEMBED_HOST_DEVICE void operator()(int64_t at) const {
    const uint32_t row = rows[at];
    if (row == no_row || (at > 0 && rows[at - 1] == row)) return;
    const int64_t list = static_cast<int64_t>(row) * k + first;
    const int32_t room = k - first;
    int32_t old_neighbors[kMaxSlots];
    int64_t old_counts[kMaxSlots];
    double old_scores[kMaxSlots];
    int32_t n_old = 0;
    for (; n_old < room && neighbors[list + n_old] >= 0; ++n_old) {
      old_neighbors[n_old] = neighbors[list + n_old];
      old_counts[n_old] = counts[list + n_old];
      old_scores[n_old] = scores == nullptr ? 0.0 : scores[list + n_old];
    }
    int32_t old = 0;
    for (int32_t slot = 0; slot < room; ++slot) {
      const bool has_new = at < n_entries && rows[at] == row;
      if (!has_new && old == n_old) return;
      const uint32_t entry = has_new ? order[at] : 0;
      bool take_old = !has_new;
      if (has_new && old < n_old) {
        const int32_t column = entries.Column(entry);
        if (scores == nullptr) {
          const int64_t count = entries.Count(entry);
          take_old = old_counts[old] > count || (old_counts[old] == count && old_neighbors[old] < column);
        } else {
          const double score = entries.Score(entry);
          take_old = old_scores[old] > score || (old_scores[old] == score && old_neighbors[old] < column);
        }
      }
      neighbors[list + slot] = take_old ? old_neighbors[old] : entries.Column(entry);
      counts[list + slot] = take_old ? old_counts[old] : entries.Count(entry);
      if (scores != nullptr) scores[list + slot] = take_old ? old_scores[old] : entries.Score(entry);
      if (take_old) {
        ++old;
      } else {
        ++at;
      }
    }
  }
};

struct PutSelf {
  int64_t self_loop;
  int32_t k;
  int32_t* neighbors;
  int64_t* counts;
  RESEMBED_HOST_DEVICE void operator()(int64_t item) const {
    int64_t count = self_loop;
    for (int32_t slot = 1; self_loop < 0 && slot < k; ++slot) {
      const int64_t other = counts[item * k + slot];
      count = other > count ? other : count;
    }
    neighbors[item * k] = static_cast<int32_t>(item);
    counts[item * k] = count > 0 ? count : 1;
  }
};

void AddChunk(DeviceGraph* graph, const uint64_t* keys, const int64_t* counts, int64_t n) {
  GraphMemory* memory = &graph->memory;
  DeviceLists& lists = graph->lists;
  const bool by_score = lists.divisors.size() > 0;
  const Directed entries = {keys, counts, by_score ? lists.divisors.data() : nullptr, n};
  int64_t largest = 0;
  if (!by_score) {
    CopyBytes(memory, &largest, thrust::max_element(memory->policy(), counts, counts + n), sizeof(largest));
  }
  GraphBuffer<uint32_t> order(memory, 2 * n), rows;
  const auto no_row = static_cast<uint32_t>(graph->rules.n_items);
  {
    const StageTime time(graph, kStageRank);
    thrust::sequence(memory->policy(), order.begin(), order.end());
    GraphBuffer<uint64_t> ranks(memory, 2 * n);
    thrust::tabulate(memory->policy(), ranks.begin(), ranks.end(), RankOfEntry{entries, largest});
    SortPairs(memory, &ranks, &order, by_score ? 64 : BitsFor(static_cast<uint64_t>(largest) + 1));
    ranks.Free();
    rows = GraphBuffer<uint32_t>(memory, 2 * n);
    thrust::transform(memory->policy(), order.begin(), order.end(), rows.begin(),
                      RowOfEntry{entries, lists.rules.min_count, no_row});
    SortPairs(memory, &rows, &order, graph->item_bits + 1);
  }
  const StageTime time(graph, kStageLists);
  const MergeRow merge = {entries,
                          rows.data(),
                          order.data(),
                          2 * n,
                          no_row,
                          lists.rules.k,
                          lists.first,
                          lists.neighbors.data(),
                          lists.counts.data(),
                          by_score ? lists.scores.data() : nullptr};
  thrust::for_each(memory->policy(), thrust::make_counting_iterator(int64_t{0}),
                   thrust::make_counting_iterator(2 * n), merge);
}

int64_t ChunkPairs(const GraphMemory& memory) {
  return std::min<int64_t>(std::max<int64_t>(1, (memory.budget() - memory.used()) / 144), int64_t{1} << 30);
}

}  // namespace

bool BeginLists(DeviceGraph* graph, const GraphListRules& rules, GraphFault* fault) {
  return GuardGraph(graph, fault, [&] {
    GraphMemory* memory = &graph->memory;
    DeviceLists& lists = graph->lists;
    lists = DeviceLists();
    lists.rules = rules;
    lists.first = rules.self_loop != 0 ? 1 : 0;
    const int64_t n_items = graph->rules.n_items, n_entries = n_items * rules.k;
    lists.neighbors = GraphBuffer<int32_t>(memory, n_entries);
    lists.counts = GraphBuffer<int64_t>(memory, n_entries);
    if (rules.divisors != nullptr && n_items > 0) {
      lists.scores = GraphBuffer<double>(memory, n_entries);
      lists.divisors = GraphBuffer<double>(memory, rules.divisors, n_items);
    }
    lists.rules.divisors = nullptr;  // the caller's
    thrust::fill(memory->policy(), lists.neighbors.begin(), lists.neighbors.end(), -1);
    thrust::fill(memory->policy(), lists.counts.begin(), lists.counts.end(), int64_t{0});
  });
}

bool TakePairs(DeviceGraph* graph, GraphFault* fault) {
  return GuardGraph(graph, fault, [&] {
    const int64_t n = graph->run.size(), chunk = ChunkPairs(graph->memory);
    for (int64_t first = 0; first < n; first += chunk) {
      AddChunk(graph, graph->run.keys.data() + first, graph->run.counts.data() + first,
               std::min(chunk, n - first));
    }
  });
}

bool AddPairs(DeviceGraph* graph, const uint64_t* keys, const int64_t* counts, int64_t n, GraphFault* fault) {
  return GuardGraph(graph, fault, [&] {
    const int64_t chunk = ChunkPairs(graph->memory);
    for (int64_t first = 0; first < n; first += chunk) {
      const int64_t size = std::min(chunk, n - first);
      const GraphBuffer<uint64_t> device_keys(&graph->memory, keys + first, size);
      const GraphBuffer<int64_t> device_counts(&graph->memory, counts + first, size);
      AddChunk(graph, device_keys.data(), device_counts.data(), size);
    }
  });
}

bool EndLists(DeviceGraph* graph, int32_t* neighbors, int64_t* counts, GraphFault* fault) {
  return GuardGraph(graph, fault, [&] {
    GraphMemory* memory = &graph->memory;
    DeviceLists& lists = graph->lists;
    const int64_t n_items = graph->rules.n_items, n_entries = n_items * lists.rules.k;
    const StageTime time(graph, kStageOut);
    if (lists.first == 1) {
      thrust::for_each(
          memory->policy(), thrust::make_counting_iterator(int64_t{0}),
          thrust::make_counting_iterator(n_items),
          PutSelf{lists.rules.self_loop, lists.rules.k, lists.neighbors.data(), lists.counts.data()});
    }
    CopyBytes(memory, neighbors, lists.neighbors.data(), n_entries * 4);
    if (counts != nullptr) CopyBytes(memory, counts, lists.counts.data(), n_entries * 8);
    lists = DeviceLists();
  });
}

}  // namespace resembed::kernels
