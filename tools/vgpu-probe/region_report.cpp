// Reading a region. A private image as long as the region is laid out in which only what was copied is
// accessible: the views of ring/ work over it, and a look at anything else would fault in every test.
#include "tools/vgpu-probe/region_report.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>

#include "protocol/commands.h"
#include "ring/channel.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMostBytes = uint64_t{1} << 40;  // the largest region there may be

class Image {
 public:
  explicit Image(uint64_t bytes) : bytes_(std::min(bytes, kMostBytes)) {
    void* memory = ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) data_ = static_cast<std::byte*>(memory);
  }
  ~Image() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  bool valid() const noexcept { return data_ != nullptr; }
  std::span<std::byte> bytes() const noexcept { return {data_, bytes_}; }
  // Copies from the source; whole pages become accessible.
  bool fetch(const RegionSource& source, uint64_t offset, uint64_t bytes) {
    if (offset > bytes_ || bytes > bytes_ - offset) return false;
    const uint64_t start = offset / kPage * kPage;
    if (::mprotect(data_ + start, offset + bytes - start, PROT_READ | PROT_WRITE) != 0) return false;
    return source.read(offset, {data_ + offset, bytes});
  }

 private:
  uint64_t bytes_;
  std::byte* data_ = nullptr;
};

const char* lock_text(ring::LockState state) {
  switch (state) {
    case ring::LockState::kFree:
      return "free";
    case ring::LockState::kHeld:
      return "held";
    case ring::LockState::kUnknown:
      break;
  }
  return "unknown";
}

template <std::size_t N>
std::string field_text(const char (&field)[N]) {
  return printable(ring::load_text(field, N));
}

device::Counters read_counters(const ring::CounterBlock& block, const uint64_t* by_command) {
  device::Counters counters;
  std::memcpy(&counters.block, &block, sizeof block);
  std::copy_n(by_command, protocol::kCommandCount, counters.by_command);
  return counters;
}

std::string command_name(uint32_t opcode) {
  const uint32_t index =
      opcode > 0xffff ? protocol::kCommandCount : protocol::command_index(static_cast<uint16_t>(opcode));
  return index < protocol::kCommandCount ? std::string(protocol::kCommands[index].name)
                                         : fmt::format("opcode {:#x}", opcode);
}

// The command that executes now, or waits to: its record stands at the completed position.
std::string next_command(const RegionSource& source, const ring::RegionGeometry& geometry,
                         const ChannelReport& channel) {
  if (channel.published <= channel.completed || channel.ring_bytes == 0) return "";
  uint64_t position = channel.completed;
  for (int skipped = 0; skipped < 2; ++skipped) {
    ring::RecordHeader record{};
    const uint64_t offset = geometry.channel_start(channel.index) + geometry.ring_offset +
                            position / ring::kSlotBytes * ring::kSlotBytes % channel.ring_bytes;
    if (!source.read(offset, std::as_writable_bytes(std::span(&record, 1)))) return "";
    const uint32_t bytes = ring::commit_bytes(record.commit);
    if (record.commit != ring::make_commit(bytes, position)) return "";
    if (record.opcode != ring::kPaddingOpcode) return command_name(record.opcode);
    position += ring::round_up_to_slot(bytes);  // padding fills the ring's end
  }
  return "";
}

