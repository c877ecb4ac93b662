// The device's log.
#include "device/server/log.h"

#include <fmt/chrono.h>
#include <sys/uio.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <utility>

namespace vgpu::device {
namespace {

std::atomic<LogLevel> minimum_level{LogLevel::kInfo};
std::atomic<int> log_fd{STDERR_FILENO};
std::string log_prefix;

constexpr std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      break;
  }
  return "error";
}

}  // namespace

void set_log_level(LogLevel level) noexcept {
  minimum_level.store(level, std::memory_order_relaxed);
}

void set_log_file(int fd) noexcept {
  log_fd.store(fd, std::memory_order_relaxed);
}

void move_log_to_stderr() noexcept {
  const int fd = log_fd.exchange(STDERR_FILENO, std::memory_order_relaxed);
  if (fd != STDERR_FILENO) ::dup2(fd, STDERR_FILENO);
}

void set_log_prefix(std::string prefix) {
  log_prefix = std::move(prefix);
}

bool log_enabled(LogLevel level) noexcept {
  return level >= minimum_level.load(std::memory_order_relaxed);
}

bool parse_log_level(std::string_view text, LogLevel& level) noexcept {
  for (const LogLevel candidate : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (text == level_name(candidate)) {
      level = candidate;
      return true;
    }
  }
  return false;
}

void log_line(LogLevel level, std::string_view text) noexcept {
  if (!log_enabled(level)) return;
  try {
    const auto now = std::chrono::system_clock::now();
    const auto milliseconds =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
    std::string line = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z {} vgpu-device[{}]: {}",
                                   fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds,
                                   level_name(level), getpid(), log_prefix);
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f) {
        line += fmt::format("\\x{:02x}", byte);
      } else {
        line += c;
      }
    }
    line += '\n';
    // One write, so that lines of supervisor and worker do not mix; a lost log line is no reason to fail.
    [[maybe_unused]] const auto written =
        ::write(log_fd.load(std::memory_order_relaxed), line.data(), line.size());
  } catch (...) {
    // Out of memory while reporting something: the line is lost.
  }
}

}  // namespace vgpu::device
