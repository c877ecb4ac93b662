// Executes the records of one guest process: checks, calls the backend, gathers module images, counts. Knows
// nothing of rings or regions, so a fuzzer can drive it. A record's outcome never ends the process: bad
// records come back as errors with names and values. One thread: the channel's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "device/backend.h"
#include "protocol/commands.h"
#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::device {

struct ExecutorConfig {
  protocol::Limits limits;
  std::span<std::byte> bulk;  // limits.bulk_bytes long; the guest may change it at any moment
  int bulk_file = -1;         // where the span lies in the region's file
  uint64_t bulk_file_offset = 0;
  uint32_t reply_payload_bytes = 1008;
  uint64_t image_bytes = uint64_t{1} << 30;  // of module images being gathered, all together
  // True: the owner left or the device stops. What fails then was cut off, and is nobody's error.
  std::function<bool()> abandoned = {};
};

// The device's figures for one owner, in its own memory: single words that another thread may read.
struct Counters {
  ring::CounterBlock block{};
  uint64_t by_command[protocol::kCommandCount] = {};
};

class Executor {
 public:
  // `context` and `counters` must outlive the executor.
  Executor(Context& context, const ExecutorConfig& config, Counters& counters);

  struct Outcome {
    protocol::Status status = protocol::Status::kSuccess;
    uint16_t opcode = 0;
    uint16_t reply_slot = ring::kNoReply;  // as the record names it, unchecked
    std::span<const std::byte> reply;      // valid until the next execute()
    std::string reason;                    // of a failure; empty when the context had failed before
    bool abandoned = false;                // a failure not worth a word; not counted
    bool told = false;                     // a failure that the guest found itself, and knows of
    bool used_bulk = false;                // done with bulk memory, which the guest may be waiting for
  };
  // `record`: a whole record with its header, in memory that nobody else changes.
  Outcome execute(std::span<const std::byte> record);
  // Gives the record to the callback, if it is a launch that passes the checks. What the callback returns;
  // true for any other record. Nothing is executed. `record` as in execute(), with a header.
  bool peek(std::span<const std::byte> record, const OnUpcomingLaunch& on_launch) const;
  // Lets everything the backend was handed finish; its error, if one came out.
  Outcome finish();

  // The status that every command gets from now on; kSuccess as long as the context lives.
  protocol::Status sticky() const noexcept { return sticky_; }

  // One handler per command, called by protocol::dispatch once the checks have passed. `r` is the request,
  // `tail` the bytes behind it.
#define COMMAND(opcode, Name, mode, tail) \
  void on(const protocol::Name##Request& r, std::span<const std::byte> tail_bytes);
#define FIELD(type, name, unit)
#define CHECK(...)
#define REPLY(type, name, unit)
#define END(Name)
#include "protocol/commands.def"
#undef COMMAND
#undef FIELD
#undef CHECK
#undef REPLY
#undef END

 private:
  struct Image {
    std::vector<std::byte> bytes;
    uint64_t total = 0;
  };

  void fail(protocol::Status status, std::string reason);
  void fail(Error error) { fail(error.status, std::move(error.reason)); }
  // Takes a backend's answer; true when it succeeded.
  template <typename T>
  bool check(Result<T>& result) {
    if (result) return true;
    fail(std::move(result.error()));
    return false;
  }
  void done(Result<void> result) { check(result); }
  template <typename Reply>
  void reply_with(const Reply& reply, std::span<const std::byte> more = {});
  void dispatch_record(uint16_t opcode, std::span<const std::byte> body);
  // False: the failure is nobody's.
  bool count_outcome();
  void count_memory();
  void drop_image(uint32_t module);
  std::span<std::byte> bulk_rows(uint64_t offset, uint64_t width, uint64_t height, uint64_t pitch);

  Context& context_;
  ExecutorConfig config_;
  Counters& counters_;
  std::map<uint32_t, Image> images_;
  uint64_t image_bytes_ = 0;
  uint64_t bulk_address_ = 0;
  protocol::Status sticky_ = protocol::Status::kSuccess;

  // Of the record being executed.
  protocol::Status status_ = protocol::Status::kSuccess;
  uint32_t stream_ = 0;
  bool used_bulk_ = false;
  uint16_t refused_ = 0;  // the command that the guest refused by itself; 0: none
  std::string reason_;
  std::vector<std::byte> reply_;
};

// Adds to a counter that other threads may read; one writer.
inline void count(uint64_t& word, uint64_t amount = 1) noexcept {
  ring::store_relaxed(word, ring::load_relaxed(word) + amount);
}

}  // namespace vgpu::device
