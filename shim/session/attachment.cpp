// Locating, mapping and checking the region.
#include "shim/session/attachment.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

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

// What the program sees of the bus is where its own machine found the device, which the host does not know.
void tell_address(ring::DeviceInfo& info, const pci::Bar& bar) {
  if (bar.carrier() != pci::Carrier::kPciBar) {
    return;
  }
  // ".../0000:00:04.0/resource2_wc"
  std::string_view name = bar.path();
  name = name.substr(0, name.rfind('/'));
  name = name.substr(name.rfind('/') + 1);
  const auto address = pci::parse_pci_address(name);
  if (!address) {
    return;
  }
  info.pci_domain = address->domain;
  info.pci_bus = address->bus;
  info.pci_device = address->device;
  info.pci_function = address->function;
  constexpr struct {
    uint32_t attribute;  // CU_DEVICE_ATTRIBUTE_PCI_..._ID
    uint32_t pci::PciAddress::* part;
  } kAttributes[] = {
      {33, &pci::PciAddress::bus}, {34, &pci::PciAddress::device}, {50, &pci::PciAddress::domain}};
  for (const auto& [attribute, part] : kAttributes) {
    info.attributes[attribute] = static_cast<int32_t>((*address).*part);
    info.attribute_known[attribute / 64] |= uint64_t{1} << (attribute % 64);
  }
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
  tell_address(attachment->info_, attachment->bar_);
  std::string why_not;
  log_line("the doorbell: %s",
           attachment->bar_.connect_doorbell(attachment->found_, &why_not) ? "rung" : why_not.c_str());
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
