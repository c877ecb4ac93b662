// Quantized matrix products: dst = x · y, x packed rows, y columns of bytes in groups of 128 values with
// their scales. A tile of dst is I rows by J columns. See described_launches.h.
#include <algorithm>
#include <stdexcept>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

constexpr std::uint32_t kTileValues = 256;                   // along K, that one iteration takes
constexpr std::uint32_t kGroupValues = 128;                  // of y
constexpr std::uint32_t kGroupWords = kGroupValues / 4 + 4;  // scales first

// Rows of a tile, which the compiler knew: what a fixup adds before it divides by it.
std::uint32_t tile_rows(const RealKernel& kernel) {
  const auto& decl = *kernel.module->find_function(kernel.name);
  const auto body = kernel.module->text().substr(decl.body_begin, decl.body_end - decl.body_begin);
  const auto of_64 = body.find(", 63;");
  const auto of_128 = body.find(", 127;");
  if (of_64 == of_128) throw std::invalid_argument(kernel.name + " rounds up to tiles of neither 64 nor 128");
  return of_64 < of_128 ? 64 : 128;
}

std::uint32_t divide_up(std::uint32_t value, std::uint32_t by) {
  return (value + by - 1) / by;
}

// Columns in groups, as a mixture of experts has them, or all together.
struct Columns {
  std::uint32_t count = 0;                 // in all
  std::uint32_t tiles = 0;                 // of the largest group
  std::vector<std::int32_t> order;         // empty: as they are
  std::vector<std::int32_t> group_starts;  // and the end of the last one
};

Columns columns_of(fuzz::Dice& dice, std::uint32_t tile, std::uint32_t groups, bool is_mixture) {
  Columns columns;
  if (!is_mixture) {
    columns.tiles = dice.between(1, 2);
    columns.count = (columns.tiles - 1) * tile + dice.between(1, tile);
    return columns;
  }
  columns.group_starts.push_back(0);
  columns.tiles = 1;
  for (std::uint32_t group = 0; group < groups; ++group) {
    columns.count += dice.between(1, tile);
    columns.group_starts.push_back(static_cast<std::int32_t>(columns.count));
  }
  columns.order = permutation(dice, static_cast<std::int32_t>(columns.count));
  columns.order.resize(columns.count + tile);  // a tile is read whole
  return columns;
}

void add_columns(RealLaunch& launch, const Columns& columns) {
  if (columns.order.empty()) {
    launch.add_null();
    launch.add_null();
    return;
  }
  launch.add_pointer(words(columns.order));
  launch.add_pointer(words(columns.group_starts));
}

}  // namespace

RealLaunch mul_mat_q(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kRows = 64;  // of a tile, on sm_61
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t type = numbers.at(0);
  const std::uint32_t tile = numbers.at(1);
  const bool any_rows = numbers.at(2) != 0;
  const Packing packing = packing_of(type);
  const bool is_mixture = dice.chance(25);

  // Rows need not fill the last tile of kernels that check, columns never; along K whatever is beyond the
  // end is multiplied by what y holds there, as llama.cpp pads y with zeros.
  const std::uint32_t row_tiles = tile < 32 ? dice.between(1, 2) : 1;
  const std::uint32_t rows = any_rows ? (row_tiles - 1) * kRows + dice.between(1, kRows) : row_tiles * kRows;
  const std::uint32_t row_blocks = dice.between(1, kTileValues / packing.values * (tile < 32 ? 2 : 1));
  const std::uint32_t row_stride = row_blocks + dice.below(2);
  const std::uint32_t channels = dice.between(1, 2);
  const std::uint32_t channel_ratio = is_mixture ? 1 : dice.between(1, channels);
  const Columns columns = columns_of(dice, tile, channels, is_mixture);
  const std::uint32_t dst_stride = rows + dice.below(3);
  const std::uint32_t iterations = divide_up(row_blocks * packing.values, kTileValues);
  const std::uint32_t y_words = columns.count * kGroupWords * iterations * kTileValues / kGroupValues;
  const std::uint32_t x_blocks = rows * row_stride;

  RealLaunch launch;
  launch.set_grid(row_tiles, columns.tiles, channels);
  launch.set_block(32, 8);
  launch.dynamic_shared_bytes = 48 << 10;
  launch.max_steps = 3'000'000;
  const std::uint32_t beyond = kTileValues / packing.values;
  launch.add_pointer(packed(dice, type, (channels / channel_ratio) * x_blocks + beyond));
  launch.add_pointer(moderate_bytes(
      dice, 4 * (std::size_t{is_mixture ? 1 : channels} * y_words + std::size_t{tile} * kGroupWords + 256)));
  add_columns(launch, columns);
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * channels * dst_stride * columns.count));
  launch.add_null();  // parts of tiles
  if (dice.chance(50)) {
    launch.add_null();
  } else {  // a scale for each column
    launch.add_pointer(floats(dice, std::size_t{channels} * columns.count + tile, 0.5F, 1.0F));
  }
  launch.add_divisor(row_blocks);
  launch.add(rows);
  launch.add(columns.count);
  launch.add(row_stride);
  launch.add(columns.count);
  launch.add(dst_stride);
  launch.add_divisor(channel_ratio);
  launch.add_divisor(channels);
  launch.add(x_blocks);
  launch.add(y_words);
  launch.add(dst_stride * columns.count);
  launch.add_divisor(1);  // samples
  launch.add_divisor(1);
  for (int stride = 0; stride < 3; ++stride) launch.add(std::uint32_t{0});
  launch.add_divisor(columns.tiles);
  return launch;
}

