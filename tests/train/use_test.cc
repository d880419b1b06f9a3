// SPDX-License-Identifier: Apache-2.0
// resembed-train recommend and export: a saved model gives what the evaluation of its run saw.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "host/train/log.h"
#include "tests/train/end_to_end_support.h"

namespace resembed::train::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct Line {
  int rank;
  std::string item;
  double score;
  std::string name;
};
using Lists = std::map<std::string, std::vector<Line>>;

Lists ReadLists(const std::string& text, const std::string& header) {
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, header);
  Lists lists;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string user, rank, item, score, name;
    std::getline(fields, user, '\t'), std::getline(fields, rank, '\t'), std::getline(fields, item, '\t');
    std::getline(fields, score, '\t'), std::getline(fields, name, '\t');
    lists[user].push_back({std::stoi(rank), item, std::stod(score), name});
  }
  return lists;
}
constexpr char kHeader[] = "user\trank\titem\tscore";

// One run for all tests: a third of the training users, so that there are items they never touched.
class Use : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    out_ = new Folder("use");
    std::vector<std::string> arguments = SmallLog();
    for (const char* word : {"--variants", "plain_2x,gcn,att,assign", "--train-fraction", "0.1", "--epochs",
                             "3", "--head", "all"})
      arguments.emplace_back(word);
    arguments.insert(arguments.end(), {"--out", out_->path()});
    const Outcome run = Train(arguments);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    GeneratorOptions generator;
    generator.n_users = 400;
    generator.n_items = 120;
    generator.n_interests = 8;
    log_ = new Log(GenerateLog(generator));
    split_ = new Split(SplitUsers(*log_, 1, 0.1));
    // Histories of the test users: all events but the last.
    std::string text = "user\titem\torder\n";
    for (const int32_t user : split_->test) {
      for (int64_t at = Begin(user); at < End(user) - 1; ++at) {
        text += Name(user) + "\t" + Item(at) + "\t" + std::to_string(at) + "\n";
      }
    }
    WriteFile(*out_ / "history.tsv", text);
  }
  static void TearDownTestSuite() {
    delete out_;
    delete log_;
    delete split_;
  }

  static int64_t Begin(int32_t user) { return log_->offsets[static_cast<size_t>(user)]; }
  static int64_t End(int32_t user) { return log_->offsets[static_cast<size_t>(user) + 1]; }
  static const std::string& Name(int32_t user) { return log_->user_names[static_cast<size_t>(user)]; }
  static const std::string& Item(int64_t at) {
    return log_->item_names[static_cast<size_t>(log_->items[static_cast<size_t>(at)])];
  }
  static std::string Model(const std::string& row) { return *out_ / (row + "/seed1.safetensors"); }
  static Outcome Recommend(const std::string& row, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"recommend", "--model", Model(row), "--history", *out_ / "history.tsv"});
    return Train(more);
  }

  static Folder* out_;
  static Log* log_;
  static Split* split_;
};
Folder* Use::out_ = nullptr;
Log* Use::log_ = nullptr;
Split* Use::split_ = nullptr;

TEST_F(Use, RecommendFindsTheItemsThatTheEvaluationFound) {
  const json metrics = ReadJson(*out_ / "metrics.json");
  for (const std::string head : {"mlp", "dot", "din"}) {
    for (const std::string variant : {"plain_2x", "gcn", "att", "assign"}) {
      SCOPED_TRACE(head + " " + variant);
      const Outcome run = Recommend(head + "/" + variant);
      ASSERT_EQ(run.exit_code, 0) << run.err;
      Lists lists = ReadLists(run.out, kHeader);
      ASSERT_EQ(lists.size(), split_->test.size());
      double hits = 0;
      for (const int32_t user : split_->test) {
        const std::vector<Line>& list = lists[Name(user)];
        ASSERT_EQ(list.size(), 20u);
        for (size_t i = 0; i < list.size(); ++i) {
          EXPECT_EQ(list[i].rank, static_cast<int>(i) + 1);
          EXPECT_LE(list[i].score, list[i > 0 ? i - 1 : 0].score);
          hits += list[i].item == Item(End(user) - 1) ? 1 : 0;
        }
      }
      const json& row = metrics["heads"][head][variant];
      EXPECT_EQ(hits / static_cast<double>(split_->test.size()), row["hr20"]["mean"].get<double>());
      EXPECT_GT(hits, 0);
    }
  }
}

