// SPDX-License-Identifier: Apache-2.0
#define RESEMBED_ISA_NAMESPACE isa_avx512
#define RESEMBED_ISA_LANES 16
#define RESEMBED_ISA_F16C 1
#include "host/cpu/compose.inl.h"
