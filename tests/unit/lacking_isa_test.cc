// SPDX-License-Identifier: Apache-2.0
// What a machine without AVX-512 answers, on any machine: the refusals over a row_ops that has AVX2 at most.
#include <gtest/gtest.h>

#include "host/cpu/row_ops.h"
#include "resembed/resembed.h"

namespace resembed::detail {

bool IsaAvailable(resembed_cpu_isa isa) { return isa != RESEMBED_ISA_AVX512; }
resembed_cpu_isa ResolveIsa(resembed_cpu_isa isa) {
  return isa == RESEMBED_ISA_BEST ? RESEMBED_ISA_AVX2 : isa;
}

namespace {

TEST(LackingIsa, IsRefusedByTheQuery) {
  EXPECT_EQ(resembed_best_isa(), RESEMBED_ISA_AVX2);
  EXPECT_EQ(resembed_isa_available(RESEMBED_ISA_AVX2), RESEMBED_OK);
  EXPECT_EQ(resembed_isa_available(RESEMBED_ISA_AVX512), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(),
               "isa_available: isa is avx512; needs what this machine has (widest: avx2)");
}

TEST(LackingIsa, IsRefusedAsThePlaceOfACall) {
  resembed_tables tables = {};
  tables.struct_size = sizeof(tables);
  resembed_place place = {};
  place.struct_size = sizeof(place);
  place.backend = RESEMBED_CPU;
  size_t bytes = 0;
  place.isa = RESEMBED_ISA_AVX2;
  EXPECT_EQ(resembed_table_set_size(&tables, &place, &bytes), RESEMBED_OK) << resembed_last_error_message();
  place.isa = RESEMBED_ISA_AVX512;
  EXPECT_EQ(resembed_table_set_size(&tables, &place, &bytes), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(),
               "table_set_size: place.isa is avx512; needs what this machine has (widest: avx2)");
}

}  // namespace
}  // namespace resembed::detail
