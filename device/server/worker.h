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
  std::string name;  // of the guest, for the log; empty where there is one only
  std::string region_path;
  DeviceServerOptions server;  // `vm` is the worker's to make
  // A VM's region is not opened by its path: the worker inherits the supervisor's open file of it (see
  // pci::Bar::adopt_file), and an eventfd a channel.
  int region_file = -1;
  std::vector<int> doorbells;
  uint32_t doorbell_peer = 0;
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
  uint32_t has_served = 0;    // 1: some process owned a channel, now or earlier
  char statistics[256] = {};  // Backend::statistics(); read when the worker has ended
  char failure[512] = {};     // why it could not start
};

// What supervisor and worker share.
struct WorkerPage {
  WorkerReport report;
  // Written by the supervisor: 1 while a VM's doorbell reaches WorkerOptions::doorbells.
  alignas(64) uint32_t doorbell_connected = 0;
};

inline constexpr int kWorkerStopped = 0;
inline constexpr int kWorkerCannotStart = 2;

// The child's whole life; call right after fork() and pass the result to _exit(). Writes one byte to
// `ready_fd` when the channels are served.
int worker_main(const WorkerOptions& options, WorkerPage& page, int parent_pid, int ready_fd) noexcept;

}  // namespace vgpu::device
