# Compiler settings, and the two functions every folder uses: vgpu_add_library and vgpu_add_test.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# Paths are cached relative to the checkout, so that one clone finds what another compiled.
find_program(CCACHE ccache)
if(CCACHE)
  set(launcher "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${launcher}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${launcher}")
endif()

find_package(Threads REQUIRED)

# VGPU_SANITIZE: empty, "address" (with undefined behaviour), or "thread". The shim libraries are
# preloaded into programs that are not instrumented, so they opt out with vgpu_plain_library().
set(VGPU_SANITIZE "" CACHE STRING "Sanitizer: address or thread")
if(VGPU_SANITIZE STREQUAL "address")
  set(vgpu_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
elseif(VGPU_SANITIZE STREQUAL "thread")
  set(vgpu_sanitize_flags -fsanitize=thread -fno-omit-frame-pointer)
elseif(VGPU_SANITIZE)
  message(FATAL_ERROR "VGPU_SANITIZE is '${VGPU_SANITIZE}': expected 'address' or 'thread'")
endif()

add_library(vgpu_options INTERFACE)
target_compile_options(vgpu_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
# gcc 12 warns of overlaps that cannot be in "literal" + std::string (gcc bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(vgpu_options INTERFACE -Wno-restrict)
endif()
target_include_directories(vgpu_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(vgpu_options INTERFACE Threads::Threads)

add_library(vgpu_sanitizer INTERFACE)
if(vgpu_sanitize_flags)
  target_compile_options(vgpu_sanitizer INTERFACE ${vgpu_sanitize_flags})
  target_link_options(vgpu_sanitizer INTERFACE ${vgpu_sanitize_flags})
  if(VGPU_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(vgpu_sanitizer INTERFACE -Wno-tsan)
  endif()
endif()

# vgpu_add_library(name SOURCES ... [LIBRARIES ...]): a static library of this project.
function(vgpu_add_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC vgpu_options vgpu_sanitizer ${arg_LIBRARIES} PRIVATE ${arg_PRIVATE})
endfunction()

# vgpu_quick_to_compile(target): leaves the target's own sources unoptimised in every configuration. For tests, whose
# long bodies take a compiler's optimisers a multiple of the time that they then run for.
function(vgpu_quick_to_compile target)
  target_compile_options(${target} PRIVATE -O0)
endfunction()

# vgpu_add_test(name SOURCES ... [LIBRARIES ...] [LABELS ...] [OPTIMISED]): a GoogleTest program, its cases registered
# one by one under ctest. OPTIMISED: compiled as the product is, for tests of code that lives in headers. A case that
# takes over 300 s is a failure.
include(GoogleTest)
function(vgpu_add_test name)
  cmake_parse_arguments(arg "OPTIMISED" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  if(NOT arg_OPTIMISED)
    vgpu_quick_to_compile(${name})
  endif()
  target_link_libraries(${name} PRIVATE vgpu_options vgpu_sanitizer ${arg_LIBRARIES} GTest::gtest GTest::gmock GTest::gtest_main)
  set(labels ${arg_LABELS})
  if(NOT labels)
    set(labels unit)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_LIST ${name}_cases)
  # Properties go into a file of their own: gtest_discover_tests takes a list of labels apart.
  set(properties "${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake")
  file(WRITE "${properties}" "foreach(case IN LISTS ${name}_cases)
  set_tests_properties(\"\${case}\" PROPERTIES LABELS \"${labels}\" TIMEOUT 300)
endforeach()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${properties}")
endfunction()
