// Takes from the worker's process what serving a guest does not need, since the guest may take the worker
// over: new privileges, other processes, the network, and files but the ones named. Call from the worker's
// only thread, in the order below. Linux keeps all of it until the process ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/error.h"

namespace vgpu::device {

struct SandboxOptions {
  std::vector<std::string> writable;  // files, and directories with all below them
};

// Right after fork(), before anything is opened: own network namespace where the system lets us, no core
// files, few descriptors, death with the parent `parent_pid`, no new privileges. Never fails hard but for the
// last two.
Result<void> drop_privileges(int parent_pid);

// Closes every descriptor above 2 but those in `keep`; standard input becomes /dev/null, standard output
// the standard error unless `keep_output`, so that nothing is mixed into a program's output.
void close_descriptors(std::vector<int> keep, bool keep_output) noexcept;

// Landlock: only `writable` can be written, and only it and the system's libraries and processor descriptions
// can be read. Threads started later inherit it. Kernels without Landlock: false, and nothing has changed.
Result<bool> confine_files(const SandboxOptions& options);

// Seccomp: an allow-list for the whole process, threads that run already included. Everything else fails with
// EPERM. What a JIT compiler, threads, timers, memory and files need is there; sockets, exec, ptrace, mounts,
// signals to others and new processes are not.
Result<void> confine_system_calls();

}  // namespace vgpu::device
