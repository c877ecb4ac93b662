// What vgpu-device was asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::tools {

struct DeviceOptions {
  std::string path;  // of the region's file; empty: the default
  uint64_t region_bytes = 256ull << 20;
  uint32_t channels = 16;
  uint64_t memory_bytes = 0;  // 0: the backend's choice
  uint32_t threads = 0;       // 0: as many as processors
  std::string numa = "auto";  // or "off", or the number of a node
  std::string cache_directory;
  uint64_t cache_bytes = 1ull << 30;  // of compiled kernels on disk; 0: none are kept
  std::string log_file;
  std::string log_level = "info";
  std::string backend = "software";
  bool sandbox = true;
  std::vector<std::string> guests;  // names; empty: one region for processes of this machine
  std::string guests_directory = "/dev/shm/vgpu-guests";
  std::string guest_group;  // whose members may open the guests' files; empty: nobody but the user
};

struct RunOptions {
  std::vector<std::string> command;
  std::string libraries;     // folder of the shim libraries; empty: beside this program
  std::string cuda = "all";  // generations that are visible: 12, 13 or all
  int preload = -1;          // -1: when one generation is chosen
  std::string counters_file;
};

}  // namespace vgpu::tools
