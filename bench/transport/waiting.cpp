// What it costs that nobody spins for ever: waking a device that sleeps, and a client that sleeps; and what
// both cost while nothing happens. Waking by eventfd, between the same cores, is measured beside it.
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "bench/harness/child.h"
#include "bench/harness/shared_memory.h"
#include "bench/transport/cases.h"
#include "bench/transport/client_process.h"
#include "bench/transport/empty_kernel.h"
#include "bench/transport/measure.h"
#include "ring/wait.h"

namespace vgpu::bench {
namespace {

using std::chrono::microseconds;

constexpr unsigned kFewest = 3;

// Long enough for the other side to be asleep, and for its core to have nothing to do. A long wait is slept
// through, but for its end, so that this core is awake.
void let_idle(microseconds idle) {
  constexpr microseconds kAwake(300);
  if (idle > 10 * kAwake) {
    std::this_thread::sleep_for(idle - kAwake);
    idle = kAwake;
  }
  spin_for(static_cast<uint64_t>(idle.count()) * 1000);
}

// The device spins for some 20 us only before it sleeps; after a second the processor's core sleeps deeply,
// too.
constexpr microseconds kShortIdle(300);
constexpr microseconds kLongIdle(1'200'000);

// call() from a rest of that length, until it returns.
template <typename Call>
void measure_after_idle(Round& round, microseconds idle, Call&& call) {
  const Clock& clock = Clock::get();
  for (unsigned i = 0; i < 3; ++i) {
    let_idle(kShortIdle);
    call();
  }
  const Deadline deadline(2 * round.budget_ns());
  for (unsigned i = 0; i < kFewest || !deadline.over(); ++i) {
    let_idle(idle);
    const uint64_t start = clock.begin();
    call();
    const uint64_t end = clock.end();
    round.latencies().record_ps(clock.to_ps(end - start));
  }
}

// ---- the device sleeps ----

// How the other process is woken; it then says so in a word that this one looks at all the time.
enum class Wake { kEventfd, kFutex };

struct alignas(128) Board {
  alignas(128) std::atomic<uint64_t> woken;  // how often the peer woke
  alignas(128) std::atomic<uint32_t> call;   // how often it was called: what the futex waits on
  alignas(128) std::atomic<uint32_t> stop;
};

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  return ::syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

class Eventfd {
 public:
  Eventfd() : file_(::eventfd(0, EFD_CLOEXEC)) {
    if (file_ < 0) {
      throw std::system_error(errno, std::generic_category(), "eventfd");
    }
  }
  ~Eventfd() { ::close(file_); }
  Eventfd(const Eventfd&) = delete;
  Eventfd& operator=(const Eventfd&) = delete;
  void post() const {
    if (::eventfd_write(file_, 1) != 0) {
      throw std::system_error(errno, std::generic_category(), "eventfd_write");
    }
  }
  void wait() const {
    eventfd_t value = 0;
    while (::eventfd_read(file_, &value) != 0) {
    }
  }

