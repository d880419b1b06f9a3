// SPDX-License-Identifier: Apache-2.0
// Training with tables and dense part on a device, beside training on the CPU.
#include "host/train/dense_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/train/dense_fixture.h"
#include "tests/train/device_support.h"
#include "tests/train/end_to_end_support.h"
#ifdef RESEMBED_EMULATED
#include "tests/emulator/emulator.h"
#endif

namespace resembed::train {
namespace {

using testing::Chosen;
using testing::Curve;
using testing::DenseOnDevice;
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
  double dropout;
  bool transform;
};
class DenseSteps : public DenseOnDevice, public ::testing::WithParamInterface<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Heads, DenseSteps,
    ::testing::Values(Case{Head::kMlp, "plain", 0, false}, Case{Head::kMlp, "avg", .3, false},
                      Case{Head::kDin, "plain", 0, false}, Case{Head::kDin, "assign", .3, false},
                      Case{Head::kDot, "plain", .2, false}, Case{Head::kDot, "avg", 0, true},
                      Case{Head::kDot, "att", .2, true}),
    [](const auto& test) {
      return std::string(HeadName(test.param.head)) + "_" + test.param.variant +
             (test.param.dropout > 0 ? "_dropout" : "") + (test.param.transform ? "_matrix" : "");
    });

Hyper HyperOfCase(const Case& which) {
  Hyper hyper = SmallHyper(which.head, "adagrad");
  hyper.dropout = which.dropout;
  hyper.query_transform = which.transform;
  return hyper;
}

#ifdef __SANITIZE_ADDRESS__
constexpr int kSteps = 10, kRepeated = 6;  // a step takes eight times as long
#else
constexpr int kSteps = 40, kRepeated = 12;
#endif

// Many steps. Adagrad by rows and Adam divide by what gradients are, so a last bit of a product grows along
// the way.
TEST_P(DenseSteps, HaveTheLossesAndWeightsOfTheCpu) {
  const Problem problem;
  const Hyper hyper = HyperOfCase(GetParam());
  const Trained cpu(problem, GetParam().variant, hyper, nullptr, kSteps);
  const Trained gpu(problem, GetParam().variant, hyper, device_.get(), kSteps);
  ASSERT_EQ(gpu.loss.size(), static_cast<size_t>(kSteps));
  for (size_t step = 0; step < cpu.loss.size(); ++step) {
    ASSERT_TRUE(cpu.loss[step] > 0.01 && cpu.loss[step] < 100) << cpu.loss[step];
    EXPECT_NEAR(gpu.loss[step], cpu.loss[step], 1e-4 * cpu.loss[step]) << "step " << step;
  }
  EXPECT_NE(cpu.loss.front(), cpu.loss.back());
  EXPECT_LT(Farthest(gpu.weights, cpu.weights), 2e-3);
  EXPECT_LT(Farthest(gpu.state, cpu.state), 2e-3);
  EXPECT_LT(Farthest(gpu.items, cpu.items), 2e-3);
}

TEST_P(DenseSteps, HaveTheSameBitsOnEveryRunAndGrid) {
  const Problem problem;
  const Hyper hyper = HyperOfCase(GetParam());
  const Trained once(problem, GetParam().variant, hyper, device_.get(), kRepeated);
  std::string what;
  for (const int64_t most_blocks : {4096, 1, 3}) {
    device_->UseDense(OpenDeviceMath(device_.get(), &what, most_blocks));
    const Trained again(problem, GetParam().variant, hyper, device_.get(), kRepeated);
    EXPECT_EQ(again.loss, once.loss) << most_blocks;
    EXPECT_EQ(Differing(again.weights, once.weights), 0u) << most_blocks;
    EXPECT_EQ(Differing(again.state, once.state), 0u) << most_blocks;
  }
#ifdef RESEMBED_EMULATED
  const emulator::Order before = emulator::GetOrder();
  for (const emulator::Order order :
       {emulator::Order{emulator::Order::kForward, 0}, emulator::Order{emulator::Order::kReverse, 0},
        emulator::Order{emulator::Order::kRandom, 9}}) {
    emulator::SetOrder(order);
    const Trained again(problem, GetParam().variant, hyper, device_.get(), kRepeated);
    EXPECT_EQ(again.loss, once.loss) << emulator::Name(order);
    EXPECT_EQ(Differing(again.weights, once.weights), 0u) << emulator::Name(order);
  }
  emulator::SetOrder(before);
#endif
}

// A user's own lists: two tables, whose pooled rows are added on the device.
TEST_F(DenseOnDevice, OwnListsHaveTheNumbersOfTheCpu) {
  Problem problem;
  problem.graph.own = MakeOwnLists(problem.log, problem.split, problem.graph, 1);
  for (const Head head : {Head::kMlp, Head::kDot}) {
    const Hyper hyper = SmallHyper(head, "adagrad");
    const Trained cpu(problem, "avg", hyper, nullptr), gpu(problem, "avg", hyper, device_.get());
    for (size_t step = 0; step < cpu.loss.size(); ++step) {
      EXPECT_NEAR(gpu.loss[step], cpu.loss[step], 1e-4 * cpu.loss[step]) << "step " << step;
    }
    EXPECT_LT(Farthest(gpu.weights, cpu.weights), 1e-3);
  }
}

class DenseRow : public DenseOnDevice, public ::testing::WithParamInterface<Head> {};
INSTANTIATE_TEST_SUITE_P(Heads, DenseRow, ::testing::Values(Head::kMlp, Head::kDin, Head::kDot),
                         [](const auto& test) { return HeadName(test.param); });

