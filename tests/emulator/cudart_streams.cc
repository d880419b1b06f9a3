// SPDX-License-Identifier: Apache-2.0
//
// Streams, events, capture and synchronization under the runtime's names.
#include <algorithm>
#include <memory>

#include "tests/emulator/runtime.h"

using resembed::emulator::Entry;
using resembed::emulator::Runtime;
using resembed::emulator::TheRuntime;
using resembed::emulator::Work;

// The runtime's handles are pointers to these incomplete types.
struct CUevent_st {
  std::uint64_t recorded = 0;  // number of the work; 0: never
};
struct CUstream_st {
  unsigned flags = 0;
};
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace {

cudaError_t Status() { return TheRuntime().Return(TheRuntime().Ready()); }

}  // namespace

extern "C" {

cudaError_t cudaDeviceSynchronize() {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaDeviceSynchronize");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  runtime.RunAll();
  return Status();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaStreamCreate");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  *stream = new CUstream_st{flags};
  runtime.streams[*stream];
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  const auto found = runtime.streams.find(stream);
  if (found == runtime.streams.end()) return runtime.Return(cudaErrorInvalidResourceHandle);
  runtime.RunStream(stream);  // it would go on by itself
  runtime.streams.erase(found);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaStreamSynchronize");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  if (!runtime.Known(stream)) return runtime.Return(cudaErrorInvalidResourceHandle);
  if (runtime.capturing != nullptr) return runtime.Return(cudaErrorStreamCaptureUnsupported);
  if (runtime.streams.count(stream) > 0) {
    runtime.RunStream(stream);
  } else {
    runtime.RunAll();
  }
  return Status();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaStreamQuery");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  const auto found = runtime.streams.find(stream);
  if (found == runtime.streams.end() || found->second.empty()) return cudaSuccess;
  runtime.RunOne(stream);  // who polls sees progress
  return cudaErrorNotReady;
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned int* flags) {
  const Entry entry;
  if (TheRuntime().streams.count(stream) == 0) return TheRuntime().Return(cudaErrorInvalidResourceHandle);
  *flags = stream->flags;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (event->recorded == 0) return cudaSuccess;
  return runtime.Return(runtime.Append(
      stream, [] {}, event->recorded));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaEventCreate");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  const cudaError_t appended = runtime.Append(stream, [] {});
  if (appended == cudaSuccess) event->recorded = runtime.n_enqueued;
  return runtime.Return(appended);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaEventSynchronize");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  runtime.RunUntil(event->recorded);
  return Status();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  runtime.Forbid("cudaEventQuery");
  if (const cudaError_t ready = runtime.Ready(); ready != cudaSuccess) return runtime.Return(ready);
  if (!runtime.Pending(event->recorded)) return cudaSuccess;
  runtime.RunUntil(event->recorded);
  return cudaErrorNotReady;
}

// No clock of the emulated device means anything: some time passes between any two events.
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (start->recorded == 0 || end->recorded == 0) return runtime.Return(cudaErrorInvalidResourceHandle);
  if (runtime.Pending(end->recorded)) return runtime.Return(cudaErrorNotReady);
  *ms = 1e-3f * static_cast<float>(std::max<std::uint64_t>(end->recorded - start->recorded, 1));
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Entry entry;
  delete event;
  return cudaSuccess;
}

// Capture of one stream: what it is given until the end is kept in order, and a launch of the graph appends it all.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  if (runtime.capturing != nullptr) return runtime.Return(cudaErrorIllegalState);
  if (runtime.streams.count(stream) == 0) return runtime.Return(cudaErrorStreamCaptureUnsupported);
  runtime.capturing = stream;
  runtime.captured.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Entry entry;
  *status = stream != nullptr && stream == TheRuntime().capturing ? cudaStreamCaptureStatusActive
                                                                  : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  *graph = nullptr;
  if (runtime.capturing == nullptr || runtime.capturing != stream)
    return runtime.Return(cudaErrorIllegalState);
  runtime.capturing = nullptr;
  *graph = new CUgraph_st{std::move(runtime.captured)};
  runtime.captured.clear();
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* n_nodes) {
  const Entry entry;
  if (nodes != nullptr) return TheRuntime().Return(cudaErrorNotSupported);
  *n_nodes = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Entry entry;
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Entry entry;
  Runtime& runtime = TheRuntime();
  for (const Work& work : executable->work) {
    const cudaError_t appended = runtime.Append(stream, work.run);
    if (appended != cudaSuccess) return runtime.Return(appended);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

}  // extern "C"
