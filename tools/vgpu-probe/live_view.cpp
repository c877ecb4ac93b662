// Rates from two looks, and their page.
#include "tools/vgpu-probe/live_view.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "ring/wait.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

constexpr uint64_t kSilenceNs = 1'000'000'000;

Rates rates_between(const ring::CounterBlock& before, const ring::CounterBlock& now, uint64_t ns) {
  // A reset in between makes figures smaller: then there is no rate to tell.
  const auto rate = [ns](uint64_t from, uint64_t to) {
    return to < from || ns == 0 ? 0.0 : static_cast<double>(to - from) * 1e9 / static_cast<double>(ns);
  };
  return {rate(before.commands, now.commands),
          rate(before.launches, now.launches),
          rate(before.bytes_to_device, now.bytes_to_device),
          rate(before.bytes_from_device, now.bytes_from_device),
          rate(before.errors, now.errors),
          rate(before.busy_ns, now.busy_ns) / 1e9,
          rate(before.kernel_ns, now.kernel_ns) / 1e9};
}

// At most 5 columns: "1234", "12.3k", "1.2M".
std::string short_number(double value, double thousand = 1000, const char* units = "kMGTPE") {
  if (value < 9999.5 && thousand == 1000) {
    return fmt::format("{:.{}f}", value, value < 9.95 && value > 0 ? 1 : 0);
  }
  std::size_t unit = 0;
  if (value < thousand) return fmt::format("{:.0f}", value);
  value /= thousand;
  while (value >= 999.5 && units[unit + 1] != '\0') {
    value /= thousand;
    ++unit;
  }
  return fmt::format("{:.{}f}{}", value, value < 99.95 ? 1 : 0, units[unit]);
}
std::string short_bytes(double bytes) {
  return short_number(bytes, 1024, "KMGTPE");
}

std::string short_age(uint64_t nanoseconds) {
  const uint64_t seconds = nanoseconds / 1'000'000'000;
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  return seconds < 48 * 3600 ? fmt::format("{} h", seconds / 3600) : fmt::format("{} d", seconds / 86400);
}

std::string clock_text() {
  const std::time_t now = std::time(nullptr);
  return fmt::format("{:%H:%M:%S}", fmt::localtime(now));
}

double share_of(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// The end of a path says more than its beginning.
std::string tail_of(const std::string& text, std::size_t width) {
  return columns(text) <= width ? text : "..." + text.substr(text.size() - (width - 3));
}

std::string owner_name(const ChannelReport& channel) {
  if (channel.owner_pid != 0) return channel.owner_name;
  return channel.lock == "held" ? "(claiming)" : "";
}

ordered_json rates_json(const Rates& rates) {
  return {{"commands_per_s", rates.commands}, {"launches_per_s", rates.launches},
          {"bytes_in_per_s", rates.bytes_in}, {"bytes_out_per_s", rates.bytes_out},
          {"errors_per_s", rates.errors},     {"busy_share", rates.busy},
          {"kernel_share", rates.kernels}};
}

}  // namespace

void LiveView::look() {
  std::vector<Place> places;
  if (request_.device.empty()) {
    places = all_places(request_.guests_directory);
  } else if (auto place = choose_place(request_.device, request_.guests_directory, Use::kLook)) {
    places.push_back(std::move(*place));
  }
  // Devices that are gone leave the page, except for one that was asked for by name.
  std::map<std::string, Device> before = std::move(devices_);
  devices_.clear();
  for (const auto& place : places) {
    Device device;
    const uint64_t now = ring::monotonic_ns();
    device.report = look_at(place, Detail::kLive);
    const auto old = before.find(place.location.path);
    device.looked_ns = now;
    device.heartbeat_ns = now;
    if (device.report.decoded()) {
      const RegionReport& region = *device.report.region;
      device.heartbeat = region.header.status.heartbeat;
      device.seen = true;
      if (old != before.end() && old->second.seen &&
          old->second.report.region->found.generation == region.found.generation) {
        const Device& last = old->second;
        const uint64_t elapsed = now - last.looked_ns;
        if (device.heartbeat == last.heartbeat) device.heartbeat_ns = last.heartbeat_ns;
        device.rates = rates_between(last.report.region->totals.block, region.totals.block, elapsed);
        for (const auto& channel : region.channels) {
          const auto& channels_before = last.report.region->channels;
          if (channel.index < channels_before.size() &&
              channels_before[channel.index].epoch == channel.epoch) {
            device.channels[channel.index] =
                rates_between(channels_before[channel.index].counters.block, channel.counters.block, elapsed);
          }
        }
      }
      device.heartbeat_age_ns = now - device.heartbeat_ns;
      judge_heartbeat(device.report,
                      {device.heartbeat_age_ns < kSilenceNs, device.heartbeat, device.heartbeat_age_ns});
    }
    devices_[place.location.path] = std::move(device);
  }
  if (places.empty() && !request_.device.empty() && !before.empty()) {
    Device device = std::move(before.begin()->second);
    device.report.health = "missing";
    device.report.problem = "it is not there any more";
    device.report.region.reset();
    device.seen = false;
    devices_[before.begin()->first] = std::move(device);
  }
}

