// Products of matrices with a few columns, what a token costs: packed rows with columns of bytes in groups of
// 32 values with their scale, and rows of floats or halves with columns of floats. See described_launches.h.
#include <algorithm>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

constexpr std::uint32_t kGroupValues = 32;
constexpr std::uint32_t kGroupBytes = 36;  // two halves first

std::uint32_t divide_up(std::uint32_t value, std::uint32_t by) {
  return (value + by - 1) / by;
}

// A gate, biases and scales by which the product goes on before it is stored, each of at least so many bytes
// like `like`; then by which function.
void add_fusion(RealLaunch& launch, fuzz::Dice& dice, bool has_fusion, std::vector<std::byte> like,
                std::size_t bytes) {
  like.resize(std::max(like.size(), bytes));
  constexpr int kPointers = 5;
  for (int n = 0; n < kPointers; ++n) {
    if (has_fusion && dice.chance(75)) {
      launch.add_pointer(like);
    } else {
      launch.add_null();
    }
  }
  launch.add(dice.below(5));
  launch.add(0U);
}

// Channels of x and y, as a batch has them, or experts by their numbers.
struct Channels {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t dst = 1;
  std::uint32_t tokens = 1;           // that choose experts
  std::vector<std::int32_t> experts;  // for each token, for each channel of dst; empty: none chosen
};

Channels channels_of(fuzz::Dice& dice, bool is_mixture, std::uint32_t tokens) {
  Channels channels;
  if (!is_mixture) {
    channels.x = dice.between(1, 2);
    channels.dst = channels.x * dice.between(1, 2);
    channels.y = channels.dst;
    return channels;
  }
  channels.x = dice.between(2, 4);
  channels.dst = dice.between(1, 3);
  channels.y = dice.chance(50) ? 1 : channels.dst;
  channels.tokens = tokens;
  for (std::uint32_t n = 0; n < tokens * channels.dst; ++n)
    channels.experts.push_back(static_cast<std::int32_t>(dice.below(channels.x)));
  return channels;
}

void add_experts(RealLaunch& launch, const Channels& channels) {
  if (channels.experts.empty()) {
    launch.add_null();
  } else {
    launch.add_pointer(words(channels.experts));
  }
}

}  // namespace

RealLaunch mul_mat_vec_q(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t type = numbers.at(0);
  const std::uint32_t columns = numbers.at(1);
  const bool has_fusion = numbers.at(2) != 0;
  const bool is_small = numbers.at(3) != 0;  // K is, so that each block takes more rows
  const Packing packing = packing_of(type);
  const std::uint32_t warps = kernel.bounds.max_threads[0] / 32;
  const std::uint32_t rows_of_block = columns > 1 ? 2 : is_small ? warps : 1;
  const Channels channels = channels_of(dice, columns == 1 && dice.chance(40), 1);
  const std::uint32_t samples = channels.experts.empty() ? dice.between(1, 2) : 1;

  const std::uint32_t rows = dice.chance(25) ? 1 : dice.between(2, 9);
  const std::uint32_t row_blocks = dice.between(1, (is_small ? 512 : 2048) / packing.values);
  const std::uint32_t row_stride = row_blocks + dice.below(2);
  const std::uint32_t groups = row_blocks * packing.values / kGroupValues + dice.below(2);
  const std::uint32_t channel = rows * columns;

  RealLaunch launch;
  launch.set_grid(divide_up(rows, rows_of_block), channels.dst, samples);
  launch.set_block(32, warps);
  launch.max_steps = 1'000'000;
  // The last block reads the rows it has for all of its own.
  const auto x = packed(dice, type, std::size_t{row_stride} * (channels.x * rows + rows_of_block));
  launch.add_pointer(x);
  launch.add_pointer(
      moderate_bytes(dice, std::size_t{samples} * channels.y * columns * groups * kGroupBytes));
  add_experts(launch, channels);
  add_fusion(launch, dice, has_fusion, x,
             std::size_t{4} * samples * std::max(channels.x, channels.dst) * channel);
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * samples * channels.dst * channel));
  launch.add(row_blocks * packing.values);
  launch.add_divisor(channels.y);
  launch.add(row_stride);
  launch.add(groups);
  launch.add(rows);
  launch.add_divisor(std::max(1U, channels.dst / channels.x));
  launch.add(row_stride * rows);
  launch.add(groups * columns);
  launch.add(channel);
  launch.add_divisor(samples);  // all of one x
  launch.add(row_stride * rows * channels.x);
  launch.add(groups * columns * channels.y);
  launch.add(channel * channels.dst);
  launch.add(channels.dst);
  return launch;
}

