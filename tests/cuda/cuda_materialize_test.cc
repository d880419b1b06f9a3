// SPDX-License-Identifier: Apache-2.0
// Whole ranges of items, and rows beyond 2^31 elements, on the cuda backend.
#include <gtest/gtest.h>

#ifdef RESEMBED_EMULATED
#include <sys/mman.h>
#endif

#include "host/cuda/forward.h"
#include "tests/cuda/support/device_plan.h"
#include "tests/oracle/forward.h"

namespace resembed::testing {
namespace {

TEST(CudaMaterialize, HasTheBitsOfTheCpu) {
  for (int form = 0; form < 5; ++form) {
    for (const int64_t dim : {7, 64}) {
      TableSpec table;
      table.form = form;
      table.dim = dim;
      table.row_map = dim == 7;
      table.residual_dtype = dim == 64 ? RESEMBED_BF16 : RESEMBED_F32;
      table.u16_centers = true;
      GradientProblem problem({table}, {}, 4);
      DeviceProblem device(problem);
      for (const resembed_dtype dtype : {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16}) {
        const int64_t element = detail::ElementBytes(dtype), stride = dim + 1, n = 33;
        resembed_materialize_args args = {};
        args.struct_size = sizeof(args);
        args.first_item = 11;
        args.n_items = n;
        args.output_stride = stride;
        args.output_dtype = dtype;
        Guarded want(static_cast<size_t>(n * stride * element));
        args.table = &problem.tables[0]->descriptor;
        args.output = want.data();
        const resembed_place cpu = PlaceOf(nullptr);
        size_t bytes = 0;
        ASSERT_EQ(resembed_materialize_workspace_size(&args, &cpu, &bytes), RESEMBED_OK);
        Guarded workspace(bytes);
        ASSERT_EQ(resembed_materialize(&args, workspace.data(), bytes, &cpu), RESEMBED_OK);

        const Stream stream;
        DeviceBuffer got(want.size());
        args.table = &device.tables[0];
        args.output = got.data();
        const resembed_place cuda = CudaPlace(stream.get());
        ASSERT_EQ(resembed_materialize_workspace_size(&args, &cuda, &bytes), RESEMBED_OK);
        EXPECT_EQ(bytes, 0u);
        {
          const InOperation scope("materialize");
          ASSERT_EQ(resembed_materialize(&args, nullptr, 0, &cuda), RESEMBED_OK)
              << resembed_last_error_message();
        }
        ASSERT_TRUE(got.Download(stream));
        if (form != RESEMBED_CENTRAL_ATTENTION) {
          EXPECT_EQ(std::memcmp(got.host(), want.data(), want.size()), 0)
              << "form " << form << " dim " << dim;
          continue;
        }
        const std::vector<double> values = Decode(got.host(), dtype, n * stride);
        const OracleTable oracle = problem.OracleTables()[0];
        for (int64_t row = 0; row < n; ++row) {
          const BoundedRow bounded = OracleItem(oracle, 11 + row);
          for (int64_t col = 0; col < dim; ++col) {
            const Bounded& e = bounded[static_cast<size_t>(col)];
            ASSERT_LE(std::abs(values[static_cast<size_t>(row * stride + col)] - e.value),
                      OutputTolerance(e, dtype));
          }
        }
      }
    }
  }
}

TEST(CudaMaterialize, NothingIsValid) {
  GradientProblem problem({TableSpec()}, {}, 4);
  DeviceProblem device(problem);
  const Stream stream;
  const resembed_place place = CudaPlace(stream.get());
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &device.tables[0];
  const InOperation scope("materialize");
  EXPECT_EQ(resembed_materialize(&args, nullptr, 0, &place), RESEMBED_OK) << resembed_last_error_message();
}

// Down to one warp that walks over all items.
TEST(CudaMaterialize, AnyLaunchShapeHasTheSameBits) {
  for (int form = 0; form < 5; ++form) {
    for (const int64_t dim : {40, 131}) {
      TableSpec table;
      table.form = form;
      table.dim = dim;
      table.n_items = 90;
      GradientProblem problem({table}, {}, 4);
      DeviceProblem device(problem);
      const Stream stream;
      const resembed_place place = CudaPlace(stream.get());
      const auto bytes = static_cast<size_t>(table.n_items * dim * 4);
      resembed_materialize_args args = {};
      args.struct_size = sizeof(args);
      args.table = &device.tables[0];
      args.n_items = table.n_items;
      args.output_stride = dim;
      DeviceBuffer want(bytes);
      args.output = want.data();
      ASSERT_EQ(resembed_materialize(&args, nullptr, 0, &place), RESEMBED_OK);
      ASSERT_TRUE(want.Download(stream));
      for (const kernels::LaunchShape& shape :
           {kernels::LaunchShape{32, 1}, kernels::LaunchShape{64, 3}, kernels::LaunchShape{256, 2}}) {
        DeviceBuffer got(bytes);
        args.output = got.data();
        {
          const InOperation scope("materialize");
          ASSERT_EQ(
              detail::cuda::Materialize("materialize", args, detail::ReadTable(args.table), place, shape),
              RESEMBED_OK);
        }
        ASSERT_TRUE(got.Download(stream));
        EXPECT_EQ(std::memcmp(got.host(), want.host(), bytes), 0)
            << "form " << form << " dim " << dim << ": " << shape.blocks << " blocks of " << shape.threads;
      }
    }
  }
}

// Device memory of which only a few pages are ever touched.
class SparseMemory {
 public:
  explicit SparseMemory(size_t bytes) : bytes_(bytes) {
#ifdef RESEMBED_EMULATED
    memory_ =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) memory_ = nullptr;
#else
    if (cudaMalloc(&memory_, bytes) != cudaSuccess) {
      cudaGetLastError();
      memory_ = nullptr;
    }
#endif
  }
  ~SparseMemory() {
    if (memory_ == nullptr) return;
#ifdef RESEMBED_EMULATED
    munmap(memory_, bytes_);
#else
    cudaFree(memory_);
#endif
  }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  void* data() const { return memory_; }
  void Set(int64_t element, uint16_t value) const {
    void* to = static_cast<uint16_t*>(memory_) + element;
#ifdef RESEMBED_EMULATED
    std::memcpy(to, &value, 2);
#else
    ASSERT_EQ(cudaMemcpy(to, &value, 2, cudaMemcpyHostToDevice), cudaSuccess);
#endif
  }

