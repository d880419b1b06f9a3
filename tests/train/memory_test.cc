// SPDX-License-Identifier: Apache-2.0
// What a row is said to take against what its tables and states are.
#include "host/train/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "host/train/model.h"

namespace resembed::train {
namespace {

int64_t Bytes(const std::vector<StateTensor>& tensors, const char* of_head) {
  int64_t floats = 0;
  for (const StateTensor& tensor : tensors) {
    if (tensor.name.find(of_head) == std::string::npos) floats += tensor.size();
  }
  return floats * static_cast<int64_t>(sizeof(float));
}

TEST(Memory, OfARowIsThatOfItsTablesAndStates) {
  GeneratorOptions generator;
  generator.n_users = 60;
  generator.n_items = 40;
  generator.n_interests = 5;
  const Log log = GenerateLog(generator);
  const Split split = SplitUsers(log, 1, 1.0);
  const TrainingView training = MakeTrainingView(log, split);
  const LogView view = MakeLogView(log, training);
  const InterestGraph graph = BuildGraph(log, split, 2, 3, 1.0);
  Pool pool(1);
  for (const char* optimizer : {"adam", "adagrad"}) {
    Options options;
    options.dim = 8;
    options.optimizer = optimizer;
    const Hyper hyper = HyperOf(options, Head::kMlp, 1000);
    for (const Variant& variant : Variants()) {
      SCOPED_TRACE(std::string(optimizer) + " " + variant.name);
      const auto learner = MakeLearner(variant, graph, view, hyper, 1, &pool);
      const RowMemory memory = MemoryOf(variant, log.n_items(), graph.n_centers, hyper);
      EXPECT_EQ(memory.tables, Bytes(learner->Weights(), "mlp."));
      EXPECT_EQ(memory.optimizer, Bytes(learner->OptimizerState(), "mlp."));
      EXPECT_EQ(memory.best, memory.tables);
      EXPECT_GE(memory.evaluation, log.n_items() * learner->embedding().dim() * 8);
    }
  }
}

TEST(Memory, ARowThatDoesNotFitIsRefusedWithItsParts) {
  RowMemory memory;
  memory.tables = 2000000000;
  memory.optimizer = 4000000000;
  memory.best = 2000000000;
  memory.evaluation = 1000000000;
  EXPECT_NO_THROW(CheckMemory(memory, 1000000000, 10000000000, "avg under dot"));
  try {
    CheckMemory(memory, 1000000001, 10000000000, "avg under dot");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(
        error.message,
        "--memory is 10.00 GB; avg under dot needs 10.00: tables 2.00, optimizer 4.00, best epoch 2.00, "
        "evaluation 1.00, log and graph 1.00 (--optimizer adagrad and a smaller --dim take less)");
  }
}

TEST(Memory, OfThisProcessIsWhatItTouches) {
  if (ResidentBytes() == 0) GTEST_SKIP() << "this system does not say";
  const int64_t before = ResidentBytes();
  const std::vector<char> touched(size_t{64} << 20, 1);
  EXPECT_GE(ResidentBytes() - before, int64_t{60} << 20);
  EXPECT_GE(PeakResidentBytes(), before + (int64_t{60} << 20));
  EXPECT_GT(AvailableBytes(), 0);
  EXPECT_EQ(touched[12345], 1);
}

}  // namespace
}  // namespace resembed::train
