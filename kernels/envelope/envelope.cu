// SPDX-License-Identifier: Apache-2.0
// Kernels of the envelope; what each number is stands in envelope.h. A statistic to log, not a hot path: rows
// are read an element a lane, coalesced, and nothing is specialized by type.
#include "kernels/envelope/envelope.h"
#include "kernels/forward/item.cuh"

namespace resembed::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarpsOfBlock = kThreads / kWarp;

__device__ __forceinline__ int64_t GlobalThread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t GridThreads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

__device__ __forceinline__ float LoadAs(const char* row, int32_t dtype, int64_t column) {
  if (dtype == RESEMBED_F32) return reinterpret_cast<const float*>(row)[column];
  const unsigned int bits = reinterpret_cast<const unsigned short*>(row)[column];
  return dtype == RESEMBED_F16 ? Halves<__half>::Value(bits) : Halves<__nv_bfloat16>::Value(bits);
}

// The rows one item is made of.
struct ItemParts {
  const int32_t* neighbors;  // of a list
  const float* weights;      // of a list, null = uniform
  const char* residual;      // null = none
  float uniform;
  int32_t center;  // of an assignment
  int count;       // central rows
};

__device__ __forceinline__ ItemParts PartsOf(const EnvelopeParams& params, int64_t item) {
  const ForwardFeature& table = params.table;
  ItemParts parts = {};
  parts.residual = ResidualRow(table, ResidualRowOf(table, item));
  if (table.form == RESEMBED_CENTRAL_ASSIGNMENT) {
    parts.center = CenterOf(table, item);
    parts.count = parts.center >= 0 ? 1 : 0;
  } else if (table.form >= RESEMBED_CENTRAL_UNIFORM) {
    int32_t first[kNeighborsInFlight];
    LoadNeighbors(table, item, 0, first);
    parts.count = CountNeighbors(table, item, first);
    parts.neighbors = table.neighbors + item * table.neighbors_stride;
    parts.uniform = 1.0f / static_cast<float>(parts.count);
    if (table.form == RESEMBED_CENTRAL_STORED) {
      parts.weights = table.neighbor_weights + item * table.weights_stride;
    } else if (table.form == RESEMBED_CENTRAL_ATTENTION) {
      parts.weights = params.attention + item * table.n_neighbors;
    }
  }
  return parts;
}

// One column of the central part, 0 without one.
__device__ __forceinline__ float CentralColumn(const EnvelopeParams& params, const ItemParts& parts,
                                               int64_t column) {
  float e = 0.0f;
  for (int slot = 0; slot < parts.count; ++slot) {
    const int32_t row = parts.neighbors == nullptr ? parts.center : parts.neighbors[slot];
    const float weight = parts.neighbors == nullptr ? 1.0f
                         : parts.weights == nullptr ? parts.uniform
                                                    : parts.weights[slot];
    const float term = weight * LoadAs(CentralRow(params.table, row), params.central_dtype, column);
    e = slot == 0 ? term : e + term;
  }
  return e;
}

__device__ __forceinline__ float ItemColumn(const EnvelopeParams& params, const ItemParts& parts,
                                            int64_t column) {
  const float central = CentralColumn(params, parts, column);
  if (parts.residual == nullptr) return central;
  const float residual = LoadAs(parts.residual, params.residual_dtype, column);
  return parts.count > 0 ? central + residual : residual;
}

__device__ __forceinline__ float WarpTree(float partial) {
  for (int half = kWarp / 2; half > 0; half /= 2) partial += __shfl_xor_sync(0xffffffffu, partial, half);
  return partial;
}

__device__ __forceinline__ int64_t NGrouped(const EnvelopeParams& params) {
  return params.starts[params.n_interests];
}

}  // namespace

