// The loads: their sizes, their data, and how each result is compared.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <stdexcept>

#include "bench/kernels/workload.h"

namespace vgpu::bench {
namespace {

using reference::Share;

// An array on the device, filled from the host.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values)
      : buffer_(values.size() * sizeof(T)), count_(values.size()) {
    check(cuMemcpyHtoD_v2(buffer_.address(), values.data(), count_ * sizeof(T)), "cuMemcpyHtoD");
  }
  // A kernel's argument.
  void* argument() { return &address_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    check(cuMemcpyDtoH_v2(values.data(), buffer_.address(), count_ * sizeof(T)), "cuMemcpyDtoH");
    return values;
  }

 private:
  DeviceBuffer buffer_;
  CUdeviceptr address_ = buffer_.address();
  std::size_t count_;
};

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<float> result(count);
  std::generate(result.begin(), result.end(), [&] { return values(random); });
  return result;
}

// `got` may differ by what other orders of summing do.
std::string compare_floats(const std::vector<float>& got, const std::vector<float>& expected,
                           float tolerance) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(got[i] - expected[i]) <= tolerance)) {
      char text[128];
      std::snprintf(text, sizeof(text), "element %zu is %g, expected %g", i, static_cast<double>(got[i]),
                    static_cast<double>(expected[i]));
      return text;
    }
  }
  return {};
}

template <typename... Arguments>
void launch_kernel(CUfunction function, unsigned grid, std::array<unsigned, 2> block, CUstream stream,
                   Arguments*... arguments) {
  std::array<void*, sizeof...(Arguments)> pointers{static_cast<void*>(arguments)...};
  check(cuLaunchKernel(function, grid, 1, 1, block[0], block[1], 1, 0, stream, pointers.data(), nullptr),
        "cuLaunchKernel");
}

constexpr std::size_t kElements = 1 << 20;

class Saxpy final : public Workload {
 public:
  explicit Saxpy(const Kernels& kernels) : function_(kernels.get("saxpy")) {}
  void launch(CUstream stream) override {
    launch_kernel(function_, kElements / 256, {256, 1}, stream, &a_, device_x_.argument(),
                  device_y_.argument(), &n_);
  }
  void run_on_host(Share share) override { reference::saxpy(share, a_, x_, y_); }
  std::string compare() override { return compare_floats(device_y_.read(), y_, 1e-5F); }

 private:
  CUfunction function_;
  float a_ = 1e-3F;
  unsigned n_ = kElements;
  std::vector<float> x_ = random_floats(kElements, 1);
  std::vector<float> y_ = random_floats(kElements, 2);
  DeviceArray<float> device_x_{x_};
  DeviceArray<float> device_y_{y_};
};

// Two launches, as a library does it: a sum for each block, and the sum of these.
class Reduction final : public Workload {
 public:
  explicit Reduction(const Kernels& kernels) : function_(kernels.get("reduce")) {}
  void launch(CUstream stream) override {
    launch_kernel(function_, kBlocks, {256, 1}, stream, device_values_.argument(), device_partial_.argument(),
                  &n_);
    launch_kernel(function_, 1, {256, 1}, stream, device_partial_.argument(), device_sum_.argument(),
                  &blocks_);
  }
  void run_on_host(Share share) override { sums_.at(share.part) = reference::sum(share, values_); }
  std::string compare() override { return compare_floats(device_sum_.read(), {sums_[0]}, 0.05F); }

 private:
  static constexpr unsigned kBlocks = 256;
  CUfunction function_;
  unsigned n_ = kElements;
  unsigned blocks_ = kBlocks;
  std::array<float, 256> sums_{};
  std::vector<float> values_ = random_floats(kElements, 3);
  DeviceArray<float> device_values_{values_};
  DeviceArray<float> device_partial_{std::vector<float>(kBlocks)};
  DeviceArray<float> device_sum_{std::vector<float>(1)};
};

constexpr std::size_t kRows = 4096;
constexpr std::size_t kColumns = 4096;

class MulMatVecQ4 final : public Workload {
 public:
  explicit MulMatVecQ4(const Kernels& kernels) : function_(kernels.get("mul_mat_vec_q4")) {}
  void launch(CUstream stream) override {
    launch_kernel(function_, kRows, {32, 4}, stream, device_weights_.argument(), device_x_.argument(),
                  device_y_.argument(), &blocks_);
  }
  void run_on_host(Share share) override { reference::mul_mat_vec_q4(share, weights_, x_, y_); }
  std::string compare() override { return compare_floats(device_y_.read(), y_, 1e-2F); }

