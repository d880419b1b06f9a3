// SPDX-License-Identifier: Apache-2.0
// RowOps for AVX2 with F16C.
#define RESEMBED_ISA_NAMESPACE isa_avx2
#define RESEMBED_ISA_LANES 8
#define RESEMBED_ISA_F16C 1
#include "host/cpu/row_ops.inl.h"
#include "host/cpu/step_ops.inl.h"
