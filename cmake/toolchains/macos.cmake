# Build for a Mac on Linux, as far as linking goes: script/check-macos makes the two folders that are read here, and calls this.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR $ENV{WE_MACOS_CPU})
set(CMAKE_C_COMPILER $ENV{WE_MACOS}/bin/cc)
set(CMAKE_CXX_COMPILER $ENV{WE_MACOS}/bin/c++)
set(CMAKE_AR $ENV{WE_MACOS}/bin/ar CACHE FILEPATH "")
set(CMAKE_RANLIB $ENV{WE_MACOS}/bin/ranlib CACHE FILEPATH "")
set(CMAKE_INSTALL_NAME_TOOL true CACHE FILEPATH "")     # nothing is installed
# The compiler brings the system's headers; libraries lie below a root as on a Mac with Homebrew.
set(CMAKE_OSX_SYSROOT "" CACHE STRING "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "" CACHE STRING "")
set(CMAKE_FIND_ROOT_PATH $ENV{WE_MACOS}/root $ENV{WE_MACOS}/root/usr)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(ENV{PKG_CONFIG_LIBDIR} $ENV{WE_MACOS}/root/opt/homebrew/lib/pkgconfig)
