// SPDX-License-Identifier: Apache-2.0
// The compared embeddings: one table pair each, from "plain" to "central + residual".
#pragma once

#include <string>
#include <vector>

#include "resembed/resembed.h"

namespace resembed::train {

struct Variant {
  const char* name;
  resembed_central_form form;
  bool residual;
  bool penalty;             // lambda/2 times the sum of squares over touched rows of R
  int dim_factor;           // 2: as many parameters as a table pair of the simple dim
  const char* says;         // for --help and the report
  bool pretrained = false;  // rows of C, without a center of R, start as skip-gram vectors (pretrain.h)
};

const std::vector<Variant>& Variants();
const Variant* FindVariant(const std::string& name);  // null when there is none
bool IsGraphVariant(const Variant& variant);

}  // namespace resembed::train
