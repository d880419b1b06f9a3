# Sources of the cuda backend, from the root of the project. Kernels are compiled by nvcc for the library and by
# the host compiler, with the emulator, for tests; host/cuda is host code on both sides.
set(RESEMBED_KERNEL_SOURCES
  kernels/forward/inst_f32_f32.cu
  kernels/forward/inst_f32_f16.cu
  kernels/forward/inst_f32_bf16.cu
  kernels/forward/inst_f16_f32.cu
  kernels/forward/inst_f16_f16.cu
  kernels/forward/inst_f16_bf16.cu
  kernels/forward/inst_bf16_f32.cu
  kernels/forward/inst_bf16_f16.cu
  kernels/forward/inst_bf16_bf16.cu
  kernels/forward/service.cu
  kernels/plan/plan.cu
  kernels/sort/sort.cu
)
set(RESEMBED_CUDA_HOST_SOURCES
  host/cuda/device.cc
  host/cuda/forward.cc
  host/cuda/launch_tables.cc
  host/cuda/plan.cc
)
set(RESEMBED_CUDA_TESTS
  tests/cuda/cuda_forward_test.cc
  tests/cuda/cuda_plan_test.cc
  tests/cuda/cuda_materialize_test.cc
  tests/cuda/cuda_refusals_test.cc
)
