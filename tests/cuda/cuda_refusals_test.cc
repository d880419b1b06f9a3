// SPDX-License-Identifier: Apache-2.0
// What the cuda backend refuses: status, sentence, and nothing written or enqueued.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "host/cuda/launch_tables.h"
#include "tests/cuda/support/device_problem.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

// A call that works until a test spoils something.
struct CudaCall {
  CudaCall()
      : problem({TableSpec()}, {FeatureSpec()}, 3),
        device(problem),
        output(20 * 7 * 4),
        place(CudaPlace(stream.get())) {
    device.features[0].output = output.data();
    args = device.Args();
    args.bounds = RESEMBED_BOUNDS_SKIP;
  }
  resembed_status Run() {
    size_t bytes = 0;
    const resembed_status status = resembed_forward_workspace_size(&args, &place, &bytes);
    if (status != RESEMBED_OK) return status;
    const DeviceBuffer workspace(bytes);
    return resembed_forward(&args, workspace.data(), bytes, &place);
  }
  bool Untouched() {
    EXPECT_TRUE(output.Download(stream));
    return std::all_of(output.host(), output.host() + output.size(),
                       [](unsigned char byte) { return byte == 0xff; });
  }
  GradientProblem problem;
  DeviceProblem device;
  Stream stream;
  DeviceBuffer output;
  resembed_forward_args args;
  resembed_place place;
};

void ExpectRefused(CudaCall* call, resembed_status status, const char* words) {
  EXPECT_EQ(call->Run(), status);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr(words));
  EXPECT_TRUE(call->Untouched());
}

TEST(CudaRejects, APlanOfTheCpu) {
  CudaCall call;
  const MadePlan plan(call.problem.PlanArgs(), PlaceOf(nullptr));
  ASSERT_EQ(plan.status, RESEMBED_OK);
  call.args.plan = &plan.header;
  ExpectRefused(&call, RESEMBED_INVALID_ARGUMENT, "forward: plan.backend is cpu; needs cuda");
}

TEST(CudaRejects, ATableSet) {
  CudaCall call;
  resembed_table_set set = {sizeof(set), RESEMBED_CUDA, 0, 1, call.output.data(), 1000};
  resembed_tables tables = {};
  tables.struct_size = sizeof(tables);
  tables.set = &set;
  call.args.tables = &tables;
  ExpectRefused(&call, RESEMBED_UNSUPPORTED, "forward: tables.set is given; needs null on cuda");
  size_t bytes = 0;
  EXPECT_EQ(resembed_table_set_size(call.device.Args().tables, &call.place, &bytes), RESEMBED_UNSUPPORTED);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("table_set_size: place.backend is cuda; needs cpu"));
}

TEST(CudaRejects, ADeviceThatIsNotThere) {
  CudaCall call;
  call.place.device = 4711;
  ExpectRefused(&call, RESEMBED_INVALID_ARGUMENT, "forward: place.device is 4711; needs 0 .. ");
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 4711), RESEMBED_INVALID_ARGUMENT);
  call.place.device = -1;
  ExpectRefused(&call, RESEMBED_INVALID_ARGUMENT, "forward: place.device is -1; needs 0 or more");
}

TEST(CudaRejects, WhatTheCpuRejects) {
  CudaCall call;
  call.device.features[0].output_stride = 3;
  ExpectRefused(&call, RESEMBED_INVALID_ARGUMENT, "features[0].output_stride is 3; needs at least dim (7)");
}

TEST(CudaRejects, AWorkspaceThatIsTooSmall) {
  CudaCall call;
  EXPECT_EQ(resembed_forward(&call.args, call.output.data(), 1, &call.place), RESEMBED_WORKSPACE_TOO_SMALL);
  EXPECT_THAT(resembed_last_error_message(), HasSubstr("forward: workspace_bytes is 1; needs 64"));
  EXPECT_TRUE(call.Untouched());
}

