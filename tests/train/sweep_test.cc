// SPDX-License-Identifier: Apache-2.0
// The envelope while rows train, the residual's control and sweeps, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "resembed/resembed.h"
#include "tests/train/end_to_end_support.h"

namespace resembed::train::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<json> Lines(const std::string& path, const std::string& variant) {
  std::vector<json> lines;
  std::istringstream text(ReadFile(path));
  for (std::string line; std::getline(text, line);) {
    const json object = json::parse(line);
    if (object["variant"] == variant) lines.push_back(object);
  }
  return lines;
}

TEST(Instrument, ChangesNoBitAndMeasuresWhatTheReportMeasures) {
  const Folder with("with"), without("without");
  const std::vector<std::string> options =
      With(SmallLog(), {"--head", "mlp", "--variants", "plain,central,avg", "--epochs", "1"});
  ASSERT_EQ(Train(With(options, {"--out", with.path(), "--envelope-every", "1"})).exit_code, 0);
  ASSERT_EQ(Train(With(options, {"--out", without.path(), "--envelope-every", "0"})).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(without / "envelope.jsonl"));
  json metrics = WithoutTimes(ReadJson(with / "metrics.json"));
  const json data = metrics["data"];
  EXPECT_EQ(data["envelope_sample"]["interests"].size(), 8u);
  EXPECT_EQ(data["envelope_sample"]["items"], data["candidates"]);  // so that spreads are equal, too
  const json rows = ReadJson(with / "metrics.json")["heads"]["mlp"];
  for (const char* variant : {"plain", "central", "avg"}) {
    SCOPED_TRACE(variant);
    const std::string model = std::string("mlp/") + variant + "/seed1.safetensors";
    EXPECT_EQ(ReadFile(with / model), ReadFile(without / model));
    const std::vector<json> lines = Lines(with / "envelope.jsonl", variant);
    const json& row = rows[variant];
    ASSERT_EQ(lines.size(), row["envelope"]["log"]["looks"]["mean"].get<size_t>());
    for (size_t step = 0; step < lines.size(); ++step) ASSERT_EQ(lines[step]["step"], step);
    EXPECT_GT(row["envelope"]["log"]["cost_share"]["mean"].get<double>(), 0.0);
    // The last look is at the row that was kept.
    const json& last = lines.back();
    const auto near = [](const json& a, const json& b) {
      EXPECT_NEAR(a.get<double>(), b.get<double>(), 1e-5 * b.get<double>());
    };
    near(last["quantiles"]["radius"][2], row["envelope"]["radius"]["mean"]);
    near(last["quantiles"]["radius95"][2], row["envelope"]["radius95"]["mean"]);
    EXPECT_EQ(last["per_interest"]["radius"].size(), 8u);
    const bool both = std::string(variant) == "avg";
    EXPECT_EQ(last["ratio"].is_null(), !both);
    EXPECT_EQ(last["central"].is_null(), std::string(variant) == "plain");
    EXPECT_EQ(last["residual"].is_null(), std::string(variant) == "central");
    if (both) {
      near(last["ratio"], row["ratio"]["mean"]);
      EXPECT_EQ(lines[0]["ratio"], 0.0);
    }
    metrics["heads"]["mlp"][variant]["envelope"].erase("log");
  }
  metrics["data"].erase("envelope_sample");
  metrics["config"].erase("envelope_every");
  json bare = WithoutTimes(ReadJson(without / "metrics.json"));
  bare["data"].erase("envelope_sample");
  bare["config"].erase("envelope_every");
  EXPECT_EQ(metrics, bare);
}

std::vector<float> Residual(const std::string& model) {
  resembed_file* file = nullptr;
  EXPECT_EQ(resembed_file_open(model.c_str(), &file), RESEMBED_OK);
  int32_t index = -1;
  EXPECT_EQ(resembed_file_find(file, "residual", &index), RESEMBED_OK);
  resembed_tensor tensor = {};
  tensor.struct_size = sizeof(tensor);
  EXPECT_EQ(resembed_file_tensor(file, index, &tensor), RESEMBED_OK);
  std::vector<float> values(static_cast<size_t>(tensor.shape[0] * tensor.shape[1]));
  EXPECT_EQ(resembed_file_read(file, index, values.data(), 0, values.size() * sizeof(float)), RESEMBED_OK);
  resembed_file_close(file);
  return values;
}

double LongestRow(const std::vector<float>& rows, size_t dim) {
  double longest = 0;
  for (size_t row = 0; row < rows.size() / dim; ++row) {
    double squares = 0;
    for (size_t col = 0; col < dim; ++col) {
      squares += static_cast<double>(rows[row * dim + col]) * static_cast<double>(rows[row * dim + col]);
    }
    longest = std::max(longest, std::sqrt(squares));
  }
  return longest;
}

