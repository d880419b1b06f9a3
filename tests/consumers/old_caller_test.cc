// SPDX-License-Identifier: Apache-2.0
// Callers that were compiled against an older resembed.h pass shorter structs: the library reads no byte past
// struct_size and takes the missing fields as zero. Every struct here ends where readable memory ends.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "resembed/resembed.hpp"

namespace resembed {
namespace {

// sizeof(T) when `field` was its last one.
#define THROUGH(T, field) ((offsetof(T, field) + sizeof(T::field) + alignof(T) - 1) / alignof(T) * alignof(T))

// A copy of a descriptor cut to `bytes`, followed by a page that nobody may touch.
template <typename T>
class Cut {
 public:
  Cut(T value, size_t bytes) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    value.struct_size = bytes;
    memory_ = static_cast<char*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(static_cast<void*>(memory_), MAP_FAILED);
    EXPECT_EQ(mprotect(memory_ + page_, page_, PROT_NONE), 0);
    std::memcpy(memory_ + page_ - bytes, &value, bytes);
    bytes_ = bytes;
  }
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;
  ~Cut() { munmap(memory_, 2 * page_); }

  T* get() const { return reinterpret_cast<T*>(memory_ + page_ - bytes_); }

 private:
  size_t page_, bytes_ = 0;
  char* memory_ = nullptr;
};

// A plain table of three rows and two bags, described as briefly as a first version of the header could have.
class OldCaller : public testing::Test {
 protected:
  static Table MakeTable(float* rows) { return Table(3, 2).Residual(rows); }
  Feature MakeFeature() {
    return Feature(0, RESEMBED_POOLING_SUM)
        .Ids(ids_.data(), 4)
        .Offsets(offsets_.data(), 2)
        .Output(pooled_.data());
  }

  std::vector<float> rows_ = {1, 2, 3, 4, 5, 6}, pooled_ = std::vector<float>(4, -1.0f);
  std::vector<float> grad_ = {1, 2, 3, 4};
  std::vector<int32_t> ids_ = {0, 1, 1, 2}, offsets_ = {0, 2, 4};

  const Cut<resembed_place> place_{Place::Cpu(), THROUGH(resembed_place, device)};
  const Cut<resembed_table> table_{MakeTable(rows_.data()), THROUGH(resembed_table, residual)};
  const Cut<resembed_feature> feature_{MakeFeature(), THROUGH(resembed_feature, output)};
  const resembed_table* table_list_[1] = {table_.get()};
  const resembed_feature* features_[1] = {feature_.get()};
  const Cut<resembed_tables> tables_{MakeTables(), THROUGH(resembed_tables, n_tables)};

 private:
  resembed_tables MakeTables() {
    Descriptor<resembed_tables> tables;
    tables.tables = table_list_;
    tables.n_tables = 1;
    return tables;
  }
};

// A place for `bytes` bytes with the library's alignment.
std::unique_ptr<Memory> Reserve(size_t bytes) {
  auto memory = std::make_unique<Memory>();
  EXPECT_NE(memory->Reserve(bytes + 1), nullptr);
  return memory;
}

TEST_F(OldCaller, ForwardTakesMissingFieldsAsZero) {
  resembed_forward_args full = {};
  full.tables = tables_.get();
  full.features = features_;
  full.n_features = 1;
  const Cut<resembed_forward_args> args(full, THROUGH(resembed_forward_args, n_features));
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(args.get(), place_.get(), &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  const auto memory = Reserve(bytes);
  ASSERT_EQ(resembed_forward(args.get(), memory->Reserve(bytes), bytes, place_.get()), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_EQ(pooled_, (std::vector<float>{4, 6, 8, 10}));

  ids_[3] = 3;  // bounds is a field this caller does not know: zero means check
  EXPECT_EQ(resembed_forward(args.get(), memory->Reserve(bytes), bytes, place_.get()), RESEMBED_OUT_OF_RANGE);
}

TEST_F(OldCaller, PlanAndStepTakeMissingFieldsAsZero) {
  resembed_plan_args full_plan = {};
  full_plan.tables = tables_.get();
  full_plan.features = features_;
  full_plan.n_features = 1;
  const Cut<resembed_plan_args> plan_args(full_plan, THROUGH(resembed_plan_args, n_features));
  size_t plan_bytes = 0, bytes = 0;
  ASSERT_EQ(resembed_plan_size(plan_args.get(), place_.get(), &plan_bytes, &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  const auto plan_memory = Reserve(plan_bytes), work = Reserve(bytes);
  Descriptor<resembed_plan_header> plan;
  ASSERT_EQ(resembed_plan(plan_args.get(), plan_memory->Reserve(plan_bytes), plan_bytes, &plan,
                          work->Reserve(bytes), bytes, place_.get()),
            RESEMBED_OK)
      << resembed_last_error_message();

  const Cut<resembed_plan_table> view(resembed_plan_table{}, THROUGH(resembed_plan_table, n_unique));
  ASSERT_EQ(resembed_plan_view(&plan, 0, view.get()), RESEMBED_OK) << resembed_last_error_message();
  EXPECT_EQ(view.get()->struct_size, THROUGH(resembed_plan_table, n_unique));
  EXPECT_EQ(*view.get()->n_unique, 3);

  const Cut<resembed_optimizer> sgd(Optimizer::Sgd(0.5f), THROUGH(resembed_optimizer, step));
  Descriptor<resembed_table_step> full_step;
  full_step.residual = sgd.get();
  const Cut<resembed_table_step> step(full_step, THROUGH(resembed_table_step, residual));
  const resembed_table_step* steps[] = {step.get()};
  const Cut<resembed_feature_grad> grad(FeatureGrad(grad_.data()),
                                        THROUGH(resembed_feature_grad, grad_output));
  const resembed_feature_grad* grads[] = {grad.get()};
  Descriptor<resembed_backward_step_args> args;
  args.plan = &plan;
  args.tables = tables_.get();
  args.features = features_;
  args.n_features = 1;
  args.feature_grads = grads;
  args.steps = steps;
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, place_.get(), &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  ASSERT_EQ(resembed_backward_step(&args, work->Reserve(bytes), bytes, place_.get()), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_EQ(rows_, (std::vector<float>{0.5f, 1, 1, 1, 3.5f, 4}));
}

// A caller newer than the library: the fields it does not know are left alone.
TEST_F(OldCaller, ForwardAcceptsLongerStructs) {
  struct {
    resembed_forward_args args;
    int64_t later_field;
  } newer = {};
  newer.args.struct_size = sizeof(newer);
  newer.args.tables = tables_.get();
  newer.args.features = features_;
  newer.args.n_features = 1;
  size_t bytes = 0;
  ASSERT_EQ(resembed_forward_workspace_size(&newer.args, place_.get(), &bytes), RESEMBED_OK)
      << resembed_last_error_message();
  const auto memory = Reserve(bytes);
  ASSERT_EQ(resembed_forward(&newer.args, memory->Reserve(bytes), bytes, place_.get()), RESEMBED_OK)
      << resembed_last_error_message();
  EXPECT_EQ(pooled_, (std::vector<float>{4, 6, 8, 10}));
}

TEST_F(OldCaller, RejectsAStructWithoutASize) {
  resembed_forward_args args = {};
  args.tables = tables_.get();
  args.features = features_;
  args.n_features = 1;
  size_t bytes = 0;
  EXPECT_EQ(resembed_forward_workspace_size(&args, place_.get(), &bytes), RESEMBED_INVALID_ARGUMENT);
  EXPECT_STRNE(resembed_last_error_message(), "");
}

}  // namespace
}  // namespace resembed
