// Locating, mapping and checking the region.
#include "shim/session/attachment.h"

#include <cstdlib>
#include <cstring>

#include "pci/locate.h"
#include "protocol/commands.h"
#include "ring/access.h"
#include "ring/channel_lock.h"
#include "shim/session/log.h"

namespace vgpu::shim {

using protocol::Status;

namespace {

pci::MappingKind mapping_of(const pci::Bar& bar) {
  if (const char* forced = std::getenv("VGPU_MAPPING"); forced != nullptr) {
    if (const auto kind = pci::mapping_kind_of_name(forced)) {
      return *kind;
    }
    log_line("VGPU_MAPPING=%s is not write-back, write-combining or uncached: measured instead", forced);
  }
  // A file is memory like any other.
  return bar.carrier() == pci::Carrier::kFile ? pci::MappingKind::kWriteBack
                                              : pci::measure_mapping(bar.bytes(), bar.write_combining_file());
}

}  // namespace

Status status_of(ring::ErrorCode code) noexcept {
  switch (code) {
    case ring::ErrorCode::kNotFound:
    case ring::ErrorCode::kNotARegion:
    case ring::ErrorCode::kPermission:
    case ring::ErrorCode::kTruncated:
    case ring::ErrorCode::kInvalidArgument:
      return Status::kNoDevice;
    case ring::ErrorCode::kLayoutMismatch:
    case ring::ErrorCode::kProtocolMismatch:
      return Status::kSystemDriverMismatch;
    case ring::ErrorCode::kNoFreeChannel:
    case ring::ErrorCode::kBusy:
    case ring::ErrorCode::kTimeout:
    case ring::ErrorCode::kDeviceLost:
      return Status::kDeviceUnavailable;
    case ring::ErrorCode::kNoSpace:
      return Status::kOutOfMemory;
    case ring::ErrorCode::kCorrupt:
    case ring::ErrorCode::kSystem:
      break;
  }
  return Status::kOperatingSystem;
}

bool Attachment::serving() const noexcept {
  const ring::RegionHeader& header = region_.header();
  if (ring::load_acquire(header.magic) != ring::kRegionMagic ||
      ring::load_relaxed(header.generation) != found_.generation) {
    return false;
  }
  const auto state = static_cast<ring::DeviceState>(ring::load_relaxed(header.status.device_state));
  if (state != ring::DeviceState::kStarting && state != ring::DeviceState::kReady) {
    return false;
  }
  // A killed device leaves its file behind in the state "ready"; its lock is gone with it.
  return bar_.carrier() != pci::Carrier::kFile ||
         ring::probe_device_lock(bar_.probe_fd()) != ring::LockState::kFree;
}

std::expected<std::unique_ptr<Attachment>, Failure> Attachment::over(pci::Bar bar) {
  auto found = ring::check_region(bar.bytes(), protocol::kProtocolVersion, protocol::kProtocolHash);
  if (!found) {
    return std::unexpected(Failure{status_of(found.error().code), bar.path() + ": " + found.error().text});
  }
  std::unique_ptr<Attachment> attachment(new Attachment());
  attachment->bar_ = std::move(bar);
  attachment->found_ = *found;
  attachment->region_ = ring::RegionView(attachment->bar_.bytes(), found->geometry);
  attachment->mapping_ = mapping_of(attachment->bar_);
  std::memcpy(&attachment->info_, &attachment->region_.device_info(), sizeof(ring::DeviceInfo));
  if (!attachment->serving()) {
    return std::unexpected(
        Failure{Status::kNoDevice, attachment->bar_.path() + ": there is a region, but no device serves it"});
  }
  return attachment;
}

std::expected<std::unique_ptr<Attachment>, Failure> Attachment::open() {
  const auto locations = pci::locate_from_environment();
  if (!locations) {
    return std::unexpected(Failure{status_of(locations.error().code), locations.error().text});
  }
  // The first one that can be used; if none can, the first reason.
  Failure first{Status::kNoDevice, "no vGPU device found"};
  bool have_reason = false;
  for (const pci::Location& location : *locations) {
    auto bar = pci::open_location(location);
    std::expected<std::unique_ptr<Attachment>, Failure> attachment =
        bar ? over(std::move(*bar)) : std::unexpected(Failure{status_of(bar.error().code), bar.error().text});
    if (attachment) {
      log_line("attached to %s (%s), device version %s", (*attachment)->bar().path().c_str(),
               pci::mapping_kind_name((*attachment)->mapping()), (*attachment)->found().vgpu_version);
      return attachment;
    }
    if (!have_reason) {
      first = attachment.error();
      have_reason = true;
    }
  }
  return std::unexpected(first);
}

}  // namespace vgpu::shim
