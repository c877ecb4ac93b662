// QEMU's ivshmem client-server protocol, the server's side: numbers of 8 bytes, some with a descriptor.
#include "device/server/ivshmem_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "ring/wait.h"

namespace vgpu::device {
namespace {

using ring::UniqueFd;

constexpr int64_t kProtocolVersion = 0;
constexpr int64_t kSharedMemory = -1;
constexpr int64_t kGuestPeer = IvshmemServer::kDevicePeer + 1;
constexpr std::size_t kMostWaiting = 4;
constexpr int kMostAccepted = 64;  // at once: other guests want to be looked after, too
constexpr uint64_t kDeafNs = 1'000'000'000;

std::unexpected<Error> system_failure(const std::string& what, int error_number) {
  return std::unexpected(
      Error{protocol::Status::kOperatingSystem, fmt::format("{}: {}", what, std::strerror(error_number))});
}

// 0, or errno.
int send_message(int socket, int64_t number, int fd) {
  iovec data{.iov_base = &number, .iov_len = sizeof number};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno;
  return sent == sizeof number ? 0 : EMSGSIZE;  // a number in two pieces would carry its descriptor twice
}

}  // namespace

Result<std::unique_ptr<IvshmemServer>> IvshmemServer::listen(const std::string& path,
                                                             std::optional<gid_t> group,
                                                             const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return std::unexpected(Error{
        protocol::Status::kInvalidValue,
        fmt::format("{}: a socket's path has at most {} bytes, this has {}: choose a shorter --guests-dir",
                    path, sizeof address.sun_path - 1, path.size())});
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return system_failure("making a socket", errno);
  struct stat status{};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return std::unexpected(Error{protocol::Status::kOperatingSystem,
                                   fmt::format("{} exists and is not a socket: remove it", path)});
    }
    if (::unlink(path.c_str()) != 0) return system_failure("removing the old socket " + path, errno);
  }
  const mode_t before = ::umask(0177);
  const bool bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const int bind_error = errno;
  ::umask(before);
  if (!bound) return system_failure("making the socket " + path, bind_error);
  std::unique_ptr<IvshmemServer> server(new IvshmemServer(path, name, std::move(listener)));
  if (group) {
    if (::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
      return system_failure(fmt::format("giving {} to group {}", path, *group), errno);
    if (::chmod(path.c_str(), 0660) != 0) return system_failure("setting the mode of " + path, errno);
  }
  if (::listen(server->listener_.get(), 16) != 0) return system_failure("listening at " + path, errno);
  return server;
}

IvshmemServer::IvshmemServer(std::string path, std::string name, UniqueFd listener)
    : path_(std::move(path)), name_(std::move(name)), listener_(std::move(listener)) {}

IvshmemServer::~IvshmemServer() {
  ::unlink(path_.c_str());
}

void IvshmemServer::add_polls(std::vector<pollfd>& polls, uint64_t now) const {
  const auto add = [&](int fd, short events) { polls.push_back({.fd = fd, .events = events, .revents = 0}); };
  if (now >= deaf_until_ns_) add(listener_.get(), POLLIN);
  for (const auto& connection : waiting_) add(connection.socket.get(), POLLIN);
  if (vm_) {
    add(vm_->socket.get(), static_cast<short>(vm_->unsent.empty() ? POLLIN : POLLIN | POLLOUT));
  }
}

void IvshmemServer::handle(uint64_t now) {
  if (vm_) {
    if (listen_to(*vm_) == Heard::kHangUp) {
      drop_vm("has hung up");
    } else if (!send_unsent(*vm_)) {
      drop_vm(fmt::format("cannot be sent its descriptors ({})", std::strerror(errno)));
    }
  }
  std::erase_if(waiting_, [this](const auto& connection) { return listen_to(connection) == Heard::kHangUp; });
  accept_all(now);
}

bool IvshmemServer::take_hang_up() noexcept {
  return std::exchange(hung_up_, false);
}

