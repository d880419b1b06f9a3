// SPDX-License-Identifier: Apache-2.0
// Combine on the cuda backend, emulated or on a GPU: the bits of the CPU backend.
#include <gtest/gtest.h>

#include <random>

#include "host/cuda/combine.h"
#include "tests/cuda/support/device_gradients.h"

namespace resembed::testing {
namespace {

struct HostGrad {
  std::vector<int64_t> ids;
  std::vector<float> rows;
  int64_t n = 0;
  resembed_grad grad;
};

// `share` of the rows of a table, with room for `spare` more.
HostGrad MakeInput(int64_t table_rows, int64_t dim, double share, int64_t spare, uint64_t seed) {
  std::mt19937_64 random(seed);
  HostGrad out;
  for (int64_t row = 0; row < table_rows; ++row) {
    if (static_cast<double>(random() >> 11) * 0x1p-53 >= share) continue;
    out.ids.push_back(row);
    for (int64_t col = 0; col < dim; ++col)
      out.rows.push_back(static_cast<float>(random() % 2001) * 1e-3f - 1.0f);
  }
  out.n = static_cast<int64_t>(out.ids.size());
  out.ids.resize(out.ids.size() + static_cast<size_t>(spare), 0);  // a row, were it read
  out.rows.resize(out.ids.size() * static_cast<size_t>(dim), 77.0f);
  return out;
}

void Describe(HostGrad* grad) {
  grad->grad = {};
  grad->grad.struct_size = sizeof(grad->grad);
  grad->grad.rows = grad->rows.data();
  grad->grad.row_ids = grad->ids.data();
  grad->grad.n_rows = &grad->n;
  grad->grad.capacity = static_cast<int64_t>(grad->ids.size());
}

resembed_combine_args ArgsOf(const std::vector<const resembed_grad*>& inputs, int64_t dim, int64_t table_rows,
                             const resembed_grad* output) {
  resembed_combine_args args = {};
  args.struct_size = sizeof(args);
  args.inputs = inputs.data();
  args.n_inputs = static_cast<int32_t>(inputs.size());
  args.dim = dim;
  args.table_rows = table_rows;
  args.output = output;
  return args;
}

// The combination on the device: the public call, or launches of a given grid.
void Combine(const std::vector<HostGrad>& inputs, int64_t dim, int64_t table_rows, const Stream& stream,
             DeviceGrad* output, const kernels::Grid* grid = nullptr) {
  std::deque<DeviceBuffer> memory;
  std::deque<resembed_grad> grads;
  std::vector<const resembed_grad*> list;
  for (const HostGrad& input : inputs) {
    grads.push_back(input.grad);
    memory.emplace_back(input.rows.data(), input.rows.size() * 4);
    grads.back().rows = static_cast<float*>(memory.back().data());
    memory.emplace_back(input.ids.data(), input.ids.size() * 8);
    grads.back().row_ids = static_cast<int64_t*>(memory.back().data());
    memory.emplace_back(&input.n, 8);
    grads.back().n_rows = static_cast<int64_t*>(memory.back().data());
    list.push_back(&grads.back());
  }
  const resembed_combine_args args = ArgsOf(list, dim, table_rows, &output->grad);
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  ASSERT_EQ(resembed_combine_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  DeviceBuffer workspace(bytes);
  {
    const InOperation scope("combine");
    const resembed_status status = grid == nullptr
                                       ? resembed_combine(&args, workspace.data(), bytes, &place)
                                       : detail::cuda::Combine(args, workspace.data(), place, *grid);
    ASSERT_EQ(status, RESEMBED_OK) << resembed_last_error_message();
  }
  EXPECT_TRUE(workspace.Download(stream)) << "the workspace was written past its end";
}

TEST(CudaCombine, SumsRowsInInputOrderWithTheBitsOfTheCpu) {
  const std::vector<std::vector<double>> all = {
      {}, {.3}, {.5, .5, .5}, {1, 0, .1, 1}, std::vector<double>(70, .2)};
  for (const std::vector<double>& shares : all) {
    for (const int64_t dim : {1, 7, 32, 36, 100}) {
      SCOPED_TRACE(::testing::Message() << shares.size() << " inputs, dim " << dim);
      const int64_t table_rows = 90;
      std::vector<HostGrad> inputs;
      for (size_t index = 0; index < shares.size(); ++index) {
        inputs.push_back(MakeInput(table_rows, dim, shares[index], static_cast<int64_t>(index % 3),
                                   static_cast<uint64_t>(index) + 1));
      }
      std::vector<const resembed_grad*> list;
      for (HostGrad& input : inputs) {
        Describe(&input);
        list.push_back(&input.grad);
      }
      HostGrad want = MakeInput(table_rows, dim, 0, table_rows, 1);
      Describe(&want);
      const resembed_combine_args args = ArgsOf(list, dim, table_rows, &want.grad);
      const resembed_place place = PlaceOf(nullptr);
      size_t bytes = 0;
      ASSERT_EQ(resembed_combine_workspace_size(&args, &place, &bytes), RESEMBED_OK);
      Guarded workspace(bytes);
      ASSERT_EQ(resembed_combine(&args, workspace.data(), bytes, &place), RESEMBED_OK)
          << resembed_last_error_message();
      want.ids.resize(static_cast<size_t>(want.n));
      want.rows.resize(static_cast<size_t>(want.n * dim));

      const Stream stream;
      DeviceGrad output(RESEMBED_GRAD_COMPRESSED, table_rows, dim);
      Combine(inputs, dim, table_rows, stream, &output);
      const Compressed got = output.Read(stream);
      EXPECT_EQ(got.ids, want.ids);
      EXPECT_TRUE(SameBits(got.rows, want.rows));
      if (want.n == 0) continue;
      DeviceGrad small(RESEMBED_GRAD_COMPRESSED, want.n - 1, dim);
      Combine(inputs, dim, table_rows, stream, &small);
      EXPECT_TRUE(small.count.Download(stream) && small.rows.Download(stream) && small.ids.Download(stream));
      EXPECT_EQ(small.Count(), -1) << "one row too few";
    }
  }
}

// Down to one warp that walks over all work.
TEST(CudaCombine, AnyGridHasTheSameBits) {
  for (const int64_t dim : {7, 36}) {
    const int64_t table_rows = 300;
    std::vector<HostGrad> inputs;
    for (uint64_t index = 0; index < 5; ++index)
      inputs.push_back(MakeInput(table_rows, dim, .4, static_cast<int64_t>(index % 3), index + 1));
    for (HostGrad& input : inputs) Describe(&input);
    const Stream stream;
    DeviceGrad output(RESEMBED_GRAD_COMPRESSED, table_rows, dim);
    Combine(inputs, dim, table_rows, stream, &output);
    const Compressed want = output.Read(stream);
    ASSERT_GT(want.ids.size(), 200u);
    for (const kernels::Grid& grid : {kernels::Grid{32, 1}, kernels::Grid{64, 3}, kernels::Grid{256, 2}}) {
      DeviceGrad other(RESEMBED_GRAD_COMPRESSED, table_rows, dim);
      Combine(inputs, dim, table_rows, stream, &other, &grid);
      const Compressed got = other.Read(stream);
      EXPECT_EQ(got.ids, want.ids);
      EXPECT_TRUE(SameBits(got.rows, want.rows)) << grid.blocks << " blocks of " << grid.threads;
    }
  }
}

// What the CPU refuses and a device cannot without waiting: a count that is none leaves no count, an id that is no row
// is left out.
TEST(CudaCombine, WrongCountsAndIdsReachNoRow) {
  const int64_t dim = 4, table_rows = 20;
  const Stream stream;
  for (const int64_t too_many : {-1, 1}) {
    std::vector<HostGrad> inputs = {MakeInput(table_rows, dim, .5, 2, 1),
                                    MakeInput(table_rows, dim, .5, 2, 2)};
    for (HostGrad& input : inputs) Describe(&input);
    inputs[1].n = too_many < 0 ? -1 : inputs[1].grad.capacity + 1;
    DeviceGrad output(RESEMBED_GRAD_COMPRESSED, table_rows, dim);
    Combine(inputs, dim, table_rows, stream, &output);
    EXPECT_TRUE(output.count.Download(stream) && output.rows.Download(stream));
    EXPECT_EQ(output.Count(), -1);
    for (size_t at = 0; at < output.rows.size(); ++at)
      ASSERT_EQ(output.rows.host()[at], 0xff) << "a row was written";
  }
  std::vector<HostGrad> wrong = {MakeInput(table_rows, dim, 1, 0, 3)};
  std::vector<int64_t> rows;
  std::vector<float> values;
  const int64_t no_rows[] = {-1, table_rows, (int64_t{1} << 40) + 3, INT64_MAX};
  for (int64_t row = 0; row < table_rows; ++row) {
    if (row % 5 == 4) {
      wrong[0].ids[static_cast<size_t>(row)] = no_rows[row / 5];
      continue;
    }
    rows.push_back(row);
    values.insert(values.end(), wrong[0].rows.begin() + row * dim, wrong[0].rows.begin() + (row + 1) * dim);
  }
  Describe(&wrong[0]);
  DeviceGrad output(RESEMBED_GRAD_COMPRESSED, table_rows, dim);
  Combine(wrong, dim, table_rows, stream, &output);
  const Compressed got = output.Read(stream);
  EXPECT_EQ(got.ids, rows);
  EXPECT_TRUE(SameBits(got.rows, values));
}

}  // namespace
}  // namespace resembed::testing
