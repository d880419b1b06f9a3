// SPDX-License-Identifier: Apache-2.0
// Where a model's tables live and its operations run: the CPU, or one GPU on a stream of the trainer's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/train/aligned.h"
#include "resembed/resembed.h"

namespace resembed::train {

class DenseMath;

// A GPU. Copies and operations are ordered on its stream; the host waits where it says so. Used from the thread
// that opened it. Everything throws Error.
class Device {
 public:
  // Number `ordinal`. Error where there is no such GPU, or this build has no cuda backend.
  static std::unique_ptr<Device> Open(int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const resembed_place* place() const { return &place_; }
  void* Allocate(size_t bytes);
  void* AllocatePinned(size_t bytes);
  void Free(void* at);
  void FreePinned(void* at);
  void CopyIn(void* to_device, const void* from, size_t bytes);
  void CopyOut(void* to, const void* from_device, size_t bytes);
  void Copy(void* to_device, const void* from_device, size_t bytes);
  void Wait();

  // The heads' arithmetic on this device (dense_device.h); null: they are computed on the host.
  DenseMath* dense() const { return dense_.get(); }
  void UseDense(std::unique_ptr<DenseMath> dense);

 private:
  Device();
  resembed_place place_ = {};
  std::unique_ptr<DenseMath> dense_;
};

// kPinned: for copies of every step. kNone: the host never looks at it.
enum class HostCopy { kNone, kPageable, kPinned };

// Elements where operations run, and the host's copy of them. Without a device both are one array on the CPU, and
// copies do nothing.
template <typename T>
class Mirror {
 public:
  Mirror(Device* device, HostCopy copy) : gpu_(device), copy_(copy) {}
  ~Mirror() { Release(); }
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  T* host() { return pinned_ != nullptr ? pinned_ : host_.data(); }
  const T* host() const { return pinned_ != nullptr ? pinned_ : host_.data(); }
  T* device() { return gpu_ != nullptr ? at_ : host_.data(); }

  // At least `size` elements; those there were are lost when it grows.
  void Reserve(size_t size) {
    if (size > size_) Assign(size + size / 4);
  }
  // Exactly `size` elements: zeros on the host, anything on the device.
  void Assign(size_t size) {
    Release();
    size_ = size;
    if (size == 0) return;
    if (gpu_ == nullptr || copy_ == HostCopy::kPageable) host_.assign(size, T());
    if (gpu_ == nullptr) return;
    at_ = static_cast<T*>(gpu_->Allocate(size * sizeof(T)));
    if (copy_ == HostCopy::kPinned) pinned_ = static_cast<T*>(gpu_->AllocatePinned(size * sizeof(T)));
  }
  // The first `size` elements; enqueued.
  void Upload(size_t size) {
    if (gpu_ != nullptr && size > 0) gpu_->CopyIn(at_, host(), size * sizeof(T));
  }
  void Download(size_t size) {
    if (gpu_ != nullptr && size > 0) gpu_->CopyOut(host(), at_, size * sizeof(T));
  }

 private:
  void Release() {
    if (gpu_ != nullptr && at_ != nullptr) gpu_->Free(at_);
    if (gpu_ != nullptr && pinned_ != nullptr) gpu_->FreePinned(pinned_);
    at_ = pinned_ = nullptr;
    size_ = 0;
    host_.clear();
  }

  Device* gpu_;
  HostCopy copy_;
  size_t size_ = 0;
  T *at_ = nullptr, *pinned_ = nullptr;
  AlignedVector<T> host_;
};

}  // namespace resembed::train
