// SPDX-License-Identifier: Apache-2.0
#include "host/cuda/forward.h"

#include <algorithm>
#include <cstring>

#include "host/cpu/row_ops.h"
#include "host/cuda/attention.h"
#include "host/cuda/device.h"
#include "host/cuda/launch_tables.h"
#include "host/descriptor.h"

namespace resembed::detail::cuda {
namespace {

using kernels::ForwardFeature;
using kernels::ForwardKind;
using kernels::ForwardParams;
using kernels::LaunchShape;

enum class Pass { kBags, kLongBlocks, kMeet };

bool MayHaveLongBags(const resembed_feature& feature) {
  if (feature.pooling == RESEMBED_POOLING_NONE) return false;
  return (feature.offsets != nullptr ? feature.n_ids : feature.bag_length) > kernels::kLongBag;
}

// Rows that can be read, or written, 16 bytes at a time; a part that is not there can.
bool IsWide(const void* rows, int64_t stride, resembed_dtype dtype) {
  return rows == nullptr ||
         (reinterpret_cast<uintptr_t>(rows) % 16 == 0 && stride * ElementBytes(dtype) % 16 == 0);
}

// A kernel and the features it serves in one launch.
struct Choice {
  resembed_dtype central, residual;
  kernels::ForwardVariant variant;
  int Number() const {
    const int types = central * 3 + residual;
    return ((types * 3 + static_cast<int>(variant.kind)) * 2 + variant.list) * 2 + variant.wide;
  }
};
constexpr int kChoices = 9 * 3 * 2 * 2;

Choice ChooseKernel(const resembed_table& table, const resembed_feature& feature) {
  Choice choice = {};
  choice.central = table.central_dtype;
  choice.residual = table.residual_dtype;
  choice.variant.kind = kForwardKinds[feature.pooling];
  choice.variant.list = kReadsLists[table.form];
  choice.variant.wide = table.dim % kernels::WideColumns(choice.central, choice.residual) == 0 &&
                        IsWide(table.central, table.central_stride, table.central_dtype) &&
                        IsWide(table.residual, table.residual_stride, table.residual_dtype);
  return choice;
}

// Lanes that share a tile of columns, as a power of two: no more than the row needs. Attention takes the dot
// product of a whole warp.
void CutColumns(const Choice& choice, ForwardFeature* feature) {
  const int64_t columns = choice.variant.wide ? kernels::WideColumns(choice.central, choice.residual) : 1;
  const int64_t packs = (feature->dim + columns - 1) / columns;
  feature->lane_bits = kernels::kLeastLaneBits;
  while (feature->lane_bits < 5 &&
         ((int64_t{1} << feature->lane_bits) < packs || feature->form == RESEMBED_CENTRAL_ATTENTION)) {
    ++feature->lane_bits;
  }
  feature->n_tiles = (packs + (int64_t{1} << feature->lane_bits) - 1) >> feature->lane_bits;
}

ForwardFeature Resolve(const resembed_table& table, const resembed_feature& feature, const Choice& choice) {
  ForwardFeature out = ResolveTable(table);
  out.ids = feature.ids;
  out.offsets = feature.offsets;
  out.weights = feature.weights;
  out.output = feature.output;
  out.saved_argmax = feature.saved_argmax;
  out.n_ids = feature.n_ids;
  out.n_bags = feature.n_bags;
  out.bag_length = feature.bag_length;
  out.padding_id = feature.padding_id;
  out.output_stride = feature.output_stride;
  const bool attends = feature.pooling == RESEMBED_POOLING_ATTENTION;  // a sum with weights of its own
  out.pooling = static_cast<int8_t>(attends ? RESEMBED_POOLING_SUM : feature.pooling);
  out.output_dtype = static_cast<int8_t>(feature.output_dtype);
  out.wide_ids = feature.id_dtype == RESEMBED_I64;
  out.wide_offsets = feature.offset_dtype == RESEMBED_I64;
  out.has_padding = feature.has_padding != 0;
  out.wide_output = IsWide(feature.output, feature.output_stride, feature.output_dtype);
  CutColumns(choice, &out);
  return out;
}

// The feature's regions of the workspace; all counters of long bags lie in one region before them.
void TakeLongBags(const resembed_table& table, const resembed_feature& feature, int64_t* slots_used,
                  int64_t* slot_bag, Workspace* workspace, ForwardFeature* out) {
  if (!MayHaveLongBags(feature)) return;
  const int64_t slots = kernels::SlotsFor(feature.n_ids);
  float* partials = workspace->Take<float>(slots * table.dim);
  int32_t* counts = workspace->Take<int32_t>(slots);
  int32_t* argmax = nullptr;
  if (feature.pooling == RESEMBED_POOLING_MAX) argmax = workspace->Take<int32_t>(slots * table.dim);
  if (out != nullptr) {
    out->slot_bag = slot_bag + *slots_used;
    out->partials = partials;
    out->partial_counts = counts;
    out->partial_argmax = argmax;
  }
  *slots_used += slots;
}

struct Regions {
  float* attention;  // p of attention pooling where nobody saves it, feature after feature
  unsigned long long* first_bad;
  int64_t* slot_bag;
  int64_t n_slots;
};

// Its weights lie in the workspace.
bool KeepsAttention(const resembed_feature& feature) {
  return feature.pooling == RESEMBED_POOLING_ATTENTION && feature.saved_attention == nullptr;
}

Regions TakeShared(const resembed_forward_args& args, const Tables& tables, Workspace* workspace) {
  Regions regions = {};
  int64_t n_attention = 0;
  for (int32_t index = 0; index < args.n_features; ++index) {
    const resembed_feature feature = ReadFeature(args.features[index], 1);
    if (MayHaveLongBags(feature)) regions.n_slots += kernels::SlotsFor(feature.n_ids);
    if (KeepsAttention(feature)) n_attention += feature.n_ids;
  }
  static_cast<void>(tables);
  regions.attention = workspace->Take<float>(n_attention);
  regions.first_bad = workspace->Take<unsigned long long>(1);
  regions.slot_bag = workspace->Take<int64_t>(regions.n_slots);
  return regions;
}

// p [n_ids] of a feature with attention pooling.
float* AttentionOf(const resembed_forward_args& args, const Regions& regions, int32_t index) {
  const resembed_feature feature = ReadFeature(args.features[index], 1);
  if (!KeepsAttention(feature)) return feature.saved_attention;
  float* p = regions.attention;
  for (int32_t before = 0; before < index; ++before) {
    const resembed_feature other = ReadFeature(args.features[before], 1);
    if (KeepsAttention(other)) p += other.n_ids;
  }
  return p;
}

// Units of work of each feature in one pass, and the blocks they fill.
void CountWork(Pass pass, int threads, ForwardParams* params) {
  params->n_blocks = 0;
  for (int32_t at = 0; at < params->n_features; ++at) {
    ForwardFeature& feature = params->features[at];
    int64_t units;
    if (pass != Pass::kBags) {
      units = feature.slot_bag == nullptr ? 0 : kernels::SlotsFor(feature.n_ids);
    } else if (feature.pooling == RESEMBED_POOLING_NONE) {
      const int64_t batch = std::min(1 << feature.lane_bits, kernels::kGatherItems);
      units = (feature.n_ids + batch - 1) / batch;
    } else {
      units = feature.n_bags;
    }
    if (pass == Pass::kMeet) {
      feature.lane_bits = 5;
      feature.n_tiles = (feature.dim + 31) / 32;
    }
    feature.n_groups = units * feature.n_tiles;
    feature.first_block = params->n_blocks;
    const int64_t groups_per_block = threads >> feature.lane_bits;
    params->n_blocks += (feature.n_groups + groups_per_block - 1) / groups_per_block;
  }
}

resembed_status LaunchPass(const char* op, Pass pass, const Choice& choice, const LaunchShape& shape,
                           cudaStream_t stream, ForwardParams* params) {
  CountWork(pass, shape.threads, params);
  if (params->n_blocks == 0) return RESEMBED_OK;
  params->long_blocks = pass == Pass::kLongBlocks;
  const cudaError_t error = pass == Pass::kMeet ? kernels::LaunchForwardMeet(*params, shape, stream)
                                                : kForwardLaunches[choice.central][choice.residual](
                                                      choice.variant, *params, shape, stream);
  if (error == cudaSuccess) return RESEMBED_OK;
  const char* kernel = pass == Pass::kMeet                           ? "MeetKernel"
                       : choice.variant.kind == ForwardKind::kGather ? "GatherKernel"
                                                                     : "PoolKernel";
  return LaunchFailure(op, kernel, std::min(params->n_blocks, shape.blocks), shape.threads, error);
}

// One launch, or three where a bag may be long.
resembed_status LaunchChoice(const char* op, const Choice& choice, const LaunchShape& shape,
                             cudaStream_t stream, ForwardParams* params) {
  bool may_be_long = false;
  for (int32_t at = 0; at < params->n_features; ++at) {
    may_be_long = may_be_long || params->features[at].slot_bag != nullptr;
  }
  RESEMBED_RETURN_IF_ERROR(LaunchPass(op, Pass::kBags, choice, shape, stream, params));
  if (!may_be_long) return RESEMBED_OK;
  RESEMBED_RETURN_IF_ERROR(LaunchPass(op, Pass::kLongBlocks, choice, shape, stream, params));
  return LaunchPass(op, Pass::kMeet, choice, shape, stream, params);
}

// Calls body(choice, params) for every launch: features with the same kernel together, in call order.
template <typename Body>
resembed_status ForLaunches(const resembed_forward_args& args, const Tables& tables, void* memory,
                            const Body& body) {
  bool done[kChoices] = {};
  ForwardParams params = {};
  for (int32_t first = 0; first < args.n_features; ++first) {
    const auto read = [&](int32_t index, resembed_table* table, resembed_feature* feature) {
      *table = tables[ReadDescriptor(args.features[index]).table];
      *feature = ReadFeature(args.features[index], table->dim);
      return ChooseKernel(*table, *feature);
    };
    resembed_table table;
    resembed_feature feature;
    const Choice choice = read(first, &table, &feature);
    if (done[choice.Number()]) continue;
    done[choice.Number()] = true;
    Workspace workspace(memory);
    const Regions regions = TakeShared(args, tables, &workspace);
    params.trust = args.bounds == RESEMBED_BOUNDS_TRUST;
    params.bad_ids = params.trust ? nullptr : args.bad_ids;
    params.first_bad = regions.first_bad;
    params.n_features = 0;
    int64_t slots_used = 0;
    for (int32_t index = 0; index < args.n_features; ++index) {
      const Choice other = read(index, &table, &feature);
      if (index < first || other.Number() != choice.Number()) {
        TakeLongBags(table, feature, &slots_used, nullptr, &workspace, nullptr);
        continue;
      }
      ForwardFeature& out = params.features[params.n_features];
      if (feature.pooling == RESEMBED_POOLING_ATTENTION) feature.weights = AttentionOf(args, regions, index);
      out = Resolve(table, feature, choice);
      out.index = index;
      TakeLongBags(table, feature, &slots_used, regions.slot_bag, &workspace, &out);
      if (++params.n_features == kernels::kMaxForwardFeatures) {
        RESEMBED_RETURN_IF_ERROR(body(choice, &params));
        params.n_features = 0;
      }
    }
    if (params.n_features > 0) RESEMBED_RETURN_IF_ERROR(body(choice, &params));
  }
  return RESEMBED_OK;
}

}  // namespace

ForwardFeature ResolveTable(const resembed_table& table) {
  ForwardFeature out = {};
  out.central = table.central;
  out.residual = table.residual;
  out.center_of = table.center_of;
  out.neighbors = table.neighbors;
  out.neighbor_weights = table.neighbor_weights;
  out.residual_row_of = table.residual_row_of;
  out.n_items = table.n_items;
  out.dim = table.dim;
  out.central_pitch = table.central_stride * ElementBytes(table.central_dtype);
  out.residual_pitch = table.residual_stride * ElementBytes(table.residual_dtype);
  out.neighbors_stride = table.neighbors_stride;
  out.weights_stride = table.neighbor_weights_stride;
  out.n_neighbors = table.n_neighbors;
  out.form = static_cast<int8_t>(table.form);
  out.narrow_centers = table.center_of_dtype == RESEMBED_U16;
  return out;
}

resembed_status CheckForward(const char* op, const resembed_forward_args& args, const Tables& tables) {
  if (args.n_features > 0x7fff) {
    return Fail(RESEMBED_UNSUPPORTED, "%s: n_features is %d; needs at most 32767 on cuda", op,
                args.n_features);
  }
  for (int32_t index = 0; index < args.n_features; ++index) {
    const int32_t number = ReadDescriptor(args.features[index]).table;
    RESEMBED_RETURN_IF_ERROR(CheckForwardTypes(op, number, tables[number]));
  }
  return RESEMBED_OK;
}

void CarveForward(const resembed_forward_args& args, const Tables& tables, Workspace* workspace) {
  TakeShared(args, tables, workspace);
  int64_t slots_used = 0;
  for (int32_t index = 0; index < args.n_features; ++index) {
    const resembed_table table = tables[ReadDescriptor(args.features[index]).table];
    TakeLongBags(table, ReadFeature(args.features[index], table.dim), &slots_used, nullptr, workspace,
                 nullptr);
  }
}

resembed_status Forward(const char* op, const resembed_forward_args& args, const Tables& tables,
                        void* workspace, const resembed_place& place, const LaunchShape& shape) {
  const DeviceScope scope(op, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  const cudaStream_t stream = StreamOf(place);
  Workspace memory(workspace);
  const Regions regions = TakeShared(args, tables, &memory);
  if (args.bad_ids != nullptr) {
    const cudaError_t error = kernels::LaunchBadIdsBegin(args.bad_ids, regions.first_bad, stream);
    if (error != cudaSuccess) return LaunchFailure(op, "BadIdsBeginKernel", 1, 1, error);
  }
  if (regions.n_slots > 0) {
    const cudaError_t error = cudaMemsetAsync(regions.slot_bag, 0xff,
                                              static_cast<size_t>(regions.n_slots) * sizeof(int64_t), stream);
    if (error != cudaSuccess) return CudaFailure(op, "clearing the slots of long bags", error);
  }
  for (int32_t index = 0; index < args.n_features; ++index) {
    const resembed_table table = tables[ReadDescriptor(args.features[index]).table];
    const resembed_feature feature = ReadFeature(args.features[index], table.dim);
    if (feature.pooling != RESEMBED_POOLING_ATTENTION) continue;
    RESEMBED_RETURN_IF_ERROR(AttentionWeights(op, table, feature, args.bounds == RESEMBED_BOUNDS_TRUST,
                                              AttentionOf(args, regions, index), stream));
  }
  RESEMBED_RETURN_IF_ERROR(
      ForLaunches(args, tables, workspace, [&](const Choice& choice, ForwardParams* params) {
        return LaunchChoice(op, choice, shape, stream, params);
      }));
  if (args.bad_ids != nullptr && args.bounds != RESEMBED_BOUNDS_TRUST) {
    RESEMBED_RETURN_IF_ERROR(ForLaunches(args, tables, workspace, [&](const Choice&, ForwardParams* params) {
      const cudaError_t error = kernels::LaunchBadIdsEnd(*params, stream);
      return error == cudaSuccess ? RESEMBED_OK : LaunchFailure(op, "BadIdsEndKernel", 1, 1, error);
    }));
  }
  return FinishLaunches(op, stream);
}

resembed_status Materialize(const char* op, const resembed_materialize_args& args,
                            const resembed_table& table, const resembed_place& place,
                            const LaunchShape& shape) {
  const DeviceScope scope(op, place.device);
  RESEMBED_RETURN_IF_ERROR(scope.status());
  resembed_feature feature = {};
  feature.n_ids = feature.n_bags = args.n_items;
  feature.bag_length = 1;
  feature.output = args.output;
  feature.output_stride = args.output_stride;
  feature.output_dtype = args.output_dtype;
  const Choice choice = ChooseKernel(table, feature);
  ForwardParams params = {};
  params.n_features = 1;
  params.trust = true;
  params.features[0] = Resolve(table, feature, choice);
  params.features[0].first_item = args.first_item;
  RESEMBED_RETURN_IF_ERROR(LaunchChoice(op, choice, shape, StreamOf(place), &params));
  return FinishLaunches(op, StreamOf(place));
}

}  // namespace resembed::detail::cuda
