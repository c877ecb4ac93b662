// What went wrong on the device, in CUDA's numbers, with the reason in words.
#pragma once

#include <expected>
#include <string>

#include "protocol/status.h"

namespace vgpu::device {

struct Error {
  protocol::Status status = protocol::Status::kUnknown;
  std::string reason;  // what was attempted, with which values; file, line and opcode where there are any
};

template <typename T>
using Result = std::expected<T, Error>;

}  // namespace vgpu::device
