// The checks of `vgpu-probe test`: named, run in order, told as they end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tools/vgpu-probe/client.h"

namespace vgpu::tools {

class Suite {
 public:
  enum class Result : uint8_t { kPassed, kFailed, kSkipped };
  struct Check {
    std::string group;
    std::string name;
    Result result = Result::kPassed;
    std::string detail;
    std::string advice;
    uint64_t nanoseconds = 0;
  };

  // `tell`: prints each check as it ends.
  explicit Suite(bool tell) : tell_(tell) {}

  void begin(std::string group) { group_ = std::move(group); }
  // `body` says what it found, or what is wrong. Returns whether it passed.
  bool check(const std::string& name, const std::function<Try<std::string>()>& body);
  void skip(const std::string& name, const std::string& reason);

  const std::vector<Check>& checks() const noexcept { return checks_; }
  uint32_t count(Result result) const noexcept;

 private:
  void add(Check check);

  bool tell_;
  std::string group_;
  std::vector<Check> checks_;
};

const char* result_name(Suite::Result result) noexcept;  // "ok", "FAILED", "skipped"

// The groups. Each uses `client` and gives back what it took; the last one takes channels of its own.
void check_ring(Suite& suite, Client& client);
void check_memory(Suite& suite, Client& client);
void check_kernels(Suite& suite, Client& client);
void check_errors(Suite& suite, Client& client);
void check_counters(Suite& suite, Client& client);
void check_recovery(Suite& suite, const std::function<Try<std::unique_ptr<Client>>()>& open);

// Bytes that follow from the seed.
std::vector<std::byte> pattern(std::size_t bytes, uint64_t seed);
// "" if they are equal; else where they differ first, and both checksums.
std::string difference(std::span<const std::byte> got, std::span<const std::byte> want);

}  // namespace vgpu::tools
