// Region, channels, heartbeat and totals of one device.
#include "device/server/device_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>

#include "protocol/commands.h"
#include "ring/access.h"

#ifndef VGPU_VERSION
#error "VGPU_VERSION is the build's to define"
#endif

namespace vgpu::device {
namespace {

// What cuDriverGetVersion says: the newest CUDA whose driver API the shim exports.
constexpr int32_t kDriverVersion = 13000;
constexpr std::string_view kDriverVersionText =
    "580.65.06";                           // NVIDIA's driver of that CUDA, as NVML names it
constexpr uint32_t kEmulatedBus = 1;       // where a device without a PCI address of its own says it is
constexpr uint32_t kPciBusAttribute = 33;  // CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, and so on
constexpr uint32_t kPciDeviceAttribute = 34;
constexpr uint32_t kPciDomainAttribute = 50;
constexpr uint32_t kLastKnownAttribute = 144;  // of CUDA 13.0's CUdevice_attribute

constexpr uint64_t kFutexRecheckNs = 60'000'000'000;

ring::DeviceInfo device_info(const DeviceProperties& properties) {
  ring::DeviceInfo info{};
  ring::store_text(info.name, sizeof info.name, properties.name);
  std::memcpy(info.uuid, properties.uuid.data(), sizeof info.uuid);
  info.compute_major = static_cast<int32_t>(properties.compute_major);
  info.compute_minor = static_cast<int32_t>(properties.compute_minor);
  info.total_memory_bytes = properties.total_memory_bytes;
  info.va_base = properties.window_base;
  info.va_bytes = properties.window_bytes;
  info.driver_version = kDriverVersion;
  info.pci_bus = kEmulatedBus;
  ring::store_text(info.driver_version_text, sizeof info.driver_version_text, kDriverVersionText);
  static_assert(std::tuple_size_v<decltype(properties.attributes)> == ring::kAttributeCount);
  for (uint32_t i = 0; i < ring::kAttributeCount; ++i) {
    info.attributes[i] = properties.attributes[i];
    if ((i >= 1 && i <= kLastKnownAttribute) || properties.attributes[i] != 0) {
      info.attribute_known[i / 64] |= uint64_t{1} << (i % 64);
    }
  }
  // One PCI address, however a program asks for it.
  info.attributes[kPciBusAttribute] = static_cast<int32_t>(info.pci_bus);
  info.attributes[kPciDeviceAttribute] = static_cast<int32_t>(info.pci_device);
  info.attributes[kPciDomainAttribute] = static_cast<int32_t>(info.pci_domain);
  return info;
}

Error from_ring(const ring::Error& error) {
  return {protocol::Status::kOperatingSystem, error.text};
}

}  // namespace

ring::GeometryOptions default_geometry(uint64_t region_bytes, uint32_t channels) noexcept {
  ring::GeometryOptions options;
  options.region_bytes = region_bytes;
  options.channel_count = channels;
  constexpr uint32_t kReplyBytes = ring::kReplyHeaderBytes + protocol::kMaxNameBytes + 64;
  options.reply_bytes = (kReplyBytes + 63) & ~63u;
  return options;
}

std::expected<std::unique_ptr<DeviceServer>, Error> DeviceServer::create(const pci::Bar& bar,
                                                                         Backend& backend,
                                                                         const DeviceServerOptions& options) {
  const auto geometry = ring::RegionGeometry::compute(options.geometry);
  if (!geometry) return std::unexpected(from_ring(geometry.error()));
  if (geometry->region_bytes > bar.bytes().size()) {
    return std::unexpected(Error{protocol::Status::kInvalidValue,
                                 fmt::format("a region of {} bytes does not fit {} of {} bytes",
                                             geometry->region_bytes, bar.path(), bar.bytes().size())});
  }
  // Everything the device itself writes has memory behind it, so that a full file system is an error here and
  // not a SIGBUS later. Bulk heaps get theirs when they are used.
  for (uint32_t i = 0; i < geometry->channel_count; ++i) {
    const uint64_t start = i == 0 ? 0 : geometry->channel_start(i);
    const uint64_t end = geometry->bulk_start(i);
    if (const auto backed = bar.ensure_backed(start, end - start); !backed) {
      return std::unexpected(from_ring(backed.error()));
    }
  }
  auto region_file = bar.open_lock_fd();
  if (!region_file) return std::unexpected(from_ring(region_file.error()));
  if (options.vm && options.vm->doorbells.size() != geometry->channel_count) {
    return std::unexpected(Error{
        protocol::Status::kInvalidValue,
        fmt::format("{} doorbells for {} channels", options.vm->doorbells.size(), geometry->channel_count)});
  }
  ChannelOptions channel = options.channel;
  uint64_t features = 0;
  if (options.vm) {
    channel.locks_visible = false;
    channel.back_bulk = true;
    features = ring::kFeatureIvshmemDoorbell;
  } else {
    features = ring::kFeatureFutexDoorbell |
               (channel.locks_visible ? ring::kFeatureOwnerLocks : uint64_t{0}) |
               (ring::register_for_remote_fences() ? ring::kFeatureRemoteFences : uint64_t{0});
  }
  const auto generation = ring::format_region(bar.bytes(), *geometry, device_info(backend.properties()),
                                              {.protocol_version = protocol::kProtocolVersion,
                                               .protocol_hash = protocol::kProtocolHash,
                                               .feature_bits = features,
                                               .generation = 0,
                                               .doorbell_peer = options.vm ? options.vm->peer : 0,
                                               .vgpu_version = VGPU_VERSION});
  if (!generation) return std::unexpected(from_ring(generation.error()));
  channel.generation = *generation;
  channel.remote_fences = (features & ring::kFeatureRemoteFences) != 0;
  return std::unique_ptr<DeviceServer>(
      new DeviceServer(bar, backend, std::move(*region_file), *geometry, *generation, channel, options.vm));
}

DeviceServer::DeviceServer(const pci::Bar& bar, Backend& backend, ring::UniqueFd region_file,
                           const ring::RegionGeometry& geometry, uint64_t generation,
                           const ChannelOptions& options, const std::optional<VmOptions>& vm)
    : bar_(bar),
      backend_(backend),
      region_file_(std::move(region_file)),
      region_(bar.bytes(), geometry),
      generation_(generation) {
  ChannelOptions channel_options = options;
  if (channel_options.quota.memory_bytes == 0) {
    channel_options.quota.memory_bytes = backend.properties().total_memory_bytes;
  }
  // Every wake-up rings where there are futexes: a sleep's bound is for what nobody thought of.
  ring::WaitOps futexes = ring::futex_wait_ops();
  futexes.recheck_ns = kFutexRecheckNs;
  channels_.reserve(geometry.channel_count);
  for (uint32_t i = 0; i < geometry.channel_count; ++i) {
    const auto view = region_.channel(i);
    ChannelServer::Sleeping sleeping{.serving = futexes, .idle = futexes};
    if (vm) {
      const auto& bell = *doorbells_.emplace_back(
          std::make_unique<Doorbell>(vm->doorbells[i], &view.control->doorbell.doorbell, vm->connected));
      sleeping = {.serving = bell.serving(), .idle = bell.idle()};
    }
    channels_.push_back(std::make_unique<ChannelServer>(view, bar_, region_file_.get(), backend_, totals_,
                                                        channel_options, sleeping));
  }
  auto& status = region_.header().status;
  ring::store_relaxed(status.worker_pid, static_cast<uint32_t>(::getpid()));
  ring::store_relaxed(status.started_unix_ns,
                      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                std::chrono::system_clock::now().time_since_epoch())
                                                .count()));
}

