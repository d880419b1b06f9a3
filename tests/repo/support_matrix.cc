// SPDX-License-Identifier: Apache-2.0
// Prints docs/support_matrix.md. Every cell of the cpu backend is a call on a tiny problem, so the page says what the
// library does. The part of the cuda backend is read from the launch tables that dispatch and refusals read, and
// held against size queries, which need no GPU. With a file as argument: compares, and exits 1 where they differ; a
// build without the kernels, for a GPU or emulated, compares what comes before their part.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "resembed/resembed.hpp"
#ifdef RESEMBED_WITH_CUDA
#include "host/cuda/launch_tables.h"
#endif

namespace {

using namespace resembed;

constexpr int64_t kItems = 6, kDim = 8, kBags = 2, kIds = 4;
constexpr int32_t kNeighbors = 2;

struct Type {
  const char* name;
  resembed_dtype dtype;
};
constexpr Type kFloats[] = {{"f32", RESEMBED_F32}, {"f16", RESEMBED_F16}, {"bf16", RESEMBED_BF16}};
constexpr Type kIntegers[] = {{"i32", RESEMBED_I32}, {"i64", RESEMBED_I64}};
constexpr const char* kForms[] = {"none", "assignment", "uniform", "stored", "attention"};
constexpr const char* kPoolings[] = {"none", "sum", "mean", "max", "attention"};
constexpr int kPoolingCount = 5;
constexpr const char* kOptimizers[] = {"SGD", "Adagrad", "row-wise Adagrad", "Adam / AdamW",
                                       "partial row-wise Adam"};

// One tiny problem; 64-bit words, so that zero bits are valid for every type.
struct Problem {
  resembed_central_form form = RESEMBED_CENTRAL_UNIFORM;
  resembed_pooling pooling = RESEMBED_POOLING_SUM;
  resembed_dtype residual_dtype = RESEMBED_F32, central_dtype = RESEMBED_F32, output_dtype = RESEMBED_F32;
  resembed_dtype id_dtype = RESEMBED_I64, offset_dtype = RESEMBED_I64, state_dtype = RESEMBED_F32;
  resembed_optimizer_kind optimizer = RESEMBED_SGD;
  bool has_residual = true, weights = false;
  Place place = Place::Cpu();

  std::vector<int64_t> residual = Zeros(), central = Zeros(), output = Zeros(), grad = Zeros();
  std::vector<int64_t> state1 = Zeros(), state2 = Zeros(), state3 = Zeros(), state4 = Zeros();
  std::vector<int64_t> ids = std::vector<int64_t>(kIds), offsets = std::vector<int64_t>(kBags + 1);
  std::vector<int32_t> map = std::vector<int32_t>(kItems * kNeighbors, 0);
  std::vector<float> query = std::vector<float>(kBags * kDim);
  std::vector<float> ones = std::vector<float>(kItems * kNeighbors, 1.0f);

  static std::vector<int64_t> Zeros() { return std::vector<int64_t>(kItems * kDim); }

  Table MakeTable() {
    Table table(kItems, kDim);
    if (has_residual || form == RESEMBED_CENTRAL_NONE) table.Residual(residual.data(), residual_dtype);
    if (form == RESEMBED_CENTRAL_NONE) return table;
    table.Central(central.data(), kItems, central_dtype);
    if (form == RESEMBED_CENTRAL_ASSIGNMENT) return table.Assignment(map.data());
    if (form == RESEMBED_CENTRAL_UNIFORM) return table.Uniform(map.data(), kNeighbors);
    if (form == RESEMBED_CENTRAL_STORED) return table.Stored(map.data(), ones.data(), kNeighbors);
    return table.Attention(map.data(), kNeighbors);
  }