// Blocks share out all tiles' iterations evenly, so tiles are begun by one block and ended by others: these
// add what the earlier ones left in `parts` to dst.
RealLaunch mul_mat_q_fixup(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const Packing packing = packing_of(numbers.at(0));
  const std::uint32_t tile = numbers.at(1);
  const bool any_rows = numbers.at(2) != 0;
  const std::uint32_t height = tile_rows(kernel);
  const bool is_mixture = dice.chance(30);

  const std::uint32_t per_iteration = kTileValues / packing.values;
  const std::uint32_t row_blocks = per_iteration * dice.between(3, 9) + dice.below(per_iteration);
  const std::uint32_t row_tiles = dice.between(1, 2);
  const std::uint32_t rows =
      any_rows ? (row_tiles - 1) * height + dice.between(1, height) : row_tiles * height;
  const std::uint32_t channels = dice.between(1, 2);
  const std::uint32_t samples = is_mixture ? 1 : dice.between(1, 2);
  const Columns columns = columns_of(dice, tile, channels, is_mixture);
  const std::uint32_t dst_stride = rows + dice.below(3);
  const std::uint32_t channel_stride = dst_stride * columns.count;
  const std::uint32_t tiles = samples * channels * columns.tiles * row_tiles;
  const std::uint32_t blocks = dice.chance(30) ? 2 * tiles + 1 : tiles + 1;

  RealLaunch launch;
  launch.set_grid(blocks, height / 32);
  launch.set_block(32, 4);
  launch.max_steps = 1'000'000;
  add_columns(launch, columns);
  launch.add_pointer(floats(dice, std::size_t{samples} * channels * channel_stride, -1.0F, 2.0F));
  launch.add_pointer(floats(dice, std::size_t{blocks} * tile * height, -1.0F, 2.0F));
  launch.add_divisor(row_blocks);
  launch.add(rows);
  launch.add(columns.count);
  launch.add(dst_stride);
  launch.add_divisor(channels);
  launch.add(channel_stride);
  launch.add_divisor(samples);
  launch.add(channels * channel_stride);
  launch.add_divisor(columns.tiles);
  return launch;
}

// A convolution as a product: the input is padded already, and 64 output channels by 64 places are a tile.
RealLaunch convolution(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kTile = 64;
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t width = numbers.at(0) != 0 ? numbers[0] : dice.between(1, 3);
  const std::uint32_t height = numbers.at(1) != 0 ? numbers[1] : dice.between(1, 3);
  const std::uint32_t stride[] = {dice.between(1, 2), dice.between(1, 2)};
  const std::uint32_t dilation[] = {dice.between(1, 2), dice.between(1, 2)};
  const std::uint32_t out_width = dice.between(1, 11);
  const std::uint32_t out_height = dice.between(1, 11);
  const std::uint32_t in_width = (out_width - 1) * stride[0] + (width - 1) * dilation[0] + 1 + dice.below(2);
  const std::uint32_t in_height =
      (out_height - 1) * stride[1] + (height - 1) * dilation[1] + 1 + dice.below(2);
  const std::uint32_t in_channels = dice.between(1, 70);
  const std::uint32_t out_channels = dice.between(1, 70);
  const std::uint32_t batch = dice.between(1, 2);
  const std::uint32_t split = dice.between(1, 2);
  const std::uint32_t out_places = out_width * out_height;

  RealLaunch launch;
  launch.set_grid(divide_up(out_places, kTile), divide_up(out_channels, kTile), batch * split);
  launch.set_block(32, 4);
  launch.max_steps = 2'000'000;
  launch.add_pointer(moderate_bytes(dice, std::size_t{2} * batch * in_channels * in_width * in_height));
  launch.add_pointer(moderate_bytes(dice, std::size_t{2} * out_channels * in_channels * width * height));
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * batch * split * out_channels * out_places));
  for (const std::uint32_t member :
       {in_width, in_height, out_width, out_height, width, height, stride[0], stride[1], 0U, 0U, dilation[0],
        dilation[1], in_channels, out_channels, batch, batch * out_channels * out_places})
    launch.add(std::uint64_t{member});
  launch.add(split);
  return launch;
}

}  // namespace vgpu::testing::described
