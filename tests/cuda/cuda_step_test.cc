// SPDX-License-Identifier: Apache-2.0
// Optimizer steps on the cuda backend, emulated or on a GPU: the bits of the CPU backend, separate and fused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>

#include "tests/cuda/support/cases.h"
#include "tests/cuda/support/fused_on.h"

namespace resembed::testing {
namespace {

// A race shows in the first steps; each launch makes its threads known to the detector anew, which takes
// milliseconds.
#if defined(RESEMBED_EMULATOR_TSAN)
constexpr int64_t kSteps = 5;
#else
constexpr int64_t kSteps = 100;
#endif

// With the last bit of every number of C changed, a hundred steps on the CPU end within 7e-7 * (1 + |x|) of x.
constexpr float kAttentionTolerance = 1e-5f;

const resembed_dtype kTypes[] = {RESEMBED_F32, RESEMBED_F16, RESEMBED_BF16};
const char* const kKinds[] = {"SGD", "Adagrad", "row-wise Adagrad", "Adam", "partial row-wise Adam"};

CaseLimits Limits() {
  CaseLimits limits;
  limits.forms.pop_back();  // attention
  return limits;
}

// Optimizers that together have every option.
std::vector<OptimizerSpec> Specs(resembed_optimizer_kind kind) {
  std::vector<OptimizerSpec> specs(4);
  for (OptimizerSpec& spec : specs) spec.kind = kind;
  specs[1].weight_decay = .1f;
  specs[1].grad_scale = .5f;
  specs[1].stochastic = true;
  specs[2].weight_decay = .2f;
  specs[2].decay = RESEMBED_DECAY_DECOUPLED;
  specs[2].max_row_norm = 1.5f;
  specs[2].state_dtype = RESEMBED_BF16;
  specs[2].stochastic = true;
  specs[3].weight_decay = .1f;
  specs[3].decay = RESEMBED_DECAY_L2_WHOLE_TABLE;
  specs[3].max_row_norm = 2;
  specs[3].state_dtype = RESEMBED_F16;
  return specs;
}

enum class Way { kFused, kSeparate };

void ExpectSameAsCpu(const GradientCase& one, const OptimizerSpec& residual, const OptimizerSpec& central,
                     uint64_t seed, Way way) {
  Training cpu(one.tables, one.features, residual, central, seed);
  cpu.wants_sample_weights = false;
  DeviceTraining device(&cpu);
  if (way == Way::kFused) {
    device.Fused();
    cpu.Fused(PlaceOf(nullptr));
  } else {
    device.Separate();
    cpu.Separate(PlaceOf(nullptr));
  }
  EXPECT_TRUE(device.Written() == cpu.Written());
}

TEST(CudaStep, EveryOptimizerHasTheBitsOfTheCpu) {
  for (int kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
    const std::vector<OptimizerSpec> specs = Specs(kind);
    for (size_t which = 0; which < specs.size(); ++which) {
      for (size_t type = 0; type < 3; ++type) {
        for (const int64_t dim : {7, 32, 44}) {
          SCOPED_TRACE(::testing::Message()
                       << kKinds[kind] << " " << which << " type " << type << " dim " << dim);
          GradientCase one;
          TableSpec table;
          table.form = RESEMBED_CENTRAL_ASSIGNMENT;
          table.dim = dim;
          table.n_items = 30;
          table.row_map = dim == 44;
          table.residual_dtype = kTypes[type];
          table.central_dtype = kTypes[(type + 1) % 3];
          one.tables = {table};
          one.features = {CaseFeature(RESEMBED_POOLING_SUM, 10, 4)};
          ExpectSameAsCpu(one, specs[which], specs[(which + 1) % 4], 5, Way::kFused);
          ExpectSameAsCpu(one, specs[which], specs[(which + 1) % 4], 5, Way::kSeparate);
        }
      }
    }
  }
}

TEST(CudaStep, CuratedBatchesHaveTheBitsOfTheCpu) {
  OptimizerSpec adam, rowwise;
  adam.kind = RESEMBED_ADAM;
  rowwise.kind = RESEMBED_ROWWISE_ADAGRAD;
  for (const GradientCase& one : CuratedCases(Limits())) {
    SCOPED_TRACE(one.name);
    ExpectSameAsCpu(one, adam, rowwise, 7, Way::kFused);
    ExpectSameAsCpu(one, rowwise, adam, 7, Way::kSeparate);
  }
}

TEST(CudaStep, RandomBatchesHaveTheBitsOfTheCpu) {
  for (uint64_t seed = 500; seed < 540; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const auto specs = Specs(static_cast<resembed_optimizer_kind>(seed % 5));
    const auto others = Specs(static_cast<resembed_optimizer_kind>(seed / 5 % 5));
    ExpectSameAsCpu(RandomCase(seed, Limits()), specs[seed % 4], others[seed / 4 % 4], seed,
                    seed % 2 == 0 ? Way::kFused : Way::kSeparate);
    if (HasFailure()) return;
  }
}

// A training whose learning rate, step count, loss scale and found_inf are read where these lie.
struct Scalars {
  float lr = .05f, inv_scale = 1, found_inf = 0;
  int64_t step = 1;

