// SPDX-License-Identifier: Apache-2.0
// The operations behind torch.ops.resembed, in the order of their schemas (register.cc), for tensors with memory.
// Each serves CPU and CUDA; the device of the first table says which.
#pragma once

#include <c10/core/SymIntArrayRef.h>

#include "host/torch/call.h"

namespace resembed::adapter {

using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Six = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Eight = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Lists = std::tuple<std::vector<Tensor>, std::vector<Tensor>, Tensor>;
using Strings = at::ArrayRef<std::string>;
using OptionalType = std::optional<at::ScalarType>;
using OptionalInt = std::optional<int64_t>;

// lookup.cc
Tensor EmbeddingBag(const Tensor& weight, const Tensor& indices, const OptionalTensor& offsets,
                    const OptionalTensor& per_sample_weights, const OptionalTensor& central_weight,
                    const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                    std::string_view fusion, std::string_view mode, OptionalInt padding_idx,
                    bool include_last_offset, bool sparse, std::string_view bounds,
                    OptionalType output_dtype);
Four EmbeddingBagBackward(const Tensor& weight, const Tensor& grad_output, const Tensor& indices,
                          const OptionalTensor& offsets, const OptionalTensor& per_sample_weights,
                          const OptionalTensor& central_weight, const OptionalTensor& central_map,
                          const OptionalTensor& neighbor_weights, std::string_view fusion,
                          std::string_view mode, OptionalInt padding_idx, bool include_last_offset,
                          std::string_view bounds, bool need_weight, bool need_central,
                          bool need_per_sample_weights, bool need_neighbor_weights);
Six EmbeddingBagCompressedBackward(const Tensor& weight, const Tensor& grad_output, const Tensor& indices,
                                   const OptionalTensor& offsets, const OptionalTensor& per_sample_weights,
                                   const OptionalTensor& central_weight, const OptionalTensor& central_map,
                                   const OptionalTensor& neighbor_weights, std::string_view fusion,
                                   std::string_view mode, OptionalInt padding_idx, bool include_last_offset,
                                   std::string_view bounds, bool need_weight, bool need_central);
Tensor TableBatched(at::TensorList weights, const Tensor& indices, const Tensor& offsets,
                    const OptionalTensor& per_sample_weights, at::TensorList central_weights,
                    at::TensorList central_maps, at::TensorList neighbor_weights, Strings fusions,
                    at::IntArrayRef feature_table, std::string_view mode, std::string_view bounds,
                    at::OptionalIntArrayRef feature_lengths, OptionalType output_dtype);
Lists TableBatchedBackward(at::TensorList weights, const Tensor& grad_output, const Tensor& indices,
                           const Tensor& offsets, const OptionalTensor& per_sample_weights,
                           at::TensorList central_weights, at::TensorList central_maps,
                           at::TensorList neighbor_weights, Strings fusions, at::IntArrayRef feature_table,
                           std::string_view mode, std::string_view bounds,
                           at::OptionalIntArrayRef feature_lengths, bool need_weights,
                           bool need_central_weights, bool need_per_sample_weights);

// step.cc
void TableBatchedStep(at::TensorList weights, at::TensorList central_weights, at::TensorList state1,
                      at::TensorList state2, at::TensorList central_state1, at::TensorList central_state2,
                      const Tensor& grad_output, const Tensor& indices, const Tensor& offsets,
                      const OptionalTensor& per_sample_weights, const Tensor& lr, const Tensor& central_lr,
                      const Tensor& step, at::TensorList central_maps, at::TensorList neighbor_weights,
                      Strings fusions, at::IntArrayRef feature_table, std::string_view mode,
                      std::string_view bounds, at::OptionalIntArrayRef feature_lengths,
                      std::string_view optimizer, double beta1, double beta2, double eps,
                      std::string_view decay, double weight_decay, double central_weight_decay,
                      bool stochastic_rounding, int64_t seed, int64_t first_table_number);
void Step(const Tensor& weight, const OptionalTensor& state1, const OptionalTensor& state2,
          const Tensor& row_ids, const Tensor& rows, const Tensor& count, const Tensor& lr,
          const Tensor& step, std::string_view optimizer, double beta1, double beta2, double eps,
          std::string_view decay, double weight_decay, bool stochastic_rounding, int64_t seed,
          int64_t table_number);
Three Combine(at::TensorList row_ids, at::TensorList rows, at::TensorList counts, int64_t table_rows);

// tables.cc
Tensor Materialize(const Tensor& weight, const OptionalTensor& central_weight,
                   const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
                   std::string_view fusion, int64_t first_item, OptionalInt n_items,
                   OptionalType output_dtype);
Eight Envelope(const Tensor& weight, const Tensor& interest_of, int64_t n_interests,
               at::ArrayRef<double> quantiles, const OptionalTensor& central_weight,
               const OptionalTensor& central_map, const OptionalTensor& neighbor_weights,
               std::string_view fusion);
void CheckMaps(const Tensor& weight, const OptionalTensor& central_weight, const OptionalTensor& central_map,
               const OptionalTensor& neighbor_weights, std::string_view fusion);
Tensor BadIds(at::TensorList weights, const Tensor& indices, const OptionalTensor& offsets,
              at::IntArrayRef feature_table, OptionalInt padding_idx);
Two InterestGraph(const Tensor& values, const Tensor& offsets, int64_t n_items, int64_t window,
                  int64_t top_k);
Tensor GraphWeights(const Tensor& neighbors, const OptionalTensor& counts, std::string_view weighting);
Two GraphAssign(const Tensor& neighbors, const Tensor& counts, int64_t max_center_items, int64_t max_centers,
                double resolution, bool cold_center);

}  // namespace resembed::adapter
