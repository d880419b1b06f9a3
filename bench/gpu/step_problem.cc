// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/step_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/gpu/kernels.h"
#include "bench/gpu/streams.h"
#include "host/cpu/sort.h"
#include "kernels/sort/sort.h"

namespace resembed::bench::gpu {
namespace {

constexpr uint64_t kSeed = 11;
constexpr int64_t kComparedRows = 256;

int64_t ElementBytes(resembed_dtype dtype) { return dtype == RESEMBED_F32 ? 4 : 2; }

DeviceArray Values(int64_t count, resembed_dtype dtype, uint32_t seed, cudaStream_t stream) {
  DeviceArray array(static_cast<size_t>(count * ElementBytes(dtype)));
  CheckCuda(FillValues(array.data(), count, dtype, seed, stream), "FillValues");
  return array;
}

DeviceArray Zeros(int64_t count, int64_t element, cudaStream_t stream) {
  DeviceArray array(static_cast<size_t>(count * element));
  CheckCuda(cudaMemsetAsync(array.data(), 0, array.bytes(), stream), "cudaMemsetAsync");
  return array;
}

std::vector<int32_t> IdsOf(const Workload& w, uint64_t seed) {
  if (w.ids == Ids::kCoherent)
    return CoherentBags(w.rows, w.centers, w.interests, w.alpha, w.n_bags, w.bag_length, seed);
  if (w.ids == Ids::kDistinct) return DistinctIds(w.rows, w.n_bags * w.bag_length, seed);
  return PowerLawBags(w.rows, w.alpha, w.n_bags, w.bag_length, seed);
}

// Uses of one row of the output gradient.
int64_t RowLength(const Workload& w) { return w.pooling == RESEMBED_POOLING_NONE ? 1 : w.bag_length; }

}  // namespace

const char* StepWayName(StepWay way) {
  static const char* const kNames[] = {"plan",    "plan_two_sorts", "sort",    "backward",
                                       "step",    "plan_step",      "single",  "two",
                                       "atomics", "reduce_by_key",  "cuembed", "cuembed_transpose"};
  return kNames[static_cast<int>(way)];
}

bool Has(const StepWorkload& workload, StepWay way) {
  const Workload& w = workload.batch;
  const bool central = w.form != RESEMBED_CENTRAL_NONE;
  switch (way) {
    case StepWay::kPlanTwoSorts:
      return w.form == RESEMBED_CENTRAL_ASSIGNMENT && w.ids == Ids::kCoherent;
    case StepWay::kSingle:
      return central;
    case StepWay::kTwo:
      return central && (w.k == 1 || w.pooling != RESEMBED_POOLING_NONE);
    case StepWay::kReduceByKey:
      return !central && w.dim % 4 == 0 && w.n_bags * w.bag_length * (w.dim / 4) < (int64_t{1} << 31);
    case StepWay::kCuEmbed:
    case StepWay::kCuEmbedTranspose:
      return CuEmbedBackwardAvailable(workload);
    default:
      return true;
  }
}

StepProblem::StepProblem(const StepWorkload& workload, Bench* bench) : workload_(workload), bench_(bench) {
  const Workload& w = workload_.batch;
  for (int index = 0; index < workload_.n_tables; ++index) MakeTable(index);
  BatchShape& batch = shape_.batch;
  const int64_t n_ids = w.n_bags * w.bag_length;
  batch.dim = w.dim;
  batch.n_bags = workload_.n_tables * (w.pooling == RESEMBED_POOLING_NONE ? n_ids : w.n_bags);
  batch.n_ids = workload_.n_tables * n_ids;
  batch.residual_bytes = batch.central_bytes = batch.output_bytes = ElementBytes(w.dtype);
  for (const Table& table : tables_) {
    batch.n_unique += table.n_unique;
    batch.n_unique_central += table.n_unique_central;
    shape_.n_pairs += table.n_pairs;
  }
  StatesOf(workload_.optimizer, &shape_.row_states, &shape_.element_states);
  shape_.state_bytes = ElementBytes(workload_.state_dtype);
  shape_.key_bits = detail::BitsFor(static_cast<uint64_t>(w.rows));
  CheckCuda(cudaStreamSynchronize(bench_->stream()), "tables");
}

void StepProblem::MakeTable(int index) {
  const Workload& w = workload_.batch;
  const cudaStream_t stream = bench_->stream();
  tables_.emplace_back();
  Table& table = tables_.back();
  const std::vector<int32_t> ids = IdsOf(w, kSeed + static_cast<uint64_t>(index));
  const auto n_ids = static_cast<int64_t>(ids.size());
  table.ids = DeviceArray::Of(ids);
  table.n_unique = CountDistinct(ids, w.rows);
  const auto seed = static_cast<uint32_t>(3 * index);
  table.residual = Values(w.rows * w.dim, w.dtype, seed + 1, stream);
  const int64_t grad_rows = w.pooling == RESEMBED_POOLING_NONE ? n_ids : w.n_bags;
  table.grad = Values(grad_rows * w.dim, w.dtype, seed + 3, stream);
  int64_t row_states = 0, element_states = 0;
  StatesOf(workload_.optimizer, &row_states, &element_states);
  const int64_t state_bytes = ElementBytes(workload_.state_dtype);
  const auto states = [&](int64_t rows, DeviceArray* out) {
    if (element_states > 0) out[0] = Zeros(rows * w.dim, state_bytes, stream);
    if (element_states == 2) out[1] = Zeros(rows * w.dim, state_bytes, stream);
    if (row_states > 0) out[element_states > 0 ? 1 : 0] = Zeros(rows, state_bytes, stream);
  };
  states(w.rows, table.residual_states);
  resembed_table& descriptor = table.descriptor;
  descriptor.struct_size = sizeof(descriptor);
  descriptor.n_items = w.rows;
  descriptor.dim = w.dim;
  descriptor.residual = table.residual.data();
  descriptor.residual_dtype = w.dtype;
  if (w.form == RESEMBED_CENTRAL_NONE) return;

  const bool assigned = w.form == RESEMBED_CENTRAL_ASSIGNMENT;
  table.central_rows = assigned ? w.centers : w.rows;
  const std::vector<int32_t> lists = assigned && w.ids == Ids::kCoherent
                                         ? BlockCenters(w.rows, w.centers)
                                         : RandomCenters(w.rows * w.k, table.central_rows, kSeed + 1);
  table.lists = DeviceArray::Of(lists);
  std::vector<int32_t> unique = ids, used;
  std::sort(unique.begin(), unique.end());
  unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
  for (const int32_t item : unique) {
    const auto first = lists.begin() + int64_t{item} * w.k;
    used.insert(used.end(), first, first + w.k);
  }
  table.n_pairs = static_cast<int64_t>(used.size());
  table.n_unique_central = CountDistinct(used, table.central_rows);
  table.central = Values(table.central_rows * w.dim, w.dtype, seed + 2, stream);
  states(table.central_rows, table.central_states);
  descriptor.form = w.form;
  descriptor.central = table.central.data();
  descriptor.central_rows = table.central_rows;
  descriptor.central_dtype = w.dtype;
  if (assigned) {
    descriptor.center_of = table.lists.data();
    descriptor.center_of_dtype = RESEMBED_I32;
    // Coherent interests are numbered block by block.
    descriptor.center_major = w.ids == Ids::kCoherent ? 1 : 0;
    return;
  }
  descriptor.neighbors = table.lists.as<int32_t>();
  descriptor.n_neighbors = w.k;
  if (w.form == RESEMBED_CENTRAL_STORED) {
    table.list_weights = DeviceArray::Of(std::vector<float>(lists.size(), 1.0f / static_cast<float>(w.k)));
    descriptor.neighbor_weights = table.list_weights.as<float>();
  }
}

resembed_optimizer StepProblem::Optimizer(const DeviceArray& state1, const DeviceArray& state2) const {
  resembed_optimizer optimizer = {};
  optimizer.struct_size = sizeof(optimizer);
  optimizer.kind = workload_.optimizer;
  optimizer.lr = 1e-6f;  // a run changes the tables by little
  optimizer.beta1 = .9f;
  optimizer.beta2 = .999f;
  optimizer.eps = 1e-8f;
  optimizer.step = 1;
  optimizer.state1 = state1.data();
  optimizer.state2 = state2.data();
  optimizer.state_dtype = workload_.state_dtype;
  return optimizer;
}

// R with C, R alone, or C alone as a table of its own over the slots.
Trainer::Part StepProblem::PartOf(const Table& table, bool residual, bool central) const {
  const Workload& w = workload_.batch;
  Trainer::Part part = {};
  part.table = table.descriptor;
  part.grad = table.grad.data();
  part.n_unique = table.n_unique;
  part.n_unique_central = table.n_unique_central;
  part.residual = Optimizer(table.residual_states[0], table.residual_states[1]);
  part.central = Optimizer(table.central_states[0], table.central_states[1]);
  resembed_feature& feature = part.feature;
  feature.struct_size = sizeof(feature);
  feature.pooling = w.pooling;
  feature.ids = table.ids.data();
  feature.n_ids = w.n_bags * w.bag_length;
  feature.id_dtype = RESEMBED_I32;
  feature.n_bags = w.n_bags;
  feature.bag_length = w.bag_length;
  feature.output_dtype = w.dtype;
  if (residual && central) return part;
  resembed_table& plain = part.table;
  plain = {};
  plain.struct_size = sizeof(plain);
  plain.n_items = central ? table.central_rows : w.rows;
  plain.dim = w.dim;
  plain.residual = central ? table.central.data() : table.residual.data();
  plain.residual_dtype = w.dtype;
  part.n_unique_central = 0;
  if (!central) return part;
  part.residual = part.central;
  part.n_unique = table.n_unique_central;
  feature.ids = table.slots.data();
  feature.n_ids *= w.k;
  feature.bag_length *= w.k;
  feature.weights = table.slot_weights.as<float>();
  return part;
}

// kSort of one table; its memory and its keys when they are not there.
void StepProblem::Sort(Table* table) {
  const int64_t n = workload_.batch.n_bags * workload_.batch.bag_length;
  const auto bytes = static_cast<size_t>(n) * 4;
  const int key_bits = static_cast<int>(shape_.key_bits);
  if (table->keys.data() == nullptr) {
    for (DeviceArray* array : {&table->keys, &table->uses, &table->sorted_keys, &table->sorted_uses})
      *array = DeviceArray(bytes);
    CheckCuda(FillKeys(table->ids.as<int32_t>(), n, table->keys.as<uint32_t>(), table->uses.as<uint32_t>(),
                       bench_->stream()),
              "FillKeys");
    size_t temp = 0;
    CheckCuda(kernels::SortPairs(nullptr, &temp, nullptr, nullptr, nullptr, nullptr, n, key_bits, nullptr),
              "SortPairs");
    table->temp = DeviceArray(temp);
  }
  size_t temp = table->temp.bytes();
  CheckCuda(kernels::SortPairs(table->temp.data(), &temp, table->keys.as<uint32_t>(),
                               table->sorted_keys.as<uint32_t>(), table->uses.as<uint32_t>(),
                               table->sorted_uses.as<uint32_t>(), n, key_bits, bench_->stream()),
            "SortPairs");
}

void StepProblem::Run(StepWay way) {
  const Workload& w = workload_.batch;
  const cudaStream_t stream = bench_->stream();
  const int64_t n_ids = w.n_bags * w.bag_length;
  const int64_t row_length = RowLength(w);
  const auto gather = [&](Table* table) {
    if (table->slots.data() == nullptr) {
      table->slots = DeviceArray(static_cast<size_t>(n_ids * w.k) * 4);
      if (table->list_weights.data() != nullptr)
        table->slot_weights = DeviceArray(static_cast<size_t>(n_ids * w.k) * 4);
    }
    CheckCuda(GatherLists(table->ids.as<int32_t>(), n_ids, table->lists.as<int32_t>(),
                          table->list_weights.as<float>(), w.k, table->slots.as<int32_t>(),
                          table->slot_weights.as<float>(), stream),
              "GatherLists");
  };
  const auto make = [&](std::unique_ptr<Trainer>* trainer, bool residual, bool central) {
    if (*trainer != nullptr) return;
    std::vector<Trainer::Part> parts;
    for (const Table& table : tables_) parts.push_back(PartOf(table, residual, central));
    *trainer = std::make_unique<Trainer>(std::move(parts), stream);
    if (!(central && !residual)) (*trainer)->Plan();
  };
  switch (way) {
    case StepWay::kPlan:
      make(&fused_, true, true);
      return fused_->Plan();
    case StepWay::kPlanTwoSorts:
      if (unpromised_ == nullptr) {
        std::vector<Trainer::Part> parts;
        for (const Table& table : tables_) parts.push_back(PartOf(table, true, true));
        for (Trainer::Part& part : parts) part.table.center_major = 0;
        unpromised_ = std::make_unique<Trainer>(std::move(parts), stream);
      }
      return unpromised_->Plan();
    case StepWay::kBackward:
      make(&fused_, true, true);
      return fused_->Backward();
    case StepWay::kStep:
      make(&fused_, true, true);
      return fused_->Step();
    case StepWay::kPlanStep:
      make(&fused_, true, true);
      fused_->Plan();
      return fused_->Step();
    case StepWay::kSingle:
      make(&single_, true, false);
      return single_->Step();
    case StepWay::kTwo:
      for (Table& table : tables_) gather(&table);
      make(&centers_, false, true);
      make(&single_, true, false);
      centers_->Plan();
      centers_->Step();
      single_->Plan();
      return single_->Step();
    case StepWay::kSort:
      for (Table& table : tables_) Sort(&table);
      return;
    case StepWay::kAtomics:
      for (Table& table : tables_) {
        if (table.dense.data() == nullptr) {
          table.dense = Zeros(w.rows * w.dim, 4, stream);
          if (table.central_rows > 0) {
            gather(&table);
            table.dense_central = Zeros(table.central_rows * w.dim, 4, stream);
          }
        }
        const GradRows rows = {table.grad.data(), w.dtype, w.dim, row_length};
        CheckCuda(
            AddAtomically(rows, table.ids.as<int32_t>(), nullptr, n_ids, table.dense.as<float>(), stream),
            "AddAtomically");
        if (table.central_rows == 0) continue;
        const GradRows slots = {table.grad.data(), w.dtype, w.dim, row_length * w.k};
        CheckCuda(AddAtomically(slots, table.slots.as<int32_t>(), table.slot_weights.as<float>(), n_ids * w.k,
                                table.dense_central.as<float>(), stream),
                  "AddAtomically");
      }
      return;
    case StepWay::kReduceByKey:
      for (Table& table : tables_) {
        Sort(&table);
        const GradRows rows = {table.grad.data(), w.dtype, w.dim, row_length};
        size_t temp = table.reduce_temp.bytes();
        if (table.sums.data() == nullptr) {
          CheckCuda(ReduceByKey(nullptr, &temp, rows, nullptr, nullptr, n_ids, nullptr, nullptr, stream),
                    "size");
          table.reduce_temp = DeviceArray(temp);
          table.sums = DeviceArray(static_cast<size_t>(table.n_unique * w.dim) * 4);
          table.n_runs = DeviceArray(8);
        }
        CheckCuda(ReduceByKey(table.reduce_temp.data(), &temp, rows, table.sorted_keys.as<uint32_t>(),
                              table.sorted_uses.as<uint32_t>(), n_ids, table.sums.as<float>(),
                              table.n_runs.as<int64_t>(), stream),
                  "ReduceByKey");
      }
      return;
    case StepWay::kCuEmbed:
      for (Table& table : tables_) CuEmbedOnSorted(&table);
      return;
    case StepWay::kCuEmbedTranspose:
      for (Table& table : tables_) CuEmbedFromIds(&table);
      return;
  }
}

void StepProblem::MakeCuEmbedOutputs(Table* table) const {
  if (table->cuembed_gradient.data() != nullptr) return;
  table->cuembed_gradient =
      Zeros(table->n_unique * workload_.batch.dim, ElementBytes(workload_.batch.dtype), bench_->stream());
  table->cuembed_items = DeviceArray(static_cast<size_t>(table->n_unique) * 4);
}

// Sorted by the library, with the rows of uses and the numbers of runs made on the host, outside of the timed part.
void StepProblem::CuEmbedOnSorted(Table* table) {
  const int64_t n = workload_.batch.n_bags * workload_.batch.bag_length;
  if (table->cuembed_rows.data() == nullptr) {
    MakeCuEmbedOutputs(table);
    Sort(table);
    CheckCuda(cudaStreamSynchronize(bench_->stream()), "cudaStreamSynchronize");
    std::vector<int32_t> keys(static_cast<size_t>(n)), uses(keys.size()), runs(keys.size());
    CheckCuda(cudaMemcpy(keys.data(), table->sorted_keys.data(), keys.size() * 4, cudaMemcpyDeviceToHost),
              "keys");
    CheckCuda(cudaMemcpy(uses.data(), table->sorted_uses.data(), uses.size() * 4, cudaMemcpyDeviceToHost),
              "uses");
    for (size_t at = 0; at < keys.size(); ++at) {
      uses[at] = static_cast<int32_t>(uses[at] / RowLength(workload_.batch));
      runs[at] = at == 0 ? 0 : runs[at - 1] + (keys[at] != keys[at - 1] ? 1 : 0);
    }
    table->cuembed_rows = DeviceArray::Of(uses);
    table->cuembed_runs = DeviceArray::Of(runs);
  }
  CuEmbedBackward(workload_, table->grad.data(), n, table->n_unique, table->sorted_keys.as<int32_t>(),
                  table->cuembed_rows.as<int32_t>(), table->cuembed_runs.as<int32_t>(),
                  table->cuembed_gradient.data(), table->cuembed_items.as<int32_t>(), bench_->stream());
}

void StepProblem::CuEmbedFromIds(Table* table) {
  const int64_t n = workload_.batch.n_bags * workload_.batch.bag_length;
  const int64_t row_length = RowLength(workload_.batch);
  const cudaStream_t stream = bench_->stream();
  size_t bytes = table->transpose_work.bytes();
  if (table->transpose_work.data() == nullptr) {
    MakeCuEmbedOutputs(table);
    CuEmbedTranspose(nullptr, &bytes, nullptr, n, row_length, nullptr, nullptr, nullptr, nullptr, stream);
    table->transpose_work = DeviceArray(bytes);
    for (DeviceArray& array : table->transposed) array = DeviceArray(static_cast<size_t>(n) * 4);
  }
  int32_t* arrays[4];
  for (int which = 0; which < 4; ++which) arrays[which] = table->transposed[which].as<int32_t>();
  CuEmbedTranspose(table->transpose_work.data(), &bytes, table->ids.as<int32_t>(), n, row_length, arrays[0],
                   arrays[1], arrays[2], arrays[3], stream);
  CuEmbedBackward(workload_, table->grad.data(), n, table->n_unique, arrays[1], arrays[2], arrays[3],
                  table->cuembed_gradient.data(), table->cuembed_items.as<int32_t>(), stream);
}

int64_t StepProblem::CountDifferent(StepWay way) {
  const bool peer = way == StepWay::kCuEmbed || way == StepWay::kCuEmbedTranspose;
  if (way != StepWay::kAtomics && way != StepWay::kReduceByKey &&
      !(peer && workload_.batch.dtype == RESEMBED_F32))  // it adds in the type of the output gradient
    return 0;
  const auto dim = static_cast<size_t>(workload_.batch.dim);
  Run(StepWay::kBackward);
  for (const Table& table : tables_) {
    const DeviceArray& sums = peer ? table.cuembed_gradient : table.dense;  // what is added to
    if (way == StepWay::kReduceByKey || sums.data() == nullptr) continue;
    CheckCuda(cudaMemsetAsync(sums.data(), 0, sums.bytes(), bench_->stream()), "cudaMemsetAsync");
  }
  Run(way);
  int64_t different = 0;
  for (size_t index = 0; index < tables_.size(); ++index) {
    const Table& table = tables_[index];
    std::vector<int64_t> items;
    std::vector<float> want;
    fused_->ReadGradient(static_cast<int64_t>(index), kComparedRows, &items, &want);
    std::vector<float> got(dim);
    for (size_t row = 0; row < items.size(); ++row) {
      if (way == StepWay::kAtomics) {
        CheckCuda(cudaMemcpy(got.data(), table.dense.as<float>() + static_cast<size_t>(items[row]) * dim,
                             dim * 4, cudaMemcpyDeviceToHost),
                  "cudaMemcpy");
      } else if (peer) {
        int32_t item = -1;
        CheckCuda(cudaMemcpy(&item, table.cuembed_items.as<int32_t>() + row, 4, cudaMemcpyDeviceToHost),
                  "item");
        CheckCuda(cudaMemcpy(got.data(), table.cuembed_gradient.as<float>() + row * dim, dim * 4,
                             cudaMemcpyDeviceToHost),
                  "cudaMemcpy");
        if (item != items[row]) got.assign(dim, NAN);
      } else {
        for (size_t block = 0; block < dim / 4; ++block) {
          CheckCuda(
              cudaMemcpy(&got[4 * block],
                         table.sums.as<float>() + 4 * (block * static_cast<size_t>(table.n_unique) + row), 16,
                         cudaMemcpyDeviceToHost),
              "cudaMemcpy");
        }
      }
      different += !std::equal(got.begin(), got.end(), want.begin() + static_cast<std::ptrdiff_t>(row * dim));
    }
  }
  return different;
}

}  // namespace resembed::bench::gpu
