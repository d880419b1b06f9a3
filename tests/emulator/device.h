// SPDX-License-Identifier: Apache-2.0
//
// Device code for a plain C++ compiler: kernels/gpu.cuh includes this where nvcc would bring its own language. The
// toolkit's headers give types, half and bfloat16 conversions and arithmetic; the rest is here and in the headers
// below. Without __CUDACC__ the toolkit defines __global__, __device__ and their like as nothing.
#ifndef RESEMBED_TESTS_EMULATOR_DEVICE_H_
#define RESEMBED_TESTS_EMULATOR_DEVICE_H_

#ifdef __CUDACC__
#error "nvcc compiles kernels against the toolkit"
#endif

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "tests/emulator/atomics.h"
#include "tests/emulator/builtin.h"
#include "tests/emulator/engine.h"
#include "tests/emulator/scalar.h"
#include "tests/emulator/warp.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif
#ifndef __forceinline__
#define __forceinline__ inline __attribute__((always_inline))
#endif

#define RESEMBED_SHARED(T, name, ...)                        \
  using name##_type = T __VA_ARGS__;                         \
  static char name##_key; /* one for each kernel instance */ \
  name##_type& name = *static_cast<name##_type*>(            \
      ::resembed::emulator::SharedStatic(&name##_key, sizeof(name##_type), alignof(name##_type)))
#define RESEMBED_SHARED_DYN(T, name) T* const name = static_cast<T*>(::resembed::emulator::SharedDynamic())

#endif  // RESEMBED_TESTS_EMULATOR_DEVICE_H_
