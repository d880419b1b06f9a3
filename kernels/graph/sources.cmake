# The interest graph on a GPU: Thrust and CUB under nvcc; the same sources with Thrust's host backend in the
# tests.
set(RESEMBED_THRUST_SOURCES
  kernels/graph/lists.cu
  kernels/graph/pairs.cu
)
list(APPEND RESEMBED_CUDA_TESTS
  tests/graph/device_test.cc
)
