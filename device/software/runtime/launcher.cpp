// See launcher.h.
#include "device/software/runtime/launcher.h"

#include <fmt/format.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <system_error>

#include "device/software/runtime/fault_guard.h"

namespace vgpu::software {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t nanoseconds(Clock::duration duration) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
}

// An idle worker looks for work this long before it sleeps: launches of one model follow each other closely.
constexpr auto kSpin = std::chrono::microseconds(50);
// Waking pays when what is left takes longer than this; a sleeping thread takes tens of microseconds to come.
constexpr uint64_t kWorthWakingSpinner = 10'000;   // ns
constexpr uint64_t kWorthWakingSleeper = 100'000;  // ns
// What a thread takes at a time. Long: where one thread's blocks end, what it has prefetched for those behind
// is in the wrong thread's cache. Not so long that a thread which comes late finds nothing, or another launch
// waits for it.
constexpr uint64_t kChunkNanoseconds = 200'000;
constexpr uint64_t kLastChunksNanoseconds = 1'000;
// The caller looks this long for its helpers to leave before it sleeps: what they hold is a chunk.
constexpr auto kLeaveSpin = std::chrono::microseconds(30);

}  // namespace

Launcher::Launcher(DeviceWindow& window, uint32_t threads) : window_(window) {
  for (uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
}

Launcher::~Launcher() {
  stopping_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Launcher::work() {
  block_asynchronous_signals();
  BlockRunner runner(window_);
  while (true) {
    const uint32_t seen = epoch_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_acquire)) return;
    Job* job = nullptr;
    {
      const std::lock_guard lock(mutex_);
      job = pick();
      if (job != nullptr) job->helpers.fetch_add(1, std::memory_order_relaxed);
    }
    if (job != nullptr) {
      help(*job, runner);
      leave(*job);
      continue;
    }
    spinning_.fetch_add(1, std::memory_order_relaxed);
    const auto until = Clock::now() + kSpin;
    while (epoch_.load(std::memory_order_acquire) == seen && Clock::now() < until) {
      for (int i = 0; i < 32; ++i) _mm_pause();
    }
    spinning_.fetch_sub(1, std::memory_order_relaxed);
    epoch_.wait(seen, std::memory_order_acquire);
  }
}

Launcher::Job* Launcher::pick() {
  for (Job* job : jobs_) {
    if (!job->failed && job->next.load(std::memory_order_relaxed) < job->plan.blocks) return job;
  }
  return nullptr;
}

// Two thirds of a fair share of what is left, so that all threads end together. What another thread takes in
// between makes this one's piece larger than it should be, and nothing else.
uint64_t Launcher::take(Job& job, uint64_t& first) const {
  const uint64_t taken = std::min(job.next.load(std::memory_order_relaxed), job.plan.blocks);
  const uint64_t share = (job.plan.blocks - taken) * 2 / (uint64_t{threads()} * 3);
  const uint64_t count = std::clamp(share, job.least, job.chunk);
  first = job.next.fetch_add(count, std::memory_order_relaxed);
  return count;
}

void Launcher::help(Job& job, BlockRunner& runner) {
  // A worker that cannot help leaves the blocks to the others.
  if (!runner.prepare(job.plan)) return;
  while (true) {
    uint64_t first = 0;
    const uint64_t count = take(job, first);
    if (first >= job.plan.blocks) return;
    const auto ran = runner.run(first, std::min(first + count, job.plan.blocks));
    if (!ran) return record(job, ran.error());
  }
}

// The job may be gone as soon as nobody helps.
void Launcher::leave(Job& job) {
  const std::lock_guard lock(mutex_);
  // Release: pairs with the caller's acquire in withdraw(), who then reads what the blocks wrote.
  job.helpers.fetch_sub(1, std::memory_order_release);
  if (sleepers_ != 0) left_.notify_all();
}

void Launcher::record(Job& job, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!job.failed) job.error = error;
    job.failed = true;
  }
  // The rest of the kernel ends at its next loop or block; the first error is the one that counts.
  uint32_t running = kRunning;
  job.plan.stop->compare_exchange_strong(running, kLaunchFailedElsewhere, std::memory_order_relaxed);
  job.next.store(job.plan.blocks, std::memory_order_relaxed);
}

Result<void> Launcher::outcome(const Job& job) const {
  if (job.failed) return std::unexpected(job.error);
  return {};
}

void Launcher::publish(Job& job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(&job);
  }
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
}

