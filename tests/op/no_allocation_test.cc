// SPDX-License-Identifier: Apache-2.0
// Operations never allocate: malloc and its kin are counted while the C ABI runs.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <vector>

#include "host/executor.h"
#include "resembed/resembed.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define RESEMBED_COUNTS_MALLOC 0
#else
#define RESEMBED_COUNTS_MALLOC 1
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}
#endif

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

#if RESEMBED_COUNTS_MALLOC
extern "C" {
void* malloc(size_t bytes) { return allocations.fetch_add(1), __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return allocations.fetch_add(1), __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return allocations.fetch_add(1), __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) {
  return allocations.fetch_add(1), __libc_memalign(alignment, bytes);
}
}
#endif

namespace resembed {
namespace {

// Runs one operation with its workspace made beforehand and returns how often it allocated.
template <typename Args, typename Size, typename Op>
int64_t AllocationsOf(const Args& args, const Place& place, Size size, Op op) {
  size_t bytes = 0;
  const int64_t before_size = allocations.load();
  EXPECT_EQ(size(&args, &place, &bytes), RESEMBED_OK) << resembed_last_error_message();
  EXPECT_EQ(allocations.load(), before_size) << "the size query allocates";
  Memory memory;
  void* workspace = memory.Reserve(bytes);
  const int64_t before = allocations.load();
  const resembed_status status = op(&args, workspace, bytes, &place);
  const int64_t count = allocations.load() - before;
  EXPECT_EQ(status, RESEMBED_OK) << resembed_last_error_message();
  return count;
}

TEST(NoAllocation, CountsWhatIsAllocated) {
#if !RESEMBED_COUNTS_MALLOC
  GTEST_SKIP() << "the sanitizer owns malloc";
#endif
  const int64_t before = allocations.load();
  void* volatile block = std::malloc(10);
  EXPECT_GT(allocations.load(), before);
  std::free(block);
}

TEST(NoAllocation, NoOperationAllocates) {
#if !RESEMBED_COUNTS_MALLOC
  GTEST_SKIP() << "the sanitizer owns malloc";
#endif
  constexpr int64_t kItems = 400, kDim = 20, kBags = 30, kIds = 3000;
  constexpr int32_t kNeighbors = 5;
  std::vector<float> residual(kItems * kDim, 0.5f), central(kItems * kDim, 0.25f), y(kBags * kDim),
      dy(kBags * kDim, 1.0f), attended(kBags * kDim), dq(kBags * kDim);
  std::vector<float> r_state(kItems), c_state(kItems), weights(kItems * kNeighbors, 0.2f), a(kIds, 0.5f),
      da(kIds);
  std::vector<float> r_rows(kItems * kDim), c_rows(kItems * kDim), w_rows(kItems * kNeighbors),
      e(kItems * kDim);
  std::vector<float> merged(kItems * kDim), radius(kItems);
  std::vector<int64_t> r_ids(kItems), c_ids(kItems), m_ids(kItems), ids(kIds), translated(kIds),
      offsets(kBags + 1);
  std::vector<int32_t> map(kItems * kNeighbors), interest(kItems);
  int64_t n_r = 0, n_c = 0, n_m = 0;
  for (int64_t id = 0; id < kIds; ++id) ids[static_cast<size_t>(id)] = id * id % kItems;
  for (size_t slot = 0; slot < map.size(); ++slot) map[slot] = static_cast<int32_t>(slot * 7 % kItems);
  for (size_t item = 0; item < interest.size(); ++item) interest[item] = static_cast<int32_t>(item % 9);
  // One bag of 2,000 ids: its blocks meet in a second pass.
  for (int64_t bag = 1; bag <= kBags; ++bag)
    offsets[static_cast<size_t>(bag)] = 2000 + (kIds - 2000) * bag / kBags;

  const Place place = Place::Cpu();
  detail::Executor(place).ParallelFor(8, [](int64_t) {});  // the pool of threads starts once
  for (resembed_central_form form = RESEMBED_CENTRAL_NONE; form <= RESEMBED_CENTRAL_ATTENTION; ++form) {
    SCOPED_TRACE(form);
    Table table(kItems, kDim);
    table.Residual(residual.data());
    const bool has_central = form != RESEMBED_CENTRAL_NONE;
    if (has_central) table.Central(central.data(), kItems);
    if (form == RESEMBED_CENTRAL_ASSIGNMENT) table.Assignment(map.data());
    if (form == RESEMBED_CENTRAL_UNIFORM) table.Uniform(map.data(), kNeighbors);
    if (form == RESEMBED_CENTRAL_STORED) table.Stored(map.data(), weights.data(), kNeighbors);
    if (form == RESEMBED_CENTRAL_ATTENTION) table.Attention(map.data(), kNeighbors);
    Feature feature;
    feature.Ids(ids.data(), kIds).Offsets(offsets.data(), kBags).Weights(a.data()).Output(y.data());
    Feature attention(0,
                      RESEMBED_POOLING_ATTENTION);  // what forward saves is left out: backward recomputes it
    attention.Ids(ids.data(), kIds).Offsets(offsets.data(), kBags).Query(dy.data()).Output(attended.data());
    const resembed_table* table_pointers[] = {&table};
    const resembed_feature* features[] = {&feature, &attention};
    Descriptor<resembed_tables> tables;
    tables.tables = table_pointers;
    tables.n_tables = 1;

    Descriptor<resembed_plan_args> plan_args;
    plan_args.tables = &tables;
    plan_args.features = features;
    plan_args.n_features = 2;
    size_t plan_bytes = 0, work_bytes = 0;
    ASSERT_EQ(resembed_plan_size(&plan_args, &place, &plan_bytes, &work_bytes), RESEMBED_OK);
    Memory plan_memory, work;
    void* memory = plan_memory.Reserve(plan_bytes);
    void* workspace = work.Reserve(work_bytes);
    Descriptor<resembed_plan_header> plan;
    const int64_t before = allocations.load();
    ASSERT_EQ(resembed_plan(&plan_args, memory, plan_bytes, &plan, workspace, work_bytes, &place),
              RESEMBED_OK);
    EXPECT_EQ(allocations.load(), before) << "plan";

    for (const resembed_plan_header* with_plan : {static_cast<const resembed_plan_header*>(nullptr),
                                                  static_cast<const resembed_plan_header*>(&plan)}) {
      Descriptor<resembed_forward_args> args;
      args.tables = &tables;
      args.features = features;
      args.n_features = 2;
      args.plan = with_plan;
      EXPECT_EQ(AllocationsOf(args, place, resembed_forward_workspace_size, resembed_forward), 0);
    }

    FeatureGrad grad(dy.data());
    grad.grad_weights = da.data();
    FeatureGrad attention_grad(dy.data());
    attention_grad.Query(dq.data());
    const resembed_feature_grad* grads[] = {&grad, &attention_grad};
    const Grad r_grad = Grad::Compressed(r_rows.data(), r_ids.data(), &n_r, kItems);
    const Grad c_grad = Grad::Compressed(c_rows.data(), c_ids.data(), &n_c, kItems);
    TableGrad table_grad(&r_grad, has_central ? &c_grad : nullptr);
    if (form == RESEMBED_CENTRAL_STORED) table_grad.neighbor_weights = w_rows.data();
    const resembed_table_grad* table_grads[] = {&table_grad};
    Descriptor<resembed_backward_args> backward;
    backward.plan = &plan;
    backward.tables = &tables;
    backward.features = features;
    backward.n_features = 2;
    backward.feature_grads = grads;
    backward.table_grads = table_grads;
    EXPECT_EQ(AllocationsOf(backward, place, resembed_backward_workspace_size, resembed_backward), 0);

    Optimizer for_residual = Optimizer::RowwiseAdagrad(0.01f, r_state.data()).L2(0.001f);
    const Optimizer for_central = Optimizer::RowwiseAdagrad(0.01f, c_state.data());
    const TableStep step(&for_residual, has_central ? &for_central : nullptr);
    const resembed_table_step* steps[] = {&step};
    Descriptor<resembed_step_args> step_args;
    step_args.tables = &tables;
    step_args.table_grads = table_grads;
    step_args.steps = steps;
    EXPECT_EQ(AllocationsOf(step_args, place, resembed_step_workspace_size, resembed_step), 0);

    Descriptor<resembed_backward_step_args> fused;
    fused.plan = &plan;
    fused.tables = &tables;
    fused.features = features;
    fused.n_features = 2;
    fused.feature_grads = grads;
    fused.steps = steps;
    EXPECT_EQ(AllocationsOf(fused, place, resembed_backward_step_workspace_size, resembed_backward_step), 0);

    const resembed_grad* inputs[] = {&r_grad, &r_grad};
    const Grad sum = Grad::Compressed(merged.data(), m_ids.data(), &n_m, kItems);
    Descriptor<resembed_combine_args> combine;
    combine.inputs = inputs;
    combine.n_inputs = 2;
    combine.dim = kDim;
    combine.table_rows = kItems;
    combine.output = &sum;
    EXPECT_EQ(AllocationsOf(combine, place, resembed_combine_workspace_size, resembed_combine), 0);

    Descriptor<resembed_materialize_args> whole;
    whole.table = &table;
    whole.n_items = kItems;
    whole.output = e.data();
    EXPECT_EQ(AllocationsOf(whole, place, resembed_materialize_workspace_size, resembed_materialize), 0);

    Descriptor<resembed_envelope_args> envelope;
    envelope.table = &table;
    envelope.interest_of = interest.data();
    envelope.n_interests = 9;
    envelope.radius = radius.data();
    EXPECT_EQ(AllocationsOf(envelope, place, resembed_envelope_workspace_size, resembed_envelope), 0);

    Descriptor<resembed_translate_args> translate;
    translate.ids = ids.data();
    translate.output = translated.data();
    translate.id_dtype = RESEMBED_I64;
    translate.n_ids = kIds;
    translate.map = interest.data();
    translate.n_map = kItems;
    const int64_t before_translate = allocations.load();
    EXPECT_EQ(resembed_translate(&translate, &place), RESEMBED_OK) << resembed_last_error_message();
    EXPECT_EQ(allocations.load(), before_translate);
  }
}

}  // namespace
}  // namespace resembed
