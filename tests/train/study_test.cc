// SPDX-License-Identifier: Apache-2.0
// What a study needs besides the rows: a split by time, a pretrained rival, tuned rows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/end_to_end_support.h"

namespace resembed::train::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// 400 users of 10 events, one a time step, who start one after the other. `changed`: what lies after the cut of .8 is
// other items; `early`: one event before it, too.
std::string TimedLog(bool changed, bool early) {
  std::string text = "user\titem\torder\n";
  for (int user = 0; user < 400; ++user) {
    for (int event = 0; event < 10; ++event) {
      const int time = user + 5 * event, item = (user * 7 + event * (1 + user % 3)) % 40;
      const bool other = (changed && time >= 342) || (early && user == 20 && event == 3);
      text += "u" + std::to_string(user) + "\ti" + std::to_string(other ? (item * 3 + 1) % 40 : item) + "\t" +
              std::to_string(time) + "\n";
    }
  }
  return text;
}

TEST(Study, NothingAfterTheCutReachesGraphCountsOrTraining) {
  const Folder out("leak");
  const auto run = [&](const std::string& name, bool changed, bool early) {
    WriteFile(out / (name + ".tsv"), TimedLog(changed, early));
    return Train({"--data", out / (name + ".tsv"), "--out", out / name, "--split", "time", "--variants",
                  "plain_pretrained,avg", "--dim", "8", "--epochs", "1", "--no-report"});
  };
  for (const auto& [name, changed, early] :
       {std::tuple{"log", false, false}, std::tuple{"changed", true, false},
        std::tuple{"early", false, true}}) {
    const Outcome outcome = run(name, changed, early);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  const auto metrics = [&](const char* name) {
    return ReadJson(out / (std::string(name) + "/metrics.json"));
  };
  const json split = metrics("log")["data"]["split"];
  EXPECT_EQ(split["by"], "time");
  EXPECT_EQ(split["valid_from"], 342);
  EXPECT_NE(metrics("log")["baselines"]["popularity"], metrics("changed")["baselines"]["popularity"]);
  const json curves = ReadJson(out / "log/curves.json"), others = ReadJson(out / "changed/curves.json");
  for (const char* head : {"mlp", "dot"}) {
    for (const char* variant : {"plain_pretrained", "avg"}) {
      EXPECT_EQ(curves[head][variant][0]["train_loss"], others[head][variant][0]["train_loss"]);
      const std::string model = std::string("/") + head + "/" + variant + "/seed1.safetensors";
      EXPECT_EQ(ReadFile(out / ("log" + model)), ReadFile(out / ("changed" + model))) << model;
      EXPECT_NE(ReadFile(out / ("log" + model)), ReadFile(out / ("early" + model))) << model;
    }
  }
  EXPECT_EQ(ReadFile(out / "log/graph.safetensors"), ReadFile(out / "changed/graph.safetensors"));
  // Nor the lists that leave a user's own events out.
  std::vector<std::string> own;
  for (const char* name : {"log", "changed"}) {
    const Outcome outcome = Train({"--data", out / (std::string(name) + ".tsv"), "--out", out / "own",
                                   "--split", "time", "--variants", "avg", "--dim", "8", "--epochs", "1",
                                   "--head", "mlp", "--graph-leave-one-out", "--no-report"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    own.push_back(ReadFile(out / "own/mlp/avg/seed1.safetensors"));
  }
  EXPECT_EQ(own[0], own[1]);
  EXPECT_NE(own[0], ReadFile(out / "log/mlp/avg/seed1.safetensors"));
  EXPECT_NE(ReadFile(out / "log/graph.safetensors"), ReadFile(out / "early/graph.safetensors"));
}

TEST(Study, PretrainedRowsDoNotDependOnThreadsAndAreBetterThanRandomOnes) {
  const Folder out("pretrained");
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = SmallLog();
    for (const char* part :
         {"--users", "1000", "--epochs", "3", "--variants", "plain,plain_pretrained", "--out"}) {
      arguments.push_back(part);
    }
    arguments.push_back(out / name);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Train(arguments);
  };
  const Outcome one = run("one", {"--threads", "1"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_THAT(one.err, HasSubstr("pretrained skip-gram rows in"));
  ASSERT_EQ(run("three", {"--threads", "3"}).exit_code, 0);
  ASSERT_EQ(run("reach", {"--pretrain-window", "1", "--head", "mlp"}).exit_code, 0);
  const std::string file = "checkpoint/pretrained.seed1.safetensors",
                    model = "mlp/plain_pretrained/seed1.safetensors";
  EXPECT_NE(ReadFile(out / ("one/" + model)), "");
  EXPECT_EQ(ReadFile(out / ("one/" + model)), ReadFile(out / ("three/" + model)));
  EXPECT_NE(ReadFile(out / ("one/" + model)), ReadFile(out / ("reach/" + model)));
  const json metrics = ReadJson(out / "one/metrics.json");
  EXPECT_EQ(WithoutTimes(metrics), WithoutTimes(ReadJson(out / "three/metrics.json")));
  for (const char* head : {"mlp", "dot"}) {
    const json& rows = metrics["heads"][head];
    EXPECT_FALSE(rows["plain"].contains("pretraining"));
    const double seconds = rows["plain_pretrained"]["pretraining"]["seconds"]["mean"];
    EXPECT_GT(seconds, 0);
    EXPECT_GE(rows["plain_pretrained"]["seconds"]["mean"].get<double>(), seconds);
    EXPECT_EQ(rows["plain_pretrained"]["parameters"], rows["plain"]["parameters"]);
  }
  // After one epoch, when rows are little more than where they started, neighbors are known already.
  const json curves = ReadJson(out / "one/curves.json");
  EXPECT_GT(curves["mlp"]["plain_pretrained"][0]["valid"][0].get<double>(),
            curves["mlp"]["plain"][0]["valid"][0].get<double>() + 0.02);
}

TEST(Study, TuningTriesTheSameValuesAndGoesOnWhereItWasStopped) {
  const Folder whole("tune_whole"), parts("tune_parts");
  std::vector<std::string> options = SmallLog();
  for (const char* part : {"--variants", "plain,avg", "--epochs", "2", "--tune"}) options.push_back(part);
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = options;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const Outcome run = Train(with({"--out", whole.path()}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("46 rows to train"));  // two heads of at most 9 + 12 points and two rows
  EXPECT_THAT(run.err, HasSubstr("tuned mlp avg: lr "));
  const json metrics = ReadJson(whole / "metrics.json");
  for (const char* head : {"mlp", "dot"}) {
    for (const char* variant : {"plain", "avg"}) {
      SCOPED_TRACE(std::string(head) + " " + variant);
      const json &points = metrics["tuning"][head][variant]["points"],
                 &chosen = points[metrics["tuning"][head][variant]["chosen"].get<size_t>()];
      const size_t least = std::string(variant) == "plain" ? 5 : 8;
      EXPECT_GE(points.size(), least);
      EXPECT_LE(points.size(), least + 4);
      double best = 0;
      for (const json& point : points) best = std::max(best, point["auc"].get<double>());
      EXPECT_GT(best, 0.5);
      EXPECT_GE(chosen["auc"].get<double>(), best - 0.002);
      for (const json& point : points) {
        if (point["auc"] < best - 0.002 || point["lambda"].is_null()) continue;
        EXPECT_LE(point["lambda"], chosen["lambda"]);
      }
      // The row is the chosen point again.
      EXPECT_EQ(metrics["heads"][head][variant]["best_epoch"], chosen["best_epoch"]);
      if (std::string(head) == "mlp") {
        EXPECT_EQ(metrics["heads"][head][variant]["valid"]["mean"], chosen["auc"]);
      }
    }
  }
  int code = 130, stops = 0;
  for (int attempt = 0; code == 130 && attempt < 100; ++attempt) {
    code = Train(with({"--out", parts.path(), "--resume"}), 150 + 150 * attempt, parts.path()).exit_code;
    if (code != 130) break;
    ++stops;
    if (std::filesystem::exists(parts / "metrics.json")) {
      EXPECT_EQ(ReadJson(parts / "metrics.json")["interrupted"], true);
    }
  }
  ASSERT_EQ(code, 0);
  EXPECT_GE(stops, 1);
  EXPECT_EQ(WithoutTimes(metrics), WithoutTimes(ReadJson(parts / "metrics.json")));
  const Outcome other = Train(with({"--out", parts.path(), "--resume", "--lr", "0.5"}));
  EXPECT_EQ(other.exit_code, 1);

  // What was chosen serves another run: here the same rows again, without a point tried.
  const Folder taken("tuned"), half("tuned_half");
  options.pop_back();
  const std::string from = whole / "metrics.json";
  const Outcome again = Train(with({"--tuned", from, "--out", taken.path()}));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("4 rows to train"));
  const json repeated = ReadJson(taken / "metrics.json");
  for (const char* head : {"mlp", "dot"}) {
    for (const char* variant : {"plain", "avg"}) {
      SCOPED_TRACE(std::string(head) + " " + variant);
      EXPECT_EQ(repeated["heads"][head][variant]["auc"], metrics["heads"][head][variant]["auc"]);
      const json &tuning = repeated["tuning"][head][variant], &before = metrics["tuning"][head][variant];
      ASSERT_EQ(tuning["points"].size(), 1u);
      EXPECT_EQ(tuning["points"][0]["lr"], before["points"][before["chosen"].get<size_t>()]["lr"]);
    }
  }
  ASSERT_EQ(
      Train(with({"--tuned", from, "--lambda", "0.5", "--head", "mlp", "--out", half.path()})).exit_code, 0);
  const json point = ReadJson(half / "metrics.json")["tuning"]["mlp"]["avg"]["points"][0];
  EXPECT_EQ(point["lambda"], 0.5);  // what is given stands
  EXPECT_EQ(point["lr"], repeated["tuning"]["mlp"]["avg"]["points"][0]["lr"]);
  const Outcome lacks = Train(with({"--tuned", from, "--variants", "gcn", "--out", half.path()}));
  EXPECT_EQ(lacks.exit_code, 1);
  EXPECT_THAT(lacks.err,
              HasSubstr("holds nothing of gcn under mlp; needs a run with --tune that trained it"));
  EXPECT_THAT(Train(with({"--tuned", from, "--tune"})).err, HasSubstr("--tuned is given with --tune"));
  EXPECT_THAT(Train(with({"--tuned", whole / "curves.json", "--out", half.path()})).err,
              HasSubstr("holds no tuning"));
}

TEST(Study, RejectsWhatDoesNotGoTogether) {
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } cases[] = {
      {{"--split", "item"}, "item"},
      {{"--time-cut", "0.5"}, "--time-cut is given; needs --split time"},
      {{"--split", "time", "--graph", "there"}, "--graph is given with --split time; needs --split user"},
      {{"--split", "time", "--protocol"}, "--protocol is given with --split time"},
      {{"--split", "time", "--split-seed", "2"}, "--split-seed is given with --split time"},
      {{"--preset", "fuller"}, "fuller"},
  };
  for (const auto& [arguments, says] : cases) {
    const Outcome run = Train(arguments);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_THAT(run.err, HasSubstr(says));
  }
  const Folder out("no_order");
  WriteFile(out / "log.tsv", "user\titem\na\tx\na\ty\na\tz\n");
  const Outcome run = Train({"--data", out / "log.tsv", "--columns", "user=user,item=item", "--split", "time",
                             "--out", out / "run"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("log.tsv: has no order column; needs one to be split by time"));
}

}  // namespace
}  // namespace resembed::train::testing
