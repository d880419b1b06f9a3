# What of the trainer speaks to the CUDA runtime, apart so that tests can link it with the emulated one; by path from the
# root. RESEMBED_TRAIN_KERNELS: by nvcc, and as C++ for the emulator.
set(RESEMBED_TRAIN_DEVICE_SOURCES host/train/cublas.cc host/train/dense_device.cc host/train/device.cc)
set(RESEMBED_TRAIN_KERNELS host/train/dense_kernels.cu)
