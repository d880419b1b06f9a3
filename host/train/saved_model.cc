// SPDX-License-Identifier: Apache-2.0
#include "host/train/saved_model.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "host/train/metrics.h"
#include "host/train/names.h"
#include "host/train/random.h"
#include "host/train/tensor_file.h"

namespace resembed::train {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kFormat[] = "2";  // of the metadata; files without one are older

uint64_t HashNames(const std::vector<std::string>& names) {
  uint64_t hash = names.size();
  for (const std::string& name : names) hash = HashName(name, hash);
  return hash;
}

const char* FormName(resembed_central_form form) {
  static const char* const kForms[] = {"none", "assignment", "uniform", "stored", "attention"};
  return kForms[form];
}

// Reads what the table's form needs of the graph, and composes.
void Compose(const TensorReader& file, const std::string& graph_path, const Variant& variant, Pool* pool,
             SavedModel* model) {
  const int64_t n_items = model->n_items();
  std::vector<float> residual = file.Vector<float>("residual"), central = file.Vector<float>("central");
  const auto rows = [&](const std::vector<float>& table) {
    return static_cast<int64_t>(table.size()) / model->dim();
  };
  if (rows(residual) * model->dim() != static_cast<int64_t>(residual.size()) ||
      rows(central) * model->dim() != static_cast<int64_t>(central.size()) ||
      rows(residual) != (variant.residual ? n_items : 0)) {
    throw Error{model->path + ": its tables have other sizes than " + std::to_string(n_items) +
                " items of dim " + std::to_string(model->dim())};
  }
  InterestGraph graph;
  resembed_table table = {};
  table.struct_size = sizeof(table);
  table.n_items = n_items;
  table.dim = model->dim();
  table.form = variant.form;
  table.residual = variant.residual ? residual.data() : nullptr;
  if (variant.form != RESEMBED_CENTRAL_NONE) {
    const TensorReader from(graph_path);
    graph.neighbors = from.Vector<int32_t>("neighbors");
    graph.gcn = from.Vector<float>("gcn_weights");
    graph.center_of = from.Vector<int32_t>("center_of");
    graph.k =
        static_cast<int32_t>(static_cast<int64_t>(graph.neighbors.size()) / std::max<int64_t>(n_items, 1));
    if (file.Metadata("graph_hash") != std::to_string(HashGraph(graph))) {
      throw Error{model->path + ": " + graph_path + " is not the graph it was trained with; needs that one"};
    }
    table.central = central.data();
    table.central_rows = rows(central);
    if (variant.form == RESEMBED_CENTRAL_ASSIGNMENT) {
      table.center_of = graph.center_of.data();
      table.center_of_dtype = RESEMBED_I32;
    } else {
      table.neighbors = graph.neighbors.data();
      table.n_neighbors = graph.k;
      if (variant.form == RESEMBED_CENTRAL_STORED) table.neighbor_weights = graph.gcn.data();
    }
  }
  CheckStatus(resembed_check_maps(&table, pool->place()));
  model->items.resize(static_cast<size_t>(n_items * model->dim()));
  resembed_materialize_args args = {};
  args.struct_size = sizeof(args);
  args.table = &table;
  args.n_items = n_items;
  args.output = model->items.data();
  args.output_dtype = RESEMBED_F32;
  size_t bytes = 0;
  CheckStatus(resembed_materialize_workspace_size(&args, pool->place(), &bytes));
  AlignedVector<uint8_t> workspace(bytes);
  CheckStatus(resembed_materialize(&args, workspace.data(), bytes, pool->place()));
}

}  // namespace

void SaveModel(const std::string& folder, const RowKey& key, const Hyper& hyper, const LogView& view,
               const InterestGraph& graph, int best_epoch, Learner* learner) {
  const fs::path to = fs::path(folder) / HeadName(key.head) / key.variant;
  fs::create_directories(to);
  TensorWriter writer;
  for (const StateTensor& tensor : learner->Weights()) {
    writer.Add(tensor.name, tensor.data, tensor.rows, tensor.cols);
  }
  writer.Add("popularity", view.training->popularity);
  const std::vector<std::string>& names = view.log->item_names;
  writer.Save((to / ("seed" + std::to_string(key.seed) + ".safetensors")).string(),
              {{"format", kFormat},
               {"head", HeadName(key.head)},
               {"variant", key.variant},
               {"seed", std::to_string(key.seed)},
               {"central_form", FormName(FindVariant(key.variant)->form)},
               {"dim", std::to_string(learner->embedding().dim())},
               {"n_items", std::to_string(names.size())},
               {"graph", "../../graph.safetensors"},
               {"graph_hash", std::to_string(HashGraph(graph))},
               {"items", "../../items.tsv"},
               {"items_hash", std::to_string(HashNames(names))},
               {"best_epoch", std::to_string(best_epoch)},
               {"hyper", HyperJson(hyper).dump()}});
}

