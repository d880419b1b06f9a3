// SPDX-License-Identifier: Apache-2.0
#include "kernels/step/step.cuh"

template cudaError_t resembed::kernels::LaunchUpdate<RESEMBED_ADAM>(const Batch<UpdateParams>& batch, bool wide,
    const Grid& grid, cudaStream_t stream);
