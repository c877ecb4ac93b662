// Where a region is read from, whatever holds it: read-only, never locking, and never faulting. A file is
// read with pread, so that one that is truncated meanwhile is an answer and no SIGBUS; a PCI BAR, which
// cannot shrink and cannot be read otherwise, through a mapping.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "pci/locate.h"
#include "ring/channel_lock.h"
#include "ring/error.h"

namespace vgpu::tools {

// How the processor treats one way of mapping the BAR.
struct MappingReport {
  std::string file;           // resource2, resource2_wc
  std::string problem;        // why it cannot be mapped; then the rest means nothing
  std::string kind;           // as pci::mapping_kind_name
  uint64_t load_picoseconds;  // of a load of 8 bytes, the quickest of several rounds
};

class RegionSource {
 public:
  // A file or BAR. Errors as pci::Bar's.
  static std::expected<RegionSource, ring::Error> open(const pci::Location& location);
  // Bytes in memory, for tests: `bytes` must outlive the source.
  static RegionSource over(std::span<const std::byte> bytes);

  pci::Carrier carrier() const noexcept { return carrier_; }
  const std::string& path() const noexcept { return path_; }        // the file or resource that is read
  uint64_t bytes() const noexcept { return bytes_; }                // when it was opened
  uint64_t backed_bytes() const noexcept { return backed_bytes_; }  // of a file: memory it takes

  // Copies [offset, offset + to.size()); control words of 8 bytes whole. False: the bytes are not there
  // (any more).
  bool read(uint64_t offset, std::span<std::byte> to) const;
  // One control word.
  std::optional<uint64_t> read_word(uint64_t offset) const;

  // Closes the file: from now on each read opens it for its moment alone. vgpu-device knows a virtual
  // machine's end by nobody having its region open any more.
  void let_go() noexcept { fd_.reset(); }

  // Whether somebody holds the lock on the byte, as this kernel knows it.
  ring::LockState lock(uint64_t offset) const;

 private:
  RegionSource() = default;
  bool read_from(int fd, uint64_t offset, std::span<std::byte> to) const;

  pci::Carrier carrier_ = pci::Carrier::kFile;
  std::string path_;
  uint64_t bytes_ = 0;
  uint64_t backed_bytes_ = 0;
  ring::UniqueFd fd_;
  std::optional<pci::Bar> bar_;
  std::span<const std::byte> memory_;  // else it is a file
};

// Maps BAR2 by each of the resource files there are and times loads from its first page.
std::vector<MappingReport> measure_mappings(const std::string& device_directory);

}  // namespace vgpu::tools
