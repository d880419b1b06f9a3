// SPDX-License-Identifier: Apache-2.0
#include "host/train/variant.h"

namespace resembed::train {

const std::vector<Variant>& Variants() {
  static const std::vector<Variant> variants = {
      {"plain", RESEMBED_CENTRAL_NONE, true, false, 1, "one row per item"},
      {"plain_l2", RESEMBED_CENTRAL_NONE, true, true, 1, "plain with the penalty that R gets"},
      {"plain_2x", RESEMBED_CENTRAL_NONE, true, false, 2,
       "plain of twice the dim: as many parameters as avg"},
      {"plain_pretrained", RESEMBED_CENTRAL_NONE, true, false, 1, "plain that starts from skip-gram vectors",
       true},
      {"central", RESEMBED_CENTRAL_UNIFORM, false, false, 1,
       "mean of the neighbors' central rows, no residual"},
      {"avg", RESEMBED_CENTRAL_UNIFORM, true, true, 1, "mean of the neighbors' central rows + residual"},
      {"gcn", RESEMBED_CENTRAL_STORED, true, true, 1, "central rows weighted by the graph + residual"},
      {"att", RESEMBED_CENTRAL_ATTENTION, true, true, 1, "central rows weighted by attention + residual"},
      {"central_pretrained", RESEMBED_CENTRAL_UNIFORM, false, false, 1,
       "central whose rows start from skip-gram vectors", true},
      {"avg_pretrained", RESEMBED_CENTRAL_UNIFORM, true, true, 1,
       "avg whose central rows start from skip-gram vectors", true},
      {"att_pretrained", RESEMBED_CENTRAL_ATTENTION, true, true, 1,
       "att whose central rows start from skip-gram vectors", true},
      {"assign", RESEMBED_CENTRAL_ASSIGNMENT, true, true, 1, "one center per interest + residual"},
  };
  return variants;
}

const Variant* FindVariant(const std::string& name) {
  for (const Variant& variant : Variants()) {
    if (name == variant.name) return &variant;
  }
  return nullptr;
}

bool IsGraphVariant(const Variant& variant) { return variant.form != RESEMBED_CENTRAL_NONE; }

}  // namespace resembed::train
