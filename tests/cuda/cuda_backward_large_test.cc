// SPDX-License-Identifier: Apache-2.0
// Tables, states and output gradients of more than 2^31 elements: a step over their far ends has the CPU's bits. On a
// GPU it takes 33 GB; emulated, memory that is reserved and not used.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "tests/cuda/support/device_plan.h"

namespace resembed::testing {
namespace {

constexpr int64_t kItems = 40'000'000, kDim = 64;  // 2.56e9 elements a matrix
constexpr int64_t kGradStride = int64_t{1} << 30;  // of 4 rows of output gradient, in bf16

// Host memory that is zero until written, taken page by page.
class HostArray {
 public:
  explicit HostArray(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0)) {
    if (data_ != MAP_FAILED) madvise(data_, bytes_, MADV_NOHUGEPAGE);
  }
  ~HostArray() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  HostArray(const HostArray&) = delete;
  bool ok() const { return data_ != MAP_FAILED; }
  char* data() const { return static_cast<char*>(data_); }
  void Write(int64_t at, const void* from, size_t bytes) { std::memcpy(data() + at, from, bytes); }
  void Read(void* to, int64_t at, size_t bytes) { std::memcpy(to, data() + at, bytes); }

 private:
  size_t bytes_;
  void* data_;
};

#ifdef RESEMBED_EMULATED
using DeviceArray = HostArray;  // the emulator's own memory is filled when it is allocated
#else
class DeviceArray {
 public:
  explicit DeviceArray(int64_t bytes) {
    ok_ = cudaMalloc(&data_, static_cast<size_t>(bytes)) == cudaSuccess;
    if (!ok_) cudaGetLastError();
  }
  ~DeviceArray() {
    if (ok_) cudaFree(data_);
  }
  DeviceArray(const DeviceArray&) = delete;
  bool ok() const { return ok_; }
  char* data() const { return static_cast<char*>(data_); }
  void Write(int64_t at, const void* from, size_t bytes) {
    EXPECT_EQ(cudaMemcpy(data() + at, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
  }
  void Read(void* to, int64_t at, size_t bytes) {
    EXPECT_EQ(cudaMemcpy(to, data() + at, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  }

 private:
  void* data_ = nullptr;
  bool ok_ = false;
};
#endif

const int64_t kIds[] = {kItems - 1, 33'554'432, kItems - 1, 33'554'433,
                        0,          39'000'001, 33'554'432, kItems - 2};
int64_t CenterOf(int64_t item) { return kItems - 1 - item / 2; }

// R fp32 with Adagrad, C bf16 with SGD; bags of two ids; everything but what kIds names is left as it comes.
template <typename Array>
struct Problem {
  Array residual{kItems * kDim * 4}, state{kItems * kDim * 4}, central{kItems * kDim * 2},
      centers{kItems * 4}, grad{(3 * kGradStride + kDim) * 2}, ids{sizeof(kIds)};
  resembed_table table = {};
  const resembed_table* table_pointer = &table;
  resembed_tables tables = {};
  resembed_feature feature = {};
  const resembed_feature* features = &feature;
  resembed_feature_grad feature_grad = {};
  const resembed_feature_grad* feature_grads = &feature_grad;
  resembed_optimizer adagrad = {}, sgd = {};
  resembed_table_step step = {};
  const resembed_table_step* steps = &step;

  bool ok() const {
    return residual.ok() && state.ok() && central.ok() && centers.ok() && grad.ok() && ids.ok();
  }
  Problem() {
    if (!ok()) return;
    ids.Write(0, kIds, sizeof(kIds));
    for (const int64_t item : kIds) {
      float row[kDim], second[kDim];
      uint16_t center[kDim];
      for (int64_t col = 0; col < kDim; ++col) {
        row[col] = static_cast<float>(item % 97) + .25f * static_cast<float>(col);
        second[col] = 1.0f + static_cast<float>((item + col) % 5);
        center[col] = static_cast<uint16_t>(0x3f80 + (item / 2 + col) % 64);  // 1 .. 1.5
      }
      residual.Write(item * kDim * 4, row, sizeof(row));
      state.Write(item * kDim * 4, second, sizeof(second));
      central.Write(CenterOf(item) * kDim * 2, center, sizeof(center));
      const auto code = static_cast<int32_t>(CenterOf(item));
      centers.Write(item * 4, &code, 4);
    }
    for (int64_t bag = 0; bag < 4; ++bag) {
      uint16_t row[kDim];
      for (int64_t col = 0; col < kDim; ++col) row[col] = static_cast<uint16_t>(0x3f00 + bag * 19 + col % 32);
      grad.Write(bag * kGradStride * 2, row, sizeof(row));
    }
    table.struct_size = sizeof(table);
    table.n_items = table.central_rows = kItems;
    table.dim = kDim;
    table.form = RESEMBED_CENTRAL_ASSIGNMENT;
    table.residual = residual.data();
    table.central = central.data();
    table.central_dtype = RESEMBED_BF16;
    table.center_of = centers.data();
    table.center_of_dtype = RESEMBED_I32;
    tables.struct_size = sizeof(tables);
    tables.tables = &table_pointer;
    tables.n_tables = 1;
    feature.struct_size = sizeof(feature);
    feature.pooling = RESEMBED_POOLING_SUM;
    feature.ids = ids.data();
    feature.id_dtype = RESEMBED_I64;
    feature.n_ids = 8;
    feature.n_bags = 4;
    feature.bag_length = 2;
    feature_grad.struct_size = sizeof(feature_grad);
    feature_grad.grad_output = grad.data();
    feature_grad.grad_output_stride = kGradStride;
    feature_grad.grad_output_dtype = RESEMBED_BF16;
    adagrad.struct_size = sgd.struct_size = sizeof(sgd);
    adagrad.kind = RESEMBED_ADAGRAD;
    adagrad.lr = sgd.lr = .25f;
    adagrad.eps = 1e-3f;
    adagrad.state1 = state.data();
    adagrad.step = sgd.step = 1;
    sgd.stochastic_rounding = 1;
    sgd.seed = 5;
    step.struct_size = sizeof(step);
    step.residual = &adagrad;
    step.central = &sgd;
  }

  resembed_backward_step_args Args(const resembed_plan_header* plan) const {
    resembed_backward_step_args args = {};
    args.struct_size = sizeof(args);
    args.plan = plan;
    args.tables = &tables;
    args.features = &features;
    args.n_features = 1;
    args.feature_grads = &feature_grads;
    args.steps = &steps;
    return args;
  }
  // Rows of R, its state and C that the batch names.
  std::vector<unsigned char> Rows() {
    std::vector<unsigned char> bytes;
    const auto read = [&bytes](Array* array, int64_t row, int64_t row_bytes) {
      bytes.resize(bytes.size() + static_cast<size_t>(row_bytes));
      array->Read(bytes.data() + bytes.size() - row_bytes, row * row_bytes, static_cast<size_t>(row_bytes));
    };
    for (const int64_t item : kIds) {
      read(&residual, item, kDim * 4);
      read(&state, item, kDim * 4);
      read(&central, CenterOf(item), kDim * 2);
    }
    return bytes;
  }
};

TEST(CudaStep, RowNumbersTimesDimPassTwoToThe31) {
#ifdef RESEMBED_EMULATOR_TSAN
  GTEST_SKIP() << "the race detector keeps several times as much";
#endif
  Problem<DeviceArray> device;
  Problem<HostArray> host;
  if (!device.ok() || !host.ok()) GTEST_SKIP() << "no 33 GB of memory to reserve";
  const std::vector<unsigned char> before = host.Rows();
  ASSERT_TRUE(device.Rows() == before);
  // Memory of plan and workspace does not grow with the table, so it is ordinary on both sides.
  const resembed_place cpu = PlaceOf(nullptr);
  resembed_plan_args plan_args = {};
  plan_args.struct_size = sizeof(plan_args);
  plan_args.tables = &host.tables;
  plan_args.features = &host.features;
  plan_args.n_features = 1;
  MadePlan plan(plan_args, cpu);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  resembed_backward_step_args args = host.Args(&plan.header);
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, &cpu, &bytes), RESEMBED_OK);
  Guarded workspace(bytes);
  ASSERT_EQ(resembed_backward_step(&args, workspace.data(), bytes, &cpu), RESEMBED_OK);
  const std::vector<unsigned char> want = host.Rows();
  EXPECT_FALSE(want == before);

  const Stream stream;
  const resembed_place place = CudaPlace(stream.get());
  std::vector<int64_t> layout(RESEMBED_PLAN_LAYOUT_BYTES(1, 1) / 8);
  plan_args.tables = &device.tables;
  plan_args.features = &device.features;
  plan_args.layout = layout.data();
  plan_args.layout_bytes = layout.size() * 8;
  size_t plan_bytes = 0;
  ASSERT_EQ(resembed_plan_size(&plan_args, &place, &plan_bytes, &bytes), RESEMBED_OK);
  EXPECT_LT(plan_bytes + bytes, size_t{1} << 20);
  DeviceBuffer plan_memory(plan_bytes), plan_workspace(bytes);
  resembed_plan_header header = {};
  header.struct_size = sizeof(header);
  ASSERT_EQ(resembed_plan(&plan_args, plan_memory.data(), plan_bytes, &header, plan_workspace.data(), bytes,
                          &place),
            RESEMBED_OK)
      << resembed_last_error_message();
  args = device.Args(&header);
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  DeviceBuffer device_workspace(bytes);
  ASSERT_EQ(resembed_backward_step(&args, device_workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_TRUE(plan_memory.Download(stream) && plan_workspace.Download(stream) &&
              device_workspace.Download(stream));
  EXPECT_TRUE(device.Rows() == want);
}

}  // namespace
}  // namespace resembed::testing
