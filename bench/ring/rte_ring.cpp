// DPDK's rte_ring, single producer and single consumer, with the messages inline as elements, on plain shared
// memory: rte_ring_init needs neither the EAL nor huge pages. Built only where pkg-config finds libdpdk.
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include <array>
#include <memory>
#include <stdexcept>

#include "bench/ring/measure.h"

namespace vgpu::bench {
namespace {

template <std::size_t Bytes>
class RteRing {
 public:
  static constexpr const char* kVariant = "dpdk_rte_ring";
  static constexpr std::size_t kBytes = Bytes;
  static constexpr bool kThreads = false;

  RteRing() {
    const ssize_t bytes = rte_ring_get_memsize_elem(Bytes, kCount);
    if (bytes < 0) {
      throw std::runtime_error("rte_ring_get_memsize_elem");
    }
    for (std::size_t i = 0; i < 2; ++i) {
      memory_[i] = SharedMemory(static_cast<std::size_t>(bytes));
      if (rte_ring_init(ring(i), "vgpu_bench", kCount, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
        throw std::runtime_error("rte_ring_init");
      }
    }
  }

  class Client {
   public:
    explicit Client(RteRing& link) : there_(link.ring(0)), back_(link.ring(1)) {}
    void send(uint64_t first, uint32_t count) {
      for (uint32_t i = 0; i < count; ++i) {
        batch_[i].fill(first + i);
      }
      while (rte_ring_sp_enqueue_bulk_elem(there_, batch_.data(), Bytes, count, nullptr) == 0) {
      }
    }
    void call(uint64_t number) {
      send(number, 1);
      Message<Bytes> answer;
      while (rte_ring_sc_dequeue_bulk_elem(back_, &answer, Bytes, 1, nullptr) == 0) {
      }
      take(answer);
      if (answer.words[0] != number) [[unlikely]] {
        broken_sequence(number, answer.words[0], answer.words[0]);
      }
    }

   private:
    rte_ring* there_;
    rte_ring* back_;
    std::array<Message<Bytes>, 32> batch_;
  };

  class Server {
   public:
    explicit Server(RteRing& link)
        : there_(link.ring(0)), back_(link.ring(1)), taken_(std::make_unique<Taken>()) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      const unsigned count =
          rte_ring_sc_dequeue_burst_elem(there_, taken_->data(), Bytes, kTakenAtOnce, nullptr);
      for (unsigned i = 0; i < count; ++i) {
        take((*taken_)[i]);
        on_message((*taken_)[i].words, Bytes / 8);
      }
    }
    void answer(uint64_t number) {
      Message<Bytes> message;
      message.fill(number);
      while (rte_ring_sp_enqueue_bulk_elem(back_, &message, Bytes, 1, nullptr) == 0) {
      }
    }

   private:
    static constexpr unsigned kTakenAtOnce = 32;
    using Taken = std::array<Message<Bytes>, kTakenAtOnce>;
    rte_ring* there_;
    rte_ring* back_;
    std::unique_ptr<Taken> taken_;
  };

 private:
  static constexpr unsigned kCount = kQueueBytes / Bytes;
  rte_ring* ring(std::size_t index) const noexcept { return memory_[index].template at<rte_ring>(); }
  std::array<SharedMemory, 2> memory_;
};

template <std::size_t Bytes>
void add_streams(Suite& suite, const Where& where) {
  for (const uint32_t batch : {1U, 8U, 32U}) {
    add_stream<RteRing<Bytes>>(suite, where, batch);
  }
}

}  // namespace

void add_rte_ring(Suite& suite, const Where& where) {
  add_round_trip<RteRing<64>>(suite, where);
  add_submit<RteRing<64>>(suite, where);
  add_streams<64>(suite, where);
  add_streams<256>(suite, where);
  add_streams<1024>(suite, where);
  add_streams<4096>(suite, where);
}

}  // namespace vgpu::bench
