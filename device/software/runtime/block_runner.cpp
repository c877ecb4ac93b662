// See block_runner.h.
#include "device/software/runtime/block_runner.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <xmmintrin.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <utility>

#include "device/software/runtime/device_printf.h"
#include "device/software/runtime/fault_guard.h"

namespace vgpu::software {
namespace {

// Shared memory: one slot for each number of pages, mapped exactly that far, since compiled code relies on
// the pages behind a block's shared memory, and those before it, to fault. Slots instead of changed
// protections: two kernels in turn would pay for a change at every launch.
constexpr uint64_t kSharedSlots = kMaxSharedBytes / kPageBytes + 1;
constexpr uint64_t kSharedSlotStride = 128 * 1024;
constexpr uint64_t shared_slot(uint64_t base, uint64_t pages) {
  return base + pages * kSharedSlotStride + kSharedSlotStride / 2;
}
static_assert(kSharedSlotStride / 2 >= kMaxSharedBytes + kPageBytes);
static_assert(kSharedSlotStride >= kMaxSharedBytes + kSharedGuardBytes);
static_assert(kSharedDistance >= (kSharedSlots - 1) * kSharedSlotStride + kSharedSlotStride / 2 +
                                     kMaxSharedBytes + kSharedGuardBytes);
static_assert(kSharedDistance >= kSharedSlots * kSharedSlotStride);

constexpr uint32_t kDefaultMxcsr = 0x1F80;

uint32_t lowest(uint32_t warps) {
  return static_cast<uint32_t>(std::countr_zero(warps));
}

// The host's floating point modes, also when a kernel is left by a jump.
class FloatModes {
 public:
  explicit FloatModes(uint32_t kernel) : host_(_mm_getcsr()) { _mm_setcsr(kernel); }
  ~FloatModes() { _mm_setcsr(host_); }
  FloatModes(const FloatModes&) = delete;
  FloatModes& operator=(const FloatModes&) = delete;

 private:
  uint32_t host_;
};

}  // namespace

// ---- what compiled code calls ----

struct BlockRunner::Hooks {
  static BlockRunner& runner(BlockState* state) { return *static_cast<BlockRunner*>(state->runtime); }

  static WarpFrame* grow_frames(BlockState* state, uint32_t warp, uint32_t bytes) {
    BlockRunner& self = runner(state);
    if (!self.frames_.reserve(bytes)) self.fail(Failure::kNoFrames, warp, 0);
    return self.frames_[warp];
  }

  static void trap(BlockState* state, uint32_t warp, TrapReason reason, uint32_t line) {
    switch (reason) {
      case TrapReason::kTrapInstruction:
        runner(state).fail(Failure::kTrap, warp, line);
      case TrapReason::kCancelled:
        runner(state).fail(Failure::kCancelled, warp, line);
      case TrapReason::kUnsupportedCall:
        runner(state).fail(Failure::kUnsupportedCall, warp, line);
      case TrapReason::kNoCode:
        runner(state).fail(Failure::kNoCode, warp, line);
    }
    runner(state).fail(Failure::kTrap, warp, line);
  }

  static int32_t print(BlockState* state, uint64_t format, uint64_t arguments) {
    BlockRunner& self = runner(state);
    int32_t count = -1;
    bool readable = true;
    {
      const FloatModes modes(kDefaultMxcsr);
      readable = print_from_device(format, arguments, self.plan_->print, count);
    }
    if (!readable) self.fail(Failure::kBadPrint, self.current_, 0);
    return count;
  }

