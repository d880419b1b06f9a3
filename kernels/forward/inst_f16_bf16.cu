// SPDX-License-Identifier: Apache-2.0
#include "kernels/forward/forward.cuh"

template cudaError_t resembed::kernels::LaunchForward<__half, __nv_bfloat16>(const ForwardVariant& variant,
                                                                             const ForwardParams& params,
                                                                             const LaunchShape& shape,
                                                                             cudaStream_t stream);
