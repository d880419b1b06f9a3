// SPDX-License-Identifier: Apache-2.0
// The rule of one update, from what the caller gave and what lies in device memory.
#include "kernels/common/rows.cuh"
#include "kernels/step/step.h"

namespace resembed::kernels {
namespace {

// b^t by squaring, as on the CPU.
__device__ double Power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 != 0) result *= base;
    base *= base;
  }
  return result;
}

__device__ __forceinline__ void Resolve(const RuleParams& params) {
  ResolvedRule rule = {};
  rule.scale = params.grad_scale;
  if (params.inv_scale_device != nullptr) rule.scale = rule.scale * *params.inv_scale_device;
  const float lr = params.lr_device != nullptr ? *params.lr_device : params.lr;
  const int64_t step = params.step_device != nullptr ? *params.step_device : params.step;
  rule.l2 = params.decoupled ? 0.0f : params.weight_decay;
  rule.keep = params.decoupled ? 1.0f - lr * params.weight_decay : 1.0f;
  rule.lr = lr;
  rule.eps = params.eps;
  rule.beta1 = params.beta1;
  rule.rest1 = 1.0f - params.beta1;
  rule.beta2 = params.beta2;
  rule.rest2 = 1.0f - params.beta2;
  if (params.kind == RESEMBED_ADAM || params.kind == RESEMBED_PARTIAL_ROWWISE_ADAM) {
    rule.lr = static_cast<float>(static_cast<double>(lr) / (1.0 - Power(params.beta1, step)));
    rule.correct2 = static_cast<float>(1.0 - Power(params.beta2, step));
  }
  rule.max_norm = params.max_row_norm;
  rule.step = static_cast<uint32_t>(step);
  // A step count below 1 is refused where the host can see it.
  rule.skip = (params.counts_steps && step < 1) ||
              (params.found_inf_device != nullptr && *params.found_inf_device != 0.0f);
  *params.rule = rule;
}

__global__ void ResolveRulesKernel(const RuleParams* rules, int32_t n) {
  for (int64_t at = FirstThread(); at < n; at += ThreadStride()) Resolve(rules[at]);
}

}  // namespace

cudaError_t LaunchResolveRules(const RuleParams* rules, int32_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  return gpu::Launch(ResolveRulesKernel, dim3(static_cast<unsigned int>((n + kLanes - 1) / kLanes)), dim3(kLanes), 0,
                     stream, rules, n);
}

int64_t UpdateBlocks(bool wide, int64_t n, const Grid& grid) {
  return (n * (wide ? Group<4>::kSize : Group<1>::kSize) + grid.threads - 1) / grid.threads;
}

}  // namespace resembed::kernels