#ifdef RESEMBED_EMULATED
// A machine without a GPU, as the CUDA runtime reports it.
TEST(CudaRejects, AMachineWithoutAGpu) {
  CudaCall call;
  const emulator::Device before = emulator::GetDevice();
  for (const cudaError_t error : {cudaErrorInsufficientDriver, cudaErrorStubLibrary, cudaErrorNoDevice}) {
    emulator::Device none = before;
    none.count = 0;
    none.count_status = error;
    emulator::SetDevice(none);
    EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_CUDA_ERROR);
    EXPECT_THAT(resembed_last_error_message(),
                HasSubstr("backend_available: place.backend is cuda; needs a GPU ("));
    size_t bytes = 0;
    EXPECT_EQ(resembed_forward_workspace_size(&call.args, &call.place, &bytes), RESEMBED_OK)
        << "sizes need no GPU";
    std::vector<char> workspace(bytes + 64);
    auto* aligned = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64);
    EXPECT_EQ(resembed_forward(&call.args, aligned, bytes, &call.place), RESEMBED_CUDA_ERROR);
    EXPECT_THAT(resembed_last_error_message(), HasSubstr("forward: place.backend is cuda; needs a GPU ("));
    EXPECT_EQ(RunForward(&call.problem, PlaceOf(nullptr)).status, RESEMBED_OK) << "the cpu backend goes on";
  }
  emulator::SetDevice(before);
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_OK);
  EXPECT_TRUE(call.Untouched());
}

TEST(CudaRejects, ADeviceThatIsTooOld) {
  const emulator::Device before = emulator::GetDevice();
  emulator::Device old = before;
  old.compute_major = 7;
  old.compute_minor = 0;
  emulator::SetDevice(old);
  EXPECT_EQ(resembed_backend_available(RESEMBED_CUDA, 0), RESEMBED_UNSUPPORTED);
  EXPECT_THAT(resembed_last_error_message(),
              HasSubstr("compute capability of device 0 is 7.0; needs 7.5 or higher"));
  emulator::SetDevice(before);
}
#endif

// With holes in the tables that dispatch launches from: the sentence is what is left in them.
TEST(CudaRejects, WhatNoLaunchTableHas) {
  namespace cuda = detail::cuda;
  cuda::ForwardLaunches pairs;
  std::memcpy(pairs, cuda::kForwardLaunches, sizeof(pairs));
  resembed_table table = {};
  for (resembed_dtype type : {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16}) {
    table.central_dtype = table.residual_dtype = type;
    EXPECT_EQ(cuda::CheckForwardTypes("forward", 0, table), RESEMBED_OK);
  }
  for (auto& row : pairs) row[RESEMBED_F16] = nullptr;
  pairs[RESEMBED_F32][RESEMBED_BF16] = nullptr;
  table.residual_dtype = RESEMBED_F16;
  EXPECT_EQ(cuda::CheckForwardTypes("forward", 3, table, pairs), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(),
               "forward: tables[3] is bf16/f16 (C/R); needs types that are built for cuda: f32/f32 f16/f32 "
               "f16/bf16 bf16/f32 bf16/bf16");

  cuda::UpdateLaunches updates;
  std::memcpy(updates, cuda::kUpdateLaunches, sizeof(updates));
  resembed_optimizer adam = {}, sgd = {};
  adam.struct_size = sgd.struct_size = sizeof(adam);
  adam.kind = RESEMBED_ADAM;
  sgd.kind = RESEMBED_SGD;
  resembed_table_step step = {};
  step.struct_size = sizeof(step);
  step.residual = &sgd;
  step.central = &adam;
  const resembed_table_step* const steps[] = {nullptr, &step};
  EXPECT_EQ(cuda::CheckUpdates("step", steps, 2), RESEMBED_OK);
  updates[RESEMBED_ADAM] = updates[RESEMBED_ADAGRAD] = nullptr;
  EXPECT_EQ(cuda::CheckUpdates("step", steps, 2, updates), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(),
               "step: steps[1].central.kind is adam; needs an optimizer that is built for cuda: sgd "
               "rowwise_adagrad partial_rowwise_adam");
}

}  // namespace
}  // namespace resembed::testing
