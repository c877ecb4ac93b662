// What the device tells of one kernel: taken out of its answer, and its name as people write it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/commands.h"

namespace vgpu::tools {

struct KernelFigures {
  protocol::KernelFiguresReply figures;
  std::string name;                                      // as the program's binary has it
  std::string function;                                  // as its source has it
  std::vector<std::pair<std::string, uint64_t>> counts;  // how its code was made

  // The count of this name, 0 where the device does not tell one.
  uint64_t count(std::string_view which) const noexcept;
};

// Takes an answer apart; `text` is what follows the reply's fields. What does not fit them is left out.
KernelFigures kernel_figures(const protocol::KernelFiguresReply& reply, std::span<const std::byte> text);

// "mul_mat_vec_q<(ggml_type)8, 1>" for a mangled name: without the type it returns and its parameters; the
// name itself where it is none.
std::string function_of(const std::string& name);

// As docs/probe-schema.json has it.
nlohmann::ordered_json kernel_json(const KernelFigures& kernel);

}  // namespace vgpu::tools
