// SPDX-License-Identifier: Apache-2.0
//
// Warp and block collectives, copies and atomics against plain loops. Run emulated in CI; the same file, linked with
// the kernels as nvcc compiles them, on a GPU: only that run says that the emulator reads the documentation right.
#include <gtest/gtest.h>

#include <random>

#include "tests/emulator/conformance/device_array.h"
#include "tests/emulator/conformance/kernels.h"

namespace resembed::conformance {
namespace {

constexpr unsigned kFull = 0xffffffffu;

// What a shuffle gives lane `lane`; false when it reads a lane that takes no part (anything may come).
bool ExpectedShuffle(Shuffle op, unsigned mask, int width, int lane, int argument, int n_lanes, int* source) {
  const int base = lane / width * width;
  *source = lane;
  if (op == Shuffle::kIndex) *source = base + ((argument % width) + width) % width;
  if (op == Shuffle::kUp && lane - argument >= base) *source = lane - argument;
  if (op == Shuffle::kDown && lane + argument < base + width) *source = lane + argument;
  if (op == Shuffle::kXor && (lane ^ argument) < base + width) *source = lane ^ argument;
  return *source < n_lanes && (mask >> *source & 1u) != 0;
}

TEST(Conformance, ShufflesOfEveryWidthMaskAndType) {
  const Stream stream;
  std::mt19937_64 random(1);
  const int bytes[] = {4, 4, 4, 8, 8, 2};
  for (const Shuffle op : {Shuffle::kIndex, Shuffle::kUp, Shuffle::kDown, Shuffle::kXor}) {
    for (int type = 0; type < 6; ++type) {
      for (int width = 1; width <= 32; width *= 2) {
        for (const unsigned any : {kFull, 0xffffu, 0x0ff0u, 0x55555555u, 0x80000001u, 0x00100000u}) {
          const int n_lanes = any == 0x0ff0u ? 20 : 32;  // a warp that is not whole, too
          std::vector<std::uint64_t> in(32);
          std::vector<int> argument(32);
          for (int lane = 0; lane < 32; ++lane) {
            in[static_cast<std::size_t>(lane)] = random() & (bytes[type] == 8   ? ~std::uint64_t{0}
                                                             : bytes[type] == 4 ? 0xffffffffu
                                                                                : 0x7fffu);
            if (type == 2 || type == 4)
              in[static_cast<std::size_t>(lane)] &= ~(std::uint64_t{1} << 62 | 1u << 30);  // no NaN
            argument[static_cast<std::size_t>(lane)] = static_cast<int>(random() % 32);
          }
          const DeviceArray<std::uint64_t> device_in(in), out(32, 0);
          const DeviceArray<int> device_argument(argument);
          ASSERT_EQ(RunShuffle(op, static_cast<Value>(type), any, width, n_lanes, device_in.get(),
                               device_argument.get(), out.get(), stream),
                    cudaSuccess);
          const std::vector<std::uint64_t> got = out.Read();
          for (int lane = 0; lane < n_lanes; ++lane) {
            int source = 0;
            const auto l = static_cast<std::size_t>(lane);
            if ((any >> lane & 1u) == 0) {
              EXPECT_EQ(got[l], 0u);
            } else if (ExpectedShuffle(op, any, width, lane, argument[l], n_lanes, &source)) {
              EXPECT_EQ(got[l], in[static_cast<std::size_t>(source)])
                  << "op " << static_cast<int>(op) << " type " << type << " width " << width << " mask "
                  << std::hex << any << std::dec << " lane " << lane << " argument " << argument[l];
            }
          }
        }
      }
    }
  }
}

TEST(Conformance, VotesAndMatches) {
  const Stream stream;
  std::mt19937 random(2);
  for (const unsigned mask : {kFull, 0xffffu, 0x55555555u, 0xfffffffeu, 0x00100000u}) {
    for (int trial = 0; trial < 6; ++trial) {
      std::vector<int> in(32);
      for (int& value : in) value = trial == 0 ? 0 : trial == 1 ? 7 : static_cast<int>(random() % 3);
      const DeviceArray<int> device_in(in);
      const DeviceArray<unsigned> out(6 * 32, 99u);
      ASSERT_EQ(RunVotes(mask, 32, device_in.get(), out.get(), stream), cudaSuccess);
      const std::vector<unsigned> got = out.Read();
      for (std::size_t lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1u) == 0) continue;
        unsigned ballot = 0, same = 0;
        for (std::size_t other = 0; other < 32; ++other) {
          if ((mask >> other & 1u) == 0) continue;
          if (in[other] != 0) ballot |= 1u << other;
          if (in[other] == in[lane]) same |= 1u << other;
        }
        EXPECT_EQ(got[6 * lane + 0], ballot);
        EXPECT_EQ(got[6 * lane + 1], ballot != 0);
        EXPECT_EQ(got[6 * lane + 2], ballot == mask);
        EXPECT_EQ(got[6 * lane + 3], same);
        EXPECT_EQ(got[6 * lane + 4], same == mask ? mask : 0u);
        EXPECT_EQ(got[6 * lane + 5], same == mask);
      }
    }
  }
}