void LiveView::add_device(std::vector<Line>& lines, const Device& device, const ViewOptions& options) const {
  const DeviceReport& report = device.report;
  const Tone tone = report.usable() ? Tone::kBold : Tone::kBad;
  const std::string guest =
      report.place.guest.empty() ? "" : fmt::format(" (guest {})", printable(report.place.guest));
  lines.push_back({fmt::format("{}{}: {}", printable(report.place.name()), guest, report.health), tone});
  if (!report.problem.empty()) {
    for (auto& line : wrapped(report.problem, terminal_width() - 2)) lines.push_back({"  " + line});
    for (auto& line : wrapped("do: " + report.advice, terminal_width() - 2)) {
      if (!report.advice.empty()) lines.push_back({"  " + line});
    }
  }
  if (!report.decoded()) return;
  const RegionReport& region = *report.region;
  const uint64_t memory = region.header.status.memory_in_use_bytes;
  lines.push_back(
      {fmt::format("  {}, {} of {} channels, {}", cut(region.name, 30), region.header.status.channels_served,
                   region.channels.size(),
                   device.heartbeat_age_ns == 0
                       ? std::string("heart beats")
                       : fmt::format("heartbeat {} ago", duration_text(device.heartbeat_age_ns)))});
  lines.push_back(
      {fmt::format("  memory {} {} of {}", bar_text(share_of(memory, region.info.total_memory_bytes), 30),
                   bytes_text(memory), bytes_text(region.info.total_memory_bytes))});
  lines.push_back(
      {fmt::format("  {} commands/s, {} launches/s, in {}B/s, out {}B/s, busy {:.0f} %, {} errors/s",
                   short_number(device.rates.commands), short_number(device.rates.launches),
                   short_bytes(device.rates.bytes_in), short_bytes(device.rates.bytes_out),
                   device.rates.busy * 100, short_number(device.rates.errors))});
  bool heading = false;
  for (const auto& channel : region.channels) {
    if (!channel.in_use() && !options.idle_channels) continue;
    if (!heading) {
      heading = true;
      lines.push_back(
          {fmt::format("  {:>2} {:<14} {:>7} {:>7} {:>5} {:>5} {:>5} {:>5} {:<6} {:>5} {:<7}", "ch",
                       "process", "pid", "age", "cmd/s", "krn/s", "in/s", "out/s", "ring", "mem", "state"),
           Tone::kDim});
    }
    const auto found = device.channels.find(channel.index);
    const Rates rates = found == device.channels.end() ? Rates{} : found->second;
    const bool broken = channel.sticky_error != 0 || channel.state == "failed";
    lines.push_back(
        {fmt::format(
             "  {:>2} {:<14} {:>7} {:>7} {:>5} {:>5} {:>5} {:>5} {:<6} {:>5} {:<7}", channel.index,
             cut(owner_name(channel), 14), channel.owner_pid == 0 ? "" : std::to_string(channel.owner_pid),
             channel.owner_pid == 0 ? "" : short_age(report.age_ns(channel.claimed_unix_ns)),
             short_number(rates.commands), short_number(rates.launches), short_bytes(rates.bytes_in),
             short_bytes(rates.bytes_out), bar_text(share_of(channel.ring_fill_bytes, channel.ring_bytes), 6),
             short_bytes(static_cast<double>(channel.counters.block.memory_in_use_bytes)),
             channel.sticky_error != 0 ? fmt::format("err {}", channel.sticky_error) : cut(channel.state, 7)),
         broken ? Tone::kBad : Tone::kPlain});
  }
}

