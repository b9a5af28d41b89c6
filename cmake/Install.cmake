# What `make install` copies, below one prefix. The library finds its data in <prefix>/share/whisperengine (WE_DATA_DIR).

include(CMakePackageConfigHelpers)
set(we_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/whisperengine)

# Two export sets: a program that uses the shared library needs none of its dependencies' development files.
install(TARGETS we_shared EXPORT whisperengine_shared)
install(TARGETS we_static EXPORT whisperengine_static)
foreach(kind IN ITEMS shared static)
    install(EXPORT whisperengine_${kind} FILE whisperengine-${kind}.cmake NAMESPACE whisperengine::
        DESTINATION ${we_package_dir})
endforeach()
configure_package_config_file(packaging/whisperengine-config.cmake.in
    ${PROJECT_BINARY_DIR}/packaging/whisperengine-config.cmake INSTALL_DESTINATION ${we_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/packaging/whisperengine-config-version.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES
    ${PROJECT_BINARY_DIR}/packaging/whisperengine-config.cmake
    ${PROJECT_BINARY_DIR}/packaging/whisperengine-config-version.cmake
    DESTINATION ${we_package_dir})

file(RELATIVE_PATH we_pc_prefix
    ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})     # the tree may be moved as a whole
configure_file(packaging/whisperengine.pc.in packaging/whisperengine.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/packaging/whisperengine.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES include/whisperengine.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY models/default DESTINATION ${CMAKE_INSTALL_DATADIR}/whisperengine/models OPTIONAL)

if(TARGET whisperengine)
    install(TARGETS whisperengine)
    configure_file(packaging/whisperengine.1.in packaging/whisperengine.1 @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/packaging/whisperengine.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES packaging/completions/whisperengine.bash
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME whisperengine)
    install(FILES packaging/completions/_whisperengine DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
    install(FILES packaging/completions/whisperengine.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

if(TARGET whisperengine-desktop)
    set(we_id org.whisperengine.WhisperEngine)
    install(TARGETS whisperengine-desktop)
    configure_file(packaging/whisperengine-desktop.1.in packaging/whisperengine-desktop.1 @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/packaging/whisperengine-desktop.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES packaging/${we_id}.desktop DESTINATION ${CMAKE_INSTALL_DATADIR}/applications)
    configure_file(packaging/${we_id}.metainfo.xml.in packaging/${we_id}.metainfo.xml @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/packaging/${we_id}.metainfo.xml DESTINATION ${CMAKE_INSTALL_DATADIR}/metainfo)
    foreach(kind IN ITEMS "" -symbolic)
        set(place ${CMAKE_INSTALL_DATADIR}/icons/hicolor/scalable/apps)
        if(kind)
            set(place ${CMAKE_INSTALL_DATADIR}/icons/hicolor/symbolic/apps)
        endif()
        install(FILES app/desktop/icons/scalable/apps/${we_id}${kind}.svg DESTINATION ${place})
    endforeach()
endif()
