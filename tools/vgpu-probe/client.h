// The probe as a client of a device: a channel of its own, device memory, and copies in pieces as the shim
// makes them. It speaks the protocol through the shim's session, so that a failure names the command and the
// device's own words, and nothing of the shim's CUDA layer stands between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pci/bar.h"
#include "protocol/commands.h"
#include "shim/session/attachment.h"
#include "shim/session/session.h"
#include "tools/vgpu-probe/places.h"

namespace vgpu::tools {

// What went wrong, and what to do about it ("" where only a developer can tell).
struct Trouble {
  std::string text;
  std::string advice;
};
template <typename T>
using Try = std::expected<T, Trouble>;

// From here on a region that loses its memory while it is mapped (truncated, or no memory left behind it)
// ends the process with a message and status 1, not with SIGBUS.
void end_cleanly_on_lost_memory();

// "CUDA_ERROR_INVALID_VALUE (1)"
std::string status_text(protocol::Status status);

class Client {
 public:
  // Takes a free channel. Refuses the region of a VM's guest: its channels' locks live in the guest's kernel,
  // and a channel that looks free from here may be in use there.
  static Try<std::unique_ptr<Client>> open(const pci::Location& location);
  // The same over one mapping of the device.
  static Try<std::unique_ptr<Client>> over(pci::Bar bar);

  shim::Session& session() noexcept { return *session_; }
  const shim::Attachment& attachment() const noexcept { return *attachment_; }
  const ring::ChannelControl& control() const noexcept {
    return *attachment_->region().channel(session_->channel()).control;
  }

  // A command that went wrong, with the device's words.
  Trouble trouble(std::string_view what, protocol::Status status) const;

  template <typename Request, typename Reply>
  Try<Reply> call(std::string_view what, const Request& request, Reply reply,
                  std::span<const std::byte> tail = {}) {
    const auto status = session_->call(request, reply, tail);
    if (status != protocol::Status::kSuccess) return std::unexpected(trouble(what, status));
    return reply;
  }
  // Waits until everything submitted has executed, and takes the error that came of it.
  protocol::Status finish();
  Try<void> finish(std::string_view what);

  // Pageable memory, in pieces through the staging slots. copy_in may return before the device has it.
  protocol::Status copy_in(uint64_t to, std::span<const std::byte> from);
  protocol::Status copy_out(std::span<std::byte> to, uint64_t from);
  // Memory in the bulk heap, where the device reads and writes it in place; `host` lies in it.
  protocol::Status copy_pinned_in(uint64_t to, const std::byte* host, uint64_t bytes);
  protocol::Status copy_pinned_out(std::byte* host, uint64_t from, uint64_t bytes);

  // Names for modules, functions and so on: one not used before.
  uint32_t new_handle() noexcept { return next_handle_++; }

 private:
  Client() = default;

  std::unique_ptr<shim::Attachment> attachment_;
  std::unique_ptr<shim::Session> session_;
  uint32_t next_handle_ = 1;
};

// The files by which a device can be mapped: resource2_wc and resource2 as far as they are there and may be
// opened for writing, or the region file.
std::vector<std::string> mapping_files(const pci::Location& location);

// Device memory, freed at the end.
class DeviceMemory {
 public:
  static Try<DeviceMemory> allocate(Client& client, uint64_t bytes);
  DeviceMemory(DeviceMemory&& other) noexcept
      : client_(std::exchange(other.client_, nullptr)), address_(other.address_) {}
  DeviceMemory& operator=(DeviceMemory&&) = delete;
  ~DeviceMemory();
  uint64_t address() const noexcept { return address_; }

 private:
  DeviceMemory(Client& client, uint64_t address) : client_(&client), address_(address) {}
  Client* client_;
  uint64_t address_;
};

// Memory of the channel's bulk heap, given back at the end.
class PinnedMemory {
 public:
  static Try<PinnedMemory> allocate(Client& client, uint64_t bytes);
  PinnedMemory(PinnedMemory&& other) noexcept
      : client_(std::exchange(other.client_, nullptr)), bytes_(other.bytes_) {}
  PinnedMemory& operator=(PinnedMemory&&) = delete;
  ~PinnedMemory();
  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  PinnedMemory(Client& client, std::span<std::byte> bytes) : client_(&client), bytes_(bytes) {}
  Client* client_;
  std::span<std::byte> bytes_;
};

}  // namespace vgpu::tools