SavedModel LoadModel(const std::string& path, Pool* pool) {
  const TensorReader file(path);
  if (file.Metadata("hyper").empty() || file.Metadata("variant").empty()) {
    throw Error{path + ": is no model of resembed-train; needs HEAD/VARIANT/seedN.safetensors of its --out"};
  }
  if (file.Metadata("format") != kFormat) {
    throw Error{path + ": has the format " +
                (file.Metadata("format").empty() ? "of an older resembed-train" : file.Metadata("format")) +
                "; needs " + kFormat + ": train again with this version"};
  }
  SavedModel model = {};
  model.path = path;
  model.variant = file.Metadata("variant");
  const Variant* const variant = FindVariant(model.variant);
  if (variant == nullptr) throw Error{path + ": its variant is " + model.variant + "; this version has none"};
  const std::string head = file.Metadata("head");
  bool found = false;
  for (const Head known : {Head::kMlp, Head::kDot, Head::kDin}) {
    if (head != HeadName(known)) continue;
    model.hyper.head = known;
    found = true;
  }
  if (!found) throw Error{path + ": its head is " + head + "; this version has none"};
  try {
    const Json hyper = Json::parse(file.Metadata("hyper"));
    model.hyper.dim = std::stoi(file.Metadata("dim"));
    model.hyper.history_length = hyper.at("history");
    model.hyper.history_decay = hyper.at("history_decay");
    model.hyper.normalize_history = hyper.at("history_normalized");
    model.hyper.repeat_features = hyper.at("repeat_features");
    model.hyper.query_transform = hyper.value("query_transform", false);
    model.hyper.attention_scale = hyper.value("attention_scale", 0.0);
    if (model.hyper.dim < 1 || model.hyper.history_length < 1) throw std::out_of_range("hyper");
  } catch (const std::exception&) {
    throw Error{path + ": its metadata are damaged; needs a model of resembed-train"};
  }
  const fs::path folder = fs::path(path).parent_path();
  const std::string items_path = (folder / file.Metadata("items")).lexically_normal().string();
  model.item_names = ReadItems(items_path).all();
  if (file.Metadata("items_hash") != std::to_string(HashNames(model.item_names))) {
    throw Error{path + ": " + items_path + " does not have the items it was trained with; needs those"};
  }
  model.popularity = file.Vector<int64_t>("popularity");
  if (static_cast<int64_t>(model.popularity.size()) != model.n_items()) {
    throw Error{path + ": popularity has " + std::to_string(model.popularity.size()) + " values; needs " +
                std::to_string(model.n_items())};
  }
  for (const int64_t events : model.popularity) model.listed.push_back(events > 0 ? 1 : 0);
  model.in_history = model.listed;
  Compose(file, (folder / file.Metadata("graph")).lexically_normal().string(), *variant, pool, &model);
  for (const resembed_tensor& tensor : file.Tensors()) {
    const std::string name = tensor.name;
    if (name == "residual" || name == "central" || name == "popularity") continue;
    model.head[name] = {{tensor.shape, tensor.shape + tensor.n_dims}, file.Vector<float>(name)};
  }
  return model;
}

std::unique_ptr<Learner> MakeScoringLearner(const SavedModel& model, const LogView& view, Pool* pool) {
  Hyper hyper = model.hyper;
  hyper.optimizer = "";  // no states, no first values
  std::unique_ptr<Learner> learner = MakeLearner(*FindVariant("plain"), {}, view, hyper, 0, pool);
  for (const StateTensor& tensor : learner->Weights()) {
    if (tensor.name == "residual") {
      std::copy(model.items.begin(), model.items.end(), tensor.data);
      continue;
    }
    const auto found = model.head.find(tensor.name);
    if (found == model.head.end() || static_cast<int64_t>(found->second.values.size()) != tensor.size()) {
      throw Error{model.path + ": the tensor " + tensor.name + " is missing or of another size; needs " +
                  std::to_string(tensor.size()) + " values"};
    }
    std::copy(found->second.values.begin(), found->second.values.end(), tensor.data);
  }
  learner->WeightsWritten();
  return learner;
}

}  // namespace resembed::train