TEST(Conformance, WarpReductions) {
  int major = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  if (major < 8) GTEST_SKIP() << "__reduce_*_sync needs compute capability 8.0";
  const Stream stream;
  std::mt19937 random(3);
  for (const unsigned mask : {kFull, 0x0000ff00u, 0x55555555u, 0x80000000u}) {
    std::vector<int> in(32);
    for (int& value : in) value = static_cast<int>(random());
    const DeviceArray<int> device_in(in);
    const DeviceArray<unsigned> out(9 * 32);
    ASSERT_EQ(RunReduce(mask, 32, device_in.get(), out.get(), stream), cudaSuccess);
    unsigned add = 0, min_bits = kFull, max_bits = 0, all = kFull, some = 0, odd = 0;
    int smallest = INT32_MAX, largest = INT32_MIN;
    for (std::size_t lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1u) == 0) continue;
      const unsigned bits = static_cast<unsigned>(in[lane]);
      add += bits, all &= bits, some |= bits, odd ^= bits;
      min_bits = std::min(min_bits, bits), max_bits = std::max(max_bits, bits);
      smallest = std::min(smallest, in[lane]), largest = std::max(largest, in[lane]);
    }
    const std::vector<unsigned> expected = {add,
                                            static_cast<unsigned>(smallest),
                                            static_cast<unsigned>(largest),
                                            add,
                                            min_bits,
                                            max_bits,
                                            all,
                                            some,
                                            odd};
    const std::vector<unsigned> got = out.Read();
    for (std::size_t lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1u) == 0) continue;
      EXPECT_EQ(std::vector<unsigned>(got.begin() + static_cast<long>(9 * lane),
                                      got.begin() + static_cast<long>(9 * lane + 9)),
                expected);
    }
  }
}

TEST(Conformance, LanesThatWentSeparateWays) {
  const Stream stream;
  std::vector<int> in(32);
  int even = 0, odd = 0;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    in[lane] = static_cast<int>(lane * lane + 1);
    (lane % 2 == 0 ? even : odd) += in[lane];
  }
  const DeviceArray<int> device_in(in), out(32);
  ASSERT_EQ(RunDivergent(device_in.get(), out.get(), stream), cudaSuccess);
  const std::vector<int> got = out.Read();
  for (std::size_t lane = 0; lane < 32; ++lane) EXPECT_EQ(got[lane], lane % 2 == 0 ? even : -odd);
}

TEST(Conformance, LanesThatEndedDoNotCount) {
  const Stream stream;
  for (const int first : {1, 5, 31, 32}) {
    const std::vector<int> in(32, 1);
    const DeviceArray<int> device_in(in);
    const DeviceArray<unsigned> out(32);
    ASSERT_EQ(RunAfterExit(first, device_in.get(), out.get(), stream), cudaSuccess);
    const std::vector<unsigned> got = out.Read();
    for (int lane = 0; lane < first; ++lane) {
      EXPECT_EQ(got[static_cast<std::size_t>(lane)], first == 32 ? kFull : (1u << first) - 1);
    }
  }
}

