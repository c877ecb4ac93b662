// PTX of the kernels that the system tests launch, in a fat binary put together here, and registered as
// start-up code made by nvcc or clang would register it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/shim/cudart/cudart_api.h"

inline constexpr char kSystemPtx[] = R"(
.version 7.0
.target sm_61
.address_size 64

.visible .global .align 4 .f32 offset = 0f3F800000;
.extern .shared .align 4 .b8 buffer[];

.visible .entry scale(.param .u64 scale_param_0, .param .u64 scale_param_1, .param .f32 scale_param_2,
                      .param .u32 scale_param_3)
{
  .reg .pred %p<2>;
  .reg .f32 %f<6>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [scale_param_0];
  ld.param.u64 %rd2, [scale_param_1];
  ld.param.f32 %f1, [scale_param_2];
  ld.param.u32 %r1, [scale_param_3];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra $done;
  cvta.to.global.u64 %rd3, %rd1;
  cvta.to.global.u64 %rd4, %rd2;
  mul.wide.u32 %rd5, %r5, 4;
  add.s64 %rd6, %rd4, %rd5;
  ld.global.f32 %f2, [%rd6];
  ld.global.f32 %f3, [offset];
  mul.f32 %f4, %f2, %f1;
  add.f32 %f5, %f4, %f3;
  add.s64 %rd7, %rd3, %rd5;
  st.global.f32 [%rd7], %f5;
$done:
  ret;
}

.visible .entry reverse(.param .u64 reverse_param_0)
{
  .reg .b32 %r<9>;
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [reverse_param_0];
  cvta.to.global.u64 %rd2, %rd1;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ntid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.u32 %r3, [%rd4];
  shl.b32 %r4, %r1, 2;
  mov.u32 %r5, buffer;
  add.s32 %r6, %r5, %r4;
  st.shared.u32 [%r6], %r3;
  bar.sync 0;
  sub.s32 %r4, %r2, %r1;
  shl.b32 %r4, %r4, 2;
  add.s32 %r6, %r5, %r4;
  ld.shared.u32 %r7, [%r6+-4];
  st.global.u32 [%rd4], %r7;
  ret;
}

.visible .entry count(.param .u64 count_param_0)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [count_param_0];
  cvta.to.global.u64 %rd2, %rd1;
  atom.global.add.u32 %r1, [%rd2], 1;
  ret;
}
)";

// The container: a head of 16 bytes, then per entry a head of 64 and the text, padded to 8 bytes.
inline std::string fat_binary(std::string text, std::uint32_t arch) {
  std::string out;
  const auto put = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
  text += '\0';
  while (text.size() % 8 != 0) text += '\0';
  put(std::uint32_t{0xba55ed50});
  put(std::uint16_t{1});
  put(std::uint16_t{16});
  put(std::uint64_t{64 + text.size()});
  put(std::uint16_t{1});  // PTX
  put(std::uint16_t{0x101});
  put(std::uint32_t{64});
  put(std::uint64_t{text.size()});
  put(std::uint64_t{0});  // not compressed
  put(std::uint16_t{0});
  put(std::uint16_t{7});
  put(arch);
  put(std::uint64_t{0});
  put(std::uint64_t{0x11});
  put(std::uint64_t{0});
  put(std::uint64_t{0});
  return out + text;
}

// A registered image; `host` addresses stand for the host functions and the variable.
class RegisteredImage {
 public:
  explicit RegisteredImage(const std::string& text, std::uint32_t arch = 61)
      : image_(fat_binary(text, arch)) {
    wrapper_ = {0x466243b1, 1, image_.data(), nullptr};
    handle_ = __cudaRegisterFatBinary(&wrapper_);
    add(scale, "scale");
    add(reverse, "reverse");
    add(count, "count");
    __cudaRegisterVar(handle_, &offset, nullptr, "offset", 0, 4, 0, 0);
    __cudaRegisterFatBinaryEnd(handle_);
  }
  ~RegisteredImage() { __cudaUnregisterFatBinary(handle_); }
  RegisteredImage(const RegisteredImage&) = delete;
  RegisteredImage& operator=(const RegisteredImage&) = delete;

  char scale = 0;
  char reverse = 0;
  char count = 0;
  char offset = 0;

 private:
  struct Wrapper {
    std::uint32_t magic;
    std::uint32_t version;
    const void* data;
    void* unused;
  };
  void add(char& function, const char* name) {
    __cudaRegisterFunction(handle_, &function, nullptr, name, -1, nullptr, nullptr, nullptr, nullptr,
                           nullptr);
  }
  std::string image_;
  Wrapper wrapper_{};
  void** handle_ = nullptr;
};