__global__ void EnvelopeKeysKernel(const __grid_constant__ EnvelopeParams params) {
  for (int64_t item = GlobalThread(); item < params.table.n_items; item += GridThreads()) {
    const int32_t interest = params.interest_of[item];
    const bool left_out = interest < 0 || interest >= params.n_interests;
    params.keys[item] = static_cast<uint32_t>(left_out ? params.n_interests : interest);
    params.items[item] = static_cast<uint32_t>(item);
  }
}

// starts[k] = first place whose key is at least k.
__global__ void EnvelopeStartsKernel(const __grid_constant__ EnvelopeParams params) {
  const int64_t n = params.table.n_items;
  for (int64_t place = GlobalThread(); place <= n; place += GridThreads()) {
    const int64_t before = place == 0 ? -1 : static_cast<int64_t>(params.sorted_keys[place - 1]);
    const int64_t here = place == n ? params.n_interests : static_cast<int64_t>(params.sorted_keys[place]);
    for (int64_t interest = before + 1; interest <= here; ++interest) params.starts[interest] = place;
  }
}

// attention[item, :] = softmax_k(C[item] . C[n_k]). One warp an item.
__global__ void __launch_bounds__(kThreads)
    EnvelopeAttentionKernel(const __grid_constant__ EnvelopeParams params) {
  RESEMBED_SHARED(float, all_scores, [kWarpsOfBlock][RESEMBED_MAX_NEIGHBORS]);
  float* scores = all_scores[threadIdx.x / kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t item = GlobalThread() / kWarp; item < params.table.n_items; item += GridThreads() / kWarp) {
    int32_t first[kNeighborsInFlight];
    LoadNeighbors(params.table, item, 0, first);
    const int count = CountNeighbors(params.table, item, first);
    if (count == 0) continue;
    float sum;
    if (params.central_dtype == RESEMBED_F32) {
      sum = AttentionScores<float>(params.table, item, count, scores);
    } else if (params.central_dtype == RESEMBED_F16) {
      sum = AttentionScores<__half>(params.table, item, count, scores);
    } else {
      sum = AttentionScores<__nv_bfloat16>(params.table, item, count, scores);
    }
    float* weights = params.attention + item * params.table.n_neighbors;
    for (int k = lane; k < count; k += kWarp) weights[k] = scores[k] / sum;
    __syncwarp();
  }
}

// One warp a member: lane j has partial sum j of each dot product.
__global__ void __launch_bounds__(kThreads)
    EnvelopeNormsKernel(const __grid_constant__ EnvelopeParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = NGrouped(params);
  for (int64_t place = GlobalThread() / kWarp; place < n; place += GridThreads() / kWarp) {
    const ItemParts parts = PartsOf(params, params.members[place]);
    float central = 0.0f, residual = 0.0f;
    for (int64_t column = lane; column < params.table.dim; column += kWarp) {
      const float e = CentralColumn(params, parts, column);
      central += e * e;
      if (parts.residual == nullptr) continue;
      const float r = LoadAs(parts.residual, params.residual_dtype, column);
      residual += r * r;
    }
    central = sqrtf(WarpTree(central));
    residual = sqrtf(WarpTree(residual));
    if (lane != 0) continue;
    params.central_norm[place] = central;
    params.residual_norm[place] = residual;
    params.ratio[place] = parts.count == 0 ? __uint_as_float(0x7fc00000u) : residual / central;
  }
}

