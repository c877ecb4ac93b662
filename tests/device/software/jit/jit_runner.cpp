#include "tests/device/software/jit/jit_runner.h"

#include <csetjmp>
#include <csignal>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <immintrin.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace vgpu::testing::kernels {

using software::BarrierKind;
using software::BlockState;
using software::kDeviceWindowBase;
using software::kDeviceWindowBytes;
using software::kWarpSize;
using software::TrapReason;

namespace {

constexpr std::uint64_t kHeap = kDeviceWindowBase + (std::uint64_t{1} << 32);
constexpr std::uint64_t kBlocks = kDeviceWindowBase + (std::uint64_t{1} << 36);
constexpr std::uint64_t kBlockStride = std::uint64_t{1}
                                       << 28;  // shared at the start, local in the upper half
constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kStackBytes = 512 * 1024;

thread_local sigjmp_buf* fault_return = nullptr;

void on_fault(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  const std::uint64_t offset = address - kDeviceWindowBase;
  if (fault_return != nullptr && (offset <= kDeviceWindowBytes + software::kDeviceWindowGuardBytes)) {
    siglongjmp(*fault_return, 1);
  }
  std::signal(signal, SIG_DFL);
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t to) {
  return (value + to - 1) / to * to;
}

void map_at(std::uint64_t address, std::uint64_t bytes) {
  void* wanted = reinterpret_cast<void*>(address);
  if (::mmap(wanted, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
      wanted) {
    throw std::runtime_error("mmap in the device window failed");
  }
}

enum class WarpState : std::uint8_t { kReady, kWaiting, kDone };

struct Warp {
  ucontext_t context{};
  std::vector<std::byte> stack;
  WarpState state = WarpState::kReady;
  std::uint32_t barrier = 0;
  std::uint32_t threads = 0;
  BarrierKind kind = BarrierKind::kSync;
  std::uint32_t predicate = 0;
  std::uint32_t active = 0;
  std::uint32_t result = 0;
};

}  // namespace

struct JitRunner::Block {
  BlockState state{};
  ucontext_t scheduler{};
  std::vector<Warp> warps;
  software::WarpFunction entry = nullptr;
  std::uint32_t current = 0;
  std::uint32_t mxcsr = 0;
  bool trapped = false;
  TrapReason reason = TrapReason::kTrapInstruction;

  static std::uint32_t barrier(BlockState* state, std::uint32_t index, std::uint32_t id,
                               std::uint32_t threads, BarrierKind kind, std::uint32_t predicate,
                               std::uint32_t active) {
    auto* block = static_cast<Block*>(state->runtime);
    Warp& warp = block->warps[index];
    warp.state = WarpState::kWaiting;
    warp.barrier = id;
    warp.threads = threads;
    warp.kind = kind;
    warp.predicate = predicate;
    warp.active = active;
    swapcontext(&warp.context, &block->scheduler);
    return warp.result;
  }
  static void trap(BlockState* state, std::uint32_t index, TrapReason reason, std::uint32_t) {
    auto* block = static_cast<Block*>(state->runtime);
    block->trapped = true;
    block->reason = reason;
    swapcontext(&block->warps[index].context, &block->scheduler);
  }
  static std::int32_t print(BlockState*, std::uint64_t, std::uint64_t) { return 0; }

  static void start(unsigned high, unsigned low) {
    auto* block = reinterpret_cast<Block*>(std::uint64_t{high} << 32 | low);
    const std::uint32_t index = block->current;
    _mm_setcsr(block->mxcsr);  // swapcontext keeps it per fiber
    block->entry(&block->state, index);
    block->warps[index].state = WarpState::kDone;
    swapcontext(&block->warps[index].context, &block->scheduler);
  }

