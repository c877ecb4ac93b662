// What `watch` shows: looks at the devices again and again, and tells what changed in between.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/screen.h"

namespace vgpu::tools {

struct ViewOptions {
  bool paused = false;
  bool idle_channels = false;
  bool help = false;
  std::size_t first_line = 0;
};

// Figures a second, or shares of it.
struct Rates {
  double commands = 0;
  double launches = 0;
  double bytes_in = 0;
  double bytes_out = 0;
  double errors = 0;
  double busy = 0;  // share of a processor: 1 is one thread's whole time
  double kernels = 0;
};

class LiveView {
 public:
  explicit LiveView(const Request& request) : request_(request) {}

  // One look at all devices, or at the one that was asked for. Rates need two.
  void look();

  // The page of a terminal with so many rows. Corrects the options where they scroll too far.
  std::vector<Line> page(ViewOptions& options, uint64_t interval_ns, std::size_t rows) const;
  static std::string line_heading();
  std::vector<std::string> lines() const;  // one for each device
  nlohmann::ordered_json json() const;

 private:
  struct Device {
    DeviceReport report;
    Rates rates;
    std::map<uint32_t, Rates> channels;
    uint64_t heartbeat_age_ns = 0;
    // Of the look before:
    uint64_t looked_ns = 0;
    uint64_t heartbeat = 0;
    uint64_t heartbeat_ns = 0;  // when it changed last
    bool seen = false;
  };
  void add_device(std::vector<Line>& lines, const Device& device, const ViewOptions& options) const;

  Request request_;
  std::map<std::string, Device> devices_;  // by path
};

}  // namespace vgpu::tools
