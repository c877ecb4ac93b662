// Queues as libraries have them, with an index for each side instead of a flag in the message: boost's
// spsc_queue and moodycamel's readerwriterqueue from Debian, and the textbook queue with cached indices
// (`index_queue`), the scheme of rigtorp's SPSCQueue, written here. An answer comes back through a second
// queue of the same kind. moodycamel's takes its blocks from the heap, which processes do not share: there
// both sides are threads.
#include <readerwriterqueue/readerwriterqueue.h>

#include <array>
#include <boost/lockfree/spsc_queue.hpp>
#include <memory>
#include <new>

#include "bench/ring/measure.h"
#include "ring/access.h"

namespace vgpu::bench {
namespace {

constexpr std::size_t kTakenAtOnce = 32;

// A link of two queues, one each way. Queue<Message> has push(const Message*, n) and pop(Message*, n), which
// return how many; both may stop early.
template <typename Queue, std::size_t Bytes>
class QueueLink {
 public:
  static constexpr const char* kVariant = Queue::kVariant;
  static constexpr std::size_t kBytes = Bytes;
  static constexpr bool kThreads = Queue::kThreads;

  class Client {
   public:
    explicit Client(QueueLink& link) : there_(link.queue(0)), back_(link.queue(1)) {}
    void send(uint64_t first, uint32_t count) {
      if (count == 1) {
        push_one(there_, first);
        return;
      }
      for (uint32_t i = 0; i < count; ++i) {
        batch_[i].fill(first + i);
      }
      for (std::size_t sent = 0; sent < count;) {
        sent += there_.push(batch_.data() + sent, count - sent);
      }
    }
    void call(uint64_t number) {
      push_one(there_, number);
      Message<Bytes> answer;
      while (back_.pop(&answer, 1) == 0) {
      }
      take(answer);
      if (answer.words[0] != number) [[unlikely]] {
        broken_sequence(number, answer.words[0], answer.words[0]);
      }
    }

   private:
    Queue& there_;
    Queue& back_;
    std::array<Message<Bytes>, 32> batch_;
  };

  class Server {
   public:
    explicit Server(QueueLink& link)
        : there_(link.queue(0)), back_(link.queue(1)), taken_(std::make_unique<Taken>()) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      const std::size_t count = there_.pop(taken_->data(), kTakenAtOnce);
      for (std::size_t i = 0; i < count; ++i) {
        take((*taken_)[i]);
        on_message((*taken_)[i].words, Bytes / 8);
      }
    }
    void answer(uint64_t number) { push_one(back_, number); }

   private:
    using Taken = std::array<Message<Bytes>, kTakenAtOnce>;
    Queue& there_;
    Queue& back_;
    std::unique_ptr<Taken> taken_;
  };

  QueueLink() {
    for (std::size_t i = 0; i < 2; ++i) {
      new (memory_.data() + i * kStride) Queue;
    }
  }
  ~QueueLink() {
    for (std::size_t i = 0; i < 2; ++i) {
      queue(i).~Queue();
    }
  }
  QueueLink(const QueueLink&) = delete;
  QueueLink& operator=(const QueueLink&) = delete;

 private:
  static void push_one(Queue& queue, uint64_t number) {
    Message<Bytes> message;
    message.fill(number);
    while (queue.push(&message, 1) == 0) {
    }
  }
  Queue& queue(std::size_t index) const noexcept { return *std::launder(memory_.at<Queue>(index * kStride)); }
  static constexpr std::size_t kStride = (sizeof(Queue) + 4095) / 4096 * 4096;
  SharedMemory memory_{2 * kStride};
};

template <std::size_t Bytes>
class BoostQueue {
 public:
  static constexpr const char* kVariant = "boost_spsc_queue";
  static constexpr bool kThreads = false;
  std::size_t push(const Message<Bytes>* messages, std::size_t count) {
    return count == 1 ? (queue_.push(*messages) ? 1 : 0) : queue_.push(messages, count);
  }
  std::size_t pop(Message<Bytes>* messages, std::size_t count) { return queue_.pop(messages, count); }

 private:
  boost::lockfree::spsc_queue<Message<Bytes>, boost::lockfree::capacity<kQueueBytes / Bytes>> queue_;
};

template <std::size_t Bytes>
class MoodycamelQueue {
 public:
  static constexpr const char* kVariant = "moodycamel_readerwriterqueue";
  static constexpr bool kThreads = true;
  std::size_t push(const Message<Bytes>* messages, std::size_t /*count*/) {
    return queue_.try_enqueue(*messages) ? 1 : 0;
  }
  std::size_t pop(Message<Bytes>* messages, std::size_t /*count*/) {
    return queue_.try_dequeue(*messages) ? 1 : 0;
  }

 private:
  moodycamel::ReaderWriterQueue<Message<Bytes>> queue_{kQueueBytes / Bytes};
};

template <std::size_t Bytes>
class IndexQueue {
 public:
  static constexpr const char* kVariant = "index_queue";
  static constexpr bool kThreads = false;
  std::size_t push(const Message<Bytes>* messages, std::size_t count) {
    const uint64_t written = written_.index;
    if (written + count - written_.cached > kCapacity) {
      written_.cached = ring::load_acquire(read_.index);
      if (written + count - written_.cached > kCapacity) {
        return 0;
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      messages_[(written + i) % kCapacity] = messages[i];
    }
    ring::store_release(written_.index, written + count);
    return count;
  }
  std::size_t pop(Message<Bytes>* messages, std::size_t most) {
    const uint64_t read = read_.index;
    if (read == read_.cached) {
      read_.cached = ring::load_acquire(written_.index);
      if (read == read_.cached) {
        return 0;
      }
    }
    const std::size_t count = read_.cached - read < most ? read_.cached - read : most;
    for (std::size_t i = 0; i < count; ++i) {
      messages[i] = messages_[(read + i) % kCapacity];
    }
    ring::store_release(read_.index, read + count);
    return count;
  }

 private:
  static constexpr std::size_t kCapacity = kQueueBytes / Bytes;
  struct alignas(128) Side {
    uint64_t index = 0;   // how many this side has done
    uint64_t cached = 0;  // how many the other had when last looked at
  };
  Side written_;
  Side read_;
  alignas(128) Message<Bytes> messages_[kCapacity];
};

template <std::size_t Bytes>
void add_streams(Suite& suite, const Where& where) {
  for (const uint32_t batch : {1U, 8U, 32U}) {
    add_stream<QueueLink<BoostQueue<Bytes>, Bytes>>(suite, where, batch);
    add_stream<QueueLink<IndexQueue<Bytes>, Bytes>>(suite, where, batch);
  }
  add_stream<QueueLink<MoodycamelQueue<Bytes>, Bytes>>(suite, where, 1);
}

template <template <std::size_t> typename Queue>
void add_calls(Suite& suite, const Where& where) {
  add_round_trip<QueueLink<Queue<64>, 64>>(suite, where);
  add_submit<QueueLink<Queue<64>, 64>>(suite, where);
}

}  // namespace

void add_queues(Suite& suite, const Where& where) {
  add_calls<BoostQueue>(suite, where);
  add_calls<MoodycamelQueue>(suite, where);
  add_calls<IndexQueue>(suite, where);
  add_streams<64>(suite, where);
  add_streams<256>(suite, where);
  add_streams<1024>(suite, where);
  add_streams<4096>(suite, where);
}

}  // namespace vgpu::bench
