// SPDX-License-Identifier: Apache-2.0
#include "kernels/forward/forward.cuh"

template cudaError_t resembed::kernels::LaunchForward<__half, __half>(const ForwardVariant& variant,
                                                                      const ForwardParams& params,
                                                                      const LaunchShape& shape,
                                                                      cudaStream_t stream);
