// Runs code that may touch bad addresses on the guest's behalf (kernels, copies to memory the guest can cut
// short) and turns the fault into a value. Signals are caught for the process, once; a fault that no guard of
// the faulting thread expects goes to whoever handled the signal before, so a real crash stays a crash.
//
// Guarded code is left by a jump: it must hold no lock and own nothing while it can fault.
#pragma once

#include <cstdint>
#include <type_traits>

#include "device/error.h"
#include "device/software/runtime/device_window.h"

namespace vgpu::software {

enum class GuardOutcome : uint8_t {
  kDone,                // the code returned
  kFault,               // it touched an address it may not: Fault::address
  kStackOverflow,       // its stack ran out
  kIllegalInstruction,  // a kernel executed an undefined instruction or divided by zero
  kAbandoned,           // it called abandon_guarded()
};

struct Fault {
  uint64_t address = 0;
  uint64_t instruction = 0;
  int signal = 0;
};

// For threads of our own: signals meant for the process go to threads that expect them; faults stay.
void block_asynchronous_signals();

// What a guard expects. Device addresses (and the guard behind the window) always.
struct GuardRange {
  uint64_t begin = 0;  // faults in [begin, end) are expected too
  uint64_t end = 0;
  bool kernel = false;  // stack overflow is expected too
};

// Installs the handlers; may be called any number of times.
Result<void> install_fault_handlers();

// Calls body(argument) on this thread. Guards nest; the innermost one catches.
GuardOutcome run_guarded(const GuardRange& range, void (*body)(void*), void* argument, Fault* fault);

template <typename Body>
GuardOutcome run_guarded(const GuardRange& range, Body&& body, Fault* fault) {
  return run_guarded(
      range, [](void* argument) { (*static_cast<std::remove_reference_t<Body>*>(argument))(); }, &body,
      fault);
}

// Leaves the innermost guard of this thread; run_guarded() returns kAbandoned.
[[noreturn]] void abandon_guarded();

}  // namespace vgpu::software
