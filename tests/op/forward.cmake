# Forward, materialize, envelope, and the arithmetic below them.
add_library(resembed_forward_support STATIC oracle/forward.cc support/run_forward.cc)
target_link_libraries(resembed_forward_support PUBLIC resembed_flags resembed_gradient_support GTest::gtest)
target_include_directories(resembed_forward_support PUBLIC ${PROJECT_SOURCE_DIR}/include)

resembed_test(row_ops_test cpu unit/row_ops_test.cc)
foreach(op IN ITEMS envelope forward forward_rules large materialize rejects_forward)
  resembed_test(${op}_test cpu op/${op}_test.cc)
  target_link_libraries(${op}_test PRIVATE resembed_forward_support)
endforeach()
