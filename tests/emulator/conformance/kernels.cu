// SPDX-License-Identifier: Apache-2.0
#include "kernels/gpu.cuh"
#include "tests/emulator/conformance/kernels.h"

namespace resembed::conformance {
namespace {

template <class T>
__global__ void ShuffleKernel(Shuffle op, unsigned mask, int width, const uint64_t* in, const int* argument,
                              uint64_t* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if ((mask >> lane & 1u) == 0) return;
  union Word {
    uint64_t word;
    T value;
    __device__ Word() : word(0) {}
  } word;
  word.word = in[lane];
  const int a = argument[lane];
  T result = word.value;
  if (op == Shuffle::kIndex) result = __shfl_sync(mask, word.value, a, width);
  if (op == Shuffle::kUp) result = __shfl_up_sync(mask, word.value, static_cast<unsigned>(a), width);
  if (op == Shuffle::kDown) result = __shfl_down_sync(mask, word.value, static_cast<unsigned>(a), width);
  if (op == Shuffle::kXor) result = __shfl_xor_sync(mask, word.value, a, width);
  word.word = 0;
  word.value = result;
  out[lane] = word.word;
}

__global__ void VoteKernel(unsigned mask, const int* in, unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if ((mask >> lane & 1u) == 0) return;
  unsigned* const mine = out + 6 * lane;
  const int value = in[lane];
  mine[0] = __ballot_sync(mask, value);
  mine[1] = static_cast<unsigned>(__any_sync(mask, value));
  mine[2] = static_cast<unsigned>(__all_sync(mask, value));
  mine[3] = __match_any_sync(mask, value);
  int all = -1;
  mine[4] = __match_all_sync(mask, value, &all);
  mine[5] = static_cast<unsigned>(all);
}

__global__ void ReduceKernel(unsigned mask, const int* in, unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if ((mask >> lane & 1u) == 0) return;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  unsigned* const mine = out + 9 * lane;
  const int value = in[lane];
  const unsigned bits = static_cast<unsigned>(value);
  mine[0] = static_cast<unsigned>(__reduce_add_sync(mask, value));
  mine[1] = static_cast<unsigned>(__reduce_min_sync(mask, value));
  mine[2] = static_cast<unsigned>(__reduce_max_sync(mask, value));
  mine[3] = __reduce_add_sync(mask, bits);
  mine[4] = __reduce_min_sync(mask, bits);
  mine[5] = __reduce_max_sync(mask, bits);
  mine[6] = __reduce_and_sync(mask, bits);
  mine[7] = __reduce_or_sync(mask, bits);
  mine[8] = __reduce_xor_sync(mask, bits);
#endif
}

__global__ void DivergentKernel(const int* in, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int sum = in[lane];
  if (lane % 2 == 0) {
    for (int distance = 2; distance < 32; distance *= 2) sum += __shfl_xor_sync(0x55555555u, sum, distance);
  } else {
    for (int distance = 16; distance > 1; distance /= 2) sum += __shfl_xor_sync(0xaaaaaaaau, sum, distance);
    sum = -sum;
  }
  __syncwarp();
  out[lane] = sum;
}

__global__ void AfterExitKernel(int first, const int* in, unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane >= first) return;
  out[lane] = __ballot_sync(0xffffffffu, in[lane]);
}

__global__ void BlockVoteKernel(const int* in, int* out) {
  const int value = in[threadIdx.x];
  int* const mine = out + 3 * threadIdx.x;
  mine[0] = __syncthreads_count(value);
  mine[1] = __syncthreads_and(value) != 0;
  mine[2] = __syncthreads_or(value) != 0;
}

__global__ void NamedBarrierKernel(int n_rounds, const int* in, int* out) {
  RESEMBED_SHARED(int, buffer, [32]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x < 32) {
    for (int round = 0; round < n_rounds; ++round) {
      buffer[lane] = in[32 * round + lane];
      __barrier_sync_count(1, 64);  // full
      __barrier_sync_count(2, 64);  // empty
    }
  } else {
    for (int round = 0; round < n_rounds; ++round) {
      __barrier_sync_count(1, 64);
      int sum = 0;
      for (int i = 0; i < 32; ++i) sum += buffer[i] * (i + lane);
      out[32 * round + lane] = sum;
      __barrier_sync_count(2, 64);
    }
  }
}

__global__ void SharedKernel(const float* in, float* out) {
  RESEMBED_SHARED(float, tile, [32][33]);
  RESEMBED_SHARED_DYN(float, extra);
  const int column = static_cast<int>(threadIdx.x), row = static_cast<int>(threadIdx.y);
  tile[row][column] = in[32 * row + column];
  if (row == 0) extra[column] = static_cast<float>(100 * column);
  __syncthreads();
  out[32 * row + column] = tile[column][row] + extra[row];
}

__global__ void AtomicKernel(const int* in, uint64_t* results, unsigned* tickets) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int value = in[thread];
  int* const ints = reinterpret_cast<int*>(results);  // 8 bytes each, the low ones used
  unsigned* const words = reinterpret_cast<unsigned*>(results);
  atomicAdd(ints + 0, value);
  tickets[2 * thread] = atomicAdd(words + 2, 1u);
  atomicAdd(reinterpret_cast<unsigned long long*>(results + 2), static_cast<unsigned long long>(value) << 20);
  atomicAdd(reinterpret_cast<float*>(results + 3), static_cast<float>(value));
  atomicSub(ints + 8, value);
  atomicMin(ints + 10, value);
  atomicMax(ints + 12, value);
  atomicAnd(words + 14, ~(1u << (thread % 32)));
  atomicOr(words + 16, 1u << (thread % 31));
  atomicXor(words + 18, static_cast<unsigned>(value));
  unsigned seen = 0, assumed;
  do {
    assumed = seen;
    seen = atomicCAS(words + 20, assumed, assumed + 3);
  } while (seen != assumed);
  atomicInc(words + 22, 6);
  atomicDec(words + 24, 6);
  tickets[2 * thread + 1] = atomicExch(words + 26, thread);
}

