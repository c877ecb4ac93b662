// The fatbin container: see fatbin.h. Little-endian throughout.
#include "device/software/fatbin/fatbin.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

namespace vgpu::software::fatbin {
namespace {

constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kEntryHeaderBytes = 64;
constexpr std::uint64_t kFlagLz4 = 0x2000;
constexpr std::uint64_t kFlagZstd = 0x8000;
constexpr std::uint32_t kNewestPtxMajor = 9;

std::unexpected<Error> invalid(std::string message) {
  return std::unexpected(Error{ErrorKind::kInvalidImage, std::move(message)});
}

// Caller has checked that the bytes are there.
template <typename T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What follows blanks and comments at the start of PTX text.
std::string_view skip_blank(std::string_view text) {
  while (!text.empty()) {
    if (std::string_view(" \t\r\n\f\v").find(text[0]) != std::string_view::npos) {
      text.remove_prefix(1);
    } else if (text.starts_with("//")) {
      text.remove_prefix(std::min(text.find('\n'), text.size()));
    } else if (text.starts_with("/*")) {
      const std::size_t end = text.find("*/", 2);
      if (end == std::string_view::npos) return {};
      text.remove_prefix(end + 2);
    } else {
      break;
    }
  }
  return text;
}

// The number behind `.target sm_` in PTX text.
std::optional<std::uint32_t> target_of(std::string_view text) {
  const std::size_t directive = text.find(".target");
  if (directive == std::string_view::npos) return std::nullopt;
  const std::string_view line =
      text.substr(directive, std::min<std::size_t>(256, text.find('\n', directive) - directive));
  const std::size_t sm = line.find("sm_");
  if (sm == std::string_view::npos) return std::nullopt;
  std::uint32_t value = 0;
  std::size_t digits = 0;
  for (const char c : line.substr(sm + 3)) {
    if (c < '0' || c > '9' || digits == 4) break;
    value = value * 10 + static_cast<std::uint32_t>(c - '0');
    ++digits;
  }
  if (digits == 0) return std::nullopt;
  return value;
}

std::string capability_name(std::uint32_t arch) {
  return std::to_string(arch / 10) + "." + std::to_string(arch % 10);
}

std::expected<PtxImage, Error> choose_text(std::string_view text, std::uint32_t capability) {
  if (text.size() > kMaxTextBytes)
    return invalid("the PTX text has " + std::to_string(text.size()) + " bytes");
  while (text.ends_with('\0')) text.remove_suffix(1);
  const auto target = target_of(text);
  if (!target) return std::unexpected(Error{ErrorKind::kInvalidPtx, "the PTX text has no .target"});
  if (*target > capability) {
    return std::unexpected(Error{ErrorKind::kInvalidPtx, "the PTX text is for sm_" + std::to_string(*target) +
                                                             ", the device has capability " +
                                                             capability_name(capability)});
  }
  return PtxImage{std::string(text), *target};
}

std::expected<PtxImage, Error> choose_entry(std::span<const std::byte> image, std::uint32_t capability) {
  const auto entries = list_entries(image);
  if (!entries) return std::unexpected(entries.error());
  const Entry* best = nullptr;
  std::string found;
  for (const Entry& entry : *entries) {
    const bool is_ptx = entry.kind == EntryKind::kPtx;
    if (!found.empty()) found += ", ";
    found += (is_ptx ? "PTX for sm_" : "code for sm_") + std::to_string(entry.arch);
    if (is_ptx && entry.arch <= capability && (best == nullptr || entry.arch > best->arch)) best = &entry;
  }
  if (best == nullptr) {
    if (found.size() > 512) found.resize(512);
    return std::unexpected(Error{ErrorKind::kNoBinaryForGpu,
                                 "no PTX for capability " + capability_name(capability) + "; the image has " +
                                     (found.empty() ? std::string("no entries") : found)});
  }
  if (best->ptx_major > kNewestPtxMajor) {
    return std::unexpected(
        Error{ErrorKind::kUnsupportedPtxVersion, "PTX version " + std::to_string(best->ptx_major) + "." +
                                                     std::to_string(best->ptx_minor) + " is newer than " +
                                                     std::to_string(kNewestPtxMajor) + ".x"});
  }
  auto text = read_entry(*best);
  if (!text) return std::unexpected(text.error());
  return PtxImage{std::move(*text), best->arch};
}

}  // namespace

ImageKind image_kind(std::span<const std::byte> image) {
  if (image.size() >= 4 && load<std::uint32_t>(image, 0) == kMagic) return ImageKind::kFatbin;
  if (as_text(image).starts_with("\x7f"
                                 "ELF"))
    return ImageKind::kElf;
  if (skip_blank(as_text(image)).starts_with(".version")) return ImageKind::kPtxText;
  return ImageKind::kUnknown;
}

std::expected<std::size_t, Error> fatbin_size(std::span<const std::byte> image) {
  if (image.size() < kHeaderBytes || load<std::uint32_t>(image, 0) != kMagic) {
    return invalid("no fatbin header in " + std::to_string(image.size()) + " bytes");
  }
  const auto version = load<std::uint16_t>(image, 4);
  const auto header = load<std::uint16_t>(image, 6);
  const auto body = load<std::uint64_t>(image, 8);
  if (version != 1 || header < kHeaderBytes) {
    return invalid("fatbin version " + std::to_string(version) + " with a header of " +
                   std::to_string(header) + " bytes");
  }
  if (header > image.size() || body > image.size() - header) {
    return invalid("the fatbin says " + std::to_string(header) + " + " + std::to_string(body) +
                   " bytes, the image has " + std::to_string(image.size()));
  }
  return header + static_cast<std::size_t>(body);
}

std::expected<std::vector<Entry>, Error> list_entries(std::span<const std::byte> image) {
  const auto size = fatbin_size(image);
  if (!size) return std::unexpected(size.error());
  std::vector<Entry> entries;
  std::size_t at = load<std::uint16_t>(image, 6);
  while (at < *size) {
    const auto rest = image.subspan(at, *size - at);
    const auto here = [&] { return "fatbin entry at byte " + std::to_string(at); };
    if (rest.size() < kEntryHeaderBytes) return invalid(here() + " is cut off");
    if (entries.size() == kMaxEntries)
      return invalid("more than " + std::to_string(kMaxEntries) + " fatbin entries");
    const auto kind = load<std::uint16_t>(rest, 0);
    const std::size_t header = load<std::uint32_t>(rest, 4);
    const auto stored = load<std::uint64_t>(rest, 8);
    const std::size_t compressed = load<std::uint32_t>(rest, 16);
    if (header < kEntryHeaderBytes || header > rest.size() || stored > rest.size() - header) {
      return invalid(here() + " says " + std::to_string(header) + " + " + std::to_string(stored) +
                     " bytes, " + std::to_string(rest.size()) + " are left");
    }
    Entry entry;
    entry.kind = static_cast<EntryKind>(kind);
    entry.ptx_minor = load<std::uint16_t>(rest, 24);
    entry.ptx_major = load<std::uint16_t>(rest, 26);
    entry.arch = load<std::uint32_t>(rest, 28);
    const std::size_t name_offset = load<std::uint32_t>(rest, 32);
    const std::size_t name_size = load<std::uint32_t>(rest, 36);
    entry.flags = load<std::uint64_t>(rest, 40);
    entry.payload = rest.subspan(header, static_cast<std::size_t>(stored));
    if (name_size != 0) {
      if (name_offset > header || name_size > header - name_offset)
        return invalid(here() + " has its name outside");
      entry.name = as_text(rest.subspan(name_offset, name_size));
    }
    if ((entry.flags & (kFlagLz4 | kFlagZstd)) != 0) {
      entry.compression = (entry.flags & kFlagZstd) != 0 ? Compression::kZstd : Compression::kLz4;
      entry.uncompressed_size = load<std::uint64_t>(rest, 56);
      // The stored size is padded; the compressed size says where the stream ends.
      if (compressed > entry.payload.size())
        return invalid(here() + " has a compressed size above its stored size");
      if (compressed != 0) entry.payload = entry.payload.first(compressed);
    }
    if (entry.kind == EntryKind::kPtx || entry.kind == EntryKind::kElf) entries.push_back(std::move(entry));
    at += header + static_cast<std::size_t>(stored);
  }
  return entries;
}

std::expected<std::string, Error> read_entry(const Entry& entry) {
  std::string out;
  if (entry.compression == Compression::kNone) {
    if (entry.payload.size() > kMaxTextBytes) return invalid("a fatbin entry of more than 256 MiB");
    out = as_text(entry.payload);
  } else {
    const std::uint64_t size = entry.uncompressed_size;
    // LZ4 cannot expand more than 255 times: refused before anything is allocated.
    const bool impossible = entry.compression == Compression::kLz4 && size / 255 > entry.payload.size();
    if (size > kMaxTextBytes || impossible) {
      return invalid("a fatbin entry says it decompresses from " + std::to_string(entry.payload.size()) +
                     " to " + std::to_string(size) + " bytes");
    }
    out.resize(static_cast<std::size_t>(size));
    std::size_t written = 0;
    if (entry.compression == Compression::kLz4) {
      if (entry.payload.size() > kMaxTextBytes) return invalid("a fatbin entry of more than 256 MiB");
      const int result =
          LZ4_decompress_safe(reinterpret_cast<const char*>(entry.payload.data()), out.data(),
                              static_cast<int>(entry.payload.size()), static_cast<int>(out.size()));
      if (result < 0) return invalid("the LZ4 data of a fatbin entry is damaged");
      written = static_cast<std::size_t>(result);
    } else {
      written = ZSTD_decompress(out.data(), out.size(), entry.payload.data(), entry.payload.size());
      if (ZSTD_isError(written) != 0) {
        return invalid(std::string("the zstd data of a fatbin entry is damaged: ") +
                       ZSTD_getErrorName(written));
      }
    }
    if (written != out.size()) {
      return invalid("a fatbin entry decompresses to " + std::to_string(written) + " bytes and not to " +
                     std::to_string(out.size()));
    }
  }
  if (entry.kind == EntryKind::kPtx) out.erase(out.find_last_not_of('\0') + 1);
  return out;
}

std::expected<PtxImage, Error> choose_ptx(std::span<const std::byte> image, std::uint32_t capability) {
  switch (image_kind(image)) {
    case ImageKind::kFatbin:
      return choose_entry(image, capability);
    case ImageKind::kPtxText:
      return choose_text(as_text(image), capability);
    case ImageKind::kElf: {
      constexpr std::size_t kMachineOffset = 18;
      constexpr std::uint16_t kMachineCuda = 190;
      if (image.size() < kMachineOffset + 2 || load<std::uint16_t>(image, kMachineOffset) != kMachineCuda) {
        return invalid("an ELF image that is not for CUDA");
      }
      return std::unexpected(
          Error{ErrorKind::kNoBinaryForGpu, "no PTX for capability " + capability_name(capability) +
                                                "; the image is a cubin, which holds machine code only"});
    }
    case ImageKind::kUnknown:
      break;
  }
  return invalid("neither a fatbin, nor PTX text, nor an ELF image: " + std::to_string(image.size()) +
                 " bytes");
}

}  // namespace vgpu::software::fatbin
