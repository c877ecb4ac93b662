// Copies between the guest's memory and ours. The guest can take its bulk memory away at any moment (by
// cutting its file short), so a fault is an answer here, not a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "device/software/runtime/fault_guard.h"

namespace vgpu::software {

// Runs `body` (plain loads and stores only) with faults in `bulk` and in the device window expected.
template <typename Body>
bool touch_guest_memory(std::span<const std::byte> bulk, Body&& body) {
  const auto begin = reinterpret_cast<uint64_t>(bulk.data());
  return run_guarded(GuardRange{.begin = begin, .end = begin + bulk.size(), .kernel = false},
                     std::forward<Body>(body), nullptr) == GuardOutcome::kDone;
}

// Reads a value or bytes from a device address; false if it is not all readable.
bool read_device(void* destination, uint64_t address, std::size_t bytes);
// A NUL-terminated text of at most `limit` bytes.
std::optional<std::string> read_device_text(uint64_t address, std::size_t limit);

}  // namespace vgpu::software
