// The worker: the process that serves one guest. It is forked off by the supervisor, locks itself in, makes
// its backend, serves the region until SIGTERM, and reports through a page it shares with the supervisor
// alone, which outlives it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/backend.h"
#include "device/server/device_server.h"

namespace vgpu::device {

using BackendFactory = std::function<Result<std::unique_ptr<Backend>>()>;

struct WorkerOptions {
  std::string region_path;
  DeviceServerOptions server;
  BackendFactory make_backend;  // called inside the worker
  bool sandbox = true;
  std::vector<std::string> writable;  // beside the region: the compilation cache
  bool keep_output = false;           // standard output stays the parent's, for what kernels print
};

// Written by the worker, read by the supervisor; no guest sees it. Words through ring/access.h.
struct WorkerReport {
  Counters totals;
  uint64_t kernels_from_cache = 0;
  uint64_t ticks = 0;         // grows as long as the worker's main thread lives
  char statistics[256] = {};  // Backend::statistics(); read when the worker has ended
  char failure[512] = {};     // why it could not start
};

inline constexpr int kWorkerStopped = 0;
inline constexpr int kWorkerCannotStart = 2;

// The child's whole life; call right after fork() and pass the result to _exit(). Writes one byte to
// `ready_fd` when the channels are served.
int worker_main(const WorkerOptions& options, WorkerReport& report, int parent_pid, int ready_fd) noexcept;

}  // namespace vgpu::device