TEST_P(DenseRow, ContinuesACheckpointWithTheSameBits) {
  const Problem problem;
  Row whole(problem, GetParam(), device_.get()), stopped(problem, GetParam(), device_.get());
  ASSERT_TRUE(whole.Train(problem, INT64_MAX));
  ASSERT_FALSE(stopped.Train(problem, whole.state.total_steps / 2));
  const std::string path =
      (std::filesystem::temp_directory_path() / ("resembed_dense_" + std::to_string(getpid()))).string();
  SaveProgress(path, stopped.key, stopped.learner.get(), stopped.state);
  Row there(problem, GetParam(), device_.get()), here(problem, GetParam(), nullptr);
  ASSERT_TRUE(LoadProgress(path, there.key, there.learner.get(), &there.state));
  ASSERT_TRUE(there.Train(problem, INT64_MAX));
  EXPECT_EQ(Curve(there.state), Curve(whole.state));
  EXPECT_EQ(Differing(Values(there.learner->Weights()), Values(whole.learner->Weights())), 0u);
  EXPECT_EQ(Differing(Values(there.learner->OptimizerState()), Values(whole.learner->OptimizerState())), 0u);
  // The CPU goes on from there as well.
  ASSERT_TRUE(LoadProgress(path, here.key, here.learner.get(), &here.state));
  ASSERT_TRUE(here.Train(problem, INT64_MAX));
  for (size_t epoch = 0; epoch < whole.state.curve.size(); ++epoch) {
    EXPECT_NEAR(here.state.curve[epoch].train_loss, whole.state.curve[epoch].train_loss, 1e-3);
    EXPECT_NEAR(here.state.curve[epoch].valid, whole.state.curve[epoch].valid, 0.02);
  }
  std::filesystem::remove(path);
}

TEST_P(DenseRow, LearnsAndIsEvaluatedAsOnTheCpu) {
  const Problem problem;
  Row cpu(problem, GetParam(), nullptr), gpu(problem, GetParam(), device_.get());
  ASSERT_TRUE(cpu.Train(problem, INT64_MAX));
  ASSERT_TRUE(gpu.Train(problem, INT64_MAX));
  ASSERT_EQ(cpu.state.curve.size(), 3u);
  for (size_t epoch = 0; epoch < 3; ++epoch) {
    EXPECT_NEAR(gpu.state.curve[epoch].train_loss, cpu.state.curve[epoch].train_loss, 1e-3);
    EXPECT_NEAR(gpu.state.curve[epoch].valid, cpu.state.curve[epoch].valid, 0.02);
  }
  EXPECT_NE(gpu.state.curve.back().train_loss, gpu.state.curve.front().train_loss);
}

TEST_F(DenseOnDevice, ARunSaysSoAndHasTheFiguresOfTheCpu) {
  const testing::Folder folder("dense_run");
  const std::vector<std::string> rows = {"--head", "all", "--variants", "avg"};
  testing::RunSmall(folder / "cpu", rows);
  std::vector<std::string> words = rows;
  words.insert(words.end(), {"--backend", "cuda", "--dense", "cublas"});
  testing::RunSmall(folder / "cuda", words);
  const nlohmann::json cpu = testing::ReadJson(folder / "cpu/metrics.json"),
                       gpu = testing::ReadJson(folder / "cuda/metrics.json");
  EXPECT_EQ(cpu["config"]["dense"], "host");
  EXPECT_EQ(gpu["config"]["dense"], "cublas");
  for (const char* head : {"mlp", "din", "dot"}) {
    const double wanted = cpu["heads"][head]["avg"]["auc"]["mean"];
    EXPECT_GT(wanted, 0.4) << head;
    EXPECT_NEAR(gpu["heads"][head]["avg"]["auc"]["mean"].get<double>(), wanted, 0.01) << head;
  }
}

TEST(HeadOnHost, IsWhatIsLeftWithoutALibrary) {
  const Chosen none("/nonexistent/libcublas.so");
  std::string what;
  const std::unique_ptr<Device> device = Device::Open(0);
  EXPECT_EQ(OpenDeviceMath(device.get(), &what), nullptr);
  EXPECT_THAT(what, HasSubstr("/nonexistent/libcublas.so"));
  const testing::Folder folder("dense_fallback");
  const std::vector<std::string> cuda = {"--variants", "avg", "--backend", "cuda"};
  testing::RunSmall(folder / "auto", cuda);
  testing::RunSmall(folder / "cpu", {"--variants", "avg"});
  EXPECT_EQ(testing::ReadJson(folder / "auto/metrics.json")["config"]["dense"], "host");
  for (const char* file : {"mlp/avg/seed1.safetensors", "dot/avg/seed1.safetensors"}) {
    const std::string wanted = testing::ReadFile(folder / (std::string("cpu/") + file));
    EXPECT_GT(wanted.size(), 100u) << file;
    EXPECT_TRUE(testing::ReadFile(folder / (std::string("auto/") + file)) == wanted) << file;
  }
  std::vector<std::string> asked = cuda;
  asked.insert(asked.end(), {"--dense", "cublas"});
  EXPECT_THAT(Said([&] { testing::RunSmall(folder / "cublas", asked); }),
              StartsWith("--dense is cublas; needs a cuBLAS that can be loaded (/nonexistent/libcublas.so"));
}

}  // namespace
}  // namespace resembed::train
