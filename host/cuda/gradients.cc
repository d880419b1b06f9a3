// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/gradients.h"

#include <algorithm>

#include "host/cuda/attention.h"
#include "host/cuda/device.h"
#include "host/cuda/launch_tables.h"
#include "host/cuda/step.h"
#include "host/descriptor.h"

namespace resembed::detail::cuda {
namespace {

using kernels::BackwardParams;
using kernels::BackwardPass;
using kernels::BlocksFor;
using kernels::kLanes;

// The tables of one batch. Within it R and C are read before they are updated: all updates come last.
class GradientBatch {
 public:
  // Takes the arrays of descriptors.
  GradientBatch(const GradientTask& task, Workspace* workspace, const kernels::Grid& grid)
      : task_(task), call_(*task.call), grid_(grid), store_(StreamOf(call_.place)) {
    const int32_t n_tables = call_.tables.size();
    for (EntryList<BackwardParams>& tables : tables_) tables = {workspace, n_tables};
    optional_ = {workspace, n_tables};
    uniform_ = {workspace, n_tables};
    ids_ = {workspace, 2 * n_tables};
    fills_ = {workspace, 2 * n_tables};
    if (task.steps != nullptr) updates_ = UpdateBatch(workspace, n_tables);
  }

  // The table's kernels get what TakeBackward laid out; rules: of its step, or null.
  resembed_status Add(const BackwardWork& work, const BackwardRegions& regions,
                      kernels::ResolvedRule* rules) {
    const BackwardRequest& request = work.request;
    StoreSources(call_, work, regions, &store_);
    AddOptional(work, regions);
    RESEMBED_RETURN_IF_ERROR(AttentionGradients(task_.op, call_, work, regions));
    if (!request.items()) return RESEMBED_OK;
    RESEMBED_RETURN_IF_ERROR(RecomputePositions(task_.op, call_, work, regions));
    AddSums(work, regions);
    const resembed_table table = call_.tables[work.index];
    if (!work.fused && request.residual) AddOutput(regions.params, work.residual, false, table.residual_rows);
    if (!work.fused && request.central) AddOutput(regions.params, work.central, true, table.central_rows);
    if (task_.steps != nullptr) {
      const TableStep step(task_.steps[work.index], table, rules);
      step.AddRules(&updates_, &store_);
      step.AddFused(Part::kResidual, regions, grid_, &updates_, &store_);
      step.AddFused(Part::kCentral, regions, grid_, &updates_, &store_);
    }
    return RESEMBED_OK;
  }

  resembed_status Launch() {
    const cudaStream_t stream = StreamOf(call_.place);
    RESEMBED_RETURN_IF_ERROR(Check("StoreKernel", store_.Finish()));
    RESEMBED_RETURN_IF_ERROR(updates_.Resolve(task_.op, stream));
    RESEMBED_RETURN_IF_ERROR(Optional("ZeroUnusedKernel", kernels::kZeroUnused));
    RESEMBED_RETURN_IF_ERROR(Optional("SampleWeightsKernel", kernels::kSampleWeights));
    RESEMBED_RETURN_IF_ERROR(Check("GradIdsKernel", kernels::LaunchGradIds(ids_.Of(), grid_, stream)));
    RESEMBED_RETURN_IF_ERROR(Check("DenseFillKernel", kernels::LaunchDenseFill(fills_.Of(), grid_, stream)));
    RESEMBED_RETURN_IF_ERROR(Sums("ChunksKernel", BackwardPass::kUseChunks));
    RESEMBED_RETURN_IF_ERROR(Sums("ItemsKernel", BackwardPass::kItems));
    RESEMBED_RETURN_IF_ERROR(Optional("StoredWeightsKernel", kernels::kStoredWeights));
    RESEMBED_RETURN_IF_ERROR(Optional("PrepareAttentionKernel", kernels::kPrepareAttention));
    RESEMBED_RETURN_IF_ERROR(
        Check("UniformWeightsKernel", kernels::LaunchUniformWeights(uniform_.Of(), grid_, stream)));
    RESEMBED_RETURN_IF_ERROR(Sums("ChunksKernel", BackwardPass::kPairChunks));
    RESEMBED_RETURN_IF_ERROR(Sums("CentralKernel", BackwardPass::kCentral));
    RESEMBED_RETURN_IF_ERROR(updates_.Update(task_.op, grid_, stream));
    for (EntryList<BackwardParams>& tables : tables_) tables.Clear();
    optional_.Clear();
    uniform_.Clear();
    ids_.Clear();
    fills_.Clear();
    updates_.Clear();
    return RESEMBED_OK;
  }

