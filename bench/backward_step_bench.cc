// SPDX-License-Identifier: Apache-2.0
// resembed_plan + resembed_backward_step of a training batch against the update limit of the memory and
// against unfused scatter code.
#include <string>
#include <vector>

#include "bench/support/main.h"
#include "bench/support/scenario.h"
#include "bench/support/unfused.h"

namespace resembed::bench {
namespace {

constexpr int64_t kIds = 40'960;
constexpr int kBatches = 4;
constexpr int kPeerRuns = 3;

struct UpdateCase {
  TableSpec table;
  resembed_optimizer_kind optimizer = RESEMBED_ROWWISE_ADAGRAD;
  int64_t bag_length = 20;
};

const char* OptimizerName(resembed_optimizer_kind kind) {
  static const char* const kNames[] = {"sgd", "adagrad", "rowwise_adagrad", "adam", "partial_rowwise_adam"};
  return kNames[kind];
}

StateShape StateOf(resembed_optimizer_kind kind) {
  switch (kind) {
    case RESEMBED_ADAGRAD:
      return {0, 1};
    case RESEMBED_ROWWISE_ADAGRAD:
      return {1, 0};
    case RESEMBED_ADAM:
      return {0, 2};
    case RESEMBED_PARTIAL_ROWWISE_ADAM:
      return {1, 1};
    default:
      return {0, 0};
  }
}

std::string Name(const UpdateCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.table.alpha);
  const std::string name = "BM_PlanBackwardStep/" + DtypeName(c.table.dtype) + "_i32/" +
                           OptimizerName(c.optimizer) + "/form:" + FormName(c.table.form) +
                           "/dim:" + std::to_string(c.table.dim) + "/bag:" + std::to_string(c.bag_length) +
                           "/zipf:" + zipf + "/rows:" + CountName(c.table.rows);
  return c.table.form == RESEMBED_CENTRAL_NONE ? name : name + "/k:" + std::to_string(c.table.k);
}

// One part's optimizer with its state over the whole table.
struct Part {
  Part(resembed_optimizer_kind kind, int64_t rows, int64_t dim) {
    const StateShape shape = StateOf(kind);
    descriptor.struct_size = sizeof(descriptor);
    descriptor.kind = kind;
    descriptor.lr = 1e-3f;
    descriptor.beta1 = 0.9f;
    descriptor.beta2 = 0.999f;
    descriptor.eps = 1e-8f;
    descriptor.step = 1;
    const bool adam = kind == RESEMBED_ADAM || kind == RESEMBED_PARTIAL_ROWWISE_ADAM;
    if (shape.row_floats + shape.element_floats > 0) {
      state1 = HugeArray<float>(shape.element_floats > 0 ? rows * dim : rows);
      descriptor.state1 = state1.data();
    }
    if (adam) {
      state2 = HugeArray<float>(shape.row_floats > 0 ? rows : rows * dim);
      descriptor.state2 = state2.data();
    }
    // Pages are there before the first timed step.
    for (const HugeArray<float>* state : {&state1, &state2}) {
      for (int64_t at = 0; at < state->size(); at += 1024) (*state)[at] = 1e-3f;
    }
  }
  resembed_optimizer descriptor = {};
  HugeArray<float> state1, state2;
};

void PlanBackwardStep(benchmark::State& state, const UpdateCase& c) {
  const Scenario& scenario = GetScenario(c.table);
  const IdSource source(c.table.rows, c.table.alpha, 3);
  const int64_t n_bags = kIds / c.bag_length, dim = c.table.dim;
  std::vector<Batch> batches;
  for (uint64_t stream = 0; stream < kBatches; ++stream) {
    batches.push_back(MakeBatch(scenario, source, n_bags, c.bag_length, stream));
  }
  HugeArray<float> grad(n_bags * dim);
  for (int64_t i = 0; i < grad.size(); ++i) grad[i] = 1e-3f * static_cast<float>(i % 101 - 50);
  const bool central = c.table.form != RESEMBED_CENTRAL_NONE;
  Part residual_part(c.optimizer, c.table.rows, dim),
      central_part(c.optimizer, central ? c.table.rows : 1, dim);

  const resembed_place place = CpuPlace();
  const resembed_feature* feature = &batches[0].feature;
  resembed_plan_args plan_args = {};
  plan_args.struct_size = sizeof(plan_args);
  plan_args.tables = &scenario.tables();
  plan_args.features = &feature;
  plan_args.n_features = 1;
  size_t plan_bytes = 0, plan_workspace_bytes = 0;
  Check(resembed_plan_size(&plan_args, &place, &plan_bytes, &plan_workspace_bytes));
  HugeArray<char> plan_memory(static_cast<int64_t>(plan_bytes));
  HugeArray<char> plan_workspace(static_cast<int64_t>(plan_workspace_bytes));
  resembed_plan_header plan = {};
  plan.struct_size = sizeof(plan);
  const auto make_plan = [&] {
    Check(resembed_plan(&plan_args, plan_memory.data(), plan_bytes, &plan, plan_workspace.data(),
                        plan_workspace_bytes, &place));
  };
  make_plan();

  resembed_feature_grad feature_grad = {};
  feature_grad.struct_size = sizeof(feature_grad);
  feature_grad.grad_output = grad.data();
  feature_grad.grad_output_dtype = RESEMBED_F32;
  const resembed_feature_grad* feature_grads = &feature_grad;
  resembed_table_step step = {};
  step.struct_size = sizeof(step);
  step.residual = &residual_part.descriptor;
  step.central = central ? &central_part.descriptor : nullptr;
  const resembed_table_step* steps = &step;
  resembed_backward_step_args args = {};
  args.struct_size = sizeof(args);
  args.plan = &plan;
  args.tables = &scenario.tables();
  args.features = &feature;
  args.n_features = 1;
  args.feature_grads = &feature_grads;
  args.steps = &steps;
  size_t workspace_bytes = 0;
  Check(resembed_backward_step_workspace_size(&args, &place, &workspace_bytes));
  HugeArray<char> workspace(static_cast<int64_t>(workspace_bytes));

  const MemoryTable limit_of = MemoryTableOf(c.table.rows, dim * ElementBytes(c.table.dtype));
  RefreshLimits(limit_of);
  Timings whole, planning;
  size_t number = 0;
  for (auto _ : state) {
    feature = &batches[number++ % kBatches].feature;
    whole.Time([&] {
      planning.Time(make_plan);
      Check(resembed_backward_step(&args, workspace.data(), workspace_bytes, &place));
    });
  }
  RefreshLimits(limit_of);

  const StateShape state_shape = StateOf(c.optimizer);
  const auto compulsory = static_cast<double>(CompulsoryUpdate(batches[0].shape, state_shape));
  const double limit = Limits(limit_of).update_gbps, median = whole.Median();
  state.counters["bytes"] = compulsory;
  state.counters["GBps"] = 1e-9 * compulsory / median;
  state.counters["logical_GBps"] =
      1e-9 * static_cast<double>(LogicalUpdate(batches[0].shape, state_shape)) / median;
  state.counters["limit_GBps"] = limit;
  state.counters["update_frac"] = 1e-9 * compulsory / median / limit;
  state.counters["update_frac_best"] = 1e-9 * compulsory / whole.Best() / limit;
  state.counters["plan_ms"] = 1e3 * planning.Median();
  state.counters["unique_frac"] = static_cast<double>(batches[0].shape.n_unique) / static_cast<double>(kIds);
  state.counters["items_per_s"] = static_cast<double>(kIds) / median;
  if (c.table.dtype != RESEMBED_F32 || c.optimizer != RESEMBED_ROWWISE_ADAGRAD) return;
  Timings fresh, kept;
  for (int run = 0; run < kPeerRuns; ++run) {
    Unfused peer(scenario, batches[static_cast<size_t>(run) % kBatches]);
    const auto update = [&] {
      peer.BackwardRowwiseAdagrad(grad.data(), 1e-3f, 1e-8f, residual_part.state1.data(),
                                  central_part.state1.data());
    };
    fresh.Time(update);
    kept.Time(update);
  }
  state.counters["vs_unfused"] = fresh.Median() / median;
  state.counters["vs_unfused_kept"] = kept.Median() / median;
}

void Register() {
  std::vector<UpdateCase> cases;
  const UpdateCase main;
  cases.push_back(main);
  const auto vary = [&](auto&& change) {
    UpdateCase c = main;
    change(c);
    cases.push_back(c);
  };
  for (const int64_t bag_length : {1, 100}) vary([&](UpdateCase& c) { c.bag_length = bag_length; });
  for (const resembed_optimizer_kind kind :
       {RESEMBED_SGD, RESEMBED_ADAGRAD, RESEMBED_ADAM, RESEMBED_PARTIAL_ROWWISE_ADAM}) {
    vary([&](UpdateCase& c) { c.optimizer = kind; });
  }
  for (const resembed_central_form form : {RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_NONE}) {
    vary([&](UpdateCase& c) { c.table.form = form; });
  }
  for (const double alpha : {1.05, 1.15}) vary([&](UpdateCase& c) { c.table.alpha = alpha; });
  vary([](UpdateCase& c) { c.table.dtype = RESEMBED_BF16; });
  for (const int64_t dim : {16, 32, 128}) vary([&](UpdateCase& c) { c.table.dim = dim; });
  vary([](UpdateCase& c) { c.table.dim = 256, c.table.rows = 2'000'000; });
  vary([](UpdateCase& c) { c.table.rows = 10'000'000; });
  for (const UpdateCase& c : cases) {
    benchmark::RegisterBenchmark(Name(c).c_str(),
                                 [c](benchmark::State& state) { PlanBackwardStep(state, c); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace resembed::bench

int main(int argc, char** argv) {
  resembed::bench::Register();
  return resembed::bench::RunMain(argc, argv);
}
