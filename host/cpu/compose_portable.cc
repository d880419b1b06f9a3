// SPDX-License-Identifier: Apache-2.0
#define RESEMBED_ISA_NAMESPACE isa_portable
#define RESEMBED_ISA_LANES 4
#define RESEMBED_ISA_F16C 0
#include "host/cpu/compose.inl.h"
