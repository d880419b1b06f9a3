// SPDX-License-Identifier: Apache-2.0
// The canaries around the memory of every operation's test see a single byte written past either end.
#include <gtest/gtest.h>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {
namespace {

TEST(Guarded, SeesOneByteWrittenPastEitherEnd) {
  for (const size_t bytes : {0, 1, 63, 64, 1000}) {
    Guarded memory(bytes);
    auto* const first = static_cast<unsigned char*>(memory.data());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
    for (size_t at = 0; at < bytes; ++at) {
      ASSERT_EQ(first[at], 0xff) << "what nobody wrote is NaN and a negative id";
      first[at] = 0;
    }
    EXPECT_TRUE(memory.Intact()) << bytes;
    for (unsigned char* const beyond : {first - 1, first + bytes}) {
      const unsigned char before = *beyond;
      *beyond = static_cast<unsigned char>(before ^ 1);
      EXPECT_FALSE(memory.Intact()) << bytes;
      *beyond = before;
    }
    EXPECT_TRUE(memory.Intact()) << bytes;
  }
}

}  // namespace
}  // namespace resembed::testing
