// See compare.h.
#include "tests/device/software/checked/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "device/software/oracle/arithmetic.h"

namespace vgpu::software::checked {
namespace {

using device::Result;

// Kernels store such as -FLT_MAX / 2 for "nothing yet": no measure of their results.
constexpr double kSentinel = 1e30;
constexpr std::size_t kMostDifferences = std::size_t{1} << 22;

bool is_approximate(const ptx::Instruction& i) {
  switch (i.opcode) {
    case ptx::Opcode::kEx2:
    case ptx::Opcode::kLg2:
    case ptx::Opcode::kSin:
    case ptx::Opcode::kCos:
    case ptx::Opcode::kTanh:
    case ptx::Opcode::kRsqrt:
      return true;
    default:
      return i.has(ptx::kFlagApprox) || i.has(ptx::kFlagFull);
  }
}

// As the numbers of a line: neighbouring floats are one apart.
int64_t order(uint32_t bits) {
  const auto magnitude = static_cast<int64_t>(bits & 0x7fffffffu);
  return (bits >> 31) != 0 ? -magnitude : magnitude;
}

double value_of(uint32_t bits, uint32_t size) {
  return size == 2 ? oracle::half_to_double(bits) : static_cast<double>(std::bit_cast<float>(bits));
}

// One launch's values: the bounds are relative to the largest of them.
struct Values {
  double largest = 0;
  double largest_error = 0;
};

}  // namespace

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kExact:
      return "exact";
    case Verdict::kWithin:
      return "within";
    case Verdict::kMismatch:
      return "mismatch";
    default:
      return "not checked";
  }
}

Result<KernelTraits> traits_of(const ptx::Module& module, std::string_view kernel) {
  KernelTraits traits;
  const auto first = module.function_index(kernel);
  if (!first) {
    return std::unexpected(device::Error{protocol::Status::kNotFound, fmt::format("no kernel {}", kernel)});
  }
  std::set<uint32_t> seen{*first};
  std::vector<uint32_t> pending{*first};
  while (!pending.empty()) {
    const auto index = pending.back();
    pending.pop_back();
    if (!module.functions()[index].is_defined) continue;
    const auto function = module.parse_function(index);
    if (!function) {
      return std::unexpected(device::Error{protocol::Status::kInvalidPtx, function.error().describe()});
    }
    for (const auto& i : function->instructions) {
      traits.approximate = traits.approximate || is_approximate(i);
      const bool stores =
          i.opcode == ptx::Opcode::kSt || i.opcode == ptx::Opcode::kAtom || i.opcode == ptx::Opcode::kRed;
      if (!stores) continue;
      const uint32_t element = ptx::bytes_of(i.type);
      const uint32_t bytes = element * i.vector;
      const bool may_be_float = ptx::is_float(i.type) || i.type == ptx::Type::kB16 ||
                                i.type == ptx::Type::kB32 || i.type == ptx::Type::kU16 ||
                                i.type == ptx::Type::kU32;
      if (bytes > 16 || !may_be_float) continue;
      if (element == 2 || i.type == ptx::Type::kF16x2) traits.stores_half[bytes] = true;
      if (element == 4 && i.type != ptx::Type::kF16x2) traits.stores_float[bytes] = true;
    }
    for (const auto callee : function->called_functions) {
      if (seen.insert(callee).second) pending.push_back(callee);
    }
  }
  return traits;
}

Result<void> compare(device::Context& context, MemoryImage& image, const KernelTraits& traits, bool whole,
                     Check& check) {
  const auto differing = image.differences(context, kMostDifferences);
  if (!differing) return std::unexpected(differing.error());
  Values floats;
  Values halves;
  uint64_t integers = 0;
  uint64_t covered = 0;      // of the differing bytes, by stores
  uint64_t covered_end = 0;  // stores of different sizes may overlap
  double worst = -1;
  for (const Store& store : image.stores()) {
    check.bytes_stored += store.bytes;
    std::byte ours[16];
    std::byte theirs[16];
    const auto at = std::lower_bound(differing->begin(), differing->end(), store.address);
    const bool differs = at != differing->end() && *at < store.address + store.bytes;
    image.read(store.address, std::span(theirs).first(store.bytes));
    const uint32_t size = traits.stores_float[store.bytes] ? 4 : traits.stores_half[store.bytes] ? 2 : 0;
    Values& values = size == 2 ? halves : floats;
    const auto element = [&](const std::byte* bytes, uint32_t n) {
      uint32_t bits = 0;
      std::memcpy(&bits, bytes + n, size);
      return bits;
    };
    for (uint32_t n = 0; size != 0 && n < store.bytes; n += size) {
      const double value = std::abs(value_of(element(theirs, n), size));
      if (value < kSentinel) values.largest = std::max(values.largest, value);
    }
    if (!differs) continue;
    for (auto one = at; one != differing->end() && *one < store.address + store.bytes; ++one) {
      if (*one < covered_end) continue;
      ++covered;
      covered_end = *one + 1;
    }
    const device::Rows row{.width = store.bytes, .height = 1};
    if (auto done = context.copy_from_device(std::span(ours).first(store.bytes), store.bytes, store.address,
                                             store.bytes, row);
        !done) {
      return done;
    }
    if (size == 0) {
      ++integers;
      ++check.differing_values;
      if (check.detail.empty()) check.detail = fmt::format("an integer store at {:#x}", store.address);
      continue;
    }
    for (uint32_t n = 0; n < store.bytes; n += size) {
      const auto compiled = element(ours, n);
      const auto expected = element(theirs, n);
      if (compiled == expected) continue;
      const double x = value_of(compiled, size);
      const double y = value_of(expected, size);
      if (std::isnan(x) && std::isnan(y)) continue;  // PTX leaves a NaN's payload open
      ++check.differing_values;
      double error = std::abs(x - y);
      if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
      const auto ulp = size == 4 ? static_cast<uint64_t>(std::abs(order(compiled) - order(expected)))
                                 : uint64_t{compiled > expected ? compiled - expected : expected - compiled};
      const double relative = error / std::max(std::abs(y), std::numeric_limits<double>::min());
      check.max_ulp = std::max(check.max_ulp, ulp);
      check.max_relative = std::max(check.max_relative, relative);
      values.largest_error = std::max(values.largest_error, error);
      if (error > worst) {
        worst = error;
        check.detail = fmt::format("at {:#x}: compiled {:.9g} ({:#x}), oracle {:.9g} ({:#x})",
                                   store.address + n, x, compiled, y, expected);
      }
    }
  }
  if (whole) check.differing_strays = differing->size() - covered;
  const auto scaled = [](const Values& values) {
    return values.largest_error == 0 ? 0.0 : values.largest_error / values.largest;
  };
  check.max_scaled_relative = std::max(scaled(floats), scaled(halves));
  if (check.differing_values == 0 && check.differing_strays == 0) {
    check.verdict = Verdict::kExact;
  } else if (traits.approximate && integers == 0 && check.differing_strays == 0 &&
             scaled(floats) <= kApproximateError && scaled(halves) <= kApproximateHalfError) {
    check.verdict = Verdict::kWithin;
  } else {
    check.verdict = Verdict::kMismatch;
    if (check.differing_values == 0) check.detail = "bytes changed that the oracle did not store to";
  }
  return {};
}

}  // namespace vgpu::software::checked
