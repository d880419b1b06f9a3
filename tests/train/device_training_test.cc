// SPDX-License-Identifier: Apache-2.0
// Training with the tables on a device (emulated, or a GPU) beside training on the CPU: the same numbers step by
// step. The dense part is the same code on the host in both.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "host/train/checkpoint.h"
#include "host/train/envelope.h"
#include "host/train/model.h"
#include "host/train/run.h"
#include "host/train/train_loop.h"
#include "tests/train/end_to_end_support.h"
#ifdef RESEMBED_EMULATED
#include "tests/emulator/emulator.h"
#endif

namespace resembed::train {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Problem {
  Problem() {
    GeneratorOptions options;
    options.n_users = 90;
    options.n_items = 60;
    options.n_interests = 5;
    options.repeat = 0.3;
    log = GenerateLog(options);
    split = SplitUsers(log, 1, 1.0);
    graph = BuildGraph(log, split, 2, 3, 1.0);
    training = MakeTrainingView(log, split);
    view = MakeLogView(log, training);
    valid = MakeEvalSet(log, training, split.valid, 20, 12);
    partition = MakePartition(log, graph, training);
  }
  Problem(const Problem&) = delete;

  Log log;
  Split split;
  InterestGraph graph;
  TrainingView training;
  LogView view;
  EvalSet valid;
  Partition partition;
};

Hyper SmallHyper(Head head, const std::string& optimizer) {
  Options options;
  options.dim = 8;
  options.batch = 16;
  options.negatives = 24;
  options.targets = 2;
  options.epochs = 3;
  options.patience = 9;
  options.optimizer = optimizer;
  Hyper hyper = HyperOf(options, head, 0);
  hyper.history_length = 6;
  return hyper;
}

std::vector<float> Values(const std::vector<StateTensor>& tensors) {
  std::vector<float> values;
  for (const StateTensor& tensor : tensors) {
    values.insert(values.end(), tensor.data, tensor.data + tensor.size());
  }
  return values;
}

// The number of differing elements; bits, so that NaN and -0 count.
size_t Differing(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return a.size() + b.size();
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += std::memcmp(&a[i], &b[i], sizeof(float)) != 0 ? 1 : 0;
  return n;
}

double Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < a.size() && most < 1e9; ++i) {
    const double distance = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = distance <= most ? most : distance;  // NaN stays
  }
  return most;
}

// What a row of `variant` looks like after steps of changing sizes, so that buffers grow and shrink.
struct Trained {
  Trained(const Problem& problem, const char* variant, const Hyper& hyper, Device* device) : pool(2) {
    learner = MakeLearner(*FindVariant(variant), problem.graph, problem.view, hyper, 5, &pool, device);
    const std::vector<Sample> samples = DrawSamples(problem.log, problem.split.train, hyper.targets, 5, 1);
    const int64_t sizes[] = {3, 16, 1, 40, 16, 16, 7, 24};
    int64_t begin = 0;
    for (const int64_t size : sizes) {
      const int64_t n = std::min(size, static_cast<int64_t>(samples.size()) - begin);
      loss.push_back(learner->Step(samples.data() + begin, n, 1, static_cast<int64_t>(loss.size()), 1.0f));
      begin += n;
    }
    weights = Values(learner->Weights());
    state = Values(learner->OptimizerState());
    const Embedding& embedding = learner->embedding();
    items.resize(static_cast<size_t>(embedding.n_items() * embedding.dim()));
    embedding.Materialize(items.data());
    envelope = MeasureEnvelope(embedding, problem.partition);
  }
  Pool pool;
  std::unique_ptr<Learner> learner;
  std::vector<double> loss;
  std::vector<float> weights, state, items;
  EnvelopeFigures envelope;
};

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

// Epochs with their evaluations; stopped before some step, saved, and continued by another learner.
struct Row {
  Row(const Problem& problem, Head head, Device* device) : hyper(SmallHyper(head, "adam")), pool(1) {
    key = {head, "avg", 1};
    learner = MakeLearner(*FindVariant("avg"), problem.graph, problem.view, hyper, 1, &pool, device);
  }
  bool Train(const Problem& problem, int64_t until) {
    std::atomic<bool> stop{false};
    TrainTask task = {key.head,       &hyper, 1,       &problem.view, &problem.split.train,
                      &problem.valid, &stop,  nullptr, nullptr};
    task.on_step = [&](const TrainState& now, int64_t, int64_t) { stop = now.total_steps >= until; };
    return TrainRow(task, learner.get(), &state);
  }
  const Hyper hyper;
  Pool pool;
  RowKey key;
  std::unique_ptr<Learner> learner;
  TrainState state;
};

std::vector<std::pair<double, double>> Curve(const TrainState& state) {
  std::vector<std::pair<double, double>> curve;
  for (const EpochPoint& point : state.curve) curve.emplace_back(point.train_loss, point.valid);
  return curve;
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
  for (const char* backend : {"cpu", "cuda"}) {
    std::vector<std::string> words = {"resembed-train",
                                      "--users",
                                      "150",
                                      "--items",
                                      "60",
                                      "--interests",
                                      "5",
                                      "--dim",
                                      "8",
                                      "--seeds",
                                      "1",
                                      "--epochs",
                                      "2",
                                      "--variants",
                                      "plain,plain_pretrained,avg",
                                      "--out",
                                      folder / backend,
                                      "--backend",
                                      backend,
                                      "--no-report"};
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    Options options;
    int exit_code = -1;
    const std::atomic<bool> stop{false};
    ASSERT_TRUE(ParseOptions(static_cast<int>(pointers.size()), pointers.data(), &options, &exit_code));
    ASSERT_EQ(train::Run(options, stop), 0);
  }
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
std::string Said(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.message;
  }
  return "nothing";
}

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
