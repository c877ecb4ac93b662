// Answers and failures.
#include "tools/vgpu-probe/answer.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {

void answer_json(const nlohmann::ordered_json& answer) {
  fmt::print("{}\n", answer.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

int answer_failure(const std::string& text, bool json) {
  if (json) answer_json({{"error", printable(text)}});
  std::fflush(stdout);
  fmt::print(stderr, "{}", paragraph(0, "vgpu-probe:", 12, printable(text)));
  return 1;
}

}  // namespace vgpu::tools