__global__ void LastBlockKernel(const int* in, int* partial, unsigned* counter, int* out) {
  RESEMBED_SHARED(int, is_last, [1]);
  const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  partial[32 * block + thread] = in[32 * block + thread] * (block + 1);
  __threadfence();
  __syncthreads();
  if (thread == 0) is_last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
  __syncthreads();
  if (is_last[0] == 0) return;
  __threadfence();
  unsigned sum = 0;
  for (int b = 0; b < static_cast<int>(gridDim.x); ++b)
    sum = 3 * sum + static_cast<unsigned>(partial[32 * b + thread]);
  out[thread] = static_cast<int>(sum);
}

__global__ void ScalarKernel(int n, const unsigned* as, const unsigned* bs, uint64_t* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const unsigned a = as[i], b = bs[i];
  const unsigned long long wide = static_cast<unsigned long long>(b) << 32 | a;
  const float real = __uint_as_float(a);
  const uint64_t results[kScalars] = {
      static_cast<uint64_t>(__popc(a)),
      static_cast<uint64_t>(__popcll(wide)),
      static_cast<uint64_t>(__clz(static_cast<int>(a))),
      static_cast<uint64_t>(__clzll(static_cast<long long>(wide))),
      static_cast<uint64_t>(__ffs(static_cast<int>(a))),
      static_cast<uint64_t>(__ffsll(static_cast<long long>(wide))),
      __brev(a),
      __umulhi(a, b),
      static_cast<uint32_t>(__mulhi(static_cast<int>(a), static_cast<int>(b))),
      __umul64hi(wide, wide * 3 + 1),
      __byte_perm(a, b, 0x7531u),
      __byte_perm(a, b, a >> 3 & 0xffffu),
      __funnelshift_l(a, b, b),
      __funnelshift_r(a, b, b),
      __float_as_uint(__uint_as_float(a)),
      static_cast<uint32_t>(__float_as_int(__int_as_float(static_cast<int>(b)))),
      static_cast<uint32_t>(__float2int_rz(real)),
      static_cast<uint32_t>(__float2int_rn(real)),
      static_cast<uint32_t>(__float2int_rd(real)),
      static_cast<uint32_t>(__float2int_ru(real)),
      __float2uint_rz(real),
      __float_as_uint(__saturatef(real)),
      __float_as_uint(__int2float_rn(static_cast<int>(a))),
      static_cast<uint64_t>(min(static_cast<int>(a), static_cast<int>(b))) << 32 |
          static_cast<uint32_t>(max(static_cast<int>(a), static_cast<int>(b))),
  };
  for (int j = 0; j < kScalars; ++j) out[kScalars * i + j] = results[j];
}

