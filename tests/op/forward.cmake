# Forward, materialize, envelope, and the arithmetic below them.
add_library(resembed_forward_support STATIC oracle/forward.cc support/run_forward.cc)
target_link_libraries(resembed_forward_support PUBLIC resembed_flags resembed_gradient_support GTest::gtest)
target_include_directories(resembed_forward_support PUBLIC ${PROJECT_SOURCE_DIR}/include)

resembed_test(row_ops_test cpu unit/row_ops_test.cc)
foreach(op IN ITEMS attention concurrent dense_items envelope forward forward_rules item_cache large materialize rejects_forward)
  resembed_test(${op}_test cpu op/${op}_test.cc)
  target_link_libraries(${op}_test PRIVATE resembed_forward_support)
endforeach()

# The refusals alone, over a row_ops that the test makes up.
add_executable(lacking_isa_test unit/lacking_isa_test.cc ${PROJECT_SOURCE_DIR}/host/backend.cc
  ${PROJECT_SOURCE_DIR}/host/nvtx.cc ${PROJECT_SOURCE_DIR}/host/status.cc ${PROJECT_SOURCE_DIR}/host/table_set.cc
  ${PROJECT_SOURCE_DIR}/host/validate.cc)
target_include_directories(lacking_isa_test PRIVATE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(lacking_isa_test PRIVATE resembed_flags GTest::gtest_main Threads::Threads)
add_test(NAME lacking_isa_test COMMAND lacking_isa_test)
set_tests_properties(lacking_isa_test PROPERTIES LABELS cpu TIMEOUT 600)
