// SPDX-License-Identifier: Apache-2.0
// Whole tables, maps, and the interest graph.
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <vector>

#include "host/torch/ops.h"

namespace resembed::adapter {
namespace {

// The graph services read and write host memory.
Tensor OnHost(const char* op, const char* name, const Tensor& tensor, at::ScalarType type) {
  TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == type, op, ": ", name, " is ",
              NameOf(tensor.scalar_type()), " on ", tensor.device(), "; needs ", NameOf(type), " on cpu");
  return tensor.contiguous();
}

Tensor NeighborLists(const char* op, const Tensor& neighbors) {
  TORCH_CHECK(neighbors.dim() == 2, op, ": neighbors.shape is ", neighbors.sizes(), "; needs [n_items, K]");
  return OnHost(op, "neighbors", neighbors, at::kInt);
}

Tensor Counts(const char* op, const Tensor& counts, const Tensor& neighbors) {
  TORCH_CHECK(counts.sizes() == neighbors.sizes(), op, ": counts.shape is ", counts.sizes(),
              "; needs that of neighbors, ", neighbors.sizes());
  return OnHost(op, "counts", counts, at::kLong);
}

struct DestroyCounts {
  void operator()(resembed_covisit* counts) const { resembed_covisit_destroy(counts); }
};

}  // namespace

Tensor Materialize(const Tensor& weight, const OptionalTensor& central_weight,
                   const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                   std::string_view fusion, int64_t first_item, OptionalInt n_items,
                   OptionalType output_dtype) {
  constexpr const char* kOp = "materialize";
  const Place place(weight);
  const resembed_table table = TableOf(kOp, {weight, central_weight, central_map, neighbor_weights, fusion});
  const at::ScalarType type = output_dtype.value_or(weight.scalar_type());
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table;
  args.first_item = first_item;
  args.n_items = n_items.value_or(table.n_items - first_item);
  args.output_dtype = FloatTypeOf(kOp, "output", type);
  TORCH_CHECK(args.n_items >= 0, kOp, ": n_items is ", args.n_items, "; needs 0 or more");
  const Tensor output = at::empty({args.n_items, table.dim}, weight.options().dtype(type));
  args.output = output.data_ptr();
  size_t bytes = 0;
  Check(resembed_materialize_workspace_size(&args, place.get(), &bytes));
  const Scratch workspace(place, bytes, ScratchKind::kWorkspace);
  Check(resembed_materialize(&args, workspace.data(), bytes, place.get()));
  return output;
}

Eight Envelope(const Tensor& weight, const Tensor& interest_of, int64_t n_interests,
               at::ArrayRef<double> quantiles, const OptionalTensor& central_weight,
               const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
               std::string_view fusion) {
  constexpr const char* kOp = "envelope";
  const Place place(weight);
  const resembed_table table = TableOf(kOp, {weight, central_weight, central_map, neighbor_weights, fusion});
  CheckDevice(kOp, "interest_of", interest_of, weight);
  TORCH_CHECK(
      interest_of.scalar_type() == at::kInt && interest_of.dim() == 1 && interest_of.size(0) == table.n_items,
      kOp, ": interest_of is ", NameOf(interest_of.scalar_type()), " ", interest_of.sizes(),
      "; needs int32 [", table.n_items, "]");
  const Tensor interests = interest_of.contiguous();
  TORCH_CHECK(n_interests >= 0, kOp, ": n_interests is ", n_interests, "; needs 0 or more");
  const std::vector<float> levels(quantiles.begin(), quantiles.end());
  const auto n_levels = static_cast<int64_t>(levels.size());
  const auto floats = weight.options().dtype(at::kFloat);
  const Eight out = {at::zeros({n_interests}, weight.options().dtype(at::kLong)),
                     at::zeros({n_interests}, floats),
                     at::zeros({n_interests, n_levels}, floats),
                     at::zeros({n_interests}, floats),
                     at::zeros({n_interests, n_levels}, floats),
                     at::zeros({n_interests}, floats),
                     at::zeros({n_interests}, floats),
                     at::zeros({4}, floats)};
  const auto data = [](const Tensor& tensor) { return static_cast<float*>(tensor.data_ptr()); };
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table;
  args.interest_of = static_cast<const int32_t*>(interests.data_ptr());
  args.n_interests = n_interests;
  args.quantiles = levels.data();
  args.n_quantiles = static_cast<int32_t>(levels.size());
  args.count = static_cast<int64_t*>(std::get<0>(out).data_ptr());
  args.radius = data(std::get<1>(out));
  args.radius_quantiles = data(std::get<2>(out));
  args.residual_norm = data(std::get<3>(out));
  args.residual_norm_quantiles = data(std::get<4>(out));
  args.central_norm = data(std::get<5>(out));
  args.ratio = data(std::get<6>(out));
  args.global = data(std::get<7>(out));
  size_t bytes = 0;
  Check(resembed_envelope_workspace_size(&args, place.get(), &bytes));
  const Scratch workspace(place, bytes, ScratchKind::kWorkspace);
  Check(resembed_envelope(&args, workspace.data(), bytes, place.get()));
  return out;
}

