// SPDX-License-Identifier: Apache-2.0
#include "kernels/backward/backward.cuh"

template cudaError_t resembed::kernels::LaunchBackward<false, 4>(
    BackwardPass pass, const Batch<BackwardParams>& batch, bool one_tile, const Grid& grid, cudaStream_t stream);
