// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "resembed/resembed.h"
#include "tests/train/end_to_end_support.h"

namespace resembed::train::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Mean of the first epochs that reach the best of plain's curve with the same seed; null if one never does.
json EpochsToPlain(const json& seeds, const json& plain) {
  double sum = 0;
  for (size_t seed = 0; seed < seeds.size(); ++seed) {
    const size_t kept = plain[seed]["best_epoch"];
    const double best = plain[seed]["valid"][kept - 1];
    size_t epoch = 0;
    while (epoch < seeds[seed]["valid"].size() && seeds[seed]["valid"][epoch] < best) ++epoch;
    if (epoch == seeds[seed]["valid"].size()) return nullptr;
    sum += static_cast<double>(epoch + 1);
  }
  return sum / static_cast<double>(seeds.size());
}

TEST(Train, LearnsAboveChanceAndWritesEveryFile) {
  const Folder out("learns");
  const Outcome run = Train(With(SmallLog(), {"--out", out.path(), "--variants", "plain,avg", "--epochs",
                                              "12", "--patience", "12", "--seeds", "2"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json metrics = ReadJson(out / "metrics.json");
  ASSERT_TRUE(metrics.is_object());
  for (const char* head : {"mlp", "dot"}) {
    for (const char* variant : {"plain", "avg"}) {
      SCOPED_TRACE(std::string(head) + " " + variant);
      const json& row = metrics["heads"][head][variant];
      for (const char* key :
           {"epochs", "capped", "valid", "auc", "auc_pop", "hr20", "hr20_new", "hr20_repeat", "logloss",
            "gap", "parameters", "seconds", "ratio", "envelope", "over_plain"}) {
        EXPECT_TRUE(row.contains(key)) << key;
      }
      // 40 test users: one standard error of the mean share is below .05.
      EXPECT_GT(row["auc"]["mean"].get<double>(), 0.65);
      EXPECT_TRUE(row["auc"]["std"].is_number());
      EXPECT_EQ(row["logloss"].is_null(), std::string(head) == "dot");
      EXPECT_EQ(row["over_plain"].is_null(), std::string(variant) == "plain");
      EXPECT_EQ(row["ratio"].is_null(), std::string(variant) == "plain");
      for (const char* seed : {"seed1", "seed2"}) {
        const std::string model = out / (std::string(head) + "/" + variant + "/" + seed + ".safetensors");
        resembed_file* file = nullptr;
        ASSERT_EQ(resembed_file_open(model.c_str(), &file), RESEMBED_OK) << resembed_last_error_message();
        int32_t index = -1;
        EXPECT_EQ(resembed_file_find(file, "residual", &index), RESEMBED_OK);
        EXPECT_GE(index, 0);
        EXPECT_EQ(resembed_file_find(file, "central", &index), RESEMBED_OK);
        EXPECT_EQ(index >= 0, std::string(variant) == "avg");
        resembed_file_close(file);
      }
    }
    const json& over = metrics["heads"][head]["avg"]["over_plain"]["auc"];
    EXPECT_NEAR(over["mean"].get<double>(),
                metrics["heads"][head]["avg"]["auc"]["mean"].get<double>() -
                    metrics["heads"][head]["plain"]["auc"]["mean"].get<double>(),
                1e-6);
    EXPECT_LE(over["low"], over["mean"]);
    EXPECT_GE(over["high"], over["mean"]);
  }
  for (const char* name : {"popularity", "covisit", "covisit_seen", "itemknn", "itemknn_seen"}) {
    EXPECT_TRUE(metrics["baselines"][name]["auc"]["mean"].is_number()) << name;
    EXPECT_TRUE(metrics["baselines"][name]["auc"]["std"].is_null()) << name;
    EXPECT_THAT(run.out, HasSubstr(name));
  }
  const json curves = ReadJson(out / "curves.json");
  EXPECT_EQ(curves["mlp"]["avg"].size(), 2u);
  for (const char* head : {"mlp", "dot"}) {
    for (const char* variant : {"plain", "avg"}) {
      EXPECT_EQ(metrics["heads"][head][variant]["epochs_to_plain"],
                EpochsToPlain(curves[head][variant], curves[head]["plain"]))
          << head << " " << variant;
    }
  }
  const json picture = ReadJson(out / "picture.json");
  EXPECT_EQ(picture["heads"]["dot"]["avg"].size(), picture["items"].size());
  EXPECT_THAT(ReadFile(out / "items.tsv"), HasSubstr("row\titem\n0\t"));
  EXPECT_THAT(run.err, HasSubstr("left "));
}

TEST(Train, AStoppedRunContinuesToTheSameResult) {
  const Folder whole("whole"), parts("parts");
  const std::vector<std::string> options =
      With(SmallLog(), {"--users", "700", "--variants", "avg,assign", "--epochs", "6", "--patience", "6",
                        "--threads", "2", "--residual-ratio", "0.2", "--envelope-every", "30"});
  ASSERT_EQ(Train(With(options, {"--out", whole.path()})).exit_code, 0);
  int stops = 0, inside_a_row = 0, code = 130;
  std::string err;
  for (int attempt = 0; code == 130 && attempt < 100; ++attempt) {
    const Outcome run =
        Train(With(options, {"--out", parts.path(), "--resume"}), 120 + 40 * attempt, parts.path());
    code = run.exit_code;
    err = run.err;
    if (code != 130) break;
    ++stops;
    inside_a_row += std::filesystem::exists(parts / "checkpoint/current.safetensors") ? 1 : 0;
    EXPECT_THAT(run.err, HasSubstr("--resume continues"));
  }
  ASSERT_EQ(code, 0) << err;
  EXPECT_GE(stops, 1);
  EXPECT_GE(inside_a_row, 1);
  EXPECT_EQ(WithoutTimes(ReadJson(whole / "metrics.json")), WithoutTimes(ReadJson(parts / "metrics.json")));
  for (const char* model : {"mlp/avg/seed1.safetensors", "dot/avg/seed1.safetensors",
                            "mlp/assign/seed1.safetensors", "dot/assign/seed1.safetensors"}) {
    EXPECT_EQ(ReadFile(whole / model), ReadFile(parts / model)) << model;
  }
  EXPECT_EQ(ReadFile(whole / "envelope.jsonl"), ReadFile(parts / "envelope.jsonl"));
  // Finished rows are kept, not trained again.
  const std::string before = ReadFile(parts / "metrics.json");
  const Outcome again = Train(With(options, {"--out", parts.path(), "--resume"}));
  EXPECT_THAT(again.err, HasSubstr("(kept)"));
  EXPECT_EQ(ReadJson(parts / "metrics.json")["heads"]["mlp"]["avg"]["seconds"],
            json::parse(before)["heads"]["mlp"]["avg"]["seconds"]);
  // Other settings would mix two runs.
  const Outcome other = Train(With(options, {"--out", parts.path(), "--resume", "--lambda", "0.5"}));
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("lambda is 0.5"));
}

TEST(Train, ThreadsDoNotChangeAnyBit) {
  const Folder one("one"), three("three");
  const std::vector<std::string> options = With(
      SmallLog(), {"--variants", "att,gcn", "--epochs", "2", "--train-fraction", "0.5", "--head", "all"});
  ASSERT_EQ(Train(With(options, {"--out", one.path(), "--threads", "1"})).exit_code, 0);
  ASSERT_EQ(Train(With(options, {"--out", three.path(), "--threads", "3"})).exit_code, 0);
  const json metrics = ReadJson(one / "metrics.json");
  EXPECT_EQ(WithoutTimes(metrics), WithoutTimes(ReadJson(three / "metrics.json")));
  for (const char* model : {"mlp/att/seed1.safetensors", "dot/att/seed1.safetensors",
                            "dot/gcn/seed1.safetensors", "din/att/seed1.safetensors"}) {
    EXPECT_EQ(ReadFile(one / model), ReadFile(three / model)) << model;
  }
  // Two epochs cannot show that a row has converged, and without plain nothing is over plain.
  EXPECT_TRUE(metrics["heads"]["mlp"]["att"]["capped"].get<bool>());
  EXPECT_TRUE(metrics["heads"]["mlp"]["att"]["over_plain"].is_null());
}

// 60 users of 6 events each; the last event of `n_new` users is an item nobody else has.
std::string FileLog(int n_new) {
  std::string text = "user\titem\torder\n";
  for (int user = 0; user < 60; ++user) {
    for (int event = 0; event < 6; ++event) {
      std::string item = std::to_string(INT64_MAX - (user * 5 + event * (1 + user % 3)) % 11);
      if (event >= 4 && user < n_new) item = "new-" + std::to_string(user) + "-" + std::to_string(event);
      text += "u" + std::to_string(user) + "\t" + item + "\t" + std::to_string(event) + "\n";
    }
  }
  return text;
}

TEST(Train, AnItemNeverSeenInTrainingIsAMissAndItsShareIsSaid) {
  const Folder out("unknown");
  WriteFile(out / "log.tsv", FileLog(60));
  const Outcome run = Train({"--data", out / "log.tsv", "--out", out / "run", "--variants", "plain,avg",
                             "--dim", "4", "--epochs", "2", "--no-report"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json metrics = ReadJson(out / "run/metrics.json");
  EXPECT_EQ(metrics["data"]["unknown_share"].get<double>(), 1.0);
  EXPECT_EQ(metrics["heads"]["mlp"]["avg"]["auc"]["mean"].get<double>(), 0.0);
  EXPECT_EQ(metrics["heads"]["dot"]["plain"]["hr20"]["mean"].get<double>(), 0.0);
  EXPECT_THAT(ReadFile(out / "run/items.tsv"), HasSubstr("\t9223372036854775807\n"));
}

TEST(Train, ReadsTheLogAndRunsThePaperPreset) {
  const Folder out("paper");
  WriteFile(out / "log.tsv", FileLog(0));
  const Outcome run =
      Train({"--data", out / "log.tsv", "--out", out / "run", "--variants", "central", "--dim", "4",
             "--epochs", "2", "--preset", "paper", "--optimizer", "adagrad", "--no-report"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json config = ReadJson(out / "run/metrics.json")["config"];
  EXPECT_EQ(config["by_head"]["mlp"]["history"], 50);
  EXPECT_EQ(config["by_head"]["mlp"]["repeat_features"], false);
  EXPECT_EQ(config["optimizer"], "adagrad");
}

// One option of the graph at a time: the rows come out otherwise than without, and --resume knows it.
TEST(Train, GraphOptionsReachTheModel) {
  const Folder out("graph_options");
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = SmallLog();
    for (const char* part : {"--variants", "avg", "--head", "dot", "--epochs", "2", "--no-report", "--out"}) {
      arguments.push_back(part);
    }
    arguments.push_back(out / name);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Train(arguments);
  };
  ASSERT_EQ(run("plain", {}).exit_code, 0);
  ASSERT_EQ(run("two", {"--graph-two-hop"}).exit_code, 0);
  const Outcome leave = run("leave", {"--graph-leave-one-out"});
  ASSERT_EQ(leave.exit_code, 0) << leave.err;
  const auto data = [&](const char* name) { return ReadJson(out / (std::string(name) + "/metrics.json")); };
  EXPECT_EQ(data("plain")["data"]["graph"]["own_lists"], 0);
  EXPECT_GT(data("leave")["data"]["graph"]["own_lists"], 100);
  EXPECT_EQ(data("two")["data"]["graph"]["two_hop"], true);
  EXPECT_NE(data("two")["heads"]["dot"]["avg"]["auc"], data("plain")["heads"]["dot"]["avg"]["auc"]);
  EXPECT_NE(data("leave")["heads"]["dot"]["avg"]["auc"], data("plain")["heads"]["dot"]["avg"]["auc"]);
  EXPECT_THAT(run("plain", {"--resume", "--graph-two-hop"}).err, HasSubstr("graph_two_hop"));
}

TEST(Train, CudaWithoutAGpuSaysWhyAndWritesNothing) {
  if (resembed_backend_available(RESEMBED_CUDA, 0) == RESEMBED_OK) GTEST_SKIP() << "this machine has a GPU";
  const Folder out("no_gpu");
  const Outcome run = Train({"--backend", "cuda", "--out", out / "run"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, ::testing::StartsWith("resembed-train: --backend is cuda: "));
  EXPECT_FALSE(std::filesystem::exists(out / "run"));
}

TEST(Train, RefusesARowThatNeedsMoreThanItMayTake) {
  const Folder out("memory");
  const Outcome run = Train(
      With(SmallLog(), {"--out", out.path(), "--variants", "avg", "--head", "dot", "--memory", "0.001"}));
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("--memory is 0.00 GB; avg under dot needs 0.0"));
}

TEST(Train, RejectsWhatItCannotUse) {
  const Folder out("rejects");
  WriteFile(out / "empty.tsv", "");
  WriteFile(out / "one.tsv", "user\titem\torder\na\tx\t1\na\ty\t2\na\tz\t3\n");
  WriteFile(out / "short.tsv", "user\titem\torder\na\tx\t1\na\ty\n");
  WriteFile(out / "order.tsv", "user\titem\torder\na\tx\t1\na\ty\tyesterday\n");
  const auto data = [&](const char* file) {
    return Train({"--data", out / file, "--out", out / "run", "--no-report"});
  };
  const struct {
    Outcome run;
    int code;
    std::vector<std::string> says;
  } cases[] = {
      {data("missing.tsv"), 1, {"missing.tsv"}},
      {data("empty.tsv"), 1, {"empty.tsv"}},
      {data("one.tsv"), 1, {"one.tsv", "1 user, 1 with 3 events or more"}},
      {data("short.tsv"), 1, {"short.tsv:3:"}},
      {data("order.tsv"), 1, {"order.tsv:3:", "yesterday"}},
      {Train({"--variants", "plain,nonsense"}), 2, {"nonsense", "plain_2x"}},
      {Train({"--variants", "avg,avg"}), 2, {"avg twice"}},
      {Train({"--head", "cnn"}), 2, {"--head", "cnn"}},
      {Train({"--dim", "0"}), 2, {"--dim", "0"}},
      {Train({"--lambda=-1"}), 2, {"--lambda"}},
      {Train({"--train-fraction", "0"}), 2, {"--train-fraction"}},
      {Train({"--interests", "100", "--items", "150"}), 2, {"--items", "150"}},
      {Train({"--graph-leave-one-out", "--graph-two-hop", "--variants", "avg"}), 2, {"--graph-two-hop"}},
      {Train({"--graph", "there", "--window", "2"}), 2, {"--window is given with --graph;"}},
      {Train({"--graph", "there", "--neighbors", "8"}), 2, {"--neighbors is given with --graph;"}},
      {Train({"--graph", "there", "--resolution", "1"}), 2, {"--resolution is given with --graph;"}},
      {Train({"--graph-leave-one-out", "--graph", "there", "--variants", "avg"}), 2, {"--graph;"}},
      {Train({"--graph-leave-one-out", "--variants", "avg,gcn"}), 2, {"has gcn", "central, avg"}},
      {Train({"--backend", "tpu"}), 2, {"--backend", "tpu"}},
      {Train({"--device", "1"}), 2, {"--device is given; needs --backend cuda"}},
      {Train({"--wat"}), 2, {"--wat"}},
  };
  for (const auto& [run, code, says] : cases) {
    EXPECT_EQ(run.exit_code, code) << run.err;
    for (const std::string& text : says) EXPECT_THAT(run.err, HasSubstr(text));
  }
  const Outcome help = Train({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("--train-fraction"));
}

}  // namespace
}  // namespace resembed::train::testing
