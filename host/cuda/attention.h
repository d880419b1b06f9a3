// SPDX-License-Identifier: Apache-2.0
// Scores of attention pooling on a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include "host/status.h"
#include "kernels/common/table_rows.h"
#include "resembed/resembed.h"

namespace resembed::detail::cuda {

kernels::TableRows RowsOf(const resembed_table& table);

// p [n_ids] of a feature. The device is current; `table` and `feature` are resolved.
resembed_status AttentionWeights(const char* op, const resembed_table& table, const resembed_feature& feature,
                                 bool trust, float* p, cudaStream_t stream);
// dz [n_ids] from p and the output gradient.
resembed_status ScoreGradients(const char* op, const resembed_table& table, const resembed_feature& feature,
                               const resembed_feature_grad& grad, const float* p, float* dz,
                               cudaStream_t stream);

}  // namespace resembed::detail::cuda
