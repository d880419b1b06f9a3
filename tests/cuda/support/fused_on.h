// SPDX-License-Identifier: Apache-2.0
// Plan, backward and step below the public calls: grids and batches of any size.
#pragma once

#include "host/cuda/gradients.h"
#include "host/cuda/plan.h"
#include "tests/cuda/support/device_training.h"

namespace resembed::testing {

// Of a training, in launches of a given grid, or in batches of tables that keep so much.
inline void FusedOn(const kernels::Grid& grid, DeviceTraining* training,
                    int64_t batch_bytes = detail::cuda::kBatchBytes) {
  namespace cuda = detail::cuda;
  const resembed_place place = CudaPlace(training->stream.get());
  DevicePlan plan(training->device, training->stream);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  ASSERT_EQ(cudaMemset(plan.memory[0].data(), 0xff, plan.memory[0].size()), cudaSuccess);
  const resembed_backward_step_args args = training->FusedArgs(plan);
  detail::BackwardCall call;
  ASSERT_EQ(detail::ReadBackwardCall("test", args.plan, args.tables, args.features, args.n_features,
                                     args.feature_grads, &place, &call),
            RESEMBED_OK);
  const cuda::PlanBuild build = {place,
                                 &plan.args,
                                 &call.tables,
                                 &call.plan.record(0),
                                 &call.plan.feature(0),
                                 static_cast<char*>(plan.memory[0].data()),
                                 plan.workspace[0].data()};
  ASSERT_EQ(cuda::BuildPlan(build, grid), RESEMBED_OK) << resembed_last_error_message();
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  DeviceBuffer workspace(bytes);
  const cuda::GradientTask task = {"test", &call,
                                   [&call, &args](int32_t index) {
                                     cuda::BackwardWork work = {};
                                     work.index = index;
                                     work.fused = true;
                                     work.request.residual = args.steps[index]->residual != nullptr;
                                     work.request.central = args.steps[index]->central != nullptr;
                                     work.request.sample_weights = detail::WantsSampleWeights(call, index);
                                     return work;
                                   },
                                   args.steps};
  ASSERT_EQ(cuda::RunGradients(task, workspace.data(), grid, batch_bytes), RESEMBED_OK);
  EXPECT_TRUE(workspace.Download(training->stream));
}

}  // namespace resembed::testing
