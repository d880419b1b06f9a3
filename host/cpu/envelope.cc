// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/envelope.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "host/cpu/item_stream.h"

namespace resembed::detail::cpu {
namespace {

// Lists longer than a piece are worked on by several threads.
constexpr int64_t kPiece = 4096;
// Tasks over interests, and pieces of one list that are open at a time.
constexpr int64_t kMaxTasks = 256;

struct MemberList {
  const int64_t* members;
  int64_t operator()(int64_t position) const { return members[position]; }
};

// Numbers are not negative: their bits order them, and put a NaN behind everything.
bool Below(float a, float b) {
  uint32_t a_bits, b_bits;
  std::memcpy(&a_bits, &a, 4);
  std::memcpy(&b_bits, &b, 4);
  return (a_bits & 0x7fffffffu) < (b_bits & 0x7fffffffu);
}

// Nearest rank: the ceil(q n)-th smallest of n > 0 values, at least the first. Reorders them.
float Quantile(float* values, int64_t n, double q) {
  const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(n)));
  float* at = values + std::clamp<int64_t>(rank, 1, n) - 1;
  std::nth_element(values, at, values + n, Below);
  return *at;
}

// body(item) over the items that have an interest, in order. Where only few have one, most blocks have none.
template <typename BodyT>
void ForGrouped(const int32_t* interest_of, int64_t n_items, const BodyT& body) {
  constexpr int64_t kBlock = 32;
  for (int64_t begin = 0; begin < n_items; begin += kBlock) {
    const int64_t end = std::min(n_items, begin + kBlock);
    int32_t largest = -1;
    for (int64_t item = begin; item < end; ++item) largest = std::max(largest, interest_of[item]);
    if (largest < 0) continue;
    for (int64_t item = begin; item < end; ++item) {
      if (interest_of[item] >= 0) body(item);
    }
  }
}

class Statistics {
 public:
  Statistics(const resembed_envelope_args& args, const resembed_table& table, const EnvelopeWork& work,
             const RowOps& ops, const Executor& executor)
      : args_(args), table_(table), work_(work), ops_(ops), executor_(executor), dim_(table.dim) {}

  void Run() {
    Group();
    n_grouped_ = work_.starts[args_.n_interests];
    Norms();
    mean_residual_norm_ = Mean(work_.residual_norm, n_grouped_);
    mean_central_norm_ = Mean(work_.central_norm, n_grouped_);
    Sum(0, n_grouped_, work_.global_mean);
    const int64_t tasks = Tasks();
    executor_.ParallelFor(tasks, [this, tasks](int64_t task) {
      // Interests whose list begins in the task's share of the members.
      const int64_t first =
          FirstInterest(n_grouped_ / tasks * task + std::min(task, n_grouped_ % tasks), task == 0);
      const int64_t last =
          task + 1 == tasks
              ? args_.n_interests
              : FirstInterest(n_grouped_ / tasks * (task + 1) + std::min(task + 1, n_grouped_ % tasks),
                              false);
      for (int64_t interest = first; interest < last; ++interest) {
        const int64_t begin = work_.starts[interest], end = work_.starts[interest + 1];
        if (end - begin > kPiece) continue;
        double* mean = work_.task_mean + task * dim_;
        std::fill(mean, mean + dim_, 0.0);
        AddColumns(begin, end, work_.task_rows + task * 2 * dim_, mean);
        for (int64_t col = 0; col < dim_; ++col)
          mean[col] /= static_cast<double>(std::max<int64_t>(end - begin, 1));
        work_.squares[interest] = Distances(begin, end, mean, work_.task_rows + task * 2 * dim_);
        Finish(interest);
      }
    });
    for (int64_t interest = 0; interest < args_.n_interests; ++interest) {
      const int64_t begin = work_.starts[interest], end = work_.starts[interest + 1];
      if (end - begin <= kPiece) continue;
      Sum(begin, end, work_.mean);
      work_.squares[interest] = ForPieces(begin, end, [this](int64_t from, int64_t to, float* rows) {
        return Distances(from, to, work_.mean, rows);
      });
      Finish(interest);
    }
    Global();
  }

 private:
  int64_t Tasks() const { return std::clamp<int64_t>((n_grouped_ + 255) / 256, 1, kMaxTasks); }

  // First interest whose list begins at `position` or later; `from_start`: the very first one.
  int64_t FirstInterest(int64_t position, bool from_start) const {
    if (from_start) return 0;
    return std::lower_bound(work_.starts, work_.starts + args_.n_interests, position) - work_.starts;
  }

