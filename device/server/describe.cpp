// Records in words, from the command table.
#include "device/server/describe.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>

#include "protocol/commands.h"

namespace vgpu::device {
namespace {

template <typename T>
std::string field_text(T value, std::string_view unit) {
  if (unit == "device_address" || unit == "scalar") return fmt::format("{:#x}", value);
  return fmt::format("{}", value);
}

// Separates the fields of one request.
std::string_view comma(const std::string& text) {
  return text.ends_with('(') ? "" : ", ";
}

#define COMMAND(opcode, Name, mode, tail)                                                    \
  [[maybe_unused]] void append_fields(std::string& text, const protocol::Name##Request& r) { \
    static_cast<void>(text);                                                                 \
    static_cast<void>(r);
#define FIELD(type, name, unit)                                                    \
  if (std::string_view(#name) != "reserved") {                                     \
    text += fmt::format("{}{}={}", comma(text), #name, field_text(r.name, #unit)); \
  }
#define CHECK(...)
#define REPLY(type, name, unit)
#define END(Name) }
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END

template <typename Request>
std::string describe(std::string_view name, std::span<const std::byte> body) {
  Request request;
  constexpr uint32_t kBytes = protocol::kWireBytes<Request>;
  if (body.size() < kBytes) return fmt::format("{} truncated to {} of {} bytes", name, body.size(), kBytes);
  if constexpr (kBytes > 0) std::memcpy(&request, body.data(), kBytes);
  std::string text = fmt::format("{}(", name);
  append_fields(text, request);
  if (const auto tail = body.size() - kBytes; tail > 0)
    text += fmt::format("{}{} bytes follow", comma(text), tail);
  return text + ")";
}

}  // namespace

std::string describe_record(uint16_t opcode, std::span<const std::byte> body) {
  switch (static_cast<protocol::Opcode>(opcode)) {
#define COMMAND(opcode_value, Name, mode, tail) \
  case protocol::Opcode::k##Name:               \
    return describe<protocol::Name##Request>(#Name, body);
#define FIELD(type, name, unit)
#define CHECK(...)
#define REPLY(type, name, unit)
#define END(Name)
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END
  }
  return fmt::format("opcode {:#06x} ({} bytes)", opcode, body.size());
}

}  // namespace vgpu::device