void IvshmemServer::accept_all(uint64_t now) {
  if (now < deaf_until_ns_) return;
  for (int i = 0; i < kMostAccepted; ++i) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) {
        log_warning("guest {}: accepting a connection: {}", name_, std::strerror(errno));
        deaf_until_ns_ = now + kDeafNs;
      }
      return;
    }
    ucred who{};
    socklen_t bytes = sizeof who;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &bytes);
    waiting_.push_back(
        {.socket = std::move(socket), .pid = who.pid, .uid = who.uid, .since_ns = now, .unsent = {}});
    if (waiting_.size() > kMostWaiting) {
      warn(waiting_.back(), "refused: too many are waiting for the region");
      waiting_.pop_back();
    }
  }
}

IvshmemServer::Heard IvshmemServer::listen_to(const Connection& connection) {
  char bytes[256];
  ssize_t got = 0;
  do {
    got = ::recv(connection.socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return Heard::kNothing;
  if (got > 0) warn(connection, "sends something, as no QEMU does: hanging up");
  return Heard::kHangUp;
}

bool IvshmemServer::send_unsent(Connection& connection) {
  while (!connection.unsent.empty()) {
    const auto& message = connection.unsent.front();
    const int error = send_message(connection.socket.get(), message.number, message.fd.get());
    if (error == EAGAIN) return true;
    if (error != 0) {
      errno = error;
      return false;
    }
    connection.unsent.pop_front();
  }
  return true;
}

void IvshmemServer::drop_vm(const std::string& why) {
  log_info("guest {}: the VM of process {} (user {}) {}", name_, vm_->pid, vm_->uid, why);
  vm_.reset();
  hung_up_ = true;
}

std::optional<uint64_t> IvshmemServer::waiting_since() const noexcept {
  if (waiting_.empty()) return std::nullopt;
  return waiting_.front().since_ns;
}

void IvshmemServer::admit(UniqueFd region, std::span<const UniqueFd> doorbells) {
  Connection connection = std::move(waiting_.front());
  waiting_.pop_front();
  auto& messages = connection.unsent;
  messages.push_back({.number = kProtocolVersion, .fd = {}});
  messages.push_back({.number = kGuestPeer, .fd = {}});
  messages.push_back({.number = kSharedMemory, .fd = std::move(region)});
  const auto add = [&](int64_t peer, UniqueFd fd) {
    if (!fd) return false;
    messages.push_back({.number = peer, .fd = std::move(fd)});
    return true;
  };
  bool complete = true;
  for (const auto& doorbell : doorbells) {
    complete = complete && add(kDevicePeer, UniqueFd(::fcntl(doorbell.get(), F_DUPFD_CLOEXEC, 0)));
  }
  // What would interrupt the guest. Nobody does, but QEMU expects to have a vector's eventfd before the guest
  // may use it.
  for (std::size_t i = 0; i < doorbells.size(); ++i) {
    complete = complete && add(kGuestPeer, UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
  }
  if (!complete) {
    log_error("guest {}: no descriptors left for the VM of process {}: {}", name_, connection.pid,
              std::strerror(errno));
    return;
  }
  log_info("guest {}: the VM of process {} (user {}) is connected", name_, connection.pid, connection.uid);
  vm_ = std::move(connection);
  if (!send_unsent(*vm_)) drop_vm(fmt::format("cannot be sent its descriptors ({})", std::strerror(errno)));
}

void IvshmemServer::refuse(const std::string& reason) {
  warn(waiting_.front(), "refused: " + reason);
  waiting_.pop_front();
}

void IvshmemServer::warn(const Connection& connection, const std::string& text) {
  uint64_t dropped = 0;
  const bool allowed = limiter_.allow(ring::monotonic_ns(), dropped);
  if (dropped > 0) log_warning("guest {}: {} more lines of this kind were not logged", name_, dropped);
  if (allowed)
    log_warning("guest {}: {}: process {} (user {}) {}", name_, path_, connection.pid, connection.uid, text);
}

}  // namespace vgpu::device