  Feature MakeFeature() {
    Feature feature(0, pooling);
    const int32_t narrow[kBags + 1] = {0, 2, kIds};
    const int64_t wide[kBags + 1] = {0, 2, kIds};
    if (offset_dtype == RESEMBED_I32) {
      std::memcpy(offsets.data(), narrow, sizeof(narrow));
    } else {
      std::memcpy(offsets.data(), wide, sizeof(wide));
    }
    feature.Ids(ids.data(), kIds).Offsets(offsets.data(), kBags).Output(output.data(), output_dtype);
    feature.id_dtype = id_dtype;
    feature.offset_dtype = offset_dtype;
    if (weights) feature.Weights(ones.data());
    if (pooling == RESEMBED_POOLING_ATTENTION) feature.Query(query.data());
    return feature;
  }
};

enum class Op { kForward, kPlan, kBackward, kStep, kBackwardStep, kCombine, kMaterialize, kEnvelope };
constexpr const char* kOps[] = {"forward",       "plan",    "backward",    "step",
                                "backward_step", "combine", "materialize", "envelope"};

template <typename Args, typename Size, typename Run>
bool RunSized(const Args& args, const Place& place, Size size, Run op) {
  size_t bytes = 0;
  if (size(&args, &place, &bytes) != RESEMBED_OK) return false;
  Memory memory;
  return op(&args, memory.Reserve(bytes), bytes, &place) == RESEMBED_OK;
}

bool Works(Op op, Problem problem) {
  const Table table = problem.MakeTable();
  const Feature feature = problem.MakeFeature();
  Batch batch({&table}, {&feature}, problem.place);
  const FeatureGrad dy(problem.grad.data(), problem.output_dtype);
  std::vector<float> rows(kItems * kDim), central_rows(kItems * kDim);
  std::vector<int64_t> row_ids(kItems), central_ids(kItems);
  int64_t n_rows = 0, n_central = 0;
  const Grad residual = Grad::Compressed(rows.data(), row_ids.data(), &n_rows, kItems);
  const Grad central = Grad::Compressed(central_rows.data(), central_ids.data(), &n_central, kItems);
  const bool has_central = problem.form != RESEMBED_CENTRAL_NONE;
  const bool has_residual = table.residual != nullptr;
  const TableGrad grads(has_residual ? &residual : nullptr, has_central ? &central : nullptr);
  auto optimizer = [&](std::vector<int64_t>& first, std::vector<int64_t>& second) {
    Optimizer made = Optimizer::Sgd(0.1f);
    made.kind = problem.optimizer;
    made.eps = 1e-8f;
    made.state_dtype = problem.state_dtype;
    if (made.kind != RESEMBED_SGD) made.state1 = first.data();
    if (made.kind == RESEMBED_ADAM || made.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) made.state2 = second.data();
    return made;
  };
  const Optimizer for_residual = optimizer(problem.state1, problem.state2);
  const Optimizer for_central = optimizer(problem.state3, problem.state4);
  const TableStep step(has_residual ? &for_residual : nullptr, has_central ? &for_central : nullptr);
  switch (op) {
    case Op::kForward:
      return batch.Forward().ok();
    case Op::kPlan:
      return batch.Plan().ok();
    case Op::kBackward:
      return batch.Plan().ok() && batch.Backward({&dy}, {&grads}).ok();
    case Op::kBackwardStep:
      return batch.Plan().ok() && batch.BackwardStep({&dy}, {&step}).ok();
    case Op::kStep:
      return batch.Step({&grads}, {&step}).ok();
    case Op::kCombine: {
      const Grad other = Grad::Compressed(central_rows.data(), central_ids.data(), &n_central, kItems);
      const resembed_grad* inputs[] = {&residual};
      Descriptor<resembed_combine_args> args;
      args.inputs = inputs;
      args.n_inputs = 1;
      args.dim = kDim;
      args.table_rows = kItems;
      args.output = &other;
      return RunSized(args, problem.place, resembed_combine_workspace_size, resembed_combine);
    }
    case Op::kMaterialize: {
      Descriptor<resembed_materialize_args> args;
      args.table = &table;
      args.n_items = kItems;
      args.output = problem.output.data();
      args.output_dtype = problem.output_dtype;
      return RunSized(args, problem.place, resembed_materialize_workspace_size, resembed_materialize);
    }
    case Op::kEnvelope: {
      Descriptor<resembed_envelope_args> args;
      float radius[kItems];
      args.table = &table;
      args.interest_of = problem.map.data();
      args.n_interests = kItems;
      args.radius = radius;
      return RunSized(args, problem.place, resembed_envelope_workspace_size, resembed_envelope);
    }
  }
  return false;
}

#ifdef RESEMBED_WITH_CUDA
// Whether the cuda backend of this build has kernels for the call.
bool Built(Op op, Problem problem) {
  problem.place = Place::Cuda(0, nullptr);
  const Table table = problem.MakeTable();
  const Feature feature = problem.MakeFeature();
  const resembed_table* tables[] = {&table};
  const resembed_feature* features[] = {&feature};
  Descriptor<resembed_tables> list;
  list.tables = tables;
  list.n_tables = 1;
  size_t bytes = 0, more = 0;
  // What is not asked for below is refused later than an operation without kernels.
  const auto says = [](resembed_status status) { return status != RESEMBED_UNSUPPORTED; };
  switch (op) {
    case Op::kForward: {
      Descriptor<resembed_forward_args> args;
      args.tables = &list;
      args.features = features;
      args.n_features = 1;
      return says(resembed_forward_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kPlan: {
      Descriptor<resembed_plan_args> args;
      args.tables = &list;
      args.features = features;
      args.n_features = 1;
      return says(resembed_plan_size(&args, &problem.place, &bytes, &more));
    }
    case Op::kBackward: {
      const Descriptor<resembed_backward_args> args;
      return says(resembed_backward_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kStep: {
      const Descriptor<resembed_step_args> args;
      return says(resembed_step_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kBackwardStep: {
      const Descriptor<resembed_backward_step_args> args;
      return says(resembed_backward_step_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kCombine: {
      const Descriptor<resembed_combine_args> args;
      return says(resembed_combine_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kMaterialize: {
      Descriptor<resembed_materialize_args> args;
      args.table = &table;
      args.n_items = kItems;
      args.output_dtype = problem.output_dtype;
      return says(resembed_materialize_workspace_size(&args, &problem.place, &bytes));
    }
    case Op::kEnvelope: {
      Descriptor<resembed_envelope_args> args;
      args.table = &table;
      args.interest_of = problem.map.data();
      args.n_interests = kItems;
      return says(resembed_envelope_workspace_size(&args, &problem.place, &bytes));
    }
  }
  return false;
}
#endif

std::string Row(const std::string& head, const std::vector<std::string>& cells) {
  std::string row = "| " + head + " |";
  for (const std::string& cell : cells) row += " " + cell + " |";
  return row + "\n";
}

const char* Cell(bool works) { return works ? "yes" : "-"; }

std::string HeadRow(const std::string& head, const std::vector<std::string>& cells) {
  std::string line = "|---|";
  for (size_t cell = 0; cell < cells.size(); ++cell) line += "---|";
  return Row(head, cells) + line + "\n";
}

std::string Page() {
  std::string page =
      "# Support matrix\n\nWritten by `tests/repo/support_matrix.cc`, which calls the library for each cell "
      "of the "
      "cpu\n"
      "backend and reads the launch tables of the cuda backend, at the end; a test compares. \"-\" is a call "
      "that "
      "returns\na status which says why not.\n"
      "\n## Operations (cpu)\n\n";
  page += HeadRow("operation", {"cpu"});
  for (int op = 0; op < static_cast<int>(std::size(kOps)); ++op) {
    page += Row(kOps[op], {Cell(Works(static_cast<Op>(op), Problem()))});
  }
  page += "\n## Central forms (cpu)\n\n";
  std::vector<std::string> heads;
  const Op per_form[] = {Op::kForward, Op::kBackward,    Op::kBackwardStep,
                         Op::kStep,    Op::kMaterialize, Op::kEnvelope};
  for (Op op : per_form) heads.emplace_back(kOps[static_cast<int>(op)]);
  page += HeadRow("form", heads);
  for (bool residual : {true, false}) {
    for (int form = residual ? 0 : 1; form < 5; ++form) {
      std::vector<std::string> cells;
      for (Op op : per_form) {
        Problem problem;
        problem.form = form;
        problem.has_residual = residual;
        cells.emplace_back(Cell(Works(op, problem)));
      }
      page += Row(std::string(kForms[form]) + (residual ? "" : ", no residual"), cells);
    }
  }
  page += "\n## Poolings (cpu): forward and backward\n\n";
  page += HeadRow("pooling", {"forward", "backward", "with per-sample weights"});
  for (int pooling = 0; pooling < kPoolingCount; ++pooling) {
    Problem problem;
    problem.pooling = pooling;
    Problem weighted = problem;
    weighted.weights = true;
    page += Row(kPoolings[pooling], {Cell(Works(Op::kForward, problem)), Cell(Works(Op::kBackward, problem)),
                                     Cell(Works(Op::kForward, weighted) && Works(Op::kBackward, weighted))});
  }
  page += "\n## Types (cpu): forward + backward_step\n\nRows: type of R; columns: type of C.\n\n";
  heads.clear();
  for (const Type& type : kFloats) heads.emplace_back(type.name);
  page += HeadRow("R \\ C", heads);
  auto both = [](const Problem& problem) {
    return Works(Op::kForward, problem) && Works(Op::kBackwardStep, problem);
  };
  for (const Type& residual : kFloats) {
    std::vector<std::string> cells;
    for (const Type& central : kFloats) {
      Problem problem;
      problem.residual_dtype = residual.dtype;
      problem.central_dtype = central.dtype;
      cells.emplace_back(Cell(both(problem)));
    }
    page += Row(residual.name, cells);
  }
  page += "\n";
  page += HeadRow("output and its gradient", heads);
  std::vector<std::string> cells;
  for (const Type& type : kFloats) {
    Problem problem;
    problem.output_dtype = type.dtype;
    cells.emplace_back(Cell(both(problem)));
  }
  page += Row("", cells) + "\n";
  page += HeadRow("ids \\ offsets", {"i32", "i64"});
  for (const Type& ids : kIntegers) {
    cells.clear();
    for (const Type& offsets : kIntegers) {
      Problem problem;
      problem.id_dtype = ids.dtype;
      problem.offset_dtype = offsets.dtype;
      cells.emplace_back(Cell(both(problem)));
    }
    page += Row(ids.name, cells);
  }
  page += "\n## Optimizers (cpu) by type of state: step and backward_step\n\n";
  page += HeadRow("optimizer", heads);
  for (int kind = 0; kind < 5; ++kind) {
    cells.clear();
    for (const Type& state : kFloats) {
      Problem problem;
      problem.optimizer = kind;
      problem.state_dtype = state.dtype;
      cells.emplace_back(Cell(Works(Op::kStep, problem) && Works(Op::kBackwardStep, problem)));
    }
    page += Row(kOptimizers[kind], cells);
  }
  return page;
}

constexpr const char* kCudaHead = "\n## The cuda backend\n";

#ifdef RESEMBED_WITH_CUDA
namespace cuda = detail::cuda;

// Calls on which the library and a launch table disagree: not a cell of the page, but a failure of the test.
std::string disagreements;

// A cell of a launch table, held against what the library says of the same call.
std::string CellOf(bool in_table, const std::string& cell, Op op, const Problem& problem) {
  if (in_table != Built(op, problem)) {
    disagreements +=
        std::string(kOps[static_cast<int>(op)]) + ": the launch table and the library disagree\n";
  }
  return in_table ? cell : "-";
}

std::string KernelOf(kernels::ForwardKind kind) {
  return kind == kernels::ForwardKind::kGather ? "gather"
         : kind == kernels::ForwardKind::kMax  ? "max"
                                               : "sum";
}

// From the tables that dispatch launches from; whether kernels have run on a GPU stands in docs/evidence.md.
std::string CudaPage() {
  std::string page = kCudaHead;
  page +=
      "\nWhat kernels are built for, from the tables in `host/cuda/launch_tables.cc` that dispatch launches "
      "from; "
      "what has\nrun on a GPU stands in `evidence.md`. What no table below has as an axis (types of ids, "
      "offsets, "
      "outputs, output\ngradients and states, weights, padding, bounds, dim) is a branch inside the "
      "kernels.\n\n";
  page += HeadRow("operation", {"cuda"});
  for (int op = 0; op < static_cast<int>(std::size(kOps)); ++op) {
    page += Row(kOps[op], {Cell(Built(static_cast<Op>(op), Problem()))});
  }
  page += "\n### Forward and materialize (cuda): types\n\nRows: type of R; columns: type of C.\n\n";
  page += HeadRow("R \\ C", {kFloats[0].name, kFloats[1].name, kFloats[2].name});
  std::vector<std::string> cells;
  for (const Type& residual : kFloats) {
    cells.clear();
    for (const Type& central : kFloats) {
      Problem problem;
      problem.residual_dtype = residual.dtype;
      problem.central_dtype = central.dtype;
      const bool built = cuda::kForwardLaunches[central.dtype][residual.dtype] != nullptr;
      CellOf(built, "yes", Op::kMaterialize, problem);
      cells.emplace_back(CellOf(built, "yes", Op::kForward, problem));
    }
    page += Row(residual.name, cells);
  }
  page += "\n### Forward and envelope (cuda): the kernel of a form and a pooling\n\n";
  static_assert(std::size(cuda::kForwardKinds) == std::size(kPoolings));
  static_assert(std::size(cuda::kReadsLists) == std::size(kForms));
  cells.assign(std::begin(kPoolings), std::end(kPoolings));
  cells.emplace_back("materialize");
  cells.emplace_back("envelope");
  page += HeadRow("form", cells);
  for (int form = 0; form < 5; ++form) {
    const char* const reads = cuda::kReadsLists[form] ? ", lists" : ", codes";
    Problem problem;
    problem.form = form;
    cells.clear();
    for (int pooling = 0; pooling < kPoolingCount; ++pooling) {
      problem.pooling = pooling;
      const bool scores = pooling == RESEMBED_POOLING_ATTENTION;  // kernels of their own come first
      const std::string kernel = (scores ? "scores, " : "") + KernelOf(cuda::kForwardKinds[pooling]);
      cells.emplace_back(CellOf(true, kernel + reads, Op::kForward, problem));
    }
    cells.emplace_back(CellOf(true, KernelOf(cuda::kForwardKinds[RESEMBED_POOLING_NONE]) + reads,
                              Op::kMaterialize, problem));
    cells.emplace_back(Cell(Built(Op::kEnvelope, problem)));
    page += Row(kForms[form], cells);
  }
  page += "\n### Backward and backward_step (cuda): sums of both levels\n\n";
  page += HeadRow("output gradients", {"1 column a lane", "4 columns a lane"});
  const char* const gradients[] = {"any type, maxima, attention pooling", "all f32, neither of them"};
  for (int plain = 0; plain < 2; ++plain) {
    page += Row(gradients[plain], {Cell(cuda::kBackwardLaunches[plain][0] != nullptr),
                                   Cell(cuda::kBackwardLaunches[plain][1] != nullptr)});
  }
  page += "\n### Step and backward_step (cuda): optimizers\n\n";
  page += HeadRow("optimizer", {"cuda"});
  static_assert(std::size(cuda::kUpdateLaunches) == std::size(kOptimizers));
  for (size_t kind = 0; kind < std::size(kOptimizers); ++kind) {
    page += Row(kOptimizers[kind], {Cell(cuda::kUpdateLaunches[kind] != nullptr)});
  }
  return page;
}
#endif

}  // namespace

int main(int argc, char** argv) {
  std::string page = Page();
#ifdef RESEMBED_WITH_CUDA
  page += CudaPage();
  if (!disagreements.empty()) {
    std::fputs(disagreements.c_str(), stderr);
    return 1;
  }
#endif
  if (argc < 2) return std::fputs(page.c_str(), stdout) < 0;
  std::ifstream file(argv[1]);
  std::string kept((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
#ifndef RESEMBED_WITH_CUDA
  kept.resize(std::min(kept.size(), kept.find(kCudaHead)));
#endif
  if (kept == page) return 0;
  std::fprintf(
      stderr,
      "%s differs from what the library does; write it anew:\n  support_matrix > docs/support_matrix.md\n%s",
      argv[1], page.c_str());
  return 1;
}
