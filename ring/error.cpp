// Names and texts of errors.
#include "ring/error.h"

#include <cerrno>
#include <cstring>

namespace vgpu::ring {

const char* error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "kInvalidArgument";
    case ErrorCode::kNotFound:
      return "kNotFound";
    case ErrorCode::kNotARegion:
      return "kNotARegion";
    case ErrorCode::kLayoutMismatch:
      return "kLayoutMismatch";
    case ErrorCode::kProtocolMismatch:
      return "kProtocolMismatch";
    case ErrorCode::kTruncated:
      return "kTruncated";
    case ErrorCode::kCorrupt:
      return "kCorrupt";
    case ErrorCode::kBusy:
      return "kBusy";
    case ErrorCode::kNoFreeChannel:
      return "kNoFreeChannel";
    case ErrorCode::kTimeout:
      return "kTimeout";
    case ErrorCode::kDeviceLost:
      return "kDeviceLost";
    case ErrorCode::kPermission:
      return "kPermission";
    case ErrorCode::kNoSpace:
      return "kNoSpace";
    case ErrorCode::kSystem:
      break;
  }
  return "kSystem";
}

Error system_error(std::string what, int error_number) {
  ErrorCode code = ErrorCode::kSystem;
  switch (error_number) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      code = ErrorCode::kNotFound;
      break;
    case EACCES:
    case EPERM:
      code = ErrorCode::kPermission;
      break;
    case ENOSPC:
    case EDQUOT:
      code = ErrorCode::kNoSpace;
      break;
    default:
      break;
  }
  char buffer[128] = {};
  what += ": ";
  what += ::strerror_r(error_number, buffer, sizeof(buffer));
  return {code, std::move(what), error_number};
}

}  // namespace vgpu::ring
