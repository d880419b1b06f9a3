// SPDX-License-Identifier: Apache-2.0
//
// The stand-in for the runtime: lazy streams, the guard around operations, memory, devices, capture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "kernels/gpu.cuh"
#include "tests/emulator/conformance/device_array.h"
#include "tests/emulator/emulator.h"

namespace resembed::emulator {
namespace {

using conformance::DeviceArray;
using conformance::Stream;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

__global__ void FillKernel(int* out, int value) { out[threadIdx.x] = value; }
__global__ void CopyKernel(const int* in, int* out) { out[threadIdx.x] = in[threadIdx.x]; }

cudaError_t Fill(int* out, int value, cudaStream_t stream) {
  return gpu::Launch(FillKernel, dim3(1), dim3(32), 0, stream, out, value);
}
cudaError_t Copy(const int* in, int* out, cudaStream_t stream) {
  return gpu::Launch(CopyKernel, dim3(1), dim3(32), 0, stream, in, out);
}

// A pinned word, written by the stream when it gets there.
class Probe {
 public:
  Probe() { EXPECT_EQ(cudaMallocHost(reinterpret_cast<void**>(&at_), 32 * sizeof(int)), cudaSuccess); }
  ~Probe() { cudaFreeHost(at_); }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  int* at() { return at_; }