 private:
  resembed_status Check(const char* kernel, cudaError_t error) const {
    if (error == cudaSuccess) return RESEMBED_OK;
    return LaunchFailure(task_.op, kernel, grid_.blocks, grid_.threads, error);
  }
  resembed_status Optional(const char* kernel, kernels::OptionalPass pass) const {
    return Check(kernel, kernels::LaunchOptional(optional_.Of(pass), grid_, StreamOf(call_.place)));
  }
  // A launch for each variant that some table has.
  resembed_status Sums(const char* kernel, BackwardPass pass) const {
    for (const bool plain : {false, true}) {
      for (const bool wide : {false, true}) {
        for (const bool one_tile : {false, true}) {
          const kernels::BackwardVariant variant = {wide, plain, one_tile};
          const auto batch = tables_[variant.Number()].Of(static_cast<int32_t>(pass));
          RESEMBED_RETURN_IF_ERROR(Check(
              kernel, kBackwardLaunches[plain][wide](pass, batch, one_tile, grid_, StreamOf(call_.place))));
        }
      }
    }
    return RESEMBED_OK;
  }

  // Both levels under one entry where they have one variant.
  void AddSums(const BackwardWork& work, const BackwardRegions& regions) {
    const BackwardParams& params = regions.params;
    const auto blocks = [&](const kernels::BackwardVariant& variant, int64_t n) {
      return kernels::BackwardBlocks(variant, n, params.dim, grid_);
    };
    const int64_t use_chunks = blocks(regions.items, params.n_use_slots);
    const int64_t items = blocks(regions.items, params.max_unique);
    const int64_t pair_chunks = work.request.central ? blocks(regions.central, params.n_pair_slots) : 0;
    const int64_t central = work.request.central ? blocks(regions.central, params.max_central) : 0;
    EntryList<BackwardParams>& first = tables_[regions.items.Number()];
    EntryList<BackwardParams>& second = tables_[regions.central.Number()];
    if (&first == &second) {
      first.Add(params, {use_chunks, items, pair_chunks, central}, &store_);
      return;
    }
    first.Add(params, {use_chunks, items, 0, 0}, &store_);
    if (work.request.central) second.Add(params, {0, 0, pair_chunks, central}, &store_);
  }

  void AddOptional(const BackwardWork& work, const BackwardRegions& regions) {
    const kernels::OptionalParams& params = regions.optional;
    const resembed_table table = call_.tables[work.index];
    const int64_t n_uses = work.request.sample_weights ? params.n_uses : 0;
    const int64_t n_stored = work.request.neighbor_weights ? params.max_unique : 0;
    const bool attends = work.request.central && table.form == RESEMBED_CENTRAL_ATTENTION;
    const int64_t n_attention = attends ? params.max_unique : 0;
    if (n_uses + n_stored + n_attention > 0) {
      optional_.Add(params,
                    {BlocksFor(n_uses, grid_), BlocksFor(n_uses * kLanes, grid_),
                     BlocksFor(n_stored * kLanes, grid_), BlocksFor(n_attention * kLanes, grid_)},
                    &store_);
    }
    if (regions.uniform_weight == nullptr) return;
    kernels::UniformWeights weights = {};
    weights.counts = params.counts;
    weights.unique = params.unique;
    weights.max_unique = params.max_unique;
    weights.neighbors = table.neighbors;
    weights.neighbors_stride = table.neighbors_stride;
    weights.n_neighbors = table.n_neighbors;
    weights.weight = regions.uniform_weight;
    uniform_.Add(weights, {BlocksFor(params.max_unique, grid_)}, &store_);
  }

