// The commands as C++: everything here follows from protocol/commands.def. Adding a command is one entry
// there, one method of the device's executor, and one function of the shim.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace vgpu::protocol {

inline constexpr uint32_t kProtocolVersion = 1;

inline constexpr uint32_t kMaxTailBytes = 8192;       // of data in a record
inline constexpr uint32_t kMaxNameBytes = 4096;       // of a function's or variable's name
inline constexpr uint32_t kMaxParameterBytes = 4096;  // of a kernel's parameter block (compute 6.1)

inline constexpr uint16_t kLaunchCooperative = 1;
inline constexpr uint8_t kGemmPointerArrays = 1;
inline constexpr uint8_t kGemmScalarsOnDevice = 2;

// One kernel parameter in the packed parameter block; follows the reply of FunctionGet.
struct ParameterLayout {
  uint16_t offset;  // bytes
  uint16_t bytes;
};

// What the device checks requests against, from its own memory. All ranges are half open.
struct Limits {
  uint64_t window_base = 0;  // device addresses are window_base .. window_base + window_bytes
  uint64_t window_bytes = 0;
  uint64_t bulk_bytes = 0;  // size of the channel's bulk heap
  uint64_t max_image_bytes = uint64_t{1} << 30;
  int64_t max_matrix = int64_t{1} << 31;
  uint32_t max_handle = 1u << 20;
  uint32_t max_threads_per_block = 1024;

  constexpr bool handle(uint32_t value) const { return value >= 1 && value <= max_handle; }
  constexpr bool device_range(uint64_t address, uint64_t bytes) const {
    return within(address - window_base, bytes, window_bytes) && address >= window_base;
  }
  constexpr bool device_rows(uint64_t address, uint64_t width, uint64_t height, uint64_t pitch) const {
    return address >= window_base && rows_within(address - window_base, width, height, pitch, window_bytes);
  }
  constexpr bool bulk_rows(uint64_t offset, uint64_t width, uint64_t height, uint64_t pitch) const {
    return rows_within(offset, width, height, pitch, bulk_bytes);
  }

 private:
  static constexpr bool within(uint64_t offset, uint64_t bytes, uint64_t size) {
    return bytes <= size && offset <= size - bytes;
  }
  static constexpr bool rows_within(uint64_t offset, uint64_t width, uint64_t height, uint64_t pitch,
                                    uint64_t size) {
    if (width == 0 || height == 0) return true;
    if (height == 1) return within(offset, width, size);
    if (pitch < width || pitch > size || (height - 1) > size / pitch) return false;
    return within(offset, (height - 1) * pitch + width, size);
  }
};

// --- Opcodes ---------------------------------------------------------------------------------------
// Opcode 0 is the ring's padding record.
enum class Opcode : uint16_t {
#define COMMAND(opcode, Name, mode, tail) k##Name = opcode,
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
};

enum class Mode : uint8_t { kAsync, kSync };

// --- Request structs: stored right behind the record header, then the tail ------------------------
#define COMMAND(opcode, Name, mode, tail)              \
  struct Name##Request {                               \
    static constexpr Opcode kOpcode = Opcode::k##Name; \
    static constexpr Mode kMode = Mode::k##mode;       \
    static constexpr uint32_t kMaxTail = tail;
