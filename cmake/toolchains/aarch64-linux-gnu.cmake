# Build for 64-bit ARM Linux on another machine, and run the tests there under qemu (script/bootstrap --ci installs both).
# The libraries are Debian's own arm64 packages, which lie beside the host's in their multiarch folders.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
find_program(WE_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(WE_QEMU)
    set(CMAKE_CROSSCOMPILING_EMULATOR ${WE_QEMU} -cpu max)
endif()
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
