// Threads that share a loop, a processor each, for comparison with a device that has as many. They spin
// between loops, so that starting one costs next to nothing.
#pragma once

#include <sched.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "bench/harness/placement.h"
#include "bench/kernels/reference.h"

namespace vgpu::bench {

// The processors that this process may use.
inline std::vector<int> usable_processors() {
  cpu_set_t set;
  std::vector<int> result;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
      if (CPU_ISSET(processor, &set)) result.push_back(processor);
    }
  }
  return result;
}

// run() is for the thread that made it, which works along. At most as many as there are processors.
class Team {
 public:
  explicit Team(const std::vector<int>& processors)
      : size_(static_cast<unsigned>(processors.size())), processors_(processors), own_(processors.at(0)) {
    for (unsigned part = 1; part < size_; ++part) {
      helpers_.emplace_back([this, part] { help(part); });
    }
  }
  ~Team() {
    stop_.store(true);
    round_.fetch_add(1);
    for (std::thread& helper : helpers_) {
      helper.join();
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // work(share) on all threads at once; returns when all are done.
  void run(const std::function<void(reference::Share)>& work) {
    work_ = &work;
    done_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    work({0, size_});
    while (done_.load(std::memory_order_acquire) != size_ - 1) {
    }
  }

 private:
  void help(unsigned part) {
    pin_this_thread(processors_[part]);
    for (unsigned seen = 0;;) {
      const unsigned now = round_.load(std::memory_order_acquire);
      if (now == seen) {
        continue;
      }
      seen = now;
      if (stop_.load()) {
        return;
      }
      (*work_)({part, size_});
      done_.fetch_add(1, std::memory_order_release);
    }
  }

  const unsigned size_;
  const std::vector<int> processors_;
  const Pinned own_;
  const std::function<void(reference::Share)>* work_ = nullptr;
  std::atomic<unsigned> round_{0};
  std::atomic<unsigned> done_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace vgpu::bench