 private:
  int file_;
};

int sleep_and_answer(Board& board, const Eventfd& eventfd, Wake wake) {
  pin_this_thread(Setup::cores().second);
  for (uint32_t seen = 0; board.stop.load() == 0; ++seen) {
    if (wake == Wake::kEventfd) {
      eventfd.wait();
    } else {
      while (board.call.load() == seen) {
        futex(board.call, FUTEX_WAIT, seen);
      }
    }
    board.woken.fetch_add(1, std::memory_order_release);
  }
  return 0;
}

void measure_bare_wake_up(Round& round, microseconds idle, Wake wake) {
  const SharedMemory memory(4096);
  Board& board = *memory.at<Board>();
  const Eventfd eventfd;
  Child peer = Child::start("the sleeper", [&] { return sleep_and_answer(board, eventfd, wake); });
  const Pinned core(Setup::cores().first);
  uint64_t calls = 0;
  const auto call = [&] {
    if (wake == Wake::kEventfd) {
      eventfd.post();
    } else {
      board.call.fetch_add(1);
      futex(board.call, FUTEX_WAKE, 1);
    }
    ++calls;
    while (board.woken.load(std::memory_order_acquire) != calls) {
    }
  };
  measure_after_idle(round, idle, call);
  board.stop.store(1);
  call();
  peer.join();
}

// From before the launch until it has executed; this side looks all the time.
void measure_device_wake_up(Round& round, Setup& setup, microseconds idle, bool synchronize) {
  Cuda& cuda = setup.cuda();
  const Pinned core(Setup::cores().first);
  EmptyKernel kernel(8);
  measure_after_idle(round, idle, [&] {
    kernel.launch(cuda.stream());
    if (synchronize) {
      cuda.synchronize();
      return;
    }
    CUresult result = CUDA_ERROR_NOT_READY;
    while ((result = cuStreamQuery(cuda.stream())) == CUDA_ERROR_NOT_READY) {
    }
    check(result, "cuStreamQuery");
  });
}

void add_device_wake_up(Suite& suite, Setup& setup) {
  for (const microseconds idle : {kShortIdle, kLongIdle}) {
    const auto add = [&](const char* variant, std::function<void(Round&)> measure) {
      suite.add(
          {.name = "device_wake_up", .variant = variant, .parameters = {{"idle_us", int64_t{idle.count()}}}},
          std::move(measure));
    };
    add("vgpu", [&setup, idle](Round& round) { measure_device_wake_up(round, setup, idle, false); });
    add("eventfd", [idle](Round& round) { measure_bare_wake_up(round, idle, Wake::kEventfd); });
    add("futex", [idle](Round& round) { measure_bare_wake_up(round, idle, Wake::kFutex); });
    // As a program sees it: it may fall asleep itself before the device has woken.
    add("vgpu_synchronize",
        [&setup, idle](Round& round) { measure_device_wake_up(round, setup, idle, true); });
  }
}

// ---- the client sleeps ----

constexpr std::size_t kWorkBytes = 8 << 20;  // the device needs far longer to fill them than a client spins
constexpr uint64_t kPeerWorkNs = 500'000;    // as long
constexpr uint64_t kRecalibrateNs = 20'000'000;  // elapsed times are single-precision milliseconds

// The device's times on this process's clock. The device stamps events by the machine's monotonic clock, but
// tells differences only: an event whose record this process sees within a few hundred nanoseconds is the
// origin.
class DeviceTime {
 public:
  explicit DeviceTime(const Cuda& cuda) : cuda_(cuda) { calibrate(); }

  void calibrate() {
    window_ = ~uint64_t{0};
    for (unsigned i = 0; i < 64; ++i) {
      window_ = std::min(window_, record_origin());
    }
    while (record_origin() > window_ + window_ / 4) {
    }
    calibrated_ns_ = ring::monotonic_ns();
  }
  void calibrate_now_and_then() {
    if (ring::monotonic_ns() - calibrated_ns_ > kRecalibrateNs) {
      calibrate();
    }
  }
  // When the device reached the event.
  double ns_of(const Event& event) const {
    float milliseconds = 0;
    check(cuEventElapsedTime(&milliseconds, origin_.get(), event.get()), "cuEventElapsedTime");
    return origin_ns_ + static_cast<double>(milliseconds) * 1e6;
  }
  // ns_of is right within half of this.
  double window_ns() const { return static_cast<double>(window_); }

 private:
  uint64_t record_origin() {
    const uint64_t before = ring::monotonic_ns();
    check(cuEventRecord(origin_.get(), cuda_.stream()), "cuEventRecord");
    check(cuEventSynchronize(origin_.get()), "cuEventSynchronize");
    const uint64_t after = ring::monotonic_ns();
    origin_ns_ = static_cast<double>(before) + static_cast<double>(after - before) / 2;
    return after - before;
  }

