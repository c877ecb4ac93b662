// Runs kernels that take one parameter: where their words go.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {

// What one launch leaves in `count` words at `out` that held 0xA5A5A5A5 before.
inline std::vector<std::uint32_t> words_stored_at(std::uint64_t out, KernelRunner& runner,
                                                  const std::string& kernel, Dim grid, Dim block,
                                                  std::size_t count) {
  std::vector<std::uint32_t> words(count, 0xA5A5A5A5);
  runner.write(out, std::as_bytes(std::span(words)));
  LaunchRequest request;
  request.kernel = kernel;
  request.grid = grid;
  request.block = block;
  request.params.resize(8);
  std::memcpy(request.params.data(), &out, 8);
  const LaunchStatus status = runner.launch(request);
  EXPECT_EQ(status.status, Status::kDone) << status.message;
  runner.read(out, std::as_writable_bytes(std::span(words)));
  return words;
}

// The same in memory of its own, which stays allocated.
inline std::vector<std::uint32_t> words_stored(KernelRunner& runner, const std::string& kernel, Dim grid,
                                               Dim block, std::size_t count) {
  return words_stored_at(runner.allocate(count * 4), runner, kernel, grid, block, count);
}

}  // namespace vgpu::testing::kernels
