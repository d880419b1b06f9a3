// SPDX-License-Identifier: Apache-2.0
// A plan in device memory of exactly the size asked for, made through the public call.
#pragma once

#include <string>
#include <vector>

#include "host/plan.h"
#include "tests/cuda/support/device_problem.h"

namespace resembed::testing {

// Inside an operation nothing may be allocated, waited for or copied to the host; the emulator checks it.
class InOperation {
 public:
#ifdef RESEMBED_EMULATED
  explicit InOperation(const char* name) : scope_(name) {}

 private:
  emulator::OperationScope scope_;
#else
  explicit InOperation(const char*) {}
  ~InOperation() {}
#endif
};

struct PlanOptions {
  resembed_bounds bounds = RESEMBED_BOUNDS_SKIP;
  std::vector<int64_t> max_unique, max_unique_central;  // promises, when given
  bool skip_central = false, record = false;
};

struct DevicePlan {
  // The plan, when status is ok; enqueued on `stream`.
  DevicePlan(const DeviceProblem& problem, const Stream& stream, const PlanOptions& options = {})
      : record(sizeof(resembed_bad_ids)), header{}, args{} {
    args.struct_size = sizeof(args);
    const resembed_forward_args problem_args = problem.Args();
    args.tables = problem_args.tables;
    args.features = problem_args.features;
    args.n_features = problem_args.n_features;
    args.bounds = options.bounds;
    if (options.record) args.bad_ids = static_cast<resembed_bad_ids*>(record.data());
    if (!options.max_unique.empty()) args.max_unique = options.max_unique.data();
    if (!options.max_unique_central.empty()) args.max_unique_central = options.max_unique_central.data();
    args.skip_central = options.skip_central ? 1 : 0;
    layout.resize(RESEMBED_PLAN_LAYOUT_BYTES(problem.tables.size(), problem.features.size()) / 8, -1);
    args.layout = layout.data();
    args.layout_bytes = layout.size() * 8;
    const resembed_place place = CudaPlace(stream.get());
    size_t plan_bytes = 0, workspace_bytes = 0;
    status = resembed_plan_size(&args, &place, &plan_bytes, &workspace_bytes);
    if (status == RESEMBED_OK) {
      memory.emplace_back(plan_bytes);
      workspace.emplace_back(workspace_bytes);
      header.struct_size = sizeof(header);
      Make(stream);
    }
    if (status != RESEMBED_OK) message = resembed_last_error_message();
  }
  DevicePlan(const DevicePlan&) = delete;

  // The same call again, into the same memory. The problem's descriptors must still be there.
  void Make(const Stream& stream) {
    const resembed_place place = CudaPlace(stream.get());
    const InOperation scope("plan");
    status = resembed_plan(&args, memory[0].data(), memory[0].size(), &header, workspace[0].data(),
                           workspace[0].size(), &place);
  }

  // Copies to the host and checks canaries.
  void Download(const Stream& stream) {
    EXPECT_TRUE(memory[0].Download(stream)) << "the plan was written past its end";
    EXPECT_TRUE(workspace[0].Download(stream)) << "the workspace was written past its end";
    EXPECT_TRUE(record.Download(stream));
  }
  // After Download: as the host would read it.
  detail::PlanTable Table(int32_t index) const {
    detail::PlanTable table = detail::Plan(layout.data(), memory[0].host()).table(index);
    table.items.n_runs = Counts(index).n_unique;
    table.central.n_runs = Counts(index).n_unique_central;
    return table;
  }
  kernels::PlanCounts Counts(int32_t index) const {
    kernels::PlanCounts counts;
    std::memcpy(&counts, memory[0].host() + static_cast<size_t>(index) * sizeof(counts), sizeof(counts));
    return counts;
  }

  resembed_status status;
  std::string message;
  std::vector<int64_t> layout;
  std::deque<DeviceBuffer> memory, workspace;  // one each
  DeviceBuffer record;
  resembed_plan_header header;
  resembed_plan_args args;
};

}  // namespace resembed::testing
