// SPDX-License-Identifier: Apache-2.0
// RowOps for AVX-512 (F, BW, VL, DQ).
#define RESEMBED_ISA_NAMESPACE isa_avx512
#define RESEMBED_ISA_LANES 16
#define RESEMBED_ISA_F16C 1
#include "host/cpu/row_ops.inl.h"
#include "host/cpu/step_ops.inl.h"
