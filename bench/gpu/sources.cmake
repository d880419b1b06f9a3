# What a build for a GPU and the emulated one share, from bench/gpu.
set(graph_gpu_bench_sources device.cc graph_gpu_bench.cc kernels.cu ../support/zipf.cc)
set(gpu_bench_sources device.cc forward_gpu_bench.cc forward_problem.cc kernels.cu streams.cc workload.cc
  ../support/zipf.cc)
set(step_gpu_bench_sources device.cc kernels.cu step_gpu_bench.cc step_kernels.cu step_problem.cc step_trainer.cc
  step_workload.cc streams.cc workload.cc ../support/zipf.cc)
