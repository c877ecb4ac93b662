// The status that crosses the ring: the numbers of CUDA's CUresult (CUDA driver API 13.0, "Data types
// used by CUDA driver"), so that no side translates. Only those the device itself can report are named.
#pragma once

#include <cstdint>

namespace vgpu::protocol {

enum class Status : int32_t {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kDeinitialized = 4,
  kDeviceUnavailable = 46,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kMapFailed = 205,
  kUnmapFailed = 206,
  kAlreadyMapped = 208,
  kNoBinaryForGpu = 209,
  kNotMapped = 211,
  kInvalidPtx = 218,
  kUnsupportedPtxVersion = 222,
  kInvalidSource = 300,
  kOperatingSystem = 304,
  kInvalidHandle = 400,
  kIllegalState = 401,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchOutOfResources = 701,
  kLaunchTimeout = 702,
  kAssert = 710,
  kIllegalInstruction = 715,
  kMisalignedAddress = 716,
  kInvalidAddressSpace = 717,
  kInvalidPc = 718,
  kLaunchFailed = 719,
  kCooperativeLaunchTooLarge = 720,
  kNotPermitted = 800,
  kNotSupported = 801,
  kSystemDriverMismatch = 803,
  kUnknown = 999,
};

// True for errors after which CUDA declares the context unusable until the process ends.
constexpr bool is_sticky(Status status) {
  switch (status) {
    case Status::kIllegalAddress:
    case Status::kLaunchTimeout:
    case Status::kAssert:
    case Status::kIllegalInstruction:
    case Status::kMisalignedAddress:
    case Status::kInvalidAddressSpace:
    case Status::kInvalidPc:
    case Status::kLaunchFailed:
    case Status::kDeviceUnavailable:
      return true;
    default:
      return false;
  }
}

}  // namespace vgpu::protocol
