// What ties a guest that is a VM to its worker: the eventfds of its doorbells, the ivshmem server, and the
// knowledge whether a VM is there at all. When it is gone (its QEMU hung up, or nobody else has the region's
// file open any more) the worker is replaced, so that what the VM held is free at once. For the supervisor's
// only thread.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/error.h"
#include "device/server/ivshmem_server.h"
#include "device/server/worker_keeper.h"
#include "pci/bar.h"
#include "ring/region.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

// Whether an open file of the region's other than the device's own exists: a QEMU that was given the region
// keeps one as long as it has it mapped, and so does everybody else who opened it, if only to read.
enum class Others : uint32_t { kNone, kSome, kUnknown };
// `bar`: adopted, with all other descriptors of the device's duplicates of its own. Any process of the file's
// user. An open() elsewhere waits for the moment this takes (or fails with EAGAIN if it may not wait).
Others look_for_others(const pci::Bar& bar) noexcept;

class VmLink {
 public:
  // The region's lock must be held: the socket is taken over.
  static Result<std::unique_ptr<VmLink>> create(const std::string& name, const std::string& socket_path,
                                                std::optional<gid_t> group,
                                                const ring::RegionGeometry& geometry);

  // What the worker is to inherit; one a channel.
  std::vector<int> doorbells() const;

  void add_polls(std::vector<pollfd>& polls, uint64_t now) const { server_->add_polls(polls, now); }
  // Looks after the VM and, when it is gone, its worker. After every poll(), and at the latest at the
  // monotonic time it returns.
  uint64_t look_after(WorkerKeeper& worker, uint64_t now);

 private:
  enum class State : uint32_t {
    kAlone,      // nobody has the region
    kMapped,     // somebody has it mapped, by its file or since before this device started
    kConnected,  // a QEMU is connected to the server
    kLeaving,    // the VM is gone; its worker and its last mappings are going
  };

  VmLink(std::string name, const ring::RegionGeometry& geometry, std::vector<ring::UniqueFd> doorbells,
         std::unique_ptr<IvshmemServer> server)
      : name_(std::move(name)),
        geometry_(geometry),
        doorbells_(std::move(doorbells)),
        server_(std::move(server)) {}
  void look_alone(WorkerKeeper& worker, uint64_t now);
  void gone(WorkerKeeper& worker, uint64_t now, const std::string& reason);
  void finish_leaving(WorkerKeeper& worker, uint64_t now);
  void discard(const WorkerKeeper& worker);
  void answer_waiting(WorkerKeeper& worker, uint64_t now);
  void admit(WorkerKeeper& worker);
  void tell_worker(WorkerKeeper& worker, bool connected) noexcept;

  std::string name_;
  ring::RegionGeometry geometry_;
  std::vector<ring::UniqueFd> doorbells_;
  std::unique_ptr<IvshmemServer> server_;
  State state_ = State::kAlone;
  uint64_t look_at_ns_ = 0;  // for others
  bool said_unknown_ = false;
  bool replacing_ = false;    // while leaving: its worker, too
  uint64_t leave_by_ns_ = 0;  // then the worker starts whether or not the region is free
};

}  // namespace vgpu::device
