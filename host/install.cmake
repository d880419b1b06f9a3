# What `cmake --install` puts under the prefix. Nothing in it names the prefix: the tree may be moved.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

get_target_property(resembed_kind resembed TYPE)
set(resembed_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/resembed)
install(TARGETS resembed EXPORT resembedTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/resembed DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(EXPORT resembedTargets NAMESPACE resembed:: DESTINATION ${resembed_cmake_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/resembedConfig.cmake.in
  ${PROJECT_BINARY_DIR}/resembedConfig.cmake INSTALL_DESTINATION ${resembed_cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/resembedConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/resembedConfig.cmake ${PROJECT_BINARY_DIR}/resembedConfigVersion.cmake
  DESTINATION ${resembed_cmake_dir})

# resembed.pc says where it is relative to itself. A static library names what its user must link as well.
file(RELATIVE_PATH resembed_pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(resembed_pc_cflags "")
set(resembed_pc_libs "")
if(resembed_kind STREQUAL "STATIC_LIBRARY")
  set(resembed_pc_cflags " -DRESEMBED_STATIC")
  set(resembed_pc_libs " -lstdc++ -lm -pthread")
  if(RESEMBED_CUDA)
    string(APPEND resembed_pc_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
  endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/resembed.pc.in ${PROJECT_BINARY_DIR}/resembed.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/resembed.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TARGET resembed-train)
  file(RELATIVE_PATH resembed_libdir_from_bin /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
  set_target_properties(resembed-train PROPERTIES INSTALL_RPATH "$ORIGIN/${resembed_libdir_from_bin}")
  set_target_properties(resembed-graph PROPERTIES INSTALL_RPATH "$ORIGIN/${resembed_libdir_from_bin}")
  install(TARGETS resembed-train resembed-graph)
  foreach(script report.py report_data.py report_plots.py report_sweep.py report_text.py)
    install(FILES ${PROJECT_SOURCE_DIR}/host/train/${script} DESTINATION ${CMAKE_INSTALL_DATADIR}/resembed)
  endforeach()
endif()
