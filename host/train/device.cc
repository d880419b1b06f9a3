// SPDX-License-Identifier: Apache-2.0
#include "host/train/device.h"

#include <string>
#include <utility>

#include "host/train/dense_math.h"
#include "host/train/log.h"
#ifdef RESEMBED_TRAIN_CUDA
#include <cuda_runtime_api.h>
#endif

namespace resembed::train {

Device::Device() = default;
void Device::UseDense(std::unique_ptr<DenseMath> dense) { dense_ = std::move(dense); }

#ifdef RESEMBED_TRAIN_CUDA

namespace {

// The runtime's errors stick to the thread until somebody asks; the library's next launch must not find ours.
void CheckCuda(const std::string& what, cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw Error{"--backend cuda: " + what + ": " + cudaGetErrorString(error)};
}

cudaStream_t StreamOf(const resembed_place& place) { return static_cast<cudaStream_t>(place.stream); }

}  // namespace

std::unique_ptr<Device> Device::Open(int ordinal) {
  if (resembed_backend_available(RESEMBED_CUDA, ordinal) != RESEMBED_OK) {
    throw Error{std::string("--backend is cuda: ") + resembed_last_error_message()};
  }
  CheckCuda("device " + std::to_string(ordinal), cudaSetDevice(ordinal));
  cudaStream_t stream = nullptr;
  CheckCuda("stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  std::unique_ptr<Device> device(new Device());
  device->place_.struct_size = sizeof(device->place_);
  device->place_.backend = RESEMBED_CUDA;
  device->place_.device = ordinal;
  device->place_.stream = stream;
  return device;
}

Device::~Device() {
  dense_.reset();
  cudaStreamDestroy(StreamOf(place_));
}

void* Device::Allocate(size_t bytes) {
  void* at = nullptr;
  CheckCuda("device memory of " + std::to_string(bytes) + " bytes", cudaMalloc(&at, bytes));
  return at;
}

void* Device::AllocatePinned(size_t bytes) {
  void* at = nullptr;
  CheckCuda("pinned memory of " + std::to_string(bytes) + " bytes", cudaMallocHost(&at, bytes));
  return at;
}

// Work on the stream may still need the memory.
void Device::Free(void* at) {
  cudaStreamSynchronize(StreamOf(place_));
  cudaFree(at);
}
void Device::FreePinned(void* at) {
  cudaStreamSynchronize(StreamOf(place_));
  cudaFreeHost(at);
}

void Device::CopyIn(void* to_device, const void* from, size_t bytes) {
  CheckCuda("copy to the device",
            cudaMemcpyAsync(to_device, from, bytes, cudaMemcpyHostToDevice, StreamOf(place_)));
}

void Device::CopyOut(void* to, const void* from_device, size_t bytes) {
  CheckCuda("copy to the host",
            cudaMemcpyAsync(to, from_device, bytes, cudaMemcpyDeviceToHost, StreamOf(place_)));
}

void Device::Copy(void* to_device, const void* from_device, size_t bytes) {
  CheckCuda("copy on the device",
            cudaMemcpyAsync(to_device, from_device, bytes, cudaMemcpyDeviceToDevice, StreamOf(place_)));
}

void Device::Wait() { CheckCuda("stream", cudaStreamSynchronize(StreamOf(place_))); }

#else

std::unique_ptr<Device> Device::Open(int ordinal) {
  const bool there = resembed_backend_available(RESEMBED_CUDA, ordinal) == RESEMBED_OK;
  throw Error{std::string("--backend is cuda: ") +
              (there ? "needs a trainer built with the CUDA runtime" : resembed_last_error_message())};
}

// Without Open there is no Device.
Device::~Device() = default;
void* Device::Allocate(size_t) { return nullptr; }
void* Device::AllocatePinned(size_t) { return nullptr; }
void Device::Free(void*) {}
void Device::FreePinned(void*) {}
void Device::CopyIn(void*, const void*, size_t) {}
void Device::CopyOut(void*, const void*, size_t) {}
void Device::Copy(void*, const void*, size_t) {}
void Device::Wait() {}

#endif

}  // namespace resembed::train
