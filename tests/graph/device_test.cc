// SPDX-License-Identifier: Apache-2.0
// Counts and lists made by kernels/graph against those of the CPU, bit for bit: with Thrust's host backend
// where the emulator stands in for the CUDA runtime, and on a GPU.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "host/graph/covisit.h"
#include "tests/cuda/support/device_buffer.h"
#include "tests/graph/graph_support.h"

namespace resembed::testing {
namespace {

using ::testing::HasSubstr;

resembed_covisit_options OnGpu(resembed_covisit_options options, const resembed_place* place,
                               size_t device_bytes) {
  options.place = place;
  options.device_bytes = device_bytes;
  return options;
}

Covisit::TopK Lists(Counting* counts, int64_t n_items, const resembed_graph_options& options) {
  const auto size = static_cast<size_t>(n_items * options.k);
  Covisit::TopK top{std::vector<int32_t>(size, 99), std::vector<int64_t>(size, 99)};
  EXPECT_EQ(resembed_covisit_graph(counts->get(), &options, top.neighbors.data(), top.counts.data()),
            RESEMBED_OK)
      << resembed_last_error_message();
  return top;
}

#ifdef RESEMBED_EMULATED
// Thrust's host backend needs no scratch, and its device memory is malloc's, not the emulator's.
constexpr int64_t kScratchBytes = 0;
class ThrustBuffer {
 public:
  explicit ThrustBuffer(size_t bytes) : bytes_(bytes) {}
  ThrustBuffer(const void* data, size_t bytes) : bytes_(bytes) { std::memcpy(bytes_.data(), data, bytes); }
  void* data() const { return const_cast<unsigned char*>(bytes_.data()); }
  const unsigned char* host() const { return bytes_.data(); }
  bool Download(const Stream&) { return true; }

