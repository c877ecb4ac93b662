// The ring's cases, in all of its three forms.
#include "bench/ring/vgpu_link.h"

namespace vgpu::bench {
namespace {

constexpr Waking kReal = Waking::kSleeperFences;
constexpr Waking kFenced = Waking::kBothFence;
constexpr Waking kBare = Waking::kNone;

template <std::size_t Bytes>
void add_streams(Suite& suite, const Where& where) {
  for (const uint32_t batch : {1U, 8U, 32U}) {
    add_stream<VgpuLink<Bytes, kReal>>(suite, where, batch);
    add_stream<VgpuLink<Bytes, kBare>>(suite, where, batch);
  }
}

}  // namespace

void add_vgpu(Suite& suite, const Where& where) {
  add_round_trip<VgpuLink<64, kReal>>(suite, where);
  add_round_trip<VgpuLink<64, kFenced>>(suite, where);
  add_round_trip<VgpuLink<64, kBare>>(suite, where);
  add_round_trip<VgpuLink<256, kReal>>(suite, where);
  add_streams<64>(suite, where);
  add_stream<VgpuLink<64, kFenced>>(suite, where, 1);
  add_streams<256>(suite, where);
  add_streams<1024>(suite, where);
  add_streams<4096>(suite, where);
  add_submit<VgpuLink<64, kReal>>(suite, where);
  add_submit<VgpuLink<64, kFenced>>(suite, where);
  add_submit<VgpuLink<64, kBare>>(suite, where);
  add_submit<VgpuLink<256, kReal>>(suite, where);
  add_submit<VgpuLink<256, kFenced>>(suite, where);
  add_submit<VgpuLink<256, kBare>>(suite, where);
}

}  // namespace vgpu::bench
