// Kernels of CUB, NVIDIA's library of sorts and sums. See described_launches.h.
#include <numeric>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {

// How many keys have each value of some of their bits; every block counts its share.
RealLaunch radix_upsweep(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kBits = 7;
  const std::uint32_t blocks = dice.between(1, 3);
  const std::uint32_t big_blocks = dice.between(0, blocks);
  const std::uint32_t small_share = dice.between(1, 900);
  const std::uint32_t big_share = small_share + dice.between(1, 900);
  const std::uint32_t base = big_blocks * (big_share - small_share);
  const std::uint32_t shared_out = base + blocks * small_share;
  const std::uint32_t keys = big_blocks == blocks ? shared_out : shared_out - dice.below(small_share);

  RealLaunch launch;
  launch.set_grid(blocks);
  launch.set_block(kernel.bounds.max_threads[0]);
  launch.max_steps = 1'000'000;
  launch.add_pointer(floats(dice, keys, -8.0F, 16.0F));
  launch.add_pointer(moderate_bytes(dice, std::size_t{4} * blocks * (1 << kBits)));
  launch.add(keys);
  launch.add(dice.chance(50) ? 0U : kBits);  // first bit
  launch.add(kBits);
  // What is for whom: shares, big shares, their sizes, what the big ones have more; the rest is for a thread.
  for (const std::uint32_t member :
       {blocks, big_blocks, big_share, small_share, base, keys, blocks, 0U, 0U, 1U})
    launch.add(member);
  launch.add(std::uint8_t{0});
  return launch;
}

// One pass of a sort: each key, and what goes with it, goes to where its digit begins, behind those before
// it.
RealLaunch radix_onesweep(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kBits = 8;
  constexpr std::uint32_t kTile = 7680;
  constexpr std::uint32_t kSign = 0x8000'0000;
  const bool is_descending = template_numbers(kernel.name).at(0) != 0;
  const std::uint32_t count = dice.chance(70) ? dice.between(kTile + 1, 9000) : dice.between(1, kTile);
  const std::uint32_t blocks = (count + kTile - 1) / kTile;
  const std::uint32_t first_bit = kBits * dice.below(4);
  const std::vector<std::byte> keys = floats(dice, count, -8.0F, 16.0F);
  std::vector<std::int32_t> starts((1 << kBits) + 1);
  for (std::uint32_t n = 0; n < count; ++n) {
    std::uint32_t key = 0;
    std::memcpy(&key, keys.data() + std::size_t{4} * n, 4);
    key ^= key >= kSign ? ~0U : kSign;  // ordered as the floats are
    if (is_descending) key = ~key;
    ++starts[((key >> first_bit) & ((1 << kBits) - 1)) + 1];
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  starts.pop_back();

  RealLaunch launch;
  launch.set_grid(blocks);
  launch.set_block(kernel.bounds.max_threads[0]);
  launch.max_steps = 2'000'000;
  launch.add_pointer(
      std::vector<std::byte>(std::size_t{4} * blocks << kBits));  // what blocks tell later ones
  launch.add_pointer(std::vector<std::byte>(4));                  // tiles taken
  launch.add_pointer(moderate_bytes(dice, 4 << kBits));
  launch.add_pointer(words(starts));
  launch.add_pointer(moderate_bytes(dice, keys.size()));
  launch.add_pointer(keys);
  launch.add_pointer(moderate_bytes(dice, keys.size()));
  launch.add_pointer(words(permutation(dice, static_cast<std::int32_t>(count))));
  launch.add(count);
  launch.add(first_bit);
  launch.add(kBits);
  launch.add(std::uint8_t{0});
  return launch;
}

// Keys with their numbers, sorted within segments: tiny, within a warp, within a tile of a block.
RealLaunch segmented_sort(const RealKernel& kernel, fuzz::Dice& dice) {
  std::vector<std::int32_t> begins;
  std::vector<std::int32_t> ends;
  std::int32_t at = 0;
  for (const std::uint32_t size :
       {dice.below(3), dice.between(3, 40), dice.between(41, 288), dice.between(289, 700)}) {
    begins.push_back(at);
    at += static_cast<std::int32_t>(size);
    ends.push_back(at);
  }
  const auto keys = static_cast<std::size_t>(at);

  RealLaunch launch;
  launch.set_grid(static_cast<std::uint32_t>(begins.size()));
  launch.set_block(kernel.bounds.max_threads[0]);
  launch.max_steps = 2'000'000;
  for (int which = 0; which < 2; ++which) {  // keys, then numbers
    launch.add_pointer(floats(dice, keys, -8.0F, 16.0F));
    launch.add_pointer(moderate_bytes(dice, 4 * keys));
    launch.add_pointer(moderate_bytes(dice, 4 * keys));  // to and fro
    launch.add_pointer(moderate_bytes(dice, 4 * keys));
  }
  launch.add_pointer(words(begins));
  launch.add_pointer(words(ends));
  return launch;
}

RealLaunch reduce_tile(const RealKernel& kernel, fuzz::Dice& dice) {
  const std::uint32_t count = dice.between(1, 9000);
  RealLaunch launch;
  launch.set_block(kernel.bounds.max_threads[0]);
  launch.max_steps = 1'000'000;
  launch.add_pointer(floats(dice, count, -1.0F, 2.0F));
  launch.add_pointer(moderate_bytes(dice, 4));
  launch.add(std::uint64_t{count});
  launch.add(std::uint8_t{0});  // plus
  launch.add(0.75F);
  return launch;
}

// CUB launches it to ask what it was compiled for. Its body is a return: there is nothing to see but its end.
RealLaunch nothing(const RealKernel&, fuzz::Dice& dice) {
  RealLaunch launch;
  launch.set_grid(dice.between(1, 3));
  launch.set_block(dice.between(1, 100));
  launch.max_steps = 1000;
  launch.leaves_memory = true;
  return launch;
}

}  // namespace vgpu::testing::described
