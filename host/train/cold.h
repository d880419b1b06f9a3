// SPDX-License-Identifier: Apache-2.0
// Item embeddings for items without events.
#pragma once

#include <cstdint>

#include "host/train/catalog.h"
#include "host/train/saved_model.h"

namespace resembed::train {

struct ColdItems {
  int64_t with_group = 0, without_group = 0;
};

// Gives every item of the catalog that the model did not learn an embedding, and lists it; one that the model has no
// row for is appended. With G the learned items of its group:
//   e = mean over G of e_j,  b = mean over G of b_j
// so under an inner product it scores as its group does on average. Without such a group:
//   e = mean over all learned items,  b = the lowest bias of them
// which ranks it by what every user has in common, behind what is known. Only the former count in histories.
// Sums are in float64, in the order of rows.
ColdItems AddColdItems(const Catalog& catalog, SavedModel* model);

// The model, and the catalog where one is given: its items without events are then in the model.
SavedModel LoadForUse(const UseOptions& options, Pool* pool, Catalog* catalog);

// A row of zeros behind the last one, not listed and without meaning in a history.
void AppendItem(const std::string& name, SavedModel* model);

}  // namespace resembed::train
