// See guarded_copy.h.
#include "device/software/runtime/guarded_copy.h"

#include <cstring>
#include <vector>

namespace vgpu::software {

bool read_device(void* destination, uint64_t address, std::size_t bytes) {
  // An address outside the window may be anything of ours: it is never touched.
  if (!DeviceWindow::contains(address) || bytes > kDeviceWindowBase + kDeviceWindowBytes - address)
    return false;
  return touch_guest_memory({},
                            [&] { std::memcpy(destination, reinterpret_cast<const void*>(address), bytes); });
}

std::optional<std::string> read_device_text(uint64_t address, std::size_t limit) {
  if (!DeviceWindow::contains(address)) return std::nullopt;
  const uint64_t in_window = kDeviceWindowBase + kDeviceWindowBytes - address;
  std::vector<char> text(limit < in_window ? limit : in_window);
  std::size_t length = 0;
  const bool readable = touch_guest_memory({}, [&] {
    const auto* from = reinterpret_cast<const volatile char*>(address);
    while (length < text.size()) {
      const char c = from[length];
      if (c == '\0') break;
      text[length++] = c;
    }
  });
  if (!readable) return std::nullopt;
  return std::string(text.data(), length);
}

}  // namespace vgpu::software
