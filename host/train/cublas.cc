// SPDX-License-Identifier: Apache-2.0
#include "host/train/cublas.h"

#ifdef RESEMBED_HAVE_CUBLAS
#include <dlfcn.h>

#include <cstdlib>
#include <vector>

namespace resembed::train {

std::unique_ptr<Cublas> Cublas::Load(std::string* what) {
  const char* const chosen = std::getenv("RESEMBED_CUBLAS");
  std::vector<std::string> names = {"libcublas.so." + std::to_string(CUBLAS_VER_MAJOR), "libcublas.so"};
  if (chosen != nullptr && chosen[0] != '\0') names = {chosen};
  void* library = nullptr;
  what->clear();
  for (const std::string& name : names) {
    library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) {
      *what = name;
      break;
    }
    *what += (what->empty() ? "" : "; ") + std::string(dlerror());
  }
  if (library == nullptr) return nullptr;
  auto cublas = std::make_unique<Cublas>();
  std::string missing;
  const auto find = [&](const char* name, auto* function) {
    *function = reinterpret_cast<std::decay_t<decltype(*function)>>(dlsym(library, name));
    if (*function == nullptr) missing = name;
  };
  find("cublasCreate_v2", &cublas->create);
  find("cublasDestroy_v2", &cublas->destroy);
  find("cublasGetVersion_v2", &cublas->get_version);
  find("cublasSetStream_v2", &cublas->set_stream);
  find("cublasSetWorkspace_v2", &cublas->set_workspace);
  find("cublasSetMathMode", &cublas->set_math_mode);
  find("cublasSetAtomicsMode", &cublas->set_atomics_mode);
  find("cublasSgemm_v2", &cublas->sgemm);
  if (missing.empty()) return cublas;
  *what += " has no " + missing;
  dlclose(library);
  return nullptr;
}

}  // namespace resembed::train
#endif
