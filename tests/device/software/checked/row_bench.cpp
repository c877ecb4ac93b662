// What a row of a real library's products of a matrix and one column costs, or a tile of its products of two
// matrices, for one thread or several: the figures of docs/software-backend.md. A manual target.
//
//   row_bench LIBRARY KERNEL COLUMNS MEBIBYTES [AT_A_TIME [THREADS [WITHOUT]]]
//
// KERNEL: part of the mangled name of a mul_mat_vec_q with one column, or of a mul_mat_q ("9mul_mat_q" and
// more). The matrix has so many columns and about so many mebibytes: 1 lies in the caches, 1000 in memory.
// AT_A_TIME: how many blocks run at a time, or warps (4; 1, 2, 4); WITHOUT: passes that are
// turned off, as VGPU_JIT_WITHOUT has them.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "device/software/jit/jit.h"
#include "device/software/ptx/null_tests.h"
#include "device/software/runtime/block_runner.h"
#include "device/software/runtime/device_window.h"
#include "tests/device/software/checked/real_launch.h"
#include "tests/device/software/jit/real_kernels.h"

namespace vgpu::testing {
namespace {

using software::BlockRunner;
using software::DeviceWindow;
using software::KernelCodes;
using software::LaunchPlan;
using Clock = std::chrono::steady_clock;

struct Request {
  std::string kernel;
  std::uint32_t columns = 2048;
  double mebibytes = 1;
  std::uint32_t at_a_time = 4;
  std::uint32_t threads = 1;
  std::string without = {};
};

template <typename T>
T must(software::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().reason);
  return std::move(*result);
}

// Memory of the window with these bytes, again and again.
std::uint64_t fill(DeviceWindow& window, std::uint64_t bytes, const std::vector<std::byte>& content) {
  const std::uint64_t address = must(window.take_range(bytes));
  if (const auto ok = window.commit(address, bytes); !ok) throw std::runtime_error(ok.error().reason);
  for (std::uint64_t at = 0; at < bytes; at += content.size())
    std::memcpy(reinterpret_cast<void*>(address + at), content.data(),
                std::min<std::uint64_t>(content.size(), bytes - at));
  return address;
}

bool is_tiled(const RealKernel& kernel) {
  return kernel.name.contains("9mul_mat_qI");
}

// For one column, one token, and a row for each block.
bool multiplies_plain_rows(const RealKernel& kernel) {
  if (!kernel.name.contains("mul_mat_vec_qI")) return false;
  const auto numbers = template_numbers(kernel.name);  // type, columns, fused, several tokens, several rows
  return numbers.at(1) == 1 && numbers.at(3) == 0 && numbers.at(4) == 0;
}

struct Matrix {
  std::uint64_t address = 0;
  std::uint32_t row_blocks = 0;  // blocks of a row
  std::uint32_t rows = 0;
};

// A matrix as the request has it; its rows are a multiple of `tile`.
Matrix fill_matrix(DeviceWindow& window, fuzz::Dice& dice, const RealKernel& kernel, const Request& request,
                   std::uint32_t tile) {
  const std::uint32_t type = template_numbers(kernel.name).at(0);
  const Packing packing = packing_of(type);
  const std::uint32_t multiple = is_tiled(kernel) ? 256 : packing.values;
  if (request.columns == 0 || request.columns % multiple != 0)
    throw std::invalid_argument("columns are not a multiple of " + std::to_string(multiple));
  const std::uint32_t row_blocks = request.columns / packing.values;
  const std::uint64_t row_bytes = std::uint64_t{row_blocks} * packing.bytes;
  const double fitting = request.mebibytes * (1 << 20) / static_cast<double>(row_bytes);
  if (!(fitting >= tile && fitting <= 1e9))
    throw std::invalid_argument("so many mebibytes are not " + std::to_string(tile) + " to 1e9 rows");
  const std::uint32_t rows = static_cast<std::uint32_t>(fitting) / tile * tile;
  return {fill(window, rows * row_bytes, packed(dice, type, std::size_t{row_blocks} * 64)), row_blocks, rows};
}

// As described_products.cpp has it: 64 rows, and as many columns of y as a tile has.
RealLaunch describe_tiles(DeviceWindow& window, const RealKernel& kernel, const Request& request) {
  constexpr std::uint32_t kTileRows = 64;
  constexpr std::uint32_t kGroupValues = 128;
  constexpr std::uint32_t kGroupBytes = kGroupValues + 16;
  fuzz::Dice dice(1);
  const std::uint32_t tile = template_numbers(kernel.name).at(1);
  const Matrix x = fill_matrix(window, dice, kernel, request, kTileRows);
  const std::uint32_t y_bytes = tile * (request.columns / kGroupValues) * kGroupBytes;
  RealLaunch launch;
  launch.set_grid(x.rows / kTileRows);
  launch.set_block(32, 8);
  launch.dynamic_shared_bytes = 48 << 10;
  launch.add(x.address);
  launch.add(fill(window, y_bytes + tile * kGroupBytes, moderate_bytes(dice, y_bytes + tile * kGroupBytes)));
  launch.add_null();  // columns in groups
  launch.add_null();
  launch.add(fill(window, std::uint64_t{4} * tile * x.rows, std::vector<std::byte>(4096)));
  launch.add_null();  // parts of tiles
  launch.add_null();  // scales of columns
  launch.add_divisor(x.row_blocks);
  for (const std::uint32_t size : {x.rows, tile, x.row_blocks, tile, x.rows}) launch.add(size);
  launch.add_divisor(1);
  launch.add_divisor(1);
  for (const std::uint32_t stride : {x.rows * x.row_blocks, y_bytes / 4, x.rows * tile}) launch.add(stride);
  launch.add_divisor(1);
  launch.add_divisor(1);
  for (int stride = 0; stride < 3; ++stride) launch.add(0U);
  launch.add_divisor(1);
  return launch;
}

// As described_vectors.cpp has it, with a plain matrix and no fusion.
RealLaunch describe_rows(DeviceWindow& window, const RealKernel& kernel, const Request& request) {
  fuzz::Dice dice(1);
  const auto [matrix, row_blocks, rows] = fill_matrix(window, dice, kernel, request, 4);
  const std::uint32_t groups = request.columns / 32;
  RealLaunch launch;
  launch.set_grid(rows);
  launch.set_block(32, kernel.bounds.max_threads[0] / 32);
  launch.add(matrix);
  launch.add(fill(window, std::uint64_t{groups} * 36, moderate_bytes(dice, std::size_t{groups} * 36)));
  for (int absent = 0; absent < 6; ++absent) launch.add_null();  // experts, and what is fused
  launch.add(0U);
  launch.add(0U);
  launch.add(fill(window, std::uint64_t{4} * rows, std::vector<std::byte>(4096)));
  launch.add(request.columns);
  launch.add_divisor(1);
  launch.add(row_blocks);
  launch.add(groups);
  launch.add(rows);
  launch.add_divisor(1);
  for (int stride = 0; stride < 3; ++stride) launch.add(0U);
  launch.add_divisor(1);
  for (int stride = 0; stride < 4; ++stride) launch.add(0U);
  return launch;
}

// Nanoseconds for a row, or a tile, of one pass over the matrix.
double pass(std::vector<std::unique_ptr<BlockRunner>>& runners, const LaunchPlan& plan) {
  constexpr std::uint64_t kBlocksOfPiece = 2048;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&](BlockRunner& runner) {
    if (!runner.prepare(plan)) failed = true;
    for (std::uint64_t first; !failed && (first = next.fetch_add(kBlocksOfPiece)) < plan.blocks;) {
      if (!runner.run(first, std::min(first + kBlocksOfPiece, plan.blocks))) failed = true;
    }
  };
  const auto started = Clock::now();
  {
    std::vector<std::jthread> others;
    for (std::size_t n = 1; n < runners.size(); ++n) others.emplace_back(work, std::ref(*runners[n]));
    work(*runners[0]);
  }
  const std::chrono::duration<double, std::nano> taken = Clock::now() - started;
  if (failed) throw std::runtime_error("the kernel failed");
  return taken.count() / static_cast<double>(plan.blocks);
}

