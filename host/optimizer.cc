// SPDX-License-Identifier: Apache-2.0
#include "host/optimizer.h"

#include <algorithm>

#include "host/descriptor.h"

namespace resembed::detail {
namespace {

using ll = long long;

bool IsFiniteNumber(float value) { return value - value == 0.0f; }
bool HasState1(resembed_optimizer_kind kind) { return kind != RESEMBED_SGD; }
bool HasState2(resembed_optimizer_kind kind) {
  return kind == RESEMBED_ADAM || kind == RESEMBED_PARTIAL_ROWWISE_ADAM;
}
int64_t State1Dim(resembed_optimizer_kind kind, int64_t dim) {
  return kind == RESEMBED_ROWWISE_ADAGRAD ? 1 : dim;
}
int64_t State2Dim(resembed_optimizer_kind kind, int64_t dim) {
  return kind == RESEMBED_PARTIAL_ROWWISE_ADAM ? 1 : dim;
}

int64_t StepOf(const resembed_optimizer& optimizer) {
  return optimizer.step_device != nullptr ? *optimizer.step_device : optimizer.step;
}

Matrix ResidualOf(const resembed_table& table) {
  return {table.residual, table.residual_rows, table.dim, table.residual_stride, table.residual_dtype};
}
Matrix CentralOf(const resembed_table& table) {
  return {table.central, table.central_rows, table.dim, table.central_stride, table.central_dtype};
}

struct Place {  // where a message points
  const char* op;
  int32_t table;
  const char* part;
  bool on_gpu;  // what lies in device memory is not read
};

resembed_status Bad(const Place& place, const char* field, const char* seen, const char* rule) {
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps[%d].%s.%s is %s; needs %s", place.op, place.table,
              place.part, field, seen, rule);
}
resembed_status Bad(const Place& place, const char* field, int64_t seen, const char* rule) {
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps[%d].%s.%s is %lld; needs %s", place.op, place.table,
              place.part, field, static_cast<ll>(seen), rule);
}
resembed_status Bad(const Place& place, const char* field, float seen, const char* rule) {
  return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps[%d].%s.%s is %g; needs %s", place.op, place.table,
              place.part, field, static_cast<double>(seen), rule);
}

resembed_status CheckState(const Place& place, const char* name, const char* stride_name, const Matrix& state,
                           const Matrix& matrix) {
  if (matrix.rows == 0) return RESEMBED_OK;
  if (state.data == nullptr) return Bad(place, name, "null", "the optimizer's state");
  if (state.stride < state.dim) return Bad(place, stride_name, state.stride, "at least the state's columns");
  if (!FitsInMemory(state.rows, state.stride, state.dtype)) {
    return Bad(place, stride_name, state.stride, "states below 2^62 bytes");
  }
  if (!IsAligned(state.data, state.dtype)) return Bad(place, name, "misaligned", "the alignment of its type");
  if (Overlaps(state, matrix))
    return Bad(place, name, "overlapping the rows it belongs to", "memory of its own");
  return RESEMBED_OK;
}

