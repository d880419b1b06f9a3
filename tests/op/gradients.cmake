# Plan, backward, step, combine: one program each over a shared problem maker.
add_library(resembed_gradient_support STATIC oracle/backward.cc oracle/step.cc support/gradient_problem.cc
  support/gradient_run.cc support/training.cc)
target_link_libraries(resembed_gradient_support PUBLIC resembed_flags GTest::gtest)
target_include_directories(resembed_gradient_support PUBLIC ${PROJECT_SOURCE_DIR}/include)

foreach(op IN ITEMS adjoint backward combine plan rejects_attention rejects_backward rejects_services rejects_step step)
  resembed_test(${op}_test cpu op/${op}_test.cc)
  target_link_libraries(${op}_test PRIVATE resembed_gradient_support)
endforeach()
foreach(part IN ITEMS aligned guarded philox sort)
  resembed_test(${part}_test cpu unit/${part}_test.cc)
  target_link_libraries(${part}_test PRIVATE resembed_gradient_support)
endforeach()
resembed_test(numbering_test cpu graph/numbering_test.cc)
target_link_libraries(numbering_test PRIVATE resembed_forward_support resembed_gradient_support)