 private:
  int* at_ = nullptr;
};

TEST(Streams, NothingRunsBeforeSomebodyWaits) {
  const Stream stream;
  const DeviceArray<int> out(32, 0);
  Probe probe;
  ASSERT_EQ(Fill(out.get(), 7, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(probe.at(), out.get(), 128, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  EXPECT_EQ(probe.at()[0], -1);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(probe.at()[0], 7);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
}

TEST(Streams, AMissingWaitReadsWhatWasThereBefore) {
  const Stream producer, consumer;
  const DeviceArray<int> middle(32, 1), out(32, 0);
  Probe probe;
  ASSERT_EQ(Fill(middle.get(), 7, producer), cudaSuccess);
  ASSERT_EQ(Copy(middle.get(), out.get(), consumer), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(probe.at(), out.get(), 128, cudaMemcpyDeviceToHost, consumer), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(consumer), cudaSuccess);
  EXPECT_EQ(probe.at()[0], 1);
}

TEST(Streams, AnEventMakesTheOtherStreamRunFirst) {
  const Stream producer, consumer;
  cudaEvent_t done;
  ASSERT_EQ(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), cudaSuccess);
  const DeviceArray<int> middle(32, 1), out(32, 0);
  ASSERT_EQ(cudaStreamWaitEvent(consumer, done, 0), cudaSuccess);  // never recorded: no wait
  ASSERT_EQ(Fill(middle.get(), 7, producer), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(done, producer), cudaSuccess);
  ASSERT_EQ(Fill(middle.get(), 8, producer), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(consumer, done, 0), cudaSuccess);
  ASSERT_EQ(Copy(middle.get(), out.get(), consumer), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(consumer), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(done), cudaSuccess);
  EXPECT_THAT(out.Read(), Each(7));
  EXPECT_THAT(middle.Read(), Each(8));
  ASSERT_EQ(cudaEventDestroy(done), cudaSuccess);
}

TEST(Streams, NewestFirst) {
  const Order order = GetOrder();
  for (const Order::Kind kind : {Order::kForward, Order::kReverse}) {
    SetOrder({kind, 0});
    const Stream first, second;
    const DeviceArray<int> out(32, 0);
    ASSERT_EQ(Fill(out.get(), 1, first), cudaSuccess);
    ASSERT_EQ(Fill(out.get(), 2, second), cudaSuccess);
    EXPECT_THAT(out.Read(), Each(1));  // the second one went first
  }
  SetOrder(order);
}

TEST(Streams, SomeSeedsDiffer) {
  const Order order = GetOrder();
  std::vector<int> seen;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SetOrder({Order::kRandom, seed});
    const Stream first, second;
    const DeviceArray<int> out(32, 0);
    ASSERT_EQ(Fill(out.get(), 1, first), cudaSuccess);
    ASSERT_EQ(Fill(out.get(), 2, second), cudaSuccess);
    seen.push_back(out.Read()[0]);
  }
  SetOrder(order);
  EXPECT_THAT(seen, Contains(1));
  EXPECT_THAT(seen, Contains(2));
}

TEST(Streams, PageableMemoryIsReadAtTheCall) {
  const Stream stream;
  const DeviceArray<int> out(32, 0);
  std::vector<int> in(32, 3);
  ASSERT_EQ(cudaMemcpyAsync(out.get(), in.data(), 128, cudaMemcpyHostToDevice, stream), cudaSuccess);
  in.assign(32, 4);
  EXPECT_THAT(out.Read(), Each(3));
}

TEST(Streams, WorkFromSeveralThreads) {
  const DeviceArray<int> out(4 * 32, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&out, i] {
      const Stream stream;
      for (int round = 0; round <= i; ++round)
        EXPECT_EQ(Fill(out.get() + 32 * i, round, stream), cudaSuccess);
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<int> got = out.Read();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], static_cast<int>(i / 32));
}

TEST(Streams, ACapturedGraphIsReplayed) {
  const Stream stream;
  const DeviceArray<int> in(32, 1), out(32, 0);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(Copy(in.get(), out.get(), stream), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_THAT(out.Read(), Each(0));
  for (const int value : {5, 6}) {
    ASSERT_EQ(Fill(in.get(), value, stream), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
    EXPECT_THAT(out.Read(), Each(value));
  }
  ASSERT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// What an operation must not do, one at a time.
void ExpectFault(void (*call)(int* device, cudaStream_t stream), const char* what) {
  const Stream stream;
  const DeviceArray<int> device(32, 0);
  {
    const OperationScope scope("forward");
    call(device.get(), stream);
  }
  EXPECT_THAT(TakeFaults(), Contains(std::string("forward: ") + what + " inside an operation"));
}

TEST(OperationScope, FindsWhatAnOperationMustNotDo) {
  ExpectFault(
      [](int*, cudaStream_t) {
        void* at = nullptr;
        cudaMalloc(&at, 4);
        cudaFree(at);
      },
      "cudaMalloc");
  ExpectFault([](int*, cudaStream_t) { cudaFree(nullptr); }, "cudaFree");
  ExpectFault([](int*, cudaStream_t stream) { cudaStreamSynchronize(stream); }, "cudaStreamSynchronize");
  ExpectFault([](int*, cudaStream_t) { cudaDeviceSynchronize(); }, "cudaDeviceSynchronize");
  ExpectFault([](int*, cudaStream_t stream) { cudaStreamQuery(stream); }, "cudaStreamQuery");
  ExpectFault([](int* device, cudaStream_t) { cudaMemsetAsync(device, 0, 4, nullptr); },
              "work on the null stream");
  ExpectFault([](int* device, cudaStream_t) { Fill(device, 1, nullptr); }, "work on the null stream");
  ExpectFault(
      [](int* device, cudaStream_t stream) {
        int host[32];
        cudaMemcpyAsync(host, device, sizeof host, cudaMemcpyDeviceToHost, stream);
      },
      "copy to the host");
  ExpectFault(
      [](int* device, cudaStream_t stream) {
        const int host[32] = {};
        cudaMemcpyAsync(device, host, sizeof host, cudaMemcpyHostToDevice, stream);
      },
      "copy from pageable memory");
  ExpectFault(
      [](int*, cudaStream_t) {
        cudaEvent_t event;
        cudaEventCreate(&event);
        cudaEventDestroy(event);
      },
      "cudaEventCreate");
}

TEST(OperationScope, CountsWhatWasEnqueued) {
  const Stream stream;
  const DeviceArray<int> device(32, 0);
  {
    const OperationScope scope("forward");
    EXPECT_EQ(scope.n_enqueued(), 0);
    EXPECT_EQ(Fill(device.get(), 1, stream), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(device.get(), 0, 4, stream), cudaSuccess);
    EXPECT_EQ(scope.n_enqueued(), 2);
  }
  EXPECT_THAT(TakeFaults(), IsEmpty());
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);  // outside: no fault
}

TEST(Memory, FreshDeviceMemoryIsPoison) {
  int* at = nullptr;
  std::vector<int> host(32, 0);
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&at), 128), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(host.data(), at, 128, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_THAT(host, Each(-1));
  ASSERT_EQ(cudaFree(at), cudaSuccess);
}

TEST(Memory, CopiesStayInTheirAllocation) {
  const DeviceArray<int> device(32, 0);
  std::vector<int> host(64, 0);
  EXPECT_EQ(cudaMemcpy(device.get() + 1, host.data(), 128, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_THAT(TakeFaults(), ElementsAre(HasSubstr("copy of 128 bytes passes the end")));
  EXPECT_EQ(cudaMemset(device.get() + 31, 0, 8), cudaErrorInvalidValue);
  EXPECT_THAT(TakeFaults(), ElementsAre(HasSubstr("fill of 8 bytes passes the end")));
  EXPECT_EQ(cudaMemcpy(host.data(), device.get(), 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_THAT(TakeFaults(), ElementsAre(HasSubstr("not what its kind says")));
}

TEST(Memory, FreeOfWhatIsNoAllocation) {
  const DeviceArray<int> device(32, 0);
  EXPECT_EQ(cudaFree(device.get() + 1), cudaErrorInvalidValue);
  EXPECT_THAT(TakeFaults(), ElementsAre(HasSubstr("cudaFree of an address where no allocation begins")));
}

TEST(Devices, NoDriverAndNoDevice) {
  const Device usual = GetDevice();
  for (const cudaError_t status : {cudaErrorInsufficientDriver, cudaErrorNoDevice, cudaErrorStubLibrary}) {
    Device none = usual;
    none.count_status = status;
    SetDevice(none);
    int count = 77;
    void* at = nullptr;
    EXPECT_EQ(cudaGetDeviceCount(&count), status);
    EXPECT_EQ(count, 77);
    EXPECT_EQ(cudaGetLastError(), status);
    EXPECT_EQ(cudaGetLastError(), status);
    EXPECT_EQ(cudaMalloc(&at, 4), status);
    EXPECT_EQ(gpu::Launch(FillKernel, dim3(1), dim3(1), 0, nullptr, static_cast<int*>(nullptr), 0), status);
  }
  SetDevice(usual);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStubLibrary);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(Devices, MemoryRunsOut) {
  const Device usual = GetDevice();
  Device small = usual;
  small.memory_bytes = 1000;
  SetDevice(small);
  void *first = nullptr, *second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 600), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 600), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(first), cudaSuccess);
  SetDevice(usual);
  cudaGetLastError();
}

}  // namespace
}  // namespace resembed::emulator
