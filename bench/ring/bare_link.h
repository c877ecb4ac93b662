// A word to and fro, each on a cache line of its own: what a round trip between two cores costs at least.
#pragma once

#include "bench/ring/measure.h"
#include "ring/access.h"

namespace vgpu::bench {

using ring::load_acquire;
using ring::store_release;

struct alignas(128) Line {
  uint64_t words[8];
};

class BareCacheLine {
 public:
  static constexpr const char* kVariant = "bare_cache_line";
  static constexpr std::size_t kBytes = 64;
  static constexpr bool kThreads = false;

  class Client {
   public:
    explicit Client(BareCacheLine& link) : there_(link.line(0)), back_(link.line(1)) {}
    void send(uint64_t number, uint32_t /*count*/) noexcept { store_release(there_.words[0], number); }
    void call(uint64_t number) noexcept {
      store_release(there_.words[0], number);
      while (load_acquire(back_.words[0]) != number) {
      }
    }

   private:
    Line& there_;
    Line& back_;
  };
  class Server {
   public:
    explicit Server(BareCacheLine& link) : there_(link.line(0)), back_(link.line(1)) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      uint64_t word = load_acquire(there_.words[0]);
      while (word == last_) {
        word = load_acquire(there_.words[0]);
      }
      last_ = word;
      on_message(&last_, 1);
    }
    void answer(uint64_t number) noexcept { store_release(back_.words[0], number); }

   private:
    Line& there_;
    Line& back_;
    uint64_t last_ = 0;
  };

 private:
  Line& line(std::size_t index) const noexcept { return memory_.at<Line>()[index]; }
  SharedMemory memory_{4096};
};

}  // namespace vgpu::bench
