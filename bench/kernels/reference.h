// The same loads as plain C++ loops, which the compiler optimises for this machine's processor: what the
// vGPU's kernels are compared with. Each does the share `part` of `parts` of the work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vgpu::bench::reference {

struct Share {
  unsigned part = 0;
  unsigned parts = 1;
  // The share's part of 0 .. count.
  std::size_t begin(std::size_t count) const { return count * part / parts; }
  std::size_t end(std::size_t count) const { return count * (part + 1) / parts; }
};

// Half precision as stored.
uint16_t to_half(float value);
float from_half(uint16_t value);

struct WeightBlock {
  uint16_t scale, offset;
  uint8_t quants[16];
};
struct ActivationBlock {
  uint16_t scale, sum;
  int8_t quants[32];
};
inline constexpr std::size_t kBlock = 32;
inline constexpr std::size_t kHeadSize = 128;

void saxpy(Share share, float a, std::span<const float> x, std::span<float> y);
float sum(Share share, std::span<const float> values);
void mul_mat_vec_q4(Share share, std::span<const WeightBlock> weights, std::span<const ActivationBlock> x,
                    std::span<float> y);
void attention(Share share, std::span<const float> query, std::span<const float> keys,
               std::span<const float> values, std::span<float> out, std::size_t positions, float scale);

}  // namespace vgpu::bench::reference
