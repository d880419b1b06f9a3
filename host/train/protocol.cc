// SPDX-License-Identifier: Apache-2.0
#include "host/train/protocol.h"

#include <deque>

namespace resembed::train {
namespace {

class TensorList {
 public:
  template <typename T>
  void Add(const std::string& name, const std::vector<T>& values, int64_t cols = 0) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "int32 and int64 only");
    const int64_t n = static_cast<int64_t>(values.size());
    resembed_tensor tensor = {};
    tensor.struct_size = sizeof(tensor);
    tensor.name = names_.emplace_back(name).c_str();
    tensor.dtype = sizeof(T) == 4 ? RESEMBED_I32 : RESEMBED_I64;
    tensor.n_dims = cols > 0 ? 2 : 1;
    tensor.shape[0] = cols > 0 ? n / cols : n;
    tensor.shape[1] = cols;
    tensor.data = values.data();
    tensors_.push_back(tensor);
  }
  void AddSet(const std::string& name, const EvalSet& set) {
    auto& columns = columns_.emplace_back();
    for (const Target& target : set.targets) {
      columns.user.push_back(target.user);
      columns.position.push_back(target.position);
    }
    Add(name + ".user", columns.user);
    Add(name + ".position", columns.position);
    Add(name + ".uniform", set.uniform, set.n_negatives);
    Add(name + ".popular", set.popular, set.n_negatives);
    Add(name + ".ranked", set.ranked);
  }
  void Save(const std::string& path, const char* const* metadata, int32_t n_metadata) const {
    std::vector<const resembed_tensor*> pointers;
    for (const resembed_tensor& tensor : tensors_) pointers.push_back(&tensor);
    CheckStatus(resembed_save(path.c_str(), pointers.data(), static_cast<int32_t>(pointers.size()), metadata,
                              n_metadata));
  }

 private:
  struct Columns {
    std::vector<int32_t> user;
    std::vector<int64_t> position;
  };
  // Deques: what the tensors point to stays where it is.
  std::deque<std::string> names_;
  std::deque<Columns> columns_;
  std::vector<resembed_tensor> tensors_;
};

}  // namespace

void SaveProtocol(const RunData& run, const std::string& path) {
  TensorList list;
  list.Add("offsets", run.log.offsets);
  list.Add("items", run.log.items);
  list.Add("train_users", run.split.train);
  list.Add("popularity", run.view.popularity);
  list.Add("interest_of", run.partition.interest_of);
  list.AddSet("valid", run.valid);
  list.AddSet("test", run.test);
  list.AddSet("trained", run.trained);
  const std::string hyper = HyperJson(HyperOf(*run.options, Head::kMlp, run.n_samples)).dump();
  const char* metadata[] = {"hyper", hyper.c_str()};
  list.Save(path, metadata, 1);
}

}  // namespace resembed::train
