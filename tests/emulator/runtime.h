// SPDX-License-Identifier: Apache-2.0
//
// The stand-in for libcudart: host code is compiled against the toolkit's own declarations and linked to this. One
// lock covers all of it; the emulated device runs on whichever OS thread first has to wait for it.
#ifndef RESEMBED_TESTS_EMULATOR_RUNTIME_H_
#define RESEMBED_TESTS_EMULATOR_RUNTIME_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/emulator/emulator.h"
#include "tests/emulator/engine.h"
#include "tests/emulator/machine.h"

namespace resembed::emulator {

// Device memory is heap memory, 0xFF when allocated; under AddressSanitizer it is out of bounds for everybody but
// launches and copies. Pinned memory is the host's, and known.
class Memory {
 public:
  cudaError_t Allocate(void** at, std::size_t bytes);
  bool Free(void* at);  // false: no allocation begins there
  cudaError_t AllocatePinned(void** at, std::size_t bytes);
  bool FreePinned(void* at);
  // The device allocation that holds the address, or null.
  struct Region {
    char* at;
    std::size_t bytes;
  };
  const Region* Find(const void* at) const;
  const Region* FindPinned(const void* at) const;
  void SetGap(const void* at, std::size_t bytes);
  void Open(bool for_kernel);  // device memory may be touched until Close; gaps only by copies
  void Close();
  std::size_t n_live() const { return device_.size(); }
  std::size_t bytes_live() const { return bytes_; }

 private:
  std::map<const char*, Region> device_, pinned_;
  std::map<const char*, std::size_t> gaps_;
  std::size_t bytes_ = 0;
  int open_ = 0;
};

// One thing a stream does. `number` counts over all streams in the order of the calls.
struct Work {
  std::uint64_t number = 0;
  std::function<void()> run;
  std::uint64_t after = 0;  // an event wait: the work of this number first; 0: none
};

struct Runtime {
  std::recursive_mutex lock;
  Memory memory;
  Device device;
  Order order;
  std::vector<std::string> faults;
  bool broken = false;  // a kernel ended in a fault: nothing runs until the faults are taken
  cudaError_t last_error = cudaSuccess;
  std::uint64_t n_enqueued = 0;  // numbers of Work
  std::uint64_t n_launches = 0;
  Random random;
  std::map<cudaStream_t, std::deque<Work>> streams;  // the null stream's is always empty
  cudaStream_t capturing = nullptr;
  std::vector<Work> captured;

  // Every entry point ends with it: keeps what cudaGetLastError returns.
  cudaError_t Return(cudaError_t status);
  // Success, or why nothing can run: no device, a kernel's fault not taken.
  cudaError_t Ready() const;
  void Fault(std::string text);
  // A call that an operation must not make; says which.
  void Forbid(const char* call);

  bool Known(cudaStream_t stream) const;
  cudaError_t Append(cudaStream_t stream, std::function<void()> run, std::uint64_t after = 0);
  void RunOne(cudaStream_t stream);     // the head of one stream, with what it waits for
  void RunUntil(std::uint64_t number);  // the stream that holds the work, up to it
  void RunStream(cudaStream_t stream);
  void RunAll();
  bool Pending(std::uint64_t number) const;
};

Runtime& TheRuntime();

// Locks the runtime for one entry point.
class Entry {
 public:
  Entry() : hold_(TheRuntime().lock) {}

 private:
  std::lock_guard<std::recursive_mutex> hold_;
};

}  // namespace resembed::emulator

#endif  // RESEMBED_TESTS_EMULATOR_RUNTIME_H_
