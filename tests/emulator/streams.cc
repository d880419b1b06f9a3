// SPDX-License-Identifier: Apache-2.0
//
// Streams do nothing until somebody waits, and then the newest first: what was meant to wait for an event or a
// stream and does not, reads memory that nobody has written yet.
//   forward   the newest work of all with what it needs, then the next newest
//   reverse   one piece at a time, from the stream whose next piece is newest
//   random    one piece at a time, from any stream
#include <cstring>

#include "tests/emulator/runtime.h"

namespace resembed::emulator {
namespace {

thread_local const char* operation = nullptr;  // the OperationScope of this OS thread

bool IsNull(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

Order OrderOfEnvironment() {
  Order order;
  const char* text = std::getenv("RESEMBED_EMULATOR_ORDER");
  if (text != nullptr && !ParseOrder(text, &order)) {
    std::fprintf(stderr, "RESEMBED_EMULATOR_ORDER is %s; needs forward, reverse or random:SEED\n", text);
    std::abort();
  }
  return order;
}

}  // namespace

Runtime& TheRuntime() {
  static Runtime* const runtime = [] {
    Runtime* const made = new Runtime;
    made->order = OrderOfEnvironment();
    made->random.Seed(made->order.seed);
    return made;
  }();
  return *runtime;
}

cudaError_t Runtime::Return(cudaError_t status) {
  if (status != cudaSuccess && status != cudaErrorNotReady) last_error = status;
  return status;
}

cudaError_t Runtime::Ready() const {
  if (device.count_status != cudaSuccess) return device.count_status;
  if (device.count < 1) return cudaErrorNoDevice;
  return broken ? cudaErrorLaunchFailure : cudaSuccess;
}

void Runtime::Fault(std::string text) { faults.push_back(std::move(text)); }

void Runtime::Forbid(const char* call) {
  if (operation != nullptr) Fault(std::string(operation) + ": " + call + " inside an operation");
}

bool Runtime::Known(cudaStream_t stream) const { return IsNull(stream) || streams.count(stream) > 0; }

cudaError_t Runtime::Append(cudaStream_t stream, std::function<void()> run, std::uint64_t after) {
  if (const cudaError_t ready = Ready(); ready != cudaSuccess) return ready;
  if (!Known(stream)) return cudaErrorInvalidResourceHandle;
  Work work{++n_enqueued, std::move(run), after};
  if (capturing != nullptr) {
    if (stream != capturing) return cudaErrorStreamCaptureUnsupported;
    captured.push_back(std::move(work));
    return cudaSuccess;
  }
  if (!IsNull(stream)) {
    streams[stream].push_back(std::move(work));
    return cudaSuccess;
  }
  // The null stream waits for all others, and they for it.
  Forbid("work on the null stream");
  RunAll();
  if (!broken) work.run();
  return cudaSuccess;
}

bool Runtime::Pending(std::uint64_t number) const {
  for (const auto& [stream, queue] : streams) {
    for (const Work& work : queue) {
      if (work.number == number) return true;
    }
  }
  return false;
}

void Runtime::RunOne(cudaStream_t stream) {
  std::deque<Work>& queue = streams.at(stream);
  const std::uint64_t after = queue.front().after;
  if (after != 0) RunUntil(after);
  const Work work = std::move(queue.front());
  queue.pop_front();
  if (!broken) work.run();  // after a kernel's error the device runs nothing more
}

void Runtime::RunUntil(std::uint64_t number) {
  for (auto& [stream, queue] : streams) {
    bool here = false;
    for (const Work& work : queue) here = here || work.number == number;
    if (!here) continue;
    while (Pending(number)) RunOne(stream);
    return;
  }
}

void Runtime::RunStream(cudaStream_t stream) {
  std::deque<Work>& queue = streams.at(stream);
  while (!queue.empty()) RunOne(stream);
}

void Runtime::RunAll() {
  for (;;) {
    std::vector<cudaStream_t> waiting;
    cudaStream_t newest = nullptr;
    std::uint64_t number = 0;
    for (const auto& [stream, queue] : streams) {
      if (queue.empty()) continue;
      waiting.push_back(stream);
      const std::uint64_t mine = order.kind == Order::kForward ? queue.back().number : queue.front().number;
      if (mine > number) number = mine, newest = stream;
    }
    if (waiting.empty()) return;
    if (order.kind == Order::kForward) {
      RunStream(newest);
    } else if (order.kind == Order::kReverse) {
      RunOne(newest);
    } else {
      RunOne(waiting[static_cast<std::size_t>(random.Below(static_cast<int>(waiting.size())))]);
    }
  }
}

cudaError_t Enqueue(Grid grid, cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  const Device& device = runtime.device;
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  const dim3 &blocks = grid.blocks, &threads = grid.threads;
  const std::uint64_t n_threads = std::uint64_t{threads.x} * threads.y * threads.z;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > 0x7fffffffu || blocks.y > 65535 ||
      blocks.z > 65535 || n_threads == 0 || n_threads > kMaxBlockThreads || threads.z > 64) {
    return runtime.Return(cudaErrorInvalidConfiguration);
  }
  if (grid.shared_bytes > device.shared_per_block_optin) return runtime.Return(cudaErrorInvalidValue);
  const std::uint64_t launch = ++runtime.n_launches;
  return runtime.Return(runtime.Append(stream, [grid = std::move(grid), launch] {
    Runtime& runtime = TheRuntime();
    std::string fault;
    runtime.memory.Open(true);
    if (!TheMachine().Run(grid, runtime.order, launch, &fault)) {
      runtime.Fault(std::move(fault));
      runtime.broken = true;
    }
    runtime.memory.Close();
  }));
}

cudaError_t EnqueueNative(cudaStream_t stream, void (*run)(void* data), void* data) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  return runtime.Return(runtime.Append(stream, [run, data] {
    TheRuntime().memory.Open(true);
    run(data);
    TheRuntime().memory.Close();
  }));
}

