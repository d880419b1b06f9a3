// SPDX-License-Identifier: Apache-2.0
// Backward on a GPU, with or without its step, over all tables of a call. Consecutive tables share every launch as long
// as what they keep in the workspace stays within kBatchBytes; the next batch uses the same memory.
#pragma once

#include <functional>

#include "host/cuda/backward.h"

namespace resembed::detail::cuda {

// A batch of so much moves more than twice as much: on any GPU that takes far longer than to launch it.
constexpr int64_t kBatchBytes = int64_t{256} << 20;

struct GradientTask {
  const char* op;
  const BackwardCall* call;
  std::function<BackwardWork(int32_t table)> work;
  const resembed_table_step* const* steps;  // [n_tables] for a fused step, or null
};

size_t GradientBytes(const GradientTask& task, int64_t batch_bytes = kBatchBytes);
// Everything checked; enqueues on the call's stream. The device is current.
resembed_status RunGradients(const GradientTask& task, void* workspace, const kernels::Grid& grid = {},
                             int64_t batch_bytes = kBatchBytes);

}  // namespace resembed::detail::cuda