void CheckMaps(const Tensor& weight, const OptionalTensor& central_weight, const OptionalTensor& central_map,
               const OptionalTensor& neighbor_weights, std::string_view fusion) {
  const Place place(weight);
  const resembed_table table =
      TableOf("check_maps", {weight, central_weight, central_map, neighbor_weights, fusion});
  Check(resembed_check_maps(&table, place.get()));
}

// Made of torch's own operations, none of which waits for the device.
Tensor BadIds(at::TensorList weights, const Tensor& indices, const OptionalTensor& offsets,
              at::IntArrayRef feature_table, OptionalInt padding_idx) {
  constexpr const char* kOp = "bad_ids";
  TORCH_CHECK(!weights.empty() && !feature_table.empty(), kOp,
              ": weights or feature_table has 0 entries; needs 1 or more");
  const Tensor ids = indices.reshape({-1}).to(at::kLong);
  const auto n_features = static_cast<int64_t>(feature_table.size());
  std::vector<int64_t> n_items;
  for (const int64_t table : feature_table) {
    TORCH_CHECK(table >= 0 && table < static_cast<int64_t>(weights.size()), kOp,
                ": feature_table names table ", table, "; needs 0 .. ", weights.size() - 1);
    n_items.push_back(weights[static_cast<size_t>(table)].size(0));
  }
  const auto longs = ids.options();
  Tensor feature = at::zeros_like(ids);
  Tensor limit = at::full_like(ids, n_items[0]);
  if (n_features > 1) {
    TORCH_CHECK(IsGiven(offsets) && offsets->dim() == 1 && offsets->size(0) > 0 &&
                    (offsets->size(0) - 1) % n_features == 0,
                kOp, ": offsets is ", IsGiven(offsets) ? "of another shape" : "None", "; needs [", n_features,
                " * B + 1]");
    const int64_t n_bags = (offsets->size(0) - 1) / n_features;
    // The feature of a position: how many features end at or before it.
    Tensor ends = at::empty({0}, longs);
    if (n_bags > 0) ends = offsets->slice(0, n_bags, offsets->size(0) - 1, n_bags).to(at::kLong).contiguous();
    feature = at::bucketize(at::arange(ids.numel(), longs), ends, /*out_int32=*/false, /*right=*/true);
    Tensor limits = at::zeros({n_features}, longs);
    for (int64_t index = 0; index < n_features; ++index) {
      limits[index].fill_(n_items[static_cast<size_t>(index)]);
    }
    limit = limits.index_select(0, feature);
  }
  Tensor bad = ids.lt(0).logical_or(ids.ge(limit));
  if (padding_idx.has_value()) {
    bad = bad.logical_and(ids.ne(*padding_idx < 0 ? *padding_idx + n_items[0] : *padding_idx));
  }
  // One more entry, the answer when no id is bad; the first of the largest.
  const Tensor none = at::full({1}, -1, longs);
  const Tensor position =
      at::cat({bad, at::ones({1}, bad.options())}).to(at::kByte).argmax(0, /*keepdim=*/true);
  const Tensor count = bad.sum(at::kLong).reshape({1});
  const Tensor any = count.gt(0);
  const auto take = [&](const Tensor& values, const Tensor& otherwise) {
    return at::where(any, at::cat({values, none}).index_select(0, position), otherwise);
  };
  return at::cat(
      {count, take(feature, none), at::where(any, position, none), take(ids, at::zeros({1}, longs))});
}

