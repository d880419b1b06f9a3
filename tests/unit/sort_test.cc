// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/sort.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/support/gradient_problem.h"

namespace resembed::detail {
namespace {

using testing::PlaceOf;
using testing::TestExecutor;

std::vector<SortEntry> Entries(int64_t n, int bits, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<SortEntry> entries;
  for (int64_t index = 0; index < n; ++index) {
    entries.push_back(MakeEntry(static_cast<uint32_t>(random() & ((uint64_t{1} << bits) - 1)),
                                static_cast<uint32_t>(index)));
  }
  return entries;
}

std::vector<SortEntry> Sorted(std::vector<SortEntry> entries, int bits, const TestExecutor& threads) {
  const auto n = static_cast<int64_t>(entries.size());
  // One counter or entry too many would land in the canary.
  std::vector<SortEntry> spare(entries.size() + 1, 0x5a5a5a5a5a5a5a5a);
  std::vector<uint32_t> counters(static_cast<size_t>(SortCounters(n)) + 1, 0x5a5a5a5a);
  const Executor executor(PlaceOf(&threads));
  const SortEntry* result = SortEntries(entries.data(), spare.data(), n, bits, counters.data(), executor);
  EXPECT_EQ(spare.back(), 0x5a5a5a5a5a5a5a5au);
  EXPECT_EQ(counters.back(), 0x5a5a5a5au);
  return {result, result + n};
}

TEST(Sort, IsStableForEveryLengthAndWidth) {
  const TestExecutor serial(1), two(2), reversed(7, true);
  for (const int64_t n : {0, 1, 2, 255, 4095, 4096, 40000, 300000}) {
    for (const int bits : {1, 7, 8, 12, 13, 22, 24, 31, 32}) {
      const std::vector<SortEntry> entries = Entries(n, bits, static_cast<uint64_t>(n + bits));
      std::vector<SortEntry> want = entries;
      std::stable_sort(want.begin(), want.end(),
                       [](SortEntry a, SortEntry b) { return EntryKey(a) < EntryKey(b); });
      ASSERT_EQ(Sorted(entries, bits, serial), want) << n << " entries of " << bits << " bits";
      ASSERT_EQ(Sorted(entries, bits, two), want) << n << " entries of " << bits << " bits, two threads";
      ASSERT_EQ(Sorted(entries, bits, reversed), want)
          << n << " entries of " << bits << " bits, tasks reversed";
    }
  }
}

TEST(Sort, KeepsTheOrderOfEqualKeys) {
  const TestExecutor two(2);
  std::vector<SortEntry> entries;
  for (uint32_t index = 0; index < 50000; ++index) entries.push_back(MakeEntry(7, index));
  EXPECT_EQ(Sorted(entries, 24, two), entries);
}

TEST(Sort, BitsHoldTheLargestKey) {
  EXPECT_EQ(BitsFor(0), 1);
  EXPECT_EQ(BitsFor(1), 1);
  EXPECT_EQ(BitsFor(2), 2);
  EXPECT_EQ(BitsFor(255), 8);
  EXPECT_EQ(BitsFor(256), 9);
  EXPECT_EQ(BitsFor(0x7fffffff), 31);
}

}  // namespace
}  // namespace resembed::detail
