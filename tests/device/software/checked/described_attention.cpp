// Attention: flash attention by tiles and by vectors, the indexer that scores keys, and softmax. See
// described_launches.h.
#include <algorithm>
#include <cmath>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

std::uint32_t divide_up(std::uint32_t value, std::uint32_t by) {
  return (value + by - 1) / by;
}

// The numbers that ALiBi's slopes are computed from; no bias, no slopes.
struct Slopes {
  float max_bias = 0;
  float m0 = 1;
  float m1 = 1;
  std::uint32_t heads_log2 = 1;
};

Slopes slopes_of(fuzz::Dice& dice, std::uint32_t heads) {
  Slopes slopes;
  while (2 * slopes.heads_log2 <= heads) slopes.heads_log2 *= 2;
  if (dice.chance(50)) slopes.max_bias = 8;
  slopes.m0 = std::pow(2.0F, -slopes.max_bias / static_cast<float>(slopes.heads_log2));
  slopes.m1 = std::pow(2.0F, -slopes.max_bias / 2 / static_cast<float>(slopes.heads_log2));
  return slopes;
}

// Halves, a part of them minus infinity, but never the first of a row: a row of nothing has no softmax.
std::vector<std::byte> mask_of(fuzz::Dice& dice, std::uint32_t rows, std::uint32_t columns) {
  constexpr std::uint16_t kMinusInfinity = 0xFC00;
  std::vector<std::byte> mask = moderate_bytes(dice, std::size_t{2} * rows * columns);
  for (std::size_t n = 0; n < std::size_t{rows} * columns; ++n) {
    if (n % columns != 0 && dice.chance(20)) std::memcpy(mask.data() + 2 * n, &kMinusInfinity, 2);
  }
  return mask;
}

// What flash attention's kernels know when they are compiled, and how they are launched.
struct Attention {
  std::uint32_t key_size = 0;
  std::uint32_t value_size = 0;
  std::uint32_t tile_columns = 0;
  std::uint32_t tile_heads = 0;  // heads of one K and V that share a tile
  std::uint32_t key_type = 0;
  std::uint32_t value_type = 0;
  bool has_softcap = false;
  std::uint32_t whole_keys = 0;  // they come in groups of so many; 1: in any number
};

RealLaunch describe(const RealKernel& kernel, fuzz::Dice& dice, const Attention& attention) {
  const std::uint32_t shared = attention.tile_heads * dice.between(1, 2);
  const std::uint32_t kv_heads = attention.tile_heads > 1 ? 1 : dice.between(1, 2);
  const std::uint32_t heads = kv_heads * shared;
  const std::uint32_t columns = dice.between(1, 2 * std::min(attention.tile_columns, 4U));
  const std::uint32_t keys = attention.whole_keys > 1 ? attention.whole_keys : dice.between(1, 150);
  const std::uint32_t parts = dice.between(1, 2);
  const bool has_mask = attention.tile_heads > 1 || dice.chance(70);
  const Slopes slopes = slopes_of(dice, heads);

  RealLaunch launch;
  launch.set_grid(divide_up(columns, attention.tile_columns), parts, heads / attention.tile_heads);
  launch.set_block(32, kernel.bounds.max_threads[0] / 32);
  launch.max_steps = 3'000'000;
  const std::uint32_t query_bytes = 4 * attention.key_size;
  const auto row_bytes = [](std::uint32_t size, std::uint32_t type) {
    return size / packing_of(type).values * packing_of(type).bytes;
  };
  const std::uint32_t key_bytes = row_bytes(attention.key_size, attention.key_type);
  const std::uint32_t value_bytes = row_bytes(attention.value_size, attention.value_type);
  const std::size_t rows = std::size_t{keys} * kv_heads;
  launch.add_pointer(floats(dice, std::size_t{columns} * heads * attention.key_size, -1.0F, 2.0F));
  launch.add_pointer(
      packed(dice, attention.key_type, rows * key_bytes / packing_of(attention.key_type).bytes));
  launch.add_pointer(
      packed(dice, attention.value_type, rows * value_bytes / packing_of(attention.value_type).bytes));
  if (has_mask) {
    launch.add_pointer(mask_of(dice, columns, keys));
  } else {
    launch.add_null();
  }
  if (dice.chance(40)) {
    launch.add_pointer(floats(dice, heads, -1.0F, 2.0F));  // sinks
  } else {
    launch.add_null();
  }
  launch.add_null();  // how many keys each column has, where not all
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * parts * columns * heads * attention.value_size));
  launch.add_pointer(moderate_bytes(dice, std::size_t{8} * parts * columns * heads));
  launch.add(1.0F / std::sqrt(static_cast<float>(attention.key_size)));
  launch.add(slopes.max_bias);
  launch.add(slopes.m0);
  launch.add(slopes.m1);
  launch.add(slopes.heads_log2);
  launch.add(attention.has_softcap ? 10.0F : 0.0F);
  launch.add(attention.key_size);
  launch.add_divisor(columns);
  launch.add(heads);
  launch.add(1U);                   // sequences
  launch.add(query_bytes * heads);  // from column to column, head to head, sequence to sequence
  launch.add(query_bytes);
  launch.add(query_bytes * heads * columns);
  launch.add(attention.key_size);
  launch.add(keys);
  launch.add(kv_heads);
  launch.add(1U);
  for (const std::uint32_t bytes : {key_bytes, value_bytes}) {
    launch.add(bytes * kv_heads);
    launch.add(bytes);
    launch.add(std::uint64_t{bytes} * kv_heads * keys);
  }
  launch.add(columns);  // of the mask
  launch.add(1U);
  launch.add(1U);
  launch.add(2 * keys);
  launch.add(2 * keys * columns);
  launch.add(std::uint64_t{2} * keys * columns);
  return launch;
}

}  // namespace

