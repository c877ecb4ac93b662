// vgpu-probe latency: how long the things take that a program waits for, one at a time.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "bench/harness/histogram.h"
#include "ring/wait.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/client.h"
#include "tools/vgpu-probe/kernels.h"
#include "tools/vgpu-probe/measuring.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using bench::Histogram;
using nlohmann::ordered_json;
using protocol::Status;

constexpr std::array kPercents = {50.0, 90.0, 99.0, 99.9};
constexpr uint64_t kMostNs = 3'000'000'000;  // for one case

struct Case {
  const char* name;
  const char* key;
  Histogram times;
};

// Times what `step` does, which returns its status; `before` runs outside of the time.
template <typename Before, typename Step>
Status measure(Histogram& times, uint32_t count, Before&& before, Step&& step) {
  const uint64_t end = ring::monotonic_ns() + kMostNs;
  const uint32_t warm_up = std::min(count / 10 + 1, 200U);
  for (uint32_t i = 0; i < warm_up + count; ++i) {
    if (!before(i)) break;
    const uint64_t start = ring::monotonic_ns();
    if (const Status status = step(); status != Status::kSuccess) return status;
    const uint64_t stop = ring::monotonic_ns();
    if (i >= warm_up) times.record(stop - start);
    if (stop > end && !times.empty()) break;
  }
  return Status::kSuccess;
}

