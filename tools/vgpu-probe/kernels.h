// The kernels that vgpu-probe runs: one PTX module, its functions, and launches with packed parameters.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/vgpu-probe/client.h"

namespace vgpu::tools {

// Hands a module image over, in pieces through the staging slots, and has it loaded.
protocol::Status load_module(Client& client, uint32_t module, std::string_view image);

class Kernels {
 public:
  // scale_add(x, y, float a, n): y = a * x + y.   block_sum(in, out): *out += sums of blocks of 256.
  // collatz(out, n): out[i] = steps of i + 1.     poke(address, value): one thread stores one word.
  // empty(): nothing.
  static Try<std::unique_ptr<Kernels>> load(Client& client);
  // The client must still be there.
  ~Kernels();
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  std::size_t count() const noexcept { return functions_.size(); }

  // The parameters must have the types that the kernel declares.
  template <typename... Parameters>
  shim::Submitted launch(const std::string& name, uint32_t blocks, uint32_t threads,
                         const Parameters&... parameters) const {
    const Function& function = functions_.at(name);
    std::vector<std::byte> block(function.parameter_bytes);
    std::size_t i = 0;
    (std::memcpy(block.data() + function.parameters.at(i++).offset, &parameters, sizeof parameters), ...);
    return launch_packed(function.handle, blocks, threads, block);
  }

 private:
  struct Function {
    uint32_t handle = 0;
    uint32_t parameter_bytes = 0;
    std::vector<protocol::ParameterLayout> parameters;
  };
  explicit Kernels(Client& client) : client_(client) {}
  shim::Submitted launch_packed(uint32_t function, uint32_t blocks, uint32_t threads,
                                std::span<const std::byte> block) const;

  Client& client_;
  uint32_t module_ = 0;
  std::map<std::string, Function> functions_;
};

}  // namespace vgpu::tools