resembed_status CheckOptimizer(const Place& place, const resembed_optimizer* given, const Matrix& matrix) {
  if (given->struct_size == 0) return Bad(place, "struct_size", int64_t{0}, "sizeof(resembed_optimizer)");
  const resembed_optimizer optimizer = ReadDescriptor(given);
  if (matrix.data == nullptr && matrix.rows > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT,
                "%s: steps[%d].%s is given; needs null for a table without that part", place.op, place.table,
                place.part);
  }
  const resembed_optimizer_kind kind = optimizer.kind;
  if (kind < RESEMBED_SGD || kind > RESEMBED_PARTIAL_ROWWISE_ADAM) {
    return Bad(place, "kind", int64_t{kind}, "sgd, adagrad, rowwise_adagrad, adam or partial_rowwise_adam");
  }
  if (optimizer.decay < RESEMBED_DECAY_L2 || optimizer.decay > RESEMBED_DECAY_L2_WHOLE_TABLE) {
    return Bad(place, "decay", int64_t{optimizer.decay}, "l2, decoupled or l2_whole_table");
  }
  if (!IsFloatType(optimizer.state_dtype)) {
    return Bad(place, "state_dtype", DtypeName(optimizer.state_dtype), "f32, f16 or bf16");
  }
  if (!IsFiniteNumber(optimizer.lr)) return Bad(place, "lr", optimizer.lr, "a finite number");
  if (HasState2(kind) && !(optimizer.beta1 >= 0.0f && optimizer.beta1 < 1.0f)) {
    return Bad(place, "beta1", optimizer.beta1, "0 <= beta1 < 1");
  }
  if (HasState2(kind) && !(optimizer.beta2 >= 0.0f && optimizer.beta2 < 1.0f)) {
    return Bad(place, "beta2", optimizer.beta2, "0 <= beta2 < 1");
  }
  if (!(optimizer.eps >= 0.0f)) return Bad(place, "eps", optimizer.eps, "0 or more");
  if (!(optimizer.weight_decay >= 0.0f))
    return Bad(place, "weight_decay", optimizer.weight_decay, "0 or more");
  if (!(optimizer.max_row_norm >= 0.0f))
    return Bad(place, "max_row_norm", optimizer.max_row_norm, "0 or more");
  if (!IsFiniteNumber(optimizer.grad_scale))
    return Bad(place, "grad_scale", optimizer.grad_scale, "a finite number");
  if (optimizer.stochastic_rounding != 0 && optimizer.stochastic_rounding != 1) {
    return Bad(place, "stochastic_rounding", int64_t{optimizer.stochastic_rounding}, "0 or 1");
  }
  if (HasState1(kind)) {
    const int64_t columns = State1Dim(kind, matrix.dim);
    RESEMBED_RETURN_IF_ERROR(
        CheckState(place, "state1", "state1_stride",
                   {optimizer.state1, matrix.rows, columns,
                    optimizer.state1_stride == 0 ? columns : optimizer.state1_stride, optimizer.state_dtype},
                   matrix));
  }
  if (HasState2(kind)) {
    const int64_t columns = State2Dim(kind, matrix.dim);
    RESEMBED_RETURN_IF_ERROR(
        CheckState(place, "state2", "state2_stride",
                   {optimizer.state2, matrix.rows, columns,
                    optimizer.state2_stride == 0 ? columns : optimizer.state2_stride, optimizer.state_dtype},
                   matrix));
  }
  const bool counts = HasState2(kind) || optimizer.stochastic_rounding != 0;
  const bool hidden = place.on_gpu && optimizer.step_device != nullptr;
  if (counts && !hidden && StepOf(optimizer) < 1) {
    return Fail(RESEMBED_OUT_OF_RANGE, "%s: steps[%d].%s.%s is %lld; needs 1 or more", place.op, place.table,
                place.part, optimizer.step_device != nullptr ? "step_device[0]" : "step",
                static_cast<ll>(StepOf(optimizer)));
  }
  return RESEMBED_OK;
}

// First byte to one past the last of a matrix.
struct Span {
  uintptr_t first, last;
  bool written;
};

// True where CheckAliasing has nothing to find: by the sorted spans of all matrices, without looking at every pair.
bool AreApart(const resembed_table_step* const* steps, const Tables& tables) {
  constexpr int32_t kMostTables = 1024;
  Span spans[2 * kMostTables];
  if (tables.size() > kMostTables) return false;
  int32_t n = 0;
  for (int32_t index = 0; index < tables.size(); ++index) {
    const resembed_table_step step = ReadDescriptor(steps[index]);
    const resembed_table table = tables[index];
    const auto add = [&](const Matrix& matrix, bool written) {
      const auto first = reinterpret_cast<uintptr_t>(matrix.data);
      const auto bytes = static_cast<uintptr_t>(SpanBytes(matrix));
      if (bytes > 0) spans[n++] = {first, first + bytes, written};
    };
    add(ResidualOf(table), step.residual != nullptr);
    add(CentralOf(table), step.central != nullptr);
  }
  std::sort(spans, spans + n, [](const Span& a, const Span& b) { return a.first < b.first; });
  uintptr_t last = 0, last_written = 0;
  for (int32_t at = 0; at < n; ++at) {
    const Span& span = spans[at];
    if (span.first < last_written || (span.written && span.first < last)) return false;
    last = std::max(last, span.last);
    if (span.written) last_written = std::max(last_written, span.last);
  }
  return true;
}