TEST_F(Use, OptionsOfRecommend) {
  const Outcome all = Recommend("dot/gcn", {"--top", "1000", "--threads", "1"});
  const Outcome three =
      Recommend("dot/gcn", {"--top", "1000", "--threads", "3", "--out", *out_ / "lists.tsv"});
  ASSERT_EQ(three.exit_code, 0) << three.err;
  EXPECT_EQ(three.out, "");
  EXPECT_EQ(ReadFile(*out_ / "lists.tsv"), all.out);
  // Items of training users, and no others.
  std::set<std::string> trained;
  for (const int32_t user : split_->train) {
    for (int64_t at = Begin(user); at < End(user); ++at) trained.insert(Item(at));
  }
  ASSERT_LT(trained.size(), 120u);
  EXPECT_THAT(all.err, HasSubstr(std::to_string(120 - trained.size()) + " items left out"));
  EXPECT_THAT(all.err, HasSubstr("events have items that the model did not learn"));
  Lists lists = ReadLists(all.out, kHeader);
  Lists fresh = ReadLists(Recommend("dot/gcn", {"--top", "1000", "--exclude-seen"}).out, kHeader);
  for (const int32_t user : split_->test) {
    std::set<std::string> items, seen;
    for (int64_t at = Begin(user); at < End(user) - 1; ++at) seen.insert(Item(at));
    std::vector<std::string> left;
    for (const Line& line : lists[Name(user)]) {
      items.insert(line.item);
      if (seen.count(line.item) == 0) left.push_back(line.item);
    }
    EXPECT_EQ(items, trained);
    std::vector<std::string> unseen;
    for (const Line& line : fresh[Name(user)]) unseen.push_back(line.item);
    EXPECT_EQ(unseen, left);
  }
}

// An item that is not in the log at all is an event between others, as one that no training user touched is.
TEST_F(Use, UnknownItemsOfAHistoryAreSkippedAndCounted) {
  std::set<std::string> trained;
  for (const int32_t user : split_->train) {
    for (int64_t at = Begin(user); at < End(user); ++at) trained.insert(Item(at));
  }
  std::string untrained;
  for (const std::string& item : log_->item_names) {
    if (trained.count(item) == 0) untrained = item;
  }
  const std::string known = *trained.begin();
  const auto history = [&](const std::string& other) {
    return "visitor,product\nu," + known + "\nu," + other + "\n\"v\tw\"," + other + "\n";
  };
  WriteFile(*out_ / "stranger.csv", history("\"no, such item\""));
  WriteFile(*out_ / "untrained.csv", history(untrained));
  const auto run = [&](const std::string& file) {
    return Train({"recommend", "--model", Model("mlp/att"), "--history", *out_ / file, "--top", "5",
                  "--columns", "user=visitor,item=product"});
  };
  const Outcome stranger = run("stranger.csv");
  ASSERT_EQ(stranger.exit_code, 0) << stranger.err;
  EXPECT_THAT(stranger.err, HasSubstr("2 of 3 events have items that the model did not learn"));
  EXPECT_THAT(stranger.out, HasSubstr("\nv\\tw\t1\t"));
  EXPECT_EQ(stranger.out, run("untrained.csv").out);
}