void Launcher::withdraw(Job& job) {
  {
    const std::lock_guard lock(mutex_);
    std::erase(jobs_, &job);
  }
  const auto alone = [&job] { return job.helpers.load(std::memory_order_acquire) == 0; };
  const auto until = Clock::now() + kLeaveSpin;
  while (!alone()) {
    for (int i = 0; i < 8; ++i) _mm_pause();
    if (Clock::now() < until) continue;
    std::unique_lock lock(mutex_);
    ++sleepers_;
    left_.wait(lock, alone);
    --sleepers_;
  }
}

Result<void> Launcher::run(const LaunchPlan& plan, BlockRunner& caller) {
  if (const auto ready = caller.prepare(plan); !ready) return ready;
  if (plan.blocks == 1 || workers_.empty()) return caller.run(0, plan.blocks);

  Job job(plan);
  // Decides whether waking other threads pays.
  const uint64_t known = plan.kind->nanoseconds_per_block.load(std::memory_order_relaxed);
  const uint64_t fair = std::max<uint64_t>(1, plan.blocks / (uint64_t{threads()} * 4));
  if (known != 0) {
    job.chunk = std::max<uint64_t>(1, kChunkNanoseconds / known);
    job.least = std::clamp<uint64_t>(kLastChunksNanoseconds / known, 1, job.chunk);
  }

  bool published = false;
  auto offer = [&](uint64_t left, uint64_t per_block) {
    const uint64_t worth =
        spinning_.load(std::memory_order_relaxed) > 0 ? kWorthWakingSpinner : kWorthWakingSleeper;
    if (published || left == 0 || per_block < worth / left) return;
    published = true;
    publish(job);
  };
  if (known != 0) offer(plan.blocks, known);

  const auto start = Clock::now();
  uint64_t done = 0;
  uint64_t mine = std::min(job.chunk, fair);
  while (true) {
    uint64_t first = 0;
    if (!published) {
      first = job.next.fetch_add(mine, std::memory_order_relaxed);
    } else {
      mine = take(job, first);
    }
    if (first >= plan.blocks) break;
    const uint64_t last = std::min(first + mine, plan.blocks);
    const auto ran = caller.run(first, last);
    if (!ran) {
      record(job, ran.error());
      break;
    }
    done += last - first;
    if (!published) {
      const uint64_t elapsed = nanoseconds(Clock::now() - start);
      offer(plan.blocks - last, elapsed / done);
      // Alone and quick: larger steps, so that the clock is not read for every block.
      if (!published && elapsed < kWorthWakingSleeper) mine = std::min(mine * 2, fair);
    }
  }
  const uint64_t elapsed = nanoseconds(Clock::now() - start);
  if (published) withdraw(job);
  if (done > 0) {
    const uint64_t measured = std::max<uint64_t>(1, elapsed / done);
    plan.kind->nanoseconds_per_block.store(known == 0 ? measured : (known * 3 + measured) / 4,
                                           std::memory_order_relaxed);
  }
  return outcome(job);
}

Result<void> Launcher::run_cooperative(const LaunchPlan& plan, BlockRunner& caller) {
  if (plan.blocks == 1) return run(plan, caller);
  // Every block must make progress while others spin, so each gets a thread and the scheduler its turns.
  // Everything is prepared before any block starts: a block without its partners would wait for ever.
  std::vector<std::unique_ptr<BlockRunner>> runners;
  for (uint64_t block = 1; block < plan.blocks; ++block) {
    runners.push_back(std::make_unique<BlockRunner>(window_));
    if (const auto ready = runners.back()->prepare(plan); !ready) return ready;
  }
  if (const auto ready = caller.prepare(plan); !ready) return ready;

  Job job(plan);
  enum class Gate : uint32_t { kClosed, kOpen, kCancelled };
  std::atomic<Gate> gate{Gate::kClosed};
  std::vector<std::thread> threads;
  Result<void> started;
  try {
    for (uint64_t block = 1; block < plan.blocks; ++block) {
      threads.emplace_back([this, &job, &gate, &runners, block] {
        block_asynchronous_signals();
        gate.wait(Gate::kClosed, std::memory_order_acquire);
        if (gate.load(std::memory_order_acquire) == Gate::kCancelled) return;
        const auto ran = runners[block - 1]->run(block, block + 1);
        if (!ran) record(job, ran.error());
      });
    }
  } catch (const std::system_error& error) {
    started = std::unexpected(Error{Status::kLaunchOutOfResources,
                                    fmt::format("start {} threads for a cooperative launch of {}: {}",
                                                plan.blocks, plan.kernel, error.what())});
  }
  gate.store(started ? Gate::kOpen : Gate::kCancelled, std::memory_order_release);
  gate.notify_all();
  if (started) {
    const auto ran = caller.run(0, 1);
    if (!ran) record(job, ran.error());
  }
  for (auto& thread : threads) thread.join();
  if (!started) return started;
  return outcome(job);
}

}  // namespace vgpu::software
