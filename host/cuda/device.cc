// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/device.h"

#include <cstdlib>
#include <cstring>

namespace resembed::detail::cuda {

constexpr int kLowestCapability = 75;

resembed_status CudaFailure(const char* op, const char* what, cudaError_t error) {
  cudaGetLastError();
  return Fail(RESEMBED_CUDA_ERROR, "%s: %s is %s (%s); needs success", op, what, cudaGetErrorName(error),
              cudaGetErrorString(error));
}

resembed_status LaunchFailure(const char* op, const char* kernel, int64_t blocks, int threads,
                              cudaError_t error) {
  cudaGetLastError();
  return Fail(RESEMBED_CUDA_ERROR, "%s: launch of %s on %lld blocks of %d threads is %s (%s); needs success",
              op, kernel, static_cast<long long>(blocks), threads, cudaGetErrorName(error),
              cudaGetErrorString(error));
}

resembed_status CheckDevice(const char* op, int32_t device) {
  int count = 0;  // not written when the query fails
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count < 1) {
    cudaGetLastError();
    return Fail(RESEMBED_CUDA_ERROR, "%s: place.backend is cuda; needs a GPU (%s)", op,
                error == cudaSuccess ? "no device" : cudaGetErrorString(error));
  }
  if (device < 0 || device >= count) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: place.device is %d; needs 0 .. %d", op, device, count - 1);
  }
  return RESEMBED_OK;
}

resembed_status CheckBackend(const char* op, int32_t device) {
  RESEMBED_RETURN_IF_ERROR(CheckDevice(op, device));
  int major = 0, minor = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  }
  if (error != cudaSuccess) return CudaFailure(op, "the query of place.device", error);
  if (major * 10 + minor < kLowestCapability) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: compute capability of device %d is %d.%d; needs %d.%d or higher",
                op, device, major, minor, kLowestCapability / 10, kLowestCapability % 10);
  }
  return RESEMBED_OK;
}

DeviceScope::DeviceScope(const char* op, int32_t device) {
  status_ = CheckDevice(op, device);
  if (status_ != RESEMBED_OK) return;
  int current = -1;
  cudaError_t error = cudaGetDevice(&current);
  if (error == cudaSuccess && current != device) {
    error = cudaSetDevice(device);
    if (error == cudaSuccess) before_ = current;
  }
  if (error != cudaSuccess) status_ = CudaFailure(op, "selecting place.device", error);
}

DeviceScope::~DeviceScope() {
  if (before_ >= 0) cudaSetDevice(before_);
}

resembed_status CopyToHost(const char* op, void* to, const void* from, size_t bytes,
                           const resembed_place& place) {
  const DeviceScope scope(op, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  cudaError_t error = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, StreamOf(place));
  if (error == cudaSuccess) error = cudaStreamSynchronize(StreamOf(place));
  return error == cudaSuccess ? RESEMBED_OK : CudaFailure(op, "a copy from place.device", error);
}

resembed_status FinishLaunches(const char* op, cudaStream_t stream) {
  const char* asked = std::getenv("RESEMBED_SYNC");
  if (asked == nullptr || std::strcmp(asked, "1") != 0) return RESEMBED_OK;
  const cudaError_t error = cudaStreamSynchronize(stream);
  return error == cudaSuccess ? RESEMBED_OK : CudaFailure(op, "its work on place.stream", error);
}

}  // namespace resembed::detail::cuda