  // Ids and count of a compressed gradient, or the fill of a dense one.
  void AddOutput(const BackwardParams& params, const GradOut& out, bool central, int64_t table_rows) {
    if (out.layout == RESEMBED_GRAD_DENSE) {
      const kernels::DenseFill fill = {params.counts, out.rows, table_rows, params.dim, out.stride, {}};
      fills_.Add(fill, {BlocksFor(table_rows * params.dim, grid_)}, &store_);
      return;
    }
    kernels::GradIds ids = {};
    ids.counts = params.counts;
    ids.rows = central ? params.central : params.unique;
    ids.max_rows = central ? params.max_central : params.max_unique;
    ids.central = central;
    ids.row_ids = out.row_ids;
    ids.n_rows = out.n_rows;
    ids_.Add(ids, {BlocksFor(std::max<int64_t>(ids.max_rows, 1), grid_)}, &store_);
  }

  const GradientTask& task_;
  const BackwardCall& call_;
  const kernels::Grid& grid_;
  DescriptorStore store_;
  EntryList<BackwardParams> tables_[kernels::kBackwardVariants];
  EntryList<kernels::OptionalParams> optional_;
  EntryList<kernels::UniformWeights> uniform_;
  EntryList<kernels::GradIds> ids_;
  EntryList<kernels::DenseFill> fills_;
  UpdateBatch updates_;
};

// Calls each(work, regions, rules, whether a batch ends before this table) for every table that is asked for
// something; returns the bytes of the workspace. memory null: counts.
template <typename Each>
resembed_status ForTables(const GradientTask& task, char* memory, size_t front, int64_t batch_bytes,
                          size_t* bytes, const Each& each) {
  size_t used = front;
  *bytes = front;
  for (int32_t index = 0; index < task.call->tables.size(); ++index) {
    const BackwardWork work = task.work(index);
    if (!work.request.any()) continue;
    const auto take = [&](BackwardRegions* regions, kernels::ResolvedRule** rules) {
      Workspace carve(memory == nullptr ? nullptr : memory + used);
      *regions = TakeBackward(*task.call, work, &carve);
      *rules = task.steps != nullptr ? TakeRules(&carve) : nullptr;
      return carve.used();
    };
    BackwardRegions regions;
    kernels::ResolvedRule* rules;
    size_t taken = take(&regions, &rules);
    const bool ends = used > front && used - front + taken > static_cast<size_t>(batch_bytes);
    if (ends) {
      used = front;
      taken = take(&regions, &rules);
    }
    used += taken;
    *bytes = std::max(*bytes, used);
    RESEMBED_RETURN_IF_ERROR(each(work, regions, rules, ends));
  }
  return RESEMBED_OK;
}

}  // namespace

size_t GradientBytes(const GradientTask& task, int64_t batch_bytes) {
  const kernels::Grid grid;
  Workspace front(nullptr);
  const GradientBatch arrays(task, &front, grid);
  size_t bytes = 0;
  const resembed_status counted =
      ForTables(task, nullptr, front.used(), batch_bytes, &bytes,
                [](const BackwardWork&, const BackwardRegions&, kernels::ResolvedRule*, bool) {
                  return resembed_status{RESEMBED_OK};
                });
  static_cast<void>(counted);
  return bytes;
}

resembed_status RunGradients(const GradientTask& task, void* workspace, const kernels::Grid& grid,
                             int64_t batch_bytes) {
  Workspace front(workspace);
  GradientBatch batch(task, &front, grid);
  size_t bytes = 0;
  RESEMBED_RETURN_IF_ERROR(ForTables(task, static_cast<char*>(workspace), front.used(), batch_bytes, &bytes,
                                     [&batch](const BackwardWork& work, const BackwardRegions& regions,
                                              kernels::ResolvedRule* rules, bool ends) -> resembed_status {
                                       if (ends) RESEMBED_RETURN_IF_ERROR(batch.Launch());
                                       return batch.Add(work, regions, rules);
                                     }));
  RESEMBED_RETURN_IF_ERROR(batch.Launch());
  return FinishLaunches(task.op, StreamOf(task.call->place));
}

}  // namespace resembed::detail::cuda
