// See real_launch.h.
#include "tests/device/software/checked/real_launch.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace vgpu::testing {

void RealLaunch::set_grid(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  grid[0] = x;
  grid[1] = y;
  grid[2] = z;
}

void RealLaunch::set_block(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  block[0] = x;
  block[1] = y;
  block[2] = z;
}

void RealLaunch::add_pointer(std::vector<std::byte> content) {
  add_null();
  pointers.push_back(static_cast<std::uint32_t>(params.size() - 8));
  data.push_back(std::move(content));
}

void RealLaunch::add_divisor(std::uint32_t divisor) {
  const auto shift = static_cast<std::uint32_t>(std::bit_width(divisor - 1));
  const std::uint64_t factor = ((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - divisor)) / divisor;
  add(static_cast<std::uint32_t>(factor + 1));
  add(shift);
  add(divisor);
}

std::vector<std::byte> moderate_bytes(fuzz::Dice& dice, std::size_t bytes) {
  std::vector<std::byte> data(bytes);
  for (std::size_t at = 0; at + 2 <= bytes; at += 2) {
    const auto half = static_cast<std::uint16_t>((static_cast<std::uint32_t>(dice.bits() >> 20) & 0x83FF) |
                                                 (12 + dice.below(4)) << 10);
    std::memcpy(data.data() + at, &half, 2);
  }
  return data;
}

std::vector<std::byte> floats(fuzz::Dice& dice, std::size_t count, float least, float width) {
  std::vector<std::byte> data(4 * count);
  for (std::size_t n = 0; n < count; ++n) {
    const float value = least + width * static_cast<float>(dice.below(1 << 20)) / (1 << 20);
    std::memcpy(data.data() + 4 * n, &value, 4);
  }
  return data;
}

std::vector<std::byte> words(std::span<const std::int32_t> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

std::vector<std::int32_t> permutation(fuzz::Dice& dice, std::int32_t count) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  for (std::size_t n = all.size(); n > 1; --n)
    std::swap(all[n - 1], all[dice.below(static_cast<std::uint32_t>(n))]);
  return all;
}

std::vector<std::uint32_t> template_numbers(std::string_view mangled) {
  const auto is_digit = [&](std::size_t at) {
    return at < mangled.size() && std::isdigit(static_cast<unsigned char>(mangled[at])) != 0;
  };
  const auto number = [&](std::size_t& at) {
    std::uint32_t value = 0;
    for (; is_digit(at); ++at) value = 10 * value + static_cast<std::uint32_t>(mangled[at] - '0');
    return value;
  };
  std::vector<std::uint32_t> numbers;
  for (std::size_t start = 0; (start = mangled.find('L', start)) != std::string_view::npos; ++start) {
    // The type, by a letter, by the length of a name and the name, or by `S0_`, an earlier one's number; then
    // the value and an E.
    std::size_t at = start + 1;
    if (is_digit(at)) {
      const std::size_t length = number(at);
      at += length;
    } else if (mangled.substr(at).starts_with('S')) {
      at = std::min(mangled.find('_', at), mangled.size() - 1) + 1;
    } else {
      ++at;
    }
    if (!is_digit(at)) continue;
    const std::uint32_t value = number(at);
    if (at < mangled.size() && mangled[at] == 'E') numbers.push_back(value);
  }
  return numbers;
}

std::uint32_t take_type(std::string_view& rest) {
  struct Named {
    std::string_view name;
    std::uint32_t bytes;
  };
  static constexpr Named kNames[] = {{"f", 4}, {"i", 4}, {"6__half", 2}, {"13__nv_bfloat16", 2}};
  for (const Named& named : kNames) {
    if (!rest.starts_with(named.name)) continue;
    rest.remove_prefix(named.name.size());
    return named.bytes;
  }
  throw std::invalid_argument("no type is known by what begins " + std::string(rest));
}

Packing packing_of(std::uint32_t type) {
  switch (type) {
    case 0:  // F32
      return {1, 4};
    case 1:   // F16
    case 30:  // BF16
      return {1, 2};
    case 2:  // Q4_0
      return {32, 18};
    case 3:  // Q4_1
      return {32, 20};
    case 6:  // Q5_0
      return {32, 22};
    case 7:  // Q5_1
      return {32, 24};
    case 8:  // Q8_0
      return {32, 34};
    case 10:  // Q2_K
      return {256, 84};
    case 11:  // Q3_K
      return {256, 110};
    case 12:  // Q4_K
      return {256, 144};
    case 13:  // Q5_K
      return {256, 176};
    case 14:  // Q6_K
      return {256, 210};
    case 16:  // IQ2_XXS
      return {256, 66};
    case 17:  // IQ2_XS
      return {256, 74};
    case 18:  // IQ3_XXS
      return {256, 98};
    case 19:  // IQ1_S
      return {256, 50};
    case 20:  // IQ4_NL
      return {32, 18};
    case 21:  // IQ3_S
      return {256, 110};
    case 22:  // IQ2_S
      return {256, 82};
    case 23:  // IQ4_XS
      return {256, 136};
    case 29:  // IQ1_M
      return {256, 56};
    case 39:  // MXFP4
      return {32, 17};
    case 40:  // NVFP4
      return {64, 36};
    case 41:  // Q1_0
      return {128, 18};
    case 42:  // Q2_0
      return {64, 18};
    default:
      throw std::invalid_argument("no packing is known of ggml's type " + std::to_string(type));
  }
}

std::vector<std::byte> packed(fuzz::Dice& dice, std::uint32_t type, std::size_t blocks) {
  constexpr std::uint32_t kMxfp4 = 39;
  const Packing packing = packing_of(type);
  std::vector<std::byte> data = moderate_bytes(dice, blocks * packing.bytes + 1);
  data.pop_back();
  // The only scale that is no half, and would be as large as floats get: an exponent.
  if (type == kMxfp4) {
    for (std::size_t n = 0; n < blocks; ++n)
      data[n * packing.bytes] = static_cast<std::byte>(120 + dice.below(12));
  }
  return data;
}

}  // namespace vgpu::testing
