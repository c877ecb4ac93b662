// What people use today: the kernel's ways between two processes, with blocking calls. A batch is one write
// of all its messages; the reader takes what one read brings. An eventfd carries 8 bytes and no more: round
// trips only.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "bench/ring/measure.h"
#include "ring/unique_fd.h"

namespace vgpu::bench {
namespace {

using ring::UniqueFd;

void check(bool good, const char* what) {
  if (!good) {
    throw std::system_error(errno, std::generic_category(), what);
  }
}

// The descriptors of both sides; for a socket a side's two are one.
struct Ends {
  UniqueFd client;  // writes requests, and reads answers unless client_reads is set
  UniqueFd client_reads;
  UniqueFd server;  // reads requests, and writes answers unless server_writes is set
  UniqueFd server_writes;
  int client_in() const noexcept { return client_reads ? client_reads.get() : client.get(); }
  int server_out() const noexcept { return server_writes ? server_writes.get() : server.get(); }
};

Ends unix_pair(int type) {
  int fds[2];
  check(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
  Ends ends;
  ends.client = UniqueFd(fds[0]);
  ends.server = UniqueFd(fds[1]);
  return ends;
}

struct UnixStream {
  static constexpr const char* kVariant = "unix_stream";
  static constexpr bool kPackets = false;
  static Ends open() { return unix_pair(SOCK_STREAM); }
};

struct UnixSeqpacket {
  static constexpr const char* kVariant = "unix_seqpacket";
  static constexpr bool kPackets = true;
  static Ends open() { return unix_pair(SOCK_SEQPACKET); }
};

struct Tcp {
  static constexpr const char* kVariant = "tcp_loopback";
  static constexpr bool kPackets = false;
  static Ends open() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    check(::bind(listener.get(), generic, length) == 0 && ::listen(listener.get(), 1) == 0 &&
              ::getsockname(listener.get(), generic, &length) == 0,
          "listening on the loopback interface");
    Ends ends;
    ends.client = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::connect(ends.client.get(), generic, length) == 0, "connecting over the loopback interface");
    ends.server = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int on = 1;
    for (const int fd : {ends.client.get(), ends.server.get()}) {
      check(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
    }
    return ends;
  }
};

struct Pipe {
  static constexpr const char* kVariant = "pipe";
  static constexpr bool kPackets = false;
  static Ends open() {
    int there[2];
    int back[2];
    check(::pipe2(there, O_CLOEXEC) == 0 && ::pipe2(back, O_CLOEXEC) == 0, "pipe");
    Ends ends;
    ends.server = UniqueFd(there[0]);
    ends.client = UniqueFd(there[1]);
    ends.client_reads = UniqueFd(back[0]);
    ends.server_writes = UniqueFd(back[1]);
    return ends;
  }
};

void write_all(int fd, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes != 0) {
    const ssize_t written = ::write(fd, from, bytes);
    check(written > 0, "write");
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

// Reads at least `least` bytes, at most `most`.
std::size_t read_some(int fd, void* data, std::size_t least, std::size_t most) {
  std::size_t have = 0;
  while (have < least) {
    const ssize_t got = ::read(fd, static_cast<std::byte*>(data) + have, most - have);
    check(got > 0, "read");
    have += static_cast<std::size_t>(got);
  }
  return have;
}

template <typename Way, std::size_t Bytes>
class FileLink {
 public:
  static constexpr const char* kVariant = Way::kVariant;
  static constexpr std::size_t kBytes = Bytes;
  static constexpr bool kThreads = false;

  class Client {
   public:
    explicit Client(FileLink& link) : out_(link.ends_.client.get()), in_(link.ends_.client_in()) {}
    void send(uint64_t first, uint32_t count) {
      for (uint32_t i = 0; i < count; ++i) {
        batch_[i].fill(first + i);
      }
      write_all(out_, batch_.data(), count * Bytes);
    }
    void call(uint64_t number) {
      send(number, 1);
      Message<Bytes> answer;
      read_some(in_, &answer, Bytes, Bytes);
      if (answer.words[0] != number) {
        broken_sequence(number, answer.words[0], answer.words[0]);
      }
    }

   private:
    int out_;
    int in_;
    std::array<Message<Bytes>, 32> batch_;
  };

  class Server {
   public:
    explicit Server(FileLink& link)
        : in_(link.ends_.server.get()), out_(link.ends_.server_out()), taken_(std::make_unique<Taken>()) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      auto* bytes = reinterpret_cast<std::byte*>(taken_->data());
      // A read of a stream may end within a message: the rest of it is read with the next ones.
      const std::size_t most = Way::kPackets ? Bytes : sizeof(Taken);
      have_ += read_some(in_, bytes + have_, Bytes - have_, most - have_);
      const std::size_t whole = have_ / Bytes;
      for (std::size_t i = 0; i < whole; ++i) {
        on_message((*taken_)[i].words, Bytes / 8);
      }
      have_ -= whole * Bytes;
      std::memmove(bytes, bytes + whole * Bytes, have_);
    }
    void answer(uint64_t number) {
      Message<Bytes> message;
      message.fill(number);
      write_all(out_, &message, Bytes);
    }

   private:
    using Taken = std::array<Message<Bytes>, 64>;
    int in_;
    int out_;
    std::unique_ptr<Taken> taken_;
    std::size_t have_ = 0;
  };

 private:
  Ends ends_ = Way::open();
};

class EventfdLink {
 public:
  static constexpr const char* kVariant = "eventfd";
  static constexpr std::size_t kBytes = 8;
  static constexpr bool kThreads = false;