Two InterestGraph(const Tensor& values, const Tensor& offsets, int64_t n_items, int64_t window,
                  int64_t top_k) {
  constexpr const char* kOp = "interest_graph";
  TORCH_CHECK(
      values.is_cpu() && offsets.is_cpu() && values.dim() == 1 && offsets.dim() == 1 && offsets.size(0) > 0,
      kOp, ": values and offsets are ", values.sizes(), " on ", values.device(), " and ", offsets.sizes(),
      " on ", offsets.device(), "; need [n_ids] and [n_sequences + 1] on cpu");
  const Tensor ids = values.contiguous(), starts = offsets.contiguous();
  const resembed_dtype id_dtype = IndexTypeOf(kOp, "values", ids),
                       offset_dtype = IndexTypeOf(kOp, "offsets", starts);
  const int64_t last = starts[-1].item<int64_t>();
  TORCH_CHECK(last == ids.numel(), kOp, ": offsets[-1] is ", last, "; needs ", ids.numel(), " (n_ids)");
  TORCH_CHECK(n_items >= 0 && top_k >= 1 && top_k <= RESEMBED_MAX_NEIGHBORS, kOp, ": n_items and top_k are ",
              n_items, " and ", top_k, "; need 0 or more and 1 .. 64");
  resembed_covisit_options options = {};
  options.struct_size = sizeof(options);
  options.n_items = n_items;
  options.window = static_cast<int32_t>(window);
  const Place place(ids);
  options.place = place.get();
  resembed_covisit* made = nullptr;
  Check(resembed_covisit_create(&options, &made));
  const std::unique_ptr<resembed_covisit, DestroyCounts> counts(made);
  Check(resembed_covisit_add(made, ids.data_ptr(), id_dtype, starts.data_ptr(), offset_dtype,
                             starts.size(0) - 1));
  const Tensor neighbors = at::empty({n_items, top_k}, ids.options().dtype(at::kInt));
  const Tensor values_out = at::empty({n_items, top_k}, ids.options().dtype(at::kLong));
  Check(resembed_covisit_top_k(made, static_cast<int32_t>(top_k), static_cast<int32_t*>(neighbors.data_ptr()),
                               static_cast<int64_t*>(values_out.data_ptr())));
  return {neighbors, values_out};
}

Tensor GraphWeights(const Tensor& neighbors, const OptionalTensor& counts, std::string_view weighting) {
  constexpr const char* kOp = "graph_weights";
  TORCH_CHECK(weighting == "avg" || weighting == "gcn", kOp, ": weighting is '", weighting,
              "'; needs 'avg' or 'gcn'");
  const Tensor lists = NeighborLists(kOp, neighbors);
  const Tensor values = IsGiven(counts) ? Counts(kOp, *counts, neighbors) : Tensor();
  const Tensor weights = at::empty(lists.sizes(), lists.options().dtype(at::kFloat));
  Check(resembed_graph_weights(static_cast<const int32_t*>(lists.data_ptr()),
                               values.defined() ? static_cast<const int64_t*>(values.data_ptr()) : nullptr,
                               lists.size(0), static_cast<int32_t>(lists.size(1)),
                               weighting == "avg" ? RESEMBED_GRAPH_AVG : RESEMBED_GRAPH_GCN,
                               static_cast<float*>(weights.data_ptr())));
  return weights;
}

Two GraphAssign(const Tensor& neighbors, const Tensor& counts, int64_t max_center_items, int64_t max_centers,
                double resolution, bool cold_center) {
  constexpr const char* kOp = "graph_assign";
  const Tensor lists = NeighborLists(kOp, neighbors), values = Counts(kOp, counts, neighbors);
  resembed_graph_assign_options options = {};
  options.struct_size = sizeof(options);
  options.max_center_items = max_center_items;
  options.max_centers = max_centers;
  options.resolution = static_cast<float>(resolution);
  options.cold_center = cold_center ? 1 : 0;
  const Tensor center_of = at::empty({lists.size(0)}, lists.options());
  const Tensor n_centers = at::zeros({1}, lists.options().dtype(at::kLong));
  Check(resembed_graph_assign(
      static_cast<const int32_t*>(lists.data_ptr()), static_cast<const int64_t*>(values.data_ptr()),
      lists.size(0), static_cast<int32_t>(lists.size(1)), &options,
      static_cast<int32_t*>(center_of.data_ptr()), static_cast<int64_t*>(n_centers.data_ptr())));
  return {center_of, n_centers};
}

}  // namespace resembed::adapter