 private:
  std::vector<unsigned char> bytes_;
};
#else
constexpr int64_t kScratchBytes = int64_t{32} << 20;
using ThrustBuffer = DeviceBuffer;
#endif

struct DeviceCase {
  int32_t n_items;
  int64_t n_sequences;
  int32_t window;
  std::vector<uint32_t> weights;
  size_t device_bytes;
  friend std::ostream& operator<<(std::ostream& out, const DeviceCase& c) {
    return out << "items" << c.n_items << "_window" << c.window << "_bytes" << c.device_bytes;
  }
};

class DeviceGraph : public ::testing::TestWithParam<DeviceCase> {};

// Every budget: one position a chunk, chunks that cut sequences and rows, runs that go to the host, all at
// once.
TEST_P(DeviceGraph, HasTheBitsOfTheCpu) {
  const DeviceCase& c = GetParam();
  const resembed_place place = CudaPlace(nullptr);
  const SequenceLog log = RandomLog(41, c.n_items, c.n_sequences, 10);
  resembed_covisit_options options = Options(c.n_items, c.window);
  options.distance_weights = c.weights.empty() ? nullptr : c.weights.data();
  Counting cpu(options), gpu(OnGpu(options, &place, c.device_bytes));
  ASSERT_EQ(cpu.Add(log), RESEMBED_OK);
  ASSERT_EQ(gpu.Add(log), RESEMBED_OK) << resembed_last_error_message();
  for (const int32_t k : {1, 8, 64}) {
    EXPECT_TRUE(Lists(&gpu, c.n_items, GraphOptions(k)) == Lists(&cpu, c.n_items, GraphOptions(k)))
        << "k " << k;
  }
  EXPECT_LE(gpu.get()->device->peak_bytes(), static_cast<int64_t>(c.device_bytes) + kScratchBytes);
  resembed_graph_options graph = GraphOptions(5);
  graph.min_count = 2;
  graph.self_loop = -1;
  EXPECT_TRUE(Lists(&gpu, c.n_items, graph) == Lists(&cpu, c.n_items, graph));
  graph.popularity = 0.75;
  EXPECT_TRUE(Lists(&gpu, c.n_items, graph) == Lists(&cpu, c.n_items, graph));
  EXPECT_EQ(gpu.Pairs(), cpu.Pairs());
  // and again, on top of what is on the host now
  ASSERT_EQ(cpu.Add(log), RESEMBED_OK);
  ASSERT_EQ(gpu.Add(log), RESEMBED_OK);
  graph.popularity = 0;
  EXPECT_TRUE(Lists(&gpu, c.n_items, graph) == Lists(&cpu, c.n_items, graph));
  EXPECT_EQ(gpu.Pairs(), cpu.Pairs());
}

INSTANTIATE_TEST_SUITE_P(Covisit, DeviceGraph,
                         ::testing::Values(DeviceCase{1, 20, 2, {}, 1 << 20},
                                           DeviceCase{2, 50, 3, {}, 1 << 16},
                                           DeviceCase{40, 60, 2, {}, 40000},  // chunks of some positions
                                           DeviceCase{40, 300, 20, {}, 1 << 18},
                                           DeviceCase{700, 800, 2, {}, 600000},
                                           DeviceCase{700, 800, 2, {}, 1 << 28},
                                           DeviceCase{700, 800, 3, {9, 0, 4000000000u}, 600000},
                                           DeviceCase{3000, 900, 2, {3, 3}, size_t{3} << 20}));

TEST(DeviceGraphOptions, CountAsOnTheCpu) {
  const resembed_place place = CudaPlace(nullptr);
  const SequenceLog log = RandomLog(42, 60, 250, 15);
  std::mt19937_64 random(6);
  std::vector<int64_t> times(log.ids.size()), n_seen;
  for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
    int64_t now = -1000;
    for (auto at = static_cast<size_t>(log.offsets[s]); at < static_cast<size_t>(log.offsets[s + 1]); ++at) {
      times[at] = now += static_cast<int64_t>(random() % 40);
    }
    n_seen.push_back((log.offsets[s + 1] - log.offsets[s]) / 3);
  }
  for (const size_t bytes : {size_t{40000}, size_t{1} << 24}) {
    resembed_covisit_options options = Options(60, 3);
    options.session_gap = 30;
    options.max_sequence_items = 9;
    Counting cpu(options), gpu(OnGpu(options, &place, bytes));
    ASSERT_EQ(cpu.Add(log, times, n_seen), RESEMBED_OK);
    ASSERT_EQ(gpu.Add(log, times, n_seen), RESEMBED_OK);
    EXPECT_EQ(gpu.Pairs(), cpu.Pairs());
    EXPECT_NE(gpu.Pairs(), OracleCounts(log, 3, {}));
  }
}

// One log, four roads: in memory, with counts on disk, stored and added to, on the device.
TEST(DeviceGraph, EveryRoadGivesTheSameGraph) {
  const resembed_place place = CudaPlace(nullptr);
  const std::string folder = ::testing::TempDir(),
                    stored = folder + "resembed_roads_" + std::to_string(getpid());
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    const auto n_items = static_cast<int32_t>(1 + random() % 400);
    const auto n_sequences = static_cast<int64_t>(2 + random() % 300);
    const auto window = static_cast<int32_t>(1 + random() % 6);
    const SequenceLog log = RandomLog(seed, n_items, n_sequences, static_cast<int32_t>(1 + random() % 20));
    std::vector<uint32_t> weights;
    for (int32_t d = 0; d < window; ++d) weights.push_back(static_cast<uint32_t>(random() % 5));
    resembed_covisit_options options = Options(n_items, window);
    if (seed % 2 == 0) options.distance_weights = weights.data();
    options.buffer_bytes = 4096 << random() % 8;
    resembed_covisit_options spilling = options;
    spilling.spill_folder = folder.c_str();
    spilling.spill_bytes = 16 << random() % 12;
    Counting memory(options), disk(spilling), updated(options), early(options);
    Counting device(OnGpu(options, &place, 60000 + random() % 500000));
    SequenceLog first, second;
    for (size_t s = 0; s + 1 < log.offsets.size(); ++s) {
      (s % 3 == 0 ? second : first)
          .Add({log.ids.begin() + log.offsets[s], log.ids.begin() + log.offsets[s + 1]});
    }
    for (Counting* counts : {&memory, &disk, &device}) ASSERT_EQ(counts->Add(log), RESEMBED_OK);
    ASSERT_EQ(early.Add(first), RESEMBED_OK);
    ASSERT_EQ(resembed_covisit_save(early.get(), stored.c_str(), nullptr, 0), RESEMBED_OK);
    ASSERT_EQ(updated.Add(second), RESEMBED_OK);
    ASSERT_EQ(resembed_covisit_add_file(updated.get(), stored.c_str(), nullptr), RESEMBED_OK);
    resembed_graph_options graph = GraphOptions(static_cast<int32_t>(1 + random() % 12));
    graph.min_count = static_cast<int64_t>(random() % 3);
    graph.self_loop = static_cast<int64_t>(random() % 3) - 1;
    graph.popularity = 0.25 * static_cast<double>(random() % 5);
    const Covisit::TopK expected = Lists(&memory, n_items, graph);
    for (Counting* counts : {&disk, &updated, &device}) {
      EXPECT_TRUE(Lists(counts, n_items, graph) == expected) << "seed " << seed;
      EXPECT_EQ(counts->Pairs(),
                OracleCounts(log, window, seed % 2 == 0 ? weights : std::vector<uint32_t>()));
    }
  }
  std::remove(stored.c_str());
}

