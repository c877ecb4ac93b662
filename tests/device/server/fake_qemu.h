// A QEMU for tests: the client's side of the ivshmem protocol, with a guest's view of what it was handed. No
// thread of its own.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "ring/region.h"
#include "ring/unique_fd.h"
#include "ring/wait.h"

namespace vgpu::device::testing {

// -1 where nobody listens.
inline ring::UniqueFd connect_to(const std::string& path) {
  ring::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return socket;
}

class FakeQemu {
 public:
  struct Message {
    int64_t number = 0;
    ring::UniqueFd fd;
  };

  // Connects and takes everything for a device with `vectors`; nothing if the server hangs up or says nothing
  // for 20 s.
  static std::optional<FakeQemu> connect(const std::string& path, uint32_t vectors) {
    FakeQemu qemu;
    qemu.socket_ = connect_to(path);
    for (uint32_t i = 0; i < 3 + 2 * vectors; ++i) {
      auto message = qemu.receive();
      if (!message) return std::nullopt;
      qemu.messages_.push_back(std::move(*message));
    }
    return qemu;
  }

  std::optional<Message> receive(int timeout_ms = 20'000) {
    pollfd wait{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (!socket_ || ::poll(&wait, 1, timeout_ms) <= 0) return std::nullopt;
    Message message;
    iovec data{.iov_base = &message.number, .iov_len = sizeof message.number};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    if (::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC) != sizeof message.number) return std::nullopt;
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
      message.fd.reset(fd);
    }
    return message;
  }

  // In the order they came: version, own id, region, the device's doorbells, the own ones.
  const std::vector<Message>& messages() const { return messages_; }
  // The region as an own open file, as long as the connection lives.
  std::string region_path() const { return "/proc/self/fd/" + std::to_string(messages_[2].fd.get()); }
  int doorbell(uint32_t vector) const { return messages_[3 + vector].fd.get(); }
  int socket() const { return socket_.get(); }
  void hang_up() { socket_.reset(); }

 private:
  ring::UniqueFd socket_;
  std::vector<Message> messages_;
};

// How a guest behind this QEMU waits: by polling, and it rings by the doorbell register of channel `channel`.
class DoorbellWaits {
 public:
  DoorbellWaits(const FakeQemu& qemu, uint32_t channel) : fd_(qemu.doorbell(channel)) {
    ops_ = ring::polling_wait_ops();
    ops_.context = this;
    ops_.wake = [](void* self, const uint32_t*) {
      const uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(static_cast<DoorbellWaits*>(self)->fd_, &one, sizeof one);
      ++static_cast<DoorbellWaits*>(self)->rings;
    };
  }
  DoorbellWaits(const DoorbellWaits&) = delete;
  DoorbellWaits& operator=(const DoorbellWaits&) = delete;
  const ring::WaitOps& ops() const { return ops_; }

  int rings = 0;

 private:
  int fd_;
  ring::WaitOps ops_{};
};

}  // namespace vgpu::device::testing
