# What a wheel of the Python package holds besides its modules (python/pyproject.toml): the shared library under one plain
# name, since wheels have no links, and the built-in model beside it, where the library looks. Only scikit-build-core asks for
# this component.
if(SKBUILD)
    install(FILES $<TARGET_FILE:we_shared> DESTINATION whisperengine
        RENAME ${CMAKE_SHARED_LIBRARY_PREFIX}whisperengine${CMAKE_SHARED_LIBRARY_SUFFIX} COMPONENT python)
    install(DIRECTORY models/default DESTINATION whisperengine/models COMPONENT python
        PATTERN README.md EXCLUDE)
endif()
