// SPDX-License-Identifier: Apache-2.0
#include "host/graph/device_counts.h"

#include "host/status.h"
#ifdef RESEMBED_WITH_CUDA
#include <vector>

#include "host/cuda/device.h"
#include "kernels/graph/graph.h"
#endif

namespace resembed::detail {

#ifdef RESEMBED_WITH_CUDA

namespace {

using kernels::GraphFault;

// What the sinks of kernels/graph are given.
struct HostRun final : PairSource {
  HostRun(const uint64_t* k, const int64_t* c, int64_t n) : keys(k), counts(c), left(n), block(kBlock) {}
  PairBlock Next() override {
    const int64_t n = left < kBlock ? left : kBlock;
    for (int64_t at = 0; at < n; ++at) block[static_cast<size_t>(at)] = {keys[at], counts[at]};
    keys += n;
    counts += n;
    left -= n;
    return {block.data(), block.data() + n};
  }

  static constexpr int64_t kBlock = 4096;
  const uint64_t* keys;
  const int64_t* counts;
  int64_t left;
  std::vector<PairCount> block;
};

void ToHost(void* host, const uint64_t* keys, const int64_t* counts, int64_t n) {
  static_cast<PairCounts*>(host)->AddSource(std::make_unique<HostRun>(keys, counts, n), n);
}

resembed_status FaultStatus(const char* op, const GraphFault& fault) {
  return Fail(fault.kind == GraphFault::kMemory ? RESEMBED_OUT_OF_MEMORY : RESEMBED_CUDA_ERROR, "%s: %s", op,
              fault.what);
}

}  // namespace

DeviceCounts::~DeviceCounts() {
  if (graph_ == nullptr) return;
  const cuda::DeviceScope scope("covisit_destroy", place_.device);
  kernels::DeleteDeviceGraph(graph_);
}

resembed_status DeviceCounts::Create(const resembed_place& place, const SequenceRules& rules, int64_t n_items,
                                     size_t device_bytes, std::unique_ptr<DeviceCounts>* counts) {
  constexpr const char* kOp = "covisit_create";
  if (rules.max_pair_uses != 0) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: max_pair_uses is %d; needs 0 on cuda", kOp, rules.max_pair_uses);
  }
  RESEMBED_RETURN_IF_ERROR(cuda::CheckBackend(kOp, place.device));
  const cuda::DeviceScope scope(kOp, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  kernels::GraphRules given;
  given.n_items = n_items;
  given.distance_weights = rules.distance_weights.data();
  given.window = static_cast<int32_t>(rules.distance_weights.size());
  given.max_items = rules.max_items;
  given.session_gap = rules.session_gap;
  std::unique_ptr<DeviceCounts> made(new DeviceCounts());
  GraphFault fault;
  constexpr size_t kDefaultBytes = size_t{4} << 30;
  made->graph_ = kernels::NewDeviceGraph(
      given, static_cast<int64_t>(device_bytes == 0 ? kDefaultBytes : device_bytes), place.stream, &fault);
  if (made->graph_ == nullptr) return FaultStatus(kOp, fault);
  made->place_ = place;
  made->n_items_ = n_items;
  *counts = std::move(made);
  return RESEMBED_OK;
}

resembed_status DeviceCounts::Add(const resembed_covisit_sequences& sequences, const int64_t* offsets,
                                  PairCounts* host) {
  constexpr const char* kOp = "covisit_add";
  const cuda::DeviceScope scope(kOp, place_.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  kernels::GraphSequences given;
  given.ids = sequences.ids;
  given.times = sequences.times;
  given.wide_ids = sequences.id_dtype == RESEMBED_I64;
  given.on_device = sequences.on_device == 1;
  given.offsets = offsets;
  given.n_seen = sequences.n_seen;
  given.n_sequences = sequences.n_sequences;
  GraphFault fault;
  if (given.on_device) {
    int64_t value = 0;
    const int64_t bad =
        kernels::FindBadId(graph_, given, offsets[0], offsets[sequences.n_sequences], &value, &fault);
    if (bad == -2) return FaultStatus(kOp, fault);
    if (bad >= 0) {
      return Fail(RESEMBED_OUT_OF_RANGE, "%s: ids[%lld] is %lld; needs 0 .. n_items - 1 (%lld)", kOp,
                  static_cast<long long>(bad), static_cast<long long>(value),
                  static_cast<long long>(n_items_ - 1));
    }
  }
  if (kernels::AddSequences(graph_, given, ToHost, host, &fault)) return RESEMBED_OK;
  return FaultStatus(kOp, fault);
}

resembed_status DeviceCounts::Drain(const char* op, PairCounts* host) {
  const cuda::DeviceScope scope(op, place_.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  GraphFault fault;
  return kernels::DrainPairs(graph_, ToHost, host, &fault) ? RESEMBED_OK : FaultStatus(op, fault);
}

resembed_status DeviceCounts::Lists(const char* op, const resembed_graph_options& options,
                                    const double* divisors, PairCounts* host, int32_t* neighbors,
                                    int64_t* counts) {
  const cuda::DeviceScope scope(op, place_.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  GraphFault fault;
  kernels::GraphListRules rules;
  rules.k = options.k;
  rules.min_count = options.min_count;
  rules.self_loop = options.self_loop;
  rules.divisors = divisors;
  // A pair may have counts on both sides: then the device's join the host's first.
  host->Compact();
  if (host->size() > 0) {
    RESEMBED_RETURN_IF_ERROR(Drain(op, host));
    host->Compact();
  }
  if (host->error() != 0) return RESEMBED_OK;  // Guarded says it
  if (!kernels::BeginLists(graph_, rules, &fault)) return FaultStatus(op, fault);
  if (host->size() == 0) {
    if (!kernels::TakePairs(graph_, &fault)) return FaultStatus(op, fault);
  } else {
    constexpr size_t kBlock = size_t{1} << 22;
    std::vector<uint64_t> keys;
    std::vector<int64_t> values;
    const auto flush = [&] {
      const bool done =
          kernels::AddPairs(graph_, keys.data(), values.data(), static_cast<int64_t>(keys.size()), &fault);
      keys.clear();
      values.clear();
      return done;
    };
    const std::unique_ptr<PairSource> source = host->Read();
    for (PairBlock block = source->Next(); block.begin != block.end; block = source->Next()) {
      for (; block.begin != block.end; ++block.begin) {
        keys.push_back(block.begin->key);
        values.push_back(block.begin->count);
      }
      if (keys.size() >= kBlock && !flush()) return FaultStatus(op, fault);
    }
    if (!flush()) return FaultStatus(op, fault);
    if (source->error() != 0) {
      return Fail(RESEMBED_IO_ERROR, "%s: a file in %s could not be read; needs the disk back", op,
                  host->folder().c_str());
    }
  }
  return kernels::EndLists(graph_, neighbors, counts, &fault) ? RESEMBED_OK : FaultStatus(op, fault);
}

int64_t DeviceCounts::peak_bytes() const { return kernels::PeakBytes(graph_); }
void DeviceCounts::TimeStages(double* seconds) { kernels::TimeStages(graph_, seconds); }

#else

namespace {
resembed_status NotBuilt(const char* op) {
  return Fail(RESEMBED_UNSUPPORTED, "%s: place.backend is cuda; needs cpu (this build has no cuda kernels)",
              op);
}
}  // namespace

DeviceCounts::~DeviceCounts() = default;
resembed_status DeviceCounts::Create(const resembed_place&, const SequenceRules&, int64_t, size_t,
                                     std::unique_ptr<DeviceCounts>*) {
  return NotBuilt("covisit_create");
}
resembed_status DeviceCounts::Add(const resembed_covisit_sequences&, const int64_t*, PairCounts*) {
  return NotBuilt("covisit_add");
}
resembed_status DeviceCounts::Drain(const char* op, PairCounts*) { return NotBuilt(op); }
resembed_status DeviceCounts::Lists(const char* op, const resembed_graph_options&, const double*, PairCounts*,
                                    int32_t*, int64_t*) {
  return NotBuilt(op);
}
int64_t DeviceCounts::peak_bytes() const { return 0; }
void DeviceCounts::TimeStages(double*) {}

#endif

}  // namespace resembed::detail
