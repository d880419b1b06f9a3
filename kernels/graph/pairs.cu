// SPDX-License-Identifier: Apache-2.0
// Sequences to sorted distinct pairs, a chunk of positions at a time:
//
//   emit keys [positions * window]  ->  radix sort  ->  reduce by key  ->  merge with the run so far
//
// Bytes in a chunk of P positions beside a run of A pairs, with window W: while sorting 16 A + P (32 W + 40)
// (36 W with weights by distance), while merging 40 (A + P W). A run is handed to the sink above budget / 96
// pairs, and a chunk has budget / (96 W + 120) positions, so both stay below the budget. Counts are sums of
// integers that stay at 2^63 - 1: the chunks' bounds, which may cut a sequence or a row anywhere, cannot be
// seen in them.
#include <thrust/find.h>
#include <thrust/functional.h>
#include <thrust/merge.h>
#include <thrust/reduce.h>
#include <thrust/tabulate.h>
#include <thrust/transform.h>

#include <algorithm>
#include <limits>

#include "kernels/graph/state.cuh"

namespace resembed::kernels {
namespace {

constexpr int64_t kRunShare = 96;  // of the budget, in pairs

struct SaturatingPlus {
  RESEMBED_HOST_DEVICE int64_t operator()(int64_t a, int64_t b) const {
    constexpr int64_t kLargest = 0x7fffffffffffffff;
    return a > kLargest - b ? kLargest : a + b;
  }
};

// Key lower << bits | higher of the pair at distance index / n_centers + 1 behind position index % n_centers,
// or `none` where that is no pair. Positions are counted from `first`, bounds from the caller's ids.
template <typename Id>
struct EmitKey {
  const Id* ids;
  const int64_t* times;   // or null
  const int64_t* bounds;  // [n_sequences + 1], increasing
  const int64_t* n_seen;  // [n_sequences]
  const uint32_t* weights;
  int64_t n_sequences, first, n_centers, max_items, session_gap;
  int item_bits;
  uint64_t none;

