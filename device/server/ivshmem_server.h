// The server that QEMU's ivshmem-doorbell connects to: hands out the region and, for each channel, the
// eventfd that the guest's doorbell register writes to. One VM at a time; who connects meanwhile waits to be
// admitted or refused. A peer sends nothing in this protocol, and whatever it does, nothing here blocks. For
// the supervisor's only thread.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/error.h"
#include "device/server/log.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

class IvshmemServer {
 public:
  // The guest's id is this plus one: never 0, so that the guest can tell by its IVPosition register that its
  // device has a doorbell.
  static constexpr uint32_t kDevicePeer = 0;

  // Listens at `path`, mode 0600, with `group` 0660 and that group's. Whatever socket stands there is a dead
  // device's: the caller holds the lock on the region. `name` is the guest's, for the log.
  static Result<std::unique_ptr<IvshmemServer>> listen(const std::string& path, std::optional<gid_t> group,
                                                       const std::string& name);
  ~IvshmemServer();  // removes the socket
  IvshmemServer(const IvshmemServer&) = delete;
  IvshmemServer& operator=(const IvshmemServer&) = delete;

  // What to poll for, and what to do after poll() returned; `now` is monotonic_ns().
  void add_polls(std::vector<pollfd>& polls, uint64_t now) const;
  void handle(uint64_t now);

  // Whether a VM is connected, and whether it has hung up since this was last asked.
  bool connected() const noexcept { return vm_.has_value(); }
  bool take_hang_up() noexcept;

  // The one that has waited longest: how long, and what becomes of it. `region` is an open file of its own,
  // that nobody else holds; `doorbells` stay the caller's.
  std::optional<uint64_t> waiting_since() const noexcept;
  void admit(ring::UniqueFd region, std::span<const ring::UniqueFd> doorbells);
  void refuse(const std::string& reason);

 private:
  struct Message {
    int64_t number = 0;
    ring::UniqueFd fd;
  };
  struct Connection {
    ring::UniqueFd socket;
    pid_t pid = 0;
    uid_t uid = 0;
    uint64_t since_ns = 0;
    std::deque<Message> unsent;
  };
  enum class Heard { kNothing, kHangUp };

  IvshmemServer(std::string path, std::string name, ring::UniqueFd listener);
  void accept_all(uint64_t now);
  Heard listen_to(const Connection& connection);
  bool send_unsent(Connection& connection);
  void drop_vm(const std::string& why);
  void warn(const Connection& connection, const std::string& text);

  std::string path_;
  std::string name_;
  ring::UniqueFd listener_;
  std::optional<Connection> vm_;
  std::deque<Connection> waiting_;
  bool hung_up_ = false;
  uint64_t deaf_until_ns_ = 0;  // accepting failed for want of something: not to be tried again at once
  LogLimiter limiter_;
};

}  // namespace vgpu::device