TEST(ResidualControl, CapHoldsForEveryRow) {
  const Folder capped("capped"), open("open");
  const std::vector<std::string> options = With(
      SmallLog(), {"--head", "mlp", "--variants", "avg,plain", "--epochs", "2", "--envelope-every", "10"});
  ASSERT_EQ(Train(With(options, {"--out", capped.path(), "--residual-cap", "0.2"})).exit_code, 0);
  ASSERT_EQ(Train(With(options, {"--out", open.path()})).exit_code, 0);
  double cap = 0;
  for (const json& line : Lines(capped / "envelope.jsonl", "avg")) {
    EXPECT_NEAR(line["cap"].get<double>(), 0.2 * line["central"].get<double>(), 1e-5);
    cap = std::max(cap, line["cap"].get<double>());
  }
  EXPECT_LE(LongestRow(Residual(capped / "mlp/avg/seed1.safetensors"), 8), cap * (1 + 1e-5));
  EXPECT_GT(LongestRow(Residual(open / "mlp/avg/seed1.safetensors"), 8), 2 * cap);
  // A plain table has no center to be measured by.
  EXPECT_TRUE(Lines(capped / "envelope.jsonl", "plain").back()["cap"].is_null());
  const json rows = ReadJson(capped / "metrics.json")["heads"]["mlp"];
  EXPECT_FALSE(rows["plain"].contains("residual_control"));
  EXPECT_EQ(rows["avg"]["residual_control"]["cap"], 0.2);
  EXPECT_TRUE(rows["avg"]["residual_control"]["target_ratio"].is_null());
}

// The band that docs/concepts.md states: a quarter of the target on either side.
TEST(ResidualControl, RatioIsReached) {
  const Folder out("ratio");
  for (const double target : {0.05, 0.15}) {
    const std::string folder = out / std::to_string(target);
    const Outcome run = Train({"--users", "1200", "--items", "150", "--interests", "8", "--dim", "8",
                               "--no-report", "--variants", "avg,assign", "--epochs", "8", "--envelope-every",
                               "25", "--residual-ratio", std::to_string(target), "--out", folder});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const json heads = ReadJson(folder + "/metrics.json")["heads"];
    for (const char* head : {"mlp", "dot"}) {
      for (const char* variant : {"avg", "assign"}) {
        SCOPED_TRACE(std::string(head) + " " + variant + " " + std::to_string(target));
        const json& control = heads[head][variant]["residual_control"];
        EXPECT_NEAR(control["reached_ratio"]["mean"].get<double>(), target, 0.25 * target);
        EXPECT_EQ(control["reached_ratio"], heads[head][variant]["ratio"]);
        EXPECT_NEAR(control["target_ratio"].get<double>(), target, 1e-6);
        EXPECT_GT(control["last_lambda"]["mean"].get<double>(), 0.0);
      }
    }
  }
}

std::vector<std::string> SweepLog() {
  return With(SmallLog(), {"--head", "mlp", "--epochs", "2", "--envelope-every", "50"});
}

