// The device's one log: a line per event with time and level, to stderr or a file. Never a line per call:
// what a guest can cause repeatedly goes through a LogLimiter. Any thread.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace vgpu::device {

enum class LogLevel : uint32_t { kDebug, kInfo, kWarning, kError };

// Lines below `level` are dropped. `fd` stays the caller's; the default is stderr at kInfo.
void set_log_level(LogLevel level) noexcept;
void set_log_file(int fd) noexcept;
// Makes the log the process's standard error too, where it stays when all other descriptors are closed.
void move_log_to_stderr() noexcept;
// Put before every text of this process. Before other threads run.
void set_log_prefix(std::string prefix);
bool log_enabled(LogLevel level) noexcept;
// "debug", "info", "warning" or "error"; false for anything else.
bool parse_log_level(std::string_view text, LogLevel& level) noexcept;

// One write per line. Bytes that do not print (a guest chose some of them) come out as \xNN.
void log_line(LogLevel level, std::string_view text) noexcept;

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log(LogLevel::kError, format, std::forward<Args>(args)...);
}

// Lets `burst` lines through per period and counts the rest. One thread.
class LogLimiter {
 public:
  explicit LogLimiter(uint32_t burst = 10, uint64_t period_ns = 10'000'000'000) noexcept
      : burst_(burst), period_ns_(period_ns) {}
  // Whether a line may be written now. `dropped`: lines swallowed in the period before, told once.
  bool allow(uint64_t now_ns, uint64_t& dropped) noexcept {
    dropped = 0;
    if (now_ns - period_start_ >= period_ns_) {
      period_start_ = now_ns;
      dropped = std::exchange(dropped_, 0);
      used_ = 0;
    }
    if (used_ < burst_) {
      ++used_;
      return true;
    }
    ++dropped_;
    return false;
  }

 private:
  uint32_t burst_;
  uint64_t period_ns_;
  uint64_t period_start_ = 0;
  uint64_t dropped_ = 0;
  uint32_t used_ = 0;
};

}  // namespace vgpu::device
