# The trainer with its tables on a device: emulated, and against the real backend where nvcc is. Included after
# tests/gpu, which makes resembed_emulated.
if(NOT RESEMBED_BUILD_TRAIN OR NOT RESEMBED_CUDA_INCLUDE)
  return()
endif()
find_package(nlohmann_json 3.9 REQUIRED)
find_package(ZLIB REQUIRED)

# resembed_device_program(NAME LIBRARY FILE...): the trainer's archives over another resembed than the one they name.
function(resembed_device_program name library)
  add_executable(${name} ${ARGN} ${PROJECT_SOURCE_DIR}/host/train/device.cc)
  add_dependencies(${name} resembed_train_core resembed_train_data)
  target_include_directories(${name} SYSTEM PRIVATE ${RESEMBED_CUDA_INCLUDE})
  target_compile_definitions(${name} PRIVATE RESEMBED_TRAIN_CUDA)
  target_link_libraries(${name} PRIVATE resembed_flags $<TARGET_FILE:resembed_train_core>
    $<TARGET_FILE:resembed_train_data> ${library} nlohmann_json::nlohmann_json ZLIB::ZLIB GTest::gmock GTest::gtest
    Threads::Threads)
  foreach(isa IN ITEMS baseline avx2 avx512)
    if(TARGET resembed_dense_${isa})
      target_sources(${name} PRIVATE $<TARGET_OBJECTS:resembed_dense_${isa}>)
    endif()
  endforeach()
endfunction()

# Under the race detector the same kernels run in tests/cuda.
if(TARGET resembed_emulated AND NOT RESEMBED_SANITIZE MATCHES thread)
  resembed_device_program(emulated_device_training_test resembed_emulated
    ${CMAKE_CURRENT_LIST_DIR}/device_training_test.cc $<TARGET_OBJECTS:resembed_emulator_main>)
  resembed_run_orders(emulated_device_training_test emulated_device_training_test)
endif()
