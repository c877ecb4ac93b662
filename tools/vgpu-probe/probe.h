// vgpu-probe's commands. Each prints its answer, as text or JSON, and returns the process's exit status: 0,
// or 1 when there is nothing to tell or something is wrong, with the reason on standard error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::tools {

// What every command is given.
struct Request {
  std::string device;            // path, PCI address or guest's name; empty: the default one
  std::string guests_directory;  // where vgpu-device keeps guests' regions
  bool json = false;
};

int list_devices(const Request& request);
int show_device(const Request& request, bool all_channels);
int test_device(const Request& request);
// `count` round trips, and as many or fewer of the other cases.
int measure_latency(const Request& request, uint32_t count);
// What is around, as text, or as an SVG document into the file ("-": standard output).
int show_topology(const Request& request, const std::string& svg_file);
// Until a signal, a key, or `count` looks (0: no end).
int watch_devices(const Request& request, double interval_seconds, uint64_t count);
// Everything as one JSON document into the file ("-": standard output).
int dump_all(const Request& request, const std::string& file);
// Copies from 64 bytes to `largest` bytes.
int measure_bandwidth(const Request& request, uint64_t largest);

struct KernelOptions {
  std::size_t most = 20;  // kernels to show as text; 0: all
  bool details = false;
};
// What ran since the device started, what took longest first. JSON always has all of it.
int show_kernels(const Request& request, const KernelOptions& options);

}  // namespace vgpu::tools