__global__ void ArithmeticKernel(int n, const float* as, const float* bs, float* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const float a = as[i], b = bs[i];
  out[6 * i + 0] = __fadd_rn(a, b);
  out[6 * i + 1] = __fsub_rn(a, b);
  out[6 * i + 2] = __fmul_rn(a, b);
  out[6 * i + 3] = __fdiv_rn(a, b);
  out[6 * i + 4] = __fsqrt_rn(fabsf(a));
  out[6 * i + 5] = __fmaf_rn(a, b, a);
}

__global__ void ConversionKernel(int n, const float* in, uint16_t* to_half, uint16_t* to_bf16,
                                 float* from_half, float* from_bf16) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) {
    to_half[i] = __half_as_ushort(__float2half_rn(in[i]));
    to_bf16[i] = __bfloat16_as_ushort(__float2bfloat16_rn(in[i]));
  }
  if (i < 65536) {
    from_half[i] = __half2float(__ushort_as_half(static_cast<unsigned short>(i)));
    from_bf16[i] = __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(i)));
  }
}

template <class Word>
__device__ void CopyWords(int n, const unsigned char* in, unsigned char* streamed, unsigned char* cached) {
  const int n_words = n / static_cast<int>(sizeof(Word));
  for (int i = static_cast<int>(threadIdx.x); i < n_words; i += static_cast<int>(blockDim.x)) {
    const Word* const from = reinterpret_cast<const Word*>(in) + i;
    gpu::StoreStreaming(reinterpret_cast<Word*>(streamed) + i, gpu::LoadStreaming(from));
    reinterpret_cast<Word*>(cached)[i] = __ldca(from);
  }
}

__global__ void LoadKernel(int n, const unsigned char* in, unsigned char* out) {
  CopyWords<unsigned char>(n, in, out, out + n);
  CopyWords<unsigned short>(n, in, out + 2 * n, out + 3 * n);
  CopyWords<float>(n, in, out + 4 * n, out + 5 * n);
  CopyWords<float2>(n, in, out + 6 * n, out + 7 * n);
  CopyWords<uint4>(n, in, out + 8 * n, out + 9 * n);
}

__global__ void IndexKernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned at = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[at] = at;
}

}  // namespace