// Every position is a chunk of its own, and the run goes to the host every few pairs.
TEST(DeviceGraph, ChunksOfOnePosition) {
  const resembed_place place = CudaPlace(nullptr);
  const SequenceLog log = RandomLog(45, 30, 60, 8);
  for (const size_t bytes : {size_t{600}, size_t{1300}}) {
    Counting counts(OnGpu(Options(30), &place, bytes));
    ASSERT_EQ(counts.Add(log), RESEMBED_OK) << resembed_last_error_message();
    EXPECT_EQ(counts.Pairs(), OracleCounts(log, 2, {}));
    EXPECT_LE(counts.get()->device->peak_bytes(), static_cast<int64_t>(bytes) + kScratchBytes);
  }
}

TEST(DeviceGraph, CountsStayAtTheLimitAndIdsReachIt) {
  constexpr int64_t kItems = 2147483647;
  const resembed_place place = CudaPlace(nullptr);
  const uint32_t heavy[] = {4294967295u};
  resembed_covisit_options options = Options(3, 1);
  options.distance_weights = heavy;
  Counting counts(OnGpu(options, &place, 1 << 16));
  SequenceLog log;
  for (int n = 0; n < 1000; ++n) log.Add({0, 1, 0, 1});
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), (PairMap{{{0, 1}, int64_t{4294967295} * 3000}}));
  const int32_t items[] = {0}, others[] = {1};
  const int64_t most[] = {INT64_MAX - 5};
  ASSERT_EQ(resembed_covisit_add_pairs(counts.get(), items, others, most, 1), RESEMBED_OK);
  ASSERT_EQ(counts.Add(log), RESEMBED_OK);
  EXPECT_EQ(counts.Pairs(), (PairMap{{{0, 1}, INT64_MAX}}));

  Counting wide(OnGpu(Options(kItems, 3), &place, 1 << 20));
  SequenceLog far;
  far.Add({kItems - 1, 0, kItems - 2, kItems - 1});
  ASSERT_EQ(wide.Add(far), RESEMBED_OK);
  int64_t n_pairs = 0;
  ASSERT_EQ(resembed_covisit_n_pairs(wide.get(), &n_pairs), RESEMBED_OK);
  EXPECT_EQ(n_pairs, 3);
}

