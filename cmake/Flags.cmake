# The compiler flags that hold for every file. A kernel's own flags stand at its head (cmake/Rooms.cmake).

# The oldest compilers that know every kernel's instructions (AVX-VNNI is the newest of them).
if((CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 11) OR
   (CMAKE_C_COMPILER_ID STREQUAL "Clang" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 12))
    message(FATAL_ERROR "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION} is too old: GCC 11 or clang 12 is needed. "
                        "Another one is taken by: CC=gcc-12 cmake --preset release")
endif()

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)     # the same objects go into the static and the shared library
set(CMAKE_C_VISIBILITY_PRESET hidden)       # WE_API says what a shared library shows
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)       # for clang-tidy and editors

add_compile_definitions(_GNU_SOURCE)
add_compile_options(
    -Wall -Wextra -Wshadow -Wconversion
    -Wno-sign-conversion            # sizes, offsets and indexes meet in every loop; the casts would hide the thought
    -ffp-contract=off               # results repeat: only kernels that ask for a fused multiply-add get one
    -fno-math-errno)                # sqrtf is an instruction, not a call; changes no result
if(WE_WERROR)
    add_compile_options(-Werror)
endif()

if(WE_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "WE_FUZZ needs clang (libFuzzer), found ${CMAKE_C_COMPILER_ID}. Use: cmake --preset fuzz")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
    if(NOT WE_SANITIZE)
        set(WE_SANITIZE address,undefined)
    endif()
endif()
if(WE_SANITIZE)
    add_compile_options(-fsanitize=${WE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${WE_SANITIZE})
endif()
