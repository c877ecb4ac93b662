// Kernels that take each element, or each row, for itself. Buffers have room for four bytes an element,
// whatever the kernel's type is. See described_launches.h.
#include <algorithm>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

constexpr std::uint32_t kThreads = 256;

std::uint32_t divide_up(std::uint32_t value, std::uint32_t by) {
  return (value + by - 1) / by;
}

// A row's or a tensor's length: one, what fills warps or blocks, and what does not.
std::uint32_t length(fuzz::Dice& dice) {
  return dice.chance(10) ? 1 : dice.chance(20) ? kThreads * dice.between(1, 3) : dice.between(2, 500);
}

void add_elements(RealLaunch& launch, fuzz::Dice& dice, std::size_t count) {
  launch.add_pointer(moderate_bytes(dice, 4 * count));
}

RealLaunch over(std::uint32_t count) {
  RealLaunch launch;
  launch.set_grid(divide_up(count, kThreads));
  launch.set_block(kThreads);
  launch.max_steps = 1'000'000;
  return launch;
}

}  // namespace

// Pointers, then how many elements as an int.
RealLaunch unary(const RealKernel& kernel, fuzz::Dice& dice) {
  const std::uint32_t count = length(dice);
  const bool is_backward = kernel.name.find("silu_back") != std::string::npos;
  RealLaunch launch = over(count);
  for (int n = 0; n < (is_backward ? 3 : 2); ++n) add_elements(launch, dice, count);
  launch.add(count);
  return launch;
}

// With two floats before the number.
RealLaunch unary_with_bounds(const RealKernel&, fuzz::Dice& dice) {
  const std::uint32_t count = length(dice);
  RealLaunch launch = over(count);
  for (int n = 0; n < 2; ++n) add_elements(launch, dice, count);
  launch.add(0.125F);
  launch.add(0.75F);
  launch.add(count);
  return launch;
}

// The number is 64 bits, and of fours where a thread takes four elements.
RealLaunch contiguous_copy(const RealKernel& kernel, fuzz::Dice& dice) {
  const std::uint32_t together = kernel.name.find("_vec4I") != std::string::npos ? 4 : 1;
  const std::uint32_t count = length(dice);
  RealLaunch launch = over(count);
  for (int n = 0; n < 2; ++n) add_elements(launch, dice, std::size_t{together} * count);
  launch.add(std::uint64_t{count});
  return launch;
}

// Rows of x and of a gate with strides of their own.
RealLaunch gated(const RealKernel&, fuzz::Dice& dice) {
  const std::uint32_t row = length(dice);
  const std::uint32_t rows = dice.between(1, 3);
  const std::uint32_t strides[] = {row + dice.below(5), row + dice.below(5)};
  RealLaunch launch = over(row * rows);
  for (const std::uint32_t stride : strides) add_elements(launch, dice, std::size_t{stride} * rows);
  add_elements(launch, dice, std::size_t{row} * rows);
  launch.add(std::uint64_t{row} * rows);
  launch.add(std::uint64_t{row});
  for (const std::uint32_t stride : strides) launch.add(std::uint64_t{stride});
  return launch;
}

// dst = src0 ∘ src1, or ∘ one source after the other, each as large along a dimension as dst, or one element
// that is repeated.
RealLaunch broadcast(const RealKernel& kernel, fuzz::Dice& dice) {
  const bool is_unravelled = kernel.name.find("k_bin_bcast_unravelI") != std::string::npos;
  const std::uint32_t sizes[] = {length(dice), dice.between(1, 3), dice.between(1, 3), dice.between(1, 2)};
  std::uint32_t repeated[4] = {};
  for (int d = 0; d < 4; ++d) repeated[d] = dice.chance(50) ? sizes[d] : 1;
  const auto strides = [](const std::uint32_t(&of)[4]) {
    return std::vector<std::uint32_t>{1, of[0], of[0] * of[1], of[0] * of[1] * of[2]};
  };
  const std::uint32_t count = sizes[0] * sizes[1] * sizes[2] * sizes[3];
  const std::uint32_t repeated_count = repeated[0] * repeated[1] * repeated[2] * repeated[3];

  RealLaunch launch = over(count);
  if (!is_unravelled) {
    launch.set_block(32, 2, 2);
    launch.set_grid(dice.between(1, divide_up(sizes[0], 32)), divide_up(sizes[1], 2),
                    divide_up(sizes[2] * sizes[3], 2));
  }
  add_elements(launch, dice, count);
  add_elements(launch, dice, repeated_count);
  add_elements(launch, dice, count);
  if (is_unravelled) {
    for (int d = 0; d < 3; ++d) launch.add_divisor(sizes[d]);
    launch.add(sizes[3]);
    launch.add_divisor(sizes[0] * sizes[1] * sizes[2]);
    launch.add_divisor(sizes[0] * sizes[1]);
  } else {
    for (int d = 0; d < 3; ++d) launch.add(sizes[d]);
    launch.add_divisor(sizes[3]);
  }
  for (const std::uint32_t size : repeated) launch.add_divisor(size);
  const auto whole = strides(sizes);
  for (int d = 1; d < 4; ++d) launch.add(whole[static_cast<std::size_t>(d)]);
  for (const std::uint32_t stride : whole) launch.add(stride);
  for (const std::uint32_t stride : strides(repeated)) launch.add(stride);
  // What is left are further sources.
  while (launch.params.size() % 8 != 0) launch.params.emplace_back();
  const std::uint32_t bytes = kernel.module->find_function(kernel.name)->parameter_bytes;
  while (launch.params.size() < bytes) add_elements(launch, dice, repeated_count);
  launch.params.resize(bytes);
  return launch;
}

RealLaunch norm(const RealKernel& kernel, fuzz::Dice& dice) {
  const bool has_factors = kernel.name.find("12rms_norm_f32I") != std::string::npos;
  const std::uint32_t columns = length(dice);
  const std::uint32_t rows = dice.between(1, 2);
  const std::uint32_t channels = dice.between(1, 2);
  const std::uint32_t stride = columns + dice.below(3);
  RealLaunch launch = over(1);
  launch.set_grid(rows, channels);
  launch.set_block(template_numbers(kernel.name).at(0));
  launch.dynamic_shared_bytes = 32 * 4;
  launch.add_pointer(floats(dice, std::size_t{stride} * rows * channels, -2.0F, 4.0F));
  add_elements(launch, dice, std::size_t{columns} * rows * channels);
  launch.add(columns);
  launch.add(std::uint64_t{stride});
  launch.add(std::uint64_t{stride} * rows);
  launch.add(std::uint64_t{stride} * rows * channels);
  launch.add(1e-5F);
  if (!has_factors) return launch;
  for (int n = 0; n < 2; ++n) {  // what rows are multiplied by, and what is added: the same for all
    launch.add_pointer(floats(dice, columns, -2.0F, 4.0F));
    for (int d = 0; d < 3; ++d) launch.add(std::uint64_t{0});
    launch.add_divisor(columns);
    for (int d = 0; d < 3; ++d) launch.add_divisor(1);
  }
  return launch;
}

}  // namespace vgpu::testing::described
