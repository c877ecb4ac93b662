// Compiled with -O3 -march=native, and with the freedom to reorder sums that kernels take by their nature.
#include "bench/kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace vgpu::bench::reference {

uint16_t to_half(float value) {
  const auto half = static_cast<_Float16>(value);
  uint16_t bits = 0;
  std::memcpy(&bits, &half, sizeof(bits));
  return bits;
}

float from_half(uint16_t value) {
  _Float16 half = 0;
  std::memcpy(&half, &value, sizeof(half));
  return static_cast<float>(half);
}

void saxpy(Share share, float a, std::span<const float> x, std::span<float> y) {
  const std::size_t end = share.end(x.size());
  const float* __restrict from = x.data();
  float* __restrict to = y.data();
  for (std::size_t i = share.begin(x.size()); i < end; ++i) {
    to[i] = a * from[i] + to[i];
  }
}

float sum(Share share, std::span<const float> values) {
  const std::size_t end = share.end(values.size());
  float result = 0;
  for (std::size_t i = share.begin(values.size()); i < end; ++i) {
    result += values[i];
  }
  return result;
}

void mul_mat_vec_q4(Share share, std::span<const WeightBlock> weights, std::span<const ActivationBlock> x,
                    std::span<float> y) {
  const std::size_t end = share.end(y.size());
  for (std::size_t row = share.begin(y.size()); row < end; ++row) {
    float result = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const WeightBlock& w = weights[row * x.size() + i];
      const ActivationBlock& a = x[i];
      int dot = 0;
      for (std::size_t k = 0; k < kBlock / 2; ++k) {
        dot += (w.quants[k] & 15) * a.quants[k] + (w.quants[k] >> 4) * a.quants[kBlock / 2 + k];
      }
      result += from_half(w.scale) * from_half(a.scale) * static_cast<float>(dot) +
                from_half(w.offset) * from_half(a.sum);
    }
    y[row] = result;
  }
}

void attention(Share share, std::span<const float> query, std::span<const float> keys,
               std::span<const float> values, std::span<float> out, std::size_t positions, float scale) {
  const std::size_t heads = query.size() / kHeadSize;
  std::vector<float> weights(positions);
  for (std::size_t head = share.begin(heads); head < share.end(heads); ++head) {
    const float* q = query.data() + head * kHeadSize;
    const float* k = keys.data() + head * positions * kHeadSize;
    const float* v = values.data() + head * positions * kHeadSize;
    float most = -1e30F;
    for (std::size_t p = 0; p < positions; ++p) {
      float dot = 0;
      for (std::size_t d = 0; d < kHeadSize; ++d) {
        dot += q[d] * k[p * kHeadSize + d];
      }
      weights[p] = dot * scale;
      most = std::max(most, weights[p]);
    }
    float total = 0;
    for (float& weight : weights) {
      weight = std::exp(weight - most);
      total += weight;
    }
    float result[kHeadSize] = {};
    for (std::size_t p = 0; p < positions; ++p) {
      for (std::size_t d = 0; d < kHeadSize; ++d) {
        result[d] += weights[p] * v[p * kHeadSize + d];
      }
    }
    for (std::size_t d = 0; d < kHeadSize; ++d) {
      out[head * kHeadSize + d] = result[d] / total;
    }
  }
}

}  // namespace vgpu::bench::reference
