// SPDX-License-Identifier: Apache-2.0
// Runs a model that Python saved with torch.jit.save, without Python:
//
//   torchscript_load MODEL.pt [INPUTS.pt]
//
// INPUTS.pt is a tuple of tensors written by torch.save; without it, the model's own example() is asked. Prints each
// output tensor: shape, then values.
//
// The operations come from libresembed_torch.so, which has to be in the process before the model is loaded. This
// program links it and calls it once, because linkers drop a library that nothing refers to:
//
//   T=$(python3 -c "import torch; print(torch.__path__[0])")
//   c++ -std=c++17 -O2 torchscript_load.cc -o torchscript_load -I$T/include -I$T/include/torch/csrc/api/include \
//     libresembed_torch.so -L$T/lib -ltorch -ltorch_cpu -lc10 -Wl,-rpath,$T/lib -Wl,-rpath,'$ORIGIN'
//
// dlopen("libresembed_torch.so", RTLD_NOW) before torch::jit::load does as well.
#include <torch/script.h>

#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

extern "C" int32_t resembed_torch_init();  // returns the version, 10000 * major + 100 * minor + patch

namespace {

std::vector<c10::IValue> ElementsOf(const c10::IValue& value) {
  return value.isTuple() ? value.toTuple()->elements().vec() : std::vector<c10::IValue>{value};
}

c10::IValue ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  TORCH_CHECK(file.good(), "torchscript_load: ", path, " cannot be opened");
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return torch::jit::pickle_load(bytes);
}

void Run(const char* model_path, const char* inputs_path) {
  torch::jit::Module model = torch::jit::load(model_path);
  model.eval();
  const c10::InferenceMode no_gradients;
  const std::vector<c10::IValue> inputs =
      ElementsOf(inputs_path != nullptr ? ReadFile(inputs_path) : model.get_method("example")({}));
  for (const c10::IValue& output : ElementsOf(model.forward(inputs))) {
    const at::Tensor values = output.toTensor().to(at::kFloat).cpu().contiguous();
    std::cout << values.sizes() << ':';
    std::cout.precision(9);
    for (int64_t index = 0; index < values.numel(); ++index)
      std::cout << ' ' << values.const_data_ptr<float>()[index];
    std::cout << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: torchscript_load MODEL.pt [INPUTS.pt]\n";
    return 2;
  }
  try {
    std::cout << "resembed " << resembed_torch_init() << '\n';
    Run(argv[1], argc == 3 ? argv[2] : nullptr);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
