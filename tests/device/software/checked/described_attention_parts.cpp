// What goes before and after flash attention: which keys a tile needs at all, and sums of the parts that
// several blocks computed of one tile. See described_launches.h.
#include <algorithm>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

std::uint32_t divide_up(std::uint32_t value, std::uint32_t by) {
  return (value + by - 1) / by;
}

// dst, and how it is cut into tiles of columns and of heads that share one K and V.
struct Tiles {
  Tiles(const RealKernel& kernel, fuzz::Dice& dice) {
    const auto numbers = template_numbers(kernel.name);
    size = numbers.at(0);
    tile_columns = numbers.at(1);
    tile_heads = numbers.at(2);
    shared = dice.between(1, 2 * tile_heads);
    kv_heads = dice.between(1, 2);
    columns = dice.between(1, tile_columns + tile_columns / 2);
    along_columns = divide_up(columns, tile_columns);
    along_heads = along_columns * divide_up(shared, tile_heads);
    count = along_heads * kv_heads;
  }

  std::uint32_t size = 0;  // of a head
  std::uint32_t tile_columns = 0;
  std::uint32_t tile_heads = 0;
  std::uint32_t shared = 0;  // heads of one K and V
  std::uint32_t kv_heads = 0;
  std::uint32_t columns = 0;
  std::uint32_t along_columns = 0;  // tiles
  std::uint32_t along_heads = 0;    // and along columns
  std::uint32_t count = 0;          // of tiles
};

// dst, and the greatest scores and sums of all blocks, twice, then their results.
void add_results(RealLaunch& launch, fuzz::Dice& dice, const Tiles& tiles, std::uint32_t blocks) {
  const std::size_t heads = std::size_t{tiles.kv_heads} * tiles.shared;
  const std::size_t in_tile = std::size_t{tiles.tile_columns} * tiles.tile_heads;
  launch.add_pointer(floats(dice, tiles.columns * heads * tiles.size, -1.0F, 2.0F));
  launch.add_pointer(floats(dice, blocks * in_tile * (4 + tiles.size), 0.25F, 2.0F));
}

}  // namespace

// Blocks share out all tiles' iterations evenly; each that ends a tile others began adds theirs to dst.
RealLaunch attention_fixup(const RealKernel& kernel, fuzz::Dice& dice) {
  const Tiles tiles(kernel, dice);
  const std::uint32_t iterations = dice.between(3, 9);
  const std::uint32_t blocks = dice.chance(30) ? 2 * tiles.count + 1 : tiles.count + 1;

  RealLaunch launch;
  launch.set_grid(blocks, tiles.tile_columns, tiles.tile_heads);
  launch.set_block(tiles.size);
  launch.max_steps = 2'000'000;
  add_results(launch, dice, tiles, blocks);
  launch.add(tiles.columns);
  launch.add(tiles.kv_heads * tiles.shared);
  launch.add(tiles.shared);
  launch.add(iterations * tiles.count);
  launch.add_divisor(iterations * tiles.count);
  launch.add_divisor(iterations * tiles.along_heads);
  launch.add_divisor(iterations * tiles.along_columns);
  launch.add_divisor(iterations);
  return launch;
}

// The same where every tile has as many blocks.
RealLaunch attention_fixup_uniform(const RealKernel& kernel, fuzz::Dice& dice) {
  const Tiles tiles(kernel, dice);
  const std::uint32_t blocks_of_tile = dice.between(2, 4);
  const std::uint32_t blocks = blocks_of_tile * tiles.count;

  RealLaunch launch;
  launch.set_grid(tiles.count, tiles.tile_columns, tiles.tile_heads);
  launch.set_block(tiles.size);
  launch.max_steps = 2'000'000;
  add_results(launch, dice, tiles, blocks);
  launch.add(tiles.columns);
  launch.add(tiles.kv_heads * tiles.shared);
  launch.add(tiles.kv_heads);
  launch.add(blocks);
  launch.add(tiles.shared);
  launch.add(blocks_of_tile);
  launch.add_divisor(tiles.count);
  launch.add_divisor(tiles.along_heads);
  launch.add_divisor(tiles.along_columns);
  return launch;
}

// Parts of the keys that blocks beside each other took.
RealLaunch attention_combine(const RealKernel& kernel, fuzz::Dice& dice) {
  const std::uint32_t size = template_numbers(kernel.name).at(0);
  const std::uint32_t parts = dice.between(1, 70);
  const std::uint32_t columns = dice.between(1, 3);
  const std::uint32_t heads = dice.between(1, 3);
  const std::size_t rows = std::size_t{columns} * heads;

  RealLaunch launch;
  launch.set_grid(columns, heads);
  launch.set_block(size);
  launch.dynamic_shared_bytes = 8 * parts;
  launch.max_steps = 1'000'000;
  launch.add_pointer(floats(dice, rows * parts * size, -1.0F, 2.0F));
  launch.add_pointer(floats(dice, 2 * rows * parts, 0.25F, 4.0F));
  launch.add_pointer(moderate_bytes(dice, 4 * rows * size));
  launch.add(parts);
  return launch;
}

// The last keys that the mask leaves any column of a tile, in groups.
RealLaunch attention_last_keys(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kGroup = 256;
  constexpr std::uint16_t kMinusInfinity = 0xFC00;
  const std::uint32_t tile_columns = template_numbers(kernel.name).at(0);
  const std::uint32_t tiles = dice.between(1, 3);
  const std::uint32_t sequences = dice.between(1, 2);
  const std::uint32_t groups = dice.between(1, 5);
  const std::uint32_t row = groups * kGroup;
  const std::uint32_t rows = tiles * tile_columns;

  RealLaunch launch;
  launch.set_grid(tiles, sequences);
  launch.set_block(kernel.bounds.max_threads[0]);
  launch.max_steps = 1'000'000;
  std::vector<std::byte> mask = moderate_bytes(dice, std::size_t{2} * row * rows * sequences);
  for (std::uint32_t tile = 0; tile < tiles * sequences; ++tile) {
    // Nothing, or a few keys of one column.
    const std::uint32_t kept = dice.chance(20) ? 0 : dice.between(1, row);
    for (std::uint32_t column = 0; column < tile_columns; ++column) {
      for (std::uint32_t key = column == 0 ? kept : 0; key < row; ++key)
        std::memcpy(mask.data() + std::size_t{2} * ((tile * tile_columns + column) * row + key),
                    &kMinusInfinity, 2);
    }
  }
  launch.add_pointer(std::move(mask));
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * tiles * sequences));
  launch.add(groups);
  launch.add(std::uint64_t{row / 2});  // pairs
  launch.add(std::uint64_t{row / 2 * rows});
  return launch;
}

}  // namespace vgpu::testing::described