ChannelReport read_channel(const RegionSource& source, const ring::RegionView& image, uint32_t index) {
  const ring::ChannelView view = image.channel(index);
  const ring::ChannelControl& control = *view.control;
  ChannelReport report;
  report.index = index;
  report.state = ring::channel_state_name(static_cast<ring::ChannelState>(control.served.state));
  report.owned = control.served.served_nonce != 0;
  report.lock = lock_text(source.lock(ring::kChannelLockBase + index));
  const auto owner = ring::read_owner(control);
  if (owner.nonce != 0) {
    report.owner_pid = owner.pid;
    report.owner_name = printable(owner.process_name);
    report.claimed_unix_ns = control.owner.claimed_unix_ns;
    report.generation_matches = owner.generation == image.header().generation;
  }
  report.published = control.producer.published;
  report.consumed = control.consumer.consumed;
  report.completed = control.consumer.completed;
  report.ring_bytes = view.ring.size();
  // What an owner that is gone published last, stays: nothing of it waits.
  const bool live = report.owned || owner.nonce != 0;
  report.ring_fill_bytes = live && report.published > report.consumed
                               ? std::min(report.published - report.consumed, report.ring_bytes)
                               : 0;
  if (live) report.next_command = next_command(source, image.geometry(), report);
  report.consumer_parked = control.park.consumer_parked != 0;
  report.consumer_parks = control.park.parks;
  report.guest_parks = control.producer.guest_parks;
  for (const uint32_t sleepers : {control.guest_park.on_reply, control.guest_park.on_completed,
                                  control.guest_park.on_consumed, control.guest_park.on_served}) {
    report.guest_sleepers += std::min(sleepers, 100'000U);
  }
  report.full_waits = control.producer.full_waits;
  report.guest_round_trips = control.producer.round_trips;
  report.epoch = control.served.epoch;
  report.dead_owners = control.served.reset_count_dead_owner;
  report.sticky_error = control.consumer.sticky_error;
  report.deferred_error = static_cast<uint32_t>(control.consumer.deferred_error);
  report.deferred_errors = static_cast<uint32_t>(control.consumer.deferred_error >> 32);
  report.last_error = control.served.last_error_code;
  report.last_error_position = control.served.last_error_position;
  if (report.last_error != 0) {
    report.last_error_command = command_name(control.served.last_error_opcode);
    report.last_error_text = field_text(control.served.last_error);
  }
  report.counters = read_counters(control.counters, control.opcode_counts);
  return report;
}

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

RegionReport read_region(const RegionSource& source) {
  RegionReport report;
  report.file_bytes = source.bytes();
  const auto fail = [&report](ring::ErrorCode code, std::string text) {
    report.problem = ring::Error{code, std::move(text)};
    return std::move(report);
  };
  if (source.bytes() < sizeof(ring::RegionHeader)) {
    return fail(ring::ErrorCode::kTruncated,
                fmt::format("only {} long: too short for a region", bytes_text(source.bytes())));
  }
  Image image(source.bytes());
  if (!image.valid()) {
    return fail(ring::ErrorCode::kSystem, fmt::format("no address space for an image of {}: {}",
                                                      bytes_text(source.bytes()), std::strerror(errno)));
  }
  const auto vanished = [&] {
    return fail(ring::ErrorCode::kTruncated, "it was truncated while it was being read");
  };
  if (!image.fetch(source, 0, sizeof(ring::RegionHeader))) return vanished();
  report.has_header = true;
  std::memcpy(&report.header, image.bytes().data(), sizeof report.header);
  auto found = ring::check_region(image.bytes(), 0, 0);
  if (!found) {
    found.error().text = printable(found.error().text);
    report.problem = std::move(found.error());
    return report;
  }
  report.found = *found;
  const auto& geometry = found->geometry;
  if (!image.fetch(source, geometry.device_info_offset, sizeof(ring::DeviceInfo))) return vanished();
  for (uint32_t i = 0; i < geometry.channel_count; ++i) {
    if (!image.fetch(source, geometry.channel_start(i), sizeof(ring::ChannelControl))) return vanished();
  }
  const ring::RegionView region(image.bytes(), geometry);
  const auto& status = report.header.status;
  report.protocol_matches = found->protocol_version == protocol::kProtocolVersion &&
                            found->protocol_hash == protocol::kProtocolHash;
  report.state = ring::device_state_name(static_cast<ring::DeviceState>(status.device_state));
  report.reason = field_text(status.reason);
  report.vgpu_version = field_text(found->vgpu_version);
  std::memcpy(&report.info, &region.device_info(), sizeof report.info);
  report.name = field_text(report.info.name);
  report.device_lock = source.carrier() == pci::Carrier::kFile ? lock_text(source.lock(ring::kDeviceLockByte))
                                                               : lock_text(ring::LockState::kUnknown);
  report.device_lock_held = report.device_lock == "held";
  report.totals = read_counters(report.header.totals, report.header.opcode_totals);
  for (uint32_t i = 0; i < geometry.channel_count; ++i) {
    report.channels.push_back(read_channel(source, region, i));
  }
  return report;
}

HeartbeatReport watch_heartbeat(const RegionSource& source, uint64_t limit_ns) {
  constexpr uint64_t kOffset = offsetof(ring::RegionHeader, status) + offsetof(ring::DeviceStatus, heartbeat);
  constexpr timespec kBetweenLooks{.tv_sec = 0, .tv_nsec = 3'000'000};
  HeartbeatReport report;
  const uint64_t start = now_ns();
  const auto first = source.read_word(kOffset);
  if (!first) return report;
  report.count = *first;
  while (report.watched_ns < limit_ns) {
    ::nanosleep(&kBetweenLooks, nullptr);
    report.watched_ns = now_ns() - start;
    const auto seen = source.read_word(kOffset);
    if (!seen) return report;
    if (*seen != *first) {
      report.count = *seen;
      report.beats = true;
      return report;
    }
  }
  return report;
}

ProcessReport look_at_process(uint32_t pid) {
  ProcessReport report;
  const std::string folder = fmt::format("/proc/{}", pid);
  std::string name;
  if (std::ifstream comm(folder + "/comm"); pid == 0 || !std::getline(comm, name)) return report;
  report.exists = true;
  report.name = printable(name);
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path_start = line.find('/');
    if (path_start == std::string::npos) continue;
    const std::string path = printable(std::string_view(line).substr(path_start));
    const std::string_view file = std::string_view(path).substr(path.rfind('/') + 1);
    const auto add = [&path](std::vector<std::string>& to) {
      if (std::ranges::find(to, path) == to.end()) to.push_back(path);
    };
    if (file.starts_with("libvgpu") || file.starts_with("libcuda.so") || file.starts_with("libcudart.so") ||
        file.starts_with("libcublas") || file.starts_with("libnvidia-ml.so")) {
      add(report.libraries);
    } else if (path.starts_with("/dev/shm/vgpu") ||
               (path.starts_with("/sys/") && file.starts_with("resource2"))) {
      add(report.region_files);
    }
  }
  return report;
}

}  // namespace vgpu::tools
