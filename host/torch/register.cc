// SPDX-License-Identifier: Apache-2.0
// Schemas of torch.ops.resembed and what serves them on which device. README.md says in words what each is for.
//
// The table is the first tensor everywhere, because AOTInductor takes the device from it. Sizes that may change from
// batch to batch are SymInt, so that compiled code does not depend on them. Nothing returned shares memory with an
// argument; what is written is annotated and not returned.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <vector>

#include "host/torch/dispatch.h"
#include "host/torch/ops.h"

namespace resembed::adapter {
namespace {

// Lists of tensors or strings have no defaults in this language. table_batched_step says pooling_mode, because torch's
// functionalization of mutating operations has an argument `mode` of its own.
constexpr const char* kSchemas[] = {
    R"(embedding_bag(Tensor weight, Tensor indices, Tensor? offsets=None, Tensor? per_sample_weights=None,
      Tensor? central_weight=None, Tensor? central_map=None, Tensor? neighbor_weights=None, str fusion='none',
      str mode='mean', int? padding_idx=None, bool include_last_offset=False, bool sparse=False,
      str bounds='check', ScalarType? output_dtype=None) -> Tensor)",

    R"(embedding_bag_backward(Tensor weight, Tensor grad_output, Tensor indices, Tensor? offsets=None,
      Tensor? per_sample_weights=None, Tensor? central_weight=None, Tensor? central_map=None,
      Tensor? neighbor_weights=None, str fusion='none', str mode='mean', int? padding_idx=None,
      bool include_last_offset=False, str bounds='check', bool need_weight=True, bool need_central=True,
      bool need_per_sample_weights=False, bool need_neighbor_weights=False) -> (Tensor weight,
      Tensor central_weight, Tensor per_sample_weights, Tensor neighbor_weights))",

    R"(embedding_bag_compressed_backward(Tensor weight, Tensor grad_output, Tensor indices,
      Tensor? offsets=None, Tensor? per_sample_weights=None, Tensor? central_weight=None,
      Tensor? central_map=None, Tensor? neighbor_weights=None, str fusion='none', str mode='mean',
      int? padding_idx=None, bool include_last_offset=False, str bounds='check', bool need_weight=True,
      bool need_central=True) -> (Tensor row_ids, Tensor rows, Tensor count, Tensor central_row_ids,
      Tensor central_rows, Tensor central_count))",

    R"(table_batched(Tensor[] weights, Tensor indices, Tensor offsets, Tensor? per_sample_weights,
      Tensor[] central_weights, Tensor[] central_maps, Tensor[] neighbor_weights, str[] fusions,
      int[] feature_table=[0], str mode='sum', str bounds='check', SymInt[]? feature_lengths=None,
      ScalarType? output_dtype=None) -> Tensor)",

    R"(table_batched_backward(Tensor[] weights, Tensor grad_output, Tensor indices, Tensor offsets,
      Tensor? per_sample_weights, Tensor[] central_weights, Tensor[] central_maps,
      Tensor[] neighbor_weights, str[] fusions, int[] feature_table=[0], str mode='sum',
      str bounds='check', SymInt[]? feature_lengths=None, bool need_weights=True,
      bool need_central_weights=True, bool need_per_sample_weights=False) -> (Tensor[] weights,
      Tensor[] central_weights, Tensor per_sample_weights))",

    R"(table_batched_step(Tensor(a!)[] weights, Tensor(b!)[] central_weights, Tensor(c!)[] state1,
      Tensor(d!)[] state2, Tensor(e!)[] central_state1, Tensor(f!)[] central_state2, Tensor grad_output,
      Tensor indices, Tensor offsets, Tensor? per_sample_weights, Tensor lr, Tensor central_lr,
      Tensor step, Tensor[] central_maps, Tensor[] neighbor_weights, str[] fusions,
      int[] feature_table=[0], str pooling_mode='sum', str bounds='check',
      SymInt[]? feature_lengths=None, str optimizer='rowwise_adagrad', float beta1=0.9,
      float beta2=0.999, float eps=1e-8, str decay='l2', float weight_decay=0.0,
      float central_weight_decay=0.0, bool stochastic_rounding=False, int seed=0,
      int first_table_number=0) -> ())",

    R"(step(Tensor(a!) weight, Tensor(b!)? state1, Tensor(c!)? state2, Tensor row_ids, Tensor rows,
      Tensor count, Tensor lr, Tensor step, str optimizer='rowwise_adagrad', float beta1=0.9,
      float beta2=0.999, float eps=1e-8, str decay='l2', float weight_decay=0.0,
      bool stochastic_rounding=False, int seed=0, int table_number=0) -> ())",

    R"(combine(Tensor[] row_ids, Tensor[] rows, Tensor[] counts, SymInt table_rows) -> (Tensor row_ids,
      Tensor rows, Tensor count))",

    R"(materialize(Tensor weight, Tensor? central_weight=None, Tensor? central_map=None,
      Tensor? neighbor_weights=None, str fusion='none', SymInt first_item=0, SymInt? n_items=None,
      ScalarType? output_dtype=None) -> Tensor)",

    R"(envelope(Tensor weight, Tensor interest_of, SymInt n_interests, float[] quantiles,
      Tensor? central_weight=None, Tensor? central_map=None, Tensor? neighbor_weights=None,
      str fusion='none') -> (Tensor count, Tensor radius, Tensor radius_quantiles, Tensor residual_norm,
      Tensor residual_norm_quantiles, Tensor central_norm, Tensor ratio, Tensor overall))",

    R"(check_maps(Tensor weight, Tensor? central_weight=None, Tensor? central_map=None,
      Tensor? neighbor_weights=None, str fusion='none') -> ())",

    R"(bad_ids(Tensor[] weights, Tensor indices, Tensor? offsets=None, int[] feature_table=[0],
      int? padding_idx=None) -> Tensor)",

    R"(interest_graph(Tensor values, Tensor offsets, SymInt n_items, int window=2,
      int top_k=8) -> (Tensor neighbors, Tensor counts))",

    R"(graph_weights(Tensor neighbors, Tensor? counts=None, str weighting='gcn') -> Tensor)",

    R"(graph_assign(Tensor neighbors, Tensor counts, int max_center_items=0, int max_centers=0,
      float resolution=1.0, bool cold_center=False) -> (Tensor center_of, Tensor n_centers))",
};