std::vector<Line> LiveView::page(ViewOptions& options, uint64_t interval_ns, std::size_t rows) const {
  std::vector<Line> body;
  if (options.help) {
    for (const char* line : {"q      the end", "space  stop looking, and go on",
                             "+ -    look more often, less often", "i      show free channels too",
                             "up down, j k, page up, page down   scroll", "h      this help", ""}) {
      body.push_back({line});
    }
  }
  for (const auto& [path, device] : devices_) {
    add_device(body, device, options);
    body.push_back({""});
  }
  if (devices_.empty()) body.push_back({"no vGPU found; it will be shown here when there is one"});
  const std::size_t room = rows - 1;
  options.first_line = std::min(options.first_line, body.size() > room ? body.size() - room : 0);
  std::vector<Line> page;
  page.push_back({fmt::format("vgpu-probe watch  {}  every {}{}   q quit, space pause, h help", clock_text(),
                              duration_text(interval_ns), options.paused ? "  PAUSED" : ""),
                  Tone::kDim});
  for (std::size_t i = options.first_line; i < body.size() && page.size() < rows; ++i)
    page.push_back(body[i]);
  return page;
}

std::string LiveView::line_heading() {
  return fmt::format("{:<8} {:<17} {:<8} {:>5} {:>6} {:>6} {:>5} {:>5} {:>5} {:>5}", "time", "device",
                     "health", "chan", "cmd/s", "krn/s", "in/s", "out/s", "mem", "busy");
}

std::vector<std::string> LiveView::lines() const {
  std::vector<std::string> lines;
  const std::string now = clock_text();
  for (const auto& [path, device] : devices_) {
    const DeviceReport& report = device.report;
    std::string line = fmt::format("{:<8} {:<17} {:<8}", now, tail_of(printable(report.place.name()), 17),
                                   cut(report.health, 8));
    if (report.decoded()) {
      const RegionReport& region = *report.region;
      line += fmt::format(" {:>5} {:>6} {:>6} {:>5} {:>5} {:>5} {:>4.0f}%",
                          fmt::format("{}/{}", region.header.status.channels_served, region.channels.size()),
                          short_number(device.rates.commands), short_number(device.rates.launches),
                          short_bytes(device.rates.bytes_in), short_bytes(device.rates.bytes_out),
                          short_bytes(static_cast<double>(region.header.status.memory_in_use_bytes)),
                          device.rates.busy * 100);
    }
    lines.push_back(std::move(line));
  }
  if (lines.empty()) lines.push_back(now + " no vGPU found");
  return lines;
}

ordered_json LiveView::json() const {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  ordered_json answer = {
      {"unix_ns", static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec)}};
  auto& devices = answer["devices"] = ordered_json::array();
  for (const auto& [path, device] : devices_) {
    ordered_json one = short_json(device.report);
    if (device.report.decoded()) {
      one["heartbeat_age_ns"] = device.heartbeat_age_ns;
      one["rates"] = rates_json(device.rates);
      auto& channels = one["channels"] = ordered_json::array();
      for (const auto& channel : device.report.region->channels) {
        if (!channel.in_use()) continue;
        const auto rates = device.channels.find(channel.index);
        channels.push_back({{"index", channel.index},
                            {"state", channel.state},
                            {"pid", channel.owner_pid},
                            {"process", channel.owner_name},
                            {"ring_fill_bytes", channel.ring_fill_bytes},
                            {"memory_in_use_bytes", channel.counters.block.memory_in_use_bytes},
                            {"sticky_error", channel.sticky_error},
                            {"rates", rates_json(rates == device.channels.end() ? Rates{} : rates->second)}});
      }
    }
    devices.push_back(std::move(one));
  }
  return answer;
}

}  // namespace vgpu::tools