namespace {

// Piece of an interest, or with kGlobal of all members: places [begin, end), empty where the slot is unused.
struct Piece {
  int64_t begin, end;
};
template <bool kGlobal>
__device__ Piece FindPiece(const EnvelopeParams& params, int64_t slot) {
  int64_t begin = 0, end, first = 0;
  if (kGlobal) {
    end = NGrouped(params);
  } else {
    // The last interest whose first slot is not after this one; first slots increase strictly.
    int64_t low = 0, high = params.n_interests - 1;
    while (low < high) {
      const int64_t middle = low + (high - low + 1) / 2;
      if (FirstPiece(params.starts[middle], middle) <= slot) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    begin = params.starts[low];
    end = params.starts[low + 1];
    first = FirstPiece(begin, low);
  }
  begin += (slot - first) * kEnvelopePiece;
  return {begin, begin + kEnvelopePiece < end ? begin + kEnvelopePiece : end};
}

}  // namespace

// Column sums of a piece. One block a slot, one thread a column.
template <bool kGlobal>
__global__ void __launch_bounds__(kThreads)
    EnvelopeColumnsKernel(const __grid_constant__ EnvelopeParams params, int64_t n_slots) {
  double* sums = kGlobal ? params.global_column_sums : params.column_sums;
  for (int64_t slot = blockIdx.x; slot < n_slots; slot += gridDim.x) {
    const Piece piece = FindPiece<kGlobal>(params, slot);
    for (int64_t column = threadIdx.x; column < params.table.dim; column += blockDim.x) {
      double sum = 0;
      for (int64_t place = piece.begin; place < piece.end; ++place) {
        const ItemParts parts = PartsOf(params, params.members[place]);
        sum += static_cast<double>(ItemColumn(params, parts, column));
      }
      sums[slot * params.table.dim + column] = sum;
    }
  }
}

// Means of the interests; with kGlobal the one of all members. One thread a column.
template <bool kGlobal>
__global__ void EnvelopeMeansKernel(const __grid_constant__ EnvelopeParams params) {
  const int64_t dim = params.table.dim;
  const double* sums = kGlobal ? params.global_column_sums : params.column_sums;
  for (int64_t at = GlobalThread(); at < (kGlobal ? 1 : params.n_interests) * dim; at += GridThreads()) {
    const int64_t interest = at / dim, column = at - interest * dim;
    const int64_t begin = kGlobal ? 0 : params.starts[interest];
    const int64_t end = kGlobal ? NGrouped(params) : params.starts[interest + 1];
    const int64_t first = kGlobal ? 0 : FirstPiece(begin, interest);
    double mean = 0;
    for (int64_t piece = 0; piece * kEnvelopePiece < end - begin; ++piece)
      mean += sums[(first + piece) * dim + column];
    mean /= static_cast<double>(end > begin ? end - begin : 1);
    (kGlobal ? params.global_mean : params.mean)[at] = mean;
  }
}

// Distances of each member to the mean of its interest and to the global mean. One warp a member.
__global__ void __launch_bounds__(kThreads)
    EnvelopeDistancesKernel(const __grid_constant__ EnvelopeParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = NGrouped(params);
  for (int64_t place = GlobalThread() / kWarp; place < n; place += GridThreads() / kWarp) {
    const ItemParts parts = PartsOf(params, params.members[place]);
    const double* mean = params.mean + static_cast<int64_t>(params.sorted_keys[place]) * params.table.dim;
    float own = 0.0f, global = 0.0f;
    for (int64_t column = lane; column < params.table.dim; column += kWarp) {
      const auto e = static_cast<double>(ItemColumn(params, parts, column));
      const auto apart = static_cast<float>(e - mean[column]);
      const auto apart_global = static_cast<float>(e - params.global_mean[column]);
      own += apart * apart;
      global += apart_global * apart_global;
    }
    own = sqrtf(WarpTree(own));
    global = WarpTree(global);
    if (lane != 0) continue;
    params.distance[place] = own;
    params.squares[place] = global;
  }
}

// Sums of the numbers of a piece's members. One thread a slot.
template <bool kGlobal>
__global__ void EnvelopePiecesKernel(const __grid_constant__ EnvelopeParams params, int64_t n_slots) {
  double* sums = kGlobal ? params.global_piece_sums : params.piece_sums;
  for (int64_t slot = GlobalThread(); slot < n_slots; slot += GridThreads()) {
    const Piece piece = FindPiece<kGlobal>(params, slot);
    double squares = 0, residual = 0, central = 0;
    for (int64_t place = piece.begin; place < piece.end; ++place) {
      squares += static_cast<double>(params.squares[place]);
      residual += static_cast<double>(params.residual_norm[place]);
      central += static_cast<double>(params.central_norm[place]);
    }
    sums[3 * slot] = squares;
    sums[3 * slot + 1] = residual;
    sums[3 * slot + 2] = central;
  }
}

// Counts and means of norms. One thread an interest.
__global__ void EnvelopeInterestsKernel(const __grid_constant__ EnvelopeParams params) {
  for (int64_t interest = GlobalThread(); interest < params.n_interests; interest += GridThreads()) {
    const int64_t begin = params.starts[interest], n = params.starts[interest + 1] - begin;
    const double* pieces = params.piece_sums + 3 * FirstPiece(begin, interest);
    double squares = 0, residual = 0, central = 0;
    for (int64_t piece = 0; piece * kEnvelopePiece < n; ++piece) {
      squares += pieces[3 * piece];
      residual += pieces[3 * piece + 1];
      central += pieces[3 * piece + 2];
    }
    params.interest_squares[interest] = squares;
    if (params.count != nullptr) params.count[interest] = n;
    if (params.mean_residual_norm != nullptr) {
      params.mean_residual_norm[interest] =
          n == 0 ? 0.0f : static_cast<float>(residual / static_cast<double>(n));
    }
    if (params.mean_central_norm != nullptr) {
      params.mean_central_norm[interest] =
          n == 0 ? 0.0f : static_cast<float>(central / static_cast<double>(n));
    }
  }
}

// global[0 .. 2]; the median is global[3]. One thread.
__global__ void EnvelopeGlobalKernel(const __grid_constant__ EnvelopeParams params) {
  if (GlobalThread() > 0) return;
  const int64_t n = NGrouped(params);
  double squares = 0, residual = 0, central = 0;
  for (int64_t interest = 0; interest < params.n_interests; ++interest)
    squares += params.interest_squares[interest];
  for (int64_t piece = 0; piece * kEnvelopePiece < n; ++piece) {
    residual += params.global_piece_sums[3 * piece + 1];
    central += params.global_piece_sums[3 * piece + 2];
  }
  const auto count = static_cast<double>(n);
  params.global[0] = n == 0 ? 0.0f : static_cast<float>(sqrt(squares / count));
  params.global[1] = n == 0 ? 0.0f : static_cast<float>(residual / count);
  params.global[2] = n == 0 ? 0.0f : static_cast<float>(central / count);
}

// Radix select: four digits of 8 bits from the highest; numbers are not negative, so their bits order them
// and put NaN last. One block a stretch.
__global__ void __launch_bounds__(kThreads)
    EnvelopeSelectKernel(const __grid_constant__ EnvelopeParams params, const float* values, double quantile,
                         bool whole, float* out, int64_t out_stride) {
  RESEMBED_SHARED(unsigned long long, counts, [256]);
  RESEMBED_SHARED(unsigned long long, chosen, [2]);  // prefix, rank left
  for (int64_t interest = blockIdx.x; interest < (whole ? 1 : params.n_interests); interest += gridDim.x) {
    const int64_t begin = whole ? 0 : params.starts[interest];
    const int64_t n = (whole ? NGrouped(params) : params.starts[interest + 1]) - begin;
    int64_t of = n;  // values that are ranked
    if (quantile < 0) {
      if (threadIdx.x == 0) counts[0] = 0;
      __syncthreads();
      unsigned long long valid = 0;
      for (int64_t at = threadIdx.x; at < n; at += blockDim.x)
        valid += values[begin + at] == values[begin + at];
      atomicAdd(&counts[0], valid);
      __syncthreads();
      of = static_cast<int64_t>(counts[0]);
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      auto rank =
          quantile < 0 ? (of + 1) / 2 : static_cast<int64_t>(ceil(quantile * static_cast<double>(of)));
      rank = rank < 1 ? 1 : rank > of ? of : rank;
      chosen[0] = 0;
      chosen[1] = static_cast<unsigned long long>(rank);
    }
    __syncthreads();
    for (int shift = 24; shift >= 0; shift -= 8) {
      counts[threadIdx.x] = 0;
      __syncthreads();
      const auto prefix = static_cast<unsigned int>(chosen[0]);
      for (int64_t at = threadIdx.x; at < n; at += blockDim.x) {
        const unsigned int bits = __float_as_uint(values[begin + at]) & 0x7fffffffu;
        // The digits above this one are those chosen; above the highest there are none.
        if (shift < 24 && bits >> (shift + 8) != prefix) continue;
        atomicAdd(&counts[bits >> shift & 255u], 1ull);
      }
      __syncthreads();
      if (threadIdx.x == 0) {
        unsigned int digit = 0;
        while (digit < 255 && chosen[1] > counts[digit]) chosen[1] -= counts[digit++];
        chosen[0] = prefix << 8 | digit;
      }
      __syncthreads();
    }
    if (threadIdx.x == 0)
      out[interest * out_stride] = of == 0 ? 0.0f : __uint_as_float(static_cast<unsigned int>(chosen[0]));
    __syncthreads();
  }
}

namespace {

// Blocks for n units of work, `per_block` of them each; the kernels walk over the rest.
dim3 BlocksFor(int64_t n, int64_t per_block, int64_t most) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  return dim3(static_cast<unsigned int>(blocks < 1 ? 1 : blocks < most ? blocks : most));
}

}  // namespace

