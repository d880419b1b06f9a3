// SPDX-License-Identifier: Apache-2.0
// Counting on a GPU: what kernels/graph does, with the checks and sentences of the host.
#pragma once

#include <cstdint>
#include <memory>

#include "host/graph/pair_counts.h"
#include "host/graph/sequence_pairs.h"
#include "resembed/resembed.h"

namespace resembed::kernels {
struct DeviceGraph;
}

namespace resembed::detail {

class DeviceCounts {
 public:
  ~DeviceCounts();
  DeviceCounts(const DeviceCounts&) = delete;
  DeviceCounts& operator=(const DeviceCounts&) = delete;

  // Null with the status why not, for instance in a build without the cuda backend.
  static resembed_status Create(const resembed_place& place, const SequenceRules& rules, int64_t n_items,
                                size_t device_bytes, std::unique_ptr<DeviceCounts>* counts);

  // Checks ids on the device when they are there; runs that do not fit go to `host`.
  resembed_status Add(const resembed_covisit_sequences& sequences, const int64_t* offsets, PairCounts* host);
  // Everything to `host`.
  resembed_status Drain(const char* op, PairCounts* host);
  // Lists of the pairs here and in `host`; divisors [n_items] or null. Outputs in host or device memory.
  resembed_status Lists(const char* op, const resembed_graph_options& options, const double* divisors,
                        PairCounts* host, int32_t* neighbors, int64_t* counts);
  int64_t peak_bytes() const;
  void TimeStages(double* seconds);  // as kernels/graph

 private:
  DeviceCounts() = default;

  resembed_place place_ = {};
  int64_t n_items_ = 0;
  kernels::DeviceGraph* graph_ = nullptr;
};

}  // namespace resembed::detail
