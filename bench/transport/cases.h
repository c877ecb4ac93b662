// The cases of transport_bench, by what they look at, and what they share: a device whose cost is the
// transport alone, and a CUDA context of this process on it. Names, variants and parameters are those of the
// result file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bench/harness/placement.h"
#include "bench/harness/suite.h"
#include "bench/transport/cuda.h"
#include "bench/transport/device.h"

namespace vgpu::bench {

// Made when a case first asks, so that listing the cases starts nothing. One thread.
class Setup {
 public:
  std::string device_program;  // these two: set before the cases are added
  int64_t idle_seconds = 10;

  // This process's device, with room for pinned memory of any size that is copied here, and the context on
  // it. The worker's threads are held on cores().second; whoever measures holds itself on cores().first.
  Cuda& cuda();
  const std::string& region() const { return device_->path(); }
  // Lets that worker run on any processor, and holds it again.
  void free_worker();
  void hold_worker();
  // A device with the options that users get, for clients in processes of their own.
  Device& shared_device();
  // The nearest two cores of this machine. Throws where there is one only.
  static CorePair cores();

 private:
  std::optional<Device> device_;
  std::optional<Device> shared_device_;
  std::optional<Cuda> cuda_;
};

// ring_submit, launch_submit, launch_sustained, synchronous_call, event, memory, memset, copy_submit.
void add_calls(Suite& suite, Setup& setup);
// What these are compared with, each before the cases that it is for, since the machine may change its pace
// at any moment (a virtual machine's cores move): the ring_submit cases, and synchronous_call's
// bare_cache_line variant.
void add_ring_submit(Suite& suite);
void add_bare_cache_line(Suite& suite);
// copy: memcpy, memcpy_huge_pages, pageable_to_device, pageable_to_host, pinned_to_device, pinned_to_host.
void add_copies(Suite& suite, Setup& setup);
// device_wake_up, client_wake_up, idle_cpu.
void add_waiting(Suite& suite, Setup& setup);
// processes, threads.
void add_clients(Suite& suite, Setup& setup);

// What a process that was started as a client does; see clients.cpp. Returns its exit status.
int client_main(int argc, char** argv);

}  // namespace vgpu::bench
