// SPDX-License-Identifier: Apache-2.0
//
// Devices, attributes, errors and versions under the runtime's names.
#include <cstdio>
#include <cstring>

#include "tests/emulator/runtime.h"

using resembed::emulator::Device;
using resembed::emulator::Entry;
using resembed::emulator::Runtime;
using resembed::emulator::TheRuntime;

namespace {

constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kL2Bytes = 50 << 20;

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorStubLibrary, "cudaErrorStubLibrary", "CUDA driver is a stub library"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
};

cudaError_t CheckDevice(int device) {
  const Runtime& runtime = TheRuntime();
  if (runtime.device.count_status != cudaSuccess) return runtime.device.count_status;
  if (runtime.device.count < 1) return cudaErrorNoDevice;
  return device >= 0 && device < runtime.device.count ? cudaSuccess : cudaErrorInvalidDevice;
}

thread_local int current_device = 0;

}  // namespace

extern "C" {

// The count is not written on failure, as by the real one.
cudaError_t cudaGetDeviceCount(int* count) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (runtime.device.count_status != cudaSuccess) return runtime.Return(runtime.device.count_status);
  if (runtime.device.count < 1) return runtime.Return(cudaErrorNoDevice);
  *count = runtime.device.count;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  const Entry entry;
  if (const cudaError_t status = CheckDevice(current_device); status != cudaSuccess)
    return TheRuntime().Return(status);
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const Entry entry;
  const cudaError_t status = CheckDevice(device);
  if (status == cudaSuccess) current_device = device;
  return TheRuntime().Return(status);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (const cudaError_t status = CheckDevice(device); status != cudaSuccess) return runtime.Return(status);
  const Device& it = runtime.device;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = resembed::emulator::kMaxBlockThreads;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(it.shared_per_block);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(it.shared_per_block_optin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(it.shared_per_block_optin) + 1024;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = it.n_multiprocessors;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kThreadsPerMultiprocessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = 32;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrL2CacheSize:
      *value = kL2Bytes;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = it.compute_major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = it.compute_minor;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    default:
      return runtime.Return(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (const cudaError_t status = CheckDevice(device); status != cudaSuccess) return runtime.Return(status);
  const Device& it = runtime.device;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated");
  properties->totalGlobalMem = it.memory_bytes;
  properties->sharedMemPerBlock = it.shared_per_block;
  properties->sharedMemPerBlockOptin = it.shared_per_block_optin;
  properties->sharedMemPerMultiprocessor = it.shared_per_block_optin + 1024;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = resembed::emulator::kMaxBlockThreads;
  properties->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties->multiProcessorCount = it.n_multiprocessors;
  properties->major = it.compute_major;
  properties->minor = it.compute_minor;
  properties->l2CacheSize = kL2Bytes;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return TheRuntime().Return(CheckDevice(0));
}

// A guess that depends on threads and shared memory only: the emulator knows no registers.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n_blocks, const void*, int block_threads,
                                                          size_t shared_bytes) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (const cudaError_t status = CheckDevice(0); status != cudaSuccess) return runtime.Return(status);
  if (block_threads < 1 || block_threads > resembed::emulator::kMaxBlockThreads) {
    return runtime.Return(cudaErrorInvalidValue);
  }
  int blocks = kThreadsPerMultiprocessor / block_threads;
  if (blocks > 32) blocks = 32;
  const size_t each = shared_bytes + 1024;
  const int by_shared = static_cast<int>((runtime.device.shared_per_block_optin + 1024) / each);
  *n_blocks = blocks < by_shared ? blocks : by_shared;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  const cudaError_t last = runtime.last_error;
  // A missing driver and a kernel's error stay.
  if (runtime.device.count_status == cudaSuccess && !runtime.broken) runtime.last_error = cudaSuccess;
  return last;
}

cudaError_t cudaPeekAtLastError() {
  const Entry entry;
  return TheRuntime().last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& known : kErrors) {
    if (known.error == error) return known.name;
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& known : kErrors) {
    if (known.error == error) return known.text;
  }
  return "unrecognized error code";
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = TheRuntime().device.count_status == cudaSuccess ? CUDART_VERSION : 0;
  return cudaSuccess;
}

}  // extern "C"