TEST(Sweep, EveryValueIsARunOfItsOwn) {
  const Folder out("sweep"), alone("alone");
  const Outcome run = Train(With(SweepLog(), {"--sweep", "lambda=0.001,0.02", "--out", out.path()}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ASSERT_EQ(Train(With(SweepLog(), {"--variants", "plain,plain_l2,central,avg", "--lambda", "0.02", "--out",
                                    alone.path()}))
                .exit_code,
            0);
  const json value = ReadJson(out / "lambda=0.02/metrics.json");
  EXPECT_EQ(WithoutTimes(value), WithoutTimes(ReadJson(alone / "metrics.json")));
  for (const char* variant : {"plain_l2", "avg"}) {
    const std::string model = std::string("mlp/") + variant + "/seed1.safetensors";
    EXPECT_EQ(ReadFile(out / ("lambda=0.02/" + model)), ReadFile(alone / model));
    EXPECT_NE(ReadFile(out / ("lambda=0.001/" + model)), ReadFile(alone / model));
  }
  for (const char* variant : {"plain", "plain_l2", "central", "avg"}) {
    EXPECT_EQ(Lines(out / "lambda=0.02/envelope.jsonl", variant), Lines(alone / "envelope.jsonl", variant));
  }
  // plain and central have no penalty: trained once, in the whole run's count of rows.
  EXPECT_THAT(run.err, HasSubstr("[5/8] lambda=0.02 mlp plain "));
  EXPECT_THAT(run.err, HasSubstr("(kept)"));
  EXPECT_THAT(run.out, HasSubstr("auc over plain"));

  const json sweep = ReadJson(out / "sweep.json");
  EXPECT_EQ(sweep["name"], "lambda");
  EXPECT_EQ(sweep["values"], json({0.001, 0.02}));
  ASSERT_EQ(sweep["runs"].size(), 2u);
  EXPECT_EQ(sweep["runs"][1]["folder"], "lambda=0.02");
  for (const char* variant : {"plain", "plain_l2", "central", "avg"}) {
    const json& row = sweep["runs"][1]["heads"]["mlp"][variant];
    const json& whole = value["heads"]["mlp"][variant];
    for (const char* key : {"auc", "auc_pop", "hr20", "gap", "ratio", "over_plain", "capped"}) {
      EXPECT_EQ(row[key], whole[key]) << variant << " " << key;
    }
    EXPECT_EQ(row["radius"], whole["envelope"]["radius"]);
  }
}

TEST(Sweep, TrainFractionHasItsOwnGraphAndDimItsOwnTables) {
  const Folder out("fractions"), alone("fraction");
  const std::vector<std::string> options = With(SweepLog(), {"--variants", "plain,avg"});
  ASSERT_EQ(Train(With(options, {"--sweep", "train-fraction=1,0.5", "--out", out.path()})).exit_code, 0);
  ASSERT_EQ(Train(With(options, {"--train-fraction", "0.5", "--out", alone.path()})).exit_code, 0);
  const json half = ReadJson(out / "train-fraction=0.5/metrics.json");
  EXPECT_EQ(WithoutTimes(half), WithoutTimes(ReadJson(alone / "metrics.json")));
  EXPECT_LT(half["data"]["graph"]["pairs"],
            ReadJson(out / "train-fraction=1/metrics.json")["data"]["graph"]["pairs"]);
  const Outcome dims =
      Train({"--users", "400", "--items", "120", "--interests", "8", "--no-report", "--head", "mlp",
             "--epochs", "1", "--variants", "plain", "--sweep", "dim=4,8", "--out", out.path()});
  ASSERT_EQ(dims.exit_code, 0) << dims.err;
  EXPECT_EQ(ReadJson(out / "dim=4/metrics.json")["heads"]["mlp"]["plain"]["dim"], 4);
  EXPECT_EQ(ReadJson(out / "sweep.json")["name"], "dim");
}

TEST(Sweep, AStoppedSweepContinuesToTheSameResult) {
  const Folder whole("sweep_whole"), parts("sweep_parts");
  const std::vector<std::string> options =
      With(SmallLog(), {"--users", "700", "--variants", "central,avg", "--epochs", "6", "--patience", "6",
                        "--sweep", "lambda=0.001,0.02"});
  ASSERT_EQ(Train(With(options, {"--out", whole.path()})).exit_code, 0);
  int stops = 0, code = 130;
  std::string err;
  for (int attempt = 0; code == 130 && attempt < 100; ++attempt) {
    const Outcome run =
        Train(With(options, {"--out", parts.path(), "--resume"}), 200 + 60 * attempt, parts / "lambda=0.001");
    code = run.exit_code;
    err = run.err;
    if (code != 130) break;
    ++stops;
    EXPECT_TRUE(ReadJson(parts / "sweep.json")["interrupted"].get<bool>());
  }
  ASSERT_EQ(code, 0) << err;
  EXPECT_GE(stops, 1);
  EXPECT_EQ(WithoutTimes(ReadJson(whole / "sweep.json")), WithoutTimes(ReadJson(parts / "sweep.json")));
  for (const char* file : {"lambda=0.001/envelope.jsonl", "lambda=0.02/envelope.jsonl"}) {
    EXPECT_EQ(ReadFile(whole / file), ReadFile(parts / file)) << file;
  }
}

TEST(Sweep, RejectsWhatItCannotUse) {
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } cases[] = {
      {{"--sweep", "depth"}, "--sweep is depth; needs one of lambda="},
      {{"--sweep", "lambda="}, "--sweep lambda has no value"},
      {{"--sweep", "lambda=0.1,x"}, "--sweep lambda has x; needs a number of at least 0"},
      {{"--sweep", "lambda=1,1.0"}, "--sweep lambda has 1.0 twice"},
      {{"--sweep", "dim=2.5"}, "--sweep dim has 2.5; needs a whole number"},
      {{"--sweep", "train-fraction=0,1"}, "--sweep train-fraction has 0; needs a number above 0"},
      {{"--sweep", "dim", "--dim", "8"}, "--dim is given with --sweep dim"},
      {{"--sweep", "train-fraction", "--graph", "there"}, "--graph is given with --sweep train-fraction"},
      {{"--sweep", "lambda", "--residual-ratio", "0.1"}, "no --sweep lambda"},
      {{"--residual-ratio", "0.1", "--lambda", "0"}, "needs a --lambda above 0"},
      {{"--residual-ratio", "0.1", "--envelope-every", "0"},
       "--residual-ratio is given with --envelope-every 0"},
      {{"--residual-cap", "0.1", "--envelope-every", "0"}, "--residual-cap is given with --envelope-every 0"},
      {{"--residual-cap", "0"}, "--residual-cap"},
      {{"--envelope-every", "-1"}, "--envelope-every"},
  };
  for (const auto& [arguments, says] : cases) {
    const Outcome run = Train(arguments);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_THAT(run.err, HasSubstr(says));
  }
}

}  // namespace
}  // namespace resembed::train::testing
