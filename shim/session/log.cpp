// The log of the shim libraries: a file descriptor opened by the first line, one write() a line.
#include "shim/session/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace vgpu::shim {
namespace {

struct LogState {
  int fd = -1;
  bool trace = false;
};

LogState open_log() noexcept {
  LogState state;
  const char* setting = std::getenv("VGPU_LOG");
  if (setting == nullptr || *setting == '\0') {
    return state;
  }
  char path[512];
  const char* comma = std::strchr(setting, ',');
  const std::size_t length =
      comma != nullptr ? static_cast<std::size_t>(comma - setting) : std::strlen(setting);
  if (length == 0 || length >= sizeof(path)) {
    return state;
  }
  std::memcpy(path, setting, length);
  path[length] = '\0';
  state.trace = comma != nullptr && std::strcmp(comma, ",trace") == 0;
  state.fd = std::strcmp(path, "stderr") == 0 ? STDERR_FILENO
                                              : ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  return state;
}

const LogState& log_state() noexcept {
  static const LogState state = open_log();
  return state;
}

// Names already told, so that a loop over one call does not fill the log. Names are string literals: the
// address identifies one.
constexpr std::size_t kToldNames = 1024;
std::atomic<const char*> told[kToldNames];
std::atomic<uint64_t> unimplemented{0};

bool first_time(const char* name) noexcept {
  std::size_t index = (reinterpret_cast<uintptr_t>(name) >> 2) % kToldNames;
  for (std::size_t tries = 0; tries < kToldNames; ++tries, index = (index + 1) % kToldNames) {
    const char* seen = nullptr;
    if (told[index].compare_exchange_strong(seen, name)) {
      return true;
    }
    if (seen == name) {
      return false;
    }
  }
  return false;
}

}  // namespace

bool log_enabled() noexcept {
  return log_state().fd >= 0;
}
bool trace_enabled() noexcept {
  return log_state().fd >= 0 && log_state().trace;
}

void log_line(const char* format, ...) noexcept {
  const LogState& state = log_state();
  if (state.fd < 0) {
    return;
  }
  char line[1200];
  const int head = std::snprintf(line, sizeof(line), "vgpu[%d]: ", static_cast<int>(::getpid()));
  va_list arguments;
  va_start(arguments, format);
  const int body =
      std::vsnprintf(line + head, sizeof(line) - static_cast<std::size_t>(head) - 1, format, arguments);
  va_end(arguments);
  std::size_t length = static_cast<std::size_t>(head) + static_cast<std::size_t>(body > 0 ? body : 0);
  if (length > sizeof(line) - 2) {
    length = sizeof(line) - 2;
  }
  line[length++] = '\n';
  // A log that cannot be written must not disturb the program that asked for it.
  [[maybe_unused]] const auto written = ::write(state.fd, line, length);
}

void note_unimplemented(const char* name) noexcept {
  const uint64_t count = unimplemented.fetch_add(1, std::memory_order_relaxed) + 1;
  if (trace_enabled() || (log_enabled() && first_time(name))) {
    log_line("%s is not implemented (call %llu of this kind)", name, static_cast<unsigned long long>(count));
  }
}

uint64_t unimplemented_calls() noexcept {
  return unimplemented.load(std::memory_order_relaxed);
}

}  // namespace vgpu::shim
