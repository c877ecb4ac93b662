// libFuzzer target: the reader of module images. What is chosen must be readable text within the bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "device/software/fatbin/fatbin.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  namespace fatbin = vgpu::software::fatbin;
  const auto image = std::as_bytes(std::span(data, size));
  const auto chosen = fatbin::choose_ptx(image, 61);
  if (chosen && (chosen->arch > 61 || chosen->text.size() > fatbin::kMaxTextBytes)) std::abort();
  if (const auto entries = fatbin::list_entries(image)) {
    for (const auto& entry : *entries) {
      if (entry.payload.data() < image.data() || entry.payload.size() > image.size()) std::abort();
    }
  }
  return 0;
}
