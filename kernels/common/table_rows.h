// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "resembed/resembed.h"

namespace resembed::kernels {

// The rows of a table.
struct TableRows {
  resembed_central_form form;
  int64_t dim;
  const char* residual;  // or null
  int64_t residual_pitch;
  resembed_dtype residual_dtype;
  const int32_t* residual_row_of;
  const char* central;
  int64_t central_pitch;
  resembed_dtype central_dtype;
  const void* center_of;
  bool narrow_centers;
  const int32_t* neighbors;
  int64_t neighbors_stride;
  int32_t n_neighbors;
  const float* stored;
  int64_t stored_stride;
};

}  // namespace resembed::kernels
