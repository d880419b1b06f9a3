// SPDX-License-Identifier: Apache-2.0
// Envelope statistics on the cuda backend: the CPU backend's bits wherever no exp is involved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "host/cuda/envelope.h"
#include "tests/cuda/support/device_plan.h"

namespace resembed::testing {
namespace {

const std::vector<float> kQuantiles = {0.0f, 0.5f, 0.95f, 1.0f};

// Every output as bytes, in the order of the fields.
struct Statistics {
  std::vector<std::vector<unsigned char>> outputs;
};

size_t Sizes(int64_t n_interests, int output) {
  const auto n = static_cast<size_t>(n_interests);
  const size_t bytes[] = {n * 8, n * 4, n * 16, n * 4, n * 16, n * 4, n * 4, 16};
  return bytes[output];
}

resembed_envelope_args ArgsOf(const resembed_table* table, const int32_t* interest_of, int64_t n_interests,
                              void* const (&outputs)[8]) {
  resembed_envelope_args args = {};
  args.struct_size = sizeof(args);
  args.table = table;
  args.interest_of = interest_of;
  args.n_interests = n_interests;
  args.quantiles = kQuantiles.data();
  args.n_quantiles = 4;
  args.count = static_cast<int64_t*>(outputs[0]);
  args.radius = static_cast<float*>(outputs[1]);
  args.radius_quantiles = static_cast<float*>(outputs[2]);
  args.residual_norm = static_cast<float*>(outputs[3]);
  args.residual_norm_quantiles = static_cast<float*>(outputs[4]);
  args.central_norm = static_cast<float*>(outputs[5]);
  args.ratio = static_cast<float*>(outputs[6]);
  args.global = static_cast<float*>(outputs[7]);
  return args;
}

Statistics OnCpu(const GradientProblem& problem, const std::vector<int32_t>& interest_of,
                 int64_t n_interests) {
  std::deque<Guarded> memory;
  void* pointers[8];
  for (int output = 0; output < 8; ++output) {
    memory.emplace_back(Sizes(n_interests, output));
    pointers[output] = memory.back().data();
  }
  const resembed_envelope_args args =
      ArgsOf(&problem.tables[0]->descriptor, interest_of.data(), n_interests, pointers);
  const resembed_place place = PlaceOf(nullptr);
  size_t bytes = 0;
  EXPECT_EQ(resembed_envelope_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  Guarded workspace(bytes);
  EXPECT_EQ(resembed_envelope(&args, workspace.data(), bytes, &place), RESEMBED_OK)
      << resembed_last_error_message();
  Statistics out;
  for (Guarded& output : memory) {
    const auto* first = static_cast<const unsigned char*>(output.data());
    out.outputs.emplace_back(first, first + output.size());
  }
  return out;
}

// The public call, or launches of at most so many blocks.
Statistics OnDevice(const GradientProblem& problem, const std::vector<int32_t>& interest_of,
                    int64_t n_interests, int64_t most_blocks = 0) {
  DeviceProblem device(problem);
  const Stream stream;
  const DeviceBuffer interests(interest_of.data(), interest_of.size() * 4);
  std::deque<DeviceBuffer> memory;
  void* pointers[8];
  for (int output = 0; output < 8; ++output) {
    memory.emplace_back(Sizes(n_interests, output));
    pointers[output] = memory.back().data();
  }
  const resembed_envelope_args args =
      ArgsOf(&device.tables[0], static_cast<const int32_t*>(interests.data()), n_interests, pointers);
  const resembed_place place = CudaPlace(stream.get());
  size_t bytes = 0;
  EXPECT_EQ(resembed_envelope_workspace_size(&args, &place, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  DeviceBuffer workspace(bytes);
  {
    const InOperation scope("envelope");
    const resembed_status status =
        most_blocks == 0 ? resembed_envelope(&args, workspace.data(), bytes, &place)
                         : detail::cuda::Envelope("envelope", args, detail::ReadTable(args.table),
                                                  workspace.data(), place, most_blocks);
    EXPECT_EQ(status, RESEMBED_OK) << resembed_last_error_message();
  }
  EXPECT_TRUE(workspace.Download(stream));
  Statistics out;
  for (DeviceBuffer& output : memory) {
    EXPECT_TRUE(output.Download(stream));
    out.outputs.emplace_back(output.host(), output.host() + output.size());
  }
  return out;
}

// Interests of random sizes, some of them empty, a tenth of the items in none.
std::vector<int32_t> RandomInterests(int64_t n_items, int64_t n_interests, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> interests;
  for (int64_t item = 0; item < n_items; ++item) {
    const auto draw = static_cast<int64_t>(random() % static_cast<uint64_t>(n_interests * 10 / 9 + 1));
    interests.push_back(draw % 3 == 2 || draw >= n_interests ? -1 : static_cast<int32_t>(draw));
  }
  return interests;
}

void ExpectSameAsCpu(const TableSpec& table, int64_t n_interests, uint64_t seed) {
  const char* const names[] = {
      "count", "radius", "radius_quantiles", "residual_norm", "residual_norm_quantiles", "central_norm",
      "ratio", "global"};
  GradientProblem problem({table}, {}, seed);
  const std::vector<int32_t> interests = RandomInterests(table.n_items, n_interests, seed);
  const Statistics want = OnCpu(problem, interests, n_interests);
  const Statistics got = OnDevice(problem, interests, n_interests);
  for (size_t output = 0; output < 8; ++output) {
    if (table.form != RESEMBED_CENTRAL_ATTENTION || output == 0) {
      EXPECT_EQ(got.outputs[output], want.outputs[output])
          << names[output] << " form " << table.form << " dim " << table.dim;
      continue;
    }
    // exp differs in its last bits between the C library and a GPU.
    const std::vector<double> a = Decode(got.outputs[output].data(), RESEMBED_F32,
                                         static_cast<int64_t>(got.outputs[output].size() / 4)),
                              b = Decode(want.outputs[output].data(), RESEMBED_F32,
                                         static_cast<int64_t>(want.outputs[output].size() / 4));
    for (size_t at = 0; at < a.size(); ++at) {
      EXPECT_NEAR(a[at], b[at], 1e-5 * (1 + std::fabs(b[at]))) << names[output] << " " << at;
    }
  }
}

TEST(CudaEnvelope, HasTheBitsOfTheCpu) {
  for (int form = 0; form < 5; ++form) {
    for (const int64_t dim : {3, 40}) {
      TableSpec table;
      table.form = form;
      table.dim = dim;
      table.n_items = 150;
      table.row_map = dim == 3;
      table.residual_dtype = dim == 40 ? RESEMBED_BF16 : RESEMBED_F32;
      table.central_dtype = dim == 40 ? RESEMBED_F16 : RESEMBED_F32;
      table.u16_centers = dim == 40;
      ExpectSameAsCpu(table, 9, 5);
      ExpectSameAsCpu(table, 40, 6);
    }
  }
}

TEST(CudaEnvelope, InterestsLongerThanAPieceHaveTheBitsOfTheCpu) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_ASSIGNMENT;
  table.dim = 3;
  table.n_items = 15000;
  ExpectSameAsCpu(table, 2, 7);
}

TEST(CudaEnvelope, WithoutAResidualOrACentralPart) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_STORED;
  table.residual = false;
  ExpectSameAsCpu(table, 4, 8);
}

TEST(CudaEnvelope, NoItemsAndNoInterestsAreValid) {
  TableSpec table;
  table.n_items = 0;
  ExpectSameAsCpu(table, 3, 1);
  GradientProblem problem({TableSpec()}, {}, 1);
  const std::vector<int32_t> none(50, -1);
  EXPECT_EQ(OnDevice(problem, none, 0).outputs, OnCpu(problem, none, 0).outputs);
}

// The CPU refuses them; a device cannot without waiting.
TEST(CudaEnvelope, InterestsOutOfRangeAreLeftOut) {
  GradientProblem problem({TableSpec()}, {}, 1);
  std::vector<int32_t> interests(50, 0), wrong(50, 0);
  for (const size_t item : {size_t{3}, size_t{40}}) {
    interests[item] = -1;
    wrong[item] = item == 3 ? 7 : -2;
  }
  EXPECT_EQ(OnDevice(problem, wrong, 2).outputs, OnCpu(problem, interests, 2).outputs);
}

// Down to one block that walks over all work.
TEST(CudaEnvelope, AnyNumberOfBlocksHasTheSameBits) {
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    TableSpec table;
    table.form = form;
    table.dim = form == RESEMBED_CENTRAL_ASSIGNMENT ? 3 : 40;
    table.n_items = form == RESEMBED_CENTRAL_ASSIGNMENT ? 7000 : 150;  // more members than a piece has
    const int64_t n_interests = form == RESEMBED_CENTRAL_ASSIGNMENT ? 2 : 30;
    GradientProblem problem({table}, {}, 5);
    const std::vector<int32_t> interests = RandomInterests(table.n_items, n_interests, 5);
    const Statistics want = OnDevice(problem, interests, n_interests);
    for (const int64_t blocks : {1, 3}) {
      EXPECT_EQ(OnDevice(problem, interests, n_interests, blocks).outputs, want.outputs)
          << "form " << form << " blocks " << blocks;
    }
  }
}

}  // namespace
}  // namespace resembed::testing
