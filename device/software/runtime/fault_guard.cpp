// See fault_guard.h.
#include "device/software/runtime/fault_guard.h"

#include <fmt/format.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace vgpu::software {
namespace {

// An AVX-512 signal frame takes over 3 KiB; the rest is for the handler a real crash is passed on to.
constexpr std::size_t kSignalStackBytes = 64 * 1024;
// A fault this close to the stack pointer is the stack's end, not an address the kernel made up.
constexpr uint64_t kStackReach = uint64_t{1} << 20;

struct Frame {
  sigjmp_buf jump;
  GuardRange range;
  Frame* outer = nullptr;
  GuardOutcome outcome = GuardOutcome::kDone;
  Fault fault;
};

thread_local Frame* t_frame = nullptr;

constexpr std::array kSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
std::array<struct sigaction, kSignals.size()> g_previous;

void pass_on(int signal, siginfo_t* info, void* context) {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& previous = g_previous[i];
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
      previous.sa_sigaction(signal, info, context);
      return;
    }
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
      previous.sa_handler(signal);
      return;
    }
  }
  // The default action, by executing the faulting instruction again.
  ::signal(signal, SIG_DFL);
}

// kDone: the guard does not expect this fault.
GuardOutcome judge(const Frame& frame, int signal, uint64_t address, uint64_t stack) {
  if (signal == SIGILL || signal == SIGFPE) {
    return frame.range.kernel ? GuardOutcome::kIllegalInstruction : GuardOutcome::kDone;
  }
  if (address - kDeviceWindowBase < kDeviceWindowBytes + kDeviceWindowGuardBytes ||
      address - frame.range.begin < frame.range.end - frame.range.begin) {
    return GuardOutcome::kFault;
  }
  if (frame.range.kernel && address - (stack - kStackReach) < 2 * kStackReach)
    return GuardOutcome::kStackOverflow;
  return GuardOutcome::kDone;
}

void on_fault(int signal, siginfo_t* info, void* context) {
  Frame* frame = t_frame;
  // si_code > 0: the kernel reports a fault; otherwise somebody sent the signal.
  if (frame != nullptr && info->si_code > 0) {
    const auto* machine = static_cast<const ucontext_t*>(context);
    const auto address = reinterpret_cast<uint64_t>(info->si_addr);
    const auto outcome =
        judge(*frame, signal, address, static_cast<uint64_t>(machine->uc_mcontext.gregs[REG_RSP]));
    if (outcome != GuardOutcome::kDone) {
      frame->outcome = outcome;
      frame->fault = {.address = address,
                      .instruction = static_cast<uint64_t>(machine->uc_mcontext.gregs[REG_RIP]),
                      .signal = signal};
      siglongjmp(frame->jump, 1);
    }
  }
  pass_on(signal, info, context);
}

// The calling thread's alternate stack, given back when the thread ends. A sanitizer's own is left in place.
class SignalStack {
 public:
  SignalStack() {
    stack_t now{};
    if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0) return;
    memory_ = ::mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) {
      memory_ = nullptr;
      return;
    }
    stack_t stack{};
    stack.ss_sp = memory_;
    stack.ss_size = kSignalStackBytes;
    ::sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    if (memory_ == nullptr) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    ::munmap(memory_, kSignalStackBytes);
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;
  void touch() {}

 private:
  void* memory_ = nullptr;
};

void ensure_signal_stack() {
  thread_local SignalStack stack;
  stack.touch();
}

}  // namespace

Result<void> install_fault_handlers() {
  static std::once_flag once;
  static int failure = 0;
  std::call_once(once, [] {
    for (std::size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction action{};
      action.sa_sigaction = on_fault;
      // SA_NODEFER: the handler is left by a jump, which must not leave the signal blocked.
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      ::sigemptyset(&action.sa_mask);
      if (::sigaction(kSignals[i], &action, &g_previous[i]) != 0) failure = errno;
    }
  });
  if (failure != 0) {
    return std::unexpected(
        Error{Status::kOperatingSystem, fmt::format("install fault handlers: {}", std::strerror(failure))});
  }
  return {};
}

void block_asynchronous_signals() {
  sigset_t set;
  ::sigfillset(&set);
  for (const int fault : kSignals) ::sigdelset(&set, fault);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

GuardOutcome run_guarded(const GuardRange& range, void (*body)(void*), void* argument, Fault* fault) {
  ensure_signal_stack();
  Frame frame;
  frame.range = range;
  frame.outer = t_frame;
  // The signal mask is not saved: SA_NODEFER means it never changed.
  if (sigsetjmp(frame.jump, 0) == 0) {
    t_frame = &frame;
    body(argument);
    t_frame = frame.outer;
    return GuardOutcome::kDone;
  }
  // Everything needed after the jump is in memory that the jump does not restore.
  Frame* const here = t_frame;
  t_frame = here->outer;
  if (fault != nullptr) *fault = here->fault;
  return here->outcome;
}

void abandon_guarded() {
  Frame* frame = t_frame;
  if (frame == nullptr) std::abort();
  frame->outcome = GuardOutcome::kAbandoned;
  siglongjmp(frame->jump, 1);
}

}  // namespace vgpu::software
