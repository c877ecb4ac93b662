// Reads CUDA module images: NVIDIA's fatbin container (plain, LZ4 and zstd entries), plain PTX text, ELF
// cubins. Images come from the guest: every size is checked against the bytes given, decompressed text is at
// most kMaxTextBytes, and nothing is trusted beyond that. All functions may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

namespace vgpu::software::fatbin {

inline constexpr std::uint32_t kMagic = 0xBA55ED50;
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 28;
inline constexpr std::size_t kMaxEntries = 4096;

enum class ErrorKind : std::uint8_t {
  kInvalidImage,           // CUDA_ERROR_INVALID_IMAGE: no fatbin, no ELF, no PTX; or a damaged one
  kNoBinaryForGpu,         // CUDA_ERROR_NO_BINARY_FOR_GPU: well-formed, but no PTX for the capability
  kInvalidPtx,             // CUDA_ERROR_INVALID_PTX: plain PTX text without or with too new a .target
  kUnsupportedPtxVersion,  // CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the entry's PTX ISA is newer than ours
};

struct Error {
  ErrorKind kind = ErrorKind::kInvalidImage;
  std::string message;
};

enum class EntryKind : std::uint16_t { kPtx = 1, kElf = 2 };  // others exist and are passed over

enum class Compression : std::uint8_t { kNone, kLz4, kZstd };

struct Entry {
  EntryKind kind = EntryKind::kPtx;
  Compression compression = Compression::kNone;
  std::uint32_t arch = 0;       // 61 for sm_61
  std::uint32_t ptx_major = 0;  // of a PTX entry: its .version
  std::uint32_t ptx_minor = 0;
  std::uint64_t flags = 0;
  std::string name;
  std::span<const std::byte> payload;   // as stored; a view of the image
  std::uint64_t uncompressed_size = 0;  // 0 for an uncompressed entry
};

enum class ImageKind : std::uint8_t { kUnknown, kFatbin, kElf, kPtxText };

// Looks at the first bytes only.
[[nodiscard]] ImageKind image_kind(std::span<const std::byte> image);

// Bytes of the fatbin that begins here, from its header; no value if that is not one or is cut off.
[[nodiscard]] std::expected<std::size_t, Error> fatbin_size(std::span<const std::byte> image);

// The entries of a fatbin, in file order.
[[nodiscard]] std::expected<std::vector<Entry>, Error> list_entries(std::span<const std::byte> image);

// An entry's content: decompressed, trailing NULs dropped.
[[nodiscard]] std::expected<std::string, Error> read_entry(const Entry& entry);

struct PtxImage {
  std::string text;
  std::uint32_t arch = 0;
};

// The PTX a device of this capability (61 for 6.1) runs: of a fatbin the entry with the highest architecture
// that is not above the capability; plain PTX text as it is.
[[nodiscard]] std::expected<PtxImage, Error> choose_ptx(std::span<const std::byte> image,
                                                        std::uint32_t capability);

}  // namespace vgpu::software::fatbin
