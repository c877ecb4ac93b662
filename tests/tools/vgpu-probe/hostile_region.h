// A region in memory whose words are overwritten at will, and what must hold of whatever is read from it.
// For the fuzzer and for the test that mutates without one.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "protocol/commands.h"
#include "tools/vgpu-probe/device_report.h"

namespace vgpu::tools::testing {

class HostileRegion {
 public:
  static constexpr std::size_t kBytes = 1 << 20;
  static constexpr std::size_t kPage = 4096;

  HostileRegion() : pages_(std::make_unique<Page[]>(kBytes / kPage)) {
    ring::GeometryOptions options;
    options.region_bytes = kBytes;
    options.channel_count = 2;
    options.ring_bytes = 64 << 10;
    options.reply_count = 4;
    geometry_ = *ring::RegionGeometry::compute(options);
    ring::FormatOptions format;
    format.protocol_version = protocol::kProtocolVersion;
    format.protocol_hash = protocol::kProtocolHash;
    format.generation = 1;
    format.vgpu_version = "1";
    (void)*ring::format_region(span(), geometry_, ring::DeviceInfo{}, format);
    // What a device and a guest at work leave behind.
    const ring::RegionView view(span(), geometry_);
    auto& control = *view.channel(1).control;
    control.owner.nonce = 7;
    control.owner.pid = 1;
    control.producer.published = 64 * 1000;
    control.consumer.completed = control.consumer.consumed = 64 * 999;
    control.served.last_error_code = 700;
    std::memset(control.served.last_error, 'x', sizeof control.served.last_error);
  }

  std::size_t bytes() const { return kBytes; }
  // Words of the header, the device info, both control pages, and the rings' beginnings.
  void patch(uint16_t index, uint64_t value) {
    const std::size_t words = kPage / sizeof(uint64_t);
    const std::size_t starts[] = {0,
                                  geometry_.device_info_offset,
                                  geometry_.channel_start(0),
                                  geometry_.channel_start(1),
                                  geometry_.channel_start(0) + geometry_.ring_offset,
                                  geometry_.channel_start(1) + geometry_.ring_offset};
    const std::size_t at = starts[index / words % std::size(starts)] / sizeof(uint64_t) + index % words;
    undo_.push_back({at, all_words()[at]});
    all_words()[at] = value;
  }
  void restore() {
    for (; !undo_.empty(); undo_.pop_back()) all_words()[undo_.back().at] = undo_.back().value;
  }

  // Reads the first `length` bytes of it, and ends the process where what was read breaks a promise.
  RegionReport read(std::size_t length) {
    const auto source = RegionSource::over(span().first(std::min(length, kBytes)));
    DeviceReport report;
    report.region = read_region(source);
    const RegionReport& region = *report.region;
    check(region.file_bytes == source.bytes());
    check(region.problem.has_value() || region.channels.size() == region.found.geometry.channel_count);
    check(region.channels.size() <= ring::kMaxChannels);
    for (const auto& channel : region.channels) {
      check(channel.ring_fill_bytes <= channel.ring_bytes && channel.ring_bytes <= region.file_bytes);
      check(channel.owner_name.size() < 64 && channel.last_error_text.size() <= 1024);
    }
    if (report.decoded()) judge_heartbeat(report, {false, 0, 1});
    check(!full_json(report).dump().empty());  // throws on text that is no UTF-8
    return std::move(*report.region);
  }

 private:
  struct Undo {
    std::size_t at;
    uint64_t value;
  };
  static void check(bool holds) {
    if (!holds) std::abort();
  }
  struct alignas(kPage) Page {
    uint64_t words[kPage / sizeof(uint64_t)];
  };
  uint64_t* all_words() { return reinterpret_cast<uint64_t*>(pages_.get()); }
  std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(pages_.get()), kBytes}; }

  std::unique_ptr<Page[]> pages_;
  ring::RegionGeometry geometry_;
  std::vector<Undo> undo_;
};

}  // namespace vgpu::tools::testing
