// A client of the device in a process of its own: this program started anew, since a process that was forked
// off one that uses CUDA may not use it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/harness/child.h"

namespace vgpu::bench {

inline constexpr unsigned kMostClients = 8;

// What a client does from the start signal until it is told to stop.
enum class Work : int {
  kLaunch,  // 8-parameter launches, a wait after each 256
  kCopy,    // pageable memory to the device, 1 MiB each
  kIdle,    // nothing: it has its session and a stream, and sleeps
};
const char* work_name(Work work) noexcept;

// Calls or bytes a second that one client reached.
using ClientRates = std::vector<double>;

// Clients that have opened their sessions and are waiting for the signal. One thread.
class Clients {
 public:
  // `region`: of the device. Returns when all are ready. Throws std::runtime_error when one does not get
  // there.
  Clients(const std::string& region, Work work, unsigned count);
  ~Clients();
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  std::vector<pid_t> processes() const;
  // Lets them work for that long, and tells what each reached. Once.
  ClientRates run(uint64_t budget_ns);

 private:
  struct Board;
  static Board* map_board(int file);
  friend int client_main(int argc, char** argv);

  int file_ = -1;
  Board* board_ = nullptr;
  std::vector<Child> children_;
};

// The same work, by the calling thread on its own stream, until `stop` is set. Returns units (calls or bytes)
// a second. `ready` is raised once everything is warm; work begins when `go` is set.
struct WorkSignals {
  std::atomic<uint32_t>& ready;
  std::atomic<uint32_t>& go;
  std::atomic<uint32_t>& stop;
};
class Cuda;
double work_until_stopped(const Cuda& cuda, Work work, const WorkSignals& signals);

}  // namespace vgpu::bench
