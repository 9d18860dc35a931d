# cmake --install: the command, one library libsmelt.a of all rooms but apps, its two public headers, and what find_package
# and pkg-config need.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/smelt)

install(TARGETS smelt libsmelt EXPORT smelt-targets)
install(FILES src/api/smelt.h src/api/smelt_c.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT smelt-targets NAMESPACE smelt:: DESTINATION ${package_dir})
# What the command says about itself: manual pages, and completion for the shells.
install(CODE "
    set(prefix \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
    execute_process(COMMAND \"$<TARGET_FILE:smelt>\" manual \"\${prefix}/${CMAKE_INSTALL_MANDIR}/man1\" COMMAND_ERROR_IS_FATAL ANY)
    foreach(script bash|bash-completion/completions/smelt zsh|zsh/site-functions/_smelt fish|fish/vendor_completions.d/smelt.fish)
        string(REPLACE \"|\" \";\" script \${script})
        list(GET script 0 shell)
        list(GET script 1 file)
        execute_process(COMMAND \"$<TARGET_FILE:smelt>\" completion \${shell} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
        file(WRITE \"\${prefix}/${CMAKE_INSTALL_DATADIR}/\${file}\" \"\${text}\")
    endforeach()
")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(cmake/smelt-config.cmake.in smelt-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(smelt-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/smelt-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/smelt-config-version.cmake
        DESTINATION ${package_dir})

# For programs in C: the C++ runtime, as the compiler links it.
set(cxx_runtime -lstdc++)
if("c++" IN_LIST CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    set(cxx_runtime -lc++)
endif()
configure_file(cmake/smelt.pc.in smelt.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/smelt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