cudaError_t RunShuffle(Shuffle op, Value type, unsigned mask, int width, int n_lanes, const uint64_t* in,
                       const int* argument, uint64_t* out, cudaStream_t stream) {
  const dim3 block(static_cast<unsigned>(n_lanes));
  switch (type) {
    case Value::kInt:
      return gpu::Launch(ShuffleKernel<int>, dim3(1), block, 0, stream, op, mask, width, in, argument, out);
    case Value::kUnsigned:
      return gpu::Launch(ShuffleKernel<unsigned>, dim3(1), block, 0, stream, op, mask, width, in, argument,
                         out);
    case Value::kFloat:
      return gpu::Launch(ShuffleKernel<float>, dim3(1), block, 0, stream, op, mask, width, in, argument, out);
    case Value::kInt64:
      return gpu::Launch(ShuffleKernel<long long>, dim3(1), block, 0, stream, op, mask, width, in, argument,
                         out);
    case Value::kDouble:
      return gpu::Launch(ShuffleKernel<double>, dim3(1), block, 0, stream, op, mask, width, in, argument,
                         out);
    default:
      return gpu::Launch(ShuffleKernel<__half>, dim3(1), block, 0, stream, op, mask, width, in, argument,
                         out);
  }
}
cudaError_t RunVotes(unsigned mask, int n_lanes, const int* in, unsigned* out, cudaStream_t stream) {
  return gpu::Launch(VoteKernel, dim3(1), dim3(static_cast<unsigned>(n_lanes)), 0, stream, mask, in, out);
}
cudaError_t RunReduce(unsigned mask, int n_lanes, const int* in, unsigned* out, cudaStream_t stream) {
  return gpu::Launch(ReduceKernel, dim3(1), dim3(static_cast<unsigned>(n_lanes)), 0, stream, mask, in, out);
}
cudaError_t RunDivergent(const int* in, int* out, cudaStream_t stream) {
  return gpu::Launch(DivergentKernel, dim3(1), dim3(32), 0, stream, in, out);
}
cudaError_t RunAfterExit(int first, const int* in, unsigned* out, cudaStream_t stream) {
  return gpu::Launch(AfterExitKernel, dim3(1), dim3(32), 0, stream, first, in, out);
}
cudaError_t RunBlockVotes(int n_threads, const int* in, int* out, cudaStream_t stream) {
  return gpu::Launch(BlockVoteKernel, dim3(1), dim3(static_cast<unsigned>(n_threads)), 0, stream, in, out);
}
cudaError_t RunNamedBarriers(int n_rounds, const int* in, int* out, cudaStream_t stream) {
  return gpu::Launch(NamedBarrierKernel, dim3(1), dim3(64), 0, stream, n_rounds, in, out);
}
cudaError_t RunShared(const float* in, float* out, cudaStream_t stream) {
  return gpu::Launch(SharedKernel, dim3(1), dim3(32, 32), 32 * sizeof(float), stream, in, out);
}
cudaError_t RunAtomics(int n_threads, const int* in, uint64_t* results, unsigned* tickets,
                       cudaStream_t stream) {
  return gpu::Launch(AtomicKernel, dim3(static_cast<unsigned>(n_threads / 64)), dim3(64), 0, stream, in,
                     results, tickets);
}
cudaError_t RunLastBlock(int n_blocks, const int* in, int* partial, unsigned* counter, int* out,
                         cudaStream_t stream) {
  return gpu::Launch(LastBlockKernel, dim3(static_cast<unsigned>(n_blocks)), dim3(32), 0, stream, in, partial,
                     counter, out);
}
cudaError_t RunScalars(int n, const unsigned* a, const unsigned* b, uint64_t* out, cudaStream_t stream) {
  return gpu::Launch(ScalarKernel, dim3(static_cast<unsigned>(n + 127) / 128), dim3(128), 0, stream, n, a, b,
                     out);
}
cudaError_t RunArithmetic(int n, const float* a, const float* b, float* out, cudaStream_t stream) {
  return gpu::Launch(ArithmeticKernel, dim3(static_cast<unsigned>(n + 127) / 128), dim3(128), 0, stream, n, a,
                     b, out);
}
cudaError_t RunConversions(int n, const float* in, uint16_t* to_half, uint16_t* to_bf16, float* from_half,
                           float* from_bf16, cudaStream_t stream) {
  const int n_threads = n > 65536 ? n : 65536;
  return gpu::Launch(ConversionKernel, dim3(static_cast<unsigned>(n_threads + 127) / 128), dim3(128), 0,
                     stream, n, in, to_half, to_bf16, from_half, from_bf16);
}
cudaError_t RunLoads(int n, const unsigned char* in, unsigned char* out, cudaStream_t stream) {
  return gpu::Launch(LoadKernel, dim3(1), dim3(64), 0, stream, n, in, out);
}
cudaError_t RunIndices(dim3 grid, dim3 block, unsigned* out, cudaStream_t stream) {
  return gpu::Launch(IndexKernel, grid, block, 0, stream, out);
}

}  // namespace resembed::conformance
