// SPDX-License-Identifier: Apache-2.0
// A trained model as a file, and what it takes to score with it again: HEAD/VARIANT/seedN.safetensors of a run's
// folder, beside graph.safetensors and items.tsv (SCHEMA.md).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "host/train/checkpoint.h"
#include "host/train/model.h"

namespace resembed::train {

// Writes FOLDER/HEAD/VARIANT/seedN.safetensors; FOLDER/graph.safetensors and FOLDER/items.tsv are the caller's.
// training: of the users the model learned from. Throws Error.
void SaveModel(const std::string& folder, const RowKey& key, const Hyper& hyper, const LogView& view,
               const InterestGraph& graph, int best_epoch, Learner* learner);

// What a file says, composed: the item embedding e_i = sum_k w_ik C[n_ik] + R[i] of every item.
struct SavedModel {
  std::string path, variant;
  Hyper hyper;                          // as far as scores depend on it; dim is that of `items`
  std::vector<std::string> item_names;  // [n_items]
  std::vector<int64_t> popularity;      // [n_items] events of the users the model learned from
  std::vector<uint8_t> listed;          // [n_items] can be recommended; a file: popularity > 0
  std::vector<uint8_t> in_history;      // [n_items] counts in a history; a file: popularity > 0
  AlignedVector<float> items;           // [n_items, dim]
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> head;  // the head's; item_bias [n_items] where there is one

  int64_t n_items() const { return static_cast<int64_t>(item_names.size()); }
  int64_t dim() const { return hyper.dim; }
};

// Throws Error: a file that is no such model, of an older version, or whose graph or items are no longer those it
// was trained with.
SavedModel LoadModel(const std::string& path, Pool* pool);

// A learner that only scores: a plain table of the model's item embeddings and its head, for users of `view`,
// whose items are those of the model. Its scores are those of the learner that was saved, in all bits.
std::unique_ptr<Learner> MakeScoringLearner(const SavedModel& model, const LogView& view, Pool* pool);

}  // namespace resembed::train
