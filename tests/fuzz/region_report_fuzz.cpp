// libFuzzer target: vgpu-probe's reader over a region that a hostile device or guest wrote. Input: first two
// bytes, how much of the region there is; then patches of ten bytes: which word, and what stands there.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/tools/vgpu-probe/hostile_region.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  static vgpu::tools::testing::HostileRegion region;
  if (size < 2) return 0;
  uint16_t length = 0;
  std::memcpy(&length, data, sizeof length);
  for (std::size_t at = 2; at + 10 <= size; at += 10) {
    uint16_t index = 0;
    uint64_t value = 0;
    std::memcpy(&index, data + at, sizeof index);
    std::memcpy(&value, data + at + sizeof index, sizeof value);
    region.patch(index, value);
  }
  region.read(length % 4 != 0 ? region.bytes() : std::size_t{length} * 64);
  region.restore();
  return 0;
}
