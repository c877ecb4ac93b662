// What every Backend must do, whatever executes the commands: a suite over a factory. A test program
// instantiates it with INSTANTIATE_TEST_SUITE_P(Name, BackendConformance, testing::Values(target)).
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "device/backend.h"

namespace vgpu::device {

struct ConformanceTarget {
  std::string name;
  // A backend with at least 64 MiB of memory and at least two threads to run blocks on.
  std::function<Result<std::unique_ptr<Backend>>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const ConformanceTarget& target) {
  return out << target.name;
}

// A parameter block, each value at its natural alignment.
class Parameters {
 public:
  template <typename T>
  Parameters& add(T value) {
    const std::size_t at = (size_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    std::memcpy(&bytes_.at(at + sizeof(T)) - sizeof(T), &value, sizeof(T));
    size_ = at + sizeof(T);
    return *this;
  }
  operator std::span<const std::byte>() const { return {bytes_.data(), size_}; }

 private:
  std::array<std::byte, 256> bytes_{};
  std::size_t size_ = 0;
};

class BackendConformance : public testing::TestWithParam<ConformanceTarget> {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::unique_ptr<Context> make_context();

  // Memory as a guest sees it: written and read through copies.
  static Result<void> put(Context& context, uint64_t address, std::span<const std::byte> data);
  static Result<std::vector<std::byte>> get(Context& context, uint64_t address, uint64_t bytes);
  template <typename T>
  static void store(Context& context, uint64_t address, const std::vector<T>& values) {
    const auto stored = put(context, address, std::as_bytes(std::span(values)));
    ASSERT_TRUE(stored) << stored.error().reason;
  }
  template <typename T>
  static std::vector<T> load(Context& context, uint64_t address, std::size_t count) {
    const auto bytes = get(context, address, count * sizeof(T));
    EXPECT_TRUE(bytes) << bytes.error().reason;
    std::vector<T> values(count);
    if (bytes) std::memcpy(values.data(), bytes->data(), bytes->size());
    return values;
  }

  // The kernels of conformance_kernels.h as module 1; a function of it gets the handle given.
  static void load_kernels(Context& context);
  static void get_kernel(Context& context, uint32_t function, std::string_view name);
  static uint64_t must_allocate(Context& context, uint64_t bytes);
  // Launches what must end with `expected`, then checks that the error stays and reaches no other context.
  void expect_fault(std::string_view kernel, uint16_t threads, const Parameters& parameters,
                    protocol::Status expected);

  std::unique_ptr<Backend> backend_;
};

protocol::LaunchRequest launch_of(uint32_t function, uint32_t blocks, uint16_t threads,
                                  uint32_t shared_bytes = 0);

#define EXPECT_STATUS(expression, expected)                                                          \
  do {                                                                                               \
    const auto& vgpu_result = (expression);                                                          \
    ASSERT_FALSE(vgpu_result) << #expression " succeeded";                                           \
    EXPECT_EQ(vgpu_result.error().status, protocol::Status::expected) << vgpu_result.error().reason; \
    EXPECT_FALSE(vgpu_result.error().reason.empty());                                                \
  } while (false)
#define ASSERT_DONE(expression)                             \
  do {                                                      \
    const auto& vgpu_result = (expression);                 \
    ASSERT_TRUE(vgpu_result) << vgpu_result.error().reason; \
  } while (false)

}  // namespace vgpu::device
