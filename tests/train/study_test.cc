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
  EXPECT_NE(ReadFile(out / "log/graph.safetensors"), ReadFile(out / "early/graph.safetensors"));
}

}  // namespace
}  // namespace resembed::train::testing