 private:
  static std::vector<reference::WeightBlock> make_weights() {
    std::mt19937 random(4);
    std::uniform_real_distribution<float> scale(0.001F, 0.01F);
    std::vector<reference::WeightBlock> blocks(kRows * kColumns / reference::kBlock);
    for (reference::WeightBlock& block : blocks) {
      const float step = scale(random);
      block.scale = reference::to_half(step);
      block.offset = reference::to_half(-8 * step);
      for (uint8_t& quants : block.quants) quants = static_cast<uint8_t>(random());
    }
    return blocks;
  }
  static std::vector<reference::ActivationBlock> make_activations() {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> scale(0.001F, 0.01F);
    std::uniform_int_distribution<int> value(-127, 127);
    std::vector<reference::ActivationBlock> blocks(kColumns / reference::kBlock);
    for (reference::ActivationBlock& block : blocks) {
      const float step = scale(random);
      int sum = 0;
      for (int8_t& quant : block.quants) {
        quant = static_cast<int8_t>(value(random));
        sum += quant;
      }
      block.scale = reference::to_half(step);
      block.sum = reference::to_half(step * static_cast<float>(sum));
    }
    return blocks;
  }

  CUfunction function_;
  unsigned blocks_ = kColumns / reference::kBlock;
  std::vector<reference::WeightBlock> weights_ = make_weights();
  std::vector<reference::ActivationBlock> x_ = make_activations();
  std::vector<float> y_ = std::vector<float>(kRows);
  DeviceArray<reference::WeightBlock> device_weights_{weights_};
  DeviceArray<reference::ActivationBlock> device_x_{x_};
  DeviceArray<float> device_y_{y_};
};

constexpr std::size_t kHeads = 32;
constexpr std::size_t kPositions = 512;

class Attention final : public Workload {
 public:
  explicit Attention(const Kernels& kernels) : function_(kernels.get("attention")) {}
  void launch(CUstream stream) override {
    launch_kernel(function_, kHeads, {reference::kHeadSize, 1}, stream, device_query_.argument(),
                  device_keys_.argument(), device_values_.argument(), device_out_.argument(), &positions_,
                  &scale_);
  }
  void run_on_host(Share share) override {
    reference::attention(share, query_, keys_, values_, out_, kPositions, scale_);
  }
  std::string compare() override { return compare_floats(device_out_.read(), out_, 1e-4F); }

 private:
  CUfunction function_;
  unsigned positions_ = kPositions;
  float scale_ = 0.0883883476F;  // of heads of 128: their root, inverted
  std::vector<float> query_ = random_floats(kHeads * reference::kHeadSize, 6);
  std::vector<float> keys_ = random_floats(kHeads * kPositions * reference::kHeadSize, 7);
  std::vector<float> values_ = random_floats(kHeads * kPositions * reference::kHeadSize, 8);
  std::vector<float> out_ = std::vector<float>(kHeads * reference::kHeadSize);
  DeviceArray<float> device_query_{query_};
  DeviceArray<float> device_keys_{keys_};
  DeviceArray<float> device_values_{values_};
  DeviceArray<float> device_out_{out_};
};

template <typename Kind>
std::unique_ptr<Workload> make(const Kernels& kernels) {
  return std::make_unique<Kind>(kernels);
}

}  // namespace

Kernels::Kernels() {
  check(cuModuleLoad(&module_, VGPU_BENCH_KERNELS), "cuModuleLoad");
}

CUfunction Kernels::get(const char* name) const {
  CUfunction function = nullptr;
  check(cuModuleGetFunction(&function, module_, name), name);
  return function;
}

std::vector<WorkloadKind> all_workloads() {
  const auto number = [](std::size_t value) { return static_cast<int64_t>(value); };
  return {{"saxpy", {{"elements", number(kElements)}}, make<Saxpy>},
          {"reduction", {{"elements", number(kElements)}}, make<Reduction>},
          {"mul_mat_vec_q4", {{"rows", number(kRows)}, {"columns", number(kColumns)}}, make<MulMatVecQ4>},
          {"attention", {{"heads", number(kHeads)}, {"positions", number(kPositions)}}, make<Attention>}};
}

}  // namespace vgpu::bench
