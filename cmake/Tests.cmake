# Tests are found by their place and name:
#     tests/unit/test_NAME.c            one CMocka program over the static library; CTest: unit_NAME
#                                       (desktop_...: over app/desktop too, where GTK is found; likewise in fuzz/)
#     tests/conformance/test_NAME.c|py  the same, against reference results;        CTest: conformance_NAME
#     tests/e2e/test_NAME.py            drives the built command;                   CTest: e2e_NAME
#     python/tests/test_NAME.py         the Python package in the source tree;      CTest: python_NAME
#     tests/desktop/test_NAME.py        drives the desktop program on a display of its own; CTest: desktop_NAME
#     tests/fuzz/fuzz_NAME.c            replays tests/fuzz/corpus/NAME;             CTest: fuzz_replay_NAME
# The first part of the name is also the label: ctest -L unit.

set(we_tests_dir ${PROJECT_SOURCE_DIR}/tests)

# What tests the desktop program needs its parts, and is left out where that is.
macro(we_leave_out_desktop list)
    if(NOT we_desktop_found)
        list(FILTER ${list} EXCLUDE REGEX "/(test|fuzz)_desktop_[^/]*$")
    endif()
endmacro()
function(we_with_desktop target)
    if(target MATCHES "_desktop_")
        we_desktop_test(${target})
    endif()
endfunction()

# With WE_FUZZ the fuzz targets are libFuzzer programs for script/fuzz, and no other program is built.
if(WE_FUZZ)
    file(GLOB sources CONFIGURE_DEPENDS ${we_tests_dir}/fuzz/fuzz_*.c)
    we_leave_out_desktop(sources)
    foreach(file IN LISTS sources)
        get_filename_component(name ${file} NAME_WE)
        add_executable(${name} ${file})
        target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
        target_link_libraries(${name} PRIVATE we_static)
        we_with_desktop(${name})
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    endforeach()
    return()
endif()
if(NOT we_tests_found)
    return()
endif()
enable_testing()

# What every test finds in its environment; the sanitizers stop at the first finding and say where. Not
# detect_stack_use_after_return: GCC before 14 puts 64-byte vectors at wrong addresses with it (GCC bug 110027).
set(we_test_env
    WHISPERENGINE=${PROJECT_BINARY_DIR}/whisperengine
    WE_SOURCE_DIR=${PROJECT_SOURCE_DIR}
    WE_BUILD_DIR=${PROJECT_BINARY_DIR}
    WE_FIXTURES=${we_tests_dir}/fixtures
    "WE_SANITIZE=${WE_SANITIZE}"
    PYTHONDONTWRITEBYTECODE=1
    ASAN_OPTIONS=detect_stack_use_after_return=0:strict_string_checks=1:allocator_may_return_null=1
    UBSAN_OPTIONS=print_stacktrace=1
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1)
set(we_test_timeout 300)
if(WE_SANITIZE OR CMAKE_CROSSCOMPILING)
    set(we_test_timeout 900)
endif()

function(we_test_properties test label)
    set_tests_properties(${test} PROPERTIES LABELS ${label} TIMEOUT ${we_test_timeout}
        ENVIRONMENT "${we_test_env}" WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

function(we_test_program target output)
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/${output})
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${we_tests_dir})
    target_compile_definitions(${target} PRIVATE
        WE_FIXTURES="${we_tests_dir}/fixtures" WE_SOURCE_DIR="${PROJECT_SOURCE_DIR}" WE_HAS_MLX=$<BOOL:${we_mlx_found}>)
    # Not -O3: nothing to gain here, and GCC 12 for aarch64 dies of an fmax() reduction in tests/unit/support.c.
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O2>)
endfunction()

# tests/unit/support.c, where it exists, is linked to every test program.
set(we_test_support)
if(EXISTS ${we_tests_dir}/unit/support.c)
    add_library(we_test_support OBJECT ${we_tests_dir}/unit/support.c)
    we_test_program(we_test_support unit)
    target_link_libraries(we_test_support PRIVATE we_static PkgConfig::CMOCKA)
    set(we_test_support $<TARGET_OBJECTS:we_test_support>)