DeviceServer::~DeviceServer() {
  stop("");
}

void DeviceServer::start() {
  for (auto& channel : channels_) channel->start();
  running_ = true;
  tick();
  ring::set_device_state(region_.header(), ring::DeviceState::kReady, "");
}

Counters DeviceServer::totals() const noexcept {
  Counters sum = totals_.sum(channels_);
  uint64_t memory = 0;
  for (const auto& channel : channels_)
    memory += ring::load_relaxed(channel->counters().block.memory_in_use_bytes);
  const auto compiled = backend_.counts();
  sum.block.memory_in_use_bytes = memory;
  sum.block.memory_peak_bytes = std::max(sum.block.memory_peak_bytes, memory_peak_);
  sum.block.kernels_compiled = compiled.kernels_compiled;
  sum.block.compile_ns = compiled.compile_ns;
  return sum;
}

bool DeviceServer::tick() noexcept {
  auto& header = region_.header();
  ring::store_release(header.status.heartbeat, ++heartbeat_);
  uint32_t served = 0;
  uint64_t memory = 0;
  uint64_t highest = 0;
  Activity activity{.owners_gone = totals_.absorbed()};
  // A claim rings; once a second is enough to look for one that was missed.
  const bool look_at_free_channels = heartbeat_ % 10 == 0;
  for (const auto& channel : channels_) {
    if (!channel->served() && !look_at_free_channels) continue;
    channel->watch();
    if (!channel->served()) continue;
    ++served;
    const auto& block = channel->counters().block;
    memory += ring::load_relaxed(block.memory_in_use_bytes);
    highest = std::max(highest, ring::load_relaxed(block.memory_peak_bytes));
    activity.commands += ring::load_relaxed(block.commands);
    activity.busy_ns += ring::load_relaxed(block.busy_ns);
  }
  ring::store_relaxed(header.status.channels_served, served);
  // An idle device touches no more than this.
  if (activity == seen_activity_) return false;
  seen_activity_ = activity;
  // Exact where one process uses the device at a time: a channel keeps its own peak to the byte.
  memory_peak_ = std::max({memory_peak_, memory, highest});
  ring::store_relaxed(header.status.memory_in_use_bytes, memory);
  const Counters sum = totals();
  const auto* from = reinterpret_cast<const uint64_t*>(&sum.block);
  auto* to = reinterpret_cast<uint64_t*>(&header.totals);
  for (std::size_t i = 0; i < offsetof(ring::CounterBlock, reserved) / sizeof(uint64_t); ++i) {
    ring::store_relaxed(to[i], from[i]);
  }
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    ring::store_relaxed(header.opcode_totals[i], sum.by_command[i]);
  }
  return true;
}

void DeviceServer::listen() noexcept {
  for (const auto& doorbell : doorbells_) doorbell->listen();
}

bool DeviceServer::has_served() const noexcept {
  return totals_.absorbed() > 0 ||
         std::ranges::any_of(channels_, [](const auto& channel) { return channel->served(); });
}

void DeviceServer::stop(const std::string& reason) noexcept {
  if (!running_) return;
  running_ = false;
  ring::set_device_state(region_.header(), ring::DeviceState::kStopping, reason);
  for (auto& channel : channels_) channel->request_stop();
  for (auto& channel : channels_) {
    tick();
    channel->join();
  }
  tick();
  ring::store_relaxed(region_.header().status.worker_pid, 0U);
  ring::set_device_state(region_.header(), ring::DeviceState::kStopped, reason);
}

}  // namespace vgpu::device
