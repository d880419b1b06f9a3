// SPDX-License-Identifier: Apache-2.0
// check_maps over device memory: the statuses and sentences of the CPU.
#include <gtest/gtest.h>

#include "tests/cuda/support/device_problem.h"

namespace resembed::testing {
namespace {

// The same answer from both backends, `want` among other things.
void ExpectSameAnswer(const GradientProblem& problem, resembed_status want) {
  const resembed_place cpu = PlaceOf(nullptr);
  const resembed_status status = resembed_check_maps(&problem.tables[0]->descriptor, &cpu);
  const std::string message = status == RESEMBED_OK ? "" : resembed_last_error_message();
  EXPECT_EQ(status, want) << message;
  DeviceProblem device(problem);
  const Stream stream;
  const resembed_place cuda = CudaPlace(stream.get());
  EXPECT_EQ(resembed_check_maps(&device.tables[0], &cuda), status);
  if (status == RESEMBED_OK) return;
  EXPECT_EQ(resembed_last_error_message(), message);
}

GradientProblem Problem(resembed_central_form form, bool narrow, int64_t n_items) {
  TableSpec table;
  table.form = form;
  table.n_items = n_items;
  table.dim = 1;
  table.row_map = n_items > 0;
  table.u16_centers = narrow;
  return GradientProblem({table}, {}, 3);
}

TEST(CudaCheckMaps, AnswersAsTheCpuDoes) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    GradientProblem problem = Problem(form, form == RESEMBED_CENTRAL_ASSIGNMENT, 50);
    ExpectSameAnswer(problem, RESEMBED_OK);
    TableData& table = *problem.tables[0];
    if (form == RESEMBED_CENTRAL_ASSIGNMENT) {
      table.centers16[49] = 999;
    } else if (form != RESEMBED_CENTRAL_NONE) {
      table.neighbors[static_cast<size_t>(49 * table.descriptor.neighbors_stride)] = 999;
    } else {
      table.residual_row_of[49] = table.residual_row_of[0];
    }
    ExpectSameAnswer(problem, RESEMBED_OUT_OF_RANGE);
  }
  GradientProblem none = Problem(RESEMBED_CENTRAL_ASSIGNMENT, false, 0);
  ExpectSameAnswer(none, RESEMBED_OK);
}

// More than one piece of 4 MiB: a fault in the last one, and a row that two pieces share.
TEST(CudaCheckMaps, LongMapsAreReadPieceByPiece) {
  constexpr int64_t kItems = (9 << 20) / 4;
  GradientProblem problem = Problem(RESEMBED_CENTRAL_ASSIGNMENT, false, kItems);
  ExpectSameAnswer(problem, RESEMBED_OK);
  TableData& table = *problem.tables[0];
  table.residual_row_of[kItems - 1] = table.residual_row_of[0];
  ExpectSameAnswer(problem, RESEMBED_OUT_OF_RANGE);
  table.centers32[kItems - 1] = -7;
  ExpectSameAnswer(problem, RESEMBED_OUT_OF_RANGE);
}

}  // namespace
}  // namespace resembed::testing