  static constexpr RuntimeHooks kTable{.grow_frames = grow_frames, .trap = trap, .vprintf = print};
};

// ---- preparing ----

Result<void> BlockRunner::prepare(const LaunchPlan& plan) {
  if (shared_.bytes() == 0) {
    auto range = WindowRange::take(window_, kMostAtATime * kSharedDistance);
    if (!range) return std::unexpected(range.error());
    for (uint64_t block = 0; block < kMostAtATime; ++block) {
      const uint64_t slots = range->address() + block * kSharedDistance;
      for (uint64_t pages = 1; pages < kSharedSlots; ++pages) {
        const auto committed = window_.commit(shared_slot(slots, pages), pages * kPageBytes);
        if (!committed) return committed;
      }
    }
    shared_ = std::move(*range);
  }
  const uint64_t local_bytes = uint64_t{plan.local_stride} * plan.warps() * kWarpSize;
  if (local_bytes > local_committed_) {
    local_ = WindowRange();
    local_committed_ = 0;
    auto range = WindowRange::take(window_, local_bytes + kPageBytes);  // the last page stays unmapped
    if (!range) return std::unexpected(range.error());
    if (const auto committed = window_.commit(range->address(), local_bytes); !committed) return committed;
    local_ = std::move(*range);
    local_committed_ = round_up(local_bytes, kPageBytes);
  }
  if (owner_ != plan.context_id) {
    ::madvise(reinterpret_cast<void*>(shared_.address()), shared_.bytes(), MADV_DONTNEED);
    if (local_committed_ != 0) {
      ::madvise(reinterpret_cast<void*>(local_.address()), local_committed_, MADV_DONTNEED);
    }
    owner_ = plan.context_id;
  }
  const uint32_t frame_bytes = plan.codes->frame_bytes();
  may_wait_ = frame_bytes != 0;
  if (const auto reserved = frames_.reserve(frame_bytes); !reserved) return reserved;
  plan_ = &plan;
  state_ = plan.prototype;
  state_.hooks = &Hooks::kTable;
  state_.shared_base = shared_slot(shared_.address(), round_up(plan.shared_bytes, kPageBytes) / kPageBytes);
  state_.shared_bytes = plan.shared_bytes;
  state_.local_base = local_.address();
  state_.local_stride = plan.local_stride;
  state_.runtime = this;
  failure_ = Failure::kNone;
  return {};
}

// ---- running ----

Result<void> BlockRunner::run(uint64_t first, uint64_t last) {
  if (first >= last) return {};
  const KernelCodes& codes = *plan_->codes;
  const uint32_t chosen = plan_->kind->chosen();
  return chosen < codes.count() ? run_by(codes.code(chosen), first, last) : run_measured(first, last);
}

// A part by each code, in turn the first: what the others find in the caches should not decide. Few long
// blocks are not parted: then the codes take turns from run to run.
Result<void> BlockRunner::run_measured(uint64_t first, uint64_t last) {
  const uint32_t count = plan_->codes->count();
  const uint64_t part = (last - first) / count / kMostAtATime * kMostAtATime;
  ++turn_;
  if (part == 0) return run_and_measure(turn_ % count, first, last);
  for (uint32_t i = 0; i < count; ++i) {
    if (const auto ran = run_and_measure((turn_ + i) % count, first, first + part); !ran) return ran;
    first += part;
  }
  return first == last ? Result<void>() : run_by(plan_->codes->one(), first, last);
}

Result<void> BlockRunner::run_and_measure(uint32_t index, uint64_t first, uint64_t last) {
  using Clock = std::chrono::steady_clock;
  const KernelCodes& codes = *plan_->codes;
  const jit::CompiledKernel& code = codes.code(index);
  const auto start = Clock::now();
  if (const auto ran = run_by(code, first, last); !ran) return ran;
  // Fewer blocks were run by the code for one.
  if (last - first < code.blocks_at_a_time) return {};
  const auto taken = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
  plan_->kind->measured(codes.count(), index, last - first, static_cast<uint64_t>(taken.count()));
  return {};
}

Result<void> BlockRunner::run_by(const jit::CompiledKernel& code, uint64_t first, uint64_t last) {
  code_ = &code;
  const uint64_t columns = state_.nctaid[0];
  const uint64_t rows = state_.nctaid[1];
  state_.ctaid[0] = static_cast<uint32_t>(first % columns);
  state_.ctaid[1] = static_cast<uint32_t>(first / columns % rows);
  state_.ctaid[2] = static_cast<uint32_t>(first / columns / rows);
  block_ = first;
  last_ = last;
  Fault fault;
  GuardOutcome outcome = GuardOutcome::kDone;
  {
    const FloatModes modes(plan_->mxcsr);
    outcome = run_guarded(GuardRange{.kernel = true}, [this] { run_blocks(); }, &fault);
  }
  if (state_.masked_warps != 0) plan_->codes->add_masked_warps(std::exchange(state_.masked_warps, 0));
  if (outcome == GuardOutcome::kDone) return {};
  switch (outcome) {
    case GuardOutcome::kFault:
      return std::unexpected(
          Error{Status::kIllegalAddress, fmt::format("{}: illegal address {}", where(),
                                                     fault.address >= kDeviceWindowBase + kDeviceWindowBytes
                                                         ? std::string("outside the device window")
                                                         : fmt::format("{:#x}", fault.address))});
    case GuardOutcome::kStackOverflow:
      return std::unexpected(
          Error{Status::kLaunchFailed, fmt::format("{}: the warp's stack overflowed", where())});
    case GuardOutcome::kIllegalInstruction:
      return std::unexpected(
          Error{Status::kIllegalInstruction, fmt::format("{}: illegal instruction", where())});
    default:
      return std::unexpected(explain());
  }
}

void BlockRunner::run_blocks() {
  do {
    start_block();
    if (may_wait_) {
      run_meeting_warps();
    } else {
      for (uint32_t warp = 0; warp < warps_; ++warp) {
        current_ = warp;
        entry_(&state_, warp, nullptr);
      }
    }
  } while (next_block());
}

void BlockRunner::start_block() {
  const uint64_t side_by_side = std::min<uint64_t>(last_ - block_, state_.nctaid[0] - state_.ctaid[0]);
  const bool enough = side_by_side >= code_->blocks_at_a_time;
  at_a_time_ = enough ? code_->blocks_at_a_time : 1;
  entry_ = enough ? code_->entry : plan_->codes->one().entry;
  warps_ = plan_->warps() / (enough ? code_->warps_at_a_time : 1);
  if (plan_->stop->load(std::memory_order_relaxed) != kRunning) fail(Failure::kCancelled, 0, 0);
}

// False: it was the last.
bool BlockRunner::next_block() {
  block_ += at_a_time_;
  if (block_ == last_) return false;
  state_.ctaid[0] += at_a_time_;
  if (state_.ctaid[0] == state_.nctaid[0]) {
    state_.ctaid[0] = 0;
    if (++state_.ctaid[1] == state_.nctaid[1]) {
      state_.ctaid[1] = 0;
      ++state_.ctaid[2];
    }
  }
  return true;
}

// In rounds: whoever may go on does so once, in turn. So warps that let each other go again and again keep
// nobody waiting.
void BlockRunner::run_meeting_warps() {
  barriers_.start(warps_);
  for (uint32_t warp = 0; warp < warps_; ++warp) {
    frames_[warp]->code = entry_;
    frames_[warp]->point = 0;
  }
  alive_ = ready_ = ~uint32_t{0} >> (kMaxWarpsPerBlock - warps_);
  while (alive_ != 0) {
    if (ready_ == 0) fail(Failure::kDeadlock, 0, 0);
    run_round(std::exchange(ready_, 0));
  }
}

[[gnu::always_inline]] inline void BlockRunner::run_round(uint32_t warps) {
  uint32_t left = warps == alive_ && barriers_.empty() ? run_while_alike(warps) : warps;
  for (; left != 0; left &= left - 1) stopped(lowest(left), run_warp(lowest(left)));
}

// All warps that there are, as a rule, come to the same barrier, or end: nothing has to be counted then.
// Gives back those that have not run yet when one does not as the others did.
[[gnu::always_inline]] inline uint32_t BlockRunner::run_while_alike(uint32_t warps) {
  const uint32_t stop = run_warp(lowest(warps));
  uint32_t left = warps & (warps - 1);
  uint32_t other = stop;
  while (left != 0 && (other = run_warp(lowest(left))) == stop) left &= left - 1;
  if (left == 0 && stop == kWarpEnded) {
    alive_ = 0;
    return 0;
  }
  if (left == 0 && stop < kWarpAtBarrier) {
    ready_ = warps;
    return 0;
  }
  for (uint32_t alike = warps & ~left; alike != 0; alike &= alike - 1) stopped(lowest(alike), stop);
  if (left == 0) return 0;
  stopped(lowest(left), other);
  return left & (left - 1);
}

[[gnu::always_inline]] inline uint32_t BlockRunner::run_warp(uint32_t warp) {
  current_ = warp;
  WarpFrame* frame = frames_[warp];
  return frame->code(&state_, warp, frame);
}

void BlockRunner::stopped(uint32_t warp, uint32_t stop) {
  if (stop == kWarpEnded) {
    alive_ &= ~(uint32_t{1} << warp);
    barriers_.exit([this](const Barriers::Completion& completion) { release(completion); });
    return;
  }
  const WarpFrame& frame = *frames_[warp];
  const bool is_sync = stop < kWarpAtBarrier;
  const auto kind = is_sync ? BarrierKind::kSync : frame.kind;
  const auto completion =
      is_sync ? barriers_.arrive(warp, stop - kWarpAtSync, 0, kind, 0, 0)
              : barriers_.arrive(warp, frame.id, frame.threads, kind, frame.predicate, frame.active);
  if (kind == BarrierKind::kArrive) ready_ |= uint32_t{1} << warp;
  if (completion.complete) release(completion);
}

void BlockRunner::release(const Barriers::Completion& completion) {
  ready_ |= completion.released;
  if (!completion.reduces) return;
  for (uint32_t left = completion.released; left != 0; left &= left - 1) {
    frames_[lowest(left)]->result = completion.result;
  }
}

// ---- failing ----

void BlockRunner::fail(Failure failure, uint32_t warp, uint32_t line) {
  failure_ = failure;
  failure_warp_ = warp;
  failure_line_ = line;
  abandon_guarded();
}

std::string BlockRunner::where() const {
  const auto& [x, y, z] = state_.ctaid;
  return at_a_time_ == 1
             ? fmt::format("kernel {} block ({}, {}, {})", plan_->kernel, x, y, z)
             : fmt::format("kernel {} block ({} to {}, {}, {})", plan_->kernel, x, x + at_a_time_ - 1, y, z);
}

Error BlockRunner::explain() const {
  const uint32_t together = plan_->warps() / warps_;
  const uint32_t warp = failure_warp_ * together;
  std::string at = together == 1 ? fmt::format("{} warp {}", where(), warp)
                                 : fmt::format("{} warps {} to {}", where(), warp, warp + together - 1);
  if (failure_line_ != 0) at += fmt::format(" PTX line {}", failure_line_);
  switch (failure_) {
    case Failure::kTrap:
      return {Status::kLaunchFailed, at + ": trap"};
    case Failure::kCancelled:
      return {Status::kDeviceUnavailable, at + ": cancelled"};
    case Failure::kUnsupportedCall:
      return {Status::kInvalidPc, at + ": call of an undefined function or through an unknown address"};
    case Failure::kNoCode:
      return {Status::kLaunchOutOfResources, at + ": its generic copy could not be compiled"};
    case Failure::kNoFrames:
      return {Status::kLaunchOutOfResources, at + ": no memory for what its warps keep at barriers"};
    case Failure::kBadPrint:
      return {Status::kIllegalAddress, at + ": printf was given an illegal address"};
    case Failure::kDeadlock: {
      std::string waiting;
      for (uint32_t id = 0; id < kBarriers; ++id) {
        if (barriers_.waiting(id) != 0) {
          waiting += fmt::format(" barrier {} has warps {:#x} waiting", id, barriers_.waiting(id));
        }
      }
      return {Status::kLaunchFailed, where() + ": no warp can go on:" + waiting};
    }
    case Failure::kNone:
      break;
  }
  return {Status::kLaunchFailed, at};
}

}  // namespace vgpu::software
