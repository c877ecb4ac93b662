// One launch of a kernel of a real library, and what writes its parameters down in their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "tests/device/software/fuzz/dice.h"

namespace vgpu::testing {

struct RealLaunch {
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t dynamic_shared_bytes = 0;
  std::vector<std::byte> params;             // pointers are 0
  std::vector<std::uint32_t> pointers;       // offsets of pointers
  std::vector<std::vector<std::byte>> data;  // one for each pointer: all that the kernel may reach by it
  std::uint64_t max_steps = 0;               // warp instructions of the whole grid, at most
  bool leaves_memory = false;                // the kernel has no effect that memory could show

  void set_grid(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1);
  void set_block(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1);

  // Parameters, and members of structures, each at the next offset that its size divides.
  template <typename T>
  void add(T value) {
    while (params.size() % sizeof(T) != 0) params.emplace_back();
    const auto* const first = reinterpret_cast<const std::byte*>(&value);
    params.insert(params.end(), first, first + sizeof(T));
  }
  void add_pointer(std::vector<std::byte> content);
  void add_null() { add(std::uint64_t{0}); }
  // A divisor as llama.cpp passes it: what to multiply by, how far to shift, itself. 1 at least.
  void add_divisor(std::uint32_t divisor);
};

// Contents of memory.
// Whatever type reads it, halves and floats of moderate size.
[[nodiscard]] std::vector<std::byte> moderate_bytes(fuzz::Dice& dice, std::size_t bytes);
// From `least` to below `least + width`.
[[nodiscard]] std::vector<std::byte> floats(fuzz::Dice& dice, std::size_t count, float least, float width);
[[nodiscard]] std::vector<std::byte> words(std::span<const std::int32_t> values);
// 0 … count - 1 in any order.
[[nodiscard]] std::vector<std::int32_t> permutation(fuzz::Dice& dice, std::int32_t count);

// The numbers among the template arguments in a mangled name, in their order.
[[nodiscard]] std::vector<std::uint32_t> template_numbers(std::string_view mangled);

// The bytes of the type whose name begins what is left of a mangled name, and is taken off it. Throws
// std::invalid_argument for types that no kernel of the sample has there.
[[nodiscard]] std::uint32_t take_type(std::string_view& mangled);

// How llama.cpp packs a type's values: so many in a block of so many bytes.
struct Packing {
  std::uint32_t values = 0;
  std::uint32_t bytes = 0;
};
// By ggml's number of the type. Throws std::invalid_argument for types that no kernel of the sample has.
[[nodiscard]] Packing packing_of(std::uint32_t type);
// `blocks` of them, with scales of moderate size.
[[nodiscard]] std::vector<std::byte> packed(fuzz::Dice& dice, std::uint32_t type, std::size_t blocks);

}  // namespace vgpu::testing
