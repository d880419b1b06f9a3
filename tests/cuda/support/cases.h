// SPDX-License-Identifier: Apache-2.0
// Batches that plan, backward and step are tried on: curated ones that cross every threshold, and random ones.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "tests/support/gradient_problem.h"

namespace resembed::testing {

struct GradientCase {
  std::string name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
};

struct CaseLimits {
  std::vector<resembed_central_form> forms = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                              RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                              RESEMBED_CENTRAL_ATTENTION};
  bool max_pooling = true;
};

inline FeatureSpec CaseFeature(resembed_pooling pooling, int64_t n_bags, int64_t max_length) {
  FeatureSpec feature;
  feature.pooling = pooling;
  feature.n_bags = n_bags;
  feature.max_length = max_length;
  return feature;
}

inline std::vector<GradientCase> CuratedCases(const CaseLimits& limits = {}) {
  std::vector<GradientCase> cases;
  const auto sum = RESEMBED_POOLING_SUM, mean = RESEMBED_POOLING_MEAN, none = RESEMBED_POOLING_NONE;
  for (const resembed_central_form form : limits.forms) {
    TableSpec table;
    table.form = form;
    table.dim = 12;
    const std::string name = "form " + std::to_string(form) + ": ";
    FeatureSpec weighted = CaseFeature(mean, 20, 6);
    weighted.weights = weighted.padding = true;
    weighted.bad_ids = .1;
    FeatureSpec sequence = CaseFeature(none, 40, 1);
    sequence.id_dtype = RESEMBED_I32;
    sequence.grad_dtype = RESEMBED_BF16;
    FeatureSpec fixed = CaseFeature(sum, 9, 4);
    fixed.fixed_length = true;
    fixed.grad_dtype = RESEMBED_F16;
    FeatureSpec silent = CaseFeature(sum, 10, 5);
    silent.has_grad = false;
    cases.push_back({name + "several features over one table", {table}, {weighted, sequence, fixed, silent}});
    TableSpec other = table;
    other.dim = 130;
    other.row_map = other.u16_centers = true;
    other.extra_stride = 3;
    FeatureSpec second = CaseFeature(mean, 15, 9);
    second.table = 1;
    second.offset_dtype = RESEMBED_I32;
    cases.push_back({name + "two tables", {table, other}, {weighted, second, fixed}});

    FeatureSpec same = CaseFeature(sum, 30, 40);
    same.same_id = 1;
    same.weights = true;
    cases.push_back({name + "all the same id", {table}, {same}});
    FeatureSpec once = CaseFeature(sum, 10, 5);
    once.fixed_length = true;
    for (int64_t id = 0; id < 50; ++id) once.ids.push_back(id * 7 % 50);
    cases.push_back({name + "every id once", {table}, {once}});
    // Runs of 1, 255, 256, 257, 512, 513 and 768 uses.
    FeatureSpec lengths = CaseFeature(none, 0, 1);
    int64_t id = 3;
    for (const int64_t length : {1, 255, 256, 257, 512, 513, 768}) {
      lengths.ids.insert(lengths.ids.end(), static_cast<size_t>(length), id++);
    }
    std::shuffle(lengths.ids.begin(), lengths.ids.end(), std::mt19937(5));
    lengths.n_bags = static_cast<int64_t>(lengths.ids.size());
    TableSpec few = table;
    few.central_rows = 3;
    few.dim = 5;
    few.n_items = 400;
    cases.push_back({name + "runs around 256", {few}, {lengths}});
    FeatureSpec all = CaseFeature(sum, 60, 30);
    cases.push_back({name + "centers of many items", {few}, {all}});

    FeatureSpec empty = CaseFeature(sum, 6, 0), nothing = CaseFeature(mean, 0, 3);
    FeatureSpec all_bad = CaseFeature(mean, 8, 4);
    all_bad.bad_ids = 1;
    cases.push_back({name + "nothing but empty bags", {table}, {empty, nothing}});
    cases.push_back({name + "nothing but bad ids", {table}, {all_bad, empty}});
    cases.push_back({name + "no features", {table}, {}});
    if (limits.max_pooling) {
      FeatureSpec max = CaseFeature(RESEMBED_POOLING_MAX, 25, 8);
      max.padding = true;
      cases.push_back({name + "max", {table}, {max, sequence}});
    }
  }
  return cases;
}

inline GradientCase RandomCase(uint64_t seed, const CaseLimits& limits = {}) {
  std::mt19937_64 random(seed);
  const auto below = [&random](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  const resembed_dtype types[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};
  GradientCase one;
  for (int64_t count = 1 + below(3); count > 0; --count) {
    TableSpec table;
    table.form = limits.forms[static_cast<size_t>(below(static_cast<int64_t>(limits.forms.size())))];
    table.n_items = 1 + below(300);
    table.central_rows = 1 + below(60);
    table.dim = below(2) == 0 ? 4 * (1 + below(40)) : 1 + below(140);
    table.n_neighbors = static_cast<int32_t>(1 + below(below(4) == 0 ? 20 : 6));
    table.residual = table.form == RESEMBED_CENTRAL_NONE || below(4) != 0;
    table.row_map = below(3) == 0;
    table.u16_centers = below(2) == 0;
    table.residual_dtype = types[below(3)];
    table.central_dtype = types[below(3)];
    table.extra_stride = below(2) * below(9);
    table.misaligned = below(4) == 0;
    one.tables.push_back(table);
  }
  for (int64_t count = 1 + below(5); count > 0; --count) {
    FeatureSpec feature;
    feature.table = static_cast<int32_t>(below(static_cast<int64_t>(one.tables.size())));
    feature.pooling = static_cast<resembed_pooling>(below(limits.max_pooling ? 4 : 3));
    feature.n_bags = below(40);
    feature.max_length = below(6) == 0 ? below(300) : below(12);
    feature.weights = feature.pooling != RESEMBED_POOLING_MAX && below(2) == 0;
    feature.padding = below(2) == 0;
    feature.fixed_length = below(3) == 0;
    feature.has_grad = below(5) != 0;
    feature.bad_ids = below(3) == 0 ? .2 : 0;
    feature.same_id = below(3) == 0 ? .7 : 0;
    feature.id_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
    feature.offset_dtype = below(2) == 0 ? RESEMBED_I32 : RESEMBED_I64;
    feature.grad_dtype = types[below(3)];
    one.features.push_back(feature);
  }
  return one;
}

}  // namespace resembed::testing
