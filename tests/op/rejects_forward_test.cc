// SPDX-License-Identifier: Apache-2.0
// Every way forward, the tables and the place can be wrong: status, sentence, and nothing written.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <ostream>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

// A good call over small memory, every descriptor open to be spoiled.
struct Call {
  static constexpr int64_t kItems = 10, kDim = 4, kBags = 3;

  explicit Call(resembed_central_form form) {
    residual.assign(kItems * kDim + 8, 1.0f);
    central.assign(kItems * kDim + 8, 2.0f);
    neighbors.assign(kItems * 2 + 2, 1);
    neighbor_weights.assign(kItems * 2 + 2, .5f);
    center_of.assign(kItems + 2, 3);
    ids = {0, 1, 2, 3, 4, 9};
    offsets = {0, 2, 2, 6};
    weights.assign(8, 1.0f);
    output.assign(kBags * kDim + 40, -5.0f);
    table = {};
    table.struct_size = sizeof(table);
    table.n_items = kItems;
    table.dim = kDim;
    table.form = form;
    table.residual = residual.data();
    if (form != RESEMBED_CENTRAL_NONE) {
      table.central = central.data();
      table.central_rows = kItems;
    }
    table.center_of = center_of.data();
    table.center_of_dtype = RESEMBED_I32;
    table.neighbors = neighbors.data();
    table.n_neighbors = 2;
    table.neighbor_weights = neighbor_weights.data();
    feature = {};
    feature.struct_size = sizeof(feature);
    feature.pooling = RESEMBED_POOLING_SUM;
    feature.ids = ids.data();
    feature.n_ids = 6;
    feature.id_dtype = RESEMBED_I64;
    feature.offsets = offsets.data();
    feature.offset_dtype = RESEMBED_I32;
    feature.n_bags = kBags;
    feature.output = output.data();
    other = feature;
    other.output = output.data() + 20;
    table_pointer = &table;
    tables = {};
    tables.struct_size = sizeof(tables);
    tables.tables = &table_pointer;
    tables.n_tables = 1;
    feature_pointers[0] = &feature;
    feature_pointers[1] = &other;
    args = {};
    args.struct_size = sizeof(args);
    args.tables = &tables;
    args.features = feature_pointers;
    args.n_features = 2;
    executor = {};
    executor.struct_size = sizeof(executor);
    executor.width = 1;
    executor.parallel_for = [](void*, int64_t n, void (*task)(void*, int64_t), void* arg) {
      for (int64_t index = 0; index < n; ++index) task(arg, index);
    };
    place = {};
    place.struct_size = sizeof(place);
    place.backend = RESEMBED_CPU;
    place.executor = &executor;
    set = {};
  }
  Call(const Call&) = delete;

  resembed_status Run() {
    size_t bytes = 0;
    const resembed_status status = resembed_forward_workspace_size(args_or_null, place_or_null, &bytes);
    if (status != RESEMBED_OK) return status;
    Guarded workspace(bytes);
    return resembed_forward(args_or_null, workspace.data(), bytes, place_or_null);
  }

  std::vector<float> residual, central, neighbor_weights, weights, output;
  std::vector<int32_t> neighbors, center_of, offsets;
  std::vector<int64_t> ids;
  resembed_table table;
  resembed_feature feature, other;
  const resembed_table* table_pointer;
  const resembed_feature* feature_pointers[2];
  resembed_tables tables;
  resembed_table_set set;
  resembed_forward_args args;
  resembed_executor executor;
  resembed_place place;
  const resembed_forward_args* args_or_null = &args;
  const resembed_place* place_or_null = &place;
};

struct Case {
  const char* name;
  resembed_central_form form;
  std::function<void(Call&)> spoil;
  resembed_status status;
  const char* words;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

void* Shifted(void* pointer, int bytes) { return static_cast<char*>(pointer) + bytes; }
template <typename T>
const T* Odd(const T* pointer) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(pointer) + 1);
}

