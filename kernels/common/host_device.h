// SPDX-License-Identifier: Apache-2.0
// Functions that host code and kernels share.
#pragma once

#ifdef __CUDACC__
#define RESEMBED_HOST_DEVICE __host__ __device__
#else
#define RESEMBED_HOST_DEVICE
#endif
