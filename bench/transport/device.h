// A vgpu-device of the benchmark's own, on a region nobody else uses.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::bench {

struct DeviceOptions {
  std::string program;  // vgpu-device
  std::string backend = "null";
  std::vector<std::string> arguments;  // more of its flags
};

// Serves as long as the object lives; dies with this process. One thread.
class Device {
 public:
  // Returns when it serves. Throws std::runtime_error with what it said when it does not come up.
  explicit Device(const DeviceOptions& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& path() const noexcept { return path_; }  // of the region: VGPU_DEVICE
  // The supervisor and its worker.
  std::vector<pid_t> processes() const;
  // All threads of the worker onto one processor, or, with -1, onto all that this process may use. False
  // where the kernel refused.
  bool pin_worker(int processor) const;

 private:
  pid_t worker() const;
  void stop() noexcept;

  std::string path_;
  int said_ = -1;  // what it writes to standard error: a file in memory
  pid_t supervisor_ = -1;
};

// CPU time that the process used so far, all its threads, in nanoseconds. Throws std::system_error.
uint64_t cpu_time_ns(pid_t process);

}  // namespace vgpu::bench
