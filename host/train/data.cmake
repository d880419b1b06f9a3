# Logs, splits, figures and baselines: everything of the trainer that is no model.
find_package(ZLIB REQUIRED)
add_library(resembed_train_data STATIC
  baselines.cc
  catalog.cc
  count_pairs.cc
  eval.cc
  figures.cc
  generate.cc
  names.cc
  npy.cc
  random.cc
  read_columns.cc
  read_lines.cc
  read_log.cc
  read_order.cc
  sort_events.cc
  split.cc
  write_log.cc
)
target_link_libraries(resembed_train_data PUBLIC resembed::resembed Threads::Threads
  PRIVATE resembed_flags ZLIB::ZLIB)
target_include_directories(resembed_train_data PUBLIC ${PROJECT_SOURCE_DIR})
