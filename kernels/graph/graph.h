// SPDX-License-Identifier: Apache-2.0
// Co-visit counts and their top-K lists in device memory, in chunks that keep a budget. Host-includable.
#pragma once

#include <cstdint>

namespace resembed::kernels {

struct GraphFault {
  enum Kind { kNone, kMemory, kDevice } kind = kNone;
  char what[256] = "";
};

struct GraphRules {
  int64_t n_items = 0;
  const uint32_t* distance_weights = nullptr;  // [window], host
  int32_t window = 0;
  int64_t max_items = 0;    // 0 = no limit
  int64_t session_gap = 0;  // 0 = none
};

struct GraphSequences {
  const void* ids = nullptr;       // int32_t or int64_t, indexed by offsets
  const int64_t* times = nullptr;  // the same, or null
  bool wide_ids = false;
  bool on_device = false;            // ids and times
  const int64_t* offsets = nullptr;  // [n_sequences + 1], host
  const int64_t* n_seen = nullptr;   // [n_sequences], host, or null
  int64_t n_sequences = 0;
};

// A sorted run that leaves device memory: keys lower << 32 | higher, increasing; host pointers.
using GraphSink = void (*)(void* context, const uint64_t* keys, const int64_t* counts, int64_t n);

// All functions run on one stream of the current device and wait for it; false or null: `fault` says why, and
// the counts are incomplete. What a sink throws passes through.
struct DeviceGraph;
DeviceGraph* NewDeviceGraph(const GraphRules& rules, int64_t budget_bytes, void* stream, GraphFault* fault);
void DeleteDeviceGraph(DeviceGraph* graph);

// Position of the first id outside [0, n_items) among [begin, end), or -1; -2: a fault.
int64_t FindBadId(DeviceGraph* graph, const GraphSequences& sequences, int64_t begin, int64_t end,
                  int64_t* value, GraphFault* fault);
bool AddSequences(DeviceGraph* graph, const GraphSequences& sequences, GraphSink sink, void* context,
                  GraphFault* fault);
int64_t PairsOnDevice(const DeviceGraph* graph);
// Gives all pairs on the device to the sink.
bool DrainPairs(DeviceGraph* graph, GraphSink sink, void* context, GraphFault* fault);

struct GraphListRules {
  int32_t k = 0;
  int64_t min_count = 0;
  int64_t self_loop = 0;  // as resembed_graph_options.self_loop
  const double* divisors =
      nullptr;  // [n_items], host: neighbors are ranked by count / divisor; null: by count
};
// Lists of every pair given between Begin and End. TakePairs reads the pairs on the device, AddPairs those of
// a sorted run in host memory. Outputs [n_items, k] in host or device memory; counts may be null.
bool BeginLists(DeviceGraph* graph, const GraphListRules& rules, GraphFault* fault);
bool TakePairs(DeviceGraph* graph, GraphFault* fault);
bool AddPairs(DeviceGraph* graph, const uint64_t* keys, const int64_t* counts, int64_t n, GraphFault* fault);
bool EndLists(DeviceGraph* graph, int32_t* neighbors, int64_t* counts, GraphFault* fault);

int64_t PeakBytes(const DeviceGraph* graph);  // of device memory, so far

// Stages of the work, for measurements.
enum GraphStage {
  kStageCopy,    // sequences to the device, chunk by chunk
  kStageEmit,    // keys of pairs
  kStageSort,    // of a chunk's keys
  kStageReduce,  // equal keys of a chunk added up
  kStageMerge,   // with the run so far
  kStageHand,    // runs to the host
  kStageRank,    // both sorts of the lists
  kStageLists,   // rows merged into lists
  kStageOut,     // lists to the caller
  kGraphStages
};
// From now on adds the seconds of each stage to seconds[kGraphStages]; each stage then ends with a wait for the
// stream. Null: no longer.
void TimeStages(DeviceGraph* graph, double* seconds);

}  // namespace resembed::kernels
