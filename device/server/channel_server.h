// Serves one channel: a thread that takes records out of the ring, executes them, answers, and puts the
// channel in order when its owner comes, leaves or dies. Everything the guest can do wrong ends in an error
// on this channel alone. start(), stop() and watch() are for the device's main thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "device/backend.h"
#include "device/server/executor.h"
#include "device/server/log.h"
#include "pci/bar.h"
#include "ring/channel.h"
#include "ring/consumer.h"
#include "ring/region.h"
#include "ring/wait.h"

namespace vgpu::device {

struct ChannelOptions {
  Quota quota;
  uint64_t generation = 0;     // of the region, as the device formatted it
  bool locks_visible = true;   // the owners' locks are this kernel's: a dead owner is seen at once
  bool remote_fences = false;  // the region offers ring::kFeatureRemoteFences
  uint64_t spin_ns = ring::kDefaultSpinNs;
  uint64_t max_image_bytes = uint64_t{1} << 30;
  bool back_bulk = false;  // an owner's bulk heap gets its memory before it is served: a VM cannot ask for it
};

// Adds every figure of `from`, which its channel may be changing; peaks and memory in use are left alone.
void add_counters(Counters& sum, const Counters& from) noexcept;

// Sums over owners that are gone. Any thread.
class Totals {
 public:
  // Takes a gone owner's figures over and zeroes them, in one step for every sum().
  void absorb(Counters& gone) noexcept;
  // What is taken over plus what `live` holds now.
  template <typename Channels>
  Counters sum(const Channels& live) const noexcept {
    const std::lock_guard lock(mutex_);
    Counters sum = closed_;
    for (const auto& channel : live) add_counters(sum, channel->counters());
    return sum;
  }
  // How many owners it has taken over.
  uint64_t absorbed() const noexcept {
    const std::lock_guard lock(mutex_);
    return absorbed_;
  }

 private:
  mutable std::mutex mutex_;
  Counters closed_;
  uint64_t absorbed_ = 0;
};

class ChannelServer {
 public:
  // How the channel's thread sleeps: while an owner is served, and while there is none.
  struct Sleeping {
    ring::WaitOps serving;
    ring::WaitOps idle;
  };
  // All arguments must outlive the server. `view` was made from geometry the device itself computed.
  ChannelServer(const ring::ChannelView& view, const pci::Bar& bar, int region_file, Backend& backend,
                Totals& totals, const ChannelOptions& options, const Sleeping& sleeping);
  ~ChannelServer();
  ChannelServer(const ChannelServer&) = delete;
  ChannelServer& operator=(const ChannelServer&) = delete;

  void start();
  // Cancels what runs and ends the thread. The channel stays as it is; the device's state tells its owner.
  void request_stop() noexcept;
  void join() noexcept;
  // Ten times a second or more while an owner is served: cancels the work of an owner that died or gave way,
  // and wakes the thread to it. Otherwise now and then: wakes the thread to a claim whose doorbell it missed.
  void watch() noexcept;

  // Figures of the present owner. Any thread may read them word by word (ring::load_relaxed).
  const Counters& counters() const noexcept { return counters_; }
  bool served() const noexcept { return served_nonce_.load(std::memory_order_relaxed) != 0; }

 private:
  void run() noexcept;
  ring::ChannelOwnership::Event look_at_owner() noexcept;
  void discard_bulk() noexcept;
  bool back_bulk();
  void begin_owner();
  void end_owner() noexcept;
  bool serve_batch();
  void look_ahead(const OnUpcomingLaunch& on_launch) const;
  void execute_one(std::span<const std::byte> record, uint64_t position);
  void answer(const Executor::Outcome& outcome, uint64_t position);
  void finish_batch(bool ring_empty);
  void progress(bool ring_empty);
  void report(const Executor::Outcome& outcome, uint64_t position);
  void fail_channel(ring::ReadError error);
  void publish_counters() noexcept;
  bool owner_changed() const noexcept;
  bool interrupted() const noexcept {
    return stop_.load(std::memory_order_relaxed) || owner_dead_.load(std::memory_order_relaxed);
  }
  void log_failure(std::string_view text);

  ring::ChannelView view_;
  const pci::Bar& bar_;
  int region_file_;
  Backend& backend_;
  Totals& totals_;
  ChannelOptions options_;
  protocol::Limits limits_;
  ring::ChannelOwnership ownership_;
  ring::OwnerInfo owner_;  // who is served
  Sleeping sleeping_;
  ring::ConsumerWaits waits_;       // spins, then parks: while an owner is served
  ring::ConsumerWaits idle_waits_;  // parks at once: nobody is there
  ring::Consumer consumer_;
  std::optional<Executor> executor_;
  Counters counters_;
  LogLimiter limiter_;
  alignas(8) std::byte record_[ring::kMaxRecordBytes];
  uint64_t progress_position_ = 0;
  uint64_t given_back_ = 0;  // ring space before it may be overwritten
  uint64_t progress_ns_ = 0;
  uint64_t clock_ns_ = 0;  // when the record before this one had executed
  uint64_t deferred_errors_ = 0;
  uint64_t counters_ns_ = 0;
  bool failed_ = false;
  bool bulk_used_;  // somebody may have left something there: always in a BAR, which outlives the device

  std::mutex context_mutex_;  // the watcher cancels while the thread replaces
  std::unique_ptr<Context> context_;

  std::thread thread_;
  std::atomic<uint64_t> served_nonce_{0};
  std::atomic<uint64_t> looked_at_{0};  // the owner block's nonce when the thread last looked for an owner
  std::atomic<bool> owner_dead_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> ended_{true};
};

}  // namespace vgpu::device