constexpr resembed_central_form kNone = RESEMBED_CENTRAL_NONE;
constexpr resembed_central_form kAssignment = RESEMBED_CENTRAL_ASSIGNMENT;
constexpr resembed_central_form kUniform = RESEMBED_CENTRAL_UNIFORM;
constexpr resembed_central_form kStored = RESEMBED_CENTRAL_STORED;
constexpr resembed_central_form kAttention = RESEMBED_CENTRAL_ATTENTION;
constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT;
constexpr resembed_status kRange = RESEMBED_OUT_OF_RANGE;

const Case kCases[] = {
    // place
    {"PlaceNull", kNone, [](Call& c) { c.place_or_null = nullptr; }, kInvalid, "place is null"},
    {"PlaceSize", kNone, [](Call& c) { c.place.struct_size = 0; }, kInvalid, "place is of struct_size 0"},
#ifdef RESEMBED_WITH_CUDA
    {"Cuda", kNone,
     [](Call& c) {
       c.place.backend = RESEMBED_CUDA;
       c.place.device = -1;
     },
     kInvalid, "place.device is -1; needs 0 or more"},
#else
    {"Cuda", kNone, [](Call& c) { c.place.backend = RESEMBED_CUDA; }, RESEMBED_UNSUPPORTED,
     "place.backend is cuda; needs cpu (this build has no cuda kernels)"},
#endif
    {"Backend", kNone, [](Call& c) { c.place.backend = 0; }, kInvalid,
     "place.backend is 0; needs cpu (1) or cuda (2)"},
    {"Device", kNone, [](Call& c) { c.place.device = 1; }, kInvalid, "place.device is 1; needs 0"},
    {"Stream", kNone, [](Call& c) { c.place.stream = &c; }, kInvalid, "place.stream is 0x"},
    {"Isa", kNone, [](Call& c) { c.place.isa = 9; }, kInvalid, "place.isa is 9; needs best, portable"},
    {"Executor", kNone, [](Call& c) { c.executor.parallel_for = nullptr; }, kInvalid,
     "place.executor.parallel_for is null"},
    {"Width", kNone, [](Call& c) { c.executor.width = 0; }, kInvalid,
     "place.executor.width is 0; needs 1 or more"},
    // args
    {"ArgsNull", kNone, [](Call& c) { c.args_or_null = nullptr; }, kInvalid, "args is null"},
    {"ArgsSize", kNone, [](Call& c) { c.args.struct_size = 0; }, kInvalid, "args is of struct_size 0"},
    {"Bounds", kNone, [](Call& c) { c.args.bounds = 3; }, kInvalid,
     "bounds is 3; needs check, trust or skip"},
    {"Numerics", kNone, [](Call& c) { c.args.numerics = 2; }, kInvalid, "numerics is 2; needs exact or fast"},
    {"TablesNull", kNone, [](Call& c) { c.args.tables = nullptr; }, kInvalid, "tables is null"},
    {"TablesSize", kNone, [](Call& c) { c.tables.struct_size = 0; }, kInvalid, "tables is of struct_size 0"},
    {"TablesCount", kNone, [](Call& c) { c.tables.n_tables = -1; }, kInvalid, "n_tables is -1"},
    {"TablesArray", kNone, [](Call& c) { c.tables.tables = nullptr; }, kInvalid,
     "tables.tables is null; needs 1"},
    {"TableNull", kNone, [](Call& c) { c.table_pointer = nullptr; }, kInvalid, "tables[0] is null"},
    {"TableSize", kNone, [](Call& c) { c.table.struct_size = 0; }, kInvalid, "tables[0] is of struct_size 0"},
    {"SetEmpty", kNone, [](Call& c) { c.tables.set = &c.set; }, kInvalid, "tables.set is empty"},
    {"SetForeign", kNone,
     [](Call& c) {
       c.set = {sizeof(c.set), RESEMBED_CUDA, 0, 1, c.residual.data(), 1000};
       c.tables.set = &c.set;
     },
     kInvalid, "tables.set is for cuda device 0; needs cpu device 0"},
    {"SetMemory", kNone,
     [](Call& c) {
       c.set = {sizeof(c.set), RESEMBED_CPU, 0, 0, c.residual.data(), 160};
       c.tables.set = &c.set;
     },
     kInvalid, "needs what table_set_prepare wrote"},
    {"FeaturesCount", kNone, [](Call& c) { c.args.n_features = -1; }, kInvalid, "n_features is -1"},
    {"FeaturesArray", kNone, [](Call& c) { c.args.features = nullptr; }, kInvalid,
     "features is null; needs 2"},
    {"FeatureNull", kNone, [](Call& c) { c.feature_pointers[1] = nullptr; }, kInvalid, "features[1] is null"},
    {"FeatureSize", kNone, [](Call& c) { c.other.struct_size = 0; }, kInvalid,
     "features[1] is of struct_size 0"},
    // tables
    {"Form", kNone, [](Call& c) { c.table.form = 5; }, kInvalid,
     "tables[0].form is 5; needs none, assignment"},
    {"Items", kNone, [](Call& c) { c.table.n_items = -1; }, kInvalid,
     "tables[0].n_items is -1; needs 0 or more"},
    {"Dim", kNone, [](Call& c) { c.table.dim = 0; }, kInvalid, "tables[0].dim is 0; needs 1 or more"},
    {"CentralOfNone", kNone, [](Call& c) { c.table.central = c.central.data(); }, kInvalid,
     "tables[0].central is given; needs null for form none"},
    {"NoResidual", kNone, [](Call& c) { c.table.residual = nullptr; }, kInvalid,
     "tables[0].residual is null"},
    {"CentralNull", kUniform, [](Call& c) { c.table.central = nullptr; }, kInvalid,
     "tables[0].central is null"},
    {"CentralRows", kUniform, [](Call& c) { c.table.central_rows = -2; }, kInvalid,
     "tables[0].central_rows is -2"},
    {"CentralMany", kUniform, [](Call& c) { c.table.central_rows = int64_t{1} << 31; }, kInvalid,
     "tables[0].central_rows is 2147483648; needs 0 .. 2^31 - 1"},
    {"ResidualRows", kNone, [](Call& c) { c.table.residual_rows = -1; }, kInvalid,
     "tables[0].residual_rows is -1"},
    {"ResidualRowsOdd", kNone, [](Call& c) { c.table.residual_rows = 7; }, kInvalid,
     "tables[0].residual_rows is 7; needs n_items"},
    {"ResidualType", kNone, [](Call& c) { c.table.residual_dtype = RESEMBED_I32; }, kInvalid,
     "tables[0].residual_dtype is i32; needs f32, f16 or bf16"},
    {"CentralType", kUniform, [](Call& c) { c.table.central_dtype = RESEMBED_F64; }, kInvalid,
     "tables[0].central_dtype is f64"},
    {"ResidualStride", kNone, [](Call& c) { c.table.residual_stride = 3; }, kInvalid,
     "tables[0].residual_stride is 3; needs at least dim (4)"},
    {"CentralStride", kUniform, [](Call& c) { c.table.central_stride = -4; }, kInvalid,
     "tables[0].central_stride is -4; needs at least dim (4)"},
    {"TooLarge", kNone, [](Call& c) { c.table.residual_stride = int64_t{1} << 60; }, kInvalid,
     "tables[0].residual is 10 rows of stride 1152921504606846976; needs below 2^62 bytes"},
    {"ResidualOdd", kNone, [](Call& c) { c.table.residual = Shifted(c.table.residual, 1); }, kInvalid,
     "needs the alignment of f32"},
    {"RowMapOdd", kNone,
     [](Call& c) {
       c.table.residual_row_of = Odd(c.center_of.data());
       c.table.residual_rows = 10;
     },
     kInvalid, "tables[0].residual_row_of is misaligned"},
    {"Overlap", kUniform, [](Call& c) { c.table.central = c.residual.data() + 4; }, kInvalid,
     "tables[0].central is overlapping residual; needs memory of its own"},
    {"CenterNull", kAssignment, [](Call& c) { c.table.center_of = nullptr; }, kInvalid,
     "tables[0].center_of is null"},
    {"CenterType", kAssignment, [](Call& c) { c.table.center_of_dtype = RESEMBED_F32; }, kInvalid,
     "tables[0].center_of_dtype is f32; needs i32 or u16"},
    {"CenterOdd", kAssignment, [](Call& c) { c.table.center_of = Odd(c.center_of.data()); }, kInvalid,
     "tables[0].center_of is misaligned"},
    {"NeighborsNull", kUniform, [](Call& c) { c.table.neighbors = nullptr; }, kInvalid,
     "tables[0].neighbors is null"},
    {"NeighborsOdd", kUniform, [](Call& c) { c.table.neighbors = Odd(c.neighbors.data()); }, kInvalid,
     "tables[0].neighbors is misaligned"},
    {"NeighborsNone", kUniform, [](Call& c) { c.table.n_neighbors = 0; }, kInvalid,
     "tables[0].n_neighbors is 0; needs 1 .. 64"},
    {"NeighborsMany", kUniform, [](Call& c) { c.table.n_neighbors = 65; }, kInvalid,
     "tables[0].n_neighbors is 65"},
    {"NeighborsStride", kUniform, [](Call& c) { c.table.neighbors_stride = 1; }, kInvalid,
     "tables[0].neighbors_stride is 1; needs at least n_neighbors"},
    {"WeightsNull", kStored, [](Call& c) { c.table.neighbor_weights = nullptr; }, kInvalid,
     "tables[0].neighbor_weights is null"},
    {"WeightsStride", kStored, [](Call& c) { c.table.neighbor_weights_stride = 1; }, kInvalid,
     "tables[0].neighbor_weights_stride is 1"},
    {"WeightsOdd", kStored, [](Call& c) { c.table.neighbor_weights = Odd(c.neighbor_weights.data()); },
     kInvalid, "tables[0].neighbor_weights is misaligned"},
    {"Queries", kAttention, [](Call& c) { c.table.central_rows = 9; }, kInvalid,
     "tables[0].central_rows is 9; needs at least n_items for form attention"},
    // features
    {"FeatureTable", kNone, [](Call& c) { c.feature.table = 1; }, kInvalid,
     "features[0].table is 1; needs 0 .. 0"},
    {"Pooling", kNone, [](Call& c) { c.feature.pooling = 5; }, kInvalid,
     "features[0].pooling is 5; needs none, sum, mean, max or attention"},
    {"IdsCount", kNone, [](Call& c) { c.feature.n_ids = -6; }, kInvalid,
     "features[0].n_ids is -6; needs 0 or more"},
    {"IdsNull", kNone, [](Call& c) { c.feature.ids = nullptr; }, kInvalid, "features[0].ids is null"},
    {"IdsType", kNone, [](Call& c) { c.feature.id_dtype = 0; }, kInvalid,
     "features[0].id_dtype is f32; needs i32 or i64"},
    {"IdsOdd", kNone, [](Call& c) { c.feature.ids = Odd(c.ids.data()); }, kInvalid,
     "features[0].ids is misaligned"},
    {"Bags", kNone, [](Call& c) { c.feature.n_bags = -1; }, kInvalid, "features[0].n_bags is -1"},
    {"OffsetsType", kNone, [](Call& c) { c.feature.offset_dtype = RESEMBED_U16; }, kInvalid,
     "features[0].offset_dtype is u16; needs i32 or i64"},
    {"OffsetsOdd", kNone, [](Call& c) { c.feature.offsets = Odd(c.offsets.data()); }, kInvalid,
     "features[0].offsets is misaligned"},
    {"FixedLength", kNone,
     [](Call& c) {
       c.feature.offsets = nullptr;
       c.feature.bag_length = 3;
     },
     kInvalid, "features[0].n_ids is 6; needs n_bags * bag_length (3 * 3) without offsets"},
    {"BagLength", kNone,
     [](Call& c) {
       c.feature.offsets = nullptr;
       c.feature.bag_length = -2;
     },
     kInvalid, "features[0].bag_length is -2"},
    {"BagsTooMany", kNone,
     [](Call& c) {
       c.feature.offsets = nullptr;
       c.feature.bag_length = int64_t{1} << 40;
       c.feature.n_bags = int64_t{1} << 40;
     },
     kInvalid, "needs n_bags * bag_length below 2^62"},
    {"MaxWeights", kNone,
     [](Call& c) {
       c.feature.pooling = RESEMBED_POOLING_MAX;
       c.feature.weights = c.weights.data();
     },
     kInvalid, "features[0].weights is given; needs null with pooling max"},
    {"SampleWeightsOdd", kNone, [](Call& c) { c.feature.weights = Odd(c.weights.data()); }, kInvalid,
     "features[0].weights is misaligned"},
    {"MaxLong", kNone,
     [](Call& c) {
       c.feature.pooling = RESEMBED_POOLING_MAX;
       c.feature.n_ids = int64_t{1} << 31;
     },
     kInvalid, "features[0].n_ids is 2147483648; needs at most 2^31 - 1 with pooling max"},
    // outputs
    {"OutputNull", kNone, [](Call& c) { c.feature.output = nullptr; }, kInvalid,
     "features[0].output is null; needs [3, 4] rows"},
    {"OutputType", kNone, [](Call& c) { c.feature.output_dtype = RESEMBED_I64; }, kInvalid,
     "features[0].output_dtype is i64; needs f32, f16 or bf16"},
    {"OutputStride", kNone, [](Call& c) { c.feature.output_stride = 2; }, kInvalid,
     "features[0].output_stride is 2; needs at least dim (4)"},
    {"OutputLarge", kNone, [](Call& c) { c.feature.output_stride = int64_t{1} << 61; }, kInvalid,
     "features[0].output is 3 rows of stride"},
    {"OutputOdd", kNone, [](Call& c) { c.feature.output = Shifted(c.feature.output, 2); }, kInvalid,
     "features[0].output is misaligned"},
    {"OutputOnTable", kNone, [](Call& c) { c.other.output = c.residual.data() + 8; }, kInvalid,
     "features[1].output is overlapping tables[0]; needs memory of its own"},
    {"OutputOnIds", kNone, [](Call& c) { c.feature.output = c.ids.data() + 1; }, kInvalid,
     "features[0].output is overlapping its ids, offsets or weights"},
    {"OutputOnOutput", kNone, [](Call& c) { c.other.output = c.output.data() + 8; }, kInvalid,
     "features[1].output is overlapping the output of features[0]"},
    // values
    {"FirstOffset", kNone, [](Call& c) { c.offsets[0] = 1; }, kRange, "features[0].offsets[0] is 1; needs 0"},
    {"Decreasing", kNone, [](Call& c) { c.offsets[2] = 1; }, kRange,
     "features[0].offsets[2] is 1; needs at least offsets[1] (2)"},
    {"LastOffset", kNone, [](Call& c) { c.offsets[3] = 5; }, kRange,
     "features[0].offsets[3] is 5; needs n_ids (6)"},
    {"OffsetsUnderTrust", kNone,
     [](Call& c) {
       c.offsets[3] = 7;
       c.args.bounds = RESEMBED_BOUNDS_TRUST;
     },
     kRange, "features[0].offsets[3] is 7"},
    {"IdTooLarge", kNone, [](Call& c) { c.ids[4] = 10; }, kRange,
     "features[0].ids[4] is 10; needs 0 .. 9 (n_items - 1)"},
    {"IdNegative", kNone, [](Call& c) { c.ids[0] = -1; }, kRange, "features[0].ids[0] is -1"},
    {"IdOfSecond", kNone,
     [](Call& c) {
       c.feature.has_padding = 1;
       c.feature.padding_id = 1234567890123;
       c.ids[5] = 1234567890123;
     },
     kRange, "features[1].ids[5] is 1234567890123"},
};

