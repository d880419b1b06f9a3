// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the conformance kernels: every intrinsic that the library's kernels use or may use, one warp or one
// block at a time. Pointers are device memory; a lane or thread that takes no part writes nothing.
#ifndef RESEMBED_TESTS_EMULATOR_CONFORMANCE_KERNELS_H_
#define RESEMBED_TESTS_EMULATOR_CONFORMANCE_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace resembed::conformance {

enum class Shuffle : int { kIndex, kUp, kDown, kXor };
enum class Value : int { kInt, kUnsigned, kFloat, kInt64, kDouble, kHalf };

// out[lane] = the shuffle of in[lane] with argument[lane], for the lanes of mask; 8 bytes a lane, low bytes used.
cudaError_t RunShuffle(Shuffle op, Value type, unsigned mask, int width, int n_lanes, const std::uint64_t* in,
                       const int* argument, std::uint64_t* out, cudaStream_t stream);

// out[lane] = {ballot, any, all, match_any, match_all, match_all's predicate}
cudaError_t RunVotes(unsigned mask, int n_lanes, const int* in, unsigned* out, cudaStream_t stream);

// out[lane] = add, min, max of int; add, min, max, and, or, xor of unsigned; sm_80 and up.
cudaError_t RunReduce(unsigned mask, int n_lanes, const int* in, unsigned* out, cudaStream_t stream);

// Odd and even lanes go separate ways and sum among themselves, five rounds each.
cudaError_t RunDivergent(const int* in, int* out, cudaStream_t stream);

// Lanes from `first` on leave; the others sum over the full mask with xor shuffles of width 8 within lanes < 8.
cudaError_t RunAfterExit(int first, const int* in, unsigned* out, cudaStream_t stream);

// out[thread] = {count, and, or} of (in != 0) over the block.
cudaError_t RunBlockVotes(int n_threads, const int* in, int* out, cudaStream_t stream);

// Warp 0 writes rounds of 32 values, warp 1 sums them; two named barriers hand the buffer to and fro.
cudaError_t RunNamedBarriers(int n_rounds, const int* in, int* out, cudaStream_t stream);

// Block transposes a 32 x 32 tile through static shared memory and adds 32 values of dynamic shared memory.
cudaError_t RunShared(const float* in, float* out, cudaStream_t stream);

// sums = {int add, unsigned add, 64-bit add, float add of integers, sub, min, max, and, or, xor, CAS loop, inc, dec}
// over n_threads threads; tickets[thread] = what atomicAdd and atomicExch returned.
cudaError_t RunAtomics(int n_threads, const int* in, std::uint64_t* results, unsigned* tickets,
                       cudaStream_t stream);

// Blocks leave partial sums, the last to arrive adds them in order: __threadfence and a counter.
cudaError_t RunLastBlock(int n_blocks, const int* in, int* partial, unsigned* counter, int* out,
                         cudaStream_t stream);

// out[i][24]: scalar intrinsics of a[i], b[i] (kernels.cu has the list).
constexpr int kScalars = 24;
cudaError_t RunScalars(int n, const unsigned* a, const unsigned* b, std::uint64_t* out, cudaStream_t stream);

// out[i] = {a+b, a-b, a*b, a/b, sqrt(|a|), fma(a,b,a)} in float, rounded to nearest even.
cudaError_t RunArithmetic(int n, const float* a, const float* b, float* out, cudaStream_t stream);

// to[i] = the 16-bit patterns of half and bfloat16 of in[i], from[i] = all patterns i < 65536 as floats.
cudaError_t RunConversions(int n, const float* in, std::uint16_t* to_half, std::uint16_t* to_bf16,
                           float* from_half, float* from_bf16, cudaStream_t stream);

// Copies n bytes with words of 1, 2, 4, 8 and 16 bytes, streaming and cached: ten copies, one after the other.
cudaError_t RunLoads(int n, const unsigned char* in, unsigned char* out, cudaStream_t stream);

// out[block * threads + thread] = linear index from blockIdx, threadIdx, blockDim, gridDim of a 3-D launch.
cudaError_t RunIndices(dim3 grid, dim3 block, unsigned* out, cudaStream_t stream);

}  // namespace resembed::conformance

#endif  // RESEMBED_TESTS_EMULATOR_CONFORMANCE_KERNELS_H_
