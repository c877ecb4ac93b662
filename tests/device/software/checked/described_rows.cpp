// Rows taken by their numbers, and the scans of state space models. See described_launches.h.
#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "tests/device/software/checked/described_launches.h"

namespace vgpu::testing::described {
namespace {

// How the rows of a table are packed, and what each block of values takes.
struct Table {
  std::uint32_t type = 0;
  std::uint32_t threads = 0;
};

Table table_of(std::string_view kernel) {
  struct Named {
    std::string_view name;
    Table table;
  };
  static constexpr Named kNames[] = {
      {"dequantize_q4_0", {2, 256}},   {"dequantize_q4_1", {3, 256}},   {"dequantize_q5_0", {6, 256}},
      {"dequantize_q5_1", {7, 256}},   {"dequantize_q8_0", {8, 256}},   {"dequantize_q1_0", {41, 256}},
      {"dequantize_q2_K", {10, 64}},   {"dequantize_q3_K", {11, 64}},   {"dequantize_q4_K", {12, 32}},
      {"dequantize_q5_K", {13, 64}},   {"dequantize_q6_K", {14, 64}},   {"dequantize_iq2_xxs", {16, 32}},
      {"dequantize_iq2_xs", {17, 32}}, {"dequantize_iq2_s", {22, 32}},  {"dequantize_iq3_xxs", {18, 32}},
      {"dequantize_iq3_s", {21, 32}},  {"dequantize_iq1_s", {19, 32}},  {"dequantize_iq1_m", {29, 32}},
      {"dequantize_iq4_nl", {20, 32}}, {"dequantize_iq4_xs", {23, 32}}, {"dequantize_mxfp4", {39, 32}}};
  for (const Named& named : kNames) {
    const auto at = kernel.find(named.name);
    // The name ends there: with its type, or its parameters.
    if (at != std::string_view::npos && kernel.find_first_of("IE", at) == at + named.name.size())
      return named.table;
  }
  throw std::invalid_argument("no table is known of " + std::string(kernel));
}

}  // namespace

// dst[i2][i1][i0] = row src1[i2][i1][i0] of src0[i2][i1].
RealLaunch get_rows(const RealKernel& kernel, fuzz::Dice& dice) {
  constexpr std::uint32_t kSuperBlock = 256;
  const std::string_view name = kernel.name;
  const bool is_packed = name.find("16k_get_rows_floatI") == std::string_view::npos;
  const bool has_super_blocks = name.find("13k_get_rows_kqI") != std::string_view::npos;
  const Table table = is_packed ? table_of(name) : Table{.threads = kSuperBlock};

  const std::uint32_t unit = has_super_blocks ? kSuperBlock : is_packed ? packing_of(table.type).values : 1;
  const std::uint32_t columns = unit * (dice.chance(30) ? 1 : dice.between(1, std::max(3U, 700 / unit)));
  const std::uint32_t rows = dice.between(2, 6);   // of a table
  const std::uint32_t count = dice.between(1, 3);  // taken of each
  const std::uint32_t tables[] = {dice.between(1, 2), dice.between(1, 2)};
  std::uint32_t source_bytes = 0;
  if (!is_packed) {
    std::string_view arguments = name.substr(name.find("k_get_rows_floatI") + 17);
    source_bytes = take_type(arguments);
  }
  constexpr std::uint32_t kDstBytes = 4;  // at most
  const Packing packing = is_packed ? packing_of(table.type) : Packing{1, source_bytes};
  const std::uint64_t row_bytes = std::uint64_t{columns} / packing.values * packing.bytes;

  RealLaunch launch;
  const std::uint32_t along = (columns + kSuperBlock - 1) / kSuperBlock;
  // Fewer blocks than there is to do: they go on.
  launch.set_grid(count, dice.between(1, along), dice.between(1, tables[0] * tables[1]));
  launch.set_block(table.threads);
  launch.max_steps = 1'000'000;
  const std::size_t all_rows = std::size_t{rows} * tables[0] * tables[1];
  launch.add_pointer(is_packed ? packed(dice, table.type, all_rows * row_bytes / packing.bytes)
                               : moderate_bytes(dice, all_rows * row_bytes));
  std::vector<std::int32_t> numbers(std::size_t{count} * tables[0] * tables[1]);
  for (auto& number : numbers) number = static_cast<std::int32_t>(dice.below(rows));
  launch.add_pointer(words(numbers));
  launch.add_pointer(moderate_bytes(dice, numbers.size() * columns * kDstBytes));
  launch.add(std::uint64_t{columns});
  launch.add(std::uint64_t{tables[0]});
  launch.add_divisor(tables[1]);
  for (const std::uint64_t stride :
       {std::uint64_t{columns}, std::uint64_t{columns} * count, std::uint64_t{columns} * count * tables[0],
        row_bytes, row_bytes * rows, row_bytes * rows * tables[0], std::uint64_t{1}, std::uint64_t{count},
        std::uint64_t{count} * tables[0]})
    launch.add(stride);
  return launch;
}

namespace {

// What both scans take first: states, inputs, time steps, decays, B, C, which state a sequence begins with,
// and dst, where the states' ends stand behind the outputs. Sizes count floats.
struct Scan {
  std::uint32_t sequences = 0;
  std::uint32_t tokens = 0;
  std::uint32_t inputs = 0;       // of a token
  std::uint32_t steps = 0;        // of a token
  std::uint32_t decays = 0;       // in all
  std::uint32_t decay_row = 0;    // of a head
  std::uint32_t mixes = 0;        // in B and in C, of a token
  std::uint32_t state = 0;        // of a sequence
  std::uint32_t state_row = 0;    // of a head
  std::uint32_t states_kept = 1;  // of a sequence
};

void add_scan(RealLaunch& launch, fuzz::Dice& dice, const Scan& scan) {
  const std::size_t tokens = std::size_t{scan.sequences} * scan.tokens;
  const std::size_t outputs = tokens * scan.inputs;
  launch.add_pointer(floats(dice, std::size_t{scan.sequences} * scan.state, -1.0F, 2.0F));
  launch.add_pointer(floats(dice, outputs, -1.0F, 2.0F));
  // Time steps above 20 are taken as they are.
  auto steps = floats(dice, tokens * scan.steps, -2.0F, 4.0F);
  constexpr float kLong = 21.0F;
  std::memcpy(steps.data(), &kLong, 4);
  launch.add_pointer(std::move(steps));
  launch.add_pointer(floats(dice, scan.decays, -1.0F, 1.0F));
  launch.add_pointer(floats(dice, tokens * scan.mixes, -1.0F, 2.0F));
  launch.add_pointer(floats(dice, tokens * scan.mixes, -1.0F, 2.0F));
  launch.add_pointer(words(permutation(dice, static_cast<std::int32_t>(scan.sequences))));
  launch.add_pointer(
      moderate_bytes(dice, 4 * (outputs + std::size_t{scan.states_kept} * scan.sequences * scan.state)));
  // Bytes from one to the next: of states by head and by sequence; of inputs and of time steps by token and
  // by sequence; of decays by head; of B and of C by token and by sequence.
  for (const std::uint32_t stride : {scan.state_row, scan.state, scan.inputs, scan.inputs * scan.tokens,
                                     scan.steps, scan.steps * scan.tokens, scan.decay_row, scan.mixes,
                                     scan.mixes * scan.tokens, scan.mixes, scan.mixes * scan.tokens})
    launch.add(4 * stride);
  launch.add(std::uint64_t{4} * outputs);
}

}  // namespace

RealLaunch ssm_scan(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t threads = numbers.at(0);
  const std::uint32_t size = numbers.at(1);
  const std::uint32_t groups = dice.between(1, 2);
  Scan scan;
  scan.sequences = dice.between(1, 2);
  scan.tokens = numbers.at(2) != 0 ? numbers[2] : dice.between(1, 11);
  scan.inputs = groups * threads;
  scan.steps = scan.inputs;
  scan.decay_row = size;
  scan.decays = scan.inputs * size;
  scan.mixes = size;
  scan.state_row = size;
  scan.state = scan.inputs * size;

  RealLaunch launch;
  launch.set_grid(scan.sequences, groups);
  launch.set_block(threads);
  launch.max_steps = 2'000'000;
  add_scan(launch, dice, scan);
  launch.add(std::uint64_t{scan.inputs});
  launch.add(std::uint64_t{scan.tokens});
  return launch;
}

RealLaunch ssm_scan_group(const RealKernel& kernel, fuzz::Dice& dice) {
  const auto numbers = template_numbers(kernel.name);
  const std::uint32_t warps = numbers.at(0);
  const std::uint32_t size = numbers.at(1);
  const std::uint32_t groups = dice.between(1, 2);
  const std::uint32_t heads = groups * dice.between(1, 2);
  const std::uint32_t head_size = warps * dice.between(1, 2);
  Scan scan;
  scan.sequences = dice.between(1, 2);
  scan.tokens = dice.between(1, 7);
  scan.inputs = heads * head_size;
  scan.steps = heads;
  scan.decay_row = 1;
  scan.decays = heads;
  scan.mixes = groups * size;
  scan.state_row = head_size * size;
  scan.state = heads * scan.state_row;
  scan.states_kept = dice.between(1, 3);

  RealLaunch launch;
  launch.set_grid(heads * head_size / warps, scan.sequences);
  launch.set_block(size);
  launch.max_steps = 2'000'000;
  add_scan(launch, dice, scan);
  for (const std::uint32_t number : {heads, head_size, groups, scan.tokens, scan.states_kept})
    launch.add(std::uint64_t{number});
  return launch;
}

}  // namespace vgpu::testing::described