// A matrix that is written shares no byte with another matrix of the call: a second table's gradient would read
// what the first table's step has changed.
resembed_status CheckAliasing(const char* op, const resembed_table_step* const* steps, const Tables& tables) {
  if (AreApart(steps, tables)) return RESEMBED_OK;
  for (int32_t writer = 0; writer < tables.size(); ++writer) {
    if (steps[writer] == nullptr) continue;
    const resembed_table_step step = ReadDescriptor(steps[writer]);
    const resembed_table written = tables[writer];
    for (int32_t other = 0; other < tables.size(); ++other) {
      if (other == writer) continue;
      const resembed_table table = tables[other];
      for (const Matrix& matrix : {ResidualOf(table), CentralOf(table)}) {
        if ((step.residual != nullptr && Overlaps(ResidualOf(written), matrix)) ||
            (step.central != nullptr && Overlaps(CentralOf(written), matrix))) {
          return Fail(RESEMBED_INVALID_ARGUMENT,
                      "%s: steps[%d] is writing memory of tables[%d]; needs rows of its own", op, writer,
                      other);
        }
      }
    }
  }
  return RESEMBED_OK;
}

// b^t by squaring: the same bits everywhere, unlike a library's pow.
double Power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 != 0) result *= base;
    base *= base;
  }
  return result;
}

MatrixUpdate Resolve(const resembed_optimizer& optimizer, const Matrix& matrix, const resembed_place& place,
                     int32_t table_number, int32_t part) {
  MatrixUpdate update = {};
  UpdateRule& rule = update.rule;
  rule.kind = optimizer.kind;
  rule.scale = optimizer.grad_scale == 0.0f ? 1.0f : optimizer.grad_scale;
  if (optimizer.inv_scale_device != nullptr) rule.scale = rule.scale * *optimizer.inv_scale_device;
  rule.lr = optimizer.lr_device != nullptr ? *optimizer.lr_device : optimizer.lr;
  const bool decoupled = optimizer.decay == RESEMBED_DECAY_DECOUPLED;
  rule.l2 = decoupled ? 0.0f : optimizer.weight_decay;
  rule.keep = decoupled ? 1.0f - rule.lr * optimizer.weight_decay : 1.0f;
  rule.eps = optimizer.eps;
  rule.beta1 = optimizer.beta1;
  rule.rest1 = 1.0f - optimizer.beta1;
  rule.beta2 = optimizer.beta2;
  rule.rest2 = 1.0f - optimizer.beta2;
  const int64_t step = StepOf(optimizer);
  if (HasState2(optimizer.kind)) {
    rule.lr1 = static_cast<float>(static_cast<double>(rule.lr) / (1.0 - Power(optimizer.beta1, step)));
    rule.correct2 = static_cast<float>(1.0 - Power(optimizer.beta2, step));
  }
  rule.max_norm = optimizer.max_row_norm;

  update.ops = &GetStepOps(place.isa);
  update.row_ops = &GetRowOps(place.isa);
  update.dim = matrix.dim;
  update.rows = static_cast<char*>(const_cast<void*>(matrix.data));
  update.row_pitch = matrix.stride * ElementBytes(matrix.dtype);
  update.dtype = matrix.dtype;
  update.state_dtype = optimizer.state_dtype;
  const int64_t state_bytes = ElementBytes(optimizer.state_dtype);
  if (HasState1(optimizer.kind)) {
    update.state1_dim = State1Dim(optimizer.kind, matrix.dim);
    update.state1 = static_cast<char*>(optimizer.state1);
    update.state1_pitch =
        (optimizer.state1_stride == 0 ? update.state1_dim : optimizer.state1_stride) * state_bytes;
  }
  if (HasState2(optimizer.kind)) {
    update.state2_dim = State2Dim(optimizer.kind, matrix.dim);
    update.state2 = static_cast<char*>(optimizer.state2);
    update.state2_pitch =
        (optimizer.state2_stride == 0 ? update.state2_dim : optimizer.state2_stride) * state_bytes;
  }
  update.plain =
      matrix.dtype == RESEMBED_F32 && (!HasState1(optimizer.kind) || optimizer.state_dtype == RESEMBED_F32);
  update.stochastic = optimizer.stochastic_rounding != 0 && matrix.dtype != RESEMBED_F32;
  update.whole_table = optimizer.decay == RESEMBED_DECAY_L2_WHOLE_TABLE;
  update.random = {optimizer.seed, 0, table_number, part, step};
  update.n_skipped = optimizer.n_skipped_rows;
  return update;
}

