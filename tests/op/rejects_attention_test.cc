// SPDX-License-Identifier: Apache-2.0
// What attention pooling refuses, and that nothing is written then.
#include "tests/support/gradient_call.h"

namespace resembed::testing {
namespace {

constexpr resembed_status kInvalid = RESEMBED_INVALID_ARGUMENT;

FeatureSpec AttentionFeature() {
  FeatureSpec spec;
  spec.pooling = RESEMBED_POOLING_ATTENTION;
  return spec;
}

resembed_feature& FeatureOf(Call& c) { return c.training.problem.features[0]->descriptor; }

// Both backward and the fused step; `rejects` name the operation by a leading "%".
void ExpectBothReject(const std::vector<Reject>& rejects) {
  for (const bool fused : {false, true}) {
    std::vector<std::string> sentences;
    std::vector<Reject> named = rejects;
    for (const Reject& reject : rejects) {
      sentences.push_back(std::string(fused ? "backward_step: " : "backward: ") + reject.substring);
    }
    for (size_t index = 0; index < named.size(); ++index) named[index].substring = sentences[index].c_str();
    ExpectRejects(
        named, [fused](Call& c) { return fused ? c.RunFused() : c.RunBackward(); }, Call::Spec(),
        AttentionFeature());
  }
}

TEST(AttentionPooling, BackwardRejectsWhatItCannotRead) {
  ExpectBothReject({
      {kInvalid, "features[0].query is null; needs [n_bags, dim] floats with pooling attention",
       [](Call& c) { FeatureOf(c).query = nullptr; }},
      {kInvalid, "features[0].query_stride is 6; needs at least dim (7)",
       [](Call& c) { FeatureOf(c).query_stride = 6; }},
      {kInvalid, "features[0].query_stride is too long; needs rows below 2^62 bytes",
       [](Call& c) { FeatureOf(c).query_stride = int64_t{1} << 60; }},
      {kInvalid, "features[0].query is misaligned",
       [](Call& c) { FeatureOf(c).query = Odd(FeatureOf(c).query); }},
      {kInvalid, "features[0].saved_attention is misaligned",
       [](Call& c) { FeatureOf(c).saved_attention = Odd(c.rows[0].data()); }},
      {kInvalid, "features[0].attention_activation is 2; needs softmax or sigmoid",
       [](Call& c) { FeatureOf(c).attention_activation = 2; }},
      {kInvalid, "features[0].attention_scale is not finite; needs a finite number (0 means 1)",
       [](Call& c) { FeatureOf(c).attention_scale = INFINITY; }},
      {kInvalid, "features[0].weights is given; needs null with pooling attention",
       [](Call& c) { FeatureOf(c).weights = c.neighbor_weights.data(); }},
      {kInvalid, "feature_grads[0].grad_weights is given; needs null with pooling attention",
       [](Call& c) { c.feature_grad.grad_weights = c.neighbor_weights.data(); }},
      {kInvalid, "feature_grads[0].grad_query_stride is 6; needs at least dim (7)",
       [](Call& c) { c.feature_grad.grad_query_stride = 6; }},
      {kInvalid, "feature_grads[0].grad_query_stride is too long; needs rows below 2^62 bytes",
       [](Call& c) { c.feature_grad.grad_query_stride = int64_t{1} << 60; }},
      {kInvalid, "feature_grads[0].grad_query is misaligned",
       [](Call& c) { c.feature_grad.grad_query = Odd(c.rows[0].data()); }},
      {kInvalid, "feature_grads[0].grad_scores is misaligned",
       [](Call& c) { c.feature_grad.grad_scores = Odd(c.rows[0].data()); }},
      {kInvalid, "feature_grads[0].grad_scores is null; needs [n_ids] floats with grad_scores_ready",
       [](Call& c) { c.feature_grad.grad_scores_ready = 1; }},
      {kInvalid, "feature_grads[0].grad_query is given; needs null with grad_scores_ready",
       [](Call& c) {
         c.feature_grad.grad_scores_ready = 1;
         c.feature_grad.grad_scores = c.neighbor_weights.data();
         c.feature_grad.grad_query = c.rows[0].data();
       }},
      {kInvalid, "feature_grads[0].grad_query is overlapping query or grad_output; needs memory of its own",
       [](Call& c) { c.feature_grad.grad_query = const_cast<float*>(FeatureOf(c).query) + 3; }},
      {kInvalid, "feature_grads[0].grad_query is overlapping query or grad_output; needs memory of its own",
       [](Call& c) {
         c.feature_grad.grad_query =
             const_cast<float*>(static_cast<const float*>(c.feature_grad.grad_output));
       }},
  });
}

TEST(AttentionPooling, OtherPoolingsHaveNoQueryGradient) {
  ExpectRejects({{kInvalid, "backward: feature_grads[0].grad_query is given; needs pooling attention",
                  [](Call& c) { c.feature_grad.grad_query = c.rows[0].data(); }},
                 {kInvalid, "backward: feature_grads[0].grad_scores is given; needs pooling attention",
                  [](Call& c) { c.feature_grad.grad_scores = c.rows[0].data(); }}},
                [](Call& c) { return c.RunBackward(); });
}

TEST(AttentionPooling, ForwardRejectsWhatItCannotReadOrWouldOverwrite) {
  const TestExecutor executor(1);
  const resembed_place place = PlaceOf(&executor);
  struct One {
    const char* words;
    std::function<void(resembed_feature&, std::vector<float>&)> spoil;
  };
  const std::vector<One> all = {
      {"forward: features[0].query is null", [](auto& f, auto&) { f.query = nullptr; }},
      {"forward: features[0].weights is given; needs null with pooling attention",
       [](auto& f, auto& y) { f.weights = y.data(); }},
      {"forward: features[0].output is overlapping the query of features[0]",
       [](auto& f, auto&) { f.output = const_cast<float*>(f.query); }},
      {"forward: features[0].output is overlapping saved_attention of features[0]",
       [](auto& f, auto& y) { f.saved_attention = y.data() + 1; }},
  };
  for (const One& one : all) {
    const GradientProblem problem({Call::Spec()}, {AttentionFeature()}, 1);
    resembed_feature& feature = problem.features[0]->descriptor;
    std::vector<float> y(static_cast<size_t>(feature.n_bags * 7), -5.0f);
    feature.output = y.data();
    const std::vector<float> query = problem.features[0]->query;
    one.spoil(feature, y);
    resembed_forward_args args = {};
    args.struct_size = sizeof(args);
    args.tables = problem.table_list();
    args.features = problem.feature_list();
    args.n_features = 1;
    Guarded workspace(size_t{1} << 20);
    EXPECT_EQ(resembed_forward(&args, workspace.data(), workspace.size(), &place), kInvalid);
    EXPECT_THAT(resembed_last_error_message(), ::testing::HasSubstr(one.words));
    EXPECT_EQ(y, std::vector<float>(y.size(), -5.0f));
    EXPECT_EQ(problem.features[0]->query, query);
  }
}

// A caller compiled before there was attention pooling passes structs without its fields.
TEST(AttentionPooling, OlderStructsHaveNoQuery) {
  Call c(Call::Spec(), AttentionFeature());
  FeatureOf(c).struct_size = offsetof(resembed_feature, query);
  EXPECT_EQ(c.RunBackward(), kInvalid);
  EXPECT_THAT(resembed_last_error_message(), ::testing::HasSubstr("features[0].query is null"));
}

// A plan is made before there is a query.
TEST(AttentionPooling, PlanNeedsNoQuery) {
  const TestExecutor executor(1);
  const GradientProblem problem({Call::Spec()}, {AttentionFeature()}, 1);
  problem.features[0]->descriptor.query = nullptr;
  const MadePlan plan(problem.PlanArgs(), PlaceOf(&executor));
  EXPECT_EQ(plan.status, RESEMBED_OK) << plan.message;
}

}  // namespace
}  // namespace resembed::testing
