// The device inside one worker: formats the region, serves its channels, and keeps heartbeat, states and
// totals. The owner calls tick() at least ten times a second; all members are for that one thread.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/backend.h"
#include "device/error.h"
#include "device/server/channel_server.h"
#include "device/server/doorbell.h"
#include "pci/bar.h"
#include "ring/region.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

// A guest that is a VM: another kernel, so that neither its locks nor its futexes are seen here.
struct VmOptions {
  std::vector<int> doorbells;           // an eventfd a channel (device/server/doorbell.h)
  const uint32_t* connected = nullptr;  // not 0 while the guest's doorbell reaches them
  uint32_t peer = 0;                    // the device's ivshmem peer id
};

struct DeviceServerOptions {
  ring::GeometryOptions geometry;  // region_bytes must be the Bar's
  ChannelOptions channel;          // generation is drawn
  std::optional<VmOptions> vm;     // none: the guests are processes of this kernel
};

// The geometry the device uses for a region of this size: room for any function's name in a reply.
ring::GeometryOptions default_geometry(uint64_t region_bytes, uint32_t channels) noexcept;

class DeviceServer {
 public:
  // Formats the region (state kStarting). `bar` and `backend` must outlive the server.
  static std::expected<std::unique_ptr<DeviceServer>, Error> create(const pci::Bar& bar, Backend& backend,
                                                                    const DeviceServerOptions& options);
  ~DeviceServer();
  DeviceServer(const DeviceServer&) = delete;
  DeviceServer& operator=(const DeviceServer&) = delete;

  // Serves the channels; state kReady.
  void start();
  // Heartbeat, owners, totals. Returns whether any figure has changed.
  bool tick() noexcept;
  // Between ticks, where the guest is a VM whose doorbell may not be heard: wakes the channels it rings for.
  // A load for each.
  void listen() noexcept;
  // Whether any owner was ever served.
  bool has_served() const noexcept;
  // Ends the threads, cancelling what runs. State kStopping, and kStopped at the end.
  void stop(const std::string& reason) noexcept;

  uint64_t generation() const noexcept { return generation_; }
  // Figures of all owners since create(), those that are gone included.
  Counters totals() const noexcept;

 private:
  DeviceServer(const pci::Bar& bar, Backend& backend, ring::UniqueFd region_file,
               const ring::RegionGeometry& geometry, uint64_t generation, const ChannelOptions& options,
               const std::optional<VmOptions>& vm);

  const pci::Bar& bar_;
  Backend& backend_;
  ring::UniqueFd region_file_;
  ring::RegionView region_;
  uint64_t generation_;
  Totals totals_;
  // What changes when any figure does.
  struct Activity {
    uint64_t owners_gone = 0;
    uint64_t commands = 0;
    uint64_t busy_ns = 0;
    bool operator==(const Activity&) const = default;
  };

  uint64_t heartbeat_ = 0;
  Activity seen_activity_;
  uint64_t memory_peak_ = 0;
  std::vector<std::unique_ptr<Doorbell>> doorbells_;
  std::vector<std::unique_ptr<ChannelServer>> channels_;
  bool running_ = false;
};

}  // namespace vgpu::device