  RESEMBED_HOST_DEVICE uint64_t operator()(int64_t index) const {
    const int64_t distance = index / n_centers + 1, center = first + index % n_centers;
    int64_t low = 0, high = n_sequences;  // the sequence whose end is the first above center
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (bounds[middle + 1] > center) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int64_t end = bounds[low + 1], other = center + distance;
    if (other >= end || (max_items > 0 && center < end - max_items)) return none;
    if (other < bounds[low] + n_seen[low] || weights[distance - 1] == 0) return none;
    for (int64_t at = center + 1; times != nullptr && at <= other; ++at) {
      const uint64_t gap =
          static_cast<uint64_t>(times[at - first]) - static_cast<uint64_t>(times[at - first - 1]);
      if (gap > static_cast<uint64_t>(session_gap)) return none;
    }
    const auto a = static_cast<uint64_t>(ids[center - first]), b = static_cast<uint64_t>(ids[other - first]);
    if (a == b) return none;
    return a < b ? a << item_bits | b : b << item_bits | a;
  }
};

struct WeightOfIndex {
  const uint32_t* weights;
  int64_t n_centers;
  RESEMBED_HOST_DEVICE uint32_t operator()(int64_t index) const { return weights[index / n_centers]; }
};

struct Widen {
  RESEMBED_HOST_DEVICE int64_t operator()(uint32_t weight) const { return static_cast<int64_t>(weight); }
};

struct Unpack {
  int item_bits;
  RESEMBED_HOST_DEVICE uint64_t operator()(uint64_t key) const {
    return key >> item_bits << 32 | (key & ((uint64_t{1} << item_bits) - 1));
  }
};

template <typename Id>
struct IsBad {
  int64_t n_items;
  RESEMBED_HOST_DEVICE bool operator()(Id id) const { return id < 0 || static_cast<int64_t>(id) >= n_items; }
};

// Position of the first sorted key that is not below `value`: some thirty keys are looked at from the host.
int64_t FirstAtLeast(GraphMemory* memory, const GraphBuffer<uint64_t>& keys, uint64_t value) {
  int64_t low = 0, high = keys.size();
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    uint64_t key = 0;
    CopyBytes(memory, &key, keys.data() + middle, sizeof(key));
    if (key < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The first n entries in memory of their size.
DeviceRun Fitted(GraphMemory* memory, DeviceRun run, int64_t n) {
  if (n == run.size()) return run;
  DeviceRun fitted;
  fitted.keys = GraphBuffer<uint64_t>(memory, n);
  CopyBytes(memory, fitted.keys.data(), run.keys.data(), n * 8);
  run.keys.Free();
  fitted.counts = GraphBuffer<int64_t>(memory, n);
  CopyBytes(memory, fitted.counts.data(), run.counts.data(), n * 8);
  return fitted;
}

// Equal neighbors added up.
template <typename Counts>
DeviceRun Reduce(GraphMemory* memory, const uint64_t* keys, int64_t n, Counts counts) {
  DeviceRun run;
  run.keys = GraphBuffer<uint64_t>(memory, n);
  run.counts = GraphBuffer<int64_t>(memory, n);
  const auto ends = thrust::reduce_by_key(memory->policy(), keys, keys + n, counts, run.keys.begin(),
                                          run.counts.begin(), thrust::equal_to<uint64_t>(), SaturatingPlus());
  return Fitted(memory, std::move(run), ends.first - run.keys.begin());
}

DeviceRun Merge(GraphMemory* memory, DeviceRun a, DeviceRun b) {
  if (a.size() == 0) return b;
  DeviceRun merged;
  const int64_t n = a.size() + b.size();
  merged.keys = GraphBuffer<uint64_t>(memory, n);
  merged.counts = GraphBuffer<int64_t>(memory, n);
  thrust::merge_by_key(memory->policy(), a.keys.begin(), a.keys.end(), b.keys.begin(), b.keys.end(),
                       a.counts.begin(), b.counts.begin(), merged.keys.begin(), merged.counts.begin());
  a = DeviceRun();
  b = DeviceRun();
  return Reduce(memory, merged.keys.data(), n, merged.counts.data());
}

// Sequences that are not empty and overlap [first, last): bounds [n + 1] and n_seen [n].
struct Overlap {
  std::vector<int64_t> bounds, n_seen;

  // *sequence: the first to look at, moved on for the next chunk.
  void Collect(const GraphSequences& all, int64_t first, int64_t last, int64_t* sequence) {
    bounds.clear();
    n_seen.clear();
    while (*sequence < all.n_sequences && all.offsets[*sequence + 1] <= first) ++*sequence;
    for (int64_t s = *sequence; s < all.n_sequences && all.offsets[s] < last; ++s) {
      if (all.offsets[s] == all.offsets[s + 1]) continue;
      if (bounds.empty()) bounds.push_back(all.offsets[s]);
      bounds.push_back(all.offsets[s + 1]);
      n_seen.push_back(all.n_seen == nullptr ? 0 : all.n_seen[s]);
    }
  }
};

template <typename T>
const T* OnDevice(GraphMemory* memory, const T* data, int64_t first, int64_t n, bool there,
                  GraphBuffer<T>* copy) {
  if (data == nullptr || there) return data == nullptr ? nullptr : data + first;
  *copy = GraphBuffer<T>(memory, data + first, n);
  return copy->data();
}

// Pairs whose earlier position is in [first, last); ids go on to last_id.
template <typename Id>
DeviceRun CountChunk(DeviceGraph* graph, const GraphSequences& all, const Overlap& overlap, int64_t first,
                     int64_t last, int64_t last_id) {
  GraphMemory* memory = &graph->memory;
  const auto n_sequences = static_cast<int64_t>(overlap.n_seen.size());
  const int64_t n_keys = (last - first) * graph->rules.window;
  const uint64_t none = uint64_t{1} << 2 * graph->item_bits;
  const bool uniform = std::count(graph->weights.begin(), graph->weights.end(), graph->weights[0]) ==
                       static_cast<int64_t>(graph->weights.size());
  GraphBuffer<uint64_t> keys(memory, n_keys);
  GraphBuffer<uint32_t> key_weights;
  {
    GraphBuffer<Id> id_copy;
    GraphBuffer<int64_t> time_copy, bounds, n_seen;
    GraphBuffer<uint32_t> weights;
    EmitKey<Id> emit;
    {
      const StageTime time(graph, kStageCopy);
      bounds = GraphBuffer<int64_t>(memory, overlap.bounds.data(), n_sequences + 1);
      n_seen = GraphBuffer<int64_t>(memory, overlap.n_seen.data(), n_sequences);
      weights = GraphBuffer<uint32_t>(memory, graph->weights.data(), graph->rules.window);
      emit.ids =
          OnDevice(memory, static_cast<const Id*>(all.ids), first, last_id - first, all.on_device, &id_copy);
      emit.times = graph->rules.session_gap == 0
                       ? nullptr
                       : OnDevice(memory, all.times, first, last_id - first, all.on_device, &time_copy);
    }
    const StageTime time(graph, kStageEmit);
    emit.bounds = bounds.data();
    emit.n_seen = n_seen.data();
    emit.weights = weights.data();
    emit.n_sequences = n_sequences;
    emit.first = first;
    emit.n_centers = last - first;
    emit.max_items = graph->rules.max_items;
    emit.session_gap = graph->rules.session_gap;
    emit.item_bits = graph->item_bits;
    emit.none = none;
    thrust::tabulate(memory->policy(), keys.begin(), keys.end(), emit);
    if (!uniform) {
      key_weights = GraphBuffer<uint32_t>(memory, n_keys);
      thrust::tabulate(memory->policy(), key_weights.begin(), key_weights.end(),
                       WeightOfIndex{weights.data(), last - first});
    }
  }
  {
    const StageTime time(graph, kStageSort);
    const int bits = 2 * graph->item_bits + 1;
    if (uniform) {
      SortKeys(memory, &keys, bits);
    } else {
      SortPairs(memory, &keys, &key_weights, bits);
    }
  }
  const StageTime time(graph, kStageReduce);
  const int64_t n = FirstAtLeast(memory, keys, none);
  DeviceRun run =
      uniform ? Reduce(memory, keys.data(), n,
                       thrust::make_constant_iterator(static_cast<int64_t>(graph->weights[0])))
              : Reduce(memory, keys.data(), n, thrust::make_transform_iterator(key_weights.data(), Widen()));
  thrust::transform(memory->policy(), run.keys.begin(), run.keys.end(), run.keys.begin(),
                    Unpack{graph->item_bits});
  return run;
}

bool Hand(DeviceGraph* graph, GraphSink sink, void* context, GraphFault* fault) {
  const int64_t n = graph->run.size();
  if (n == 0) return true;
  const StageTime time(graph, kStageHand);
  std::vector<uint64_t> keys(static_cast<size_t>(n));
  std::vector<int64_t> counts(static_cast<size_t>(n));
  if (!GuardGraph(graph, fault, [&] {
        CopyBytes(&graph->memory, keys.data(), graph->run.keys.data(), n * 8);
        CopyBytes(&graph->memory, counts.data(), graph->run.counts.data(), n * 8);
      })) {
    return false;
  }
  graph->run = DeviceRun();
  sink(context, keys.data(), counts.data(), n);
  return true;
}

template <typename Id>
int64_t FindBad(DeviceGraph* graph, const Id* ids, int64_t begin, int64_t end, int64_t* value) {
  const Id* bad =
      thrust::find_if(graph->memory.policy(), ids + begin, ids + end, IsBad<Id>{graph->rules.n_items});
  if (bad == ids + end) return -1;
  Id id = 0;
  CopyBytes(&graph->memory, &id, bad, sizeof(Id));
  *value = static_cast<int64_t>(id);
  return bad - ids;
}

}  // namespace

DeviceGraph* NewDeviceGraph(const GraphRules& rules, int64_t budget_bytes, void* stream, GraphFault* fault) {
  try {
    return new DeviceGraph(rules, budget_bytes, stream);
  } catch (const std::bad_alloc&) {
    fault->kind = GraphFault::kMemory;
    std::snprintf(fault->what, sizeof(fault->what), "window is %d; needs memory for its weights",
                  rules.window);
    return nullptr;
  }
}

void DeleteDeviceGraph(DeviceGraph* graph) { delete graph; }

int64_t FindBadId(DeviceGraph* graph, const GraphSequences& sequences, int64_t begin, int64_t end,
                  int64_t* value, GraphFault* fault) {
  int64_t position = -1;
  const bool done = GuardGraph(graph, fault, [&] {
    position = sequences.wide_ids
                   ? FindBad(graph, static_cast<const int64_t*>(sequences.ids), begin, end, value)
                   : FindBad(graph, static_cast<const int32_t*>(sequences.ids), begin, end, value);
  });
  return done ? position : -2;
}

bool AddSequences(DeviceGraph* graph, const GraphSequences& sequences, GraphSink sink, void* context,
                  GraphFault* fault) {
  if (sequences.n_sequences == 0) return true;
  const int64_t end = sequences.offsets[sequences.n_sequences], window = graph->rules.window;
  const int64_t budget = graph->memory.budget();
  const int64_t n_centers = std::max<int64_t>(1, budget / (96 * window + 120));
  Overlap overlap;
  int64_t sequence = 0;
  for (int64_t first = sequences.offsets[0]; first < end; first += n_centers) {
    const int64_t last = std::min(end, first + n_centers), last_id = std::min(end, last + window);
    overlap.Collect(sequences, first, last, &sequence);
    const bool counted = GuardGraph(graph, fault, [&] {
      DeviceRun chunk = sequences.wide_ids
                            ? CountChunk<int64_t>(graph, sequences, overlap, first, last, last_id)
                            : CountChunk<int32_t>(graph, sequences, overlap, first, last, last_id);
      const StageTime time(graph, kStageMerge);
      graph->run = Merge(&graph->memory, std::move(graph->run), std::move(chunk));
    });
    if (!counted) return false;
    if (graph->run.size() > budget / kRunShare && !Hand(graph, sink, context, fault)) return false;
  }
  return true;
}

int64_t PairsOnDevice(const DeviceGraph* graph) { return graph->run.size(); }

bool DrainPairs(DeviceGraph* graph, GraphSink sink, void* context, GraphFault* fault) {
  return Hand(graph, sink, context, fault);
}

int64_t PeakBytes(const DeviceGraph* graph) { return graph->memory.peak(); }

void TimeStages(DeviceGraph* graph, double* seconds) { graph->stage_seconds = seconds; }

}  // namespace resembed::kernels