  const Cuda& cuda_;
  Event origin_;
  double origin_ns_ = 0;
  uint64_t window_ = 0;
  uint64_t calibrated_ns_ = 0;
};

// From the moment the device is done until the client's call has returned.
void measure_client_wake_up(Round& round, Setup& setup, bool asleep) {
  Cuda& cuda = setup.cuda();
  const Pinned core(Setup::cores().first);
  const DeviceBuffer memory(kWorkBytes);
  const Event done;
  DeviceTime time(cuda);
  const Deadline deadline(2 * round.budget_ns());
  for (unsigned i = 0; i < kFewest || !deadline.over(); ++i) {
    time.calibrate_now_and_then();
    check(cuMemsetD8Async(memory.address(), 1, kWorkBytes, cuda.stream()), "cuMemsetD8Async");
    check(cuEventRecord(done.get(), cuda.stream()), "cuEventRecord");
    if (asleep) {
      check(cuEventSynchronize(done.get()), "cuEventSynchronize");
    } else {
      CUresult result = CUDA_ERROR_NOT_READY;
      while ((result = cuEventQuery(done.get())) == CUDA_ERROR_NOT_READY) {
      }
      check(result, "cuEventQuery");
    }
    const double returned = static_cast<double>(ring::monotonic_ns());
    round.latencies().record_ps(static_cast<uint64_t>(std::max(returned - time.ns_of(done), 0.0) * 1000));
  }
  round.note("clock_window_ns", time.window_ns());
}

struct WakeBoard {
  alignas(128) std::atomic<uint64_t> asked;
  alignas(128) std::atomic<uint64_t> posted_ns;
};

int work_and_post(WakeBoard& board, const Eventfd& eventfd) {
  pin_this_thread(Setup::cores().second);
  for (uint64_t seen = 0;;) {
    const uint64_t asked = board.asked.load(std::memory_order_acquire);
    if (asked == ~uint64_t{0}) {
      return 0;
    }
    if (asked != seen) {
      seen = asked;
      spin_for(kPeerWorkNs);
      board.posted_ns.store(ring::monotonic_ns(), std::memory_order_release);
      eventfd.post();
    }
  }
}

void measure_bare_client_wake_up(Round& round) {
  const SharedMemory memory(4096);
  WakeBoard& board = *memory.at<WakeBoard>();
  const Eventfd eventfd;
  Child peer = Child::start("the waker", [&] { return work_and_post(board, eventfd); });
  const Pinned core(Setup::cores().first);
  const Deadline deadline(2 * round.budget_ns());
  for (unsigned i = 0; i < kFewest || !deadline.over(); ++i) {
    board.asked.fetch_add(1, std::memory_order_release);
    eventfd.wait();
    const uint64_t returned = ring::monotonic_ns();
    round.latencies().record(returned - board.posted_ns.load(std::memory_order_acquire));
  }
  board.asked.store(~uint64_t{0}, std::memory_order_release);
  peer.join();
}

void add_client_wake_up(Suite& suite, Setup& setup) {
  suite.add({.name = "client_wake_up", .variant = "vgpu"},
            [&setup](Round& round) { measure_client_wake_up(round, setup, true); });
  suite.add({.name = "client_wake_up", .variant = "eventfd"}, measure_bare_client_wake_up);
  // How much of it is not waking: the client looks all the time.
  suite.add({.name = "client_wake_up", .variant = "vgpu_spinning"},
            [&setup](Round& round) { measure_client_wake_up(round, setup, false); });
}

// ---- nothing happens ----

// CPU time of the device's processes and of a client with an open session.
void measure_idle(Round& round, Setup& setup) {
  if (round.number() > 0) {
    round.sit_out();  // once a run: it takes its seconds whatever the budget is
    return;
  }
  const Clients client(setup.shared_device().path(), Work::kIdle, 1);
  const std::vector<pid_t> device = setup.shared_device().processes();
  const std::vector<std::pair<const char*, pid_t>> processes{
      {"supervisor_ms", device.at(0)}, {"worker_ms", device.at(1)}, {"client_ms", client.processes().at(0)}};
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));  // until both sides have gone to rest
  std::vector<uint64_t> before;
  for (const auto& [name, process] : processes) {
    before.push_back(cpu_time_ns(process));
  }
  std::this_thread::sleep_for(std::chrono::seconds(setup.idle_seconds));
  double sum = 0;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const double used = static_cast<double>(cpu_time_ns(processes[i].second) - before[i]) / 1e6;
    round.note(processes[i].first, used);
    sum += used;
  }
  round.record(sum);
}

}  // namespace

void add_waiting(Suite& suite, Setup& setup) {
  add_device_wake_up(suite, setup);
  add_client_wake_up(suite, setup);
  suite.add({.name = "idle_cpu",
             .variant = "vgpu",
             .parameters = {{"seconds", setup.idle_seconds}},
             .kind = Kind::kAmount,
             .unit = "ms"},
            [&setup](Round& round) { measure_idle(round, setup); });
}

}  // namespace vgpu::bench
