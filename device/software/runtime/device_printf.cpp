// See device_printf.h.
#include "device/software/runtime/device_printf.h"

#include <cstdio>
#include <cstring>
#include <string>

#include "device/software/runtime/guarded_copy.h"

namespace vgpu::software {
namespace {

constexpr std::size_t kMaxFormatBytes = 4096;
constexpr std::size_t kMaxTextBytes = 4096;
constexpr std::size_t kMaxOutputBytes = 64 * 1024;
constexpr int32_t kMaxArguments = 32;  // CUDA's limit
constexpr int kMaxWidth = 1024;

// The argument buffer: each argument aligned to its size (4 or 8 bytes).
class Arguments {
 public:
  explicit Arguments(uint64_t address) : address_(address) {}

  template <typename T>
  bool next(T& value) {
    address_ = (address_ + sizeof(T) - 1) & ~uint64_t{sizeof(T) - 1};
    if (!read_device(&value, address_, sizeof(T))) return false;
    address_ += sizeof(T);
    ++count;
    return true;
  }
  int32_t count = 0;

 private:
  uint64_t address_;
};

// The C library formats one conversion; `specification` was rebuilt from checked parts and matches T.
template <typename T>
void append(std::string& out, const std::string& specification, T value) {
  char text[kMaxWidth + 512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
  const int length = std::snprintf(text, sizeof text, specification.c_str(), value);
#pragma GCC diagnostic pop
  if (length > 0) out.append(text, std::min(sizeof text - 1, static_cast<std::size_t>(length)));
}

class Formatter {
 public:
  Formatter(const std::string& format, uint64_t arguments) : format_(format), arguments_(arguments) {}

  bool run() {
    while (at_ < format_.size() && out.size() < kMaxOutputBytes) {
      const char c = format_[at_++];
      if (c != '%') {
        out += c;
      } else if (at_ < format_.size() && format_[at_] == '%') {
        ++at_;
        out += '%';
      } else if (!conversion()) {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] int32_t count() const { return arguments_.count; }
  std::string out;

 private:
  // Digits or `*`; a negative width by `*` means left-justified, as in C.
  bool number(std::string& specification) {
    int value = 0;
    if (at_ < format_.size() && format_[at_] == '*') {
      ++at_;
      if (!arguments_.next(value)) return false;
    } else {
      const std::size_t start = at_;
      while (at_ < format_.size() && format_[at_] >= '0' && format_[at_] <= '9') {
        if (value <= kMaxWidth) value = value * 10 + (format_[at_] - '0');
        ++at_;
      }
      if (at_ == start) return true;
    }
    if (value > kMaxWidth) value = kMaxWidth;
    if (value < -kMaxWidth) value = -kMaxWidth;
    specification += std::to_string(value);
    return true;
  }

  bool conversion() {
    const std::size_t start = at_ - 1;
    std::string specification = "%";
    while (at_ < format_.size() && std::strchr("-+ #0", format_[at_]) != nullptr)
      specification += format_[at_++];
    if (!number(specification)) return false;
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      specification += '.';
      if (!number(specification)) return false;
    }
    bool wide = false;
    std::string size;
    while (at_ < format_.size() && std::strchr("hlLzjt", format_[at_]) != nullptr) {
      const char c = format_[at_++];
      if (c == 'h') {
        if (size.size() < 2) size += 'h';
      } else {
        wide = true;
      }
    }
    if (at_ >= format_.size() || arguments_.count >= kMaxArguments) return true;
    const char kind = format_[at_++];
    switch (kind) {
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return wide ? integer<long long>(specification + "ll" + kind)
                    : integer<int>(specification + size + kind);
      case 'c':
        return integer<int>(specification + kind);
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
      case 'a':
      case 'A': {
        double value = 0;
        if (!arguments_.next(value)) return false;
        append(out, specification + kind, value);
        return true;
      }
      case 'p': {
        uint64_t value = 0;
        if (!arguments_.next(value)) return false;
        append(out, specification + kind, reinterpret_cast<void*>(value));
        return true;
      }
      case 's': {
        uint64_t address = 0;
        if (!arguments_.next(address)) return false;
        const auto text =
            address == 0 ? std::optional<std::string>("(null)") : read_device_text(address, kMaxTextBytes);
        if (!text) return false;
        append(out, specification + kind, text->c_str());
        return true;
      }
      default:
        out.append(format_, start, at_ - start);  // unknown: as it stands
        return true;
    }
  }

  template <typename T>
  bool integer(const std::string& specification) {
    T value = 0;
    if (!arguments_.next(value)) return false;
    append(out, specification, value);
    return true;
  }

  const std::string& format_;
  std::size_t at_ = 0;
  Arguments arguments_;
};

}  // namespace

bool print_from_device(uint64_t format, uint64_t arguments, const PrintSink* sink, int32_t& count) {
  count = -1;
  if (format == 0) return true;
  const auto text = read_device_text(format, kMaxFormatBytes);
  if (!text) return false;
  Formatter formatter(*text, arguments);
  if (!formatter.run()) return false;
  count = formatter.count();
  if (sink != nullptr && *sink) (*sink)(formatter.out);
  return true;
}

}  // namespace vgpu::software
