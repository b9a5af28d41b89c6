# The MLX device's plugin (src/device/mlx/plugin.cpp), where MLX is found. Its headers ask for C++20: the only C++ of the tree.
#
# -DWE_MLX=AUTO looks at CMAKE_PREFIX_PATH, Homebrew's folders, and the `mlx` package of the Python that `python3` (or an active
# virtual environment) names; ON is the same, and fails when there is none; a folder is a prefix with include/ and lib/, or a
# virtual environment with that package.

set(we_mlx_found OFF)
if(NOT WE_MLX STREQUAL "OFF" AND NOT WE_FUZZ)
    # PyPI's package keeps headers and library in its own folder.
    set(we_mlx_package)
    if(IS_DIRECTORY "${WE_MLX}")
        file(GLOB we_mlx_package ${WE_MLX}/lib/python3*/site-packages/mlx)
        set(we_mlx_only NO_DEFAULT_PATH)
    else()
        find_program(WE_MLX_PYTHON NAMES python3 HINTS $ENV{VIRTUAL_ENV}/bin)
        if(WE_MLX_PYTHON)
            execute_process(COMMAND ${WE_MLX_PYTHON} -c
                "import importlib.util as u; s = u.find_spec('mlx'); print(list(s.submodule_search_locations)[0] if s else '')"
                OUTPUT_VARIABLE we_mlx_package ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
        endif()
        list(APPEND we_mlx_package /opt/homebrew/opt/mlx /opt/homebrew /usr/local/opt/mlx)
        set(we_mlx_only)
    endif()
    # Looked for again each time: another WE_MLX is another MLX.
    unset(WE_MLX_INCLUDE CACHE)
    unset(WE_MLX_LIBRARY CACHE)
    find_path(WE_MLX_INCLUDE mlx/version.h HINTS ${WE_MLX} ${we_mlx_package} PATH_SUFFIXES include ${we_mlx_only})
    find_library(WE_MLX_LIBRARY mlx HINTS ${WE_MLX} ${we_mlx_package} PATH_SUFFIXES lib ${we_mlx_only})
    include(CheckLanguage)
    check_language(CXX)
    if(WE_MLX_INCLUDE AND WE_MLX_LIBRARY AND CMAKE_CXX_COMPILER)
        file(STRINGS ${WE_MLX_INCLUDE}/mlx/version.h we_mlx_version REGEX "MLX_VERSION_(MAJOR|MINOR|PATCH) [0-9]")
        string(REGEX REPLACE "[^0-9;]" "" we_mlx_version "${we_mlx_version}")
        string(REPLACE ";" "." we_mlx_version "${we_mlx_version}")
        message(STATUS "MLX ${we_mlx_version}: ${WE_MLX_LIBRARY}")
        enable_language(CXX)
        set(we_mlx_found ON)
    elseif(WE_MLX STREQUAL "AUTO")
        message(STATUS "MLX was not found: the device mlx is left out (docs/macos.md)")
    elseif(NOT CMAKE_CXX_COMPILER)
        message(FATAL_ERROR "The MLX device needs a C++ compiler: install one, or set WE_MLX=OFF.")
    else()
        message(FATAL_ERROR "MLX was not found (WE_MLX=${WE_MLX}): no include/mlx/version.h with a lib/libmlx beside it. "
            "`brew install mlx` on a Mac, or `pip install mlx` (Linux: 'mlx[cpu]') into the environment that WE_MLX names.")
    endif()
endif()

# plugins/whisperengine-mlx.so, which the library looks for beside itself.
function(we_mlx_plugin)
    if(NOT we_mlx_found)
        return()
    endif()
    set(suffix .so)
    if(APPLE)
        set(suffix .dylib)
    endif()
    add_library(we_mlx SHARED ${PROJECT_SOURCE_DIR}/src/device/mlx/plugin.cpp)
    target_include_directories(we_mlx PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_include_directories(we_mlx SYSTEM PRIVATE ${WE_MLX_INCLUDE})
    target_link_libraries(we_mlx PRIVATE ${WE_MLX_LIBRARY})
    # GCC 12 takes a list of one array for an access beyond its end.
    target_compile_options(we_mlx PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>)
    get_filename_component(lib_dir ${WE_MLX_LIBRARY} DIRECTORY)
    set_target_properties(we_mlx PROPERTIES PREFIX "" OUTPUT_NAME whisperengine-mlx SUFFIX ${suffix}
        LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/plugins
        CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden
        BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH ${lib_dir})
    install(TARGETS we_mlx LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/whisperengine)
endfunction()
