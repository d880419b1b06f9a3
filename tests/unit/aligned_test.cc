// SPDX-License-Identifier: Apache-2.0
// Memory of the trainer's tables: on a cache line, and large blocks on huge pages where the system has them.
#include "host/train/aligned.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace resembed::train {
namespace {

uintptr_t AddressOf(const AlignedVector<float>& vector) { return reinterpret_cast<uintptr_t>(vector.data()); }

TEST(Aligned, SmallBlocksOnACacheLineAndLargeOnesOnAHugePage) {
  for (const size_t n : {size_t{1}, size_t{1000}, (size_t{1} << 20) - 1}) {
    EXPECT_EQ(AddressOf(AlignedVector<float>(n)) % 64, 0u) << n;
  }
  for (const size_t n : {size_t{1} << 20, size_t{5'000'001}}) {
    EXPECT_EQ(AddressOf(AlignedVector<float>(n)) % (size_t{2} << 20), 0u) << n;
  }
}

#ifdef __linux__
// The flags of the mapping that holds an address; "hg" = madvise(MADV_HUGEPAGE).
std::string FlagsAt(uintptr_t address) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0, last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
      inside = first <= address && address < last;
    if (inside && line.rfind("VmFlags:", 0) == 0) return line + " ";
  }
  return "";
}

TEST(Aligned, LargeBlocksAskForHugePages) {
  const AlignedVector<float> large(3 << 20);
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled") || FlagsAt(AddressOf(large)).empty()) {
    GTEST_SKIP() << "this kernel has no transparent huge pages, or does not tell";
  }
  EXPECT_NE(FlagsAt(AddressOf(large)).find(" hg "), std::string::npos);
  EXPECT_NE(FlagsAt(AddressOf(large) + (size_t{12} << 20) - 1).find(" hg "), std::string::npos);
}
#endif

}  // namespace
}  // namespace resembed::train
