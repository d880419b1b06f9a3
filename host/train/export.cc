// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "host/train/cold.h"
#include "host/train/names.h"
#include "host/train/npy.h"
#include "host/train/parallel.h"
#include "host/train/use.h"

namespace resembed::train {

void Export(const UseOptions& options) {
  namespace fs = std::filesystem;
  Pool pool(ThreadsOf(options.threads));
  Catalog catalog;
  SavedModel model = LoadForUse(options, &pool, &catalog);
  std::error_code error;
  fs::create_directories(options.out, error);
  if (error) throw Error{"--out " + options.out + ": cannot be created (" + error.message() + ")"};
  const fs::path out = options.out;

  const int64_t dim = model.dim();
  const auto bias = model.head.find("item_bias");
  const bool has_bias = bias != model.head.end();
  std::string ids = catalog.names.empty() ? "row\titem\n" : "row\titem\tname\n";
  int64_t n = 0;
  for (int64_t row = 0; row < model.n_items(); ++row) {
    const size_t at = static_cast<size_t>(row);
    if (model.listed[at] == 0) continue;
    std::copy_n(model.items.begin() + row * dim, dim, model.items.begin() + n * dim);
    if (has_bias) bias->second.values[static_cast<size_t>(n)] = bias->second.values[at];
    ids += std::to_string(n) + "\t" + Escape(model.item_names[at]);
    if (!catalog.names.empty()) ids += "\t" + Escape(catalog.NameOf(model.item_names[at]));
    ids += "\n";
    ++n;
  }
  if (has_bias) bias->second.shape = {n};
  WriteNpy((out / "items.npy").string(), {n, dim}, model.items.data());
  for (const auto& [name, tensor] : model.head) {
    WriteNpy((out / (name + ".npy")).string(), tensor.shape, tensor.values.data());
  }
  WriteText((out / "ids.tsv").string(), ids);
  const Hyper& hyper = model.hyper;
  nlohmann::json description = {{"head", HeadName(hyper.head)},
                                {"variant", model.variant},
                                {"items", n},
                                {"dim", dim},
                                {"history", hyper.history_length},
                                {"history_decay", hyper.history_decay},
                                {"history_normalized", hyper.normalize_history},
                                {"repeat_features", hyper.repeat_features}};
  if (hyper.head == Head::kDin) description["attention_scale"] = hyper.attention_scale;
  WriteText((out / "model.json").string(), description.dump(1) + "\n");
}

}  // namespace resembed::train