endif()

foreach(kind IN ITEMS unit conformance)
    file(GLOB sources CONFIGURE_DEPENDS ${we_tests_dir}/${kind}/test_*.c)
    we_leave_out_desktop(sources)
    foreach(file IN LISTS sources)
        get_filename_component(name ${file} NAME_WE)
        string(REGEX REPLACE "^test" ${kind} test ${name})
        add_executable(${test} ${file} ${we_test_support})
        we_test_program(${test} ${kind})
        target_include_directories(${test} PRIVATE ${we_tests_dir}/unit)
        target_link_libraries(${test} PRIVATE we_static PkgConfig::CMOCKA Threads::Threads)
        we_with_desktop(${test})
        add_test(NAME ${test} COMMAND ${test})
        we_test_properties(${test} ${kind})
    endforeach()
endforeach()

# A table of kernels that many machines can only run in another form of its instruction.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(twin ${we_tests_dir}/unit/avxvnni_twin.c)
    we_file_flags(${twin})
    target_sources(unit_kernels PRIVATE ${twin})
    target_compile_definitions(unit_kernels PRIVATE WE_HAS_AVXVNNI_TWIN=1)
endif()

if(TARGET whisperengine AND NOT CMAKE_CROSSCOMPILING)
    foreach(kind IN ITEMS conformance e2e)
        file(GLOB sources CONFIGURE_DEPENDS ${we_tests_dir}/${kind}/test_*.py)
        foreach(file IN LISTS sources)
            get_filename_component(name ${file} NAME_WE)
            string(REGEX REPLACE "^test" ${kind} test ${name})
            add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} ${file})
            we_test_properties(${test} ${kind})
        endforeach()
    endforeach()
endif()

# With the system's own Python, which has AT-SPI; 77: something that it needs is not on this machine.
if(TARGET whisperengine-desktop)
    file(GLOB sources CONFIGURE_DEPENDS ${we_tests_dir}/desktop/test_*.py)
    foreach(file IN LISTS sources)
        get_filename_component(name ${file} NAME_WE)
        string(REGEX REPLACE "^test" desktop test ${name})
        add_test(NAME ${test} COMMAND /usr/bin/python3 ${file})
        we_test_properties(${test} desktop)
        set_tests_properties(${test} PROPERTIES SKIP_RETURN_CODE 77)
        set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
            LSAN_OPTIONS=suppressions=${we_tests_dir}/desktop/leaks.supp:print_suppressions=0)
    endforeach()
endif()

# The Python package over the shared library just built. Not under sanitizers: they want to be there before Python is.
if(NOT CMAKE_CROSSCOMPILING AND NOT WE_SANITIZE)
    set(we_python_dir ${PROJECT_SOURCE_DIR}/python)
    file(GLOB sources CONFIGURE_DEPENDS ${we_python_dir}/tests/test_*.py)
    foreach(file IN LISTS sources)
        get_filename_component(name ${file} NAME_WE)
        string(REGEX REPLACE "^test" python test ${name})
        add_test(NAME ${test} COMMAND ${Python3_EXECUTABLE} ${file})
        we_test_properties(${test} python)
        set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
            WHISPERENGINE_LIBRARY=$<TARGET_FILE:we_shared> PYTHONPATH=${we_python_dir}:${we_python_dir}/seed-alias)
    endforeach()
endif()

file(GLOB sources CONFIGURE_DEPENDS ${we_tests_dir}/fuzz/fuzz_*.c)
we_leave_out_desktop(sources)
foreach(file IN LISTS sources)
    get_filename_component(name ${file} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" parser ${name})
    add_executable(fuzz_replay_${parser} ${file} ${we_tests_dir}/fuzz/replay.c)
    we_test_program(fuzz_replay_${parser} fuzz)
    target_link_libraries(fuzz_replay_${parser} PRIVATE we_static)
    we_with_desktop(fuzz_replay_${parser})
    add_test(NAME fuzz_replay_${parser} COMMAND fuzz_replay_${parser} ${we_tests_dir}/fuzz/corpus/${parser})
    we_test_properties(fuzz_replay_${parser} fuzz)
endforeach()
