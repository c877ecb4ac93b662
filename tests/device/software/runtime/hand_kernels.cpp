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

void block_sum(BlockState* state, uint32_t warp) {
  const auto in = parameter<uint64_t>(state, 0);
  const auto out = parameter<uint64_t>(state, 8);
  const uint64_t shared = state->shared_base;
  for_lanes(state, warp, [&](uint32_t thread) {
    device<uint32_t>(shared + thread * 4) =
        device<uint32_t>(in + uint64_t{state->ctaid[0] * state->ntid[0] + thread} * 4);
  });
  sync(state, warp);
  for (uint32_t half = state->ntid[0] / 2; half != 0; half /= 2) {
    for_lanes(state, warp, [&](uint32_t thread) {
      if (thread < half) {
        device<uint32_t>(shared + thread * 4) =
            device<uint32_t>(shared + thread * 4) + device<uint32_t>(shared + (thread + half) * 4);
      }
    });
    sync(state, warp);
  }
  if (warp == 0) device<uint32_t>(out + uint64_t{state->ctaid[0]} * 4) = device<uint32_t>(shared);
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

void wait_for_nobody(BlockState* state, uint32_t warp) {
  if (warp == 0) sync(state, warp, 1, 64);
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
void reductions(BlockState* state, uint32_t warp) {
  const auto out = parameter<uint64_t>(state, 0);
  const uint32_t odd = 0xaaaaaaaa & full_mask(state, warp);
  const uint32_t count = reduce(state, warp, BarrierKind::kReducePopcount, odd);
  const uint32_t all = reduce(state, warp, BarrierKind::kReduceAnd, warp == 1 ? odd : full_mask(state, warp));
  const uint32_t any = reduce(state, warp, BarrierKind::kReduceOr, warp == 1 ? 2 : 0);
  const uint32_t none = reduce(state, warp, BarrierKind::kReduceOr, 0);
  const uint64_t mine = out + warp * 16;
  device<uint32_t>(mine) = count;
  device<uint32_t>(mine + 4) = all;
  device<uint32_t>(mine + 8) = any;
  device<uint32_t>(mine + 12) = none;
}

// Warps 0 and 1 pass values through barriers 1 and 2 while the others leave at once.
void named_barriers(BlockState* state, uint32_t warp) {
  if (warp > 1) return;
  const auto out = parameter<uint64_t>(state, 0);
  for (uint32_t round = 0; round < 100; ++round) {
    if (warp == 0) device<uint32_t>(state->shared_base) = round;
    sync(state, warp, 1, 64);
    if (warp == 1) device<uint32_t>(out + round * 4) = device<uint32_t>(state->shared_base);
    sync(state, warp, 2, 64);
  }
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
void fault_between_barriers(BlockState* state, uint32_t warp) {
  sync(state, warp);
  if (warp == 1) device<uint32_t>(0) = 1;
  sync(state, warp);
}

[[gnu::noinline]] uint32_t dig(volatile uint32_t* from, uint32_t depth) {
  volatile uint32_t room[256];
  room[0] = *from + depth;
  return depth == 0 ? room[0] : dig(room, depth - 1) + room[0];
}
void overflow(BlockState* state, uint32_t warp) {
  sync(state, warp);
  volatile uint32_t start = 0;
  device<uint32_t>(state->shared_base) = dig(&start, 100'000'000);
}

void write_mxcsr(BlockState* state, uint32_t) {
  uint32_t mxcsr = 0;
  asm volatile("stmxcsr %0" : "=m"(mxcsr));
  device<uint32_t>(parameter<uint64_t>(state, 0)) = mxcsr;
}

constexpr std::array<std::pair<std::string_view, HandKernel>, 20> kKernels{{
    {"add_one", {.entry = add_one}},
    {"block_sum", {.entry = block_sum, .uses_barriers = true, .static_shared_bytes = 4096}},
    {"store_at", {.entry = store_at}},
    {"store_shared", {.entry = store_shared}},
    {"trap_now", {.entry = trap_now}},
    {"spin", {.entry = spin}},
    {"wait_for_nobody", {.entry = wait_for_nobody, .uses_barriers = true}},
    {"bump", {.entry = bump}},
    {"meet", {.entry = meet}},
    {"narrow", {.entry = nothing}},
    {"empty", {.entry = nothing}},
    {"reductions", {.entry = reductions, .uses_barriers = true}},
    {"named_barriers", {.entry = named_barriers, .uses_barriers = true, .static_shared_bytes = 16}},
    {"use_local", {.entry = use_local, .local_bytes = 100}},
    {"use_shared", {.entry = use_shared}},
    {"print", {.entry = print}},
    {"fault_between_barriers", {.entry = fault_between_barriers, .uses_barriers = true}},
    {"overflow", {.entry = overflow, .uses_barriers = true}},
    {"write_mxcsr", {.entry = write_mxcsr}},
    {"barriers_1000",
     {.entry =
          [](BlockState* state, uint32_t warp) {
            for (int i = 0; i < 1000; ++i) sync(state, warp);
          },
      .uses_barriers = true}},
}};

class CompiledByHand final : public jit::CompiledKernel {
 public:
  explicit CompiledByHand(const HandKernel& kernel) {
    entry = kernel.entry;
    uses_barriers = kernel.uses_barriers;
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
  if (shape.blocks_at_a_time != 1)
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
