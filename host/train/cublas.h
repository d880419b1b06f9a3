// SPDX-License-Identifier: Apache-2.0
// The few functions of cuBLAS that the trainer calls, found when it runs: a trainer that was built where
// cublas_v2.h is also runs where the library is not.
#pragma once

#if defined(RESEMBED_TRAIN_CUDA) && __has_include(<cublas_v2.h>)
#define RESEMBED_HAVE_CUBLAS
#include <cublas_v2.h>

#include <memory>
#include <string>

namespace resembed::train {

struct Cublas {
  // RESEMBED_CUBLAS of the environment, where it names a file; else libcublas.so of the major version of the
  // header, else libcublas.so, as the dynamic linker finds them. Null, with *what = why not; else *what names
  // the library. Stays loaded.
  static std::unique_ptr<Cublas> Load(std::string* what);

  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasGetVersion_v2) get_version = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  decltype(&cublasSetMathMode) set_math_mode = nullptr;
  decltype(&cublasSetAtomicsMode) set_atomics_mode = nullptr;
  decltype(&cublasSgemm_v2) sgemm = nullptr;
};

}  // namespace resembed::train
#endif
