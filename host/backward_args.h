// SPDX-License-Identifier: Apache-2.0
// What backward and the fused backward + step check and resolve alike.
#pragma once

#include "host/cpu/backward.h"
#include "host/plan.h"
#include "host/validate.h"

namespace resembed::detail {

struct BackwardCall {
  resembed_place place;
  Tables tables;
  Plan plan;
  BackwardArgs args;
};

// Tables, features, plan and output gradients of a call.
resembed_status ReadBackwardCall(const char* op, const resembed_plan_header* plan,
                                 const resembed_tables* tables, const resembed_feature* const* features,
                                 int32_t n_features, const resembed_feature_grad* const* feature_grads,
                                 const resembed_place* place, BackwardCall* out);

// Some feature of the table asks for the gradient of its per-sample weights.
bool WantsSampleWeights(const BackwardCall& call, int32_t table);

// Some feature of the table asks for the gradient of its query or of its scores.
bool WantsScoreGradients(const BackwardCall& call, int32_t table);

// Fails when the plan was made without the central part of the table.
resembed_status CheckPlanHasCentral(const char* op, const BackwardCall& call, int32_t table,
                                    const char* argument);

}  // namespace resembed::detail
