// SPDX-License-Identifier: Apache-2.0
// Descriptors of many tables in caller-owned memory.
#pragma once

#include "host/status.h"
#include "resembed/resembed.h"

namespace resembed::detail {

// The resolved descriptors inside a prepared set, after checking that it is one of this library and place.
resembed_status ReadTableSet(const char* op, const resembed_table_set* set, const resembed_place& place,
                             const resembed_table** tables, int32_t* n_tables);

}  // namespace resembed::detail