  // Releases barriers at which everybody arrived. False: nobody can go on.
  bool release() {
    bool any = false;
    for (std::uint32_t id = 0; id < 16; ++id) {
      std::uint32_t arrived = 0;
      std::uint32_t expected = 0;
      std::uint32_t alive = 0;
      for (const Warp& warp : warps) {
        if (warp.state != WarpState::kDone) ++alive;
        if (warp.state != WarpState::kWaiting || warp.barrier != id) continue;
        ++arrived;
        expected = warp.threads / kWarpSize;
      }
      if (arrived == 0 || arrived < (expected == 0 ? alive : expected)) continue;
      std::uint32_t all = 1;
      std::uint32_t some = 0;
      std::uint32_t count = 0;
      for (const Warp& warp : warps) {
        if (warp.state != WarpState::kWaiting || warp.barrier != id) continue;
        if ((warp.predicate & warp.active) != warp.active) all = 0;
        if ((warp.predicate & warp.active) != 0) some = 1;
        count += static_cast<std::uint32_t>(__builtin_popcount(warp.predicate & warp.active));
      }
      for (Warp& warp : warps) {
        if (warp.state != WarpState::kWaiting || warp.barrier != id) continue;
        warp.result = warp.kind == BarrierKind::kReduceAnd  ? all
                      : warp.kind == BarrierKind::kReduceOr ? some
                                                            : count;
        warp.state = WarpState::kReady;
      }
      any = true;
    }
    return any;
  }
};

JitRunner::JitRunner(software::jit::Jit& jit) : jit_(jit), next_(kHeap) {
  static std::once_flag once;
  std::call_once(once, [] {
    void* window = reinterpret_cast<void*>(kDeviceWindowBase);
    if (::mmap(window, kDeviceWindowBytes + software::kDeviceWindowGuardBytes, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != window) {
      throw std::runtime_error("cannot reserve the device window");
    }
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
  });
}

JitRunner::~JitRunner() {
  if (next_ > kHeap)
    ::mmap(reinterpret_cast<void*>(kHeap), next_ - kHeap, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

std::string JitRunner::load(const std::string& ptx, const std::string& name) {
  auto module = software::ptx::Module::parse(ptx, name);
  if (!module) return module.error().describe();
  module_ = std::move(*module);
  globals_.assign(module_->variables().size(), 0);
  for (std::size_t i = 0; i < globals_.size(); ++i) {
    const auto& variable = module_->variables()[i];
    if (variable.space == software::ptx::StateSpace::kShared) continue;
    globals_[i] = allocate(std::max<std::size_t>(variable.size, 1));
  }
  for (std::size_t i = 0; i < globals_.size(); ++i) {
    const auto& variable = module_->variables()[i];
    if (globals_[i] == 0) continue;
    write(globals_[i], std::as_bytes(std::span(variable.initial)));
    for (const auto& relocation : variable.relocations) {
      if (relocation.is_function) continue;
      const std::uint64_t address =
          globals_[relocation.index] + static_cast<std::uint64_t>(relocation.addend);
      std::memcpy(reinterpret_cast<void*>(globals_[i] + relocation.offset), &address, relocation.size);
    }
  }
  return {};
}

std::uint64_t JitRunner::allocate(std::size_t bytes) {
  // The end of an allocation is the end of a page, as far as alignment lets it: what runs over faults.
  const std::uint64_t size = round_up(std::max<std::size_t>(bytes, 1), 256);
  const std::uint64_t pages = round_up(size, kPage);
  map_at(next_, pages);
  const std::uint64_t address = next_ + pages - size;
  next_ += pages + 16 * kPage;
  return address;
}

void JitRunner::write(std::uint64_t address, std::span<const std::byte> bytes) {
  if (!bytes.empty()) std::memcpy(reinterpret_cast<void*>(address), bytes.data(), bytes.size());
}

void JitRunner::read(std::uint64_t address, std::span<std::byte> out) {
  if (!out.empty()) std::memcpy(out.data(), reinterpret_cast<const void*>(address), out.size());
}

LaunchStatus JitRunner::run_block(const software::jit::CompiledKernel& kernel, const LaunchRequest& request,
                                  std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t slot) {
  static const software::RuntimeHooks hooks{&Block::barrier, &Block::trap, &Block::print};
  auto block = std::make_unique<Block>();
  const std::uint32_t threads = request.block.x * request.block.y * request.block.z;
  std::vector<std::byte> params = request.params;
  params.resize(std::max<std::size_t>(params.size(), kernel.param_bytes) + 64);
  BlockState& state = block->state;
  state.hooks = &hooks;
  state.params = params.data();
  state.globals = globals_.data();
  state.cancel = &cancel;
  state.shared_bytes = kernel.dynamic_shared_offset + request.dynamic_shared_bytes;
  state.dynamic_shared_bytes = request.dynamic_shared_bytes;
  state.shared_base = kBlocks + slot * kBlockStride + 65536;
  state.local_base = state.shared_base + kBlockStride / 2;
  state.local_stride = static_cast<std::uint32_t>(round_up(std::max(kernel.local_bytes, 16u), 16));
  const std::uint32_t dims[3][3] = {{request.block.x, request.block.y, request.block.z},
                                    {request.grid.x, request.grid.y, request.grid.z},
                                    {x, y, z}};
  for (int i = 0; i < 3; ++i) {
    state.ntid[i] = dims[0][i];
    state.nctaid[i] = dims[1][i];
    state.ctaid[i] = dims[2][i];
  }
  state.grid_id = 1;
  state.runtime = block.get();
  const std::uint64_t shared_pages = round_up(state.shared_bytes, kPage);
  if (shared_pages != 0) map_at(state.shared_base, shared_pages);
  map_at(state.local_base, round_up(std::uint64_t{state.local_stride} * threads, kPage));

  block->entry = kernel.entry;
  block->mxcsr = kernel.mxcsr;
  block->warps.resize((threads + kWarpSize - 1) / kWarpSize);
  const auto self = reinterpret_cast<std::uint64_t>(block.get());
  for (Warp& warp : block->warps) {
    warp.stack.resize(kStackBytes);
    getcontext(&warp.context);
    warp.context.uc_stack.ss_sp = warp.stack.data();
    warp.context.uc_stack.ss_size = warp.stack.size();
    makecontext(&warp.context, reinterpret_cast<void (*)()>(&Block::start), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
  }
  std::vector<std::byte> signal_stack(64 * 1024);
  stack_t alternate{};
  alternate.ss_sp = signal_stack.data();
  alternate.ss_size = signal_stack.size();
  stack_t previous{};
  sigaltstack(&alternate, &previous);
  sigjmp_buf back;
  fault_return = &back;
  const unsigned mxcsr = _mm_getcsr();
  volatile bool faulted = false;
  volatile bool stuck = false;
  if (sigsetjmp(back, 1) != 0) {
    faulted = true;
  } else {
    for (bool running = true; running && !block->trapped;) {
      running = false;
      for (std::uint32_t i = 0; i < block->warps.size() && !block->trapped; ++i) {
        if (block->warps[i].state != WarpState::kReady) continue;
        running = true;
        block->current = i;
        swapcontext(&block->scheduler, &block->warps[i].context);
      }
      if (!running && block->release()) running = true;
    }
  }
  _mm_setcsr(mxcsr);
  fault_return = nullptr;
  sigaltstack(&previous, nullptr);
  for (const Warp& warp : block->warps) stuck = stuck || warp.state == WarpState::kWaiting;
  ::mmap(reinterpret_cast<void*>(kBlocks + slot * kBlockStride), kBlockStride, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (faulted) return {Status::kIllegalAddress, "fault in the device window"};
  if (block->trapped) {
    if (block->reason == TrapReason::kUnsupportedCall) return {Status::kUnsupported, "unsupported call"};
    return {Status::kTrap, block->reason == TrapReason::kCancelled ? "cancelled" : "trap"};
  }
  if (stuck) return {Status::kOther, "warps wait at a barrier for ever"};
  return {};
}

LaunchStatus JitRunner::launch(const LaunchRequest& request) {
  const std::uint32_t ntid[3] = {request.block.x, request.block.y, request.block.z};
  const std::uint32_t nctaid[3] = {request.grid.x, request.grid.y, request.grid.z};
  auto kernel = jit_.compile(*module_, request.kernel, software::jit::LaunchShape::of(ntid, nctaid));
  if (!kernel) {
    const bool unsupported = kernel.error().kind == software::jit::ErrorKind::kUnsupported;
    return {unsupported ? Status::kUnsupported : Status::kOther, kernel.error().message};
  }
  LaunchStatus worst;
  std::mutex mutex;
  std::vector<std::thread> threads;
  std::uint32_t slot = 0;
  for (std::uint32_t z = 0; z < request.grid.z; ++z) {
    for (std::uint32_t y = 0; y < request.grid.y; ++y) {
      for (std::uint32_t x = 0; x < request.grid.x; ++x, ++slot) {
        const auto one = [&, x, y, z, slot] {
          const LaunchStatus status =
              run_block(**kernel, request, x, y, z, request.blocks_wait_for_each_other ? slot : 0);
          const std::lock_guard lock(mutex);
          if (worst.status == Status::kDone) worst = status;
        };
        if (request.blocks_wait_for_each_other) {
          threads.emplace_back(one);
        } else {
          one();
          if (worst.status != Status::kDone) return worst;
        }
      }
    }
  }
  for (std::thread& thread : threads) thread.join();
  return worst;
}

}  // namespace vgpu::testing::kernels