TEST(DeviceGraph, TakesIdsFromAndWritesListsToDeviceMemory) {
  const resembed_place place = CudaPlace(nullptr);
  const SequenceLog log = RandomLog(43, 300, 400, 12);
  Counting cpu(Options(300)), gpu(OnGpu(Options(300), &place, 1 << 22));
  ASSERT_EQ(cpu.Add(log), RESEMBED_OK);
  const Stream stream;
  const ThrustBuffer ids(log.ids.data(), 4 * log.ids.size());
  resembed_covisit_sequences sequences = {};
  sequences.struct_size = sizeof(sequences);
  sequences.ids = ids.data();
  sequences.id_dtype = RESEMBED_I32;
  sequences.offsets = log.offsets.data();
  sequences.offset_dtype = RESEMBED_I64;
  sequences.n_sequences = log.n_sequences();
  sequences.on_device = 1;
  ASSERT_EQ(resembed_covisit_add_sequences(gpu.get(), &sequences), RESEMBED_OK)
      << resembed_last_error_message();
  ThrustBuffer neighbors(4 * 2400), values(8 * 2400);
  const resembed_graph_options graph = GraphOptions(8);
  ASSERT_EQ(resembed_covisit_graph(gpu.get(), &graph, static_cast<int32_t*>(neighbors.data()),
                                   static_cast<int64_t*>(values.data())),
            RESEMBED_OK);
  const Covisit::TopK expected = Lists(&cpu, 300, graph);
  ASSERT_TRUE(neighbors.Download(stream) && values.Download(stream)) << "written outside";
  EXPECT_EQ(std::memcmp(neighbors.host(), expected.neighbors.data(), 4 * 2400), 0);
  EXPECT_EQ(std::memcmp(values.host(), expected.counts.data(), 8 * 2400), 0);

  std::vector<int32_t> bad = log.ids;
  bad[17] = 300;
  const ThrustBuffer bad_ids(bad.data(), 4 * bad.size());
  sequences.ids = bad_ids.data();
  const PairMap before = gpu.Pairs();
  EXPECT_EQ(resembed_covisit_add_sequences(gpu.get(), &sequences), RESEMBED_OUT_OF_RANGE);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_add: ids[17] is 300; needs 0 .. n_items - 1 (299)");
  EXPECT_EQ(gpu.Pairs(), before);
  sequences.on_device = 1;
  EXPECT_EQ(resembed_covisit_add_sequences(cpu.get(), &sequences), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_add: on_device is 1; needs 0 where counts are on the cpu");
}

TEST(DeviceGraph, RejectsWhatItCannotDo) {
  const resembed_place place = CudaPlace(nullptr);
  resembed_covisit_options options = OnGpu(Options(10), &place, 0);
  options.max_pair_uses = 2;
  resembed_covisit* counts = nullptr;
  EXPECT_EQ(resembed_covisit_create(&options, &counts), RESEMBED_UNSUPPORTED);
  EXPECT_STREQ(resembed_last_error_message(), "covisit_create: max_pair_uses is 2; needs 0 on cuda");
  // Lists that do not fit (96 MB) are a status, and nothing is lost.
  constexpr int64_t kItems = 1000000;
  Counting small(OnGpu(Options(kItems), &place, 100000));
  ASSERT_EQ(small.Add(RandomLog(44, 1000, 50, 10)), RESEMBED_OK);
  std::vector<int32_t> neighbors(8 * kItems, 5);
  EXPECT_EQ(resembed_covisit_top_k(small.get(), 8, neighbors.data(), nullptr), RESEMBED_OUT_OF_MEMORY);
  EXPECT_STREQ(resembed_last_error_message(),
               "covisit_top_k: device_bytes is 100000; needs more, or more memory free on the device");
  EXPECT_EQ(neighbors[0], 5);
  EXPECT_EQ(small.Pairs(), OracleCounts(RandomLog(44, 1000, 50, 10), 2, {}));
}

}  // namespace
}  // namespace resembed::testing
