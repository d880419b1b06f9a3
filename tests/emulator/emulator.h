// SPDX-License-Identifier: Apache-2.0
//
// What a test asks of the emulator. The test program's environment sets the run order, so that one program is run
// in several orders: RESEMBED_EMULATOR_ORDER = forward | reverse | random:SEED.
#ifndef RESEMBED_TESTS_EMULATOR_EMULATOR_H_
#define RESEMBED_TESTS_EMULATOR_EMULATOR_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace resembed::emulator {

// Order of threads, of blocks, of wake-ups and of streams.
struct Order {
  enum Kind { kForward, kReverse, kRandom } kind = kForward;
  std::uint64_t seed = 0;
};
void SetOrder(Order order);  // from the next launch on
Order GetOrder();
std::string Name(Order order);
// "forward", "reverse" or "random:SEED"; false for anything else.
bool ParseOrder(const std::string& text, Order* order);

// Device limits that launches are held to, and what cudaGetDeviceProperties says. Defaults: sm_90.
struct Device {
  int count = 1;
  cudaError_t count_status =
      cudaSuccess;  // of cudaGetDeviceCount; others return it, too, when it is an error
  int compute_major = 9, compute_minor = 0;
  int n_multiprocessors = 132;
  std::size_t shared_per_block = 48 * 1024;
  std::size_t shared_per_block_optin = 227 * 1024;
  std::size_t memory_bytes = std::size_t{8} << 30;  // cudaMalloc fails beyond
};
void SetDevice(const Device& device);
Device GetDevice();

// How long one launch may take before the program is ended, with block and thread on standard error: what ends a
// spin loop without __nanosleep. 120 s, or the environment's
// RESEMBED_EMULATOR_WATCHDOG, unless set.
void SetWatchdog(unsigned seconds);

// Bytes of a device allocation that no kernel may touch, such as the space between two regions of a workspace:
// under AddressSanitizer a launch that does is found. Copies may. Forgotten with the allocation.
void SetGap(const void* at, std::size_t bytes);

// What a library of the vendor does on a stream, computed by the host when the stream gets there: run(data),
// which may touch device memory.
cudaError_t EnqueueNative(cudaStream_t stream, void (*run)(void* data), void* data);

// Faults found so far: kernel errors, wrong copies, and what an operation must not do. After a kernel's error every
// call that would run something returns cudaErrorLaunchFailure until the faults are taken. A test that ends with
// faults not taken fails (listener.cc).
std::vector<std::string> TakeFaults();

// While one lives, this OS thread is inside an operation: allocation, synchronization, queries of progress, copies
// to the host, copies from pageable memory and the null stream are faults.
class OperationScope {
 public:
  explicit OperationScope(const char* operation);
  ~OperationScope();
  OperationScope(const OperationScope&) = delete;
  OperationScope& operator=(const OperationScope&) = delete;
  int n_enqueued() const;  // launches, copies, fills, event records so far

 private:
  int before_;
  const char* outer_;
};

// Device allocations that live now; a fixture compares them.
std::size_t LiveAllocations();
// Runs all that is queued, newest first; what cudaDeviceSynchronize does.
cudaError_t Drain();

}  // namespace resembed::emulator

#endif  // RESEMBED_TESTS_EMULATOR_EMULATOR_H_
