// SPDX-License-Identifier: Apache-2.0
// Calls of several threads at once: readers of the same tables, and steps of different ones. ThreadSanitizer runs it, too.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/run_forward.h"
#include "tests/support/training.h"

namespace resembed::testing {
namespace {

constexpr size_t kCallers = 4;
constexpr int kRounds = 20;

template <typename Body>
void AtOnce(const Body& body) {
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < kCallers; ++caller)
    callers.emplace_back([&body, caller] { body(caller); });
  for (std::thread& caller : callers) caller.join();
}

// Each caller with ids and outputs of its own.
TEST(Concurrent, SeveralThreadsReadTheSameTables) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                           RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    SCOPED_TRACE(form);
    TableSpec table;
    table.form = form;
    table.dim = 20;
    FeatureSpec feature;
    feature.n_bags = 60;
    std::vector<std::unique_ptr<GradientProblem>> problems;
    std::vector<ForwardResult> alone, together(kCallers);
    for (size_t caller = 0; caller < kCallers; ++caller) {
      // One seed, hence equal tables, until the others are given the memory of the first.
      problems.push_back(std::make_unique<GradientProblem>(std::vector<TableSpec>{table},
                                                           std::vector<FeatureSpec>{feature}, 80));
      FeatureData& data = *problems.back()->features[0];
      for (size_t at = 0; at < data.ids.size(); ++at) {
        data.ids[at] = (data.ids[at] + static_cast<int64_t>(caller)) % table.n_items;
        std::memcpy(data.id_bytes.data() + 8 * at, &data.ids[at], 8);
      }
      alone.push_back(RunForward(problems.back().get(), PlaceOf(nullptr)));
      ASSERT_EQ(alone.back().status, RESEMBED_OK) << alone.back().message;
      problems.back()->tables[0]->descriptor = problems[0]->tables[0]->descriptor;
    }
    AtOnce([&](size_t caller) {
      for (int round = 0; round < kRounds; ++round)
        together[caller] = RunForward(problems[caller].get(), PlaceOf(nullptr));
    });
    for (size_t caller = 0; caller < kCallers; ++caller) {
      EXPECT_TRUE(SameBits(together[caller], alone[caller])) << "caller " << caller;
    }
    EXPECT_FALSE(SameBits(alone[0], alone[1])) << "the callers ask for different items";
  }
}

TEST(Concurrent, StepsOfDifferentTablesRunAtOnce) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_STORED;
  OptimizerSpec optimizer;
  optimizer.kind = RESEMBED_ADAM;
  const auto make = [&](size_t caller) {
    return std::make_unique<Training>(std::vector<TableSpec>{table}, std::vector<FeatureSpec>{FeatureSpec()},
                                      optimizer, optimizer, 90 + caller);
  };
  std::vector<std::unique_ptr<Training>> alone, together;
  for (size_t caller = 0; caller < kCallers; ++caller) {
    alone.push_back(make(caller));
    together.push_back(make(caller));
    for (int round = 0; round < kRounds; ++round) alone.back()->Fused(PlaceOf(nullptr));
  }
  AtOnce([&](size_t caller) {
    for (int round = 0; round < kRounds; ++round) together[caller]->Fused(PlaceOf(nullptr));
  });
  for (size_t caller = 0; caller < kCallers; ++caller) {
    EXPECT_TRUE(together[caller]->Written() == alone[caller]->Written()) << "caller " << caller;
    EXPECT_FALSE(together[caller]->Written() == make(caller)->Written()) << "a step changes its table";
  }
}

}  // namespace
}  // namespace resembed::testing
