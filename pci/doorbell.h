// The doorbell register of QEMU's ivshmem-doorbell: a store there wakes another peer without an exit to user
// space. Needs glibc alone: the shim libraries use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

#include "ring/error.h"

namespace vgpu::pci {

// BAR0, mapped. Movable.
class Doorbell {
 public:
  Doorbell() = default;
  Doorbell(Doorbell&& other) noexcept;
  Doorbell& operator=(Doorbell&& other) noexcept;
  ~Doorbell();

  // Of the function in `device_directory` ("/sys/bus/pci/devices/0000:00:04.0"). kNotFound: it is no
  // ivshmem-doorbell (ivshmem-plain has the register too, and nobody behind it); kPermission: resource0
  // cannot be opened for writing.
  static std::expected<Doorbell, ring::Error> open(const std::string& device_directory);

  // Wakes whoever listens to the peer's vector. Everything stored before, to the region too, is visible to
  // him. A peer that does not exist is ignored. Any thread. Only while mapped.
  void ring(uint16_t peer, uint16_t vector) const noexcept;

  bool mapped() const noexcept { return page_ != nullptr; }

 private:
  void* page_ = nullptr;
  uint32_t* register_ = nullptr;
};

}  // namespace vgpu::pci
