// SPDX-License-Identifier: Apache-2.0
// Attention pooling in one pass against composing the items first and attending to them in loops. Both in turns over
// the same batches, so that what else runs on the machine meets both.
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/composed.h"
#include "bench/support/main.h"
#include "bench/support/scenario.h"
#include "bench/support/updater.h"

namespace resembed::bench {
namespace {

constexpr int64_t kBags = 2048, kLength = 200;
constexpr int kBatches = 2;

struct AttentionCase {
  TableSpec table;
  bool step;  // plan, gradients and one step of row-wise Adagrad as well
};

std::string Name(const AttentionCase& c) {
  char zipf[16];
  std::snprintf(zipf, sizeof(zipf), "%g", c.table.alpha);
  std::string name = std::string(c.step ? "BM_AttentionStep" : "BM_AttentionForward") + "/" +
                     DtypeName(c.table.dtype) + "_i32/form:" + FormName(c.table.form) +
                     "/dim:" + std::to_string(c.table.dim) + "/bag:" + std::to_string(kLength) +
                     "/zipf:" + zipf + "/rows:" + CountName(c.table.rows);
  if (c.table.form == RESEMBED_CENTRAL_ASSIGNMENT) return name + "/centers:" + CountName(c.table.centers);
  return c.table.form == RESEMBED_CENTRAL_NONE ? name : name + "/k:" + std::to_string(c.table.k);
}

// CPU time of all threads: what a busy machine leaves alone.
double CpuSeconds() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// One way of doing it: wall and CPU times of its calls.
struct Way {
  Timings wall;
  std::vector<double> cpu;
  template <typename Body>
  double Time(const Body& body) {
    const double start = CpuSeconds();
    const double seconds = wall.Time(body);
    cpu.push_back(CpuSeconds() - start);
    return seconds;
  }
};

double MedianOf(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of pairs of neighboring calls.
double MedianRatio(const std::vector<double>& over, const std::vector<double>& under) {
  std::vector<double> ratios;
  for (size_t at = 0; at < over.size(); ++at) ratios.push_back(over[at] / under[at]);
  return MedianOf(std::move(ratios));
}

class Fused {
 public:
  Fused(const Scenario& scenario, const std::vector<Batch>& batches, const HugeArray<float>& query)
      : scenario_(scenario), saved_(batches[0].shape.n_ids), output_(kBags * batches[0].shape.dim) {
    for (const Batch& batch : batches) {
      features_.push_back(batch.feature);
      resembed_feature& feature = features_.back();
      feature.pooling = RESEMBED_POOLING_ATTENTION;
      feature.query = query.data();
      feature.output = output_.data();
      feature.saved_attention = saved_.data();
    }
    Args args(*this, 0);
    Check(resembed_forward_workspace_size(&args.args, &place_, &bytes_));
    workspace_ = HugeArray<char>(static_cast<int64_t>(bytes_));
  }
  void Forward(size_t batch) {
    Args args(*this, batch);
    Check(resembed_forward(&args.args, workspace_.data(), bytes_, &place_));
  }
  const resembed_feature* feature(size_t batch) const { return &features_[batch]; }

 private:
  struct Args {
    Args(const Fused& of, size_t batch) : feature(&of.features_[batch]) {
      args.struct_size = sizeof(args);
      args.tables = &of.scenario_.tables();
      args.features = &feature;
      args.n_features = 1;
    }
    const resembed_feature* feature;
    resembed_forward_args args = {};
  };
  const Scenario& scenario_;
  const resembed_place place_ = CpuPlace();
  HugeArray<float> saved_, output_;
  std::vector<resembed_feature> features_;
  HugeArray<char> workspace_;
  size_t bytes_ = 0;
};

void Attention(benchmark::State& state, const AttentionCase& c) {
  const Scenario& scenario = GetScenario(c.table);
  const IdSource source(c.table.rows, c.table.alpha, 3);
  std::vector<Batch> batches;
  for (uint64_t stream = 0; stream < kBatches; ++stream) {
    batches.push_back(MakeBatch(scenario, source, kBags, kLength, stream));
  }
  const BatchShape& shape = batches[0].shape;
  const HugeArray<float> query = OutputGradients(kBags * c.table.dim),
                         grad = OutputGradients(kBags * c.table.dim);
  HugeArray<float> y(kBags * c.table.dim), dq(kBags * c.table.dim), composed_dq(kBags * c.table.dim);
  Fused fused(scenario, batches, query);
  ComposedAttention composed(scenario, shape);

  const bool central = c.table.form != RESEMBED_CENTRAL_NONE;
  const int64_t central_rows = central ? scenario.table().central_rows : 1;
  Part residual_part(RESEMBED_ROWWISE_ADAGRAD, c.step ? c.table.rows : 1, c.table.dim),
      central_part(RESEMBED_ROWWISE_ADAGRAD, c.step ? central_rows : 1, c.table.dim);
  std::vector<resembed_feature> sequences;
  for (const Batch& batch : batches) sequences.push_back(composed.Sequence(batch));
  std::unique_ptr<Updater> updater, composed_updater;
  if (c.step) {
    resembed_feature_grad query_grad = GradOf(grad.data());
    query_grad.grad_query = dq.data();
    Part* const center = central ? &central_part : nullptr;
    updater =
        std::make_unique<Updater>(scenario.tables(), fused.feature(0), query_grad, &residual_part, center);
    composed_updater = std::make_unique<Updater>(scenario.tables(), &sequences[0],
                                                 GradOf(composed.item_grads()), &residual_part, center);
  }
  const auto run_fused = [&](size_t batch) {
    fused.Forward(batch);
    if (!c.step) return;
    updater->Plan(fused.feature(batch));
    updater->Step();
  };
  const auto run_composed = [&](size_t batch) {
    composed.Forward(batches[batch], query.data(), y.data());
    if (!c.step) return;
    composed.Backward(query.data(), grad.data(), composed_dq.data());
    composed_updater->Plan(&sequences[batch]);
    composed_updater->Step();
  };
  const MemoryTable limit_of = MemoryTableOf(c.table.rows, c.table.dim * ElementBytes(c.table.dtype));
  RefreshLimits(limit_of);
  // Pages and caches are warm before the first timed call.
  for (size_t batch = 0; batch < kBatches; ++batch) {
    run_fused(batch);
    run_composed(batch);
  }
  Way one_pass, two_passes;
  size_t number = 0;
  for (auto _ : state) {
    const size_t batch = number++ % kBatches;
    state.SetIterationTime(one_pass.Time([&] { run_fused(batch); }));
    two_passes.Time([&] { run_composed(batch); });
  }
  RefreshLimits(limit_of);

  const double median = one_pass.wall.Median();
  state.counters["fused_ms"] = 1e3 * median;
  state.counters["composed_ms"] = 1e3 * two_passes.wall.Median();
  state.counters["fused_cpu_ms"] = 1e3 * MedianOf(one_pass.cpu);
  state.counters["composed_cpu_ms"] = 1e3 * MedianOf(two_passes.cpu);
  state.counters["vs_composed"] = two_passes.wall.Median() / median;
  state.counters["vs_composed_best"] = two_passes.wall.Best() / one_pass.wall.Best();
  state.counters["vs_composed_cpu"] = MedianRatio(two_passes.cpu, one_pass.cpu);
  state.counters["unique_frac"] = static_cast<double>(shape.n_unique) / static_cast<double>(shape.n_ids);
  state.counters["items_per_s"] = static_cast<double>(shape.n_ids) / median;
  const ForwardBytes logical = LogicalForward(shape);
  if (c.step) {
    const auto bytes = static_cast<double>(CompulsoryUpdate(shape, StateOf(RESEMBED_ROWWISE_ADAGRAD)));
    state.counters["bytes"] = bytes + 2 * static_cast<double>(logical.rows);
    return;
  }
  const double limit = Limits(limit_of).read_gbps, gbps = 1e-9 * static_cast<double>(logical.rows) / median;
  state.counters["bytes"] = static_cast<double>(logical.total);
  state.counters["GBps"] = gbps;
  state.counters["limit_GBps"] = limit;
  state.counters["read_frac"] = gbps / limit;
  state.counters["read_frac_best"] = gbps / limit * median / one_pass.wall.Best();
}

void Register() {
  for (const bool step : {false, true}) {
    for (const resembed_central_form form :
         {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_STORED}) {
      for (const double alpha : {0.0, 1.05}) {
        AttentionCase c = {TableSpec(), step};
        c.table.form = form;
        c.table.alpha = alpha;
        if (form == RESEMBED_CENTRAL_ASSIGNMENT) c.table.centers = 10'000;
        if (form == RESEMBED_CENTRAL_STORED) c.table.rows = 1'000'000;
        benchmark::RegisterBenchmark(Name(c).c_str(), [c](benchmark::State& state) { Attention(state, c); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

}  // namespace
}  // namespace resembed::bench

int main(int argc, char** argv) {
  resembed::bench::Register();
  return resembed::bench::RunMain(argc, argv);
}
