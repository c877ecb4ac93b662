// A block: its warps take turns; barriers count threads.
#include "device/software/oracle/machine.h"

namespace vgpu::software::oracle {

Block::Block(Machine& machine_of_block, Dim3 index_in_grid)
    : machine(machine_of_block), index(index_in_grid), shared(machine.shared_bytes) {
  const auto threads = static_cast<std::uint32_t>(machine.config.block.count());
  live_threads = threads;
  for (std::uint32_t warp = 0; warp * kWarpLanes < threads; ++warp) {
    warps.push_back(std::make_unique<Warp>(*this, warp));
  }
}

bool Block::run(std::uint64_t budget, bool& progress) {
  for (const auto& warp : warps) {
    std::uint64_t ran = 0;
    if (machine.result.outcome != Outcome::kDone || !warp->run(budget, ran)) {
      machine.result.block = index;
      return false;
    }
    progress = progress || ran != 0;
  }
  return true;
}

void Block::thread_exited() {
  --live_threads;
  complete_barriers();
}

// A barrier is full when the threads it was told arrived, or all that have not exited.
void Block::complete_barriers() {
  for (Barrier& barrier : barriers) {
    if (barrier.arrived == 0) continue;
    const bool is_full = barrier.expected != 0 ? barrier.arrived + barrier.absent >= barrier.expected
                                               : barrier.arrived >= live_threads;
    if (!is_full) continue;
    const Barrier full = std::move(barrier);
    barrier = Barrier{};
    for (const auto& [warp, lane] : full.waiting) warp->release(lane, full);
  }
}

}  // namespace vgpu::software::oracle