bool IsTaken(const resembed_optimizer& optimizer) {
  return optimizer.found_inf_device == nullptr || *optimizer.found_inf_device == 0.0f;
}

}  // namespace

resembed_status CheckSteps(const char* op, const resembed_table_step* const* steps, const Tables& tables,
                           const resembed_place& place) {
  const bool on_gpu = place.backend == RESEMBED_CUDA;
  if (steps == nullptr && tables.size() > 0) {
    return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps is null; needs %d entries", op, tables.size());
  }
  for (int32_t index = 0; index < tables.size(); ++index) {
    if (steps[index] == nullptr) continue;
    if (steps[index]->struct_size == 0) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps[%d] is of struct_size 0; needs a resembed_table_step",
                  op, index);
    }
    const resembed_table_step step = ReadDescriptor(steps[index]);
    if (step.table_number < 0 || step.table_number > 32767) {
      return Fail(RESEMBED_INVALID_ARGUMENT, "%s: steps[%d].table_number is %d; needs 0 .. 32767", op, index,
                  step.table_number);
    }
    const resembed_table table = tables[index];
    if (step.residual != nullptr) {
      if (table.residual == nullptr && table.n_items > 0) {
        return Fail(RESEMBED_INVALID_ARGUMENT,
                    "%s: steps[%d].residual is given; needs null for a table without that part", op, index);
      }
      RESEMBED_RETURN_IF_ERROR(
          CheckOptimizer({op, index, "residual", on_gpu}, step.residual, ResidualOf(table)));
    }
    if (step.central != nullptr) {
      if (table.form == RESEMBED_CENTRAL_NONE) {
        return Fail(RESEMBED_INVALID_ARGUMENT,
                    "%s: steps[%d].central is given; needs null for a table without that part", op, index);
      }
      RESEMBED_RETURN_IF_ERROR(
          CheckOptimizer({op, index, "central", on_gpu}, step.central, CentralOf(table)));
    }
  }
  return CheckAliasing(op, steps, tables);
}

TableUpdate ResolveStep(const resembed_table_step* given, const resembed_table& table,
                        const resembed_place& place) {
  TableUpdate update = {};
  if (given == nullptr) return update;
  const resembed_table_step step = ReadDescriptor(given);
  if (step.residual != nullptr) {
    const resembed_optimizer optimizer = ReadDescriptor(step.residual);
    update.residual = Resolve(optimizer, ResidualOf(table), place, step.table_number, 0);
    update.residual.row_of = table.residual_row_of;
    update.residual.n_ids = table.n_items;
    update.has_residual = IsTaken(optimizer);
  }
  if (step.central != nullptr) {
    const resembed_optimizer optimizer = ReadDescriptor(step.central);
    update.central = Resolve(optimizer, CentralOf(table), place, step.table_number, 1);
    update.central.n_ids = table.central_rows;
    update.has_central = IsTaken(optimizer);
  }
  return update;
}

}  // namespace resembed::detail