class RejectsForward : public ::testing::TestWithParam<Case> {};

TEST_P(RejectsForward, WithStatusAndSentenceAndNothingWritten) {
  const Case& one = GetParam();
  Call call(one.form);
  ASSERT_EQ(call.Run(), RESEMBED_OK) << resembed_last_error_message();
  std::fill(call.output.begin(), call.output.end(), -5.0f);
  const std::vector<float> residual = call.residual, central = call.central, output = call.output;
  one.spoil(call);
  const std::vector<int64_t> ids = call.ids;
  EXPECT_EQ(call.Run(), one.status);
  const std::string message = resembed_last_error_message();
  EXPECT_EQ(message.find("forward: "), 0u) << message;
  EXPECT_NE(message.find(" is "), std::string::npos) << message;
  EXPECT_NE(message.find("; needs "), std::string::npos) << message;
  EXPECT_NE(message.find(one.words), std::string::npos) << message;
  EXPECT_TRUE(call.residual == residual && call.central == central && call.output == output &&
              call.ids == ids)
      << "a rejected call wrote";
}

INSTANTIATE_TEST_SUITE_P(Table, RejectsForward, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(RejectsForwardWorkspace, TooSmallNullOrMisaligned) {
  Call call(kStored);
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&call.args, &call.place, &bytes), RESEMBED_OK);
  Guarded workspace(bytes + 64);
  EXPECT_EQ(resembed_forward(&call.args, workspace.data(), bytes - 1, &call.place),
            RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_EQ(std::string(resembed_last_error_message()),
            "forward: workspace_bytes is " + std::to_string(bytes - 1) + "; needs " + std::to_string(bytes));
  EXPECT_EQ(resembed_forward(&call.args, nullptr, bytes, &call.place), kInvalid);
  EXPECT_NE(std::string(resembed_last_error_message()).find("workspace is null"), std::string::npos);
  EXPECT_EQ(resembed_forward(&call.args, Shifted(workspace.data(), 8), bytes, &call.place), kInvalid);
  EXPECT_NE(std::string(resembed_last_error_message()).find("multiple of 64"), std::string::npos);
  EXPECT_EQ(resembed_forward_workspace_size(&call.args, &call.place, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "forward: bytes is null; needs a size_t");
  EXPECT_EQ(call.output[0], -5.0f) << "a rejected call wrote";
}

TEST(TableSet, RejectsNullsAndSmallMemory) {
  Call call(kStored);
  size_t bytes = 0;
  const auto expect = [](resembed_status got, resembed_status status, const std::string& sentence) {
    EXPECT_EQ(got, status) << sentence;
    EXPECT_EQ(resembed_last_error_message(), sentence);
  };
  expect(resembed_table_set_size(&call.tables, &call.place, nullptr), kInvalid,
         "table_set_size: memory_bytes is null; needs a size_t");
  expect(resembed_table_set_size(nullptr, &call.place, &bytes), kInvalid,
         "table_set_size: tables is null; needs a resembed_tables");
  expect(resembed_table_set_size(&call.tables, nullptr, &bytes), kInvalid,
         "table_set_size: place is null; needs a resembed_place");
  ASSERT_EQ(resembed_table_set_size(&call.tables, &call.place, &bytes), RESEMBED_OK);
  Guarded memory(bytes);
  const auto prepare = [&](void* at, size_t size, resembed_table_set* set) {
    return resembed_table_set_prepare(&call.tables, at, size, set, &call.place);
  };
  expect(prepare(memory.data(), bytes, nullptr), kInvalid,
         "table_set_prepare: set is null; needs a resembed_table_set");
  expect(prepare(memory.data(), bytes - 1, &call.set), RESEMBED_WORKSPACE_TOO_SMALL,
         "table_set_prepare: workspace_bytes is " + std::to_string(bytes - 1) + "; needs " +
             std::to_string(bytes));
  expect(prepare(nullptr, bytes, &call.set), kInvalid,
         "table_set_prepare: workspace is null; needs " + std::to_string(bytes) + " bytes");
  expect(resembed_table_set_prepare(nullptr, memory.data(), bytes, &call.set, &call.place), kInvalid,
         "table_set_prepare: tables is null; needs a resembed_tables");
  call.table.dim = 0;
  expect(prepare(memory.data(), bytes, &call.set), kInvalid,
         "table_set_prepare: tables[0].dim is 0; needs 1 or more");
  EXPECT_EQ(call.set.struct_size, 0u) << "a refused call wrote";
}

TEST(Backend, SaysWhatThisBuildHas) {
  EXPECT_EQ(resembed_backend_available(RESEMBED_CPU, 0), RESEMBED_OK);
  EXPECT_EQ(resembed_backend_available(RESEMBED_CPU, 1), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "backend_available: device is 1; needs 0 on the cpu");
#ifdef RESEMBED_WITH_CUDA
  if (const resembed_status status = resembed_backend_available(RESEMBED_CUDA, 0); status != RESEMBED_OK) {
    EXPECT_EQ(status, RESEMBED_CUDA_ERROR);
    EXPECT_NE(std::string(resembed_last_error_message()).find("needs a GPU"), std::string::npos);
  }
#else
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_UNSUPPORTED);
  EXPECT_NE(std::string(resembed_last_error_message()).find("no cuda kernels"), std::string::npos);
#endif
  EXPECT_EQ(resembed_backend_available(7, 0), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "backend_available: backend is 7; needs cpu (1) or cuda (2)");
  for (const resembed_cpu_isa isa : {-1, 4}) {
    EXPECT_EQ(resembed_isa_available(isa), kInvalid);
    EXPECT_EQ(std::string(resembed_last_error_message()),
              "isa_available: isa is " + std::to_string(isa) + "; needs best, portable, avx2 or avx512");
  }
  EXPECT_STREQ(resembed_status_name(RESEMBED_WORKSPACE_TOO_SMALL), "workspace_too_small");
  EXPECT_STREQ(resembed_status_name(99), "unknown");
  EXPECT_EQ(resembed_version(), RESEMBED_VERSION);
}