#define FIELD(type, name, unit) type name = {};
#define CHECK(...)
#define REPLY(type, name, unit)
#define END(Name)                                                                                          \
  }                                                                                                        \
  ;                                                                                                        \
  static_assert(std::is_empty_v<Name##Request> || std::has_unique_object_representations_v<Name##Request>, \
                #Name ": the fields leave padding");                                                       \
  static_assert(std::is_trivially_copyable_v<Name##Request>);
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END

// --- Reply structs: the payload of the reply slot ---------------------------------------------------
#define COMMAND(opcode, Name, mode, tail) struct Name##Reply {
#define FIELD(type, name, unit)
#define CHECK(...)
#define REPLY(type, name, unit) type name = {};
#define END(Name)                                                                                      \
  }                                                                                                    \
  ;                                                                                                    \
  static_assert(std::is_empty_v<Name##Reply> || std::has_unique_object_representations_v<Name##Reply>, \
                #Name ": the reply's fields leave padding");
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END

// Bytes that a request or reply struct occupies on the wire (an empty one: none).
template <typename T>
inline constexpr uint32_t kWireBytes = std::is_empty_v<T> ? 0 : static_cast<uint32_t>(sizeof(T));

// --- The table ------------------------------------------------------------------------------------
struct CommandInfo {
  Opcode opcode;
  Mode mode;
  std::string_view name;
  uint32_t request_bytes;
  uint32_t max_tail_bytes;
  uint32_t reply_bytes;
};

inline constexpr auto kCommands = std::to_array<CommandInfo>({
#define COMMAND(opcode, Name, mode, tail)                      \
  CommandInfo{Opcode::k##Name,           Mode::k##mode, #Name, \
              kWireBytes<Name##Request>, tail,          kWireBytes<Name##Reply>},
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
});

inline constexpr uint32_t kCommandCount = static_cast<uint32_t>(kCommands.size());

// Index of the opcode in kCommands (and in the region's counters per command), or kCommandCount if unknown.
constexpr uint32_t command_index(uint16_t opcode) {
  for (uint32_t i = 0; i < kCommandCount; ++i) {
    if (static_cast<uint16_t>(kCommands[i].opcode) == opcode) return i;
  }
  return kCommandCount;
}

// --- The protocol hash: FNV-1a over the table's text --------------------------------------------------
// Two sides with the same hash agree on every opcode, field, type, order and check.
namespace internal {
inline constexpr std::string_view kTableText =
#define COMMAND(opcode, Name, mode, tail) #opcode #Name #mode #tail "{"
#define FIELD(type, name, unit) #type " " #name ":" #unit ";"
#define CHECK(...) "?" #__VA_ARGS__ ";"
#define REPLY(type, name, unit) "=" #type " " #name ":" #unit ";"
#define END(Name) "}"
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END
    ;
constexpr uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}
}  // namespace internal

inline constexpr uint64_t kProtocolHash =
    internal::fnv1a(internal::kTableText) ^ (uint64_t{kProtocolVersion} * 0x9e3779b97f4a7c15u);

// --- Checks -----------------------------------------------------------------------------------------
// The text of the first check that fails, or an empty view. `tail` = bytes behind the fields.
#define COMMAND(opcode, Name, mode, tail_max)                                                     \
  constexpr std::string_view failed_check([[maybe_unused]] const Name##Request& r,                \
                                          [[maybe_unused]] const Limits& limits, uint32_t tail) { \
    if (tail > (tail_max)) return "at most " #tail_max " bytes follow the fields";
#define FIELD(type, name, unit)
#define CHECK(...) \
  if (!(__VA_ARGS__)) return #__VA_ARGS__;
#define REPLY(type, name, unit)
#define END(Name) \
  return {};      \
  }
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END

// --- Dispatch ---------------------------------------------------------------------------------------
enum class DispatchResult : uint8_t { kHandled, kUnknownOpcode, kTruncated, kCheckFailed };

struct DispatchOutcome {
  DispatchResult result;
  std::string_view command;       // name, empty if unknown
  std::string_view failed_check;  // with kCheckFailed
};

// Checks the body (what follows the record header; in the caller's own memory, never in the region) and calls
//   handler.on(const NameRequest&, std::span<const std::byte> tail)
// The tail of a request whose command has none may be up to 63 bytes of slot padding only if the caller
// passes it; callers pass the exact length of the record.
template <typename Handler>
DispatchOutcome dispatch(uint16_t opcode, std::span<const std::byte> body, const Limits& limits,
                         Handler&& handler) {
  switch (static_cast<Opcode>(opcode)) {
#define COMMAND(opcode_value, Name, mode, tail_max)                                        \
  case Opcode::k##Name: {                                                                  \
    Name##Request request;                                                                 \
    constexpr uint32_t kBytes = kWireBytes<Name##Request>;                                 \
    if (body.size() < kBytes) return {DispatchResult::kTruncated, #Name, {}};              \
    if constexpr (kBytes > 0) std::memcpy(&request, body.data(), kBytes);                  \
    const auto tail = body.subspan(kBytes);                                                \
    const auto failed = failed_check(request, limits, static_cast<uint32_t>(tail.size())); \
    if (!failed.empty()) return {DispatchResult::kCheckFailed, #Name, failed};             \
    handler.on(request, tail);                                                             \
    return {DispatchResult::kHandled, #Name, {}};                                          \
  }
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
  return {DispatchResult::kUnknownOpcode, {}, {}};
}

}  // namespace vgpu::protocol
