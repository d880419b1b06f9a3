// SPDX-License-Identifier: Apache-2.0
// RowOps for any machine.
#define RESEMBED_ISA_NAMESPACE isa_portable
#define RESEMBED_ISA_LANES 4
#define RESEMBED_ISA_F16C 0
#include "host/cpu/row_ops.inl.h"
#include "host/cpu/step_ops.inl.h"
