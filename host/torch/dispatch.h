// SPDX-License-Identifier: Apache-2.0
// What each dispatch key adds to the operations (register.cc).
#pragma once

#include <torch/library.h>

namespace resembed::adapter {

constexpr const char* kOps[] = {"embedding_bag",
                                "embedding_bag_backward",
                                "embedding_bag_compressed_backward",
                                "table_batched",
                                "table_batched_backward",
                                "table_batched_step",
                                "step",
                                "combine",
                                "materialize",
                                "envelope",
                                "check_maps",
                                "bad_ids",
                                "interest_graph",
                                "graph_weights",
                                "graph_assign"};

void DefineMeta(torch::Library* library);      // meta.cc: shapes without data
void DefineAutograd(torch::Library* library);  // autograd.cc: gradients
void DefineInPlace(torch::Library* library);   // autograd.cc: versions of what a step writes

}  // namespace resembed::adapter
