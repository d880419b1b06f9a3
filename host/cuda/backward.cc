// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/backward.h"

#include <algorithm>

#include "host/cpu/bags.h"
#include "host/cuda/attention.h"
#include "host/cuda/device.h"
#include "host/cuda/forward.h"
#include "host/descriptor.h"

namespace resembed::detail::cuda {
namespace {

using kernels::BackwardParams;
using kernels::BackwardSource;

// Rows of a multiple of 16 floats begin at lines.
int64_t Padded(int64_t dim) { return (dim + 15) / 16 * 16; }

// Calls each(number of the source, feature index, source) for every feature of a table.
template <typename Each>
void ForSources(const BackwardCall& call, int32_t table, const Each& each) {
  const BackwardArgs& args = call.args;
  const PlanTable plan = call.plan.table(table);
  const int64_t dim = call.tables[table].dim;
  int32_t number = 0;
  for (int32_t index = 0; index < args.n_features; ++index) {
    if (call.plan.feature(index).table != table) continue;
    const resembed_feature feature = ReadFeature(args.features[index], dim);
    BackwardSource source = {};
    source.first_use = call.plan.feature(index).first_use;
    source.first_row = call.plan.feature(index).first_row;
    source.weights = feature.weights;
    source.n_ids = feature.n_ids;
    if (args.feature_grads[index] != nullptr) {
      const resembed_feature_grad grad = ReadDescriptor(args.feature_grads[index]);
      source.rows = static_cast<const char*>(grad.grad_output);
      source.dtype = grad.grad_output_dtype;
      source.pitch =
          (grad.grad_output_stride == 0 ? dim : grad.grad_output_stride) * ElementBytes(source.dtype);
      source.grad_weights = grad.grad_weights;
    }
    if (plan.divisor != nullptr && feature.pooling == RESEMBED_POOLING_MEAN) {
      source.divisor = plan.divisor + source.first_row;
    }
    if (feature.pooling == RESEMBED_POOLING_MAX) {
      source.argmax = feature.saved_argmax;
      source.offsets = feature.offsets;
      source.wide_offsets = feature.offset_dtype == RESEMBED_I64;
      source.bag_length = feature.bag_length;
    }
    if (feature.pooling == RESEMBED_POOLING_ATTENTION) {
      source.query = feature.query;
      source.query_stride = feature.query_stride;
    }
    each(number++, index, source);
  }
}

bool IsCompressed(const GradOut& out) {
  return out.rows != nullptr && out.layout == RESEMBED_GRAD_COMPRESSED;
}

// Max without saved positions: forward once more, into memory nobody reads but for them. Calls
// each(feature index, feature, its workspace) and takes the regions as it goes.
template <typename Each>
resembed_status ForRecomputed(const BackwardCall& call, const BackwardWork& work, Workspace* workspace,
                              const Each& each) {
  if (!work.request.items()) return RESEMBED_OK;
  const int64_t dim = call.tables[work.index].dim;
  for (int32_t index = 0; index < call.args.n_features; ++index) {
    if (call.plan.feature(index).table != work.index || call.args.feature_grads[index] == nullptr) continue;
    resembed_feature feature = ReadFeature(call.args.features[index], dim);
    if (feature.pooling != RESEMBED_POOLING_MAX || feature.saved_argmax != nullptr) continue;
    feature.output = workspace->Take<float>(feature.n_bags * dim);
    feature.output_stride = dim;
    feature.output_dtype = RESEMBED_F32;
    feature.saved_argmax = workspace->Take<int32_t>(feature.n_bags * dim);
    const resembed_feature* const features[] = {&feature};
    resembed_forward_args args = {};
    args.struct_size = sizeof(args);
    args.features = features;
    args.n_features = 1;
    args.bounds = RESEMBED_BOUNDS_SKIP;
    Workspace count(nullptr);
    CarveForward(args, call.tables, &count);
    char* const memory = workspace->Take<char>(static_cast<int64_t>(count.used()));
    RESEMBED_RETURN_IF_ERROR(each(index, args, memory));
  }
  return RESEMBED_OK;
}

void SetOptional(const resembed_table& table, const PlanTable& plan, const BackwardWork& work,
                 BackwardRegions* regions) {
  kernels::OptionalParams& out = regions->optional;
  const BackwardParams& params = regions->params;
  out.table = RowsOf(table);
  out.counts = params.counts;
  out.max_unique = params.max_unique;
  out.unique = params.unique;
  out.use_begin = params.use_begin;
  out.use = params.use;
  out.use_row = params.use_row;
  out.inverse = plan.inverse;
  out.n_uses = plan.n_uses;
  out.sources = params.sources;
  out.n_sources = params.n_sources;
  out.items = params.items;
  out.slot_bits = params.slot_bits;
  out.grad_stored = work.neighbor_weights;
}

}  // namespace

bool IsWideRow(const void* rows, int64_t pitch_bytes, resembed_dtype dtype) {
  const int64_t word = 4 * ElementBytes(dtype);
  return reinterpret_cast<uintptr_t>(rows) % static_cast<uintptr_t>(word) == 0 && pitch_bytes % word == 0;
}

BackwardRegions TakeBackward(const BackwardCall& call, const BackwardWork& work, Workspace* workspace) {
  const resembed_table table = call.tables[work.index];
  const PlanTable plan = call.plan.table(work.index);
  const int64_t dim = table.dim;
  BackwardRegions regions = {};
  BackwardParams& params = regions.params;
  params.counts = call.plan.counts(work.index);
  params.dim = dim;
  params.max_unique = plan.max_unique;
  params.unique = plan.items.rows;
  params.use_begin = plan.items.begin;
  params.use = plan.use;
  params.use_row = plan.use_row;
  params.use_chunks = plan.items.long_chunks;
  params.n_use_slots = MaxLongChunks(plan.n_uses);
  params.residual_row_of = table.residual_row_of;
  params.max_central = plan.max_unique_central;
  params.central = plan.central.rows;
  params.pair_begin = plan.central.begin;
  params.pair = plan.pair;
  params.pair_chunks = plan.central.long_chunks;
  params.n_pair_slots = plan.central.n_long_chunks;
  params.slot_bits = plan.slot_bits;
  params.n_neighbors = table.n_neighbors;

  bool wide = dim % 4 == 0, plain = true;
  ForSources(call, work.index, [&](int32_t, int32_t index, const BackwardSource& source) {
    ++params.n_sources;
    if (source.rows == nullptr) return;
    wide = wide && IsWideRow(source.rows, source.pitch, source.dtype);
    plain = plain && source.dtype == RESEMBED_F32 && source.query == nullptr &&
            ReadDescriptor(call.args.features[index]).pooling != RESEMBED_POOLING_MAX;
  });
  regions.sources = workspace->Take<BackwardSource>(params.n_sources);
  params.sources = regions.sources;

  const BackwardRequest& request = work.request;
  const bool keeps = IsCompressed(work.residual);
  const bool needs_items = request.central || request.neighbor_weights || (work.fused && request.residual);
  params.items = workspace->Take<kernels::ItemGrad>(needs_items ? plan.max_unique : 0);
  if (!needs_items) params.items = nullptr;
  params.item_stride = Padded(dim);
  params.item_rows = workspace->Take<float>(needs_items && !keeps ? plan.max_unique * params.item_stride : 0);
  if (!needs_items) params.item_rows = nullptr;
  if (keeps) {
    params.item_rows = work.residual.rows;
    params.item_stride = work.residual.stride;
    params.keeps_rows = true;
  } else if (work.residual.rows != nullptr) {
    params.dense = work.residual.rows;
    params.dense_stride = work.residual.stride;
    wide = wide && IsWideRow(params.dense, params.dense_stride * 4, RESEMBED_F32);
  }
  wide = wide && IsWideRow(params.item_rows, params.item_stride * 4, RESEMBED_F32);

  if (request.central) {
    if (table.form == RESEMBED_CENTRAL_UNIFORM) {
      params.weight = kernels::PairWeight::kUniform;
      regions.uniform_weight = workspace->Take<float>(plan.max_unique);
      params.pair_weight = regions.uniform_weight;
    } else if (table.form == RESEMBED_CENTRAL_STORED) {
      params.weight = kernels::PairWeight::kStored;
      params.stored = table.neighbor_weights;
      params.stored_stride = table.neighbor_weights_stride;
    } else if (table.form == RESEMBED_CENTRAL_ATTENTION) {
      const int64_t n_numbers = plan.max_unique << plan.slot_bits;
      params.weight = kernels::PairWeight::kByNumber;
      params.pair_weight = regions.optional.weight = workspace->Take<float>(n_numbers);
      params.slope = regions.optional.slope = workspace->Take<float>(n_numbers);
      params.query = regions.optional.query = workspace->Take<float>(plan.max_unique * dim);
      params.own = regions.optional.own = workspace->Take<float>(plan.max_unique * dim);
    }
  }
  params.partials =
      workspace->Take<float>(std::max(params.n_use_slots, request.central ? params.n_pair_slots : 0) * dim);
  const bool one_tile = dim <= kernels::kTileColumns;
  regions.items = {wide, plain, one_tile};
  if (work.fused && request.central) {
    params.central_stride = Padded(dim);
    params.central_rows = workspace->Take<float>(plan.max_unique_central * params.central_stride);
  } else if (work.central.rows != nullptr) {
    params.central_stride = work.central.stride;
    params.central_rows = work.central.rows;
    params.central_dense = work.central.layout == RESEMBED_GRAD_DENSE;
  }
  wide = wide && IsWideRow(params.central_rows, params.central_stride * 4, RESEMBED_F32);
  regions.central = {wide, plain && table.form != RESEMBED_CENTRAL_ATTENTION, one_tile};
  SetOptional(table, plan, work, &regions);
  regions.recompute = workspace->Take<char>(0);
  const resembed_status counted = ForRecomputed(
      call, work, workspace,
      [](int32_t, const resembed_forward_args&, void*) { return resembed_status{RESEMBED_OK}; });
  static_cast<void>(counted);
  regions.attention = workspace->Take<char>(0);
  const resembed_status scores = ForAttention(
      call, work, workspace, [](int32_t, const Attention&) { return resembed_status{RESEMBED_OK}; });
  static_cast<void>(scores);
  return regions;
}

void StoreSources(const BackwardCall& call, const BackwardWork& work, const BackwardRegions& regions,
                  DescriptorStore* store) {
  ForSources(call, work.index, [&](int32_t number, int32_t index, BackwardSource source) {
    if (source.rows != nullptr && source.argmax == nullptr) {
      Workspace again(regions.recompute);
      const resembed_status status = ForRecomputed(
          call, work, &again, [&](int32_t recomputed, const resembed_forward_args& args, void*) {
            if (recomputed == index) source.argmax = args.features[0]->saved_argmax;
            return resembed_status{RESEMBED_OK};
          });
      static_cast<void>(status);
    }
    if (source.rows != nullptr && source.query != nullptr) {
      Workspace scores(regions.attention);
      const resembed_status found =
          ForAttention(call, work, &scores, [&](int32_t attends, const Attention& one) {
            if (attends == index) {
              source.weights = one.p;
              source.score_grads = one.dz;
            }
            return resembed_status{RESEMBED_OK};
          });
      static_cast<void>(found);
    }
    store->Put(regions.sources + number, source);
  });
}

resembed_status RecomputePositions(const char* op, const BackwardCall& call, const BackwardWork& work,
                                   const BackwardRegions& regions) {
  Workspace again(regions.recompute);
  return ForRecomputed(call, work, &again, [&](int32_t, const resembed_forward_args& args, void* memory) {
    return Forward(op, args, call.tables, memory, call.place);
  });
}

}  // namespace resembed::detail::cuda
