// Physical memory of virtual memory management: segments of one memory file that any range of the window can
// map, several times over. Sparse; a released segment's pages go back to the machine at once. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "device/software/runtime/address_space.h"
#include "device/software/runtime/device_window.h"

namespace vgpu::software {

class PhysicalStore {
 public:
  static Result<std::unique_ptr<PhysicalStore>> create();
  ~PhysicalStore();
  PhysicalStore(const PhysicalStore&) = delete;
  PhysicalStore& operator=(const PhysicalStore&) = delete;

  Result<uint64_t> take(uint64_t bytes);  // offset in file(); zeroed
  void give_back(uint64_t offset, uint64_t bytes);
  [[nodiscard]] int file() const { return file_; }

 private:
  explicit PhysicalStore(int file);
  const int file_;
  std::mutex mutex_;
  AddressSpace offsets_;
};

}  // namespace vgpu::software
