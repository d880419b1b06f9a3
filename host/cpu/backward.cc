// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/backward.h"

#include <atomic>

#include "host/cpu/backward_runs.h"
#include "host/cpu/bags.h"
#include "host/cpu/forward.h"
#include "host/cpu/item_stream.h"
#include "host/descriptor.h"

namespace resembed::detail {
namespace {

// Unique items as positions of an ItemStream.
struct UniqueItems {
  const int32_t* items;
  int64_t operator()(int64_t run) const { return items[run]; }
};

int64_t PairNumbers(const PlanTable& plan) { return plan.max_unique << plan.slot_bits; }

}  // namespace

float* TableBackward::TaskScratch(int64_t task) const {
  return scratch + task * kScratchRows * PaddedDim(table.dim);
}

const GradSource& TableBackward::SourceOfUse(int64_t use) const {
  int32_t low = 0, high = n_sources - 1;
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    if (sources[middle].first_use <= use) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return sources[low];
}

TableBackward TakeBackward(const BackwardArgs& args, int32_t table, const BackwardRequest& request,
                           const resembed_place& place, Workspace* workspace) {
  TableBackward work = {};
  work.table = (*args.tables)[table];
  work.plan = args.plan->table(table);
  work.request = request;
  work.row_ops = &GetRowOps(place.isa);
  work.step_ops = &GetStepOps(place.isa);
  const PlanTable& plan = work.plan;
  const int64_t dim = work.table.dim;

  for (int32_t index = 0; index < args.n_features; ++index)
    work.n_sources += TableOf(args.features[index]) == table;
  work.sources = workspace->Take<GradSource>(work.n_sources);
  int32_t next = 0;
  bool any_attention = false;
  for (int32_t index = 0; index < args.n_features; ++index) {
    if (TableOf(args.features[index]) != table) continue;
    GradSource source = {};
    source.feature = ReadFeature(args.features[index], dim);
    const PlanFeature& place_of = args.plan->feature(index);
    source.first_use = place_of.first_use;
    source.first_row = place_of.first_row;
    source.weights = source.feature.weights;
    if (args.feature_grads[index] != nullptr) {
      const resembed_feature_grad grad = ReadDescriptor(args.feature_grads[index]);
      source.rows = static_cast<const char*>(grad.grad_output);
      source.dtype = grad.grad_output_dtype;
      source.pitch =
          (grad.grad_output_stride == 0 ? dim : grad.grad_output_stride) * ElementBytes(source.dtype);
      source.grad_weights = grad.grad_weights;
    }
    if (plan.divisor != nullptr && source.feature.pooling == RESEMBED_POOLING_MEAN) {
      source.divisor = plan.divisor + source.first_row;
    }
    any_attention = any_attention || source.feature.pooling == RESEMBED_POOLING_ATTENTION;
    if (source.feature.pooling == RESEMBED_POOLING_MAX) {
      source.argmax = source.feature.saved_argmax;
      work.any_max = true;
    }
    if (work.sources != nullptr) work.sources[next++] = source;
  }

  const bool items = request.items();
  const bool asks = work.table.form == RESEMBED_CENTRAL_ATTENTION;
  work.items = workspace->Take<ItemGrad>(items ? plan.max_unique : 0);
  if (items && any_attention) work.queries = workspace->Take<ScaledRow>(plan.max_unique);
  work.item_stride = PaddedDim(dim);
  work.item_rows =
      workspace->Take<float>(items && !request.keeps_item_rows ? plan.max_unique * work.item_stride : 0);
  if (request.central) {
    if (work.table.form == RESEMBED_CENTRAL_UNIFORM)
      work.pair_weight = workspace->Take<float>(plan.max_unique);
    if (work.table.form == RESEMBED_CENTRAL_STORED || asks) {
      work.pair_weight = workspace->Take<float>(PairNumbers(plan));
    }
    if (asks) {
      work.pair_slope = workspace->Take<float>(PairNumbers(plan));
      work.query = workspace->Take<float>(plan.max_unique * dim);
      work.own = workspace->Take<float>(plan.max_unique * dim);
    }
  }
  const int64_t max_chunks = std::max(items ? MaxLongChunks(plan.n_uses) : 0,
                                      request.central ? MaxLongChunks(plan.max_unique << plan.slot_bits) : 0);
  work.partials = workspace->Take<float>(max_chunks * dim);
  work.scratch = workspace->Take<float>(kMaxTasks * TableBackward::kScratchRows * PaddedDim(dim));
  return work;
}

void RecomputeArgmax(const BackwardArgs& args, int32_t table, TableBackward* work,
                     const resembed_place& place, Workspace* workspace) {
  if (!work->request.items()) return;
  const Executor executor(place);
  int32_t number = -1;  // of the source
  for (int32_t index = 0; index < args.n_features; ++index) {
    if (TableOf(args.features[index]) != table) continue;
    ++number;
    if (args.feature_grads[index] == nullptr) continue;
    resembed_feature feature = ReadFeature(args.features[index], work->table.dim);
    if (feature.pooling != RESEMBED_POOLING_MAX || feature.saved_argmax != nullptr) continue;
    // The forward pass once more, into memory nobody reads but for the positions.
    feature.output = workspace->Take<float>(feature.n_bags * work->table.dim);
    feature.output_stride = work->table.dim;
    feature.output_dtype = RESEMBED_F32;
    feature.saved_argmax = workspace->Take<int32_t>(feature.n_bags * work->table.dim);
    const resembed_feature* const features[] = {&feature};
    const cpu::ForwardWork forward = cpu::CarveForward(features, 1, *args.tables, workspace);
    if (work->sources == nullptr) continue;
    cpu::Forward(forward, *work->row_ops, executor);
    work->sources[number].argmax = feature.saved_argmax;
  }
}

void SampleWeightGradients(const TableBackward& work, const Executor& executor) {
  if (!work.request.sample_weights) return;
  const int64_t dim = work.table.dim;
  for (int32_t number = 0; number < work.n_sources; ++number) {
    const GradSource& source = work.sources[number];
    if (source.grad_weights == nullptr) continue;
    const int64_t n_tasks = TaskCount(executor, source.feature.n_ids, kUnitsPerTask);
    executor.ParallelFor(n_tasks, [&](int64_t task) {
      const TaskRange range = RangeOfTask(source.feature.n_ids, n_tasks, task);
      for (int64_t position = range.first; position < range.last; ++position) {
        if (work.plan.inverse[source.first_use + position] < 0) source.grad_weights[position] = 0.0f;
      }
    });
  }
  // Tasks take stretches of the ordering; an item is composed once in each stretch it appears in.
  const PlanRuns& runs = work.plan.items;
  const int64_t n_uses = runs.begin[runs.n_runs];
  const int64_t n_tasks = TaskCount(executor, n_uses, kUnitsPerTask);
  executor.ParallelFor(n_tasks, [&](int64_t task) {
    const TaskRange range = RangeOfTask(n_uses, n_tasks, task);
    if (range.first == range.last) return;
    const int64_t first_run =
        std::upper_bound(runs.begin, runs.begin + runs.n_runs, range.first) - runs.begin - 1;
    const int64_t last_run = std::lower_bound(runs.begin, runs.begin + runs.n_runs, range.last) - runs.begin;
    float* const item = work.TaskScratch(task);
    ItemStream<UniqueItems> stream(work.table, *work.row_ops, {runs.rows}, first_run, last_run);
    for (int64_t run = first_run; run < last_run; ++run) {
      work.row_ops->compose(item, *stream.Next(), dim);
      const int64_t last = std::min<int64_t>(runs.begin[run + 1], range.last);
      for (int64_t at = std::max<int64_t>(runs.begin[run], range.first); at < last; ++at) {
        const int64_t use = work.plan.use[at];
        const GradSource& source = work.SourceOfUse(use);
        if (source.grad_weights == nullptr) continue;
        const int64_t row = work.plan.use_row[at] - source.first_row;
        float value =
            work.row_ops->dot(source.rows + row * source.pitch, source.dtype, item, RESEMBED_F32, dim);
        if (source.divisor != nullptr) value = value / source.divisor[row];
        source.grad_weights[use - source.first_use] = value;
      }
    }
  });
}

bool CanUpdateRuns(const TableBackward& work, const MatrixUpdate& update) {
  if (!update.plain || !HasUpdateRuns(work.table.dim) || work.any_max) return false;
  for (int32_t number = 0; number < work.n_sources; ++number) {
    if (work.sources[number].rows == nullptr && work.sources[number].feature.n_ids > 0) return false;
    if (work.sources[number].rows != nullptr && work.sources[number].dtype != RESEMBED_F32) return false;
  }
  return true;
}

void UpdateRunsInRegisters(const TableBackward& work, const PlanRuns& runs, const uint32_t* pair,
                           const MatrixUpdate& update, const Executor& executor) {
  const struct Context {
    const TableBackward& work;
    const PlanRuns& runs;
  } context = {work, runs};
  RunUpdates all = {};
  all.rows = runs.rows;
  all.begin = runs.begin;
  all.pair = pair;
  all.slot_bits = work.plan.slot_bits;
  all.weight_shift = work.table.form == RESEMBED_CENTRAL_UNIFORM ? work.plan.slot_bits : 0;
  all.items = work.items;
  all.queries = work.queries;
  all.weights = pair == nullptr ? nullptr : work.pair_weight;
  all.rule = &update.rule;
  all.dim = work.table.dim;
  all.row_of = update.row_of;
  all.table = update.rows;
  all.state1 = update.state1;
  all.state2 = update.state2;
  all.pitch = update.row_pitch;
  all.state1_pitch = update.state1_pitch;
  all.state2_pitch = update.state2_pitch;
  all.state1_bytes = update.state1_dim * static_cast<int64_t>(sizeof(float));
  all.state2_bytes = update.state2_dim * static_cast<int64_t>(sizeof(float));
  all.max_terms = kSumBlock;
  all.context = &context;
  all.long_run = [](const void* given, int64_t run, float* g) {
    const auto& self = *static_cast<const Context*>(given);
    MeetLongRun(self.work, self.runs, run, g);
  };
  const RunCuts cuts(runs, executor);
  std::atomic<int64_t> skipped{0};
  executor.ParallelFor(cuts.n_tasks, [&](int64_t task) {
    RunUpdates mine = all;
    mine.g = work.TaskScratch(task);
    skipped.fetch_add(work.step_ops->update_runs(mine, cuts.First(task), cuts.First(task + 1)),
                      std::memory_order_relaxed);
  });
  if (update.n_skipped != nullptr) *update.n_skipped += skipped.load();
}

void StartGradient(const GradOut& out, const PlanRuns& runs, int64_t n_rows, int64_t dim,
                   const Executor& executor) {
  if (out.layout == RESEMBED_GRAD_DENSE) {
    const int64_t n_tasks = TaskCount(executor, n_rows, kUnitsPerTask);
    executor.ParallelFor(n_tasks, [&](int64_t task) {
      const TaskRange range = RangeOfTask(n_rows, n_tasks, task);
      for (int64_t row = range.first; row < range.last; ++row) Zero(out.rows + row * out.stride, dim);
    });
    return;
  }
  for (int64_t run = 0; run < runs.n_runs; ++run) out.row_ids[run] = runs.rows[run];
  *out.n_rows = runs.n_runs;
}

}  // namespace resembed::detail
