// The PTX, and what loads it.
#include "tools/vgpu-probe/kernels.h"

#include <fmt/format.h>

#include <algorithm>

namespace vgpu::tools {

using protocol::Status;

namespace {

constexpr std::string_view kPtx = R"(.version 6.4
.target sm_61
.address_size 64
.visible .entry scale_add(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .f32 %f<5>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  ld.param.f32 %f1, [a];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  mul.wide.u32 %rd3, %r5, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  ld.global.f32 %f2, [%rd4];
  ld.global.f32 %f3, [%rd5];
  fma.rn.f32 %f4, %f1, %f2, %f3;
  st.global.f32 [%rd5], %f4;
DONE:
  ret;
}
.visible .entry block_sum(.param .u64 in, .param .u64 out)
{
  .reg .pred %p<4>;
  .reg .b32 %r<14>;
  .reg .b64 %rd<5>;
  .shared .align 4 .b8 cache[1024];
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %tid.x;
  shl.b32 %r3, %r1, 8;
  add.s32 %r4, %r3, %r2;
  mul.wide.u32 %rd3, %r4, 4;
  add.s64 %rd4, %rd1, %rd3;
  ld.global.u32 %r5, [%rd4];
  shl.b32 %r6, %r2, 2;
  mov.u32 %r7, cache;
  add.s32 %r8, %r7, %r6;
  st.shared.u32 [%r8], %r5;
  mov.u32 %r9, 128;
AGAIN:
  bar.sync 0;
  setp.ge.u32 %p1, %r2, %r9;
  @%p1 bra NEXT;
  shl.b32 %r10, %r9, 2;
  add.s32 %r11, %r8, %r10;
  ld.shared.u32 %r12, [%r11];
  ld.shared.u32 %r5, [%r8];
  add.s32 %r5, %r5, %r12;
  st.shared.u32 [%r8], %r5;
NEXT:
  shr.u32 %r9, %r9, 1;
  setp.ne.u32 %p2, %r9, 0;
  @%p2 bra AGAIN;
  setp.ne.u32 %p3, %r2, 0;
  @%p3 bra DONE;
  atom.global.add.u32 %r13, [%rd2], %r5;
DONE:
  ret;
}
.visible .entry collatz(.param .u64 out, .param .u32 n)
{
  .reg .pred %p<4>;
  .reg .b32 %r<11>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  add.s32 %r6, %r5, 1;
  mov.u32 %r7, 0;
LOOP:
  setp.eq.u32 %p2, %r6, 1;
  @%p2 bra STORE;
  add.s32 %r7, %r7, 1;
  and.b32 %r8, %r6, 1;
  setp.eq.u32 %p3, %r8, 0;
  @%p3 bra HALVE;
  mad.lo.s32 %r6, %r6, 3, 1;
  bra LOOP;
HALVE:
  shr.u32 %r6, %r6, 1;
  bra LOOP;
STORE:
  mul.wide.u32 %rd2, %r5, 4;
  add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r7;
DONE:
  ret;
}
.visible .entry poke(.param .u64 address, .param .u32 value)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [address];
  ld.param.u32 %r1, [value];
  st.global.u32 [%rd1], %r1;
  ret;
}
.visible .entry empty()
{
  ret;
}
)";

// Parameters that each kernel declares.
const std::map<std::string, std::vector<uint16_t>>& parameter_sizes() {
  static const std::map<std::string, std::vector<uint16_t>> sizes = {{"scale_add", {8, 8, 4, 4}},
                                                                     {"block_sum", {8, 8}},
                                                                     {"collatz", {8, 4}},
                                                                     {"poke", {8, 4}},
                                                                     {"empty", {}}};
  return sizes;
}

}  // namespace

Status load_module(Client& client, uint32_t module, std::string_view image) {
  auto& session = client.session();
  auto& bulk = session.bulk();
  for (std::size_t at = 0; at < image.size(); at += bulk.slot_bytes()) {
    const std::size_t bytes = std::min<std::size_t>(bulk.slot_bytes(), image.size() - at);
    const auto slot = bulk.take_slot();
    if (!slot) return Status::kOutOfMemory;
    shim::Submitted record{session.wait_completed(bulk.position(*slot)), 0, 0};
    if (record.status == Status::kSuccess) {
      bulk.copy().store(bulk.data(*slot), reinterpret_cast<const std::byte*>(image.data()) + at, bytes);
      record = session.submit(protocol::ModuleDataRequest{.offset = at,
                                                          .total = image.size(),
                                                          .bulk_offset = bulk.offset(*slot),
                                                          .bytes = bytes,
                                                          .module = module},
                              0);
    }
    bulk.give_back(*slot, record.end);
    if (record.status != Status::kSuccess) return record.status;
  }
  protocol::ModuleLoadReply reply;
  return session.call(protocol::ModuleLoadRequest{.module = module}, reply);
}

Try<std::unique_ptr<Kernels>> Kernels::load(Client& client) {
  std::unique_ptr<Kernels> kernels(new Kernels(client));
  const uint32_t module = client.new_handle();
  if (const Status status = load_module(client, module, kPtx); status != Status::kSuccess) {
    return std::unexpected(client.trouble("loading a PTX module", status));
  }
  kernels->module_ = module;
  for (const auto& [name, sizes] : parameter_sizes()) {
    Function function;
    function.handle = client.new_handle();
    protocol::FunctionGetReply reply;
    std::vector<protocol::ParameterLayout> layout(16);
    std::size_t more = 0;
    const Status status = client.session().call(
        protocol::FunctionGetRequest{.module = module, .function = function.handle}, reply,
        std::as_bytes(std::span(name)), std::as_writable_bytes(std::span(layout)), &more);
    if (status != Status::kSuccess) return std::unexpected(client.trouble("looking up " + name, status));
    layout.resize(more / sizeof(protocol::ParameterLayout));
    const bool fits =
        reply.parameter_count == sizes.size() && layout.size() == sizes.size() &&
        reply.parameter_bytes <= protocol::kMaxParameterBytes &&
        std::ranges::equal(layout, sizes, [&](const protocol::ParameterLayout& one, uint16_t bytes) {
          return one.bytes == bytes && one.offset + bytes <= reply.parameter_bytes;
        });
    if (!fits) {
      return std::unexpected(
          Trouble{fmt::format("the device describes {} parameters of {} bytes for {}, which declares {}",
                              reply.parameter_count, reply.parameter_bytes, name, sizes.size()),
                  ""});
    }
    function.parameter_bytes = reply.parameter_bytes;
    function.parameters = std::move(layout);
    kernels->functions_.emplace(name, std::move(function));
  }
  return kernels;
}

Kernels::~Kernels() {
  if (module_ != 0) client_.session().submit(protocol::ModuleUnloadRequest{.module = module_}, 0);
}

shim::Submitted Kernels::launch_packed(uint32_t function, uint32_t blocks, uint32_t threads,
                                       std::span<const std::byte> block) const {
  return client_.session().submit(protocol::LaunchRequest{.function = function,
                                                          .grid_x = blocks,
                                                          .grid_y = 1,
                                                          .grid_z = 1,
                                                          .block_x = static_cast<uint16_t>(threads),
                                                          .block_y = 1,
                                                          .block_z = 1},
                                  0, block);
}

}  // namespace vgpu::tools
