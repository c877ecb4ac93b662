// VGPU_LOG: "stderr" or a file's path, optionally followed by ",trace". Off by default, never stdout. Also
// counts the calls that are exported but not implemented. Any thread; nothing happens before the first use.
#pragma once

#include <cstdint>
#include <string_view>

namespace vgpu::shim {

bool log_enabled() noexcept;
bool trace_enabled() noexcept;  // ",trace": a line for every call that is not implemented, and for each error

// printf-like; one line, without a line end; cut at about a kilobyte.
[[gnu::format(printf, 1, 2)]] void log_line(const char* format, ...) noexcept;

// Counts the call and names it: the first time under VGPU_LOG, each time under trace. `name` must live as
// long as the process.
void note_unimplemented(const char* name) noexcept;
uint64_t unimplemented_calls() noexcept;

}  // namespace vgpu::shim
