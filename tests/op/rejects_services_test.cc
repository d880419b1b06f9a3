// SPDX-License-Identifier: Apache-2.0
// What the functions of services.h refuse before they look at data: missing pointers, sizes and types.
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::testing {
namespace {

constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT, kRange = RESEMBED_OUT_OF_RANGE;

// Arguments of good calls over two items, open to be spoiled.
struct Call {
  std::vector<int32_t> neighbors = {1, 0}, ids = {0, 1, 0}, items = {0, 1}, neighbors_of = {1, 0};
  std::vector<int64_t> counts = {2, 2}, values = {2, 2}, offsets = {0, 3};
  std::vector<int64_t> row_offsets = {0, 1, 2};
  resembed_covisit_matrix matrix = {sizeof(matrix), 2, row_offsets.data(), neighbors.data(), values.data()};
  resembed_covisit_options counting = {};
  resembed_covisit_sequences sequence = {};
  resembed_graph_options graph = {};
  resembed_graph_assign_options assign = {};
  int64_t n_items = 2, n_edges = 2, n_out = -9, n_old = 2, n_new = 2;
  int32_t k = 1;
  // Outputs, or null.
  std::vector<int32_t> ints = std::vector<int32_t>(8, -9);
  std::vector<int64_t> longs = std::vector<int64_t>(8, -9);
  int32_t *int_out = ints.data(), *item_out = ints.data() + 4;
  int64_t *long_out = longs.data(), *count_out = &n_out;
  const int32_t *first = neighbors.data(), *second = neighbors_of.data();
  const int64_t* third = counts.data();

  Call() {
    counting.struct_size = sizeof(counting);
    counting.n_items = 2;
    sequence.struct_size = sizeof(sequence);
    sequence.ids = ids.data();
    sequence.id_dtype = RESEMBED_I32;
    sequence.offsets = offsets.data();
    sequence.offset_dtype = RESEMBED_I64;
    sequence.n_sequences = 1;
    graph.struct_size = sizeof(graph);
    graph.k = 1;
    assign.struct_size = sizeof(assign);
  }
  Call(const Call&) = delete;

  bool Untouched() const {
    for (const int32_t value : ints) {
      if (value != -9) return false;
    }
    for (const int64_t value : longs) {
      if (value != -9) return false;
    }
    return n_out == -9;
  }
};

using Run = resembed_status (*)(Call&);

resembed_status FromEdges(Call& c) {
  return resembed_graph_from_edges(c.first, c.second, c.third, c.n_edges, c.n_items, c.k, c.int_out,
                                   c.long_out);
}
resembed_status Symmetrize(Call& c) {
  return resembed_graph_symmetrize(c.first, c.third, c.n_items, 1, RESEMBED_GRAPH_UNION, c.k, c.int_out,
                                   c.long_out, c.count_out);
}
resembed_status Assign(Call& c) {
  return resembed_graph_assign(c.first, c.third, c.n_items, c.k, &c.assign, c.int_out, c.count_out);
}
resembed_status MatchCenters(Call& c) {
  return resembed_graph_match_centers(c.first, c.n_old, c.second, c.n_new, c.n_items, c.int_out);
}
resembed_status LeaveOut(Call& c) {
  return resembed_graph_leave_out(&c.matrix, &c.counting, &c.sequence, &c.graph, c.count_out, c.item_out,
                                  c.int_out, c.long_out);
}
resembed_status CarryRows(Call& c) {
  return resembed_carry_rows(c.third, c.n_old, 0, RESEMBED_I64, 1, c.first, c.long_out, c.n_new, 0);
}

struct Case {
  Run run;
  void (*spoil)(Call&);
  resembed_status status;
  const char* sentence;
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.sentence; }
};

const Case kCases[] = {
    {FromEdges, [](Call& c) { c.n_edges = -1; }, kInvalid, "graph_from_edges: n_edges is -1; needs >= 0"},
    {FromEdges, [](Call& c) { c.first = nullptr; }, kInvalid,
     "graph_from_edges: items is null; needs a pointer"},
    {FromEdges, [](Call& c) { c.second = nullptr; }, kInvalid,
     "graph_from_edges: neighbors_of is null; needs a pointer"},
    {FromEdges, [](Call& c) { c.third = nullptr; }, kInvalid,
     "graph_from_edges: values is null; needs a pointer"},
    {FromEdges, [](Call& c) { c.n_items = int64_t{1} << 31; }, kInvalid,
     "graph_from_edges: n_items is 2147483648; needs 0 .. 2147483647"},
    {FromEdges, [](Call& c) { c.k = 0; }, kInvalid, "graph_from_edges: k is 0; needs 1 .. 64"},
    {FromEdges, [](Call& c) { c.int_out = nullptr; }, kInvalid,
     "graph_from_edges: neighbors is null; needs a pointer"},
    {FromEdges, [](Call& c) { c.long_out = nullptr; }, kInvalid,
     "graph_from_edges: counts is null; needs a pointer"},
    {FromEdges, [](Call& c) { c.neighbors[1] = 2; }, kRange,
     "graph_from_edges: items[1] is 2; needs 0 .. n_items - 1 (1)"},
    {FromEdges, [](Call& c) { c.neighbors_of[0] = -1; }, kRange,
     "graph_from_edges: neighbors_of[0] is -1; needs 0 .. n_items - 1 (1)"},
    {FromEdges, [](Call& c) { c.counts[1] = -3; }, kRange, "graph_from_edges: values[1] is -3; needs > 0"},
    {Symmetrize, [](Call& c) { c.first = nullptr; }, kInvalid,
     "graph_symmetrize: neighbors is null; needs a pointer"},
    {Symmetrize, [](Call& c) { c.third = nullptr; }, kInvalid,
     "graph_symmetrize: counts is null; needs a pointer"},
    {Symmetrize, [](Call& c) { c.n_items = -1; }, kInvalid,
     "graph_symmetrize: n_items is -1; needs 0 .. 2147483647"},
    {Symmetrize, [](Call& c) { c.k = 65; }, kInvalid, "graph_symmetrize: k_out is 65; needs 1 .. 64"},
    {Symmetrize, [](Call& c) { c.int_out = nullptr; }, kInvalid,
     "graph_symmetrize: neighbors_out is null; needs a pointer"},
    {Symmetrize, [](Call& c) { c.long_out = nullptr; }, kInvalid,
     "graph_symmetrize: counts_out is null; needs a pointer"},
    {Symmetrize, [](Call& c) { c.counts[0] = 0; }, kRange, "graph_symmetrize: counts[0, 0] is 0; needs > 0"},
    {Assign, [](Call& c) { c.count_out = nullptr; }, kInvalid,
     "graph_assign: n_centers is null; needs a pointer"},
    {Assign, [](Call& c) { c.k = 0; }, kInvalid, "graph_assign: k is 0; needs 1 .. 64"},
    {Assign, [](Call& c) { c.assign.cold_center = 2; }, kInvalid,
     "graph_assign: cold_center is 2; needs 0 or 1"},
    {MatchCenters, [](Call& c) { c.first = nullptr; }, kInvalid,
     "graph_match_centers: old_center_of is null; needs a pointer"},
    {MatchCenters, [](Call& c) { c.second = nullptr; }, kInvalid,
     "graph_match_centers: new_center_of is null; needs a pointer"},
    {MatchCenters, [](Call& c) { c.int_out = nullptr; }, kInvalid,
     "graph_match_centers: source is null; needs a pointer"},
    {MatchCenters, [](Call& c) { c.n_old = -1; }, kInvalid,
     "graph_match_centers: n_items, n_old, n_new are 2, -1, 2; needs 0 .. 2147483647"},
    {MatchCenters, [](Call& c) { c.neighbors_of[0] = 5; }, kRange,
     "graph_match_centers: new_center_of[0] is 5; needs -1 or a center below 2"},
    {CarryRows, [](Call& c) { c.third = nullptr; }, kInvalid, "carry_rows: from is null; needs a pointer"},
    {CarryRows, [](Call& c) { c.first = nullptr; }, kInvalid, "carry_rows: source is null; needs a pointer"},
    {CarryRows, [](Call& c) { c.long_out = nullptr; }, kInvalid, "carry_rows: to is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.matrix.row_offsets = nullptr; }, kInvalid,
     "graph_leave_out: row_offsets is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.matrix.columns = nullptr; }, kInvalid,
     "graph_leave_out: columns is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.matrix.values = nullptr; }, kInvalid,
     "graph_leave_out: values is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.sequence.ids = nullptr; }, kInvalid,
     "graph_leave_out: ids is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.sequence.offsets = nullptr; }, kInvalid,
     "graph_leave_out: offsets is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.count_out = nullptr; }, kInvalid,
     "graph_leave_out: n_rows is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.item_out = nullptr; }, kInvalid,
     "graph_leave_out: items is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.int_out = nullptr; }, kInvalid,
     "graph_leave_out: neighbors is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.long_out = nullptr; }, kInvalid,
     "graph_leave_out: counts_out is null; needs a pointer"},
    {LeaveOut, [](Call& c) { c.sequence.n_sequences = 2; }, kInvalid,
     "graph_leave_out: n_sequences is 2; needs 1"},
    {LeaveOut, [](Call& c) { c.sequence.id_dtype = RESEMBED_F32; }, kInvalid,
     "graph_leave_out: dtype of the sequence is f32; needs i32 or i64"},
    {LeaveOut, [](Call& c) { c.offsets[0] = -1; }, kInvalid,
     "graph_leave_out: offsets[0] is -1; needs 0 <= offsets[0] <= offsets[1]"},
    {LeaveOut, [](Call& c) { c.offsets[1] = -2; }, kInvalid,
     "graph_leave_out: offsets[1] is -2; needs 0 <= offsets[0] <= offsets[1]"},
    {LeaveOut, [](Call& c) { c.ids[2] = 2; }, kRange,
     "graph_leave_out: ids[2] is 2; needs 0 .. n_items - 1 (1)"},
    {LeaveOut, [](Call& c) { c.graph.k = 0; }, kInvalid, "graph_leave_out: k is 0; needs 1 .. 64"},
};

class RejectsServices : public ::testing::TestWithParam<Case> {};

TEST_P(RejectsServices, WithStatusAndSentenceAndNothingWritten) {
  const Case& one = GetParam();
  {
    Call good;
    EXPECT_EQ(one.run(good), RESEMBED_OK) << resembed_last_error_message();
    EXPECT_FALSE(good.Untouched());
  }
  Call call;
  one.spoil(call);
  EXPECT_EQ(one.run(call), one.status);
  EXPECT_STREQ(resembed_last_error_message(), one.sentence);
  EXPECT_TRUE(call.Untouched()) << "a refused call wrote";
}

INSTANTIATE_TEST_SUITE_P(Table, RejectsServices, ::testing::ValuesIn(kCases));

TEST(RejectsServices, OptionsAndFilesThatAreNull) {
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = 2;
  resembed_covisit* counts = nullptr;
  ASSERT_EQ(resembed_covisit_create(&options, &counts), RESEMBED_OK);
  int32_t neighbors[2] = {-9, -9};
  EXPECT_EQ(resembed_covisit_graph(counts, nullptr, neighbors, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_graph: options is null; needs a pointer");
  EXPECT_EQ(resembed_covisit_save(counts, nullptr, nullptr, 0), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_save: path is null; needs a pointer");
  EXPECT_EQ(resembed_covisit_add_file(counts, nullptr, nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add_file: path is null; needs a pointer");
  resembed_covisit_destroy(counts);
  EXPECT_EQ(resembed_file_metadata(nullptr, "key", nullptr), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "file_metadata: file is null; needs a pointer");
  int32_t n_tensors = -9;
  EXPECT_EQ(resembed_file_n_tensors(nullptr, &n_tensors), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "file_n_tensors: file is null; needs a pointer");
  EXPECT_EQ(resembed_file_read(nullptr, 0, nullptr, 0, 0), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "file_read: file is null; needs a pointer");
  resembed_tensor tensor = {};
  EXPECT_EQ(resembed_file_tensor(nullptr, 0, &tensor), kInvalid);
  EXPECT_STREQ(resembed_last_error_message(), "file_tensor: file is null; needs a pointer");
}

}  // namespace
}  // namespace resembed::testing
