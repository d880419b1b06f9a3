// SPDX-License-Identifier: Apache-2.0
// The device a call names: whether it is there, and what its errors become.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

// ok when this machine has GPU `device`; otherwise cuda, and why.
resembed_status CheckDevice(const char* op, int32_t device);
// The same, and its compute capability is one that kernels are built for.
resembed_status CheckBackend(const char* op, int32_t device);

// Makes `device` current for one operation and puts back what was current before.
class DeviceScope {
 public:
  DeviceScope(const char* op, int32_t device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  resembed_status status() const { return status_; }

 private:
  int before_ = -1;
  resembed_status status_;
};

inline cudaStream_t StreamOf(const resembed_place& place) { return static_cast<cudaStream_t>(place.stream); }

// Status cuda with what failed; clears the error unless it sticks to the device.
resembed_status CudaFailure(const char* op, const char* what, cudaError_t error);
// The same for a launch.
resembed_status LaunchFailure(const char* op, const char* kernel, int64_t blocks, int threads,
                              cudaError_t error);

// For host services only: copies device memory after the work on place.stream, and waits for it.
resembed_status CopyToHost(const char* op, void* to, const void* from, size_t bytes,
                           const resembed_place& place);

// With RESEMBED_SYNC=1 in the environment waits for the stream, so that an error of a kernel is reported by the
// operation that launched it. Otherwise does nothing.
resembed_status FinishLaunches(const char* op, cudaStream_t stream);

}  // namespace resembed::detail::cuda
