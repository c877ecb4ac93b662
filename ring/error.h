// The error of ring/ and pci/: what kind, and one line that says what was attempted and with which values.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace vgpu::ring {

enum class ErrorCode : uint32_t {
  kInvalidArgument,  // the caller's numbers make no sense (geometry, index, address text)
  kNotFound,         // no device, no such file
  kNotARegion,      // the file or BAR is there but holds no region header (foreign device, not yet formatted)
  kLayoutMismatch,  // another layout version than ours
  kProtocolMismatch,  // another protocol version or hash than ours
  kTruncated,         // the region is longer than the file or BAR that holds it
  kCorrupt,           // a header field contradicts another
  kBusy,              // somebody else holds it (a device its file, a process its channel)
  kNoFreeChannel,     // every channel of the region is owned
  kTimeout,           // the device did not answer in time
  kDeviceLost,        // the device stopped, died, or was started anew
  kPermission,        // the system refused access
  kNoSpace,           // the file system that holds the region is full
  kSystem,            // any other system call failure; sys_errno says which
};

struct Error {
  ErrorCode code = ErrorCode::kSystem;
  std::string text;   // English, no newline; names the paths and values
  int sys_errno = 0;  // errno when a system call failed, else 0
};

// "kTimeout" and so on; never null.
const char* error_code_name(ErrorCode code) noexcept;

// An Error for a failed system call: maps errno to a code, and appends strerror's words.
Error system_error(std::string what, int error_number);

}  // namespace vgpu::ring
