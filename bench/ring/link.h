// What every way of passing messages looks like to the measuring code (measure.h), which exists once. A link
// is made before the peer starts; the two sides then make a Client and a Server of it, each in its own
// process. All messages of a link have kBytes bytes, made of 8-byte words that all hold the message's number,
// so that every side writes and takes out the whole message. What can go wrong: a server must take each
// message out by a copy of all its bytes, as the device must, and a client must write all of them, or the
// comparison is worth nothing.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vgpu::bench {

// The number of the message that ends a server's loop. Numbers otherwise start at 1 and grow by 1.
inline constexpr uint64_t kStop = uint64_t{1} << 62;

// Every queue holds this much, as the ring of a channel does by default.
inline constexpr std::size_t kQueueBytes = 256 << 10;

template <std::size_t Bytes>
struct alignas(Bytes % 64 == 0 ? 64 : 8) Message {
  uint64_t words[Bytes / 8];
  void fill(uint64_t number) noexcept {
    for (uint64_t& word : words) {
      word = number;
    }
  }
};

// Makes the compiler believe that all of `message` is looked at, so that no copy of it is left out.
template <typename T>
inline void take(const T& message) noexcept {
  asm volatile("" : : "m"(message));
}

[[noreturn]] inline void broken_sequence(uint64_t expected, uint64_t first, uint64_t last) {
  throw std::runtime_error("message " + std::to_string(expected) + " came as " + std::to_string(first) +
                           " .. " + std::to_string(last));
}

template <typename T>
concept Link = requires {
  { T::kVariant } -> std::convertible_to<const char*>;  // the result's "variant"
  { T::kBytes } -> std::convertible_to<std::size_t>;    // a message's, everything included
  {
    T::kThreads
  } -> std::convertible_to<bool>;  // the peer is a thread: the memory cannot be shared otherwise
  typename T::Client;              // Client(T&)
  typename T::Server;              // Server(T&)
};

// client.send(first, count): writes `count` messages numbered from `first`; visible to the server when it
// returns.
//   Waits while there is no room.
// server.receive(on_message): hands over what is there, each as (const uint64_t* words, count of words), at
// most a
//   few hundred; returns when nothing is left. It may wait a moment or sleep when nothing is there.
template <typename T>
concept StreamLink = Link<T> && requires(typename T::Client& client, typename T::Server& server) {
  client.send(uint64_t{1}, uint32_t{1});
  server.receive([](const uint64_t*, std::size_t) {});
};

// client.call(number): sends one message and returns when its answer, which names the number, has come.
// server.answer(number): answers the message just received, from within on_message.
template <typename T>
concept CallLink = StreamLink<T> && requires(typename T::Client& client, typename T::Server& server) {
  client.call(uint64_t{1});
  server.answer(uint64_t{1});
};

}  // namespace vgpu::bench
