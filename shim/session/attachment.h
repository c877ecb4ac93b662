// The device as this process found it: located, mapped, checked; no channel taken. Enough for everything that
// never changes (properties, attributes) and for the device's state.
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "pci/bar.h"
#include "protocol/status.h"
#include "ring/region.h"

namespace vgpu::shim {

// Why something failed, and the CUDA status that says so.
struct Failure {
  protocol::Status status = protocol::Status::kUnknown;
  std::string text;
};

class Attachment {
 public:
  // Finds the device (VGPU_DEVICE, PCI, the default path), maps it, and checks that it speaks our layout and
  // protocol and is alive. kNoDevice: nothing there, or nobody serves it; kSystemDriverMismatch: another
  // version.
  static std::expected<std::unique_ptr<Attachment>, Failure> open();
  // The same over a mapping the caller found (tests).
  static std::expected<std::unique_ptr<Attachment>, Failure> over(pci::Bar bar);

  const ring::RegionView& region() const noexcept { return region_; }
  const ring::FoundRegion& found() const noexcept { return found_; }
  const pci::Bar& bar() const noexcept { return bar_; }
  // A copy made at attach: the device may be restarted, the answer to a query may not change.
  const ring::DeviceInfo& info() const noexcept { return info_; }
  // How the processor maps the region, measured at attach; VGPU_MAPPING forces it (for tests).
  pci::MappingKind mapping() const noexcept { return mapping_; }
  // Serving, same generation as at attach. One look, no waiting.
  bool serving() const noexcept;

 private:
  Attachment() = default;

  pci::Bar bar_;
  ring::FoundRegion found_;
  ring::RegionView region_;
  ring::DeviceInfo info_{};
  pci::MappingKind mapping_ = pci::MappingKind::kWriteBack;
};

// The CUDA status for an error of ring/ or pci/.
protocol::Status status_of(ring::ErrorCode code) noexcept;

}  // namespace vgpu::shim