TEST(Conformance, BlockVotes) {
  const Stream stream;
  for (const int n_threads : {1, 32, 50, 256, 1024}) {
    for (const int every : {1, 3, 2000}) {
      std::vector<int> in(static_cast<std::size_t>(n_threads), 0);
      int count = 0;
      for (int i = every == 2000 ? n_threads : 0; i < n_threads; i += every, ++count)
        in[static_cast<std::size_t>(i)] = 5;
      const DeviceArray<int> device_in(in), out(3 * static_cast<std::size_t>(n_threads));
      ASSERT_EQ(RunBlockVotes(n_threads, device_in.get(), out.get(), stream), cudaSuccess);
      const std::vector<int> got = out.Read();
      for (std::size_t i = 0; i < static_cast<std::size_t>(n_threads); ++i) {
        ASSERT_EQ(got[3 * i + 0], count);
        ASSERT_EQ(got[3 * i + 1], count == n_threads);
        ASSERT_EQ(got[3 * i + 2], count > 0);
      }
    }
  }
}

TEST(Conformance, NamedBarriers) {
  const Stream stream;
  constexpr int kRounds = 7;
  std::vector<int> in(32 * kRounds);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i * 37 % 101);
  const DeviceArray<int> device_in(in), out(in.size());
  ASSERT_EQ(RunNamedBarriers(kRounds, device_in.get(), out.get(), stream), cudaSuccess);
  const std::vector<int> got = out.Read();
  for (int round = 0; round < kRounds; ++round) {
    for (int lane = 0; lane < 32; ++lane) {
      int sum = 0;
      for (int i = 0; i < 32; ++i) sum += in[static_cast<std::size_t>(32 * round + i)] * (i + lane);
      EXPECT_EQ(got[static_cast<std::size_t>(32 * round + lane)], sum);
    }
  }
}

TEST(Conformance, SharedMemory) {
  const Stream stream;
  std::vector<float> in(1024);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  const DeviceArray<float> device_in(in), out(1024);
  ASSERT_EQ(RunShared(device_in.get(), out.get(), stream), cudaSuccess);
  const std::vector<float> got = out.Read();
  for (std::size_t row = 0; row < 32; ++row) {
    for (std::size_t column = 0; column < 32; ++column) {
      EXPECT_EQ(got[32 * row + column], in[32 * column + row] + 100.0f * static_cast<float>(row));
    }
  }
}

TEST(Conformance, LastBlockSeesAllBlocks) {
  const Stream stream;
  constexpr int kBlocks = 23;
  std::vector<int> in(32 * kBlocks);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i % 5);
  const DeviceArray<int> device_in(in), partial(in.size()), out(32);
  const DeviceArray<unsigned> counter(1, 0u);
  ASSERT_EQ(RunLastBlock(kBlocks, device_in.get(), partial.get(), counter.get(), out.get(), stream),
            cudaSuccess);
  const std::vector<int> got = out.Read();
  for (std::size_t thread = 0; thread < 32; ++thread) {
    unsigned sum = 0;
    for (unsigned block = 0; block < kBlocks; ++block)
      sum = 3 * sum + static_cast<unsigned>(in[32 * block + thread]) * (block + 1);
    EXPECT_EQ(static_cast<unsigned>(got[thread]), sum);
  }
}

TEST(Conformance, Indices) {
  const Stream stream;
  const dim3 grid(3, 4, 5), block(2, 7, 3);
  const DeviceArray<unsigned> out(60 * 42);
  ASSERT_EQ(RunIndices(grid, block, out.get(), stream), cudaSuccess);
  const std::vector<unsigned> got = out.Read();
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], i);
}

}  // namespace
}  // namespace resembed::conformance
