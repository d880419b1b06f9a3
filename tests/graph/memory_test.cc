// SPDX-License-Identifier: Apache-2.0
// The memory bound of the co-visit counts, by counting every allocation of the process.
#include <gmock/gmock.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "tests/graph/graph_support.h"

namespace {

std::atomic<int64_t> live_bytes{0}, peak_bytes{0};
std::atomic<int64_t> allowed_bytes{INT64_MAX};  // an allocation that would pass this fails

void* Allocate(size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  if (live_bytes.load() + size > allowed_bytes.load()) throw std::bad_alloc();
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const int64_t live = live_bytes.fetch_add(static_cast<int64_t>(malloc_usable_size(memory))) +
                       static_cast<int64_t>(malloc_usable_size(memory));
  int64_t peak = peak_bytes.load();
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void Release(void* memory) {
  if (memory != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes); }
void* operator new[](size_t bytes) { return Allocate(bytes); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, size_t) noexcept { Release(memory); }
void operator delete[](void* memory, size_t) noexcept { Release(memory); }

namespace resembed::testing {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct MemoryCase {
  const char* name;
  int64_t n_pairs_added;
  uint64_t n_items;
  size_t buffer_bytes;
  friend std::ostream& operator<<(std::ostream& out, const MemoryCase& c) { return out << c.name; }
};

class CovisitMemory : public ::testing::TestWithParam<MemoryCase> {};

// Two-item sequences of uniform items: nearly every pair is new in the sparse case, and every run holds the
// same pairs in the dense one, which is the worst for the runs together.
TEST_P(CovisitMemory, StaysWithinTheDocumentedBound) {
  const MemoryCase& c = GetParam();
  const int64_t before = live_bytes.load();
  Covisit counts(static_cast<int64_t>(c.n_items), 1, {}, c.buffer_bytes);
  std::mt19937_64 random(1);
  int64_t worst = 0;
  std::vector<int32_t> ids(20000);
  std::vector<int64_t> offsets(10001);
  for (size_t s = 0; s < offsets.size(); ++s) offsets[s] = static_cast<int64_t>(2 * s);
  const int64_t own = live_bytes.load() - before;  // of this test
  peak_bytes = live_bytes.load();
  for (int64_t added = 0; added < c.n_pairs_added; added += 10000) {
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % c.n_items);
    ASSERT_EQ(
        resembed_covisit_add(counts.get(), ids.data(), RESEMBED_I32, offsets.data(), RESEMBED_I64, 10000),
        RESEMBED_OK);
    worst = std::max(worst, peak_bytes.load() - before - own);
  }
  const int64_t n_pairs = counts.NumPairs();
  worst = std::max(worst, peak_bytes.load() - before - own);
  const int64_t rest = live_bytes.load() - before - own;
  RecordProperty("peak_bytes", std::to_string(worst));
  RecordProperty("pairs", std::to_string(n_pairs));
  EXPECT_LE(worst, static_cast<int64_t>(c.buffer_bytes) + 24 * n_pairs + 2 * kMiB);
  EXPECT_GE(worst, 16 * n_pairs) << "the hook does not count";
  EXPECT_LE(rest, 16 * n_pairs + 2 * kMiB);
}

INSTANTIATE_TEST_SUITE_P(Covisit, CovisitMemory,
                         ::testing::Values(MemoryCase{"sparse", 3000000, 1000000, 1 << 20},
                                           MemoryCase{"dense", 4000000, 1500, 4 << 20},
                                           MemoryCase{"tiny_buffer", 500000, 1000000, 4096},
                                           MemoryCase{"one_buffer", 1000000, 1000000, 64 << 20}));

// The number of pairs does not matter when they go to disk.
TEST(CovisitMemory, StaysWithinItsBudgetWhenCountsGoToDisk) {
  resembed_covisit_options options = Options(1000000, 1);
  options.buffer_bytes = 1 << 20;
  const std::string folder = ::testing::TempDir();
  options.spill_folder = folder.c_str();
  options.spill_bytes = 2 << 20;
  const int64_t before = live_bytes.load();
  Counting counts(options);
  std::mt19937_64 random(2);
  int64_t worst = 0, n_pairs = 0;
  SequenceLog log;
  for (int64_t s = 0; s < 10000; ++s) log.Add({0, 0});
  const int64_t own = live_bytes.load() - before;
  peak_bytes = live_bytes.load();
  for (int64_t added = 0; added < 4000000; added += 10000) {
    for (int32_t& id : log.ids) id = static_cast<int32_t>(random() % 1000000);
    ASSERT_EQ(counts.Add(log), RESEMBED_OK) << resembed_last_error_message();
  }
  ASSERT_EQ(resembed_covisit_n_pairs(counts.get(), &n_pairs), RESEMBED_OK);
  worst = peak_bytes.load() - before - own;
  RecordProperty("peak_bytes", std::to_string(worst));
  EXPECT_GT(n_pairs, 3900000);  // 62 MB of counts
  EXPECT_LE(worst, (1 << 20) + 3 * (1 << 20) + 20 * kMiB);
  // top_k takes its lists on top, no more.
  peak_bytes = live_bytes.load();
  const int64_t rest = live_bytes.load();
  std::vector<int32_t> neighbors(4000000);
  std::vector<int64_t> values(4000000);
  ASSERT_EQ(resembed_covisit_top_k(counts.get(), 4, neighbors.data(), values.data()), RESEMBED_OK);
  EXPECT_LE(peak_bytes.load() - rest, 48000000 + 2 * kMiB);
}

TEST(CovisitMemory, RunningOutIsAStatusAndIsRemembered) {
  Covisit counts(1000000, 2, {}, 1 << 20);
  const SequenceLog log = RandomLog(1, 1000000, 20000, 10);
  allowed_bytes = live_bytes.load() + 4 * kMiB;
  const resembed_status status = counts.Add(log);
  allowed_bytes = INT64_MAX;
  EXPECT_EQ(status, RESEMBED_OUT_OF_MEMORY);
  EXPECT_THAT(resembed_last_error_message(),
              ::testing::HasSubstr("covisit_add: counts is larger than the memory"));
  int64_t n_pairs = -7;
  EXPECT_EQ(resembed_covisit_n_pairs(counts.get(), &n_pairs), RESEMBED_OUT_OF_MEMORY);
  EXPECT_THAT(resembed_last_error_message(), ::testing::HasSubstr("covisit_n_pairs: counts is incomplete"));
  EXPECT_EQ(n_pairs, -7);
}

TEST(CovisitMemory, RunningOutWhileReadingLosesNothing) {
  Covisit counts(1000000);
  ASSERT_EQ(counts.Add(RandomLog(1, 1000000, 2000, 10)), RESEMBED_OK);
  const int64_t n_pairs = counts.NumPairs();
  std::vector<int32_t> neighbors(1000000, 5);
  allowed_bytes = live_bytes.load() + kMiB;
  const resembed_status status = resembed_covisit_top_k(counts.get(), 1, neighbors.data(), nullptr);
  allowed_bytes = INT64_MAX;
  EXPECT_EQ(status, RESEMBED_OUT_OF_MEMORY);
  EXPECT_EQ(neighbors[0], 5);
  EXPECT_EQ(counts.NumPairs(), n_pairs);
}

TEST(GraphAssignMemory, RunningOutIsAStatus) {
  Covisit counts(100000);
  ASSERT_EQ(counts.Add(RandomLog(1, 100000, 20000, 10)), RESEMBED_OK);
  const Covisit::TopK top = counts.Top(8);
  std::vector<int32_t> center_of(100000, 5);
  int64_t n_centers = 5;
  allowed_bytes = live_bytes.load() + kMiB;
  const resembed_status status = resembed_graph_assign(top.neighbors.data(), top.counts.data(), 100000, 8,
                                                       nullptr, center_of.data(), &n_centers);
  allowed_bytes = INT64_MAX;
  EXPECT_EQ(status, RESEMBED_OUT_OF_MEMORY);
  EXPECT_EQ(center_of[0], 5);
  EXPECT_EQ(n_centers, 5);
}

}  // namespace
}  // namespace resembed::testing
