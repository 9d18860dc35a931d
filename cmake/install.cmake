# cmake --install: the command, one library libsmelt.a of all rooms but apps, its two public headers, and what find_package
# and pkg-config need.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/smelt)

install(TARGETS smelt EXPORT smelt-targets COMPONENT command)
install(TARGETS libsmelt EXPORT smelt-targets COMPONENT devel)
install(FILES src/api/smelt.h src/api/smelt_c.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT devel)
install(EXPORT smelt-targets NAMESPACE smelt:: DESTINATION ${package_dir} COMPONENT devel)
# Where they were built: serve looks for the first in lib/smelt; a Triton server wants the second in backends/smelt.
if(TARGET smelt_grpc)
    install(TARGETS smelt_grpc DESTINATION lib/smelt COMPONENT grpc OPTIONAL)
endif()
if(TARGET triton_smelt)
    install(TARGETS triton_smelt DESTINATION lib/smelt COMPONENT triton OPTIONAL)
endif()
if(NOT APPLE)
    install(FILES packaging/smelt.service DESTINATION lib/systemd/system COMPONENT command)
endif()
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
" COMPONENT command)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command)

configure_package_config_file(cmake/smelt-config.cmake.in smelt-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(smelt-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/smelt-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/smelt-config-version.cmake
        DESTINATION ${package_dir} COMPONENT devel)

# For programs in C: the C++ runtime, as the compiler links it.
set(cxx_runtime -lstdc++)
if("c++" IN_LIST CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    set(cxx_runtime -lc++)
endif()
configure_file(cmake/smelt.pc.in smelt.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/smelt.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT devel)
