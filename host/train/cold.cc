// SPDX-License-Identifier: Apache-2.0
#include "host/train/cold.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <unordered_map>

namespace resembed::train {

namespace {

struct Mean {
  std::vector<double> sum;  // [dim]
  double bias = 0, n = 0;

  void Add(const float* row, int64_t dim, float item_bias) {
    sum.resize(static_cast<size_t>(dim));
    for (int64_t col = 0; col < dim; ++col) sum[static_cast<size_t>(col)] += static_cast<double>(row[col]);
    bias += static_cast<double>(item_bias);
    n += 1;
  }
};

}  // namespace

void AppendItem(const std::string& name, SavedModel* model) {
  model->item_names.push_back(name);
  model->popularity.push_back(0);
  model->listed.push_back(0);
  model->in_history.push_back(0);
  model->items.resize(model->items.size() + static_cast<size_t>(model->dim()));
  const auto bias = model->head.find("item_bias");
  if (bias != model->head.end()) bias->second.values.push_back(0.0f);
}

ColdItems AddColdItems(const Catalog& catalog, SavedModel* model) {
  std::unordered_map<std::string, int64_t> row_of;
  for (size_t row = 0; row < model->item_names.size(); ++row) {
    row_of.emplace(model->item_names[row], static_cast<int64_t>(row));
  }
  const int64_t dim = model->dim();
  const auto bias_of = model->head.find("item_bias");
  const bool has_bias = bias_of != model->head.end();
  Mean all;
  std::unordered_map<std::string, Mean> groups;
  float lowest = std::numeric_limits<float>::infinity();
  for (int64_t row = 0; row < model->n_items(); ++row) {
    if (model->popularity[static_cast<size_t>(row)] == 0) continue;
    const float bias = has_bias ? bias_of->second.values[static_cast<size_t>(row)] : 0.0f;
    const float* const embedding = model->items.data() + row * dim;
    all.Add(embedding, dim, bias);
    lowest = std::min(lowest, bias);
    const auto said = catalog.row_of.find(model->item_names[static_cast<size_t>(row)]);
    if (said == catalog.row_of.end() || catalog.groups.empty()) continue;
    const std::string& group = catalog.groups[said->second];
    if (!group.empty()) groups[group].Add(embedding, dim, bias);
  }
  ColdItems cold;
  for (size_t i = 0; i < catalog.items.size(); ++i) {
    const auto known = row_of.find(catalog.items[i]);
    const int64_t row = known != row_of.end() ? known->second : model->n_items();
    if (known == row_of.end()) AppendItem(catalog.items[i], model);
    if (model->popularity[static_cast<size_t>(row)] > 0) continue;
    const auto group = catalog.groups.empty() ? groups.end() : groups.find(catalog.groups[i]);
    const bool has_group = group != groups.end();
    const Mean& mean = has_group ? group->second : all;
    (has_group ? cold.with_group : cold.without_group) += 1;
    for (int64_t col = 0; col < dim; ++col) {
      model->items[static_cast<size_t>(row * dim + col)] =
          static_cast<float>(mean.sum[static_cast<size_t>(col)] / mean.n);
    }
    if (has_bias) {
      bias_of->second.values[static_cast<size_t>(row)] =
          has_group ? static_cast<float>(mean.bias / mean.n) : lowest;
    }
    model->listed[static_cast<size_t>(row)] = 1;
    model->in_history[static_cast<size_t>(row)] = has_group ? 1 : 0;
  }
  return cold;
}

SavedModel LoadForUse(const UseOptions& options, Pool* pool, Catalog* catalog) {
  SavedModel model = LoadModel(options.model, pool);
  if (!options.catalog.empty()) {
    *catalog = ReadCatalog(options.catalog, options.catalog_columns);
    const ColdItems cold = AddColdItems(*catalog, &model);
    if (cold.with_group + cold.without_group > 0) {
      std::fprintf(stderr,
                   "%s: %lld items that the model did not learn: %lld stand where their group does, %lld "
                   "have no group it knows\n",
                   options.catalog.c_str(), static_cast<long long>(cold.with_group + cold.without_group),
                   static_cast<long long>(cold.with_group), static_cast<long long>(cold.without_group));
    }
  }
  const auto n_left_out = std::count(model.listed.begin(), model.listed.end(), 0);
  if (n_left_out > 0) {
    std::fprintf(stderr,
                 "%s: %lld items left out: no training user touched them, and no --catalog has them\n",
                 options.model.c_str(), static_cast<long long>(n_left_out));
  }
  return model;
}

}  // namespace resembed::train
