// Training on a CUDA stream of your own: copy in, plan, forward, your network, backward and step are enqueued one
// after the other, and the loop never waits for the GPU. Ends with 77 where there is no GPU.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <vector>

#include "resembed/resembed.hpp"

namespace {

// Device memory: what Batch grows into for its plan and workspace, and `n` values to begin with.
class DeviceMemory : public resembed::Memory {
 public:
  DeviceMemory() = default;
  template <typename T>
  DeviceMemory(size_t n, T value) {
    const std::vector<T> values(n, value);
    cudaMemcpy(Reserve(n * sizeof(T)), values.data(), n * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~DeviceMemory() override { cudaFree(at_); }
  void* Reserve(size_t bytes) override {
    if (bytes <= bytes_) return at_;
    cudaFree(at_);  // waits for what still uses it
    at_ = nullptr;
    bytes_ = cudaMalloc(&at_, bytes) == cudaSuccess ? bytes : 0;
    return at_;
  }
  float* floats() const { return static_cast<float*>(at_); }
  int32_t* ints() const { return static_cast<int32_t*>(at_); }

 private:
  void* at_ = nullptr;
  size_t bytes_ = 0;
};

int Train(cudaStream_t stream) {
  using namespace resembed;
  const int32_t n_items = 1000, n_centers = 50, dim = 16, n_bags = 32, length = 4, n_steps = 10;
  DeviceMemory residual(n_items * dim, 0.0f), central(n_centers * dim, 0.1f), residual_state(n_items, 0.0f),
      central_state(n_centers, 0.0f), center_of(n_items, 0), ids(n_bags * length, 0),
      pooled(n_bags * dim, 0.0f), gradient(n_bags * dim, 0.0f), workspace, plan_memory;
  std::vector<int32_t> centers(n_items);
  for (int32_t item = 0; item < n_items; ++item) centers[item] = item % n_centers;
  cudaMemcpy(center_of.ints(), centers.data(), n_items * sizeof(int32_t), cudaMemcpyHostToDevice);

  Table table(n_items, dim);
  table.Residual(residual.floats()).Central(central.floats(), n_centers).Assignment(center_of.ints());
  Feature history(0, RESEMBED_POOLING_MEAN);
  history.Ids(ids.ints(), n_bags * length).FixedLength(length, n_bags).Output(pooled.floats());
  const FeatureGrad dy(gradient.floats());
  const Optimizer for_residual = Optimizer::RowwiseAdagrad(0.02f, residual_state.floats()).L2(0.006f);
  const Optimizer for_central = Optimizer::RowwiseAdagrad(0.02f, central_state.floats());
  const TableStep table_step(&for_residual, &for_central);
  Batch batch({&table}, {&history}, Place::Cuda(0, stream), &workspace, &plan_memory);

  void* pinned = nullptr;  // [n_steps, n_bags, length]: the driver may wait before it copies pageable memory
  if (cudaMallocHost(&pinned, n_steps * n_bags * length * sizeof(int32_t)) != cudaSuccess) return 1;
  int32_t* batches = static_cast<int32_t*>(pinned);
  for (int32_t at = 0; at < n_steps * n_bags * length; ++at) batches[at] = 37 * at % n_items;
  cudaDeviceSynchronize();  // the copies above were not on this stream
  for (int32_t step = 0; step < n_steps; ++step) {
    cudaMemcpyAsync(ids.ints(), batches + step * n_bags * length, n_bags * length * sizeof(int32_t),
                    cudaMemcpyHostToDevice, stream);
    Status status = batch.Plan();
    if (status.ok()) status = batch.Forward();
    // Your network goes here, on the same stream: reads pooled, writes gradient. That of the loss |y|^2 / 2:
    cudaMemcpyAsync(gradient.floats(), pooled.floats(), n_bags * dim * sizeof(float),
                    cudaMemcpyDeviceToDevice, stream);
    if (status.ok()) status = batch.BackwardStep({&dy}, {&table_step});
    if (!status.ok()) return std::fprintf(stderr, "training_loop: %s\n", status.message().c_str()), 1;
  }

  float last = 0;
  cudaMemcpyAsync(&last, pooled.floats(), sizeof(last), cudaMemcpyDeviceToHost, stream);
  const bool done = cudaStreamSynchronize(stream) == cudaSuccess;
  cudaFreeHost(pinned);
  if (!done) return std::fprintf(stderr, "the GPU failed\n"), 1;
  std::printf("pooled[0][0] went from 0.1 to %.4f\n", static_cast<double>(last));
  return last > -0.05f && last < 0.05f ? 0 : 1;
}

}  // namespace

int main() {
  if (resembed_backend_available(RESEMBED_CUDA, 0) != RESEMBED_OK) {
    return std::printf("training_loop: %s\n", resembed_last_error_message()), 77;
  }
  cudaStream_t stream = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return 1;
  const int failed = Train(stream);
  cudaStreamDestroy(stream);
  return failed;
}
