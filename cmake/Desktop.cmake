# The desktop program, app/desktop: built where GTK 4 and libadwaita are found, left out elsewhere. The library and the command
# never need them. `script/bootstrap --desktop` installs what it asks for; `make desktop` does that and runs it.

option(WE_DESKTOP "Build the desktop program where GTK is found" ON)
set(we_desktop_found OFF)
if(NOT WE_DESKTOP OR CMAKE_CROSSCOMPILING)
    return()
endif()

pkg_check_modules(WE_GTK IMPORTED_TARGET gtk4>=4.8 libadwaita-1>=1.2 sqlite3)
find_program(WE_RESOURCES glib-compile-resources)
if(NOT WE_GTK_FOUND OR NOT WE_RESOURCES)
    message(STATUS "The desktop program is left out: GTK 4.8, libadwaita 1.2 or SQLite was not found. "
        "script/bootstrap --desktop installs them.")
    return()
endif()
set(we_desktop_found ON)
set(we_desktop_dir ${PROJECT_SOURCE_DIR}/app/desktop)

# The parts without widgets, for tests and fuzz targets whose names begin with desktop_.
add_library(we_desktop_parts OBJECT ${we_desktop_dir}/store.c ${we_desktop_dir}/markdown.c
    ${we_desktop_dir}/highlight.c)
target_include_directories(we_desktop_parts PRIVATE ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(we_desktop_parts PRIVATE we_static PkgConfig::WE_GTK)
function(we_desktop_test target)
    target_include_directories(${target} PRIVATE ${we_desktop_dir})
    target_link_libraries(${target} PRIVATE PkgConfig::WE_GTK)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:we_desktop_parts>)
endfunction()
if(WE_FUZZ)
    return()
endif()

file(GLOB sources CONFIGURE_DEPENDS ${we_desktop_dir}/*.c ${we_desktop_dir}/*/*.c)
file(GLOB_RECURSE resources CONFIGURE_DEPENDS ${we_desktop_dir}/icons/*.svg ${we_desktop_dir}/gtk/*.ui ${we_desktop_dir}/*.css)
set(we_desktop_resources ${PROJECT_BINARY_DIR}/desktop/resources.c)
add_custom_command(OUTPUT ${we_desktop_resources}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/desktop
    COMMAND ${WE_RESOURCES} --generate-source --sourcedir=${we_desktop_dir} --target=${we_desktop_resources}
        ${we_desktop_dir}/resources.gresource.xml
    DEPENDS ${we_desktop_dir}/resources.gresource.xml ${resources} VERBATIM)

add_executable(whisperengine-desktop ${sources} ${we_desktop_resources})
set_source_files_properties(${we_desktop_resources} PROPERTIES COMPILE_OPTIONS -w)
target_include_directories(whisperengine-desktop PRIVATE ${PROJECT_SOURCE_DIR}/src)     # base/base.h
target_include_directories(whisperengine-desktop SYSTEM PRIVATE ${WE_GTK_INCLUDE_DIRS})
target_compile_definitions(whisperengine-desktop PRIVATE
    GETTEXT_PACKAGE="whisperengine" DESK_LOCALE_DIR="${CMAKE_INSTALL_FULL_LOCALEDIR}")
target_link_libraries(whisperengine-desktop PRIVATE we_static PkgConfig::WE_GTK Threads::Threads)
set_target_properties(whisperengine-desktop PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})

# What its start is measured beside (bench/desktop/measure).
add_executable(bench_empty_window ${PROJECT_SOURCE_DIR}/bench/desktop/empty.c)
target_include_directories(bench_empty_window SYSTEM PRIVATE ${WE_GTK_INCLUDE_DIRS})
target_link_libraries(bench_empty_window PRIVATE PkgConfig::WE_GTK)
set_target_properties(bench_empty_window PROPERTIES OUTPUT_NAME empty-window RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)

# Translations, beside the program in the build folder too, so that it speaks before it is installed.
find_program(WE_MSGFMT msgfmt)
if(WE_MSGFMT)
    file(GLOB translations CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/po/*.po)
    foreach(file IN LISTS translations)
        get_filename_component(language ${file} NAME_WE)
        set(folder locale/${language}/LC_MESSAGES)
        add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/${folder}/whisperengine.mo
            COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/${folder}
            COMMAND ${WE_MSGFMT} --check-format -o ${PROJECT_BINARY_DIR}/${folder}/whisperengine.mo ${file}
            DEPENDS ${file} VERBATIM)
        target_sources(whisperengine-desktop PRIVATE ${PROJECT_BINARY_DIR}/${folder}/whisperengine.mo)
        install(FILES ${PROJECT_BINARY_DIR}/${folder}/whisperengine.mo
            DESTINATION ${CMAKE_INSTALL_LOCALEDIR}/${language}/LC_MESSAGES)
    endforeach()
endif()