  EventfdLink() : there_(::eventfd(0, EFD_CLOEXEC)), back_(::eventfd(0, EFD_CLOEXEC)) {
    check(there_ && back_, "eventfd");
  }
  class Client {
   public:
    explicit Client(EventfdLink& link) : there_(link.there_.get()), back_(link.back_.get()) {}
    void send(uint64_t number, uint32_t /*count*/) { write_all(there_, &number, sizeof(number)); }
    void call(uint64_t number) {
      send(number, 1);
      uint64_t answer = 0;
      read_some(back_, &answer, sizeof(answer), sizeof(answer));
    }

   private:
    int there_;
    int back_;
  };
  class Server {
   public:
    explicit Server(EventfdLink& link) : there_(link.there_.get()), back_(link.back_.get()) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      uint64_t number = 0;
      read_some(there_, &number, sizeof(number), sizeof(number));
      on_message(&number, 1);
    }
    void answer(uint64_t number) { write_all(back_, &number, sizeof(number)); }

   private:
    int there_;
    int back_;
  };

 private:
  UniqueFd there_;
  UniqueFd back_;
};

constexpr uint32_t kBlock = 512;

template <typename Way, std::size_t Bytes>
void add_streams(Suite& suite, const Where& where) {
  add_stream<FileLink<Way, Bytes>>(suite, where, 1, kBlock);
  if constexpr (!Way::kPackets) {
    add_stream<FileLink<Way, Bytes>>(suite, where, 32, kBlock);
  }
}

template <typename Way>
void add_way(Suite& suite, const Where& where) {
  add_round_trip<FileLink<Way, 64>>(suite, where);
  add_streams<Way, 64>(suite, where);
  add_streams<Way, 256>(suite, where);
  add_streams<Way, 1024>(suite, where);
  add_streams<Way, 4096>(suite, where);
}

}  // namespace

void add_kernel(Suite& suite, const Where& where) {
  add_way<UnixStream>(suite, where);
  add_way<UnixSeqpacket>(suite, where);
  add_way<Tcp>(suite, where);
  add_way<Pipe>(suite, where);
  add_round_trip<EventfdLink>(suite, where);
}

}  // namespace vgpu::bench
