// SPDX-License-Identifier: Apache-2.0
// Forward over a made problem, with guarded outputs and a workspace of exactly the size asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "resembed/resembed.h"
#include "tests/support/gradient_problem.h"

namespace resembed::testing {

struct ForwardOptions {
  resembed_dtype output_dtype = RESEMBED_F32;
  int64_t extra_stride = 0;
  bool saved_argmax = true;  // for features that pool by maximum
  bool saved_attention = true;
  resembed_bounds bounds = RESEMBED_BOUNDS_SKIP;
  resembed_bad_ids* bad_ids = nullptr;
  const resembed_plan_header* plan = nullptr;
  int64_t expected_unique = 0;
};

struct FeatureOutput {
  std::vector<unsigned char> bytes;  // [rows, dim] as stored, padding between rows dropped
  std::vector<int32_t> argmax;       // [bags, dim] or empty
  std::vector<float> attention;      // [ids] or empty
  std::vector<double> values;        // the same as numbers
  bool operator==(const FeatureOutput& other) const {
    return bytes == other.bytes && argmax == other.argmax && attention == other.attention;
  }
};

struct ForwardResult {
  resembed_status status = RESEMBED_OK;
  std::string message;
  bool untouched = true;  // no byte of any output was written
  size_t workspace_bytes = 0;
  std::vector<FeatureOutput> features;
};

// Fails the running test when memory outside the outputs was written. The problem's descriptors get their
// outputs for the time of the call.
ForwardResult RunForward(GradientProblem* problem, const resembed_place& place,
                         const ForwardOptions& options = {});

bool SameBits(const ForwardResult& a, const ForwardResult& b);

// Every value within the oracle's bound, every argmax at a value as large as the maximum.
void ExpectMatchesOracle(GradientProblem* problem, const ForwardResult& result, resembed_dtype output_dtype);

}  // namespace resembed::testing
