// SPDX-License-Identifier: Apache-2.0
// Tables of more than 2^31 elements: rows far apart in memory that is reserved, not used.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

// Zeros until written; null when the machine cannot reserve them.
class Reserved {
 public:
  explicit Reserved(int64_t bytes)
      : bytes_(static_cast<size_t>(bytes)),
        data_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0)) {
    if (data_ != MAP_FAILED) madvise(data_, bytes_, MADV_NOHUGEPAGE);
  }
  ~Reserved() {
    if (data_ != MAP_FAILED) munmap(data_, bytes_);
  }
  Reserved(const Reserved&) = delete;
  void* data() const { return data_ == MAP_FAILED ? nullptr : data_; }

 private:
  size_t bytes_;
  void* data_;
};

TEST(Large, RowNumbersTimesDimPassTwoToThe31) {
  constexpr int64_t kItems = 100'000'000, kDim = 64;  // 6.4e9 elements in each matrix
  const Reserved residual(kItems * kDim * 4), central(kItems * kDim * 2), lists(kItems * 2 * 4),
      weights(kItems * 2 * 4);
  if (residual.data() == nullptr || central.data() == nullptr || lists.data() == nullptr ||
      weights.data() == nullptr) {
    GTEST_SKIP() << "no 41 GB of address space";
  }
  const std::vector<int64_t> ids = {kItems - 1, 33'554'432, 67'108'865, 0};
  auto* r = static_cast<float*>(residual.data());
  auto* c = static_cast<uint16_t*>(central.data());  // bf16
  auto* list = static_cast<int32_t*>(lists.data());
  auto* weight = static_cast<float*>(weights.data());
  for (size_t at = 0; at < ids.size(); ++at) {
    const int64_t neighbor = kItems - 2 - static_cast<int64_t>(at);
    for (int64_t col = 0; col < kDim; ++col) {
      r[ids[at] * kDim + col] = static_cast<float>(at + 1);
      c[neighbor * kDim + col] = 0x4080;  // 4
    }
    list[ids[at] * 2] = static_cast<int32_t>(neighbor);
    list[ids[at] * 2 + 1] = -1;
    weight[ids[at] * 2] = static_cast<float>(at + 1);
  }
  resembed_table table = {};
  table.struct_size = sizeof(table);
  table.n_items = kItems;
  table.dim = kDim;
  table.form = RESEMBED_CENTRAL_STORED;
  table.residual = r;
  table.central = c;
  table.central_dtype = RESEMBED_BF16;
  table.central_rows = kItems;
  table.neighbors = list;
  table.n_neighbors = 2;
  table.neighbor_weights = weight;
  const resembed_table* table_pointer = &table;
  resembed_tables tables = {};
  tables.struct_size = sizeof(tables);
  tables.tables = &table_pointer;
  tables.n_tables = 1;
  std::vector<float> output(ids.size() * kDim);
  resembed_feature feature = {};
  feature.struct_size = sizeof(feature);
  feature.pooling = RESEMBED_POOLING_NONE;
  feature.ids = ids.data();
  feature.n_ids = static_cast<int64_t>(ids.size());
  feature.id_dtype = RESEMBED_I64;
  feature.output = output.data();
  const resembed_feature* features = &feature;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &tables;
  args.features = &features;
  args.n_features = 1;
  const resembed_place place = PlaceOf(nullptr);
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  Guarded workspace(bytes);
  ASSERT_EQ(resembed_forward(&args, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  for (size_t at = 0; at < ids.size(); ++at) {
    for (size_t col = 0; col < kDim; ++col) {
      ASSERT_EQ(output[at * kDim + col], 5.0f * static_cast<float>(at + 1)) << "item " << ids[at];
    }
  }
  // Materialize of the last items, the output row by row behind 2^31 elements as well.
  resembed_materialize_args last = {};
  last.struct_size = sizeof(last);
  last.table = &table;
  last.first_item = kItems - 1;
  last.n_items = 1;
  last.output = output.data();
  ASSERT_EQ(resembed_materialize_workspace_size(&last, &place, &bytes), RESEMBED_OK);
  std::fill(output.begin(), output.end(), 0.0f);
  ASSERT_EQ(resembed_materialize(&last, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_EQ(output[kDim - 1], 5.0f);

  // Outputs that far apart: stride 2^30 elements.
  const Reserved wide((int64_t{1} << 30) * 4 * 4);
  if (wide.data() == nullptr) GTEST_SKIP() << "no 16 GB of address space";
  feature.output = wide.data();
  feature.output_stride = int64_t{1} << 30;
  ASSERT_EQ(resembed_forward(&args, workspace.data(), workspace.size(), &place), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_EQ(static_cast<float*>(wide.data())[(int64_t{3} << 30) + 5], 20.0f);
}

}  // namespace
}  // namespace resembed::testing
