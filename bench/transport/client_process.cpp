// The clients' own life, and how they are told to begin and to end.
#include "bench/transport/client_process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "bench/transport/cases.h"
#include "bench/transport/empty_kernel.h"
#include "bench/transport/measure.h"

namespace vgpu::bench {
namespace {

constexpr std::size_t kCopyBytes = 1 << 20;
constexpr unsigned kLaunchesAWait = 256;
constexpr auto kStartTime = std::chrono::seconds(20);

// A stream for one thread's work.
class Stream {
 public:
  Stream() { check(cuStreamCreate(&stream_, 1), "cuStreamCreate"); }
  ~Stream() { cuStreamDestroy_v2(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  CUstream get() const noexcept { return stream_; }
  void synchronize() const { check(cuStreamSynchronize(stream_), "cuStreamSynchronize"); }

 private:
  CUstream stream_ = nullptr;
};

// Runs step() between the signals; `units` it does each time.
template <typename Step>
double repeat(const WorkSignals& signals, double units, Step&& step) {
  for (unsigned i = 0; i < 8; ++i) {
    step();
  }
  signals.ready.fetch_add(1);
  while (signals.go.load() == 0) {
    ::sched_yield();
  }
  const Clock& clock = Clock::get();
  uint64_t steps = 0;
  const uint64_t start = clock.begin();
  do {
    step();
    ++steps;
  } while (signals.stop.load(std::memory_order_relaxed) == 0);
  return static_cast<double>(steps) * units * 1e12 / static_cast<double>(clock.to_ps(clock.end() - start));
}

}  // namespace

const char* work_name(Work work) noexcept {
  switch (work) {
    case Work::kLaunch:
      return "launch";
    case Work::kCopy:
      return "pageable_to_device";
    case Work::kIdle:
      break;
  }
  return "idle";
}

double work_until_stopped(const Cuda& cuda, Work work, const WorkSignals& signals) {
  cuda.enter_thread();
  const Stream stream;
  if (work == Work::kLaunch) {
    EmptyKernel kernel(8);
    return repeat(signals, kLaunchesAWait, [&] {
      for (unsigned i = 0; i < kLaunchesAWait; ++i) {
        kernel.launch(stream.get());
      }
      stream.synchronize();
    });
  }
  if (work == Work::kCopy) {
    const std::vector<std::byte> source(kCopyBytes, std::byte{1});
    const DeviceBuffer memory(kCopyBytes);
    return repeat(signals, kCopyBytes, [&] {
      check(cuMemcpyHtoDAsync_v2(memory.address(), source.data(), kCopyBytes, stream.get()),
            "cuMemcpyHtoDAsync");
      stream.synchronize();
    });
  }
  stream.synchronize();
  signals.ready.fetch_add(1);
  while (signals.stop.load() == 0) {
    ::pause();
  }
  return 0;
}

// What the processes share.
struct Clients::Board {
  std::atomic<uint32_t> ready;
  std::atomic<uint32_t> go;
  std::atomic<uint32_t> stop;
  struct alignas(128) Slot {
    double rate;
    std::atomic<uint32_t> done;
  };
  std::array<Slot, kMostClients> slots;

  WorkSignals signals() { return {ready, go, stop}; }
};

Clients::Board* Clients::map_board(int file) {
  void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    throw std::system_error(errno, std::generic_category(), "mapping the clients' board");
  }
  return static_cast<Board*>(memory);
}

int client_main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("transport_bench client WORK FILE NUMBER: started by transport_bench itself\n", stderr);
    return 2;
  }
  Clients::Board* board = Clients::map_board(std::atoi(argv[1]));
  Clients::Board::Slot& slot = board->slots.at(static_cast<std::size_t>(std::atoi(argv[2])));
  const Cuda cuda;
  slot.rate = work_until_stopped(cuda, static_cast<Work>(std::atoi(argv[0])), board->signals());
  slot.done.store(1);
  return 0;
}

Clients::Clients(const std::string& region, Work work, unsigned count)
    // Not closed by exec: the clients take it over.
    : file_(::memfd_create("clients", 0)) {
  if (file_ < 0 || ::ftruncate(file_, sizeof(Board)) != 0) {
    throw std::system_error(errno, std::generic_category(), "making the clients' board");
  }
  board_ = map_board(file_);
  for (unsigned i = 0; i < count; ++i) {
    const std::array words{std::string("transport_bench"), std::string("client"),
                           std::to_string(static_cast<int>(work)), std::to_string(file_), std::to_string(i)};
    children_.push_back(Child::start("client", [&] {
      std::vector<char*> arguments;
      for (const std::string& word : words) {
        arguments.push_back(const_cast<char*>(word.c_str()));
      }
      arguments.push_back(nullptr);
      ::setenv("VGPU_DEVICE", region.c_str(), 1);
      ::execv("/proc/self/exe", arguments.data());
      std::perror("client");
      return 1;
    }));
  }
  const auto limit = std::chrono::steady_clock::now() + kStartTime;
  while (board_->ready.load() != count) {
    if (std::chrono::steady_clock::now() > limit) {
      throw std::runtime_error("the clients do not come up");
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

Clients::~Clients() {
  children_.clear();  // those that still run are killed
  ::munmap(board_, sizeof(Board));
  ::close(file_);
}

std::vector<pid_t> Clients::processes() const {
  std::vector<pid_t> result;
  for (const Child& child : children_) {
    result.push_back(child.pid());
  }
  return result;
}

ClientRates Clients::run(uint64_t budget_ns) {
  board_->go.store(1);
  std::this_thread::sleep_for(std::chrono::nanoseconds(budget_ns));
  board_->stop.store(1);
  ClientRates rates;
  for (std::size_t i = 0; i < children_.size(); ++i) {
    if (!children_[i].join() || board_->slots[i].done.load() == 0) {
      throw std::runtime_error("a client failed");
    }
    rates.push_back(board_->slots[i].rate);
  }
  return rates;
}

}  // namespace vgpu::bench