RealLaunch attention_tile(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  return describe(kernel, dice,
                  {.key_size = numbers.at(0),
                   .value_size = numbers.at(1),
                   .tile_columns = numbers.at(2),
                   .tile_heads = numbers.at(3),
                   .key_type = 1,
                   .value_type = 1,
                   .has_softcap = numbers.at(4) != 0,
                   .whole_keys = numbers.at(3) > 1 ? 128U : 1U});
}

RealLaunch attention_vector(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  return describe(kernel, dice,
                  {.key_size = numbers.at(0),
                   .value_size = numbers.at(0),
                   .tile_columns = numbers.at(1),
                   .tile_heads = 1,
                   .key_type = numbers.at(2),
                   .value_type = numbers.at(3),
                   .has_softcap = numbers.at(4) != 0,
                   .whole_keys = 256});
}

RealLaunch lightning_indexer(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t warps = numbers.at(0);
  const std::uint32_t keys_of_block = numbers.at(1);
  const std::uint32_t size = numbers.at(2);
  const std::uint32_t heads = numbers.at(3);
  const std::uint32_t type = numbers.at(4);
  const Packing packing = packing_of(type);
  const std::uint64_t key_bytes = size / packing.values * packing.bytes;
  const std::uint32_t keys = dice.between(1, keys_of_block + keys_of_block / 2);
  const std::uint32_t batch = dice.between(1, 2);
  const std::uint64_t mask_row = 2 * (keys + dice.below(3));

  RealLaunch launch;
  launch.set_grid(divide_up(keys, keys_of_block), batch, 1);
  launch.set_block(32, warps);
  launch.max_steps = 2'000'000;
  launch.add_pointer(floats(dice, std::size_t{batch} * heads * size, -1.0F, 2.0F));
  launch.add_pointer(packed(dice, type, keys * key_bytes / packing.bytes));
  launch.add_pointer(floats(dice, std::size_t{batch} * heads, -1.0F, 2.0F));
  launch.add_pointer(moderate_bytes(dice, batch * mask_row));
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * batch * keys));
  launch.add(std::uint64_t{1});  // streams
  launch.add(std::uint64_t{batch});
  launch.add(std::uint64_t{keys});
  const std::uint64_t scores = std::uint64_t{4} * keys;
  const std::uint64_t queries = std::uint64_t{4} * size;
  // Bytes from one to the next along the second to the fourth dimension: of dst, queries, keys, weights,
  // mask.
  for (const std::uint64_t stride :
       {scores, scores * batch, scores * batch, queries, queries * heads, queries * heads * batch, key_bytes,
        key_bytes, key_bytes * keys, std::uint64_t{4} * heads, std::uint64_t{4} * heads * batch,
        std::uint64_t{4} * heads * batch, mask_row, mask_row * batch, mask_row * batch})
    launch.add(stride);
  launch.add(std::uint64_t{1});  // masks, of which streams take turns
  return launch;
}

RealLaunch soft_max(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t fixed_columns = numbers.at(1);
  const bool has_halves = kernel.name.find("6__half") != std::string::npos;
  const std::uint32_t mask_bytes = has_halves ? 2 : 4;
  const std::uint32_t columns = fixed_columns != 0 ? fixed_columns : dice.between(1, 400);
  std::uint32_t threads = 32;
  while (threads < columns && threads < 1024) threads *= 2;
  const std::uint32_t rows = dice.between(1, 3);
  const std::uint32_t heads = dice.between(1, 3);
  const std::uint32_t mask_heads = dice.between(1, heads);
  const Slopes slopes = slopes_of(dice, heads);

  RealLaunch launch;
  launch.set_grid(rows, heads, 1);
  launch.set_block(numbers.at(2) != 0 ? numbers[2] : threads);
  launch.dynamic_shared_bytes = 4 * (divide_up(columns, 32) * 32 + 32);
  launch.max_steps = 1'000'000;
  launch.add_pointer(floats(dice, std::size_t{columns} * rows * heads, -4.0F, 8.0F));
  const std::size_t mask_size = std::size_t{columns} * rows * mask_heads;
  if (dice.chance(25)) {
    launch.add_null();
  } else {
    launch.add_pointer(has_halves ? mask_of(dice, rows * mask_heads, columns)
                                  : floats(dice, mask_size, -2.0F, 2.0F));
  }
  if (dice.chance(50)) {
    launch.add_null();
  } else {
    launch.add_pointer(floats(dice, heads, -1.0F, 2.0F));  // sinks
  }
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * columns * rows * heads));
  launch.add(std::uint64_t{heads});
  launch.add(slopes.heads_log2);
  const std::uint64_t mask_row = std::uint64_t{mask_bytes} * columns;
  for (const std::uint64_t member :
       {std::uint64_t{columns}, std::uint64_t{rows}, std::uint64_t{rows}, std::uint64_t{columns},
        std::uint64_t{rows}, std::uint64_t{heads}, std::uint64_t{1}, mask_row, mask_row * rows,
        mask_row * rows * mask_heads, std::uint64_t{mask_heads}, std::uint64_t{1}})
    launch.add(member);
  launch.add(0.5F + static_cast<float>(dice.below(8)) / 8);
  launch.add(slopes.max_bias);
  launch.add(slopes.m0);
  launch.add(slopes.m1);
  return launch;
}

}  // namespace vgpu::testing::described