// Until the device's thread sleeps; false: it does not within half a second.
bool wait_until_parked(Client& client) {
  constexpr timespec kMoment{.tv_sec = 0, .tv_nsec = 200'000};
  const uint64_t end = ring::monotonic_ns() + 500'000'000;
  while (ring::load_acquire(client.control().park.consumer_parked) == 0) {
    if (ring::monotonic_ns() > end) return false;
    ::nanosleep(&kMoment, nullptr);
  }
  return true;
}

Try<std::vector<Case>> run_cases(Client& client, uint32_t count) {
  auto kernels = Kernels::load(client);
  if (!kernels) return std::unexpected(kernels.error());
  const auto memory = DeviceMemory::allocate(client, 4096);
  if (!memory) return std::unexpected(memory.error());
  auto& session = client.session();
  const uint64_t address = memory->address();
  std::array<std::byte, 64> bytes{};
  const auto always = [](uint32_t) { return true; };
  // A ring that fills up would be measured instead.
  const auto now_and_then = [&](uint32_t i) { return i % 32 != 0 || client.finish() == Status::kSuccess; };
  uint64_t cookie = 0;
  const auto ping = [&] {
    protocol::PingReply reply;
    const Status status = session.call(protocol::PingRequest{.cookie = ++cookie}, reply);
    return status == Status::kSuccess && reply.cookie != cookie ? Status::kUnknown : status;
  };
  std::vector<Case> cases;
  const auto add = [&](const char* name, const char* key, uint32_t times, auto&& before,
                       auto&& step) -> Try<void> {
    cases.push_back({name, key, {}});
    Status status = measure(cases.back().times, times, before, step);
    if (status == Status::kSuccess) status = client.finish();
    if (status != Status::kSuccess) return std::unexpected(client.trouble(name, status));
    return {};
  };
  Try<void> done = add("round trip", "round_trip", count, always, ping);
  if (done) {
    done = add("submit a command", "submit", count, now_and_then, [&] {
      return session.submit(protocol::WriteValueRequest{.address = address, .value = 1, .bytes = 8}, 0)
          .status;
    });
  }
  if (done) {
    done = add("submit a launch", "submit_launch", count, now_and_then,
               [&] { return (*kernels)->launch("empty", 1, 32).status; });
  }
  const uint32_t fewer = std::max(count / 10, 1U);
  if (done) {
    done = add("launch and wait", "launch_and_wait", fewer, always, [&] {
      (*kernels)->launch("empty", 1, 32);
      return client.finish();
    });
  }
  if (done) {
    done = add("64 bytes in", "copy_in_64", fewer, always, [&] {
      client.copy_in(address, bytes);
      return client.finish();
    });
  }
  if (done) {
    done = add("64 bytes out", "copy_out_64", fewer, always, [&] { return client.copy_out(bytes, address); });
  }
  if (done) {
    done = add(
        "wake a sleeper", "wake", std::min(count, 20U), [&](uint32_t) { return wait_until_parked(client); },
        ping);
  }
  if (!done) return std::unexpected(done.error());
  return cases;
}

ordered_json case_json(const Case& one) {
  ordered_json json = {{"name", one.key}, {"count", one.times.count()}, {"min_ns", one.times.min()}};
  for (const double percent : kPercents) {
    json[fmt::format("p{}_ns", percent)] = one.times.percentile(percent);
  }
  json["max_ns"] = one.times.max();
  auto& buckets = json["histogram"] = ordered_json::array();
  for (const auto& [edge, count] : one.times.buckets())
    buckets.push_back({{"below_ns", edge}, {"count", count}});
  return json;
}

std::string short_duration(double nanoseconds) {
  return duration_text(static_cast<uint64_t>(nanoseconds + 0.5));
}

void print_case(const Case& one) {
  if (one.times.empty()) {
    fmt::print("{:<17} the device's thread did not go to sleep\n", one.name);
    return;
  }
  fmt::print("{:<17}{:>7}", one.name, number_text(one.times.count()));
  fmt::print("{:>9}", short_duration(one.times.min()));
  for (const double percent : kPercents) fmt::print("{:>9}", short_duration(one.times.percentile(percent)));
  fmt::print("{:>9}\n", short_duration(one.times.max()));
}

// Rows of equal width on a logarithmic scale up to the 99.9th percentile, and one for what is above.
void print_histogram(const Case& one) {
  constexpr int kRows = 12;
  if (one.times.count() < 20) return;
  const double least = std::max(one.times.min(), 1.0);
  const double most = std::max(one.times.percentile(99.9), least * 1.05);
  const double step = std::pow(most / least, 1.0 / kRows);
  std::array<uint64_t, kRows + 1> rows{};
  for (const auto& [edge, count] : one.times.buckets()) {
    const int row = static_cast<int>(std::log(std::max(edge * 0.996, least) / least) / std::log(step));
    rows[static_cast<std::size_t>(std::clamp(row, 0, kRows))] += count;
  }
  const uint64_t tallest = *std::ranges::max_element(rows);
  fmt::print("\n{}\n", tinted(one.name, Tone::kBold));
  const std::size_t width = std::min<std::size_t>(terminal_width() - 40, 60);
  double edge = least;
  for (std::size_t row = 0; row <= kRows; ++row) {
    const std::string range =
        row == kRows ? fmt::format("{:>9} and more", short_duration(edge))
                     : fmt::format("{:>9} -{:>9}", short_duration(edge), short_duration(edge * step));
    const double share = static_cast<double>(rows[row]) / static_cast<double>(one.times.count());
    const double height = static_cast<double>(rows[row]) / static_cast<double>(tallest);
    std::string bar(static_cast<std::size_t>(height * static_cast<double>(width) + 0.5), '#');
    if (bar.empty() && rows[row] != 0) bar = ".";
    fmt::print("{:<20} {:>6.2f} %{}{}\n", range, share * 100, bar.empty() ? "" : " ", bar);
    edge *= step;
  }
}

void print_mapping(const std::vector<Case>& cases) {
  fmt::print("{:<17}{:>7}{:>9}", "", "count", "min");
  for (const double percent : kPercents) fmt::print("{:>9}", fmt::format("p{}", percent));
  fmt::print("{:>9}\n", "max");
  for (const auto& one : cases) print_case(one);
  print_histogram(cases.front());
}

}  // namespace

int measure_latency(const Request& request, uint32_t count) {
  return for_each_mapping(request, "latency", [&](Client& client) -> Try<ordered_json> {
    auto cases = run_cases(client, count);
    if (!cases) return std::unexpected(cases.error());
    if (!request.json) print_mapping(*cases);
    ordered_json answer;
    auto& list = answer["cases"] = ordered_json::array();
    for (const auto& one : *cases) list.push_back(case_json(one));
    return answer;
  });
}

}  // namespace vgpu::tools