// Maps are checked by a call of their own; operations trust them.
TEST(CheckMaps, FindsTheFirstBadEntry) {
  Call call(kStored);
  const auto expect = [&call](resembed_status status, const char* words) {
    EXPECT_EQ(resembed_check_maps(&call.table, &call.place), status) << words;
    if (status != RESEMBED_OK) {
      const std::string message = resembed_last_error_message();
      EXPECT_EQ(message.find("check_maps: "), 0u) << message;
      EXPECT_NE(message.find(words), std::string::npos) << message;
    }
  };
  expect(RESEMBED_OK, "");
  call.neighbors[13] = 10;
  expect(kRange, "neighbors[6, 1] is 10; needs 0 .. 9 (central_rows - 1) or -1 (end)");
  call.neighbors[13] = -2;
  expect(kRange, "neighbors[6, 1] is -2");
  call.neighbors[13] = -1;
  expect(RESEMBED_OK, "");
  call.neighbors[12] = -1;
  expect(RESEMBED_OK, "");
  call.neighbors[13] = 4;
  expect(kRange, "neighbors[6, 1] is 4; needs -1 (the list ended at slot 0)");
  call.neighbors[13] = -1;

  std::vector<int32_t> row_of = {0, 1, 2, -1, 4, 5, 6, -1, 8, 9};
  call.table.residual_row_of = row_of.data();
  call.table.residual_rows = 10;
  expect(RESEMBED_OK, "");
  row_of[8] = 2;
  expect(kRange, "residual_row_of[8] is 2; needs a row that no item before it has");
  row_of[8] = 10;
  expect(kRange, "residual_row_of[8] is 10; needs 0 .. 9 (residual_rows - 1) or -1 (none)");

  Call codes(kAssignment);
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), RESEMBED_OK);
  codes.center_of[3] = -1;
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), RESEMBED_OK);
  codes.center_of[7] = -2;
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), kRange);
  EXPECT_NE(std::string(resembed_last_error_message()).find("center_of[7] is -2; needs 0 .. 9"),
            std::string::npos);
  std::vector<uint16_t> narrow(10, 65535);
  codes.table.center_of = narrow.data();
  codes.table.center_of_dtype = RESEMBED_U16;
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), RESEMBED_OK);
  narrow[9] = 10;
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), kRange);
  EXPECT_NE(std::string(resembed_last_error_message()).find("center_of[9] is 10"), std::string::npos);

  EXPECT_EQ(resembed_check_maps(nullptr, &codes.place), kInvalid);
  codes.table.dim = -1;
  EXPECT_EQ(resembed_check_maps(&codes.table, &codes.place), kInvalid);
}

}  // namespace
}  // namespace resembed::testing
