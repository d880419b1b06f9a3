// SPDX-License-Identifier: Apache-2.0
// Batches that attention pooling is tried on, on each backend.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "host/status.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {

struct AttentionCase {
  std::string name;
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
};
inline void PrintTo(const AttentionCase& one, std::ostream* out) { *out << one.name; }

inline TableSpec AttentionTable(resembed_central_form form, int64_t dim) {
  TableSpec spec;
  spec.form = form;
  spec.dim = dim;
  return spec;
}

inline FeatureSpec AttentionFeature(resembed_attention_activation activation, int64_t n_bags = 20,
                                    int64_t max_length = 12) {
  FeatureSpec spec;
  spec.pooling = RESEMBED_POOLING_ATTENTION;
  spec.activation = activation;
  spec.n_bags = n_bags;
  spec.max_length = max_length;
  return spec;
}

inline constexpr resembed_central_form kAllForms[] = {RESEMBED_CENTRAL_NONE, RESEMBED_CENTRAL_ASSIGNMENT,
                                                      RESEMBED_CENTRAL_UNIFORM, RESEMBED_CENTRAL_STORED,
                                                      RESEMBED_CENTRAL_ATTENTION};
inline constexpr resembed_attention_activation kAttentionActivations[] = {RESEMBED_ATTENTION_SOFTMAX,
                                                                          RESEMBED_ATTENTION_SIGMOID};

inline std::vector<AttentionCase> AttentionCases() {
  std::vector<AttentionCase> cases;
  for (const resembed_central_form form : kAllForms) {
    for (const resembed_attention_activation activation : kAttentionActivations) {
      const std::string name = std::string(detail::FormName(form)) +
                               (activation == RESEMBED_ATTENTION_SOFTMAX ? "_softmax" : "_sigmoid");
      for (const int64_t dim : {1, 18, 64, 130}) {
        FeatureSpec feature = AttentionFeature(activation);
        feature.attention_scale = dim == 18 ? -.5f : 0;
        cases.push_back({name + "_dim" + std::to_string(dim), {AttentionTable(form, dim)}, {feature}});
      }
      // Narrow rows, a row map, strides, odd addresses, padding, bad ids, 32-bit ids, a bf16 gradient.
      AttentionCase odd = {name + "_odd", {AttentionTable(form, 18)}, {AttentionFeature(activation)}};
      odd.tables[0].residual_dtype = RESEMBED_F16;
      odd.tables[0].central_dtype = RESEMBED_BF16;
      odd.tables[0].row_map = odd.tables[0].misaligned = odd.tables[0].u16_centers = true;
      odd.tables[0].extra_stride = 3;
      odd.features[0].padding = true;
      odd.features[0].bad_ids = .1;
      odd.features[0].same_id = .2;
      odd.features[0].id_dtype = odd.features[0].offset_dtype = RESEMBED_I32;
      odd.features[0].grad_dtype = RESEMBED_BF16;
      cases.push_back(odd);
      // Over one table with other poolings, one feature without a gradient; a second table.
      AttentionCase shared = {
          name + "_shared",
          {AttentionTable(form, 16), AttentionTable(RESEMBED_CENTRAL_STORED, 5)},
          {AttentionFeature(activation), FeatureSpec(), FeatureSpec(), AttentionFeature(activation, 7, 30),
           AttentionFeature(RESEMBED_ATTENTION_SIGMOID), AttentionFeature(activation)}};
      shared.features[1].pooling = RESEMBED_POOLING_MAX;
      shared.features[2].pooling = RESEMBED_POOLING_MEAN;
      shared.features[2].weights = true;
      shared.features[3].fixed_length = true;
      shared.features[4].table = 1;
      shared.features[5].has_grad = false;
      cases.push_back(shared);
      // Few items: long runs of equal ids, and bags of more than four blocks.
      AttentionCase skewed = {name + "_skewed", {AttentionTable(form, 16)}, {AttentionFeature(activation)}};
      skewed.tables[0].n_items = 12;
      skewed.tables[0].central_rows = 4;
      skewed.features[0].offsets = {0, 0, 1300, 1300, 1556, 2580, 2581, 2589, 4000, 4000};
      skewed.features[0].same_id = .7;
      skewed.features[0].bad_ids = .01;
      cases.push_back(skewed);
      AttentionCase empty = {name + "_empty",
                             {AttentionTable(form, 4)},
                             {AttentionFeature(activation, 0), AttentionFeature(activation, 5, 0)}};
      cases.push_back(empty);
    }
  }
  return cases;
}

}  // namespace resembed::testing