RealLaunch mul_mat_vec_q_moe(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t type = numbers.at(0);
  const std::uint32_t rows_of_block = numbers.at(1);
  const bool has_fusion = numbers.at(2) != 0;
  const Packing packing = packing_of(type);
  const std::uint32_t tokens = dice.between(1, kernel.bounds.max_threads[0] / 32);
  const Channels channels = channels_of(dice, true, tokens);

  const std::uint32_t rows = dice.chance(25) ? 1 : dice.between(2, 9);
  const std::uint32_t row_blocks = dice.between(1, 2048 / packing.values);
  const std::uint32_t row_stride = row_blocks + dice.below(2);
  const std::uint32_t groups = row_blocks * packing.values / kGroupValues + dice.below(2);

  RealLaunch launch;
  launch.set_grid(divide_up(rows, rows_of_block), channels.dst);
  launch.set_block(32, tokens);
  launch.max_steps = 1'000'000;
  const auto x = packed(dice, type, std::size_t{row_stride} * (channels.x * rows + rows_of_block));
  launch.add_pointer(x);
  launch.add_pointer(moderate_bytes(dice, std::size_t{tokens} * channels.y * groups * kGroupBytes));
  add_experts(launch, channels);
  add_fusion(launch, dice, has_fusion, x, std::size_t{4} * (channels.x + tokens) * channels.dst * rows);
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * tokens * channels.dst * rows));
  launch.add(row_blocks * packing.values);
  launch.add_divisor(channels.y);
  launch.add(rows);
  launch.add(row_stride);
  launch.add(groups * channels.y);
  launch.add(rows * channels.dst);
  launch.add(row_stride * rows);
  launch.add(groups);
  launch.add(rows);
  launch.add(tokens);
  launch.add(channels.dst);
  return launch;
}

RealLaunch mul_mat_vec_f(const RealKernel& kernel, fuzz::Dice& dice) {
  std::string_view arguments = kernel.name;
  arguments.remove_prefix(arguments.find("mul_mat_vec_fI") + 14);
  const std::uint32_t bytes = take_type(arguments);
  const auto numbers = template_numbers(arguments);
  const std::uint32_t columns = numbers.at(0);
  const std::uint32_t threads = numbers.at(1);
  const bool has_fusion = numbers.at(2) != 0;
  const bool has_tokens = numbers.at(3) != 0;
  const Channels channels =
      channels_of(dice, has_tokens || (columns == 1 && dice.chance(30)), has_tokens ? dice.between(1, 3) : 1);
  const std::uint32_t samples = channels.experts.empty() ? dice.between(1, 2) : 1;

  const std::uint32_t rows = dice.chance(25) ? 1 : dice.between(2, 9);
  const std::uint32_t pairs = dice.between(1, 700);  // along K
  const std::uint32_t row_stride = 2 * (pairs + dice.below(3));
  const std::uint32_t y_pairs = pairs + dice.below(3);
  const std::uint32_t all_columns = columns * channels.tokens;
  const std::uint32_t channel = rows * all_columns;

  RealLaunch launch;
  launch.set_grid(rows, channels.dst, samples * channels.tokens);
  launch.set_block(threads);
  launch.dynamic_shared_bytes = 2 * 32 * 4;
  launch.max_steps = 1'000'000;
  const auto x = moderate_bytes(dice, std::size_t{bytes} * channels.x * rows * row_stride);
  launch.add_pointer(x);
  launch.add_pointer(
      floats(dice, std::size_t{2} * samples * channels.y * all_columns * y_pairs, -1.0F, 2.0F));
  add_experts(launch, channels);
  add_fusion(launch, dice, has_fusion, x,
             std::size_t{4} * samples * std::max(channels.x, channels.dst) * channel);
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * samples * channels.dst * channel));
  launch.add(pairs);
  launch.add_divisor(channels.y);
  launch.add(row_stride);
  launch.add(y_pairs);
  launch.add(rows);
  launch.add_divisor(std::max(1U, channels.dst / channels.x));
  launch.add(row_stride * rows);
  launch.add(2 * y_pairs * all_columns);
  launch.add(channel);
  launch.add_divisor(samples);  // all of one x
  launch.add(row_stride * rows * channels.x);
  launch.add(2 * y_pairs * all_columns * channels.y);
  launch.add(channel * channels.dst);
  launch.add(channels.dst);
  return launch;
}

}  // namespace vgpu::testing::described
