// SPDX-License-Identifier: Apache-2.0
// resembed_forward against the read limit of the memory and against unfused code.
#include <string>
#include <vector>

#include "bench/support/main.h"
#include "bench/support/scenario.h"
#include "bench/support/unfused.h"

namespace resembed::bench {
namespace {

// Ids of a batch; with 8 neighbors of 256 bytes that is 94 MB of rows, three times a large L3.
constexpr int64_t kIds = 40'960;
constexpr int kBatches = 4;
constexpr int kPeerRuns = 3;

struct ForwardCase {
  TableSpec table;
  int64_t bag_length = 20;
};

std::string Name(const ForwardCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.table.alpha);
  std::string name = "BM_Forward/" + DtypeName(c.table.dtype) + "_i32/form:" + FormName(c.table.form) +
                     "/dim:" + std::to_string(c.table.dim) + "/bag:" + std::to_string(c.bag_length) +
                     "/zipf:" + zipf + "/rows:" + CountName(c.table.rows);
  if (c.table.pages == Pages::kSmall) name += "/pages:small";
  if (c.table.form == RESEMBED_CENTRAL_ASSIGNMENT) return name + "/centers:" + CountName(c.table.centers);
  return c.table.form == RESEMBED_CENTRAL_NONE ? name : name + "/k:" + std::to_string(c.table.k);
}

void Forward(benchmark::State& state, const ForwardCase& c) {
  const Scenario& scenario = GetScenario(c.table);
  const IdSource source(c.table.rows, c.table.alpha, 3);
  const int64_t n_bags = kIds / c.bag_length;
  HugeArray<float> output(n_bags * c.table.dim);
  std::vector<Batch> batches;
  for (uint64_t stream = 0; stream < kBatches; ++stream) {
    batches.push_back(MakeBatch(scenario, source, n_bags, c.bag_length, stream));
    batches.back().feature.output = output.data();
  }
  const resembed_place place = CpuPlace();
  const resembed_feature* feature = nullptr;
  resembed_forward_args args = {};
  args.struct_size = sizeof(args);
  args.tables = &scenario.tables();
  args.features = &feature;
  args.n_features = 1;
  feature = &batches[0].feature;
  size_t workspace_bytes = 0;
  Check(resembed_forward_workspace_size(&args, &place, &workspace_bytes));
  HugeArray<char> workspace(static_cast<int64_t>(workspace_bytes));

  const MemoryTable limit_of = MemoryTableOf(c.table.rows, c.table.dim * ElementBytes(c.table.dtype));
  RefreshLimits(limit_of);
  // Pages and caches are warm before the first timed call.
  for (const Batch& batch : batches) {
    feature = &batch.feature;
    Check(resembed_forward(&args, workspace.data(), workspace_bytes, &place));
  }
  Timings fused;
  size_t number = 0;
  for (auto _ : state) {
    feature = &batches[number++ % kBatches].feature;
    fused.Time([&] { Check(resembed_forward(&args, workspace.data(), workspace_bytes, &place)); });
  }
  RefreshLimits(limit_of);

  const ForwardBytes logical = LogicalForward(batches[0].shape),
                     compulsory = CompulsoryForward(batches[0].shape);
  const double limit = Limits(limit_of).read_gbps, median = fused.Median();
  const double gbps = 1e-9 * static_cast<double>(logical.rows) / median;
  state.counters["bytes"] = static_cast<double>(logical.total);
  state.counters["GBps"] = gbps;
  state.counters["compulsory_GBps"] = 1e-9 * static_cast<double>(compulsory.rows) / median;
  state.counters["limit_GBps"] = limit;
  state.counters["limit_l2_GBps"] = Limits(limit_of).read_l2_gbps;
  state.counters["read_frac"] = gbps / limit;
  state.counters["read_frac_best"] = gbps / limit * median / fused.Best();
  state.counters["unique_frac"] = static_cast<double>(batches[0].shape.n_unique) / static_cast<double>(kIds);
  state.counters["items_per_s"] = static_cast<double>(kIds) / median;
  Timings fresh, kept;
  for (int run = 0; run < kPeerRuns; ++run) {
    Unfused peer(scenario, batches[static_cast<size_t>(run) % kBatches]);
    fresh.Time([&] { peer.Forward(output.data()); });
    kept.Time([&] { peer.Forward(output.data()); });
  }
  state.counters["vs_unfused"] = fresh.Median() / median;
  state.counters["vs_unfused_kept"] = kept.Median() / median;
  state.counters["unfused_GBps"] = 1e-9 * static_cast<double>(logical.rows) / fresh.Median();
}

void Register() {
  std::vector<ForwardCase> cases;
  const auto add = [&cases](TableSpec table, int64_t bag_length = 20) {
    cases.push_back({table, bag_length});
  };
  TableSpec main;
  add(main);
  for (const int64_t bag_length : {1, 5, 100}) add(main, bag_length);
  TableSpec spec = main;
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_ATTENTION, RESEMBED_CENTRAL_NONE}) {
    spec.form = form;
    add(spec);
  }
  spec.form = RESEMBED_CENTRAL_ASSIGNMENT;
  spec.centers = 10'000;
  add(spec);
  // What a caller loses whose tables lie on ordinary pages.
  spec = main;
  spec.pages = Pages::kSmall;
  add(spec);
  spec = main;
  for (const double alpha : {1.05, 1.15}) {
    spec.alpha = alpha;
    add(spec);
    for (const int64_t bag_length : {1, 100}) add(spec, bag_length);
  }
  spec = main;
  for (const resembed_dtype dtype : {RESEMBED_F16, RESEMBED_BF16}) {
    spec.dtype = dtype;
    add(spec);
  }
  spec = main;
  for (const int32_t k : {1, 3, 16}) {
    spec.k = k;
    add(spec);
  }
  spec = main;
  for (const int64_t dim : {16, 32, 128}) {
    spec.dim = dim;
    add(spec);
  }
  spec.dim = 256;
  spec.rows = 2'000'000;
  add(spec);
  spec.dim = 64;
  spec.rows = 10'000'000;
  add(spec);
  for (const ForwardCase& c : cases) {
    benchmark::RegisterBenchmark(Name(c).c_str(), [c](benchmark::State& state) { Forward(state, c); })
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