void DefineSchemas(torch::Library* library) {
  for (const char* schema : kSchemas) library->def(schema, {at::Tag::pt2_compliant_tag});
}

void DefineKernels(torch::Library* library) {
  library->impl("embedding_bag", &EmbeddingBag);
  library->impl("embedding_bag_backward", &EmbeddingBagBackward);
  library->impl("embedding_bag_compressed_backward", &EmbeddingBagCompressedBackward);
  library->impl("table_batched", &TableBatched);
  library->impl("table_batched_backward", &TableBatchedBackward);
  library->impl("table_batched_step", &TableBatchedStep);
  library->impl("step", &Step);
  library->impl("combine", &Combine);
  library->impl("materialize", &Materialize);
  library->impl("envelope", &Envelope);
  library->impl("check_maps", &CheckMaps);
  library->impl("bad_ids", &BadIds);
  library->impl("interest_graph", &InterestGraph);
  library->impl("graph_weights", &GraphWeights);
  library->impl("graph_assign", &GraphAssign);
}

// Autocast leaves every argument as it is: a half copy of a table would be as large as half the table, and the
// kernels accumulate in float32 whatever the types. The output has the table's type, or output_dtype.
void DefineAutocast(torch::Library* library) {
  for (const char* op : kOps) library->impl(op, torch::CppFunction::makeFallthrough());
}

class Registration {
 public:
  Registration() {
    if (c10::Dispatcher::singleton().findSchema({"resembed::embedding_bag", ""}).has_value()) {
      TORCH_WARN(
          "resembed: a second copy of libresembed_torch.so was loaded; the operations of the first one stay");
      return;
    }
    DefineSchemas(Add(torch::Library::DEF, std::nullopt));
    DefineKernels(Add(torch::Library::IMPL, c10::DispatchKey::CPU));
    DefineKernels(Add(torch::Library::IMPL, c10::DispatchKey::CUDA));
    DefineMeta(Add(torch::Library::IMPL, c10::DispatchKey::Meta));
    DefineAutograd(Add(torch::Library::IMPL, c10::DispatchKey::Autograd));
    DefineInPlace(Add(torch::Library::IMPL, c10::DispatchKey::ADInplaceOrView));
    DefineAutocast(Add(torch::Library::IMPL, c10::DispatchKey::AutocastCPU));
    DefineAutocast(Add(torch::Library::IMPL, c10::DispatchKey::AutocastCUDA));
  }

 private:
  torch::Library* Add(torch::Library::Kind kind, std::optional<c10::DispatchKey> key) {
    libraries_.emplace_back(kind, "resembed", key, __FILE__, static_cast<uint32_t>(__LINE__));
    return &libraries_.back();
  }
  std::vector<torch::Library> libraries_;
};
// As TORCH_LIBRARY does, but a second copy is a warning rather than the end of the process.
const Registration registration;

}  // namespace
}  // namespace resembed::adapter

// A program that links this library and calls it loads it for certain: linkers drop libraries nothing refers to.
extern "C" __attribute__((visibility("default"))) int32_t resembed_torch_init() { return RESEMBED_VERSION; }
