// The machine's own limits. bare_cache_line: one word to and fro, each on a line of its own. bare_full_line:
// the same with all eight words of both lines written and read. bare_lines: one way, lines with a flag word
// each into a buffer; beyond that only a position that the reader gives away every quarter of the buffer, so
// that nothing is overwritten.
#include <cstring>

#include "bench/ring/bare_link.h"

namespace vgpu::bench {
namespace {

class BareFullLine {
 public:
  static constexpr const char* kVariant = "bare_full_line";
  static constexpr std::size_t kBytes = 64;
  static constexpr bool kThreads = false;

  class Client {
   public:
    explicit Client(BareFullLine& link) : there_(link.line(0)), back_(link.line(1)) {}
    void send(uint64_t number, uint32_t /*count*/) noexcept { write(there_, number); }
    void call(uint64_t number) {
      write(there_, number);
      while (load_acquire(back_.words[0]) != number) {
      }
      std::memcpy(&answer_, back_.words, sizeof(answer_));
      take(answer_);
    }

   private:
    Line& there_;
    Line& back_;
    Message<64> answer_{};
  };
  class Server {
   public:
    explicit Server(BareFullLine& link) : there_(link.line(0)), back_(link.line(1)) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      while (load_acquire(there_.words[0]) == message_.words[0]) {
      }
      std::memcpy(&message_, there_.words, sizeof(message_));
      take(message_);
      on_message(message_.words, 8);
    }
    void answer(uint64_t number) noexcept { write(back_, number); }

   private:
    Line& there_;
    Line& back_;
    Message<64> message_{};
  };

 private:
  static void write(Line& line, uint64_t number) noexcept {
    for (int i = 1; i < 8; ++i) {
      ring::store_relaxed(line.words[i], number);
    }
    store_release(line.words[0], number);
  }
  Line& line(std::size_t index) const noexcept { return memory_.at<Line>()[index]; }
  SharedMemory memory_{4096};
};

template <std::size_t Bytes>
class BareLines {
 public:
  static constexpr const char* kVariant = "bare_lines";
  static constexpr std::size_t kBytes = Bytes;
  static constexpr bool kThreads = false;

  class Client {
   public:
    explicit Client(BareLines& link) : lines_(link.lines()), taken_(link.taken()) {}
    void send(uint64_t first, uint32_t count) noexcept {
      for (uint64_t number = first; number != first + count; ++number) {
        while (position_ + kLinesEach - cached_taken_ > kLines) {
          cached_taken_ = load_acquire(taken_);
        }
        for (std::size_t i = 0; i < kLinesEach; ++i) {
          uint64_t* words = lines_[(position_ + i) % kLines].words;
          for (int word = 1; word < 8; ++word) {
            ring::store_relaxed(words[word], number);
          }
          store_release(words[0], number);
        }
        position_ += kLinesEach;
      }
    }

   private:
    Message<64>* lines_;
    const uint64_t& taken_;
    uint64_t position_ = 0;
    uint64_t cached_taken_ = 0;
  };
  class Server {
   public:
    explicit Server(BareLines& link) : lines_(link.lines()), taken_(link.taken()) {}
    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      for (std::size_t i = 0; i < kLinesEach; ++i) {
        Message<64>& line = lines_[(position_ + i) % kLines];
        uint64_t flag = load_acquire(line.words[0]);
        while (flag != number_ && flag != kStop) {
          flag = load_acquire(line.words[0]);
        }
        std::memcpy(message_.words + 8 * i, line.words, sizeof(line));
      }
      take(message_);
      ++number_;
      position_ += kLinesEach;
      if (position_ - given_back_ >= kLines / 4) {
        given_back_ = position_;
        store_release(taken_, given_back_);
      }
      on_message(message_.words, Bytes / 8);
    }

   private:
    Message<64>* lines_;
    uint64_t& taken_;
    uint64_t position_ = 0;
    uint64_t given_back_ = 0;
    uint64_t number_ = 1;
    Message<Bytes> message_{};
  };

 private:
  static constexpr std::size_t kLines = kQueueBytes / 64;
  static constexpr std::size_t kLinesEach = Bytes / 64;
  Message<64>* lines() const noexcept { return memory_.at<Message<64>>(4096); }
  uint64_t& taken() const noexcept { return *memory_.at<uint64_t>(); }
  SharedMemory memory_{4096 + kQueueBytes};
};

}  // namespace

void add_bare(Suite& suite, const Where& where) {
  add_round_trip<BareCacheLine>(suite, where);
  add_round_trip<BareFullLine>(suite, where);
  add_stream<BareLines<64>>(suite, where, 1);
  add_stream<BareLines<256>>(suite, where, 1);
  add_stream<BareLines<1024>>(suite, where, 1);
  add_stream<BareLines<4096>>(suite, where, 1);
  add_submit<BareLines<64>>(suite, where);
  add_submit<BareLines<256>>(suite, where);
}

}  // namespace vgpu::bench
