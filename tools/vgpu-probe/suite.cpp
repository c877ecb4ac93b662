// Running checks and telling of them.
#include "tools/vgpu-probe/suite.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

constexpr std::size_t kNameColumn = 10;
constexpr std::size_t kTextColumn = 28;

uint64_t checksum(std::span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const std::byte byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  return hash;
}

}  // namespace

const char* result_name(Suite::Result result) noexcept {
  switch (result) {
    case Suite::Result::kPassed:
      return "ok";
    case Suite::Result::kFailed:
      return "FAILED";
    case Suite::Result::kSkipped:
      break;
  }
  return "skipped";
}

bool Suite::check(const std::string& name, const std::function<Try<std::string>()>& body) {
  const auto start = std::chrono::steady_clock::now();
  auto result = body();
  const auto took = std::chrono::steady_clock::now() - start;
  Check check;
  check.group = group_;
  check.name = name;
  check.nanoseconds =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
  if (result) {
    check.detail = std::move(*result);
  } else {
    check.result = Result::kFailed;
    check.detail = std::move(result.error().text);
    check.advice = std::move(result.error().advice);
  }
  const bool passed = check.result == Result::kPassed;
  add(std::move(check));
  return passed;
}

void Suite::skip(const std::string& name, const std::string& reason) {
  Check check;
  check.group = group_;
  check.name = name;
  check.result = Result::kSkipped;
  check.detail = reason;
  add(std::move(check));
}

void Suite::add(Check check) {
  if (tell_) {
    if (checks_.empty() || checks_.back().group != check.group) {
      fmt::print("{}\n", tinted(check.group, Tone::kBold));
    }
    const Tone tone = check.result == Result::kPassed   ? Tone::kGood
                      : check.result == Result::kFailed ? Tone::kBad
                                                        : Tone::kWarning;
    const std::string_view word = result_name(check.result);
    const std::string head = fmt::format("  {}{}", tinted(word, tone), std::string(8 - word.size(), ' '));
    std::string body = paragraph(kNameColumn, check.name, kTextColumn, check.detail);
    body.erase(0, kNameColumn);
    fmt::print("{}{}", head, body);
    if (!check.advice.empty()) fmt::print("{}", paragraph(kNameColumn, "-> do", kTextColumn, check.advice));
    std::fflush(stdout);
  }
  checks_.push_back(std::move(check));
}

uint32_t Suite::count(Result result) const noexcept {
  return static_cast<uint32_t>(std::ranges::count(checks_, result, &Check::result));
}

std::vector<std::byte> pattern(std::size_t bytes, uint64_t seed) {
  std::vector<std::byte> data(bytes);
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (std::size_t at = 0; at < bytes; at += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(data.data() + at, &state, std::min(sizeof state, bytes - at));
  }
  return data;
}

std::string difference(std::span<const std::byte> got, std::span<const std::byte> want) {
  if (got.size() == want.size() && (got.empty() || std::memcmp(got.data(), want.data(), got.size()) == 0)) {
    return "";
  }
  std::size_t at = 0;
  while (at < got.size() && at < want.size() && got[at] == want[at]) ++at;
  if (at == got.size() || at == want.size()) {
    return fmt::format("{} bytes where {} were due", got.size(), want.size());
  }
  return fmt::format("byte {} of {} is 0x{:02x}, must be 0x{:02x} (checksum {:016x}, must be {:016x})", at,
                     got.size(), static_cast<unsigned>(got[at]), static_cast<unsigned>(want[at]),
                     checksum(got), checksum(want));
}

}  // namespace vgpu::tools