TEST_F(Use, RejectsWhatItCannotUse) {
  const auto recommend = [&](const std::string& model, const std::string& history) {
    return Train({"recommend", "--model", model, "--history", history});
  };
  const std::string history = *out_ / "history.tsv", model = Model("dot/gcn");
  // Copies beside other graphs and items than their own.
  std::filesystem::create_directories(*out_ / "moved/dot/gcn");
  const std::string moved = *out_ / "moved/dot/gcn/seed1.safetensors";
  WriteFile(moved, ReadFile(model));
  const Outcome alone = recommend(moved, history);
  WriteFile(*out_ / "moved/items.tsv", "row\titem\n0\tx\n");
  const Outcome other_items = recommend(moved, history);
  WriteFile(*out_ / "moved/items.tsv", ReadFile(*out_ / "items.tsv"));
  std::string graph = ReadFile(*out_ / "graph.safetensors");
  graph.back() = static_cast<char>(graph.back() ^ 1);
  graph[graph.size() / 2] = static_cast<char>(graph[graph.size() / 2] ^ 1);
  WriteFile(*out_ / "moved/graph.safetensors", graph);
  const Outcome other_graph = recommend(moved, history);
  std::string old = ReadFile(model);
  const size_t format = old.find("\"format\":\"2\"");
  ASSERT_NE(format, std::string::npos);
  old.replace(format, 12, "\"formal\":\"2\"");
  WriteFile(*out_ / "old.safetensors", old);
  WriteFile(*out_ / "text.safetensors", "not a tensor in sight");
  WriteFile(*out_ / "catalog.tsv", "item\tname\nx\tone\nx\ttwo\n");
  const struct {
    Outcome run;
    int code;
    std::vector<std::string> says;
  } cases[] = {
      {recommend(*out_ / "missing.safetensors", history), 1, {"missing.safetensors"}},
      {recommend(*out_ / "text.safetensors", history), 1, {"text.safetensors"}},
      {recommend(*out_ / "graph.safetensors", history), 1, {"graph.safetensors: is no model"}},
      {recommend(*out_ / "old.safetensors", history), 1, {"of an older resembed-train", "train again"}},
      {alone, 1, {"items.tsv"}},
      {other_items, 1, {"moved/items.tsv does not have the items"}},
      {other_graph, 1, {"moved/graph.safetensors is not the graph"}},
      {recommend(model, *out_ / "missing.tsv"), 1, {"missing.tsv"}},
      {Recommend("dot/gcn", {"--catalog", *out_ / "catalog.tsv"}),
       1,
       {"catalog.tsv:3: item \"x\" is named twice"}},
      {Recommend("dot/gcn", {"--out", *out_ / "no/such/folder"}), 1, {"no/such/folder: cannot be written"}},
      {Recommend("dot/gcn", {"--top", "0"}), 2, {"--top"}},
      {Train({"recommend", "--history", history}), 2, {"--model is required"}},
      {Train({"export", "--model", model}), 2, {"--out is required"}},
      {Train({"--threads", "2", "export", "--model", model, "--out", "x"}),
       2,
       {"--threads is given before export"}},
      {Train({"recommend", "--model", model, "--history", history, "--epochs", "2"}), 2, {"--epochs"}},
  };
  for (const auto& [run, code, says] : cases) {
    EXPECT_EQ(run.exit_code, code) << run.err;
    for (const std::string& text : says) EXPECT_THAT(run.err, HasSubstr(text));
  }
  const Outcome help = Train({"recommend", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("--exclude-seen"));
}

// The log of the other tests; each user ends with an item that nobody else has.
TEST_F(Use, FitAllLearnsFromEveryUser) {
  std::string text = "user,item,order\n";
  for (int32_t user = 0; user < log_->n_users(); ++user) {
    for (int64_t at = Begin(user); at < End(user); ++at) {
      text += Name(user) + "," + Item(at) + "," + std::to_string(at) + "\n";
    }
    text += Name(user) + ",own " + Name(user) + "," + std::to_string(End(user)) + "\n";
  }
  WriteFile(*out_ / "own.csv", text);
  const auto train = [&](const std::string& name, const std::vector<std::string>& more,
                         int stop_after_ms = -1) {
    std::vector<std::string> arguments = {"--data", *out_ / "own.csv", "--out",    *out_ / name, "--dim",
                                          "8",      "--no-report",     "--epochs", "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Train(arguments, stop_after_ms, *out_ / name);
  };
  const Outcome run = train("own", {"--variants", "plain,avg", "--fit-all"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json metrics = ReadJson(*out_ / "own/metrics.json");
  EXPECT_EQ(metrics["fit_all"]["users"], log_->n_users());
  for (const char* head : {"mlp", "dot"}) {
    SCOPED_TRACE(head);
    const json& fit = metrics["fit_all"]["models"][head];
    const json& rows = metrics["heads"][head];
    const std::string variant = fit["variant"];
    for (const auto& [name, row] : rows.items()) {
      EXPECT_LE(row["valid"]["mean"], rows[variant]["valid"]["mean"]) << name;
    }
    EXPECT_EQ(fit["epochs"].get<double>(), rows[variant]["best_epoch"].get<double>());
    const auto recommend = [&](const std::string& model) {
      return Train({"recommend", "--model", model, "--history", *out_ / "history.tsv", "--top", "1000"});
    };
    const std::string file = fit["file"];
    const Outcome split = recommend(*out_ / ("own/" + file)),
                  all = recommend(*out_ / ("own/fit_all/" + file));
    ASSERT_EQ(all.exit_code, 0) << all.err;
    EXPECT_THAT(split.err, HasSubstr("items left out"));
    EXPECT_THAT(all.err, ::testing::Not(HasSubstr("items left out")));
    const Lists lists = ReadLists(all.out, kHeader);
    EXPECT_EQ(lists.begin()->second.size(), 120u + 400u);
    // The same with the number of epochs given, in one go and with a stop.
    const std::vector<std::string> given = {"--variants", variant,     "--head",
                                            head,         "--fit-all", "--fit-epochs"};
    auto with = [&](int epochs, std::vector<std::string> more = {}) {
      more.insert(more.begin(), given.begin(), given.end());
      more.insert(more.begin() + static_cast<std::ptrdiff_t>(given.size()), std::to_string(epochs));
      return more;
    };
    ASSERT_EQ(train("given", with(fit["epochs"])).exit_code, 0);
    EXPECT_EQ(ReadFile(*out_ / ("given/fit_all/" + file)), ReadFile(*out_ / ("own/fit_all/" + file)));
    EXPECT_FALSE(std::filesystem::exists(*out_ / "given/metrics.json"));
  }
  const std::vector<std::string> longer = {"--variants", "avg",          "--head", "dot",
                                           "--fit-all",  "--fit-epochs", "40"};
  std::vector<std::string> resumed = longer;
  resumed.emplace_back("--resume");
  ASSERT_EQ(train("whole", longer).exit_code, 0);
  EXPECT_EQ(train("parts", longer, 100).exit_code, 130);
  const Outcome rest = train("parts", resumed);
  EXPECT_EQ(rest.exit_code, 0);
  EXPECT_THAT(rest.err, HasSubstr("continuing dot.avg.seed1 on every user"));
  const char* const file = "fit_all/dot/avg/seed1.safetensors";
  EXPECT_EQ(ReadFile(*out_ / "parts" + ("/" + std::string(file))),
            ReadFile(*out_ / "whole" + ("/" + std::string(file))));
  EXPECT_THAT(Train({"--fit-epochs", "3"}).err, HasSubstr("--fit-epochs is given; needs --fit-all"));
  EXPECT_THAT(Train({"--fit-all", "--train-fraction", "0.5"}).err, HasSubstr("needs one of them"));
}

// Every eighth item is withheld from training. For users who touch one: how it ranks after what they did before, with
// the true interests as groups and without.
TEST(ColdItems, GroupsPutThemWhereTheirUsersAre) {
  const Folder out("cold");
  GeneratorOptions generator;
  generator.n_users = 1200;
  generator.n_items = 400;
  generator.n_interests = 20;
  const Log log = GenerateLog(generator);
  const auto withheld = [](int32_t item) { return item % 8 == 3; };
  const char* const header = "user\titem\torder\n";
  std::string training = header, histories = header;
  std::map<std::string, std::string> wanted;
  for (size_t user = 0; user < log.user_names.size(); ++user) {
    std::string history;
    for (int64_t at = log.offsets[user]; at < log.offsets[user + 1]; ++at) {
      const int32_t item = log.items[static_cast<size_t>(at)];
      const std::string& name = log.item_names[static_cast<size_t>(item)];
      const std::string line = log.user_names[user] + "\t" + name + "\t" + std::to_string(at) + "\n";
      if (!withheld(item)) {
        training += line;
        history += line;
      } else if (!history.empty() && wanted.emplace(log.user_names[user], name).second) {
        histories += history;
      }
    }
  }
  std::string plain = "item\tname\n", grouped = "item\tname\tgroup\n";
  for (size_t item = 0; item < log.item_names.size(); ++item) {
    const std::string line = log.item_names[item] + "\tname of " + log.item_names[item];
    plain += line + "\n";
    grouped += line + "\t" + std::to_string(log.interest_of[item]) + "\n";
  }
  WriteFile(out / "log.tsv", training);
  WriteFile(out / "histories.tsv", histories);
  WriteFile(out / "plain.tsv", plain);
  WriteFile(out / "grouped.tsv", grouped);
  const Outcome run =
      Train({"--data", out / "log.tsv", "--catalog", out / "grouped.tsv", "--out", out / "run", "--variants",
             "avg", "--dim", "16", "--epochs", "6", "--no-report"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json said = ReadJson(out / "run/metrics.json")["data"]["catalog"];
  EXPECT_EQ(said["items"], 400);
  EXPECT_EQ(said["named"].get<int>() + 50, 400);
  EXPECT_GE(said["cold"], 50);
  const json picture = ReadJson(out / "run/picture.json");
  EXPECT_EQ(picture["titles"][0], "name of " + picture["names"][0].get<std::string>());

  // Mean share of the other items that rank below the withheld one.
  const auto share_below = [&](const std::string& head, const std::string& catalog) {
    const Outcome lists =
        Train({"recommend", "--model", out / ("run/" + head + "/avg/seed1.safetensors"), "--history",
               out / "histories.tsv", "--catalog", out / catalog, "--top", "400"});
    EXPECT_EQ(lists.exit_code, 0) << lists.err;
    double sum = 0;
    for (const auto& [user, list] : ReadLists(lists.out, std::string(kHeader) + "\tname")) {
      EXPECT_EQ(list.size(), 400u);
      for (const Line& line : list) {
        if (line.item != wanted[user]) continue;
        sum += 1 - (line.rank - 1) / 399.0;
        EXPECT_EQ(line.name, "name of " + line.item);
      }
    }
    return sum / static_cast<double>(wanted.size());
  };
  ASSERT_GT(wanted.size(), 500u);
  for (const std::string head : {"mlp", "dot"}) {
    const double with = share_below(head, "grouped.tsv"), without = share_below(head, "plain.tsv");
    RecordProperty(head + "_with_groups", std::to_string(with));
    RecordProperty(head + "_without", std::to_string(without));
    EXPECT_GT(with, 0.7) << head;
    EXPECT_GT(with, without + 0.1) << head;
  }
}

}  // namespace
}  // namespace resembed::train::testing
