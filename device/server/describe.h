// What a record says, in words, for error texts: the command's name and every field with its value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vgpu::device {

// "CopyInline(destination=0x7000, 16 bytes follow)". `body` is what follows the record's header; an unknown
// opcode and a truncated body are said so. Any bytes are fine.
std::string describe_record(uint16_t opcode, std::span<const std::byte> body);

}  // namespace vgpu::device
