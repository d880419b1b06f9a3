// SPDX-License-Identifier: Apache-2.0
// Training with the tables on a device (emulated, or a GPU) beside training on the CPU: the same numbers step by
// step. The dense part is the same code on the host in both; dense_device_test.cc has it on the device.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/train/device_support.h"
#include "tests/train/end_to_end_support.h"
#ifdef RESEMBED_EMULATED
#include "tests/emulator/emulator.h"
#endif

namespace resembed::train {
namespace {

using ::testing::ContainsRegex;
using testing::Curve;
using testing::Differing;
using testing::Farthest;
using ::testing::HasSubstr;
using testing::Problem;
using testing::Row;
using testing::Said;
using testing::SmallHyper;
using ::testing::StartsWith;
using testing::Trained;
using testing::Values;

struct Case {
  Head head;
  const char* variant;
  const char* optimizer;
};

class TrainOnDevice : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Variants, TrainOnDevice,
    ::testing::Values(Case{Head::kMlp, "plain", "adam"}, Case{Head::kMlp, "avg", "adam"},
                      Case{Head::kMlp, "gcn", "adagrad"}, Case{Head::kMlp, "att", "adagrad"},
                      Case{Head::kMlp, "assign", "adam"}, Case{Head::kDot, "plain", "adagrad"},
                      Case{Head::kDot, "avg", "adagrad"}, Case{Head::kDot, "gcn", "adam"},
                      Case{Head::kDot, "att", "adagrad"}, Case{Head::kDot, "assign", "adagrad"},
                      Case{Head::kDot, "central", "adam"}, Case{Head::kDot, "plain_2x", "adam"},
                      Case{Head::kDin, "plain", "adagrad"}, Case{Head::kDin, "avg", "adagrad"},
                      Case{Head::kDin, "assign", "adagrad"}),
    [](const auto& test) {
      return std::string(HeadName(test.param.head)) + "_" + test.param.variant + "_" + test.param.optimizer;
    });

TEST_P(TrainOnDevice, StepsHaveTheNumbersOfTheCpu) {
  const Problem problem;
  const Hyper hyper = SmallHyper(GetParam().head, GetParam().optimizer);
  const std::unique_ptr<Device> device = Device::Open(0);
  const Trained cpu(problem, GetParam().variant, hyper, nullptr);
  const Trained gpu(problem, GetParam().variant, hyper, device.get());
  ASSERT_EQ(gpu.learner->embedding().place()->backend, RESEMBED_CUDA);
  cudaPointerAttributes where = {};
  const resembed_table& table = gpu.learner->embedding().table();
  ASSERT_EQ(cudaPointerGetAttributes(&where, table.residual != nullptr ? table.residual : table.central),
            cudaSuccess);
  ASSERT_EQ(where.type, cudaMemoryTypeDevice);
  for (const double loss : cpu.loss) ASSERT_TRUE(loss > 0.01 && loss < 100) << loss;
  ASSERT_NE(cpu.loss.front(), cpu.loss.back());
  if (std::string(GetParam().variant) == "att" || GetParam().head == Head::kDin) {
    // exp differs between the C library and a GPU. Adagrad by rows is smooth in the gradient; Adam's first
    // steps are its sign.
    ASSERT_EQ(gpu.loss.size(), cpu.loss.size());
    for (size_t step = 0; step < cpu.loss.size(); ++step) {
      EXPECT_NEAR(gpu.loss[step], cpu.loss[step], 1e-5) << "step " << step;
    }
    EXPECT_LT(Farthest(gpu.weights, cpu.weights), 1e-4);
    EXPECT_LT(Farthest(gpu.state, cpu.state), 1e-4);
    EXPECT_LT(Farthest(gpu.items, cpu.items), 1e-4);
    return;
  }
  EXPECT_EQ(gpu.loss, cpu.loss);
  EXPECT_EQ(Differing(gpu.weights, cpu.weights), 0u);
  EXPECT_EQ(Differing(gpu.state, cpu.state), 0u);
  EXPECT_EQ(Differing(gpu.items, cpu.items), 0u);
  ASSERT_FALSE(cpu.envelope.radius.empty());
  EXPECT_EQ(gpu.envelope.radius, cpu.envelope.radius);
  EXPECT_EQ(gpu.envelope.radius95, cpu.envelope.radius95);
}

// A user's own lists: residual and central part are two tables of the call.
TEST(TrainOnDeviceLists, OwnListsHaveTheNumbersOfTheCpu) {
  Problem problem;
  problem.graph.own = MakeOwnLists(problem.log, problem.split, problem.graph, 1);
  const std::unique_ptr<Device> device = Device::Open(0);
  for (const char* variant : {"avg", "central"}) {
    const Hyper hyper = SmallHyper(Head::kDot, "adam");
    const Trained cpu(problem, variant, hyper, nullptr), gpu(problem, variant, hyper, device.get());
    EXPECT_EQ(gpu.loss, cpu.loss);
    EXPECT_EQ(Differing(gpu.weights, cpu.weights), 0u);
  }
}

class TrainRowOnDevice : public ::testing::TestWithParam<Head> {};
INSTANTIATE_TEST_SUITE_P(Heads, TrainRowOnDevice, ::testing::Values(Head::kMlp, Head::kDot),
                         [](const auto& test) { return HeadName(test.param); });

TEST_P(TrainRowOnDevice, EpochsAreTheCpusAndACheckpointContinuesOnEither) {
  const Problem problem;
  const std::unique_ptr<Device> device = Device::Open(0);
  Row cpu(problem, GetParam(), nullptr), gpu(problem, GetParam(), device.get());
  ASSERT_TRUE(cpu.Train(problem, INT64_MAX));
  ASSERT_TRUE(gpu.Train(problem, INT64_MAX));
  ASSERT_EQ(cpu.state.curve.size(), 3u);
  EXPECT_EQ(Curve(gpu.state), Curve(cpu.state));
  EXPECT_EQ(gpu.state.best_epoch, cpu.state.best_epoch);
  const std::vector<float> weights = Values(cpu.learner->Weights());
  EXPECT_EQ(Differing(Values(gpu.learner->Weights()), weights), 0u);

  Row stopped(problem, GetParam(), device.get());
  ASSERT_FALSE(stopped.Train(problem, cpu.state.total_steps / 2));
  const std::string path =
      (std::filesystem::temp_directory_path() / ("resembed_row_" + std::to_string(getpid()))).string();
  SaveProgress(path, stopped.key, stopped.learner.get(), stopped.state);
  Row there(problem, GetParam(), device.get()), here(problem, GetParam(), nullptr);
  for (Row* row : {&there, &here}) {
    ASSERT_TRUE(LoadProgress(path, row->key, row->learner.get(), &row->state));
    ASSERT_TRUE(row->Train(problem, INT64_MAX));
    EXPECT_EQ(Curve(row->state), Curve(cpu.state));
    EXPECT_EQ(Differing(Values(row->learner->Weights()), weights), 0u);
  }
  std::filesystem::remove(path);
}

// Every file of a run; metrics without the time they took and the command that they name.
TEST(RunOnDevice, WritesTheFilesOfTheCpu) {
  const testing::Folder folder("device_run");
  const std::string variants = "plain,plain_pretrained,avg";
  testing::RunSmall(folder / "cpu", {"--variants", variants});
  testing::RunSmall(folder / "cuda", {"--variants", variants, "--backend", "cuda", "--dense", "host"});
  const auto metrics = [&](const char* backend) {
    return testing::WithoutTimes(testing::ReadJson(folder / (std::string(backend) + "/metrics.json")));
  };
  ASSERT_TRUE(metrics("cpu").is_object());
  EXPECT_EQ(testing::ReadJson(folder / "cuda/metrics.json")["config"]["backend"], "cuda");
  EXPECT_EQ(metrics("cuda"), metrics("cpu"));
  for (const char* file :
       {"mlp/plain/seed1.safetensors", "mlp/plain_pretrained/seed1.safetensors", "mlp/avg/seed1.safetensors",
        "dot/plain/seed1.safetensors", "dot/avg/seed1.safetensors", "picture.json"}) {
    const std::string wanted = testing::ReadFile(folder / (std::string("cpu/") + file));
    EXPECT_GT(wanted.size(), 100u) << file;
    EXPECT_TRUE(testing::ReadFile(folder / (std::string("cuda/") + file)) == wanted) << file;
  }
}

#ifdef RESEMBED_EMULATED
TEST(DeviceOpen, SaysThatThereIsNoGpu) {
  const emulator::Device before = emulator::GetDevice();
  emulator::Device none = before;
  none.count_status = cudaErrorNoDevice;
  emulator::SetDevice(none);
  EXPECT_THAT(Said([] { Device::Open(0); }), StartsWith("--backend is cuda: "));
  emulator::SetDevice(before);
  EXPECT_THAT(Said([] { Device::Open(7); }), HasSubstr("7"));
}

TEST(DeviceMemory, SaysWhatDoesNotFit) {
  const Problem problem;
  const emulator::Device before = emulator::GetDevice();
  emulator::Device small = before;
  small.memory_bytes = 2000;
  emulator::SetDevice(small);
  const std::unique_ptr<Device> device = Device::Open(0);
  Pool pool(1);
  EXPECT_THAT(Said([&] {
                MakeLearner(*FindVariant("avg"), problem.graph, problem.view, SmallHyper(Head::kDot, "adam"),
                            1, &pool, device.get());
              }),
              ContainsRegex("device memory of [0-9]+ bytes: out of memory"));
  emulator::SetDevice(before);
}
#endif

}  // namespace
}  // namespace resembed::train
