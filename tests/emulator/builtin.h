// SPDX-License-Identifier: Apache-2.0
//
// The names that the compiler gives a kernel without a header. The toolkit's headers declare them for nvcc only.
#ifndef RESEMBED_TESTS_EMULATOR_BUILTIN_H_
#define RESEMBED_TESTS_EMULATOR_BUILTIN_H_

#include <vector_types.h>

inline uint3 threadIdx, blockIdx;  // of the running thread; set at every switch
inline dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

#endif  // RESEMBED_TESTS_EMULATOR_BUILTIN_H_
