// The contract between compiled kernels (device/software/jit) and what runs them (device/software/runtime).
//
// A kernel is compiled to one function that runs one warp of one block. Everything it may touch is in
// BlockState or inside the device window. The layout below is part of the key of the code cache:
// raise kKernelAbiVersion with every change.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vgpu::software {

inline constexpr uint32_t kKernelAbiVersion = 5;
inline constexpr uint32_t kWarpSize = 32;

// The device window: one reserved range of the worker's address space, at the same address in every
// worker, in which all device memory lies (global, constant, and the blocks' shared and local memory).
// A device pointer IS the host address. Compiled code confines every access: with a = address, the
// access goes to kDeviceWindowBase + min(a - kDeviceWindowBase, kDeviceWindowBytes) in unsigned
// arithmetic. So every address outside the window ends in the guard that follows it, which is never
// mapped; an unmapped page inside the window faults by itself. Both are CUDA's illegal address.
inline constexpr uint64_t kDeviceWindowBase = 0x2000'0000'0000;
inline constexpr uint64_t kDeviceWindowBytes = uint64_t{1} << 40;
inline constexpr uint64_t kDeviceWindowGuardBytes = uint64_t{1} << 20;

// Code may run several blocks at a time, which are neighbours in x: BlockState names the first, and each of
// the others has its shared memory this far behind the one before it. Or it runs several warps of a block at
// a time: what is said of warps below then holds for these together, as if the block had so many times fewer.
inline constexpr uint32_t kMostAtATime = 4;
inline constexpr uint64_t kSharedDistance = uint64_t{2} << 20;

// What lies unmapped on both sides of a block's shared memory.
inline constexpr uint64_t kSharedGuardBytes = uint64_t{64} << 10;

// How many sequences of lines a block's code prefetches side by side.
inline constexpr uint32_t kPrefetchSequences = 4;

struct BlockState;
struct WarpFrame;

// Why a warp stopped for good. Passed to RuntimeHooks::trap.
enum class TrapReason : uint32_t {
  kTrapInstruction = 1,  // PTX trap, or brkpt
  kCancelled = 2,        // *BlockState::cancel was seen non-zero
  kUnsupportedCall = 3,  // an indirect call or a call to an undefined function
  kNoCode = 4,           // code that was left to be made when needed could not be made
};

// kArrive (bar.arrive) counts the warp and returns at once; all others wait.
enum class BarrierKind : uint32_t {
  kSync = 0,
  kReduceAnd = 1,
  kReduceOr = 2,
  kReducePopcount = 3,
  kArrive = 4,
};

// What compiled code calls. The table outlives every launch. None of these throws.
struct RuntimeHooks {
  // Makes room for `bytes` in every warp's frame, and gives back this warp's: the frames may have moved, with
  // what is in them.
  WarpFrame* (*grow_frames)(BlockState*, uint32_t warp, uint32_t bytes);
  // Does not return.
  void (*trap)(BlockState*, uint32_t warp, TrapReason reason, uint32_t line);
  // vprintf(format, arguments) of one lane: both are addresses in the device window, of which nothing is
  // trusted. Returns what CUDA's printf returns.
  int32_t (*vprintf)(BlockState*, uint64_t format, uint64_t arguments);
};

// State of one block while it runs on one worker thread.
struct BlockState {
  const RuntimeHooks* hooks;
  const std::byte* params;  // packed parameter block, as PTX lays it out; readable param_bytes + 64
  const uint64_t* globals;  // address in the window of the module's variable i (module order)
  const uint32_t* cancel;   // read at loop back edges (relaxed); non-zero: call trap(kCancelled)
  uint64_t shared_base;     // address in the window of this block's shared memory: static, then dynamic;
                            // 64 KiB aligned. From the first page boundary behind it on, and before it,
                            // kSharedGuardBytes are never mapped
  uint64_t local_base;      // local memory of thread t (linear in the block) starts at
                            // local_base + t * local_stride
  uint32_t local_stride;    // >= CompiledKernel::local_bytes, multiple of 16
  uint32_t shared_bytes;    // static + dynamic
  uint32_t dynamic_shared_bytes;
  uint32_t ntid[3];
  uint32_t nctaid[3];
  uint32_t ctaid[3];
  uint64_t grid_id;
  uint64_t grid_workspace;  // %envreg1 (high) and %envreg2 (low): address in the window of the
                            // workspace of a cooperative launch, or 0
  void* runtime;            // the runtime's own
  uint64_t masked_warps;    // the code counts warps that left its first form here (jit/emit_control.cpp)
  // Where the code goes on prefetching (jit/emit_prefetch.cpp); anything will do before a block.
  uint64_t prefetch_next[kPrefetchSequences];
};

// Runs warp `warp` (threads warp*32 .. warp*32+31 of the block, in CUDA's linear order) until it ends or
// comes to a barrier, and says which (below). Lanes at or beyond ntid.x*ntid.y*ntid.z are never active. MXCSR
// is set by the runtime to the kernel's CompiledKernel::mxcsr around the call (flush-to-zero and
// denormals-are-zero where all f32 arithmetic is .ftz). `frame` may be null where CompiledKernel::frame_bytes
// is 0.
using WarpFunction = uint32_t (*)(BlockState*, uint32_t warp, WarpFrame* frame);

// Where a warp that waits at a barrier goes on, and what it keeps until then: frame_bytes in all. Code has no
// stack of its own: it leaves at a barrier by returning, and goes on when it is called again with its frame.
struct alignas(64) WarpFrame {
  WarpFunction code;  // to call; the runtime writes it when the warp starts, code may change it
  uint32_t point;     // where in the code; 0: the start
  uint32_t
      result;  // written by the runtime: the reduction over all threads that arrived (0 or 1 for and / or)
  // The barrier, if the code says kWarpAtBarrier.
  uint32_t id;       // 0..15
  uint32_t threads;  // how many it is for; 0: all of the block that have not ended
  BarrierKind kind;
  uint32_t predicate;  // one bit per lane, only for reductions, inactive lanes 0
  uint32_t active;     // the lanes that arrived
};

// What a WarpFunction says.
inline constexpr uint32_t kWarpEnded = 0;
inline constexpr uint32_t kWarpAtSync = 1;  // + id: it waits there for all warps, without a reduction
inline constexpr uint32_t kBarriers = 16;
inline constexpr uint32_t kWarpAtBarrier = kWarpAtSync + kBarriers;  // the frame says which

}  // namespace vgpu::software