  void Use(Training* training) {
    for (OptimizerState* state : {training->residual[0].get(), training->central[0].get()}) {
      state->descriptor.lr = 1e9f;
      state->descriptor.step = -1;
      state->descriptor.lr_device = &lr;
      state->descriptor.step_device = &step;
      state->descriptor.inv_scale_device = &inv_scale;
      state->descriptor.found_inf_device = &found_inf;
    }
  }
  // Numbers of the next step, and ids turned by one position, here and on the device.
  void Next(Training* training, DeviceTraining* device) {
    lr = .05f / static_cast<float>(step);
    inv_scale = 1.0f + .5f * static_cast<float>(step % 3);
    found_inf = step % 10 == 7 ? 1.0f : 0.0f;
    const auto put = [](const void* to, const void* from, size_t bytes) {
      ASSERT_EQ(cudaMemcpy(const_cast<void*>(to), from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    };
    for (const resembed_optimizer& optimizer : device->optimizers) {
      put(optimizer.lr_device, &lr, 4);
      put(optimizer.step_device, &step, 8);
      put(optimizer.inv_scale_device, &inv_scale, 4);
      put(optimizer.found_inf_device, &found_inf, 4);
    }
    for (size_t index = 0; index < training->problem.features.size(); ++index) {
      std::vector<unsigned char>& ids = training->problem.features[index]->id_bytes;
      std::rotate(ids.begin(), ids.begin() + 8, ids.end());
      put(device->device.features[index].ids, ids.data(), ids.size());
    }
  }
};

// kSteps steps on the CPU and on the device; after(step) compares. Ids turn by one position a step; learning rate,
// step count and loss scale are read from device memory.
template <typename After>
void TrainBoth(const TableSpec& table, const OptimizerSpec& spec, Way way, const After& after) {
  FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 12, 5), sum = CaseFeature(RESEMBED_POOLING_SUM, 8, 3);
  mean.weights = true;
  Training cpu({table}, {mean, sum}, spec, spec, 4);
  cpu.wants_sample_weights = false;
  Scalars scalars;
  scalars.Use(&cpu);
  DeviceTraining device(&cpu);
  for (; scalars.step <= kSteps && !::testing::Test::HasFailure(); ++scalars.step) {
    scalars.Next(&cpu, &device);
    if (way == Way::kFused) {
      device.Fused();
      cpu.Fused(PlaceOf(nullptr));
    } else {
      device.Separate();
      cpu.Separate(PlaceOf(nullptr));
    }
    after(scalars.step, device.Written(), cpu.Written());
  }
}

TEST(CudaStep, AHundredStepsHaveTheBitsOfTheCpu) {
  const resembed_central_form forms[] = {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_UNIFORM,
                                         RESEMBED_CENTRAL_STORED};
  for (const Way way : {Way::kFused, Way::kSeparate}) {
    for (int kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
      TableSpec table;
      table.form = forms[(kind + (way == Way::kFused ? 0 : 1)) % 3];  // each of them both ways
      table.dim = 12;
      table.residual_dtype = kind == RESEMBED_ADAM ? RESEMBED_BF16 : RESEMBED_F32;
      OptimizerSpec spec;
      spec.kind = kind;
      spec.weight_decay = .01f;
      spec.stochastic = true;
      SCOPED_TRACE(::testing::Message() << kKinds[kind] << (way == Way::kFused ? " fused" : " separate")
                                        << " form " << table.form);
      TrainBoth(table, spec, way,
                [](int64_t step, const std::vector<unsigned char>& got,
                   const std::vector<unsigned char>& want) { EXPECT_TRUE(got == want) << "step " << step; });
    }
  }
}

// exp differs in its last bits between the C library and a GPU, and steps carry the difference on.
TEST(CudaStep, AHundredStepsWithAttentionStayNearTheCpu) {
  for (const resembed_optimizer_kind kind : {RESEMBED_SGD, RESEMBED_ROWWISE_ADAGRAD}) {
    for (const Way way : {Way::kFused, Way::kSeparate}) {
      SCOPED_TRACE(::testing::Message() << kKinds[kind] << (way == Way::kFused ? " fused" : " separate"));
      TableSpec table;
      table.form = RESEMBED_CENTRAL_ATTENTION;
      table.dim = 12;
      OptimizerSpec spec;
      spec.kind = kind;
      spec.weight_decay = .01f;
      TrainBoth(
          table, spec, way,
          [](int64_t step, const std::vector<unsigned char>& got, const std::vector<unsigned char>& want) {
            ASSERT_EQ(got.size(), want.size());
            for (size_t at = 0; at + 4 <= want.size(); at += 4) {
              float a, b;  // rows, states, and counts of rows left out
              std::memcpy(&a, got.data() + at, 4);
              std::memcpy(&b, want.data() + at, 4);
              if (std::memcmp(&a, &b, 4) == 0) continue;
              ASSERT_LE(std::fabs(a - b), kAttentionTolerance * (1 + std::fabs(b)))
                  << "step " << step << " number " << at / 4;
            }
          });
    }
  }
}

// Down to one warp that walks over all work.
TEST(CudaStep, AnyGridHasTheSameBits) {
  for (const resembed_central_form form :
       {RESEMBED_CENTRAL_ASSIGNMENT, RESEMBED_CENTRAL_STORED, RESEMBED_CENTRAL_ATTENTION}) {
    for (const int64_t dim : {40, 131}) {
      TableSpec table;
      table.form = form;
      table.dim = dim;
      table.central_rows = 3;
      FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 60, 40),
                  none = CaseFeature(RESEMBED_POOLING_NONE, 50, 1);
      mean.weights = true;
      mean.same_id = .6;
      OptimizerSpec spec;
      spec.kind = RESEMBED_PARTIAL_ROWWISE_ADAM;
      spec.max_row_norm = 1;
      spec.decay = RESEMBED_DECAY_L2_WHOLE_TABLE;
      spec.weight_decay = .01f;
      Training training({table}, {mean, none}, spec, spec, 9);
      DeviceTraining whole(&training);
      whole.Fused();
      const std::vector<unsigned char> want = whole.Written();
      for (const kernels::Grid grid : {kernels::Grid{32, 1}, kernels::Grid{64, 3}, kernels::Grid{256, 2}}) {
        DeviceTraining other(&training);
        FusedOn(grid, &other);
        EXPECT_TRUE(other.Written() == want) << grid.blocks << " blocks of " << grid.threads;
      }
    }
  }
}

// Captured once: plan, backward and step run again with other ids, learning rate, step count and loss scale.
TEST(CudaStep, ACapturedGraphReplaysWithOtherIdsAndNumbers) {
  TableSpec table;
  table.form = RESEMBED_CENTRAL_UNIFORM;
  table.dim = 16;
  FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 40, 20),
              max = CaseFeature(RESEMBED_POOLING_MAX, 8, 3);
  mean.weights = true;
  mean.same_id = .5;
  OptimizerSpec spec;
  spec.kind = RESEMBED_ADAM;
  Training cpu({table}, {mean, max}, spec, spec, 4);
  cpu.wants_sample_weights = false;
  Scalars scalars;
  scalars.Use(&cpu);
  DeviceTraining device(&cpu);
  for (resembed_feature& feature : device.device.features) feature.saved_argmax = nullptr;  // ids change
  DevicePlan plan(device.device, device.stream);
  ASSERT_EQ(plan.status, RESEMBED_OK) << plan.message;
  const resembed_backward_step_args args = device.FusedArgs(plan);
  const resembed_place place = CudaPlace(device.stream.get());
  size_t bytes = 0;
  ASSERT_EQ(resembed_backward_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
  DeviceBuffer workspace(bytes);
  device.stream.Wait();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(device.stream.get(), cudaStreamCaptureModeGlobal), cudaSuccess);
  plan.Make(device.stream);
  ASSERT_EQ(plan.status, RESEMBED_OK);
  ASSERT_EQ(resembed_backward_step(&args, workspace.data(), bytes, &place), RESEMBED_OK);
  ASSERT_EQ(cudaStreamEndCapture(device.stream.get(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (; scalars.step <= 12; ++scalars.step) {
    scalars.Next(&cpu, &device);
    ASSERT_EQ(cudaGraphLaunch(executable, device.stream.get()), cudaSuccess);
    device.stream.Wait();
    cpu.Fused(PlaceOf(nullptr));
    ASSERT_TRUE(device.Written() == cpu.Written()) << "step " << scalars.step;
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// Weights of samples and attention read tables that the fused step writes: all reads come first.
TEST(CudaStep, FusedHasTheBitsOfBackwardThenStep) {
  for (const resembed_central_form form : {RESEMBED_CENTRAL_ATTENTION, RESEMBED_CENTRAL_STORED}) {
    for (const resembed_dtype type : kTypes) {
      TableSpec table;
      table.form = form;
      table.dim = 36;
      table.residual_dtype = table.central_dtype = type;
      FeatureSpec mean = CaseFeature(RESEMBED_POOLING_MEAN, 12, 5),
                  max = CaseFeature(RESEMBED_POOLING_MAX, 8, 3);
      mean.weights = true;
      OptimizerSpec spec;
      spec.kind = RESEMBED_ADAM;
      spec.stochastic = true;
      Training fused({table}, {mean, max}, spec, spec, 4), separate({table}, {mean, max}, spec, spec, 4);
      DeviceTraining a(&fused), b(&separate);
      a.Fused();
      b.Separate();
      EXPECT_TRUE(a.Written() == b.Written());
      if (form == RESEMBED_CENTRAL_ATTENTION) continue;
      fused.Fused(PlaceOf(nullptr));
      EXPECT_TRUE(a.Written() == fused.Written());
    }
  }
}

TEST(CudaStep, ADenseGradientHasTheBitsOfTheCpu) {
  for (int kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
    TableSpec table;
    table.dim = 8;
    table.n_items = 20;
    table.row_map = true;
    table.residual_dtype = RESEMBED_BF16;
    OptimizerSpec spec;
    spec.kind = kind;
    spec.stochastic = true;
    Training cpu({table}, {CaseFeature(RESEMBED_POOLING_SUM, 6, 3)}, spec, spec, 6);
    cpu.wants_sample_weights = false;
    DeviceTraining device(&cpu);
    device.Separate({}, RESEMBED_GRAD_DENSE);
    // The same on the CPU: a dense gradient of the plan's rows.
    Asked asked;
    asked.neighbor_weights = asked.sample_weights = false;
    asked.layout = RESEMBED_GRAD_DENSE;
    Grads grads = RunBackward(cpu.problem, PlaceOf(nullptr), asked);
    resembed_grad grad = {};
    grad.struct_size = sizeof(grad);
    grad.layout = RESEMBED_GRAD_DENSE;
    grad.rows = grads.tables[0].residual.rows.data();
    resembed_table_grad table_grad = {};
    table_grad.struct_size = sizeof(table_grad);
    table_grad.residual = &grad;
    const resembed_table_grad* table_grads[] = {&table_grad};
    const resembed_table_step* steps[] = {&cpu.steps[0]};
    resembed_step_args args = {};
    args.struct_size = sizeof(args);
    args.tables = cpu.problem.table_list();
    args.table_grads = table_grads;
    args.steps = steps;
    const resembed_place place = PlaceOf(nullptr);
    size_t bytes = 0;
    ASSERT_EQ(resembed_step_workspace_size(&args, &place, &bytes), RESEMBED_OK);
    Guarded workspace(bytes);
    ASSERT_EQ(resembed_step(&args, workspace.data(), bytes, &place), RESEMBED_OK)
        << resembed_last_error_message();
    EXPECT_TRUE(device.Written() == cpu.Written()) << kKinds[kind];
  }
}

TEST(CudaStep, RowsWithoutAFiniteGradientAreLeftAloneAndCounted) {
  for (int kind = RESEMBED_SGD; kind <= RESEMBED_PARTIAL_ROWWISE_ADAM; ++kind) {
    for (const bool fused : {true, false}) {
      TableSpec table;
      table.form = RESEMBED_CENTRAL_ASSIGNMENT;
      table.dim = 40;
      OptimizerSpec spec;
      spec.kind = kind;
      spec.weight_decay = .1f;
      Training cpu({table}, {CaseFeature(RESEMBED_POOLING_SUM, 20, 2)}, spec, spec, 8);
      cpu.wants_sample_weights = false;
      FeatureData& feature = *cpu.problem.features[0];
      Encode(feature.grad_bytes.data(), RESEMBED_F32, 5 * 41 + 39, INFINITY);
      Encode(feature.grad_bytes.data(), RESEMBED_F32, 9 * 41 + 3, NAN);
      Encode(feature.grad_bytes.data(), RESEMBED_F32, 11 * 41 + 3, 1e30f);  // its square is infinite
      for (const size_t row : {size_t{13}, size_t{14}, size_t{15}})
        Encode(feature.grad_bytes.data(), RESEMBED_F32, row * 41 + 7, FLT_MAX);
      DeviceTraining device(&cpu);
      if (fused) {
        device.Fused();
        cpu.Fused(PlaceOf(nullptr));
      } else {
        device.Separate();
        cpu.Separate(PlaceOf(nullptr));
      }
      EXPECT_GT(cpu.residual[0]->n_skipped, 0);
      EXPECT_TRUE(device.Written() == cpu.Written()) << kKinds[kind];
    }
  }
}

TEST(CudaStep, ABrokenPromiseUpdatesNothing) {
  for (const resembed_decay decay : {RESEMBED_DECAY_L2, RESEMBED_DECAY_L2_WHOLE_TABLE}) {
    for (const auto layout : {RESEMBED_GRAD_COMPRESSED, RESEMBED_GRAD_DENSE}) {
      TableSpec table;
      table.form = RESEMBED_CENTRAL_ASSIGNMENT;
      OptimizerSpec spec;
      spec.kind = RESEMBED_ADAM;
      spec.decay = decay;
      spec.weight_decay = .5f;
      Training cpu({table}, {FeatureSpec()}, spec, spec, 3);
      cpu.wants_sample_weights = false;
      DeviceTraining device(&cpu);
      PlanOptions options;
      options.max_unique_central = {3};
      device.Fused(options);
      device.Separate(options, layout);
      std::vector<unsigned char> written = device.Written(), before = cpu.Written();
      if (layout == RESEMBED_GRAD_DENSE) {  // every row's gradient is NaN, and counted as left out
        const size_t rows = cpu.problem.tables[0]->residual.size() + cpu.problem.tables[0]->central.size();
        written.resize(rows);
        before.resize(rows);
      }
      EXPECT_TRUE(written == before);
    }
  }
}

}  // namespace
}  // namespace resembed::testing
