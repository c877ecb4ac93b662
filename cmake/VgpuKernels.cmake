# vgpu_compile_kernels(out_variable FILE...): CUDA C++ to PTX by Debian's clang, no toolkit needed. NAME.cu becomes
# ${CMAKE_CURRENT_BINARY_DIR}/NAME.ptx. tests/kernels/cuda_min.h stands in for the toolkit's headers.
find_program(VGPU_CUDA_CLANG NAMES clang++-19 REQUIRED DOC "clang++ 19, which compiles CUDA C++ to PTX")

function(vgpu_compile_kernels out)
  foreach(source IN LISTS ARGN)
    cmake_path(GET source STEM name)
    set(ptx "${CMAKE_CURRENT_BINARY_DIR}/${name}.ptx")
    add_custom_command(
      OUTPUT "${ptx}"
      COMMAND "${VGPU_CUDA_CLANG}" -x cuda --cuda-device-only --cuda-gpu-arch=sm_61 --cuda-path=/nonexistent -nocudainc
              -nocudalib --cuda-feature=+ptx84 -std=c++20 -fdeclspec -O2 -Wall -Wextra -Werror "-I${PROJECT_SOURCE_DIR}"
              -S "${CMAKE_CURRENT_SOURCE_DIR}/${source}" -o "${ptx}"
      DEPENDS "${source}" "${PROJECT_SOURCE_DIR}/tests/kernels/cuda_min.h"
      COMMENT "Compiling ${source} to PTX"
      VERBATIM)
    list(APPEND files "${ptx}")
  endforeach()
  set(${out} "${files}" PARENT_SCOPE)
endfunction()