cudaError_t LaunchEnvelopeKeys(const EnvelopeParams& params, int64_t most_blocks, cudaStream_t stream) {
  return gpu::Launch(EnvelopeKeysKernel, BlocksFor(params.table.n_items, kThreads, most_blocks),
                     dim3(kThreads), 0, stream, params);
}

cudaError_t LaunchEnvelopeSums(const EnvelopeParams& params, int64_t most_blocks, cudaStream_t stream) {
  const int64_t n = params.table.n_items, dim = params.table.dim, n_interests = params.n_interests;
  const int64_t slots = PiecesFor(n, n_interests), global_slots = PiecesFor(n, 0);
  cudaError_t error = cudaSuccess;
  const auto then = [&](auto kernel, int64_t n_units, int64_t per_block, auto... more) {
    if (error != cudaSuccess) return;
    error = gpu::Launch(kernel, BlocksFor(n_units, per_block, most_blocks), dim3(kThreads), 0, stream, params,
                        more...);
  };
  then(EnvelopeStartsKernel, n + 1, kThreads);
  if (params.attention != nullptr) then(EnvelopeAttentionKernel, n, kWarpsOfBlock);
  then(EnvelopeNormsKernel, n, kWarpsOfBlock);
  then(EnvelopeColumnsKernel<true>, global_slots, 1, global_slots);
  then(EnvelopeMeansKernel<true>, dim, kThreads);
  if (n_interests > 0) {
    then(EnvelopeColumnsKernel<false>, slots, 1, slots);
    then(EnvelopeMeansKernel<false>, n_interests * dim, kThreads);
    then(EnvelopeDistancesKernel, n, kWarpsOfBlock);
    then(EnvelopePiecesKernel<false>, slots, kThreads, slots);
    then(EnvelopeInterestsKernel, n_interests, kThreads);
  }
  if (params.global != nullptr) {
    then(EnvelopePiecesKernel<true>, global_slots, kThreads, global_slots);
    then(EnvelopeGlobalKernel, 1, 1);
  }
  return error;
}

cudaError_t LaunchSelect(const EnvelopeParams& params, const float* values, double quantile, bool whole,
                         float* out, int64_t out_stride, int64_t most_blocks, cudaStream_t stream) {
  return gpu::Launch(EnvelopeSelectKernel, BlocksFor(whole ? 1 : params.n_interests, 1, most_blocks),
                     dim3(kThreads), 0, stream, params, values, quantile, whole, out, out_stride);
}

}  // namespace resembed::kernels
