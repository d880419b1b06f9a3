// SPDX-License-Identifier: Apache-2.0
//
// Memory of the emulated device under the runtime's names. Copies are checked against the allocations they touch.
#include <cstring>
#include <memory>

#include "tests/emulator/runtime.h"

namespace resembed::emulator {
namespace {

enum class Side { kDevice, kPinned, kPageable };

Side SideOf(const void* at) {
  const Memory& memory = TheRuntime().memory;
  if (memory.Find(at) != nullptr) return Side::kDevice;
  return memory.FindPinned(at) != nullptr ? Side::kPinned : Side::kPageable;
}

// True when [at, at + bytes) lies in the allocation that holds `at`, or in memory the emulator does not know.
bool Fits(const void* at, std::size_t bytes) {
  const Memory& memory = TheRuntime().memory;
  const Memory::Region* region = memory.Find(at);
  if (region == nullptr) region = memory.FindPinned(at);
  if (region == nullptr) return true;
  return static_cast<std::size_t>(static_cast<const char*>(at) - region->at) + bytes <= region->bytes;
}

bool KindFits(cudaMemcpyKind kind, Side to, Side from) {
  const bool to_device = to == Side::kDevice, from_device = from == Side::kDevice;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    default:
      return kind == cudaMemcpyDefault;
  }
}

void Move(void* to, const void* from, std::size_t bytes) {
  Memory& memory = TheRuntime().memory;
  memory.Open(false);
  std::memmove(to, from, bytes);
  memory.Close();
}

// Pageable memory is read at the call and written before it returns; all else when the stream gets there.
cudaError_t EnqueueCopy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                        cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return ready;
  if (!runtime.Known(stream)) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return cudaErrorInvalidValue;
  const Side to_side = SideOf(to), from_side = SideOf(from);
  if (!KindFits(kind, to_side, from_side)) {
    runtime.Fault("copy of " + std::to_string(bytes) + " bytes: the pointers are not what its kind says");
    return cudaErrorInvalidValue;
  }
  if (!Fits(to, bytes) || !Fits(from, bytes)) {
    runtime.Fault("copy of " + std::to_string(bytes) + " bytes passes the end of an allocation");
    return cudaErrorInvalidValue;
  }
  if (to_side != Side::kDevice) runtime.Forbid("copy to the host");
  if (from_side == Side::kPageable) {
    runtime.Forbid("copy from pageable memory");
    auto bytes_now = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    return runtime.Append(stream, [to, bytes_now] { Move(to, bytes_now->data(), bytes_now->size()); });
  }
  const cudaError_t appended = runtime.Append(stream, [to, from, bytes] { Move(to, from, bytes); });
  if (appended != cudaSuccess || to_side != Side::kPageable) return appended;
  return cudaStreamSynchronize(stream);
}

cudaError_t EnqueueFill(void* at, int value, std::size_t bytes, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return ready;
  if (bytes == 0) return cudaSuccess;
  if (SideOf(at) == Side::kPageable || !Fits(at, bytes)) {
    runtime.Fault("fill of " + std::to_string(bytes) + " bytes passes the end of an allocation");
    return cudaErrorInvalidValue;
  }
  return runtime.Append(stream, [at, value, bytes] {
    Memory& memory = TheRuntime().memory;
    memory.Open(false);
    std::memset(at, value, bytes);
    memory.Close();
  });
}

}  // namespace
}  // namespace resembed::emulator

using resembed::emulator::Entry;
using resembed::emulator::Memory;
using resembed::emulator::Runtime;
using resembed::emulator::TheRuntime;

extern "C" {

cudaError_t cudaMalloc(void** at, size_t bytes) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaMalloc");
  const cudaError_t ready = runtime.Ready();
  return runtime.Return(ready != cudaSuccess ? ready : runtime.memory.Allocate(at, bytes));
}

cudaError_t cudaFree(void* at) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaFree");
  if (runtime.device.count_status != cudaSuccess) return runtime.Return(runtime.device.count_status);
  runtime.RunAll();  // it waits for the device
  if (at == nullptr || runtime.memory.Free(at)) return cudaSuccess;
  runtime.Fault("cudaFree of an address where no allocation begins");
  return runtime.Return(cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** at, size_t bytes, cudaStream_t) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaMallocAsync");
  const cudaError_t ready = runtime.Ready();
  return runtime.Return(ready != cudaSuccess ? ready : runtime.memory.Allocate(at, bytes));
}

cudaError_t cudaFreeAsync(void* at, cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaFreeAsync");
  if (at == nullptr) return cudaSuccess;
  const Memory::Region* region = runtime.memory.Find(at);
  if (region == nullptr || region->at != at) {
    runtime.Fault("cudaFreeAsync of an address where no allocation begins");
    return runtime.Return(cudaErrorInvalidValue);
  }
  return runtime.Return(runtime.Append(stream, [at] { TheRuntime().memory.Free(at); }));
}

cudaError_t cudaMallocHost(void** at, size_t bytes) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaMallocHost");
  const cudaError_t ready = runtime.Ready();
  return runtime.Return(ready != cudaSuccess ? ready : runtime.memory.AllocatePinned(at, bytes));
}

cudaError_t cudaHostAlloc(void** at, size_t bytes, unsigned int) { return cudaMallocHost(at, bytes); }

cudaError_t cudaFreeHost(void* at) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaFreeHost");
  runtime.RunAll();
  if (at == nullptr || runtime.memory.FreePinned(at)) return cudaSuccess;
  runtime.Fault("cudaFreeHost of an address where no allocation begins");
  return runtime.Return(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Entry entry;
  return TheRuntime().Return(resembed::emulator::EnqueueCopy(to, from, bytes, kind, stream));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Entry entry;
  TheRuntime().Forbid("cudaMemcpy");
  return TheRuntime().Return(resembed::emulator::EnqueueCopy(to, from, bytes, kind, nullptr));
}

cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream) {
  const Entry entry;
  return TheRuntime().Return(resembed::emulator::EnqueueFill(at, value, bytes, stream));
}

cudaError_t cudaMemset(void* at, int value, size_t bytes) {
  const Entry entry;
  TheRuntime().Forbid("cudaMemset");
  return TheRuntime().Return(resembed::emulator::EnqueueFill(at, value, bytes, nullptr));
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  *total_bytes = runtime.device.memory_bytes;
  *free_bytes = runtime.device.memory_bytes - runtime.memory.bytes_live();
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* at) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  *attributes = {};
  const bool on_device = runtime.memory.Find(at) != nullptr,
             pinned = runtime.memory.FindPinned(at) != nullptr;
  attributes->type = on_device ? cudaMemoryTypeDevice
                     : pinned  ? cudaMemoryTypeHost
                               : cudaMemoryTypeUnregistered;
  attributes->device = on_device || pinned ? 0 : cudaInvalidDeviceId;
  if (on_device || pinned) attributes->devicePointer = const_cast<void*>(at);
  if (pinned) attributes->hostPointer = const_cast<void*>(at);
  return cudaSuccess;
}

}  // extern "C"