  void Group() {
    std::memset(work_.starts, 0, static_cast<size_t>(args_.n_interests + 1) * sizeof(int64_t));
    ForGrouped(args_.interest_of, table_.n_items,
               [this](int64_t item) { ++work_.starts[args_.interest_of[item] + 1]; });
    for (int64_t interest = 0; interest < args_.n_interests; ++interest) {
      work_.starts[interest + 1] += work_.starts[interest];
    }
    // Place each item at its interest's start and advance it; one step back restores the starts.
    ForGrouped(args_.interest_of, table_.n_items,
               [this](int64_t item) { work_.members[work_.starts[args_.interest_of[item]]++] = item; });
    for (int64_t interest = args_.n_interests; interest > 0; --interest) {
      work_.starts[interest] = work_.starts[interest - 1];
    }
    work_.starts[0] = 0;
  }

  // body(item's rows, place) over places [begin, end).
  template <typename BodyT>
  void ForMembers(int64_t begin, int64_t end, const BodyT& body) const {
    ItemStream<MemberList> stream(table_, ops_, {work_.members}, begin, end);
    for (int64_t place = begin; place < end; ++place) body(*stream.Next(), place);
  }

  void Norms() {
    const int64_t tasks = Tasks();
    executor_.ParallelFor(tasks, [this, tasks](int64_t task) {
      const int64_t begin = n_grouped_ / tasks * task + std::min(task, n_grouped_ % tasks);
      const int64_t end = n_grouped_ / tasks * (task + 1) + std::min(task + 1, n_grouped_ % tasks);
      float* row = work_.task_rows + task * 2 * dim_;
      ForMembers(begin, end, [this, row](const ItemRows& rows, int64_t place) {
        ItemRows central = rows;
        central.residual = nullptr;
        ops_.compose(row, central, dim_);
        const float center = std::sqrt(ops_.dot(row, RESEMBED_F32, row, RESEMBED_F32, dim_));
        const float residual = rows.residual == nullptr
                                   ? 0.0f
                                   : std::sqrt(ops_.dot(rows.residual, rows.residual_dtype, rows.residual,
                                                        rows.residual_dtype, dim_));
        work_.central_norm[place] = center;
        work_.residual_norm[place] = residual;
        work_.ratio[place] =
            rows.n_central == 0 ? std::numeric_limits<float>::quiet_NaN() : residual / center;
      });
    });
  }

  // sums += the item embeddings at places [begin, end).
  void AddColumns(int64_t begin, int64_t end, float* row, double* sums) const {
    ForMembers(begin, end, [this, row, sums](const ItemRows& rows, int64_t) {
      ops_.compose(row, rows, dim_);
      for (int64_t col = 0; col < dim_; ++col) sums[col] += static_cast<double>(row[col]);
    });
  }

  // Distances of places [begin, end) to `mean`; returns the sum of squared distances to the global mean.
  double Distances(int64_t begin, int64_t end, const double* mean, float* rows_of_task) const {
    double squares = 0;
    float* e = rows_of_task;
    float* apart = rows_of_task + dim_;
    ForMembers(begin, end, [&](const ItemRows& rows, int64_t place) {
      ops_.compose(e, rows, dim_);
      for (int64_t col = 0; col < dim_; ++col)
        apart[col] = static_cast<float>(static_cast<double>(e[col]) - mean[col]);
      work_.distance[place] = std::sqrt(ops_.dot(apart, RESEMBED_F32, apart, RESEMBED_F32, dim_));
      for (int64_t col = 0; col < dim_; ++col) {
        apart[col] = static_cast<float>(static_cast<double>(e[col]) - work_.global_mean[col]);
      }
      squares += static_cast<double>(ops_.dot(apart, RESEMBED_F32, apart, RESEMBED_F32, dim_));
    });
    return squares;
  }

  // The pieces of a list, kMaxTasks at a time; body(begin, end, scratch rows) returns a number, they are
  // summed in order.
  template <typename BodyT>
  double ForPieces(int64_t begin, int64_t end, const BodyT& body) const {
    double total = 0;
    for (int64_t from = begin; from < end; from += kMaxTasks * kPiece) {
      const int64_t n_pieces = std::min(kMaxTasks, (end - from + kPiece - 1) / kPiece);
      executor_.ParallelFor(n_pieces, [&](int64_t piece) {
        const int64_t first = from + piece * kPiece;
        work_.piece_totals[piece] =
            body(first, std::min(end, first + kPiece), work_.task_rows + piece * 2 * dim_);
      });
      for (int64_t piece = 0; piece < n_pieces; ++piece) total += work_.piece_totals[piece];
    }
    return total;
  }

  // Mean item embedding of places [begin, end), by pieces.
  void Sum(int64_t begin, int64_t end, double* mean) const {
    std::fill(mean, mean + dim_, 0.0);
    for (int64_t from = begin; from < end; from += kMaxTasks * kPiece) {
      const int64_t n_pieces = std::min(kMaxTasks, (end - from + kPiece - 1) / kPiece);
      executor_.ParallelFor(n_pieces, [&](int64_t piece) {
        const int64_t first = from + piece * kPiece;
        double* sums = work_.sums + piece * dim_;
        std::fill(sums, sums + dim_, 0.0);
        AddColumns(first, std::min(end, first + kPiece), work_.task_rows + piece * 2 * dim_, sums);
      });
      for (int64_t piece = 0; piece < n_pieces; ++piece) {
        for (int64_t col = 0; col < dim_; ++col) mean[col] += work_.sums[piece * dim_ + col];
      }
    }
    for (int64_t col = 0; col < dim_; ++col)
      mean[col] /= static_cast<double>(std::max<int64_t>(end - begin, 1));
  }

