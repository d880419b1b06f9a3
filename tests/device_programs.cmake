# Programs that use the cuda backend as callers do, emulated and for a GPU: the training loop of docs/examples, and
# the trainer. Included after tests/gpu, which makes resembed_emulated.
if(NOT RESEMBED_CUDA_INCLUDE)
  return()
endif()

# device_program(NAME LIBRARY FILE...): over resembed_emulated or, static but for the C library, resembed_internals
function(device_program name library)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} SYSTEM PRIVATE ${RESEMBED_CUDA_INCLUDE})
  if(NOT RESEMBED_SANITIZE)
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
  target_link_libraries(${name} PRIVATE resembed_flags ${library} Threads::Threads)
endfunction()

# trainer_program(NAME LIBRARY FILE...): the trainer's archives over another resembed than the one they were made for;
# its kernels are the caller's.
include(${PROJECT_SOURCE_DIR}/host/train/device.cmake)
function(trainer_program name library)
  list(TRANSFORM RESEMBED_TRAIN_DEVICE_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/ OUTPUT_VARIABLE sources)
  device_program(${name} ${library} ${ARGN} ${sources})
  target_compile_definitions(${name} PRIVATE RESEMBED_TRAIN_CUDA RESEMBED_TRAIN="")
  add_dependencies(${name} resembed_train_core resembed_train_data)
  foreach(isa IN ITEMS baseline avx2 avx512)
    if(TARGET resembed_dense_${isa})
      target_sources(${name} PRIVATE $<TARGET_OBJECTS:resembed_dense_${isa}>)
    endif()
  endforeach()
  target_link_libraries(${name} PRIVATE $<TARGET_FILE:resembed_train_core> $<TARGET_FILE:resembed_train_data>
    ${library} nlohmann_json::nlohmann_json ZLIB::ZLIB GTest::gmock GTest::gtest ${CMAKE_DL_LIBS})
endfunction()

if(TARGET resembed_emulated)
  device_program(emulated_training_loop resembed_emulated ${PROJECT_SOURCE_DIR}/docs/examples/training_loop.cc)
  resembed_run_orders(emulated_training_loop emulated_training_loop)
endif()
if(RESEMBED_CUDA)
  device_program(training_loop resembed_internals ${PROJECT_SOURCE_DIR}/docs/examples/training_loop.cc)
  add_test(NAME training_loop COMMAND training_loop)
  set_tests_properties(training_loop PROPERTIES LABELS gpu TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()

if(NOT RESEMBED_BUILD_TRAIN)
  return()
endif()
find_package(nlohmann_json 3.9 REQUIRED)
find_package(ZLIB REQUIRED)
set(tests ${CMAKE_CURRENT_LIST_DIR}/train)
set(device_training_test_files ${tests}/device_training_test.cc)
set(dense_device_test_files ${tests}/dense_device_test.cc ${tests}/dense_math_test.cc)
set(support ${tests}/device_support.cc ${tests}/end_to_end_support.cc)
# Under the race detector the same kernels run in tests/cuda.
if(TARGET resembed_emulated AND NOT RESEMBED_SANITIZE MATCHES thread)
  foreach(program IN ITEMS device_training_test dense_device_test)
    trainer_program(emulated_${program} resembed_emulated ${${program}_files} ${support}
      $<TARGET_OBJECTS:resembed_emulator_main> $<TARGET_OBJECTS:emulated_train_kernels>)
    resembed_run_orders(emulated_${program} emulated_${program})
  endforeach()
  if(TARGET cublas_stand_in)
    set_target_properties(emulated_dense_device_test PROPERTIES ENABLE_EXPORTS ON)  # the emulator, to the stand-in
    add_dependencies(emulated_dense_device_test cublas_stand_in)
    target_compile_definitions(emulated_dense_device_test PRIVATE
      RESEMBED_CUBLAS_STAND_IN="$<TARGET_FILE:cublas_stand_in>")
  endif()
endif()
if(RESEMBED_CUDA)
  trainer_program(cuda_trainer_tests resembed_internals ${device_training_test_files} ${dense_device_test_files}
    ${support} ${CMAKE_CURRENT_LIST_DIR}/gpu/main.cc $<TARGET_OBJECTS:resembed_train_kernels>)
  add_test(NAME cuda_trainer_tests COMMAND cuda_trainer_tests)
  set_tests_properties(cuda_trainer_tests PROPERTIES LABELS gpu TIMEOUT 600 SKIP_RETURN_CODE 77)
endif()