void SetOrder(Order order) {
  const Entry entry;
  TheRuntime().order = order;
  TheRuntime().random.Seed(order.seed);
}

Order GetOrder() { return TheRuntime().order; }

std::string Name(Order order) {
  if (order.kind == Order::kForward) return "forward";
  return order.kind == Order::kReverse ? "reverse" : "random:" + std::to_string(order.seed);
}

bool ParseOrder(const std::string& text, Order* order) {
  if (text == "forward") {
    *order = {Order::kForward, 0};
  } else if (text == "reverse") {
    *order = {Order::kReverse, 0};
  } else if (text.rfind("random:", 0) == 0 && text.size() > 7 &&
             text.find_first_not_of("0123456789", 7) == std::string::npos) {
    *order = {Order::kRandom, std::strtoull(text.c_str() + 7, nullptr, 10)};
  } else {
    return false;
  }
  return true;
}

void SetDevice(const Device& device) {
  const Entry entry;
  TheRuntime().device = device;
}

void SetGap(const void* at, std::size_t bytes) {
  const Entry entry;
  TheRuntime().memory.SetGap(at, bytes);
}

Device GetDevice() { return TheRuntime().device; }

std::vector<std::string> TakeFaults() {
  const Entry entry;
  std::vector<std::string> faults;
  faults.swap(TheRuntime().faults);
  if (TheRuntime().broken) TheRuntime().last_error = cudaSuccess;
  TheRuntime().broken = false;
  return faults;
}

std::size_t LiveAllocations() {
  const Entry entry;
  return TheRuntime().memory.n_live();
}

cudaError_t Drain() { return cudaDeviceSynchronize(); }

OperationScope::OperationScope(const char* name)
    : before_(static_cast<int>(TheRuntime().n_enqueued)), outer_(operation) {
  operation = name;
}
OperationScope::~OperationScope() { operation = outer_; }
int OperationScope::n_enqueued() const { return static_cast<int>(TheRuntime().n_enqueued) - before_; }

}  // namespace resembed::emulator