 private:
  size_t bytes_;
  void* memory_ = nullptr;
};

TEST(CudaLarge, RowNumbersTimesStridePassTwoToThe31) {
  constexpr int64_t kStride = (int64_t{1} << 30) + 8, kRows = 4;
  const SparseMemory residual(static_cast<size_t>((kRows - 1) * kStride + 8) * 2);
  const SparseMemory central(static_cast<size_t>((kRows - 1) * kStride + 8) * 2);
  if (residual.data() == nullptr || central.data() == nullptr)
    GTEST_SKIP() << "13 GB of device memory are not there";
  const uint16_t one = 0x3f80, half = 0x3f00;  // bf16
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t col = 0; col < 8; ++col) {
      residual.Set(row * kStride + col, row == 3 ? one : 0);
      central.Set(row * kStride + col, row == 2 ? half : 0);
    }
  }
  const Stream stream;
  const std::vector<uint16_t> centers = {0, 1, 0, 2};
  const std::vector<int64_t> ids = {0, 3, 2};
  const DeviceBuffer centers_on_device(centers.data(), 8), ids_on_device(ids.data(), 24);
  DeviceBuffer output(8 * 4);
  resembed_table table = {};
  table.struct_size = sizeof(table);
  table.n_items = table.central_rows = kRows;
  table.dim = 8;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.residual = residual.data();
  table.central = central.data();
  table.residual_stride = table.central_stride = kStride;
  table.residual_dtype = table.central_dtype = RESEMBED_BF16;
  table.center_of = centers_on_device.data();
  table.center_of_dtype = RESEMBED_U16;
  resembed_feature feature = {};
  feature.struct_size = sizeof(feature);
  feature.pooling = RESEMBED_POOLING_SUM;
  feature.ids = ids_on_device.data();
  feature.n_ids = feature.bag_length = 3;
  feature.id_dtype = RESEMBED_I64;
  feature.n_bags = 1;
  feature.output = output.data();
  const resembed_table* tables[] = {&table};
  const resembed_feature* features[] = {&feature};
  resembed_tables list = {};
  list.struct_size = sizeof(list);
  list.tables = tables;
  list.n_tables = 1;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &list;
  args.features = features;
  args.n_features = 1;
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  const DeviceBuffer workspace(bytes);
  ASSERT_EQ(PublicForward(args, workspace.data(), bytes, place), RESEMBED_OK)
      << resembed_last_error_message();
  ASSERT_TRUE(output.Download(stream));
  for (const double value : Decode(output.host(), RESEMBED_F32, 8)) EXPECT_EQ(value, 1.5);
}

}  // namespace
}  // namespace resembed::testing
