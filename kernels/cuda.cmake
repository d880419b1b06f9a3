# Decides RESEMBED_CUDA: whether the cuda backend is built. Included once, at the top, because CMake wants
# enable_language() there.
#   RESEMBED_ENABLE_CUDA    AUTO: with a usable nvcc; ON: fails without one; OFF: never
#   RESEMBED_CUDA           TRUE when the backend is built
#   RESEMBED_CUDA_INCLUDE   folder of the toolkit's headers, empty when there are none. They are enough to
#                           compile the kernels for the CPU emulator and the NVTX ranges; neither needs nvcc.
set(RESEMBED_ENABLE_CUDA AUTO CACHE STRING "The cuda backend: AUTO, ON or OFF")
set_property(CACHE RESEMBED_ENABLE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(RESEMBED_CUDA FALSE)

if(RESEMBED_ENABLE_CUDA STREQUAL "AUTO" OR RESEMBED_ENABLE_CUDA)
  # nvcc is often installed and not on PATH. An empty RESEMBED_NVCC hides it.
  find_program(RESEMBED_NVCC nvcc PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(RESEMBED_NVCC)
  if(RESEMBED_NVCC AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} ${RESEMBED_NVCC})
  endif()
  # Without a default CMake silently picks compute capability 7.5.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90-real CACHE STRING "GPU architectures; the preset `release` has the whole list")
  endif()
  if(DEFINED ENV{CUDACXX})
    include(CheckLanguage)
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.0)
      set(RESEMBED_CUDA TRUE)
      set(why "nvcc ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
    else()
      set(why "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 12.0")
    endif()
  elseif(DEFINED ENV{CUDACXX})
    set(why "$ENV{CUDACXX} cannot compile with this host compiler")
  else()
    set(why "no nvcc found: looked on PATH and in CUDACXX, CUDA_HOME, CUDA_PATH, /usr/local/cuda")
  endif()
  if(RESEMBED_ENABLE_CUDA STREQUAL "AUTO")
    if(RESEMBED_CUDA)
      message(STATUS "RESEMBED_ENABLE_CUDA=AUTO chose ON: ${why}")
    else()
      message(STATUS "RESEMBED_ENABLE_CUDA=AUTO chose OFF: ${why}")
    endif()
  elseif(NOT RESEMBED_CUDA)
    message(FATAL_ERROR "RESEMBED_ENABLE_CUDA is ${RESEMBED_ENABLE_CUDA}; needs a usable nvcc, 12.0 or newer (${why})")
  endif()
endif()

if(RESEMBED_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()
find_path(RESEMBED_CUDA_INCLUDE cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS}
  PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES include)
mark_as_advanced(RESEMBED_CUDA_INCLUDE)
if(NOT RESEMBED_CUDA_INCLUDE)
  set(RESEMBED_CUDA_INCLUDE "")
endif()

# The kernels, their host side and their tests, by path from the root:
#   RESEMBED_KERNEL_SOURCES     .cu compiled by nvcc, and as C++ for the emulator
#   RESEMBED_THRUST_SOURCES     .cu that include Thrust or CUB; in CI with Thrust's host backend
#   RESEMBED_CUDA_HOST_SOURCES  .cc of the backend
#   RESEMBED_CUDA_TESTS         .cc, GoogleTest, run emulated and on a GPU
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake OPTIONAL)
include(${CMAKE_CURRENT_LIST_DIR}/graph/sources.cmake OPTIONAL)

# A list may run ahead of its files while a kernel is being written; the backend is built when all are there.
foreach(file IN LISTS RESEMBED_KERNEL_SOURCES RESEMBED_THRUST_SOURCES RESEMBED_CUDA_HOST_SOURCES)
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/${file})
    if(RESEMBED_CUDA AND NOT RESEMBED_ENABLE_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "RESEMBED_ENABLE_CUDA is ${RESEMBED_ENABLE_CUDA}; needs ${file}, which is not there")
    endif()
    message(STATUS "cuda backend left out: ${file} is not there")
    set(RESEMBED_KERNEL_SOURCES "")
    break()
  endif()
endforeach()
if(NOT RESEMBED_KERNEL_SOURCES)
  set(RESEMBED_CUDA FALSE)
endif()
