// See hand_kernels.h.
#include "tests/device/software/runtime/hand_kernels.h"

#include <array>
#include <utility>

namespace vgpu::software::testing {
namespace {

// ---- the kernels of conformance_kernels.h ----

void add_one(BlockState* state, uint32_t warp) {
  const auto p = parameter<uint64_t>(state, 0);
  const auto n = parameter<uint32_t>(state, 8);
  for_lanes(state, warp, [&](uint32_t thread) {
    const uint32_t i = state->ctaid[0] * state->ntid[0] + thread;
    if (i < n) device<float>(p + uint64_t{i} * 4) = device<float>(p + uint64_t{i} * 4) + 1.0f;
  });
}

uint32_t block_sum(BlockState* state, uint32_t warp, WarpFrame* frame) {
  const auto in = parameter<uint64_t>(state, 0);
  const auto out = parameter<uint64_t>(state, 8);
  const uint64_t shared = state->shared_base;
  uint32_t& half = kept(frame);
  if (frame->point == 0) {
    for_lanes(state, warp, [&](uint32_t thread) {
      device<uint32_t>(shared + thread * 4) =
          device<uint32_t>(in + uint64_t{state->ctaid[0] * state->ntid[0] + thread} * 4);
    });
    half = state->ntid[0] / 2;
    return sync(frame, 1);
  }
  if (half == 0) {
    if (warp == 0) device<uint32_t>(out + uint64_t{state->ctaid[0]} * 4) = device<uint32_t>(shared);
    return kWarpEnded;
  }
  for_lanes(state, warp, [&](uint32_t thread) {
    if (thread < half) {
      device<uint32_t>(shared + thread * 4) =
          device<uint32_t>(shared + thread * 4) + device<uint32_t>(shared + (thread + half) * 4);
    }
  });
  half /= 2;
  return sync(frame, 1);
}

void store_at(BlockState* state, uint32_t warp) {
  for_lanes(state, warp, [&](uint32_t) {
    device<uint32_t>(parameter<uint64_t>(state, 0)) = parameter<uint32_t>(state, 8);
  });
}

void store_shared(BlockState* state, uint32_t) {
  device<uint32_t>(state->shared_base + parameter<uint32_t>(state, 0)) = 1;
}

void trap_now(BlockState* state, uint32_t warp) {
  state->hooks->trap(state, warp, TrapReason::kTrapInstruction, 100);
}

void spin(BlockState* state, uint32_t warp) {
  const auto flag = parameter<uint64_t>(state, 0);
  while (device<uint32_t>(flag) == 0) back_edge(state, warp);
}

uint32_t wait_for_nobody(BlockState*, uint32_t warp, WarpFrame* frame) {
  return warp == 0 && frame->point == 0 ? sync_some(frame, 1, 1, 64) : kWarpEnded;
}

void add_atomically(uint64_t address, uint32_t value) {
  __atomic_fetch_add(const_cast<uint32_t*>(&device<uint32_t>(address)), value, __ATOMIC_RELAXED);
}

void bump(BlockState* state, uint32_t warp) {
  for_lanes(state, warp, [&](uint32_t) { add_atomically(state->globals[0], 1); });
}

void meet(BlockState* state, uint32_t warp) {
  const auto count = parameter<uint64_t>(state, 0);
  const auto all = parameter<uint32_t>(state, 8);
  for_lanes(state, warp, [&](uint32_t) { add_atomically(count, 1); });
  while (device<uint32_t>(count) < all) back_edge(state, warp);
}

void nothing(BlockState*, uint32_t) {}

// ---- kernels of runtime_kernels.h ----

// out[warp] = (order of arrival), over named barriers that pairs of warps share, and all three reductions
uint32_t reductions(BlockState* state, uint32_t warp, WarpFrame* frame) {
  const uint32_t full = full_mask(state, warp);
  const uint32_t odd = 0xaaaaaaaa & full;
  if (frame->point > 0) {
    device<uint32_t>(parameter<uint64_t>(state, 0) + warp * 16 + (frame->point - 1) * 4) = frame->result;
  }
  switch (frame->point) {
    case 0:
      return reduce(state, warp, frame, 1, BarrierKind::kReducePopcount, odd);
    case 1:
      return reduce(state, warp, frame, 2, BarrierKind::kReduceAnd, warp == 1 ? odd : full);
    case 2:
      return reduce(state, warp, frame, 3, BarrierKind::kReduceOr, warp == 1 ? 2 : 0);
    case 3:
      return reduce(state, warp, frame, 4, BarrierKind::kReduceOr, 0);
    default:
      return kWarpEnded;
  }
}

// Warps 0 and 1 pass values through barriers 1 and 2 while the others leave at once.
uint32_t named_barriers(BlockState* state, uint32_t warp, WarpFrame* frame) {
  if (warp > 1) return kWarpEnded;
  const auto out = parameter<uint64_t>(state, 0);
  uint32_t& round = kept(frame);
  switch (frame->point) {
    case 1:
      if (warp == 1) device<uint32_t>(out + round * 4) = device<uint32_t>(state->shared_base);
      return sync_some(frame, 2, 2, 64);
    case 2:
      if (++round == 100) return kWarpEnded;
      break;
    default:
      round = 0;
      break;
  }
  if (warp == 0) device<uint32_t>(state->shared_base) = round;
  return sync_some(frame, 1, 1, 64);
}

// out[thread] = what local memory held on entry; then fills it
void use_local(BlockState* state, uint32_t warp) {
  const auto out = parameter<uint64_t>(state, 0);
  for_lanes(state, warp, [&](uint32_t thread) {
    const uint64_t local = state->local_base + uint64_t{thread} * state->local_stride;
    device<uint32_t>(out + thread * 4) = device<uint32_t>(local) | device<uint32_t>(local + 96);
    for (uint32_t at = 0; at < 100; at += 4) device<uint32_t>(local + at) = thread + 1;
  });
}

// out[0] = what shared memory held on entry; then fills it
void use_shared(BlockState* state, uint32_t) {
  const auto out = parameter<uint64_t>(state, 0);
  device<uint32_t>(out) =
      device<uint32_t>(state->shared_base) | device<uint32_t>(state->shared_base + 48 * 1024 - 4);
  device<uint32_t>(state->shared_base) = 1;
  device<uint32_t>(state->shared_base + 48 * 1024 - 4) = 1;
}

void print(BlockState* state, uint32_t) {
  const int32_t count =
      state->hooks->vprintf(state, parameter<uint64_t>(state, 0), parameter<uint64_t>(state, 8));
  device<int32_t>(parameter<uint64_t>(state, 16)) = count;
}

// Meets at a barrier, then one warp faults while the others wait at the next.
uint32_t fault_between_barriers(BlockState*, uint32_t warp, WarpFrame* frame) {
  if (frame->point == 2) return kWarpEnded;
  if (frame->point == 1 && warp == 1) device<uint32_t>(0) = 1;
  return sync(frame, frame->point + 1);
}

[[gnu::noinline]] uint32_t dig(volatile uint32_t* from, uint32_t depth) {
  volatile uint32_t room[256];
  room[0] = *from + depth;
  return depth == 0 ? room[0] : dig(room, depth - 1) + room[0];
}
uint32_t overflow(BlockState* state, uint32_t, WarpFrame* frame) {
  if (frame->point == 0) return sync(frame, 1);
  volatile uint32_t start = 0;
  device<uint32_t>(state->shared_base) = dig(&start, 100'000'000);
  return kWarpEnded;
}

uint32_t barriers_1000(BlockState*, uint32_t, WarpFrame* frame) {
  return frame->point == 1000 ? kWarpEnded : sync(frame, frame->point + 1);
}

void write_mxcsr(BlockState* state, uint32_t) {
  uint32_t mxcsr = 0;
  asm volatile("stmxcsr %0" : "=m"(mxcsr));
  device<uint32_t>(parameter<uint64_t>(state, 0)) = mxcsr;
}

constexpr std::array<std::pair<std::string_view, HandKernel>, 20> kKernels{{
    {"add_one", {.entry = at_once<add_one>}},
    {"block_sum", {.entry = block_sum, .waits = true, .static_shared_bytes = 4096}},
    {"store_at", {.entry = at_once<store_at>}},
    {"store_shared", {.entry = at_once<store_shared>}},
    {"trap_now", {.entry = at_once<trap_now>}},
    {"spin", {.entry = at_once<spin>}},
    {"wait_for_nobody", {.entry = wait_for_nobody, .waits = true}},
    {"bump", {.entry = at_once<bump>}},
    {"meet", {.entry = at_once<meet>}},
    {"narrow", {.entry = at_once<nothing>}},
    {"empty", {.entry = at_once<nothing>}},
    {"reductions", {.entry = reductions, .waits = true}},
    {"named_barriers", {.entry = named_barriers, .waits = true, .static_shared_bytes = 16}},
    {"use_local", {.entry = at_once<use_local>, .local_bytes = 100}},
    {"use_shared", {.entry = at_once<use_shared>}},
    {"print", {.entry = at_once<print>}},
    {"fault_between_barriers", {.entry = fault_between_barriers, .waits = true}},
    {"overflow", {.entry = overflow, .waits = true}},
    {"write_mxcsr", {.entry = at_once<write_mxcsr>}},
    {"barriers_1000", {.entry = barriers_1000, .waits = true}},
}};

class CompiledByHand final : public jit::CompiledKernel {
 public:
  explicit CompiledByHand(const HandKernel& kernel) {
    entry = kernel.entry;
    frame_bytes = kernel.waits ? sizeof(HandFrame) : 0;
    static_shared_bytes = kernel.static_shared_bytes;
    dynamic_shared_offset = kernel.static_shared_bytes;
    local_bytes = kernel.local_bytes;
    mxcsr = 0x9FC0;  // flush to zero, denormals are zero
  }
};

}  // namespace

const HandKernel* find_hand_kernel(std::string_view name) {
  for (const auto& [known, kernel] : kKernels) {
    if (known == name) return &kernel;
  }
  return nullptr;
}

KernelCompiler::Outcome HandCompiler::compile(const ptx::Module&, std::string_view kernel,
                                              const jit::LaunchShape& shape) {
  if (shape.at_a_time != 1)
    return std::unexpected(jit::Error{jit::ErrorKind::kUnsupported, "one block at a time"});
  const HandKernel* found = find_hand_kernel(kernel);
  const std::lock_guard lock(mutex_);
  if (found == nullptr) {
    ++counters_.failures;
    return std::unexpected(
        jit::Error{jit::ErrorKind::kUnsupported, "module.ptx:12: unknown opcode frobnicate"});
  }
  ++counters_.compiled;
  return std::make_shared<CompiledByHand>(*found);
}

}  // namespace vgpu::software::testing