void run(const RealKernel& kernel, const Request& request) {
  const std::unique_ptr<DeviceWindow> window = must(DeviceWindow::reserve());
  const bool tiled = is_tiled(kernel);
  RealLaunch launch =
      tiled ? describe_tiles(*window, kernel, request) : describe_rows(*window, kernel, request);
  software::jit::Jit jit({.passes = software::jit::passes_without(request.without)});
  auto shape = software::jit::LaunchShape::of(launch.block, launch.grid);
  if (const auto body = kernel.module->parse_function(kernel.name))
    shape.null_params = software::ptx::null_words(software::ptx::null_tested_words(*body), launch.params);
  const auto compiled = [&] {
    auto code = jit.compile(*kernel.module, kernel.name, shape);
    if (!code) throw std::runtime_error(code.error().message);
    return std::move(*code);
  };
  KernelCodes codes(compiled());
  if (request.at_a_time > 1) {
    shape.at_a_time = request.at_a_time;
    codes.add(compiled());
  }
  codes.choose_last();

  const software::jit::CompiledKernel& one = codes.one();
  launch.params.resize(one.param_bytes + 64);
  std::atomic<std::uint32_t> stop{software::kRunning};
  LaunchPlan plan;
  plan.codes = &codes;
  plan.kind = &codes.kind(0);
  plan.mxcsr = one.mxcsr;
  plan.threads = launch.block[0] * launch.block[1];
  plan.local_stride = static_cast<std::uint32_t>(software::round_up(one.local_bytes, 16));
  plan.shared_bytes = one.dynamic_shared_offset + launch.dynamic_shared_bytes;
  plan.prototype.dynamic_shared_bytes = launch.dynamic_shared_bytes;
  plan.blocks = launch.grid[0];
  plan.context_id = 1;
  plan.kernel = kernel.name;
  plan.stop = &stop;
  plan.prototype.params = launch.params.data();
  plan.prototype.cancel = reinterpret_cast<const std::uint32_t*>(&stop);
  std::ranges::copy(launch.block, plan.prototype.ntid);
  std::ranges::copy(launch.grid, plan.prototype.nctaid);

  std::vector<std::unique_ptr<BlockRunner>> runners;
  for (std::uint32_t n = 0; n < request.threads; ++n)
    runners.push_back(std::make_unique<BlockRunner>(*window));
  std::vector<double> times;
  for (const auto end = Clock::now() + std::chrono::milliseconds(500);
       Clock::now() < end || times.size() < 5;)
    times.push_back(pass(runners, plan));
  std::ranges::sort(times);
  std::printf(
      "%u columns, %.0f MiB, %u at a time, %u threads: median %.1f ns a %s, least %.1f, p99 %.1f  %s\n",
      request.columns, request.mebibytes, request.at_a_time, request.threads, times[times.size() / 2],
      tiled ? "tile" : "row", times[0], times[times.size() * 99 / 100], kernel.name.c_str());
}

}  // namespace
}  // namespace vgpu::testing

int main(int argc, char** argv) {
  using namespace vgpu::testing;
  if (argc < 5) {
    std::fprintf(stderr,
                 "usage: row_bench LIBRARY KERNEL COLUMNS MEBIBYTES [AT_A_TIME [THREADS [WITHOUT]]]\n");
    return 2;
  }
  try {
    Request request{.kernel = argv[2],
                    .columns = static_cast<std::uint32_t>(std::stoul(argv[3])),
                    .mebibytes = std::stod(argv[4]),
                    .without = argc > 7 ? argv[7] : ""};
    if (argc > 5) request.at_a_time = static_cast<std::uint32_t>(std::stoul(argv[5]));
    if (argc > 6) request.threads = std::max(1U, static_cast<std::uint32_t>(std::stoul(argv[6])));
    const auto library = list_real_kernels(argv[1]);
    if (!library) throw std::runtime_error(library.error());
    const auto kernel = std::ranges::find_if(library->kernels, [&](const RealKernel& candidate) {
      if (!candidate.name.contains(request.kernel)) return false;
      return is_tiled(candidate) || multiplies_plain_rows(candidate);
    });
    if (kernel == library->kernels.end()) throw std::runtime_error("no such kernel: " + request.kernel);
    run(*kernel, request);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "row_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