  static float Mean(const float* values, int64_t n) {
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += kPiece) {
      double piece = 0;
      for (int64_t at = begin; at < std::min(n, begin + kPiece); ++at)
        piece += static_cast<double>(values[at]);
      sum += piece;
    }
    return n == 0 ? 0.0f : static_cast<float>(sum / static_cast<double>(n));
  }

  // Median over the items that have a central part; 0 when none has. A NaN (0 / 0 as well) is left out.
  static float MedianRatio(float* ratio, int64_t n) {
    const int64_t valid = std::count_if(ratio, ratio + n, [](float value) { return value == value; });
    if (valid == 0) return 0.0f;
    const int64_t rank = (valid + 1) / 2;
    std::nth_element(ratio, ratio + rank - 1, ratio + n, Below);
    return ratio[rank - 1];
  }

  void Finish(int64_t interest) const {
    const int64_t begin = work_.starts[interest], n = work_.starts[interest + 1] - begin;
    float* distance = work_.distance + begin;
    float* residual_norm = work_.residual_norm + begin;
    if (args_.count != nullptr) args_.count[interest] = n;
    if (args_.radius != nullptr) args_.radius[interest] = n == 0 ? 0.0f : Quantile(distance, n, 1.0);
    if (args_.residual_norm != nullptr) args_.residual_norm[interest] = Mean(residual_norm, n);
    if (args_.central_norm != nullptr) args_.central_norm[interest] = Mean(work_.central_norm + begin, n);
    if (args_.ratio != nullptr) args_.ratio[interest] = MedianRatio(work_.ratio + begin, n);
    for (int32_t index = 0; index < args_.n_quantiles; ++index) {
      const int64_t at = interest * args_.n_quantiles + index;
      const auto q = static_cast<double>(args_.quantiles[index]);
      if (args_.radius_quantiles != nullptr)
        args_.radius_quantiles[at] = n == 0 ? 0.0f : Quantile(distance, n, q);
      if (args_.residual_norm_quantiles != nullptr) {
        args_.residual_norm_quantiles[at] = n == 0 ? 0.0f : Quantile(residual_norm, n, q);
      }
    }
  }

  void Global() const {
    if (args_.global == nullptr) return;
    double squares = 0;
    for (int64_t interest = 0; interest < args_.n_interests; ++interest) squares += work_.squares[interest];
    args_.global[0] =
        n_grouped_ == 0 ? 0.0f : static_cast<float>(std::sqrt(squares / static_cast<double>(n_grouped_)));
    args_.global[1] = mean_residual_norm_;
    args_.global[2] = mean_central_norm_;
    args_.global[3] = MedianRatio(work_.ratio, n_grouped_);
  }

  const resembed_envelope_args& args_;
  const resembed_table& table_;
  const EnvelopeWork& work_;
  const RowOps& ops_;
  const Executor& executor_;
  const int64_t dim_;
  int64_t n_grouped_ = 0;
  float mean_residual_norm_ = 0, mean_central_norm_ = 0;
};

}  // namespace

EnvelopeWork CarveEnvelope(const resembed_envelope_args& args, const resembed_table& table,
                           Workspace* workspace) {
  EnvelopeWork work = {};
  work.starts = workspace->Take<int64_t>(args.n_interests + 1);
  work.members = workspace->Take<int64_t>(table.n_items);
  work.distance = workspace->Take<float>(table.n_items);
  work.residual_norm = workspace->Take<float>(table.n_items);
  work.central_norm = workspace->Take<float>(table.n_items);
  work.ratio = workspace->Take<float>(table.n_items);
  work.squares = workspace->Take<double>(args.n_interests);
  work.sums = workspace->Take<double>(kMaxTasks * table.dim);
  work.mean = workspace->Take<double>(table.dim);
  work.global_mean = workspace->Take<double>(table.dim);
  work.task_mean = workspace->Take<double>(kMaxTasks * table.dim);
  work.task_rows = workspace->Take<float>(kMaxTasks * 2 * table.dim);
  work.piece_totals = workspace->Take<double>(kMaxTasks);
  return work;
}

void Envelope(const resembed_envelope_args& args, const resembed_table& table, const EnvelopeWork& work,
              const RowOps& ops, const Executor& executor) {
  Statistics(args, table, work, ops, executor).Run();
}

}  // namespace resembed::detail::cpu
